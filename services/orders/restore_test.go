package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
)

// After a restore of an older backup there are events of orders that do not exist here.
func TestRestore_EventsOfLostOrdersAreHandledAndTheirMoneyGoesBack(t *testing.T) {
	s := newTestStore(t, terms)
	payment := events.Payment{ID: id.New[id.Payment](), UserID: "buyer", Amount: 4500, Currency: "usd", Version: 1, CreatedAt: clock.Stamp(clock.System())}
	for name, handle := range map[string]func(events.Payment) error{
		"created": func(p events.Payment) error {
			return s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: p})
		},
		"captured": func(p events.Payment) error {
			return s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: p})
		},
	} {
		payment.OrderID = id.New[id.Order]()
		require.NoError(t, handle(payment), name)
		s.requirePublished(t, fmt.Sprintf("order.cancelled:%s:%d", payment.OrderID, lostVersion))
	}
	for name, handle := range map[string]func(events.Payment) error{
		"voided": func(p events.Payment) error { return s.paymentVoided(t.Context(), events.PaymentVoided{Payment: p}) },
		"refunded": func(p events.Payment) error {
			return s.paymentRefunded(t.Context(), events.PaymentRefunded{Payment: p})
		},
	} {
		payment.OrderID = id.New[id.Order]()
		before, _ := s.calls()
		require.NoError(t, handle(payment), name)
		after, _ := s.calls()
		require.Equal(t, before, after, name)
	}
	lost := lostOrder(payment, clock.System())
	require.Equal(t, []any{events.OrderStatusCancelled, events.CancelReasonUnknown, id.User("buyer"), int64(4500), "usd"}, []any{lost.Status, lost.Reason, lost.UserID, lost.Ticket.Price, lost.Ticket.Currency})
}

// The order was complete, and is not in the restored backup.
func TestRestore_AnOrderWhoseMoneyIsCapturedIsCompletedAgain(t *testing.T) {
	s := newTestStore(t, terms)
	order := s.ordered(t, time.Minute, nil)
	require.NoError(t, s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: events.Payment{ID: "payment-1", OrderID: order.ID, Version: 2}}))
	s.requireStatus(t, Complete, order)
	orders, err := s.Unsettled(t.Context(), order.UserID)
	require.NoError(t, err)
	require.Empty(t, orders)
}

// Tickets has applied changes of a reservation that this service has lost.
func TestRestore_ASeatCatchesUpWithTickets(t *testing.T) {
	listing := func(ticket id.Ticket, sequence int, order id.Order) events.Ticket {
		return events.Ticket{ID: ticket, UserID: "seller", Title: "Front row", Price: 4500, Currency: "usd", Status: "reserved", OrderID: order, Version: 1, Sequence: sequence}
	}
	sequence := func(s *testStore, ticket id.Ticket) (int, *Reservation) {
		doc, err := state.Get[Seat](t.Context(), s.documents, seatKey(ticket))
		require.NoError(t, err)
		return doc.Value.Sequence, doc.Value.Reservation
	}
	t.Run("the seat is free", func(t *testing.T) {
		s, tickets := withTickets(t, limited, 1)
		for range 2 { // the second is a redelivery
			require.NoError(t, s.listingChanged(t.Context(), listing(tickets[0], 3, "lost")))
			at, holder := sequence(s, tickets[0])
			require.Equal(t, 4, at)
			require.Nil(t, holder)
		}
		s.requirePublished(t, fmt.Sprintf("order.cancelled:lost:%d", lostVersion+4))
	})
	t.Run("the seat does not exist", func(t *testing.T) {
		s, ticket := newTestStore(t, terms), id.New[id.Ticket]()
		require.NoError(t, s.listingChanged(t.Context(), listing(ticket, 2, "lost")))
		at, _ := sequence(s, ticket)
		require.Equal(t, 3, at)
		s.requirePublished(t, fmt.Sprintf("order.cancelled:lost:%d", lostVersion+3))
	})
	t.Run("another order has it now", func(t *testing.T) {
		for _, ahead := range []int{0, 2} {
			s, tickets := withTickets(t, limited, 1)
			order, err := s.reserve(t, tickets[0], "buyer")
			require.NoError(t, err)
			require.NoError(t, s.listingChanged(t.Context(), listing(tickets[0], 1+ahead, "lost")))
			at, holder := sequence(s, tickets[0])
			require.Equal(t, 2+ahead, at)
			require.Equal(t, order.ID, holder.OrderID)
			version := lostVersion + 2 + ahead
			s.requirePublished(t, fmt.Sprintf("order.created:%s:%d", order.ID, version))
			require.NoError(t, s.listingChanged(t.Context(), listing(tickets[0], 2+ahead, order.ID)))
			again, _ := sequence(s, tickets[0])
			require.Equal(t, at, again)
			completed, err := s.Complete(t.Context(), order.ID, "payment-1")
			require.NoError(t, err)
			require.Equal(t, version+1, completed.Version, "above all that were published before the restore")
		}
	})
	t.Run("its sale was refunded", func(t *testing.T) {
		s, tickets := withTickets(t, limited, 1)
		refunded := listing(tickets[0], 3, "")
		refunded.Status = "withheld"
		require.NoError(t, s.listingChanged(t.Context(), refunded))
		at, _ := sequence(s, tickets[0])
		require.Equal(t, 4, at)
		_, err := s.reserve(t, tickets[0], "buyer")
		require.ErrorIs(t, err, errWithheld)

		offered := listing(tickets[0], 3, "")
		offered.Status, offered.Version = "available", 2
		require.NoError(t, s.listingChanged(t.Context(), offered))
		_, err = s.reserve(t, tickets[0], "buyer")
		require.NoError(t, err, "its seller has offered it again")
	})
	t.Run("its sale was refunded, and another order has it now", func(t *testing.T) {
		s, tickets := withTickets(t, limited, 1)
		order, err := s.reserve(t, tickets[0], "buyer")
		require.NoError(t, err)
		refunded := listing(tickets[0], 3, "")
		refunded.Status = "withheld"
		require.NoError(t, s.listingChanged(t.Context(), refunded))
		require.NoError(t, s.Cancel(t.Context(), order.ID, Withdrawn))
		_, err = s.reserve(t, tickets[0], "other")
		require.NoError(t, err)
	})
	t.Run("tickets has older changes", func(t *testing.T) {
		s, tickets := withTickets(t, limited, 1)
		order, err := s.reserve(t, tickets[0], "buyer")
		require.NoError(t, err)
		require.NoError(t, s.Cancel(t.Context(), order.ID, ByUser))
		before := s.sidecar.Document(seatKey(tickets[0]))
		require.NoError(t, s.listingChanged(t.Context(), listing(tickets[0], 1, order.ID)))
		require.NoError(t, s.listingChanged(t.Context(), listing(tickets[0], 0, "")))
		require.Equal(t, before, s.sidecar.Document(seatKey(tickets[0])))
		at, _ := sequence(s, tickets[0])
		require.Equal(t, 2, at)
	})
}
