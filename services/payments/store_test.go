package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/stripe/sandbox"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/problem"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
	"boxoffice/services/payments/stripe/stripetest"
)

// fixture is a store with its documents in memory, and with the sandbox as Stripe.
type fixture struct {
	*store
	sidecar      *memory
	stripeServer fakeStripe
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	server := stripetest.New(t, sandbox.Options{})
	m, documents := openMemory(t)
	s := &fixture{newStore(documents, newClient(server.URL, clock.System), domain.Limits{}, clock.System, quiet), m, fakeStripe{server}}
	s.refreshes.every = 0 // a change at Stripe is seen at once
	return s
}

func newClient(url string, now clock.Clock) *stripe.Client {
	return stripe.New(stripe.Options{Key: stripetest.Key, URL: url, Timeout: 10 * time.Second, Clock: now, Log: quiet})
}

// notice is what a webhook would report of an intent now.
func (s *fixture) notice(stripeID string) stripe.Notice {
	object := s.stripeServer.Intent(stripeID)
	if object == nil {
		return stripe.Notice{Intent: domain.Intent{ID: stripeID, Status: domain.Unknown}}
	}
	return stripe.NoticeOf(object)
}

// applyAndSettle applies an order's event and settles its payment at once, as the queue does soon after.
func (s *fixture) applyAndSettle(ctx context.Context, event events.Order) error {
	if err := s.store.ApplyOrder(ctx, event); err != nil {
		return err
	}
	_, _, err := s.settleOrder(ctx, event.ID, domain.Cause{Refresh: domain.RefreshOpen})
	return err
}

// handleAndSettle handles a webhook about an intent as it is now, and settles its payment at once, as the queue does soon after
// if another process is about to.
func (s *fixture) handleAndSettle(ctx context.Context, stripeID string) (known bool, err error) {
	notice := s.notice(stripeID)
	known, err = s.store.HandleNotice(ctx, notice)
	s.queue.mu.Lock()
	reported, queued := s.queue.reported[notice.OrderID]
	s.queue.mu.Unlock()
	if err == nil && queued {
		_, _, err = s.settleOrder(ctx, notice.OrderID, domain.Cause{Refresh: domain.RefreshOpen, Reported: reported})
	}
	return known, err
}

const buyer id.User = "buyer-1"

// reserved is the event of a new order.
func reserved() events.Order {
	return events.Order{
		ID: id.New[id.Order](), UserID: buyer, Status: "created", ExpiresAt: clock.Stamp(clock.System().Add(time.Hour)), Version: 1,
		Ticket: events.OrderedTicket{ID: "ticket-1", Title: "Seat 1", Price: 2500, Currency: "usd"},
	}
}

func after(o events.Order, status events.OrderStatus) events.Order {
	o.Status = status
	o.Version++
	return o
}

// newOrder applies the event of a new order.
func (s *fixture) newOrder(t *testing.T) events.Order {
	t.Helper()
	order := reserved()
	require.NoError(t, s.applyAndSettle(t.Context(), order))
	return order
}

func (s *fixture) payWith(ctx context.Context, orderID id.Order, card string) (Receipt, error) {
	method := domain.Method{PaymentMethod: card}
	if strings.HasPrefix(card, "tok_") {
		method = domain.Method{Token: card}
	}
	receipt, _, err := s.Pay(ctx, orderID, buyer, method, idempotency.Request{})
	return receipt, err
}

// attempts reports whether a request to Stripe makes an attempt to pay.
func attempts(r *http.Request) bool {
	return r.Method == http.MethodPost && (strings.HasSuffix(r.URL.Path, "/v1/payment_intents") || strings.HasSuffix(r.URL.Path, "/confirm"))
}

// requireEvents waits until events of these types, and no others, are published, in any order.
func (s *fixture) requireEvents(t *testing.T, types ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.ElementsMatch(c, types, s.sidecar.eventTypes())
	}, 20*time.Second, time.Millisecond)
}

// requireMoney checks the one intent that an order may have.
func (s *fixture) requireMoney(t *testing.T, orderID id.Order, held, captured, refunded int64) {
	t.Helper()
	entries := s.stripeServer.Money(t, orderID)
	require.Len(t, entries, 1, "an order has one intent")
	require.Equal(t, held, entries[0].Held, "held: %+v", entries[0])
	require.Equal(t, captured, entries[0].Captured, "captured: %+v", entries[0])
	require.Equal(t, refunded, entries[0].Refunded, "refunded: %+v", entries[0])
	require.LessOrEqual(t, entries[0].Charges, 1, "charged twice: %+v", entries[0])
}

func TestPay_AuthorizesThenFollowsTheOrder(t *testing.T) {
	for name, c := range map[string]struct {
		ends     events.OrderStatus
		event    string
		status   domain.Status
		captured int64
	}{
		"complete":  {"complete", "payment.captured", domain.Captured, 2500},
		"cancelled": {"cancelled", "payment.voided", domain.Voided, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			order := s.newOrder(t)
			receipt, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
			require.NoError(t, err)
			require.True(t, receipt.Fresh)
			require.Equal(t, domain.Authorized, receipt.Payment.Status)
			require.EqualValues(t, 2500, receipt.Payment.Amount)
			s.requireMoney(t, order.ID, 2500, 0, 0)

			ended := after(order, c.ends)
			for range 2 { // delivered twice
				require.NoError(t, s.applyAndSettle(t.Context(), ended))
			}
			s.requireMoney(t, order.ID, 0, c.captured, 0)
			s.requireEvents(t, "payment.created", c.event)
			shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
			require.NoError(t, err)
			require.Equal(t, c.status, shown.Payment.Status)
		})
	}
}

func TestPay_ACancellationAfterTheCaptureIsRefunded(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "tok_visa")
	require.NoError(t, err)
	complete := after(order, "complete")
	require.NoError(t, s.applyAndSettle(t.Context(), complete))
	require.NoError(t, s.applyAndSettle(t.Context(), after(complete, "cancelled")))
	s.requireMoney(t, order.ID, 0, 2500, 2500)
	s.requireEvents(t, "payment.created", "payment.captured", "payment.refunded")
}

func TestPay_AfterADeclineTheOrderIsLive(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_chargeDeclinedInsufficientFunds")
	refused := requireProblem(t, err, problem.Declined)
	require.Equal(t, problem.Detail{Message: "Your card has insufficient funds.", Field: "paymentMethod", Code: "insufficient_funds"}, refused.Details[0])
	_, err = s.payWith(t.Context(), order.ID, "tok_chargeDeclined")
	require.Equal(t, "token", requireProblem(t, err, problem.Declined).Details[0].Field)
	_, err = s.payWith(t.Context(), order.ID, "tok_chargeDeclined")
	requireProblem(t, err, problem.Declined)

	receipt, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.True(t, receipt.Fresh)
	require.Equal(t, 4, receipt.Payment.Attempt.Number)
	require.False(t, receipt.Payment.Attempt.Open)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.requireEvents(t, "payment.failed", "payment.failed", "payment.failed", "payment.created")
}

func TestPay_TheSameOrderAgainIsTheSamePayment(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	first, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	asked := s.stripeServer.Requests.Load()
	for _, card := range []string{"pm_card_visa", "pm_card_mastercard"} {
		again, err := s.payWith(t.Context(), order.ID, card)
		require.NoError(t, err)
		require.False(t, again.Fresh)
		require.Equal(t, first.Payment.ID, again.Payment.ID)
	}
	require.Equal(t, asked, s.stripeServer.Requests.Load(), "Stripe is not asked")
	require.NoError(t, s.applyAndSettle(t.Context(), after(order, "complete")))
	again, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, domain.Captured, again.Payment.Status)
}

func TestPay_RefusesOrdersThatCannotBePaid(t *testing.T) {
	s := newFixture(t)
	expired := reserved()
	expired.ExpiresAt = clock.Stamp(clock.System())
	require.NoError(t, s.applyAndSettle(t.Context(), expired))
	cancelled := after(reserved(), "cancelled")
	require.NoError(t, s.applyAndSettle(t.Context(), cancelled))
	complete := after(reserved(), "complete")
	require.NoError(t, s.applyAndSettle(t.Context(), complete))
	others := reserved()
	others.UserID = "buyer-2"
	require.NoError(t, s.applyAndSettle(t.Context(), others))

	for orderID, want := range map[id.Order]error{
		expired.ID: domain.ErrExpired, cancelled.ID: domain.ErrCancelled, complete.ID: domain.ErrComplete, others.ID: domain.ErrNotYourOrder,
		"00000000-0000-7000-8000-000000000000": domain.ErrNoOrder, // its id is old: no event of it is under way
	} {
		_, err := s.payWith(t.Context(), orderID, "pm_card_visa")
		require.ErrorIs(t, err, want)
	}
	require.Zero(t, s.stripeServer.Requests.Load(), "Stripe gets no request")
}

func TestPay_ADeclinedPaymentCannotBeTriedAgainAfterTheOrdersTime(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_chargeDeclined")
	requireProblem(t, err, problem.Declined)
	late := order
	late.Version, late.ExpiresAt = 2, clock.Stamp(clock.System())
	require.NoError(t, s.applyAndSettle(t.Context(), late))
	_, err = s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.ErrorIs(t, err, domain.ErrExpired)
	s.requireMoney(t, order.ID, 0, 0, 0)
}

func TestPay_WaitsForAnOrderThatWasMadeAMomentAgo(t *testing.T) {
	s := newFixture(t)
	order := reserved()
	var once sync.Once
	handled := make(chan struct{})
	s.sidecar.missed = func(key string) {
		if key == orderKey(order.ID) { // the request was first; now the event comes
			go once.Do(func() {
				defer close(handled)
				assert.NoError(t, s.applyAndSettle(context.Background(), order))
			})
		}
	}
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	<-handled // before the fixture ends
}

func TestPay_ThreeDSecure(t *testing.T) {
	const card = "pm_card_authenticationRequired"
	s := newFixture(t)
	order := s.newOrder(t)
	receipt, err := s.payWith(t.Context(), order.ID, card)
	require.NoError(t, err)
	require.True(t, receipt.Fresh)
	require.Equal(t, domain.RequiresAction, receipt.Payment.Status)
	secret := receipt.Intent.ClientSecret
	require.NotEmpty(t, secret)
	s.sidecar.requireNowhere(t, secret)

	again, err := s.payWith(t.Context(), order.ID, card)
	require.NoError(t, err)
	require.False(t, again.Fresh)
	require.Equal(t, secret, again.Intent.ClientSecret)
	shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
	require.NoError(t, err)
	require.Equal(t, secret, shown.Intent.ClientSecret)

	s.stripeServer.Authenticate(t, receipt.Payment.StripeID, "fail")
	_, err = s.payWith(t.Context(), order.ID, card)
	require.Equal(t, "payment_intent_authentication_failure", requireProblem(t, err, problem.Declined).Details[0].Code)

	_, err = s.payWith(t.Context(), order.ID, card)
	require.NoError(t, err, "another try with the same card")
	s.stripeServer.Authenticate(t, receipt.Payment.StripeID, "succeed")
	for range 2 { // the webhook, twice
		known, err := s.handleAndSettle(t.Context(), receipt.Payment.StripeID)
		require.NoError(t, err)
		require.True(t, known)
	}
	s.requireEvents(t, "payment.failed", "payment.created")
	s.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestPay_WithoutAnyWebhookALookFindsTheTruth(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	receipt, err := s.payWith(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	s.stripeServer.Authenticate(t, receipt.Payment.StripeID, "succeed")
	shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
	require.NoError(t, err)
	require.Equal(t, domain.Authorized, shown.Payment.Status)
	s.requireEvents(t, "payment.created")
}

func TestPay_AnotherCardWhileTheBankWaitsForTheBuyer(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	receipt, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, domain.Authorized, receipt.Payment.Status)
	s.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestPay_ACancellationWhileTheBankWaitsForTheBuyerEndsTheIntent(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	receipt, err := s.payWith(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	require.NoError(t, s.applyAndSettle(t.Context(), after(order, "cancelled")))
	require.Equal(t, "canceled", s.stripeServer.Money(t, order.ID)[0].Status, "the buyer's page cannot authorize it any more")
	_, err = s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.ErrorIs(t, err, domain.ErrCancelled)
	shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
	require.NoError(t, err)
	require.Equal(t, domain.Voided, shown.Payment.Status)
}

func TestPay_AnUnknownOutcomeIsTakenUpAgain(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	// The bank agrees, but the response is lost.
	lose := func(r *http.Request, w *httptest.ResponseRecorder) {
		if attempts(r) {
			panic(http.ErrAbortHandler)
		}
	}
	s.stripeServer.After.Store(&lose)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	requireProblem(t, err, problem.Unavailable)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.requireEvents(t)

	s.stripeServer.After.Store(nil)
	receipt, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.True(t, receipt.Fresh, "the buyer has had no answer before this one")
	require.Equal(t, 1, receipt.Payment.Attempt.Number)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.requireEvents(t, "payment.created")
}

func TestPay_AnUnknownOutcomeOfACancelledOrderIsVoided(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	lose := func(r *http.Request, w *httptest.ResponseRecorder) {
		if attempts(r) {
			panic(http.ErrAbortHandler)
		}
	}
	s.stripeServer.After.Store(&lose)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	requireProblem(t, err, problem.Unavailable)
	s.stripeServer.After.Store(nil)
	require.NoError(t, s.applyAndSettle(t.Context(), after(order, "cancelled")))
	s.requireMoney(t, order.ID, 0, 0, 0)
	s.requireEvents(t, "payment.voided")
}

// TestPay_CancelledInTheMiddle cancels the order before and after each request to Stripe.
func TestPay_CancelledInTheMiddle(t *testing.T) {
	for _, moment := range []string{"/v1/payment_intents", "/confirm"} {
		for _, side := range []string{"before", "after"} {
			t.Run(side+" "+moment, func(t *testing.T) {
				s := newFixture(t)
				order := s.newOrder(t)
				if moment == "/confirm" { // an intent that there is already
					_, err := s.payWith(t.Context(), order.ID, "pm_card_chargeDeclined")
					requireProblem(t, err, problem.Declined)
				}
				var done atomic.Bool
				cancel := func(r *http.Request) {
					if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, moment) && !done.Swap(true) {
						assert.NoError(t, s.applyAndSettle(t.Context(), after(order, "cancelled")))
					}
				}
				if side == "before" {
					before := func(_ http.ResponseWriter, r *http.Request) bool { cancel(r); return false }
					s.stripeServer.Before.Store(&before)
				} else {
					after := func(r *http.Request, _ *httptest.ResponseRecorder) { cancel(r) }
					s.stripeServer.After.Store(&after)
				}
				_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
				require.ErrorIs(t, err, domain.ErrCancelled)
				s.requireMoney(t, order.ID, 0, 0, 0)
				require.NotContains(t, s.sidecar.eventTypes(), "payment.created")
			})
		}
	}
}

// An event of the order is committed after Stripe has answered and before the outcome is: the outcome must be read again.
func TestPay_AChangeOfTheLiveOrderMeanwhileKeepsTheOutcome(t *testing.T) {
	for _, c := range []struct {
		name, earlier, card string
		want                domain.Status
	}{
		{"the first card is authorized", "", "pm_card_visa", domain.Authorized},
		{"the first card is declined", "", "pm_card_chargeDeclined", domain.Failed},
		{"the bank waits for the buyer", "", "pm_card_authenticationRequired", domain.RequiresAction},
		{"the second card is authorized", "pm_card_chargeDeclined", "pm_card_visa", domain.Authorized},
		{"the second card is declined", "pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds", domain.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newFixture(t)
			order := s.newOrder(t)
			if c.earlier != "" {
				_, err := s.payWith(t.Context(), order.ID, c.earlier)
				requireProblem(t, err, problem.Declined)
			}
			var done atomic.Bool
			change := func(r *http.Request, _ *httptest.ResponseRecorder) {
				if attempts(r) && !done.Swap(true) {
					assert.NoError(t, s.store.ApplyOrder(t.Context(), after(order, "created")))
				}
			}
			s.stripeServer.After.Store(&change)
			receipt, err := s.payWith(t.Context(), order.ID, c.card)
			require.True(t, done.Load())
			if c.want == domain.Failed {
				requireProblem(t, err, problem.Declined)
			} else {
				require.NoError(t, err)
				require.Equal(t, c.want, receipt.Payment.Status)
			}
			require.Equal(t, c.want, s.storedPayment(t, order.ID).Status)
		})
	}
}

func TestSettle_OnlyACaptureThatStripeMayMakeLaterIsDelayed(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		delayed bool
	}{
		"Stripe is away":       {http.StatusServiceUnavailable, true},
		"Stripe refuses it":    {http.StatusBadRequest, false},
		"the key is not valid": {http.StatusUnauthorized, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			order := s.newOrder(t)
			_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
			require.NoError(t, err)
			refuse := func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/capture") {
					return false
				}
				http.Error(w, `{"error":{"type":"invalid_request_error","code":"parameter_unknown"}}`, c.status)
				return true
			}
			s.stripeServer.Before.Store(&refuse)
			err = s.applyAndSettle(t.Context(), after(order, "complete"))
			require.Error(t, err)
			require.Equal(t, c.delayed, isDelayed(err), err)
			s.requireMoney(t, order.ID, 2500, 0, 0)
		})
	}
}

func TestSettle_StripeAwayIsTriedAgain(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	away := func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, `{"error":{"type":"api_error"}}`, http.StatusServiceUnavailable)
		return true
	}
	s.stripeServer.Before.Store(&away)
	require.Error(t, s.applyAndSettle(t.Context(), after(order, "complete")))
	s.stripeServer.Before.Store(nil)
	require.NoError(t, s.applyAndSettle(t.Context(), after(order, "complete")))
	s.requireMoney(t, order.ID, 0, 2500, 0)
}

func TestSettle_AnAuthorizationThatLapsedIsPublished(t *testing.T) {
	for name, handle := range map[string]func(s *fixture, o events.Order, stripeID string) error{
		"by the webhook, while the capture is due": func(s *fixture, o events.Order, stripeID string) error {
			if err := s.store.ApplyOrder(t.Context(), after(o, "complete")); err != nil {
				return err
			}
			_, err := s.handleAndSettle(t.Context(), stripeID)
			return err
		},
		"by the webhook, before the order is complete": func(s *fixture, _ events.Order, stripeID string) error {
			_, err := s.handleAndSettle(t.Context(), stripeID)
			return err
		},
		"by the capture that fails": func(s *fixture, o events.Order, _ string) error {
			return s.applyAndSettle(t.Context(), after(o, "complete"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			order := s.newOrder(t)
			receipt, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
			require.NoError(t, err)
			s.stripeServer.Expire(t, receipt.Payment.StripeID)
			for range 2 {
				require.NoError(t, handle(s, order, receipt.Payment.StripeID))
			}
			s.requireEvents(t, "payment.created", "payment.voided")
			s.requireMoney(t, order.ID, 0, 0, 0)
			_, err = s.payWith(t.Context(), order.ID, "pm_card_visa")
			require.ErrorIs(t, err, domain.ErrCancelled)

			// The orders service cancels the order for it; that changes nothing here.
			cancelled := after(after(order, "complete"), "cancelled")
			require.NoError(t, s.applyAndSettle(t.Context(), cancelled))
			require.ElementsMatch(t, []string{"payment.created", "payment.voided"}, s.sidecar.eventTypes()) // several publishers: in any order
		})
	}
}

// A copy of the request comes when the bank has agreed and a webhook was handled, and the first request has not committed yet.
func TestPay_ACopyThatAWebhookOvertookIsAnsweredAsTheFirst(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	var copied Receipt
	var done atomic.Bool
	overtake := func(r *http.Request, _ *httptest.ResponseRecorder) {
		if attempts(r) && !done.Swap(true) {
			_, err := s.handleAndSettle(t.Context(), s.stripeServer.Money(t, order.ID)[0].ID)
			assert.NoError(t, err)
			copied, err = s.payWith(t.Context(), order.ID, "pm_card_visa")
			assert.NoError(t, err)
		}
	}
	s.stripeServer.After.Store(&overtake)
	first, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.True(t, copied.Fresh, "nobody was answered before it")
	require.Equal(t, first.Payment, copied.Payment)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.requireEvents(t, "payment.created")
}

func TestPay_DoesNotWaitForTheMoneyToBeTaken(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	first, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	s.stripeServer.Inject(t, `{"operation":"capture","fault":"unavailable","times":2}`)
	require.NoError(t, s.store.ApplyOrder(t.Context(), after(order, "complete")))
	again, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, first.Payment, again.Payment)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.settleQueued(t)
	s.requireMoney(t, order.ID, 0, 2500, 0)
}

func TestPayment_IsShownToItsBuyerAlone(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	receipt, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	_, err = s.Payment(t.Context(), receipt.Payment.ID, "buyer-2")
	require.ErrorIs(t, err, domain.ErrNotYourPayment)
	_, err = s.Payment(t.Context(), id.New[id.Payment](), buyer)
	require.ErrorIs(t, err, domain.ErrNoPayment)
}

func TestPayment_IsShownAsKnownWhileStripeIsAway(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	receipt, err := s.payWith(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	s.stripeServer.SetAway(true)
	shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
	require.NoError(t, err)
	require.Equal(t, domain.RequiresAction, shown.Payment.Status)
}

func TestHandleNotice_OfAnotherSystem(t *testing.T) {
	known, err := newFixture(t).handleAndSettle(t.Context(), "pi_somebody")
	require.NoError(t, err)
	require.False(t, known)
}

// TestMoney_AgreesWithTheOrderWhateverTheInterleaving makes buyers pay with several cards and pass or fail 3-D Secure while the
// order ends, with webhooks and events in any order and number.
func TestMoney_AgreesWithTheOrderWhateverTheInterleaving(t *testing.T) {
	s := newFixture(t)
	for round := range 60 {
		order := reserved()
		ends := []events.OrderStatus{"cancelled", "complete"}[round%2]
		t.Run(fmt.Sprintf("%d %s", round, ends), func(t *testing.T) {
			require.NoError(t, s.applyAndSettle(t.Context(), order))
			random := rand.New(rand.NewPCG(uint64(round), 7))
			cards := []string{"pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired", "tok_visa", "pm_card_mastercard"}
			random.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
			pause := func() time.Duration { return time.Duration(random.IntN(8)) * time.Millisecond }

			var all sync.WaitGroup
			for _, card := range cards[:3] {
				before := pause()
				all.Go(func() {
					time.Sleep(before)
					_, err := s.payWith(t.Context(), order.ID, card)
					assert.NotEqual(t, problem.Internal, kindOf(err), "%v", err)
				})
			}
			for range 3 {
				before, outcome := pause(), []string{"succeed", "fail"}[random.IntN(2)]
				all.Go(func() {
					time.Sleep(before)
					for _, entry := range s.stripeServer.Money(t, order.ID) {
						s.stripeServer.Sandbox.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/sandbox/payment_intents/"+entry.ID+"/authenticate?outcome="+outcome, nil))
						_, err := s.handleAndSettle(t.Context(), entry.ID)
						assert.NotEqual(t, problem.Internal, kindOf(err), "%v", err)
					}
				})
			}
			if ends == "cancelled" {
				before := pause()
				all.Go(func() {
					time.Sleep(before)
					deliver(t, s, after(order, ends))
				})
			}
			all.Wait()
			// An order becomes complete only after it was paid, so this comes last.
			deliver(t, s, after(order, ends))
			for _, entry := range s.stripeServer.Money(t, order.ID) {
				require.LessOrEqual(t, entry.Charges, 1, "charged twice: %+v", entry)
				require.Zero(t, entry.Refunded)
				switch {
				case ends == "cancelled":
					require.Zero(t, entry.Held+entry.Captured, "money is left: %+v", entry)
				default:
					require.Zero(t, entry.Held, "money is held: %+v", entry)
					require.Equal(t, entry.Authorized, entry.Captured)
				}
			}
			a, err := s.loadWithAttempt(t.Context(), order.ID)
			require.NoError(t, err)
			if p := a.order.Value.Payment; p != nil && ends == "cancelled" {
				require.Equal(t, domain.Voided, p.Status)
			}
		})
	}
}

// deliver delivers an order's event until it is applied, as the broker does.
func deliver(t *testing.T, s *fixture, reported events.Order) {
	assert.Eventually(t, func() bool { return s.applyAndSettle(t.Context(), reported) == nil }, 5*time.Second, time.Millisecond)
}

// kindOf is problem.KindOf, and Conflict for no error. A buyer may get any kind but Internal.
func kindOf(err error) problem.Kind {
	if err == nil {
		return problem.Conflict
	}
	return problem.KindOf(err)
}
