package main

import (
	"slices"
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

// The life of a payment. There is one payment for an order and one PaymentIntent at Stripe for a payment, so
// nobody can be charged twice for one order.
//
//	   Begin
//	     │
//	     ▼                      Stripe confirms the intent, and the bank agrees
//	 pending ────────────┬──────────────────────────▶ authorized ──capture──▶ captured
//	     │               │        ▲        ▲               │                      │
//	     │ 3-D Secure    │        │        │ another card  │ void                 │ refund
//	     ├──▶ requires_action ────┤        │               ▼                      ▼
//	     │ declined      │        │     failed          voided                refunded
//	     └───────────────┴────────┼────────▲               ▲
//	                              └────────┘               │
//	     (pending, requires_action and failed are voided, too, when the order is cancelled, or too many cards were
//	     declined for it)
//
// A refund in parts, and a dispute, leave a payment captured until all is given back; what was given back is in Refunded. A
// refund that fails makes a refunded payment captured again. All of this happens at Stripe, by people or by banks; what
// it leads to here is a table in services/README.md, "What Stripe does by itself".
//
// Money follows the order, and Order.Due alone says how: an authorized payment is captured when its order is
// complete; when its order is cancelled, whatever can still become money is voided, and what is money already
// is refunded. The only thing that ends a live order's payment is that too many cards were declined: the order follows it.
//
// Stripe's word on a PaymentIntent is the truth. A payment never decides its next status by itself: Observe
// takes what Stripe says, so an answer, a webhook and a second look all lead to the same place, and in whatever
// order they come.

// Status is a payment's state.
type Status string

const (
	Pending        Status = "pending"         // an attempt was written down, and nothing is known of its outcome; or none has had one
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

// Payment is what is known of an order's payment; it is part of the order's document. Amount is in the currency's minor
// unit. What is secret (the card, the client secret) is not in it.
type Payment struct {
	ID          string  `json:"id"` // the order's id; payments of earlier releases have ids of their own
	StripeID    string  `json:"stripeId,omitempty"`
	Status      Status  `json:"status"`
	DeclineCode string  `json:"declineCode,omitempty"`
	ChargeID    string  `json:"chargeId,omitempty"` // Stripe's latest attempt: tells one decline from the next
	Attempt     Attempt `json:"attempt"`
	// Declines counts the attempts that were declined, whoever made them, and those whose outcome is not known; see
	// limits.go.
	Declines int `json:"declines,omitempty"`
	// Fruitless counts the attempts that count for the user's hour alone: Stripe did not know the card, or another card was
	// tried while the bank waited for the buyer.
	Fruitless int `json:"fruitless,omitempty"`
	// Exhausted says that no more cards may be declined: the intent is canceled, so that its client secret is worth nothing.
	Exhausted bool `json:"exhausted,omitempty"`
	// Refunded is what was given back: by refunds, and by disputes that were lost.
	Refunded int64 `json:"refunded,omitempty"`
	// RefundFailed says that a refund did not reach the buyer, and the money is at Stripe again. Somebody must find
	// another way; it is not tried again by itself.
	RefundFailed bool    `json:"refundFailed,omitempty"`
	Dispute      Dispute `json:"dispute,omitzero"` // the last one

	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`

	// These are the order's, and stored with it alone.
	OrderID  string `json:"-"`
	UserID   string `json:"-"`
	Amount   int64  `json:"-"`
	Currency string `json:"-"`

	unrecorded int // declines that are not in the user's document yet: Observe has found them
}

// Attempt is one try with one card. It is written down before Stripe is asked, and is open until its outcome is written
// down as well. Changing it alone is no new version of the payment.
type Attempt struct {
	Number int `json:"number"`
	// Method tells one card from another; it is a digest.
	Method string `json:"method"`
	Open   bool   `json:"open"`
	// At is when it was written down: no intent that it led to is older. Zero in documents of earlier releases, whose
	// intents were always known.
	At time.Time `json:"at,omitzero"`
}

// Dispute is what a buyer has complained about at the bank. The zero Dispute is none.
type Dispute struct {
	ID     string `json:"id"`
	Status string `json:"status"` // Stripe's
	Reason string `json:"reason,omitempty"`
	Amount int64  `json:"amount"`
}

// undecided says whether the bank holds the money until it has decided. (An inquiry, whose status begins with warning,
// holds none.)
func (d Dispute) undecided() bool { return d.Status == "needs_response" || d.Status == "under_review" }

// lost says whether the buyer has got the money for good.
func (d Dispute) lost() bool { return d.Status == "lost" || d.Status == "prevented" }

// Unknown is what an intent's status becomes if what Stripe reported does not say it.
const Unknown Status = "unknown"

// Intent is what Stripe says of a PaymentIntent, in this service's terms. Status is what a payment's becomes.
type Intent struct {
	ID             string
	Status         Status
	ClientSecret   string
	ChargeID       string
	DeclineCode    string // with Failed
	DeclineMessage string // with Failed, for people

	// Declines is how many of its charges have failed; 0 also if Stripe was not asked that.
	Declines int

	Refunded int64 // at least this was given back
	Disputed bool  // at some time
	// Whole says that Refunded, RefundFailed and Dispute are all that there is to say, and as they are now.
	Whole        bool
	RefundFailed bool
	Dispute      Dispute
}

// Begin gives an order its payment, whose first attempt is about to be made. It has no intent yet.
func (o *Order) Begin(method string, now time.Time) *Payment {
	o.Payment = &Payment{
		ID:        o.ID,
		Status:    Pending,
		Attempt:   Attempt{Number: 1, Method: method, Open: true, At: now},
		Declines:  1,
		Version:   1,
		CreatedAt: now,
		UpdatedAt: now,
	}
	o.share()
	return o.Payment
}

// share gives the payment what it has from its order.
func (o *Order) share() {
	if p := o.Payment; p != nil {
		p.OrderID, p.UserID, p.Amount, p.Currency = o.ID, o.UserID, o.Amount, o.Currency
		if p.Status == Refunded && p.Refunded == 0 { // by a earlier release, which gave back all
			p.Refunded = o.Amount
		}
	}
}

// unresolved says whether there may be an intent at Stripe that is not known here: an attempt was written down, and
// Stripe's answer was not.
func (p *Payment) unresolved() bool { return p.StripeID == "" && p.Attempt.Open }

// idle says whether the payment waits for its buyer to make another attempt: nobody else can change it.
func (p *Payment) idle() bool {
	return !p.Attempt.Open && (p.Status == Failed || p.Status == Pending)
}

// Plan is what a payment makes of a buyer's wish to pay it with a card.
type Plan int

const (
	ShowAsItIs    Plan = iota // there is nothing to do: it is paid, or waits for the buyer's bank
	ResumeAttempt             // this very attempt was begun before, and its outcome is not known
	ResolveFirst              // another attempt was begun before, and whether it has led to an intent is not known
	NewAttempt                // this card has not been tried, or was declined: the payment has changed
)

// Try decides what to do about a wish to pay with a card; the payment has not ended.
func (p *Payment) Try(method string, now time.Time) Plan {
	same := p.Attempt.Method == method
	switch {
	case p.unresolved() && (!same || now.Sub(p.Attempt.At) >= keyLife):
		return ResolveFirst
	case p.Attempt.Open && same: // also if a webhook was faster: nobody was answered yet
		return ResumeAttempt
	case !p.Status.open(), p.Status == RequiresAction && same:
		return ShowAsItIs
	}
	if p.Status == RequiresAction {
		p.Fruitless++
	}
	p.Attempt = Attempt{Number: p.Attempt.Number + 1, Method: method, Open: true, At: now}
	p.Declines++
	return NewAttempt
}

// Conclude writes down that the outcome of an attempt is known. One that was not declined does not count as a decline
// any more.
func (p *Payment) Conclude(attempt int, declined bool) (changed bool) {
	if p.Attempt.Number != attempt || !p.Attempt.Open {
		return false
	}
	p.Attempt.Open = false
	if !declined {
		p.Declines = max(p.Declines-1, 0)
	}
	return true
}

// Observe takes what Stripe says of the payment's intent. The intent must have been refreshed at after the payment was
// read. It returns the event to publish, or nil; changed says whether there is anything to write.
func (p *Payment) Observe(i Intent, now time.Time) (event events.Payload, changed bool) {
	if p.StripeID == "" && i.ID != "" {
		p.StripeID, changed = i.ID, true
	}
	if p.Status == Voided || p.Status == Refunded && !i.Whole || i.Status == "" {
		return nil, changed
	}
	if p.countDeclines(i) {
		changed = true
	}
	if i.Status == Pending {
		return nil, changed
	}
	another := i.Status == Failed && (i.ChargeID != p.ChargeID || i.DeclineCode != p.DeclineCode)
	before := *p
	if i.Whole {
		p.reverse(i)
	}
	reversed := p.Refunded != before.Refunded
	if i.Status == p.Status && !another && !reversed {
		if p.Dispute == before.Dispute && p.RefundFailed == before.RefundFailed {
			return nil, changed
		}
		p.change(now)
		return nil, true
	}
	p.Status = i.Status
	p.ChargeID = i.ChargeID
	p.DeclineCode = ""
	if i.Status == Failed {
		p.DeclineCode = i.DeclineCode
	}
	p.change(now)
	if p.Status == before.Status && reversed || before.Status == Refunded {
		return events.PaymentRefunded{Payment: p.public()}, true
	}
	return p.Event(), true
}

// countDeclines counts the declines that nobody has counted. Whoever has the client secret makes attempts without this
// service, so the number of failed charges at Stripe is what counts; a buyer who fails 3-D Secure makes no charge. The
// outcome of an open attempt is counted already.
func (p *Payment) countDeclines(i Intent) (changed bool) {
	more := i.Declines - p.Declines
	if more <= 0 && p.Status == RequiresAction && i.Status == Failed && !p.Attempt.Open { // the buyer's bank has refused after all
		more = 1
	}
	if more <= 0 {
		return false
	}
	p.Declines += more
	p.unrecorded += more
	return true
}

// reverse takes what Stripe says of refunds and disputes. Less given back than before is a refund that has failed, unless
// a dispute was won after all.
func (p *Payment) reverse(i Intent) {
	failed := i.RefundFailed || i.Refunded < p.Refunded && p.Dispute.lost() == i.Dispute.lost()
	p.RefundFailed = i.Status == Captured && (failed || p.RefundFailed)
	p.Refunded, p.Dispute = i.Refunded, i.Dispute
}

// stuck says whether money that was taken cannot be given back by this service: a refund has failed, or the bank decides
// on a dispute.
func (p *Payment) stuck() bool { return p != nil && (p.RefundFailed || p.Dispute.undecided()) }

// progress orders the states of an intent at Stripe: it never goes back from one to a lower one.
func (s Status) progress() int {
	switch s {
	case Authorized:
		return 1
	case Captured:
		return 2
	case Voided, Refunded:
		return 3
	}
	return 0
}

// Knows says whether the payment is at least as far as an intent that Stripe reported of, perhaps long ago, so that there is
// no need to ask how things stand now.
func (p *Payment) Knows(i Intent) bool {
	switch here, there := p.Status.progress(), i.Status.progress(); {
	case i.Status == Unknown, i.Refunded > p.Refunded, i.Disputed && p.Dispute == Dispute{}:
		return false
	case i.Status == Pending, there < here:
		return true
	case there > here:
		return false
	}
	return p.Status.progress() > 0 || i.Status == p.Status && (i.Status != Failed || i.ChargeID == p.ChargeID && i.DeclineCode == p.DeclineCode)
}

func (p *Payment) change(now time.Time) {
	p.Version++
	p.UpdatedAt = now
}

// reported is the event of the payment's status. That a buyer must act is the buyer's business alone.
func (p *Payment) Event() events.Payload {
	switch public := p.public(); p.Status {
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

// public is the state of the payment that other services get. In it a payment that is refunded has given back the whole
// amount, also if less than that was ever captured.
func (p *Payment) public() events.Payment {
	public := events.Payment{
		ID:          p.ID,
		OrderID:     p.OrderID,
		UserID:      p.UserID,
		StripeID:    p.StripeID,
		Status:      string(p.Status),
		Amount:      p.Amount,
		Currency:    p.Currency,
		DeclineCode: shownDecline(p.DeclineCode),
		Version:     p.Version,
		CreatedAt:   p.CreatedAt,
		UpdatedAt:   p.UpdatedAt,
		Refunded:    p.Refunded,
		Dispute:     p.Dispute.Status,
	}
	if p.Status == Refunded {
		public.Refunded = max(p.Refunded, p.Amount)
	}
	return public
}

// cardDeclined is what clients get in the place of a bank's code that is not for the buyer.
const cardDeclined = "card_declined"

// secretDeclines are the codes that must not be shown: whoever has stolen a card must not learn that this is known. Stripe
// says of the first four to present them as any other decline, and describes the next two as "possibly reported lost or
// stolen" (https://docs.stripe.com/declines/codes); the others are the words of Radar, Stripe's own look at a card.
var secretDeclines = []string{
	"fraudulent", "lost_card", "stolen_card", "merchant_blacklist",
	"pickup_card", "restricted_card",
	"security_violation", "highest_risk_level", "elevated_risk_level", "rule",
}

// shownDecline is the code that the buyer, and other services, get for a bank's code.
func shownDecline(code string) string {
	if slices.Contains(secretDeclines, code) {
		return cardDeclined
	}
	return code
}

// OrderStatus is an order's state, as the orders service tells it.
type OrderStatus string

const (
	OrderCreated   OrderStatus = "created"
	OrderComplete  OrderStatus = "complete"
	OrderCancelled OrderStatus = "cancelled"
)

// Order is this service's view of an order: what the orders service published, and its payment. The document's ETag is
// the lock of both: an order that is cancelled in the same moment in which a payment's outcome is written down is always
// noticed.
type Order struct {
	Schema    int         `json:"schema"`
	ID        string      `json:"id"`
	UserID    string      `json:"userId"`
	Status    OrderStatus `json:"status"`
	ExpiresAt time.Time   `json:"expiresAt"`
	Amount    int64       `json:"amount"` // what is to be paid; nobody else says a price
	Currency  string      `json:"currency"`
	Version   int         `json:"version"` // of the order, as last heard
	Payment   *Payment    `json:"payment,omitempty"`
	// PaymentID names the document of its own that the payment had up to schema 1; see account.
	PaymentID string `json:"paymentId,omitempty"`
}

// orderSchema is the format in which orders are written.
const orderSchema = 2

// Newest implements state.Upgrader.
func (*Order) Newest() int { return orderSchema }

// Upgrade implements state.Upgrader. A payment that has a document of its own is carried over by store.load.
func (o *Order) Upgrade(int) error {
	o.Schema = orderSchema
	o.share()
	return nil
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

// Apply applies what the orders service tells, if it is newer than what is known.
func (o *Order) Apply(reported events.Order) (changed bool) {
	if reported.Version <= o.Version {
		return false
	}
	known := o.Version > 0
	o.Schema = orderSchema
	o.ID = reported.ID
	o.Status = OrderStatus(reported.Status)
	o.Version = reported.Version
	if !known || reported.Reason != "unknown" { // else the orders service has lost the order, and knows less of it than this one
		o.UserID = reported.UserID
		o.ExpiresAt = reported.ExpiresAt
		o.Amount = reported.Ticket.Price
		o.Currency = reported.Ticket.Currency
	}
	o.share()
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
	case o.Status == OrderCreated && payment.open() && o.Payment != nil && o.Payment.Exhausted:
		return Void
	case o.Status == OrderComplete && payment == Authorized:
		return Capture
	case o.Status == OrderCancelled && (payment.open() || payment == Authorized):
		return Void
	case o.Status == OrderCancelled && payment == Captured && !o.Payment.stuck():
		return Refund
	}
	return Nothing
}

// Settled says whether nothing is left to do about the order's payment, unless the order changes, or Stripe tells more.
func (o *Order) Settled() bool {
	p := o.Payment
	return p == nil || p.Status.ended() || p.Status == Captured && (o.Status == OrderComplete || o.Status == OrderCancelled && p.stuck())
}

// Wants says whether somebody must see to a payment that is not settled: something is due, or Stripe may know more
// than this service. One that was declined wants nothing; it waits for the buyer to try again, or for the order to end.
func (o *Order) Wants() bool {
	return o.Due(o.Payment.Status) != Nothing || !o.Payment.idle()
}
