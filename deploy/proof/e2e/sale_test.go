package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/stripe/sandbox"
)

func TestSale_TicketIsListedReservedPaidAndSold(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyer := s.signUp(t), s.signUp(t)

	listed := seller.list(t, "Concert", 4200)
	order := buyer.reserve(t, listed.ID)
	held := s.ticketBecomes(t, "reserved", listed.ID)
	require.Equal(t, order.ID, held.OrderID)
	paid := buyer.pay(t, order.ID, goodCard)

	buyer.orderBecomes(t, "complete", order.ID)
	sold := s.ticketBecomes(t, "sold", listed.ID)
	require.Equal(t, order.ID, sold.OrderID)
	buyer.paymentBecomes(t, "captured", paid.ID)
	entries := s.ledger(t, order.ID)
	require.Len(t, entries, 1)
	require.Equal(t, int64(4200), entries[0].Kept)
	require.Equal(t, int64(4200), entries[0].Authorized)
}

func TestSale_MakesTwoRequestsToStripe(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"STRIPE_TIMEOUT": "10s"}}) // no request is made twice because it is slow
	seller, buyer := s.signUp(t), s.signUp(t)
	const sales = 5
	for range sales {
		order := buyer.reserve(t, seller.list(t, "Concert", 4200).ID)
		paid := buyer.pay(t, order.ID, goodCard)
		buyer.orderBecomes(t, "complete", order.ID)
		buyer.paymentBecomes(t, "captured", paid.ID)
	}
	// Webhooks cause no further requests, also if they arrive before payments has stored the outcome.
	eventually(t, "all webhooks are delivered", func() bool {
		return decodeIf[sandbox.Ledger](t, s.request(t, "GET", s.SandboxURL()+"/sandbox/ledger", nil), 200).Undelivered == 0
	})
	require.Equal(t, sandbox.Calls{Writes: 2 * sales},
		decodeIf[sandbox.Calls](t, s.request(t, "GET", s.SandboxURL()+"/sandbox/calls", nil), 200))
}
