package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
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
