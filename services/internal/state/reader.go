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

// The reader lets reads that arrive at the same time share calls to the sidecar. While its calls are under way, it collects keys,
// and the next call reads all of them. A store reads fifty documents in one call many times as fast as in fifty calls. Without
// load a read is made at once, alone.
//
// A read never joins a call that has begun before it, so a read after a commit returns what was committed.

const (
	// readsAtOnce bounds the calls under way. More are not faster: Dapr's SQLite store keeps two connections open, and opens
	// others for each call.
	readsAtOnce = 2
	// maxReadKeys bounds the keys of one call, which a single read may exceed.
	maxReadKeys = 512
	// anchor is the key of a document that exists once this process has registered.
	anchor = registryKey
)

type reader struct {
	sidecar   Sidecar
	component string
	anchored  atomic.Bool // whether the anchor exists

	mu      sync.Mutex
	queue   []*sharedRead // calls that have not begun
	running int
}

// sharedRead is one call to the sidecar, for all readers that wait for done.
type sharedRead struct {
	keys  map[string]struct{}
	done  chan struct{}
	items map[string]item // set before done is closed, like err
	err   error
}

func newReader(sidecar Sidecar, component string) *reader {
	return &reader{sidecar: sidecar, component: component}
}

// read returns the items under keys. A document that does not exist is the zero item.
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

// join adds keys to a call that has not begun, and starts a goroutine that makes it if necessary.
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

// run makes calls until the queue is empty. Each has a deadline.
func (r *reader) run() {
	// Handlers of one bulk of events read at the same moment. Let them run first, so that they share a call.
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

// call makes a plain read for one key, and a bulk read for several. Until this process has registered, all reads are plain. The
// call has its own deadline, not that of a request, because several requests may share it.
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

// bulk makes a bulk read, and reads missing documents twice. Dapr 1.18's stores on PostgreSQL and SQLite do not check whether
// the rows ended with an error (BulkGet, without rows.Err()). If the database fails in that moment, the remaining documents
// seem not to exist. Then an event of such an order would be refused for ever, and a dead writer's journal would seem empty.
//
// So each bulk read also reads the anchor, a document that certainly exists. Without it in the response, the read was
// incomplete. The read may also have ended after the anchor. So the missing documents are read once more: a second read of
// a failed database returns nothing, not even the anchor, and otherwise its result is true.
func (r *reader) bulk(ctx context.Context, keys []string) (map[string]item, error) {
	items := make(map[string]item, len(keys)+1)
	for range 2 {
		withAnchor := keys
		if !slices.Contains(withAnchor, anchor) {
			withAnchor = append(slices.Clip(withAnchor), anchor)
		}
		delete(items, anchor)
		found, err := r.sidecar.GetBulkState(ctx, r.component, withAnchor, nil, 16)
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
			return nil, errors.Join(errIncomplete, items[anchor].err)
		}
		keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return items[key].exists() || items[key].err != nil })
		if len(keys) == 0 {
			break
		}
	}
	return items, nil
}

var errIncomplete = errors.New("the store's response was incomplete")
