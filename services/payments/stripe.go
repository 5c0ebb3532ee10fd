package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76"
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
	// it may have one more; see gateway.once.
	keyAttempts = 3
	keyPause    = 10 * time.Second
)

// gateway is the card processor: Stripe, or the sandbox that speaks as Stripe does. Every operation may be
// repeated, by idempotency keys and because an intent's state allows each step once.
//
// Errors are problems: Invalid if Stripe does not know the card or will not take the amount, Unavailable if it
// cannot be reached or asks to wait. Another error is a fault of ours. A declined card is none of these: it is
// an Intent with status Failed.
type gateway struct {
	intents paymentintent.Client
	methods paymentmethod.Client
	refunds refund.Client
	clock   func() time.Time
}

// newGateway makes a client for the account of the secret key. An empty url is Stripe's; timeout bounds one request.
func newGateway(key, url string, timeout time.Duration, log *slog.Logger) *gateway {
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
	return &gateway{
		intents: paymentintent.Client{B: backend, Key: key},
		methods: paymentmethod.Client{B: backend, Key: key},
		refunds: refund.Client{B: backend, Key: key},
		clock:   time.Now,
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

// Create makes the order's intent. It is not confirmed, so it holds no money and cannot get any without this
// service. Called again for the same order it returns the same intent.
func (g *gateway) Create(ctx context.Context, order *Order) (Intent, error) {
	return g.once("order/"+order.ID+"/create", func(key string) (Intent, http.Header, error) {
		made, err := g.intents.New(&stripe.PaymentIntentParams{
			Params:             stripe.Params{Context: ctx, IdempotencyKey: &key},
			Amount:             stripe.Int64(order.Amount),
			Currency:           stripe.String(order.Currency),
			CaptureMethod:      stripe.String(string(stripe.PaymentIntentCaptureMethodManual)),
			PaymentMethodTypes: stripe.StringSlice([]string{string(stripe.PaymentMethodTypeCard)}),
			Metadata:           map[string]string{"orderId": order.ID, "userId": order.UserID},
		})
		return answered(made, err)
	}, "create the payment intent of order "+order.ID)
}

// Confirm makes the payment's attempt of this number with a card. The result's status is Authorized, RequiresAction or Failed; or another,
// if the intent's life went on without this attempt.
func (g *gateway) Confirm(ctx context.Context, p *Payment, number int, method Method) (Intent, error) {
	attempt := "order/" + p.OrderID + "/attempt/" + strconv.Itoa(number)
	card := method.PaymentMethod
	if method.Token != "" {
		made, err := g.methodOf(ctx, attempt, method.Token)
		if err != nil {
			return Intent{}, err
		}
		card = made
	}
	return g.latest(ctx, p.StripeID, attempt+"/confirm", func(key string) (Intent, http.Header, error) {
		params := &stripe.PaymentIntentConfirmParams{
			Params:        stripe.Params{Context: ctx, IdempotencyKey: &key},
			PaymentMethod: stripe.String(card),
		}
		params.AddExpand("latest_charge")
		return answered(g.intents.Confirm(p.StripeID, params))
	}, "confirm payment intent "+p.StripeID)
}

// methodOf makes a payment method of a token, which can be used once.
func (g *gateway) methodOf(ctx context.Context, attempt, token string) (string, error) {
	made, err := g.once(attempt+"/method", func(key string) (Intent, http.Header, error) {
		method, err := g.methods.New(&stripe.PaymentMethodParams{
			Params: stripe.Params{Context: ctx, IdempotencyKey: &key},
			Type:   stripe.String(string(stripe.PaymentMethodTypeCard)),
			Card:   &stripe.PaymentMethodCardParams{Token: stripe.String(token)},
		})
		if err != nil {
			return Intent{}, headerOf(err), err
		}
		return Intent{ID: method.ID}, method.LastResponse.Header, nil
	}, "make a payment method of a token")
	return made.ID, err
}

// Look asks for the intent as it is now.
func (g *gateway) Look(ctx context.Context, stripeID string) (Intent, error) {
	params := &stripe.PaymentIntentParams{Params: stripe.Params{Context: ctx}}
	params.AddExpand("latest_charge")
	intent, _, err := answered(g.intents.Get(stripeID, params))
	if err != nil {
		return Intent{}, understood(err, "look at payment intent "+stripeID)
	}
	return intent, nil
}

// Capture takes the authorized money.
func (g *gateway) Capture(ctx context.Context, p *Payment) (Intent, error) {
	return g.latest(ctx, p.StripeID, "payment/"+p.ID+"/capture", func(key string) (Intent, http.Header, error) {
		params := &stripe.PaymentIntentCaptureParams{Params: stripe.Params{Context: ctx, IdempotencyKey: &key}}
		params.AddExpand("latest_charge")
		return answered(g.intents.Capture(p.StripeID, params))
	}, "capture payment intent "+p.StripeID)
}

// Void gives up an authorization, or an intent that has none: nobody can pay it any more.
func (g *gateway) Void(ctx context.Context, p *Payment) (Intent, error) {
	return g.latest(ctx, p.StripeID, "payment/"+p.ID+"/void", func(key string) (Intent, http.Header, error) {
		params := &stripe.PaymentIntentCancelParams{
			Params:             stripe.Params{Context: ctx, IdempotencyKey: &key},
			CancellationReason: stripe.String(string(stripe.PaymentIntentCancellationReasonAbandoned)),
		}
		params.AddExpand("latest_charge")
		return answered(g.intents.Cancel(p.StripeID, params))
	}, "void payment intent "+p.StripeID)
}

// Refund gives captured money back, all of it.
func (g *gateway) Refund(ctx context.Context, p *Payment) (Intent, error) {
	what := "refund payment intent " + p.StripeID
	_, err := g.once("payment/"+p.ID+"/refund", func(key string) (Intent, http.Header, error) {
		made, err := g.refunds.New(&stripe.RefundParams{
			Params:        stripe.Params{Context: ctx, IdempotencyKey: &key},
			PaymentIntent: stripe.String(p.StripeID),
			Reason:        stripe.String(string(stripe.RefundReasonRequestedByCustomer)),
			Metadata:      map[string]string{"orderId": p.OrderID, "userId": p.UserID},
		})
		if err != nil {
			return Intent{}, headerOf(err), err
		}
		return Intent{}, made.LastResponse.Header, nil
	}, what)
	if failure, ok := errors.AsType[*stripe.Error](err); err != nil && !(ok && failure.Code == stripe.ErrorCodeChargeAlreadyRefunded) {
		return Intent{}, err
	}
	return g.Look(ctx, p.StripeID)
}

// call is one request under an idempotency key: the intent it led to, the answer's headers, and the error.
type call func(key string) (Intent, http.Header, error)

// latest is once for operations on an intent: an answer that Stripe gave before tells how things stood then, so
// it looks how they stand now.
func (g *gateway) latest(ctx context.Context, stripeID, key string, do call, what string) (Intent, error) {
	old := false
	intent, err := g.once(key, func(key string) (Intent, http.Header, error) {
		intent, header, err := do(key)
		old = replayed(header)
		return intent, header, err
	}, what)
	if err != nil || !old {
		return intent, err
	}
	return g.Look(ctx, stripeID)
}

// once does an operation under an idempotency key. Stripe remembers with the key also that something broke on
// its side, and would answer so for a day; such an answer frees the operation for the next key. When several are used
// up there is a new one every keyPause, so that what a bad hour at Stripe has broken is done when it is over. That is
// safe: on an intent each step succeeds once, whatever the key, and an intent that is created twice is empty.
func (g *gateway) once(key string, do call, what string) (Intent, error) {
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
		if charge != nil && charge.AmountRefunded > 0 && charge.AmountRefunded >= charge.AmountCaptured {
			to.Status = Refunded
		}
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
		return problem.New(problem.Declined, "%s", failure.Msg).WithCode(declineCode(failure)).Because(err)
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

// stripeLog lets the client write to the service's log. What it calls an error is told to the caller, who
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
