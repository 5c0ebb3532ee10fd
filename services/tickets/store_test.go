package main

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

// create lists a ticket.
func create(t *testing.T, s *store, seller id.User) Ticket {
	t.Helper()
	change, ticket, err := s.Create(seller, Listing{Offer: Offer{Title: "Front row", Price: 4500}})(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.documents.Commit(t.Context(), change))
	return ticket
}

// A seller who tries to change sold tickets many times does not make this service publish as many events.
func TestUpdate_ASoldTicketIsPublishedAgainOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sidecar := statetest.New()
		documents, err := state.Open(t.Context(), sidecar, state.Options{Service: "tickets", Instance: "test", Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		s := newStore(documents, Terms{"usd", 50}, clock.System, slog.New(slog.DiscardHandler))
		var sold []Ticket
		for range 2 {
			ticket := create(t, s, "seller")
			sale := orderEvent("order-1", 2, Sold)
			sale.Ticket.ID = ticket.ID
			require.NoError(t, s.ApplyOrder(t.Context(), sale))
			sold = append(sold, ticket)
		}
		// try changes and deletes a ticket, which is refused, and returns how many events are published.
		try := func(ticket Ticket) int {
			synctest.Wait() // for events before
			before := len(sidecar.Published())
			for range 5 {
				_, err := s.Update(t.Context(), ticket.ID, "seller", 0, Offer{Title: "Front row", Price: 100})
				require.ErrorIs(t, err, errSold)
				require.ErrorIs(t, s.Delete(t.Context(), ticket.ID, "seller", 0), errSold)
			}
			time.Sleep(time.Second)
			return len(sidecar.Published()) - before
		}
		require.Zero(t, try(sold[0]), "it was sold a moment ago")
		time.Sleep(republishAge)
		require.Equal(t, 1, try(sold[0]))
		require.Equal(t, 1, try(sold[1]))
		require.Zero(t, try(sold[0]))
		time.Sleep(republishPause)
		require.Equal(t, 1, try(sold[0]))
		require.NoError(t, documents.Close(context.Background()))
	})
}

// The document has the name and the members that earlier releases gave it.
func TestWithdraw_DeletesTheTicketsOfDeletedSellers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sidecar := statetest.New()
		documents, err := state.Open(t.Context(), sidecar, state.Options{Service: "tickets", Instance: "test", Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		s := newStore(documents, Terms{"usd", 50}, clock.System, slog.New(slog.DiscardHandler))
		list := func(seller id.User) id.Ticket { return create(t, s, seller).ID }
		withdraw := func() int {
			withdrawn, err := s.Withdraw(t.Context())
			require.NoError(t, err)
			return withdrawn
		}
		requireDeleted := func(ticket id.Ticket, deleted bool) {
			_, err := s.Ticket(t.Context(), ticket)
			if deleted {
				require.ErrorIs(t, err, errNoTicket)
			} else {
				require.NoError(t, err)
			}
		}
		require.Zero(t, withdraw())
		free, reserved, others := list("leaving"), list("leaving"), list("other")
		sale := orderEvent("order-1", 1, Reserved)
		sale.Ticket.ID = reserved
		require.NoError(t, s.ApplyOrder(t.Context(), sale))

		unknown := orderEvent("order-1", 2, Available)
		unknown.Ticket.ID, unknown.Status = reserved, "paused"
		require.ErrorIs(t, s.ApplyOrder(t.Context(), unknown), events.ErrRefused, "a status of a later release must not free the ticket")

		for range 2 { // the second is a redelivery
			require.NoError(t, s.BeginWithdrawal(t.Context(), "leaving"))
		}
		require.Regexp(t, `^\{"schema":1,"sellers":\[\{"userId":"leaving","at":"[^"]+"\}\]\}$`, string(sidecar.Document("leavers").Value))
		require.Equal(t, 2, withdraw())
		requireDeleted(free, true)
		requireDeleted(reserved, false)
		requireDeleted(others, false)
		require.Zero(t, withdraw())

		cancelled := orderEvent("order-1", 2, Available)
		cancelled.Ticket.ID = reserved
		require.NoError(t, s.ApplyOrder(t.Context(), cancelled))
		requireDeleted(reserved, true)

		late := list("leaving") // with a token that is still accepted
		require.Equal(t, 1, withdraw())
		requireDeleted(late, true)
		time.Sleep(tokenTime + time.Second)
		require.Zero(t, withdraw())
		require.Equal(t, `{"schema":1,"sellers":[]}`, string(sidecar.Document("leavers").Value))
		require.NoError(t, documents.Close(context.Background()))
	})
}

// A ticket that the previous release has listed is in its seller's list after the daily reconciliation, or after its next change.
func TestReconcile_AddsTicketsOfThePreviousReleaseToTheirSellersLists(t *testing.T) {
	s := newTestAPI(t).store
	var old []id.Ticket
	for range 3 {
		ticket := Create(id.New[id.Ticket](), "seller", "usd", Offer{Title: "Front row", Price: 4500}, s.clock())
		ticket.InSellerIndex = false
		var change state.Change
		change.Create(ticketKey(ticket.ID), ticket)
		change.Append(allTickets, string(ticket.ID))
		require.NoError(t, s.documents.Commit(t.Context(), &change))
		old = append(old, ticket.ID)
	}
	listed := func() (ids []id.Ticket) {
		tickets, next, err := s.TicketsOf(t.Context(), "seller", "", 50, "")
		require.NoError(t, err)
		require.Empty(t, next)
		for _, ticket := range tickets {
			ids = append(ids, ticket.ID)
		}
		return ids
	}
	require.Empty(t, listed())
	_, err := s.Update(t.Context(), old[1], "seller", 0, Offer{Title: "Front row", Price: 4600})
	require.NoError(t, err)
	require.Equal(t, old[1:2], listed(), "its next change")
	for range 3 { // days
		r := reconcile.New(s.documents, reconcile.Settings{ReconcileEvery: time.Nanosecond}, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), s.indexSellers())
		require.NoError(t, r.ReconcileIfDue(t.Context()))
		require.ElementsMatch(t, old, listed(), "once each")
	}
}
