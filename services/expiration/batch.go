package main

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/state"
)

// The orders of one delivery are added at about the same time. They share a transaction: a batch.

const (
	// shortWait is how long the first order of a batch waits for others; the orders of one delivery come within it. If there are
	// manyOrders by then, the batch waits until longWait: nothing here is urgent, and fewer transactions make fewer, larger
	// deliveries, because events gather at the broker meanwhile.
	shortWait  = 2 * time.Millisecond
	longWait   = 25 * time.Millisecond
	manyOrders = 8
	// batchLength limits the orders of one transaction.
	batchLength = 512
	// commitTime limits one transaction and its reads.
	commitTime = 15 * time.Second
	// rememberedSlots is the number of slots after which those that have ended are removed from memory.
	rememberedSlots = 4096
)

// batches commits orders in batches. One goroutine runs while orders wait.
type batches struct {
	store        *store
	onFirstOrder func(Slot)

	mu      sync.Mutex
	waiting []addition
	running bool

	// Only the running goroutine uses these. No page number is used twice: if it is unknown whether a page was committed, this
	// process continues as another writer.
	writer string
	pages  map[Slot]int // the number of pages that this writer has added
}

// addition is an order that waits for its batch.
type addition struct {
	slot  Slot
	order Order
	done  chan error // has room for the result, so that the batch does not wait for the caller
}

func newBatches(s *store, onFirstOrder func(Slot)) *batches {
	b := &batches{store: s, onFirstOrder: onFirstOrder}
	b.startWriter()
	return b
}

func (b *batches) startWriter() {
	b.writer, b.pages = uuid.Must(uuid.NewV7()).String(), map[Slot]int{}
}

// add returns when the order's batch is committed, or has failed, or ctx ends.
func (b *batches) add(ctx context.Context, slot Slot, order Order) error {
	added := addition{slot, order, make(chan error, 1)}
	b.mu.Lock()
	b.waiting = append(b.waiting, added)
	if !b.running {
		b.running = true
		go b.run()
	}
	b.mu.Unlock()
	select {
	case err := <-added.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run commits batches until no order waits. It ends without a context, because each transaction has a deadline.
func (b *batches) run() {
	for {
		time.Sleep(shortWait)
		if b.length() >= manyOrders {
			time.Sleep(longWait - shortWait)
		}
		b.mu.Lock()
		batch := b.waiting[:min(len(b.waiting), batchLength)]
		b.waiting = b.waiting[len(batch):]
		if len(batch) == 0 {
			b.waiting, b.running = nil, false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		err := b.commit(batch)
		for _, added := range batch {
			added.done <- err
		}
	}
}

// length is the number of orders that wait.
func (b *batches) length() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// commit writes a batch in one transaction: a page for each slot.
func (b *batches) commit(batch []addition) error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTime)
	defer cancel()
	orders := map[Slot][]Order{}
	for _, added := range batch {
		orders[added.slot] = append(orders[added.slot], added.order)
	}
	var first []Slot // slots in which this writer has no page yet
	for slot := range orders {
		if _, known := b.pages[slot]; !known {
			first = append(first, slot)
		}
	}
	// Only the documents of these slots can conflict, if another process adds its first page at the same time.
	err := state.Retry(ctx, func(ctx context.Context) error {
		var change state.Change
		if err := b.addWriter(ctx, &change, first); err != nil {
			return err
		}
		for slot, page := range orders {
			change.Insert(pageKey(slot, b.writer, b.pages[slot]), Page{Schema: pageSchema, Orders: page})
		}
		return b.store.documents.Commit(ctx, &change)
	})
	if err != nil {
		b.startWriter()
		return fmt.Errorf("commit a batch of %d: %w", len(batch), err)
	}
	b.removeEnded()
	for slot := range orders {
		b.pages[slot]++
	}
	for _, slot := range first {
		b.onFirstOrder(slot)
	}
	return nil
}

// addWriter makes this process a writer of slots, as part of a change.
func (b *batches) addWriter(ctx context.Context, change *state.Change, slots []Slot) error {
	documents, err := b.store.progressOf(ctx, slots)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		doc, exists := documents[slot]
		doc.Value.AddWriter(b.writer)
		if exists {
			change.Update(doc.Key, doc.ETag, doc.Value)
		} else {
			change.Create(slotKey(slot), doc.Value)
		}
	}
	return nil
}

// removeEnded removes slots that have ended from memory when there are many.
func (b *batches) removeEnded() {
	if len(b.pages) < rememberedSlots {
		return
	}
	now := b.store.clock()
	maps.DeleteFunc(b.pages, func(slot Slot, _ int) bool { return slot.HasEnded(now) })
}
