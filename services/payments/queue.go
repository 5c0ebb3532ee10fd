package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// settlingAtOnce bounds how many payments are settled in parallel.
	settlingAtOnce = 8
	// settleTime bounds one settling; Stripe may have to be asked twice.
	settleTime = 25 * time.Second
	// firstRefresh is how long a payment may be open before Stripe is asked about it unbidden, and the first wait
	// after a settling that failed. The wait doubles each time, up to longestWait.
	firstRefresh = 15 * time.Second
	firstRetry   = 500 * time.Millisecond
	longestWait  = 2 * time.Minute
)

// queue settles payments outside of requests and deliveries. Only so many events are handled side by side (with
// Dapr's own JetStream component, one), so a handler waits for Stripe only while Stripe is quick: otherwise it writes
// down what the order has become, and the money follows from here.
//
// The queue is a list in memory of the orders whose payment is to be refreshed at, and when: at once if the order
// has ended, later if the payment is open, in case the webhook does not come or the outcome was lost. It makes that
// quick, and no more: nothing depends on it. Each order on it is also in the index of the unsettled, written in the
// transaction that put it here; in it the sweep finds what a process leaves.
type queue struct {
	store *store
	log   *slog.Logger
	wake  chan struct{} // holds one token when an queued was made

	mu    sync.Mutex
	next  map[string]queued // by order
	heard map[string]Intent // what webhooks reported of these orders' intents that was not known yet
}

// queued is when a payment is refreshed at, and the wait that led there. Busy ones are being refreshed at.
type queued struct {
	at   time.Time
	wait time.Duration
	busy bool
}

func newQueue(t *store, log *slog.Logger) *queue {
	return &queue{store: t, log: log, wake: make(chan struct{}, 1), next: map[string]queued{}, heard: map[string]Intent{}}
}

// add makes an queued for an order's payment, unless there is an earlier one. It returns the queued's
// time, or that of the earlier.
func (a *queue) add(orderID string, wait time.Duration) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := time.Now().Add(wait)
	if now, listed := a.next[orderID]; listed && !now.busy && now.at.Before(at) {
		return now.at
	}
	a.next[orderID] = queued{at: at, wait: wait}
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return at
}

// hear has an order's payment refreshed at when whoever is about to write down what a webhook reported has had time to.
func (a *queue) hear(orderID string, reported Intent) {
	a.mu.Lock()
	if before, listed := a.heard[orderID]; !listed || reported.Status.progress() >= before.Status.progress() {
		a.heard[orderID] = reported
	}
	a.mu.Unlock()
	a.add(orderID, overtakenWait)
}

// take returns the orders whose time has come, and marks them busy; and when the next one's comes.
func (a *queue) take(now time.Time) (due []string, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait = longestWait
	for orderID, next := range a.next {
		switch {
		case next.busy:
		case now.Before(next.at):
			wait = min(wait, next.at.Sub(now))
		default:
			next.busy = true
			a.next[orderID] = next
			due = append(due, orderID)
		}
	}
	return due, wait
}

// run settles what is on the queue until ctx ends.
func (a *queue) run(ctx context.Context) error {
	var settling sync.WaitGroup
	defer settling.Wait()
	places := make(chan struct{}, settlingAtOnce)
	for {
		due, wait := a.take(time.Now())
		for _, orderID := range due {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			settling.Go(func() {
				defer func() { <-places }()
				a.settle(ctx, orderID)
			})
		}
		select {
		case <-a.wake:
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// settle refreshes at one payment and makes the next queued, if there is need of one.
func (a *queue) settle(ctx context.Context, orderID string) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	a.mu.Lock()
	before := a.next[orderID]
	reported, heard := a.heard[orderID]
	delete(a.heard, orderID)
	a.mu.Unlock()

	look := a.store.asNeeded
	if heard {
		look = a.store.unlessKnown(reported, look)
	}
	var order Order
	var err error
	if !a.store.followed(orderID, reported) {
		order, _, err = a.store.settle(ctx, orderID, look)
	}
	waiting := order.Payment != nil && order.Payment.Status.open() && !order.Payment.idle()
	again := time.Duration(0)
	switch {
	case err != nil && !errors.Is(err, errNoOrder):
		again = min(max(2*before.wait, firstRetry), longestWait)
		a.log.Warn("a payment is not settled yet", "orderId", orderID, "nextTry", again.String(), "error", err)
	case waiting:
		again = min(max(2*before.wait, firstRefresh), longestWait)
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	switch now, listed := a.next[orderID]; {
	case !listed || !now.busy: // there is news: somebody made another queued meanwhile
	case again > 0:
		a.next[orderID] = queued{at: time.Now().Add(again), wait: again}
	default:
		delete(a.next, orderID)
	}
}

// followed says whether an order's payment is known to be where it should be, and to be as far as what a webhook reported.
func (t *store) followed(orderID string, reported Intent) bool {
	order, known := t.cache.get(orderID)
	p := order.Payment
	return known && p != nil && !p.Status.open() && order.Due(p.Status) == Nothing && (reported.Status == "" || p.Knows(reported))
}

// quickAnswer is how long a delivery waits for Stripe, and afterQuick how long deliveries do not wait at all after one
// has waited in vain.
const (
	quickAnswer = time.Second
	afterQuick  = 10 * time.Second
)

// budget is what deliveries have with Stripe.
type budget struct{ exhausted atomic.Int64 } // until when, in Unix nanoseconds

func (p *budget) has() bool { return time.Now().UnixNano() >= p.exhausted.Load() }

// spend bounds the wait for Stripe; done must be called after it.
func (p *budget) spend(ctx context.Context) (asking context.Context, done func()) {
	asking, cancel := context.WithTimeout(ctx, quickAnswer)
	return asking, func() {
		if asking.Err() != nil {
			p.exhausted.Store(time.Now().Add(afterQuick).UnixNano())
		}
		cancel()
	}
}
