package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	slot/{slot}                    Progress, from the slot's first order until ten minutes after its end
//	page/{slot}/{writer}/{number}  Page, until it is published
//	watermark                      Watermark: the only document that is never deleted
func slotKey(s Slot) string { return "slot/" + s.String() }
func pageKey(s Slot, writer string, number int) string {
	return "page/" + s.String() + "/" + writer + "/" + strconv.Itoa(number)
}

const (
	watermarkKey = "watermark"
	// pagesAtOnce is the number of a writer's pages that are read and published in one transaction.
	pagesAtOnce = 16
)

// store reads and commits the slots.
type store struct {
	documents *state.Store
	clock     clock.Clock
	batches   *batches
}

// newStore calls onFirstOrder for each slot to which this process adds its first order, after the commit.
func newStore(documents *state.Store, clock clock.Clock, onFirstOrder func(Slot)) *store {
	s := &store{documents: documents, clock: clock}
	s.batches = newBatches(s, onFirstOrder)
	return s
}

// Add adds an order to the slot of its time, and returns after the commit. An order that is added twice is published twice.
func (s *store) Add(ctx context.Context, order Order) error {
	for ahead := headway; ; ahead *= 2 {
		slot := slotFor(order.ID, order.ExpiresAt, s.clock(), ahead)
		if err := s.batches.add(ctx, slot, order); err != nil {
			return unavailable(fmt.Errorf("add order %s to slot %s: %w", order.ID, slot, err))
		}
		if !slot.HasEnded(s.clock()) {
			return nil
		}
		// The commit took so long that the slot may have been read without this order. Add it to a later slot, too.
	}
}

// Publish commits the events of all orders of the slot that are not published yet, and returns the number of these orders. When
// several processes publish a slot, each order is published by one of them.
func (s *store) Publish(ctx context.Context, slot Slot) (orders int, err error) {
	for complete := false; !complete; {
		var published int
		published, complete, err = s.publishSome(ctx, slot)
		if err != nil {
			return orders, fmt.Errorf("publish slot %s: %w", slot, err)
		}
		orders += published
	}
	return orders, nil
}

// publishSome is one transaction of Publish. It returns the number of orders, and whether the slot is published completely.
func (s *store) publishSome(ctx context.Context, slot Slot) (orders int, complete bool, err error) {
	err = state.Retry(ctx, func(ctx context.Context) error {
		orders, complete = 0, true
		doc, err := state.Get[Progress](ctx, s.documents, slotKey(slot))
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		pages, err := s.nextPages(ctx, slot, &doc.Value)
		if err != nil {
			return err
		}
		var change state.Change
		next := map[string][]Page{}
		for writer, docs := range pages {
			for _, page := range docs {
				change.Delete(page.Key, page.ETag)
				next[writer] = append(next[writer], page.Value)
				orders += len(page.Value.Orders)
			}
			complete = complete && len(docs) < pagesAtOnce
		}
		if orders == 0 {
			return nil
		}
		for _, event := range doc.Value.Publish(slot, next) {
			change.Emit(ctx, event)
		}
		change.Update(doc.Key, doc.ETag, doc.Value)
		return s.documents.Commit(ctx, &change)
	})
	return orders, complete, err
}

// nextPages reads up to pagesAtOnce unpublished pages of each writer of the slot.
func (s *store) nextPages(ctx context.Context, slot Slot, progress *Progress) (map[string][]state.Doc[Page], error) {
	var keys []string
	for _, writer := range progress.Writers() {
		for i := range pagesAtOnce {
			keys = append(keys, pageKey(slot, writer, progress.Published[writer]+i))
		}
	}
	docs, err := state.GetMany[Page](ctx, s.documents, keys)
	if err != nil {
		return nil, err
	}
	found := make(map[string]state.Doc[Page], len(docs))
	for _, doc := range docs {
		found[doc.Key] = doc
	}
	next := map[string][]state.Doc[Page]{}
	for writer, published := range progress.Published {
		for i := range pagesAtOnce {
			doc, exists := found[pageKey(slot, writer, published+i)]
			if !exists {
				break
			}
			next[writer] = append(next[writer], doc)
		}
	}
	return next, nil
}

// progressOf reads the documents of slots. Slots without a document are left out.
func (s *store) progressOf(ctx context.Context, slots []Slot) (map[Slot]state.Doc[Progress], error) {
	keys := make([]string, len(slots))
	slotOf := make(map[string]Slot, len(slots))
	for i, slot := range slots {
		keys[i] = slotKey(slot)
		slotOf[keys[i]] = slot
	}
	docs, err := state.GetMany[Progress](ctx, s.documents, keys)
	if err != nil {
		return nil, err
	}
	found := make(map[Slot]state.Doc[Progress], len(docs))
	for _, doc := range docs {
		found[slotOf[doc.Key]] = doc
	}
	return found, nil
}

// Unpublished returns the slots that have unpublished orders, and the documents of all slots.
func (s *store) Unpublished(ctx context.Context, slots []Slot) (unpublished []Slot, documents map[Slot]state.Doc[Progress], err error) {
	documents, err = s.progressOf(ctx, slots)
	if err != nil {
		return nil, nil, err
	}
	var keys []string
	slotOf := map[string]Slot{}
	for slot, doc := range documents {
		for writer, published := range doc.Value.Published {
			key := pageKey(slot, writer, published)
			keys = append(keys, key)
			slotOf[key] = slot
		}
	}
	pages, err := state.GetMany[Page](ctx, s.documents, keys)
	if err != nil {
		return nil, nil, err
	}
	for _, page := range pages {
		unpublished = append(unpublished, slotOf[page.Key])
	}
	slices.SortFunc(unpublished, func(a, b Slot) int { return a.EndsAt().Compare(b.EndsAt()) })
	return slices.Compact(unpublished), documents, nil
}

// Watermark reads the watermark. The first call creates it: no order was added before, so no slot ends before it.
func (s *store) Watermark(ctx context.Context) (doc state.Doc[Watermark], err error) {
	err = state.Retry(ctx, func(ctx context.Context) error {
		doc, err = state.Get[Watermark](ctx, s.documents, watermarkKey)
		if !errors.Is(err, state.ErrNotFound) {
			return err
		}
		var change state.Change
		change.Create(watermarkKey, Watermark{Schema: watermarkSchema, End: s.clock().Add(-sweepAge).Unix()})
		if err := s.documents.Commit(ctx, &change); err != nil {
			return err
		}
		doc, err = state.Get[Watermark](ctx, s.documents, watermarkKey)
		return err
	})
	return doc, err
}

// Remove deletes the documents of published slots that end up to end, and moves the watermark there. It returns state.ErrConflict if
// another process has moved the watermark.
func (s *store) Remove(ctx context.Context, watermark state.Doc[Watermark], end int64, published map[Slot]state.Doc[Progress]) error {
	var change state.Change
	for slot, doc := range published {
		if slot.End <= end {
			change.Delete(doc.Key, doc.ETag)
		}
	}
	watermark.Value.End = end
	change.Update(watermark.Key, watermark.ETag, watermark.Value)
	return s.documents.Commit(ctx, &change)
}

// unavailable makes every failure of the store a temporary one: nothing in the event is wrong, so it is delivered again until it is
// handled.
func unavailable(err error) error {
	return problem.New(problem.Unavailable, "unavailable", "Orders cannot be added to their slots at the moment.").Because(err)
}
