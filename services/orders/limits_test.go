package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// limited are terms with every limit.
var limited = Terms{Window: window, Cooldown: window, PerUser: 10}

func requireCooldown(t *testing.T, left time.Duration, err error) {
	t.Helper()
	refused, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "%v", err)
	require.ErrorIs(t, refused, errCooldown)
	require.Equal(t, left, refused.RetryAfter)
}

func TestReserve_TheSellerIsRefused(t *testing.T) {
	ticket := freeTicket()
	ticket.UserID = "seller"
	_, _, err := ticket.Reserve("order-1", "seller", noon, terms)
	require.ErrorIs(t, err, errOwnTicket)
	_, _, err = ticket.Reserve("order-1", "buyer", noon, terms)
	require.NoError(t, err)
	_, _, err = ticket.Reserve("order-2", "seller", noon, terms)
	require.ErrorIs(t, err, errReserved, "what the ticket is comes first")
}

func TestHear_ADocumentOfTheReleaseBeforeLearnsWhoTheSellerIs(t *testing.T) {
	ticket := freeTicket()
	again := events.Ticket{ID: "ticket-1", UserID: "seller", Title: "Front row", Price: 4500, Currency: "usd", Version: 1}
	require.True(t, ticket.Hear(again, false), "the same version, published again")
	require.Equal(t, "seller", ticket.UserID)
	require.False(t, ticket.Hear(again, false))
}

func TestCooldown_WhoLetsATicketExpireWaits(t *testing.T) {
	ticket := freeTicket()
	order, _, err := ticket.Reserve("order-1", "buyer", noon, limited)
	require.NoError(t, err)
	over := noon.Add(window)
	_, err = order.Cancel(&ticket, Expired, over.Add(2*time.Second), limited)
	require.NoError(t, err)

	_, _, err = ticket.Reserve("order-2", "buyer", over.Add(time.Minute), limited)
	requireCooldown(t, window-time.Minute, err)
	_, _, err = ticket.Reserve("order-2", "buyer", over.Add(time.Minute), terms)
	require.NoError(t, err, "0 turns it off, also what was noted before")
	require.Len(t, ticket.Cooldowns, 1)
	ticket.Reservation = nil
	_, _, err = ticket.Reserve("order-3", "other", over.Add(time.Minute), limited)
	require.NoError(t, err)
	ticket.Reservation = nil
	_, _, err = ticket.Reserve("order-4", "buyer", over.Add(window), limited)
	require.NoError(t, err)
}

func TestCooldown_HoldsAlsoWhenNobodyHasCancelledTheExpiredOrder(t *testing.T) {
	for _, late := range []time.Duration{0, window - time.Millisecond} {
		ticket := freeTicket()
		order, _, err := ticket.Reserve("order-1", "buyer", noon, limited)
		require.NoError(t, err)
		at := noon.Add(window + late)
		next, expired, err := ticket.Reserve("order-2", "buyer", at, limited)
		require.NoError(t, err)
		require.Equal(t, order.ID, expired)
		requireCooldown(t, window-late, order.GiveWay(&ticket, next, at, limited))
	}
	ticket := freeTicket()
	order, _, err := ticket.Reserve("order-1", "buyer", noon, limited)
	require.NoError(t, err)
	at := noon.Add(2 * window)
	next, _, err := ticket.Reserve("order-2", "buyer", at, limited)
	require.NoError(t, err)
	require.NoError(t, order.GiveWay(&ticket, next, at, limited), "it was over for as long already")
	require.Empty(t, ticket.Cooldowns)
}

// Otherwise a cancellation just before the end would keep the ticket from everybody else for ever.
func TestCooldown_WhoCancelsWaitsInProportion(t *testing.T) {
	for held, wait := range map[time.Duration]time.Duration{
		time.Second: 2 * time.Second, time.Minute: 2 * time.Minute, window - time.Second: 2*window - 2*time.Second, window: 2 * window,
		window + time.Minute: 2*window - time.Minute, // it was over a minute ago
	} {
		ticket := freeTicket()
		doubled := Terms{Window: window, Cooldown: 2 * window}
		order, _, err := ticket.Reserve("order-1", "buyer", noon, doubled)
		require.NoError(t, err)
		at := noon.Add(held)
		_, err = order.Cancel(&ticket, ByUser, at, doubled)
		require.NoError(t, err)
		_, _, err = ticket.Reserve("order-2", "buyer", at, doubled)
		requireCooldown(t, wait, err)
		_, _, err = ticket.Reserve("order-2", "buyer", at.Add(wait), doubled)
		require.NoError(t, err)
	}
}

func TestCooldown_OtherEndsHaveNone(t *testing.T) {
	for _, reason := range []Reason{Unpaid, Withdrawn, Refunded} {
		ticket := freeTicket()
		order, _, err := ticket.Reserve("order-1", "buyer", noon, limited)
		require.NoError(t, err)
		_, err = order.Cancel(&ticket, reason, noon.Add(window), limited)
		require.NoError(t, err)
		require.Empty(t, ticket.Cooldowns, reason)
	}
}

func TestCooldown_TheDocumentIsBounded(t *testing.T) {
	var ticket Ticket
	for i := range 3 * maxCooldowns {
		ticket.coolDown(Cooldown{fmt.Sprint(i), noon.Add(time.Duration(i+1) * time.Second)}, noon)
	}
	require.Len(t, ticket.Cooldowns, maxCooldowns)
	require.Equal(t, fmt.Sprint(3*maxCooldowns-1), ticket.Cooldowns[maxCooldowns-1].UserID)
	ticket.coolDown(Cooldown{}, noon.Add(time.Hour))
	require.Nil(t, ticket.Cooldowns)
}

func TestBuyer_HoldsAsManyAsTheyMay(t *testing.T) {
	terms := Terms{Window: window, PerUser: 2}
	order := func(id string, at time.Time) Order { return Order{ID: id, ExpiresAt: at.Add(window)} }
	var buyer Buyer
	require.NoError(t, buyer.Hold(order("one", noon), noon, terms))
	require.NoError(t, buyer.Hold(order("two", noon.Add(time.Minute)), noon.Add(time.Minute), terms))
	require.ErrorIs(t, buyer.Hold(order("three", noon), noon.Add(window-1), terms), errTooMany)
	require.NoError(t, buyer.Hold(order("three", noon.Add(window)), noon.Add(window), terms), "the first is over")
	require.Equal(t, []string{"two", "three"}, []string{buyer.Unpaid[0].OrderID, buyer.Unpaid[1].OrderID})

	buyer.Keep(map[string]bool{"three": true})
	require.NoError(t, buyer.Hold(order("four", noon.Add(window)), noon.Add(window), terms), "the second is paid")

	require.True(t, buyer.Delete())
	require.False(t, buyer.Delete())
	require.ErrorIs(t, buyer.Hold(order("five", noon), noon, terms), errAccountDeleted)
}

func TestRefund_TheTicketIsWithheldUntilItsSellerKnowsAndOffersItAgain(t *testing.T) {
	ticket, order := reserved(t)
	require.NoError(t, order.Complete(&ticket, "payment-1", noon))
	changed, err := order.Cancel(&ticket, Refunded, noon, terms)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, []any{Cancelled, Refunded, 3}, []any{order.Status, order.Reason, order.Sequence})
	require.Nil(t, ticket.Reservation)
	_, _, err = ticket.Reserve("order-2", "other", noon, terms)
	require.ErrorIs(t, err, errWithheld)
	changed, err = order.Cancel(&ticket, Refunded, noon, terms)
	require.NoError(t, err)
	require.False(t, changed, "a repeat")

	require.True(t, ticket.Hear(events.Ticket{ID: "ticket-1", Version: 2, Sequence: 1, Status: "available"}, false), "made before the refund, and late")
	require.True(t, ticket.Hear(events.Ticket{ID: "ticket-1", Version: 3, Sequence: 3, Status: "withheld"}, false), "published again")
	_, _, err = ticket.Reserve("order-2", "other", noon, terms)
	require.ErrorIs(t, err, errWithheld)
	require.True(t, ticket.Hear(events.Ticket{ID: "ticket-1", Version: 5, Sequence: 3, Status: "available"}, false))
	_, _, err = ticket.Reserve("order-2", "other", noon, terms)
	require.NoError(t, err)
}

func TestRefund_AListingOfferedAgainAndDeletedIsNotWithheldInWhateverOrderItsEventsCome(t *testing.T) {
	offered := events.Ticket{ID: "ticket-1", UserID: "seller", Version: 5, Sequence: 3, Status: "available"}
	deleted := offered
	deleted.Version = 6
	refunded := func() Ticket {
		ticket, order := reserved(t)
		require.NoError(t, order.Complete(&ticket, "payment-1", noon))
		_, err := order.Cancel(&ticket, Refunded, noon, terms)
		require.NoError(t, err)
		return ticket
	}

	inOrder, inReverse := refunded(), refunded()
	inOrder.Hear(offered, false)
	inOrder.Hear(deleted, true)
	inReverse.Hear(deleted, true)
	inReverse.Hear(offered, false)
	require.Equal(t, inOrder, inReverse)
	require.Zero(t, inReverse.Withheld)
}

// limitedScene has tickets of a seller, and limits.
func limitedScene(t *testing.T, terms Terms, tickets int) (s *expiryScene, ids []string) {
	s = newExpiryScene(t)
	s.terms = terms
	for range tickets {
		id := uuid.NewString()
		_, err := s.HearTicket(t.Context(), events.Ticket{ID: id, UserID: "seller", Title: "Front row", Price: 4500, Currency: "usd", Version: 1}, false)
		require.NoError(t, err)
		ids = append(ids, id)
	}
	return s, ids
}

// tries is Reserve as the API calls it.
func (s *expiryScene) tries(t *testing.T, ticket, buyer string) (order Order, err error) {
	err = state.Retry(t.Context(), func(ctx context.Context) (err error) {
		order, err = s.Reserve(ctx, ticket, buyer, func(*state.Change, Order) error { return nil })
		return err
	})
	return order, err
}

func TestReserve_AHundredAtOnceOfOneBuyerGetTen(t *testing.T) {
	s, tickets := limitedScene(t, limited, 100)
	results := make([]error, len(tickets))
	orders := make([]Order, len(tickets))
	var all sync.WaitGroup
	for i, ticket := range tickets {
		all.Go(func() { orders[i], results[i] = s.tries(t, ticket, "buyer") })
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
	_, err := s.tries(t, tickets[0], "other")
	if given[0].Ticket.ID != tickets[0] {
		require.NoError(t, err, "others may go on")
	}

	free := func() string {
		for i, err := range results {
			if err != nil && i > 0 {
				results[i] = nil
				return tickets[i]
			}
		}
		return ""
	}
	require.NoError(t, s.Cancel(t.Context(), given[0].ID, ByUser, func(*Order) error { return nil }))
	_, err = s.tries(t, free(), "buyer")
	require.NoError(t, err, "one was cancelled")
	_, err = s.Complete(t.Context(), given[1].ID, "payment-1")
	require.NoError(t, err)
	_, err = s.tries(t, free(), "buyer")
	require.NoError(t, err, "one is paid")
	_, err = s.tries(t, free(), "buyer")
	require.ErrorIs(t, err, errTooMany)
}

// A reservation reads once, with or without a bound on them; the first one of a buyer asks twice for the missing document.
func TestReserve_TheBoundCostsNoFurtherCall(t *testing.T) {
	for _, terms := range []Terms{{Window: window}, {Window: window, Cooldown: window, PerUser: 100}} {
		s, tickets := limitedScene(t, terms, 51)
		_, err := s.tries(t, tickets[0], "buyer")
		require.NoError(t, err)
		transactions, reads := s.sidecar.calls()
		for _, ticket := range tickets[1:] {
			_, err = s.tries(t, ticket, "buyer")
			require.NoError(t, err)
		}
		transactionsNow, readsNow := s.sidecar.calls()
		require.Equal(t, 50, transactionsNow-transactions, "%+v", terms)
		require.InDelta(t, 50, readsNow-reads, 5, "%+v; the store reads a little for itself", terms)
		s.sidecar.mu.Lock()
		_, kept := s.sidecar.documents[buyerKey("buyer")]
		s.sidecar.mu.Unlock()
		require.Equal(t, terms.PerUser > 0, kept)
	}
}

// The window was longer when the buyer's first reservation was made.
func TestReserve_TheBuyersDocumentOutlivesAllReservations(t *testing.T) {
	s, tickets := limitedScene(t, Terms{Window: 24 * time.Hour, PerUser: 1000}, 2)
	lifetime := func() time.Duration {
		s.sidecar.mu.Lock()
		defer s.sidecar.mu.Unlock()
		seconds, err := time.ParseDuration(s.sidecar.lifetimes[buyerKey("buyer")] + "s")
		require.NoError(t, err)
		return seconds
	}
	_, err := s.tries(t, tickets[0], "buyer")
	require.NoError(t, err)
	require.InDelta(t, 24*time.Hour+buyerTime, lifetime(), float64(time.Minute))
	s.terms.Window = time.Minute
	_, err = s.tries(t, tickets[1], "buyer")
	require.NoError(t, err)
	require.InDelta(t, 24*time.Hour+buyerTime, lifetime(), float64(time.Minute))
}

func TestReserve_AgainAfterAnOrderThatNobodyHasCancelled(t *testing.T) {
	s := newExpiryScene(t)
	s.terms = limited
	order := s.ordered(t, -time.Second, nil)
	_, err := s.tries(t, order.Ticket.ID, "buyer")
	require.ErrorIs(t, err, errCooldown)
	s.requireStatus(t, Created, order)
	_, err = s.tries(t, order.Ticket.ID, "other")
	require.NoError(t, err)
	doc, err := s.Order(t.Context(), order.ID)
	require.NoError(t, err)
	require.Equal(t, Expired, doc.Value.Reason)
}

func TestUnsettled_CountsWhatIsUnpaidOrNotCaptured(t *testing.T) {
	s, tickets := limitedScene(t, limited, 5)
	count := func() int {
		orders, err := s.Unsettled(t.Context(), "buyer")
		require.NoError(t, err)
		return len(orders)
	}
	require.Zero(t, count())
	var orders []Order
	for _, ticket := range tickets {
		order, err := s.tries(t, ticket, "buyer")
		require.NoError(t, err)
		orders = append(orders, order)
	}
	require.Equal(t, 5, count())
	require.NoError(t, s.Cancel(t.Context(), orders[0].ID, ByUser, func(*Order) error { return nil }))
	require.Equal(t, 4, count())
	payment := events.Payment{ID: "payment-1", OrderID: orders[1].ID, Amount: 4500, Version: 2}
	require.NoError(t, s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: payment}))
	require.Equal(t, 4, count(), "its money is not taken yet")
	require.NoError(t, s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: payment}))
	require.Equal(t, 3, count())
	before, _ := s.sidecar.calls()
	require.NoError(t, s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: payment}))
	after, _ := s.sidecar.calls()
	require.Equal(t, before, after, "a repeat writes nothing")
	others, err := s.Unsettled(t.Context(), "other")
	require.NoError(t, err)
	require.Empty(t, others)
}

func TestDeleteBuyer_EndsWhatIsUnpaidAndRefusesMore(t *testing.T) {
	s, tickets := limitedScene(t, limited, 4)
	unpaid, err := s.tries(t, tickets[0], "buyer")
	require.NoError(t, err)
	paid, err := s.tries(t, tickets[1], "buyer")
	require.NoError(t, err)
	_, err = s.Complete(t.Context(), paid.ID, "payment-1")
	require.NoError(t, err)
	others, err := s.tries(t, tickets[2], "other")
	require.NoError(t, err)
	for range 2 { // a repeat changes nothing
		require.NoError(t, s.DeleteBuyer(t.Context(), "buyer"))
		s.requireStatus(t, Cancelled, unpaid)
		s.requireStatus(t, Complete, paid)
		s.requireStatus(t, Created, others)
		_, err = s.tries(t, tickets[3], "buyer")
		require.ErrorIs(t, err, errAccountDeleted)
	}
	require.NoError(t, s.DeleteBuyer(t.Context(), "nobody"), "somebody who never bought")
	_, err = s.tries(t, tickets[3], "other")
	require.NoError(t, err)
}

func TestRefund_ByEvents(t *testing.T) {
	for name, c := range map[string]struct {
		refunded int64
		status   string
		want     Status
	}{
		"in full": {4500, "refunded", Cancelled}, "a part": {4499, "captured", Complete}, "one that failed": {0, "captured", Complete},
		"of a release before, which published full ones alone": {0, "refunded", Cancelled},
	} {
		t.Run(name, func(t *testing.T) {
			s, tickets := limitedScene(t, limited, 1)
			order, err := s.tries(t, tickets[0], "buyer")
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
			_, err = s.tries(t, tickets[0], "other")
			if c.want == Cancelled {
				require.ErrorIs(t, err, errWithheld)
			} else {
				require.ErrorIs(t, err, errSold)
			}
		})
	}
}

// publications are the events that were committed, by their ids.
func (s *expiryScene) published(id string) bool {
	s.sidecar.mu.Lock()
	defer s.sidecar.mu.Unlock()
	return s.sidecar.published[id]
}

// After a restore of an older backup there are events of orders that this service has never had.
func TestLost_EventsOfUnknownOrdersEndAndTheirMoneyGoesBack(t *testing.T) {
	s := newExpiryScene(t)
	payment := events.Payment{ID: uuid.NewString(), UserID: "buyer", Amount: 4500, Currency: "usd", Version: 1, CreatedAt: now()}
	for name, handle := range map[string]func(events.Payment) error{
		"created": func(p events.Payment) error {
			return s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: p})
		},
		"captured": func(p events.Payment) error {
			return s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: p})
		},
	} {
		payment.OrderID = uuid.NewString()
		require.NoError(t, handle(payment), name)
		require.Eventually(t, func() bool { return s.published(fmt.Sprintf("order.cancelled:%s:%d", payment.OrderID, lostVersion)) }, 5*time.Second, time.Millisecond, name)
	}
	for name, handle := range map[string]func(events.Payment) error{
		"voided": func(p events.Payment) error { return s.paymentVoided(t.Context(), events.PaymentVoided{Payment: p}) },
		"refunded": func(p events.Payment) error {
			return s.paymentRefunded(t.Context(), events.PaymentRefunded{Payment: p})
		},
	} {
		payment.OrderID = uuid.NewString()
		before, _ := s.sidecar.calls()
		require.NoError(t, handle(payment), name)
		after, _ := s.sidecar.calls()
		require.Equal(t, before, after, name)
	}
	lost := lostOrder(payment)
	require.Equal(t, []any{"cancelled", "unknown", "buyer", int64(4500), "usd"}, []any{lost.Status, lost.Reason, lost.UserID, lost.Ticket.Price, lost.Ticket.Currency})
}

// The order was complete, and its store was restored from when it was not.
func TestLost_AnOrderWhoseMoneyIsTakenIsCompleteAgain(t *testing.T) {
	s := newExpiryScene(t)
	order := s.ordered(t, time.Minute, nil)
	require.NoError(t, s.paymentCaptured(t.Context(), events.PaymentCaptured{Payment: events.Payment{ID: "payment-1", OrderID: order.ID, Version: 2}}))
	s.requireStatus(t, Complete, order)
	orders, err := s.Unsettled(t.Context(), order.UserID)
	require.NoError(t, err)
	require.Empty(t, orders)
}

// Tickets knows changes of a reservation that this service has lost with its database.
func TestLost_ATicketThatTicketsKnowsMoreOfCatchesUp(t *testing.T) {
	listing := func(id string, sequence int, order string) events.Ticket {
		return events.Ticket{ID: id, UserID: "seller", Title: "Front row", Price: 4500, Currency: "usd", Status: "reserved", OrderID: order, Version: 1, Sequence: sequence}
	}
	sequence := func(s *expiryScene, id string) (int, *Reservation) {
		doc, err := state.Get[Ticket](t.Context(), s.store, ticketKey(id))
		require.NoError(t, err)
		return doc.Value.Sequence, doc.Value.Reservation
	}
	published := func(s *expiryScene, id string) {
		require.Eventually(t, func() bool { return s.published(id) }, 5*time.Second, time.Millisecond, id)
	}
	t.Run("nobody has it", func(t *testing.T) {
		s, tickets := limitedScene(t, limited, 1)
		for range 2 { // the second is a repeat, and finds that all is well
			require.NoError(t, s.ticketTold(t.Context(), listing(tickets[0], 3, "lost"), false))
			at, holder := sequence(s, tickets[0])
			require.Equal(t, 4, at)
			require.Nil(t, holder)
		}
		published(s, fmt.Sprintf("order.cancelled:lost:%d", lostVersion+4))
	})
	t.Run("it is not known at all", func(t *testing.T) {
		s, id := newExpiryScene(t), uuid.NewString()
		require.NoError(t, s.ticketTold(t.Context(), listing(id, 2, "lost"), false))
		at, _ := sequence(s, id)
		require.Equal(t, 3, at)
		published(s, fmt.Sprintf("order.cancelled:lost:%d", lostVersion+3))
	})
	t.Run("another has it since", func(t *testing.T) {
		for _, ahead := range []int{0, 2} {
			s, tickets := limitedScene(t, limited, 1)
			order, err := s.tries(t, tickets[0], "buyer")
			require.NoError(t, err)
			require.NoError(t, s.ticketTold(t.Context(), listing(tickets[0], 1+ahead, "lost"), false))
			at, holder := sequence(s, tickets[0])
			require.Equal(t, 2+ahead, at)
			require.Equal(t, order.ID, holder.OrderID)
			version := lostVersion + 2 + ahead
			published(s, fmt.Sprintf("order.created:%s:%d", order.ID, version))
			require.NoError(t, s.ticketTold(t.Context(), listing(tickets[0], 2+ahead, order.ID), false))
			again, _ := sequence(s, tickets[0])
			require.Equal(t, at, again)
			completed, err := s.Complete(t.Context(), order.ID, "payment-1")
			require.NoError(t, err)
			require.Equal(t, version+1, completed.Version, "above any that payments may know of before the restore")
		}
	})
	t.Run("its sale was refunded", func(t *testing.T) {
		s, tickets := limitedScene(t, limited, 1)
		refunded := listing(tickets[0], 3, "")
		refunded.Status = "withheld"
		require.NoError(t, s.ticketTold(t.Context(), refunded, false))
		at, _ := sequence(s, tickets[0])
		require.Equal(t, 4, at)
		_, err := s.tries(t, tickets[0], "buyer")
		require.ErrorIs(t, err, errWithheld)

		offered := listing(tickets[0], 3, "")
		offered.Status, offered.Version = "available", 2
		require.NoError(t, s.ticketTold(t.Context(), offered, false))
		_, err = s.tries(t, tickets[0], "buyer")
		require.NoError(t, err, "its seller has offered it again")
	})
	t.Run("its sale was refunded, and another has it since", func(t *testing.T) {
		s, tickets := limitedScene(t, limited, 1)
		order, err := s.tries(t, tickets[0], "buyer")
		require.NoError(t, err)
		refunded := listing(tickets[0], 3, "")
		refunded.Status = "withheld"
		require.NoError(t, s.ticketTold(t.Context(), refunded, false))
		require.NoError(t, s.Cancel(t.Context(), order.ID, Withdrawn, func(*Order) error { return nil }))
		_, err = s.tries(t, tickets[0], "other")
		require.NoError(t, err)
	})
	t.Run("what tickets knows is old", func(t *testing.T) {
		s, tickets := limitedScene(t, limited, 1)
		order, err := s.tries(t, tickets[0], "buyer")
		require.NoError(t, err)
		require.NoError(t, s.Cancel(t.Context(), order.ID, ByUser, func(*Order) error { return nil }))
		before, _ := s.sidecar.calls()
		require.NoError(t, s.ticketTold(t.Context(), listing(tickets[0], 1, order.ID), false))
		require.NoError(t, s.ticketTold(t.Context(), listing(tickets[0], 0, ""), false))
		after, _ := s.sidecar.calls()
		require.LessOrEqual(t, after-before, 1, "a first-write is tried")
		at, _ := sequence(s, tickets[0])
		require.Equal(t, 2, at)
	})
}
