package main

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
)

// api is this service's REST API: three calls for signed-in buyers, and one for Stripe, which signs its requests.
type api struct {
	store *store
	// webhookSecret is what Stripe signs webhooks with. Without one, webhooks are refused.
	webhookSecret string
}

func (a *api) register(app *fiber.App, signedIn fiber.Handler) {
	app.Post("/api/payments/webhook", a.webhook)
	app.Post("/api/payments", signedIn, a.pay)
	app.Get("/api/payments", signedIn, a.ofOrder)
	app.Get("/api/payments/:id", signedIn, a.get)
}

// paymentResponse is a payment as clients see it. ClientSecret and RedirectURL are there while the bank waits for 3-D Secure:
// Stripe's frontend needs the first, a browser goes to the second. RedirectURL needs a return URL in the request to pay.
type paymentResponse struct {
	ID           id.Payment    `json:"id"`
	OrderID      id.Order      `json:"orderId"`
	StripeID     string        `json:"stripeId"`
	Status       domain.Status `json:"status"`
	Amount       int64         `json:"amount"`
	Currency     string        `json:"currency"`
	DeclineCode  string        `json:"declineCode,omitempty"`
	ClientSecret string        `json:"clientSecret,omitempty"`
	RedirectURL  string        `json:"redirectUrl,omitempty"`
	// Refunded is what was given back so far. RefundFailed means that a refund did not reach the buyer. Dispute is the buyer's
	// complaint at the bank.
	Refunded     int64           `json:"refunded,omitempty"`
	RefundFailed bool            `json:"refundFailed,omitempty"`
	Dispute      disputeResponse `json:"dispute,omitzero"`
	CreatedAt    clock.Timestamp `json:"createdAt"`
	UpdatedAt    clock.Timestamp `json:"updatedAt"`
}

type disputeResponse struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
	Amount int64  `json:"amount"`
}

func (r Receipt) body() paymentResponse {
	p := r.Payment
	body := paymentResponse{
		ID: p.ID, OrderID: p.OrderID, StripeID: p.StripeID, Status: p.Status, Amount: p.Amount, Currency: p.Currency,
		DeclineCode: domain.ShownDecline(p.DeclineCode), Refunded: p.Refunded, RefundFailed: p.RefundFailed, Dispute: disputeResponse(p.Dispute),
		CreatedAt: clock.Stamp(p.CreatedAt), UpdatedAt: clock.Stamp(p.UpdatedAt),
	}
	if p.Status == domain.RequiresAction {
		body.ClientSecret, body.RedirectURL = r.Intent.ClientSecret, r.Intent.RedirectURL
	}
	return body
}

// response is 201 for the request that has made the payment, 200 for one that has found it.
func (r Receipt) response() idempotency.Response {
	status := fiber.StatusOK
	if r.Fresh {
		status = fiber.StatusCreated
	}
	return idempotency.Response{Status: status, Location: "/api/payments/" + string(r.Payment.ID), Body: r.body()}
}

// stored is the response that is stored for an idempotency key. It has neither the client secret nor the redirect URL.
func (r Receipt) stored() idempotency.Response {
	r.Intent = domain.Intent{}
	return r.response()
}

// payRequest names an order and a card; the card as Stripe's frontend names it. The amount is the order's. ReturnURL is where the
// buyer's browser comes back to, if the bank asks for 3-D Secure.
type payRequest struct {
	OrderID       string `json:"orderId" validate:"required,uuid"`
	PaymentMethod string `json:"paymentMethod" validate:"required_without=Token,max=255"`
	Token         string `json:"token" validate:"max=255"`
	ReturnURL     string `json:"returnUrl" validate:"max=500"`
}

func parseOrderID(text string) (id.Order, error) {
	order, err := id.Parse[id.Order](text)
	if err != nil {
		return "", problem.New(problem.Invalid, "uuid", "This must be the id of an order.").WithField("orderId").Because(err)
	}
	return order, nil
}

// parseReturnURL returns an address that a browser can be sent to, or "" if the request has none.
func parseReturnURL(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	to, err := url.Parse(text)
	if err != nil || to.Host == "" || !strings.HasPrefix(text, "http://") && !strings.HasPrefix(text, "https://") {
		return "", problem.New(problem.Invalid, "invalid", "Return url must be an absolute address that begins with http:// or https://.").WithField("returnUrl").Because(err)
	}
	return text, nil
}

func (a *api) pay(c *fiber.Ctx) error {
	body, err := rest.Decode[payRequest](c)
	if err != nil {
		return err
	}
	if body.PaymentMethod != "" && body.Token != "" {
		return problem.New(problem.Invalid, "excluded_with", "Send a payment method or a token, not both.").WithField("token")
	}
	order, err := parseOrderID(body.OrderID)
	if err != nil {
		return err
	}
	returnURL, err := parseReturnURL(body.ReturnURL)
	if err != nil {
		return err
	}
	buyer := identity.UserIDOf(c)
	request, err := idempotency.Of(c, buyer)
	if err != nil {
		return err
	}
	card := domain.Method{PaymentMethod: body.PaymentMethod, Token: body.Token, ReturnURL: returnURL}
	receipt, replayed, err := a.store.Pay(rest.Context(c), order, buyer, card, request)
	if err != nil {
		return err
	}
	if replayed != nil {
		return a.replay(c, *replayed)
	}
	return receipt.response().Send(c)
}

// replay sends a stored response again, with the client secret and the redirect URL, which are not stored and are read from Stripe.
func (a *api) replay(c *fiber.Ctx, response idempotency.Response) error {
	var body paymentResponse
	if err := response.Decode(&body); err != nil {
		return err
	}
	if body.Status != domain.RequiresAction {
		return response.Send(c)
	}
	intent, err := a.store.refreshes.get(rest.Context(c), a.store.stripe, body.StripeID)
	if err != nil {
		return err
	}
	body.ClientSecret, body.RedirectURL = intent.ClientSecret, intent.RedirectURL
	response.Body = body
	return response.Send(c)
}

// ofOrder responds with the payment of the order in the query, as a list of one or none.
func (a *api) ofOrder(c *fiber.Ctx) error {
	text := c.Query("orderId")
	if text == "" {
		return problem.New(problem.Invalid, "required", "Name an order: /api/payments?orderId=...").WithField("orderId")
	}
	order, err := parseOrderID(text)
	if err != nil {
		return err
	}
	receipt, found, err := a.store.PaymentOf(rest.Context(c), order, identity.UserIDOf(c))
	if err != nil {
		return err
	}
	payments := []paymentResponse{}
	if found {
		payments = append(payments, receipt.body())
	}
	return c.JSON(payments)
}

func (a *api) get(c *fiber.Ctx) error {
	payment, err := rest.PathID[id.Payment](c, "id")
	if err != nil {
		return err
	}
	receipt, err := a.store.Payment(rest.Context(c), payment, identity.UserIDOf(c))
	if err != nil {
		return err
	}
	return c.JSON(receipt.body())
}

var (
	errNoWebhookSecret = problem.New(problem.Unavailable, "webhooks_off", "Webhooks are not taken: this service has no webhook secret (STRIPE_WEBHOOK_SECRET).").WithRetryAfter(time.Minute)
	errNotSigned       = problem.New(problem.Invalid, "signature_invalid", "The Stripe-Signature header does not fit this body.").
				WithField("Stripe-Signature")
)

// webhook handles a webhook of Stripe. It is accepted only if it is signed, and it is only a hint: the intent is read from
// Stripe. After a response other than 2xx, Stripe sends the webhook again.
func (a *api) webhook(c *fiber.Ctx) error {
	if a.webhookSecret == "" {
		return errNoWebhookSecret
	}
	event, err := stripe.ReadWebhook(c.BodyRaw(), c.Get("Stripe-Signature"), a.webhookSecret)
	if err != nil {
		return errNotSigned.Because(err)
	}
	rest.Annotate(c, slog.String("stripeEvent", event.ID), slog.String("stripeEventType", event.Type))
	known := false
	if event.Notice.Intent.ID != "" {
		if known, err = a.store.HandleNotice(rest.Context(c), event.Notice); err != nil {
			return fmt.Errorf("webhook %s of payment intent %s: %w", event.Type, event.Notice.Intent.ID, err)
		}
	}
	return c.JSON(fiber.Map{"received": true, "known": known})
}
