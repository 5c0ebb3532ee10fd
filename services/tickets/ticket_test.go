package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func listed() Ticket {
	return Create("ticket-1", "seller", "usd", Offer{Title: "Front row", Price: 4500}, noon)
}

// orderEvent is an order's event that gives its ticket a status.
func orderEvent(order id.Order, sequence int, becomes Status) events.Order {
	e := events.Order{ID: order, Ticket: events.OrderedTicket{ID: "ticket-1"}, Sequence: sequence}
	switch becomes {
	case Reserved:
		e.Status = events.OrderStatusCreated
	case Sold:
		e.Status = events.OrderStatusComplete
	case Withheld:
		e.Status, e.Reason = events.OrderStatusCancelled, events.CancelReasonRefunded
	case Available:
		e.Status, e.Reason = events.OrderStatusCancelled, "expired"
	}
	return e
}

func TestList_IsAvailable(t *testing.T) {
	ticket := listed()
	require.Equal(t, Available, ticket.Status)
	require.Equal(t, 1, ticket.Version)
	require.IsType(t, events.TicketCreated{}, ticket.Event())
}

func TestUpdateAndDelete_OnlyByTheSellerOfAFreeTicket(t *testing.T) {
	cases := []struct {
		name    string
		seller  id.User
		expect  ExpectedVersion
		prepare func(*Ticket)
		err     error
	}{
		{"the seller, any version", "seller", 0, nil, nil},
		{"the seller, this version", "seller", 1, nil, nil},
		{"the seller, a stale version", "seller", 7, nil, errStale},
		{"another user", "other", 0, nil, errNotYours},
		{"reserved", "seller", 0, func(t *Ticket) { t.Apply(orderEvent("order-1", 1, Reserved), noon) }, errReserved},
		{"sold", "seller", 0, func(t *Ticket) { t.Apply(orderEvent("order-1", 2, Sold), noon) }, errSold},
		{"free again", "seller", 0, func(t *Ticket) { t.Apply(orderEvent("order-1", 2, Available), noon) }, nil},
		{"deleted", "seller", 0, func(t *Ticket) { _ = t.Delete("seller", 0, noon) }, errNoTicket},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, act := range []func(*Ticket) error{
				func(t *Ticket) error {
					return t.Update(c.seller, c.expect, Offer{Title: "New", Price: 1}, Show{}, noon.Add(time.Hour))
				},
				func(t *Ticket) error { return t.Delete(c.seller, c.expect, noon.Add(time.Hour)) },
			} {
				ticket := listed()
				if c.prepare != nil {
					c.prepare(&ticket)
				}
				before := ticket
				err := act(&ticket)
				if c.err != nil {
					require.ErrorIs(t, err, c.err)
					require.Equal(t, before, ticket, "a refusal changes nothing")
					continue
				}
				require.NoError(t, err)
				require.Equal(t, before.Version+1, ticket.Version)
				require.Equal(t, noon.Add(time.Hour), ticket.UpdatedAt)
			}
		})
	}
}

func TestCheckPrice_RefusesPricesThatNoCardCanPay(t *testing.T) {
	terms := Terms{Currency: "usd", MinPrice: 50}
	require.Nil(t, terms.CheckPrice(50))
	require.Nil(t, terms.CheckPrice(maxPrice))
	for _, price := range []int64{-1, 0, 49, maxPrice + 1} {
		require.ErrorContains(t, terms.CheckPrice(price), "from 50 to 99999999", price)
	}
}

func TestEvent_IsOfTheLastChange(t *testing.T) {
	ticket := listed()
	require.NoError(t, ticket.Update("seller", 0, Offer{Title: "New", Price: 1}, Show{}, noon))
	require.IsType(t, events.TicketUpdated{}, ticket.Event())
	require.NoError(t, ticket.Delete("seller", 0, noon))
	require.IsType(t, events.TicketDeleted{}, ticket.Event())
}

func TestApply_IgnoresOlderEvents(t *testing.T) {
	ticket := listed()
	require.True(t, ticket.Apply(orderEvent("order-2", 4, Sold), noon))
	require.False(t, ticket.Apply(orderEvent("order-1", 1, Reserved), noon))
	require.False(t, ticket.Apply(orderEvent("order-1", 2, Available), noon))
	require.Equal(t, Sold, ticket.Status)
	require.Equal(t, id.Order("order-2"), ticket.OrderID)
}

func TestApply_ASaleIsStrongerThanADeletion(t *testing.T) {
	ticket := listed()
	require.NoError(t, ticket.Delete("seller", 0, noon))
	require.True(t, ticket.Apply(orderEvent("order-1", 1, Reserved), noon))
	require.True(t, ticket.Deleted, "the orders service will cancel the reservation")
	require.True(t, ticket.Apply(orderEvent("order-1", 2, Sold), noon))
	require.False(t, ticket.Deleted)
	require.Equal(t, Sold, ticket.Status)
}

func TestApply_ADeletedTicketStaysDeletedWhenItsSaleIsCancelled(t *testing.T) {
	bought, cancelled := orderEvent("order-1", 2, Sold), orderEvent("order-1", 3, Available)
	inTurn, late := listed(), listed()
	for _, ticket := range []*Ticket{&inTurn, &late} {
		require.NoError(t, ticket.Delete("seller", 0, noon))
	}
	require.True(t, inTurn.Apply(bought, noon))
	require.True(t, inTurn.Apply(cancelled, noon))
	require.True(t, late.Apply(cancelled, noon))
	require.False(t, late.Apply(bought, noon))
	for _, ticket := range []Ticket{inTurn, late} {
		require.True(t, ticket.Deleted)
		require.Equal(t, Available, ticket.Status)
	}
}

func TestApply_ConvergesInAnyOrder(t *testing.T) {
	life := []events.Order{
		orderEvent("a", 1, Reserved), orderEvent("a", 2, Available), orderEvent("b", 3, Reserved), orderEvent("b", 4, Sold),
	}
	for range 200 {
		ticket := listed()
		deliveries := append(slices.Clone(life), life[rand.IntN(len(life))], life[rand.IntN(len(life))])
		rand.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
		version := ticket.Version
		for _, d := range deliveries {
			if ticket.Apply(d, noon) {
				version++
			}
		}
		require.Equal(t, Sold, ticket.Status)
		require.Equal(t, id.Order("b"), ticket.OrderID)
		require.Equal(t, 4, ticket.Sequence)
		require.Equal(t, version, ticket.Version, "each change counts once")
	}
}

// An earlier release published each version, and orders has applied the last one.
func TestEvent_OfATicketOfAnEarlierReleaseIsPublishedUntilTheSellerChangesIt(t *testing.T) {
	ticket := listed()
	ticket.ListedVersion = 0
	require.True(t, ticket.Apply(orderEvent("order-1", 1, Reserved), noon))
	require.IsType(t, events.TicketUpdated{}, ticket.Event())
	require.True(t, ticket.Apply(orderEvent("order-1", 2, Available), noon))
	require.IsType(t, events.TicketUpdated{}, ticket.Event())
	require.NoError(t, ticket.Update("seller", 0, Offer{Title: "New", Price: 1}, Show{}, noon))
	require.IsType(t, events.TicketUpdated{}, ticket.Event())
	require.True(t, ticket.Apply(orderEvent("order-1", 3, Reserved), noon))
	require.Nil(t, ticket.Event())
}

// A sale restored the ticket, and an earlier release published that. So the deletion after the sale must be published, too.
func TestEvent_ACancelledSaleOfAnEarlierReleaseIsPublished(t *testing.T) {
	ticket := listed()
	require.NoError(t, ticket.Delete("seller", 0, noon))
	require.True(t, ticket.Apply(orderEvent("order-1", 2, Sold), noon))
	ticket.ListedVersion = 0
	require.True(t, ticket.Apply(orderEvent("order-1", 3, Available), noon))
	require.IsType(t, events.TicketDeleted{}, ticket.Event())
}

// Reconciliation publishes under the version that others have; they would apply any other as a new one.
func TestListingEvent_IsOfTheSellersLastChangeAndItsVersion(t *testing.T) {
	ticket := Create("t1", "seller", "usd", Offer{Title: "Concert", Price: 5000}, noon)
	require.Equal(t, ticket.Event(), ticket.ListingEvent())
	require.True(t, ticket.Apply(orderEvent("o1", 1, Reserved), noon))
	listed, ok := ticket.ListingEvent().(events.TicketCreated)
	require.True(t, ok)
	require.Equal(t, 1, listed.Version)

	require.True(t, ticket.Apply(orderEvent("o1", 2, Available), noon))
	require.NoError(t, ticket.Update("seller", 0, Offer{Title: "Concert", Price: 6000}, Show{}, noon))
	require.NoError(t, ticket.Delete("seller", 0, noon))
	require.True(t, ticket.Apply(orderEvent("o2", 4, Sold), noon), "a sale that came first")
	require.False(t, ticket.Deleted)
	deleted, ok := ticket.ListingEvent().(events.TicketDeleted)
	require.True(t, ok, "the seller's last change was the deletion")
	require.Equal(t, 5, deleted.Version)
}

func TestReturnToIndex_ARestoredTicketGetsANewEntryIfItsOwnWasRemoved(t *testing.T) {
	ticket := listed()
	require.False(t, ticket.DropFromIndex())
	require.NoError(t, ticket.Delete("seller", 0, noon))
	require.True(t, ticket.DropFromIndex())
	require.False(t, ticket.ReturnToIndex(), "it is deleted")
	require.True(t, ticket.Apply(orderEvent("order-1", 2, Sold), noon))
	require.True(t, ticket.ReturnToIndex())
	require.False(t, ticket.ReturnToIndex(), "once")

	kept := listed()
	require.NoError(t, kept.Delete("seller", 0, noon))
	require.True(t, kept.Apply(orderEvent("order-1", 2, Sold), noon))
	require.False(t, kept.ReturnToIndex(), "its entry is still there")
}
