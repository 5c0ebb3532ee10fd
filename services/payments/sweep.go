package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"boxoffice/services/internal/state"
)

// sweep finds the payments that nobody sees to: their process died, the webhook never came, the outcome was lost, or
// Stripe was away for longer than the agenda cares to remember. Dapr's scheduler has one of the service's processes
// do it every period (see service.Job); what the agenda does at once is only quicker.
//
// It goes through the index of the unsettled, from the watermark, before which everything is settled, to the end.
// Should some payments stay unsettled for long while many after them are settled, they are appended to the index once
// more, and the watermark moves on past all: so a pass costs what is unsettled and new, not what ever was.
//
// Any number of passes may run at once, in any number of processes, beside the agendas: each settling is safe by
// idempotency keys and ETags, and the watermark is only moved by who has read it as it is.
type sweep struct {
	till *till
	log  *slog.Logger
	// patience is how long a payment may be as it is before the sweep sees to it: until then somebody else does.
	patience time.Duration
	fired    chan struct{} // holds one token when the job has fired
}

// watermark is the document that says how far the index of the unsettled is worked off. All before Place is settled.
type watermark struct {
	Schema int `json:"schema"`
	state.Place
}

const watermarkKey = "sweep/" + unsettled

const (
	// worthCarrying is how many entries must have been read for the open ones among them to be appended again, and
	// carriedShare that at most one in so many is open. So the index grows by a third at most.
	worthCarrying = 200
	carriedShare  = 4
	// carriedAtOnce bounds the entries that one transaction appends again: about 40 kB.
	carriedAtOnce = 1000
)

func newSweep(t *till, period time.Duration, log *slog.Logger) *sweep {
	return &sweep{till: t, log: log, patience: period / 2, fired: make(chan struct{}, 1)}
}

// fire asks for a pass, unless one is asked for already. It never waits.
func (s *sweep) fire(context.Context) error {
	select {
	case s.fired <- struct{}{}:
	default:
	}
	return nil
}

// run makes a pass each time it was fired, until ctx ends. The first is made at once and has no patience: what a
// predecessor in this place left is nobody's.
func (s *sweep) run(ctx context.Context) error {
	patience := time.Duration(0)
	for {
		if err := s.pass(ctx, patience); err != nil && ctx.Err() == nil {
			s.log.Warn("a sweep did not get through; the next one goes on from the same place", "error", err)
		}
		patience = s.patience
		select {
		case <-s.fired:
		case <-ctx.Done():
			return nil
		}
	}
}

// pass sees to every payment that is unsettled and has been as it is for longer than patience.
func (s *sweep) pass(ctx context.Context, patience time.Duration) error {
	mark, err := state.Get[watermark](ctx, s.till.store, watermarkKey)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	var settling sync.WaitGroup
	defer settling.Wait()
	places := make(chan struct{}, settlingAtOnce)

	var open []state.Entry // the first entry of each payment that is not settled
	met := map[string]bool{}
	end := mark.Value.Place
	read := 0
	for {
		entries, err := s.till.store.Forward(ctx, unsettled, end)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break
		}
		read += len(entries)
		end = entries[len(entries)-1].At.Next()
		accounts, err := s.accounts(ctx, entries)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			a, known := accounts[entry.ID]
			order, payment := &a.order.Value, &a.payment.Value
			if !known || met[entry.ID] || order.Settled(payment.Status) {
				continue
			}
			met[entry.ID] = true
			open = append(open, entry)
			if now().Sub(payment.UpdatedAt) < patience || !order.Wants(payment) {
				continue
			}
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			settling.Go(func() {
				defer func() { <-places }()
				s.settle(ctx, entry.ID)
			})
		}
	}
	return s.move(ctx, mark, open, read, end)
}

// accounts reads the orders of these entries with their payments, by order; those that have none are left out.
func (s *sweep) accounts(ctx context.Context, entries []state.Entry) (map[string]account, error) {
	var orderKeys, paymentKeys []string
	for _, entry := range entries {
		orderKeys = append(orderKeys, orderKey(entry.ID))
	}
	orders, err := state.GetMany[Order](ctx, s.till.store, orderKeys)
	if err != nil {
		return nil, err
	}
	for _, order := range orders {
		if order.Value.PaymentID != "" {
			paymentKeys = append(paymentKeys, paymentKey(order.Value.PaymentID))
		}
	}
	payments, err := state.GetMany[Payment](ctx, s.till.store, paymentKeys)
	if err != nil {
		return nil, err
	}
	all := map[string]account{}
	for _, payment := range payments {
		all[payment.Value.OrderID] = account{payment: payment}
	}
	for _, order := range orders {
		if a, paid := all[order.Value.ID]; paid {
			a.order = order
			all[order.Value.ID] = a
		}
	}
	return all, nil
}

func (s *sweep) settle(ctx context.Context, orderID string) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := s.till.settle(ctx, orderID, s.till.asLongSilent, nothingMore); err != nil {
		s.log.Warn("a payment is not settled yet; the next sweep tries again", "orderId", orderID, "error", err)
	}
}

// move brings the watermark forward: to the oldest payment that is not settled; or, if most of what was read is
// settled, past all, with the others appended again. A conflict says that somebody else has moved it; that will do.
func (s *sweep) move(ctx context.Context, mark state.Doc[watermark], open []state.Entry, read int, end state.Place) error {
	to := end
	var carried []string
	switch carry := read >= worthCarrying && len(open) <= read/carriedShare; {
	case len(open) == 0:
	case carry:
		for _, entry := range open {
			carried = append(carried, entry.ID)
		}
	default:
		to = open[0].At
	}
	if !mark.Value.Before(to) {
		return nil
	}
	var change state.Change
	for chunk := range slices.Chunk(carried, carriedAtOnce) {
		if err := s.till.store.Commit(ctx, &change); err != nil { // the chunk before; at first none
			return err
		}
		change = state.Change{}
		for _, id := range chunk {
			change.Append(unsettled, id)
		}
	}
	moved := watermark{Schema: 1, Place: to}
	if mark.ETag == "" {
		change.Create(watermarkKey, moved)
	} else {
		change.Update(watermarkKey, mark.ETag, moved)
	}
	if err := s.till.store.Commit(ctx, &change); err != nil && !errors.Is(err, state.ErrConflict) {
		return fmt.Errorf("move the watermark: %w", err)
	}
	return nil
}
