package feed

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

func TestAppend_EveryReplicaAppliesEveryChangeInTheSameOrder(t *testing.T) {
	s := newSidecar()
	one, two := start(t, s, "one"), start(t, s, "two")
	var appending sync.WaitGroup
	for n := range 400 {
		r := one
		if n%2 == 0 {
			r = two
		}
		appending.Go(func() { r.append(t, listing("t"+strconv.Itoa(n), 1)) })
	}
	appending.Wait()
	one.awaits(t, tickets(0, 400))
	two.awaits(t, tickets(0, 400))
	require.Equal(t, one.model.batches(), two.model.batches())
	require.Empty(t, one.model.problem+two.model.problem)
	require.Less(t, len(one.model.batches()), 400, "changes that wait share a batch")
}

func TestAppend_ReturnsWhenTheChangeIsCommittedAndApplied(t *testing.T) {
	s := newSidecar()
	r := start(t, s, "one")
	r.append(t, listing("t0", 1))
	require.NotEmpty(t, s.Document(batchKey(1)).ETag)
	require.Equal(t, tickets(0, 1), r.model.known())
	require.NoError(t, r.feed.CaughtUp(t.Context()))
}

func TestAppend_WhileTheStoreIsAwayIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar()
		r := startReplica(t, s, "one")
		defer r.stop()
		r.append(t, listing("t0", 1))
		faults := make([]fault, 10_000)
		for i := range faults {
			faults[i] = refuses
		}
		s.setFaults(faults)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.Equal(t, problem.Unavailable, problem.KindOf(r.feed.Append(ctx, listing("t1", 1))))
		require.Error(t, r.feed.CaughtUp(t.Context()), "it does not know whether it is at the end")
		s.setFaults(nil)
		r.append(t, listing("t2", 1))
		require.NoError(t, r.feed.CaughtUp(t.Context()))
	})
}

func TestAppend_AfterTheEndIsUnavailable(t *testing.T) {
	r := startReplica(t, newSidecar(), "one")
	r.append(t, listing("t0", 1))
	r.stop()
	require.Equal(t, problem.Unavailable, problem.KindOf(r.feed.Append(t.Context(), listing("t1", 1))))
}

func TestAppend_ABatchIsBoundedInBytes(t *testing.T) {
	s := newSidecar()
	r := start(t, s, "one")
	var appending sync.WaitGroup
	long := string(make([]byte, 40<<10))
	for n := range 20 {
		change := listing("t"+strconv.Itoa(n), 1)
		change.Listing.Title = long // 6 bytes each in JSON
		appending.Go(func() { r.append(t, change) })
	}
	appending.Wait()
	for key, doc := range s.Documents() {
		require.Less(t, len(doc.Value), 512<<10, key)
	}
}

func TestRun_APausedReplicaLoadsAgainAndAppendsAtTheEnd(t *testing.T) {
	s := newSidecar()
	paused := newPausable(s)
	slow := start(t, paused, "slow")
	slow.append(t, listing("t0", 1))
	resume := paused.pause()

	busy := start(t, s, "busy")
	for n := 1; n < 10; n++ {
		busy.append(t, listing("t"+strconv.Itoa(n), 1))
	}
	require.NoError(t, busy.feed.compactNow(t.Context(), true))
	removeOldBatches(t, busy)
	appended := make(chan error, 1)
	go func() { appended <- slow.feed.Append(context.Background(), listing("t10", 1)) }()
	resume()
	require.NoError(t, <-appended)

	slow.awaits(t, tickets(0, 11))
	busy.awaits(t, tickets(0, 11))
	require.Empty(t, slow.model.problem)
	require.Zero(t, slow.model.resetCount(), "what it had is still true")
	require.Equal(t, uint64(11), slow.feed.current().batch)
}

// removeOldBatches deletes all batches that the snapshot has, as if they were old.
func removeOldBatches(t *testing.T, r *replica) {
	t.Helper()
	_, err := r.feed.modifyManifest(t.Context(), r.feed.current().epoch, func(m *manifest) (bool, error) {
		m.First = m.Position + 1
		return true, nil
	})
	require.NoError(t, err)
	require.NoError(t, r.feed.deleteOld(t.Context(), r.feed.current()))
}

// pausable is a sidecar whose answers can be held up, as if the process did not run.
type pausable struct {
	*sidecar
	mu    sync.Mutex
	going chan struct{}
}

func newPausable(s *sidecar) *pausable {
	p := &pausable{sidecar: s, going: make(chan struct{})}
	close(p.going)
	return p
}

func (p *pausable) pause() (resume func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	going := make(chan struct{})
	p.going = going
	return func() { close(going) }
}

func (p *pausable) wait() {
	p.mu.Lock()
	going := p.going
	p.mu.Unlock()
	<-going
}

func (p *pausable) GetState(ctx context.Context, store, key string, meta map[string]string) (*client.StateItem, error) {
	p.wait()
	return p.sidecar.GetState(ctx, store, key, meta)
}

func TestLoad_TakesTheSnapshotAndTheBatchesAfterIt(t *testing.T) {
	s := newSidecar()
	one := start(t, s, "one")
	for n := range 5 {
		one.append(t, listing("t"+strconv.Itoa(n), 1))
	}
	require.NoError(t, one.feed.compactNow(t.Context(), true))
	for n := 5; n < 8; n++ {
		one.append(t, listing("t"+strconv.Itoa(n), 1))
	}
	removeOldBatches(t, one)
	require.Empty(t, s.Document(batchKey(5)).ETag)
	two := start(t, s, "two")
	two.awaits(t, tickets(0, 8))
	require.Equal(t, one.model.batches()[5:], two.model.batches(), "updates begin after the snapshot")
}

func TestLoad_OfALargeSnapshot(t *testing.T) {
	s := newSidecar()
	one := start(t, s, "one")
	var appending sync.WaitGroup
	for n := range 12_000 {
		appending.Go(func() { one.append(t, listing("t"+strconv.Itoa(n), 1)) })
	}
	appending.Wait()
	require.NoError(t, one.feed.compactNow(t.Context(), true))
	m := s.Document(manifestKey)
	require.Contains(t, string(m.Value), `"entries":12000`)
	removeOldBatches(t, one)
	two := start(t, s, "two")
	two.awaits(t, tickets(0, 12_000))
}

func TestCompact_DeletesTheChunksOfTheSnapshotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar()
		r := startReplica(t, s, "one")
		defer r.stop()
		for n := range 4 {
			r.append(t, listing("t"+strconv.Itoa(n), 1))
			require.NoError(t, r.feed.compactNow(t.Context(), true))
			time.Sleep(2 * discardAfter)
		}
		time.Sleep(keepBatches)
		require.NoError(t, r.feed.compactNow(t.Context(), false))
		require.NoError(t, r.feed.compactNow(t.Context(), false))
		var left []string
		for key := range s.Documents() {
			if len(key) > 5 && key[:5] == "feed/" {
				left = append(left, key)
			}
		}
		require.ElementsMatch(t, []string{headKey, manifestKey, chunkKey(4, 0)}, left)
	})
}

func TestCompact_GivesUpASnapshotWhoseProcessHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar()
		r := startReplica(t, s, "one")
		defer r.stop()
		r.append(t, listing("t0", 1))
		_, err := r.feed.modifyManifest(t.Context(), r.feed.current().epoch, func(m *manifest) (bool, error) {
			m.Numbered++
			m.Building = &building{Snapshot: m.Numbered, Chunks: announced, Instance: "dead", BegunAt: r.feed.now()}
			return true, nil
		})
		require.NoError(t, err)
		s.Write(chunkKey(1, 3), []byte(`{"schema":1,"changes":[]}`))
		require.NoError(t, r.feed.compactNow(t.Context(), true))
		require.Contains(t, string(s.Document(manifestKey).Value), `"instance":"dead"`, "it may still be at work")
		time.Sleep(2 * buildTime)
		require.NoError(t, r.feed.compactNow(t.Context(), true))
		time.Sleep(2 * discardAfter)
		require.NoError(t, r.feed.compactNow(t.Context(), true))
		require.Empty(t, s.Document(chunkKey(1, 3)).ETag)
	})
}

func TestRun_AfterTheStoreWasRestoredEveryReplicaLoadsItInANewEpoch(t *testing.T) {
	s := newSidecar()
	one, two := start(t, s, "one"), start(t, s, "two")
	for n := range 3 {
		one.append(t, listing("t"+strconv.Itoa(n), 1))
	}
	two.awaits(t, tickets(0, 3))
	backup := s.Documents()
	one.append(t, listing("lost", 1))
	two.awaits(t, map[id.Ticket]int{"t0": 1, "t1": 1, "t2": 1, "lost": 1})
	before := one.feed.current().epoch
	s.Write(headKey, backup[headKey].Value)
	s.Delete(batchKey(4))

	one.awaits(t, tickets(0, 3))
	two.awaits(t, tickets(0, 3))
	require.Eventually(t, func() bool {
		return one.feed.current().epoch == two.feed.current().epoch && one.feed.current().epoch != before
	}, 5*time.Second, time.Millisecond)
	two.append(t, listing("t3", 1))
	one.awaits(t, tickets(0, 4))
}

// A replica that did not run while another one appended to a restored store cannot compare numbers alone.
func TestRun_ABatchThatDoesNotFollowTheOneBeforeBeginsAnEpoch(t *testing.T) {
	s := newSidecar()
	paused := newPausable(s)
	slow := start(t, paused, "slow")
	slow.append(t, listing("t0", 1))
	backup := s.Documents()
	slow.append(t, listing("lost", 1))
	resume := paused.pause()
	s.Write(headKey, backup[headKey].Value)
	s.Delete(batchKey(2))
	other := start(t, s, "other")
	for n := 1; n < 4; n++ {
		other.append(t, listing("t"+strconv.Itoa(n), 1))
	}
	resume()
	slow.awaits(t, tickets(0, 4))
	other.awaits(t, tickets(0, 4))
	require.Eventually(t, func() bool { return other.model.resetCount() == 1 }, 5*time.Second, time.Millisecond, "it loads the new epoch")
	other.awaits(t, tickets(0, 4))
}

func TestRun_ALostBatchIsSkipped(t *testing.T) {
	s := newSidecar()
	one := start(t, s, "one")
	for n := range 4 {
		one.append(t, listing("t"+strconv.Itoa(n), 1))
	}
	s.Delete(batchKey(2))
	two := start(t, s, "two")
	two.awaits(t, map[id.Ticket]int{"t0": 1, "t2": 1, "t3": 1})
	two.append(t, listing("t4", 1))
	one.awaits(t, tickets(0, 5))
}

func TestRun_WithoutAHeadAFeedBeginsWithWhatIsLeft(t *testing.T) {
	s := newSidecar()
	one := start(t, s, "one")
	for n := range 3 {
		one.append(t, listing("t"+strconv.Itoa(n), 1))
	}
	require.NoError(t, one.feed.compactNow(t.Context(), true))
	s.Delete(headKey)
	one.append(t, listing("t3", 1))
	one.awaits(t, tickets(0, 4))
	two := start(t, s, "two")
	two.awaits(t, tickets(0, 4))
}

func TestRun_ANewerSchemaIsNotAppliedAndNothingIsAppendedAfterIt(t *testing.T) {
	s := newSidecar()
	one := start(t, s, "one")
	one.append(t, listing("t0", 1))
	// A newer release appends.
	one.stop()
	at := one.feed.current()
	s.Write(batchKey(2), []byte(`{"schema":2,"id":"x","after":"`+at.id+`","changes":[{"listing":{"id":"t1","v":1}}]}`))
	s.Write(headKey, fmt.Appendf(nil, `{"schema":1,"epoch":"%s","last":2,"id":"x"}`, at.epoch))
	older := start(t, s, "older")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.Equal(t, problem.Unavailable, problem.KindOf(older.feed.Append(ctx, listing("t2", 1))))
	require.Equal(t, tickets(0, 1), older.model.known())
	require.Error(t, older.feed.CaughtUp(t.Context()))
	require.Contains(t, string(s.Document(headKey).Value), `"last":2`)
}

func TestRun_WithoutUseReadsTheHeadFourTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar()
		r := startReplica(t, s, "one")
		defer r.stop()
		time.Sleep(2 * busyTime)
		before := s.readCount()
		time.Sleep(10 * time.Second)
		idle := s.readCount() - before
		require.Less(t, idle, 90, "40 of the head, and those of the journal's lease")
		r.feed.Touch()
		before = s.readCount()
		time.Sleep(time.Second)
		require.Greater(t, s.readCount()-before, 35)
	})
}

// The delay of another replica is that of its poll, which is far below a second also while nobody uses the catalogue. The clock of synctest
// stands still while anything is computed, so nothing else counts.
func TestRun_AnotherReplicaHasAChangeWithinAPoll(t *testing.T) {
	require.Less(t, idlePoll, time.Second/2)
	for name, c := range map[string]struct {
		unused time.Duration // before each change
		limit  time.Duration
	}{
		"while nobody uses the catalogue": {2 * busyTime, idlePoll},
		"while it is used":                {time.Second, busyPoll},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSidecar()
				one, two := startReplica(t, s, "one"), startReplica(t, s, "two")
				defer one.stop()
				defer two.stop()
				for n := range 40 {
					time.Sleep(c.unused + time.Duration(n)*7*time.Millisecond) // at another moment between two polls each time
					began := time.Now()
					one.append(t, listing("t"+strconv.Itoa(n), 1))
					require.LessOrEqual(t, time.Since(began), pace, "it is committed without waiting for a poll")
					began = time.Now()
					for len(two.model.known()) <= n {
						require.Less(t, time.Since(began), 2*time.Second)
						time.Sleep(time.Millisecond)
					}
					require.LessOrEqual(t, time.Since(began), c.limit+time.Millisecond)
				}
			})
		})
	}
}

func TestRebuild_EmptiesEveryReplicaAndKeepsRecentReservations(t *testing.T) {
	s := newSidecar()
	one := start(t, s, "one")
	for n := range 3 {
		one.append(t, listing("t"+strconv.Itoa(n), 1))
	}
	one.append(t, reservation("t1", 7))
	require.NoError(t, one.feed.compactNow(t.Context(), true))

	store := openStore(t, s, "command")
	defer func() { _ = store.Close(context.Background()) }()
	appended, err := Rebuild(t.Context(), store, one.feed.log, func(add func([]index.Change) error) error {
		return add([]index.Change{listing("again", 2)})
	})
	require.NoError(t, err)
	require.Equal(t, 2, appended)
	one.awaits(t, map[id.Ticket]int{"again": 2})
	require.Equal(t, 1, one.model.resetCount())
	one.append(t, listing("t0", 1))
	two := start(t, s, "two")
	two.awaits(t, map[id.Ticket]int{"again": 2, "t0": 1})
	require.Contains(t, fmt.Sprint(two.model.batches()), "t1=reserved:7")
}

// A rebuild that ends after it has begun the new epoch is run again. The second one must not lose the reservations that the first did not append.
func TestRebuild_AgainKeepsRecentReservations(t *testing.T) {
	s := newSidecar()
	one := start(t, s, "one")
	one.append(t, reservation("t1", 7))
	store := openStore(t, s, "command")
	defer func() { _ = store.Close(context.Background()) }()
	_, _, err := New(store, nothing{}, Options{Log: one.feed.log}).empty(t.Context()) // the process ends here
	require.NoError(t, err)
	appended, err := Rebuild(t.Context(), store, one.feed.log, func(func([]index.Change) error) error { return nil })
	require.NoError(t, err)
	require.Equal(t, 1, appended)
}
