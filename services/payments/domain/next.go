package domain

// Step is something to do at Stripe.
type Step int

const (
	Nothing    Step = iota
	Authorize       // create the intent and confirm it with the buyer's card
	Confirm         // confirm the intent with the buyer's card
	FindIntent      // find the intent of an attempt whose outcome is not known, and end the attempt
	GetIntent       // read the intent as it is now
	Capture
	Void
	Refund
)

func (s Step) String() string {
	return [...]string{"nothing", "authorize", "confirm", "find the intent", "get the intent", "capture", "void", "refund"}[s]
}

// Refresh is when to read an intent although the order asks for nothing.
type Refresh int

const (
	RefreshNever    Refresh = iota // only do what the order asks for
	RefreshOpen                    // if the outcome of an attempt is open and no step is due
	RefreshIdle                    // if no step is due
	RefreshForBuyer                // in any case, but not again within a few seconds
	RefreshAlways                  // in any case
)

// MaxSteps bounds the steps of one settling: a read of the intent, and three steps that the order asks for, in case the intent was
// captured when it was to be voided.
const MaxSteps = 4

// Cause is why a payment is settled. The zero Cause only does what the order asks for.
type Cause struct {
	Refresh Refresh
	// Reported is the intent as a webhook has reported it. If the payment does not reflect it, the intent is read.
	Reported Intent
	// Attempt is the number of the attempt that a request to pay makes; 0 for all else.
	Attempt int
}

// Next is the next step for an order's payment. asked reports whether Stripe has answered since the order was read: then the
// payment is as at Stripe, and only the order's steps are left.
func (o *Order) Next(cause Cause, asked bool) Step {
	p := o.Payment
	switch {
	case p == nil:
		return Nothing
	case asked:
		return o.nextOfOrder()
	case cause.Attempt > 0:
		return o.nextOfAttempt(cause.Attempt)
	case p.OutcomeUnknown():
		return FindIntent
	case o.mustRefresh(cause):
		return GetIntent
	}
	return o.nextOfOrder()
}

// nextOfOrder is the step that the order asks for. As long as there may be an intent that is not known here, none can be done.
func (o *Order) nextOfOrder() Step {
	if o.Payment.OutcomeUnknown() {
		return Nothing
	}
	return o.due()
}

func (o *Order) nextOfAttempt(number int) Step {
	p := o.Payment
	switch {
	case p.Attempt.Number != number, !p.Attempt.Open, !p.Status.Open(): // it is paid, or another attempt was made meanwhile
		return o.nextOfOrder()
	case o.Status != OrderCreated && p.OutcomeUnknown(): // the order has ended: end the attempt, too
		return FindIntent
	case o.Status != OrderCreated:
		return o.nextOfOrder()
	case p.StripeID == "":
		return Authorize
	}
	return Confirm
}

func (o *Order) mustRefresh(cause Cause) bool {
	p := o.Payment
	if p.Status == Voided || p.StripeID == "" { // nothing can change any more, or there is no intent
		return false
	}
	if cause.Reported.ID != "" && !p.Reflects(cause.Reported) {
		return true
	}
	switch cause.Refresh {
	case RefreshOpen:
		return !o.IsDue() && p.Status.Open() && !p.WaitsForBuyer()
	case RefreshIdle:
		return !o.IsDue()
	case RefreshForBuyer, RefreshAlways:
		return true
	}
	return false
}
