package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

// theatre is a show with the tickets of two replicas of this service, and a model of the orders service. Events between them come late, more
// than once and in any order.
type theatre struct {
	replicas []*store
	sidecar  *statetest.Sidecar
	now      time.Time
	show     events.Show
	capped   int

	tickets []id.Ticket
	pending []pendingListing // decided, and not committed yet
	seats   map[id.Ticket]*modelSeat
	orders  []events.Order // every event that orders has published
}

type pendingListing struct {
	change *state.Change
	ticket Ticket
}

// modelSeat is a ticket in the model of orders.
type modelSeat struct {
	version  int // of the listing that was applied last
	deleted  bool
	sequence int
	live     *events.Order
}

// places are what sellers list: two with a number, and one for many.
var places = []*Place{{Section: "A", Row: "1", Number: "1"}, {Section: "A", Row: "1", Number: "2"}, {Section: "Standing"}}

func newTheatre(t *rapid.T) *theatre {
	sidecar := statetest.New()
	th := &theatre{sidecar: sidecar, now: noon, seats: map[id.Ticket]*modelSeat{}}
	for _, name := range []string{"one", "two"} {
		documents, err := state.Open(context.Background(), sidecar, state.Options{Service: "tickets", Instance: name, Log: quiet})
		require.NoError(t, err)
		th.replicas = append(th.replicas, newStore(documents, Terms{"usd", 50}, func() time.Time { return th.now }, quiet))
	}
	th.capped = rapid.IntRange(0, 50).Draw(t, "cap")
	th.show = showEvent("0197b2f0-0000-7000-8000-000000000001", 1, noon.Add(time.Hour), events.ShowStatusScheduled)
	th.show.MaxMarkup = percent(th.capped)
	require.NoError(t, th.replicas[0].ApplyShow(context.Background(), th.show))
	return th
}

func (th *theatre) close(t *rapid.T) {
	for _, s := range th.replicas {
		require.NoError(t, s.documents.Close(context.Background()))
	}
}

// replica draws one of the replicas.
func (th *theatre) replica(t *rapid.T) *store {
	return rapid.SampledFrom(th.replicas).Draw(t, "replica")
}

// some draws one of the tickets; "" if there is none.
func (th *theatre) some(t *rapid.T) id.Ticket {
	if len(th.tickets) == 0 {
		return ""
	}
	return rapid.SampledFrom(th.tickets).Draw(t, "ticket")
}

func (th *theatre) commands() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"list":             th.list,
		"decide on a list": th.decideOnListing,
		"commit it":        th.commitListing,
		"update":           th.update,
		"delete": func(t *rapid.T) {
			if ticket := th.some(t); ticket != "" {
				_ = th.replica(t).Delete(context.Background(), ticket, "seller", 0)
			}
		},
		"reserve": func(t *rapid.T) {
			if ticket := th.some(t); ticket != "" {
				th.reserve(ticket)
			}
		},
		"pay, cancel or refund": th.settle,
		"orders gets a ticket's event": func(t *rapid.T) {
			if ticket := th.some(t); ticket != "" {
				th.deliverTicket(t, ticket)
			}
		},
		"tickets gets an order's event": func(t *rapid.T) {
			if len(th.orders) > 0 {
				order := rapid.SampledFrom(th.orders).Draw(t, "event")
				require.NoError(t, th.replica(t).ApplyOrder(context.Background(), order))
			}
		},
		"move or cancel the show": th.changeShow,
		"a pass": func(t *rapid.T) {
			_, err := th.replica(t).FollowShows(context.Background())
			require.NoError(t, err)
		},
		"": th.check,
	}
}

func (th *theatre) listing(t *rapid.T) Listing {
	return Listing{
		Offer{Price: rapid.Int64Range(50, 2000).Draw(t, "price"), FaceValue: rapid.SampledFrom([]int64{0, 1000}).Draw(t, "face value")},
		th.show.ID, rapid.SampledFrom(places).Draw(t, "place"),
	}
}

func (th *theatre) list(t *rapid.T) {
	s := th.replica(t)
	ticket, err := state.Decide(context.Background(), s.documents, s.Create("seller", th.listing(t)))
	if err == nil {
		th.tickets = append(th.tickets, ticket.ID)
	}
}

// decideOnListing is the first half of a slow listing.
func (th *theatre) decideOnListing(t *rapid.T) {
	change, ticket, err := th.replica(t).Create("seller", th.listing(t))(context.Background())
	if err == nil {
		th.pending = append(th.pending, pendingListing{change, ticket})
	}
}

func (th *theatre) commitListing(t *rapid.T) {
	if len(th.pending) == 0 {
		return
	}
	next := th.pending[0]
	th.pending = th.pending[1:]
	if err := th.replica(t).documents.Commit(context.Background(), next.change); err == nil {
		th.tickets = append(th.tickets, next.ticket.ID)
	} else {
		require.ErrorIs(t, err, state.ErrConflict)
	}
}

func (th *theatre) update(t *rapid.T) {
	ticket := th.some(t)
	if ticket == "" {
		return
	}
	price := rapid.Int64Range(50, 2000).Draw(t, "price")
	updated, err := th.replica(t).Update(context.Background(), ticket, "seller", 0, Offer{Price: price})
	if err == nil {
		require.LessOrEqual(t, price*100, updated.FaceValue*int64(100+th.capped), "the cap")
	}
}

// reserve does what orders does, without its limits.
func (th *theatre) reserve(ticket id.Ticket) {
	seat := th.seats[ticket]
	if seat == nil || seat.deleted || seat.live != nil {
		return
	}
	seat.live = &events.Order{ID: id.Order(fmt.Sprintf("order-%d", len(th.orders))), Status: events.OrderStatusCreated, Ticket: events.OrderedTicket{ID: ticket}}
	th.publish(seat)
}

// publish publishes the seat's order.
func (th *theatre) publish(seat *modelSeat) {
	seat.sequence++
	seat.live.Sequence = seat.sequence
	seat.live.Version++
	th.orders = append(th.orders, *seat.live)
	if seat.live.Status == events.OrderStatusCancelled {
		seat.live = nil
	}
}

func (th *theatre) cancel(seat *modelSeat, reason events.CancelReason) {
	seat.live.Status, seat.live.Reason = events.OrderStatusCancelled, reason
	th.publish(seat)
}

func (th *theatre) settle(t *rapid.T) {
	ticket := th.some(t)
	seat := th.seats[ticket]
	if seat == nil || seat.live == nil {
		return
	}
	pays := rapid.IntRange(0, 3).Draw(t, "it ends, if 0") > 0
	switch {
	case seat.live.Status == events.OrderStatusCreated && pays:
		seat.live.Status = events.OrderStatusComplete
		th.publish(seat)
	case seat.live.Status == events.OrderStatusCreated:
		th.cancel(seat, events.CancelReasonExpired)
	case !pays:
		th.cancel(seat, events.CancelReasonRefunded)
	}
}

// deliverTicket does what orders does with the last event of a ticket.
func (th *theatre) deliverTicket(t *rapid.T, ticket id.Ticket) {
	of := stored(t, th.replicas[0], ticket)
	seat := th.seats[ticket]
	if seat == nil {
		seat = &modelSeat{}
		th.seats[ticket] = seat
	}
	_, version := of.ListingEvent().Aggregate()
	event, deleted := of.ListingEvent().(events.TicketDeleted)
	if version >= seat.version {
		seat.version, seat.deleted = version, deleted
	}
	if !deleted || seat.live == nil {
		return
	}
	switch {
	case event.Revoked, seat.live.Status == events.OrderStatusCreated:
		th.cancel(seat, events.CancelReasonWithdrawn)
	default:
		th.orders = append(th.orders, *seat.live)
	}
}

func (th *theatre) changeShow(t *rapid.T) {
	if th.show.Status == events.ShowStatusCancelled {
		return
	}
	th.show.Version++
	if rapid.IntRange(0, 4).Draw(t, "cancel, if 0") == 0 {
		th.show.Status = events.ShowStatusCancelled
	} else {
		th.show.StartsAt = clock.Stamp(noon.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "hours")) * time.Hour))
	}
	require.NoError(t, th.replica(t).ApplyShow(context.Background(), th.show))
}

// check is what must hold at every moment.
func (th *theatre) check(t *rapid.T) {
	holders := map[string]id.Ticket{}
	for _, ticket := range th.tickets {
		of := stored(t, th.replicas[0], ticket)
		require.LessOrEqual(t, of.Price*100, of.FaceValue*int64(100+th.capped), "the cap")
		require.False(t, of.Revoked && !of.Deleted)
		if of.HasPlace() {
			key := of.Place.key(of.ShowID)
			require.Empty(t, holders[key], "a place is listed once")
			holders[key] = ticket
		}
	}
	for _, place := range places[:2] {
		require.Equal(t, holders[place.key(th.show.ID)], holderOf(t, th.sidecar, place.key(th.show.ID)), "the document names the ticket")
	}
}

// settleAll delivers everything until nothing changes any more.
func (th *theatre) settleAll(t *rapid.T) {
	for len(th.pending) > 0 {
		th.commitListing(t)
	}
	for published := -1; published != len(th.orders); {
		published = len(th.orders)
		_, err := th.replicas[0].FollowShows(context.Background())
		require.NoError(t, err)
		for _, order := range th.orders {
			require.NoError(t, th.replicas[1].ApplyOrder(context.Background(), order))
		}
		for _, ticket := range th.tickets {
			if seat := th.seats[ticket]; seat == nil || !seat.deleted || seat.live == nil || stored(t, th.replicas[0], ticket).Revoked {
				th.deliverTicket(t, ticket)
			}
		}
	}
}

// Whatever happens to a show, its tickets and their orders, in whatever order the services get to know it: a place is listed once at
// any time, and has one live order at most in the end. A revoked ticket has none, and every ticket of a cancelled show is revoked.
func TestShow_TicketsAndOrdersAgreeInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		th := newTheatre(t)
		defer th.close(t)
		t.Repeat(th.commands())
		th.settleAll(t)
		th.check(t)
		live := map[string]id.Ticket{}
		for _, ticket := range th.tickets {
			of, seat := stored(t, th.replicas[0], ticket), th.seats[ticket]
			if th.show.Status == events.ShowStatusCancelled {
				require.True(t, of.Revoked)
			} else if !of.Deleted {
				require.True(t, of.SalesEndAt.Equal(th.show.StartsAt.Time))
			}
			if seat == nil || seat.live == nil {
				continue
			}
			require.False(t, of.Deleted, "the ticket of a live order is not deleted")
			require.Equal(t, seat.live.ID, of.OrderID)
			if of.Place.isNumbered() {
				key := of.Place.key(of.ShowID)
				require.Empty(t, live[key], "a place has one live order")
				live[key] = ticket
			}
		}
	})
}
