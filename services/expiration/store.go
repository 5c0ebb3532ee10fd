package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	slot/{slot}                    Progress, from the slot's first order until ten minutes after its end
//	page/{slot}/{writer}/{number}  Page, until it is published
//	watermark                      Watermark: the slots up to it are published and deleted; the only one that stays
func slotKey(s Slot) string { return "slot/" + s.String() }
func pageKey(s Slot, writer string, number int) string {
	return "page/" + s.String() + "/" + writer + "/" + strconv.Itoa(number)
}

const watermarkKey = "watermark"

const (
	// gatherTime is how long the first order of a page waits for others: those of one delivery come within it. If that
	// are many, they wait fullerTime, for nobody is in a hurry: transactions are fewer, and so are deliveries, which
	// gather meanwhile at the broker.
	gatherTime = 2 * time.Millisecond
	fullerTime = 25 * time.Millisecond
	many       = 8
	// gatherLength bounds the orders of one transaction.
	gatherLength = 512
	// commitTime bounds one transaction and what it reads.
	commitTime = 15 * time.Second
	// pagesAtOnce is how many pages of a writer are read and published in one transaction.
	pagesAtOnce = 16
	// rememberedSlots is from how many slots on those that are over are forgotten.
	rememberedSlots = 4096
)

// calendar keeps the slots.
type calendar struct {
	store *state.Store
	log   *slog.Logger
	// begun is called for each slot that this process puts its first order into, when that is committed.
	begun func(Slot)
	now   func() time.Time // time.Now, but for tests

	mu        sync.Mutex
	waiting   []addition
	gathering bool // somebody works off what waits

	// The goroutine that gathers owns these. A page's number is used once: when it is not known whether a page was
	// committed, the process goes on as another writer.
	writer string
	pages  map[Slot]int // how many this writer has written
}

// addition is an order on its way into a slot.
type addition struct {
	slot  Slot
	order Expiring
	done  chan error // buffered: nobody waits for the caller
}

func newCalendar(store *state.Store, log *slog.Logger, begun func(Slot)) *calendar {
	c := &calendar{store: store, log: log, begun: begun, now: time.Now}
	c.startWriter()
	return c
}

func (c *calendar) startWriter() {
	c.writer, c.pages = uuid.Must(uuid.NewV7()).String(), map[Slot]int{}
}

// Add puts an order into the slot of its time, and returns when that is committed. An order that is added twice is
// published twice.
func (c *calendar) Add(ctx context.Context, order Expiring) error {
	for ahead := headway; ; ahead *= 2 {
		slot := slotFor(order.ID, order.ExpiresAt, c.now(), ahead)
		added := addition{slot, order, make(chan error, 1)}
		c.gather(added)
		select {
		case err := <-added.done:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return away(fmt.Errorf("add order %s to slot %s: %w", order.ID, slot, ctx.Err()))
		}
		if !slot.IsOver(c.now()) {
			return nil
		}
		// It took so long that the slot may have been read without this order. A later slot is read later.
	}
}

// gather lets an addition wait for others, and sees to it that somebody commits them.
func (c *calendar) gather(added addition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, added)
	if !c.gathering {
		c.gathering = true
		go c.commitAll()
	}
}

// commitAll commits what waits, and what comes meanwhile, until nothing waits any more. Each transaction is bounded in
// time, so it ends.
func (c *calendar) commitAll() {
	for {
		time.Sleep(gatherTime)
		if c.waits() >= many {
			time.Sleep(fullerTime - gatherTime)
		}
		c.mu.Lock()
		some := c.waiting[:min(len(c.waiting), gatherLength)]
		c.waiting = c.waiting[len(some):]
		if len(some) == 0 {
			c.waiting, c.gathering = nil, false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		err := c.commit(some)
		for _, added := range some {
			added.done <- err
		}
	}
}

// waits is how many orders wait.
func (c *calendar) waits() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

// commit writes additions in one transaction: a page for each slot.
func (c *calendar) commit(some []addition) error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTime)
	defer cancel()
	orders := map[Slot][]Expiring{}
	for _, added := range some {
		orders[added.slot] = append(orders[added.slot], added.order)
	}
	var first []Slot
	for slot := range orders {
		if _, known := c.pages[slot]; !known {
			first = append(first, slot)
		}
	}
	// Only the documents of slots that are new here can conflict, when another process begins them, too.
	err := state.Retry(ctx, func(ctx context.Context) error {
		var change state.Change
		if err := c.join(ctx, &change, first); err != nil {
			return err
		}
		for slot, all := range orders {
			change.Insert(pageKey(slot, c.writer, c.pages[slot]), Page{Schema: 1, Orders: all})
		}
		return c.store.Commit(ctx, &change)
	})
	if err != nil {
		c.startWriter()
		return away(fmt.Errorf("add %d orders to their slots: %w", len(some), err))
	}
	c.forgetOver()
	for slot := range orders {
		c.pages[slot]++
	}
	for _, slot := range first {
		c.begun(slot)
	}
	return nil
}

// join makes this process a writer of slots, as part of a change.
func (c *calendar) join(ctx context.Context, change *state.Change, slots []Slot) error {
	known, err := c.progressOf(ctx, slots)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		doc, exists := known[slot]
		doc.Value.AddWriter(c.writer)
		if exists {
			change.Update(doc.Key, doc.ETag, doc.Value)
		} else {
			change.Create(slotKey(slot), doc.Value)
		}
	}
	return nil
}

func (c *calendar) forgetOver() {
	if len(c.pages) < rememberedSlots {
		return
	}
	now := c.now()
	maps.DeleteFunc(c.pages, func(slot Slot, _ int) bool { return slot.IsOver(now) })
}

// progressOf reads the documents of slots; those that have none are left out.
func (c *calendar) progressOf(ctx context.Context, slots []Slot) (map[Slot]state.Doc[Progress], error) {
	keys := make([]string, len(slots))
	slotOf := make(map[string]Slot, len(slots))
	for i, slot := range slots {
		keys[i] = slotKey(slot)
		slotOf[keys[i]] = slot
	}
	docs, err := state.GetMany[Progress](ctx, c.store, keys)
	if err != nil {
		return nil, err
	}
	found := make(map[Slot]state.Doc[Progress], len(docs))
	for _, doc := range docs {
		found[slotOf[doc.Key]] = doc
	}
	return found, nil
}

// Publish commits the events of all orders that are in the slot and not published yet, and returns how many orders that
// were. Several processes may do so at once: one succeeds, and the others find nothing left.
func (c *calendar) Publish(ctx context.Context, slot Slot) (orders int, err error) {
	for whole := false; !whole; {
		some := 0
		err = state.Retry(ctx, func(ctx context.Context) (err error) {
			some, whole, err = c.publishSome(ctx, slot)
			return err
		})
		if err != nil {
			return orders, fmt.Errorf("publish slot %s: %w", slot, err)
		}
		orders += some
	}
	return orders, nil
}

// publishSome is one transaction of Publish. It says how many orders it has published, and whether none were left.
func (c *calendar) publishSome(ctx context.Context, slot Slot) (orders int, whole bool, err error) {
	doc, err := state.Get[Progress](ctx, c.store, slotKey(slot))
	if errors.Is(err, state.ErrNotFound) {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	var change state.Change
	next, whole := map[string][]Page{}, true
	all, err := c.nextPages(ctx, slot, &doc.Value)
	if err != nil {
		return 0, false, err
	}
	for writer, pages := range all {
		for _, page := range pages {
			change.Delete(page.Key, page.ETag)
			next[writer] = append(next[writer], page.Value)
			orders += len(page.Value.Orders)
		}
		whole = whole && len(pages) < pagesAtOnce
	}
	if orders == 0 {
		return 0, true, nil
	}
	for _, event := range doc.Value.Publish(slot, next) {
		change.Emit(ctx, event)
	}
	change.Update(doc.Key, doc.ETag, doc.Value)
	return orders, whole, c.store.Commit(ctx, &change)
}

// nextPages reads what each writer of the slot has written and nobody has published, up to pagesAtOnce.
func (c *calendar) nextPages(ctx context.Context, slot Slot, progress *Progress) (map[string][]state.Doc[Page], error) {
	var keys []string
	for _, writer := range progress.Writers() {
		for i := range pagesAtOnce {
			keys = append(keys, pageKey(slot, writer, progress.Published[writer]+i))
		}
	}
	docs, err := state.GetMany[Page](ctx, c.store, keys)
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

// Unpublished returns which of the slots hold orders that are not published, and the documents of all of them.
func (c *calendar) Unpublished(ctx context.Context, slots []Slot) (unpublished []Slot, known map[Slot]state.Doc[Progress], err error) {
	known, err = c.progressOf(ctx, slots)
	if err != nil {
		return nil, nil, err
	}
	var keys []string
	slotOf := map[string]Slot{}
	for slot, doc := range known {
		for writer, published := range doc.Value.Published {
			key := pageKey(slot, writer, published)
			keys = append(keys, key)
			slotOf[key] = slot
		}
	}
	pages, err := state.GetMany[Page](ctx, c.store, keys)
	if err != nil {
		return nil, nil, err
	}
	for _, page := range pages {
		unpublished = append(unpublished, slotOf[page.Key])
	}
	slices.SortFunc(unpublished, func(a, b Slot) int { return a.EndsAt().Compare(b.EndsAt()) })
	return slices.Compact(unpublished), known, nil
}

// Watermark is how far all slots are published and deleted.
type Watermark struct {
	Schema int   `json:"schema"`
	End    int64 `json:"end"` // Unix time in seconds: no slot that ends up to it has a document
}

// Watermark reads the watermark. If there is none, no order has ever been added, and it begins where a slot may be.
func (c *calendar) Watermark(ctx context.Context) (doc state.Doc[Watermark], err error) {
	err = state.Retry(ctx, func(ctx context.Context) error {
		doc, err = state.Get[Watermark](ctx, c.store, watermarkKey)
		if !errors.Is(err, state.ErrNotFound) {
			return err
		}
		var change state.Change
		change.Create(watermarkKey, Watermark{Schema: 1, End: c.now().Add(-lookAgainTime).Unix()})
		if err := c.store.Commit(ctx, &change); err != nil {
			return err
		}
		doc, err = state.Get[Watermark](ctx, c.store, watermarkKey)
		return err
	})
	return doc, err
}

// Forget deletes the documents of slots whose orders are all published, and moves the watermark to end. It returns
// state.ErrConflict if another process did.
func (c *calendar) Forget(ctx context.Context, watermark state.Doc[Watermark], end int64, published map[Slot]state.Doc[Progress]) error {
	var change state.Change
	for slot, doc := range published {
		if slot.End <= end {
			change.Delete(doc.Key, doc.ETag)
		}
	}
	watermark.Value.End = end
	change.Update(watermark.Key, watermark.ETag, watermark.Value)
	return c.store.Commit(ctx, &change)
}

// away says of every failure of the store or the scheduler that it will end: nothing in the event is wrong, and it is
// delivered again until it can be handled.
func away(err error) error {
	return problem.New(problem.Unavailable, "Orders cannot be put into their slots at the moment.").Because(err)
}
