package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/stripe/sandbox"
)

func TestSale_TicketIsListedReservedPaidAndSold(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyer := h.signUp(t), h.signUp(t)

	listed := seller.list(t, "Concert", 4200)
	order := buyer.reserved(t, listed.ID)
	held := h.ticketBecomes(t, "reserved", listed.ID)
	require.Equal(t, order.ID, held.OrderID)
	status, paid := buyer.pay(t, order.ID, goodCard)
	require.Equal(t, 201, status)

	buyer.orderBecomes(t, "complete", order.ID)
	sold := h.ticketBecomes(t, "sold", listed.ID)
	require.Equal(t, order.ID, sold.OrderID)
	buyer.paymentBecomes(t, "captured", paid.ID)
	entries := h.ledger(t, order.ID)
	require.Len(t, entries, 1)
	require.Equal(t, int64(4200), entries[0].Kept)
	require.Equal(t, int64(4200), entries[0].Authorized)
}

func TestSale_AsksStripeTwice(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{})
	seller, buyer := h.signUp(t), h.signUp(t)
	const sales = 5
	for range sales {
		order := buyer.reserved(t, seller.list(t, "Concert", 4200).ID)
		status, paid := buyer.pay(t, order.ID, goodCard)
		require.Equal(t, 201, status)
		buyer.orderBecomes(t, "complete", order.ID)
		buyer.paymentBecomes(t, "captured", paid.ID)
	}
	// Webhooks cause no more, also those that come before what they tell of is written down.
	eventually(t, "all webhooks are taken", func() bool {
		return asIf[sandbox.Ledger](t, h.do(t, "GET", h.SandboxURL()+"/sandbox/ledger", nil), 200).Undelivered == 0
	})
	require.Equal(t, sandbox.Calls{Writes: 2 * sales},
		asIf[sandbox.Calls](t, h.do(t, "GET", h.SandboxURL()+"/sandbox/calls", nil), 200))
}
