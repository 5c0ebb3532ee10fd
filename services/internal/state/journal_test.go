package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
)

func emit(t *testing.T, s *Store) (event string, err error) {
	t.Helper()
	payload, event := someEvent(1)
	var c Change
	c.Create(newKey(), thing{1, event})
	c.Emit(t.Context(), payload)
	return event, s.Commit(t.Context(), &c)
}

func writers(t *testing.T, s *Store) []string {
	t.Helper()
	registered, err := s.registered(t.Context())
	require.NoError(t, err)
	var ids []string
	for _, w := range registered.Value.Writers {
		ids = append(ids, w.ID)
	}
	return ids
}

func TestJournal_PublishesWhatWasCommitted(t *testing.T) {
	s, f := open(t, Options{})
	var publishing sync.WaitGroup
	for range 200 {
		publishing.Go(func() {
			event, err := emit(t, s)
			if err != nil {
				t.Error(err)
				return
			}
			soon(t, "the event is out", func() bool { return f.took(event) })
		})
	}
	publishing.Wait()
	require.Zero(t, s.publisher.backlog())
}

func TestJournal_FullRefusesWritesAndServesReads(t *testing.T) {
	s, f := open(t, Options{MaxTransactions: 3})
	f.set(func(f *faults) { f.publish = brokerAway })
	var waiting []string
	for range 3 {
		event, err := emit(t, s)
		require.NoError(t, err)
		waiting = append(waiting, event)
	}
	_, err := emit(t, s)
	require.Equal(t, problem.Unavailable, problem.KindOf(err))
	refused, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok)
	require.NotZero(t, refused.RetryAfter)
	create(t, s, newKey(), "no event, no slot")

	f.set(func(f *faults) { f.publish = nil })
	for _, event := range waiting {
		soon(t, "what waited is published", func() bool { return f.took(event) })
	}
	soon(t, "writes go on", func() bool { _, err := emit(t, s); return err == nil })
}

func TestJournal_BacklogIsBounded(t *testing.T) {
	s, f := open(t, Options{Backlog: 2})
	f.set(func(f *faults) { f.publish = brokerAway })
	for range 2 {
		_, err := emit(t, s)
		require.NoError(t, err)
	}
	_, err := emit(t, s)
	require.Equal(t, problem.Unavailable, problem.KindOf(err))
	f.set(func(f *faults) { f.publish = nil })
}

func TestJournal_NextProcessPublishesWhatADeadOneLeft(t *testing.T) {
	here := uuid.NewString()
	dead, f := open(t, Options{Instance: here})
	f.set(func(f *faults) { f.publish = brokerAway })
	var left []string
	for range recoveryChunk + 10 {
		event, err := emit(t, dead)
		require.NoError(t, err)
		left = append(left, event)
	}
	id := dead.writers[0].id
	abandon(dead)

	f.set(func(f *faults) { f.publish = nil })
	next := openOn(t, f, Options{Instance: here, Lease: time.Minute})
	for _, event := range left {
		soon(t, "a dead writer's event is published", func() bool { return f.took(event) })
	}
	soon(t, "the dead writer is gone", func() bool { return !contains(writers(t, next), id) })
	items, err := next.read(t.Context(), writerKey(id))
	require.NoError(t, err)
	require.False(t, items[writerKey(id)].exists(), "its document is gone")
	found, err := next.findEntries(t.Context(), id, writerDocument{From: 1, Next: 1, To: recoveryChunk + 20})
	require.NoError(t, err)
	require.Equal(t, []int64{recoveryChunk + 10}, found.entries, "of its entries the last one is left, as a fence")
	require.True(t, found.fenced, "and a fence after it")
}

func TestJournal_ALivingProcessTakesOverFromASilentOne(t *testing.T) {
	const lease = 300 * time.Millisecond
	dead, f := open(t, Options{Lease: lease})
	living := openOn(t, f, Options{Lease: lease})
	f.set(func(f *faults) { f.publish = brokerAway })
	event, err := emit(t, dead)
	require.NoError(t, err)
	abandon(dead)
	f.set(func(f *faults) { f.publish = nil })
	soon(t, "the event is published by the other", func() bool { return f.took(event) })
	soon(t, "the dead writer is gone", func() bool { return !contains(writers(t, living), dead.writers[0].id) })
	require.Contains(t, writers(t, living), living.writers[0].id, "the living must not be taken for dead")
}

func TestJournal_AWriterThatWasClosedRegistersAnew(t *testing.T) {
	s, f := open(t, Options{Lease: time.Minute})
	other := openOn(t, f, Options{Lease: time.Minute})
	before := s.writers[0].id
	frozen, err := emit(t, s)
	require.NoError(t, err)

	// The other takes s for dead, as if s had been frozen for longer than the lease.
	require.NoError(t, other.takeOver(t.Context(), registeredWriter{ID: before}))
	require.True(t, f.took(frozen))

	event, err := emit(t, s)
	require.NoError(t, err, "the change is committed under a new registration")
	soon(t, "its event is published", func() bool { return f.took(event) })
	require.NotEqual(t, before, s.writers[0].id)
	require.Contains(t, writers(t, other), s.writers[0].id)
}

func TestJournal_CloseDrainsAndDeletesItsDocuments(t *testing.T) {
	s, f := open(t, Options{})
	event, err := emit(t, s)
	require.NoError(t, err)
	id := s.writers[0].id
	require.NoError(t, s.Close(t.Context()))
	require.True(t, f.took(event))

	_, err = emit(t, s)
	require.Equal(t, problem.Unavailable, problem.KindOf(err))
	items, err := s.read(t.Context(), writerKey(id), entryKey(id, 1))
	require.NoError(t, err)
	require.False(t, items[writerKey(id)].exists())
	require.False(t, items[entryKey(id, 1)].exists())
	require.NotContains(t, writers(t, s), id)
}

func TestJournal_CloseThatCannotDrainKeepsTheEvents(t *testing.T) {
	here := uuid.NewString()
	s, f := open(t, Options{Instance: here})
	f.set(func(f *faults) { f.publish = brokerAway })
	event, err := emit(t, s)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, s.Close(ctx), "stay in the journal")

	f.set(func(f *faults) { f.publish = nil })
	openOn(t, f, Options{Instance: here})
	soon(t, "the next process publishes it", func() bool { return f.took(event) })
}

func TestJournal_ManyRegisterAtOnce(t *testing.T) {
	f := &faults{Sidecar: sidecar(t)}
	var opening sync.WaitGroup
	stores := make([]*Store, 8)
	for i := range stores {
		opening.Go(func() { stores[i] = openOn(t, f, Options{}) })
	}
	opening.Wait()
	registered := writers(t, stores[0])
	for _, s := range stores {
		require.Contains(t, registered, s.writers[0].id)
	}
}

func TestProbe_RefusesAStoreThatKeepsHalfATransaction(t *testing.T) {
	real := sidecar(t)
	cases := map[string]struct {
		sidecar Sidecar
		did     string
	}{
		"keeps the other writes":   {keepsHalf{real}, "does not roll back"},
		"accepts what it must not": {ignoresConditions{real}, "accepted a transaction"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), c.sidecar, Options{Service: "tested", Instance: uuid.NewString()})
			unfit, ok := errors.AsType[*unfitStoreError](err)
			require.True(t, ok, "%v", err)
			require.Contains(t, unfit.Error(), c.did)
			require.Contains(t, unfit.Error(), "state.sqlite", "names the component's type and stores that pass")
		})
	}
}

func TestProbe_WaitsForAStoreThatIsNotThereYet(t *testing.T) {
	f := &faults{Sidecar: sidecar(t)}
	calls := 0
	f.transact = func(ctx context.Context, pass func(context.Context) error) error {
		if calls++; calls < 4 {
			return fmt.Errorf("call %d: not yet", calls)
		}
		return pass(ctx)
	}
	openOn(t, f, Options{})
	require.GreaterOrEqual(t, calls, 4)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
