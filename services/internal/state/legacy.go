package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dapr/go-sdk/client"
)

// This file takes over the journal of the earlier release, which had other documents:
//
//	journal/writers          its registry
//	journal/{writer}         a writer's document, rewritten under its ETag by each of its transactions
//	journal/{writer}/{slot}  the events of one transaction; the first n slots were in use
//
// Its processes may still run while this release is rolled out. They do not read the entries that writers of this release
// append to indexes, so their lists lack these entries until they are replaced.

const legacyRegistryKey = "journal/writers"

type legacyRegistry struct {
	Schema  int            `json:"schema"`
	Writers []legacyWriter `json:"writers"`
}

type legacyWriter struct {
	ID       string `json:"id"`
	Instance string `json:"instance"`
}

type legacyWriterDocument struct {
	Schema    int       `json:"schema"`
	Instance  string    `json:"instance"`
	Batch     string    `json:"batch"`
	RenewedAt time.Time `json:"renewedAt"`
	Closed    bool      `json:"closed"`
}

func legacySlotKey(writer string, slot int) string {
	return writerKey(writer) + "/" + strconv.Itoa(slot)
}

// hasLegacyWriters reports whether the earlier release has used this store.
func (s *Store) hasLegacyWriters(ctx context.Context) (bool, error) {
	_, err := Get[legacyRegistry](ctx, s, legacyRegistryKey)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// watchLegacyWriters takes over from writers of the earlier release, as watch does from those of this one.
func (s *Store) watchLegacyWriters(ctx context.Context, seen renewals) {
	registry, err := Get[legacyRegistry](ctx, s, legacyRegistryKey)
	if err != nil {
		return // it is read again soon
	}
	for _, w := range registry.Value.Writers {
		doc, err := Get[legacyWriterDocument](ctx, s, writerKey(w.ID))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return
		}
		if err == nil && w.Instance != s.opts.Instance && !seen.expired(w.ID, doc.ETag, s.opts.Lease) {
			continue
		}
		if err := s.takeOverLegacy(ctx, w, doc); err != nil && ctx.Err() == nil {
			s.opts.Log.Warn("could not take over from a writer of the earlier release; trying again", "writer", w.ID, "error", err)
		}
	}
}

// takeOverLegacy closes a writer of the earlier release, publishes the events of its slots, and removes it. A closed writer
// commits nothing, because each of its transactions has the ETag of its document as a condition.
func (s *Store) takeOverLegacy(ctx context.Context, w legacyWriter, doc Doc[legacyWriterDocument]) error {
	if doc.ETag != "" && !doc.Value.Closed {
		doc.Value.Closed = true
		var change Change
		change.Update(doc.Key, doc.ETag, doc.Value)
		if err := s.direct(ctx, &change); err != nil {
			return fmt.Errorf("close it: %w", err)
		}
	}
	slots, err := s.publishLegacySlots(ctx, w)
	if err != nil {
		return err
	}
	// From the highest slot on: the search begins at the lowest and ends at the first gap. So after an interruption, the next
	// search finds all remaining slots.
	for to := slots; to > 0; to -= recoveryChunk {
		var ops []*client.StateOperation
		for slot := to - recoveryChunk; slot < to; slot++ {
			ops = append(ops, removal(legacySlotKey(w.ID, slot)))
		}
		if err := s.execute(ctx, ops); err != nil {
			return fmt.Errorf("remove its slots: %w", err)
		}
	}
	for {
		registry, err := Get[legacyRegistry](ctx, s, legacyRegistryKey)
		if err != nil {
			return err
		}
		registry.Value.Writers = slices.DeleteFunc(registry.Value.Writers, func(other legacyWriter) bool { return other.ID == w.ID })
		var change Change
		change.Update(registry.Key, registry.ETag, registry.Value)
		change.add(write{key: writerKey(w.ID), delete: true, blind: true})
		if err := s.direct(ctx, &change); !errors.Is(err, ErrConflict) {
			return err
		}
		if ctx.Err() != nil {
			return unavailable(ctx.Err())
		}
	}
}

// publishLegacySlots publishes the events in a writer's slots, and returns how many slots it has read.
func (s *Store) publishLegacySlots(ctx context.Context, w legacyWriter) (slots int, err error) {
	var left []record
	for found := true; found; slots += recoveryChunk {
		keys := make([]string, recoveryChunk)
		for i := range keys {
			keys[i] = legacySlotKey(w.ID, slots+i)
		}
		docs, err := GetMany[entryDocument](ctx, s, keys) // a slot has the same members
		if err != nil {
			return 0, err
		}
		found = len(docs) > 0
		records, err := recordsOf(docs)
		if err != nil {
			return 0, err
		}
		left = append(left, records...)
	}
	if len(left) > 0 {
		s.opts.Log.Info("publishing the journal of a writer of the earlier release", "writer", w.ID, "events", len(left))
	}
	return slots, s.publisher.publishAll(ctx, left)
}
