package domain

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNext(t *testing.T) {
	const intent = "pi_1"
	open, closed := Attempt{Number: 1, Open: true, At: noon}, Attempt{Number: 1, At: noon}
	authorized := Intent{ID: intent, Status: Authorized}
	for _, c := range []struct {
		name     string
		order    OrderStatus
		status   Status
		stripeID string
		attempt  Attempt
		cause    Cause
		asked    bool
		want     Step
	}{
		// What the order asks for, in whatever cause.
		{"the order is complete", OrderComplete, Authorized, intent, closed, Cause{}, false, Capture},
		{"the order is complete, after Stripe was asked", OrderComplete, Authorized, intent, closed, Cause{Refresh: RefreshAlways}, true, Capture},
		{"the order is cancelled", OrderCancelled, Authorized, intent, closed, Cause{}, false, Void},
		{"the order is cancelled while the bank waits", OrderCancelled, RequiresAction, intent, closed, Cause{}, false, Void},
		{"the order is cancelled, and no intent was found", OrderCancelled, Pending, "", closed, Cause{}, true, Void},
		{"the order is cancelled after the capture", OrderCancelled, Captured, intent, closed, Cause{}, false, Refund},
		{"all is done", OrderComplete, Captured, intent, closed, Cause{}, false, Nothing},

		// An attempt whose outcome is not known.
		{"the outcome is not known", OrderCreated, Pending, "", open, Cause{}, false, FindIntent},
		{"the outcome is not known, the order is cancelled", OrderCancelled, Pending, "", open, Cause{}, false, FindIntent},
		{"the outcome is still not known", OrderCancelled, Pending, "", open, Cause{}, true, Nothing},

		// A request to pay.
		{"the first attempt", OrderCreated, Pending, "", open, Cause{Attempt: 1}, false, Authorize},
		{"an attempt on the intent", OrderCreated, Failed, intent, open, Cause{Attempt: 1}, false, Confirm},
		{"the attempt's outcome is known", OrderCreated, Authorized, intent, closed, Cause{Attempt: 1}, false, Nothing},
		{"another attempt was made meanwhile", OrderCreated, Pending, "", Attempt{Number: 2, Open: true}, Cause{Attempt: 1}, false, Nothing},
		{"the order was cancelled before the attempt", OrderCancelled, Pending, "", open, Cause{Attempt: 1}, false, FindIntent},
		{"the order was cancelled before an attempt on the intent", OrderCancelled, Failed, intent, open, Cause{Attempt: 1}, false, Void},
		{"the order was complete before an attempt without an intent", OrderComplete, Pending, "", open, Cause{Attempt: 1}, false, FindIntent},
		{"the order was complete before an attempt on the intent", OrderComplete, Failed, intent, open, Cause{Attempt: 1}, false, Nothing},
		{"the attempt was declined", OrderCreated, Failed, intent, closed, Cause{Attempt: 1}, false, Nothing},
		{"the attempt led to nothing", OrderCreated, Pending, "", closed, Cause{Attempt: 1}, false, Nothing},
		{"the attempt is over, and the bank waits", OrderCreated, RequiresAction, intent, closed, Cause{Attempt: 1}, false, Nothing},
		{"the attempt is over, and the order is cancelled", OrderCancelled, Failed, intent, closed, Cause{Attempt: 1}, false, Void},
		{"the buyer asks", OrderCreated, RequiresAction, intent, closed, Cause{Refresh: RefreshForBuyer}, false, GetIntent},

		// The queue.
		{"the queue, the bank waits", OrderCreated, RequiresAction, intent, closed, Cause{Refresh: RefreshOpen}, false, GetIntent},
		{"the queue, declined", OrderCreated, Failed, intent, closed, Cause{Refresh: RefreshOpen}, false, Nothing},
		{"the queue, authorized", OrderCreated, Authorized, intent, closed, Cause{Refresh: RefreshOpen}, false, Nothing},
		{"the queue, a step is due", OrderCancelled, RequiresAction, intent, closed, Cause{Refresh: RefreshOpen}, false, Void},

		// The sweep and the comparison.
		{"the sweep, authorized", OrderCreated, Authorized, intent, closed, Cause{Refresh: RefreshIdle}, false, GetIntent},
		{"the sweep, a step is due", OrderComplete, Authorized, intent, closed, Cause{Refresh: RefreshIdle}, false, Capture},
		{"the comparison, a step is due", OrderComplete, Authorized, intent, closed, Cause{Refresh: RefreshAlways}, false, GetIntent},
		{"the comparison, voided", OrderCancelled, Voided, intent, closed, Cause{Refresh: RefreshAlways}, false, Nothing},
		{"the comparison, no intent", OrderCreated, Pending, "", closed, Cause{Refresh: RefreshAlways}, false, Nothing},

		// Webhooks.
		{"a webhook with news", OrderCreated, RequiresAction, intent, closed, Cause{Reported: authorized}, false, GetIntent},
		{"a webhook with news, a step is due", OrderCancelled, RequiresAction, intent, closed, Cause{Reported: authorized}, false, GetIntent},
		{"a webhook without news", OrderCreated, Authorized, intent, closed, Cause{Reported: authorized}, false, Nothing},
		{"a webhook without news, a step is due", OrderComplete, Authorized, intent, closed, Cause{Reported: authorized}, false, Capture},
	} {
		t.Run(c.name, func(t *testing.T) {
			order := liveOrder()
			payment := order.Begin("visa", noon)
			order.Status, payment.Status, payment.StripeID, payment.Attempt = c.order, c.status, c.stripeID, c.attempt
			before := order.Copy()
			require.Equal(t, c.want.String(), order.Next(c.cause, c.asked).String())
			require.Equal(t, before, order, "nothing is changed")
		})
	}
}

func TestNext_WithoutAPaymentNothing(t *testing.T) {
	order := liveOrder()
	order.Status = OrderCancelled
	require.Equal(t, Nothing, order.Next(Cause{Refresh: RefreshAlways}, false))
}

func TestNext_APaymentWithTooManyDeclinesIsVoided(t *testing.T) {
	order := liveOrder()
	payment := order.Begin("visa", noon)
	payment.StripeID, payment.Status, payment.Attempt.Open, payment.Exhausted = "pi_1", Failed, false, true
	require.Equal(t, Void, order.Next(Cause{}, false))
}

func TestNext_TheLongestSettlingHasMaxSteps(t *testing.T) {
	order := liveOrder()
	order.Status = OrderCancelled
	payment := order.Begin("visa", noon)
	payment.StripeID, payment.Status, payment.Attempt.Open = "pi_1", RequiresAction, false
	for n, c := range []struct {
		step     Step
		response Status
	}{
		{GetIntent, RequiresAction},
		{Void, Authorized}, // the bank has agreed meanwhile
		{Void, Captured},   // an operator has captured it meanwhile
		{Refund, Refunded},
	} {
		require.Less(t, n, MaxSteps)
		require.Equal(t, c.step.String(), order.Next(Cause{Refresh: RefreshAlways}, n > 0).String())
		order.Observe(Intent{ID: "pi_1", Status: c.response}, noon)
	}
	require.Equal(t, Nothing, order.Next(Cause{Refresh: RefreshAlways}, true))
}
