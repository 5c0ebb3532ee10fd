package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"boxoffice/deploy/proof/client"
)

// Each function returns the job of a workload on a route.

func (d *dataset) readOne(via *route) job {
	return func(_ context.Context, number int) (int, int, error) {
		status, err := via.tickets.call("", client.ReadTicket(d.listed[number%len(d.listed)]), nil)
		return 1, status, err
	}
}

func (d *dataset) readPage(via *route) job {
	page := client.ReadTickets().WithQuery("limit", pageLength)
	return func(context.Context, int) (int, int, error) {
		status, err := via.tickets.call("", page, nil)
		return 1, status, err
	}
}

// readAll reads the pages of the list, newest first, until it has read as many tickets as were listed first.
func (d *dataset) readAll(via *route) job {
	pages := len(d.listed) / longPage
	return func(context.Context, int) (int, int, error) {
		page := client.ReadTickets().WithQuery("limit", longPage)
		for range pages {
			if page.Path == "" {
				return 0, 0, errors.New("the list ends too soon")
			}
			next := ""
			status, err := via.tickets.call("", page, nextPage(&next))
			if err != nil || status != 200 {
				return 0, status, err
			}
			page.Path = next
		}
		return 1, 200, nil
	}
}

func (d *dataset) listOne(via *route) job {
	return func(_ context.Context, number int) (int, int, error) {
		ticket, status, err := d.list(via, number)
		if err == nil && status == 201 {
			d.put(ticket)
		}
		return 1, status, err
	}
}

func (d *dataset) reserveOwn(via *route) job {
	return func(context.Context, int) (int, int, error) {
		ticket, err := d.take()
		if err != nil {
			return 0, 0, err
		}
		_, status, err := d.reserve(via, d.buyer(), ticket)
		return 1, status, err
	}
}

// reserveSame has all clients reserve the same ticket.
func (d *dataset) reserveSame(via *route) (job, error) {
	ticket, err := d.take()
	if err != nil {
		return nil, err
	}
	return func(context.Context, int) (int, int, error) {
		_, status, err := d.reserve(via, d.buyer(), ticket)
		return 1, status, err
	}, nil
}

// reserveAndCancel has all clients reserve the same ticket. The client that gets it cancels the order at once.
func (d *dataset) reserveAndCancel(via *route) (job, error) {
	ticket, err := d.take()
	if err != nil {
		return nil, err
	}
	return func(context.Context, int) (int, int, error) {
		buyer := d.buyer()
		order, status, err := d.reserve(via, buyer, ticket)
		if err != nil || status != 201 {
			return 1, status, err
		}
		if cancelled, err := via.orders.call(buyer, client.CancelOrder(order), nil); err != nil || cancelled != 204 {
			return 0, cancelled, err
		}
		return 1, status, nil
	}, nil
}

// signInWrong signs in with a wrong password. Each request costs a bcrypt hash, unless it is refused before, for example with 503
// because there are too many at once. Every status is expected.
func (d *dataset) signInWrong(via *route) job {
	return func(context.Context, int) (int, int, error) {
		wrong := fmt.Sprintf("wrong password %d", rand.Int())
		status, err := via.auth.call("", client.SignIn(email(rand.IntN(len(d.users))), wrong), nil)
		if status != 0 {
			err = nil
		}
		return 1, status, err
	}
}

// buy reserves a ticket, pays for it, and waits until the order is complete.
func (d *dataset) buy(via *route) job {
	return func(ctx context.Context, _ int) (int, int, error) {
		ticket, err := d.take()
		if err != nil {
			return 0, 0, err
		}
		return d.buyTicket(ctx, via, ticket)
	}
}

// completeTime limits the wait for a paid order to be complete.
const completeTime = 20 * time.Second

func (d *dataset) buyTicket(ctx context.Context, via *route, ticket string) (done, status int, err error) {
	return d.buyTicketAs(ctx, via, d.buyer(), ticket)
}

func (d *dataset) buyTicketAs(ctx context.Context, via *route, buyer, ticket string) (done, status int, err error) {
	begin := time.Now()
	order, status, err := d.reserve(via, buyer, ticket)
	if err != nil || status != 201 {
		return 0, status, err
	}
	reserved := time.Now()
	status, err = d.pay(ctx, via, buyer, order)
	if err != nil || status != 201 {
		return 0, status, err
	}
	paid := time.Now()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.Multiplier, pauses.MaxInterval, pauses.RandomizationFactor = 2*time.Millisecond, 2, 50*time.Millisecond, 0
	status, err = backoff.Retry(ctx, func() (int, error) {
		var read client.Order
		status, err := via.orders.call(buyer, client.ReadOrder(order), body(&read))
		switch {
		case err != nil:
			return status, backoff.Permanent(err)
		case status == 200 && read.Status != "complete":
			return 0, fmt.Errorf("an order was still %s %s after it was paid", read.Status, completeTime)
		}
		return status, nil
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(completeTime))
	if err != nil || status != 200 {
		return 0, status, err
	}
	now := time.Now()
	d.purchases.add(purchase{ended: now, reserve: reserved.Sub(begin), pay: paid.Sub(reserved), complete: now.Sub(paid)})
	return 1, 201, nil
}

// pay pays for an order, once payments knows it.
func (d *dataset) pay(ctx context.Context, via *route, buyer, order string) (status int, err error) {
	status, err = via.payments.call(buyer, client.Pay(order, "pm_card_visa"), nil)
	for begin := time.Now(); errors.Is(err, errNotYetKnown) && time.Since(begin) < completeTime && ctx.Err() == nil; {
		pause(ctx, 10*time.Millisecond)
		status, err = via.payments.call(buyer, client.Pay(order, "pm_card_visa"), nil)
	}
	return status, err
}

// timeUntilShownReserved reserves a free ticket and returns the time until the tickets service shows the reservation.
func (d *dataset) timeUntilShownReserved(ctx context.Context, via *route) (time.Duration, error) {
	ticket, err := d.take()
	if err != nil {
		return 0, err
	}
	if _, status, err := d.reserve(via, d.buyer(), ticket); err != nil || status != 201 {
		return 0, errors.Join(err, fmt.Errorf("reserve a ticket: status %d", status))
	}
	answered := time.Now()
	return backoff.Retry(ctx, func() (time.Duration, error) {
		var read client.Ticket
		if status, err := via.tickets.call("", client.ReadTicket(ticket), body(&read)); err != nil || status != 200 {
			return 0, backoff.Permanent(errors.Join(err, fmt.Errorf("read a ticket: status %d", status)))
		}
		if read.Status != "reserved" {
			return 0, fmt.Errorf("a ticket was not shown reserved within %s", completeTime)
		}
		return time.Since(answered), nil
	}, backoff.WithBackOff(backoff.NewConstantBackOff(500*time.Microsecond)), backoff.WithMaxElapsedTime(completeTime))
}

// purchaseLog has the times of the steps of purchases.
type purchaseLog struct {
	mu  sync.Mutex
	all []purchase
}

type purchase struct {
	ended                  time.Time
	reserve, pay, complete time.Duration
}

func (l *purchaseLog) add(p purchase) {
	l.mu.Lock()
	l.all = append(l.all, p)
	l.mu.Unlock()
}

// take returns the purchases that ended within the measured time, and empties the log.
func (l *purchaseLog) take(m *measurement) []purchase {
	l.mu.Lock()
	defer l.mu.Unlock()
	inside := slices.DeleteFunc(l.all, func(p purchase) bool { return p.ended.Before(m.begin) || p.ended.After(m.begin.Add(m.took)) })
	l.all = nil
	return inside
}

// medianSteps describes the median time of each step of purchases.
func medianSteps(all []purchase) string {
	if len(all) == 0 {
		return ""
	}
	median := func(of func(purchase) time.Duration) float64 {
		times := make([]time.Duration, len(all))
		for i, p := range all {
			times[i] = of(p)
		}
		slices.Sort(times)
		return milliseconds(times[len(times)/2])
	}
	return fmt.Sprintf("reserve %.1f ms, pay %.1f ms, complete %.1f ms later", median(func(p purchase) time.Duration { return p.reserve }),
		median(func(p purchase) time.Duration { return p.pay }), median(func(p purchase) time.Duration { return p.complete }))
}
