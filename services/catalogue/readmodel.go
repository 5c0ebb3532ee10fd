package main

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"boxoffice/services/catalogue/feed"
	"boxoffice/services/catalogue/index"
	"boxoffice/services/catalogue/live"
	"boxoffice/services/internal/clock"
)

// readModel is what this replica makes of the change feed: the index for pages and searches, and the updates for live streams. It
// implements feed.Model.
type readModel struct {
	index *index.Index
	live  *live.Hub
	clock clock.Clock
	log   *slog.Logger

	// next is loaded in the place of the index, from Reset to Loaded. Until then clients get what the index had.
	next *index.Index
}

var _ feed.Model = (*readModel)(nil)

// Reset implements feed.Model.
func (m *readModel) Reset() {
	if m.next != nil {
		_ = m.next.Close() // what it has is of an epoch that has ended while it was loaded
	}
	next, err := index.New(m.clock)
	if err != nil { // there is no memory for an empty database
		panic(err)
	}
	m.next = next
}

// Load implements feed.Model.
func (m *readModel) Load(changes []index.Change) {
	into := m.index
	if m.next != nil {
		into = m.next
	}
	into.Apply(0, changes)
}

// flushTime bounds the time until all that was loaded can be searched.
const flushTime = time.Minute

// Loaded implements feed.Model.
func (m *readModel) Loaded(epoch string, batch uint64) {
	if m.next != nil {
		if err := m.index.Replace(m.next); err != nil {
			m.log.Warn("the database of an index that is no longer used could not be closed", "error", err)
		}
		m.next = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if err := m.index.Flush(ctx); err != nil {
		m.log.Error("texts of shows cannot be searched yet", "error", err)
	}
	m.live.Reset(epoch, batch)
}

// Apply implements feed.Model.
func (m *readModel) Apply(_ string, batch uint64, changes []index.Change) {
	m.live.Add(batch, m.index.Apply(batch, changes))
}

// Changes implements feed.Model.
func (m *readModel) Changes() iter.Seq[index.Change] {
	return func(yield func(index.Change) bool) {
		for chunk := range index.MaxChunks {
			for _, change := range m.index.Entries(chunk, index.MaxChunks) {
				if !yield(change) {
					return
				}
			}
		}
	}
}
