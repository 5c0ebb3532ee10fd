package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

// testStore is a store with its subscriptions and a sidecar in memory.
type testStore struct {
	*store
	subscriptions
	sidecar *statetest.Sidecar
	log     bytes.Buffer

	mu           sync.Mutex
	transactions int
	reads        int
	committing   func()              // called before a transaction; may be nil
	reading      func(keys []string) // called before a read; may be nil
}

func newTestStore(t *testing.T, terms Terms) *testStore {
	t.Helper()
	s := &testStore{sidecar: statetest.New()}
	s.sidecar.BeforeRead = func(keys []string) error {
		s.mu.Lock()
		s.reads++
		reading := s.reading
		s.mu.Unlock()
		if reading != nil {
			reading(keys)
		}
		return nil
	}
	s.sidecar.BeforeCommit = func([]*client.StateOperation) error {
		s.mu.Lock()
		s.transactions++
		committing := s.committing
		s.mu.Unlock()
		if committing != nil {
			committing()
		}
		return nil
	}
	documents, err := state.Open(t.Context(), s.sidecar, state.Options{Service: "orders", Instance: "test", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(context.Background()) })
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	s.store = newStore(documents, terms, clock.System, log)
	s.subscriptions = subscriptions{s.store, log}
	return s
}

// calls returns how many transactions and reads the sidecar has received.
func (s *testStore) calls() (transactions, reads int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transactions, s.reads
}

// beforeCommit sets what is called before each transaction.
func (s *testStore) beforeCommit(call func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committing = call
}

// beforeRead sets what is called before each read.
func (s *testStore) beforeRead(call func(keys []string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = call
}

// requirePublished waits until an event is published.
func (s *testStore) requirePublished(t *testing.T, event string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, published := range s.sidecar.Published() {
			if published.ID == event {
				return true
			}
		}
		return false
	}, 5*time.Second, time.Millisecond, event)
}

// ordered stores an order whose window ends after a time, and its seat.
func (s *testStore) ordered(t *testing.T, after time.Duration, settle func(*Order, *Seat)) Order {
	t.Helper()
	seat := freeSeat()
	seat.ID = id.New[id.Ticket]()
	order, err := seat.Reserve(id.New[id.Order](), "buyer", s.clock(), Terms{Window: after})
	require.NoError(t, err)
	if settle != nil {
		settle(&order, &seat)
	}
	var change state.Change
	change.Create(orderKey(order.ID), order)
	change.Create(seatKey(seat.ID), seat)
	require.NoError(t, s.documents.Commit(t.Context(), &change))
	return order
}

// complete makes an order complete.
func complete(t *testing.T) func(*Order, *Seat) {
	return func(o *Order, seat *Seat) {
		_, err := o.Complete(seat, "payment-1", clock.System())
		require.NoError(t, err)
	}
}

func slotOf(orders ...Order) events.ExpirationComplete {
	e := events.ExpirationComplete{Slot: "1777636800.0", Part: 1, EndsAt: clock.System()}
	for _, order := range orders {
		e.Orders = append(e.Orders, events.ExpiredOrder{ID: order.ID, ExpiresAt: order.ExpiresAt})
	}
	return e
}

func (s *testStore) requireStatus(t *testing.T, want Status, order Order) {
	t.Helper()
	doc, err := s.order(t.Context(), order.ID)
	require.NoError(t, err)
	require.Equal(t, want, doc.Value.Status)
	if want == Cancelled {
		seat, err := state.Get[Seat](t.Context(), s.documents, seatKey(order.Ticket.ID))
		require.NoError(t, err)
		require.Nil(t, seat.Value.Reservation)
	}
}

func TestExpirationCompleted_CancelsOnlyUnpaidOrders(t *testing.T) {
	s := newTestStore(t, terms)
	var unpaid []Order
	for range 150 {
		unpaid = append(unpaid, s.ordered(t, -time.Second, nil))
	}
	paid := s.ordered(t, -time.Second, complete(t))
	unknown := Order{ID: id.New[id.Order]()}
	transactions, reads := s.calls()
	s.beforeCommit(func() { time.Sleep(5 * time.Millisecond) }) // as long as a real one takes

	slot := slotOf(append(unpaid, paid, unknown, unpaid[0])...)
	require.NoError(t, s.expirationCompleted(t.Context(), slot), "an unknown order does not stop the cancellation of the others")
	transactionsNow, readsNow := s.calls()
	require.LessOrEqual(t, transactionsNow-transactions, 30, "150 orders share them")
	require.LessOrEqual(t, readsNow-reads, 30, "150 orders share them")
	for _, order := range unpaid {
		s.requireStatus(t, Cancelled, order)
	}
	s.requireStatus(t, Complete, paid)
	require.Contains(t, s.log.String(), string(unknown.ID))

	require.NoError(t, s.expirationCompleted(t.Context(), slot))
	transactionsThen, _ := s.calls()
	require.Equal(t, transactionsNow, transactionsThen, "settled orders need no transaction")
}

func TestExpirationCompleted_IsDeliveredAgainIfItComesEarly(t *testing.T) {
	s := newTestStore(t, terms)
	over, early := s.ordered(t, -time.Second, nil), s.ordered(t, time.Second, nil)
	slot := slotOf(over, early)
	err := s.expirationCompleted(t.Context(), slot)
	require.Equal(t, problem.Unavailable, problem.KindOf(err), "the event is delivered again")
	s.requireStatus(t, Cancelled, over)
	s.requireStatus(t, Created, early)
	require.Eventually(t, func() bool { return s.expirationCompleted(t.Context(), slot) == nil }, 10*time.Second, 10*time.Millisecond)
	s.requireStatus(t, Cancelled, early)
}

func TestExpirationCompleted_OfAnEarlierReleaseHasOneOrder(t *testing.T) {
	s := newTestStore(t, terms)
	order := s.ordered(t, -time.Second, nil)
	require.NoError(t, s.expirationCompleted(t.Context(), events.ExpirationComplete{OrderID: order.ID, ExpiresAt: order.ExpiresAt, Firing: 1}))
	s.requireStatus(t, Cancelled, order)
}

// The seat changes between the bulk read and the transaction: its seller updates the listing, or the buyer pays.
func TestExpirationCompleted_ReadsChangedDocumentsAgain(t *testing.T) {
	for _, pays := range []bool{false, true} {
		t.Run(fmt.Sprint("pays ", pays), func(t *testing.T) {
			s := newTestStore(t, terms)
			order := s.ordered(t, -time.Second, nil)
			var once sync.Once
			s.beforeCommit(func() { once.Do(func() { s.changeBehind(order, pays) }) })
			require.NoError(t, s.expirationCompleted(t.Context(), slotOf(order)))
			want := Cancelled
			if pays {
				want = Complete
			}
			s.requireStatus(t, want, order)
		})
	}
}

// changeBehind changes an order's documents as another process does.
func (s *testStore) changeBehind(order Order, pays bool) {
	for _, key := range []string{orderKey(order.ID), seatKey(order.Ticket.ID)} {
		value := s.sidecar.Document(key).Value
		if pays {
			value = bytes.ReplaceAll(value, []byte(`"status":"created"`), []byte(`"status":"complete"`))
		}
		s.sidecar.Write(key, value)
	}
}
