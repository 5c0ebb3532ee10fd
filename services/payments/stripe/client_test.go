package stripe

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/stripe/sandbox"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/problem"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe/stripetest"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	noon  = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
)

func newClient(t *testing.T, server *stripetest.Server, now clock.Clock) *Client {
	t.Helper()
	if now == nil {
		now = clock.System
	}
	return New(Options{Key: stripetest.Key, URL: server.URL, Timeout: 10 * time.Second, Clock: now, Log: quiet, Retries: 2})
}

func liveOrder() domain.Order {
	return domain.Order{Schema: domain.OrderSchema, ID: "order-1", UserID: "buyer-1", Status: domain.OrderCreated, ExpiresAt: noon.Add(15 * time.Minute), Amount: 2500, Currency: "usd", Version: 1}
}

// requireProblem finds the problem in err.
func requireProblem(t *testing.T, err error, kind problem.Kind) *problem.Error {
	t.Helper()
	p, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "not a problem: %v", err)
	require.Equal(t, kind, p.Kind, err)
	return p
}

// intended is a payment with an empty intent.
func intended(t *testing.T, client *Client) *domain.Payment {
	t.Helper()
	order := liveOrder()
	payment := order.Begin("visa", clock.System())
	intent, err := client.Find(t.Context(), &order, payment.Attempt)
	require.NoError(t, err)
	require.Equal(t, domain.Pending, intent.Status)
	payment.Observe(intent, noon)
	return payment
}

// attempted is an order and the first attempt to pay it, which Stripe has not had.
func attempted() (*domain.Order, domain.Attempt) {
	order := liveOrder()
	return &order, order.Begin("visa", clock.System()).Attempt
}

func visa() domain.Method { return domain.Method{PaymentMethod: "pm_card_visa"} }

func TestClient_LeadsAnIntentThroughItsLife(t *testing.T) {
	ctx := t.Context()
	p := stripetest.New(t, sandbox.Options{})
	client := newClient(t, p, nil)

	t.Run("authorized and captured and refunded", func(t *testing.T) {
		payment := intended(t, client)
		intent, err := client.Confirm(ctx, payment, 1, visa())
		require.NoError(t, err)
		require.Equal(t, domain.Authorized, intent.Status)
		require.NotEmpty(t, intent.ChargeID)
		require.Contains(t, intent.ClientSecret, payment.StripeID)
		intent, err = client.Capture(ctx, payment)
		require.NoError(t, err)
		require.Equal(t, domain.Captured, intent.Status)
		for range 2 {
			intent, err = client.Refund(ctx, payment)
			require.NoError(t, err)
			require.Equal(t, domain.Refunded, intent.Status)
		}
		entry := p.Money(t, "order-1")[0]
		require.EqualValues(t, 2500, entry.Captured)
		require.EqualValues(t, 2500, entry.Refunded)
		require.Equal(t, "buyer-1", entry.Metadata["userId"])
	})
}

func TestClient_VoidEndsAnIntentInAnyOpenState(t *testing.T) {
	for name, method := range map[string]string{"untouched": "", "declined": "pm_card_chargeDeclined", "waiting for the buyer": "pm_card_authenticationRequired", "authorized": "pm_card_visa"} {
		t.Run(name, func(t *testing.T) {
			p := stripetest.New(t, sandbox.Options{})
			client := newClient(t, p, nil)
			payment := intended(t, client)
			if method != "" {
				_, err := client.Confirm(t.Context(), payment, 1, domain.Method{PaymentMethod: method})
				require.NoError(t, err)
			}
			for range 2 {
				intent, err := client.Void(t.Context(), payment)
				require.NoError(t, err)
				require.Equal(t, domain.Voided, intent.Status)
			}
			intent, err := client.Confirm(t.Context(), payment, 2, visa())
			require.NoError(t, err)
			require.Equal(t, domain.Voided, intent.Status, "it cannot be paid any more")
			require.Zero(t, p.Money(t, "order-1")[0].Held)
		})
	}
}

func TestClient_ADeclineIsAnOutcome(t *testing.T) {
	for _, decline := range []struct {
		method domain.Method
		code   string
	}{
		{domain.Method{PaymentMethod: "pm_card_chargeDeclined"}, "generic_decline"},
		{domain.Method{PaymentMethod: "pm_card_chargeDeclinedInsufficientFunds"}, "insufficient_funds"},
		{domain.Method{PaymentMethod: "pm_card_chargeDeclinedExpiredCard"}, "expired_card"},
		{domain.Method{Token: "tok_chargeDeclined"}, "generic_decline"},
		{domain.Method{Token: "tok_chargeDeclinedIncorrectCvc"}, "incorrect_cvc"},
	} {
		client := newClient(t, stripetest.New(t, sandbox.Options{}), nil)
		payment := intended(t, client)
		intent, err := client.Confirm(t.Context(), payment, 1, decline.method)
		require.NoError(t, err)
		require.Equal(t, domain.Failed, intent.Status)
		require.Equal(t, decline.code, intent.DeclineCode)
		require.NotEmpty(t, intent.DeclineMessage)
		require.NotEmpty(t, intent.ChargeID)
	}
}

func TestClient_TokensAndCardsStripeDoesNotKnowAreTheBuyersFault(t *testing.T) {
	client := newClient(t, stripetest.New(t, sandbox.Options{}), nil)
	payment := intended(t, client)
	for _, method := range []domain.Method{{PaymentMethod: "pm_nobody"}, {Token: "tok_nobody"}} {
		_, err := client.Confirm(t.Context(), payment, 1, method)
		refused := requireProblem(t, err, problem.Invalid)
		require.Equal(t, method.Field(), refused.Details[0].Field)
		require.Equal(t, "resource_missing", refused.Details[0].Code)
	}
}

func TestClient_AmountsThatCannotBeCharged(t *testing.T) {
	client := newClient(t, stripetest.New(t, sandbox.Options{}), nil)
	order, attempt := attempted()
	order.Amount = 20
	_, err := client.Authorize(t.Context(), order, attempt, visa())
	require.Equal(t, "amount_too_small", requireProblem(t, err, problem.Invalid).Details[0].Code)
}

func TestClient_ARepeatedRequestDoesNothingTwice(t *testing.T) {
	p := stripetest.New(t, sandbox.Options{})
	client := newClient(t, p, nil)
	payment := intended(t, client)
	require.Equal(t, payment.StripeID, intended(t, client).StripeID, "an order has one intent")

	_, err := client.Confirm(t.Context(), payment, 1, domain.Method{Token: "tok_chargeDeclined"})
	require.NoError(t, err)
	again, err := client.Confirm(t.Context(), payment, 1, domain.Method{Token: "tok_chargeDeclined"})
	require.NoError(t, err)
	require.Equal(t, domain.Failed, again.Status)
	require.Equal(t, 1, p.Money(t, "order-1")[0].Declines, "the bank was asked once")
}

func TestClient_AnAnswerGivenBeforeIsNotTakenForThePresent(t *testing.T) {
	p := stripetest.New(t, sandbox.Options{})
	client := newClient(t, p, nil)
	payment := intended(t, client)
	threeD := domain.Method{PaymentMethod: "pm_card_authenticationRequired"}
	intent, err := client.Confirm(t.Context(), payment, 1, threeD)
	require.NoError(t, err)
	require.Equal(t, domain.RequiresAction, intent.Status)
	p.Authenticate(t, payment.StripeID, "succeed")
	intent, err = client.Confirm(t.Context(), payment, 1, threeD)
	require.NoError(t, err)
	require.Equal(t, domain.Authorized, intent.Status)
}

func TestClient_WithAReturnURLAnIntentHasARedirectURL(t *testing.T) {
	p := stripetest.New(t, sandbox.Options{})
	client := newClient(t, p, nil)
	order, attempt := attempted()
	card := domain.Method{PaymentMethod: "pm_card_authenticationRequired", ReturnURL: "https://tickets.example/orders/1"}
	authorized, err := client.Authorize(t.Context(), order, attempt, card)
	require.NoError(t, err)
	require.Contains(t, authorized.RedirectURL, "/3d_secure/"+authorized.ID)
	repeated, err := client.Authorize(t.Context(), order, attempt, card)
	require.NoError(t, err)
	require.Equal(t, authorized.RedirectURL, repeated.RedirectURL, "the same request under the same key")
	read, err := client.Get(t.Context(), authorized.ID)
	require.NoError(t, err)
	require.Equal(t, authorized.RedirectURL, read.RedirectURL)

	order.Payment.StripeID = authorized.ID
	confirmed, err := client.Confirm(t.Context(), order.Payment, 2, card)
	require.NoError(t, err)
	require.NotEmpty(t, confirmed.RedirectURL)
	require.NotEqual(t, authorized.RedirectURL, confirmed.RedirectURL)

	p.Authenticate(t, authorized.ID, "succeed")
	read, err = client.Get(t.Context(), authorized.ID)
	require.NoError(t, err)
	require.Empty(t, read.RedirectURL)
}

func TestClient_AFailureOnStripesSideAfterTheWorkIsOvercome(t *testing.T) {
	p := stripetest.New(t, sandbox.Options{})
	client := newClient(t, p, nil)
	// The step is done, but the response is a 500, which Stripe keeps under the key.
	broken := func(path string) *int {
		times := 0
		seen := map[string]bool{}
		after := func(r *http.Request, w *httptest.ResponseRecorder) {
			key := r.Header.Get("Idempotency-Key")
			if !strings.HasSuffix(r.URL.Path, path) || r.Method != http.MethodPost || strings.HasSuffix(key, "/2") {
				return
			}
			times++
			if seen[key] {
				w.Header().Set("Idempotent-Replayed", "true")
			}
			seen[key] = true
			w.Code = 500
			w.Body.Reset()
			w.Body.WriteString(`{"error":{"type":"api_error","message":"something broke"}}`)
		}
		p.After.Store(&after)
		return &times
	}
	payment := intended(t, client)
	times := broken("/confirm")
	intent, err := client.Confirm(t.Context(), payment, 1, visa())
	require.NoError(t, err)
	require.Equal(t, domain.Authorized, intent.Status)
	require.Equal(t, 2, *times, "the same key once more, then the next key")
	broken("/capture")
	intent, err = client.Capture(t.Context(), payment)
	require.NoError(t, err)
	require.Equal(t, domain.Captured, intent.Status)
	broken("/refunds")
	intent, err = client.Refund(t.Context(), payment)
	require.NoError(t, err)
	require.Equal(t, domain.Refunded, intent.Status)

	times = broken("/payment_intents")
	another := liveOrder()
	another.ID = "order-2"
	intent, err = client.Authorize(t.Context(), &another, another.Begin("visa", clock.System()).Attempt, visa())
	require.NoError(t, err)
	require.Equal(t, domain.Authorized, intent.Status)
	require.Equal(t, 2, *times, "the same key once more, then the intent is found")
	require.Len(t, p.Money(t, "order-2"), 1)

	var paid int64
	for _, entry := range p.Money(t, "order-1") {
		paid += entry.Authorized
	}
	require.EqualValues(t, 2500, paid, "nothing was charged twice")
}

func TestClient_StripeAwayIsUnavailable(t *testing.T) {
	p := stripetest.New(t, sandbox.Options{})
	client := newClient(t, p, nil)
	payment := intended(t, client)
	client.paymentIntents.B.SetMaxNetworkRetries(0) // it would wait between them
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"breaks": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"error":{"type":"api_error"}}`, http.StatusInternalServerError)
		},
		"is overloaded": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"error":{"type":"invalid_request_error","code":"rate_limit"}}`, http.StatusTooManyRequests)
		},
		"is a dead proxy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Stripe-Should-Retry", "false")
			http.Error(w, "<html>", http.StatusBadGateway)
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Stripe-Should-Retry", "false")
				answer(w, r)
				return true
			}
			p.Before.Store(&before)
			defer p.Before.Store(nil)
			_, err := client.Confirm(t.Context(), payment, 1, visa())
			require.NotZero(t, requireProblem(t, err, problem.Unavailable).RetryAfter)
		})
	}
	t.Run("is silent", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		before := func(_ http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return true
		}
		p.Before.Store(&before)
		defer p.Before.Store(nil)
		_, err := client.Confirm(ctx, payment, 1, visa())
		requireProblem(t, err, problem.Unavailable)
	})
}

func TestClient_AWrongKeyIsOurFaultAndShownToNobody(t *testing.T) {
	client := newClient(t, stripetest.New(t, sandbox.Options{SecretKey: "sk_test_another"}), nil)
	order, attempt := attempted()
	_, err := client.Authorize(t.Context(), order, attempt, visa())
	require.ErrorContains(t, err, "Invalid API Key")
	require.Equal(t, problem.Internal, problem.KindOf(err))
}

func TestClient_ErrorsHoldNoClientSecret(t *testing.T) {
	p := stripetest.New(t, sandbox.Options{})
	client := newClient(t, p, nil)
	payment := intended(t, client)
	after := func(_ *http.Request, w *httptest.ResponseRecorder) {
		w.Code = 400
		w.Body.Reset()
		w.Body.WriteString(`{"error":{"type":"invalid_request_error","code":"odd","message":"odd","payment_intent":{"id":"pi_1","object":"payment_intent","client_secret":"pi_1_secret_2"}}}`)
	}
	p.After.Store(&after)
	_, err := client.Confirm(t.Context(), payment, 1, visa())
	require.ErrorContains(t, err, "odd")
	require.NotContains(t, err.Error(), "secret_2")
}

func TestClient_WhatABadHourBrokeIsDoneAfterIt(t *testing.T) {
	p := stripetest.New(t, sandbox.Options{})
	client := newClient(t, p, nil)
	clock := time.Now()
	client.clock = func() time.Time { return clock }
	payment := intended(t, client)
	p.Inject(t, `{"operation":"confirm","fault":"error_before","times":5}`)
	for range 2 {
		_, err := client.Confirm(t.Context(), payment, 1, visa())
		requireProblem(t, err, problem.Unavailable) // four have failed; then the responses are repeated
	}
	clock = clock.Add(keyPause)
	_, err := client.Confirm(t.Context(), payment, 1, visa())
	requireProblem(t, err, problem.Unavailable) // the fifth
	clock = clock.Add(keyPause)
	intent, err := client.Confirm(t.Context(), payment, 1, visa())
	require.NoError(t, err)
	require.Equal(t, domain.Authorized, intent.Status)
	require.Equal(t, 1, p.Money(t, payment.OrderID)[0].Charges)
}
