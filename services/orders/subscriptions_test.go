package main

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

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

func slotOf(orders ...Order) events.ExpirationComplete {
	e := events.ExpirationComplete{Slot: "1777636800.0", Part: 1, EndsAt: clock.Stamp(clock.System())}
	for _, order := range orders {
		e.Orders = append(e.Orders, events.ExpiredOrder{ID: order.ID, ExpiresAt: clock.Stamp(order.ExpiresAt)})
	}
	return e
}

func TestExpirationCompleted_CancelsOnlyUnpaidOrders(t *testing.T) {
	s := newTestStore(t, terms)
	var unpaid []Order
	for range 150 {
		unpaid = append(unpaid, s.ordered(t, -time.Second, nil))
	}
	paid := s.ordered(t, -time.Second, complete(t))
	unknown := Order{ID: id.New[id.Order]()}
	transactions, reads := s.calls()
	s.beforeCommit(func() { time.Sleep(5 * time.Millisecond) }) // as long as a real one takes

	slot := slotOf(append(unpaid, paid, unknown, unpaid[0])...)
	require.NoError(t, s.expirationCompleted(t.Context(), slot), "an unknown order does not stop the cancellation of the others")
	transactionsNow, readsNow := s.calls()
	require.LessOrEqual(t, transactionsNow-transactions, 30, "150 orders share them")
	require.LessOrEqual(t, readsNow-reads, 30, "150 orders share them")
	for _, order := range unpaid {
		s.requireStatus(t, Cancelled, order)
	}
	s.requireStatus(t, Complete, paid)
	require.Contains(t, s.log.String(), string(unknown.ID))

	require.NoError(t, s.expirationCompleted(t.Context(), slot))
	transactionsThen, _ := s.calls()
	require.Equal(t, transactionsNow, transactionsThen, "settled orders need no transaction")
}

func TestExpirationCompleted_IsDeliveredAgainIfItComesEarly(t *testing.T) {
	s := newTestStore(t, terms)
	over, early := s.ordered(t, -time.Second, nil), s.ordered(t, time.Second, nil)
	slot := slotOf(over, early)
	err := s.expirationCompleted(t.Context(), slot)
	require.Equal(t, problem.Unavailable, problem.KindOf(err), "the event is delivered again")
	s.requireStatus(t, Cancelled, over)
	s.requireStatus(t, Created, early)
	require.Eventually(t, func() bool { return s.expirationCompleted(t.Context(), slot) == nil }, 10*time.Second, 10*time.Millisecond)
	s.requireStatus(t, Cancelled, early)
}

func TestExpirationCompleted_OfAnEarlierReleaseHasOneOrder(t *testing.T) {
	s := newTestStore(t, terms)
	order := s.ordered(t, -time.Second, nil)
	require.NoError(t, s.expirationCompleted(t.Context(), events.ExpirationComplete{OrderID: order.ID, ExpiresAt: clock.Stamp(order.ExpiresAt), Firing: 1}))
	s.requireStatus(t, Cancelled, order)
}

// The seat changes between the bulk read and the transaction: its seller updates the listing, or the buyer pays.
func TestExpirationCompleted_ReadsChangedDocumentsAgain(t *testing.T) {
	for _, pays := range []bool{false, true} {
		t.Run(fmt.Sprint("pays ", pays), func(t *testing.T) {
			s := newTestStore(t, terms)
			order := s.ordered(t, -time.Second, nil)
			var once sync.Once
			s.beforeCommit(func() { once.Do(func() { s.changeBehind(order, pays) }) })
			require.NoError(t, s.expirationCompleted(t.Context(), slotOf(order)))
			want := Cancelled
			if pays {
				want = Complete
			}
			s.requireStatus(t, want, order)
		})
	}
}

// changeBehind changes an order's documents as another process does.
func (s *testStore) changeBehind(order Order, pays bool) {
	for _, key := range []string{orderKey(order.ID), seatKey(order.Ticket.ID)} {
		value := s.sidecar.Document(key).Value
		if pays {
			value = bytes.ReplaceAll(value, []byte(`"status":"created"`), []byte(`"status":"complete"`))
		}
		s.sidecar.Write(key, value)
	}
}
