package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// faults stands before a real sidecar and does to its calls what a test asks for. The functions are read at
// each call; nil passes the call on.
type faults struct {
	Sidecar
	mu        sync.Mutex
	transact  func(ctx context.Context, pass func(context.Context) error) error
	publish   func(published []events.Event) error
	published []string // the ids of the events that the broker took, in order
}

func (f *faults) set(change func(*faults)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *faults) ExecuteStateTransaction(ctx context.Context, store string, meta map[string]string, ops []*client.StateOperation) error {
	f.mu.Lock()
	transact := f.transact
	f.mu.Unlock()
	pass := func(ctx context.Context) error { return f.Sidecar.ExecuteStateTransaction(ctx, store, meta, ops) }
	if transact != nil {
		return transact(ctx, pass)
	}
	return pass(ctx)
}

func (f *faults) PublishEvents(ctx context.Context, pubsub, topic string, entries []any, opts ...client.PublishEventsOption) client.PublishEventsResponse {
	f.mu.Lock()
	publish := f.publish
	f.mu.Unlock()
	if publish != nil {
		if err := publish(nil); err != nil {
			return client.PublishEventsResponse{Error: err, FailedEvents: entries}
		}
	}
	response := f.Sidecar.PublishEvents(ctx, pubsub, topic, entries, opts...)
	if response.Error == nil {
		f.mu.Lock()
		for _, entry := range entries {
			f.published = append(f.published, entry.(client.PublishEventsEvent).EntryID)
		}
		f.mu.Unlock()
	}
	return response
}

func (f *faults) took(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.published, id)
}

var errBroker = errors.New("the broker is away")

func brokerAway([]events.Event) error { return errBroker }

// open opens a store before which faults stand. It is closed at the end, unless the test abandons it.
func open(t *testing.T, opts Options) (*Store, *faults) {
	t.Helper()
	f := &faults{Sidecar: sidecar(t)}
	return openOn(t, f, opts), f
}

func openOn(t *testing.T, f *faults, opts Options) *Store {
	t.Helper()
	opts.Service = "tested"
	if opts.Instance == "" {
		opts.Instance = uuid.NewString()
	}
	s, err := Open(t.Context(), f, opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		select {
		case <-s.committer.closing: // closed or abandoned by the test
		default:
			_ = s.Close(ctx)
		}
	})
	return s
}

// abandon ends a store as if its process was killed: it publishes and deletes nothing any more.
func abandon(s *Store) {
	close(s.committer.closing)
	s.stop()
	s.working.Wait()
}

type thing struct {
	Schema int    `json:"schema"`
	Text   string `json:"text"`
}

func newKey() string { return "thing/" + uuid.NewString() }

func create(t *testing.T, s *Store, key, text string) Doc[thing] {
	t.Helper()
	var c Change
	c.Create(key, thing{1, text})
	require.NoError(t, s.Commit(t.Context(), &c))
	return get(t, s, key)
}

func get(t *testing.T, s *Store, key string) Doc[thing] {
	t.Helper()
	doc, err := Get[thing](t.Context(), s, key)
	require.NoError(t, err)
	return doc
}

// someEvent returns an event that tests emit, and its id.
func someEvent(version int) (events.Payload, string) {
	user := events.UserCreated{User: events.User{ID: id.User(uuid.NewString()), Version: version}}
	return user, fmt.Sprintf("user.created:%s:%d", user.ID, version)
}

func soon(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, 5*time.Millisecond, what)
}

func TestCommit_EveryWriteIsConditional(t *testing.T) {
	s, _ := open(t, Options{})
	doc := create(t, s, newKey(), "first")

	var again Change
	again.Create(doc.Key, thing{1, "again"})
	require.ErrorIs(t, s.Commit(t.Context(), &again), ErrConflict)

	var update Change
	update.Update(doc.Key, doc.ETag, thing{1, "second"})
	require.NoError(t, s.Commit(t.Context(), &update))
	require.Equal(t, "second", get(t, s, doc.Key).Value.Text)

	var stale, staleDelete Change
	stale.Update(doc.Key, doc.ETag, thing{1, "stale"})
	require.ErrorIs(t, s.Commit(t.Context(), &stale), ErrConflict)
	staleDelete.Delete(doc.Key, doc.ETag)
	require.ErrorIs(t, s.Commit(t.Context(), &staleDelete), ErrConflict)

	var remove Change
	remove.Delete(doc.Key, get(t, s, doc.Key).ETag)
	require.NoError(t, s.Commit(t.Context(), &remove))
	_, err := Get[thing](t.Context(), s, doc.Key)
	require.ErrorIs(t, err, ErrNotFound)

	create(t, s, doc.Key, "born again")
}

func TestCommit_AllOrNothing(t *testing.T) {
	s, f := open(t, Options{})
	doc := create(t, s, newKey(), "first")
	var update Change
	update.Update(doc.Key, doc.ETag, thing{1, "second"})
	require.NoError(t, s.Commit(t.Context(), &update))

	// A second store has not seen the update: it is the sidecar that must refuse.
	other := openOn(t, f, Options{})
	bystander := newKey()
	payload, event := someEvent(1)
	var c Change
	c.Create(bystander, thing{1, "bystander"})
	c.Append("things", "bystander")
	c.Emit(t.Context(), payload)
	c.Update(doc.Key, doc.ETag, thing{1, "stale"})
	require.ErrorIs(t, other.Commit(t.Context(), &c), ErrConflict)
	_, err := Get[thing](t.Context(), s, bystander)
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, other.publisher.drain(t.Context()))
	require.False(t, f.took(event), "an event of a change that did not happen was published")
}

func TestCommit_OneOfManyWinsAHotDocument(t *testing.T) {
	s, _ := open(t, Options{})
	doc := create(t, s, newKey(), "free")
	var won, lost atomic.Int32
	var buyers sync.WaitGroup
	for i := range 100 {
		buyers.Go(func() {
			var c Change
			c.Update(doc.Key, doc.ETag, thing{1, fmt.Sprint(i)})
			switch err := s.Commit(context.Background(), &c); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, ErrConflict):
				lost.Add(1)
			}
		})
	}
	buyers.Wait()
	require.EqualValues(t, 1, won.Load())
	require.EqualValues(t, 99, lost.Load())
}

func TestCommit_ALoserDoesNotTakeItsBatchWithIt(t *testing.T) {
	s, f := open(t, Options{})
	doc := create(t, s, newKey(), "first")
	other := openOn(t, f, Options{})
	var update Change
	update.Update(doc.Key, doc.ETag, thing{1, "second"})
	require.NoError(t, other.Commit(t.Context(), &update)) // s does not know

	// Hold a first transaction up until all others are queued, so that they share the next one.
	entered, release := make(chan struct{}, 100), make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	f.set(func(f *faults) {
		f.transact = func(ctx context.Context, pass func(context.Context) error) error {
			entered <- struct{}{}
			<-release
			return pass(ctx)
		}
	})
	results := make(chan error, 22)
	var waiting sync.WaitGroup
	commit := func(build func(*Change)) {
		waiting.Go(func() {
			var c Change
			build(&c)
			results <- s.Commit(context.Background(), &c)
		})
	}
	commit(func(c *Change) { c.Create(newKey(), thing{1, "first"}) })
	<-entered
	for range 19 {
		commit(func(c *Change) { c.Create(newKey(), thing{1, "fine"}); c.Append("batch", uuid.NewString()) })
	}
	commit(func(c *Change) { c.Update(doc.Key, doc.ETag, thing{1, "stale"}) })
	soon(t, "all queued", func() bool { return s.committer.queued() == 20 })
	release <- struct{}{}
	f.set(func(f *faults) { f.transact = nil })
	waiting.Wait()
	close(results)
	var fine, refused int
	for err := range results {
		if err == nil {
			fine++
		} else {
			require.ErrorIs(t, err, ErrConflict)
			refused++
		}
	}
	require.Equal(t, 20, fine)
	require.Equal(t, 1, refused)
}

func TestCommit_ALostAnswerIsStillSuccess(t *testing.T) {
	s, f := open(t, Options{})
	lose := true
	f.set(func(f *faults) {
		f.transact = func(ctx context.Context, pass func(context.Context) error) error {
			err := pass(ctx)
			if lose && err == nil {
				lose = false
				return errors.New("connection reset by peer")
			}
			return err
		}
	})
	payload, event := someEvent(1)
	key := newKey()
	var c Change
	c.Create(key, thing{1, "first"})
	c.Emit(t.Context(), payload)
	require.NoError(t, s.Commit(t.Context(), &c))
	require.Equal(t, "first", get(t, s, key).Value.Text)
	soon(t, "the event is out", func() bool { return f.took(event) })
}

func TestCommit_ALateTransactionNeverHappens(t *testing.T) {
	s, f := open(t, Options{})
	late := make(chan func() error, 1)
	first := true
	f.set(func(f *faults) {
		f.transact = func(ctx context.Context, pass func(context.Context) error) error {
			if first {
				first = false
				late <- func() error { return pass(context.Background()) }
				return context.DeadlineExceeded // while the transaction is still on its way
			}
			return pass(ctx)
		}
	})
	key := newKey()
	var c Change
	c.Create(key, thing{1, "first"})
	require.NoError(t, s.Commit(t.Context(), &c), "the change is tried again")
	doc := get(t, s, key)
	require.Error(t, (<-late)(), "the transaction that was given up arrives and must be refused")
	require.Equal(t, doc, get(t, s, key))
}

// A caller has the outcome a little before the writer gives back the documents.
func TestCommit_AChangeMayBeUsedAgainAtOnce(t *testing.T) {
	s, _ := onMemory(t, newMemory(), Options{Lease: time.Minute, Writers: 1})
	var c Change
	for n := range 200 {
		c.Create(newKey(), thing{1, strconv.Itoa(n)})
		require.NoError(t, s.Commit(t.Context(), &c))
		c = Change{}
	}
	soon(t, "no document is kept from others", func() bool {
		s.committer.mu.Lock()
		defer s.committer.mu.Unlock()
		return len(s.committer.inFlight) == 0
	})
}

func TestCommit_StoreAwayIsUnavailableAndComesBack(t *testing.T) {
	s, f := open(t, Options{})
	away := func(context.Context, func(context.Context) error) error { return errors.New("store is away") }
	f.set(func(f *faults) { f.transact = away })
	key := newKey()
	var c Change
	c.Create(key, thing{1, "first"})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := s.Commit(ctx, &c)
	require.Equal(t, "outcome_unknown", codeOf(t, err), "a transaction is under way: %v", err)
	f.set(func(f *faults) { f.transact = nil })
	create(t, s, newKey(), "goes on by itself")
}

// codeOf returns the code of a problem of something that is away.
func codeOf(t *testing.T, err error) string {
	t.Helper()
	p, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, problem.Unavailable, p.Kind)
	require.NotZero(t, p.RetryAfter)
	return p.Details[0].Code
}

func TestCommit_AChangeThatStillWaitsWhenItsCallerGivesUpIsNeverCommitted(t *testing.T) {
	s, f := onMemory(t, newMemory(), Options{Lease: time.Minute, Writers: 1})
	entered, release := make(chan struct{}), make(chan struct{})
	script(f, func(pass func() error) error { close(entered); <-release; return pass() })
	first := make(chan error, 1)
	go func() {
		var c Change
		c.Create(newKey(), thing{1, "first"})
		first <- s.Commit(context.Background(), &c)
	}()
	<-entered // the only writer is busy

	key := newKey()
	var c Change
	c.Create(key, thing{1, "second"})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.Equal(t, "unavailable", codeOf(t, s.Commit(ctx, &c)))

	close(release)
	require.NoError(t, <-first)
	create(t, s, newKey(), "third") // a writer has taken all that waited before
	_, err := Get[thing](t.Context(), s, key)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestCommit_AtShutdownTheProblemShowsWhetherTheChangeMayHappen(t *testing.T) {
	s, f := onMemory(t, newMemory(), Options{Lease: time.Minute, Writers: 1})
	f.set(func(f *faults) {
		f.transact = func(context.Context, func(context.Context) error) error { return errors.New("store is away") }
	})
	outcome := make(chan error, 1)
	go func() {
		var c Change
		c.Create(newKey(), thing{1, "first"})
		outcome <- s.Commit(context.Background(), &c)
	}()
	soon(t, "the writer has the change", func() bool {
		s.committer.mu.Lock()
		defer s.committer.mu.Unlock()
		return len(s.committer.inFlight) > 0
	})
	abandon(s)
	require.Equal(t, "outcome_unknown", codeOf(t, <-outcome))

	var c Change
	c.Create(newKey(), thing{1, "second"})
	require.Equal(t, "unavailable", codeOf(t, s.Commit(t.Context(), &c)), "the store is closed")
}

func TestCommit_RefusesAMisbuiltChange(t *testing.T) {
	s, _ := open(t, Options{})
	var twice, noETag Change
	twice.Create("thing/x", thing{})
	twice.Update("thing/x", "1", thing{})
	require.ErrorContains(t, s.Commit(t.Context(), &twice), "written twice")
	noETag.Update("thing/x", "", thing{})
	require.ErrorContains(t, s.Commit(t.Context(), &noETag), "no ETag")
}

func TestReader_ReadsShareCallsAndSeeWhatWasCommittedBefore(t *testing.T) {
	s, f := open(t, Options{})
	doc := create(t, s, newKey(), "first")
	slow := &slowReads{Sidecar: f.Sidecar, release: make(chan struct{}), entered: make(chan struct{}, 1000)}
	r := newReader(slow, "state")

	// As many reads as may be under way at once, of the document among others, hold the later ones up.
	var reading sync.WaitGroup
	for range readsAtOnce {
		reading.Go(func() { _, _ = r.read(context.Background(), []string{doc.Key}) })
		<-slow.entered
	}
	var update Change
	update.Update(doc.Key, doc.ETag, thing{1, "second"})
	require.NoError(t, s.Commit(t.Context(), &update))
	missing := newKey()
	for range 100 {
		reading.Go(func() {
			items, err := r.read(context.Background(), []string{doc.Key, missing})
			if err != nil || items[doc.Key].etag == doc.ETag || items[missing].exists() {
				t.Errorf("read %q, %v", items[doc.Key].value, err)
			}
		})
	}
	soon(t, "all have joined", func() bool { return r.waiting() == 2 })
	close(slow.release)
	reading.Wait()
	require.LessOrEqual(t, len(slow.entered), 100, "calls for a hundred reads")
}

func TestReader_ABulkReadThatBrokeOffHasNotFoundNothing(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.documents[anchor] = item{value: []byte("{}"), etag: "1"}
	keys, want := []string{"never"}, map[string]item{"never": {}}
	for n := range 4 {
		key := fmt.Sprint(n)
		m.documents[key] = item{value: []byte(key), etag: "1"}
		keys, want[key] = append(keys, key), m.documents[key]
	}
	r := newReader(m, "state")
	for _, anchored := range []bool{false, true} {
		r.anchored.Store(anchored)
		for name, c := range map[string]struct {
			faults []fault
			away   bool
		}{
			"all is well":                     {faults: nil},
			"the store is away":               {faults: []fault{refuses}, away: true},
			"it broke off, and is back":       {faults: []fault{breaksOff}, away: !anchored},
			"it broke off, and is away":       {faults: []fault{breaksOff, refuses}, away: true},
			"it broke off, and did once more": {faults: []fault{breaksOff, breaksOff}, away: true},
		} {
			m.faults, m.broke = c.faults, false
			items, err := r.read(t.Context(), keys)
			if c.away {
				require.Equal(t, problem.Unavailable, problem.KindOf(err), name)
				continue
			}
			require.NoError(t, err, name)
			delete(items, anchor)
			require.Equal(t, want, items, name)
		}
	}
}

func TestReader_GivesUpWithItsCaller(t *testing.T) {
	slow := &slowReads{Sidecar: sidecar(t), release: make(chan struct{}), entered: make(chan struct{}, 1000)}
	defer close(slow.release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := newReader(slow, "state").read(ctx, []string{newKey()})
	require.Equal(t, problem.Unavailable, problem.KindOf(err))
}

func TestRetry_GivesUpWithAConflict(t *testing.T) {
	calls := 0
	err := Retry(t.Context(), func(context.Context) error { calls++; return ErrConflict })
	require.Equal(t, problem.Conflict, problem.KindOf(err))
	require.Equal(t, decisionAttempts, calls)
}

func TestPage_NewestFirstAndSteadyWhileTheIndexGrows(t *testing.T) {
	s, _ := open(t, Options{})
	index := "test/" + uuid.NewString()
	const count = 2*pageLength + 50
	for from := 0; from < count; from += 50 {
		var c Change
		for i := range min(50, count-from) {
			c.Append(index, fmt.Sprintf("%04d", from+i))
		}
		require.NoError(t, s.Commit(t.Context(), &c))
	}

	var seen []string
	cursor := ""
	for page := 0; ; page++ {
		ids, next, err := s.Page(t.Context(), index, 33, cursor)
		require.NoError(t, err)
		seen = append(seen, ids...)
		if page == 1 { // what is added meanwhile comes before all that
			var c Change
			for i := range pageLength {
				c.Append(index, fmt.Sprintf("new %d", i))
			}
			require.NoError(t, s.Commit(t.Context(), &c))
		}
		if next == "" {
			break
		}
		require.Len(t, ids, 33)
		cursor = next
	}
	require.Len(t, seen, count)
	for i, id := range seen {
		require.Equal(t, fmt.Sprintf("%04d", count-1-i), id)
	}
}

func TestPage_ExactlyFullPagesEnd(t *testing.T) {
	s, _ := open(t, Options{})
	index := "test/" + uuid.NewString()
	var c Change
	for i := range pageLength {
		c.Append(index, fmt.Sprint(i))
	}
	require.NoError(t, s.Commit(t.Context(), &c))
	ids, next, err := s.Page(t.Context(), index, pageLength, "")
	require.NoError(t, err)
	require.Len(t, ids, pageLength)
	require.Empty(t, next)
	ids, next, err = s.Page(t.Context(), "test/none", 10, "")
	require.NoError(t, err)
	require.Empty(t, ids)
	require.Empty(t, next)
}

func TestForward_OldestFirstFromAnyPlace(t *testing.T) {
	s, _ := open(t, Options{})
	index := "test/" + uuid.NewString()
	entries, _, err := s.Forward(t.Context(), index, nil)
	require.NoError(t, err)
	require.Empty(t, entries, "there is no index yet")

	total := 2*pageLength + 7
	var all []string
	var change Change
	for range total {
		id := uuid.NewString()
		all = append(all, id)
		change.Append(index, id)
	}
	require.NoError(t, s.Commit(t.Context(), &change))

	forward := func(from Places) (ids []string, end Places) {
		for end = from; ; {
			entries, next, err := s.Forward(t.Context(), index, end)
			require.NoError(t, err)
			if len(entries) == 0 {
				return ids, next
			}
			require.LessOrEqual(t, len(entries), pageLength)
			for _, entry := range entries {
				require.False(t, entry.At.Before(end[entry.Partition]))
				require.True(t, entry.At.Before(next[entry.Partition]))
				ids = append(ids, entry.ID)
			}
			end = next
		}
	}
	ids, end := forward(nil)
	require.Equal(t, all, ids)
	partition := strconv.Itoa(s.writers[0].partition)
	for skipped, from := range map[int]Place{1: {Page: 1, Entry: 1}, pageLength - 1: {Entry: pageLength - 1}, pageLength: {Page: 2}, total - 1: {Page: 3, Entry: 6}} {
		ids, again := forward(Places{partition: from})
		require.Equal(t, all[skipped:], ids, "%+v", from)
		require.Equal(t, end, again)
	}
	ids, _ = forward(Places{partition: {Page: 1, Entry: pageLength}})
	require.Equal(t, all[pageLength:], ids, "the end of a full page is the beginning of the next")
	later, _, err := s.Forward(t.Context(), index, Places{partition: {Page: 9}})
	require.NoError(t, err)
	require.Empty(t, later, "a page that is not begun")

	var more Change
	more.Append(index, "one more")
	require.NoError(t, s.Commit(t.Context(), &more))
	ids, _ = forward(end)
	require.Equal(t, []string{"one more"}, ids, "the end is where the next one comes")
}

func TestPlace_ComparesByPageAndEntry(t *testing.T) {
	require.Equal(t, Place{Page: 1, Entry: 1}, Place{}.Next())
	require.True(t, Place{}.Before(Place{Page: 1, Entry: 1}))
	require.True(t, Place{Page: 1, Entry: 9}.Before(Place{Page: 2}))
	require.False(t, Place{}.Before(Place{Page: 1}), "they are the same")
}

func TestPage_RefusesAForeignCursor(t *testing.T) {
	s, _ := open(t, Options{})
	for _, forged := range []string{"x", "MQ", "LTEuNQ", "MS4tMQ", "OTk5OTk5OTk5OTk5OTk5OTk5OTkuMQ", "é", "MS4xMDAwMDAw"} {
		_, _, err := s.Page(t.Context(), "test/any", 10, forged)
		require.Equal(t, problem.Invalid, problem.KindOf(err), forged)
	}
}

func TestList_SkipsWhatIsGone(t *testing.T) {
	s, _ := open(t, Options{})
	index := "test/" + uuid.NewString()
	prefix := uuid.NewString() + "/"
	key := func(id string) string { return prefix + id }
	var c Change
	for i := range 30 {
		id := fmt.Sprintf("%02d", i)
		if i%3 == 0 {
			c.Create(key(id), thing{1, id})
		}
		c.Append(index, id)
	}
	require.NoError(t, s.Commit(t.Context(), &c))
	var seen []string
	for cursor := ""; ; {
		things, next, err := List(t.Context(), s, index, 4, cursor, key, func(th thing) bool { return th.Text != "15" })
		require.NoError(t, err)
		for _, th := range things {
			seen = append(seen, th.Text)
		}
		if cursor = next; next == "" {
			break
		}
	}
	require.Equal(t, []string{"27", "24", "21", "18", "12", "09", "06", "03", "00"}, seen)
}

func TestGetProjection_WaitsForWhatWasBornAMomentAgo(t *testing.T) {
	s, _ := open(t, Options{})
	fresh := uuid.Must(uuid.NewV7()).String()
	go func() {
		var c Change
		c.Create("replica/"+fresh, thing{1, "arrived"})
		time.Sleep(30 * time.Millisecond) // the event is on its way
		_ = s.Commit(context.Background(), &c)
	}()
	doc, err := GetProjection[thing](t.Context(), s, "replica/"+fresh, fresh, "user")
	require.NoError(t, err)
	require.Equal(t, "arrived", doc.Value.Text)

	require.True(t, madeWithin(fresh, newAge))
	require.False(t, madeWithin("01890a5d-ac96-774b-bcce-b302099a8057", newAge), "a UUIDv7 of 2023")
	require.False(t, madeWithin(uuid.NewString(), newAge), "not a UUIDv7")
}

// A client can make up young ids: so many requests wait for their documents as are bounded, and the others are answered at once.
func TestGetProjection_FewWaitForWhatDoesNotCome(t *testing.T) {
	s, _ := onMemory(t, newMemory(), Options{})
	madeUp := func() string { return uuid.Must(uuid.NewV7()).String() }
	waiting, release := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for user := range maxWaiting / maxWaitingOfUser {
		for range maxWaitingOfUser {
			all.Go(func() {
				made := madeUp()
				_, err := GetProjection[thing](waiting, s, "replica/"+made, made, id.User(fmt.Sprint(user)))
				if !errors.Is(err, context.Canceled) { // released in the middle of a read
					assert.ErrorIs(t, err, ErrNotFound)
				}
			})
		}
		require.Eventually(t, func() bool {
			s.arrivals.mu.Lock()
			defer s.arrivals.mu.Unlock()
			return s.arrivals.admitted == (user+1)*maxWaitingOfUser
		}, 3*time.Second, time.Millisecond)
		began, made := time.Now(), madeUp()
		_, err := GetProjection[thing](t.Context(), s, "replica/"+made, made, id.User(fmt.Sprint(user)))
		require.ErrorIs(t, err, ErrNotFound)
		require.Less(t, time.Since(began), projectionLag/2, "one user waits with a few requests")
	}
	began, made := time.Now(), madeUp()
	_, _, err := GetProjectionAnd[thing, thing](t.Context(), s, "replica/"+made, made, "other", "key")
	require.ErrorIs(t, err, ErrNotFound)
	require.Less(t, time.Since(began), projectionLag/2)

	release()
	all.Wait()
	require.Zero(t, s.arrivals.admitted)
	require.Empty(t, s.arrivals.ofUser)
	require.Empty(t, s.arrivals.waiting)
	go func() {
		var c Change
		c.Create("replica/"+made, thing{1, "arrived"})
		_ = s.Commit(context.Background(), &c)
	}()
	_, err = GetProjection[thing](t.Context(), s, "replica/"+made, made, "other")
	require.NoError(t, err, "there is room again")
}
