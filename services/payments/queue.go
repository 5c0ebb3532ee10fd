package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"boxoffice/services/internal/id"
	"boxoffice/services/payments/domain"
)

const (
	// maxSettling bounds how many payments are settled at the same time.
	maxSettling = 8
	// settleTime bounds one settling, which may need several requests to Stripe.
	settleTime = 25 * time.Second
	// firstRefresh is the first pause before an open payment's intent is read, and firstRetry the first pause after a settling
	// that failed. The pause doubles each time, up to maxPause.
	firstRefresh = domain.AttemptTime
	firstRetry   = 500 * time.Millisecond
	maxPause     = 2 * time.Minute
)

// queue settles payments outside of requests and deliveries. Only so many events are handled at the same time (with Dapr's own
// JetStream component, one), so a handler waits for Stripe only for a short time. Then it commits the order's new state, and
// the queue settles the payment.
//
// The queue is in memory: it lists orders whose payment is to be settled, and when. That is at once if the order has ended,
// and later if the payment is open, in case the webhook does not come or the outcome was lost. It only makes settling fast.
// Each order in it is also in the index of unsettled payments, where the sweep finds what a process has not done.
type queue struct {
	store *store
	log   *slog.Logger
	wake  chan struct{} // holds one token when an order was added

	mu       sync.Mutex
	entries  map[id.Order]queueEntry
	reported map[id.Order]domain.Intent // these orders' intents as webhooks have reported them
}

// queueEntry is when an order's payment is settled, and the pause that led to it. A busy one is being settled.
type queueEntry struct {
	at    time.Time
	pause time.Duration
	busy  bool
}

func newQueue(s *store, log *slog.Logger) *queue {
	return &queue{store: s, log: log, wake: make(chan struct{}, 1), entries: map[id.Order]queueEntry{}, reported: map[id.Order]domain.Intent{}}
}

// add has an order's payment settled after a pause, or earlier if it is in the queue already. It returns the time of that.
func (q *queue) add(orderID id.Order, pause time.Duration) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := time.Now().Add(pause)
	if entry, listed := q.entries[orderID]; listed && !entry.busy && entry.at.Before(at) {
		return entry.at
	}
	q.entries[orderID] = queueEntry{at: at, pause: pause}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return at
}

// reportPause is how long a process usually needs to commit what a webhook reports of it.
const reportPause = 2 * time.Second

// addReport has an order's payment settled after the process that caused a webhook has had time to commit the outcome.
func (q *queue) addReport(orderID id.Order, reported domain.Intent) {
	q.mu.Lock()
	if before, listed := q.reported[orderID]; !listed || reported.Status.Rank() >= before.Status.Rank() {
		q.reported[orderID] = reported
	}
	q.mu.Unlock()
	q.add(orderID, reportPause)
}

// take returns the orders whose time has come, and marks them as busy; and the pause until the next one's time.
func (q *queue) take(now time.Time) (due []id.Order, pause time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	pause = maxPause
	for order, entry := range q.entries {
		switch {
		case entry.busy:
		case now.Before(entry.at):
			pause = min(pause, entry.at.Sub(now))
		default:
			entry.busy = true
			q.entries[order] = entry
			due = append(due, order)
		}
	}
	return due, pause
}

// run settles the payments of the queue until ctx ends.
func (q *queue) run(ctx context.Context) error {
	var settling errgroup.Group
	defer func() { _ = settling.Wait() }()
	settling.SetLimit(maxSettling)
	for {
		due, pause := q.take(time.Now())
		for _, order := range due {
			if ctx.Err() != nil {
				return nil
			}
			settling.Go(func() error {
				q.settle(ctx, order)
				return nil
			})
		}
		select {
		case <-q.wake:
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// settle settles one payment, and adds it again if that must be repeated.
func (q *queue) settle(ctx context.Context, orderID id.Order) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	q.mu.Lock()
	entry := q.entries[orderID]
	reported := q.reported[orderID]
	delete(q.reported, orderID)
	q.mu.Unlock()

	var order domain.Order
	var err error
	if cached, known := q.store.cache.get(orderID); !known || !cached.Reflects(reported) {
		order, _, err = q.store.settleOrder(ctx, orderID, domain.Cause{Refresh: domain.RefreshOpen, Reported: reported})
	}
	isOpen := order.Payment != nil && order.Payment.Status.Open() && !order.Payment.WaitsForBuyer()
	pause := time.Duration(0)
	switch {
	case err != nil && !errors.Is(err, domain.ErrNoOrder):
		pause = longer(entry.pause, firstRetry)
		q.log.Warn("a payment is not settled yet", "orderId", orderID, "nextTry", pause.String(), "error", err)
	case isOpen:
		pause = longer(entry.pause, firstRefresh)
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	switch current, listed := q.entries[orderID]; {
	case !listed || !current.busy: // it was added again meanwhile
	case pause > 0:
		q.entries[orderID] = queueEntry{at: time.Now().Add(pause), pause: pause}
	default:
		delete(q.entries, orderID)
	}
}

// longer is the pause after another one. It is a rule of its own, not a retry library's: between two tries the entry is in the
// queue, where an event or a webhook may bring it forward.
func longer(pause, first time.Duration) time.Duration { return min(max(2*pause, first), maxPause) }

const (
	// deliveryTime is how long a delivery of an event waits for Stripe. After one that has waited without an answer,
	// deliveries do not wait at all for deliveryPause.
	deliveryTime  = time.Second
	deliveryPause = 10 * time.Second
)

// deliveryBudget bounds how long deliveries wait for Stripe.
type deliveryBudget struct{ spentUntil atomic.Int64 } // in Unix nanoseconds

func (b *deliveryBudget) available() bool { return time.Now().UnixNano() >= b.spentUntil.Load() }

// start bounds the requests of a delivery; done must be called after them.
func (b *deliveryBudget) start(ctx context.Context) (limited context.Context, done func()) {
	limited, cancel := context.WithTimeout(ctx, deliveryTime)
	return limited, func() {
		if limited.Err() != nil {
			b.spentUntil.Store(time.Now().Add(deliveryPause).UnixNano())
		}
		cancel()
	}
}
