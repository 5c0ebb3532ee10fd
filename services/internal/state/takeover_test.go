package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

// onMemory opens a store on the model of a sidecar.
func onMemory(t *testing.T, m *memory, opts Options) (*Store, *faults) {
	t.Helper()
	f := &faults{Sidecar: m}
	return openOn(t, f, opts), f
}

// hold lets the next transaction wait until release is called; what it returns then is what the caller gets.
func hold(f *faults) (entered <-chan struct{}, release func(answer func(pass func() error) error)) {
	begun, answers := make(chan struct{}), make(chan func(func() error) error, 1)
	first := true
	f.set(func(f *faults) {
		f.transact = func(ctx context.Context, pass func(context.Context) error) error {
			if !first {
				return pass(ctx)
			}
			first = false
			close(begun)
			return (<-answers)(func() error { return pass(context.Background()) })
		}
	})
	return begun, func(answer func(func() error) error) { answers <- answer }
}

func TestTakeOver_ALateTransactionOfTheDeadWriterIsRefused(t *testing.T) {
	m := newMemory()
	dead, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	living, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	create(t, dead, newKey(), "an entry that exists")

	entered, release := hold(f)
	key := newKey()
	done := make(chan error, 1)
	go func() {
		var c Change
		c.Create(key, thing{1, "late"})
		payload, _ := someEvent(1)
		c.Emit(context.Background(), payload)
		done <- dead.Commit(context.Background(), &c)
	}()
	<-entered
	id := dead.writers[0].id
	require.NoError(t, living.takeOver(t.Context(), registeredWriter{ID: id}))
	var late error
	release(func(pass func() error) error { late = pass(); return late })
	require.NoError(t, <-done, "the writer registers anew and tries its batch again")
	require.Error(t, late, "what was sent under the old registration must not happen")
	require.Equal(t, "late", get(t, living, key).Value.Text)
	require.NotEqual(t, id, dead.writers[0].id)
}

func TestTakeOver_ALostAnswerIsStillSuccessWhenTheEntryWasTakenOver(t *testing.T) {
	m := newMemory()
	dead, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	living, onLiving := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	entered, release := hold(f)
	key := newKey()
	payload, event := someEvent(1)
	done := make(chan error, 1)
	go func() {
		var c Change
		c.Create(key, thing{1, "committed"})
		c.Emit(context.Background(), payload)
		done <- dead.Commit(context.Background(), &c)
	}()
	<-entered
	release(func(pass func() error) error {
		if err := pass(); err != nil {
			return err
		}
		if err := living.takeOver(context.Background(), registeredWriter{ID: dead.writers[0].id}); err != nil {
			return err
		}
		return errors.New("connection reset by peer")
	})
	require.NoError(t, <-done, "it happened, so it must not be answered as a conflict")
	require.Equal(t, "committed", get(t, living, key).Value.Text)
	require.True(t, onLiving.took(event), "who has taken over has published it")
}

// takeOverInterrupted lets takeovers of a writer fail: the first after its fence, each other one after its first call.
func takeOverInterrupted(t *testing.T, s *Store, f *faults, id string, times int) {
	t.Helper()
	for n := range times {
		left := 1
		if n == 0 {
			left = 2
		}
		f.set(func(f *faults) {
			f.transact = func(ctx context.Context, pass func(context.Context) error) error {
				if left--; left < 0 {
					return errFault
				}
				return pass(ctx)
			}
		})
		require.Error(t, s.takeOver(t.Context(), registeredWriter{ID: id}))
	}
	f.set(func(f *faults) { f.transact = nil })
}

func TestTakeOver_DoneAgainKeepsTheFenceAgainstALateTransaction(t *testing.T) {
	m := newMemory()
	dead, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	living, onLiving := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	for range 3 {
		create(t, dead, newKey(), "an entry that exists")
	}
	entered, release := hold(f)
	done := make(chan error, 1)
	go func() {
		var c Change
		c.Create(newKey(), thing{1, "late"})
		done <- dead.Commit(context.Background(), &c)
	}()
	<-entered
	id := dead.writers[0].id
	takeOverInterrupted(t, living, onLiving, id, 3)
	require.NoError(t, living.takeOver(t.Context(), registeredWriter{ID: id}))
	var late error
	release(func(pass func() error) error { late = pass(); return late })
	require.NoError(t, <-done)
	require.Error(t, late, "what was sent under the old registration must not happen")
}

func TestTakeOver_DoneAgainKeepsTheEvidenceOfTheLastTransaction(t *testing.T) {
	m := newMemory()
	dead, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	living, onLiving := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	create(t, dead, newKey(), "an entry that exists")
	entered, release := hold(f)
	done := make(chan error, 1)
	go func() {
		var c Change
		c.Append("all", "once")
		done <- dead.Commit(context.Background(), &c)
	}()
	<-entered
	release(func(pass func() error) error {
		if err := pass(); err != nil {
			return err
		}
		id := dead.writers[0].id
		takeOverInterrupted(t, living, onLiving, id, 2)
		if err := living.takeOver(context.Background(), registeredWriter{ID: id}); err != nil {
			return err
		}
		return errors.New("connection reset by peer")
	})
	require.NoError(t, <-done)
	ids, _, err := living.Page(t.Context(), "all", 10, "")
	require.NoError(t, err)
	require.Equal(t, []string{"once"}, ids, "it happened once")
}

func TestTakeOver_OfAWriterThatHasUsedAllItsNumbersEnds(t *testing.T) {
	m := newMemory()
	dead, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	living, onLiving := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	f.set(func(f *faults) { f.publish = brokerAway })
	for range reservedNumbers {
		create(t, dead, newKey(), "one more number")
	}
	w := dead.writers[0]
	require.Equal(t, w.to, w.next)
	abandon(dead)
	takeOverInterrupted(t, living, onLiving, w.id, 1)
	require.NoError(t, living.takeOver(t.Context(), registeredWriter{ID: w.id}))
	require.NotContains(t, writers(t, living), w.id)
}

func TestTakeOver_MayBeInterruptedAnywhere(t *testing.T) {
	for broken := range 12 {
		t.Run(fmt.Sprintf("call %d fails", broken), func(t *testing.T) {
			m := newMemory()
			dead, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
			f.set(func(f *faults) { f.publish = brokerAway })
			var left []string
			for range 3 {
				event, err := emit(t, dead)
				require.NoError(t, err)
				left = append(left, event)
			}
			id := dead.writers[0].id
			abandon(dead)

			living, onLiving := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
			calls := 0
			onLiving.set(func(f *faults) {
				f.transact = func(ctx context.Context, pass func(context.Context) error) error {
					if calls++; calls == broken+1 {
						return errFault
					}
					return pass(ctx)
				}
			})
			_ = living.takeOver(t.Context(), registeredWriter{ID: id})
			onLiving.set(func(f *faults) { f.transact = nil })
			require.NoError(t, living.takeOver(t.Context(), registeredWriter{ID: id}), "and again, by anybody")
			for _, event := range left {
				require.True(t, onLiving.took(event))
			}
			require.NotContains(t, writers(t, living), id)
			for key, doc := range m.allDocuments() {
				if strings.HasPrefix(key, entryKey(id, 0)[:len(id)+9]) {
					var entry entryDocument
					require.NoError(t, json.Unmarshal(doc.value, &entry))
					require.True(t, entry.Fence, "%s is left", key)
				}
			}
		})
	}
}

// A writer's document has the number of its first entry: entries that wait for the broker are before its next number.
func TestTakeOver_FindsEntriesThatAreOlderThanTheLastRenewal(t *testing.T) {
	m := newMemory()
	dead, f := onMemory(t, m, Options{Lease: 300 * time.Millisecond, Writers: 1})
	f.set(func(f *faults) { f.publish = brokerAway })
	var left []string
	for range recoveryChunk + 3 {
		event, err := emit(t, dead)
		require.NoError(t, err)
		left = append(left, event)
	}
	id := dead.writers[0].id
	soon(t, "it renews its document", func() bool {
		doc, err := Get[writerDocument](t.Context(), dead, writerKey(id))
		return err == nil && doc.Value.Next == recoveryChunk+4
	})
	abandon(dead)

	living, onLiving := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	require.NoError(t, living.takeOver(t.Context(), registeredWriter{ID: id}))
	for _, event := range left {
		require.True(t, onLiving.took(event))
	}
}

func TestTakeOver_FindsEntriesBeyondTheNumbersThatWereReservedFirst(t *testing.T) {
	m := newMemory()
	dead, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	for range reservedNumbers + 5 {
		create(t, dead, newKey(), "an entry, and a number")
	}
	f.set(func(f *faults) { f.publish = brokerAway })
	event, err := emit(t, dead)
	require.NoError(t, err)
	abandon(dead)

	living, onLiving := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	require.NoError(t, living.takeOver(t.Context(), registeredWriter{ID: dead.writers[0].id}))
	require.True(t, onLiving.took(event))
}

// Otherwise it could commit under numbers that no takeover reads any more.
func TestTakeOver_AClosedWriterRegistersAnewAtItsNextRenewal(t *testing.T) {
	m := newMemory()
	frozen, _ := onMemory(t, m, Options{Lease: 300 * time.Millisecond, Writers: 1})
	living, onLiving := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	id := frozen.writers[0].id
	calls := 0
	onLiving.set(func(f *faults) {
		f.transact = func(ctx context.Context, pass func(context.Context) error) error {
			if calls++; calls > 1 {
				return errFault
			}
			return pass(ctx)
		}
	})
	require.Error(t, living.takeOver(t.Context(), registeredWriter{ID: id}), "it is interrupted after its first call")
	doc, err := Get[writerDocument](t.Context(), living, writerKey(id))
	require.NoError(t, err)
	require.True(t, doc.Value.Closed)
	soon(t, "what it commits is under a new registration", func() bool {
		create(t, frozen, newKey(), "perhaps under the old one")
		return *frozen.writers[0].registration.Load() != id
	})
}

// The events of a writer's former registration may be accepted by the broker after it has registered anew, and numbers
// begin anew with a registration.
func TestTakeOver_AnEntryIsNotDeletedForOneOfAFormerRegistration(t *testing.T) {
	m := newMemory()
	s, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	living, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	publishing, accept := make(chan struct{}), make(chan struct{})
	first := true
	f.set(func(f *faults) {
		f.publish = func([]events.Event) error {
			f.mu.Lock()
			mine := first
			first = false
			f.mu.Unlock()
			if !mine {
				return errBroker
			}
			close(publishing)
			<-accept
			return nil
		}
	})
	old, err := emit(t, s) // its entry is number 1
	require.NoError(t, err)
	<-publishing
	require.NoError(t, living.takeOver(t.Context(), registeredWriter{ID: s.writers[0].id}))
	_, err = emit(t, s) // and so is this one's, which the broker does not accept
	require.NoError(t, err)
	entry := entryKey(*s.writers[0].registration.Load(), 1)
	require.True(t, m.get(entry).exists())
	close(accept)
	soon(t, "the old event is out", func() bool { return f.took(old) && s.publisher.backlog() == 1 })
	for range 5 {
		create(t, s, newKey(), "a transaction that deletes entries")
	}
	require.True(t, m.get(entry).exists())
	f.set(func(f *faults) { f.publish = nil }) // else it would be waited for at the end
}

func TestWriters_AConflictNeedsNoNewRegistrationAndHasNoEntries(t *testing.T) {
	m := newMemory()
	s, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	id := s.writers[0].id
	doc := create(t, s, newKey(), "first")
	for range 20 {
		create(t, s, newKey(), "another")
		var c Change
		c.Update(doc.Key, "no such ETag", thing{1, "refused"})
		require.ErrorIs(t, s.Commit(t.Context(), &c), ErrConflict)
	}
	create(t, s, newKey(), "this deletes entries")
	require.Equal(t, id, s.writers[0].id)
	entries, fences := 0, 0
	for key, doc := range m.allDocuments() {
		if strings.HasPrefix(key, writerKey(id)+"/") {
			var entry entryDocument
			require.NoError(t, json.Unmarshal(doc.value, &entry))
			if entry.Fence {
				fences++
			} else {
				entries++
			}
		}
	}
	require.LessOrEqual(t, entries, 2)
	require.Equal(t, 1, fences, "an ETag that was found to be replaced is not tried again")
}

func TestFences_AreRemovedByTheStore(t *testing.T) {
	m := newMemory()
	dead, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	f.set(func(f *faults) { f.publish = brokerAway })
	_, err := emit(t, dead)
	require.NoError(t, err)
	abandon(dead)
	living, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	require.NoError(t, living.takeOver(t.Context(), registeredWriter{ID: dead.writers[0].id}))
	for number := int64(1); number <= 2; number++ { // the last entry, which was emptied, and the fence after it
		require.Equal(t, "86400", m.lifetimes[entryKey(dead.writers[0].id, number)])
	}
}

// A partition has no conditions: the fence alone keeps a transaction that was given up, and arrives late, from writing
// an old head over a newer one.
func TestIndex_ALateTransactionDoesNotWriteOverAHead(t *testing.T) {
	m := newMemory()
	s, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	appendTo := func(s *Store, id string) {
		var c Change
		c.Append("all", id)
		require.NoError(t, s.Commit(context.Background(), &c))
	}
	var late func() error
	entered, release := hold(f)
	done := make(chan struct{})
	go func() {
		defer close(done)
		appendTo(s, "1")
	}()
	<-entered
	release(func(pass func() error) error {
		late = pass
		return context.DeadlineExceeded // while the transaction is still on its way
	})
	<-done
	appendTo(s, "2")
	require.Error(t, late())
	ids, _, err := s.Page(t.Context(), "all", 10, "")
	require.NoError(t, err)
	require.Equal(t, []string{"2", "1"}, ids)
}

func TestIndex_AWriterThatRegistersAnewForgetsThePartitionItHad(t *testing.T) {
	m := newMemory()
	first, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	other, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	appendTo := func(s *Store, id string) {
		var c Change
		c.Append("all", id)
		require.NoError(t, s.Commit(t.Context(), &c))
	}
	appendTo(first, "1")
	require.NoError(t, other.takeOver(t.Context(), registeredWriter{ID: first.writers[0].id}))
	third, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1}) // which has its partition now
	appendTo(third, "2")
	appendTo(first, "3")
	appendTo(third, "4")
	ids, _, err := other.Page(t.Context(), "all", 10, "")
	require.NoError(t, err)
	require.Equal(t, []string{"4", "3", "2", "1"}, ids)
}

func TestWriters_BatchesOfDisjointDocumentsAreInFlightTogether(t *testing.T) {
	m := newMemory()
	s, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 2})
	doc := create(t, s, newKey(), "first")
	entered, release := make(chan struct{}, 9), make(chan struct{})
	f.set(func(f *faults) {
		f.transact = func(ctx context.Context, pass func(context.Context) error) error {
			entered <- struct{}{}
			<-release
			return pass(ctx)
		}
	})
	results := make(chan error, 3)
	commit := func(build func(*Change)) {
		go func() {
			var c Change
			build(&c)
			results <- s.Commit(context.Background(), &c)
		}()
	}
	commit(func(c *Change) { c.Update(doc.Key, doc.ETag, thing{1, "second"}) })
	<-entered
	commit(func(c *Change) { c.Create(newKey(), thing{1, "another"}) })
	<-entered // though the first has not ended
	commit(func(c *Change) { c.Update(doc.Key, doc.ETag, thing{1, "third"}) })
	soon(t, "the third waits, for it touches what is in flight", func() bool { return s.committer.queued() == 1 })
	require.Empty(t, entered)
	close(release)
	var refused int
	for range 3 {
		if err := <-results; err != nil {
			require.ErrorIs(t, err, ErrConflict)
			refused++
		}
	}
	require.Equal(t, 1, refused)
	require.Equal(t, "second", get(t, s, doc.Key).Value.Text)
}

func TestIndex_ReplicasAppendWithoutConflictsAndListsMergeThem(t *testing.T) {
	m := newMemory()
	registries := make([]*prometheus.Registry, 3)
	stores := make([]*Store, 3)
	for i := range stores {
		registries[i] = prometheus.NewRegistry()
		stores[i], _ = onMemory(t, m, Options{Lease: time.Minute, Writers: 1, Metrics: registries[i]})
	}
	var want []string
	for n := range 4*pageLength + 7 {
		id := uuid.Must(uuid.NewV7()).String()
		want = append(want, id)
		var c Change
		c.Append("all", id)
		require.NoError(t, stores[n*n%3].Commit(t.Context(), &c))
	}
	for _, registry := range registries {
		require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
			# HELP boxoffice_commit_retries_total Transactions that were not committed and whose changes were tried again, or refused.
			# TYPE boxoffice_commit_retries_total counter
			boxoffice_commit_retries_total 0
		`), "boxoffice_commit_retries_total"))
	}
	slices.Reverse(want)
	for _, s := range stores {
		var listed []string
		for cursor := ""; ; {
			ids, next, err := s.Page(t.Context(), "all", 33, cursor)
			require.NoError(t, err)
			listed = append(listed, ids...)
			if cursor = next; next == "" {
				break
			}
			require.Len(t, ids, 33)
		}
		require.Equal(t, want, listed, "newest first, over all partitions")
	}
}

func TestIndex_APartitionGoesOnWithItsNextWriter(t *testing.T) {
	m := newMemory()
	var want []string
	for n := range 5 {
		s, _ := onMemory(t, m, Options{Instance: "here", Lease: time.Minute, Writers: 1})
		soon(t, "the predecessor is gone", func() bool { return len(writers(t, s)) == 1 })
		for i := range pageLength/2 + 3 {
			id := fmt.Sprintf("%d-%03d", n, i)
			want = append(want, id)
			var c Change
			c.Append("all", id)
			require.NoError(t, s.Commit(t.Context(), &c))
		}
		if n%2 == 0 {
			abandon(s)
		} else {
			require.NoError(t, s.Close(t.Context()))
		}
	}
	s, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	ids, next, err := s.Page(t.Context(), "all", 1000, "")
	require.NoError(t, err)
	require.Empty(t, next)
	slices.Sort(ids)
	require.Equal(t, want, ids)
	registered, err := s.registered(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, registered.Value.Partitions, 4, "partitions of dead writers are used again")
}

// What the previous release has written: its registry, a dead writer with events in two slots, an index with a full page.
func TestLegacy_WhatTheReleaseBeforeLeftIsPublishedAndListed(t *testing.T) {
	m := newMemory()
	put := func(key string, value any) {
		body, err := json.Marshal(value)
		require.NoError(t, err)
		require.NoError(t, m.execute([]*client.StateOperation{write{key: key, value: body, blind: true}.operation()}))
	}
	event := func(user string) json.RawMessage {
		e, err := events.New(context.Background(), events.UserCreated{User: events.User{ID: id.User(user), Version: 1}})
		require.NoError(t, err)
		e.Source = "/tested"
		body, err := json.Marshal(e)
		require.NoError(t, err)
		return body
	}
	type slot struct {
		Schema int               `json:"schema"`
		Batch  string            `json:"batch"`
		Events []json.RawMessage `json:"events"`
	}
	put("journal/writers", map[string]any{"schema": 1, "writers": []any{map[string]any{"id": "w-1", "instance": "elsewhere"}, map[string]any{"id": "w-2", "instance": "here"}}})
	put("journal/w-1", map[string]any{"schema": 1, "instance": "elsewhere", "batch": "b", "renewedAt": time.Now(), "closed": false})
	put("journal/w-1/0", slot{1, "a", []json.RawMessage{event("one"), event("two")}})
	put("journal/w-1/1", slot{1, "b", []json.RawMessage{event("three")}})
	put("journal/w-2", map[string]any{"schema": 1, "instance": "here", "batch": "c", "renewedAt": time.Now(), "closed": false})
	put("journal/w-2/0", slot{1, "c", []json.RawMessage{event("four")}})
	var old []string
	for n := range legacyPageLength + 3 {
		old = append(old, fmt.Sprintf("01-%04d", n))
	}
	put("index/all/1", indexPage{Schema: 1, Number: 1, IDs: old[:legacyPageLength]})
	put("index/all", indexPage{Schema: 1, Number: 2, IDs: old[legacyPageLength:]})

	s, f := onMemory(t, m, Options{Instance: "here", Lease: 100 * time.Millisecond})
	for _, user := range []string{"one", "two", "three", "four"} {
		soon(t, "an event of the previous release is published", func() bool { return f.took("user.created:" + user + ":1") })
	}
	soon(t, "its writers are gone", func() bool {
		registry, err := Get[legacyRegistry](t.Context(), s, legacyRegistryKey)
		return err == nil && len(registry.Value.Writers) == 0
	})
	for key := range m.allDocuments() {
		require.False(t, strings.HasPrefix(key, "journal/w-"), "%s is left", key)
	}

	var c Change
	c.Append("all", "02-new")
	require.NoError(t, s.Commit(t.Context(), &c))
	want := append(slices.Clone(old), "02-new")
	slices.Reverse(want)
	var listed []string
	for cursor := ""; ; {
		ids, next, err := s.Page(t.Context(), "all", 40, cursor)
		require.NoError(t, err)
		listed = append(listed, ids...)
		if cursor = next; next == "" {
			break
		}
	}
	require.Equal(t, want, listed)

	ids, _, err := s.Page(t.Context(), "all", 5, "MS41") // a cursor of the previous release: page 1, entry 5
	require.NoError(t, err)
	require.Equal(t, []string{"01-0004", "01-0003", "01-0002", "01-0001", "01-0000"}, ids)

	forward, next, err := s.Forward(t.Context(), "all", nil)
	require.NoError(t, err)
	for len(forward) > 0 {
		for _, entry := range forward {
			listed = slices.DeleteFunc(listed, func(id string) bool { return id == entry.ID })
		}
		forward, next, err = s.Forward(t.Context(), "all", next)
		require.NoError(t, err)
	}
	require.Empty(t, listed, "all entries are met on the way forward")
}
