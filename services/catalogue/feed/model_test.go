package feed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

// model is a read model that knows the newest version of each listing.
type model struct {
	mu       sync.Mutex
	listings map[id.Ticket]int
	applied  []applied
	resets   int
	epoch    string
	last     uint64 // the last batch, by Loaded and Apply
	problem  string // what the feed did wrong
}

// applied is a batch as it was applied.
type applied struct {
	epoch   string
	batch   uint64
	changes string
}

func newModel() *model { return &model{listings: map[id.Ticket]int{}} }

func (m *model) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listings = map[id.Ticket]int{}
	m.resets++
}

func (m *model) Load(changes []index.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.take(changes)
}

func (m *model) take(changes []index.Change) {
	for _, change := range changes {
		if change.Listing != nil {
			m.listings[change.Listing.ID] = max(m.listings[change.Listing.ID], change.Listing.Version)
		}
	}
}

func (m *model) Loaded(epoch string, batch uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch == m.epoch && batch < m.last {
		m.problem = fmt.Sprintf("loaded up to %d after %d", batch, m.last)
	}
	m.epoch, m.last = epoch, batch
}

func (m *model) Apply(epoch string, batch uint64, changes []index.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch != m.epoch || batch != m.last+1 {
		m.problem = fmt.Sprintf("batch %d of epoch %s after %d of %s", batch, epoch, m.last, m.epoch)
	}
	m.last = batch
	m.take(changes)
	m.applied = append(m.applied, applied{epoch, batch, describe(changes)})
}

func (m *model) Changes() iter.Seq[index.Change] {
	m.mu.Lock()
	all := maps.Clone(m.listings)
	m.mu.Unlock()
	return func(yield func(index.Change) bool) {
		for _, ticket := range slices.Sorted(maps.Keys(all)) {
			if !yield(listing(string(ticket), all[ticket])) {
				return
			}
		}
	}
}

// known is the newest version of each listing.
func (m *model) known() map[id.Ticket]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.listings)
}

func (m *model) resetCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.resets
}

func (m *model) batches() []applied {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.applied)
}

func describe(changes []index.Change) (text string) {
	for _, change := range changes {
		switch {
		case change.Listing != nil:
			text += fmt.Sprintf("%s:%d ", change.Listing.ID, change.Listing.Version)
		case change.Reservation != nil:
			text += fmt.Sprintf("%s=%s:%d ", change.Reservation.TicketID, change.Reservation.Status, change.Reservation.Sequence)
		case change.Show != nil:
			text += fmt.Sprintf("show %s:%d ", change.Show.ID, change.Show.Version)
		}
	}
	return text
}

func listing(ticket string, version int) index.Change {
	return index.Change{Listing: &index.Listing{ID: id.Ticket(ticket), Version: version, Status: index.Available}}
}

func reservation(ticket string, sequence int) index.Change {
	return index.Change{Reservation: &index.Reservation{TicketID: id.Ticket(ticket), Sequence: sequence, Status: index.Reserved}}
}

// fault is what a sidecar does to one call.
type fault int

const (
	works       fault = iota
	refuses           // nothing happens, and the call fails
	silent            // it happens, but the answer is lost
	happensLate       // the call fails, and it happens later, if its conditions still hold
)

var errFault = errors.New("the sidecar fails")

// sidecar is a sidecar in memory whose calls meet the next of its faults. When none is left, all succeed.
type sidecar struct {
	*statetest.Sidecar
	mu     sync.Mutex
	faults []fault
	reads  int
}

func newSidecar() *sidecar { return &sidecar{Sidecar: statetest.New()} }

func (s *sidecar) meet() fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) == 0 {
		return works
	}
	next := s.faults[0]
	s.faults = s.faults[1:]
	return next
}

func (s *sidecar) setFaults(faults []fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults
}

func (s *sidecar) readCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *sidecar) GetBulkState(ctx context.Context, store string, keys []string, meta map[string]string, parallelism int32) ([]*client.BulkStateItem, error) {
	if s.meet() != works {
		return nil, errFault
	}
	return s.Sidecar.GetBulkState(ctx, store, keys, meta, parallelism)
}

func (s *sidecar) GetState(ctx context.Context, store, key string, meta map[string]string) (*client.StateItem, error) {
	s.mu.Lock()
	s.reads++
	s.mu.Unlock()
	if s.meet() != works {
		return nil, errFault
	}
	return s.Sidecar.GetState(ctx, store, key, meta)
}

func (s *sidecar) ExecuteStateTransaction(ctx context.Context, store string, meta map[string]string, ops []*client.StateOperation) error {
	switch s.meet() {
	case works:
		return s.Sidecar.ExecuteStateTransaction(ctx, store, meta, ops)
	case silent:
		return errors.Join(s.Sidecar.ExecuteStateTransaction(ctx, store, meta, ops), errFault)
	case happensLate:
		time.AfterFunc(time.Duration(1+len(ops))*7*time.Millisecond, func() {
			_ = s.Sidecar.ExecuteStateTransaction(context.Background(), store, meta, ops)
		})
	}
	return errFault
}

// replica is one process of the catalogue.
type replica struct {
	store *state.Store
	feed  *Feed
	model *model
	stop  func() // ends it as a kill would: nothing is finished
}

func openStore(t require.TestingT, s state.Sidecar, instance string) *state.Store {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		store, err := state.Open(ctx, s, state.Options{Service: "catalogue", Instance: instance, Lease: time.Second, Log: slog.New(slog.DiscardHandler)})
		cancel()
		if err == nil {
			return store
		}
		require.ErrorIs(t, err, errFault)
	}
}

func startReplica(t require.TestingT, s state.Sidecar, name string) *replica {
	r := &replica{store: openStore(t, s, name), model: newModel()}
	r.feed = New(r.store, r.model, Options{Log: debugLog(name)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.feed.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_ = r.store.Close(gone)
	})
	return r
}

func start(t *testing.T, s state.Sidecar, name string) *replica {
	t.Helper()
	r := startReplica(t, s, name)
	t.Cleanup(r.stop)
	return r
}

func (r *replica) append(t require.TestingT, change index.Change) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, r.feed.Append(ctx, change))
}

func (r *replica) awaits(t *testing.T, want map[id.Ticket]int) {
	t.Helper()
	require.Eventually(t, func() bool { return maps.Equal(want, r.model.known()) }, 5*time.Second, time.Millisecond, "got %v", r.model.known())
}

func tickets(from, to int) map[id.Ticket]int {
	all := map[id.Ticket]int{}
	for n := from; n < to; n++ {
		all[id.Ticket("t"+strconv.Itoa(n))] = 1
	}
	return all
}

func debugLog(name string) *slog.Logger {
	if os.Getenv("FEED_DEBUG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("replica", name)
}
