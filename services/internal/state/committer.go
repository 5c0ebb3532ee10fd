package state

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"boxoffice/services/internal/problem"
)

// The committer queues changes until a writer (writer.go) takes them as a batch. While transactions are under way, changes
// wait. The next transaction takes all of them that write different documents, up to a limit. So under load a transaction
// has dozens of changes, which a store commits several times as fast as one by one. Without load a change is committed at once,
// alone.

const (
	maxBatchChanges = 64
	maxBatchBytes   = 512 << 10
	// batchAttempts bounds the tries of a batch that fails although all its conditions hold.
	batchAttempts = 3
)

// request is a change in the committer.
type request struct {
	ctx    context.Context
	change *Change
	done   chan error // buffered: a writer never waits for a caller
}

func (r *request) finish(err error) { r.done <- err }

func finishAll(batch []*request, err error) {
	for _, r := range batch {
		r.finish(err)
	}
}

type committer struct {
	store   *Store
	metrics *metrics

	wake    chan struct{} // holds a token while there may be changes for one more writer
	closing chan struct{} // closed by close
	idle    chan struct{} // closed when all writers have ended

	mu       sync.Mutex
	waiting  []*request
	inFlight map[string]struct{} // the keys of the batches that writers have taken
	replaced *simplelru.LRU[version, struct{}]
}

func newCommitter(s *Store, m *metrics, writers int) *committer {
	replaced, err := simplelru.NewLRU[version, struct{}](replacedVersions, nil)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &committer{
		store:    s,
		metrics:  m,
		wake:     make(chan struct{}, writers),
		closing:  make(chan struct{}),
		idle:     make(chan struct{}),
		inFlight: map[string]struct{}{},
		replaced: replaced,
	}
}

// run runs the writers until close was called and nothing is left, or ctx ends.
func (c *committer) run(ctx context.Context, writers []*writer) {
	defer close(c.idle)
	var working sync.WaitGroup
	for _, w := range writers {
		working.Go(func() { w.run(ctx) })
	}
	working.Wait()
}

// submit queues a change and waits for its outcome.
func (c *committer) submit(ctx context.Context, change *Change) error {
	select {
	case <-c.closing:
		return problem.New(problem.Unavailable, "unavailable", "The service is shutting down. Nothing was changed: send the same request again.").WithRetryAfter(time.Second)
	default:
	}
	if len(change.records) > 0 && c.store.publisher.full() {
		return busy()
	}
	own := *change // the caller may reuse its variable as soon as it has the outcome, while a writer still reads the change
	r := &request{ctx: ctx, change: &own, done: make(chan error, 1)}
	c.mu.Lock()
	if len(c.waiting) >= queueLength {
		c.mu.Unlock()
		return unavailable(errors.New("too many changes wait for the store"))
	}
	c.waiting = append(c.waiting, r)
	c.mu.Unlock()
	c.signal()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return c.abandon(r, ctx.Err())
	case <-c.idle:
		return c.abandon(r, errors.New("the service is shutting down"))
	}
}

// abandon ends a request whose caller no longer waits, because of cause. It returns the outcome if there is one by now. A change
// that still waits is withdrawn, so it is certain that it is not committed. A writer may commit any other.
func (c *committer) abandon(r *request, cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case err := <-r.done:
		return err
	default:
	}
	if i := slices.Index(c.waiting, r); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return unavailable(fmt.Errorf("no transaction had place for the change: %w", cause))
	}
	return outcomeUnknown(cause)
}

func (c *committer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// close makes submit refuse changes. Those that were accepted before are still committed.
func (c *committer) close() { close(c.closing) }

// wait returns when everything accepted before close has its outcome.
func (c *committer) wait(ctx context.Context) error {
	select {
	case <-c.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await returns when a writer may find changes, or must renew its lease. It reports whether more may come.
func (c *committer) await(ctx context.Context, renewAt time.Time) bool {
	renewal := time.NewTimer(time.Until(renewAt))
	defer renewal.Stop()
	select {
	case <-c.wake:
		// Handlers of one bulk of events submit at the same moment. Let them run first, so that their changes share a
		// transaction.
		runtime.Gosched()
	case <-renewal.C:
	case <-c.closing:
		if c.empty() {
			return false
		}
		// Changes that wait are new, or write documents of a batch that another writer commits.
		select {
		case <-c.wake:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	case <-ctx.Done():
		return false
	}
	return true
}

func (c *committer) empty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) == 0
}

// take removes from the queue the changes that can share a transaction, oldest first. The caller must call finished afterwards.
// take refuses changes that are certain to fail, without a call to the store: of a hundred changes that were decided on the same
// version of a document, the first is tried, and the others are refused as soon as it has succeeded.
func (c *committer) take() []*request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var batch, left []*request
	var bytes int
	for i, r := range c.waiting {
		if len(batch) == maxBatchChanges || bytes > maxBatchBytes {
			left = append(left, c.waiting[i:]...)
			break
		}
		switch {
		case r.ctx.Err() != nil:
			r.finish(unavailable(r.ctx.Err()))
		case c.stale(r.change):
			c.metrics.conflicts.Inc()
			r.finish(ErrConflict)
		case slices.ContainsFunc(r.change.writes, func(w write) bool { _, taken := c.inFlight[w.key]; return taken }):
			left = append(left, r)
		default:
			for _, w := range r.change.writes {
				c.inFlight[w.key] = struct{}{}
			}
			bytes += r.change.size()
			batch = append(batch, r)
		}
	}
	c.waiting = left
	if len(left) > 0 && len(batch) > 0 {
		c.signal() // for another writer
	}
	return batch
}

// finished ends the batch: other writers may write its documents.
func (c *committer) finished(batch []*request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range batch {
		for _, w := range r.change.writes {
			delete(c.inFlight, w.key)
		}
	}
	if len(c.waiting) > 0 {
		c.signal()
	}
}

// conflicts returns the requests whose conditions do not hold for the documents as they are now.
func (c *committer) conflicts(batch []*request, now map[string]item) map[*request]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	conflicts := map[*request]bool{}
	for _, r := range batch {
		for _, w := range r.change.writes {
			if w.fails(now[w.key]) {
				conflicts[r] = true
				c.replace(w)
			}
		}
	}
	return conflicts
}

// refuse finishes the requests that are in conflict and returns the others.
func (c *committer) refuse(batch []*request, conflicts map[*request]bool) []*request {
	var left []*request
	for _, r := range batch {
		if conflicts[r] {
			c.metrics.conflicts.Inc()
			r.finish(ErrConflict)
		} else {
			left = append(left, r)
		}
	}
	return left
}

// remember notes the versions that a committed batch has replaced. It refuses the queued changes that create a document that the
// batch has created, and wakes the requests that wait for these documents.
func (c *committer) remember(batch []*request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	created := map[string]struct{}{}
	for _, r := range batch {
		for _, w := range r.change.writes {
			c.replace(w)
			if w.etag == "" {
				created[w.key] = struct{}{}
			}
		}
	}
	if len(created) == 0 {
		return
	}
	c.store.arrivals.announce(created)
	c.waiting = slices.DeleteFunc(c.waiting, func(r *request) bool {
		beaten := slices.ContainsFunc(r.change.writes, func(w write) bool { _, exists := created[w.key]; return w.etag == "" && exists })
		if beaten {
			c.metrics.conflicts.Inc()
			r.finish(ErrConflict)
		}
		return beaten
	})
}

// version is a document as it was under one ETag.
type version struct{ key, etag string }

// replacedVersions bounds the versions that are remembered as replaced.
const replacedVersions = 16384

// replace notes that the version which a write changes is no longer the document's. The caller holds the lock.
func (c *committer) replace(w write) {
	if w.etag != "" {
		c.replaced.Add(version{w.key, w.etag}, struct{}{})
	}
}

// stale reports whether a change names a version that is known to be replaced, so that it can only fail.
func (c *committer) stale(change *Change) bool {
	return slices.ContainsFunc(change.writes, func(w write) bool { return w.etag != "" && c.replaced.Contains(version{w.key, w.etag}) })
}

// transaction is a batch as the sidecar expects it.
type transaction struct {
	ops  []*client.StateOperation
	keys []string // of the conditional writes
}

func (t *transaction) add(writes ...write) {
	for _, w := range writes {
		t.ops = append(t.ops, w.operation())
		if !w.blind {
			t.keys = append(t.keys, w.key)
		}
	}
}
