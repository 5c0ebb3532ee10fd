package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// Two of everything: they share one store and the events, and each does the work that the other leaves.

// lease is short, so that nobody waits long for who is gone.
const lease = 3 * time.Second

func twoOfEverything(t *testing.T) *house {
	return newHouse(t, stack.Options{Replicas: 2, Env: map[string]string{
		"JOURNAL_LEASE": lease.String(), "RESERVATION_WINDOW": "8s", "REMINDER_PERIOD": "1s",
	}})
}

// writers are the writers of a service's journal, by id, with their instances. A process has one or more.
func (h *house) writers(t *testing.T, app string) map[string]string {
	t.Helper()
	r := h.do(t, "GET", h.SidecarHTTP(app)+"/v1.0/state/state/journal%2Fregistry", nil, "dapr-api-token", h.APIToken(app))
	require.Equal(t, 200, r.status, "%s", r.body)
	var registry struct {
		Writers []struct{ ID, Instance string }
	}
	require.NoError(t, json.Unmarshal(r.body, &registry))
	all := map[string]string{}
	for _, w := range registry.Writers {
		all[w.ID] = w.Instance
	}
	return all
}

// writing are the processes that have writers in a service's journal.
func (h *house) writing(t *testing.T, app string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, instance := range h.writers(t, app) {
		all[instance] = true
	}
	return all
}

// reservedAt reserves a ticket at one replica of the orders service.
func (p *person) reservedAt(t *testing.T, replica, ticketID string) order {
	t.Helper()
	r := p.do(t, "POST", p.house.URL(replica)+"/api/orders", wanted{ticketID})
	require.Equal(t, 201, r.status, "%s", r.body)
	return as[order](t, r)
}

func TestReplicas_TakeOver(t *testing.T) {
	t.Parallel()
	h := twoOfEverything(t)
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)

	// committed reserves a ticket at a replica while the broker is away: the event is in its journal alone.
	committed := func(t *testing.T, replica string, then func()) order {
		seat := seller.list(t, "Reserved in the dark", 1000)
		known(t, buyer, seat)
		events.settled(t)
		var given order
		h.without(t, h.BrokerName(), func() {
			given = buyer.reservedAt(t, replica, seat.ID)
			then()
		})
		return given
	}

	t.Run("from a process that was killed for good right after it committed", func(t *testing.T) {
		require.Len(t, h.writing(t, "orders-2"), 2)
		given := committed(t, "orders", func() { require.NoError(t, h.Process("orders").Kill()) })

		events.holds(t, "order.created:"+given.ID+":1")
		require.Equal(t, given.ID, h.ticketBecomes(t, "reserved", given.Ticket.ID).OrderID)
		eventually(t, "the dead process is gone from the journal", func() bool { return len(h.writing(t, "orders-2")) == 1 })
		for range 10 {
			require.Equal(t, given.ID, buyer.order(t, given.ID).ID, "the gateway goes to the other")
		}

		require.NoError(t, h.Process("orders").Start())
		require.NoError(t, h.WaitReady(t.Context(), "orders"))
		require.Len(t, h.writing(t, "orders"), 2)
	})

	t.Run("from a process that was frozen for longer than its lease, and goes on", func(t *testing.T) {
		seat := seller.list(t, "Wanted of one that is frozen", 1000)
		known(t, buyer, seat)
		before := h.writers(t, "orders-2")
		given := committed(t, "orders", func() { require.NoError(t, h.Process("orders").Pause()) })
		late := make(chan reply, 1)
		go func() {
			r, _ := buyer.send("POST", h.URL("orders")+"/api/orders", wanted{seat.ID})
			late <- r
		}()

		events.holds(t, "order.created:"+given.ID+":1")
		eventually(t, "the frozen process is gone from the journal", func() bool { return len(h.writing(t, "orders-2")) == 1 })
		living := h.writing(t, "orders-2")
		require.NoError(t, h.Process("orders").Resume())

		r := <-late
		require.Equal(t, 201, r.status, "it registers anew and commits: %s", r.body)
		events.holds(t, "order.created:"+as[order](t, r).ID+":1")
		require.Len(t, h.writing(t, "orders"), 2)
		after := h.writers(t, "orders")
		for id, instance := range before {
			_, still := after[id]
			require.Equal(t, living[instance], still, "who was frozen registers under new ids: before %v, after %v", before, after)
		}
		require.NoError(t, h.WaitReady(t.Context()))
	})

	t.Run("the reminders of actors", func(t *testing.T) {
		given := make([]order, 12)
		for i := range given {
			seat := seller.list(t, "Never paid", 1000)
			given[i] = buyer.reserved(t, seat.ID)
		}
		events.settled(t)
		require.NoError(t, h.Process("expiration").Kill())
		require.NoError(t, h.Process("expiration-dapr").Kill())
		for _, one := range given {
			require.Equal(t, "expired", buyer.orderBecomes(t, "cancelled", one.ID).Reason)
			h.ticketBecomes(t, "available", one.Ticket.ID)
		}
		require.NoError(t, h.Process("expiration-dapr").Start())
		require.NoError(t, h.Process("expiration").Start())
		require.NoError(t, h.WaitReady(t.Context()))
	})
	require.Zero(t, events.dead(t))
}

func TestReplicas_ManyStartAtOnce(t *testing.T) {
	t.Parallel()
	const many = 6
	h := newHouse(t, stack.Options{Replicas: many, Apps: []string{"orders"}, Infra: []string{stack.Servers}})
	require.Len(t, h.writing(t, "orders"), many, "each has found its place in the registry")
}
