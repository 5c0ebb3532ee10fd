package stripe

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-mock/embedded"
	"github.com/stripe/stripe-mock/server"

	"boxoffice/services/internal/clock"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe/stripetest"
)

// specServer is Stripe's stripe-mock: it compares every request with Stripe's published OpenAPI description.
// It has no state, so only whether it accepts a request matters.
type specServer struct {
	mock http.Handler

	mu       sync.Mutex
	asked    []string
	rejected []string
}

func newSpecServer(t *testing.T) *specServer {
	t.Helper()
	description, err := server.LoadSpec(embedded.OpenAPISpec, "")
	require.NoError(t, err)
	fixtures, err := server.LoadFixtures(embedded.OpenAPIFixtures, "")
	require.NoError(t, err)
	mock, err := server.NewStubServer(fixtures, description, false, false)
	require.NoError(t, err)
	return &specServer{mock: http.HandlerFunc(mock.HandleRequest)}
}

func (r *specServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	answer := httptest.NewRecorder()
	r.mock.ServeHTTP(answer, req)
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := req.Method + " " + req.URL.Path
	r.asked = append(r.asked, asked)
	if answer.Code != http.StatusOK {
		r.rejected = append(r.rejected, asked+": "+answer.Body.String())
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// TestContract_StripeTakesEveryRequestThatPaymentsMakes calls every operation of the Stripe client. One that is added
// to the Stripe client must be added here.
func TestContract_StripeTakesEveryRequestThatPaymentsMakes(t *testing.T) {
	r := newSpecServer(t)
	web := httptest.NewServer(r)
	defer web.Close()
	client := New(Options{Key: stripetest.Key, URL: web.URL, Timeout: 10 * time.Second, Clock: clock.System, Log: quiet, Retries: 2})

	requireRefusals(t, r)
	r.asked = nil

	ctx := t.Context()
	order := liveOrder()
	payment := order.Begin("visa", clock.System())
	old := payment.Attempt
	old.At = old.At.Add(-domain.KeyLife)
	payment.StripeID = "pi_1"
	operations := map[string]func() error{
		"Authorize": func() error { _, err := client.Authorize(ctx, &order, payment.Attempt, visa()); return err },
		"Authorize, by token": func() error {
			_, err := client.Authorize(ctx, &order, payment.Attempt, domain.Method{Token: "tok_visa"})
			return err
		},
		"Confirm":           func() error { _, err := client.Confirm(ctx, payment, 1, visa()); return err },
		"Confirm, by token": func() error { _, err := client.Confirm(ctx, payment, 2, domain.Method{Token: "tok_visa"}); return err },
		"Authorize, and return": func() error {
			_, err := client.Authorize(ctx, &order, payment.Attempt, domain.Method{PaymentMethod: "pm_card_visa", ReturnURL: "https://tickets.example/orders/1"})
			return err
		},
		"Confirm, and return": func() error {
			_, err := client.Confirm(ctx, payment, 3, domain.Method{PaymentMethod: "pm_card_visa", ReturnURL: "https://tickets.example/orders/1"})
			return err
		},
		"Find":             func() error { _, err := client.Find(ctx, &order, payment.Attempt); return err },
		"Find, after long": func() error { _, err := client.Find(ctx, &order, old); return err },
		"Lookup":           func() error { _, err := client.Lookup(ctx, payment.StripeID); return err },
		"Get":              func() error { _, err := client.Get(ctx, payment.StripeID); return err },
		"complete": func() error {
			_, err := client.complete(ctx, &stripego.PaymentIntent{ID: "pi_1", Status: stripego.PaymentIntentStatusSucceeded, LatestCharge: &stripego.Charge{Captured: true, Disputed: true, AmountRefunded: 1}}, false)
			return err
		},
		"complete, declined": func() error {
			_, err := client.complete(ctx, &stripego.PaymentIntent{ID: "pi_1", Status: stripego.PaymentIntentStatusRequiresAction, LatestCharge: &stripego.Charge{}}, false)
			return err
		},
		"Intents":   func() error { return client.Intents(ctx, noon, func([]Listed) error { return nil }) },
		"Reversals": func() error { return client.Reversals(ctx, noon, func([]Notice) error { return nil }) },
		"Capture":   func() error { _, err := client.Capture(ctx, payment); return err },
		"Void":      func() error { _, err := client.Void(ctx, payment); return err },
		"Refund":    func() error { _, err := client.Refund(ctx, payment); return err },
		"EndIntent": func() error { return client.EndIntent(ctx, payment.StripeID) },
	}
	for name, run := range operations {
		require.NoError(t, run(), name)
	}
	require.Empty(t, r.rejected)
	slices.Sort(r.asked)
	require.Equal(t, []string{
		"GET /v1/charges",
		"GET /v1/disputes",
		"GET /v1/events",
		"GET /v1/payment_intents",
		"GET /v1/payment_intents/pi_1",
		"GET /v1/refunds",
		"POST /v1/payment_intents",
		"POST /v1/payment_intents/pi_1/cancel",
		"POST /v1/payment_intents/pi_1/capture",
		"POST /v1/payment_intents/pi_1/confirm",
		"POST /v1/payment_methods",
		"POST /v1/refunds",
	}, slices.Compact(r.asked))

	exported := reflect.TypeFor[*Client]()
	for i := range exported.NumMethod() {
		require.Contains(t, operations, exported.Method(i).Name, "an operation that is not held against Stripe's description")
	}
}

// requireRefusals checks that specServer refuses wrong requests.
func requireRefusals(t *testing.T, r *specServer) {
	t.Helper()
	for name, body := range map[string]string{
		"an unknown parameter": "amount=2500&currency=usd&colour=red",
		"a wrong type":         "amount=much&currency=usd",
		"a missing parameter":  "amount=2500",
		"an unknown value":     "amount=2500&currency=usd&capture_method=later",
	} {
		req := httptest.NewRequest("POST", "/v1/payment_intents", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+stripetest.Key)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.ServeHTTP(httptest.NewRecorder(), req)
		require.NotEmpty(t, r.rejected, name)
		r.rejected = nil
	}
}
