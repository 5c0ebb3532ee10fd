package e2e

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// Who holds the pass of a place may sell the place again.

// resell lists a ticket again that the user has bought.
func (u *testUser) resell(t testing.TB, ticketID string, price int64) client.Ticket {
	t.Helper()
	u.stack.ticketBecomes(t, "sold", ticketID)
	r := u.callKnown(t, client.Resell(ticketID, price))
	requireStatus(t, 201, r)
	return decode[client.Ticket](t, r)
}

// buy buys a ticket, and waits for the capture.
func (u *testUser) buy(t testing.TB, ticketID string) client.Payment {
	t.Helper()
	paid := u.pay(t, u.reserve(t, ticketID).ID, goodCard)
	u.orderBecomes(t, "complete", paid.OrderID)
	return u.paymentBecomes(t, "captured", paid.ID)
}

// passCode waits until an order has a valid pass, and returns its code.
func (u *testUser) passCode(t testing.TB, orderID string) string {
	t.Helper()
	var code string
	eventually(t, "the pass is valid", func() bool {
		pass := decodeIf[client.Pass](t, u.call(t, client.ReadPass(orderID)), 200)
		code = pass.Code
		return pass.Status == "valid"
	})
	return code
}

func TestResale_TheBuyersPassReplacesTheSellers(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, first, second, third := s.signUp(t), s.signUp(t), s.signUp(t), s.signUp(t)
	wanted, markup := newShow(inDays(30)), 10
	wanted.MaxMarkup = &markup
	show := owner.announce(t, wanted)
	ticket := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(7), Price: 5500, FaceValue: 5000})
	bought := first.buy(t, ticket.ID)
	old := first.passCode(t, bought.OrderID)
	s.waitLeft(t, show.ID, 0)

	s.ticketBecomes(t, "sold", ticket.ID)
	requireProblem(t, 409, first.callKnown(t, client.Resell(ticket.ID, 5501)), "price_above_cap")
	resale := first.resell(t, ticket.ID, 5400)
	require.Equal(t, []any{ticket.ID, first.ID, show.Name, int64(5000), row1(7)}, []any{resale.ResaleOf, resale.UserID, resale.Title, resale.FaceValue, resale.Seat})
	requireProblem(t, 409, owner.call(t, client.ListPlace(client.Offer{ShowID: show.ID, Seat: row1(7), Price: 5000})), "seat_listed")
	requireProblem(t, 409, first.call(t, client.EditTicket(resale.ID, client.Offer{Price: 5501})), "price_above_cap")
	require.EqualValues(t, 5400, s.waitLeft(t, show.ID, 1).PriceFrom)
	listed := decode[[]client.Ticket](t, s.call(t, client.ReadShowTickets(show.ID)))
	require.Equal(t, []string{resale.ID, ticket.ID}, []string{listed[0].ID, listed[0].ResaleOf})
	requireProblem(t, 409, first.callKnown(t, client.Reserve(resale.ID)), "own_ticket")

	again := second.buy(t, resale.ID)
	s.waitLeft(t, show.ID, 0)
	current := second.passCode(t, again.OrderID)
	require.NotEqual(t, old, current)
	requireProblem(t, 409, first.call(t, client.ReadPass(bought.OrderID)), "pass_void")
	require.False(t, first.order(t, bought.OrderID).ResoldAt.IsZero())
	requireProblem(t, 409, owner.call(t, client.CheckIn(show.ID, old)), "pass_void")
	requireProblem(t, 403, first.call(t, client.CheckIn(show.ID, current)), "not_show_owner") // the owner of the show checks in, not the seller

	onceMore := second.resell(t, resale.ID, 5500)
	last := third.buy(t, onceMore.ID)
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, third.passCode(t, last.OrderID))))
	requireProblem(t, 409, owner.call(t, client.CheckIn(show.ID, current)), "pass_void")
	eventually(t, "a pass that was used cannot be sold", func() bool { return third.call(t, client.Resell(onceMore.ID, 5000)).Code() == "pass_used" })
	for of, kept := range map[string]int64{bought.OrderID: 5500, again.OrderID: 5400, last.OrderID: 5500} {
		s.waitMoney(t, of, money{charges: 1, kept: kept})
	}
	for _, id := range []string{ticket.ID, resale.ID, onceMore.ID} {
		s.ticketBecomes(t, "sold", id)
	}
}

func TestResale_ARefundMakesTheSellersPassValidAgain(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, first, second := s.signUp(t), s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	ticket := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 4000})
	bought := first.buy(t, ticket.ID)
	code := first.passCode(t, bought.OrderID)
	resale := first.resell(t, ticket.ID, 4500)
	again := second.buy(t, resale.ID)
	requireProblem(t, 409, first.call(t, client.ReadPass(bought.OrderID)), "pass_void")

	s.refund(t, again.StripeID, "")
	second.orderBecomes(t, "cancelled", again.OrderID)
	require.Equal(t, code, first.passCode(t, bought.OrderID), "the same pass as before")
	requireProblem(t, 409, second.call(t, client.ReadPass(again.OrderID)), "pass_void")
	s.ticketBecomes(t, "withheld", resale.ID)
	requireStatus(t, 200, first.call(t, client.EditTicket(resale.ID, client.Offer{Price: 4400})))

	third := s.signUp(t)
	var order client.Order
	eventually(t, "the ticket can be reserved again", func() bool {
		var status int
		status, order = third.tryReserve(t, resale.ID)
		return status == 201
	})
	third.cancel(t, order.ID)

	s.refund(t, bought.StripeID, "") // the seller gets the money back, and has nothing to sell
	first.orderBecomes(t, "cancelled", bought.OrderID)
	eventually(t, "the listing is withdrawn", func() bool { return s.call(t, client.ReadTicket(resale.ID)).Status == 404 })
	s.ticketBecomes(t, "withheld", ticket.ID)
	require.Contains(t, []string{"ticket_not_found", "ticket_withdrawn"}, s.signUp(t).call(t, client.Reserve(resale.ID)).Code())
}

func TestResale_UsingThePassWithdrawsTheListing(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, holder := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	ticket := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 4000})
	bought := holder.buy(t, ticket.ID)
	resale := holder.resell(t, ticket.ID, 4500)
	s.waitLeft(t, show.ID, 1)
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, holder.passCode(t, bought.OrderID))))
	eventually(t, "the listing is withdrawn", func() bool { return s.call(t, client.ReadTicket(resale.ID)).Status == 404 })
	s.waitLeft(t, show.ID, 0)
	require.Empty(t, onlyPage[client.Ticket](t, holder.call(t, client.ReadOwnTickets())))
	requireProblem(t, 409, holder.call(t, client.Resell(ticket.ID, 4500)), "pass_used")
}

func TestResale_ACancelledShowGivesAllBuyersTheirMoneyBack(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, first, second := s.signUp(t), s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	ticket := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 4000})
	bought := first.buy(t, ticket.ID)
	resale := first.resell(t, ticket.ID, 4500)
	again := second.buy(t, resale.ID)
	listed := second.resell(t, resale.ID, 4600)

	requireStatus(t, 204, owner.call(t, client.CancelShow(show.ID)))
	for buyer, paid := range map[*testUser]client.Payment{first: bought, second: again} {
		require.Equal(t, "withdrawn", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
		buyer.paymentBecomes(t, "refunded", paid.ID)
		s.requireMoney(t, paid.OrderID, money{charges: 1})
		requireProblem(t, 409, buyer.call(t, client.ReadPass(paid.OrderID)), "pass_void")
	}
	for _, id := range []string{ticket.ID, resale.ID, listed.ID} {
		eventually(t, "the listing is withdrawn", func() bool { return s.call(t, client.ReadTicket(id)).Status == 404 })
	}
}

func TestResale_OfConcurrentListingsOfOneTicketOneSucceeds(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Replicas: 2})
	owner, holder := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	ticket := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 4000})
	holder.buy(t, ticket.ID)
	s.ticketBecomes(t, "sold", ticket.ID)
	const requests = 12
	responses := make([]client.Response, requests)
	var asking sync.WaitGroup
	for i := range requests {
		replica := []string{"tickets", "tickets-2"}[i%2]
		asking.Go(func() { responses[i] = holder.call(t, client.Resell(ticket.ID, 4000).At(s.URL(replica))) })
	}
	asking.Wait()
	counts := map[string]int{}
	for _, r := range responses {
		counts[fmt.Sprint(r.Status, r.Code())]++
	}
	require.Equal(t, map[string]int{"201": 1, "409seat_listed": requests - 1}, counts)
}
