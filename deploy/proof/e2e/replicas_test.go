package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// Two replicas of each service share a store and the events. Each takes over from the other.

// journalLease is short, so that a takeover follows soon.
const journalLease = 3 * time.Second

func newReplicatedStack(t *testing.T) *testStack {
	return newStack(t, stack.Options{Replicas: 2, Env: map[string]string{
		"JOURNAL_LEASE": journalLease.String(), "RESERVATION_WINDOW": "8s", "REMINDER_PERIOD": "1s",
	}})
}

// writingProcesses are the instances that have writers in a service's journal.
func (s *testStack) writingProcesses(t *testing.T, service string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, instance := range s.journalWriters(t, service) {
		all[instance] = true
	}
	return all
}

// reserveAt reserves a ticket at one replica of the orders service.
func (u *testUser) reserveAt(t *testing.T, replica, ticketID string) client.Order {
	t.Helper()
	r := u.call(t, client.Reserve(ticketID).At(u.stack.URL(replica)))
	requireStatus(t, 201, r)
	return decode[client.Order](t, r)
}

func TestReplicas_TakeOverFromDeadAndFrozenProcesses(t *testing.T) {
	t.Parallel()
	s := newReplicatedStack(t)
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)

	// reserveUnpublished reserves a ticket at the first replica of orders while the broker is down: its event is in the journal only.
	// Then it ends or freezes the replica.
	reserveUnpublished := func(t *testing.T, stop func(*stack.Process) error) client.Order {
		listed := seller.list(t, "Reserved while the broker is down", 1000)
		projectTicket(t, buyer, listed)
		events.waitIdle(t)
		var order client.Order
		s.whileDown(t, s.BrokerName(), func() {
			order = buyer.reserveAt(t, "orders", listed.ID)
			require.NoError(t, stop(s.Process("orders")))
		})
		return order
	}

	t.Run("from a process that was killed after a commit", func(t *testing.T) {
		require.Len(t, s.writingProcesses(t, "orders-2"), 2)
		order := reserveUnpublished(t, (*stack.Process).Kill)

		events.waitFor(t, "order.created:"+order.ID+":1")
		require.Equal(t, order.ID, s.ticketBecomes(t, "reserved", order.Ticket.ID).OrderID)
		eventually(t, "the journal has no writer of the dead process", func() bool { return len(s.writingProcesses(t, "orders-2")) == 1 })
		for range 10 {
			require.Equal(t, order.ID, buyer.order(t, order.ID).ID, "the gateway uses the other replica")
		}

		s.start(t, "orders")
		s.waitReady(t, "orders")
		require.Len(t, s.writingProcesses(t, "orders"), 2)
	})

	t.Run("from a process that was frozen for longer than its lease, and continues", func(t *testing.T) {
		listed := seller.list(t, "Reserved at the frozen process", 1000)
		projectTicket(t, buyer, listed)
		before := s.journalWriters(t, "orders-2")
		order := reserveUnpublished(t, (*stack.Process).Pause)
		late := make(chan client.Response, 1)
		go func() {
			r, _ := buyer.try(t.Context(), client.Reserve(listed.ID).At(s.URL("orders")))
			late <- r
		}()

		events.waitFor(t, "order.created:"+order.ID+":1")
		eventually(t, "the journal has no writer of the frozen process", func() bool { return len(s.writingProcesses(t, "orders-2")) == 1 })
		living := s.writingProcesses(t, "orders-2")
		require.NoError(t, s.Process("orders").Resume())

		r := <-late
		require.Equal(t, 201, r.Status, "the process registers again and commits: %s", r.Body)
		events.waitFor(t, "order.created:"+decode[client.Order](t, r).ID+":1")
		require.Len(t, s.writingProcesses(t, "orders"), 2)
		after := s.journalWriters(t, "orders")
		for id, instance := range before {
			_, kept := after[id]
			require.Equal(t, living[instance], kept, "only the frozen process has new ids: before %v, after %v", before, after)
		}
		s.waitReady(t)
	})

	t.Run("the reminders of actors", func(t *testing.T) {
		orders := make([]client.Order, 12)
		for i := range orders {
			orders[i] = buyer.reserve(t, seller.list(t, "Unpaid", 1000).ID)
		}
		events.waitIdle(t)
		s.kill(t, "expiration", "expiration-dapr")
		for _, order := range orders {
			require.Equal(t, "expired", buyer.orderBecomes(t, "cancelled", order.ID).Reason)
			s.ticketBecomes(t, "available", order.Ticket.ID)
		}
		s.start(t, "expiration-dapr", "expiration")
		s.waitReady(t)
	})
	require.Zero(t, events.deadLetterCount(t))
}

func TestReplicas_ConcurrentStartsAllRegister(t *testing.T) {
	t.Parallel()
	const many = 6
	s := newStack(t, stack.Options{Replicas: many, Apps: []string{"orders"}, Infra: []string{stack.Servers}})
	require.Len(t, s.writingProcesses(t, "orders"), many)
}
