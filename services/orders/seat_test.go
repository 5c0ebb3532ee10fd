package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

func requireCooldown(t *testing.T, left time.Duration, err error) {
	t.Helper()
	refused, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "%v", err)
	require.ErrorIs(t, refused, errCooldown)
	require.Equal(t, left, refused.RetryAfter)
}

func TestApply_AddsTheSellerToADocumentOfAnEarlierRelease(t *testing.T) {
	seat := freeSeat()
	again := events.Ticket{ID: "ticket-1", UserID: "seller", Title: "Front row", Price: 4500, Currency: "usd", Version: 1}
	require.True(t, seat.Apply(again, false), "the same version, published again")
	require.Equal(t, id.User("seller"), seat.SellerID)
	require.False(t, seat.Apply(again, false))
}

func TestCooldown_AfterAnExpiredOrderTheBuyerWaits(t *testing.T) {
	seat := freeSeat()
	order, err := seat.Reserve("order-1", "buyer", noon, limited)
	require.NoError(t, err)
	over := noon.Add(window)
	_, err = order.Cancel(&seat, Expired, over.Add(2*time.Second), limited)
	require.NoError(t, err)

	_, err = seat.Reserve("order-2", "buyer", over.Add(time.Minute), limited)
	requireCooldown(t, window-time.Minute, err)
	_, err = seat.Reserve("order-2", "buyer", over.Add(time.Minute), terms)
	require.NoError(t, err, "0 turns it off, also what was noted before")
	require.Len(t, seat.Cooldowns, 1)
	seat.Reservation = nil
	_, err = seat.Reserve("order-3", "other", over.Add(time.Minute), limited)
	require.NoError(t, err)
	seat.Reservation = nil
	_, err = seat.Reserve("order-4", "buyer", over.Add(window), limited)
	require.NoError(t, err)
}

func TestCooldown_IsCountedFromTheEndOfTheWindow(t *testing.T) {
	for _, late := range []time.Duration{0, window - time.Millisecond} {
		seat := freeSeat()
		order, err := seat.Reserve("order-1", "buyer", noon, limited)
		require.NoError(t, err)
		at := noon.Add(window + late)
		_, err = order.Cancel(&seat, Expired, at, limited)
		require.NoError(t, err)
		_, err = seat.Reserve("order-2", "buyer", at, limited)
		requireCooldown(t, window-late, err)
	}
	seat := freeSeat()
	order, err := seat.Reserve("order-1", "buyer", noon, limited)
	require.NoError(t, err)
	at := noon.Add(2 * window)
	_, err = order.Cancel(&seat, Expired, at, limited)
	require.NoError(t, err)
	require.Empty(t, seat.Cooldowns)
	_, err = seat.Reserve("order-2", "buyer", at, limited)
	require.NoError(t, err, "the cooldown has ended already")
}

// Otherwise a buyer could keep a ticket for ever by cancelling just before the end.
func TestCooldown_AfterACancellationIsInProportionToTheTimeHeld(t *testing.T) {
	for held, wait := range map[time.Duration]time.Duration{
		time.Second: 2 * time.Second, time.Minute: 2 * time.Minute, window - time.Second: 2*window - 2*time.Second, window: 2 * window,
		window + time.Minute: 2*window - time.Minute, // it ended a minute ago
	} {
		seat := freeSeat()
		doubled := Terms{Window: window, Cooldown: 2 * window}
		order, err := seat.Reserve("order-1", "buyer", noon, doubled)
		require.NoError(t, err)
		at := noon.Add(held)
		_, err = order.Cancel(&seat, ByUser, at, doubled)
		require.NoError(t, err)
		_, err = seat.Reserve("order-2", "buyer", at, doubled)
		requireCooldown(t, wait, err)
		_, err = seat.Reserve("order-2", "buyer", at.Add(wait), doubled)
		require.NoError(t, err)
	}
}

func TestCooldown_NoneForOtherReasons(t *testing.T) {
	for _, reason := range []Reason{PaymentLost, Withdrawn, Refunded} {
		seat := freeSeat()
		order, err := seat.Reserve("order-1", "buyer", noon, limited)
		require.NoError(t, err)
		_, err = order.Cancel(&seat, reason, noon.Add(window), limited)
		require.NoError(t, err)
		require.Empty(t, seat.Cooldowns, reason)
	}
}

func TestCooldown_TheirNumberIsBounded(t *testing.T) {
	var seat Seat
	for i := range 3 * maxCooldowns {
		seat.addCooldown(Cooldown{id.User(fmt.Sprint(i)), noon.Add(time.Duration(i+1) * time.Second)}, noon)
	}
	require.Len(t, seat.Cooldowns, maxCooldowns)
	require.Equal(t, id.User(fmt.Sprint(3*maxCooldowns-1)), seat.Cooldowns[maxCooldowns-1].UserID)
	seat.addCooldown(Cooldown{}, noon.Add(time.Hour))
	require.Nil(t, seat.Cooldowns)
}

func TestRefund_TheSeatIsWithheldUntilItsSellerOffersItAgainAfterTheRefund(t *testing.T) {
	seat, order := reserved(t)
	_, err := order.Complete(&seat, "payment-1", noon)
	require.NoError(t, err)
	changed, err := order.Cancel(&seat, Refunded, noon, terms)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, []any{Cancelled, Refunded, 3}, []any{order.Status, order.Reason, order.Sequence})
	require.Nil(t, seat.Reservation)
	_, err = seat.Reserve("order-2", "other", noon, terms)
	require.ErrorIs(t, err, errWithheld)
	changed, err = order.Cancel(&seat, Refunded, noon, terms)
	require.NoError(t, err)
	require.False(t, changed, "a repeat")

	require.True(t, seat.Apply(events.Ticket{ID: "ticket-1", Version: 2, Sequence: 1, Status: "available"}, false), "made before the refund, and late")
	require.True(t, seat.Apply(events.Ticket{ID: "ticket-1", Version: 3, Sequence: 3, Status: "withheld"}, false), "published again")
	_, err = seat.Reserve("order-2", "other", noon, terms)
	require.ErrorIs(t, err, errWithheld)
	require.True(t, seat.Apply(events.Ticket{ID: "ticket-1", Version: 5, Sequence: 3, Status: "available"}, false))
	_, err = seat.Reserve("order-2", "other", noon, terms)
	require.NoError(t, err)
}

func TestRefund_AListingOfferedAgainAndDeletedIsNotWithheldInAnyOrderOfEvents(t *testing.T) {
	offered := events.Ticket{ID: "ticket-1", UserID: "seller", Version: 5, Sequence: 3, Status: "available"}
	deleted := offered
	deleted.Version = 6
	refunded := func() Seat {
		seat, order := reserved(t)
		_, err := order.Complete(&seat, "payment-1", noon)
		require.NoError(t, err)
		_, err = order.Cancel(&seat, Refunded, noon, terms)
		require.NoError(t, err)
		return seat
	}

	inOrder, inReverse := refunded(), refunded()
	inOrder.Apply(offered, false)
	inOrder.Apply(deleted, true)
	inReverse.Apply(deleted, true)
	inReverse.Apply(offered, false)
	require.Equal(t, inOrder, inReverse)
	require.Zero(t, inReverse.Withheld)
}

func TestApply_ChangesOnlyToNewerListingsAndKeepsTheReservation(t *testing.T) {
	seat, _ := reserved(t)
	newer := events.Ticket{ID: "ticket-1", Title: "Second row", Price: 3000, Currency: "usd", Version: 3}
	require.True(t, seat.Apply(newer, false))
	require.False(t, seat.Apply(newer, false), "a repeat")
	require.False(t, seat.Apply(events.Ticket{ID: "ticket-1", Title: "Old", Version: 2}, true), "late")
	require.Equal(t, "Second row", seat.Title)
	require.False(t, seat.Deleted)
	require.Equal(t, id.Order("order-1"), seat.Reservation.OrderID)
}

func TestApply_ConvergesInAnyOrder(t *testing.T) {
	published := []events.Ticket{
		{ID: "t", Title: "one", Price: 1, Currency: "usd", Version: 1},
		{ID: "t", Title: "two", Price: 2, Currency: "usd", Version: 2},
		{ID: "t", Title: "three", Price: 3, Currency: "usd", Version: 3},
	}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {2, 2, 0}, {0, 2, 1, 0}, {1, 2, 1}} {
		var seat Seat
		for _, i := range order {
			seat.Apply(published[i], i == 2)
		}
		require.Equal(t, Seat{Schema: 1, ID: "t", Title: "three", Price: 3, Currency: "usd", Version: 3, Deleted: true}, seat, "%v", order)
	}
}
