// Package stripe is the client for Stripe, or for the sandbox, which has the same API. It sends requests under idempotency keys
// and maps Stripe's responses, webhooks and errors to this service's terms. It does not read or write documents.
package stripe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/charge"
	"github.com/stripe/stripe-go/v76/dispute"
	"github.com/stripe/stripe-go/v76/event"
	"github.com/stripe/stripe-go/v76/paymentintent"
	"github.com/stripe/stripe-go/v76/paymentmethod"
	"github.com/stripe/stripe-go/v76/refund"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/payments/domain"
)

// clockSkew is how far Stripe's clock may be behind this machine's.
const clockSkew = 5 * time.Minute

// Client sends requests to Stripe. Every operation may be repeated: it has an idempotency key, and the state of an intent
// allows each step once.
//
// Errors are problems: Invalid if Stripe does not know the card or refuses the amount, Unavailable if it cannot be reached or
// asks to wait. Any other error is a fault of this service. A declined card is no error: the intent's status is Failed.
type Client struct {
	paymentIntents paymentintent.Client
	charges        charge.Client
	methods        paymentmethod.Client
	refunds        refund.Client
	disputes       dispute.Client
	events         event.Client
	clock          clock.Clock
	// Origin marks the intents that this client makes.
	Origin string
}

// Options configure a Client.
type Options struct {
	Key     string        // the account's secret key
	URL     string        // "" for Stripe's
	Timeout time.Duration // of one request
	// Origin is in the metadata of each intent that the client makes: other systems may use the same account.
	Origin string
	Clock  clock.Clock
	Log    *slog.Logger
	// Retries is how often a request is repeated whose connection failed. The idempotency key makes that safe.
	Retries int64
}

// New makes a client.
func New(opts Options) *Client {
	config := &stripego.BackendConfig{
		EnableTelemetry:   stripego.Bool(false),
		HTTPClient:        &http.Client{Timeout: opts.Timeout, Transport: transport()},
		LeveledLogger:     logger{opts.Log},
		MaxNetworkRetries: stripego.Int64(opts.Retries),
	}
	if opts.URL != "" {
		config.URL = stripego.String(opts.URL)
	}
	backend := stripego.GetBackendWithConfig(stripego.APIBackend, config)
	return &Client{
		paymentIntents: paymentintent.Client{B: backend, Key: opts.Key},
		charges:        charge.Client{B: backend, Key: opts.Key},
		methods:        paymentmethod.Client{B: backend, Key: opts.Key},
		refunds:        refund.Client{B: backend, Key: opts.Key},
		disputes:       dispute.Client{B: backend, Key: opts.Key},
		events:         event.Client{B: backend, Key: opts.Key},
		clock:          opts.Clock,
		Origin:         opts.Origin,
	}
}

// transport keeps idle connections for many simultaneous payments. With Go's default of two for a host, most payments would
// wait for a new connection.
func transport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	return transport
}

// Authorize makes an attempt to pay an order that has no intent yet: one request creates the intent and confirms it with the
// card. The result is as that of Confirm. A repeated attempt is the same request under the same key, and has the same intent
// as its result. The error is ErrKeyTaken if Find has ended the attempt.
//
// Only the attempt's own key is used to create and confirm in one request. If Stripe answers with a 500, and keeps that
// response under the key for a day, the order's intents are searched; if there is none, an empty one is created and confirmed.
func (c *Client) Authorize(ctx context.Context, order *domain.Order, attempt domain.Attempt, method domain.Method) (domain.Intent, error) {
	key := attemptKey(order.ID, attempt.Number)
	card, err := c.card(ctx, key, method)
	if err != nil {
		return domain.Intent{}, err
	}
	what := "authorize the payment of order " + string(order.ID)
	create := request(func(key string) (domain.Intent, http.Header, error) {
		return c.createIntent(ctx, order, key, card, method.ReturnURL)
	})
	intent, header, err := create.twice(key)
	switch {
	case isKeyTaken(err):
		return domain.Intent{}, fmt.Errorf("%s: %w", what, ErrKeyTaken)
	case isServerError(err) && isReplayed(header):
		if intent, err = c.search(ctx, order.ID, attempt.At); err != nil {
			return domain.Intent{}, err
		}
		if intent.ID == "" {
			intent, err = c.send(key+"/create", what, func(key string) (domain.Intent, http.Header, error) { return c.createIntent(ctx, order, key, "", "") })
			if err != nil {
				return domain.Intent{}, err
			}
		}
		if intent.Status == domain.Pending {
			return c.confirmIntent(ctx, intent.ID, key, card, method.ReturnURL)
		}
		return intent, nil
	case err != nil:
		return domain.Intent{}, problemOf(err, what)
	case isReplayed(header):
		return c.Get(ctx, intent.ID)
	}
	return intent, nil
}

// Find finds the intent of an attempt by Authorize whose outcome is not known, and ends the attempt: it cannot create another
// intent later. The result is the zero Intent if there is none.
//
// It asks for an empty intent under the attempt's own key. If Stripe has not had the attempt's request, it creates that
// intent, and refuses the request if it still arrives, because its key is taken. If Stripe has had the request, it refuses
// this one, and the intent is searched.
func (c *Client) Find(ctx context.Context, order *domain.Order, attempt domain.Attempt) (domain.Intent, error) {
	if c.clock().Sub(attempt.At) >= domain.KeyLife {
		return c.search(ctx, order.ID, attempt.At)
	}
	intent, header, err := c.createIntent(ctx, order, attemptKey(order.ID, attempt.Number), "", "")
	switch err := problemOf(err, "find the payment of order "+string(order.ID)); {
	case isKeyTaken(err), isServerError(err) && isReplayed(header):
		return c.search(ctx, order.ID, attempt.At)
	case problem.KindOf(err) == problem.Invalid: // Stripe refuses every request with this order's price
		return domain.Intent{}, nil
	case err != nil:
		return domain.Intent{}, err
	case isReplayed(header):
		return c.Get(ctx, intent.ID)
	}
	return intent, nil
}

// search finds an order's intent among all that were made since a time, canceled ones included. An order has one intent. If
// there are more, the one of the highest rank is taken, and the others are ended.
func (c *Client) search(ctx context.Context, orderID id.Order, since time.Time) (domain.Intent, error) {
	what := "search the payment intents of order " + string(orderID)
	params := &stripego.PaymentIntentListParams{
		ListParams:   stripego.ListParams{Context: ctx, Limit: stripego.Int64(pageLength)},
		CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: since.Add(-clockSkew).Unix()},
	}
	var notCanceled []string
	best, bestRank := "", -1
	list := c.paymentIntents.List(params)
	for list.Next() {
		intent := list.PaymentIntent()
		if intent.Metadata[metadataOrder] != string(orderID) {
			continue
		}
		if intent.Status != stripego.PaymentIntentStatusCanceled {
			notCanceled = append(notCanceled, intent.ID)
		}
		if rank := slices.Index(intentStatuses, intent.Status); rank >= bestRank { // of equals the oldest, which is listed last
			best, bestRank = intent.ID, rank
		}
	}
	if err := list.Err(); err != nil {
		return domain.Intent{}, problemOf(err, what)
	}
	for _, intent := range notCanceled {
		if intent == best {
			continue
		}
		if err := c.EndIntent(ctx, intent); err != nil {
			return domain.Intent{}, err
		}
	}
	if best == "" {
		return domain.Intent{}, nil
	}
	return c.Get(ctx, best)
}

// EndIntent ends an intent that is not the payment of its order, and gives back its money. It is no error if there is no such
// intent.
func (c *Client) EndIntent(ctx context.Context, stripeID string) error {
	intent, err := c.cancelIntent(ctx, stripeID, "intent/"+stripeID+"/void")
	if isNotFound(err) {
		return nil
	}
	if err == nil && intent.Status == domain.Captured {
		err = c.refundIntent(ctx, stripeID, "intent/"+stripeID+"/refund", nil)
	}
	return err
}

// createIntent creates an intent for an order, and confirms it if there is a card. An intent that is not confirmed holds no money,
// and cannot get any without this service.
func (c *Client) createIntent(ctx context.Context, order *domain.Order, key, card, returnURL string) (domain.Intent, http.Header, error) {
	params := &stripego.PaymentIntentParams{
		Params:             stripego.Params{Context: ctx, IdempotencyKey: &key},
		Amount:             stripego.Int64(order.Amount),
		Currency:           stripego.String(order.Currency),
		CaptureMethod:      stripego.String(string(stripego.PaymentIntentCaptureMethodManual)),
		PaymentMethodTypes: stripego.StringSlice([]string{string(stripego.PaymentMethodTypeCard)}),
		Metadata:           metadata(order.ID, order.UserID),
	}
	if c.Origin != "" {
		params.Metadata[metadataOrigin] = c.Origin
	}
	if card != "" {
		params.Confirm, params.PaymentMethod = stripego.Bool(true), stripego.String(card)
		params.ReturnURL = optional(returnURL)
	}
	return result(c.paymentIntents.New(params))
}

// Confirm makes the payment's attempt of this number with a card, on the payment's intent. The result's status is Authorized,
// RequiresAction or Failed; or another one, if the intent has changed without this attempt.
func (c *Client) Confirm(ctx context.Context, p *domain.Payment, number int, method domain.Method) (domain.Intent, error) {
	key := attemptKey(p.OrderID, number)
	card, err := c.card(ctx, key, method)
	if err != nil {
		return domain.Intent{}, err
	}
	return c.confirmIntent(ctx, p.StripeID, key, card, method.ReturnURL)
}

// optional is a parameter that is sent if it is not empty.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return stripego.String(text)
}

func (c *Client) confirmIntent(ctx context.Context, stripeID, attempt, card, returnURL string) (domain.Intent, error) {
	return c.sendForIntent(ctx, stripeID, attempt+"/confirm", "confirm payment intent "+stripeID, func(key string) (domain.Intent, http.Header, error) {
		params := &stripego.PaymentIntentConfirmParams{
			Params:        stripego.Params{Context: ctx, IdempotencyKey: &key},
			PaymentMethod: stripego.String(card),
			ReturnURL:     optional(returnURL),
		}
		params.AddExpand("latest_charge")
		return result(c.paymentIntents.Confirm(stripeID, params))
	})
}

// card is the id of the payment method. One is created from a token, which can be used once. That is a request of its own: no
// request of Stripe's API that creates or confirms an intent takes a token.
func (c *Client) card(ctx context.Context, attempt string, method domain.Method) (string, error) {
	if method.Token == "" {
		return method.PaymentMethod, nil
	}
	made, err := c.send(attempt+"/method", "make a payment method of a token", func(key string) (domain.Intent, http.Header, error) {
		made, err := c.methods.New(&stripego.PaymentMethodParams{
			Params: stripego.Params{Context: ctx, IdempotencyKey: &key},
			Type:   stripego.String(string(stripego.PaymentMethodTypeCard)),
			Card:   &stripego.PaymentMethodCardParams{Token: stripego.String(method.Token)},
		})
		if err != nil {
			return domain.Intent{}, headerOf(err), err
		}
		return domain.Intent{ID: made.ID}, made.LastResponse.Header, nil
	})
	return made.ID, err
}

// Get reads the intent as it is now, with its refunds and disputes, and the number of declines if another card can be tried.
// That takes further requests only if there are refunds, disputes or declines.
func (c *Client) Get(ctx context.Context, stripeID string) (domain.Intent, error) {
	return c.getIntent(ctx, stripeID, false)
}

// getIntent is Get; with refunded, there is a refund, also if the charge does not show it.
func (c *Client) getIntent(ctx context.Context, stripeID string, refunded bool) (domain.Intent, error) {
	params := &stripego.PaymentIntentParams{Params: stripego.Params{Context: ctx}}
	params.AddExpand("latest_charge")
	found, err := c.paymentIntents.Get(stripeID, params)
	if err != nil {
		return domain.Intent{}, problemOf(err, "get payment intent "+stripeID)
	}
	return c.complete(ctx, found, refunded)
}

// complete adds to an intent, whose charge is expanded, its refunds and disputes. Refunds are listed: the charge does not show
// one that has failed.
func (c *Client) complete(ctx context.Context, from *stripego.PaymentIntent, refunded bool) (domain.Intent, error) {
	intent, charge := intentOf(from), from.LatestCharge
	intent.Complete = true
	if charge != nil && intent.Status.Open() {
		var err error
		intent.Declines, err = c.declines(ctx, from.ID)
		return intent, err
	}
	if charge == nil || !charge.Captured || !charge.Disputed && charge.AmountRefunded == 0 && !refunded {
		return intent, nil
	}
	given := int64(0)
	refunds := c.refunds.List(&stripego.RefundListParams{ListParams: stripego.ListParams{Context: ctx, Limit: stripego.Int64(pageLength)}, PaymentIntent: &from.ID})
	for refunds.Next() {
		switch one := refunds.Refund(); one.Status {
		case stripego.RefundStatusFailed, stripego.RefundStatusCanceled:
			intent.RefundFailed = true
		default:
			given += one.Amount
		}
	}
	if err := refunds.Err(); err != nil {
		return domain.Intent{}, problemOf(err, "list the refunds of payment intent "+from.ID)
	}
	if charge.Disputed {
		disputes := c.disputes.List(&stripego.DisputeListParams{ListParams: stripego.ListParams{Context: ctx, Limit: stripego.Int64(pageLength)}, PaymentIntent: &from.ID})
		for first := true; disputes.Next(); first = false {
			dispute := disputeOf(disputes.Dispute())
			if first { // the newest is listed first
				intent.Dispute = dispute
			}
			if dispute.Lost() {
				given += dispute.Amount
			}
		}
		if err := disputes.Err(); err != nil {
			return domain.Intent{}, problemOf(err, "list the disputes of payment intent "+from.ID)
		}
	}
	intent.Refunded, intent.Status = given, domain.Captured
	if given > 0 && given >= charge.AmountCaptured {
		intent.Status = domain.Refunded
	}
	intent.RefundFailed = intent.RefundFailed && intent.Status == domain.Captured
	return intent, nil
}

// declines is the number of failed charges of an intent.
func (c *Client) declines(ctx context.Context, stripeID string) (n int, err error) {
	charges := c.charges.List(&stripego.ChargeListParams{ListParams: stripego.ListParams{Context: ctx, Limit: stripego.Int64(pageLength)}, PaymentIntent: &stripeID})
	for charges.Next() {
		if charges.Charge().Status == stripego.ChargeStatusFailed {
			n++
		}
	}
	return n, problemOf(charges.Err(), "list the charges of payment intent "+stripeID)
}

// Listed is an intent as Stripe lists it, with the order and user of its metadata.
type Listed struct {
	domain.Intent
	OrderID   id.Order
	UserID    id.User
	Origin    string
	Amount    int64
	Currency  string
	CreatedAt time.Time
}

// Lookup reads an intent with its metadata. It returns the zero value for one that does not exist.
func (c *Client) Lookup(ctx context.Context, stripeID string) (Listed, error) {
	found, err := c.paymentIntents.Get(stripeID, &stripego.PaymentIntentParams{Params: stripego.Params{Context: ctx}})
	if isNotFound(err) {
		return Listed{}, nil
	}
	if err != nil {
		return Listed{}, problemOf(err, "get the order of payment intent "+stripeID)
	}
	return listedOf(found), nil
}

// pageLength is the size of a page of a list; Stripe allows no more.
const pageLength = 100

// Intents lists the intents since a time that have an order, the newest first, and calls each with a page at a time. What was
// refunded is as the charge shows it.
func (c *Client) Intents(ctx context.Context, since time.Time, each func([]Listed) error) error {
	params := &stripego.PaymentIntentListParams{
		ListParams:   stripego.ListParams{Context: ctx, Limit: stripego.Int64(pageLength)},
		CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
	}
	params.AddExpand("data.latest_charge")
	list := c.paymentIntents.List(params)
	return inPages(func() (one Listed, more bool, err error) {
		for list.Next() {
			if one = listedOf(list.PaymentIntent()); one.OrderID != "" {
				return one, true, nil
			}
		}
		return Listed{}, false, problemOf(list.Err(), "list the payment intents")
	}, each)
}

// reversalEvents are the types of Stripe's events about refunds and disputes, which may happen long after the intent was
// made.
var reversalEvents = []string{"charge.refunded", "charge.refund.updated", "charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"}

// Reversals lists Stripe's events about refunds and disputes since a time, and calls each with a page at a time. Stripe keeps
// events for 30 days, whether their webhooks were delivered or not.
func (c *Client) Reversals(ctx context.Context, since time.Time, each func([]Notice) error) error {
	list := c.events.List(&stripego.EventListParams{
		ListParams:   stripego.ListParams{Context: ctx, Limit: stripego.Int64(pageLength)},
		CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
		Types:        stripego.StringSlice(reversalEvents),
	})
	return inPages(func() (one Notice, more bool, err error) {
		for list.Next() {
			if data := list.Event().Data; data != nil {
				if one = NoticeOf(data.Raw); one.Intent.ID != "" {
					return one, true, nil
				}
			}
		}
		return Notice{}, false, problemOf(list.Err(), "list the events")
	}, each)
}

// inPages calls each with up to pageLength of what next returns, until there is no more.
func inPages[T any](next func() (one T, more bool, err error), each func([]T) error) error {
	for {
		var page []T
		for len(page) < pageLength {
			one, more, err := next()
			if err != nil {
				return err
			}
			if !more {
				break
			}
			page = append(page, one)
		}
		if len(page) > 0 {
			if err := each(page); err != nil {
				return err
			}
		}
		if len(page) < pageLength {
			return nil
		}
	}
}

// Capture takes the authorized money.
func (c *Client) Capture(ctx context.Context, p *domain.Payment) (domain.Intent, error) {
	return c.sendForIntent(ctx, p.StripeID, paymentKey(p.ID, "capture"), "capture payment intent "+p.StripeID, func(key string) (domain.Intent, http.Header, error) {
		params := &stripego.PaymentIntentCaptureParams{Params: stripego.Params{Context: ctx, IdempotencyKey: &key}}
		params.AddExpand("latest_charge")
		return result(c.paymentIntents.Capture(p.StripeID, params))
	})
}

// Void cancels the payment's intent: held money is released, and nobody can pay it any more. Without an intent, no request is
// sent.
func (c *Client) Void(ctx context.Context, p *domain.Payment) (domain.Intent, error) {
	if p.StripeID == "" {
		return domain.Intent{Status: domain.Voided}, nil
	}
	return c.cancelIntent(ctx, p.StripeID, paymentKey(p.ID, "void"))
}

func (c *Client) cancelIntent(ctx context.Context, stripeID, key string) (domain.Intent, error) {
	return c.sendForIntent(ctx, stripeID, key, "void payment intent "+stripeID, func(key string) (domain.Intent, http.Header, error) {
		params := &stripego.PaymentIntentCancelParams{
			Params:             stripego.Params{Context: ctx, IdempotencyKey: &key},
			CancellationReason: stripego.String(string(stripego.PaymentIntentCancellationReasonAbandoned)),
		}
		params.AddExpand("latest_charge")
		return result(c.paymentIntents.Cancel(stripeID, params))
	})
}

// Refund gives back what is left of the captured money. If there was a dispute, Stripe may not allow it. The result's
// RefundFailed is set if Stripe will not allow it later either.
func (c *Client) Refund(ctx context.Context, p *domain.Payment) (domain.Intent, error) {
	err := c.refundIntent(ctx, p.StripeID, paymentKey(p.ID, "refund"), metadata(p.OrderID, p.UserID))
	failure, _ := errors.AsType[*stripego.Error](err)
	disputed := failure != nil && failure.Code == "charge_disputed"
	if err != nil && !disputed {
		return domain.Intent{}, err
	}
	intent, err := c.getIntent(ctx, p.StripeID, true)
	if disputed && intent.Status == domain.Captured && !intent.Dispute.Undecided() {
		intent.RefundFailed = true
	}
	return intent, err
}

func (c *Client) refundIntent(ctx context.Context, stripeID, key string, metadata map[string]string) error {
	_, err := c.send(key, "refund payment intent "+stripeID, func(key string) (domain.Intent, http.Header, error) {
		made, err := c.refunds.New(&stripego.RefundParams{
			Params:        stripego.Params{Context: ctx, IdempotencyKey: &key},
			PaymentIntent: stripego.String(stripeID),
			Reason:        stripego.String(string(stripego.RefundReasonRequestedByCustomer)),
			Metadata:      metadata,
		})
		if err != nil {
			return domain.Intent{}, headerOf(err), err
		}
		return domain.Intent{}, made.LastResponse.Header, nil
	})
	if failure, ok := errors.AsType[*stripego.Error](err); ok && failure.Code == stripego.ErrorCodeChargeAlreadyRefunded {
		return nil
	}
	return err
}

// Members of the metadata of intents and refunds.
const (
	metadataOrder  = "orderId"
	metadataUser   = "userId"
	metadataOrigin = "origin"
)

func metadata(orderID id.Order, user id.User) map[string]string {
	return map[string]string{metadataOrder: string(orderID), metadataUser: string(user)}
}

func attemptKey(orderID id.Order, number int) string {
	return "order/" + string(orderID) + "/attempt/" + strconv.Itoa(number)
}

func paymentKey(payment id.Payment, step string) string {
	return "payment/" + string(payment) + "/" + step
}
