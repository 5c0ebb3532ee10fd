package e2e

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

// Tickets of shows: their places, their prices, the end of their sales, and what becomes of them when the show is moved or cancelled.

// newShow is a show that starts then. Change what a test needs.
func newShow(startsAt time.Time) client.NewShow {
	return client.NewShow{
		Name: "The Winter Tour", Venue: "Town Hall", City: "Leeds", Country: "GB", StartsAt: startsAt, TimeZone: "Europe/London", Category: "music",
	}
}

// announce creates a show of the user.
func (u *testUser) announce(t testing.TB, show client.NewShow) client.Show {
	t.Helper()
	r := u.call(t, client.CreateShow(show))
	requireStatus(t, 201, r)
	return decode[client.Show](t, r)
}

// startSoon gives a show of the user these details, with a start that is near, and returns the start. If the start is over when the request
// arrives, it takes a later one.
func (u *testUser) startSoon(t testing.TB, show string, details client.NewShow) time.Time {
	t.Helper()
	for ahead := 2 * time.Second; ; ahead *= 2 {
		require.Less(t, ahead, time.Minute)
		details.StartsAt = time.Now().Add(ahead).UTC().Truncate(time.Millisecond)
		r := u.call(t, client.ChangeShow(show, details))
		if r.Status == 400 {
			requireProblem(t, 400, r, "min")
			continue
		}
		requireStatus(t, 200, r)
		return details.StartsAt
	}
}

// listPlace lists a ticket of a show, whose event may not have arrived yet.
func (u *testUser) listPlace(t testing.TB, offer client.Offer) client.Ticket {
	t.Helper()
	r := u.callKnown(t, client.ListPlace(offer))
	requireStatus(t, 201, r)
	return decode[client.Ticket](t, r)
}

// row1 is a place with a number.
func row1(number int) *client.Place {
	return &client.Place{Section: "Stalls", Row: "1", Number: fmt.Sprint(number)}
}

func inDays(days int) time.Time {
	return time.Now().Add(time.Duration(days) * 24 * time.Hour).UTC().Truncate(time.Millisecond)
}

func TestShowTickets_HaveAPlaceAndAPriceWithinTheCap(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, other, buyer := s.signUp(t), s.signUp(t), s.signUp(t)
	markup := 10
	wanted := newShow(inDays(30))
	wanted.MaxMarkup = &markup
	show := owner.announce(t, wanted)

	listed := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(7), Price: 5000})
	require.Equal(t, show.Name, listed.Title, "the title is the show's name")
	require.EqualValues(t, 5000, listed.FaceValue, "the face value is the price")
	require.Equal(t, row1(7), listed.Seat)
	require.WithinDuration(t, show.StartsAt, listed.SalesEndAt, 0)

	same := client.Offer{ShowID: show.ID, Seat: &client.Place{Section: " stalls ", Row: "1", Number: "7"}, Price: 5000}
	requireProblem(t, 409, owner.call(t, client.ListPlace(same)), "seat_listed")
	requireProblem(t, 403, other.call(t, client.ListPlace(client.Offer{ShowID: show.ID, Price: 5000})), "not_show_owner")
	requireProblem(t, 404, owner.call(t, client.ListPlace(client.Offer{ShowID: "018f0000-0000-7000-8000-000000000000", Price: 5000})), "show_not_found")
	requireProblem(t, 409, owner.call(t, client.ListPlace(client.Offer{ShowID: show.ID, Price: 5501, FaceValue: 5000})), "price_above_cap")
	owner.listPlace(t, client.Offer{ShowID: show.ID, Price: 5500, FaceValue: 5000})
	owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: &client.Place{Section: "Standing"}, Price: 3000})
	owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: &client.Place{Section: "Standing"}, Price: 3000}) // has no number, so it is no repetition

	requireProblem(t, 409, owner.call(t, client.EditTicket(listed.ID, client.Offer{Price: 5501})), "price_above_cap")
	edited := owner.call(t, client.EditTicket(listed.ID, client.Offer{Price: 5500}))
	requireStatus(t, 200, edited)
	require.Equal(t, show.Name, decode[client.Ticket](t, edited).Title, "a change without a title keeps it")

	order := buyer.reserve(t, listed.ID)
	require.Equal(t, show.ID, order.Ticket.ShowID)
	require.Equal(t, row1(7), order.Ticket.Seat)
	buyer.cancel(t, order.ID)

	eventually(t, "the listing is deleted", func() bool { return owner.call(t, client.DeleteTicket(listed.ID)).Status == 204 }) // when the cancellation has arrived
	owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(7), Price: 5000})                                               // the place is free again
}

func TestShowTickets_OfConcurrentListingsOfOnePlaceOneSucceeds(t *testing.T) {
	t.Parallel()
	s := newReplicatedStack(t)
	owner := s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	owner.listPlace(t, client.Offer{ShowID: show.ID, Price: 1000})

	for place := range 5 {
		const requests = 12
		statuses := make([]string, requests)
		var asking sync.WaitGroup
		for i := range requests {
			replica := []string{"tickets", "tickets-2"}[i%2]
			asking.Go(func() {
				r := owner.call(t, client.ListPlace(client.Offer{ShowID: show.ID, Seat: row1(place), Price: 1000}).At(s.URL(replica)))
				statuses[i] = fmt.Sprint(r.Status, r.Code())
			})
		}
		asking.Wait()
		counts := map[string]int{}
		for _, status := range statuses {
			counts[status]++
		}
		require.Equal(t, map[string]int{"201": 1, "409seat_listed": requests - 1}, counts)
	}
}

func TestShowTickets_AreSoldUntilTheShowStarts(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, buyer := s.signUp(t), s.signUp(t)
	var show client.Show
	var first, second client.Ticket
	var order client.Order
	// prepare reports whether all was done before the show started.
	prepare := func(startsAt time.Time) bool {
		step := func(u *testUser, request client.Request, result any) bool {
			r := u.callKnown(t, request)
			if time.Now().After(startsAt) {
				return false
			}
			requireStatus(t, 201, r)
			require.NoError(t, json.Unmarshal(r.Body, result))
			return true
		}
		return step(owner, client.CreateShow(newShow(startsAt)), &show) &&
			step(owner, client.ListPlace(client.Offer{ShowID: show.ID, Seat: row1(1), Price: 1000}), &first) &&
			step(owner, client.ListPlace(client.Offer{ShowID: show.ID, Seat: row1(2), Price: 1000}), &second) &&
			step(buyer, client.Reserve(first.ID), &order)
	}
	for ahead := 5 * time.Second; !prepare(time.Now().Add(ahead)); ahead *= 2 {
		require.Less(t, ahead, time.Minute)
	}

	waitTime(show.StartsAt.Add(100 * time.Millisecond))
	requireProblem(t, 409, buyer.callKnown(t, client.Reserve(second.ID)), "show_started")
	requireProblem(t, 409, owner.call(t, client.ListPlace(client.Offer{ShowID: show.ID, Seat: row1(3), Price: 1000})), "show_started")
	requireProblem(t, 409, owner.call(t, client.EditTicket(second.ID, client.Offer{Price: 900})), "show_started")
	requireProblem(t, 409, owner.call(t, client.CancelShow(show.ID)), "show_started")
	buyer.pay(t, order.ID, goodCard) // what was reserved before may be paid
	buyer.orderBecomes(t, "complete", order.ID)
}

func TestShowTickets_FollowAShowThatIsMoved(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, buyer := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	free := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 1000})
	taken := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(2), Price: 1000})
	order := buyer.reserve(t, taken.ID)

	startsAt := owner.startSoon(t, show.ID, newShow(inDays(30)))
	for _, listed := range []client.Ticket{free, taken} {
		eventually(t, "the ticket follows its show", func() bool { return s.ticket(t, listed.ID).SalesEndAt.Equal(startsAt) })
	}
	s.stream(t).waitIdle(t) // orders knows it, too
	waitTime(startsAt.Add(100 * time.Millisecond))
	eventually(t, "the ticket is not sold any more", func() bool { return buyer.call(t, client.Reserve(free.ID)).Code() == "show_started" })
	buyer.cancel(t, order.ID)
	eventually(t, "nor is the one that was reserved", func() bool { return s.signUp(t).call(t, client.Reserve(taken.ID)).Code() == "show_started" })
}

func TestShowTickets_ACancelledShowGivesTheMoneyBack(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, first, second := s.signUp(t), s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	var tickets []client.Ticket
	for number := range 3 {
		tickets = append(tickets, owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(number), Price: 4000}))
	}
	bought := first.reserve(t, tickets[0].ID)
	paid := first.pay(t, bought.ID, goodCard)
	first.orderBecomes(t, "complete", bought.ID)
	first.paymentBecomes(t, "captured", paid.ID)
	s.waitMoney(t, bought.ID, money{charges: 1, kept: 4000})
	reserved := second.reserve(t, tickets[1].ID)

	requireStatus(t, 204, owner.call(t, client.CancelShow(show.ID)))
	require.Equal(t, "withdrawn", first.orderBecomes(t, "cancelled", bought.ID).Reason)
	require.Equal(t, "withdrawn", second.orderBecomes(t, "cancelled", reserved.ID).Reason)
	first.paymentBecomes(t, "refunded", paid.ID)
	s.requireMoney(t, bought.ID, money{charges: 1})
	for _, listed := range tickets {
		eventually(t, "the listing is withdrawn", func() bool { return s.call(t, client.ReadTicket(listed.ID)).Status == 404 })
	}
	s.stream(t).waitIdle(t) // orders knows it, too
	requireProblem(t, 409, owner.call(t, client.ListPlace(client.Offer{ShowID: show.ID, Price: 4000})), "show_cancelled")
	requireProblem(t, 404, second.call(t, client.Reserve(tickets[2].ID)), "ticket_not_found")
	require.Equal(t, "cancelled", decode[client.Show](t, s.call(t, client.ReadShow(show.ID))).Status)
}
