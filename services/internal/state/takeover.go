package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dapr/go-sdk/client"
)

// recoveryChunk is how many entries are read or deleted at once. An entry may hold the events of a whole batch.
const recoveryChunk = 16

// watch takes over from writers whose process has ended: at once from those that an earlier process of this instance has
// registered, and from others if they have not renewed their document for a lease.
func (s *Store) watch(ctx context.Context) {
	seen, seenLegacy := renewals{}, renewals{}
	for {
		doc, err := s.registered(ctx)
		if err != nil && ctx.Err() == nil {
			s.opts.Log.Warn("could not read the registry of the journal; trying again", "error", err)
			clear(seen) // others could not renew either
		}
		maps.DeleteFunc(seen, func(id string, _ renewal) bool {
			return !slices.ContainsFunc(doc.Value.Writers, func(w registeredWriter) bool { return w.ID == id })
		})
		for _, w := range doc.Value.Writers {
			if s.isOwn(w.ID) {
				continue
			}
			items, err := s.read(ctx, writerKey(w.ID))
			if err != nil {
				clear(seen)
				break
			}
			expired := seen.expired(w.ID, items[writerKey(w.ID)].etag, s.opts.Lease)
			if w.Instance != s.opts.Instance && !expired {
				continue
			}
			if err := s.takeOver(ctx, w); err != nil && ctx.Err() == nil {
				s.opts.Log.Warn("could not take over from a writer that has ended; trying again", "writer", w.ID, "error", err)
				continue
			}
			delete(seen, w.ID)
		}
		if doc.Value.Legacy {
			s.watchLegacyWriters(ctx, seenLegacy)
		}
		select {
		case <-time.After(s.opts.Lease / 3):
		case <-ctx.Done():
			return
		}
	}
}

// renewals has the last renewal of each writer that this process has seen. The times are those of this process's reads, so clocks
// need not agree.
type renewals map[string]renewal

type renewal struct {
	etag string // of the writer's document
	seen time.Time
}

// expired reports whether a writer's document has had this ETag for longer than a lease.
func (r renewals) expired(writer, etag string, lease time.Duration) bool {
	last, found := r[writer]
	if !found || last.etag != etag {
		last = renewal{etag, time.Now()}
		r[writer] = last
	}
	return time.Since(last.seen) > lease
}

func (s *Store) isOwn(id string) bool {
	return slices.ContainsFunc(s.writers, func(w *writer) bool { return *w.registration.Load() == id })
}

// takeOver closes a writer whose process has ended, makes sure that none of its transactions can succeed any more, publishes the
// events of its entries, deletes them, and unregisters the writer, which frees its partition. A takeover that was interrupted
// is repeated by any process.
func (s *Store) takeOver(ctx context.Context, w registeredWriter) error {
	doc, err := Get[writerDocument](ctx, s, writerKey(w.ID))
	if errors.Is(err, ErrNotFound) {
		return s.unregister(ctx, w.ID) // another process has just done it
	}
	if err != nil {
		return err
	}
	if !doc.Value.Closed {
		doc.Value.Closed = true
		var change Change
		change.Update(doc.Key, doc.ETag, doc.Value)
		if err := s.direct(ctx, &change); err != nil {
			return fmt.Errorf("close it: %w", err)
		}
	}
	entries, last, err := s.fenceOff(ctx, w.ID, doc.Value)
	if err != nil {
		return err
	}
	if err := s.publishEntries(ctx, w, entries); err != nil {
		return err
	}
	// If the writer still runs, it may not have the outcome of its last transaction yet. A fence with the same batch shows that
	// the transaction happened.
	dispensable := slices.DeleteFunc(slices.Clone(entries), func(number int64) bool { return number == last })
	if err := s.deleteEntries(ctx, w.ID, dispensable); err != nil {
		return err
	}
	if slices.Contains(entries, last) {
		if err := s.emptyEntry(ctx, w.ID, last); err != nil {
			return err
		}
	}
	return s.unregister(ctx, w.ID)
}

// fenceOff makes sure that a closed writer commits no further transaction: it creates a fence under the number after the last
// entry, the only number that the writer may have under way, unless an earlier takeover did. It returns the numbers of the
// writer's entries without fences, and the last number before the fence.
func (s *Store) fenceOff(ctx context.Context, id string, doc writerDocument) (entries []int64, last int64, err error) {
	for {
		found, err := s.findEntries(ctx, id, doc)
		if err != nil {
			return nil, 0, err
		}
		if found.fenced {
			return found.entries, found.last, nil
		}
		fence, err := fenceAt(id, found.last+1, "")
		if err != nil {
			return nil, 0, err
		}
		cause := s.execute(ctx, []*client.StateOperation{fence.operation()})
		if cause == nil {
			return found.entries, found.last, nil
		}
		// The writer, if it still runs, or another takeover may have been faster: then the next search finds that.
		items, err := s.read(ctx, fence.key)
		if err != nil {
			return nil, 0, err
		}
		if !items[fence.key].exists() {
			return nil, 0, unavailable(fmt.Errorf("fence it off: %w", cause))
		}
	}
}

// foundEntries are the entries under a writer's numbers.
type foundEntries struct {
	entries []int64 // numbers of entries that are no fences, lowest first
	last    int64   // the highest number that the writer is known to have used
	fenced  bool    // whether a takeover has created a fence under the number after last
}

// findEntries reads the entries under all numbers that a closed writer has reserved, and under the next one, where a fence may
// be.
func (s *Store) findEntries(ctx context.Context, id string, doc writerDocument) (found foundEntries, err error) {
	found.last = doc.Next - 1
	for from := doc.From; from <= doc.To; from += recoveryChunk {
		var keys []string
		for number := from; number < min(from+recoveryChunk, doc.To+1); number++ {
			keys = append(keys, entryKey(id, number))
		}
		items, err := s.read(ctx, keys...)
		if err != nil {
			return found, err
		}
		for i, key := range keys {
			if !items[key].exists() {
				continue
			}
			var entry entryDocument
			if err := unmarshal(key, items[key].value, &entry); err != nil {
				return found, err
			}
			number := from + int64(i)
			if entry.ofTakeover() {
				found.last, found.fenced = number-1, true
				return found, nil
			}
			found.last = max(found.last, number)
			if !entry.Fence || entry.Batch != "" {
				found.entries = append(found.entries, number)
			}
		}
	}
	return found, nil
}

func (s *Store) publishEntries(ctx context.Context, w registeredWriter, numbers []int64) error {
	for chunk := range slices.Chunk(numbers, recoveryChunk) {
		keys := make([]string, len(chunk))
		for i, number := range chunk {
			keys[i] = entryKey(w.ID, number)
		}
		docs, err := GetMany[entryDocument](ctx, s, keys)
		if err != nil {
			return err
		}
		left, err := recordsOf(docs)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			continue
		}
		s.opts.Log.Info("publishing the journal of a writer that has ended", "writer", w.ID, "instance", w.Instance, "events", len(left))
		if err := s.publisher.publishAll(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

// emptyEntry replaces an entry by a fence that names the same batch.
func (s *Store) emptyEntry(ctx context.Context, id string, number int64) error {
	doc, err := Get[entryDocument](ctx, s, entryKey(id, number))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || doc.Value.Fence {
		return err
	}
	body, err := json.Marshal(entryDocument{Schema: 1, Batch: doc.Value.Batch, Fence: true})
	if err != nil {
		return err
	}
	emptied := write{key: doc.Key, value: body, blind: true, ttl: fenceTime}
	return s.execute(ctx, []*client.StateOperation{emptied.operation()})
}
