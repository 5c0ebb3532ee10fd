package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dapr/go-sdk/client"
)

// recoveryChunk is how many entries are read, or deleted, at once. An entry may hold as much as a batch does.
const recoveryChunk = 16

// scanChunk is how many entry numbers are looked at with one read. Most of them have no entry.
const scanChunk = 128

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
	var dispensable []int64
	for _, number := range entries {
		if number != last {
			dispensable = append(dispensable, number)
		}
	}
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

// fenceOff returns the numbers of a closed writer's entries, and the highest of them, and creates a fence under the
// number after it: the only one that the writer may have in flight.
func (s *Store) fenceOff(ctx context.Context, id string, doc writerDocument) (entries []int64, last int64, err error) {
	for {
		entries, err = s.findEntries(ctx, id, doc.From, doc.To)
		if err != nil {
			return nil, 0, err
		}
		last = doc.Next - 1
		if len(entries) > 0 {
			last = max(last, entries[len(entries)-1])
		}
		fence, err := fenceAt(id, last+1)
		if err != nil {
			return nil, 0, err
		}
		cause := s.execute(ctx, []*client.StateOperation{fence.operation()})
		if cause == nil {
			return entries, last, nil
		}
		// Perhaps the writer lives and was faster: then there is one more entry.
		items, err := s.read(ctx, fence.key)
		if err != nil {
			return nil, 0, err
		}
		if found := items[fence.key]; !found.exists() {
			return nil, 0, unavailable(fmt.Errorf("fence it off: %w", cause))
		}
	}
}

// findEntries returns the numbers of a writer's entries, lowest first.
func (s *Store) findEntries(ctx context.Context, id string, from, to int64) (entries []int64, err error) {
	for ; from < to; from += scanChunk {
		var keys []string
		for number := from; number < min(from+scanChunk, to); number++ {
			keys = append(keys, entryKey(id, number))
		}
		items, err := s.read(ctx, keys...)
		if err != nil {
			return nil, err
		}
		for i, key := range keys {
			if items[key].exists() {
				entries = append(entries, from+int64(i))
			}
		}
	}
	return entries, nil
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
	if err != nil {
		return err
	}
	body, err := json.Marshal(entryDocument{Schema: 1, Batch: doc.Value.Batch, Fence: true})
	if err != nil {
		return err
	}
	emptied := write{key: doc.Key, value: body, blind: true, ttl: fenceTime}
	return s.execute(ctx, []*client.StateOperation{emptied.operation()})
}
