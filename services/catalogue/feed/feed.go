// Package feed keeps the change feed of the catalogue's read model in the state store: a list of batches of changes, in one order for all
// replicas.
//
// Any replica appends what it has handled, and every replica follows the feed and applies all of it to its own model, in memory. An append
// changes the head of the feed under its ETag and inserts the next batch, in one transaction, after the replica has applied every batch
// before. So no two batches have the same number, and none is inserted before one that somebody has read.
//
// feed.go appends, follow.go reads, compact.go makes snapshots and deletes old batches, rebuild.go begins anew, documents.go has the
// documents. README.md describes what happens after failures.
package feed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// Model is what the changes are applied to. The feed calls Reset, Load, Loaded and Apply one after the other, except that Load is called
// in parallel; Changes may be called at the same time as Apply.
type Model interface {
	// Reset forgets everything. Positions that were given out before are void.
	Reset()
	// Load applies changes of a snapshot, or of batches that it may have. They lead to no updates.
	Load(changes []index.Change)
	// Loaded is called after Load, and before Apply. Updates begin after this batch of this epoch.
	Loaded(epoch string, batch uint64)
	// Apply applies the next batch.
	Apply(epoch string, batch uint64, changes []index.Change)
	// Changes are changes that lead to the model as it is. Changes that are applied meanwhile may be among them or not. It holds no lock
	// while it yields, because it takes long.
	Changes() iter.Seq[index.Change]
}

// Options are the settings of a Feed. A zero value stands for the default.
type Options struct {
	// Log is required.
	Log     *slog.Logger
	Metrics prometheus.Registerer // default: a new registry
	Now     clock.Clock           // default clock.System
	// InUse reports whether somebody waits for changes, such as an open stream. Default: nobody does.
	InUse func() bool
}

const (
	// maxBatchChanges and maxBatchBytes bound a batch.
	maxBatchChanges = 1024
	maxBatchBytes   = 256 << 10
	// maxWaiting bounds the changes that wait for a batch.
	maxWaiting = 16384
	// busyPoll is how often a replica reads the head while the catalogue is in use, and idlePoll while it is not: from busyTime after the
	// last change, request or stream.
	busyPoll = 25 * time.Millisecond
	idlePoll = 250 * time.Millisecond
	busyTime = 10 * time.Second
	// pace is the time between two appends, unless fullBatch changes wait: under load, changes share a batch, because a batch of many
	// costs little more than one of few. Without load a change is appended at once.
	pace      = 15 * time.Millisecond
	fullBatch = 512
	// firstPause and longestPause are the pauses after failures.
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second
	// stuckAfter is after how long without reaching the end of the feed a replica is not ready.
	stuckAfter = 15 * time.Second
)

// Feed is a replica's access to the change feed. Make one with New, and run it with Run.
type Feed struct {
	store   *state.Store
	model   Model
	log     *slog.Logger
	now     clock.Clock
	inUse   func() bool
	metrics *metrics
	outage  outage

	wake    chan struct{} // holds a token while changes may wait
	compact chan struct{} // holds a token when a compaction is due
	touched atomic.Int64  // when the catalogue was in use last, in Unix nanoseconds

	applying sync.Mutex // held while a batch is applied and its position noted

	mu       sync.Mutex
	waiting  []*entry
	closed   bool
	reached  time.Time // when the end of the feed was reached last
	position position

	// Only Run uses these.
	inFlight *group    // changes that are being appended
	inModel  string    // the epoch whose changes the model has; "" before the first
	stepped  time.Time // when the head was read last
	appended time.Time // when a batch was appended last
}

// position is how far a replica has applied the feed.
type position struct {
	loaded  bool
	epoch   string
	batch   uint64
	id      string // of the batch; "" if it is not known
	changes int    // since the snapshot
	from    uint64 // the snapshot's position
	loads   int    // how often the feed was loaded
}

// entry is changes that somebody waits for.
type entry struct {
	ctx     context.Context
	changes []index.Change
	encoded [][]byte
	bytes   int
	done    chan error // buffered: Run never waits for a caller
}

// group is the changes of one batch, from before its first try until it is committed.
type group struct {
	id      string
	entries []*entry
}

// New makes a Feed. Nothing happens before Run.
func New(store *state.Store, model Model, opts Options) *Feed {
	if opts.Now == nil {
		opts.Now = clock.System
	}
	if opts.Metrics == nil {
		opts.Metrics = prometheus.NewRegistry()
	}
	if opts.InUse == nil {
		opts.InUse = func() bool { return false }
	}
	f := &Feed{
		store: store, model: model, log: opts.Log, now: opts.Now, inUse: opts.InUse,
		outage: outage{log: opts.Log},
		wake:   make(chan struct{}, 1), compact: make(chan struct{}, 1),
	}
	f.metrics = newMetrics(opts.Metrics, f)
	f.Touch()
	return f
}

// Append adds changes to the feed, in one batch, and returns when they are committed and this replica has applied them. The error is a
// problem.Unavailable if they were not committed by the time that ctx ends; they may be committed later. A repeated change does no harm.
func (f *Feed) Append(ctx context.Context, changes ...index.Change) error {
	wait, err := f.Queue(ctx, changes...)
	if err != nil {
		return err
	}
	return wait()
}

// Queue is the first half of Append, which does not wait: wait returns the outcome. Changes that are queued one after the other share a
// batch.
func (f *Feed) Queue(ctx context.Context, changes ...index.Change) (wait func() error, err error) {
	e := &entry{ctx: ctx, changes: changes, encoded: make([][]byte, len(changes)), done: make(chan error, 1)}
	for i, change := range changes {
		if e.encoded[i], err = encode(change); err != nil {
			return nil, fmt.Errorf("encode a change: %w", err)
		}
		e.bytes += len(e.encoded[i])
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, unavailable(errors.New("the change feed is closed"))
	case len(f.waiting) >= maxWaiting:
		return nil, unavailable(errors.New("too many changes wait for the change feed"))
	}
	f.waiting = append(f.waiting, e)
	if n := len(f.waiting); n == 1 || n == fullBatch {
		f.signal()
	}
	return func() error {
		select {
		case err := <-e.done:
			return err
		case <-ctx.Done():
			return f.abandon(e)
		}
	}, nil
}

// abandon ends the wait for a change whose caller gives up. It is not appended if no batch has it yet.
func (f *Feed) abandon(e *entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case err := <-e.done:
		return err
	default:
	}
	if i := slices.Index(f.waiting, e); i >= 0 {
		f.waiting = slices.Delete(f.waiting, i, i+1)
	}
	return unavailable(e.ctx.Err())
}

func unavailable(cause error) error {
	return problem.New(problem.Unavailable, "unavailable", "The catalogue cannot take changes at the moment.").WithRetryAfter(time.Second).Because(cause)
}

// Touch notes that somebody uses the catalogue: for a while, this replica follows the feed closely.
func (f *Feed) Touch() {
	now := time.Now().UnixNano()
	last := f.touched.Load()
	if now-last > int64(time.Second) { // a write for each request would be shared by all processors
		idle := now-last > int64(busyTime)
		f.touched.Store(now)
		if idle {
			f.signal()
		}
	}
}

func (f *Feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// CaughtUp is a check of readiness: whether this replica has applied the feed to its end, and does so continually.
func (f *Feed) CaughtUp(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.position.loaded || f.reached.IsZero():
		return problem.New(problem.Unavailable, "unavailable", "the catalogue is being loaded")
	case time.Since(f.reached) > stuckAfter:
		return problem.New(problem.Unavailable, "unavailable", "the catalogue is behind its change feed")
	}
	return nil
}

func (f *Feed) current() position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position
}

// Run loads the feed, follows it, and appends what waits, until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	defer f.close()
	var compacting sync.WaitGroup
	defer compacting.Wait()
	compacting.Go(func() { f.compactWhenDue(ctx) })
	pause := firstPause
	for ctx.Err() == nil {
		err := f.step(ctx)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errAgain):
		case errors.Is(err, state.ErrConflict): // another replica was first
			f.metrics.conflicts.Inc()
		case err != nil:
			f.outage.failed(err)
			sleep(ctx, pause)
			pause = min(2*pause, longestPause)
		default:
			f.outage.ended()
			pause = firstPause
			f.await(ctx)
		}
	}
	return nil
}

// await returns when a batch is due, or the head must be read again.
func (f *Feed) await(ctx context.Context) {
	for {
		pause := f.untilStep(time.Now())
		if pause <= 0 {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-f.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// untilStep is how long nothing has to be done.
func (f *Feed) untilStep(now time.Time) time.Duration {
	poll := busyPoll
	if now.UnixNano()-f.touched.Load() > int64(busyTime) && !f.inUse() {
		poll = idlePoll
	}
	pause := f.stepped.Add(poll).Sub(now)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch n := len(f.waiting); {
	case n >= fullBatch:
		return 0
	case n > 0:
		return min(pause, f.appended.Add(pace).Sub(now))
	}
	return pause
}

// errAgain means that what was read is not valid any more.
var errAgain = errors.New("the change feed has changed meanwhile")

// step follows the feed to its end and appends one batch of what waits.
func (f *Feed) step(ctx context.Context) error {
	if !f.current().loaded {
		if err := f.load(ctx); err != nil {
			return err
		}
	}
	end, err := f.follow(ctx)
	if err != nil {
		return err
	}
	f.stepped = time.Now()
	// follow has found out whether a batch whose outcome was not known was committed. Otherwise it is tried again: if it is committed
	// late, the head is not the one that the new try names.
	if f.inFlight == nil {
		f.inFlight = f.take()
	}
	if f.inFlight == nil {
		return nil
	}
	return f.append(ctx, end, f.inFlight)
}

// take removes from the queue what can share a batch, oldest first.
func (f *Feed) take() *group {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := &group{}
	changes, bytes, taken := 0, 0, 0
	for _, e := range f.waiting {
		if e.ctx.Err() != nil { // its caller has given up
			taken++
			continue
		}
		if changes > 0 && (changes+len(e.changes) > maxBatchChanges || bytes+e.bytes > maxBatchBytes) {
			break
		}
		taken++
		changes += len(e.changes)
		bytes += e.bytes
		g.entries = append(g.entries, e)
	}
	f.waiting = slices.Delete(f.waiting, 0, taken)
	if len(g.entries) == 0 {
		return nil
	}
	g.id = strings.ReplaceAll(uuid.NewString(), "-", "")
	return g
}

// append commits a group as the batch after the head, which this replica has reached.
func (f *Feed) append(ctx context.Context, end state.Doc[head], g *group) error {
	var encoded [][]byte
	var changes []index.Change
	for _, e := range g.entries {
		encoded, changes = append(encoded, e.encoded...), append(changes, e.changes...)
	}
	next := head{Schema: 1, Epoch: end.Value.Epoch, Last: end.Value.Last + 1, ID: g.id}
	var change state.Change
	change.Update(headKey, end.ETag, next)
	change.Insert(batchKey(next.Last), encodeBatch(g.id, end.Value.ID, f.now(), encoded))
	began := time.Now()
	if err := f.store.Commit(ctx, &change); err != nil {
		return err
	}
	f.metrics.appendSeconds.Observe(time.Since(began).Seconds())
	f.metrics.appended.Inc()
	f.appended = time.Now()
	f.apply(next.Last, g.id, changes)
	f.reachedEnd(next.Last)
	return nil
}

// apply applies a batch to the model. If it is this replica's own, those who wait for its changes get their outcome.
func (f *Feed) apply(number uint64, id string, changes []index.Change) {
	f.applying.Lock()
	defer f.applying.Unlock()
	f.model.Apply(f.current().epoch, number, changes)
	f.metrics.batches.Inc()
	f.metrics.changes.Add(float64(len(changes)))
	f.touched.Store(time.Now().UnixNano())
	f.mu.Lock()
	f.position.batch, f.position.id = number, id
	f.position.changes += len(changes)
	f.mu.Unlock()
	f.committed(id)
}

// reachedEnd notes that this replica has applied the last batch.
func (f *Feed) reachedEnd(last uint64) {
	f.metrics.head.Store(last)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reached = time.Now()
}

// committed gives those who wait for a batch their outcome, if it is this replica's own.
func (f *Feed) committed(id string) {
	if f.inFlight == nil || f.inFlight.id != id {
		return
	}
	for _, e := range f.inFlight.entries {
		e.done <- nil
	}
	f.inFlight = nil
}

// close gives those who wait the outcome that the process ends. Their events are delivered again.
func (f *Feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	waiting := f.waiting
	if f.inFlight != nil {
		waiting = append(waiting, f.inFlight.entries...)
	}
	for _, e := range waiting {
		e.done <- unavailable(errors.New("the process ends"))
	}
	f.waiting, f.inFlight = nil, nil
}

func sleep(ctx context.Context, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

// outage logs the beginning and the end of a time in which the feed cannot be used.
type outage struct {
	log   *slog.Logger
	begun bool
	last  string
}

func (o *outage) failed(err error) {
	if text := err.Error(); !o.begun || text != o.last {
		o.log.Warn("the change feed cannot be followed; trying again", "error", err)
		o.begun, o.last = true, text
	}
}

func (o *outage) ended() {
	if o.begun {
		o.log.Info("the change feed is followed again")
		o.begun = false
	}
}
