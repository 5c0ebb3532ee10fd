package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The life of a PaymentIntent, as Stripe documents it:
//
//	requires_payment_method ──confirm with a card──▶ requires_capture ──capture──▶ succeeded ──▶ (refunds)
//	     ▲        │                                     ▲        │
//	     │        └──confirm, bank wants 3-D Secure──▶ requires_action
//	     └──────────── declined, or challenge failed ────┘
//
// requires_confirmation is requires_payment_method with a payment method already there. With capture_method
// automatic a confirmation leads to succeeded at once. Any state but succeeded and canceled can be canceled. An
// authorization that is not captured lapses after a week: Stripe cancels its intent.
const (
	requiresPaymentMethod = "requires_payment_method"
	requiresConfirmation  = "requires_confirmation"
	requiresAction        = "requires_action"
	requiresCapture       = "requires_capture"
	succeeded             = "succeeded"
	canceled              = "canceled"
)

// paymentIntent has the members of Stripe's object that stripe-go reads, under Stripe's names.
type paymentIntent struct {
	ID                      string            `json:"id"`
	Object                  string            `json:"object"`
	Amount                  int64             `json:"amount"`
	AmountCapturable        int64             `json:"amount_capturable"`
	AmountReceived          int64             `json:"amount_received"`
	AutomaticPaymentMethods *automaticMethods `json:"automatic_payment_methods"`
	CanceledAt              *int64            `json:"canceled_at"`
	CancellationReason      *string           `json:"cancellation_reason"`
	CaptureMethod           string            `json:"capture_method"`
	ClientSecret            string            `json:"client_secret"`
	ConfirmationMethod      string            `json:"confirmation_method"`
	Created                 int64             `json:"created"`
	Currency                string            `json:"currency"`
	Customer                *string           `json:"customer"`
	Description             *string           `json:"description"`
	LastPaymentError        *errorObject      `json:"last_payment_error"`
	LatestCharge            *string           `json:"latest_charge"`
	Livemode                bool              `json:"livemode"`
	Metadata                map[string]string `json:"metadata"`
	NextAction              map[string]any    `json:"next_action"`
	PaymentMethod           *string           `json:"payment_method"`
	PaymentMethodOptions    map[string]any    `json:"payment_method_options"`
	PaymentMethodTypes      []string          `json:"payment_method_types"`
	ReceiptEmail            *string           `json:"receipt_email"`
	StatementDescriptor     *string           `json:"statement_descriptor"`
	Status                  string            `json:"status"`

	// Challenge is the last page of 3-D Secure that the customer was sent to. Stripe does not show it.
	Challenge *challenge `json:"sandbox_challenge,omitempty"`
}

// automaticMethods: an intent made without payment_method_types takes whatever is enabled in the dashboard,
// and may then have to send the customer to another page.
type automaticMethods struct {
	Enabled        bool   `json:"enabled"`
	AllowRedirects string `json:"allow_redirects"`
}

// charge is one attempt to move money for an intent.
type charge struct {
	ID                   string            `json:"id"`
	Object               string            `json:"object"`
	Amount               int64             `json:"amount"`
	AmountCaptured       int64             `json:"amount_captured"`
	AmountRefunded       int64             `json:"amount_refunded"`
	Captured             bool              `json:"captured"`
	Created              int64             `json:"created"`
	Currency             string            `json:"currency"`
	Disputed             bool              `json:"disputed"`
	FailureCode          *string           `json:"failure_code"`
	FailureMessage       *string           `json:"failure_message"`
	Livemode             bool              `json:"livemode"`
	Metadata             map[string]string `json:"metadata"`
	Outcome              map[string]any    `json:"outcome"`
	Paid                 bool              `json:"paid"`
	PaymentIntent        string            `json:"payment_intent"`
	PaymentMethod        string            `json:"payment_method"`
	PaymentMethodDetails map[string]any    `json:"payment_method_details"`
	Refunded             bool              `json:"refunded"`
	Status               string            `json:"status"`

	// CapturedAt is when the money was taken. Stripe has it in another object; here it is for the ledger.
	CapturedAt *time.Time `json:"sandbox_captured_at,omitempty"`
}

// paymentMethod is a card that was used, made from a test name or a token. Number is the sandbox's own; it
// finds the card's behaviour again.
type paymentMethod struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	BillingDetails map[string]any    `json:"billing_details"`
	Card           map[string]any    `json:"card"`
	Created        int64             `json:"created"`
	Customer       *string           `json:"customer"`
	Livemode       bool              `json:"livemode"`
	Metadata       map[string]string `json:"metadata"`
	Type           string            `json:"type"`
}

// refund gives captured money back, whole or in part.
type refund struct {
	ID            string            `json:"id"`
	Object        string            `json:"object"`
	Amount        int64             `json:"amount"`
	Charge        string            `json:"charge"`
	Created       int64             `json:"created"`
	Currency      string            `json:"currency"`
	FailureReason *string           `json:"failure_reason,omitempty"`
	Metadata      map[string]string `json:"metadata"`
	PaymentIntent string            `json:"payment_intent"`
	Reason        *string           `json:"reason"`
	Status        string            `json:"status"`
}

func newPaymentMethod(c card, now time.Time) *paymentMethod {
	return &paymentMethod{
		ID: newID("pm_"), Object: "payment_method", Type: "card", Created: now.Unix(),
		BillingDetails: map[string]any{}, Metadata: map[string]string{},
		Card: map[string]any{
			"brand": c.brand, "funding": c.funding, "last4": c.last4(), "country": "US",
			"exp_month": 12, "exp_year": now.Year() + 3, "fingerprint": "sandbox" + c.last4(),
		},
	}
}

// newCharge is an attempt on the intent with a card: what the bank answered decides whether it is paid.
func newCharge(intent *paymentIntent, method *paymentMethod, refused *decline, now time.Time) *charge {
	ch := &charge{
		ID: newID("ch_"), Object: "charge", Amount: intent.Amount, Created: now.Unix(), Currency: intent.Currency,
		Metadata: intent.Metadata, PaymentIntent: intent.ID, PaymentMethod: method.ID,
		PaymentMethodDetails: map[string]any{"type": "card", "card": method.Card},
		Paid:                 true, Status: "succeeded",
		Outcome: map[string]any{"type": "authorized", "network_status": "approved_by_network", "seller_message": "Payment complete."},
	}
	if refused != nil {
		ch.Paid, ch.Status = false, "failed"
		ch.FailureCode, ch.FailureMessage = &refused.Code, &refused.Message
		ch.Outcome = map[string]any{"type": "issuer_declined", "network_status": "declined_by_network", "reason": refused.DeclineCode}
	}
	return ch
}

// checkConfirm checks whether the intent can be confirmed: with the payment method of the request or, if there is none, with its
// own.
func (p *paymentIntent) checkConfirm(hasMethod bool, returnURL string) *apiError {
	switch p.Status {
	case requiresCapture, succeeded:
		return p.unexpectedState("You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed.")
	case canceled:
		return p.unexpectedState("You cannot confirm this PaymentIntent because it has a status of canceled. Only a PaymentIntent with one of the following statuses may be confirmed: requires_confirmation, requires_action.")
	}
	if !hasMethod && p.PaymentMethod == nil {
		return p.unexpectedState("You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment method or ConfirmationToken.")
	}
	if p.AutomaticPaymentMethods != nil && p.AutomaticPaymentMethods.AllowRedirects != "never" && returnURL == "" {
		return invalid("return_url", "", "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because some of these payment methods might redirect your customer off of your page, you must provide a `return_url`. If you don't want to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to `true` and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment Intents.")
	}
	return nil
}

// requireChallenge parks the intent until the customer has passed 3-D Secure. If the client has sent where the browser is to
// come back, the customer is sent to a page of the sandbox, which is at publicURL. (Otherwise Stripe.js shows the bank's page.
// The sandbox does not have the parameter use_stripe_sdk, with which Stripe.js does so in any case.)
func (p *paymentIntent) requireChallenge(method *paymentMethod, publicURL, returnURL string) {
	p.Status = requiresAction
	p.PaymentMethod = &method.ID
	p.LastPaymentError = nil
	p.NextAction = map[string]any{
		"type":           "use_stripe_sdk",
		"use_stripe_sdk": map[string]any{"type": "three_d_secure_redirect", "stripe_js": "https://hooks.stripe.com/3d_secure_2/" + p.ID},
	}
	p.Challenge = nil
	if returnURL != "" {
		p.Challenge = &challenge{Token: newID(""), ReturnURL: returnURL}
		p.NextAction = map[string]any{
			"type":            "redirect_to_url",
			"redirect_to_url": map[string]any{"url": publicURL + p.Challenge.path(p), "return_url": returnURL},
		}
	}
}

// authorize takes the bank's agreement: the money is held, or with automatic capture taken at once.
func (p *paymentIntent) authorize(method *paymentMethod, ch *charge) {
	p.PaymentMethod, p.LatestCharge = &method.ID, &ch.ID
	p.LastPaymentError, p.NextAction = nil, nil
	if p.CaptureMethod == "manual" {
		p.Status = requiresCapture
		p.AmountCapturable = p.Amount
		return
	}
	p.Status = succeeded
	p.AmountReceived = p.Amount
	ch.Captured, ch.AmountCaptured, ch.CapturedAt = true, p.Amount, new(time.Now().UTC())
}

// refuse takes the bank's refusal: the intent waits for another card.
func (p *paymentIntent) refuse(reason errorObject, ch *charge) {
	p.Status = requiresPaymentMethod
	p.PaymentMethod, p.NextAction = nil, nil
	p.LastPaymentError = &reason
	if ch != nil {
		p.LatestCharge = &ch.ID
	}
}

// capture takes the held money, or a part of it and releases the rest.
func (p *paymentIntent) capture(ch *charge, amount int64) *apiError {
	if p.Status == succeeded {
		return p.unexpectedState("This PaymentIntent could not be captured because it has already been captured.")
	}
	if p.Status != requiresCapture {
		return p.unexpectedState(fmt.Sprintf("This PaymentIntent could not be captured because it has a status of %s. Only a PaymentIntent with one of the following statuses may be captured: requires_capture.", p.Status))
	}
	if amount > p.AmountCapturable {
		return invalid("amount_to_capture", "amount_too_large", fmt.Sprintf("The requested capture amount is greater than the amount you can capture for this PaymentIntent. Your requested amount was %d and the capturable amount is %d.", amount, p.AmountCapturable))
	}
	ch.Captured, ch.AmountCaptured, ch.AmountRefunded, ch.CapturedAt = true, amount, ch.Amount-amount, new(time.Now().UTC())
	p.Status = succeeded
	p.AmountCapturable, p.AmountReceived = 0, amount
	return nil
}

// cancel ends the intent; held money is released. ch is the charge that holds it, nil if none does.
func (p *paymentIntent) cancel(ch *charge, reason string, now time.Time) *apiError {
	cancelable := []string{requiresPaymentMethod, requiresCapture, requiresConfirmation, requiresAction}
	if !slices.Contains(cancelable, p.Status) {
		return p.unexpectedState(fmt.Sprintf("You cannot cancel this PaymentIntent because it has a status of %s. Only a PaymentIntent with one of the following statuses may be canceled: %s.", p.Status, strings.Join(cancelable, ", ")))
	}
	if p.Status == requiresCapture {
		ch.Refunded, ch.AmountRefunded = true, ch.Amount
	}
	at := now.Unix()
	p.Status, p.CanceledAt = canceled, &at
	if reason != "" {
		p.CancellationReason = &reason
	}
	p.AmountCapturable, p.NextAction = 0, nil
	return nil
}

// authorizationLife is how long a bank keeps an online payment's money for who does not capture it
// (https://docs.stripe.com/payments/place-a-hold-on-a-payment-method).
const authorizationLife = 7 * 24 * time.Hour

// lapsed reports whether the authorization that ch holds has ended by itself.
func (p *paymentIntent) lapsed(ch *charge, now time.Time) bool {
	return p.Status == requiresCapture && !now.Before(time.Unix(ch.Created, 0).Add(authorizationLife))
}

// giveBack records a refund of captured money. refundable reports whether the charge's disputes, if it has any, allow one.
func (ch *charge) giveBack(amount int64, refundable bool) *apiError {
	left := ch.AmountCaptured - (ch.AmountRefunded - ch.released())
	switch {
	case ch.Disputed && !refundable:
		return invalid("", "charge_disputed", fmt.Sprintf("Charge %s has been charged back; cannot issue a refund.", ch.ID))
	case !ch.Paid || !ch.Captured:
		return invalid("", "", fmt.Sprintf("This charge (%s) has not been captured, so there is nothing to refund.", ch.ID))
	case left == 0:
		return invalid("", "charge_already_refunded", fmt.Sprintf("Charge %s has already been refunded.", ch.ID))
	case amount > left:
		return invalid("amount", "", fmt.Sprintf("Refund amount (%d) is greater than unrefunded amount on charge (%d).", amount, left))
	}
	ch.AmountRefunded += amount
	ch.Refunded = amount == left
	return nil
}

// released is the part of a captured charge that was never taken: Stripe counts it as refunded.
func (ch *charge) released() int64 {
	if !ch.Captured {
		return 0
	}
	return ch.Amount - ch.AmountCaptured
}

// unexpectedState is Stripe's answer to a call that the intent's state does not allow; it carries the intent.
func (p *paymentIntent) unexpectedState(message string) *apiError {
	now := *p
	return &apiError{status: 400, saved: true, errorObject: errorObject{
		Type: "invalid_request_error", Code: "payment_intent_unexpected_state", Message: message, PaymentIntent: &now,
	}}
}
