package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

func TestRestart_OfEverythingLosesNothing(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()

	first := newHouse(t, stack.Options{Folder: folder})
	seller, buyer := first.signUp(t), first.signUp(t)
	free := seller.list(t, "Free", 1000)
	paid := first.sold(t, buyer)
	sold := first.ticket(t, buyer.order(t, paid.OrderID).Ticket.ID)
	captured := buyer.paymentBecomes(t, "captured", paid.ID)
	waiting, begun := buyer.waiting(t, seller.list(t, "3-D Secure", 3000).ID)
	orders := buyer.do(t, "GET", "/api/orders", nil)
	require.Equal(t, 200, orders.status)
	tickets := first.do(t, "GET", "/api/tickets", nil)
	keys := first.keys(t)
	require.NoError(t, first.Stop())

	brief := newHouse(t, stack.Options{Folder: folder, Env: map[string]string{"RESERVATION_WINDOW": "10s"}})
	late := brief.signUp(t)
	seller.house = brief
	unpaid := late.reserved(t, seller.list(t, "Unpaid", 2000).ID)
	brief.ticketBecomes(t, "reserved", unpaid.Ticket.ID)
	require.NoError(t, brief.Stop())
	require.True(t, time.Now().Before(unpaid.ExpiresAt), "the reminder must be pending when all is stopped, but stopping took too long")

	last := newHouse(t, stack.Options{Folder: folder})
	seller.house, buyer.house, late.house = last, last, last
	require.Equal(t, keys, last.keys(t))
	require.Equal(t, &buyer.user, as[currentUser](t, buyer.do(t, "GET", "/api/users/currentuser", nil)).CurrentUser, "by the token from before")
	r := last.do(t, "POST", "/api/users/signin", credentials{buyer.Email, buyer.password})
	require.Equal(t, 200, r.status)
	require.Equal(t, buyer.user, as[signedIn](t, r).User)
	require.Equal(t, 409, last.do(t, "POST", "/api/users/signup", credentials{buyer.Email, "another horse"}).status)

	require.Equal(t, free, last.ticket(t, free.ID))
	require.Equal(t, sold, last.ticket(t, sold.ID))
	require.Equal(t, captured, buyer.payment(t, captured.ID))
	require.Len(t, as[[]ticket](t, last.do(t, "GET", "/api/tickets", nil)), len(as[[]ticket](t, tickets))+1)
	require.Len(t, as[[]order](t, buyer.do(t, "GET", "/api/orders", nil)), len(as[[]order](t, orders)))
	refused(t, 409, seller.do(t, "POST", "/api/orders", wanted{sold.ID}), "ticket_sold")
	require.Equal(t, 200, seller.do(t, "PUT", "/api/tickets/"+free.ID, offer{Title: "Still free", Price: 1100, Version: 1}).status)

	t.Run("a payment that waited for the buyer's bank goes on", func(t *testing.T) {
		last.authenticate(t, begun.StripeID, "succeed")
		buyer.orderBecomes(t, "complete", waiting.ID)
		last.money(t, waiting.ID, 1, 0, 3000)
	})
	t.Run("a reminder from before ends its reservation", func(t *testing.T) {
		eventually(t, "the reservation's time is over", func() bool { return time.Now().After(unpaid.ExpiresAt) })
		require.Equal(t, "expired", late.orderBecomes(t, "cancelled", unpaid.ID).Reason)
		last.ticketBecomes(t, "available", unpaid.Ticket.ID)
		again := buyer.reserved(t, unpaid.Ticket.ID)
		require.Equal(t, "created", buyer.order(t, again.ID).Status)
	})
}

// waiting reserves a ticket and begins to pay it with a card whose bank wants to see the buyer.
func (p *person) waiting(t testing.TB, ticketID string) (order, payment) {
	t.Helper()
	made := p.reserved(t, ticketID)
	status, begun := p.pay(t, made.ID, secureCard)
	require.Equal(t, 201, status)
	require.Equal(t, "requires_action", begun.Status)
	return made, begun
}
