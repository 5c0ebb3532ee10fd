package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"boxoffice/services/internal/state"
)

// This file makes snapshots, and deletes the batches and snapshots that are old.

const (
	// CompactEvery is how often the job compacts the feed, in one replica.
	CompactEvery = time.Minute
	// keepBatches is how long a batch is kept that a snapshot has: a replica that was away for less follows on. mostKept bounds how many.
	keepBatches = 10 * time.Minute
	mostKept    = 65536
	// A snapshot is made when the batches after the last one have as many changes as half of its own, and at least smallSnapshot; or
	// when they are longFeed. So making snapshots costs no more than a multiple of the changes, and a start loads no more than a half in
	// addition.
	smallSnapshot = 20_000
	longFeed      = 32768
	// chunkBytes bounds a chunk.
	chunkBytes = 256 << 10
	// announced is how many chunks are noted in the manifest before they are written, so that they can be deleted if this process ends.
	announced = 64
	// buildTime is after how long a snapshot that is not complete counts as given up.
	buildTime = 10 * time.Minute
	// discardAfter is how long the chunks of an old snapshot are kept for replicas that load it.
	discardAfter = time.Minute
	// deleteAtOnce bounds the documents that one transaction deletes.
	deleteAtOnce = 128
)

// Compact lets this replica compact the feed soon. It does not block.
func (f *Feed) Compact(context.Context) error {
	select {
	case f.compact <- struct{}{}:
	default:
	}
	return nil
}

func (f *Feed) compactWhenDue(ctx context.Context) {
	for {
		select {
		case <-f.compact:
		case <-ctx.Done():
			return
		}
		if err := f.compactNow(ctx, false); err != nil && ctx.Err() == nil {
			f.log.Warn("could not compact the change feed; the next job tries again", "error", err)
		}
	}
}

// compactNow deletes what is old, and makes a snapshot if one is due, or always.
func (f *Feed) compactNow(ctx context.Context, always bool) error {
	at := f.current()
	if !at.loaded {
		return nil
	}
	contents, err := state.Get[manifest](ctx, f.store, manifestKey)
	if err != nil {
		return err
	}
	if contents.Value.Epoch != at.epoch {
		return nil
	}
	f.metrics.snapshotAt.Store(contents.Value.MadeAt.UnixMilli())
	if err := f.deleteOld(ctx, at); err != nil {
		return err
	}
	if !always && !f.snapshotDue(contents.Value) {
		return nil
	}
	return f.makeSnapshot(ctx)
}

// snapshotDue reports whether the feed after the snapshot is so long that another one is worth its cost.
func (f *Feed) snapshotDue(m manifest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.position
	if m.Position > p.from && p.batch > p.from { // another replica has made it: the changes since then are an estimate
		p.changes = int(float64(p.changes) * float64(max(p.batch, m.Position)-m.Position) / float64(p.batch-p.from))
		p.from = m.Position
	}
	if p.batch <= m.Position {
		return false
	}
	return p.changes >= max(smallSnapshot, m.Entries/2) || p.batch-m.Position >= longFeed
}

// deleteOld deletes the batches that are old and in the snapshot, and the chunks of snapshots that do not count any more.
func (f *Feed) deleteOld(ctx context.Context, at position) error {
	now := f.now()
	m, err := f.modifyManifest(ctx, at.epoch, func(m *manifest) (bool, error) {
		changed := m.age(now, at.batch)
		if m.Building != nil && now.Sub(m.Building.BegunAt) > buildTime {
			m.Discarded = append(m.Discarded, discarded{m.Building.Snapshot, m.Building.Chunks, now})
			m.Building = nil
			changed = true
		}
		return changed, nil
	})
	if err != nil {
		return err
	}
	for m.Oldest < m.First {
		var change state.Change
		for range deleteAtOnce {
			if m.Oldest == m.First {
				break
			}
			change.Remove(batchKey(m.Oldest))
			m.Oldest++
		}
		if err := f.store.Commit(ctx, &change); err != nil {
			return fmt.Errorf("delete old batches: %w", err)
		}
	}
	deleted := map[uint64]bool{}
	for _, d := range m.Discarded {
		if now.Sub(d.At) < discardAfter {
			continue
		}
		for from := 0; from < d.Chunks; from += deleteAtOnce {
			var change state.Change
			for number := from; number < min(from+deleteAtOnce, d.Chunks); number++ {
				change.Remove(chunkKey(d.Snapshot, number))
			}
			if err := f.store.Commit(ctx, &change); err != nil {
				return fmt.Errorf("delete an old snapshot: %w", err)
			}
		}
		deleted[d.Snapshot] = true
	}
	oldest := m.Oldest
	_, err = f.modifyManifest(ctx, at.epoch, func(m *manifest) (bool, error) {
		left := m.Discarded[:0:0]
		for _, d := range m.Discarded {
			if !deleted[d.Snapshot] {
				left = append(left, d)
			}
		}
		changed := len(left) < len(m.Discarded) || oldest > m.Oldest
		m.Discarded, m.Oldest = left, max(m.Oldest, oldest)
		return changed, nil
	})
	return err
}

// age notes the end of the feed at a time, and moves First to the first batch that is not old. It reports whether anything has changed.
func (m *manifest) age(now time.Time, last uint64) (changed bool) {
	if n := len(m.Marks); n == 0 || m.Marks[n-1].Last < last {
		m.Marks = append(m.Marks, mark{now, last})
		changed = true
	}
	first := m.First
	for len(m.Marks) > 0 && now.Sub(m.Marks[0].At) >= keepBatches && m.Marks[0].Last <= m.Position {
		first = max(first, m.Marks[0].Last+1)
		m.Marks = m.Marks[1:]
		changed = true
	}
	if last > mostKept {
		first = max(first, last-mostKept)
	}
	first = min(first, m.Position+1)
	if first > m.First {
		m.First, changed = first, true
	}
	return changed
}

// errOvertaken means that a snapshot that this replica makes is not needed any more.
var errOvertaken = errors.New("another replica makes a snapshot, or the feed has begun anew")

// modifyManifest changes the manifest, if the epoch is still the given one.
func (f *Feed) modifyManifest(ctx context.Context, epoch string, modify func(m *manifest) (bool, error)) (manifest, error) {
	return state.Modify(ctx, f.store, manifestKey, func(m *manifest, _ *state.Change) (bool, error) {
		if m.Epoch != epoch {
			return false, errOvertaken
		}
		return modify(m)
	})
}

// makeSnapshot writes the model into chunks and lets them count. If this process ends before, another one deletes them.
func (f *Feed) makeSnapshot(ctx context.Context) error {
	began := time.Now()
	at := f.current()
	var number uint64
	_, err := f.modifyManifest(ctx, at.epoch, func(m *manifest) (bool, error) {
		// A replica that is behind would make a snapshot that lacks batches which are deleted already.
		if m.Building != nil || at.batch < m.Position {
			return false, errOvertaken
		}
		m.Numbered++
		number = m.Numbered
		m.Building = &building{Snapshot: number, Chunks: announced, Instance: f.store.Instance(), BegunAt: f.now()}
		return true, nil
	})
	if errors.Is(err, errOvertaken) {
		return nil
	}
	if err != nil {
		return err
	}
	w := chunkWriter{feed: f, epoch: at.epoch, snapshot: number, announced: announced}
	err = w.write(ctx)
	if err == nil {
		until, stable := f.reachedSince(at)
		if !stable {
			err = errOvertaken
		} else {
			err = w.finish(ctx, at.batch, until)
		}
	}
	if err != nil {
		w.giveUp(ctx)
		if errors.Is(err, errOvertaken) {
			return nil
		}
		return err
	}
	f.metrics.snapshots.Inc()
	f.metrics.snapshotAt.Store(f.now().UnixMilli())
	f.mu.Lock()
	if f.position.epoch == at.epoch && f.position.loads == at.loads {
		f.position.from = at.batch
		f.position.changes -= at.changes
	}
	f.mu.Unlock()
	f.log.Info("made a snapshot of the change feed", "batch", at.batch, "changes", w.entries, "chunks", w.chunks, "took", time.Since(began).Round(time.Millisecond).String())
	return nil
}

// reachedSince returns the last batch whose changes the model has, if the model was not loaded again meanwhile.
func (f *Feed) reachedSince(at position) (batch uint64, stable bool) {
	f.applying.Lock()
	defer f.applying.Unlock()
	now := f.current()
	return now.batch, now.loaded && now.loads == at.loads && now.epoch == at.epoch
}

// chunkWriter writes the chunks of one snapshot.
type chunkWriter struct {
	feed      *Feed
	epoch     string
	snapshot  uint64
	announced int // chunks that the manifest allows for

	entries int
	chunks  int
	changes [][]byte
	bytes   int
}

func (w *chunkWriter) write(ctx context.Context) error {
	for change := range w.feed.model.Changes() {
		encoded, err := encode(change)
		if err != nil {
			return err
		}
		if w.bytes > 0 && w.bytes+len(encoded) > chunkBytes {
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
		w.changes = append(w.changes, encoded)
		w.bytes += len(encoded)
		w.entries++
	}
	if len(w.changes) == 0 {
		return nil
	}
	return w.flush(ctx)
}

// flush writes a chunk. Then it pauses for as long as that took, so that appends and requests have the store for half of the time.
func (w *chunkWriter) flush(ctx context.Context) error {
	began := time.Now()
	if w.chunks == w.announced {
		w.announced += announced
		if err := w.modify(ctx, func(m *manifest) { m.Building.Chunks = w.announced }); err != nil {
			return err
		}
	}
	var change state.Change
	change.Insert(chunkKey(w.snapshot, w.chunks), encodeChunk(w.changes))
	if err := w.feed.store.Commit(ctx, &change); err != nil {
		return fmt.Errorf("write a chunk of a snapshot: %w", err)
	}
	w.chunks++
	w.changes, w.bytes = w.changes[:0], 0
	sleep(ctx, time.Since(began))
	return ctx.Err()
}

// modify changes the manifest, if the snapshot is still being made.
func (w *chunkWriter) modify(ctx context.Context, modify func(m *manifest)) error {
	_, err := w.feed.modifyManifest(ctx, w.epoch, func(m *manifest) (bool, error) {
		if m.Building == nil || m.Building.Snapshot != w.snapshot {
			return false, errOvertaken
		}
		modify(m)
		return true, nil
	})
	return err
}

// finish lets the snapshot count.
func (w *chunkWriter) finish(ctx context.Context, position, until uint64) error {
	now := w.feed.now()
	return w.modify(ctx, func(m *manifest) {
		m.Building = nil
		m.discard(now)
		m.Snapshot, m.Chunks, m.Entries = w.snapshot, w.chunks, w.entries
		m.Position, m.Until, m.MadeAt = position, until, now
	})
}

// giveUp lets the next compaction delete the chunks. If that fails, a later one does it.
func (w *chunkWriter) giveUp(ctx context.Context) {
	now := w.feed.now()
	_ = w.modify(ctx, func(m *manifest) {
		m.Discarded = append(m.Discarded, discarded{m.Building.Snapshot, m.Building.Chunks, now})
		m.Building = nil
	})
}
