package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"boxoffice/services/internal/state"
)

const (
	// firstLook is how long a payment may be open before Stripe is asked about it unbidden; the wait doubles with
	// each further look, up to longestLook.
	firstLook   = 15 * time.Second
	longestLook = 2 * time.Minute
	// sweepPause is the time between two rounds.
	sweepPause = time.Second
	// lookBack is how far back the sweep looks for what an earlier process has left.
	lookBack = time.Hour
	// lookTime bounds one look.
	lookTime = 15 * time.Second
)

// sweep asks Stripe about payments that stay open: those that wait for the buyer's bank while no webhook comes,
// and those whose outcome never reached this service. It is a list in memory; what an earlier process had on its
// list is found at Stripe. Nothing depends on it but that a buyer who did pay gets the ticket: money that is
// left over is given back when the order ends, in any case.
//
// A nil sweep watches nothing.
type sweep struct {
	log *slog.Logger

	mu   sync.Mutex
	next map[string]appointment // by order
}

// appointment is when an order's payment is looked at next, and how long the wait for that is.
type appointment struct {
	at   time.Time
	wait time.Duration
}

func newSweep(log *slog.Logger) *sweep { return &sweep{log: log, next: map[string]appointment{}} }

// watch puts an order's payment on the list.
func (s *sweep) watch(orderID string) { s.set(orderID, firstLook) }

func (s *sweep) set(orderID string, wait time.Duration) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next[orderID] = appointment{time.Now().Add(wait), wait}
}

// forget takes an order's payment off the list.
func (s *sweep) forget(orderID string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.next, orderID)
}

// due lists the orders whose time has come.
func (s *sweep) due(at time.Time) map[string]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]time.Duration{}
	for orderID, next := range s.next {
		if !at.Before(next.at) {
			found[orderID] = next.wait
		}
	}
	return found
}

// run sweeps until ctx ends.
func (s *sweep) run(ctx context.Context, t *till) error {
	recovered := false
	for {
		if !recovered {
			recovered = s.recover(ctx, t) == nil
		}
		for orderID, wait := range s.due(time.Now()) {
			s.visit(ctx, t, orderID, wait)
		}
		select {
		case <-time.After(sweepPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// recover finds at Stripe what an earlier process left open.
func (s *sweep) recover(ctx context.Context, t *till) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	orders, err := t.stripe.Unsettled(ctx, time.Now().Add(-lookBack))
	if err != nil {
		s.log.Warn("what an earlier process left open is not known yet", "error", err)
		return err
	}
	for _, orderID := range orders {
		s.set(orderID, 0)
	}
	return nil
}

// visit looks at one payment, and makes the next appointment if it is still open.
func (s *sweep) visit(ctx context.Context, t *till, orderID string, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	open := false
	err := t.settle(ctx, orderID, t.asStripeTells, func(_ context.Context, _ *state.Change, p *Payment, _ Intent) (bool, error) {
		open = p.Status == Pending || p.Status == RequiresAction
		return false, nil
	})
	switch {
	case errors.Is(err, errNoOrder): // another installation's, on the same Stripe account
		s.forget(orderID)
	case err != nil:
		s.log.Warn("a payment that stays open could not be looked at", "orderId", orderID, "error", err)
		fallthrough
	case open:
		s.set(orderID, min(max(2*wait, firstLook), longestLook))
	default:
		s.forget(orderID)
	}
}
