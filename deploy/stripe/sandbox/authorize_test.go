package sandbox

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	stripecharge "github.com/stripe/stripe-go/v76/charge"
)

// authorizing is the request that creates an intent and confirms it.
func authorizing(method, key string) *stripe.PaymentIntentParams {
	params := manual(2500)
	params.Confirm, params.PaymentMethod = stripe.Bool(true), stripe.String(method)
	if key != "" {
		params.IdempotencyKey = stripe.String(key)
	}
	return params
}

func TestAuthorize_CreatesAndConfirmsAtOnce(t *testing.T) {
	b := newBench(t, Options{})
	intent, err := b.intents.New(authorizing("pm_card_visa", ""))
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresCapture, intent.Status)
	require.NotEmpty(t, intent.LatestCharge.ID)
	intent, err = b.intents.New(authorizing("pm_card_authenticationRequired", ""))
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresAction, intent.Status)
	require.NotEmpty(t, intent.ClientSecret)
}

func TestAuthorize_ADeclineHasMadeTheIntent(t *testing.T) {
	b := newBench(t, Options{})
	var made string
	for range 2 { // the same key has the same answer
		_, err := b.intents.New(authorizing("pm_card_chargeDeclined", "key"))
		failure := stripeError(t, err)
		require.Equal(t, http.StatusPaymentRequired, failure.HTTPStatusCode)
		require.Equal(t, stripe.ErrorTypeCard, failure.Type)
		require.NotNil(t, failure.PaymentIntent)
		require.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, failure.PaymentIntent.Status)
		require.Equal(t, "order-1", failure.PaymentIntent.Metadata["orderId"])
		made = failure.PaymentIntent.ID
	}
	require.Len(t, b.ledger(t).Intents, 1)
	intent, err := b.confirm(made, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresCapture, intent.Status)

	_, err = b.intents.New(authorizing("pm_card_visa", "key"))
	failure := stripeError(t, err)
	require.Equal(t, http.StatusBadRequest, failure.HTTPStatusCode)
	require.Equal(t, stripe.ErrorTypeIdempotency, failure.Type, "the key was another request's")
}

func TestAuthorize_ACardThatIsNotKnownMakesNothing(t *testing.T) {
	b := newBench(t, Options{})
	_, err := b.intents.New(authorizing("pm_nobody", "key"))
	require.Equal(t, "payment_method", stripeError(t, err).Param)
	require.Empty(t, b.ledger(t).Intents)
	_, err = b.intents.New(authorizing("pm_card_visa", "key"))
	require.NoError(t, err, "nothing had begun under the key")
}

func TestAuthorize_IsBothOfWhatRulesName(t *testing.T) {
	for _, operation := range []string{"create", "confirm"} {
		b := newBench(t, Options{})
		b.misbehaves(t, Rule{Operation: operation, Fault: ErrorAfter})
		_, err := b.intents.New(authorizing("pm_card_visa", "key"))
		require.Equal(t, http.StatusInternalServerError, stripeError(t, err).HTTPStatusCode, operation)
		require.Len(t, b.ledger(t).Intents, 1)
		_, err = b.intents.New(authorizing("pm_card_visa", "key"))
		require.Equal(t, "true", stripeError(t, err).LastResponse.Header.Get("Idempotent-Replayed"))
	}
	b := newBench(t, Options{})
	b.misbehaves(t, Rule{Operation: "confirm", Fault: ErrorBefore})
	b.create(t) // one that is not confirmed is not meant
	require.Zero(t, b.rules(t)[0].Struck)
}

func TestAuthorize_TheListFindsTheOrder(t *testing.T) {
	b := newBench(t, Options{})
	for range 25 {
		b.create(t)
	}
	theirs := authorizing("pm_card_visa", "")
	theirs.Metadata = map[string]string{"orderId": "order-2"}
	made, err := b.intents.New(theirs)
	require.NoError(t, err)
	b.create(t)
	found := func(since time.Time) (ids []string) {
		list := b.intents.List(&stripe.PaymentIntentListParams{
			ListParams: stripe.ListParams{Limit: stripe.Int64(10)}, CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
		})
		for list.Next() {
			if list.PaymentIntent().Metadata["orderId"] == "order-2" {
				ids = append(ids, list.PaymentIntent().ID)
			}
		}
		require.NoError(t, list.Err())
		return ids
	}
	require.Equal(t, []string{made.ID}, found(time.Now().Add(-time.Minute)))
	require.Empty(t, found(time.Now().Add(time.Minute)))
}

func TestAuthorize_WebhooksNameTheOrder(t *testing.T) {
	orders := make(chan string, 3)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var event struct {
			Data struct {
				Object struct{ Metadata map[string]string }
			}
		}
		_ = json.NewDecoder(r.Body).Decode(&event)
		orders <- event.Data.Object.Metadata["orderId"]
	}))
	defer receiver.Close()
	b := newBench(t, Options{WebhookURL: receiver.URL, WebhookSecret: "whsec_test"})
	intent, err := b.intents.New(authorizing("pm_card_visa", ""))
	require.NoError(t, err)
	_, err = b.intents.Cancel(intent.ID, nil)
	require.NoError(t, err)
	for range 3 { // authorized, canceled, and the charge's refund
		require.Equal(t, "order-1", <-orders)
	}
}

// TestPublishableKey_ConfirmsWithTheClientSecretAlone: a buyer's browser can do this much, as at Stripe.
func TestPublishableKey_ConfirmsWithTheClientSecretAlone(t *testing.T) {
	b := newBench(t, Options{})
	intent := b.create(t)
	browser := b.intents
	browser.Key = "pk_test_sandbox"
	confirm := func(secret *string) (*stripe.PaymentIntent, error) {
		params := &stripe.PaymentIntentConfirmParams{PaymentMethod: stripe.String("pm_card_chargeDeclined")}
		if secret != nil {
			params.AddExtra("client_secret", *secret)
		}
		return browser.Confirm(intent.ID, params)
	}
	_, err := confirm(nil)
	require.Equal(t, "client_secret", stripeError(t, err).Param)
	_, err = confirm(stripe.String(intent.ID + "_secret_guessed"))
	require.Equal(t, "client_secret", stripeError(t, err).Param)
	for range 2 {
		_, err = confirm(&intent.ClientSecret)
		require.Equal(t, http.StatusPaymentRequired, stripeError(t, err).HTTPStatusCode)
	}
	seen, err := browser.Get(intent.ID, &stripe.PaymentIntentParams{ClientSecret: &intent.ClientSecret})
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, seen.Status)

	_, err = browser.Cancel(intent.ID, nil)
	require.Equal(t, http.StatusForbidden, stripeError(t, err).HTTPStatusCode)
	_, err = browser.New(manual(2500))
	require.Equal(t, http.StatusForbidden, stripeError(t, err).HTTPStatusCode)

	charges := stripecharge.Client{B: b.intents.B, Key: b.intents.Key}.List(&stripe.ChargeListParams{PaymentIntent: &intent.ID})
	n := 0
	for ; charges.Next(); n++ {
		require.Equal(t, stripe.ChargeStatusFailed, charges.Charge().Status)
	}
	require.NoError(t, charges.Err())
	require.Equal(t, 2, n)

	_, err = b.intents.Cancel(intent.ID, nil)
	require.NoError(t, err)
	_, err = confirm(&intent.ClientSecret)
	require.Equal(t, stripe.ErrorCodePaymentIntentUnexpectedState, stripeError(t, err).Code)
}
