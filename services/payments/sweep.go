package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"boxoffice/services/internal/state"
)

// sweep finds the payments that nobody sees to: their process died, the webhook never came, the outcome was lost, or
// Stripe was away for longer than the queue cares to remember. Dapr's scheduler has one of the service's processes
// do it every period (see service.Job); what the queue does at once is only quicker.
//
// It goes through the index of the unsettled, from the watermark, before which everything is settled, to the end.
// Should some payments stay unsettled for long while many after them are settled, they are appended to the index once
// more, and the watermark moves on past all: so a pass costs what is unsettled and new, not what ever was.
//
// Any number of passes may run at once, in any number of processes, beside the queues: each settling is safe by
// idempotency keys and ETags, and the watermark is only moved by who has read it as it is.
type sweep struct {
	store *store
	log   *slog.Logger
	// budget is how long a payment may be as it is before the sweep sees to it: until then somebody else does.
	budget time.Duration
	fired  chan struct{} // holds one token when the job has fired
	period time.Duration
}

// watermark is the document that says how far the index of the unsettled is worked off. In each partition of it, all
// before its place is settled.
type watermark struct {
	Schema int          `json:"schema"`
	Places state.Places `json:"places"`
	// Trimmed is up to where the index' pages are deleted. Should it be lost, that is done again.
	Trimmed state.Places `json:"trimmed,omitempty"`
	// Page and Entry are the place in the only partition that there was up to schema 1.
	Page  int `json:"page,omitempty"`
	Entry int `json:"entry,omitempty"`
}

// watermarkSchema is the format in which the watermark is written.
const watermarkSchema = 2

// Newest implements state.Upgrader.
func (*watermark) Newest() int { return watermarkSchema }

// Upgrade implements state.Upgrader.
func (w *watermark) Upgrade(from int) error {
	if from == 1 {
		w.Schema, w.Places = watermarkSchema, state.Places{firstPartition: {Page: w.Page, Entry: w.Entry}}
		w.Page, w.Entry = 0, 0
	}
	return nil
}

// firstPartition is the name of what there was of an index before it had partitions.
const firstPartition = "legacy"

const watermarkKey = "sweep/" + unsettled

const (
	// worthCarrying is how many entries must have been read for the open ones among them to be appended again, and
	// carriedShare that at most one in so many is open. So the index grows by a third at most.
	worthCarrying = 200
	carriedShare  = 4
	// carriedAtOnce bounds the entries that one transaction appends again: about 40 kB.
	carriedAtOnce = 1000
	// trimmedAtOnce bounds the pages that one transaction deletes.
	trimmedAtOnce = 200
)

func newSweep(t *store, period time.Duration, log *slog.Logger) *sweep {
	return &sweep{store: t, log: log, budget: period / 2, fired: make(chan struct{}, 1), period: period}
}

// fire asks for a pass, unless one is asked for already. It never waits.
func (s *sweep) fire(context.Context) error {
	select {
	case s.fired <- struct{}{}:
	default:
	}
	return nil
}

// run makes a pass each time it was fired, until ctx ends. The first is made at once and has no budget: what a
// predecessor in this place left is nobody's.
func (s *sweep) run(ctx context.Context) error {
	budget := time.Duration(0)
	for {
		if err := s.pass(ctx, budget); err != nil && ctx.Err() == nil {
			s.log.Warn("a sweep did not get through; the next one goes on from the same place", "error", err)
		}
		budget = s.budget
		select {
		case <-s.fired:
		case <-ctx.Done():
			return nil
		}
	}
}

// pass sees to every payment that is unsettled and has been as it is for longer than budget.
func (s *sweep) pass(ctx context.Context, budget time.Duration) error {
	mark, err := state.Get[watermark](ctx, s.store.documents, watermarkKey)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	var settling sync.WaitGroup
	defer settling.Wait()
	room := make(chan struct{}, settlingAtOnce)

	var left backlog
	var open []state.Entry // the first entry of each payment that is not settled
	met := map[string]bool{}
	end := mark.Value.Places
	read := 0
	for {
		entries, next, err := s.store.documents.Forward(ctx, unsettled, end)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break
		}
		read += len(entries)
		end = next
		ids := make([]string, len(entries))
		for i, entry := range entries {
			ids[i] = entry.ID
		}
		orders, err := s.store.orders(ctx, ids)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			order, known := orders[entry.ID]
			if !known || met[entry.ID] || order.Settled() {
				continue
			}
			met[entry.ID] = true
			open = append(open, entry)
			left.add(order.Payment.CreatedAt)
			if now().Sub(order.Payment.UpdatedAt) < budget || !order.Wants() {
				continue
			}
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			settling.Go(func() {
				defer func() { <-room }()
				s.settle(ctx, entry.ID)
			})
		}
	}
	s.store.metrics.swept(left, time.Now(), staleAfter*s.period)
	return s.move(ctx, mark, open, read, end)
}

// orders reads orders with their payments, by id. One that is not known is not among them.
func (t *store) orders(ctx context.Context, ids []string) (map[string]*Order, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = orderKey(id)
	}
	docs, err := state.GetMany[Order](ctx, t.documents, keys)
	if err != nil {
		return nil, err
	}
	orders := map[string]*Order{}
	var legacy, attempts []string
	for i := range docs {
		order := &docs[i].Value
		orders[order.ID] = order
		switch {
		case order.PaymentID != "":
			legacy = append(legacy, paymentKey(order.PaymentID))
		case order.Payment == nil:
			attempts = append(attempts, attemptKey(order.ID))
		}
	}
	payments, err := state.GetMany[legacyPayment](ctx, t.documents, legacy)
	if err != nil {
		return nil, err
	}
	for _, doc := range payments {
		if doc.Value.moved() { // a moment ago: somebody sees to it
			delete(orders, doc.Value.OrderID)
			continue
		}
		a := account{order: state.Doc[Order]{Value: *orders[doc.Value.OrderID]}, legacy: doc}
		a.carryOver()
		orders[doc.Value.OrderID] = &a.order.Value
	}
	begun, err := state.GetMany[firstAttempt](ctx, t.documents, attempts)
	if err != nil {
		return nil, err
	}
	for _, doc := range begun {
		orders[strings.TrimPrefix(doc.Key, attemptKey(""))].Begin(doc.Value.Method, doc.Value.At)
	}
	return orders, nil
}

func (s *sweep) settle(ctx context.Context, orderID string) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if _, _, err := s.store.settle(ctx, orderID, s.store.asLongSilent); err != nil {
		s.log.Warn("a payment is not settled yet; the next sweep tries again", "orderId", orderID, "error", err)
	}
}

// move brings the watermark forward: to the oldest payment that is not settled; or, if most of what was read is
// settled, past all, with the others appended again. A conflict says that somebody else has moved it; that will do.
func (s *sweep) move(ctx context.Context, mark state.Doc[watermark], open []state.Entry, read int, end state.Places) error {
	to := maps.Clone(end)
	var carried []string
	carry := read >= worthCarrying && len(open) <= read/carriedShare
	for _, entry := range open {
		if carry {
			carried = append(carried, entry.ID)
		} else if entry.At.Before(to[entry.Partition]) {
			to[entry.Partition] = entry.At
		}
	}
	forward := false
	for partition, place := range to {
		forward = forward || mark.Value.Places[partition].Before(place)
	}
	if !forward {
		return nil
	}
	var change state.Change
	for chunk := range slices.Chunk(carried, carriedAtOnce) {
		if err := s.store.documents.Commit(ctx, &change); err != nil { // the chunk before; at first none
			return err
		}
		change = state.Change{}
		for _, id := range chunk {
			change.Append(unsettled, id)
		}
	}
	moved := watermark{Schema: watermarkSchema, Places: to}
	// Pages before the old watermark, not the new one: a pass that began with the old one may still read on from there.
	moved.Trimmed = change.Trim(unsettled, mark.Value.Trimmed, mark.Value.Places, trimmedAtOnce)
	if mark.ETag == "" {
		change.Create(watermarkKey, moved)
	} else {
		change.Update(watermarkKey, mark.ETag, moved)
	}
	if err := s.store.documents.Commit(ctx, &change); err != nil && !errors.Is(err, state.ErrConflict) {
		return fmt.Errorf("move the watermark: %w", err)
	}
	return nil
}
