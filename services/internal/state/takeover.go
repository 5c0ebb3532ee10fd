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

// recoveryChunk is how many entries are read, or deleted, at once. An entry may hold as much as a batch does.
const recoveryChunk = 16

// watch takes over from writers whose process is dead: at once from those that this instance registered before it
// started anew, and from others when they have not renewed their document for a lease. That time is measured here,
// from when this process first read a version of the document, so clocks need not agree.
func (s *Store) watch(ctx context.Context) {
	type version struct {
		etag  string
		since time.Time
	}
	seen := map[string]version{}
	for {
		doc, err := s.registered(ctx)
		if err != nil && ctx.Err() == nil {
			s.opts.Log.Warn("could not read who writes the journal; trying again", "error", err)
			clear(seen) // others could not renew either
		}
		maps.DeleteFunc(seen, func(id string, _ version) bool {
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
			own := items[writerKey(w.ID)]
			last, known := seen[w.ID]
			if !known || last.etag != own.etag {
				last = version{own.etag, time.Now()}
				seen[w.ID] = last
			}
			if w.Instance != s.opts.Instance && time.Since(last.since) <= s.opts.Lease {
				continue
			}
			if err := s.takeOver(ctx, w); err != nil && ctx.Err() == nil {
				s.opts.Log.Warn("could not take over from a dead writer; trying again", "writer", w.ID, "error", err)
				continue
			}
			delete(seen, w.ID)
		}
		if doc.Value.Legacy {
			s.watchLegacyWriters(ctx)
		}
		select {
		case <-time.After(s.opts.Lease / 3):
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) isOwn(id string) bool {
	return slices.ContainsFunc(s.writers, func(w *writer) bool { return *w.registration.Load() == id })
}

// takeOver closes a dead writer, makes sure that no transaction of it can succeed any more, publishes what its
// entries hold, deletes them, and removes the writer, whose partition is free then. It may be interrupted anywhere,
// and done again by anybody.
func (s *Store) takeOver(ctx context.Context, w registeredWriter) error {
	doc, err := Get[writerDocument](ctx, s, writerKey(w.ID))
	if errors.Is(err, ErrNotFound) {
		return s.unregister(ctx, w.ID) // somebody else has just done it
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
	// The last entry may be of a transaction whose outcome its writer, if it lives, does not know yet: a fence with the
	// same batch says that it happened.
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

// fenceOff makes sure that a closed writer's last transaction was its last: it creates a fence under the number after
// it, the only one that the writer may have in flight, unless an earlier takeover did. It returns the numbers of the
// writer's entries, fences left out, and the last number before the fence.
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
		// Perhaps the writer lives and was faster, or another takeover was: then the next search finds that.
		items, err := s.read(ctx, fence.key)
		if err != nil {
			return nil, 0, err
		}
		if !items[fence.key].exists() {
			return nil, 0, unavailable(fmt.Errorf("fence it off: %w", cause))
		}
	}
}

// foundEntries is what there is under a writer's numbers.
type foundEntries struct {
	entries []int64 // that are no fences, lowest first
	last    int64   // the highest number that the writer has used, as far as can be seen
	fenced  bool    // whether a takeover has put a fence under the number after last
}

// findEntries looks under all numbers that a closed writer has reserved, and the one after these, where a fence may be.
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
		var left []record
		for _, doc := range docs {
			for _, event := range doc.Value.Events {
				r, err := readRecord(event)
				if err != nil {
					return fmt.Errorf("%s: %w", doc.Key, err)
				}
				left = append(left, r)
			}
		}
		if len(left) == 0 {
			continue
		}
		s.opts.Log.Info("publishing what a dead writer left in the journal", "writer", w.ID, "instance", w.Instance, "events", len(left))
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
