package feed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// deployment is replicas on one store, in which calls fail and processes end.
type deployment struct {
	sidecar  *sidecar
	replicas [3]*replica
	ended    []*replica // their models still show what they have applied
	tried    int
	promised map[id.Ticket]int // what Append has acknowledged
	mu       sync.Mutex
}

func (d *deployment) anyFaults(t *rapid.T) {
	bad := rapid.SampledFrom([]fault{works, works, refuses, silent, happensLate})
	d.sidecar.setFaults(rapid.SliceOfN(bad, 0, 12).Draw(t, "faults"))
}

// appendSome appends changes at once, at any replica. Meanwhile a replica may be killed, and another may compact.
func (d *deployment) appendSome(t *rapid.T) {
	d.anyFaults(t)
	kills := rapid.IntRange(-6, 2).Draw(t, "killed, if not negative")
	compacts := rapid.IntRange(-4, 2).Draw(t, "compacts, if not negative")
	dropsBatches := rapid.Bool().Draw(t, "and drops the batches")
	var working sync.WaitGroup
	for range rapid.IntRange(1, 8).Draw(t, "changes") {
		d.tried++
		ticket, version := fmt.Sprintf("t%d", d.tried%5), d.tried
		r := d.replicas[rapid.IntRange(0, 2).Draw(t, "replica")]
		patience := time.Duration(rapid.SampledFrom([]int{1, 50, 60_000}).Draw(t, "patience in ms")) * time.Millisecond
		working.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			err := r.feed.Append(ctx, listing(ticket, version))
			if err == nil {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.promised[id.Ticket(ticket)] = max(d.promised[id.Ticket(ticket)], version)
				return
			}
			require.Equal(t, problem.Unavailable, problem.KindOf(err), "%v", err)
		})
	}
	if compacts >= 0 {
		f := d.replicas[compacts].feed
		working.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = f.compactNow(ctx, true)
			if dropsBatches {
				_, _ = f.modifyManifest(ctx, f.current().epoch, func(m *manifest) (bool, error) {
					m.First = m.Position + 1
					return true, nil
				})
				_ = f.compactNow(ctx, false)
			}
		})
	}
	if kills >= 0 {
		time.Sleep(time.Millisecond)
		d.replicas[kills].stop()
		d.ended = append(d.ended, d.replicas[kills])
		d.replicas[kills] = startReplica(t, d.sidecar, fmt.Sprintf("replica-%d", kills))
	}
	working.Wait()
}

// check compares the models of all replicas, also of those that have ended, when nothing is under way.
func (d *deployment) check(t *rapid.T) {
	batches := map[string]string{}
	for _, r := range append(d.ended, d.replicas[:]...) {
		require.Empty(t, r.model.problem)
		for _, a := range r.model.batches() {
			place := fmt.Sprintf("%s-%d", a.epoch, a.batch)
			if other, known := batches[place]; known {
				require.Equal(t, other, a.changes, "batch %s is not the same at all replicas", place)
			}
			batches[place] = a.changes
		}
	}
	for i, r := range d.replicas {
		known := r.model.known()
		require.Equal(t, d.replicas[0].model.known(), known, "replica %d", i)
		for ticket, version := range d.promised {
			require.GreaterOrEqual(t, known[ticket], version, "%s: an acknowledged change is lost at replica %d", ticket, i)
		}
		require.NoError(t, r.feed.CaughtUp(context.Background()))
	}
}

// Whatever the store does, and whenever a process ends: an acknowledged change is in the model of every replica, and all replicas apply
// the same batches in the same order. Nothing depends on snapshots and on when batches are deleted.
func TestFeed_KeepsItsOrderAndLosesNothingUnderFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time passes by itself
		undated := struct{ testing.TB }{t} // rapid would ask for the test's deadline, which is of no use in here
		rapid.Check(undated, func(t *rapid.T) {
			d := &deployment{sidecar: newSidecar(), promised: map[id.Ticket]int{}}
			for i := range d.replicas {
				d.replicas[i] = startReplica(t, d.sidecar, fmt.Sprintf("replica-%d", i))
			}
			defer func() {
				for _, r := range d.replicas {
					r.stop()
				}
			}()
			for range rapid.IntRange(1, 8).Draw(t, "rounds") {
				d.appendSome(t)
			}
			d.sidecar.setFaults(nil)
			time.Sleep(5 * time.Second) // what is late comes
			d.check(t)

			last := startReplica(t, d.sidecar, "last")
			defer last.stop()
			time.Sleep(time.Second)
			require.Equal(t, d.replicas[0].model.known(), last.model.known(), "a new replica")
		})
	})
}

// A rebuild while others append loses nothing that was appended after it began.
func TestRebuild_WhileReplicasAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar()
		one, two := startReplica(t, s, "one"), startReplica(t, s, "two")
		defer one.stop()
		defer two.stop()
		one.append(t, listing("before", 1))
		stop := make(chan struct{})
		after := map[id.Ticket]int{}
		var begun, appending sync.WaitGroup
		begun.Add(1)
		appending.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				r := one
				if n%2 == 0 {
					r = two
				}
				r.append(t, listing("during", n))
				after["during"] = n
				if n == 10 {
					begun.Done()
				}
				time.Sleep(time.Millisecond)
			}
		})
		begun.Wait()
		store := openStore(t, s, "command")
		_, err := Rebuild(t.Context(), store, one.feed.log, func(add func([]index.Change) error) error {
			return add([]index.Change{listing("own", 3)})
		})
		require.NoError(t, err)
		require.NoError(t, errors.Join(store.Close(t.Context())))
		time.Sleep(50 * time.Millisecond)
		close(stop)
		appending.Wait()
		time.Sleep(time.Second)
		after["own"] = 3
		require.True(t, maps.Equal(after, one.model.known()), "%v", one.model.known())
		require.Equal(t, one.model.known(), two.model.known())
		require.Empty(t, one.model.problem+two.model.problem)
	})
}
