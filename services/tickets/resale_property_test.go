package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
)

// sell lets a buyer buy a ticket, and delivers all events.
func (th *theatre) sell(t *rapid.T, ticket id.Ticket, buyer id.User) {
	th.deliverTicket(t, ticket)
	th.reserve(ticket, buyer)
	th.complete(th.seats[ticket].live)
	th.deliverOrders(t)
}

// deliverOrders delivers all events of orders, the newest first or last.
func (th *theatre) deliverOrders(t *rapid.T) {
	newestFirst := rapid.Bool().Draw(t, "newest first")
	for i := range th.orders {
		if newestFirst {
			i = len(th.orders) - 1 - i
		}
		require.NoError(t, th.replica(t).ApplyOrder(context.Background(), th.orders[i]))
	}
}

// resaleCommands are those of a theatre whose only ticket is sold, and resold in all ways.
func (th *theatre) resaleCommands() map[string]func(*rapid.T) {
	commands := map[string]func(*rapid.T){}
	all := th.commands()
	for _, name := range []string{
		"resell", "decide on a resale", "commit it", "update", "delete", "reserve", "pay, cancel or refund", "use a pass",
		"orders gets a ticket's event", "tickets gets an order's event", "",
	} {
		commands[name] = all[name]
	}
	commands["resell the last"] = func(t *rapid.T) { th.resellOf(t, th.tickets[len(th.tickets)-1]) }
	commands["orders gets all tickets' events"] = func(t *rapid.T) {
		for _, ticket := range th.tickets {
			th.deliverTicket(t, ticket)
		}
	}
	commands["the first sale is refunded"] = func(*rapid.T) {
		if live := th.seats[th.tickets[0]].live; live != nil && live.Status == events.OrderStatusComplete {
			th.cancel(live, events.CancelReasonRefunded)
		}
	}
	commands["the last sale is refunded"] = func(t *rapid.T) {
		seat := th.seats[th.tickets[len(th.tickets)-1]]
		if seat != nil && seat.live != nil && seat.live.Status == events.OrderStatusComplete {
			th.cancel(seat.live, events.CancelReasonRefunded)
		}
	}
	commands["the last is offered again"] = func(t *rapid.T) {
		last := th.tickets[len(th.tickets)-1]
		_, _ = th.replica(t).Update(context.Background(), last, th.sellerOf(t, last), 0, Offer{Price: 100})
	}
	commands["tickets gets all orders' events"] = th.deliverOrders
	commands["somebody reserves the last"] = func(t *rapid.T) {
		last := th.tickets[len(th.tickets)-1]
		th.deliverTicket(t, last)
		th.reserve(last, rapid.SampledFrom(buyers).Draw(t, "buyer"))
	}
	commands["an account is deleted"] = func(t *rapid.T) {
		if rapid.IntRange(0, 3).Draw(t, "it is, if 0") > 0 {
			return
		}
		seller := rapid.SampledFrom(buyers).Draw(t, "account")
		s := th.replica(t)
		for _, ticket := range th.tickets {
			_, err := s.decide(context.Background(), ticket, func(of *Ticket) (bool, error) {
				return of.UserID == seller && of.DeleteWithAccount(th.now), nil
			})
			require.NoError(t, err)
		}
	}
	return commands
}

// The promise of resale, for a place that its buyers sell to one another: it has one live listing and one valid pass at most, whatever comes late,
// twice or in another order, and a pass that was used is not for sale.
func TestResale_APlaceHasOneListingAndOneValidPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		th := newTheatre(t)
		defer th.close(t)
		s := th.replicas[0]
		first, err := state.Decide(context.Background(), s.documents, s.Create("seller", Listing{Offer: Offer{Price: 1000}, ShowID: th.show.ID, Place: places[0]}))
		require.NoError(t, err)
		th.tickets = append(th.tickets, first.ID)
		th.sell(t, first.ID, "buyer-1")
		t.Repeat(th.resaleCommands())
		if rapid.IntRange(0, 5).Draw(t, "the show is cancelled, if 0") == 0 {
			th.show.Version++
			th.show.Status = events.ShowStatusCancelled
			require.NoError(t, th.replica(t).ApplyShow(context.Background(), th.show))
		}
		th.checkEnd(t)
	})
}
