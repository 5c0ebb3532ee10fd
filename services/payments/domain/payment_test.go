package domain

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
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

func TestPlanAttempt_AnAttemptWithoutAKnownIntentIsRepeatedOnlyWhileItsKeyIsValid(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		now    time.Time
		want   Plan
	}{
		{"same card at once", "visa", noon, ResumeAttempt},
		{"same card in the key's last moment", "visa", noon.Add(KeyLife - 1), ResumeAttempt},
		{"same card, the key is too old", "visa", noon.Add(KeyLife), ResolveEarlierAttempt},
		{"another card at once", "amex", noon, ResolveEarlierAttempt},
		{"another card, the key is too old", "amex", noon.Add(KeyLife), ResolveEarlierAttempt},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := begun()
			p.StripeID = ""
			before := p
			require.Equal(t, c.want, p.PlanAttempt(c.method, c.now))
			require.Equal(t, before, p, "there is no new attempt")
		})
	}
	p := begun()
	require.Equal(t, ResumeAttempt, p.PlanAttempt("visa", noon.Add(KeyLife)), "the intent is known, so it cannot be created twice")
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

func TestConcludeRefused_CountsAsADeclineOrInTheUsersHourOnly(t *testing.T) {
	for _, c := range []struct {
		name               string
		attempt            int
		declined           bool
		open               bool
		declines, userOnly int
	}{
		{"the bank declined", 1, true, false, 1, 0},
		{"Stripe does not know the card", 1, false, false, 0, 1},
		{"another attempt is open", 2, false, true, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := begun()
			p.ConcludeRefused(c.attempt, c.declined)
			require.Equal(t, c.open, p.Attempt.Open)
			require.Equal(t, c.declines, p.Declines)
			require.Equal(t, c.userOnly, p.UserOnly)
		})
	}
}

func TestConcludeFound_ClosesAnAttemptThatLedToNothingOrWasDeclined(t *testing.T) {
	for _, c := range []struct {
		name     string
		found    Intent
		changed  bool
		declines int
	}{
		{"no intent", Intent{}, true, 0},
		{"an intent that was not confirmed", Intent{ID: "pi_1", Status: Pending}, true, 0},
		{"declined", Intent{ID: "pi_1", Status: Failed}, true, 1},
		{"the bank waits for the buyer", Intent{ID: "pi_1", Status: RequiresAction}, false, 1},
		{"authorized", Intent{ID: "pi_1", Status: Authorized}, false, 1},
		{"voided", Intent{ID: "pi_1", Status: Voided}, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := begun()
			p.StripeID = ""
			require.Equal(t, c.changed, p.ConcludeFound(c.found))
			require.Equal(t, !c.changed, p.Attempt.Open)
			require.Equal(t, c.declines, p.Declines)
		})
	}
}

func TestBeginWithIntent_TheAttemptIsOverAndCountsIfItWasDeclined(t *testing.T) {
	for status, declines := range map[Status]int{Failed: 1, Pending: 0, RequiresAction: 0, Authorized: 0, Captured: 0} {
		t.Run(string(status), func(t *testing.T) {
			order := liveOrder()
			p := order.BeginWithIntent(Intent{ID: "pi_1", Status: status}, noon)
			require.Same(t, p, order.Payment)
			require.Equal(t, "pi_1", p.StripeID)
			require.Equal(t, noon, p.CreatedAt)
			require.False(t, p.Attempt.Open)
			require.Equal(t, declines, p.Declines)
		})
	}
}

func TestNameIntent_APaymentKeepsItsFirstIntent(t *testing.T) {
	for _, c := range []struct {
		name, own, named string
		isOwn            bool
		want             string
	}{
		{"it has none", "", "pi_1", true, "pi_1"},
		{"it has this one", "pi_1", "pi_1", true, "pi_1"},
		{"it has another one", "pi_1", "pi_2", false, "pi_1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := begun()
			p.StripeID = c.own
			require.Equal(t, c.isOwn, p.NameIntent(c.named))
			require.Equal(t, c.want, p.StripeID)
		})
	}
}

func TestObserve_CountsEachDeclineOnce(t *testing.T) {
	for _, c := range []struct {
		name                 string
		status               Status
		open                 bool
		counted              int // before
		reported             Intent
		declines, unrecorded int
	}{
		{"an open attempt is counted already", Pending, true, 1, Intent{Status: Failed, Declines: 1}, 1, 0},
		{"3-D Secure of an open attempt fails", RequiresAction, true, 1, Intent{Status: Failed}, 1, 0},
		{"3-D Secure fails after the attempt", RequiresAction, false, 0, Intent{Status: Failed}, 1, 1},
		{"3-D Secure fails after declines", RequiresAction, false, 2, Intent{Status: Failed, Declines: 2}, 3, 1},
		{"declines with the client secret", Failed, false, 1, Intent{Status: Failed, Declines: 4}, 4, 3},
		{"declines with the client secret, then one agrees", Failed, false, 1, Intent{Status: Authorized, Declines: 2}, 2, 1},
		{"the same decline again", Failed, false, 1, Intent{Status: Failed, Declines: 1}, 1, 0},
		{"Stripe was not asked for declines", Failed, false, 1, Intent{Status: Failed}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := begun()
			p.Status, p.Attempt.Open, p.Declines = c.status, c.open, c.counted
			p.Observe(c.reported, noon)
			require.Equal(t, c.declines, p.Declines)
			require.Equal(t, c.unrecorded, p.Unrecorded(), "for the user's document")
		})
	}
}

func TestMatches_AListShowsRefundsButNotHowADisputeEnded(t *testing.T) {
	lost, won := Dispute{ID: "dp_1", Status: "lost", Amount: 700}, Dispute{ID: "dp_1", Status: "won", Amount: 700}
	for _, c := range []struct {
		name     string
		refunded int64
		dispute  Dispute
		listed   Intent
		want     bool
	}{
		{"nothing was given back", 0, Dispute{}, Intent{Status: Captured}, true},
		{"the same refunds", 500, Dispute{}, Intent{Status: Captured, Refunded: 500}, true},
		{"a refund that is not known here", 500, Dispute{}, Intent{Status: Captured, Refunded: 800}, false},
		{"a refund that has failed", 500, Dispute{}, Intent{Status: Captured}, false},
		{"a dispute that is not known here", 0, Dispute{}, Intent{Status: Captured, Disputed: true}, false},
		{"a lost dispute is not among the refunds", 700, lost, Intent{Status: Captured, Disputed: true}, true},
		{"a lost dispute and a refund", 1200, lost, Intent{Status: Captured, Refunded: 500, Disputed: true}, true},
		{"a lost dispute and a refund that has failed", 1200, lost, Intent{Status: Captured, Disputed: true}, false},
		{"a dispute that was won, and a refund", 500, won, Intent{Status: Captured, Refunded: 500, Disputed: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := begun()
			p.Status, p.Refunded, p.Dispute = Captured, c.refunded, c.dispute
			require.Equal(t, c.want, p.Matches(c.listed))
		})
	}
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
			o.Payment = &Payment{Status: payment}
			require.Equal(t, due[payment], o.due(), "order %s, payment %s", order, payment)
		}
	}
}

func TestDue_AfterTooManyDeclinesOnlyWhatIsNotPaidIsVoided(t *testing.T) {
	for payment, due := range map[Status]Step{
		Pending: Void, RequiresAction: Void, Failed: Void,
		Authorized: Nothing, Captured: Nothing, Voided: Nothing, Refunded: Nothing,
	} {
		o := liveOrder()
		p := o.Begin("visa", noon)
		p.Status, p.Exhausted = payment, true
		require.Equal(t, due, o.due(), "payment %s", payment)
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

func TestCheckPayable_OnlyAPaymentThatIsNotOver(t *testing.T) {
	for _, c := range []struct {
		name      string
		order     OrderStatus
		payment   Status
		exhausted bool
		want      error
	}{
		{"no known outcome", OrderCreated, Pending, false, nil},
		{"the bank waits for the buyer", OrderCreated, RequiresAction, false, nil},
		{"declined", OrderCreated, Failed, false, nil},
		{"declined, and the order is cancelled", OrderCancelled, Failed, false, ErrCancelled},
		{"declined, and the order is complete", OrderComplete, Failed, false, ErrComplete},
		{"declined too often", OrderCreated, Failed, true, ErrOrderAttempts},
		{"declined too often, while the bank waits for the buyer", OrderCreated, RequiresAction, true, ErrOrderAttempts},
		{"declined too often, and voided", OrderCreated, Voided, true, ErrOrderAttempts},
		{"declined too often, and its order has followed", OrderCancelled, Voided, true, ErrOrderAttempts},
		{"authorized in spite of too many declines", OrderCreated, Authorized, true, nil},
		{"refunded in spite of too many declines", OrderCancelled, Refunded, true, ErrCancelled},
		{"voided, and its order has not followed yet", OrderCreated, Voided, false, ErrCancelled},
		{"refunded, and its order is complete", OrderComplete, Refunded, false, ErrCancelled},
		{"authorized", OrderCreated, Authorized, false, nil},
		{"captured", OrderComplete, Captured, false, nil},
		{"captured, and to be refunded", OrderCancelled, Captured, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := liveOrder()
			p := o.Begin("visa", noon)
			o.Status, p.Status, p.Exhausted = c.order, c.payment, c.exhausted
			require.Equal(t, c.want, o.CheckPayable(noon))
		})
	}
	paid := liveOrder()
	paid.Begin("visa", noon).Status = Authorized
	require.NoError(t, paid.CheckPayable(paid.ExpiresAt), "it was paid in time")
}

func TestApply_OnlyWhatIsNewer(t *testing.T) {
	event := func(version int, status events.OrderStatus) events.Order {
		return events.Order{ID: "order-1", UserID: "buyer-1", Status: status, ExpiresAt: clock.Stamp(noon), Version: version,
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

// The orders service publishes only the id of an order that it has lost.
func TestApply_ALostOrderKeepsWhatIsKnownOfIt(t *testing.T) {
	lost := events.Order{ID: "order-1", Status: events.OrderStatusCancelled, Reason: events.CancelReasonUnknown, Version: 7}
	o := liveOrder()
	p := o.Begin("visa", noon)
	want := o
	want.Status, want.Version = OrderCancelled, 7
	require.True(t, o.Apply(lost))
	require.Equal(t, want, o)
	require.Equal(t, []any{o.UserID, o.Amount, o.Currency}, []any{p.UserID, p.Amount, p.Currency})

	o = liveOrder()
	ended := events.Order{ID: "order-1", UserID: "buyer-2", Status: events.OrderStatusCancelled, ExpiresAt: clock.Stamp(noon), Version: 7,
		Ticket: events.OrderedTicket{ID: "ticket-1", Price: 900, Currency: "eur"}}
	require.True(t, o.Apply(ended))
	require.Equal(t, Order{Schema: OrderSchema, ID: "order-1", UserID: "buyer-2", Status: OrderCancelled, ExpiresAt: noon, Amount: 900, Currency: "eur", Version: 7}, o,
		"any other event has all")
}

func TestIsOlderThan_ByTheOrderOrItsPayment(t *testing.T) {
	copyOf := func(order, payment int) Order {
		o := liveOrder()
		o.Version = order
		if payment > 0 {
			o.Begin("visa", noon).Version = payment
		}
		return o
	}
	for _, c := range []struct {
		name       string
		own, other Order
		want       bool
	}{
		{"the same", copyOf(2, 2), copyOf(2, 2), false},
		{"the same, without payments", copyOf(2, 0), copyOf(2, 0), false},
		{"the order is older", copyOf(1, 2), copyOf(2, 2), true},
		{"the order is newer", copyOf(2, 2), copyOf(1, 2), false},
		{"the payment is older", copyOf(2, 1), copyOf(2, 2), true},
		{"the payment is newer", copyOf(2, 2), copyOf(2, 1), false},
		{"only the other has a payment", copyOf(2, 0), copyOf(2, 1), true},
		{"only this one has a payment", copyOf(2, 1), copyOf(2, 0), false},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, c.own.IsOlderThan(c.other)) })
	}
}

func TestIsInProgress_OnlyAsLongAsAProcessMayCommitTheOutcome(t *testing.T) {
	for _, c := range []struct {
		name     string
		order    OrderStatus
		payment  Status
		open     bool // the attempt
		reported Status
		age      time.Duration // of the attempt and of the payment's last change
		want     bool
	}{
		{"an attempt was begun", OrderCreated, Pending, true, Authorized, 0, true},
		{"an attempt in its last moment", OrderCreated, Pending, true, Authorized, 15*time.Second - 1, true},
		{"an attempt takes too long", OrderCreated, Pending, true, Authorized, 15 * time.Second, false},
		{"another card, while the bank waits", OrderCreated, RequiresAction, true, Authorized, 14 * time.Second, true},
		{"no attempt is open", OrderCreated, RequiresAction, false, Authorized, 0, false},
		{"a capture", OrderComplete, Authorized, false, Captured, 0, true},
		{"a capture in its last moment", OrderComplete, Authorized, false, Captured, 10*time.Second - 1, true},
		{"a capture that nobody commits", OrderComplete, Authorized, false, Captured, 10 * time.Second, false},
		{"a void", OrderCancelled, Authorized, false, Voided, 10*time.Second - 1, true},
		{"a void that nobody commits", OrderCancelled, Authorized, false, Voided, 10 * time.Second, false},
		{"a webhook faster than the attempt's response", OrderComplete, Authorized, true, Captured, 12 * time.Second, false},
		{"all is done", OrderComplete, Captured, false, Refunded, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := liveOrder()
			p := o.Begin("visa", noon)
			o.Status, p.Status, p.StripeID, p.Attempt.Open = c.order, c.payment, "pi_1", c.open
			require.Equal(t, c.want, o.IsInProgress(Intent{ID: "pi_1", Status: c.reported}, noon.Add(c.age)))
		})
	}
}
