package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const window = 15 * time.Minute

// terms are without any limit.
var terms = Terms{Window: window}

func freeTicket() Ticket {
	var t Ticket
	t.Hear(events.Ticket{ID: "ticket-1", Title: "Front row", Price: 4500, Currency: "usd", Version: 1}, false)
	return t
}

// reserved is a ticket that "buyer" has reserved at noon, and the order.
func reserved(t *testing.T) (Ticket, Order) {
	ticket := freeTicket()
	order, expired, err := ticket.Reserve("order-1", "buyer", noon, terms)
	require.NoError(t, err)
	require.Empty(t, expired)
	return ticket, order
}

func TestReserve_FreeTicketIsTheBuyersForTheWindow(t *testing.T) {
	ticket, order := reserved(t)
	require.Equal(t, Order{
		Schema: 1, ID: "order-1", UserID: "buyer", Status: Created, ExpiresAt: noon.Add(window),
		Ticket:   events.OrderedTicket{ID: "ticket-1", Title: "Front row", Price: 4500, Currency: "usd"},
		Sequence: 1, Version: 1, CreatedAt: noon, UpdatedAt: noon,
	}, order)
	require.Equal(t, &Reservation{OrderID: "order-1", Status: Created, ExpiresAt: noon.Add(window)}, ticket.Reservation)
	require.IsType(t, events.OrderCreated{}, order.Told())
}

func TestReserve_SecondBuyerIsRefusedUntilTheTimeIsOver(t *testing.T) {
	ticket, _ := reserved(t)
	_, _, err := ticket.Reserve("order-2", "other", noon.Add(window-time.Millisecond), terms)
	require.ErrorIs(t, err, errReserved)
	require.Equal(t, 1, ticket.Sequence, "a refusal changes nothing")
	require.Equal(t, "order-1", ticket.Reservation.OrderID)
}

func TestReserve_OverAnExpiredOrderCancelsItFirst(t *testing.T) {
	ticket, late := reserved(t)
	at := noon.Add(window)
	next, expired, err := ticket.Reserve("order-2", "other", at, terms)
	require.NoError(t, err)
	require.Equal(t, "order-1", expired)
	require.NoError(t, late.GiveWay(&ticket, next, at, terms))

	require.Equal(t, Cancelled, late.Status)
	require.Equal(t, Expired, late.Reason)
	require.Equal(t, 2, late.Version)
	require.Equal(t, 2, late.Sequence)
	require.Equal(t, 3, next.Sequence, "whoever hears both late must see that the reservation came after")
	require.Equal(t, 3, ticket.Sequence)
	require.Equal(t, "order-2", ticket.Reservation.OrderID)
}

func TestReserve_SoldOrDeletedIsRefused(t *testing.T) {
	sold, order := reserved(t)
	require.NoError(t, order.Complete(&sold, "payment-1", noon))
	_, _, err := sold.Reserve("order-2", "other", noon.Add(2*window), terms)
	require.ErrorIs(t, err, errSold, "a sold ticket does not become free when the window is over")

	deleted := freeTicket()
	deleted.Hear(events.Ticket{ID: "ticket-1", Version: 2}, true)
	_, _, err = deleted.Reserve("order-2", "other", noon, terms)
	require.ErrorIs(t, err, errNoTicket)
}

func TestComplete_OnlyALiveOrder(t *testing.T) {
	ticket, order := reserved(t)
	require.NoError(t, order.Complete(&ticket, "payment-1", noon.Add(2*window)), "its payment was begun in time")
	require.Equal(t, Complete, order.Status)
	require.Equal(t, 2, order.Version)
	require.Equal(t, Complete, ticket.Reservation.Status)
	require.IsType(t, events.OrderCompleted{}, order.Told())
	require.ErrorIs(t, order.Complete(&ticket, "payment-1", noon), errNotReserved)

	cancelledTicket, cancelled := reserved(t)
	_, err := cancelled.Cancel(&cancelledTicket, ByUser, noon, terms)
	require.NoError(t, err)
	require.ErrorIs(t, cancelled.Complete(&cancelledTicket, "payment-1", noon), errNotReserved)
}

func TestCancel_ByStateAndReason(t *testing.T) {
	cases := []struct {
		name    string
		from    Status
		reason  Reason
		changed bool
		err     error
	}{
		{"created, by the buyer", Created, ByUser, true, nil},
		{"created, expired", Created, Expired, true, nil},
		{"created, listing withdrawn", Created, Withdrawn, true, nil},
		{"created, payment lost", Created, Unpaid, true, nil},
		{"complete, by the buyer", Complete, ByUser, false, errComplete},
		{"complete, expired", Complete, Expired, false, errComplete},
		{"complete, payment lost", Complete, Unpaid, true, nil},
		{"cancelled already", Cancelled, ByUser, false, nil},
		{"cancelled already, and so its payment was given up", Cancelled, Unpaid, false, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ticket, order := reserved(t)
			switch c.from {
			case Complete:
				require.NoError(t, order.Complete(&ticket, "payment-1", noon))
			case Cancelled:
				_, err := order.Cancel(&ticket, ByUser, noon, terms)
				require.NoError(t, err)
			}
			version, sequence := order.Version, ticket.Sequence
			changed, err := order.Cancel(&ticket, c.reason, noon, terms)
			require.Equal(t, c.changed, changed)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
			} else {
				require.NoError(t, err)
			}
			if !c.changed {
				require.Equal(t, version, order.Version)
				require.Equal(t, sequence, ticket.Sequence)
				return
			}
			require.Equal(t, Cancelled, order.Status)
			require.Equal(t, c.reason, order.Reason)
			require.Equal(t, version+1, order.Version)
			require.Equal(t, sequence+1, order.Sequence)
			require.Nil(t, ticket.Reservation)
			require.IsType(t, events.OrderCancelled{}, order.Told())
		})
	}
}

func TestCancel_NeverFreesATicketThatIsSomebodyElses(t *testing.T) {
	ticket, late := reserved(t)
	_, _, err := ticket.Reserve("order-2", "other", noon.Add(window), terms)
	require.NoError(t, err)
	_, err = late.Cancel(&ticket, Expired, noon.Add(window), terms) // as it was read before the other's reservation
	require.ErrorIs(t, err, errNotReserved)
	require.Equal(t, "order-2", ticket.Reservation.OrderID)
}

func TestHear_AppliesOnlyWhatIsNewerAndKeepsTheReservation(t *testing.T) {
	ticket, _ := reserved(t)
	newer := events.Ticket{ID: "ticket-1", Title: "Second row", Price: 3000, Currency: "usd", Version: 3}
	require.True(t, ticket.Hear(newer, false))
	require.False(t, ticket.Hear(newer, false), "a repeat")
	require.False(t, ticket.Hear(events.Ticket{ID: "ticket-1", Title: "Old", Version: 2}, true), "late")
	require.Equal(t, "Second row", ticket.Title)
	require.False(t, ticket.Deleted)
	require.Equal(t, "order-1", ticket.Reservation.OrderID)
}

func TestHear_ConvergesWhateverTheOrder(t *testing.T) {
	told := []events.Ticket{
		{ID: "t", Title: "one", Price: 1, Currency: "usd", Version: 1},
		{ID: "t", Title: "two", Price: 2, Currency: "usd", Version: 2},
		{ID: "t", Title: "three", Price: 3, Currency: "usd", Version: 3},
	}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {2, 2, 0}, {0, 2, 1, 0}, {1, 2, 1}} {
		var ticket Ticket
		for _, i := range order {
			ticket.Hear(told[i], i == 2)
		}
		require.Equal(t, Ticket{Schema: 1, ID: "t", Title: "three", Price: 3, Currency: "usd", Version: 3, Deleted: true}, ticket, "%v", order)
	}
}

func TestIsPaidBy_OnlyThePaymentThatCompletedItCanBeLost(t *testing.T) {
	ticket, order := reserved(t)
	require.True(t, order.IsPaidBy("payment-1"), "no payment has completed it")
	require.NoError(t, order.Complete(&ticket, "payment-1", noon))
	require.True(t, order.IsPaidBy("payment-1"))
	require.False(t, order.IsPaidBy("payment-2"))
}
