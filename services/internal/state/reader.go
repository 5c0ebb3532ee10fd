package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// The reader lets reads that arrive at the same time share calls to the sidecar: while its calls are under way,
// the keys that are asked for gather, and the next call takes them together. A store answers one question for
// fifty documents many times as fast as fifty questions. With no load a read goes out at once, alone.
//
// A read never joins a call that has begun before it: a read after a commit sees it.

const (
	// readsAtOnce bounds the calls under way. More do not make it faster: Dapr's SQLite store keeps two
	// connections open and makes others anew each time.
	readsAtOnce = 2
	// maxReadKeys bounds the keys of one call, which a single read may exceed.
	maxReadKeys = 512
	// anchor is there as soon as this process has registered.
	anchor = registryKey
)

type reader struct {
	sidecar   Sidecar
	component string
	anchored  atomic.Bool // whether the anchor is there

	mu      sync.Mutex
	queue   []*sharedRead // not begun
	running int
}

// sharedRead is one call to the sidecar, for all who wait for done.
type sharedRead struct {
	keys  map[string]struct{}
	done  chan struct{}
	items map[string]item // set before done is closed, like err
	err   error
}

func newReader(sidecar Sidecar, component string) *reader {
	return &reader{sidecar: sidecar, component: component}
}

// read returns the items under keys; what does not exist is the zero item.
func (r *reader) read(ctx context.Context, keys []string) (map[string]item, error) {
	shared := r.join(keys)
	select {
	case <-shared.done:
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
	if shared.err != nil {
		return nil, unavailable(shared.err)
	}
	for _, key := range keys {
		if err := shared.items[key].err; err != nil {
			return nil, unavailable(fmt.Errorf("read %s: %w", key, err))
		}
	}
	return shared.items, nil
}

// join adds keys to a call that has not begun, and sees to it that somebody makes it.
func (r *reader) join(keys []string) *sharedRead {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.queue) - 1
	if last < 0 || len(r.queue[last].keys)+len(keys) > maxReadKeys {
		r.queue = append(r.queue, &sharedRead{keys: map[string]struct{}{}, done: make(chan struct{})})
		last++
	}
	for _, key := range keys {
		r.queue[last].keys[key] = struct{}{}
	}
	shared := r.queue[last]
	if r.running < readsAtOnce {
		r.running++
		go r.run()
	}
	return shared
}

// run makes calls until none is wanted. Each is bounded in time, so it ends.
func (r *reader) run() {
	// Handlers of one bulk of events read at the same moment: let those that are ready to run come first.
	runtime.Gosched()
	for {
		r.mu.Lock()
		if len(r.queue) == 0 {
			r.running--
			r.mu.Unlock()
			return
		}
		shared := r.queue[0]
		r.queue = slices.Delete(r.queue, 0, 1)
		r.mu.Unlock()
		shared.items, shared.err = r.call(shared.keys)
		close(shared.done)
	}
}

// call asks the sidecar: a plain read for one key, a bulk read for several, and plain ones for all until this process has
// registered. It belongs to nobody's request, for others may have joined.
func (r *reader) call(keys map[string]struct{}) (map[string]item, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	list := slices.Collect(maps.Keys(keys))
	if len(list) > 1 && r.anchored.Load() {
		return r.bulk(ctx, list)
	}
	items := make(map[string]item, len(list))
	for _, key := range list {
		found, err := r.sidecar.GetState(ctx, r.component, key, nil)
		if err != nil {
			return nil, err
		}
		items[key] = item{value: found.Value, etag: found.Etag}
	}
	return items, nil
}

// bulk makes a bulk read, and does not believe at once what it says is not there. Dapr 1.18's stores on PostgreSQL and
// SQLite go through the rows of an answer and do not ask whether it ended well (BulkGet, without rows.Err()): when the
// database goes away in that moment, what is missing looks as if it had never been. An event of an order that "is not
// there" would be refused for good, and a dead writer's journal would seem empty.
//
// So each bulk also asks for the anchor, a document that is there for certain: without it the answer broke off. It may
// have broken off behind the anchor, too. So what is missing is asked for once more: a database that is asked after
// that gets nothing at all from it, not even the anchor, or the truth.
func (r *reader) bulk(ctx context.Context, keys []string) (map[string]item, error) {
	items := make(map[string]item, len(keys)+1)
	for range 2 {
		asked := keys
		if !slices.Contains(asked, anchor) {
			asked = append(slices.Clip(asked), anchor)
		}
		delete(items, anchor)
		found, err := r.sidecar.GetBulkState(ctx, r.component, asked, nil, 16)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			it := item{value: f.Value, etag: f.Etag}
			if f.Error != "" {
				it.err = errors.New(f.Error)
			}
			items[f.Key] = it
		}
		if !items[anchor].exists() {
			return nil, errors.Join(errBrokeOff, items[anchor].err)
		}
		keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return items[key].exists() || items[key].err != nil })
		if len(keys) == 0 {
			break
		}
	}
	return items, nil
}

var errBrokeOff = errors.New("the store's answer broke off")
