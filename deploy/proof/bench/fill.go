package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fill is what the stores contain before the first measurement.
type fill struct{ tickets, orders, shows, listings int }

// parseFill reads "tickets=300000,orders=100000,shows=50000,listings=300000"; each may be left out.
func parseFill(text string) (f fill, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return f, fmt.Errorf("%q is not NAME=NUMBER", part)
		}
		switch name {
		case "tickets":
			f.tickets = n
		case "orders":
			f.orders = n
		case "shows":
			f.shows = n
		case "listings":
			f.listings = n
		default:
			return f, fmt.Errorf("%q: only tickets, orders, shows and listings can be filled", name)
		}
	}
	if f.listings > 0 && f.shows == 0 {
		return f, errors.New("listings need shows")
	}
	f.tickets = max(f.tickets, f.orders) // an order needs a ticket
	return f, nil
}

// fillClients fill the stores at once. So many make full transactions.
const fillClients = 128

// fill lists tickets and reserves some of them, at the services' REST API, so that the services write the documents.
func (b *bench) fill(ctx context.Context) error {
	f := b.settings.fill
	if f.shows > 0 {
		if len(b.catalogues) == 0 {
			return errors.New("shows need the app catalogue")
		}
		if err := b.fillShows(ctx, f.shows, f.listings); err != nil {
			return err
		}
	}
	if f.tickets == 0 {
		return nil
	}
	begin := time.Now()
	filling := &dataset{users: b.data.users}
	if err := b.repeat(ctx, "tickets", f.tickets, func(_ context.Context, client int) (int, int, error) {
		ticket, status, err := filling.list(b.direct, client)
		if err == nil && status == 201 {
			filling.put(ticket)
		}
		return 1, status, err
	}); err != nil {
		return err
	}
	if err := b.waitHandled(ctx); err != nil {
		return err
	}
	if err := b.repeat(ctx, "orders", f.orders, filling.reserveOwn(b.direct)); err != nil {
		return err
	}
	if err := b.waitHandled(ctx); err != nil {
		return err
	}
	progress("the stores contain %d more tickets and %d more orders after %.0f s", f.tickets, f.orders, time.Since(begin).Seconds())
	return nil
}

// refusedPause is the pause after a refusal because too many events wait for the broker.
const refusedPause = 200 * time.Millisecond

// progressPeriod is the pause between two lines about a fill.
const progressPeriod = 10 * time.Second

// repeat does a job n times, and prints its progress.
func (b *bench) repeat(ctx context.Context, what string, n int, work job) error {
	return b.repeatNumbered(ctx, what, n, func(client, _ int) (int, int, error) { return work(ctx, client) })
}

// repeatNumbered does work for each number below n, and prints its progress. What is refused for a moment is tried again.
func (b *bench) repeatNumbered(ctx context.Context, what string, n int, work func(client, number int) (done, status int, err error)) error {
	if n == 0 {
		return nil
	}
	var next, done atomic.Int64
	begin := time.Now()
	printing, stop := context.WithCancel(ctx)
	var printer sync.WaitGroup
	defer printer.Wait()
	defer stop()
	printer.Go(func() {
		for pause(printing, progressPeriod); printing.Err() == nil; pause(printing, progressPeriod) {
			progress("fill: %d of %d %s, %.0f/s", done.Load(), n, what, float64(done.Load())/time.Since(begin).Seconds())
		}
	})
	made := load(ctx, fillClients, 0, 24*time.Hour, cpuReader{}, func(ctx context.Context, client int) (int, int, error) {
		number := int(next.Add(1)) - 1
		if number >= n {
			return 0, 0, errExhausted
		}
		made, status, err := work(client, number)
		for errors.Is(err, errUnavailable) && ctx.Err() == nil {
			pause(ctx, refusedPause)
			made, status, err = work(client, number)
		}
		if err == nil && status != 201 {
			err = fmt.Errorf("status %d", status)
		}
		if err == nil {
			done.Add(int64(made))
		}
		return made, status, err
	})
	if done.Load() < int64(n) { // otherwise all were made, perhaps before the measured time began
		return fmt.Errorf("fill the stores with %s: %w", what, errors.Join(made.problems(201), ctx.Err()))
	}
	return nil
}
