package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// Tickets with a show: sales end when it starts, and a revoked ticket ends its order, paid or not.

var evening = noon.Add(8 * time.Hour)

// showListing is the listing of a ticket with a show.
func showListing(ticket id.Ticket, version int) events.Ticket {
	return events.Ticket{
		ID: ticket, UserID: "seller", Title: "Radiohead", Price: 4500, Currency: "usd", Status: "available",
		ShowID: "show-1", Seat: &events.Place{Section: "Block A", Row: "8", Number: "12"}, FaceValue: 4000, SalesEndAt: clock.Stamp(evening), Version: version,
	}
}

func showSeat() Seat {
	var s Seat
	s.Apply(showListing("ticket-1", 1), false)
	return s
}

func TestReserve_ATicketWithAShowUntilItStarts(t *testing.T) {
	for name, c := range map[string]struct {
		now time.Time
		err error
	}{
		"before":             {noon, nil},
		"at the last moment": {evening.Add(-time.Millisecond), nil},
		"when it starts":     {evening, errShowStarted},
		"afterwards":         {evening.Add(time.Hour), errShowStarted},
	} {
		t.Run(name, func(t *testing.T) {
			seat := showSeat()
			_, err := seat.Reserve("order-1", "buyer", c.now, limited)
			require.ErrorIs(t, err, c.err)
			if c.err != nil {
				require.Equal(t, showSeat(), seat, "a refusal changes nothing")
			}
		})
	}
	seat := freeSeat()
	_, err := seat.Reserve("order-1", "buyer", noon.AddDate(10, 0, 0), limited)
	require.NoError(t, err, "a ticket without a show is sold for ever")
}

func TestReserve_TheBuyerOfAStartedShowGetsTheOwnOrder(t *testing.T) {
	seat := showSeat()
	order, err := seat.Reserve("order-1", "buyer", evening.Add(-time.Minute), limited)
	require.NoError(t, err)
	_, err = seat.Reserve("order-2", "buyer", evening, limited)
	require.ErrorIs(t, err, errOwnReservation)
	changed, err := order.Complete(&seat, "payment-1", evening.Add(time.Minute))
	require.NoError(t, err)
	require.True(t, changed, "what was reserved before may be paid")
}

func TestReserve_TheOrderHasTheShowAndThePlace(t *testing.T) {
	seat := showSeat()
	order, err := seat.Reserve("order-1", "buyer", noon, terms)
	require.NoError(t, err)
	require.Equal(t, 2, seat.Schema, "the previous release would lose when sales end")
	require.Equal(t, 2, order.Schema)
	event, _ := order.Event().(events.OrderCreated)
	require.Equal(t, events.OrderedTicket{
		ID: "ticket-1", Title: "Radiohead", Price: 4500, Currency: "usd", ShowID: "show-1", Seat: &events.Place{Section: "Block A", Row: "8", Number: "12"},
	}, event.Ticket)
	body, err := json.Marshal(responseOf(order).Ticket)
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"ticket-1","title":"Radiohead","price":4500,"currency":"usd","showId":"show-1","seat":{"section":"Block A","row":"8","number":"12"}}`, string(body))

	seat = freeSeat()
	order, err = seat.Reserve("order-1", "buyer", noon, terms)
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{seat.Schema, order.Schema}, "both releases read those without a show")
	body, err = json.Marshal(responseOf(order).Ticket)
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"ticket-1","title":"Front row","price":4500,"currency":"usd"}`, string(body))
}

func TestApply_AMovedShowMovesTheEndOfSales(t *testing.T) {
	seat := showSeat()
	moved := showListing("ticket-1", 2)
	moved.SalesEndAt, moved.Status = clock.Stamp(evening.Add(time.Hour)), "sold"
	require.True(t, seat.Apply(moved, false))
	_, err := seat.Reserve("order-1", "buyer", evening, limited)
	require.NoError(t, err)
	require.False(t, seat.Apply(showListing("ticket-1", 1), false), "it comes late")
}

// A moved show does not end the withholding of a ticket: only its seller does.
func TestApply_AMovedShowDoesNotEndTheWithholding(t *testing.T) {
	seat := showSeat()
	order, err := seat.Reserve("order-1", "buyer", noon, terms)
	require.NoError(t, err)
	_, err = order.Cancel(&seat, Refunded, noon, terms)
	require.NoError(t, err)
	for sequence, status := range map[int]events.TicketStatus{0: "available", 1: "reserved", 2: "withheld"} {
		moved := showListing("ticket-1", 2+sequence)
		moved.Sequence, moved.Status = sequence, status
		seat.Apply(moved, false)
		_, err = seat.Reserve("order-2", "other", noon, terms)
		require.ErrorIs(t, err, errWithheld)
	}
}

// A process of the previous release has written the seat during an update: it dropped what it does not know.
func TestApply_AddsTheShowToADocumentOfAnEarlierRelease(t *testing.T) {
	seat := freeSeat()
	seat.SellerID = "seller"
	again := showListing("ticket-1", 1)
	require.True(t, seat.Apply(again, false), "the same version, published again")
	require.Equal(t, evening, seat.SalesEndAt)
	require.Equal(t, 2, seat.Schema)
	require.False(t, seat.Apply(again, false))
}

func TestCancelRevoked_EndsEveryLiveOrder(t *testing.T) {
	for name, c := range map[string]struct {
		settle  func(*Order, *Seat)
		changed bool
	}{
		"created":              {func(*Order, *Seat) {}, true},
		"created, window over": {func(o *Order, _ *Seat) { o.ExpiresAt = noon }, true},
		"complete":             {complete(t), true},
		"complete and captured": {func(o *Order, s *Seat) {
			complete(t)(o, s)
			o.MarkCaptured("payment-1")
		}, true},
		"cancelled": {func(o *Order, s *Seat) { _, _ = o.Cancel(s, ByUser, noon, terms) }, false},
		"refunded": {func(o *Order, s *Seat) {
			complete(t)(o, s)
			_, _ = o.Cancel(s, Refunded, noon, terms)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			seat := showSeat()
			order, err := seat.Reserve("order-1", "buyer", noon, terms)
			require.NoError(t, err)
			c.settle(&order, &seat)
			before, sequence := order, seat.Sequence
			changed, err := order.CancelRevoked(&seat, noon, limited)
			require.NoError(t, err)
			require.Equal(t, c.changed, changed)
			if !changed {
				require.Equal(t, before, order)
				return
			}
			require.Equal(t, Withdrawn, order.Reason)
			require.Nil(t, seat.Reservation)
			require.Empty(t, seat.Cooldowns, "it is not the buyer's fault")
			require.Zero(t, seat.Withheld)
			require.Equal(t, sequence+1, order.Sequence)
			require.IsType(t, events.OrderCancelled{}, order.Event())
			require.False(t, order.IsUnsettled())

			for _, later := range []func() (bool, error){
				func() (bool, error) { return order.CancelRevoked(&seat, noon, limited) },
				func() (bool, error) { return order.CancelByPayment(&seat, "payment-1", Refunded, noon, limited) },
				func() (bool, error) { return order.CancelByPayment(&seat, "payment-1", PaymentLost, noon, limited) },
				func() (bool, error) { return order.Complete(&seat, "payment-1", noon) },
			} {
				changed, err := later()
				require.NoError(t, err)
				require.False(t, changed)
			}
			require.Zero(t, seat.Withheld)
		})
	}
}

// The events come in any order with those of the payment, and more than once.
func TestListingDeleted_ARevokedTicketEndsItsOrder(t *testing.T) {
	for name, paid := range map[string]bool{"unpaid": false, "paid": true} {
		t.Run(name, func(t *testing.T) {
			s := newTestStore(t, limited)
			ticket := id.New[id.Ticket]()
			listing := showListing(ticket, 1)
			listing.SalesEndAt = clock.Stamp(clock.System().Add(time.Hour))
			require.NoError(t, s.listingChanged(t.Context(), listing))
			order, err := s.reserve(t, ticket, "buyer")
			require.NoError(t, err)
			payment := events.Payment{ID: "payment-1", OrderID: order.ID, Amount: 4500, Version: 1}
			if paid {
				require.NoError(t, s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: payment}))
			}

			listing.Version, listing.Revoked = 2, true
			for range 2 {
				require.NoError(t, s.listingDeleted(t.Context(), events.TicketDeleted{Ticket: listing}))
				s.requireStatus(t, Cancelled, order)
			}
			version := 2
			if paid {
				version = 3
			}
			cancelled, err := s.OrderOfBuyer(t.Context(), order.ID, "buyer")
			require.NoError(t, err)
			require.Equal(t, version, cancelled.Version)
			require.Equal(t, Withdrawn, cancelled.Reason)
			s.requirePublished(t, fmt.Sprintf("order.cancelled:%s:%d", order.ID, version))

			require.NoError(t, s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: payment}), "late, or again")
			require.NoError(t, s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: payment}))
			payment.Status, payment.Refunded = "refunded", 4500
			require.NoError(t, s.paymentRefunded(t.Context(), events.PaymentRefunded{Payment: payment}))
			after, err := s.OrderOfBuyer(t.Context(), order.ID, "buyer")
			require.NoError(t, err)
			require.Equal(t, cancelled, after, "it does not change any more")
			_, err = s.reserve(t, ticket, "other")
			require.ErrorIs(t, err, errNoTicket)
		})
	}
}

// The deletion of a listing that its seller withdrew does not end a complete order, as before.
func TestListingDeleted_AWithdrawnTicketStaysTheBuyersIfItIsPaid(t *testing.T) {
	s := newTestStore(t, limited)
	ticket := id.New[id.Ticket]()
	listing := showListing(ticket, 1)
	listing.SalesEndAt = clock.Stamp(clock.System().Add(time.Hour))
	require.NoError(t, s.listingChanged(t.Context(), listing))
	order, err := s.reserve(t, ticket, "buyer")
	require.NoError(t, err)
	require.NoError(t, s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: events.Payment{ID: "payment-1", OrderID: order.ID, Version: 1}}))
	listing.Version = 2
	require.NoError(t, s.listingDeleted(t.Context(), events.TicketDeleted{Ticket: listing}))
	s.requireStatus(t, Complete, order)
	listing.Version, listing.Revoked = 3, true // then its show is cancelled
	require.NoError(t, s.listingDeleted(t.Context(), events.TicketDeleted{Ticket: listing}))
	s.requireStatus(t, Cancelled, order)
}

// During an update a process of the previous release refuses the seat and the order of a ticket with a show, and reads others.
func TestDocuments_ThePreviousReleaseRefusesATicketWithAShow(t *testing.T) {
	type previous struct { // has no Upgrader, so it reads format 1 alone
		Schema int `json:"schema"`
	}
	s := newTestStore(t, limited)
	listing := showListing(id.New[id.Ticket](), 1)
	listing.SalesEndAt = clock.Stamp(clock.System().Add(time.Hour))
	require.NoError(t, s.listingChanged(t.Context(), listing))
	with, err := s.reserve(t, listing.ID, "buyer")
	require.NoError(t, err)
	without := s.ordered(t, time.Minute, nil)
	for _, order := range []Order{with, without} {
		for _, key := range []string{orderKey(order.ID), seatKey(order.Ticket.ID)} {
			_, err := state.Get[previous](t.Context(), s.documents, key)
			if order.ID == with.ID {
				require.Equal(t, problem.Unavailable, problem.KindOf(err), key)
			} else {
				require.NoError(t, err, key)
			}
		}
	}
}
