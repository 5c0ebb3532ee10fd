package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

func TestRestart_KeepsEverything(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()

	first := newStack(t, stack.Options{Folder: folder})
	seller, buyer := first.signUp(t), first.signUp(t)
	free := seller.list(t, "Free", 1000)
	paid := first.sell(t, buyer)
	sold := first.ticket(t, buyer.order(t, paid.OrderID).Ticket.ID)
	captured := buyer.paymentBecomes(t, "captured", paid.ID)
	waiting, begun := buyer.beginSecurePayment(t, seller.list(t, "3-D Secure", 3000).ID)
	orders := buyer.call(t, client.ReadOrders())
	requireStatus(t, 200, orders)
	tickets := first.call(t, client.ReadTickets())
	keys := first.publicKeys(t)
	require.NoError(t, first.Stop())

	brief := newStack(t, stack.Options{Folder: folder, Env: map[string]string{"RESERVATION_WINDOW": "20s"}})
	late := brief.signUp(t)
	seller.stack = brief
	unpaid := late.reserve(t, seller.list(t, "Unpaid", 2000).ID)
	brief.ticketBecomes(t, "reserved", unpaid.Ticket.ID)
	require.NoError(t, brief.Stop())
	require.True(t, time.Now().Before(unpaid.ExpiresAt), "stopping took too long: the reminder must be pending")

	last := newStack(t, stack.Options{Folder: folder})
	seller.stack, buyer.stack, late.stack = last, last, last
	require.Equal(t, keys, last.publicKeys(t))
	require.Equal(t, &buyer.User, decode[client.CurrentUser](t, buyer.call(t, client.ReadCurrentUser())).CurrentUser, "by the earlier token")
	r := last.call(t, client.SignIn(buyer.Email, buyer.password))
	requireStatus(t, 200, r)
	require.Equal(t, buyer.User, decode[client.SignedIn](t, r).User)
	requireStatus(t, 409, last.call(t, client.SignUp(buyer.Email, "another horse")))

	require.Equal(t, free, last.ticket(t, free.ID))
	require.Equal(t, sold, last.ticket(t, sold.ID))
	require.Equal(t, captured, buyer.payment(t, captured.ID))
	require.Len(t, decode[[]client.Ticket](t, last.call(t, client.ReadTickets())), len(decode[[]client.Ticket](t, tickets))+1)
	require.Len(t, decode[[]client.Order](t, buyer.call(t, client.ReadOrders())), len(decode[[]client.Order](t, orders)))
	requireProblem(t, 409, seller.call(t, client.Reserve(sold.ID)), "ticket_sold")
	requireStatus(t, 200, seller.call(t, client.EditTicket(free.ID, client.Offer{Title: "Still free", Price: 1100, Version: 1})))

	t.Run("a payment that waited for 3-D Secure continues", func(t *testing.T) {
		last.authenticate(t, begun.StripeID, "succeed")
		buyer.orderBecomes(t, "complete", waiting.ID)
		last.requireMoney(t, waiting.ID, money{charges: 1, kept: 3000})
	})
	t.Run("an earlier reminder cancels its order", func(t *testing.T) {
		waitTime(unpaid.ExpiresAt)
		require.Equal(t, "expired", late.orderBecomes(t, "cancelled", unpaid.ID).Reason)
		last.ticketBecomes(t, "available", unpaid.Ticket.ID)
		again := buyer.reserve(t, unpaid.Ticket.ID)
		require.Equal(t, "created", buyer.order(t, again.ID).Status)
	})
}
