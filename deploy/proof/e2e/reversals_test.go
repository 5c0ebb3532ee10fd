package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/stripe/sandbox"
)

// Refunds and disputes begin at Stripe. These tests follow them through all services; services/payments/reversals_test.go has all cases.

// refund refunds a payment, or a part of it, as in Stripe's dashboard.
func (s *testStack) refund(t testing.TB, stripeID, amount string) {
	t.Helper()
	form := "payment_intent=" + stripeID
	if amount != "" {
		form += "&amount=" + amount
	}
	r := s.request(t, "POST", s.SandboxURL()+"/v1/refunds", form, "Content-Type", "application/x-www-form-urlencoded", "Authorization", "Bearer sk_test_sandbox")
	requireStatus(t, 200, r)
}

// reversal is what REST shows of a payment's refunds and disputes.
type reversal struct {
	Status   string `json:"status"`
	Refunded int64  `json:"refunded"`
	Dispute  struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	} `json:"dispute"`
}

func (u *testUser) readReversal(t testing.TB, id string) reversal {
	t.Helper()
	return decodeIf[reversal](t, u.call(t, client.ReadPayment(id)), 200)
}

// sellAndCapture sells a ticket, and waits for the capture.
func (s *testStack) sellAndCapture(t testing.TB) (*testUser, client.Payment, string) {
	t.Helper()
	buyer := s.signUp(t)
	paid := s.sell(t, buyer)
	return buyer, buyer.paymentBecomes(t, "captured", paid.ID), buyer.order(t, paid.OrderID).Ticket.ID
}

func TestReversals_FullRefundAtStripeCancelsTheOrder(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	events := s.stream(t)
	buyer, paid, ticketID := s.sellAndCapture(t)
	s.refund(t, paid.StripeID, "500")
	eventuallyEqual(t, reversal{Status: "captured", Refunded: 500}, "the payment", func() reversal { return buyer.readReversal(t, paid.ID) })
	events.waitIdle(t)
	require.Equal(t, "complete", buyer.order(t, paid.OrderID).Status)
	s.refund(t, paid.StripeID, "")
	require.Equal(t, "refunded", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
	s.ticketBecomes(t, "withheld", ticketID)
	require.Equal(t, reversal{Status: "refunded", Refunded: 1500}, buyer.readReversal(t, paid.ID))
	s.requireMoney(t, paid.OrderID, money{charges: 1})
	events.waitIdle(t)
	require.Zero(t, events.deadLetterCount(t))
}

func TestReversals_LostDisputeCancelsTheOrder(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	buyer, paid, ticketID := s.sellAndCapture(t)
	r := s.request(t, "POST", s.SandboxURL()+"/sandbox/payment_intents/"+paid.StripeID+"/dispute", map[string]string{"reason": "fraudulent"})
	requireStatus(t, 201, r)
	eventuallyEqual(t, "needs_response", "the dispute", func() string { return buyer.readReversal(t, paid.ID).Dispute.Status })
	require.Equal(t, "complete", buyer.order(t, paid.OrderID).Status, "the dispute is open")
	r = s.request(t, "POST", s.SandboxURL()+"/sandbox/disputes/"+buyer.readReversal(t, paid.ID).Dispute.ID+"/close", map[string]string{"outcome": "lost"})
	requireStatus(t, 200, r)
	require.Equal(t, "refunded", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
	s.ticketBecomes(t, "withheld", ticketID)
	require.Equal(t, "refunded", buyer.readReversal(t, paid.ID).Status)
}

func TestReversals_ReconciliationFindsThemWithoutAWebhook(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RECONCILE_EVERY": "2s"}})
	buyer, paid, ticketID := s.sellAndCapture(t)
	rate := 1.0
	s.addFault(t, paid.OrderID, sandbox.Rule{Operation: "refund", Fault: sandbox.WebhookDrop, Rate: &rate})
	s.refund(t, paid.StripeID, "")
	require.Equal(t, "refunded", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
	s.ticketBecomes(t, "withheld", ticketID)
	events := s.stream(t)
	require.Zero(t, events.deadLetterCount(t))
}

// The database of orders is replaced by an older copy after its orders were complete. Only the reconciliation finds the lost orders and refunds
// their payments.
func TestRestore_MoneyOfLostCompleteOrdersIsRefunded(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "its databases are files")
	folder, backup := t.TempDir(), t.TempDir()
	first := newStack(t, stack.Options{Folder: folder})
	seller, buyer := first.signUp(t), first.signUp(t)
	listing := seller.list(t, "Paid", 1500)
	first.stream(t).waitIdle(t)
	require.NoError(t, first.Stop())
	copyDatabase(t, "orders", databaseFolder(t, folder), backup)

	second := newStack(t, stack.Options{Folder: folder})
	seller.stack, buyer.stack = second, second
	paid := buyer.pay(t, buyer.reserve(t, listing.ID).ID, goodCard)
	buyer.paymentBecomes(t, "captured", paid.ID)
	second.stream(t).waitIdle(t)
	require.NoError(t, second.Stop())
	copyDatabase(t, "orders", backup, databaseFolder(t, folder))

	last := newStack(t, stack.Options{Folder: folder, Env: map[string]string{"RECONCILE_EVERY": "2s"}})
	seller.stack, buyer.stack = last, last
	events := last.stream(t)
	buyer.paymentBecomes(t, "refunded", paid.ID)
	last.requireMoney(t, paid.OrderID, money{charges: 1})
	events.waitIdle(t)
	require.Zero(t, events.deadLetterCount(t))
}

func TestCardTesting_AttemptsAreLimitedAndReasonsHidden(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"PAYMENT_ATTEMPTS": "2", "PAYMENT_ATTEMPTS_PER_HOUR": "3"}})
	tester := s.signUp(t)
	seller := s.signUp(t)
	orders := []client.Order{tester.reserve(t, seller.list(t, "One", 1500).ID), tester.reserve(t, seller.list(t, "Two", 1500).ID), tester.reserve(t, seller.list(t, "Three", 1500).ID)}
	try := func(o client.Order, card string) client.Response {
		return tester.callKnown(t, client.Pay(o.ID, card))
	}
	for _, card := range []string{"pm_card_chargeDeclinedStolenCard", "pm_card_chargeDeclinedLostCard"} {
		requireProblem(t, 402, try(orders[0], card), "card_declined")
	}
	requireProblem(t, 409, try(orders[0], goodCard), "too_many_attempts")
	requireProblem(t, 402, try(orders[1], "pm_card_chargeDeclined"), "generic_decline")
	r := try(orders[2], goodCard)
	requireProblem(t, 429, r, "too_many_attempts")
	require.NotEmpty(t, r.Header.Get("Retry-After"))
	declines := 0
	for _, o := range orders {
		for _, entry := range s.ledger(t, o.ID) {
			declines += entry.Declines
		}
	}
	require.Equal(t, 3, declines, "nothing else is sent to Stripe")

	user := s.signUp(t)
	user.pay(t, user.reserve(t, seller.list(t, "Four", 1500).ID).ID, goodCard)
}

// A card tester confirms the intent at Stripe, past the payments service.
func TestCardTesting_WithAClientSecretIsLimited(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"PAYMENT_ATTEMPTS": "3", "PAYMENT_ATTEMPTS_PER_HOUR": "10"}})
	tester := s.signUp(t)
	bought := tester.reserve(t, s.signUp(t).list(t, "One", 1500).ID)
	begun := tester.pay(t, bought.ID, secureCard)
	confirm := func(card string) int {
		form := "client_secret=" + begun.ClientSecret + "&payment_method=" + card
		return s.request(t, "POST", s.SandboxURL()+"/v1/payment_intents/"+begun.StripeID+"/confirm", form,
			"Content-Type", "application/x-www-form-urlencoded", "Authorization", "Bearer pk_test_sandbox").Status
	}
	for range 3 {
		require.Equal(t, 402, confirm("pm_card_chargeDeclined"))
	}
	tester.orderBecomes(t, "cancelled", bought.ID)
	tester.paymentBecomes(t, "voided", begun.ID)
	require.Equal(t, 400, confirm(goodCard), "the intent is canceled, so its client secret is worth nothing")
	requireProblem(t, 409, tester.call(t, client.Pay(bought.ID, goodCard)), "too_many_attempts")
	s.requireMoney(t, bought.ID, money{})
}

func TestRefund_FullRefundCancelsTheOrderAndWithholdsTheTicket(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	seller, buyer, other := s.signUp(t), s.signUp(t), s.signUp(t)
	listed := seller.list(t, "Front row", 1500)
	paid := buyer.pay(t, buyer.reserve(t, listed.ID).ID, goodCard)
	buyer.paymentBecomes(t, "captured", paid.ID)
	events := s.stream(t)

	events.publishRefund(t, paid, buyer.ID, 1499)
	events.waitIdle(t)
	require.Equal(t, "complete", buyer.order(t, paid.OrderID).Status, "a partial refund changes nothing")
	require.Equal(t, "sold", s.ticket(t, listed.ID).Status)

	for range 2 { // the second is a redelivery
		events.publishRefund(t, paid, buyer.ID, 1500)
		require.Equal(t, "refunded", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
		events.waitIdle(t)
		require.Empty(t, s.ticketBecomes(t, "withheld", listed.ID).OrderID)
		requireProblem(t, 409, other.call(t, client.Reserve(listed.ID)), "ticket_withheld")
	}
	eventuallyEqual(t, int64(0), "the money that is kept", func() int64 { return s.moneyOf(t, paid.OrderID).kept })

	r := seller.call(t, client.EditTicket(listed.ID, client.Offer{Title: "Front row, again", Price: 1600}))
	requireStatus(t, 200, r)
	require.Equal(t, "available", decode[client.Ticket](t, r).Status)
	events.waitIdle(t)
	require.Equal(t, int64(1600), other.reserve(t, listed.ID).Ticket.Price)
	require.Zero(t, events.deadLetterCount(t))
}
