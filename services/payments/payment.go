package main

import (
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

// The life of a payment. There is one payment for an order and one PaymentIntent at Stripe for a payment, so
// nobody can be charged twice for one order.
//
//	   Begin
//	     │
//	     ▼                      confirmed, and the bank agrees
//	 pending ────────────┬──────────────────────────▶ authorized ──capture──▶ captured
//	     │               │        ▲        ▲               │                      │
//	     │ 3-D Secure    │        │        │ another card  │ void                 │ refund
//	     ├──▶ requires_action ────┤        │               ▼                      ▼
//	     │ declined      │        │     failed          voided                refunded
//	     └───────────────┴────────┼────────▲               ▲
//	                              └────────┘               │
//	     (pending, requires_action and failed are voided, too, when the order is cancelled)
//
// Money follows the order, and Order.Due alone says how: an authorized payment is captured when its order is
// complete; when its order is cancelled, whatever can still become money is voided, and what is money already
// is refunded.
//
// Stripe's word on a PaymentIntent is the truth. A payment never decides its next status by itself: Observe
// takes what Stripe says, so an answer, a webhook and a second look all lead to the same place, and in whatever
// order they come.

// Status is a payment's state.
type Status string

const (
	Pending        Status = "pending"         // written down before Stripe is asked; clients do not get to see it
	RequiresAction Status = "requires_action" // the buyer's bank wants to see the buyer (3-D Secure)
	Authorized     Status = "authorized"      // the funds are held, not taken
	Captured       Status = "captured"        // the money was taken
	Voided         Status = "voided"          // ended before any money was taken
	Refunded       Status = "refunded"        // the money was given back
	Failed         Status = "failed"          // the last attempt was declined; the buyer may try again
)

// open says whether nothing is decided yet: another attempt can be made.
func (s Status) open() bool { return s == Pending || s == RequiresAction || s == Failed }

// ended says whether nothing will happen any more.
func (s Status) ended() bool { return s == Voided || s == Refunded }

// Payment is what is known of an order's payment. Amount is in the currency's minor unit. What is secret (the
// card, the client secret) is not in it.
type Payment struct {
	Schema      int       `json:"schema"`
	ID          string    `json:"id"`
	OrderID     string    `json:"orderId"`
	UserID      string    `json:"userId"`
	StripeID    string    `json:"stripeId"`
	Status      Status    `json:"status"`
	Amount      int64     `json:"amount"`
	Currency    string    `json:"currency"`
	DeclineCode string    `json:"declineCode,omitempty"`
	ChargeID    string    `json:"chargeId,omitempty"` // Stripe's latest attempt: tells one decline from the next
	Attempt     Attempt   `json:"attempt"`
	Version     int       `json:"version"`
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

// Attempt is one try with one card. It is written down before Stripe hears of it, and is open until its outcome
// is written down as well: whoever finds it open asks Stripe again under the same idempotency key. It is between
// this service and Stripe, so changing it alone is no new version of the payment.
type Attempt struct {
	Number int `json:"number"`
	// Method tells one card from another; it is a digest.
	Method string `json:"method"`
	Open   bool   `json:"open"`
}

// Intent is what Stripe says of a PaymentIntent, in this service's terms. Status is what a payment's becomes.
type Intent struct {
	ID             string
	Status         Status
	ClientSecret   string
	ChargeID       string
	DeclineCode    string // with Failed
	DeclineMessage string // with Failed, for people
}

// Begin is a payment whose first attempt is about to be made.
func Begin(id string, order *Order, intentID, method string, now time.Time) Payment {
	order.PaymentID = id
	return Payment{
		Schema:    1,
		ID:        id,
		OrderID:   order.ID,
		UserID:    order.UserID,
		StripeID:  intentID,
		Status:    Pending,
		Amount:    order.Amount,
		Currency:  order.Currency,
		Attempt:   Attempt{Number: 1, Method: method, Open: true},
		Version:   1,
		CreatedAt: now,
		UpdatedAt: now,
	}
}

// Plan is what a payment makes of a buyer's wish to pay it with a card.
type Plan int

const (
	ShowAsItIs    Plan = iota // there is nothing to do: it is paid, or waits for the buyer's bank
	ResumeAttempt             // this very attempt was begun before, and its outcome is not known
	NewAttempt                // this card has not been tried, or was declined: the payment has changed
)

// Try decides what to do about a wish to pay with a card; the payment has not ended.
func (p *Payment) Try(method string) Plan {
	same := p.Attempt.Method == method
	switch {
	case p.Attempt.Open && same: // also if a webhook was faster: nobody was answered yet
		return ResumeAttempt
	case !p.Status.open(), p.Status == RequiresAction && same:
		return ShowAsItIs
	}
	p.Attempt = Attempt{Number: p.Attempt.Number + 1, Method: method, Open: true}
	return NewAttempt
}

// Conclude writes down that the outcome of an attempt is known.
func (p *Payment) Conclude(attempt int) (changed bool) {
	if p.Attempt.Number != attempt || !p.Attempt.Open {
		return false
	}
	p.Attempt.Open = false
	return true
}

// Observe takes what Stripe says. The intent must have been looked at after the payment was read. It returns the
// event to tell, or nil; changed says whether there is anything to write.
func (p *Payment) Observe(i Intent, now time.Time) (event events.Payload, changed bool) {
	another := i.Status == Failed && (i.ChargeID != p.ChargeID || i.DeclineCode != p.DeclineCode)
	if i.Status == p.Status && !another || i.Status == Pending || i.Status == "" || p.Status.ended() {
		return nil, false
	}
	p.Status = i.Status
	p.ChargeID = i.ChargeID
	p.DeclineCode = ""
	if i.Status == Failed {
		p.DeclineCode = i.DeclineCode
	}
	p.change(now)
	return p.told(), true
}

func (p *Payment) change(now time.Time) {
	p.Version++
	p.UpdatedAt = now
}

// told is the event of the payment's status. That a buyer must act is the buyer's business alone.
func (p *Payment) told() events.Payload {
	public := events.Payment{
		ID:          p.ID,
		OrderID:     p.OrderID,
		UserID:      p.UserID,
		StripeID:    p.StripeID,
		Status:      string(p.Status),
		Amount:      p.Amount,
		Currency:    p.Currency,
		DeclineCode: p.DeclineCode,
		Version:     p.Version,
		CreatedAt:   p.CreatedAt,
		UpdatedAt:   p.UpdatedAt,
	}
	switch p.Status {
	case Authorized:
		return events.PaymentCreated{Payment: public}
	case Captured:
		return events.PaymentCaptured{Payment: public}
	case Voided:
		return events.PaymentVoided{Payment: public}
	case Refunded:
		return events.PaymentRefunded{Payment: public}
	case Failed:
		return events.PaymentFailed{Payment: public}
	}
	return nil
}

// OrderStatus is an order's state, as the orders service tells it.
type OrderStatus string

const (
	OrderCreated   OrderStatus = "created"
	OrderComplete  OrderStatus = "complete"
	OrderCancelled OrderStatus = "cancelled"
)

// Order is this service's view of an order: what the orders service told, and the payment that was begun for it.
// Its ETag is the lock under which an order gets its one payment, and under which a payment's outcome is written
// down: an order that is cancelled in the same moment is always noticed.
type Order struct {
	Schema    int         `json:"schema"`
	ID        string      `json:"id"`
	UserID    string      `json:"userId"`
	Status    OrderStatus `json:"status"`
	ExpiresAt time.Time   `json:"expiresAt"`
	Amount    int64       `json:"amount"` // what is to be paid; nobody else says a price
	Currency  string      `json:"currency"`
	Version   int         `json:"version"` // of the order, as last heard
	PaymentID string      `json:"paymentId,omitempty"`
}

var (
	errNoOrder        = problem.New(problem.NotFound, "There is no such order.").WithField("orderId").WithCode("order_not_found")
	errNoPayment      = problem.New(problem.NotFound, "There is no such payment.")
	errNotYours       = problem.New(problem.Forbidden, "This order belongs to somebody else.").WithField("orderId")
	errNotYourPayment = problem.New(problem.Forbidden, "This payment belongs to somebody else.")
	errCancelled      = problem.New(problem.Conflict, "This order is cancelled; it cannot be paid any more. Nothing was charged.").WithField("orderId").WithCode("order_cancelled")
	errComplete       = problem.New(problem.Conflict, "This order is complete; there is nothing to pay.").WithField("orderId").WithCode("order_complete")
	errExpired        = problem.New(problem.Conflict, "The time to pay this order is over.").WithField("orderId").WithCode("order_expired")
)

// Hear applies what the orders service tells, if it is newer than what is known.
func (o *Order) Hear(told events.Order) (changed bool) {
	if told.Version <= o.Version {
		return false
	}
	o.Schema = 1
	o.ID = told.ID
	o.UserID = told.UserID
	o.Status = OrderStatus(told.Status)
	o.ExpiresAt = told.ExpiresAt
	o.Amount = told.Ticket.Price
	o.Currency = told.Ticket.Currency
	o.Version = told.Version
	return true
}

// Payable says whether an attempt to pay may begin: the order is live and in time.
func (o *Order) Payable(now time.Time) error {
	switch {
	case o.Status == OrderCancelled:
		return errCancelled
	case o.Status == OrderComplete:
		return errComplete
	case !now.Before(o.ExpiresAt):
		return errExpired
	}
	return nil
}

// Action is something to be done with money.
type Action int

const (
	Nothing Action = iota
	Capture
	Void
	Refund
)

// Due says what the order's state asks of its payment.
func (o *Order) Due(payment Status) Action {
	switch {
	case o.Status == OrderComplete && payment == Authorized:
		return Capture
	case o.Status == OrderCancelled && (payment.open() || payment == Authorized):
		return Void
	case o.Status == OrderCancelled && payment == Captured:
		return Refund
	}
	return Nothing
}

// Settled says whether nothing is left to do about the order's payment, unless the order changes.
func (o *Order) Settled(payment Status) bool {
	return payment.ended() || o.Status == OrderComplete && payment == Captured
}

// Wants says whether somebody must see to a payment that is not settled: something is due, or Stripe may know more
// than this service. One that was declined wants nothing; it waits for the buyer to try again, or for the order to end.
func (o *Order) Wants(p *Payment) bool {
	return o.Due(p.Status) != Nothing || p.Status != Failed || p.Attempt.Open
}
