package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/stripe/sandbox"
)

// What Stripe and banks do without being asked, through the whole system. services/payments/reversals_test.go has all cases.

// refund gives a payment's money back as somebody does in Stripe's dashboard.
func (h *house) refund(t testing.TB, stripeID, amount string) {
	t.Helper()
	form := "payment_intent=" + stripeID
	if amount != "" {
		form += "&amount=" + amount
	}
	r := h.do(t, "POST", h.SandboxURL()+"/v1/refunds", form, "Content-Type", "application/x-www-form-urlencoded", "Authorization", "Bearer sk_test_sandbox")
	require.Equal(t, 200, r.status, "%s", r.body)
}

// reversed is what a payment shows of refunds and disputes.
type reversed struct {
	Status   string `json:"status"`
	Refunded int64  `json:"refunded"`
	Dispute  struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	} `json:"dispute"`
}

func (p *person) reversal(t testing.TB, id string) reversed {
	t.Helper()
	return asIf[reversed](t, p.do(t, "GET", "/api/payments/"+id, nil), 200)
}

// captured sells a ticket, and waits until the money was taken.
func (h *house) captured(t testing.TB) (*person, payment, string) {
	t.Helper()
	listed := h.signUp(t).list(t, "Sold", 1500)
	buyer := h.signUp(t)
	status, paid := buyer.pay(t, buyer.reserved(t, listed.ID).ID, goodCard)
	require.Equal(t, 201, status)
	buyer.orderBecomes(t, "complete", paid.OrderID)
	h.ticketBecomes(t, "sold", listed.ID)
	return buyer, buyer.paymentBecomes(t, "captured", paid.ID), listed.ID
}

func TestReversals_ARefundInTheDashboardEndsTheOrderWhenAllIsGivenBack(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, nil)
	stream := h.stream(t)
	buyer, paid, ticketID := h.captured(t)
	h.refund(t, paid.StripeID, "500")
	becomes(t, reversed{Status: "captured", Refunded: 500}, "the payment", func() reversed { return buyer.reversal(t, paid.ID) })
	stream.settled(t)
	require.Equal(t, "complete", buyer.order(t, paid.OrderID).Status)
	h.refund(t, paid.StripeID, "")
	require.Equal(t, "refunded", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
	h.ticketBecomes(t, "withheld", ticketID)
	require.Equal(t, reversed{Status: "refunded", Refunded: 1500}, buyer.reversal(t, paid.ID))
	h.money(t, paid.OrderID, 1, 0, 0)
	stream.settled(t)
	require.Zero(t, stream.dead(t))
}

func TestReversals_ADisputeThatIsLostEndsTheOrder(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, nil)
	buyer, paid, ticketID := h.captured(t)
	r := h.do(t, "POST", h.SandboxURL()+"/sandbox/payment_intents/"+paid.StripeID+"/dispute", map[string]string{"reason": "fraudulent"})
	require.Equal(t, 201, r.status, "%s", r.body)
	becomes(t, "needs_response", "the dispute", func() string { return buyer.reversal(t, paid.ID).Dispute.Status })
	require.Equal(t, "complete", buyer.order(t, paid.OrderID).Status, "nothing is decided")
	r = h.do(t, "POST", h.SandboxURL()+"/sandbox/disputes/"+buyer.reversal(t, paid.ID).Dispute.ID+"/close", map[string]string{"outcome": "lost"})
	require.Equal(t, 200, r.status, "%s", r.body)
	require.Equal(t, "refunded", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
	h.ticketBecomes(t, "withheld", ticketID)
	require.Equal(t, "refunded", buyer.reversal(t, paid.ID).Status)
}

func TestReversals_WithoutAWebhookTheDailyComparisonFindsThem(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"RECONCILE_EVERY": "2s"}})
	buyer, paid, ticketID := h.captured(t)
	rate := 1.0
	h.misbehaves(t, paid.OrderID, sandbox.Rule{Operation: "refund", Fault: sandbox.WebhookDrop, Rate: &rate})
	h.refund(t, paid.StripeID, "")
	require.Equal(t, "refunded", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
	h.ticketBecomes(t, "withheld", ticketID)
	stream := h.stream(t)
	require.Zero(t, stream.dead(t))
}

// The database of orders is replaced by an older copy when all is long settled: nothing but the comparison gets the money
// of the orders that are lost by that back to its buyers.
func TestRestore_TheMoneyOfLostOrdersThatWereSettledGoesBack(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "its databases are files")
	folder, backup := t.TempDir(), t.TempDir()
	first := newHouse(t, stack.Options{Folder: folder})
	seller, buyer := first.signUp(t), first.signUp(t)
	seat := seller.list(t, "Paid", 1500)
	first.stream(t).settled(t)
	require.NoError(t, first.Stop())
	copyDatabase(t, "orders", databaseFolder(t, folder), backup)

	second := newHouse(t, stack.Options{Folder: folder})
	seller.house, buyer.house = second, second
	status, paid := buyer.pay(t, buyer.reserved(t, seat.ID).ID, goodCard)
	require.Equal(t, 201, status)
	buyer.paymentBecomes(t, "captured", paid.ID)
	second.stream(t).settled(t)
	require.NoError(t, second.Stop())
	copyDatabase(t, "orders", backup, databaseFolder(t, folder))

	last := newHouse(t, stack.Options{Folder: folder, Env: map[string]string{"RECONCILE_EVERY": "2s"}})
	seller.house, buyer.house = last, last
	stream := last.stream(t)
	buyer.paymentBecomes(t, "refunded", paid.ID)
	last.money(t, paid.OrderID, 1, 0, 0)
	stream.settled(t)
	require.Zero(t, stream.dead(t))
}

func TestCardTesting_IsStoppedAndLearnsNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"PAYMENT_ATTEMPTS": "2", "PAYMENT_ATTEMPTS_PER_HOUR": "3"}})
	tester := h.signUp(t)
	seller := h.signUp(t)
	orders := []order{tester.reserved(t, seller.list(t, "One", 1500).ID), tester.reserved(t, seller.list(t, "Two", 1500).ID), tester.reserved(t, seller.list(t, "Three", 1500).ID)}
	try := func(o order, card string) reply {
		return tester.do(t, "POST", "/api/payments", map[string]string{"orderId": o.ID, "paymentMethod": card})
	}
	for _, card := range []string{"pm_card_chargeDeclinedStolenCard", "pm_card_chargeDeclinedLostCard"} {
		refused(t, 402, try(orders[0], card), "card_declined")
	}
	refused(t, 409, try(orders[0], goodCard), "too_many_attempts")
	refused(t, 402, try(orders[1], "pm_card_chargeDeclined"), "generic_decline")
	r := try(orders[2], goodCard)
	refused(t, 429, r, "too_many_attempts")
	require.NotEmpty(t, r.header.Get("Retry-After"))
	declines := 0
	for _, o := range orders {
		for _, entry := range h.ledger(t, o.ID) {
			declines += entry.Declines
		}
	}
	require.Equal(t, 3, declines, "nothing else was sent to Stripe")

	somebody := h.signUp(t)
	status, _ := somebody.pay(t, somebody.reserved(t, seller.list(t, "Four", 1500).ID).ID, goodCard)
	require.Equal(t, http.StatusCreated, status)
}

// TestCardTesting_WithAClientSecretIsStopped has a card tester confirm the intent at Stripe, past the box office.
func TestCardTesting_WithAClientSecretIsStopped(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"PAYMENT_ATTEMPTS": "3", "PAYMENT_ATTEMPTS_PER_HOUR": "10"}})
	tester := h.signUp(t)
	bought := tester.reserved(t, h.signUp(t).list(t, "One", 1500).ID)
	status, begun := tester.pay(t, bought.ID, secureCard)
	require.Equal(t, 201, status)
	confirm := func(card string) int {
		form := "client_secret=" + begun.ClientSecret + "&payment_method=" + card
		return h.do(t, "POST", h.SandboxURL()+"/v1/payment_intents/"+begun.StripeID+"/confirm", form,
			"Content-Type", "application/x-www-form-urlencoded", "Authorization", "Bearer pk_test_sandbox").status
	}
	for range 3 {
		require.Equal(t, 402, confirm("pm_card_chargeDeclined"))
	}
	tester.orderBecomes(t, "cancelled", bought.ID)
	tester.paymentBecomes(t, "voided", begun.ID)
	require.Equal(t, 400, confirm(goodCard), "the intent is canceled, so its client secret is worth nothing")
	refused(t, 409, tester.do(t, "POST", "/api/payments", paying{OrderID: bought.ID, PaymentMethod: goodCard}), "too_many_attempts")
	h.money(t, bought.ID, 0, 0, 0)
}
