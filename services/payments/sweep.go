package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"
)

// sweep settles payments that were not settled otherwise: their process ended, the webhook did not come, the outcome was lost,
// or Stripe was unavailable. Dapr's scheduler starts it in one of the service's processes every period (see service.Job). The
// queue does the same work sooner, and nothing depends on it.
//
// It reads the index of unsettled payments from the watermark, before which all are settled, to the end. If few payments stay
// unsettled for long while many after them are settled, they are appended to the index again, and the watermark moves past
// all. So the cost of a pass depends on the unsettled and new payments, not on all there ever were.
//
// Any number of passes may run at the same time, in any number of processes, beside the queues. A settling is safe by
// idempotency keys and ETags, and the watermark is only moved on the condition that it has not changed.
type sweep struct {
	store *store
	log   *slog.Logger
	// minAge is how long a payment must be unchanged before the sweep settles it: until then its process is likely to.
	minAge time.Duration
	fired  chan struct{} // holds one token when the job has fired
	period time.Duration
}

// watermark is the document that shows how far the index of unsettled payments is processed: in each partition, all before
// its place are settled.
type watermark struct {
	Schema int          `json:"schema"`
	Places state.Places `json:"places"`
	// Trimmed is up to where the index's pages are deleted. If it is lost, they are deleted again.
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

// firstPartition is the name of an index that was written before indexes had partitions.
const firstPartition = "legacy"

const watermarkKey = "sweep/" + unsettled

const (
	// minRead is how many entries a pass must have read before it appends the unsettled ones again, and maxShare that at most
	// one in so many is unsettled. So the index grows by a third at most.
	minRead  = 200
	maxShare = 4
	// maxAppended bounds the entries that one transaction appends again: about 40 kB.
	maxAppended = 1000
	// maxTrimmed bounds the pages that one transaction deletes.
	maxTrimmed = 200
)

func newSweep(s *store, period time.Duration, log *slog.Logger) *sweep {
	return &sweep{store: s, log: log, minAge: period / 2, fired: make(chan struct{}, 1), period: period}
}

// fire requests a pass, unless one is requested already. It never waits.
func (s *sweep) fire(context.Context) error {
	select {
	case s.fired <- struct{}{}:
	default:
	}
	return nil
}

// run makes a pass each time the job has fired, until ctx ends. The first pass is made at once, for payments of any age: an
// earlier process of this place may have ended without settling them.
func (s *sweep) run(ctx context.Context) error {
	minAge := time.Duration(0)
	for {
		if err := s.pass(ctx, minAge); err != nil && ctx.Err() == nil {
			s.log.Warn("a sweep has failed; the next one continues at the same place", "error", err)
		}
		minAge = s.minAge
		select {
		case <-s.fired:
		case <-ctx.Done():
			return nil
		}
	}
}

// pass settles every payment that is not settled and has been unchanged for minAge.
func (s *sweep) pass(ctx context.Context, minAge time.Duration) error {
	mark, err := state.Get[watermark](ctx, s.store.documents, watermarkKey)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	var settling errgroup.Group
	defer func() { _ = settling.Wait() }()
	settling.SetLimit(maxSettling)

	var found backlog
	var open []state.Entry // the first entry of each payment that is not settled
	seen := map[string]bool{}
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
		ids := make([]id.Order, len(entries))
		for i, entry := range entries {
			ids[i] = id.Order(entry.ID)
		}
		orders, err := s.store.orders(ctx, ids)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			order, known := orders[id.Order(entry.ID)]
			if !known || seen[entry.ID] || order.Settled() {
				continue
			}
			seen[entry.ID] = true
			open = append(open, entry)
			found.add(order.Payment.CreatedAt)
			if s.store.clock().Sub(order.Payment.UpdatedAt) < minAge || !order.NeedsSettling() {
				continue
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			settling.Go(func() error {
				s.settle(ctx, order.ID)
				return nil
			})
		}
	}
	s.store.metrics.setBacklog(found, time.Now(), staleAfter*s.period)
	return s.move(ctx, mark, open, read, end)
}

// orders reads orders with their payments, by id. One that does not exist is not in the result.
func (s *store) orders(ctx context.Context, ids []id.Order) (map[id.Order]*domain.Order, error) {
	keys := make([]string, len(ids))
	for i, order := range ids {
		keys[i] = orderKey(order)
	}
	docs, err := state.GetMany[domain.Order](ctx, s.documents, keys)
	if err != nil {
		return nil, err
	}
	orders := map[id.Order]*domain.Order{}
	var legacy, attempts []string
	for i := range docs {
		order := &docs[i].Value
		orders[order.ID] = order
		switch {
		case order.PaymentID != "":
			legacy = append(legacy, legacyPaymentKey(order.PaymentID))
		case order.Payment == nil:
			attempts = append(attempts, attemptKey(order.ID))
		}
	}
	payments, err := state.GetMany[legacyPayment](ctx, s.documents, legacy)
	if err != nil {
		return nil, err
	}
	for _, doc := range payments {
		if doc.Value.isMoved() { // since the order was read: a process settles it now
			delete(orders, doc.Value.OrderID)
			continue
		}
		orders[doc.Value.OrderID].TakePayment(doc.Value.Payment)
	}
	begun, err := state.GetMany[firstAttempt](ctx, s.documents, attempts)
	if err != nil {
		return nil, err
	}
	for _, doc := range begun {
		orders[id.Order(strings.TrimPrefix(doc.Key, attemptKey("")))].Begin(doc.Value.Method, doc.Value.At)
	}
	return orders, nil
}

func (s *sweep) settle(ctx context.Context, orderID id.Order) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if _, _, err := s.store.settleOrder(ctx, orderID, domain.Cause{Refresh: domain.RefreshIdle}); err != nil {
		s.log.Warn("a payment is not settled yet; the next sweep tries again", "orderId", orderID, "error", err)
	}
}

// move moves the watermark to the oldest payment that is not settled. If most of what was read is settled, the others are
// appended again, and it moves past all. On a conflict another pass has moved it, and that is enough.
func (s *sweep) move(ctx context.Context, mark state.Doc[watermark], open []state.Entry, read int, end state.Places) error {
	to := maps.Clone(end)
	var appended []string
	appendAgain := read >= minRead && len(open) <= read/maxShare
	for _, entry := range open {
		if appendAgain {
			appended = append(appended, entry.ID)
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
	for chunk := range slices.Chunk(appended, maxAppended) {
		if err := s.store.documents.Commit(ctx, &change); err != nil { // the chunk before; at first none
			return err
		}
		change = state.Change{}
		for _, order := range chunk {
			change.Append(unsettled, order)
		}
	}
	moved := watermark{Schema: watermarkSchema, Places: to}
	// Pages before the old watermark, not the new one: a pass that began with the old one may still read on from there.
	moved.Trimmed = change.Trim(unsettled, mark.Value.Trimmed, mark.Value.Places, maxTrimmed)
	change.Put(watermarkKey, mark.ETag, moved)
	if err := s.store.documents.Commit(ctx, &change); err != nil && !errors.Is(err, state.ErrConflict) {
		return fmt.Errorf("move the watermark: %w", err)
	}
	return nil
}
