package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
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

func (s *testStore) requireStatus(t *testing.T, want Status, order Order) {
	t.Helper()
	doc, err := s.readOrder(t.Context(), order.ID)
	require.NoError(t, err)
	require.Equal(t, want, doc.Value.Status)
	if want == Cancelled {
		seat, err := state.Get[Seat](t.Context(), s.documents, seatKey(order.Ticket.ID))
		require.NoError(t, err)
		require.Nil(t, seat.Value.Reservation)
	}
}

// withTickets is a store that has the tickets of a seller.
func withTickets(t *testing.T, terms Terms, number int) (s *testStore, tickets []id.Ticket) {
	s = newTestStore(t, terms)
	for range number {
		ticket := id.New[id.Ticket]()
		_, err := s.ApplyListing(t.Context(), events.Ticket{ID: ticket, UserID: "seller", Title: "Front row", Price: 4500, Currency: "usd", Version: 1}, false)
		require.NoError(t, err)
		tickets = append(tickets, ticket)
	}
	return s, tickets
}

// reserve is Reserve as the API calls it.
func (s *testStore) reserve(t *testing.T, ticket id.Ticket, buyer id.User) (Order, error) {
	return state.Decide(t.Context(), s.documents, func(ctx context.Context) (*state.Change, Order, error) { return s.Reserve(ctx, ticket, buyer) })
}

func TestReserve_AHundredAtOnceByOneBuyerGetTen(t *testing.T) {
	s, tickets := withTickets(t, limited, 100)
	results := make([]error, len(tickets))
	orders := make([]Order, len(tickets))
	var all sync.WaitGroup
	for i, ticket := range tickets {
		all.Go(func() { orders[i], results[i] = s.reserve(t, ticket, "buyer") })
	}
	all.Wait()
	var given []Order
	for i, err := range results {
		if err == nil {
			given = append(given, orders[i])
		} else {
			require.ErrorIs(t, err, errTooMany)
		}
	}
	require.Len(t, given, 10)
	_, err := s.reserve(t, tickets[0], "other")
	if given[0].Ticket.ID != tickets[0] {
		require.NoError(t, err, "other buyers are not limited by it")
	}

	free := func() id.Ticket {
		for i, err := range results {
			if err != nil && i > 0 {
				results[i] = nil
				return tickets[i]
			}
		}
		return ""
	}
	require.NoError(t, s.Cancel(t.Context(), given[0].ID, ByUser))
	_, err = s.reserve(t, free(), "buyer")
	require.NoError(t, err, "one was cancelled")
	_, err = s.Complete(t.Context(), given[1].ID, "payment-1")
	require.NoError(t, err)
	_, err = s.reserve(t, free(), "buyer")
	require.NoError(t, err, "one is paid")
	_, err = s.reserve(t, free(), "buyer")
	require.ErrorIs(t, err, errTooMany)
}

// A reservation reads once, with or without a limit. The first one of a buyer reads the missing document twice.
func TestReserve_TheLimitNeedsNoFurtherCall(t *testing.T) {
	for _, terms := range []Terms{{Window: window}, {Window: window, Cooldown: window, PerUser: 100}} {
		s, tickets := withTickets(t, terms, 51)
		_, err := s.reserve(t, tickets[0], "buyer")
		require.NoError(t, err)
		transactions, reads := s.calls()
		for _, ticket := range tickets[1:] {
			_, err = s.reserve(t, ticket, "buyer")
			require.NoError(t, err)
		}
		transactionsNow, readsNow := s.calls()
		require.Equal(t, 50, transactionsNow-transactions, "%+v", terms)
		require.InDelta(t, 50, readsNow-reads, 5, "%+v; the store reads a little for itself", terms)
		buyer, err := state.Get[Buyer](t.Context(), s.documents, buyerKey("buyer"))
		require.NoError(t, err)
		require.Len(t, buyer.Value.Unpaid, min(51, terms.PerUser))
	}
}

// The ids are too old to wait for their events.
func TestReserve_ATicketThatIsNotKnown(t *testing.T) {
	s := newTestStore(t, limited)
	for _, ticket := range []id.Ticket{statetest.IDOfAge[id.Ticket](time.Hour), id.Ticket(uuid.NewString())} {
		_, err := s.reserve(t, ticket, "buyer")
		require.ErrorIs(t, err, errNoTicket)
	}
	young := statetest.IDOfAge[id.Ticket](30 * time.Second)
	_, err := s.reserve(t, young, "buyer")
	require.ErrorIs(t, err, errTicketNotYetKnown)

	_, err = s.ApplyListing(t.Context(), events.Ticket{ID: young, UserID: "seller", Price: 4500, Currency: "usd", Version: 1}, false)
	require.NoError(t, err)
	_, err = s.reserve(t, young, "buyer")
	require.NoError(t, err, "its event has arrived")
	_, err = s.ApplyListing(t.Context(), events.Ticket{ID: young, UserID: "seller", Price: 4500, Currency: "usd", Version: 2}, true)
	require.NoError(t, err)
	_, err = s.reserve(t, young, "other")
	require.ErrorIs(t, err, errNoTicket, "a deleted ticket is known")
}

func TestReserve_WaitsForTheEventOfANewTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestStore(t, limited)
		const waiting = 8                                                               // of one user
		late, never := statetest.IDOfAge[id.Ticket](0), statetest.IDOfAge[id.Ticket](0) // by the clock of this bubble
		began := time.Now()
		results := make([]error, waiting)
		var requests sync.WaitGroup
		for i := range results {
			ticket := never
			if i == 0 {
				ticket = late
			}
			requests.Go(func() { _, results[i] = s.reserve(t, ticket, "buyer") })
		}
		synctest.Wait()

		_, err := s.reserve(t, never, "buyer")
		require.ErrorIs(t, err, errTicketNotYetKnown, "so many wait already")
		require.Zero(t, time.Since(began))
		time.Sleep(time.Second)
		_, err = s.ApplyListing(t.Context(), events.Ticket{ID: late, UserID: "seller", Price: 4500, Currency: "usd", Version: 1}, false)
		require.NoError(t, err)
		requests.Wait()
		require.InDelta(t, 5*time.Second, time.Since(began), float64(time.Second))
		require.NoError(t, results[0])
		for _, err := range results[1:] {
			require.ErrorIs(t, err, errTicketNotYetKnown)
		}
		time.Sleep(time.Minute)
		_, err = s.reserve(t, never, "buyer")
		require.ErrorIs(t, err, errNoTicket)
	})
}

// The window was longer when the buyer's first reservation was made.
func TestReserve_TheBuyersDocumentIsKeptUntilAllWindowsAreOver(t *testing.T) {
	s, tickets := withTickets(t, Terms{Window: 24 * time.Hour, PerUser: 1000}, 2)
	lifetime := func() time.Duration {
		seconds, err := time.ParseDuration(s.sidecar.Document(buyerKey("buyer")).TTL + "s")
		require.NoError(t, err)
		return seconds
	}
	_, err := s.reserve(t, tickets[0], "buyer")
	require.NoError(t, err)
	require.InDelta(t, 24*time.Hour+buyerTime, lifetime(), float64(time.Minute))
	s.terms.Window = time.Minute
	_, err = s.reserve(t, tickets[1], "buyer")
	require.NoError(t, err)
	require.InDelta(t, 24*time.Hour+buyerTime, lifetime(), float64(time.Minute))
}

func TestReserve_OverAnExpiredOrderCancelsItInTheSameChange(t *testing.T) {
	s := newTestStore(t, limited)
	order := s.ordered(t, -time.Second, nil)
	_, err := s.reserve(t, order.Ticket.ID, "buyer")
	require.ErrorIs(t, err, errCooldown)
	s.requireStatus(t, Created, order)
	before, _ := s.calls()
	next, err := s.reserve(t, order.Ticket.ID, "other")
	require.NoError(t, err)
	after, _ := s.calls()
	require.Equal(t, 1, after-before)
	doc, err := s.readOrder(t.Context(), order.ID)
	require.NoError(t, err)
	require.Equal(t, []any{Cancelled, Expired, 2}, []any{doc.Value.Status, doc.Value.Reason, doc.Value.Sequence})
	require.Equal(t, 3, next.Sequence)
	s.requirePublished(t, fmt.Sprintf("order.cancelled:%s:2", order.ID))
	s.requirePublished(t, fmt.Sprintf("order.created:%s:1", next.ID))
}

// The expired order is paid, or cancelled, between the read of its seat and its own.
func TestReserve_OverAnExpiredOrderThatChangesMeanwhileIsDecidedAgain(t *testing.T) {
	for _, end := range []Status{Complete, Cancelled} {
		s := newTestStore(t, terms)
		order := s.ordered(t, -time.Second, nil)
		var once sync.Once
		s.beforeRead(func(keys []string) {
			if !slices.Contains(keys, orderKey(order.ID)) {
				return
			}
			once.Do(func() {
				seat, err := state.Get[Seat](t.Context(), s.documents, seatKey(order.Ticket.ID))
				require.NoError(t, err)
				changed := order
				if end == Complete {
					_, err = changed.Complete(&seat.Value, "payment-1", s.clock())
				} else {
					_, err = changed.Cancel(&seat.Value, Expired, s.clock(), terms)
				}
				require.NoError(t, err)
				for key, value := range map[string]any{orderKey(order.ID): changed, seat.Key: seat.Value} {
					encoded, err := json.Marshal(value)
					require.NoError(t, err)
					s.sidecar.Write(key, encoded)
				}
			})
		})
		_, err := s.reserve(t, order.Ticket.ID, "other")
		if end == Complete {
			require.ErrorIs(t, err, errSold)
		} else {
			require.NoError(t, err)
		}
		doc, err := s.readOrder(t.Context(), order.ID)
		require.NoError(t, err)
		require.Equal(t, []any{end, 2}, []any{doc.Value.Status, doc.Value.Version}, "it is changed once")
	}
}

func TestUnsettled_CountsWhatIsUnpaidOrNotCaptured(t *testing.T) {
	s, tickets := withTickets(t, limited, 5)
	count := func() int {
		orders, err := s.Unsettled(t.Context(), "buyer")
		require.NoError(t, err)
		return len(orders)
	}
	require.Zero(t, count())
	var orders []Order
	for _, ticket := range tickets {
		order, err := s.reserve(t, ticket, "buyer")
		require.NoError(t, err)
		orders = append(orders, order)
	}
	require.Equal(t, 5, count())
	require.NoError(t, s.Cancel(t.Context(), orders[0].ID, ByUser))
	require.Equal(t, 4, count())
	payment := events.Payment{ID: "payment-1", OrderID: orders[1].ID, Amount: 4500, Version: 2}
	require.NoError(t, s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: payment}))
	require.Equal(t, 4, count(), "its money is not captured yet")
	require.NoError(t, s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: payment}))
	require.Equal(t, 3, count())
	before, _ := s.calls()
	require.NoError(t, s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: payment}))
	after, _ := s.calls()
	require.Equal(t, before, after, "a repeat writes nothing")
	others, err := s.Unsettled(t.Context(), "other")
	require.NoError(t, err)
	require.Empty(t, others)
}

func TestDeleteBuyer_CancelsUnpaidOrdersAndRefusesNewOnes(t *testing.T) {
	t.Run("with a limit", func(t *testing.T) { deleteBuyer(t, limited) })
	t.Run("without a limit", func(t *testing.T) { deleteBuyer(t, terms) })
}

func deleteBuyer(t *testing.T, terms Terms) {
	s, tickets := withTickets(t, terms, 4)
	unpaid, err := s.reserve(t, tickets[0], "buyer")
	require.NoError(t, err)
	paid, err := s.reserve(t, tickets[1], "buyer")
	require.NoError(t, err)
	_, err = s.Complete(t.Context(), paid.ID, "payment-1")
	require.NoError(t, err)
	others, err := s.reserve(t, tickets[2], "other")
	require.NoError(t, err)
	for range 2 { // a repeat changes nothing
		require.NoError(t, s.DeleteBuyer(t.Context(), "buyer"))
		s.requireStatus(t, Cancelled, unpaid)
		s.requireStatus(t, Complete, paid)
		s.requireStatus(t, Created, others)
		_, err = s.reserve(t, tickets[3], "buyer")
		require.ErrorIs(t, err, identity.ErrAccountDeleted)
	}
	require.NoError(t, s.DeleteBuyer(t.Context(), "nobody"), "a user who never bought")
	_, err = s.reserve(t, tickets[3], "other")
	require.NoError(t, err)
}
