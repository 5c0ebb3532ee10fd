package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/stripe/sandbox"
	"boxoffice/services/internal/problem"
)

var quiet = slog.New(slog.DiscardHandler)

// processor is the sandbox, with a place in front of it where things can go wrong.
type processor struct {
	url     string
	sandbox *sandbox.Server
	// before sees each request before the sandbox does; if it returns true it has answered.
	before atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	// after sees each answer before the client does, and may replace it.
	after atomic.Pointer[func(*http.Request, *httptest.ResponseRecorder)]
	asked atomic.Int64 // requests to Stripe's API
	wrote atomic.Int64 // those among them that may change something
}

func newProcessor(t *testing.T, opts sandbox.Options) *processor {
	t.Helper()
	opts.Log = quiet
	server, err := sandbox.New(opts)
	require.NoError(t, err)
	p := &processor{sandbox: server}
	web := httptest.NewServer(p)
	t.Cleanup(func() { web.Close(); _ = server.Close() })
	p.url = web.URL
	return p
}

func (p *processor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		p.asked.Add(1)
		if r.Method == http.MethodPost {
			p.wrote.Add(1)
		}
	}
	if before := p.before.Load(); before != nil && (*before)(w, r) {
		return
	}
	after := p.after.Load()
	if after == nil {
		p.sandbox.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	p.sandbox.ServeHTTP(answer, r)
	(*after)(r, answer)
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = io.Copy(w, answer.Body)
}

func (p *processor) client() *stripeClient {
	return newStripeClient(sandboxKey, p.url, 10*time.Second, quiet)
}

// money is what the sandbox's ledger says of an order.
func (p *processor) money(t *testing.T, orderID string) []sandbox.LedgerEntry {
	t.Helper()
	return get[sandbox.Ledger](t, p.sandbox, "/sandbox/ledger?orderId="+url.QueryEscape(orderID)).Intents
}

// notice is what a webhook would tell of an intent now.
func (p *processor) notice(stripeID string) notice {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/v1/payment_intents/"+stripeID, nil)
	r.Header.Set("Authorization", "Bearer "+sandboxKey)
	p.sandbox.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return notice{intent: Intent{ID: stripeID, Status: Unknown}}
	}
	return noticeIn(w.Body.Bytes())
}

// authenticate does what the buyer does on the bank's page.
func (p *processor) authenticate(t *testing.T, stripeID, outcome string) {
	t.Helper()
	w := httptest.NewRecorder()
	p.sandbox.ServeHTTP(w, httptest.NewRequest("POST", "/sandbox/payment_intents/"+stripeID+"/authenticate?outcome="+outcome, nil))
	require.Equal(t, 200, w.Code, w.Body.String())
}

// expire lets an authorization lapse.
func (p *processor) expire(t *testing.T, stripeID string) {
	t.Helper()
	w := httptest.NewRecorder()
	p.sandbox.ServeHTTP(w, httptest.NewRequest("POST", "/sandbox/payment_intents/"+stripeID+"/expire", nil))
	require.Equal(t, 200, w.Code, w.Body.String())
}

// misbehaves makes a rule of what goes wrong.
func (p *processor) misbehaves(t *testing.T, rule string) {
	t.Helper()
	w := httptest.NewRecorder()
	p.sandbox.ServeHTTP(w, httptest.NewRequest("POST", "/sandbox/faults", strings.NewReader(rule)))
	require.Equal(t, 201, w.Code, w.Body.String())
}

// intended is a payment whose intent exists, and is empty.
func intended(t *testing.T, g *stripeClient) *Payment {
	t.Helper()
	order := liveOrder()
	payment := order.Begin("visa", now())
	intent, err := g.Find(t.Context(), &order, payment.Attempt)
	require.NoError(t, err)
	require.Equal(t, Pending, intent.Status)
	payment.Observe(intent, noon)
	return payment
}

// attempted is an order and the first attempt to pay it, which Stripe has not heard of.
func attempted() (*Order, Attempt) {
	order := liveOrder()
	return &order, order.Begin("visa", now()).Attempt
}

func visa() Method { return Method{PaymentMethod: "pm_card_visa"} }

func TestGateway_LeadsAnIntentThroughItsLife(t *testing.T) {
	ctx := t.Context()
	p := newProcessor(t, sandbox.Options{})
	g := p.client()

	t.Run("authorized and captured and refunded", func(t *testing.T) {
		payment := intended(t, g)
		intent, err := g.Confirm(ctx, payment, 1, visa())
		require.NoError(t, err)
		require.Equal(t, Authorized, intent.Status)
		require.NotEmpty(t, intent.ChargeID)
		require.Contains(t, intent.ClientSecret, payment.StripeID)
		intent, err = g.Capture(ctx, payment)
		require.NoError(t, err)
		require.Equal(t, Captured, intent.Status)
		for range 2 {
			intent, err = g.Refund(ctx, payment)
			require.NoError(t, err)
			require.Equal(t, Refunded, intent.Status)
		}
		entry := p.money(t, "order-1")[0]
		require.EqualValues(t, 2500, entry.Captured)
		require.EqualValues(t, 2500, entry.Refunded)
		require.Equal(t, "buyer-1", entry.Metadata["userId"])
	})
}

func TestGateway_VoidEndsAnIntentInAnyOpenState(t *testing.T) {
	for name, method := range map[string]string{"untouched": "", "declined": "pm_card_chargeDeclined", "waiting for the buyer": "pm_card_authenticationRequired", "authorized": "pm_card_visa"} {
		t.Run(name, func(t *testing.T) {
			p := newProcessor(t, sandbox.Options{})
			g := p.client()
			payment := intended(t, g)
			if method != "" {
				_, err := g.Confirm(t.Context(), payment, 1, Method{PaymentMethod: method})
				require.NoError(t, err)
			}
			for range 2 {
				intent, err := g.Void(t.Context(), payment)
				require.NoError(t, err)
				require.Equal(t, Voided, intent.Status)
			}
			intent, err := g.Confirm(t.Context(), payment, 2, visa())
			require.NoError(t, err)
			require.Equal(t, Voided, intent.Status, "it cannot be paid any more")
			require.Zero(t, p.money(t, "order-1")[0].Held)
		})
	}
}

func TestGateway_ADeclineIsAnOutcome(t *testing.T) {
	for _, c := range []struct {
		method Method
		code   string
	}{
		{Method{PaymentMethod: "pm_card_chargeDeclined"}, "generic_decline"},
		{Method{PaymentMethod: "pm_card_chargeDeclinedInsufficientFunds"}, "insufficient_funds"},
		{Method{PaymentMethod: "pm_card_chargeDeclinedExpiredCard"}, "expired_card"},
		{Method{Token: "tok_chargeDeclined"}, "generic_decline"},
		{Method{Token: "tok_chargeDeclinedIncorrectCvc"}, "incorrect_cvc"},
	} {
		g := newProcessor(t, sandbox.Options{}).client()
		payment := intended(t, g)
		intent, err := g.Confirm(t.Context(), payment, 1, c.method)
		require.NoError(t, err)
		require.Equal(t, Failed, intent.Status)
		require.Equal(t, c.code, intent.DeclineCode)
		require.NotEmpty(t, intent.DeclineMessage)
		require.NotEmpty(t, intent.ChargeID)
	}
}

func TestGateway_TokensAndCardsStripeDoesNotKnowAreTheBuyersFault(t *testing.T) {
	g := newProcessor(t, sandbox.Options{}).client()
	payment := intended(t, g)
	for _, method := range []Method{{PaymentMethod: "pm_nobody"}, {Token: "tok_nobody"}} {
		_, err := g.Confirm(t.Context(), payment, 1, method)
		refused := requireProblem(t, err, problem.Invalid)
		require.Equal(t, method.field(), refused.Details[0].Field)
		require.Equal(t, "resource_missing", refused.Details[0].Code)
	}
}

func TestGateway_AmountsThatCannotBeCharged(t *testing.T) {
	g := newProcessor(t, sandbox.Options{}).client()
	order, attempt := attempted()
	order.Amount = 20
	_, err := g.Authorize(t.Context(), order, attempt, visa())
	require.Equal(t, "amount_too_small", requireProblem(t, err, problem.Invalid).Details[0].Code)
}

func TestGateway_ARepeatedRequestDoesNothingTwice(t *testing.T) {
	p := newProcessor(t, sandbox.Options{})
	g := p.client()
	payment := intended(t, g)
	require.Equal(t, payment.StripeID, intended(t, g).StripeID, "an order has one intent")

	_, err := g.Confirm(t.Context(), payment, 1, Method{Token: "tok_chargeDeclined"})
	require.NoError(t, err)
	again, err := g.Confirm(t.Context(), payment, 1, Method{Token: "tok_chargeDeclined"})
	require.NoError(t, err)
	require.Equal(t, Failed, again.Status)
	require.Equal(t, 1, p.money(t, "order-1")[0].Declines, "the bank was asked once")
}

func TestGateway_AnAnswerGivenBeforeIsNotTakenForThePresent(t *testing.T) {
	p := newProcessor(t, sandbox.Options{})
	g := p.client()
	payment := intended(t, g)
	threeD := Method{PaymentMethod: "pm_card_authenticationRequired"}
	intent, err := g.Confirm(t.Context(), payment, 1, threeD)
	require.NoError(t, err)
	require.Equal(t, RequiresAction, intent.Status)
	p.authenticate(t, payment.StripeID, "succeed")
	intent, err = g.Confirm(t.Context(), payment, 1, threeD)
	require.NoError(t, err)
	require.Equal(t, Authorized, intent.Status)
}

func TestGateway_AFailureOnStripesSideAfterTheWorkIsOvercome(t *testing.T) {
	p := newProcessor(t, sandbox.Options{})
	g := p.client()
	// The work is done, but the client and the idempotency key get a 500, as Stripe would remember it.
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
		p.after.Store(&after)
		return &times
	}
	payment := intended(t, g)
	times := broken("/confirm")
	intent, err := g.Confirm(t.Context(), payment, 1, visa())
	require.NoError(t, err)
	require.Equal(t, Authorized, intent.Status)
	require.Equal(t, 2, *times, "the same key once more, then the next key")
	broken("/capture")
	intent, err = g.Capture(t.Context(), payment)
	require.NoError(t, err)
	require.Equal(t, Captured, intent.Status)
	broken("/refunds")
	intent, err = g.Refund(t.Context(), payment)
	require.NoError(t, err)
	require.Equal(t, Refunded, intent.Status)

	times = broken("/payment_intents")
	another := liveOrder()
	another.ID = "order-2"
	intent, err = g.Authorize(t.Context(), &another, another.Begin("visa", now()).Attempt, visa())
	require.NoError(t, err)
	require.Equal(t, Authorized, intent.Status)
	require.Equal(t, 2, *times, "the same key once more, then the intent is found")
	require.Len(t, p.money(t, "order-2"), 1)

	var paid int64
	for _, entry := range p.money(t, "order-1") {
		paid += entry.Authorized
	}
	require.EqualValues(t, 2500, paid, "nothing was charged twice")
}

func TestGateway_StripeAwayIsUnavailable(t *testing.T) {
	p := newProcessor(t, sandbox.Options{})
	g := p.client()
	payment := intended(t, g)
	g.intents.B.SetMaxNetworkRetries(0) // it would wait between them
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
			p.before.Store(&before)
			defer p.before.Store(nil)
			_, err := g.Confirm(t.Context(), payment, 1, visa())
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
		p.before.Store(&before)
		defer p.before.Store(nil)
		_, err := g.Confirm(ctx, payment, 1, visa())
		requireProblem(t, err, problem.Unavailable)
	})
}

func TestGateway_AWrongKeyIsOurFaultAndShownToNobody(t *testing.T) {
	g := newProcessor(t, sandbox.Options{SecretKey: "sk_test_another"}).client()
	order, attempt := attempted()
	_, err := g.Authorize(t.Context(), order, attempt, visa())
	require.ErrorContains(t, err, "Invalid API Key")
	require.Equal(t, problem.Internal, problem.KindOf(err))
}

func TestGateway_ErrorsHoldNoClientSecret(t *testing.T) {
	p := newProcessor(t, sandbox.Options{})
	g := p.client()
	payment := intended(t, g)
	after := func(_ *http.Request, w *httptest.ResponseRecorder) {
		w.Code = 400
		w.Body.Reset()
		w.Body.WriteString(`{"error":{"type":"invalid_request_error","code":"odd","message":"odd","payment_intent":{"id":"pi_1","object":"payment_intent","client_secret":"pi_1_secret_2"}}}`)
	}
	p.after.Store(&after)
	_, err := g.Confirm(t.Context(), payment, 1, visa())
	require.ErrorContains(t, err, "odd")
	require.NotContains(t, err.Error(), "secret_2")
}

func TestGateway_WhatABadHourBrokeIsDoneAfterIt(t *testing.T) {
	p := newProcessor(t, sandbox.Options{})
	g := p.client()
	clock := time.Now()
	g.clock = func() time.Time { return clock }
	payment := intended(t, g)
	p.misbehaves(t, `{"operation":"confirm","fault":"error_before","times":5}`)
	for range 2 {
		_, err := g.Confirm(t.Context(), payment, 1, visa())
		requireProblem(t, err, problem.Unavailable) // four broke; then they are reported again
	}
	clock = clock.Add(keyPause)
	_, err := g.Confirm(t.Context(), payment, 1, visa())
	requireProblem(t, err, problem.Unavailable) // the fifth
	clock = clock.Add(keyPause)
	intent, err := g.Confirm(t.Context(), payment, 1, visa())
	require.NoError(t, err)
	require.Equal(t, Authorized, intent.Status)
	require.Equal(t, 1, p.money(t, payment.OrderID)[0].Charges)
}
