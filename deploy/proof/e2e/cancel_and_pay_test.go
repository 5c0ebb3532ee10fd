package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/stripe/sandbox"
)

// A buyer who cancels and pays at the same moment gets one or the other: the ticket and no money back, or the
// money and no ticket.

// race is one order that is cancelled and paid at the same moment.
type race struct {
	buyer     *testUser
	order     client.Order
	looks     int // how often the buyer looks at the order before cancelling, where that tells the starts apart
	cancelled client.Response
	paid      client.Response
}

// starts are how the two calls are set against each other: each waits for something that shows how far the
// other one is, so that they meet in many places.
var starts = []struct {
	name string
	run  func(t *testing.T, s *testStack, r *race)
}{
	{"both at once", func(t *testing.T, _ *testStack, r *race) {
		atOnce(2, func(i int) { []func(*testing.T){r.cancel, r.pay}[i](t) })
	}},
	{"cancelled when the intent is made", func(t *testing.T, s *testStack, r *race) {
		r.cancelWhenPaid(t, func() bool { return len(s.ledger(t, r.order.ID)) > 0 })
	}},
	{"cancelled when the bank holds the money", func(t *testing.T, s *testStack, r *race) {
		r.cancelWhenPaid(t, func() bool { return singleIntent(t, s.ledger(t, r.order.ID)).Authorized > 0 })
	}},
	{"cancelled when the payment is answered", func(t *testing.T, _ *testStack, r *race) {
		r.pay(t)
		r.cancel(t)
	}},
	{"cancelled when the payment is heard of", func(t *testing.T, _ *testStack, r *race) {
		r.pay(t)
		for range r.looks {
			r.buyer.order(t, r.order.ID)
		}
		r.cancel(t)
	}},
	{"cancelled when the money is taken", func(t *testing.T, s *testStack, r *race) {
		r.cancelWhenPaid(t, func() bool { return singleIntent(t, s.ledger(t, r.order.ID)).Captured > 0 })
	}},
	{"paid when the cancellation is answered", func(t *testing.T, _ *testStack, r *race) {
		r.cancel(t)
		r.pay(t)
	}},
}

func (r *race) cancel(t *testing.T) {
	r.cancelled = r.buyer.call(t, client.CancelOrder(r.order.ID))
}

func (r *race) pay(t *testing.T) {
	r.paid = r.buyer.call(t, client.Pay(r.order.ID, goodCard))
}

// cancelWhenPaid pays, and cancels as soon as the condition holds.
func (r *race) cancelWhenPaid(t *testing.T, condition func() bool) {
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
	ends := map[string]int{}

	for n := range 3 {
		for _, start := range starts {
			listing := seller.list(t, fmt.Sprintf("%s, %d", start.name, n), 1500)
			r := race{buyer: s.signUp(t), looks: 1 + 2*n}
			r.order = r.buyer.reserve(t, listing.ID)
			start.run(t, s, &r)
			require.Contains(t, []int{204, 409}, r.cancelled.Status, "%s: %s", start.name, r.cancelled.Body)
			require.Contains(t, []int{201, 409}, r.paid.Status, "%s: %s", start.name, r.paid.Body)

			end := "cancelled"
			if r.cancelled.Status == 409 {
				requireProblem(t, 409, r.cancelled, "order_complete")
				end = "complete"
			}
			ends[start.name+": "+end]++
			requireOutcome(t, s, r.buyer, r.order, end)
			if r.paid.Status == 201 {
				paid := decode[client.Payment](t, r.paid)
				want := map[string]string{"complete": "captured", "cancelled": "voided"}[end]
				r.buyer.paymentBecomes(t, want, paid.ID)
			}
		}
	}
	t.Log(ends)
}

// agrees requires that an order has ended in that way, and that its ticket and the money say the same in the end.
func requireOutcome(t *testing.T, s *testStack, buyer *testUser, o client.Order, end string) {
	t.Helper()
	require.Equal(t, end, buyer.order(t, o.ID).Status)
	eventuallyEqual(t, map[string]string{"complete": "sold", "cancelled": "available"}[end], "the ticket of order "+o.ID+", "+end, func() string {
		return s.ticket(t, o.Ticket.ID).Status
	})
	kept := map[string]int64{"complete": o.Ticket.Price}[end]
	eventuallyEqual(t, kept, "the money that was kept for order "+o.ID+", "+end, func() int64 {
		return singleIntent(t, s.ledger(t, o.ID)).Kept
	})
	eventuallyEqual(t, 0, "the money that is still held for order "+o.ID+", "+end, func() int64 {
		return singleIntent(t, s.ledger(t, o.ID)).Held
	})
}

// sum is the order's money in the bank's ledger. It requires that nothing was charged twice.
func singleIntent(t *testing.T, entries []sandbox.LedgerEntry) sandbox.LedgerEntry {
	t.Helper()
	if len(entries) == 0 {
		return sandbox.LedgerEntry{}
	}
	assert.Len(t, entries, 1, "an order has one intent")
	assert.LessOrEqual(t, entries[0].Charges, 1, "charged twice")
	return entries[0]
}
