package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// limited are terms with all limits.
var limited = Terms{Window: window, Cooldown: window, PerUser: 10}

func requireCooldown(t *testing.T, left time.Duration, err error) {
	t.Helper()
	refused, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "%v", err)
	require.ErrorIs(t, refused, errCooldown)
	require.Equal(t, left, refused.RetryAfter)
}

func TestReserve_TheSellerIsRefused(t *testing.T) {
	seat := freeSeat()
	seat.SellerID = "seller"
	_, err := seat.Reserve("order-1", "seller", noon, terms)
	require.ErrorIs(t, err, errOwnTicket)
	_, err = seat.Reserve("order-1", "buyer", noon, terms)
	require.NoError(t, err)
	_, err = seat.Reserve("order-2", "seller", noon, terms)
	require.ErrorIs(t, err, errReserved, "the state of the seat is checked first")
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
	for _, reason := range []Reason{Unpaid, Withdrawn, Refunded} {
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

func TestBuyer_MayHaveAsManyUnpaidOrdersAsTheTermsAllow(t *testing.T) {
	terms := Terms{Window: window, PerUser: 2}
	order := func(order id.Order, at time.Time) Order { return Order{ID: order, ExpiresAt: at.Add(window)} }
	var buyer Buyer
	require.NoError(t, buyer.AddOrder(order("one", noon), noon, terms))
	require.NoError(t, buyer.AddOrder(order("two", noon.Add(time.Minute)), noon.Add(time.Minute), terms))
	require.ErrorIs(t, buyer.AddOrder(order("three", noon), noon.Add(window-1), terms), errTooMany)
	require.NoError(t, buyer.AddOrder(order("three", noon.Add(window)), noon.Add(window), terms), "the first is over")
	require.Equal(t, []id.Order{"two", "three"}, []id.Order{buyer.Unpaid[0].OrderID, buyer.Unpaid[1].OrderID})

	buyer.RetainUnpaid(map[id.Order]bool{"three": true})
	require.NoError(t, buyer.AddOrder(order("four", noon.Add(window)), noon.Add(window), terms), "the second is paid")

	require.True(t, buyer.Delete())
	require.False(t, buyer.Delete())
	require.ErrorIs(t, buyer.AddOrder(order("five", noon), noon, terms), errAccountDeleted)
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
		require.Equal(t, terms.PerUser > 0, s.sidecar.Document(buyerKey("buyer")).ETag != "")
	}
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
	doc, err := s.order(t.Context(), order.ID)
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
		doc, err := s.order(t.Context(), order.ID)
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
	s, tickets := withTickets(t, limited, 4)
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
		require.ErrorIs(t, err, errAccountDeleted)
	}
	require.NoError(t, s.DeleteBuyer(t.Context(), "nobody"), "a user who never bought")
	_, err = s.reserve(t, tickets[3], "other")
	require.NoError(t, err)
}

func TestRefund_ByEvents(t *testing.T) {
	for name, c := range map[string]struct {
		refunded int64
		status   events.PaymentStatus
		want     Status
	}{
		"in full": {4500, "refunded", Cancelled}, "a part": {4499, "captured", Complete}, "one that failed": {0, "captured", Complete},
		"of an earlier release, which published only full ones": {0, "refunded", Cancelled},
	} {
		t.Run(name, func(t *testing.T) {
			s, tickets := withTickets(t, limited, 1)
			order, err := s.reserve(t, tickets[0], "buyer")
			require.NoError(t, err)
			payment := events.Payment{ID: "payment-1", OrderID: order.ID, Amount: 4500, Version: 1}
			require.NoError(t, s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: payment}))
			payment.Refunded, payment.Status = c.refunded, c.status
			for range 2 {
				require.NoError(t, s.paymentRefunded(t.Context(), events.PaymentRefunded{Payment: payment}))
				s.requireStatus(t, c.want, order)
			}
			require.NoError(t, s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: payment}), "it comes late")
			require.NoError(t, s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: payment}), "it comes again")
			s.requireStatus(t, c.want, order)
			_, err = s.reserve(t, tickets[0], "other")
			if c.want == Cancelled {
				require.ErrorIs(t, err, errWithheld)
			} else {
				require.ErrorIs(t, err, errSold)
			}
		})
	}
}
