package main

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const window = 15 * time.Minute

// terms have no limits.
var terms = Terms{Window: window}

// limited are terms with all limits.
var limited = Terms{Window: window, Cooldown: window, PerUser: 10}

func freeSeat() Seat {
	var s Seat
	s.Apply(events.Ticket{ID: "ticket-1", Title: "Front row", Price: 4500, Currency: "usd", Version: 1}, false)
	return s
}

// reserved is a seat that "buyer" reserved at noon, and the order.
func reserved(t *testing.T) (Seat, Order) {
	seat := freeSeat()
	order, err := seat.Reserve("order-1", "buyer", noon, terms)
	require.NoError(t, err)
	return seat, order
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

func TestReserve_AFreeSeatIsTheBuyersForTheWindow(t *testing.T) {
	seat, order := reserved(t)
	require.Equal(t, Order{
		Schema: 1, ID: "order-1", UserID: "buyer", Status: Created, ExpiresAt: noon.Add(window),
		Ticket:   TicketSnapshot{ID: "ticket-1", Title: "Front row", Price: 4500, Currency: "usd"},
		Sequence: 1, Version: 1, CreatedAt: noon, UpdatedAt: noon,
	}, order)
	require.Equal(t, &Reservation{OrderID: "order-1", UserID: "buyer", Status: Created, ExpiresAt: noon.Add(window)}, seat.Reservation)
	require.IsType(t, events.OrderCreated{}, order.Event())
}

// A process of an earlier release drops the seller from the order's document; the order's next change adds it again.
func TestEvent_NamesTheSellerOfTheSeat(t *testing.T) {
	sellerIn := func(payload events.Payload) id.User {
		switch event := payload.(type) {
		case events.OrderCreated:
			return event.SellerID
		case events.OrderCompleted:
			return event.SellerID
		case events.OrderCancelled:
			return event.SellerID
		}
		return ""
	}
	seat := freeSeat()
	order, err := seat.Reserve("order-1", "buyer", noon, terms)
	require.NoError(t, err)
	require.Empty(t, sellerIn(order.Event()), "a seat of an earlier release names no seller")

	seat.SellerID = "seller"
	_, err = order.Complete(&seat, "payment-1", noon)
	require.NoError(t, err)
	require.Equal(t, id.User("seller"), sellerIn(order.Event()))

	order.SellerID = ""
	_, err = order.Cancel(&seat, Refunded, noon, terms)
	require.NoError(t, err)
	require.Equal(t, id.User("seller"), sellerIn(order.Event()))

	seat.Withheld = 0
	order, err = seat.Reserve("order-2", "buyer", noon, terms)
	require.NoError(t, err)
	require.Equal(t, id.User("seller"), sellerIn(order.Event()))
	seat.SellerID = ""
	_, err = order.Cancel(&seat, Withdrawn, noon, terms)
	require.NoError(t, err)
	require.Equal(t, id.User("seller"), sellerIn(order.Event()), "what is known is kept")
	require.Equal(t, id.User("seller"), lostHolder("lost", &Seat{SellerID: "seller"}, noon).SellerID)
}

func TestReserve_SecondBuyerIsRefusedUntilTheTimeIsOver(t *testing.T) {
	seat, _ := reserved(t)
	_, err := seat.Reserve("order-2", "other", noon.Add(window-time.Millisecond), terms)
	require.ErrorIs(t, err, errReserved)
	require.Equal(t, 1, seat.Sequence, "a refusal changes nothing")
	require.Equal(t, id.Order("order-1"), seat.Reservation.OrderID)
}

func TestReserve_TheBuyerLearnsWhichOrderHasTheTicket(t *testing.T) {
	refused := func(seat Seat, buyer id.User, now time.Time) *problem.Error {
		_, err := seat.Reserve("order-2", buyer, now, terms)
		refusal, ok := errors.AsType[*problem.Error](err)
		require.True(t, ok, "%v", err)
		return refusal
	}
	seat, order := reserved(t)
	own := refused(seat, "buyer", noon)
	require.ErrorIs(t, own, errOwnReservation)
	require.Equal(t, map[string]any{"orderId": order.ID}, own.Members)
	others := refused(seat, "other", noon)
	require.ErrorIs(t, others, errReserved)
	require.Empty(t, others.Members, "nobody else learns which order it is")

	_, err := order.Complete(&seat, "payment-1", noon)
	require.NoError(t, err)
	own = refused(seat, "buyer", noon.Add(2*window))
	require.ErrorIs(t, own, errOwnReservation, "also when it is paid")
	require.Equal(t, map[string]any{"orderId": order.ID}, own.Members)
	require.ErrorIs(t, refused(seat, "other", noon), errSold)

	earlier, _ := reserved(t)
	earlier.Reservation.UserID = ""
	require.ErrorIs(t, refused(earlier, "buyer", noon), errReserved, "a process of an earlier release has written it")
}

func TestReserve_AYoungTicketMayExistThoughItIsNotKnown(t *testing.T) {
	ticket := id.New[id.Ticket]()
	made, _ := id.TimeOf(ticket)
	require.ErrorIs(t, errUnknownTicket(ticket, made.Add(time.Minute)), errTicketNotYetKnown)
	require.ErrorIs(t, errUnknownTicket(ticket, made.Add(time.Minute+1)), errNoTicket)
}

func TestReserve_AfterAnExpiredOrderThatIsCancelledFirst(t *testing.T) {
	seat, late := reserved(t)
	_, expired := seat.ExpiredOrder(noon.Add(window - time.Millisecond))
	require.False(t, expired)
	at := noon.Add(window)
	order, expired := seat.ExpiredOrder(at)
	require.True(t, expired)
	require.Equal(t, late.ID, order)
	_, err := seat.Reserve("order-2", "other", at, terms)
	require.ErrorIs(t, err, errReserved, "before the cancellation")
	_, err = late.Cancel(&seat, Expired, at, terms)
	require.NoError(t, err)
	next, err := seat.Reserve("order-2", "other", at, terms)
	require.NoError(t, err)

	require.Equal(t, Cancelled, late.Status)
	require.Equal(t, Expired, late.Reason)
	require.Equal(t, 2, late.Version)
	require.Equal(t, 2, late.Sequence)
	require.Equal(t, 3, next.Sequence, "consumers see by it that the reservation came after the cancellation")
	require.Equal(t, 3, seat.Sequence)
	require.Equal(t, id.Order("order-2"), seat.Reservation.OrderID)
}

func TestReserve_SoldOrDeletedIsRefused(t *testing.T) {
	sold, order := reserved(t)
	_, err := order.Complete(&sold, "payment-1", noon)
	require.NoError(t, err)
	_, expired := sold.ExpiredOrder(noon.Add(2 * window))
	require.False(t, expired)
	_, err = sold.Reserve("order-2", "other", noon.Add(2*window), terms)
	require.ErrorIs(t, err, errSold, "a sold seat does not become free when the window is over")

	deleted := freeSeat()
	deleted.Apply(events.Ticket{ID: "ticket-1", Version: 2}, true)
	_, err = deleted.Reserve("order-2", "other", noon, terms)
	require.ErrorIs(t, err, errNoTicket)
}

func TestComplete_OnlyALiveOrder(t *testing.T) {
	seat, order := reserved(t)
	changed, err := order.Complete(&seat, "payment-1", noon.Add(2*window))
	require.NoError(t, err, "its payment was begun in time")
	require.True(t, changed)
	require.Equal(t, Complete, order.Status)
	require.Equal(t, 2, order.Version)
	require.Equal(t, Complete, seat.Reservation.Status)
	require.IsType(t, events.OrderCompleted{}, order.Event())
	before := order
	changed, err = order.Complete(&seat, "payment-2", noon)
	require.NoError(t, err)
	require.False(t, changed, "complete already")
	require.Equal(t, before, order)

	cancelledSeat, cancelled := reserved(t)
	_, err = cancelled.Cancel(&cancelledSeat, ByUser, noon, terms)
	require.NoError(t, err)
	before = cancelled
	changed, err = cancelled.Complete(&cancelledSeat, "payment-1", noon)
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, before, cancelled)

	seat, old := reserved(t)
	seat.Reservation.OrderID = "order-2"
	_, err = old.Complete(&seat, "payment-1", noon)
	require.ErrorIs(t, err, errNotHeld, "another order has the seat")
}

func TestCancel_ByStateAndReason(t *testing.T) {
	cases := []struct {
		name    string
		from    Status
		reason  Reason
		after   time.Duration // since the reservation
		changed bool
		err     error
	}{
		{"created, by the buyer", Created, ByUser, 0, true, nil},
		{"created, expired", Created, Expired, window, true, nil},
		{"created, expired, but before the window ends", Created, Expired, window - time.Millisecond, false, errNotOver},
		{"created, listing withdrawn", Created, Withdrawn, 0, true, nil},
		{"created, payment lost", Created, PaymentLost, 0, true, nil},
		{"complete, by the buyer", Complete, ByUser, 0, false, errComplete},
		{"complete, expired", Complete, Expired, window, false, errComplete},
		{"complete, listing withdrawn", Complete, Withdrawn, 0, false, errComplete},
		{"complete, payment lost", Complete, PaymentLost, 0, true, nil},
		{"complete, refunded", Complete, Refunded, 0, true, nil},
		{"cancelled already", Cancelled, ByUser, 0, false, nil},
		{"cancelled already, and so its payment was given up", Cancelled, PaymentLost, 0, false, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			seat, order := reserved(t)
			switch c.from {
			case Complete:
				_, err := order.Complete(&seat, "payment-1", noon)
				require.NoError(t, err)
			case Cancelled:
				_, err := order.Cancel(&seat, ByUser, noon, terms)
				require.NoError(t, err)
			}
			version, sequence := order.Version, seat.Sequence
			changed, err := order.Cancel(&seat, c.reason, noon.Add(c.after), terms)
			require.Equal(t, c.changed, changed)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
			} else {
				require.NoError(t, err)
			}
			if !c.changed {
				require.Equal(t, version, order.Version)
				require.Equal(t, sequence, seat.Sequence)
				return
			}
			require.Equal(t, Cancelled, order.Status)
			require.Equal(t, c.reason, order.Reason)
			require.Equal(t, version+1, order.Version)
			require.Equal(t, sequence+1, order.Sequence)
			require.Nil(t, seat.Reservation)
			require.IsType(t, events.OrderCancelled{}, order.Event())
		})
	}
}

func TestCancel_NeverFreesTheSeatOfAnotherOrder(t *testing.T) {
	seat, late := reserved(t)
	old := late // as it was read before the other reservation
	_, err := late.Cancel(&seat, Expired, noon.Add(window), terms)
	require.NoError(t, err)
	_, err = seat.Reserve("order-2", "other", noon.Add(window), terms)
	require.NoError(t, err)
	_, err = old.Cancel(&seat, Expired, noon.Add(window), terms)
	require.ErrorIs(t, err, errNotHeld)
	require.Equal(t, id.Order("order-2"), seat.Reservation.OrderID)
}

func TestCancelByBuyer_RefusesEverybodyElse(t *testing.T) {
	seat, order := reserved(t)
	require.ErrorIs(t, order.CheckBuyer("other"), errNotYours)
	_, err := order.CancelByBuyer(&seat, "other", noon, terms)
	require.ErrorIs(t, err, errNotYours)
	require.Equal(t, Created, order.Status)
	changed, err := order.CancelByBuyer(&seat, "buyer", noon, terms)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, ByUser, order.Reason)
	_, err = order.CancelByBuyer(&seat, "other", noon, terms)
	require.ErrorIs(t, err, errNotYours, "also of a cancelled order")
}

func TestCancelByPayment_OnlyForThePaymentThatCompletedTheOrder(t *testing.T) {
	for _, c := range []struct {
		completedBy, payment id.Payment
		changed              bool
	}{
		{"", "payment-1", true}, // no payment has completed it
		{"payment-1", "payment-1", true},
		{"payment-1", "payment-2", false},
	} {
		seat, order := reserved(t)
		if c.completedBy != "" {
			_, err := order.Complete(&seat, c.completedBy, noon)
			require.NoError(t, err)
		}
		before := order
		changed, err := order.CancelByPayment(&seat, c.payment, PaymentLost, noon, terms)
		require.NoError(t, err)
		require.Equal(t, c.changed, changed)
		if !changed {
			require.Equal(t, before, order)
		}
	}
}
