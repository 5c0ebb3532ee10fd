package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/charge"
	"github.com/stripe/stripe-go/v76/dispute"
	"github.com/stripe/stripe-go/v76/event"
	"github.com/stripe/stripe-go/v76/paymentintent"
	"github.com/stripe/stripe-go/v76/paymentmethod"
	"github.com/stripe/stripe-go/v76/refund"

	"boxoffice/services/internal/problem"
)

const (
	// stripeRetries is how often the client repeats a request whose connection failed; the idempotency key
	// makes that safe.
	stripeRetries = 2
	// keyAttempts is how many idempotency keys one operation may use up at once, and keyPause how long it is until
	// it may have one more; see stripeClient.once.
	keyAttempts = 3
	keyPause    = 10 * time.Second
	// keyLife is how long an attempt's key is relied on. Stripe keeps keys for at least 24 hours.
	keyLife = 23 * time.Hour
	// clockSkew is how far Stripe's clock may be behind ours.
	clockSkew = 5 * time.Minute
)

// errKeyTaken says that Stripe has had another request under an attempt's key; see stripeClient.Find.
var errKeyTaken = errors.New("the idempotency key was used for another request")

// stripeClient is the card processor: Stripe, or the sandbox that speaks as Stripe does. Every operation may be
// repeated, by idempotency keys and because an intent's state allows each step once.
//
// Errors are problems: Invalid if Stripe does not know the card or will not take the amount, Unavailable if it
// cannot be reached or asks to wait. Another error is a fault of ours. A declined card is none of these: it is
// an Intent with status Failed.
type stripeClient struct {
	intents  paymentintent.Client
	charges  charge.Client
	methods  paymentmethod.Client
	refunds  refund.Client
	disputes dispute.Client
	events   event.Client
	clock    func() time.Time
	// origin marks the intents that this service makes: others may use the same account. See compare.go.
	origin string
}

// newStripeClient makes a client for the account of the secret key. An empty url is Stripe's; timeout bounds one request.
func newStripeClient(key, url string, timeout time.Duration, log *slog.Logger) *stripeClient {
	config := &stripe.BackendConfig{
		EnableTelemetry:   stripe.Bool(false),
		HTTPClient:        &http.Client{Timeout: timeout, Transport: stripeTransport()},
		LeveledLogger:     stripeLog{log},
		MaxNetworkRetries: stripe.Int64(stripeRetries),
	}
	if url != "" {
		config.URL = stripe.String(url)
	}
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, config)
	return &stripeClient{
		intents:  paymentintent.Client{B: backend, Key: key},
		charges:  charge.Client{B: backend, Key: key},
		methods:  paymentmethod.Client{B: backend, Key: key},
		refunds:  refund.Client{B: backend, Key: key},
		disputes: dispute.Client{B: backend, Key: key},
		events:   event.Client{B: backend, Key: key},
		clock:    time.Now,
	}
}

// stripeTransport keeps enough idle connections for many payments at once; Go's default of two a host would
// make most payments wait for a new one.
func stripeTransport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	return transport
}

// Method is the card that a buyer wants to pay with: a PaymentMethod that Stripe's frontend made, or a token.
// Exactly one is set.
type Method struct {
	PaymentMethod string
	Token         string
}

// digest tells one method from another without keeping it.
func (m Method) digest() string {
	sum := sha256.Sum256([]byte(m.PaymentMethod + "\n" + m.Token))
	return hex.EncodeToString(sum[:16])
}

// field is the name of the request's member that holds the method.
func (m Method) field() string {
	if m.Token != "" {
		return "token"
	}
	return "paymentMethod"
}

// Authorize makes an attempt to pay an order that has no intent yet: one request creates the intent and confirms it with
// a card. The result is as that of Confirm. Made again, the same attempt is the same request under the same key, and
// leads to the same intent. It returns errKeyTaken if somebody has ended the attempt by Find.
//
// No key but the attempt's own is used to create and confirm at once: if Stripe answers, and will answer for a day, that
// something broke on its side, the order's intents are searched; if there is none, an empty one is made and confirmed.
func (g *stripeClient) Authorize(ctx context.Context, order *Order, attempt Attempt, method Method) (Intent, error) {
	key := attemptKeyAtStripe(order.ID, attempt.Number)
	card, err := g.card(ctx, key, method)
	if err != nil {
		return Intent{}, err
	}
	what := "authorize the payment of order " + order.ID
	intent, header, err := g.create(ctx, order, key, card)
	if brokeOnStripesSide(err) && !replayed(header) {
		intent, header, err = g.create(ctx, order, key, card)
	}
	switch {
	case keyTaken(err):
		return Intent{}, fmt.Errorf("%s: %w", what, errKeyTaken)
	case brokeOnStripesSide(err) && replayed(header):
		if intent, err = g.search(ctx, order.ID, attempt.At); err != nil {
			return Intent{}, err
		}
		if intent.ID == "" {
			intent, err = g.once(key+"/create", func(key string) (Intent, http.Header, error) { return g.create(ctx, order, key, "") }, what)
			if err != nil {
				return Intent{}, err
			}
		}
		if intent.Status == Pending {
			return g.confirm(ctx, intent.ID, key, card)
		}
		return intent, nil
	case err != nil:
		return Intent{}, understood(err, what)
	case replayed(header):
		return g.Get(ctx, intent.ID)
	}
	return intent, nil
}

// Find finds out what became of an attempt by Authorize whose outcome is not known; after it the attempt cannot lead to
// anything else. The result is the order's intent, or the zero Intent if there is none.
//
// It asks for an empty intent under the attempt's own key. If Stripe has not had the attempt's request, it makes that
// intent, and refuses the request should it still arrive, because its key belongs to another one now. If Stripe has had
// it, it refuses, and what came of it is searched.
func (g *stripeClient) Find(ctx context.Context, order *Order, attempt Attempt) (Intent, error) {
	if g.clock().Sub(attempt.At) >= keyLife {
		return g.search(ctx, order.ID, attempt.At)
	}
	intent, header, err := g.create(ctx, order, attemptKeyAtStripe(order.ID, attempt.Number), "")
	switch err := understood(err, "find the payment of order "+order.ID); {
	case keyTaken(err), brokeOnStripesSide(err) && replayed(header):
		return g.search(ctx, order.ID, attempt.At)
	case problem.KindOf(err) == problem.Invalid: // this order's price: Stripe takes no request for it
		return Intent{}, nil
	case err != nil:
		return Intent{}, err
	case replayed(header):
		return g.Get(ctx, intent.ID)
	}
	return intent, nil
}

// search finds an order's intent among all that were made since a time, also one that was canceled. An order has one.
// Should there be more after all, the one that is furthest is taken, and no money is left with the others.
func (g *stripeClient) search(ctx context.Context, orderID string, since time.Time) (Intent, error) {
	what := "search the payment intents of order " + orderID
	params := &stripe.PaymentIntentListParams{
		ListParams:   stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)},
		CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Add(-clockSkew).Unix()},
	}
	var found []string
	best, furthest := "", -1
	for list := g.intents.List(params); ; {
		if !list.Next() {
			if err := list.Err(); err != nil {
				return Intent{}, understood(err, what)
			}
			break
		}
		intent := list.PaymentIntent()
		if intent.Metadata[metadataOrder] != orderID {
			continue
		}
		if intent.Status != stripe.PaymentIntentStatusCanceled {
			found = append(found, intent.ID)
		}
		if rank := slices.Index(statusesAtStripe, intent.Status); rank >= furthest { // of equals the oldest, which is listed last
			best, furthest = intent.ID, rank
		}
	}
	for _, id := range found {
		if id == best {
			continue
		}
		if err := g.Release(ctx, id); err != nil {
			return Intent{}, err
		}
	}
	if best == "" {
		return Intent{}, nil
	}
	return g.Get(ctx, best)
}

// statusesAtStripe are in the order in which an intent goes through them; canceled is the first, for there is nothing in
// such an intent.
var statusesAtStripe = []stripe.PaymentIntentStatus{
	stripe.PaymentIntentStatusCanceled,
	stripe.PaymentIntentStatusRequiresPaymentMethod, stripe.PaymentIntentStatusRequiresConfirmation, stripe.PaymentIntentStatusRequiresAction,
	stripe.PaymentIntentStatusProcessing, stripe.PaymentIntentStatusRequiresCapture, stripe.PaymentIntentStatusSucceeded,
}

// Release ends an intent that is not the order's payment: no money stays with it.
func (g *stripeClient) Release(ctx context.Context, stripeID string) error {
	intent, err := g.void(ctx, stripeID, "intent/"+stripeID+"/void")
	if failure, ok := errors.AsType[*stripe.Error](err); ok && failure.HTTPStatusCode == http.StatusNotFound {
		return nil // there is none, whoever said so
	}
	if err == nil && intent.Status == Captured {
		err = g.refund(ctx, stripeID, "intent/"+stripeID+"/refund", nil)
	}
	return err
}

// Members of an intent's metadata, by which it is known whose it is.
const (
	metadataOrder  = "orderId"
	metadataUser   = "userId"
	metadataOrigin = "origin"
)

func attemptKeyAtStripe(orderID string, number int) string {
	return "order/" + orderID + "/attempt/" + strconv.Itoa(number)
}

// create makes an intent for an order, and confirms it with a card if there is one. An intent that is not confirmed
// holds no money and cannot get any without this service.
func (g *stripeClient) create(ctx context.Context, order *Order, key, card string) (Intent, http.Header, error) {
	params := &stripe.PaymentIntentParams{
		Params:             stripe.Params{Context: ctx, IdempotencyKey: &key},
		Amount:             stripe.Int64(order.Amount),
		Currency:           stripe.String(order.Currency),
		CaptureMethod:      stripe.String(string(stripe.PaymentIntentCaptureMethodManual)),
		PaymentMethodTypes: stripe.StringSlice([]string{string(stripe.PaymentMethodTypeCard)}),
		Metadata:           map[string]string{metadataOrder: order.ID, metadataUser: order.UserID},
	}
	if g.origin != "" {
		params.Metadata[metadataOrigin] = g.origin
	}
	if card != "" {
		params.Confirm, params.PaymentMethod = stripe.Bool(true), stripe.String(card)
	}
	return answered(g.intents.New(params))
}

// Confirm makes the payment's attempt of this number with a card, on the intent that it has. The result's status is
// Authorized, RequiresAction or Failed; or another, if the intent's life went on without this attempt.
func (g *stripeClient) Confirm(ctx context.Context, p *Payment, number int, method Method) (Intent, error) {
	key := attemptKeyAtStripe(p.OrderID, number)
	card, err := g.card(ctx, key, method)
	if err != nil {
		return Intent{}, err
	}
	return g.confirm(ctx, p.StripeID, key, card)
}

func (g *stripeClient) confirm(ctx context.Context, stripeID, attempt, card string) (Intent, error) {
	return g.latest(ctx, stripeID, attempt+"/confirm", func(key string) (Intent, http.Header, error) {
		params := &stripe.PaymentIntentConfirmParams{
			Params:        stripe.Params{Context: ctx, IdempotencyKey: &key},
			PaymentMethod: stripe.String(card),
		}
		params.AddExpand("latest_charge")
		return answered(g.intents.Confirm(stripeID, params))
	}, "confirm payment intent "+stripeID)
}

// card is the payment method's id. One is made of a token, which can be used once; that takes a request of its own,
// because Stripe's API takes a token in no request that creates or confirms an intent.
func (g *stripeClient) card(ctx context.Context, attempt string, method Method) (string, error) {
	if method.Token == "" {
		return method.PaymentMethod, nil
	}
	made, err := g.once(attempt+"/method", func(key string) (Intent, http.Header, error) {
		made, err := g.methods.New(&stripe.PaymentMethodParams{
			Params: stripe.Params{Context: ctx, IdempotencyKey: &key},
			Type:   stripe.String(string(stripe.PaymentMethodTypeCard)),
			Card:   &stripe.PaymentMethodCardParams{Token: stripe.String(method.Token)},
		})
		if err != nil {
			return Intent{}, headerOf(err), err
		}
		return Intent{ID: made.ID}, made.LastResponse.Header, nil
	}, "make a payment method of a token")
	return made.ID, err
}

// Get asks for the intent as it is now, with what was given back of it, and how many cards were declined if another may
// be. That costs further requests only if there are refunds, disputes or declines.
func (g *stripeClient) Get(ctx context.Context, stripeID string) (Intent, error) {
	return g.get(ctx, stripeID, false)
}

func (g *stripeClient) get(ctx context.Context, stripeID string, refunded bool) (Intent, error) {
	params := &stripe.PaymentIntentParams{Params: stripe.Params{Context: ctx}}
	params.AddExpand("latest_charge")
	found, err := g.intents.Get(stripeID, params)
	if err == nil {
		return g.whole(ctx, found, refunded)
	}
	return Intent{}, understood(err, "look at payment intent "+stripeID)
}

// whole completes what an intent says, with its charge expanded, by its refunds and disputes. Refunds are listed, and not
// taken from the charge, for one that has failed is seen in the list alone. refunded says that there is one, whatever the
// charge says.
func (g *stripeClient) whole(ctx context.Context, from *stripe.PaymentIntent, refunded bool) (Intent, error) {
	intent, charge := intentOf(from), from.LatestCharge
	intent.Whole = true
	if charge != nil && intent.Status.open() {
		var err error
		intent.Declines, err = g.declines(ctx, from.ID)
		return intent, err
	}
	if charge == nil || !charge.Captured || !charge.Disputed && charge.AmountRefunded == 0 && !refunded {
		return intent, nil
	}
	given := int64(0)
	refunds := g.refunds.List(&stripe.RefundListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}, PaymentIntent: &from.ID})
	for refunds.Next() {
		switch one := refunds.Refund(); one.Status {
		case stripe.RefundStatusFailed, stripe.RefundStatusCanceled:
			intent.RefundFailed = true
		default:
			given += one.Amount
		}
	}
	if err := refunds.Err(); err != nil {
		return Intent{}, understood(err, "list the refunds of payment intent "+from.ID)
	}
	if charge.Disputed {
		disputes := g.disputes.List(&stripe.DisputeListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}, PaymentIntent: &from.ID})
		for first := true; disputes.Next(); first = false {
			one := disputes.Dispute()
			seen := Dispute{ID: one.ID, Status: string(one.Status), Reason: string(one.Reason), Amount: one.Amount}
			if first { // the newest is listed first
				intent.Dispute = seen
			}
			if seen.lost() {
				given += seen.Amount
			}
		}
		if err := disputes.Err(); err != nil {
			return Intent{}, understood(err, "list the disputes of payment intent "+from.ID)
		}
	}
	intent.Refunded, intent.Status = given, Captured
	if given > 0 && given >= charge.AmountCaptured {
		intent.Status = Refunded
	}
	intent.RefundFailed = intent.RefundFailed && intent.Status == Captured
	return intent, nil
}

// declines counts the failed charges of an intent.
func (g *stripeClient) declines(ctx context.Context, stripeID string) (n int, err error) {
	charges := g.charges.List(&stripe.ChargeListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(pageLength)}, PaymentIntent: &stripeID})
	for charges.Next() {
		if charges.Charge().Status == stripe.ChargeStatusFailed {
			n++
		}
	}
	return n, understood(charges.Err(), "list the charges of payment intent "+stripeID)
}

// listed is an intent as Stripe lists it, with whose it is.
type listed struct {
	Intent
	OrderID, UserID, Origin string
	Amount                  int64
	Currency                string
	CreatedAt               time.Time
}

func listedOf(from *stripe.PaymentIntent) listed {
	return listed{
		Intent: intentOf(from), OrderID: from.Metadata[metadataOrder], UserID: from.Metadata[metadataUser], Origin: from.Metadata[metadataOrigin],
		Amount: from.Amount, Currency: string(from.Currency), CreatedAt: time.Unix(from.Created, 0).UTC(),
	}
}

// Whose says whose an intent is. The zero value is that of one that does not exist.
func (g *stripeClient) Whose(ctx context.Context, stripeID string) (listed, error) {
	found, err := g.intents.Get(stripeID, &stripe.PaymentIntentParams{Params: stripe.Params{Context: ctx}})
	if failure, ok := errors.AsType[*stripe.Error](err); ok && failure.HTTPStatusCode == http.StatusNotFound {
		return listed{}, nil
	}
	if err != nil {
		return listed{}, understood(err, "look whose payment intent "+stripeID+" is")
	}
	return listedOf(found), nil
}

// pageLength is how many intents or events are asked for at once; Stripe allows no more.
const pageLength = 100

// Intents calls each with all intents made since a time that have an order, up to pageLength at a time, the newest first. What was
// refunded is as the charge says.
func (g *stripeClient) Intents(ctx context.Context, since time.Time, each func([]listed) error) error {
	params := &stripe.PaymentIntentListParams{
		ListParams:   stripe.ListParams{Context: ctx, Limit: stripe.Int64(pageLength)},
		CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
	}
	params.AddExpand("data.latest_charge")
	found := g.intents.List(params)
	return inPages(func() (one listed, more bool, err error) {
		for found.Next() {
			if one = listedOf(found.PaymentIntent()); one.OrderID != "" {
				return one, true, nil
			}
		}
		return listed{}, false, understood(found.Err(), "list the payment intents")
	}, each)
}

// reversalEvents are the types of Stripe's events that tell of refunds and disputes, which may come long after the intent
// was made.
var reversalEvents = []string{"charge.refunded", "charge.refund.updated", "charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"}

// Reversals calls each with what Stripe's events since a time tell of refunds and disputes, in pages as Intents does. Stripe keeps
// events for 30 days, whether their webhooks were taken or not.
func (g *stripeClient) Reversals(ctx context.Context, since time.Time, each func([]notice) error) error {
	found := g.events.List(&stripe.EventListParams{
		ListParams:   stripe.ListParams{Context: ctx, Limit: stripe.Int64(pageLength)},
		CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
		Types:        stripe.StringSlice(reversalEvents),
	})
	return inPages(func() (one notice, more bool, err error) {
		for found.Next() {
			if data := found.Event().Data; data != nil {
				if one = noticeIn(data.Raw); one.intent.ID != "" {
					return one, true, nil
				}
			}
		}
		return notice{}, false, understood(found.Err(), "list the events")
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
func (g *stripeClient) Capture(ctx context.Context, p *Payment) (Intent, error) {
	return g.latest(ctx, p.StripeID, "payment/"+p.ID+"/capture", func(key string) (Intent, http.Header, error) {
		params := &stripe.PaymentIntentCaptureParams{Params: stripe.Params{Context: ctx, IdempotencyKey: &key}}
		params.AddExpand("latest_charge")
		return answered(g.intents.Capture(p.StripeID, params))
	}, "capture payment intent "+p.StripeID)
}

// Void gives up an authorization, or an intent that has none: nobody can pay it any more. Without an intent there is
// nothing to give up.
func (g *stripeClient) Void(ctx context.Context, p *Payment) (Intent, error) {
	if p.StripeID == "" {
		return Intent{Status: Voided}, nil
	}
	return g.void(ctx, p.StripeID, "payment/"+p.ID+"/void")
}

func (g *stripeClient) void(ctx context.Context, stripeID, key string) (Intent, error) {
	return g.latest(ctx, stripeID, key, func(key string) (Intent, http.Header, error) {
		params := &stripe.PaymentIntentCancelParams{
			Params:             stripe.Params{Context: ctx, IdempotencyKey: &key},
			CancellationReason: stripe.String(string(stripe.PaymentIntentCancellationReasonAbandoned)),
		}
		params.AddExpand("latest_charge")
		return answered(g.intents.Cancel(stripeID, params))
	}, "void payment intent "+stripeID)
}

// Refund gives captured money back, all that is left of it. If there was a dispute, Stripe may not allow it: the result's
// RefundFailed is set if it will not do so later either.
func (g *stripeClient) Refund(ctx context.Context, p *Payment) (Intent, error) {
	metadata := map[string]string{metadataOrder: p.OrderID, metadataUser: p.UserID}
	err := g.refund(ctx, p.StripeID, "payment/"+p.ID+"/refund", metadata)
	failure, _ := errors.AsType[*stripe.Error](err)
	disputed := failure != nil && failure.Code == "charge_disputed"
	if err != nil && !disputed {
		return Intent{}, err
	}
	intent, err := g.get(ctx, p.StripeID, true)
	if disputed && intent.Status == Captured && !intent.Dispute.undecided() {
		intent.RefundFailed = true
	}
	return intent, err
}

func (g *stripeClient) refund(ctx context.Context, stripeID, key string, metadata map[string]string) error {
	_, err := g.once(key, func(key string) (Intent, http.Header, error) {
		made, err := g.refunds.New(&stripe.RefundParams{
			Params:        stripe.Params{Context: ctx, IdempotencyKey: &key},
			PaymentIntent: stripe.String(stripeID),
			Reason:        stripe.String(string(stripe.RefundReasonRequestedByCustomer)),
			Metadata:      metadata,
		})
		if err != nil {
			return Intent{}, headerOf(err), err
		}
		return Intent{}, made.LastResponse.Header, nil
	}, "refund payment intent "+stripeID)
	if failure, ok := errors.AsType[*stripe.Error](err); ok && failure.Code == stripe.ErrorCodeChargeAlreadyRefunded {
		return nil
	}
	return err
}

// call is one request under an idempotency key: the intent it led to, the answer's headers, and the error.
type call func(key string) (Intent, http.Header, error)

// latest is once for operations on an intent: an answer that Stripe gave before tells how things stood then, so
// it refreshes how they stand now.
func (g *stripeClient) latest(ctx context.Context, stripeID, key string, do call, what string) (Intent, error) {
	old := false
	intent, err := g.once(key, func(key string) (Intent, http.Header, error) {
		intent, header, err := do(key)
		old = replayed(header)
		return intent, header, err
	}, what)
	if err != nil || !old {
		return intent, err
	}
	return g.Get(ctx, stripeID)
}

// once does an operation under an idempotency key. Stripe remembers with the key also that something broke on
// its side, and would answer so for a day; such an answer frees the operation for the next key. When several are used
// up there is a new one every keyPause, so that what a bad hour at Stripe has broken is done when it is over. That is
// safe: on an intent each step succeeds once, whatever the key, and an intent that is created twice here is empty.
func (g *stripeClient) once(key string, do call, what string) (Intent, error) {
	keys := []string{key}
	for n := 2; n <= keyAttempts; n++ {
		keys = append(keys, key+"/"+strconv.Itoa(n))
	}
	keys = append(keys, key+"/at/"+strconv.FormatInt(g.clock().Truncate(keyPause).Unix(), 10))
	var failure error
	for _, under := range keys {
		intent, header, err := do(under)
		if brokeOnStripesSide(err) && !replayed(header) {
			// Asked again under the same key, Stripe does what it has not done, or says again that it broke.
			intent, header, err = do(under)
		}
		if !brokeOnStripesSide(err) || !replayed(header) {
			return intent, understood(err, what)
		}
		failure = err
	}
	return Intent{}, understood(failure, what)
}

// replayed says whether Stripe gave this answer before, to the same idempotency key.
func replayed(header http.Header) bool { return header.Get("Idempotent-Replayed") == "true" }

// brokeOnStripesSide: a 500. (A 503 is Stripe asking to come later; it is not remembered.)
func brokeOnStripesSide(err error) bool {
	failure, ok := errors.AsType[*stripe.Error](err)
	return ok && failure.HTTPStatusCode >= 500 && failure.HTTPStatusCode != http.StatusServiceUnavailable
}

// keyTaken: Stripe has seen the idempotency key with a request that is not this one. (A 409 is that it is still at work
// under the key.)
func keyTaken(err error) bool {
	failure, ok := errors.AsType[*stripe.Error](err)
	return ok && failure.Type == stripe.ErrorTypeIdempotency && failure.HTTPStatusCode == http.StatusBadRequest
}

// headerOf is that of the answer that the error was made from; nil if there was none.
func headerOf(err error) http.Header {
	if failure, ok := errors.AsType[*stripe.Error](err); ok && failure.LastResponse != nil {
		return failure.LastResponse.Header
	}
	return nil
}

// answered turns Stripe's answer into an Intent. Two kinds of error carry the intent and are its truth: a
// decline, and that its state does not allow what was asked.
func answered(intent *stripe.PaymentIntent, err error) (Intent, http.Header, error) {
	if err == nil {
		return intentOf(intent), intent.LastResponse.Header, nil
	}
	failure, ok := errors.AsType[*stripe.Error](err)
	if ok && failure.PaymentIntent != nil && (failure.Type == stripe.ErrorTypeCard || failure.Code == stripe.ErrorCodePaymentIntentUnexpectedState) {
		return intentOf(failure.PaymentIntent), headerOf(err), nil
	}
	return Intent{}, headerOf(err), err
}

// intentOf tells Stripe's PaymentIntent in this service's terms.
func intentOf(from *stripe.PaymentIntent) Intent {
	to := Intent{ID: from.ID, ClientSecret: from.ClientSecret, Status: Pending}
	charge := from.LatestCharge
	if charge != nil {
		to.ChargeID = charge.ID
	}
	switch from.Status {
	case stripe.PaymentIntentStatusRequiresPaymentMethod:
		if last := from.LastPaymentError; last != nil {
			to.Status = Failed
			to.DeclineCode, to.DeclineMessage = declineCode(last), last.Msg
		}
	case stripe.PaymentIntentStatusRequiresAction:
		to.Status = RequiresAction
	case stripe.PaymentIntentStatusRequiresCapture:
		to.Status = Authorized
	case stripe.PaymentIntentStatusCanceled:
		to.Status = Voided
	case stripe.PaymentIntentStatusSucceeded:
		to.Status = Captured
		if charge != nil && charge.Captured {
			to.Refunded, to.Disputed = refundedOf(charge), charge.Disputed
			if to.Refunded > 0 && to.Refunded >= charge.AmountCaptured {
				to.Status = Refunded
			}
		}
	}
	return to
}

// refundedOf is what was given back of a captured charge. Stripe counts with it what was never captured.
func refundedOf(charge *stripe.Charge) int64 {
	return charge.AmountRefunded - max(charge.Amount-charge.AmountCaptured, 0)
}

// intentOfCharge tells in this service's terms what a charge says of its intent.
func intentOfCharge(from *stripe.Charge) Intent {
	to := Intent{ChargeID: from.ID, Status: Unknown}
	switch {
	case from.Status == stripe.ChargeStatusFailed:
		to.Status, to.DeclineCode = Failed, from.FailureCode
		if from.Outcome != nil && from.Outcome.Reason != "" {
			to.DeclineCode = from.Outcome.Reason
		}
	case from.Status != stripe.ChargeStatusSucceeded:
	case from.Captured:
		to.Status, to.Refunded, to.Disputed = Captured, refundedOf(from), from.Disputed
		if to.Refunded > 0 && to.Refunded >= from.AmountCaptured {
			to.Status = Refunded
		}
	case from.Refunded:
		to.Status = Voided
	default:
		to.Status = Authorized
	}
	return to
}

// declineCode is the bank's reason where Stripe knows it, else Stripe's own.
func declineCode(e *stripe.Error) string {
	if e.DeclineCode != "" {
		return string(e.DeclineCode)
	}
	return string(e.Code)
}

// understood turns an error of the client into one of this application; what says what was tried.
func understood(err error, what string) error {
	if err == nil {
		return nil
	}
	failure, ok := errors.AsType[*stripe.Error](err)
	if ok { // the error's text, which is logged, holds all its members: the client secret among them
		failure.PaymentIntent, failure.PaymentMethod = nil, nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	if !ok {
		return unreachable(err) // no answer that could be read: the network, a deadline, a proxy
	}
	about := func(param string) bool { return strings.Contains(failure.Param, param) }
	switch {
	case failure.Type == stripe.ErrorTypeCard:
		return declinedCard(declineCode(failure), failure.Msg).Because(err)
	case failure.HTTPStatusCode == http.StatusTooManyRequests, failure.HTTPStatusCode == http.StatusConflict, failure.HTTPStatusCode >= 500:
		return unreachable(err)
	case failure.HTTPStatusCode == http.StatusBadRequest && about("token"):
		return problem.New(problem.Invalid, "%s", failure.Msg).WithField("token").WithCode(string(failure.Code)).Because(err)
	case failure.HTTPStatusCode == http.StatusBadRequest && about("payment_method"):
		return problem.New(problem.Invalid, "%s", failure.Msg).WithField("paymentMethod").WithCode(string(failure.Code)).Because(err)
	case failure.Code == stripe.ErrorCodeAmountTooSmall, failure.Code == stripe.ErrorCodeAmountTooLarge:
		return problem.New(problem.Invalid, "This order's price cannot be charged to a card: %s.", strings.TrimSuffix(failure.Msg, ".")).
			WithField("orderId").WithCode(string(failure.Code)).Because(err)
	}
	return err
}

func unreachable(err error) error {
	return problem.New(problem.Unavailable, "The card processor cannot be reached at the moment. Nothing is charged twice if you try again shortly.").
		WithCode("processor_unavailable").WithRetryAfter(2 * time.Second).Because(err)
}

// stripeLog lets the client write to the service's log. What it calls an error is reported to the caller, who
// decides; here it is a detail.
type stripeLog struct{ log *slog.Logger }

func (l stripeLog) Debugf(string, ...any) {} // whole bodies, with client secrets
func (l stripeLog) Infof(format string, args ...any) {
	l.log.Debug("stripe: " + fmt.Sprintf(format, args...))
}
func (l stripeLog) Warnf(format string, args ...any) {
	l.log.Warn("stripe: " + fmt.Sprintf(format, args...))
}
func (l stripeLog) Errorf(format string, args ...any) {
	l.log.Debug("stripe: " + fmt.Sprintf(format, args...))
}
