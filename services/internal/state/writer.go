package state

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
)

// writer commits batches of changes, one transaction at a time. It has a registration in the journal (journal.go), its own
// partition of every index (index.go), and a goroutine.
type writer struct {
	store        *Store
	registration atomic.Pointer[string] // its id, also while it is being registered

	// Only the goroutine uses these.
	id        string
	partition int
	next      int64            // the number of the next entry; one exists under each before
	to        int64            // the first number that is not reserved
	renewAt   time.Time        // when the document must be renewed
	lost      bool             // another process has taken over from this registration
	heads     map[string]*head // of this partition, as they are in the store

	mu        sync.Mutex
	existing  map[int64]struct{} // the numbers of its entries
	published []int64            // those whose events are published: they are to be deleted
}

// begin starts a registration.
func (w *writer) begin(id string, partition int) {
	w.partition = partition
	w.next, w.to = 1, 1+reservedNumbers
	w.renewAt = time.Now().Add(w.store.opts.Lease / 3)
	w.lost = false
	w.heads = map[string]*head{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.id = id
	w.existing, w.published = map[int64]struct{}{}, nil
}

// run commits the changes in the committer's queue until the committer is closed and empty, or ctx ends.
func (w *writer) run(ctx context.Context) {
	c := w.store.committer
	for ctx.Err() == nil {
		if !time.Now().Before(w.renewAt) {
			w.renew(ctx)
		}
		batch := c.take()
		if len(batch) > 0 {
			w.commit(ctx, batch)
			c.finished(batch)
			continue
		}
		if !c.await(ctx, w.renewAt) {
			return
		}
	}
}

// commit commits a batch. When it returns, each request of the batch has its outcome.
func (w *writer) commit(ctx context.Context, batch []*request) {
	c := w.store.committer
	start := time.Now()
	for attempt := 1; len(batch) > 0; {
		result, err := w.try(ctx, batch)
		switch {
		case err != nil:
			finishAll(batch, err)
			return
		case result.committed:
			c.metrics.batchChanges.Observe(float64(len(batch)))
			c.metrics.commitSeconds.Observe(time.Since(start).Seconds())
			c.remember(batch)
			finishAll(batch, nil)
			return
		}
		c.metrics.retries.Inc()
		switch {
		case len(result.conflicts) > 0:
			batch = c.refuse(batch, result.conflicts)
		case result.lost: // it registers again
		case attempt == batchAttempts:
			w.commitOneByOne(ctx, batch, result.cause)
			return
		default:
			attempt++
		}
	}
}

// commitOneByOne commits the changes of a batch that the store refuses although all conditions hold. If the store cannot take
// one of them, the others must not fail with it.
func (w *writer) commitOneByOne(ctx context.Context, batch []*request, cause error) {
	if len(batch) == 1 {
		w.store.opts.Log.Error("the store refuses a change whose conditions hold", "error", cause)
		batch[0].finish(unavailable(cause))
		return
	}
	for _, r := range batch {
		w.commit(ctx, []*request{r})
	}
}

// outcome is the result of one try of a batch, as the store shows it.
type outcome struct {
	committed bool
	conflicts map[*request]bool // requests whose conditions do not hold
	lost      bool              // the registration is lost; nothing was committed
	cause     error             // the store's error, if not committed
}

// try runs the batch as one transaction. An error is the problem for the callers: nothing was written or, if ctx has ended or the
// entry cannot be decoded, the outcome is not known. The caller must not try again.
func (w *writer) try(ctx context.Context, batch []*request) (outcome, error) {
	if err := w.prepare(ctx); err != nil {
		return outcome{}, err
	}
	appended, err := w.appendToIndexes(ctx, batch)
	if err != nil {
		return outcome{}, err
	}

	e := &ownEntry{writer: w, id: w.id, number: w.next, batch: uuid.NewString()}
	tx := &transaction{}
	for _, r := range batch {
		tx.add(r.change.writes...)
		e.records = append(e.records, r.change.records...)
	}
	tx.add(appended.writes...)
	tx.add(write{key: e.key(), value: encodeEntry(e.batch, e.records)})
	trimmed := w.takePublished(trimAtOnce)
	for _, number := range trimmed {
		tx.ops = append(tx.ops, removal(entryKey(w.id, number)))
	}

	cause := w.store.execute(ctx, tx.ops)
	result := outcome{committed: true}
	if cause != nil {
		if result, err = w.resolve(ctx, batch, tx, e, cause); err != nil {
			return outcome{}, err
		}
	}
	switch {
	case result.committed:
		w.next++
		w.replace(trimmed, e.number)
		for index, head := range appended.heads {
			w.remember(index, head)
		}
		e.publish()
	case result.lost:
		w.lost = true
	default:
		w.next++ // a fence uses the number
		w.returnPublished(trimmed)
	}
	return result, nil
}

// prepare registers again if the registration is lost, and reserves numbers if none is left.
func (w *writer) prepare(ctx context.Context) error {
	for range 2 { // twice, because a renewal whose response was lost returns a conflict
		if !w.lost && w.next == w.to {
			w.renew(ctx)
		}
	}
	if !w.lost && w.next == w.to {
		return unavailable(errors.New("the journal's writer cannot reserve numbers for its entries"))
	}
	if w.lost {
		return w.store.register(ctx, w)
	}
	return nil
}

// resolve finds out whether a transaction happened whose execution returned an error. Dapr's errors do not separate a
// conflict from a failure, nor a failure from a lost response. While the store does not respond, resolve retries: this
// writer may commit nothing before the outcome is known.
func (w *writer) resolve(ctx context.Context, batch []*request, tx *transaction, e *ownEntry, cause error) (outcome, error) {
	var last error
	result, err := backoff.Retry(ctx, func() (result outcome, err error) {
		result, err = w.findOutcome(ctx, batch, tx, e, cause)
		last = err
		return result, err
	}, persistently(10*time.Millisecond, time.Second)...)
	if err != nil {
		return outcome{}, outcomeUnknown(errors.Join(cause, last))
	}
	return result, nil
}

// findOutcome reads the transaction's documents once. The entry shows whether the transaction happened. If it did not, a fence
// under its number makes sure that it never will, and the ETags show which requests are in conflict.
func (w *writer) findOutcome(ctx context.Context, batch []*request, tx *transaction, e *ownEntry, cause error) (outcome, error) {
	now, err := w.store.read(ctx, tx.keys...)
	if err != nil {
		return outcome{}, err
	}
	if own := now[e.key()]; own.exists() {
		var found entryDocument
		if err := unmarshal(e.key(), own.value, &found); err != nil {
			return outcome{}, backoff.Permanent(err)
		}
		switch {
		case found.Batch == e.batch:
			return outcome{committed: true}, nil
		case found.Against != e.batch:
			return outcome{lost: true, cause: cause}, nil
		}
	} else {
		fence, err := fenceAt(e.id, e.number, e.batch)
		if err != nil {
			return outcome{}, err
		}
		if err := w.store.execute(ctx, []*client.StateOperation{fence.operation()}); err != nil {
			return outcome{}, err
		}
	}
	return outcome{conflicts: w.store.committer.conflicts(batch, now), cause: cause}, nil // there is a fence of this writer
}

// renew renews the lease and reserves numbers. If another process has closed the writer, its registration is lost.
func (w *writer) renew(ctx context.Context) {
	doc, err := Get[writerDocument](ctx, w.store, writerKey(w.id))
	if errors.Is(err, ErrNotFound) || err == nil && doc.Value.Closed {
		w.lost = true
		w.renewAt = time.Now().Add(w.store.opts.Lease / 3)
		return
	}
	to := w.next + reservedNumbers
	if err == nil {
		doc.Value.RenewedAt = time.Now().UTC()
		doc.Value.From, doc.Value.Next, doc.Value.To = w.oldest(), w.next, to
		var change Change
		change.Update(doc.Key, doc.ETag, doc.Value)
		err = w.store.direct(ctx, &change)
	}
	switch {
	case err == nil:
		w.to = to
		w.renewAt = time.Now().Add(w.store.opts.Lease / 3)
	case errors.Is(err, ErrConflict): // it is being closed, as the next read will show
		w.renewAt = time.Now()
	case ctx.Err() == nil:
		w.renewAt = time.Now().Add(min(time.Second, w.store.opts.Lease/10))
		w.store.opts.Log.Warn("could not renew the journal's lease; trying again", "error", err)
	}
}

// ownEntry is the journal entry of a transaction of this process.
type ownEntry struct {
	writer  *writer
	id      string // of the registration
	number  int64
	batch   string
	records []record
}

func (e *ownEntry) key() string { return entryKey(e.id, e.number) }

// publish gives the committed events to the publisher. When they are published, the entry can be deleted.
func (e *ownEntry) publish() {
	if len(e.records) == 0 {
		e.release()
		return
	}
	e.writer.store.publisher.add(e.records, e.release)
}

func (e *ownEntry) release() {
	w := e.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.id == e.id { // otherwise the entry belongs to an earlier registration
		w.published = append(w.published, e.number)
	}
}

// replace notes that entries were deleted and one was created.
func (w *writer) replace(deleted []int64, created int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, number := range deleted {
		delete(w.existing, number)
	}
	w.existing[created] = struct{}{}
}

// oldest returns the lowest number of an entry, or the next number if there is no entry.
func (w *writer) oldest() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	oldest := w.next
	for number := range w.existing {
		oldest = min(oldest, number)
	}
	return oldest
}

// takePublished removes up to most published entries from the list and returns them: the next transaction deletes them. The
// entry of the last transaction stays until there is another one, because a takeover finds the next number by it.
func (w *writer) takePublished(most int) (numbers []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := slices.Index(w.published, w.next-1)
	if last >= 0 {
		end := len(w.published) - 1
		w.published[last], w.published[end] = w.published[end], w.published[last]
	}
	n := min(most, len(w.published))
	if last >= 0 {
		n = min(n, len(w.published)-1)
	}
	numbers = slices.Clone(w.published[:n])
	w.published = slices.Delete(w.published, 0, n)
	return numbers
}

// returnPublished returns entries to the list whose deletion was not committed.
func (w *writer) returnPublished(numbers []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.published = append(w.published, numbers...)
}

// unregister deletes the writer's documents. Its events must all be published, and its goroutine must have ended.
func (w *writer) unregister(ctx context.Context) error {
	if w.lost {
		return nil // the takeover does that
	}
	if err := w.store.deleteEntries(ctx, w.id, slices.Sorted(maps.Keys(w.existing))); err != nil {
		return err
	}
	return w.store.unregister(ctx, w.id)
}
