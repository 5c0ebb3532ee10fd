package e2e

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/stripe/sandbox"
)

// Stripe fails in many ways: it returns errors, does not respond, responds after it has done the work, or sends webhooks late, twice or
// never. In the end the money agrees with the order, and no buyer is charged twice.

// addFault adds a fault to what the sandbox does for one order.
func (s *testStack) addFault(t testing.TB, orderID string, rule sandbox.Rule) sandbox.Rule {
	t.Helper()
	rule.OrderID = orderID
	r := s.request(t, "POST", s.SandboxURL()+"/sandbox/faults", rule)
	requireStatus(t, 201, r)
	return decode[sandbox.Rule](t, r)
}

// removeFault removes a fault.
func (s *testStack) removeFault(t testing.TB, rule sandbox.Rule) {
	t.Helper()
	s.request(t, "DELETE", s.SandboxURL()+"/sandbox/faults/"+strconv.Itoa(rule.ID), nil)
}

// faultHits is how often a fault has happened.
func (s *testStack) faultHits(t testing.TB, rule sandbox.Rule) int {
	t.Helper()
	r := s.request(t, "GET", s.SandboxURL()+"/sandbox/faults", nil)
	for _, one := range decode[struct{ Faults []sandbox.Rule }](t, r).Faults {
		if one.ID == rule.ID {
			return one.Struck
		}
	}
	return 0
}

// money is what the sandbox has of an order: how many charges the bank approved, how much it holds, and how much is kept.
type money struct {
	charges    int
	held, kept int64
}

func (s *testStack) moneyOf(t testing.TB, orderID string) (sum money) {
	t.Helper()
	for _, entry := range s.ledger(t, orderID) {
		sum.charges += entry.Charges
		sum.held += entry.Held
		sum.kept += entry.Kept
	}
	return sum
}

// waitMoney waits until an order's money is that. An order may have a second, empty PaymentIntent if Stripe failed.
func (s *testStack) waitMoney(t testing.TB, orderID string, want money) {
	t.Helper()
	eventuallyEqual(t, want, "the money of order "+orderID, func() money { return s.moneyOf(t, orderID) })
}

// requireMoney is waitMoney, and requires that the order has one PaymentIntent at most.
func (s *testStack) requireMoney(t testing.TB, orderID string, want money) {
	t.Helper()
	s.waitMoney(t, orderID, want)
	require.LessOrEqual(t, len(s.ledger(t, orderID)), 1, "an order has one PaymentIntent")
}

// payUntilAccepted pays, and tries again after each 503, as a buyer would.
func (u *testUser) payUntilAccepted(t testing.TB, orderID, card string) client.Payment {
	t.Helper()
	var paid client.Payment
	eventually(t, "order "+orderID+" is paid", func() bool {
		r := u.callKnown(t, client.Pay(orderID, card))
		if r.Status == 503 {
			requireProblem(t, 503, r, "processor_unavailable")
			require.NotEmpty(t, r.Header.Get("Retry-After"))
			return false
		}
		require.Contains(t, []int{200, 201}, r.Status, "%s", r.Body)
		paid = decode[client.Payment](t, r)
		return true
	})
	return paid
}

// authorizeUnnoticed lets a buyer pass 3-D Secure while no webhook is sent and Stripe does not respond to reads, so that the payments
// service does not learn that money is held. endFaults ends both faults.
func (s *testStack) authorizeUnnoticed(t testing.TB, buyer *testUser, orderID string) (begun client.Payment, endFaults func()) {
	t.Helper()
	always := 1.0
	noWebhooks := s.addFault(t, orderID, sandbox.Rule{Operation: "*", Fault: sandbox.WebhookDrop, Rate: &always})
	begun = buyer.pay(t, orderID, secureCard)
	noReads := s.addFault(t, orderID, sandbox.Rule{Operation: "retrieve", Fault: sandbox.Unavailable, Rate: &always})
	s.authenticate(t, begun.StripeID, "succeed")
	return begun, func() { s.removeFault(t, noReads); s.removeFault(t, noWebhooks) }
}

// captureByHand captures a payment at Stripe, past the payments service.
func (s *testStack) captureByHand(t testing.TB, stripeID string) {
	t.Helper()
	r := s.request(t, "POST", s.SandboxURL()+"/v1/payment_intents/"+stripeID+"/capture", "", "Authorization", "Bearer sk_test_by_hand")
	requireStatus(t, 200, r)
}

// Each request to Stripe fails in each way. It fails as often in a row as Stripe's client tries, so that the service must retry.
func TestMoney_IsRightWhenStripeFails(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	const attempts = 3
	operations := []struct {
		name    string
		charges int
		kept    int64
		// run brings an order to where it needs the operation, lets that fail, and waits for the end of the order.
		run func(t *testing.T, buyer *testUser, o client.Order, fail func())
	}{
		{"create", 1, 4200, func(t *testing.T, buyer *testUser, o client.Order, fail func()) {
			fail()
			buyer.payUntilAccepted(t, o.ID, goodCard)
			buyer.orderBecomes(t, "complete", o.ID)
		}},
		{"confirm", 1, 4200, func(t *testing.T, buyer *testUser, o client.Order, fail func()) {
			requireStatus(t, 402, buyer.callKnown(t, client.Pay(o.ID, declinedCard)))
			fail()
			buyer.payUntilAccepted(t, o.ID, goodCard)
			buyer.orderBecomes(t, "complete", o.ID)
		}},
		{"capture", 1, 4200, func(t *testing.T, buyer *testUser, o client.Order, fail func()) {
			fail()
			paid := buyer.payUntilAccepted(t, o.ID, goodCard)
			buyer.paymentBecomes(t, "captured", paid.ID)
			require.Equal(t, "complete", buyer.order(t, o.ID).Status)
		}},
		{"cancel", 1, 0, func(t *testing.T, buyer *testUser, o client.Order, fail func()) {
			begun, endFaults := s.authorizeUnnoticed(t, buyer, o.ID)
			fail()
			buyer.cancel(t, o.ID)
			endFaults()
			buyer.paymentBecomes(t, "voided", begun.ID)
			require.Equal(t, "user", buyer.order(t, o.ID).Reason)
		}},
		{"refund", 1, 0, func(t *testing.T, buyer *testUser, o client.Order, fail func()) {
			begun, endFaults := s.authorizeUnnoticed(t, buyer, o.ID)
			s.captureByHand(t, begun.StripeID)
			fail()
			buyer.cancel(t, o.ID)
			endFaults()
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
				buyer, o := s.reserveNew(t, 4200)
				var rule sandbox.Rule
				operation.run(t, buyer, o, func() {
					rule = s.addFault(t, o.ID, sandbox.Rule{Operation: operation.name, Fault: fault, Times: attempts})
				})
				s.waitMoney(t, o.ID, money{charges: operation.charges, kept: operation.kept})
				require.NotZero(t, s.faultHits(t, rule), "the fault did not happen")
			})
		}
	}
}

func TestMoney_IsRightWhenWebhooksAreEarlyLateRepeatedOrLost(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
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
				buyer, o := s.reserveNew(t, 4200)
				rule := s.addFault(t, o.ID, fault)
				paid := buyer.pay(t, o.ID, goodCard)
				buyer.paymentBecomes(t, "captured", paid.ID)
				s.requireMoney(t, o.ID, money{charges: 1, kept: 4200})
				require.NotZero(t, s.faultHits(t, rule))
			})
			t.Run("3-D Secure", func(t *testing.T) {
				t.Parallel()
				buyer, o := s.reserveNew(t, 4200)
				s.addFault(t, o.ID, fault)
				begun := buyer.pay(t, o.ID, secureCard)
				s.authenticate(t, begun.StripeID, "succeed")
				// The payment is not read here, because reading it makes the service ask Stripe.
				buyer.orderBecomes(t, "complete", o.ID)
				s.requireMoney(t, o.ID, money{charges: 1, kept: 4200})
			})
		})
	}
}

// letAuthorizationLapse lets an authorization lapse after its order became complete and before the money was captured.
func (s *testStack) letAuthorizationLapse(t *testing.T, rules ...sandbox.Rule) (*testUser, client.Order, client.Payment) {
	t.Helper()
	buyer, o := s.reserveNew(t, 4200)
	for _, rule := range rules {
		s.addFault(t, o.ID, rule)
	}
	always := 1.0
	noCapture := s.addFault(t, o.ID, sandbox.Rule{Operation: "capture", Fault: sandbox.Unavailable, Rate: &always})
	paid := buyer.pay(t, o.ID, goodCard)
	buyer.orderBecomes(t, "complete", o.ID)
	s.ticketBecomes(t, "sold", o.Ticket.ID)
	eventually(t, "the capture is tried", func() bool { return s.faultHits(t, noCapture) > 0 })
	r := s.request(t, "POST", s.SandboxURL()+"/sandbox/payment_intents/"+paid.StripeID+"/expire", nil)
	requireStatus(t, 200, r)
	s.removeFault(t, noCapture)
	return buyer, o, paid
}

func TestMoney_LapsedAuthorizationFreesTheTicket(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	for name, rules := range map[string][]sandbox.Rule{
		"with a webhook":     nil,
		"without a webhook":  {{Operation: "*", Fault: sandbox.WebhookDrop, Times: 99}},
		"with two at a time": {{Operation: "expire", Fault: sandbox.WebhookDouble, Times: 99}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			buyer, o, paid := s.letAuthorizationLapse(t, rules...)

			require.Equal(t, "payment", buyer.orderBecomes(t, "cancelled", o.ID).Reason)
			s.ticketBecomes(t, "available", o.Ticket.ID)
			require.Equal(t, "voided", buyer.payment(t, paid.ID).Status)
			s.requireMoney(t, o.ID, money{charges: 1})
			requireProblem(t, 409, buyer.call(t, client.Pay(o.ID, goodCard)), "order_cancelled")

			other := s.signUp(t) // another buyer can buy it
			again := other.reserve(t, o.Ticket.ID)
			other.pay(t, again.ID, goodCard)
			other.orderBecomes(t, "complete", again.ID)
			require.Equal(t, again.ID, s.ticketBecomes(t, "sold", o.Ticket.ID).OrderID)
			s.requireMoney(t, again.ID, money{charges: 1, kept: 4200})
		})
	}
}
