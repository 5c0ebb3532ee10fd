package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// expirySidecar is a sidecar whose store is a map with transactions and ETags.
type expirySidecar struct {
	mu           sync.Mutex
	documents    map[string]*client.StateItem
	transactions int
	reads        int
	committing   func()            // called before a transaction; may be nil
	published    map[string]bool   // events, by their ids
	lifetimes    map[string]string // of documents, in seconds, as they were last written
}

func (m *expirySidecar) GetState(_ context.Context, _, key string, _ map[string]string) (*client.StateItem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if found := m.documents[key]; found != nil {
		return found, nil
	}
	return &client.StateItem{Key: key}, nil
}

func (m *expirySidecar) GetBulkState(_ context.Context, _ string, keys []string, _ map[string]string, _ int32) (all []*client.BulkStateItem, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	for _, key := range keys {
		one := &client.BulkStateItem{Key: key}
		if found := m.documents[key]; found != nil {
			one.Value, one.Etag = found.Value, found.Etag
		}
		all = append(all, one)
	}
	return all, nil
}

func (m *expirySidecar) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	m.mu.Lock()
	committing := m.committing
	m.mu.Unlock()
	if committing != nil {
		committing()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		found := m.documents[op.Item.Key]
		first := op.Item.Options != nil && op.Item.Options.Concurrency == client.StateConcurrencyFirstWrite
		if op.Item.Etag != nil && (found == nil || found.Etag != op.Item.Etag.Value) || op.Item.Etag == nil && first && found != nil {
			return errors.New("a condition does not hold")
		}
	}
	m.transactions++
	for _, op := range ops {
		if op.Type == client.StateOperationTypeDelete {
			delete(m.documents, op.Item.Key)
			continue
		}
		m.lifetimes[op.Item.Key] = op.Item.Metadata["ttlInSeconds"]
		m.documents[op.Item.Key] = &client.StateItem{Key: op.Item.Key, Value: op.Item.Value, Etag: strconv.Itoa(m.transactions)}
	}
	return nil
}

func (m *expirySidecar) PublishEvents(_ context.Context, _, _ string, all []any, _ ...client.PublishEventsOption) client.PublishEventsResponse {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range all {
		var event struct{ ID string }
		switch one := one.(type) {
		case []byte:
			_ = json.Unmarshal(one, &event)
		case client.PublishEventsEvent:
			_ = json.Unmarshal(one.Data, &event)
		}
		m.published[event.ID] = true
	}
	return client.PublishEventsResponse{}
}

func (*expirySidecar) GetMetadata(context.Context) (*client.GetMetadataResponse, error) {
	return &client.GetMetadataResponse{}, nil
}

// calls are how often documents were written and read.
func (m *expirySidecar) calls() (transactions, reads int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.transactions, m.reads
}

// beforeCommit has something happen before each transaction.
func (m *expirySidecar) beforeCommit(happens func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.committing = happens
}

// expiryScene is a box with a store in memory.
type expiryScene struct {
	*box
	sidecar *expirySidecar
	log     bytes.Buffer
}

func newExpiryScene(t *testing.T) *expiryScene {
	t.Helper()
	s := &expiryScene{sidecar: &expirySidecar{documents: map[string]*client.StateItem{}, published: map[string]bool{}, lifetimes: map[string]string{}}}
	store, err := state.Open(t.Context(), s.sidecar, state.Options{Service: "orders", Instance: "test", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close(context.Background()) })
	s.box = newBox(store, Terms{Window: window}, slog.New(slog.NewTextHandler(&s.log, nil)))
	return s
}

// ordered stores an order, which expires after a time, and its ticket.
func (s *expiryScene) ordered(t *testing.T, after time.Duration, settle func(*Order, *Ticket)) Order {
	t.Helper()
	ticket := freeTicket()
	ticket.ID = uuid.NewString()
	order, _, err := ticket.Reserve(uuid.NewString(), "buyer", now(), Terms{Window: after})
	require.NoError(t, err)
	if settle != nil {
		settle(&order, &ticket)
	}
	var change state.Change
	change.Create(orderKey(order.ID), order)
	change.Create(ticketKey(ticket.ID), ticket)
	require.NoError(t, s.store.Commit(t.Context(), &change))
	return order
}

func slotOf(orders ...Order) events.ExpirationComplete {
	e := events.ExpirationComplete{Slot: "1777636800.0", Part: 1, EndsAt: now()}
	for _, order := range orders {
		e.Orders = append(e.Orders, events.ExpiredOrder{ID: order.ID, ExpiresAt: order.ExpiresAt})
	}
	return e
}

func (s *expiryScene) requireStatus(t *testing.T, want Status, order Order) {
	t.Helper()
	doc, err := s.Order(t.Context(), order.ID)
	require.NoError(t, err)
	require.Equal(t, want, doc.Value.Status)
	if want == Cancelled {
		ticket, err := state.Get[Ticket](t.Context(), s.store, ticketKey(order.Ticket.ID))
		require.NoError(t, err)
		require.Nil(t, ticket.Value.Reservation)
	}
}

func TestTimeIsOver_CancelsWhatIsUnpaidAndLeavesTheRest(t *testing.T) {
	s := newExpiryScene(t)
	var unpaid []Order
	for range 150 {
		unpaid = append(unpaid, s.ordered(t, -time.Second, nil))
	}
	paid := s.ordered(t, -time.Second, func(o *Order, ticket *Ticket) { require.NoError(t, o.Complete(ticket, "payment-1", now())) })
	gone := Order{ID: uuid.NewString()}
	transactions, reads := s.sidecar.calls()
	s.sidecar.beforeCommit(func() { time.Sleep(5 * time.Millisecond) }) // as long as a real one takes

	slot := slotOf(append(unpaid, paid, gone, unpaid[0])...)
	require.NoError(t, s.timeIsOver(t.Context(), slot), "an order that is not known keeps no other from its end")
	transactionsNow, readsNow := s.sidecar.calls()
	require.LessOrEqual(t, transactionsNow-transactions, 30, "150 orders share them")
	require.LessOrEqual(t, readsNow-reads, 30, "150 orders share them")
	for _, order := range unpaid {
		s.requireStatus(t, Cancelled, order)
	}
	s.requireStatus(t, Complete, paid)
	require.Contains(t, s.log.String(), gone.ID)

	require.NoError(t, s.timeIsOver(t.Context(), slot))
	transactionsThen, _ := s.sidecar.calls()
	require.Equal(t, transactionsNow, transactionsThen, "settled orders cost nothing")
}

func TestTimeIsOver_AnEventThatIsEarlyIsNotAcknowledged(t *testing.T) {
	s := newExpiryScene(t)
	over, early := s.ordered(t, -time.Second, nil), s.ordered(t, time.Second, nil)
	slot := slotOf(over, early)
	err := s.timeIsOver(t.Context(), slot)
	require.Equal(t, problem.Unavailable, problem.KindOf(err), "it is delivered again for as long as that lasts")
	s.requireStatus(t, Cancelled, over)
	s.requireStatus(t, Created, early)
	require.Eventually(t, func() bool { return s.timeIsOver(t.Context(), slot) == nil }, 10*time.Second, 10*time.Millisecond)
	s.requireStatus(t, Cancelled, early)
}

func TestTimeIsOver_AnEventOfTheReleaseBeforeHasOneOrder(t *testing.T) {
	s := newExpiryScene(t)
	order := s.ordered(t, -time.Second, nil)
	require.NoError(t, s.timeIsOver(t.Context(), events.ExpirationComplete{OrderID: order.ID, ExpiresAt: order.ExpiresAt, Firing: 1}))
	s.requireStatus(t, Cancelled, order)
}

// The ticket changes between the bulk read and the transaction, by an update of its seller or by a payment.
func TestTimeIsOver_ReadsAgainWhatHasChanged(t *testing.T) {
	for _, pays := range []bool{false, true} {
		t.Run(fmt.Sprint("pays ", pays), func(t *testing.T) {
			s := newExpiryScene(t)
			order := s.ordered(t, -time.Second, nil)
			var once sync.Once
			s.sidecar.beforeCommit(func() { once.Do(func() { s.changeBehind(order, pays) }) })
			require.NoError(t, s.timeIsOver(t.Context(), slotOf(order)))
			want := Cancelled
			if pays {
				want = Complete
			}
			s.requireStatus(t, want, order)
		})
	}
}

// changeBehind changes an order's documents past the store, as another process does.
func (s *expiryScene) changeBehind(order Order, pays bool) {
	s.sidecar.mu.Lock()
	defer s.sidecar.mu.Unlock()
	for _, key := range []string{orderKey(order.ID), ticketKey(order.Ticket.ID)} {
		found := *s.sidecar.documents[key]
		found.Etag += "-changed"
		if pays {
			found.Value = bytes.ReplaceAll(found.Value, []byte(`"status":"created"`), []byte(`"status":"complete"`))
		}
		s.sidecar.documents[key] = &found
	}
}
