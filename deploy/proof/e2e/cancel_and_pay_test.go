package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/stripe/sandbox"
)

// A buyer cancels and pays an order at the same moment. Either the ticket is available and the money is returned, or the ticket is sold and
// the money kept.

// race is one order that is cancelled and paid at the same moment.
type race struct {
	buyer     *testUser
	order     client.Order
	reads     int // how often the buyer reads the order before cancelling it, which varies the moment
	cancelled client.Response
	paid      client.Response
}

// moments are the moments of the two calls. One call waits for a sign of how far the other is, so that they meet at many places.
var moments = []struct {
	name string
	run  func(t *testing.T, s *testStack, r *race)
}{
	{"both at once", func(t *testing.T, _ *testStack, r *race) {
		atOnce(2, func(i int) { []func(*testing.T){r.cancel, r.pay}[i](t) })
	}},
	{"cancelled when the intent exists", func(t *testing.T, s *testStack, r *race) {
		r.payAndCancelWhen(t, func() bool { return len(s.ledger(t, r.order.ID)) > 0 })
	}},
	{"cancelled when the money is authorized", func(t *testing.T, s *testStack, r *race) {
		r.payAndCancelWhen(t, func() bool { return s.onlyIntent(t, r.order.ID).Authorized > 0 })
	}},
	{"cancelled after the response to the payment", func(t *testing.T, _ *testStack, r *race) {
		r.pay(t)
		r.cancel(t)
	}},
	{"cancelled when orders may have handled the payment", func(t *testing.T, _ *testStack, r *race) {
		r.pay(t)
		for range r.reads {
			r.buyer.order(t, r.order.ID)
		}
		r.cancel(t)
	}},
	{"cancelled when the money is captured", func(t *testing.T, s *testStack, r *race) {
		r.payAndCancelWhen(t, func() bool { return s.onlyIntent(t, r.order.ID).Captured > 0 })
	}},
	{"paid after the response to the cancellation", func(t *testing.T, _ *testStack, r *race) {
		r.cancel(t)
		r.pay(t)
	}},
}

func (r *race) cancel(t *testing.T) { r.cancelled = r.buyer.call(t, client.CancelOrder(r.order.ID)) }

func (r *race) pay(t *testing.T) { r.paid = r.buyer.call(t, client.Pay(r.order.ID, goodCard)) }

// payAndCancelWhen pays, and cancels as soon as the condition holds.
func (r *race) payAndCancelWhen(t *testing.T, condition func() bool) {
	atOnce(2, func(i int) {
		if i == 0 {
			r.pay(t)
			return
		}
		eventually(t, "it is time to cancel", condition)
		r.cancel(t)
	})
}

func TestCancelAndPayAtOnce_MoneyAndTicketAgree(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller := s.signUp(t)
	outcomes := map[string]int{}

	for n := range 3 {
		for _, moment := range moments {
			listed := seller.list(t, fmt.Sprintf("%s, %d", moment.name, n), 1500)
			r := race{buyer: s.signUp(t), reads: 1 + 2*n}
			r.order = r.buyer.reserve(t, listed.ID)
			moment.run(t, s, &r)
			require.Contains(t, []int{204, 409}, r.cancelled.Status, "%s: %s", moment.name, r.cancelled.Body)
			require.Contains(t, []int{201, 409}, r.paid.Status, "%s: %s", moment.name, r.paid.Body)

			outcome := "cancelled"
			if r.cancelled.Status == 409 {
				requireProblem(t, 409, r.cancelled, "order_complete")
				outcome = "complete"
			}
			outcomes[moment.name+": "+outcome]++
			requireOutcome(t, s, r.buyer, r.order, outcome)
			if r.paid.Status == 201 {
				paid := decode[client.Payment](t, r.paid)
				want := map[string]string{"complete": "captured", "cancelled": "voided"}[outcome]
				r.buyer.paymentBecomes(t, want, paid.ID)
			}
		}
	}
	t.Log(outcomes)
}

// requireOutcome requires that the order has that status, and that its ticket and its money come to agree with it.
func requireOutcome(t *testing.T, s *testStack, buyer *testUser, o client.Order, status string) {
	t.Helper()
	require.Equal(t, status, buyer.order(t, o.ID).Status)
	s.ticketBecomes(t, map[string]string{"complete": "sold", "cancelled": "available"}[status], o.Ticket.ID)
	kept := map[string]int64{"complete": o.Ticket.Price}[status]
	eventuallyEqual(t, kept, "the money that is kept for order "+o.ID+", "+status, func() int64 { return s.onlyIntent(t, o.ID).Kept })
	eventuallyEqual(t, 0, "the money that is held for order "+o.ID+", "+status, func() int64 { return s.onlyIntent(t, o.ID).Held })
}

// onlyIntent reads the PaymentIntent of an order, or the zero value. There must be one at most, and not more than one charge.
func (s *testStack) onlyIntent(t *testing.T, orderID string) sandbox.LedgerEntry {
	t.Helper()
	entries := s.ledger(t, orderID)
	if len(entries) == 0 {
		return sandbox.LedgerEntry{}
	}
	assert.Len(t, entries, 1, "an order has one intent")
	assert.LessOrEqual(t, entries[0].Charges, 1, "charged twice")
	return entries[0]
}
