// Package domain has the rules of payments: what becomes of an order's money, and when an attempt to pay may be made. It does
// no I/O and has no clock; the time is an argument.
package domain

import (
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// OrderStatus is the state of an order, as the orders service publishes it.
type OrderStatus string

const (
	OrderCreated   OrderStatus = "created"
	OrderComplete  OrderStatus = "complete"
	OrderCancelled OrderStatus = "cancelled"
)

// Order is this service's projection of an order, with the order's payment. Both are one document. Its ETag guards both, so a
// cancellation that arrives while the outcome of a payment is committed is always noticed.
type Order struct {
	Schema    int         `json:"schema"`
	ID        id.Order    `json:"id"`
	UserID    id.User     `json:"userId"`
	Status    OrderStatus `json:"status"`
	ExpiresAt time.Time   `json:"expiresAt"`
	Amount    int64       `json:"amount"` // the price, in the currency's minor unit; a client cannot choose it
	Currency  string      `json:"currency"`
	Version   int         `json:"version"` // of the last event that was applied
	Payment   *Payment    `json:"payment,omitempty"`
	// PaymentID is set in documents up to schema 1, in which the payment has a document of its own.
	PaymentID id.Payment `json:"paymentId,omitempty"`
}

// OrderSchema is the format in which orders are written.
const OrderSchema = 2

// Newest implements state.Upgrader.
func (*Order) Newest() int { return OrderSchema }

// Upgrade implements state.Upgrader. The store moves a payment that has a document of its own (see legacy.go there).
func (o *Order) Upgrade(int) error {
	o.Schema = OrderSchema
	o.copyToPayment()
	return nil
}

var (
	ErrNoOrder = problem.New(problem.NotFound, "order_not_found", "There is no such order.").WithField("orderId")
	// ErrNotYetKnown is for an order that may exist: its event may be on its way.
	ErrNotYetKnown = problem.New(problem.Unavailable, "not_yet_known", "This order is so new that payments may not know it yet. Nothing was charged: send the same request again.").WithField("orderId")
	// ErrOutcomeUnknown is for a request that has begun a payment whose outcome cannot be stored at the moment.
	ErrOutcomeUnknown = problem.New(problem.Unavailable, "outcome_unknown", "The payment was begun, and its outcome is not known yet. Send the same request again: nothing is charged twice.").WithRetryAfter(2 * time.Second)
	ErrNoPayment      = problem.New(problem.NotFound, "not_found", "There is no such payment.")
	ErrNotYourOrder   = problem.New(problem.Forbidden, "not_buyer", "This order belongs to somebody else.").WithField("orderId")
	ErrNotYourPayment = problem.New(problem.Forbidden, "not_buyer", "This payment belongs to somebody else.")
	ErrCancelled      = problem.New(problem.Conflict, "order_cancelled", "This order is cancelled; it cannot be paid any more. Nothing was charged.").WithField("orderId")
	ErrComplete       = problem.New(problem.Conflict, "order_complete", "This order is complete; there is nothing to pay.").WithField("orderId")
	ErrExpired        = problem.New(problem.Conflict, "order_expired", "The time to pay this order is over.").WithField("orderId")
)

// UnknownOrder is the refusal of an order that is not in the store: ErrNotYetKnown if it is young, else ErrNoOrder.
func UnknownOrder(orderID id.Order, now time.Time) error {
	if id.IsYoung(orderID, now) {
		return ErrNotYetKnown
	}
	return ErrNoOrder
}

// Apply applies an event of the orders service, if it is newer than the order.
func (o *Order) Apply(event events.Order) (changed bool) {
	if event.Version <= o.Version {
		return false
	}
	isNew := o.Version == 0
	o.Schema = OrderSchema
	o.ID = event.ID
	o.Status = OrderStatus(event.Status)
	o.Version = event.Version
	if isNew || event.Reason != events.CancelReasonUnknown { // with this reason, the orders service has lost the order and publishes its id alone
		o.UserID = event.UserID
		o.ExpiresAt = event.ExpiresAt.Time
		o.Amount = event.Ticket.Price
		o.Currency = event.Ticket.Currency
	}
	o.copyToPayment()
	return true
}

// Recovered is an order that is not in the store, made of what Stripe has of its intent. Its version is 0, so each event of
// the order is newer.
func Recovered(orderID id.Order, user id.User, amount int64, currency string) Order {
	return Order{Schema: OrderSchema, ID: orderID, UserID: user, Status: OrderCreated, Amount: amount, Currency: currency}
}

// copyToPayment gives the payment its members that are stored with the order alone.
func (o *Order) copyToPayment() {
	p := o.Payment
	if p == nil {
		return
	}
	p.OrderID, p.UserID, p.Amount, p.Currency = o.ID, o.UserID, o.Amount, o.Currency
	if p.Status == Refunded && p.Refunded == 0 { // an earlier release did not count it, and gave back all
		p.Refunded = o.Amount
	}
}

// TakePayment makes a payment that had a document of its own part of the order.
func (o *Order) TakePayment(p Payment) {
	o.Payment, o.PaymentID = &p, ""
	o.copyToPayment()
}

// Copy returns an order whose payment can be changed without a change of this one.
func (o Order) Copy() Order {
	if o.Payment != nil {
		payment := *o.Payment
		o.Payment = &payment
	}
	return o
}

// IsOlderThan reports whether another copy of the order is of a later time.
func (o *Order) IsOlderThan(other Order) bool {
	return o.Version < other.Version || other.Payment != nil && (o.Payment == nil || o.Payment.Version < other.Payment.Version)
}

// CheckBuyer returns ErrNotYourOrder for a user who may not pay the order.
func (o *Order) CheckBuyer(user id.User) error {
	if o.UserID != user {
		return ErrNotYourOrder
	}
	return nil
}

// PaymentFor returns the order's payment, if the user may see it. A payment without an intent does not exist for clients: no
// response has named it.
func (o *Order) PaymentFor(user id.User) (Payment, error) {
	switch {
	case o.Payment == nil, o.Payment.StripeID == "":
		return Payment{}, ErrNoPayment
	case o.UserID != user:
		return Payment{}, ErrNotYourPayment
	}
	return *o.Payment, nil
}

// CheckPayable reports whether a request to pay is admitted. It returns nil also if the order is paid already: the response is
// the payment then.
func (o *Order) CheckPayable(now time.Time) error {
	if p := o.Payment; p != nil {
		switch {
		case p.Exhausted && (p.Status.Open() || p.Status == Voided):
			return ErrOrderAttempts
		case p.Status.Ended():
			return ErrCancelled
		case !p.Status.Open():
			return nil
		}
	}
	switch {
	case o.Status == OrderCancelled:
		return ErrCancelled
	case o.Status == OrderComplete:
		return ErrComplete
	case !now.Before(o.ExpiresAt):
		return ErrExpired
	}
	return nil
}

// due is the step that the order asks for, given its payment. There must be one.
func (o *Order) due() Step {
	switch payment := o.Payment.Status; {
	case o.Status == OrderCreated && payment.Open() && o.Payment.Exhausted:
		return Void
	case o.Status == OrderComplete && payment == Authorized:
		return Capture
	case o.Status == OrderCancelled && (payment.Open() || payment == Authorized):
		return Void
	case o.Status == OrderCancelled && payment == Captured && !o.Payment.refundBlocked():
		return Refund
	}
	return Nothing
}

// IsDue reports whether the order asks for a step now.
func (o *Order) IsDue() bool { return o.Payment != nil && o.due() != Nothing }

// Settled reports whether the payment is as the order asks. It stays so unless the order changes or money moves at Stripe.
func (o *Order) Settled() bool {
	p := o.Payment
	return p == nil || p.Status.Ended() || p.Status == Captured && (o.Status == OrderComplete || o.Status == OrderCancelled && p.refundBlocked())
}

// NeedsSettling reports whether the sweep must settle the payment: a step is due, or Stripe may have news. A payment that waits
// for its buyer needs nothing until the buyer tries again or the order ends.
func (o *Order) NeedsSettling() bool { return o.IsDue() || !o.Payment.WaitsForBuyer() }

// MayHaveIntent reports whether an intent is the payment's, or may be, because an attempt has no known outcome.
func (o *Order) MayHaveIntent(i Intent) bool {
	p := o.Payment
	return p != nil && (p.StripeID == i.ID || p.OutcomeUnknown())
}

// Reflects reports whether the payment is as the order asks and not behind what a webhook has reported. reported may be the
// zero Intent: no webhook.
func (o *Order) Reflects(reported Intent) bool {
	p := o.Payment
	return p != nil && !p.Status.Open() && !o.IsDue() && (reported.Status == "" || p.Reflects(reported))
}

const (
	// AttemptTime is how long an attempt usually takes: until then, its process is likely to commit the outcome.
	AttemptTime = 15 * time.Second
	// commitTime is how long after the last change of a payment a report may be the result of this service's own request.
	commitTime = 10 * time.Second
)

// IsInProgress reports whether a process of this service has most likely caused what a webhook reports, and is about to commit
// it. If that process does not, the payment is in the index of unsettled ones, and the sweep finds it.
func (o *Order) IsInProgress(reported Intent, now time.Time) bool {
	p := o.Payment
	switch {
	case o.Settled():
		return false
	case p.Attempt.Open && p.Status.Open():
		return now.Sub(p.Attempt.At) < AttemptTime
	}
	return reported.Status.Rank() > Authorized.Rank() && now.Sub(p.UpdatedAt) < commitTime
}
