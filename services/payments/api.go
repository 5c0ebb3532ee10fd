package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/webhook"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

// api is this service's REST API: two calls for signed-in buyers, and one for Stripe, which signs instead.
type api struct {
	store *store
	// webhookSecret is what Stripe signs webhooks with; without one there are no webhooks.
	webhookSecret string
}

func (a *api) routes(app *fiber.App, signedIn fiber.Handler) {
	app.Post("/api/payments/webhook", a.webhook)
	app.Post("/api/payments", signedIn, a.pay)
	app.Get("/api/payments/:id", signedIn, a.show)
}

// paymentAnswer is a payment as clients see it. ClientSecret is for Stripe's frontend, to take the buyer through
// 3-D Secure; it is there while that is wanted.
type paymentAnswer struct {
	ID           string `json:"id"`
	OrderID      string `json:"orderId"`
	StripeID     string `json:"stripeId"`
	Status       Status `json:"status"`
	Amount       int64  `json:"amount"`
	Currency     string `json:"currency"`
	DeclineCode  string `json:"declineCode,omitempty"`
	ClientSecret string `json:"clientSecret,omitempty"`
	// Refunded is how much was given back so far. RefundFailed says that some of it came back, because the bank could not
	// take it. Dispute is what the buyer has complained about at the bank.
	Refunded     int64     `json:"refunded,omitempty"`
	RefundFailed bool      `json:"refundFailed,omitempty"`
	Dispute      Dispute   `json:"dispute,omitzero"`
	CreatedAt    time.Time `json:"createdAt"`
	UpdatedAt    time.Time `json:"updatedAt"`
}

func answer(r Receipt) paymentAnswer {
	p := r.Payment
	out := paymentAnswer{
		ID: p.ID, OrderID: p.OrderID, StripeID: p.StripeID, Status: p.Status, Amount: p.Amount, Currency: p.Currency,
		DeclineCode: shownDecline(p.DeclineCode), Refunded: p.Refunded, RefundFailed: p.RefundFailed, Dispute: p.Dispute,
		CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
	}
	if p.Status == RequiresAction {
		out.ClientSecret = r.Intent.ClientSecret
	}
	return out
}

func location(p Payment) string { return "/api/payments/" + p.ID }

// payRequest is what a buyer sends: an order, and a card as Stripe's frontend names it. An amount is not asked
// for: it is the order's.
type payRequest struct {
	OrderID       string `json:"orderId" validate:"required,uuid"`
	PaymentMethod string `json:"paymentMethod" validate:"required_without=Token,max=255"`
	Token         string `json:"token" validate:"max=255"`
}

func (a *api) pay(c *fiber.Ctx) error {
	request, err := rest.Decode[payRequest](c)
	if err != nil {
		return err
	}
	if request.PaymentMethod != "" && request.Token != "" {
		return problem.New(problem.Invalid, "Send a payment method or a token, not both.").WithField("token").WithCode("excluded_with")
	}
	buyer, _ := identity.UserOf(c)
	once, err := idempotency.Of(c, id.User(buyer.ID))
	if err != nil {
		return err
	}
	ctx := rest.Context(c)
	before, err := once.Find(ctx, a.store.documents)
	if err != nil {
		return err
	}
	if before != nil {
		return a.again(c, before)
	}
	method := Method{PaymentMethod: request.PaymentMethod, Token: request.Token}
	receipt, err := a.store.Pay(ctx, strings.ToLower(request.OrderID), buyer.ID, method, func(ctx context.Context, change *state.Change, r Receipt, again bool) (err error) {
		if again {
			if before, err = once.Find(ctx, a.store.documents); before != nil || err != nil {
				return err
			}
		}
		// What is kept is without the client secret.
		return once.Keep(change, idempotency.Response{Status: paidStatus(r), Location: location(r.Payment), Body: answer(Receipt{Payment: r.Payment})})
	})
	if err != nil {
		return err
	}
	if before != nil {
		return a.again(c, before)
	}
	c.Location(location(receipt.Payment))
	return c.Status(paidStatus(receipt)).JSON(answer(receipt))
}

// paidStatus is 201 for the wish that led to the payment, 200 for one that found it.
func paidStatus(r Receipt) int {
	if r.Fresh {
		return fiber.StatusCreated
	}
	return fiber.StatusOK
}

// again answers as before. The client secret is not kept; Stripe is asked for it.
func (a *api) again(c *fiber.Ctx, before *idempotency.Response) error {
	var body paymentAnswer
	if err := before.Decode(&body); err != nil {
		return err
	}
	if body.Status != RequiresAction {
		return before.Send(c)
	}
	intent, err := a.store.refreshes.get(rest.Context(c), a.store.stripe, body.StripeID)
	if err != nil {
		return err
	}
	body.ClientSecret = intent.ClientSecret
	before.Body = body
	return before.Send(c)
}

func (a *api) show(c *fiber.Ctx) error {
	id, err := rest.PathID[string](c, "id")
	if err != nil {
		return err
	}
	buyer, _ := identity.UserOf(c)
	receipt, err := a.store.Payment(rest.Context(c), id, buyer.ID)
	if err != nil {
		return err
	}
	return c.JSON(answer(receipt))
}

var (
	errNoWebhookSecret = problem.New(problem.Unavailable, "Webhooks are not taken: this service has no webhook secret (STRIPE_WEBHOOK_SECRET).").
				WithCode("webhooks_off").WithRetryAfter(time.Minute)
	errNotSigned = problem.New(problem.Invalid, "The Stripe-Signature header does not fit this body.").
			WithField("Stripe-Signature").WithCode("signature_invalid")
)

// webhook takes what Stripe tells. It is believed only if it is signed, and then only as a hint at what may have changed.
// An answer other than 2xx makes Stripe tell it again.
func (a *api) webhook(c *fiber.Ctx) error {
	if a.webhookSecret == "" {
		return errNoWebhookSecret
	}
	// The account's webhooks may be of another API version than the client's: of the body only what tells an intent and
	// its state is read, which is the same in all.
	event, err := webhook.ConstructEventWithOptions(c.BodyRaw(), c.Get("Stripe-Signature"), a.webhookSecret, webhook.ConstructEventOptions{
		Tolerance: webhook.DefaultTolerance, IgnoreAPIVersionMismatch: true,
	})
	if err != nil {
		return errNotSigned.Because(err)
	}
	rest.Annotate(c, slog.String("stripeEvent", event.ID), slog.String("stripeEventType", string(event.Type)))
	var reported notice
	if event.Data != nil {
		reported = noticeIn(event.Data.Raw)
	}
	known := false
	if reported.intent.ID != "" {
		if known, err = a.store.HandleNotice(rest.Context(c), reported); err != nil {
			return fmt.Errorf("webhook %s of payment intent %s: %w", event.Type, reported.intent.ID, err)
		}
	}
	return c.JSON(fiber.Map{"received": true, "known": known})
}

// noticeIn reads what an event's object says of the PaymentIntent that it is or belongs to. The zero notice is that of
// an object that belongs to none.
func noticeIn(object json.RawMessage) notice {
	var it struct {
		ID            string            `json:"id"`
		Object        string            `json:"object"`
		PaymentIntent json.RawMessage   `json:"payment_intent"`
		Metadata      map[string]string `json:"metadata"`
	}
	if json.Unmarshal(object, &it) != nil {
		return notice{}
	}
	reported := notice{orderID: it.Metadata[metadataOrder]}
	switch it.Object {
	case "payment_intent":
		var intent stripe.PaymentIntent
		if reported.intent = (Intent{ID: it.ID, Status: Unknown}); json.Unmarshal(object, &intent) == nil && slices.Contains(statusesAtStripe, intent.Status) {
			reported.intent = intentOf(&intent)
		}
		return reported
	case "charge":
		var charge stripe.Charge
		if json.Unmarshal(object, &charge) == nil {
			reported.intent = intentOfCharge(&charge)
		}
	case "refund":
		var refund stripe.Refund
		reported.ask, reported.intent.Status = true, Unknown
		if json.Unmarshal(object, &refund) == nil && refund.Status == stripe.RefundStatusSucceeded { // a payment that is refunded knows of it
			reported.intent.Status = Refunded
		}
	case "dispute":
		reported.ask, reported.intent.Status = true, Unknown
	default:
		reported.intent.Status = Unknown
	}
	if json.Unmarshal(it.PaymentIntent, &reported.intent.ID) != nil { // expanded, or not there
		return notice{}
	}
	return reported
}
