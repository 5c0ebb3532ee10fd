package domain

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
)

var noon = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

func liveOrder() Order {
	return Order{Schema: OrderSchema, ID: "order-1", UserID: "buyer-1", Status: OrderCreated, ExpiresAt: noon.Add(15 * time.Minute), Amount: 2500, Currency: "usd", Version: 1}
}

// begun is a payment whose first attempt was made on an intent, and whose outcome is not known.
func begun() Payment {
	order := liveOrder()
	payment := order.Begin("visa", noon)
	payment.StripeID = "pi_1"
	return *payment
}

func TestBegin_TakesTheAmountOfTheOrder(t *testing.T) {
	order := liveOrder()
	p := order.Begin("visa", noon)
	require.Same(t, p, order.Payment, "the order has its one payment")
	require.Equal(t, Payment{
		ID: "order-1", OrderID: "order-1", UserID: "buyer-1", Status: Pending, Amount: 2500, Currency: "usd",
		Attempt: Attempt{Number: 1, Method: "visa", Open: true, At: noon}, Declines: 1, Version: 1, CreatedAt: noon, UpdatedAt: noon,
	}, *p)
}

func TestObserve_AppliesAndPublishesTheStateAtStripe(t *testing.T) {
	later := noon.Add(time.Minute)
	for _, c := range []struct {
		from, reported Status
		event          string // "" if none
		changed        bool
	}{
		{Pending, Authorized, "payment.created", true},
		{Pending, RequiresAction, "", true},
		{Pending, Failed, "payment.failed", true},
		{Pending, Voided, "payment.voided", true},
		{Pending, Pending, "", false},
		{Pending, "", "", false},
		{RequiresAction, Authorized, "payment.created", true},
		{RequiresAction, Failed, "payment.failed", true},
		{RequiresAction, RequiresAction, "", false},
		{RequiresAction, Pending, "", false},
		{Failed, Authorized, "payment.created", true},
		{Failed, RequiresAction, "", true},
		{Failed, Voided, "payment.voided", true},
		{Authorized, Authorized, "", false},
		{Authorized, Captured, "payment.captured", true},
		{Authorized, Voided, "payment.voided", true},
		{Captured, Captured, "", false},
		{Captured, Refunded, "payment.refunded", true},
		{Voided, Authorized, "", false},
		{Voided, Failed, "", false},
		{Refunded, Captured, "", false},
	} {
		t.Run(string(c.from)+" observes "+string(c.reported), func(t *testing.T) {
			p := begun()
			p.Status = c.from
			event, changed := p.Observe(Intent{ID: "pi_1", Status: c.reported}, later)
			require.Equal(t, c.changed, changed)
			if !c.changed {
				require.Nil(t, event)
				require.Equal(t, 1, p.Version)
				require.Equal(t, c.from, p.Status)
				return
			}
			require.Equal(t, c.reported, p.Status)
			require.Equal(t, 2, p.Version)
			require.Equal(t, later, p.UpdatedAt)
			if c.event == "" {
				require.Nil(t, event)
				return
			}
			require.Equal(t, c.event, event.EventType())
			id, version := event.Aggregate()
			require.Equal(t, "order-1", id)
			require.Equal(t, 2, version)
		})
	}
}

func TestObserve_EachDeclineIsPublishedOnce(t *testing.T) {
	p := begun()
	first := Intent{Status: Failed, ChargeID: "ch_1", DeclineCode: "insufficient_funds"}
	event, changed := p.Observe(first, noon)
	require.True(t, changed)
	require.Equal(t, "insufficient_funds", event.(events.PaymentFailed).DeclineCode)

	_, changed = p.Observe(first, noon)
	require.False(t, changed, "the webhook reports the same decline")

	event, changed = p.Observe(Intent{Status: Failed, ChargeID: "ch_2", DeclineCode: "insufficient_funds"}, noon)
	require.True(t, changed, "the next card is declined for the same reason")
	require.Equal(t, 3, event.(events.PaymentFailed).Version)

	event, _ = p.Observe(Intent{Status: Authorized, ChargeID: "ch_3"}, noon)
	require.Empty(t, event.(events.PaymentCreated).DeclineCode)
	require.Empty(t, p.DeclineCode)
}

func TestTry_DecidesWhetherToAskTheBank(t *testing.T) {
	open, done := true, false
	for _, c := range []struct {
		name    string
		status  Status
		attempt Attempt
		method  string
		want    Plan
		number  int
	}{
		{"the outcome is not known, same card", Pending, Attempt{1, "visa", open, noon}, "visa", ResumeAttempt, 1},
		{"the outcome is not known, another card", Pending, Attempt{1, "visa", open, noon}, "amex", NewAttempt, 2},
		{"declined, same card again", Failed, Attempt{1, "visa", done, noon}, "visa", NewAttempt, 2},
		{"declined, another card", Failed, Attempt{1, "visa", done, noon}, "amex", NewAttempt, 2},
		{"declined before, the next outcome is not known", Failed, Attempt{2, "visa", open, noon}, "visa", ResumeAttempt, 2},
		{"the bank asks for the buyer, same card", RequiresAction, Attempt{1, "visa", done, noon}, "visa", KeepAsItIs, 1},
		{"the bank asks for the buyer, another card", RequiresAction, Attempt{1, "visa", done, noon}, "amex", NewAttempt, 2},
		{"a webhook was faster than our answer", RequiresAction, Attempt{1, "visa", open, noon}, "visa", ResumeAttempt, 1},
		{"authorized", Authorized, Attempt{1, "visa", done, noon}, "amex", KeepAsItIs, 1},
		{"captured", Captured, Attempt{1, "visa", done, noon}, "visa", KeepAsItIs, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := begun()
			p.Status, p.Attempt = c.status, c.attempt
			require.Equal(t, c.want, p.PlanAttempt(c.method, noon))
			require.Equal(t, c.number, p.Attempt.Number)
			require.Equal(t, c.want == NewAttempt || c.attempt.Open, p.Attempt.Open)
			require.Equal(t, c.status, p.Status)
		})
	}
}

func TestConclude_ClosesItsOwnAttemptOnce(t *testing.T) {
	p := begun()
	require.False(t, p.Conclude(2, false))
	require.True(t, p.Conclude(1, true))
	require.False(t, p.Conclude(1, true))
	require.Equal(t, 1, p.Declines)
	p.PlanAttempt("amex", noon)
	require.False(t, p.Conclude(1, false), "the late answer to the first attempt does not close the second")
	require.True(t, p.Attempt.Open)
	require.Equal(t, 2, p.Declines, "what is not known counts as declined")
	require.True(t, p.Conclude(2, false))
	require.Equal(t, 1, p.Declines)
}

func TestDue_MoneyFollowsTheOrder(t *testing.T) {
	all := []Status{Pending, RequiresAction, Failed, Authorized, Captured, Voided, Refunded}
	want := map[OrderStatus]map[Status]Step{
		OrderCreated:   {},
		OrderComplete:  {Authorized: Capture},
		OrderCancelled: {Pending: Void, RequiresAction: Void, Failed: Void, Authorized: Void, Captured: Refund},
	}
	for order, due := range want {
		for _, payment := range all {
			o := liveOrder()
			o.Status = order
			require.Equal(t, due[payment], o.due(payment), "order %s, payment %s", order, payment)
		}
	}
}

func TestCheckPayable_OnlyALiveOrderInTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		status OrderStatus
		now    time.Time
		want   error
	}{
		{"live", OrderCreated, noon, nil},
		{"in the last moment", OrderCreated, noon.Add(15*time.Minute - 1), nil},
		{"its time is over", OrderCreated, noon.Add(15 * time.Minute), ErrExpired},
		{"cancelled", OrderCancelled, noon, ErrCancelled},
		{"complete", OrderComplete, noon, ErrComplete},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := liveOrder()
			o.Status = c.status
			require.Equal(t, c.want, o.CheckPayable(c.now))
		})
	}
}

func TestApply_OnlyWhatIsNewer(t *testing.T) {
	event := func(version int, status events.OrderStatus) events.Order {
		return events.Order{ID: "order-1", UserID: "buyer-1", Status: status, ExpiresAt: noon, Version: version,
			Ticket: events.OrderedTicket{ID: "ticket-1", Price: 2500, Currency: "usd"}}
	}
	var o Order
	require.True(t, o.Apply(event(2, "cancelled")))
	payment := o.Begin("visa", noon)
	require.False(t, o.Apply(event(1, "created")), "late")
	require.False(t, o.Apply(event(2, "cancelled")), "again")
	require.Equal(t, Order{Schema: OrderSchema, ID: "order-1", UserID: "buyer-1", Status: OrderCancelled, ExpiresAt: noon, Amount: 2500, Currency: "usd", Version: 2, Payment: payment}, o)
	require.True(t, o.Apply(event(3, "complete")))
	require.Same(t, payment, o.Payment)
}
