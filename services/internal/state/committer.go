package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"

	"boxoffice/services/internal/problem"
)

// The committer turns changes into transactions. It is one goroutine with one transaction in flight: while that
// runs, the changes that arrive wait, and the next transaction takes as many of them as do not touch the same
// documents. Under load a transaction thus carries dozens of changes, which a store does several times as fast
// as one by one; with no load a change goes out at once, alone.
//
// A transaction also rewrites this writer's own document under its ETag, with the transaction's batch id in it.
// That serves two purposes. If the answer is lost, the document tells whether the transaction happened. And it
// fences: whoever takes over from this writer closes the document first, and from then on no transaction of
// this writer can succeed, however late it arrives.

const (
	maxBatchChanges = 64
	maxBatchBytes   = 512 << 10
	// batchAttempts bounds how often a batch is tried when it fails though no document has moved.
	batchAttempts = 3
	// headAttempts bounds how often a batch is tried when only what belongs to this package has moved: an
	// index's head, under another replica's appends.
	headAttempts = 64
)

// request is a change on its way through the committer.
type request struct {
	ctx    context.Context
	change *Change
	done   chan error // buffered: the committer never waits for a caller
}

func (r *request) finish(err error) { r.done <- err }

type committer struct {
	store  *Store
	meters *meters

	incoming chan *request
	closing  chan struct{} // closed by close
	idle     chan struct{} // closed when run has ended or has nothing left after close

	waiting  []*request  // taken from incoming, not yet in a batch
	consumed consumedSet // ETags known to be replaced
}

func newCommitter(s *Store, m *meters) *committer {
	return &committer{
		store:    s,
		meters:   m,
		incoming: make(chan *request, queueLength),
		closing:  make(chan struct{}),
		idle:     make(chan struct{}),
	}
}

// submit queues a change and waits for its outcome.
func (c *committer) submit(ctx context.Context, change *Change) error {
	r := &request{ctx: ctx, change: change, done: make(chan error, 1)}
	select {
	case <-c.closing:
		return problem.New(problem.Unavailable, "The service is shutting down. Try again shortly.").WithRetryAfter(time.Second)
	default:
	}
	if len(change.events) > 0 && c.store.publisher.full() {
		return busy()
	}
	select {
	case c.incoming <- r:
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return unavailable(fmt.Errorf("the outcome is not known: %w", ctx.Err()))
	case <-c.idle:
		// The committer has ended; it may have answered in the same moment.
		select {
		case err := <-r.done:
			return err
		default:
			return unavailable(errors.New("the service is shutting down"))
		}
	}
}

// close makes submit refuse; what was accepted before is still committed.
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

func (c *committer) run(ctx context.Context) {
	defer close(c.idle)
	renewal := time.NewTicker(c.store.opts.Lease / 3)
	defer renewal.Stop()
	closing := c.closing
	for {
		if len(c.waiting) == 0 {
			select {
			case r := <-c.incoming:
				c.waiting = append(c.waiting, r)
			case <-renewal.C:
				c.renew(ctx)
				continue
			case <-closing:
				closing = nil
				if len(c.incoming) == 0 {
					return
				}
				continue
			case <-ctx.Done():
				return
			}
		}
		c.takeIncoming()
		if batch := c.nextBatch(); len(batch) > 0 {
			c.commit(ctx, batch)
		}
		if closing == nil && len(c.waiting) == 0 && len(c.incoming) == 0 {
			return
		}
	}
}

func (c *committer) takeIncoming() {
	for len(c.waiting) < queueLength {
		select {
		case r := <-c.incoming:
			c.waiting = append(c.waiting, r)
		default:
			return
		}
	}
}

// nextBatch takes from the waiting changes those that can share a transaction, oldest first. It answers those
// that are certain to fail without asking the store: of a hundred changes that were all decided on the same
// version of a document, the first is tried and the others are refused as soon as it has succeeded.
func (c *committer) nextBatch() []*request {
	var batch, left []*request
	var bytes int
	touched := map[string]bool{}
	for i, r := range c.waiting {
		switch {
		case r.ctx.Err() != nil:
			r.finish(unavailable(r.ctx.Err()))
		case c.consumed.stale(r.change):
			c.meters.conflicts.Inc()
			r.finish(ErrConflict)
		case len(batch) == maxBatchChanges || bytes > maxBatchBytes:
			c.waiting = append(left, c.waiting[i:]...)
			return batch
		case slices.ContainsFunc(r.change.writes, func(w write) bool { return touched[w.key] }):
			left = append(left, r)
		default:
			for _, w := range r.change.writes {
				touched[w.key] = true
			}
			bytes += r.change.size()
			batch = append(batch, r)
		}
	}
	c.waiting = left
	return batch
}

// commit brings a batch to its end: each of its requests is answered when it returns, unless ctx ended.
func (c *committer) commit(ctx context.Context, batch []*request) {
	start := time.Now()
	unmoved := 0
	for attempt := 1; len(batch) > 0; attempt++ {
		result, err := c.try(ctx, batch)
		if err != nil {
			finishAll(batch, err)
			return
		}
		if result.committed {
			c.meters.batchChanges.Observe(float64(len(batch)))
			c.meters.commitSeconds.Observe(time.Since(start).Seconds())
			c.remember(batch)
			finishAll(batch, nil)
			return
		}
		if len(result.conflicts) > 0 {
			batch = c.refuse(batch, result.conflicts)
			continue
		}
		if !result.headsMoved {
			unmoved++
		}
		if unmoved == batchAttempts || attempt == headAttempts {
			c.commitOneByOne(ctx, batch, result.cause)
			return
		}
	}
}

// commitOneByOne is for a batch that the store refuses though every condition holds: one of its changes may be
// one that the store cannot take, and the others must not fail with it.
func (c *committer) commitOneByOne(ctx context.Context, batch []*request, cause error) {
	if len(batch) == 1 {
		c.store.opts.Log.Error("the store refuses a change whose conditions hold", "error", cause)
		batch[0].finish(unavailable(cause))
		return
	}
	for _, r := range batch {
		c.commit(ctx, []*request{r})
	}
}

func finishAll(batch []*request, err error) {
	for _, r := range batch {
		r.finish(err)
	}
}

// refuse answers the requests whose conditions no longer hold and returns the others.
func (c *committer) refuse(batch []*request, conflicts map[*request]bool) []*request {
	return slices.DeleteFunc(batch, func(r *request) bool {
		if conflicts[r] {
			c.meters.conflicts.Inc()
			r.finish(ErrConflict)
		}
		return conflicts[r]
	})
}

// remember notes what a committed batch has replaced, and answers the waiting requests that wanted to create
// what it has created.
func (c *committer) remember(batch []*request) {
	created := map[string]bool{}
	for _, r := range batch {
		for _, w := range r.change.writes {
			c.consumed.add(w)
			created[w.key] = w.etag == ""
		}
	}
	c.waiting = slices.DeleteFunc(c.waiting, func(r *request) bool {
		beaten := slices.ContainsFunc(r.change.writes, func(w write) bool { return w.etag == "" && created[w.key] })
		if beaten {
			c.meters.conflicts.Inc()
			r.finish(ErrConflict)
		}
		return beaten
	})
}

// outcome is what became of one try of a batch that the store has answered.
type outcome struct {
	committed  bool
	conflicts  map[*request]bool // whose documents have moved
	headsMoved bool              // only documents of this package have moved
	cause      error             // what the store said, when not committed
}

// try runs the batch as one transaction. An error means that nothing was written and that trying again is of
// no use now.
func (c *committer) try(ctx context.Context, batch []*request) (outcome, error) {
	journal := c.store.journal
	heads, ids := appendsOf(batch)
	own, headItems, err := c.readOwn(ctx, heads)
	if err != nil {
		return outcome{}, err
	}

	batchID := uuid.Must(uuid.NewV7()).String()
	tx := &transaction{batch: batchID}
	for _, r := range batch {
		tx.add(r.change.writes...)
		tx.events = append(tx.events, r.change.events...)
	}
	for _, index := range heads {
		writes, err := appendIDs(index, headItems[indexHeadKey(index)], ids[index])
		if err != nil {
			return outcome{}, err
		}
		tx.add(writes...)
	}
	entry, err := journal.write(tx, own)
	if err != nil {
		return outcome{}, err
	}

	cause := c.store.execute(ctx, tx.ops)
	if cause == nil {
		entry.publish()
		return outcome{committed: true}, nil
	}
	return c.resolve(ctx, batch, tx, own, headItems, entry, cause)
}

// readOwn reads this writer's document and the heads of indexes. If somebody has closed the writer, it first
// registers a new one.
func (c *committer) readOwn(ctx context.Context, indexes []string) (own item, heads map[string]item, err error) {
	for {
		keys := []string{c.store.journal.current.Load().key()}
		for _, index := range indexes {
			keys = append(keys, indexHeadKey(index))
		}
		heads, err := c.store.read(ctx, keys...)
		if err != nil {
			return item{}, nil, err
		}
		own := heads[keys[0]]
		open, err := isOpen(own)
		if err != nil {
			return item{}, nil, err
		}
		if open {
			return own, heads, nil
		}
		if err := c.store.journal.register(ctx); err != nil {
			return item{}, nil, err
		}
	}
}

// resolve finds out what became of a transaction whose execution returned an error. Dapr's errors do not tell a
// conflict from a failure, and a failure not from a lost answer, so it reads: this writer's document says
// whether the transaction happened; if it did not, rewriting that document makes sure that it never will; and
// the ETags say who is in conflict. While the store is silent it goes on asking, for nothing else may be
// committed before.
func (c *committer) resolve(ctx context.Context, batch []*request, tx *transaction, own item, heads map[string]item, entry *entry, cause error) (outcome, error) {
	journal := c.store.journal
	keys := append([]string{journal.current.Load().key()}, tx.keys...)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		now, err := c.store.read(ctx, keys...)
		if err == nil {
			mine := now[keys[0]]
			if batchOf(mine) == tx.batch {
				entry.publish()
				return outcome{committed: true}, nil
			}
			if open, _ := isOpen(mine); !open {
				entry.release()
				return outcome{headsMoved: true, cause: cause}, nil // register anew, then try again
			}
			if err = journal.fence(ctx, mine); err == nil {
				entry.release()
				result := outcome{conflicts: map[*request]bool{}, cause: cause}
				for _, r := range batch {
					for _, w := range r.change.writes {
						if w.moved(now[w.key]) {
							result.conflicts[r] = true
							c.consumed.add(w)
						}
					}
				}
				for key, head := range heads {
					if key != keys[0] && now[key].etag != head.etag {
						result.headsMoved = true
					}
				}
				return result, nil
			}
		}
		if ctx.Err() != nil {
			return outcome{}, unavailable(fmt.Errorf("the outcome is not known: %w", errors.Join(cause, err)))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// renew shows the others that this writer lives.
func (c *committer) renew(ctx context.Context) {
	own, _, err := c.readOwn(ctx, nil)
	if err == nil {
		err = c.store.journal.fence(ctx, own)
	}
	if err != nil && ctx.Err() == nil {
		c.store.opts.Log.Warn("could not renew the journal's lease; trying again", "error", err)
	}
}

// appendsOf gathers the batch's index entries: the indexes in a fixed order, and each one's ids.
func appendsOf(batch []*request) (indexes []string, ids map[string][]string) {
	ids = map[string][]string{}
	for _, r := range batch {
		for _, a := range r.change.appends {
			if ids[a.index] == nil {
				indexes = append(indexes, a.index)
			}
			ids[a.index] = append(ids[a.index], a.id)
		}
	}
	return indexes, ids
}

// consumedSet remembers ETags that are known to be replaced: a change that names one of these can only fail.
type consumedSet struct {
	etags map[string]bool
	order []string // a ring, oldest at next
	next  int
}

const consumedLength = 16384

func (s *consumedSet) add(w write) {
	if w.etag == "" {
		return
	}
	if s.etags == nil {
		s.etags = make(map[string]bool, consumedLength)
		s.order = make([]string, consumedLength)
	}
	mark := w.key + "\x00" + w.etag
	if s.etags[mark] {
		return
	}
	delete(s.etags, s.order[s.next])
	s.etags[mark] = true
	s.order[s.next] = mark
	s.next = (s.next + 1) % consumedLength
}

func (s *consumedSet) stale(c *Change) bool {
	return slices.ContainsFunc(c.writes, func(w write) bool { return w.etag != "" && s.etags[w.key+"\x00"+w.etag] })
}

// transaction is a batch as the sidecar takes it.
type transaction struct {
	batch  string
	ops    []*client.StateOperation
	keys   []string // of the conditional writes
	events []eventRecord
}

func (t *transaction) add(writes ...write) {
	for _, w := range writes {
		t.ops = append(t.ops, w.operation())
		t.keys = append(t.keys, w.key)
	}
}
