package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/paymentintent"
	"github.com/stripe/stripe-go/v76/paymentmethod"
	striperefund "github.com/stripe/stripe-go/v76/refund"
	"github.com/stripe/stripe-go/v76/webhook"
)

// bench is a sandbox with Stripe's real Go client in front of it.
type bench struct {
	url     string
	server  *Server
	intents paymentintent.Client
	methods paymentmethod.Client
	refunds striperefund.Client
}

func newBench(t *testing.T, opts Options) *bench {
	t.Helper()
	opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	server, err := New(opts)
	require.NoError(t, err)
	web := httptest.NewServer(server)
	t.Cleanup(func() { web.Close(); _ = server.Close() })
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: stripe.String(web.URL), MaxNetworkRetries: stripe.Int64(0), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
	})
	return &bench{
		url: web.URL, server: server,
		intents: paymentintent.Client{B: backend, Key: "sk_test_sandbox"},
		methods: paymentmethod.Client{B: backend, Key: "sk_test_sandbox"},
		refunds: striperefund.Client{B: backend, Key: "sk_test_sandbox"},
	}
}

func manual(amount int64) *stripe.PaymentIntentParams {
	return &stripe.PaymentIntentParams{
		Amount: stripe.Int64(amount), Currency: stripe.String("usd"), CaptureMethod: stripe.String("manual"),
		PaymentMethodTypes: stripe.StringSlice([]string{"card"}), Metadata: map[string]string{"orderId": "order-1"},
	}
}

func (b *bench) create(t *testing.T) *stripe.PaymentIntent {
	t.Helper()
	intent, err := b.intents.New(manual(2500))
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, intent.Status)
	return intent
}

func (b *bench) confirm(id, method string) (*stripe.PaymentIntent, error) {
	return b.intents.Confirm(id, &stripe.PaymentIntentConfirmParams{PaymentMethod: stripe.String(method)})
}

func (b *bench) confirmToken(id, token string) (*stripe.PaymentIntent, error) {
	params := &stripe.PaymentIntentConfirmParams{PaymentMethodData: &stripe.PaymentIntentPaymentMethodDataParams{Type: stripe.String("card")}}
	params.AddExtra("payment_method_data[card][token]", token)
	return b.intents.Confirm(id, params)
}

func (b *bench) authenticate(t *testing.T, id, outcome string) int {
	t.Helper()
	res, err := http.Post(b.url+"/sandbox/payment_intents/"+id+"/authenticate", "application/json", strings.NewReader(`{"outcome":"`+outcome+`"}`))
	require.NoError(t, err)
	defer res.Body.Close()
	return res.StatusCode
}

func (b *bench) ledger(t *testing.T) Ledger {
	t.Helper()
	res, err := http.Get(b.url + "/sandbox/ledger")
	require.NoError(t, err)
	defer res.Body.Close()
	var out Ledger
	require.NoError(t, json.NewDecoder(res.Body).Decode(&out))
	return out
}

// stripeError is the error as stripe-go understood it.
func stripeError(t *testing.T, err error) *stripe.Error {
	t.Helper()
	var failure *stripe.Error
	require.ErrorAs(t, err, &failure)
	return failure
}

func TestIntent_AuthorizedThenCaptured(t *testing.T) {
	b := newBench(t, Options{})
	intent := b.create(t)
	require.Equal(t, "order-1", intent.Metadata["orderId"])
	require.Contains(t, intent.ClientSecret, intent.ID+"_secret_")

	intent, err := b.confirm(intent.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresCapture, intent.Status)
	require.EqualValues(t, 2500, intent.AmountCapturable)

	params := &stripe.PaymentIntentParams{}
	params.AddExpand("latest_charge")
	intent, err = b.intents.Get(intent.ID, params)
	require.NoError(t, err)
	require.False(t, intent.LatestCharge.Captured)
	require.Equal(t, "4242", intent.LatestCharge.PaymentMethodDetails.Card.Last4)

	intent, err = b.intents.Capture(intent.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusSucceeded, intent.Status)
	require.EqualValues(t, 2500, intent.AmountReceived)

	_, err = b.intents.Capture(intent.ID, nil)
	failure := stripeError(t, err)
	require.Equal(t, stripe.ErrorCodePaymentIntentUnexpectedState, failure.Code)
	require.Equal(t, stripe.PaymentIntentStatusSucceeded, failure.PaymentIntent.Status)
}

func TestIntent_AutomaticCaptureTakesTheMoneyAtOnce(t *testing.T) {
	b := newBench(t, Options{})
	params := manual(2500)
	params.CaptureMethod = nil
	params.Confirm = stripe.Bool(true)
	params.PaymentMethod = stripe.String("pm_card_mastercard")
	intent, err := b.intents.New(params)
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusSucceeded, intent.Status)
	require.EqualValues(t, 2500, b.ledger(t).Intents[0].Kept)
}

func TestConfirm_TestCardsBehaveAsDocumented(t *testing.T) {
	declined := func(code, declineCode string) func(*testing.T, *stripe.PaymentIntent, error) {
		return func(t *testing.T, _ *stripe.PaymentIntent, err error) {
			failure := stripeError(t, err)
			require.Equal(t, 402, failure.HTTPStatusCode)
			require.Equal(t, stripe.ErrorTypeCard, failure.Type)
			require.EqualValues(t, code, failure.Code)
			require.EqualValues(t, declineCode, failure.DeclineCode)
			require.NotEmpty(t, failure.ChargeID)
			require.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, failure.PaymentIntent.Status)
			require.EqualValues(t, code, failure.PaymentIntent.LastPaymentError.Code)
		}
	}
	status := func(want stripe.PaymentIntentStatus) func(*testing.T, *stripe.PaymentIntent, error) {
		return func(t *testing.T, intent *stripe.PaymentIntent, err error) {
			require.NoError(t, err)
			require.Equal(t, want, intent.Status)
		}
	}
	b := newBench(t, Options{})
	for name, check := range map[string]func(*testing.T, *stripe.PaymentIntent, error){
		"visa":                            status(stripe.PaymentIntentStatusRequiresCapture),
		"mastercard":                      status(stripe.PaymentIntentStatusRequiresCapture),
		"amex":                            status(stripe.PaymentIntentStatusRequiresCapture),
		"chargeDeclined":                  declined("card_declined", "generic_decline"),
		"visa_chargeDeclined":             declined("card_declined", "generic_decline"),
		"chargeDeclinedInsufficientFunds": declined("card_declined", "insufficient_funds"),
		"chargeDeclinedLostCard":          declined("card_declined", "lost_card"),
		"chargeDeclinedStolenCard":        declined("card_declined", "stolen_card"),
		"chargeDeclinedExpiredCard":       declined("expired_card", ""),
		"chargeDeclinedIncorrectCvc":      declined("incorrect_cvc", ""),
		"chargeDeclinedProcessingError":   declined("processing_error", ""),
		"authenticationRequired":          status(stripe.PaymentIntentStatusRequiresAction),
		"threeDSecure2Required":           status(stripe.PaymentIntentStatusRequiresAction),
		"threeDSecureOptional":            status(stripe.PaymentIntentStatusRequiresCapture),
	} {
		t.Run("pm_card_"+name, func(t *testing.T) {
			intent, err := b.confirm(b.create(t).ID, "pm_card_"+name)
			check(t, intent, err)
		})
		t.Run("tok_"+name, func(t *testing.T) {
			intent, err := b.confirmToken(b.create(t).ID, "tok_"+name)
			check(t, intent, err)
		})
	}
}

func TestPaymentMethod_MadeFromATokenConfirms(t *testing.T) {
	b := newBench(t, Options{})
	fromToken := func(token string) (*stripe.PaymentMethod, error) {
		return b.methods.New(&stripe.PaymentMethodParams{Type: stripe.String("card"), Card: &stripe.PaymentMethodCardParams{Token: stripe.String(token)}})
	}
	method, err := fromToken("tok_mastercard")
	require.NoError(t, err)
	require.Equal(t, "4444", method.Card.Last4)
	intent, err := b.confirm(b.create(t).ID, method.ID)
	require.NoError(t, err)
	require.Equal(t, method.ID, intent.PaymentMethod.ID)
	again, err := b.methods.Get(method.ID, nil)
	require.NoError(t, err)
	require.Equal(t, method.ID, again.ID)

	method, err = fromToken("tok_chargeDeclined")
	require.NoError(t, err, "it is the charge that is declined")
	_, err = b.confirm(b.create(t).ID, method.ID)
	require.Equal(t, stripe.DeclineCodeGenericDecline, stripeError(t, err).DeclineCode)

	_, err = fromToken("tok_nobody")
	require.Equal(t, "card[token]", stripeError(t, err).Param)
}

func TestConfirm_AnotherCardAfterADecline(t *testing.T) {
	b := newBench(t, Options{})
	id := b.create(t).ID
	_, err := b.confirm(id, "pm_card_chargeDeclined")
	require.Error(t, err)
	intent, err := b.confirm(id, "pm_card_visa")
	require.NoError(t, err)
	require.Nil(t, intent.LastPaymentError)
	entry := b.ledger(t).Intents[0]
	require.Equal(t, 1, entry.Charges)
	require.Equal(t, 1, entry.Declines)
	require.EqualValues(t, 2500, entry.Held)
}

func TestConfirm_RefusesWhatTheStateForbids(t *testing.T) {
	b := newBench(t, Options{})
	id := b.create(t).ID
	_, err := b.intents.Confirm(id, nil)
	require.Contains(t, stripeError(t, err).Msg, "missing a payment method")

	_, err = b.confirm(id, "pm_card_nobody")
	failure := stripeError(t, err)
	require.Equal(t, stripe.ErrorCodeResourceMissing, failure.Code)
	require.Equal(t, "payment_method", failure.Param)

	_, err = b.confirm(id, "pm_card_visa")
	require.NoError(t, err)
	_, err = b.confirm(id, "pm_card_visa")
	require.Equal(t, stripe.ErrorCodePaymentIntentUnexpectedState, stripeError(t, err).Code)

	_, err = b.intents.Cancel(id, nil)
	require.NoError(t, err)
	_, err = b.confirm(id, "pm_card_visa")
	require.Equal(t, stripe.PaymentIntentStatusCanceled, stripeError(t, err).PaymentIntent.Status)
}

func TestConfirm_WithoutReturnURLNeedsCardOnlyOrNoRedirects(t *testing.T) {
	b := newBench(t, Options{})
	params := manual(2500)
	params.PaymentMethodTypes = nil
	intent, err := b.intents.New(params)
	require.NoError(t, err)
	_, err = b.confirm(intent.ID, "pm_card_visa")
	require.Equal(t, "return_url", stripeError(t, err).Param)
}

func TestChallenge_PassedAuthorizesFailedWaitsForAnotherCard(t *testing.T) {
	b := newBench(t, Options{})
	id := b.create(t).ID
	intent, err := b.confirm(id, "pm_card_authenticationRequired")
	require.NoError(t, err)
	require.EqualValues(t, "use_stripe_sdk", intent.NextAction.Type)
	require.Zero(t, b.ledger(t).Intents[0].Authorized)

	require.Equal(t, http.StatusOK, b.authenticate(t, id, "fail"))
	intent, err = b.intents.Get(id, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, intent.Status)
	require.Equal(t, stripe.ErrorCodePaymentIntentAuthenticationFailure, intent.LastPaymentError.Code)

	_, err = b.confirm(id, "pm_card_threeDSecure2Required")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, b.authenticate(t, id, "succeed"))
	intent, err = b.intents.Get(id, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresCapture, intent.Status)

	require.Equal(t, http.StatusConflict, b.authenticate(t, id, "succeed"), "nothing is asked any more")
	require.Equal(t, http.StatusNotFound, b.authenticate(t, "pi_none", "succeed"))
}

func TestChallenge_TheBankMayDeclineAfterIt(t *testing.T) {
	b := newBench(t, Options{})
	id := b.create(t).ID
	_, err := b.confirm(id, "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, b.authenticate(t, id, "succeed"))
	intent, err := b.intents.Get(id, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.DeclineCodeInsufficientFunds, intent.LastPaymentError.DeclineCode)
}

func TestCancel_ReleasesHeldMoney(t *testing.T) {
	b := newBench(t, Options{})
	id := b.create(t).ID
	_, err := b.confirm(id, "pm_card_visa")
	require.NoError(t, err)
	intent, err := b.intents.Cancel(id, &stripe.PaymentIntentCancelParams{CancellationReason: stripe.String("abandoned")})
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusCanceled, intent.Status)
	require.NotZero(t, intent.CanceledAt)
	entry := b.ledger(t).Intents[0]
	require.EqualValues(t, 2500, entry.Authorized)
	require.EqualValues(t, 2500, entry.Voided)
	require.Zero(t, entry.Held+entry.Captured+entry.Refunded)

	_, err = b.intents.Cancel(id, nil)
	require.Equal(t, stripe.ErrorCodePaymentIntentUnexpectedState, stripeError(t, err).Code)
	_, err = b.intents.Capture(id, nil)
	require.Equal(t, stripe.ErrorCodePaymentIntentUnexpectedState, stripeError(t, err).Code)
}

func TestCapture_OfAPartReleasesTheRest(t *testing.T) {
	b := newBench(t, Options{})
	id := b.create(t).ID
	_, err := b.confirm(id, "pm_card_visa")
	require.NoError(t, err)
	_, err = b.intents.Capture(id, &stripe.PaymentIntentCaptureParams{AmountToCapture: stripe.Int64(2501)})
	require.Equal(t, stripe.ErrorCodeAmountTooLarge, stripeError(t, err).Code)
	_, err = b.intents.Capture(id, &stripe.PaymentIntentCaptureParams{AmountToCapture: stripe.Int64(1000)})
	require.NoError(t, err)
	entry := b.ledger(t).Intents[0]
	require.EqualValues(t, 1000, entry.Kept)
	require.EqualValues(t, 1500, entry.Voided)
}

func TestRefund_InPartsUntilNothingIsLeft(t *testing.T) {
	b := newBench(t, Options{})
	id := b.create(t).ID
	_, err := b.refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String(id)})
	require.Error(t, err, "nothing was captured")
	_, err = b.confirm(id, "pm_card_visa")
	require.NoError(t, err)
	_, err = b.intents.Capture(id, nil)
	require.NoError(t, err)

	part, err := b.refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String(id), Amount: stripe.Int64(1000)})
	require.NoError(t, err)
	require.Equal(t, stripe.RefundStatusSucceeded, part.Status)
	_, err = b.refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String(id), Amount: stripe.Int64(1501)})
	require.Equal(t, "amount", stripeError(t, err).Param)
	rest, err := b.refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String(id)})
	require.NoError(t, err)
	require.EqualValues(t, 1500, rest.Amount)
	_, err = b.refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String(id)})
	require.Equal(t, stripe.ErrorCodeChargeAlreadyRefunded, stripeError(t, err).Code)

	got, err := b.refunds.Get(part.ID, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1000, got.Amount)
	var listed []string
	for all := b.refunds.List(&stripe.RefundListParams{PaymentIntent: stripe.String(id)}); all.Next(); {
		listed = append(listed, all.Refund().ID)
	}
	require.Equal(t, []string{rest.ID, part.ID}, listed, "newest first")
	require.EqualValues(t, 2500, b.ledger(t).Intents[0].Refunded)
}

func TestList_PagesAndFilters(t *testing.T) {
	b := newBench(t, Options{})
	var made []string
	for range 7 {
		made = append([]string{b.create(t).ID}, made...)
	}
	var listed []string
	params := &stripe.PaymentIntentListParams{}
	params.Limit = stripe.Int64(3)
	for all := b.intents.List(params); all.Next(); {
		listed = append(listed, all.PaymentIntent().ID)
	}
	require.Equal(t, made, listed, "stripe-go walks all pages, newest first")

	count := func(created *stripe.RangeQueryParams) (n int) {
		for all := b.intents.List(&stripe.PaymentIntentListParams{CreatedRange: created}); all.Next(); {
			n++
		}
		return n
	}
	require.Equal(t, 7, count(&stripe.RangeQueryParams{LesserThanOrEqual: time.Now().Unix()}))
	require.Zero(t, count(&stripe.RangeQueryParams{GreaterThan: time.Now().Unix() + 60}))

	params = &stripe.PaymentIntentListParams{}
	params.Limit = stripe.Int64(101)
	all := b.intents.List(params)
	require.False(t, all.Next())
	require.Equal(t, "limit", stripeError(t, all.Err()).Param)
}

func TestIdempotency_SameRequestSameAnswer(t *testing.T) {
	b := newBench(t, Options{})
	create := func(amount int64) (*stripe.PaymentIntent, error) {
		params := manual(amount)
		params.SetIdempotencyKey("order-1")
		return b.intents.New(params)
	}
	first, err := create(2500)
	require.NoError(t, err)
	again, err := create(2500)
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
	require.Equal(t, "true", again.LastResponse.Header.Get("Idempotent-Replayed"))
	require.Empty(t, first.LastResponse.Header.Get("Idempotent-Replayed"))

	_, err = create(2600)
	failure := stripeError(t, err)
	require.Equal(t, stripe.ErrorTypeIdempotency, failure.Type)
	require.Equal(t, 400, failure.HTTPStatusCode)

	_, err = b.intents.Confirm(first.ID, &stripe.PaymentIntentConfirmParams{
		Params: stripe.Params{IdempotencyKey: stripe.String("order-1")}, PaymentMethod: stripe.String("pm_card_visa")})
	require.Equal(t, stripe.ErrorTypeIdempotency, stripeError(t, err).Type, "a key belongs to one endpoint")
	require.Len(t, b.ledger(t).Intents, 1)
}

func TestIdempotency_ADeclineIsRememberedABadRequestIsNot(t *testing.T) {
	b := newBench(t, Options{})
	id := b.create(t).ID
	decline := func() *stripe.Error {
		_, err := b.intents.Confirm(id, &stripe.PaymentIntentConfirmParams{
			Params: stripe.Params{IdempotencyKey: stripe.String("attempt-1")}, PaymentMethod: stripe.String("pm_card_chargeDeclined")})
		return stripeError(t, err)
	}
	require.Equal(t, decline().ChargeID, decline().ChargeID)
	require.Equal(t, 1, b.ledger(t).Intents[0].Declines)

	params := manual(0)
	params.SetIdempotencyKey("create-1")
	_, err := b.intents.New(params)
	require.Error(t, err)
	params = manual(900)
	params.SetIdempotencyKey("create-1")
	_, err = b.intents.New(params)
	require.NoError(t, err, "the key is still free")
}

func TestIdempotency_ConcurrentRequestsDoTheWorkOnce(t *testing.T) {
	b := newBench(t, Options{})
	// The first request is under way: the key is claimed, and the answer is not there yet.
	claimed, refused := b.server.store.beginKey("busy", "whatever", time.Now())
	require.Nil(t, claimed)
	require.Nil(t, refused)
	params := manual(2500)
	params.SetIdempotencyKey("busy")
	_, err := b.intents.New(params)
	failure := stripeError(t, err)
	require.Equal(t, 409, failure.HTTPStatusCode)
	require.EqualValues(t, "idempotency_key_in_use", failure.Code)

	// Many at once: all get the one intent or 409, and there is only one.
	var wg sync.WaitGroup
	var wrong atomic.Int64
	for range 20 {
		wg.Go(func() {
			params := manual(2500)
			params.SetIdempotencyKey("many")
			if _, err := b.intents.New(params); err != nil && err.(*stripe.Error).HTTPStatusCode != 409 {
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	require.Zero(t, wrong.Load())
	require.Len(t, b.ledger(t).Intents, 1)
}

func TestErrors_HaveStripesShape(t *testing.T) {
	b := newBench(t, Options{SecretKey: "sk_test_right"})
	form := func(method, path, key, body string) (int, string) {
		req, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
		require.NoError(t, err)
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NotEmpty(t, res.Header.Get("Request-Id"))
		return res.StatusCode, string(text)
	}
	const right = "sk_test_right"
	for _, c := range []struct {
		name, method, path, key, body string
		status                        int
		contains                      string
	}{
		{"no key", "GET", "/v1/payment_intents", "", "", 401, "You did not provide an API key"},
		{"wrong key", "GET", "/v1/payment_intents", "sk_test_wrong_key_here", "", 401, "Invalid API Key provided: sk_test_**********here"},
		{"unknown intent", "GET", "/v1/payment_intents/pi_none", right, "", 404, `"code":"resource_missing"`},
		{"unknown path", "POST", "/v1/subscriptions", right, "", 404, "Unrecognized request URL"},
		{"no amount", "POST", "/v1/payment_intents", right, "currency=usd", 400, `"code":"parameter_missing"`},
		{"amount in words", "POST", "/v1/payment_intents", right, "amount=ten&currency=usd", 400, `"code":"parameter_invalid_integer"`},
		{"amount below the minimum", "POST", "/v1/payment_intents", right, "amount=49&currency=usd", 400, `"code":"amount_too_small"`},
		{"amount above the maximum", "POST", "/v1/payment_intents", right, "amount=100000000&currency=usd", 400, `"code":"amount_too_large"`},
		{"unknown parameter", "POST", "/v1/payment_intents", right, "amount=500&currency=usd&colour=red", 400, `"code":"parameter_unknown"`},
		{"card number in the clear", "POST", "/v1/payment_intents", right, url.Values{"amount": {"500"}, "currency": {"usd"}, "payment_method_data[type]": {"card"}, "payment_method_data[card][number]": {"4242424242424242"}}.Encode(), 402, "generally unsafe"},
		{"body that is no form", "POST", "/v1/payment_intents", right, "%zz", 400, "not form-encoded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := form(c.method, c.path, c.key, c.body)
			require.Equal(t, c.status, status, body)
			require.Contains(t, body, c.contains)
			require.Contains(t, body, `"type":"invalid_request_error"`)
		})
	}
}

func TestState_OutlivesTheProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deep", "stripe.ndjson")
	b := newBench(t, Options{File: file})
	params := manual(2500)
	params.SetIdempotencyKey("order-1")
	intent, err := b.intents.New(params)
	require.NoError(t, err)
	_, err = b.confirm(intent.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	_, err = b.confirm(b.create(t).ID, "pm_card_visa")
	require.NoError(t, err)
	before := b.ledger(t)
	require.NoError(t, b.server.Close())

	for range 2 { // the first start reads what was appended, the second what the first rewrote
		b = newBench(t, Options{File: file})
		require.Equal(t, before, b.ledger(t))
		require.NoError(t, b.server.Close())
	}
	b = newBench(t, Options{File: file})
	again, err := b.intents.New(params)
	require.NoError(t, err)
	require.Equal(t, intent.ID, again.ID, "idempotency keys are kept as well")
	require.Equal(t, http.StatusOK, b.authenticate(t, intent.ID, "succeed"))
}

func TestLedger_NarrowsToAnOrder(t *testing.T) {
	b := newBench(t, Options{})
	id := b.create(t).ID
	other := manual(700)
	other.Metadata = map[string]string{"orderId": "order-2"}
	_, err := b.intents.New(other)
	require.NoError(t, err)
	res, err := http.Get(b.url + "/sandbox/ledger?orderId=order-1")
	require.NoError(t, err)
	defer res.Body.Close()
	var out Ledger
	require.NoError(t, json.NewDecoder(res.Body).Decode(&out))
	require.Len(t, out.Intents, 1)
	require.Equal(t, id, out.Intents[0].ID)
}

// receiver takes webhooks as the payments service does; it refuses the first tries of each event.
type receiver struct {
	secret  string
	refuse  int
	mu      sync.Mutex
	tries   map[string]int
	arrived []stripe.Event
	wrong   []error
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	e, err := webhook.ConstructEvent(body, req.Header.Get("Stripe-Signature"), r.secret)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.wrong = append(r.wrong, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.tries[e.ID]++
	if r.tries[e.ID] <= r.refuse {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.arrived = append(r.arrived, e)
}

func (r *receiver) types() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, e := range r.arrived {
		all = append(all, string(e.Type))
	}
	return all
}

func newReceiver(t *testing.T, refuse int) (*receiver, string) {
	t.Helper()
	r := &receiver{secret: "whsec_test", refuse: refuse, tries: map[string]int{}}
	web := httptest.NewServer(r)
	t.Cleanup(web.Close)
	return r, web.URL
}

func TestWebhooks_AreSignedAndCoverEveryStep(t *testing.T) {
	r, address := newReceiver(t, 0)
	b := newBench(t, Options{WebhookURL: address, WebhookSecret: r.secret})

	id := b.create(t).ID
	_, err := b.confirm(id, "pm_card_chargeDeclined")
	require.Error(t, err)
	_, err = b.confirm(id, "pm_card_authenticationRequired")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, b.authenticate(t, id, "succeed"))
	_, err = b.intents.Capture(id, nil)
	require.NoError(t, err)
	_, err = b.refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String(id)})
	require.NoError(t, err)
	_, err = b.intents.Cancel(b.create(t).ID, nil)
	require.NoError(t, err)

	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.ElementsMatch(c, []string{
			"payment_intent.payment_failed", "payment_intent.requires_action", "payment_intent.amount_capturable_updated",
			"payment_intent.succeeded", "charge.refunded", "refund.created", "payment_intent.canceled",
		}, r.types())
	}, 5*time.Second, 10*time.Millisecond)
	require.Empty(t, r.wrong)

	var intent stripe.PaymentIntent
	for _, e := range r.arrived {
		if e.Type == stripe.EventTypePaymentIntentSucceeded {
			require.NoError(t, json.Unmarshal(e.Data.Raw, &intent))
			require.Equal(t, stripe.PaymentIntentStatusSucceeded, intent.Status)
		}
	}
	require.Equal(t, id, intent.ID)
}

func TestWebhooks_AreSentUntilAccepted(t *testing.T) {
	r, address := newReceiver(t, 3)
	b := newBench(t, Options{WebhookURL: address, WebhookSecret: r.secret, retryAfter: time.Millisecond})
	_, err := b.confirm(b.create(t).ID, "pm_card_visa")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return b.ledger(t).Undelivered == 0 }, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, []string{"payment_intent.amount_capturable_updated"}, r.types())
}

func TestWebhooks_NotAcceptedAreSentAfterARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stripe.ndjson")
	dead := newBench(t, Options{File: file, WebhookURL: "http://127.0.0.1:1/", WebhookSecret: "whsec_test"})
	_, err := dead.confirm(dead.create(t).ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, 1, dead.ledger(t).Undelivered)
	require.NoError(t, dead.server.Close())

	r, address := newReceiver(t, 0)
	newBench(t, Options{File: file, WebhookURL: address, WebhookSecret: r.secret})
	require.Eventually(t, func() bool { return len(r.types()) == 1 }, 5*time.Second, 5*time.Millisecond)
}

func TestRun_ServesUntilItsContextEnds(t *testing.T) {
	err := Command(t.Context(), []string{"-addr", "127.0.0.1:-1"})
	require.ErrorContains(t, err, "stripe sandbox on 127.0.0.1:-1")
	require.Error(t, Command(t.Context(), []string{"stray"}))
	require.Error(t, Command(t.Context(), []string{"-no-such-flag"}))
}

func TestState_RefusesAFileItCannotRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stripe.ndjson")
	require.NoError(t, os.WriteFile(file, []byte("not json\n"), 0o600))
	_, err := New(Options{File: file})
	require.ErrorContains(t, err, fmt.Sprintf("%s: line 1", file))
}
