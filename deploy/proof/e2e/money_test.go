package e2e

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/stripe/sandbox"
)

// Stripe has bad days: it breaks, is away, forgets to tell, or times out once it has done the work. Whatever it does,
// the money agrees with the order in the end, and nobody is charged twice.

// misbehaves makes a rule for what the bank does to one order, and leaves all others in peace.
func (h *house) misbehaves(t testing.TB, orderID string, rule sandbox.Rule) sandbox.Rule {
	t.Helper()
	rule.OrderID = orderID
	r := h.do(t, "POST", h.SandboxURL()+"/sandbox/faults", rule)
	require.Equal(t, 201, r.status, "%s", r.body)
	return as[sandbox.Rule](t, r)
}

// behaves takes a rule back.
func (h *house) behaves(t testing.TB, rule sandbox.Rule) {
	t.Helper()
	h.do(t, "DELETE", h.SandboxURL()+"/sandbox/faults/"+strconv.Itoa(rule.ID), nil)
}

// struck is how often a rule has struck.
func (h *house) struck(t testing.TB, rule sandbox.Rule) int {
	t.Helper()
	r := h.do(t, "GET", h.SandboxURL()+"/sandbox/faults", nil)
	for _, one := range as[struct{ Faults []sandbox.Rule }](t, r).Faults {
		if one.ID == rule.ID {
			return one.Struck
		}
	}
	return 0
}

// endsWith requires what has become of an order's money in the end: how often the bank agreed to a charge, and what
// it holds and has kept. An intent that was made twice because Stripe broke is empty.
func (h *house) endsWith(t testing.TB, orderID string, charges int, held, kept int64) {
	t.Helper()
	type account struct {
		charges    int
		held, kept int64
	}
	becomes(t, account{charges, held, kept}, "the money of order "+orderID, func() (sum account) {
		for _, entry := range h.ledger(t, orderID) {
			sum.charges += entry.Charges
			sum.held += entry.Held
			sum.kept += entry.Kept
		}
		return sum
	})
}

// paysAgain pays until it is paid, as a buyer does who is told to try again.
func (p *person) paysAgain(t testing.TB, orderID, card string) payment {
	t.Helper()
	var paid payment
	eventually(t, "order "+orderID+" is paid", func() bool {
		r := p.do(t, "POST", "/api/payments", paying{OrderID: orderID, PaymentMethod: card})
		if r.status == 503 {
			refused(t, 503, r, "processor_unavailable")
			require.NotEmpty(t, r.header.Get("Retry-After"))
			return false
		}
		require.Contains(t, []int{200, 201}, r.status, "%s", r.body)
		paid = as[payment](t, r)
		return true
	})
	return paid
}

// behindTheBack passes 3-D Secure for an order whose payment then stays as the service knows it: no webhook comes, and
// Stripe does not answer questions about it until the returned function is called.
func (h *house) behindTheBack(t testing.TB, buyer *person, orderID string) (begun payment, tellAgain func()) {
	t.Helper()
	always := 1.0
	silent := h.misbehaves(t, orderID, sandbox.Rule{Operation: "*", Fault: sandbox.WebhookDrop, Rate: &always})
	status, begun := buyer.pay(t, orderID, secureCard)
	require.Equal(t, 201, status)
	away := h.misbehaves(t, orderID, sandbox.Rule{Operation: "retrieve", Fault: sandbox.Unavailable, Rate: &always})
	h.authenticate(t, begun.StripeID, "succeed")
	return begun, func() { h.behaves(t, away); h.behaves(t, silent) }
}

// TestMoney_IsRightWhateverStripeDoes breaks each call to Stripe in each way, as often in a row as its client tries by
// itself, so that the service has to try again.
func TestMoney_IsRightWhateverStripeDoes(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	const inARow = 3
	operations := []struct {
		name    string
		charges int
		kept    int64
		// run leads an order to where it needs the operation, lets that go wrong, and waits for the order's end.
		run func(t *testing.T, buyer *person, o order, goWrong func())
	}{
		{"create", 1, 4200, func(t *testing.T, buyer *person, o order, goWrong func()) {
			goWrong()
			buyer.paysAgain(t, o.ID, goodCard)
			buyer.orderBecomes(t, "complete", o.ID)
		}},
		{"confirm", 1, 4200, func(t *testing.T, buyer *person, o order, goWrong func()) {
			status, _ := buyer.pay(t, o.ID, declinedCard)
			require.Equal(t, 402, status)
			goWrong()
			buyer.paysAgain(t, o.ID, goodCard)
			buyer.orderBecomes(t, "complete", o.ID)
		}},
		{"capture", 1, 4200, func(t *testing.T, buyer *person, o order, goWrong func()) {
			goWrong()
			paid := buyer.paysAgain(t, o.ID, goodCard)
			buyer.paymentBecomes(t, "captured", paid.ID)
			require.Equal(t, "complete", buyer.order(t, o.ID).Status)
		}},
		{"cancel", 1, 0, func(t *testing.T, buyer *person, o order, goWrong func()) {
			begun, tellAgain := h.behindTheBack(t, buyer, o.ID) // the funds are held, and only the bank knows
			goWrong()
			require.Equal(t, 204, buyer.cancel(t, o.ID))
			tellAgain()
			buyer.paymentBecomes(t, "voided", begun.ID)
			require.Equal(t, "user", buyer.order(t, o.ID).Reason)
		}},
		{"refund", 1, 0, func(t *testing.T, buyer *person, o order, goWrong func()) {
			begun, tellAgain := h.behindTheBack(t, buyer, o.ID)
			r := h.do(t, "POST", h.SandboxURL()+"/v1/payment_intents/"+begun.StripeID+"/capture", "", "Authorization", "Bearer sk_test_by_hand")
			require.Equal(t, 200, r.status, "somebody takes the money by hand: %s", r.body)
			goWrong()
			require.Equal(t, 204, buyer.cancel(t, o.ID))
			tellAgain()
			buyer.paymentBecomes(t, "refunded", begun.ID)
		}},
	}
	faults := []sandbox.Fault{
		sandbox.ErrorBefore, sandbox.ErrorAfter, sandbox.RateLimited, sandbox.Unavailable,
		sandbox.HangAfter, sandbox.DisconnectBefore, sandbox.DisconnectAfter,
	}
	for _, operation := range operations {
		for _, fault := range faults {
			t.Run(operation.name+" "+string(fault), func(t *testing.T) {
				t.Parallel()
				buyer, o := h.orderOf(t, 4200)
				var rule sandbox.Rule
				operation.run(t, buyer, o, func() {
					rule = h.misbehaves(t, o.ID, sandbox.Rule{Operation: operation.name, Fault: fault, Times: inARow})
				})
				h.endsWith(t, o.ID, operation.charges, 0, operation.kept)
				require.NotZero(t, h.struck(t, rule), "nothing went wrong")
			})
		}
	}
}

func TestMoney_WebhookFirstLateTwiceOrNever(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	for _, fault := range []sandbox.Rule{
		{Fault: sandbox.WebhookFirst, Operation: "confirm"},
		{Fault: sandbox.WebhookDelay, Milliseconds: 1500},
		{Fault: sandbox.WebhookDouble},
		{Fault: sandbox.WebhookDrop},
	} {
		fault.Times = 99
		t.Run(string(fault.Fault), func(t *testing.T) {
			t.Parallel()
			t.Run("a plain card", func(t *testing.T) {
				t.Parallel()
				buyer, o := h.orderOf(t, 4200)
				rule := h.misbehaves(t, o.ID, fault)
				status, paid := buyer.pay(t, o.ID, goodCard)
				require.Equal(t, 201, status)
				buyer.paymentBecomes(t, "captured", paid.ID)
				h.money(t, o.ID, 1, 0, 4200)
				require.NotZero(t, h.struck(t, rule))
			})
			t.Run("3-D Secure", func(t *testing.T) {
				t.Parallel()
				buyer, o := h.orderOf(t, 4200)
				h.misbehaves(t, o.ID, fault)
				status, begun := buyer.pay(t, o.ID, secureCard)
				require.Equal(t, 201, status)
				h.authenticate(t, begun.StripeID, "succeed")
				// Nobody looks at the payment: to look is to ask.
				buyer.orderBecomes(t, "complete", o.ID)
				h.money(t, o.ID, 1, 0, 4200)
			})
		})
	}
}

// lapses leads an order to where it is complete and its money not taken yet, and lets the authorization lapse.
func (h *house) lapses(t *testing.T, rules ...sandbox.Rule) (*person, order, payment) {
	t.Helper()
	buyer, o := h.orderOf(t, 4200)
	for _, rule := range rules {
		h.misbehaves(t, o.ID, rule)
	}
	always := 1.0
	away := h.misbehaves(t, o.ID, sandbox.Rule{Operation: "capture", Fault: sandbox.Unavailable, Rate: &always})
	status, paid := buyer.pay(t, o.ID, goodCard)
	require.Equal(t, 201, status)
	buyer.orderBecomes(t, "complete", o.ID)
	h.ticketBecomes(t, "sold", o.Ticket.ID)
	eventually(t, "the capture was tried", func() bool { return h.struck(t, away) > 0 })
	r := h.do(t, "POST", h.SandboxURL()+"/sandbox/payment_intents/"+paid.StripeID+"/expire", nil)
	require.Equal(t, 200, r.status, "%s", r.body)
	h.behaves(t, away)
	return buyer, o, paid
}

func TestMoney_AnAuthorizationThatLapsesFreesTheTicket(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	for name, rules := range map[string][]sandbox.Rule{
		"by the webhook":     nil,
		"without any":        {{Operation: "*", Fault: sandbox.WebhookDrop, Times: 99}},
		"told twice at once": {{Operation: "expire", Fault: sandbox.WebhookDouble, Times: 99}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			buyer, o, paid := h.lapses(t, rules...)

			require.Equal(t, "payment", buyer.orderBecomes(t, "cancelled", o.ID).Reason)
			h.ticketBecomes(t, "available", o.Ticket.ID)
			require.Equal(t, "voided", buyer.payment(t, paid.ID).Status)
			h.money(t, o.ID, 1, 0, 0)
			refused(t, 409, buyer.do(t, "POST", "/api/payments", paying{OrderID: o.ID, PaymentMethod: goodCard}), "order_cancelled")

			other := h.signUp(t) // somebody else can have it
			again := other.reserved(t, o.Ticket.ID)
			status, _ := other.pay(t, again.ID, goodCard)
			require.Equal(t, 201, status)
			other.orderBecomes(t, "complete", again.ID)
			require.Equal(t, again.ID, h.ticketBecomes(t, "sold", o.Ticket.ID).OrderID)
			h.money(t, again.ID, 1, 0, 4200)
		})
	}
}
