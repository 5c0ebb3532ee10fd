package state

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"

	"boxoffice/services/internal/events"
)

// The journal is what makes events as durable as the documents that caused them. Each process is a writer with
// a fixed number of slots. A transaction that causes events also writes one slot with these events; after the
// commit they are published, and once the broker has accepted them the slot is free, in memory, to be
// overwritten by a later transaction. A process that dies leaves its slots behind, and another publishes what
// they hold. That may repeat an event that was out already; consumers bear it.
//
//	journal/writers           the registry: who writes
//	journal/{writer}          the writer's own document: its last batch, when it last wrote, whether it is closed
//	journal/{writer}/{slot}   the events of one transaction
//
// Slots are taken lowest first, so those ever written are the first n, and a reader needs no list of them.

const registryKey = "journal/writers"

type eventRecord = events.Event

// registry lists the writers whose slots may hold events.
type registry struct {
	Schema  int                `json:"schema"`
	Writers []registeredWriter `json:"writers"`
}

type registeredWriter struct {
	ID       string `json:"id"`
	Instance string `json:"instance"`
}

// writerDocument is a writer's own. Its ETag fences: every transaction of the writer replaces it conditionally,
// and who takes over closes it first.
type writerDocument struct {
	Schema    int       `json:"schema"`
	Instance  string    `json:"instance"`
	Batch     string    `json:"batch"`
	RenewedAt time.Time `json:"renewedAt"`
	Closed    bool      `json:"closed"`
}

type slotDocument struct {
	Schema int           `json:"schema"`
	Batch  string        `json:"batch"`
	Events []eventRecord `json:"events"`
}

func writerKey(writer string) string         { return "journal/" + writer }
func slotKey(writer string, slot int) string { return "journal/" + writer + "/" + strconv.Itoa(slot) }

// writer is this process's registration, with the slots that are its own.
type writer struct {
	id string

	mu    sync.Mutex
	freed intHeap // slots that have been used and are free again
	used  int     // slots 0..used-1 have been taken at least once
}

func (w *writer) key() string { return writerKey(w.id) }

// take returns the lowest free slot.
func (w *writer) take(limit int) (int, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.freed) > 0 {
		return heap.Pop(&w.freed).(int), true
	}
	if w.used == limit {
		return 0, false
	}
	w.used++
	return w.used - 1, true
}

// hasRoom says whether take would find a slot.
func (w *writer) hasRoom(limit int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.freed) > 0 || w.used < limit
}

func (w *writer) free(slot int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	heap.Push(&w.freed, slot)
}

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

type journal struct {
	store     *Store
	publisher *publisher
	current   atomic.Pointer[writer] // replaced by register when somebody has closed it
}

func newJournal(s *Store, p *publisher) *journal { return &journal{store: s, publisher: p} }

// register makes this process a new writer. The writer's document comes before its entry in the registry, and
// the entry before its first slot, so that a slot can always be found.
func (j *journal) register(ctx context.Context) error {
	w := &writer{id: uuid.Must(uuid.NewV7()).String()}
	var own Change
	own.Create(w.key(), writerDocument{Schema: 1, Instance: j.store.opts.Instance, RenewedAt: time.Now().UTC()})
	if err := j.store.direct(ctx, &own); err != nil {
		return err
	}
	err := j.editRegistry(ctx, func(r *registry) {
		r.Writers = append(r.Writers, registeredWriter{ID: w.id, Instance: j.store.opts.Instance})
	})
	if err != nil {
		return err
	}
	j.current.Store(w)
	j.store.opts.Log.Debug("registered as a writer of the journal", "writer", w.id)
	return nil
}

// unregister removes what this writer keeps in the store. Its events must all be published.
func (j *journal) unregister(ctx context.Context) error {
	w := j.current.Load()
	own, err := j.store.read(ctx, w.key())
	if err != nil {
		return err
	}
	w.mu.Lock()
	used := w.used
	w.mu.Unlock()
	return j.remove(ctx, w.id, own[w.key()], used)
}

// entry is a transaction's place in the journal.
type entry struct {
	journal *journal
	writer  *writer
	slot    int
	events  []eventRecord
}

// write adds to tx the journal's part: a slot with its events, if it has any, and this writer's document, read
// as own. It returns a problem.Unavailable if no slot is free.
func (j *journal) write(tx *transaction, own item) (*entry, error) {
	e := &entry{journal: j, writer: j.current.Load(), events: tx.events}
	if len(tx.events) > 0 {
		slot, ok := e.writer.take(j.store.opts.Slots)
		if !ok {
			return nil, busy()
		}
		e.slot = slot
		for i := range tx.events {
			tx.events[i].Source = "/" + j.store.opts.Service
		}
		body, err := json.Marshal(slotDocument{Schema: 1, Batch: tx.batch, Events: tx.events})
		if err != nil {
			return nil, fmt.Errorf("encode the journal entry: %w", err)
		}
		tx.ops = append(tx.ops, &client.StateOperation{
			Type: client.StateOperationTypeUpsert,
			// The one write without a condition: the slot is ours as long as the writer's document is, and
			// that is conditional.
			Item: &client.SetStateItem{Key: slotKey(e.writer.id, slot), Value: body},
		})
	}
	renewal, err := j.renewal(own, tx.batch)
	if err != nil {
		return nil, err
	}
	tx.ops = append(tx.ops, renewal.operation())
	return e, nil
}

// publish hands the committed events to the publisher, which frees the slot when they are out.
func (e *entry) publish() {
	if len(e.events) > 0 {
		e.journal.publisher.add(e.events, e.release)
	}
}

// release frees the slot.
func (e *entry) release() {
	if len(e.events) > 0 {
		e.writer.free(e.slot)
	}
}

// fence replaces this writer's document, read as own, so that no transaction that was built on it can still
// succeed. It is also how an idle writer shows that it lives.
func (j *journal) fence(ctx context.Context, own item) error {
	renewal, err := j.renewal(own, batchOf(own))
	if err != nil {
		return err
	}
	return j.store.execute(ctx, []*client.StateOperation{renewal.operation()})
}

func (j *journal) renewal(own item, batch string) (write, error) {
	doc := writerDocument{Schema: 1, Instance: j.store.opts.Instance, Batch: batch, RenewedAt: time.Now().UTC()}
	body, err := json.Marshal(doc)
	return write{key: j.current.Load().key(), etag: own.etag, value: body}, err
}

// isOpen says whether a writer's document lets the writer commit.
func isOpen(own item) (bool, error) {
	if !own.exists() {
		return false, nil
	}
	var doc writerDocument
	if err := unmarshal("of a journal's writer", own.value, &doc); err != nil {
		return false, err
	}
	return !doc.Closed, nil
}

// batchOf is the last batch that a writer committed.
func batchOf(own item) string {
	var doc writerDocument
	_ = json.Unmarshal(own.value, &doc) // no document, no batch
	return doc.Batch
}

// watch takes over from writers that are gone: at once from those that were registered by this instance before,
// and from others when they have been silent for a lease. Silence is measured here, from when this process
// first saw a state of the writer's document, so clocks need not agree.
func (j *journal) watch(ctx context.Context) {
	type sight struct {
		etag  string
		since time.Time
	}
	seen := map[string]sight{}
	for {
		writers, err := j.registered(ctx)
		if err != nil && ctx.Err() == nil {
			j.store.opts.Log.Warn("could not read who writes the journal; trying again", "error", err)
		}
		for _, w := range writers {
			if w.ID == j.current.Load().id {
				continue
			}
			items, err := j.store.read(ctx, writerKey(w.ID))
			if err != nil {
				break
			}
			own := items[writerKey(w.ID)]
			last, known := seen[w.ID]
			if !known || last.etag != own.etag {
				seen[w.ID] = sight{own.etag, time.Now()}
			}
			if w.Instance == j.store.opts.Instance || time.Since(seen[w.ID].since) > j.store.opts.Lease {
				if err := j.takeOver(ctx, w, own); err != nil && ctx.Err() == nil {
					j.store.opts.Log.Warn("could not take over from a dead writer; trying again", "writer", w.ID, "error", err)
					continue
				}
				delete(seen, w.ID)
			}
		}
		select {
		case <-time.After(j.store.opts.Lease / 3):
		case <-ctx.Done():
			return
		}
	}
}

// recoveryChunk is how many slots are read, or removed, at once. A slot may hold as much as a batch does.
const recoveryChunk = 16

// takeOver closes a dead writer, so that it cannot come back, publishes what its slots hold, and removes it.
func (j *journal) takeOver(ctx context.Context, w registeredWriter, own item) error {
	if open, err := isOpen(own); err != nil {
		return err
	} else if open {
		body, err := json.Marshal(writerDocument{Schema: 1, Instance: w.Instance, Batch: batchOf(own), RenewedAt: time.Now().UTC(), Closed: true})
		if err != nil {
			return err
		}
		closed := write{key: writerKey(w.ID), etag: own.etag, value: body}
		if err := j.store.execute(ctx, []*client.StateOperation{closed.operation()}); err != nil {
			return fmt.Errorf("close it: %w", err)
		}
	}
	var left []eventRecord
	slots := 0
	for found := true; found; {
		keys := make([]string, recoveryChunk)
		for i := range keys {
			keys[i] = slotKey(w.ID, slots+i)
		}
		items, err := j.store.read(ctx, keys...)
		if err != nil {
			return err
		}
		found = false
		for _, key := range keys {
			if !items[key].exists() {
				continue
			}
			found = true
			var slot slotDocument
			if err := unmarshal(key, items[key].value, &slot); err != nil {
				return err
			}
			left = append(left, slot.Events...)
		}
		slots += recoveryChunk
	}
	if len(left) > 0 {
		j.store.opts.Log.Info("publishing what a dead writer left in the journal", "writer", w.ID, "instance", w.Instance, "events", len(left))
		if err := j.publisher.publishAll(ctx, left); err != nil {
			return err
		}
	}
	items, err := j.store.read(ctx, writerKey(w.ID))
	if err != nil {
		return err
	}
	return j.remove(ctx, w.ID, items[writerKey(w.ID)], slots)
}

// remove deletes a writer's slots, its document and its entry in the registry, in this order, so that a crash
// in between leaves nothing that cannot be found.
func (j *journal) remove(ctx context.Context, id string, own item, slots int) error {
	for from := 0; from < slots; from += recoveryChunk {
		var ops []*client.StateOperation
		for slot := from; slot < min(from+recoveryChunk, slots); slot++ {
			ops = append(ops, &client.StateOperation{Type: client.StateOperationTypeDelete, Item: &client.SetStateItem{Key: slotKey(id, slot)}})
		}
		if err := j.store.execute(ctx, ops); err != nil {
			return fmt.Errorf("remove its slots: %w", err)
		}
	}
	if own.exists() {
		gone := write{key: writerKey(id), etag: own.etag, delete: true}
		if err := j.store.execute(ctx, []*client.StateOperation{gone.operation()}); err != nil {
			return fmt.Errorf("remove its document: %w", err)
		}
	}
	return j.editRegistry(ctx, func(r *registry) {
		r.Writers = slices.DeleteFunc(r.Writers, func(w registeredWriter) bool { return w.ID == id })
	})
}

func (j *journal) registered(ctx context.Context) ([]registeredWriter, error) {
	doc, err := Get[registry](ctx, j.store, registryKey)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return doc.Value.Writers, err
}

// editRegistry changes the registry, against others that change it at the same time, until ctx ends.
func (j *journal) editRegistry(ctx context.Context, edit func(*registry)) error {
	for {
		doc, err := Get[registry](ctx, j.store, registryKey)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		doc.Value.Schema = 1
		edit(&doc.Value)
		var change Change
		change.put(write{key: registryKey, etag: doc.ETag}, doc.Value)
		if err := j.store.direct(ctx, &change); !errors.Is(err, ErrConflict) {
			return err
		}
		if ctx.Err() != nil {
			return unavailable(ctx.Err())
		}
	}
}

// direct commits a change of the journal's own documents past the committer. It returns ErrConflict if a
// condition does not hold.
func (s *Store) direct(ctx context.Context, c *Change) error {
	if c.err != nil {
		return c.err
	}
	tx := &transaction{}
	tx.add(c.writes...)
	cause := s.execute(ctx, tx.ops)
	if cause == nil {
		return nil
	}
	now, err := s.read(ctx, tx.keys...)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(c.writes, func(w write) bool { return w.moved(now[w.key]) }) {
		return ErrConflict
	}
	return unavailable(cause)
}
