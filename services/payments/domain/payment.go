package domain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

// The life of a payment. An order has one payment, and a payment has one PaymentIntent at Stripe, so nobody can be charged
// twice for one order.
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
//	     (pending, requires_action and failed are voided, too, when the order is cancelled or too many cards were declined
//	     for it)
//
// After a partial refund, and with a dispute, a payment is captured until all is given back; Refunded counts what was given back. If a
// refund fails, a refunded payment becomes captured again. Operators and banks cause all of this at Stripe; the table in
// services/payments/README.md, "What Stripe does by itself", shows the results.
//
// Money follows the order, and only Order.due decides how. An authorized payment is captured when its order is complete. When
// the order is cancelled, what is not captured is voided, and what is captured is refunded. A live order's payment ends in one
// case: too many cards were declined. The order follows it.
//
// Stripe's state of the intent is the truth. A payment never decides its next status: Observe applies what Stripe has. So
// responses, webhooks and later reads lead to the same state, whatever their order.

// Status is a payment's state.
type Status string

const (
	Pending        Status = "pending"         // no attempt has a known outcome
	RequiresAction Status = "requires_action" // the bank wants to authenticate the buyer (3-D Secure)
	Authorized     Status = "authorized"      // the money is held
	Captured       Status = "captured"        // the money was taken
	Voided         Status = "voided"          // ended before any money was taken
	Refunded       Status = "refunded"        // the money was given back
	Failed         Status = "failed"          // the last attempt was declined; the buyer may try again
)

// Open reports whether another attempt can be made.
func (s Status) Open() bool { return s == Pending || s == RequiresAction || s == Failed }

// Ended reports whether no money is held or taken, and none can be.
func (s Status) Ended() bool { return s == Voided || s == Refunded }

// HoldsMoney reports whether money is held or taken, or the buyer's bank may still hold it.
func (s Status) HoldsMoney() bool { return s == RequiresAction || s == Authorized || s == Captured }

// Rank orders the states of an intent: it never returns to a state of a lower rank.
func (s Status) Rank() int {
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

// Payment is the payment of an order, and part of its document. Amounts are in the currency's minor unit. It has no secret:
// neither the card nor the client secret.
type Payment struct {
	ID          id.Payment `json:"id"` // the order's id; payments of earlier releases have ids of their own
	StripeID    string     `json:"stripeId,omitempty"`
	Status      Status     `json:"status"`
	DeclineCode string     `json:"declineCode,omitempty"`
	ChargeID    string     `json:"chargeId,omitempty"` // Stripe's latest charge: it distinguishes one decline from the next
	Attempt     Attempt    `json:"attempt"`
	// Declines is how many attempts were declined, at this service or at Stripe, or have no known outcome; see limits.go.
	Declines int `json:"declines,omitempty"`
	// UserOnly is how many attempts count only in the user's hour: Stripe did not know the card, or another card was tried
	// while the bank waited for the buyer. Stored documents have its first name, so the JSON keeps that.
	UserOnly int `json:"fruitless,omitempty"`
	// Exhausted means that no more cards may be tried. The intent is canceled, so that its client secret cannot be used any more.
	Exhausted bool `json:"exhausted,omitempty"`
	// Refunded is what was given back, by refunds and by disputes that were lost.
	Refunded int64 `json:"refunded,omitempty"`
	// RefundFailed means that a refund did not reach the buyer, and the money is at Stripe again. It is not retried: an
	// operator must find another way.
	RefundFailed bool    `json:"refundFailed,omitempty"`
	Dispute      Dispute `json:"dispute,omitzero"` // the latest

	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`

	// These are the order's, and stored with it alone.
	OrderID  id.Order `json:"-"`
	UserID   id.User  `json:"-"`
	Amount   int64    `json:"-"`
	Currency string   `json:"-"`

	unrecordedDeclines int // declines that Observe has found and that are not in the user's document yet
}

// Attempt is one try with one card. It is committed before the request to Stripe, and is open until its outcome is committed
// as well. A change of the attempt alone is no new version of the payment.
type Attempt struct {
	Number int    `json:"number"`
	Method string `json:"method"` // the digest of the card and the return URL
	Open   bool   `json:"open"`
	// At is when it was committed: its intent is not older. It is zero in documents of earlier releases, whose intents are
	// always known.
	At time.Time `json:"at,omitzero"`
}

// KeyLife is how long an attempt's idempotency key is relied on. Stripe keeps keys for at least 24 hours.
const KeyLife = 23 * time.Hour

// Method is the card of a request to pay: a PaymentMethod of Stripe's frontend, or a token. Exactly one is set.
type Method struct {
	PaymentMethod string
	Token         string
	// ReturnURL is where the buyer's browser comes back to after 3-D Secure at the bank. Without it, Stripe's frontend leads
	// the buyer through 3-D Secure.
	ReturnURL string
}

// Digest identifies the card and the return URL without containing them. The same card with another return URL is another attempt,
// because Stripe takes only the same request under an idempotency key.
func (m Method) Digest() string {
	text := m.PaymentMethod + "\n" + m.Token
	if m.ReturnURL != "" {
		text += "\n" + m.ReturnURL
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// Field is the request's member that holds the card.
func (m Method) Field() string {
	if m.Token != "" {
		return "token"
	}
	return "paymentMethod"
}

// Begin gives an order its payment, with the first attempt open. It has no intent yet.
func (o *Order) Begin(method string, now time.Time) *Payment {
	o.Payment = &Payment{
		ID:        id.Payment(o.ID),
		Status:    Pending,
		Attempt:   Attempt{Number: 1, Method: method, Open: true, At: now},
		Declines:  1,
		Version:   1,
		CreatedAt: now,
		UpdatedAt: now,
	}
	o.copyToPayment()
	return o.Payment
}

// BeginWithIntent gives an order the payment of an intent that Stripe has and no document names.
func (o *Order) BeginWithIntent(i Intent, createdAt time.Time) *Payment {
	p := o.Begin("", createdAt)
	p.Conclude(p.Attempt.Number, i.Status == Failed)
	p.StripeID = i.ID
	return p
}

// OutcomeUnknown reports whether Stripe may have an intent that is not known here: an attempt was committed, and Stripe's
// response was not.
func (p *Payment) OutcomeUnknown() bool { return p.StripeID == "" && p.Attempt.Open }

// WaitsForBuyer reports whether only another attempt of the buyer can change the payment.
func (p *Payment) WaitsForBuyer() bool {
	return !p.Attempt.Open && (p.Status == Failed || p.Status == Pending)
}

// Plan is what a request to pay with a card leads to.
type Plan int

const (
	KeepAsItIs            Plan = iota // it is paid, or waits for the buyer's bank
	ResumeAttempt                     // this attempt was begun before, and its outcome is not known
	ResolveEarlierAttempt             // another attempt was begun before, and may have led to an intent that is not known
	NewAttempt                        // this card was not tried, or was declined: the payment has a new attempt
)

// PlanAttempt decides what a request to pay with a card leads to, and adds the new attempt to the payment if that is one. The
// payment has not ended.
func (p *Payment) PlanAttempt(method string, now time.Time) Plan {
	same := p.Attempt.Method == method
	switch {
	case p.OutcomeUnknown() && (!same || now.Sub(p.Attempt.At) >= KeyLife):
		return ResolveEarlierAttempt
	case p.Attempt.Open && same: // also if a webhook was faster: no response was sent yet
		return ResumeAttempt
	case !p.Status.Open(), p.Status == RequiresAction && same:
		return KeepAsItIs
	}
	if p.Status == RequiresAction {
		p.UserOnly++
	}
	p.Attempt = Attempt{Number: p.Attempt.Number + 1, Method: method, Open: true, At: now}
	p.Declines++
	return NewAttempt
}

// Conclude closes an attempt whose outcome is known. If it was not declined, it does not count as a decline any more.
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

// ConcludeRefused closes an attempt that Stripe has refused to make, because it does not know the card or the bank declined
// before there was an intent.
func (p *Payment) ConcludeRefused(attempt int, declined bool) {
	if p.Conclude(attempt, declined) && !declined {
		p.UserOnly++
	}
}

// ConcludeFound closes the open attempt if the step FindIntent has found that it led to nothing or was declined. The buyer
// has to make another one then.
func (p *Payment) ConcludeFound(found Intent) (changed bool) {
	if found.ID != "" && found.Status != Pending && found.Status != Failed {
		return false
	}
	return p.Conclude(p.Attempt.Number, found.Status == Failed)
}

// NameIntent sets the payment's intent if it has none. It reports whether the intent is the payment's.
func (p *Payment) NameIntent(stripeID string) bool {
	if p.StripeID == "" {
		p.StripeID = stripeID
	}
	return p.StripeID == stripeID
}

// Observe applies the state of the payment's intent at Stripe. An authorization that is to be voided at once is not published.
func (o *Order) Observe(i Intent, now time.Time) (event events.Payload, changed bool) {
	if i.Status == Authorized && o.due() == Void {
		i = Intent{ID: i.ID}
	}
	return o.Payment.Observe(i, now)
}

// Observe applies the state of the payment's intent at Stripe. The intent must have been read after the payment was. It returns
// the event to publish, or nil; changed reports whether there is anything to commit.
func (p *Payment) Observe(i Intent, now time.Time) (event events.Payload, changed bool) {
	if p.StripeID == "" && i.ID != "" {
		p.StripeID, changed = i.ID, true
	}
	if p.Status == Voided || p.Status == Refunded && !i.Complete || i.Status == "" {
		return nil, changed
	}
	if p.countDeclines(i) {
		changed = true
	}
	if i.Status == Pending {
		return nil, changed
	}
	anotherDecline := i.Status == Failed && (i.ChargeID != p.ChargeID || i.DeclineCode != p.DeclineCode)
	before := *p
	if i.Complete {
		p.applyReversals(i)
	}
	reversed := p.Refunded != before.Refunded
	if i.Status == p.Status && !anotherDecline && !reversed {
		if p.Dispute == before.Dispute && p.RefundFailed == before.RefundFailed {
			return nil, changed
		}
		p.addVersion(now)
		return nil, true
	}
	p.Status = i.Status
	p.ChargeID = i.ChargeID
	p.DeclineCode = ""
	if i.Status == Failed {
		p.DeclineCode = i.DeclineCode
	}
	p.addVersion(now)
	if p.Status == before.Status && reversed || before.Status == Refunded {
		return events.PaymentRefunded{Payment: p.published()}, true
	}
	return p.Event(), true
}

// countDeclines counts declines that are not counted yet. Attempts with the client secret do not pass this service, so
// Stripe's number of failed charges counts; a buyer who fails 3-D Secure makes no charge. The outcome of an open attempt is
// counted already.
func (p *Payment) countDeclines(i Intent) (changed bool) {
	more := i.Declines - p.Declines
	if more <= 0 && p.Status == RequiresAction && i.Status == Failed && !p.Attempt.Open { // 3-D Secure has failed
		more = 1
	}
	if more <= 0 {
		return false
	}
	p.Declines += more
	p.unrecordedDeclines += more
	return true
}

// Unrecorded is how many declines must be added to the user's document with the payment's next commit.
func (p *Payment) Unrecorded() int { return p.unrecordedDeclines }

// applyReversals applies the refunds and disputes at Stripe. If less was given back than before, a refund has failed,
// unless a dispute was won after all.
func (p *Payment) applyReversals(i Intent) {
	failed := i.RefundFailed || i.Refunded < p.Refunded && p.Dispute.Lost() == i.Dispute.Lost()
	p.RefundFailed = i.Status == Captured && (failed || p.RefundFailed)
	p.Refunded, p.Dispute = i.Refunded, i.Dispute
}

// refundBlocked reports whether this service cannot give captured money back: a refund has failed, or the bank decides on a
// dispute.
func (p *Payment) refundBlocked() bool { return p.RefundFailed || p.Dispute.Undecided() }

// Reflects reports whether the payment is at least as far as a webhook's intent, which may be old. If so, the intent need not be
// read.
func (p *Payment) Reflects(reported Intent) bool {
	switch own, there := p.Status.Rank(), reported.Status.Rank(); {
	case reported.Status == Unknown, reported.Refunded > p.Refunded, reported.Disputed && p.Dispute == Dispute{}:
		return false
	case reported.Status == Pending, there < own:
		return true
	case there > own:
		return false
	case own > 0:
		return true
	}
	return reported.Status == p.Status && (reported.Status != Failed || reported.ChargeID == p.ChargeID && reported.DeclineCode == p.DeclineCode)
}

// Matches reports whether the payment is as in a list of Stripe's. Such a list shows of disputes only that there was one.
func (p *Payment) Matches(listed Intent) bool {
	if !p.Reflects(listed) {
		return false
	}
	refunded := p.Refunded
	if p.Dispute.Lost() {
		refunded -= p.Dispute.Amount
	}
	return listed.Status.Rank() < Captured.Rank() || listed.Status == Voided || listed.Refunded == refunded
}

func (p *Payment) addVersion(now time.Time) {
	p.Version++
	p.UpdatedAt = now
}

// Event is the event of the payment's status; nil for those that other services need not know.
func (p *Payment) Event() events.Payload {
	switch published := p.published(); p.Status {
	case Authorized:
		return events.PaymentCreated{Payment: published}
	case Captured:
		return events.PaymentCaptured{Payment: published}
	case Voided:
		return events.PaymentVoided{Payment: published}
	case Refunded:
		return events.PaymentRefunded{Payment: published}
	case Failed:
		return events.PaymentFailed{Payment: published}
	}
	return nil
}

// published is the public state of the payment. A payment that is refunded has given back the whole amount in it, also if
// less than that was captured.
func (p *Payment) published() events.Payment {
	published := events.Payment{
		ID:          p.ID,
		OrderID:     p.OrderID,
		UserID:      p.UserID,
		StripeID:    p.StripeID,
		Status:      events.PaymentStatus(p.Status),
		Amount:      p.Amount,
		Currency:    p.Currency,
		DeclineCode: ShownDecline(p.DeclineCode),
		Version:     p.Version,
		CreatedAt:   clock.Stamp(p.CreatedAt),
		UpdatedAt:   clock.Stamp(p.UpdatedAt),
		Refunded:    p.Refunded,
		Dispute:     p.Dispute.Status,
	}
	if p.Status == Refunded {
		published.Refunded = max(p.Refunded, p.Amount)
	}
	return published
}

// Refusal is the error for the buyer who sees the payment as the result of a request to pay; nil if it is paid or waits for
// the buyer's bank. message is Stripe's, for a decline.
func (p *Payment) Refusal(method Method, message string) error {
	switch p.Status {
	case Authorized, Captured, RequiresAction:
		return nil
	case Voided, Refunded:
		if p.Exhausted {
			return ErrOrderAttempts
		}
		return ErrCancelled
	case Failed:
		return DeclinedCard(p.DeclineCode, message).WithField(method.Field()).
			Because(fmt.Errorf("order %s: the bank's code is %s", p.OrderID, p.DeclineCode))
	}
	return ErrProcessorUnavailable.Because(fmt.Errorf("payment intent %s has no outcome yet", p.StripeID))
}
