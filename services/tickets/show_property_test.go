package main

import (
	"context"
	"fmt"
	"slices"
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
	made    []*modelOrder
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
	live     *modelOrder
	// taken: the last order was used or resold before it was cancelled.
	taken    bool
	resaleOf *events.Resold
}

// modelOrder is an order in the model of orders.
type modelOrder struct {
	events.Order
	seat *modelSeat
	// resells is the order whose pass this one buys, and transfer the live order that buys this one's.
	resells, transfer *modelOrder
}

// canBeSold reports whether the order's pass is valid and was not used.
func (o *modelOrder) canBeSold() bool {
	return o.Status == events.OrderStatusComplete && o.UsedAt.IsZero() && o.ResoldAt.IsZero()
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
		"resell":           th.resell,
		"decide on a resale": func(t *rapid.T) {
			if ticket := th.some(t); ticket != "" {
				th.decide(t, rapid.SampledFrom(buyers).Draw(t, "seller"), Listing{Offer: Offer{Price: rapid.Int64Range(50, 2000).Draw(t, "price")}, ResaleOf: ticket})
			}
		},
		"use a pass": th.use,
		"commit it":  th.commitListing,
		"update":     th.update,
		"delete": func(t *rapid.T) {
			if ticket := th.some(t); ticket != "" {
				_ = th.replica(t).Delete(context.Background(), ticket, th.sellerOf(t, ticket), 0)
			}
		},
		"reserve": func(t *rapid.T) {
			if ticket := th.some(t); ticket != "" {
				th.reserve(ticket, rapid.SampledFrom(buyers).Draw(t, "buyer"))
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
		Offer:  Offer{Price: rapid.Int64Range(50, 2000).Draw(t, "price"), FaceValue: rapid.SampledFrom([]int64{0, 1000}).Draw(t, "face value")},
		ShowID: th.show.ID, Place: rapid.SampledFrom(places).Draw(t, "place"),
	}
}

// buyers buy tickets, and resell them.
var buyers = []id.User{"buyer-1", "buyer-2", "buyer-3"}

// sellerOf is who may change a ticket.
func (th *theatre) sellerOf(t *rapid.T, ticket id.Ticket) id.User {
	return stored(t, th.replicas[0], ticket).UserID
}

func (th *theatre) resell(t *rapid.T) {
	if ticket := th.some(t); ticket != "" {
		th.resellOf(t, ticket)
	}
}

// resellOf lists a ticket again, most often for its buyer.
func (th *theatre) resellOf(t *rapid.T, ticket id.Ticket) {
	of, s := stored(t, th.replicas[0], ticket), th.replica(t)
	seller := rapid.SampledFrom([]id.User{of.BuyerID, of.BuyerID, of.BuyerID, "buyer-1"}).Draw(t, "seller")
	price := rapid.Int64Range(50, 2000).Draw(t, "price")
	resale, err := state.Decide(context.Background(), s.documents, s.Create(seller, Listing{Offer: Offer{Price: price}, ResaleOf: ticket}))
	started := !th.now.Before(th.show.StartsAt.Time) || th.show.Status == events.ShowStatusCancelled
	may := of.Status == Sold && !of.Deleted && seller != "" && of.BuyerID == seller && of.UsedAt.IsZero() && of.ResoldAt.IsZero() && of.ResaleID == "" &&
		price*100 <= of.FaceValue*int64(100+th.capped) && !started
	require.Equal(t, may, err == nil, "%v", err)
	if err != nil {
		return
	}
	th.tickets = append(th.tickets, resale.ID)
	require.Equal(t, of.Place, resale.Place)
	require.Equal(t, of.FaceValue, resale.FaceValue)
	require.Equal(t, &Resold{ticket, of.OrderID}, resale.ResaleOf)
	created := resale.Event().(events.TicketCreated)
	require.EqualValues(t, "seller", created.ShowOwnerID)
	require.Equal(t, &events.Resold{TicketID: ticket, OrderID: of.OrderID}, created.ResaleOf)
}

func (th *theatre) list(t *rapid.T) {
	s := th.replica(t)
	ticket, err := state.Decide(context.Background(), s.documents, s.Create("seller", th.listing(t)))
	if err == nil {
		th.tickets = append(th.tickets, ticket.ID)
	}
}

// decideOnListing is the first half of a slow listing.
func (th *theatre) decideOnListing(t *rapid.T) { th.decide(t, "seller", th.listing(t)) }

func (th *theatre) decide(t *rapid.T, seller id.User, listing Listing) {
	change, ticket, err := th.replica(t).Create(seller, listing)(context.Background())
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
	updated, err := th.replica(t).Update(context.Background(), ticket, th.sellerOf(t, ticket), 0, Offer{Price: price})
	if err == nil {
		require.LessOrEqual(t, price*100, updated.FaceValue*int64(100+th.capped), "the cap")
	}
}

// reserve does what orders does, without its limits.
func (th *theatre) reserve(ticket id.Ticket, buyer id.User) {
	seat := th.seats[ticket]
	if seat == nil || seat.deleted || seat.live != nil || seat.taken {
		return
	}
	order := &modelOrder{seat: seat}
	if seat.resaleOf != nil {
		order.resells = th.order(seat.resaleOf.OrderID)
		if !order.resells.canBeSold() || order.resells.transfer != nil {
			return
		}
		order.resells.transfer = order
	}
	seat.live = order
	order.Order = events.Order{
		ID: id.Order(fmt.Sprintf("order-%d", len(th.made))), UserID: buyer, Status: events.OrderStatusCreated, Ticket: events.OrderedTicket{ID: ticket},
	}
	th.made = append(th.made, order)
	th.publish(order)
}

func (th *theatre) order(of id.Order) *modelOrder {
	return th.made[slices.IndexFunc(th.made, func(o *modelOrder) bool { return o.ID == of })]
}

// publish publishes an order that has changed.
func (th *theatre) publish(order *modelOrder) {
	order.seat.sequence++
	order.Sequence = order.seat.sequence
	order.Version++
	th.orders = append(th.orders, order.Order)
	if order.Status == events.OrderStatusCancelled {
		order.seat.live = nil
	}
}

// cancel ends an order. The place of an order that was used or resold is never free again; what the order has bought from another buyer is
// that buyer's again otherwise.
func (th *theatre) cancel(order *modelOrder, reason events.CancelReason) {
	wasComplete := order.Status == events.OrderStatusComplete
	order.Status, order.Reason = events.OrderStatusCancelled, reason
	order.seat.taken = !order.UsedAt.IsZero() || !order.ResoldAt.IsZero()
	th.publish(order)
	if order.resells == nil || order.seat.taken {
		return
	}
	order.resells.transfer = nil
	if wasComplete && order.resells.Status == events.OrderStatusComplete {
		order.resells.ResoldAt = clock.Timestamp{}
		th.publish(order.resells)
	}
}

// complete makes an order a purchase, unless what it buys cannot be sold any more.
func (th *theatre) complete(order *modelOrder) {
	if order.resells != nil && !order.resells.canBeSold() {
		th.cancel(order, events.CancelReasonWithdrawn)
		return
	}
	order.Status = events.OrderStatusComplete
	th.publish(order)
	if order.resells != nil {
		order.resells.ResoldAt = clock.Stamp(th.now)
		th.publish(order.resells)
	}
}

// use uses a pass, if it is valid and nobody is about to buy it.
func (th *theatre) use(t *rapid.T) {
	if len(th.made) == 0 {
		return
	}
	order := rapid.SampledFrom(th.made).Draw(t, "order")
	if order.canBeSold() && order.transfer == nil {
		order.UsedAt = clock.Stamp(th.now)
		th.publish(order)
	}
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
		th.complete(seat.live)
	case seat.live.Status == events.OrderStatusCreated:
		th.cancel(seat.live, events.CancelReasonExpired)
	case !pays:
		th.cancel(seat.live, events.CancelReasonRefunded)
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
	seat.resaleOf = of.ResaleOf.published()
	if !deleted || seat.live == nil {
		return
	}
	switch {
	case event.Revoked, seat.live.Status == events.OrderStatusCreated:
		th.cancel(seat.live, events.CancelReasonWithdrawn)
	default:
		th.orders = append(th.orders, seat.live.Order)
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
	holders, resales := map[string]id.Ticket{}, map[id.Ticket]id.Ticket{}
	for _, ticket := range th.tickets {
		of := stored(t, th.replicas[0], ticket)
		require.LessOrEqual(t, of.Price*100, of.FaceValue*int64(100+th.capped), "the cap")
		require.False(t, of.Revoked && !of.Deleted)
		if of.HasPlace() {
			key := of.Place.key(of.ShowID)
			require.Empty(t, holders[key], "a place is listed once")
			holders[key] = ticket
		}
		if of.ResaleID != "" {
			require.False(t, stored(t, th.replicas[0], of.ResaleID).Deleted, "a ticket can be listed again when its resale is deleted")
		}
		if of.ResaleOf != nil && !of.Deleted && of.Status == Available {
			resold := stored(t, th.replicas[0], of.ResaleOf.TicketID)
			require.Empty(t, resales[resold.ID], "a ticket has one live resale")
			resales[resold.ID] = ticket
			require.Equal(t, ticket, resold.ResaleID)
			require.Equal(t, Sold, resold.Status)
			require.Equal(t, of.ResaleOf.OrderID, resold.OrderID)
			require.Equal(t, of.UserID, resold.BuyerID)
			require.Zero(t, resold.UsedAt, "a pass that was used cannot be sold")
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

// checkEnd is what must hold when everything is delivered.
func (th *theatre) checkEnd(t *rapid.T) {
	th.settleAll(t)
	th.check(t)
	valid := map[string]id.Ticket{}
	for _, ticket := range th.tickets {
		of, seat := stored(t, th.replicas[0], ticket), th.seats[ticket]
		if th.show.Status == events.ShowStatusCancelled {
			require.True(t, of.Revoked)
		} else if !of.Deleted {
			require.True(t, of.SalesEndAt.Equal(th.show.StartsAt.Time))
		}
		if seat == nil {
			continue
		}
		if of.ResaleOf != nil && !of.Deleted && of.Status == Available {
			require.True(t, th.order(of.ResaleOf.OrderID).canBeSold())
		}
		if seat.taken {
			require.Equal(t, Sold, of.Status, "the place is not sold a second time")
		}
		if seat.live == nil {
			continue
		}
		require.False(t, of.Deleted, "the ticket of a live order is not deleted")
		require.Equal(t, seat.live.ID, of.OrderID)
		require.Equal(t, seat.live.UserID, of.BuyerID)
		require.Equal(t, seat.live.UsedAt, clock.Timestamp{Time: of.UsedAt})
		require.Equal(t, seat.live.ResoldAt, clock.Timestamp{Time: of.ResoldAt})
		if of.Place.isNumbered() && seat.live.Status == events.OrderStatusComplete && seat.live.ResoldAt.IsZero() {
			key := of.Place.key(of.ShowID)
			require.Empty(t, valid[key], "a place has one valid pass")
			valid[key] = ticket
		}
	}
}

// Whatever happens to a show, its tickets, their orders and resales, in whatever order the services get to know it: a place is listed once by
// the owner and once by who holds its pass at any time, and has one valid pass at most in the end. A revoked ticket has none, and every ticket of
// a cancelled show is revoked. What can still be bought, orders would sell.
func TestShow_TicketsAndOrdersAgreeInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		th := newTheatre(t)
		defer th.close(t)
		t.Repeat(th.commands())
		th.checkEnd(t)
	})
}
