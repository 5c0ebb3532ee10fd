package feed

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"boxoffice/services/internal/state"
)

// This file loads the feed and follows it: it applies every batch once, in order.

const (
	// chunksAtOnce is how many chunks are read together, and loaders how many such reads are under way. The state package may make one call
	// of all of them, whose response has to be smaller than 4 MB: otherwise the sidecar refuses it.
	chunksAtOnce = 2
	loaders      = 4
	// firstBatches is how many batches are read with one call at first, and mostBatches at most. While calls bring little, more are read.
	firstBatches = 8
	mostBatches  = 256
	enoughBytes  = 512 << 10
)

// newEpoch makes the id of an epoch. It has no hyphen, because positions have the form EPOCH-BATCH-NUMBER.
func newEpoch() string { return strings.ReplaceAll(uuid.NewString(), "-", "")[:12] }

// load loads the snapshot and the batches that it may have. The feed is created if there is none.
func (f *Feed) load(ctx context.Context) error {
	end, contents, err := f.documents(ctx)
	if err != nil {
		return err
	}
	if end.ETag == "" || contents.ETag == "" {
		return f.begin(ctx, end, contents)
	}
	if end.Value.Epoch != contents.Value.Epoch {
		return errAgain // read between two commits
	}
	began := time.Now()
	known := f.current()
	m := contents.Value
	// Within an epoch, this replica was too slow: what is loaded is newer than what it has.
	if f.inModel != "" && f.inModel != m.Epoch {
		f.model.Reset()
	}
	f.inModel = m.Epoch
	if err := f.loadChunks(ctx, m); err != nil {
		return err
	}
	f.metrics.snapshotAt.Store(m.MadeAt.UnixMilli())
	to := position{epoch: m.Epoch, batch: m.Position, from: m.Position, loads: known.loads + 1}
	for to.batch < m.Until {
		number := to.batch + 1
		docs, err := f.batches(ctx, number, min(m.Until, number+firstBatches-1))
		if err != nil {
			return err
		}
		for _, doc := range docs {
			to.batch++
			if doc == nil {
				if err := f.changed(ctx, m); err != nil {
					return err
				}
				f.lost("batches", 1, "batch", to.batch)
				to.id = ""
				continue
			}
			f.model.Load(doc.Changes)
			to.changes += len(doc.Changes)
			to.id = doc.ID
			f.committed(doc.ID)
		}
	}
	to.loaded = true
	f.mu.Lock()
	f.position = to
	f.mu.Unlock()
	f.model.Loaded(to.epoch, to.batch)
	f.metrics.loads.Inc()
	f.log.Info("loaded the snapshot of the change feed", "epoch", to.epoch, "batch", to.batch, "changes", m.Entries, "behind", end.Value.Last-to.batch, "took", time.Since(began).Round(time.Millisecond).String())
	return nil
}

// documents reads head and manifest. One that does not exist has no ETag.
func (f *Feed) documents(ctx context.Context) (state.Doc[head], state.Doc[manifest], error) {
	return state.GetBoth[head, manifest](ctx, f.store, headKey, manifestKey)
}

// loadChunks loads the chunks of the snapshot, in parallel.
func (f *Feed) loadChunks(ctx context.Context, m manifest) error {
	loading, ctx := errgroup.WithContext(ctx)
	loading.SetLimit(loaders)
	for from := 0; from < m.Chunks; from += chunksAtOnce {
		var keys []string
		for number := from; number < min(from+chunksAtOnce, m.Chunks); number++ {
			keys = append(keys, chunkKey(m.Snapshot, number))
		}
		loading.Go(func() error {
			docs, err := state.GetMany[chunk](ctx, f.store, keys)
			if err != nil {
				return err
			}
			for _, doc := range docs {
				f.model.Load(doc.Value.Changes)
			}
			if lost := len(keys) - len(docs); lost > 0 {
				if err := f.changed(ctx, m); err != nil {
					return err
				}
				f.lost("chunks", lost, "snapshot", m.Snapshot)
			}
			return nil
		})
	}
	return loading.Wait()
}

// changed returns errAgain if there is another snapshot by now, or another epoch. Then another replica has deleted what does not exist.
// Otherwise the store has lost it, and the rest is loaded.
func (f *Feed) changed(ctx context.Context, m manifest) error {
	now, err := state.Get[manifest](ctx, f.store, manifestKey)
	if err != nil {
		return err
	}
	if now.Value.Snapshot != m.Snapshot || now.Value.Epoch != m.Epoch {
		return errAgain
	}
	return nil
}

// lost reports that the state store has lost documents.
func (f *Feed) lost(of string, n int, args ...any) {
	f.metrics.lost.WithLabelValues(of).Add(float64(n))
	f.log.Error("the state store has lost a part of the change feed; run `catalogue rebuild`, then `tickets republish`", append([]any{"of", of, "lost", n}, args...)...)
}

// begin creates head and manifest, or the one that is missing, with a new epoch.
func (f *Feed) begin(ctx context.Context, end state.Doc[head], contents state.Doc[manifest]) error {
	if end.ETag != "" || contents.ETag != "" || f.current().epoch != "" {
		f.lost("head", 1)
	}
	last := max(end.Value.Last, contents.Value.Until, f.current().batch)
	h := head{Schema: 1, Epoch: newEpoch(), Last: last, ID: end.Value.ID}
	m := contents.Value
	m.Schema, m.Epoch = 1, h.Epoch
	if end.ETag == "" { // batches after the snapshot are not read, because the numbers of some are not certain
		m.First, m.Position, m.Until = last+1, last, last
		m.Marks = nil
	} else if contents.ETag == "" { // what was before the first batch that exists is lost
		m.First = end.Value.Last + 1
		m.Position, m.Until = end.Value.Last, end.Value.Last
	}
	if m.Oldest == 0 {
		m.Oldest = m.First
	}
	var change state.Change
	change.Put(headKey, end.ETag, h)
	change.Put(manifestKey, contents.ETag, m)
	if err := f.store.Commit(ctx, &change); err != nil {
		return err
	}
	return f.load(ctx)
}

// follow applies the batches up to the end of the feed, and returns the head.
func (f *Feed) follow(ctx context.Context) (state.Doc[head], error) {
	for atOnce := firstBatches; ; {
		end, err := state.Get[head](ctx, f.store, headKey)
		if errors.Is(err, state.ErrNotFound) {
			return end, f.reload(ctx)
		}
		if err != nil {
			return end, err
		}
		at := f.current()
		switch {
		case end.Value.Epoch != at.epoch:
			f.log.Info("the change feed has begun anew", "epoch", end.Value.Epoch)
			return end, f.reload(ctx)
		case end.Value.Last < at.batch || end.Value.Last == at.batch && at.id != "" && end.Value.ID != at.id:
			return end, f.diverged(ctx, end, at)
		case end.Value.Last == at.batch:
			f.reachedEnd(end.Value.Last)
			return end, nil
		}
		f.metrics.head.Store(end.Value.Last)
		for f.current().batch < end.Value.Last {
			if atOnce, err = f.applySome(ctx, end, atOnce); err != nil {
				return end, err
			}
		}
	}
}

// applySome reads the next batches with one call, at most atOnce of them, and applies them. It returns how many the next call is to read:
// more while calls bring little.
func (f *Feed) applySome(ctx context.Context, end state.Doc[head], atOnce int) (next int, err error) {
	first := f.current().batch + 1
	docs, err := f.batches(ctx, first, min(end.Value.Last, first+uint64(atOnce)-1))
	if err != nil && atOnce > 1 && ctx.Err() == nil { // perhaps they are too large for one message
		return 1, nil
	}
	if err != nil {
		return atOnce, err
	}
	size := 0
	for i, doc := range docs {
		if err := f.applyNext(ctx, end, first+uint64(i), doc); err != nil {
			return atOnce, err
		}
		if doc != nil {
			size += doc.size()
		}
	}
	switch {
	case size < enoughBytes && len(docs) == atOnce:
		return min(2*atOnce, mostBatches), nil
	case size > 2*enoughBytes:
		return max(atOnce/2, 1), nil
	}
	return atOnce, nil
}

// applyNext applies the next batch; nil is one that does not exist.
func (f *Feed) applyNext(ctx context.Context, end state.Doc[head], number uint64, doc *batch) error {
	if doc == nil {
		if err := f.missing(ctx, number); err != nil {
			return err
		}
		f.skip(number)
		return nil
	}
	if at := f.current(); at.id != "" && doc.After != at.id {
		return f.diverged(ctx, end, at)
	}
	if f.inFlight == nil || f.inFlight.id != doc.ID {
		f.metrics.delay.Observe(max(0, f.now().Sub(doc.At)).Seconds())
	}
	f.apply(number, doc.ID, doc.Changes)
	return nil
}

// size is about the number of bytes of a batch. Changes of shows are larger, but rare.
func (b *batch) size() int { return 300 * len(b.Changes) }

// batches reads batches. Those that do not exist are nil.
func (f *Feed) batches(ctx context.Context, from, to uint64) ([]*batch, error) {
	keys := make([]string, 0, to-from+1)
	for number := from; number <= to; number++ {
		keys = append(keys, batchKey(number))
	}
	docs, err := state.GetMany[batch](ctx, f.store, keys)
	if err != nil {
		return nil, err
	}
	all := make([]*batch, len(keys))
	for i, next := 0, 0; i < len(keys) && next < len(docs); i++ {
		if docs[next].Key == keys[i] {
			all[i] = &docs[next].Value
			next++
		}
	}
	return all, nil
}

// reload loads the feed again: this replica cannot follow it any more. The caller then follows from the beginning.
func (f *Feed) reload(ctx context.Context) error {
	f.mu.Lock()
	f.position.loaded = false
	f.mu.Unlock()
	f.metrics.reloads.Inc()
	if err := f.load(ctx); err != nil {
		return err
	}
	return errAgain // the head has to be read again
}

// missing is called when a batch does not exist although the head is after it. If it was deleted because it is in the snapshot, this
// replica was too slow and loads the feed again. Otherwise the state store has lost the batch: it is skipped.
func (f *Feed) missing(ctx context.Context, number uint64) error {
	end, contents, err := f.documents(ctx)
	if err != nil {
		return err
	}
	if end.Value.Epoch != f.current().epoch || contents.Value.Epoch != end.Value.Epoch || contents.Value.First > number || end.Value.Last < number {
		return f.reload(ctx)
	}
	return nil
}

func (f *Feed) skip(number uint64) {
	f.lost("batches", 1, "batch", number)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.position.batch, f.position.id = number, ""
}

// diverged is called when the feed is not the one that this replica has followed: the store was restored from a backup. A new epoch
// begins, so that every replica loads what the store has, and positions that are void are recognized.
func (f *Feed) diverged(ctx context.Context, end state.Doc[head], at position) error {
	contents, err := state.Get[manifest](ctx, f.store, manifestKey)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	h, m := end.Value, contents.Value
	h.Epoch = newEpoch()
	m.Schema, m.Epoch = 1, h.Epoch
	var change state.Change
	change.Update(headKey, end.ETag, h)
	change.Put(manifestKey, contents.ETag, m)
	if err := f.store.Commit(ctx, &change); err != nil {
		return err
	}
	f.metrics.lost.WithLabelValues("restored").Inc()
	f.log.Error("the change feed is not the one that was followed: the store was restored from a backup; run `catalogue rebuild`, then `tickets republish`",
		"batch", at.batch, "last", end.Value.Last)
	return f.reload(ctx)
}
