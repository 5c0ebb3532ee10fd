package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func listed() Ticket {
	return List("ticket-1", "seller", "usd", Offer{Title: "Front row", Price: 4500}, noon)
}

func order(sequence int) events.Order {
	return events.Order{ID: "order-1", Ticket: events.OrderedTicket{ID: "ticket-1"}, Sequence: sequence}
}

func TestList_IsAvailable(t *testing.T) {
	ticket := listed()
	require.Equal(t, Available, ticket.Status)
	require.Equal(t, 1, ticket.Version)
	require.IsType(t, events.TicketCreated{}, ticket.Event())
}

func TestChangeAndDelete_WhoMayWhen(t *testing.T) {
	cases := []struct {
		name    string
		seller  string
		expect  Expect
		prepare func(*Ticket)
		err     error
	}{
		{"the owner, any version", "seller", 0, nil, nil},
		{"the owner, this version", "seller", 1, nil, nil},
		{"the owner, a stale version", "seller", 7, nil, errStale},
		{"somebody else", "other", 0, nil, errNotYours},
		{"reserved", "seller", 0, func(t *Ticket) { t.Hear(Reserved, order(1), noon) }, errReserved},
		{"sold", "seller", 0, func(t *Ticket) { t.Hear(Sold, order(2), noon) }, errSold},
		{"free again", "seller", 0, func(t *Ticket) { t.Hear(Available, order(2), noon) }, nil},
		{"deleted", "seller", 0, func(t *Ticket) { _ = t.Delete("seller", 0, noon) }, errNotFound},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, act := range []func(*Ticket) error{
				func(t *Ticket) error {
					return t.Change(c.seller, c.expect, Offer{Title: "New", Price: 1}, noon.Add(time.Hour))
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

func TestAtLeast_RefusesWhatNoCardCanPay(t *testing.T) {
	require.NoError(t, Offer{Title: "Front row", Price: 50}.AtLeast(50))
	err := Offer{Title: "Front row", Price: 49}.AtLeast(50)
	require.Equal(t, problem.Invalid, problem.KindOf(err))
	require.ErrorContains(t, err, "at least 50")
}

func TestTold_NamesTheChange(t *testing.T) {
	ticket := listed()
	require.NoError(t, ticket.Change("seller", 0, Offer{Title: "New", Price: 1}, noon))
	require.IsType(t, events.TicketUpdated{}, ticket.Event())
	require.NoError(t, ticket.Delete("seller", 0, noon))
	require.IsType(t, events.TicketDeleted{}, ticket.Event())
}

func TestHear_LateReservationDoesNotMarkATicketSoldAgain(t *testing.T) {
	ticket := listed()
	require.True(t, ticket.Hear(Sold, events.Order{ID: "order-2", Sequence: 4}, noon))
	require.False(t, ticket.Hear(Reserved, events.Order{ID: "order-1", Sequence: 1}, noon))
	require.False(t, ticket.Hear(Available, events.Order{ID: "order-1", Sequence: 2}, noon))
	require.Equal(t, Sold, ticket.Status)
	require.Equal(t, "order-2", ticket.OrderID)
}

func TestHear_ASaleStandsAgainstADeletion(t *testing.T) {
	ticket := listed()
	require.NoError(t, ticket.Delete("seller", 0, noon))
	require.True(t, ticket.Hear(Reserved, order(1), noon))
	require.True(t, ticket.Deleted, "the orders service will cancel the reservation")
	require.True(t, ticket.Hear(Sold, order(2), noon))
	require.False(t, ticket.Deleted)
	require.Equal(t, Sold, ticket.Status)
}

func TestHear_ADeletedListingDoesNotComeBackWhenItsSaleFallsThrough(t *testing.T) {
	bought, lost := order(2), order(3)
	inTurn, late := listed(), listed()
	for _, ticket := range []*Ticket{&inTurn, &late} {
		require.NoError(t, ticket.Delete("seller", 0, noon))
	}
	require.True(t, inTurn.Hear(Sold, bought, noon))
	require.True(t, inTurn.Hear(Available, lost, noon))
	require.True(t, late.Hear(Available, lost, noon))
	require.False(t, late.Hear(Sold, bought, noon))
	for _, ticket := range []Ticket{inTurn, late} {
		require.True(t, ticket.Deleted)
		require.Equal(t, Available, ticket.Status)
	}
}

func TestHear_ConvergesWhateverTheOrder(t *testing.T) {
	type told struct {
		status Status
		order  events.Order
	}
	life := []told{
		{Reserved, events.Order{ID: "a", Sequence: 1}},
		{Available, events.Order{ID: "a", Sequence: 2}},
		{Reserved, events.Order{ID: "b", Sequence: 3}},
		{Sold, events.Order{ID: "b", Sequence: 4}},
	}
	for range 200 {
		ticket := listed()
		deliveries := append(append([]told{}, life...), life[rand.IntN(len(life))], life[rand.IntN(len(life))])
		rand.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
		version := ticket.Version
		for _, d := range deliveries {
			if ticket.Hear(d.status, d.order, noon) {
				version++
			}
		}
		require.Equal(t, Sold, ticket.Status)
		require.Equal(t, "b", ticket.OrderID)
		require.Equal(t, 4, ticket.Sequence)
		require.Equal(t, version, ticket.Version, "each change counts once")
	}
}

// The release before published each version, and what orders has heard of the listing is of its last one.
func TestEvent_OfATicketOfTheReleaseBeforeIsPublishedUntilTheSellerChangesIt(t *testing.T) {
	ticket := listed()
	ticket.Listed = 0
	require.True(t, ticket.Hear(Reserved, order(1), noon))
	require.IsType(t, events.TicketUpdated{}, ticket.Event())
	require.True(t, ticket.Hear(Available, order(2), noon))
	require.IsType(t, events.TicketUpdated{}, ticket.Event())
	require.NoError(t, ticket.Change("seller", 0, Offer{Title: "New", Price: 1}, noon))
	require.IsType(t, events.TicketUpdated{}, ticket.Event())
	require.True(t, ticket.Hear(Reserved, order(3), noon))
	require.Nil(t, ticket.Event())
}

// A sale brought the listing back, of which the release before told orders. That it is deleted after all must be told too.
func TestEvent_ASaleOfTheReleaseBeforeThatFallsThroughIsPublished(t *testing.T) {
	ticket := listed()
	require.NoError(t, ticket.Delete("seller", 0, noon))
	require.True(t, ticket.Hear(Sold, order(2), noon))
	ticket.Listed = 0
	require.True(t, ticket.Hear(Available, order(3), noon))
	require.IsType(t, events.TicketDeleted{}, ticket.Event())
}

// A reconciliation publishes under the version that others know, or each of them would take it for news.
func TestAsListed_IsTheSellersLastChangeWhateverBecameOfTheTicketSince(t *testing.T) {
	ticket := List("t1", "seller", "usd", Offer{"Concert", 5000}, now())
	require.Equal(t, ticket.Event(), ticket.AsListed())
	require.True(t, ticket.Hear(Reserved, events.Order{ID: "o1", Sequence: 1}, now()))
	listed, ok := ticket.AsListed().(events.TicketCreated)
	require.True(t, ok)
	require.Equal(t, 1, listed.Version)

	require.True(t, ticket.Hear(Available, events.Order{ID: "o1", Sequence: 2}, now()))
	require.NoError(t, ticket.Change("seller", 0, Offer{"Concert", 6000}, now()))
	require.NoError(t, ticket.Delete("seller", 0, now()))
	require.True(t, ticket.Hear(Sold, events.Order{ID: "o2", Sequence: 4}, now()), "a sale that came first")
	require.False(t, ticket.Deleted)
	deleted, ok := ticket.AsListed().(events.TicketDeleted)
	require.True(t, ok, "what the seller did last was to delete it")
	require.Equal(t, 5, deleted.Version)
}

func TestRelist_ASoldTicketThatComesBackIsListedAgainIfItsEntryWasRemoved(t *testing.T) {
	ticket := listed()
	require.False(t, ticket.Unlist())
	require.NoError(t, ticket.Delete("seller", 0, noon))
	require.True(t, ticket.Unlist())
	require.False(t, ticket.Relist(), "it is deleted")
	require.True(t, ticket.Hear(Sold, order(2), noon))
	require.True(t, ticket.Relist())
	require.False(t, ticket.Relist(), "once")

	kept := listed()
	require.NoError(t, kept.Delete("seller", 0, noon))
	require.True(t, kept.Hear(Sold, order(2), noon))
	require.False(t, kept.Relist(), "its entry is still there")
}
