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

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/stripe/sandbox"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// scene is a store with a store in memory and the sandbox for Stripe.
type scene struct {
	*store
	sidecar   *memory
	processor *processor
}

func newScene(t *testing.T) *scene {
	t.Helper()
	p := newProcessor(t, sandbox.Options{})
	m, documents := openMemory(t)
	g := p.client()
	g.intents.B.SetMaxNetworkRetries(0)
	s := &scene{newStore(documents, g, quiet), m, p}
	s.refreshes.every = 0 // what a test has Stripe say is seen at once
	return s
}

// ApplyOrder takes an order's event and settles its payment at once, as the queue does soon after.
func (s *scene) ApplyOrder(ctx context.Context, reported events.Order) error {
	if err := s.store.ApplyOrder(ctx, reported); err != nil {
		return err
	}
	_, _, err := s.settle(ctx, reported.ID, s.asNeeded)
	return err
}

// HandleNotice takes what a webhook tells of an intent as it is now, and settles its payment at once, as the queue does
// soon after if somebody else may be about to.
func (s *scene) HandleNotice(ctx context.Context, stripeID string) (known bool, err error) {
	reported := s.processor.notice(stripeID)
	known, err = s.store.HandleNotice(ctx, reported)
	s.queue.mu.Lock()
	heard, postponed := s.queue.heard[reported.orderID]
	s.queue.mu.Unlock()
	if err == nil && postponed {
		_, _, err = s.settle(ctx, reported.orderID, s.unlessKnown(heard, s.asNeeded))
	}
	return known, err
}

const buyer = "buyer-1"

// reserved is an order as the orders service tells it when it is made.
func reserved() events.Order {
	return events.Order{
		ID: uuid.Must(uuid.NewV7()).String(), UserID: buyer, Status: "created", ExpiresAt: now().Add(time.Hour), Version: 1,
		Ticket: events.OrderedTicket{ID: "ticket-1", Title: "Seat 1", Price: 2500, Currency: "usd"},
	}
}

func after(o events.Order, status string) events.Order {
	o.Status = status
	o.Version++
	return o
}

// hears lets the store hear of a new order.
func (s *scene) createOrder(t *testing.T) events.Order {
	t.Helper()
	order := reserved()
	require.NoError(t, s.ApplyOrder(t.Context(), order))
	return order
}

func (s *scene) pay(ctx context.Context, orderID, card string) (Receipt, error) {
	method := Method{PaymentMethod: card}
	if strings.HasPrefix(card, "tok_") {
		method = Method{Token: card}
	}
	return s.Pay(ctx, orderID, buyer, method, keepNothing)
}

func keepNothing(context.Context, *state.Change, Receipt, bool) error { return nil }

// attempts says whether a request to Stripe makes an attempt to pay.
func attempts(r *http.Request) bool {
	return r.Method == http.MethodPost && (strings.HasSuffix(r.URL.Path, "/v1/payment_intents") || strings.HasSuffix(r.URL.Path, "/confirm"))
}

// requireEvents waits until events of these types, and no others, are reported: in any order, for several are published at
// once.
func (s *scene) requireEvents(t *testing.T, types ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.ElementsMatch(c, types, s.sidecar.eventTypes())
	}, 20*time.Second, time.Millisecond)
}

// requireMoney checks the one intent that an order may have.
func (s *scene) requireMoney(t *testing.T, orderID string, held, captured, refunded int64) {
	t.Helper()
	entries := s.processor.money(t, orderID)
	require.Len(t, entries, 1, "an order has one intent")
	require.Equal(t, held, entries[0].Held, "held: %+v", entries[0])
	require.Equal(t, captured, entries[0].Captured, "captured: %+v", entries[0])
	require.Equal(t, refunded, entries[0].Refunded, "refunded: %+v", entries[0])
	require.LessOrEqual(t, entries[0].Charges, 1, "charged twice: %+v", entries[0])
}

func TestPay_AuthorizesThenFollowsTheOrder(t *testing.T) {
	for name, c := range map[string]struct {
		ends     string
		tells    string
		status   Status
		captured int64
	}{
		"complete":  {"complete", "payment.captured", Captured, 2500},
		"cancelled": {"cancelled", "payment.voided", Voided, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			order := s.createOrder(t)
			receipt, err := s.pay(t.Context(), order.ID, "pm_card_visa")
			require.NoError(t, err)
			require.True(t, receipt.Fresh)
			require.Equal(t, Authorized, receipt.Payment.Status)
			require.EqualValues(t, 2500, receipt.Payment.Amount)
			s.requireMoney(t, order.ID, 2500, 0, 0)

			ended := after(order, c.ends)
			for range 2 { // delivered twice
				require.NoError(t, s.ApplyOrder(t.Context(), ended))
			}
			s.requireMoney(t, order.ID, 0, c.captured, 0)
			s.requireEvents(t, "payment.created", c.tells)
			shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
			require.NoError(t, err)
			require.Equal(t, c.status, shown.Payment.Status)
		})
	}
}

func TestPay_ACancellationAfterTheCaptureIsRefunded(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	_, err := s.pay(t.Context(), order.ID, "tok_visa")
	require.NoError(t, err)
	complete := after(order, "complete")
	require.NoError(t, s.ApplyOrder(t.Context(), complete))
	require.NoError(t, s.ApplyOrder(t.Context(), after(complete, "cancelled")))
	s.requireMoney(t, order.ID, 0, 2500, 2500)
	s.requireEvents(t, "payment.created", "payment.captured", "payment.refunded")
}

func TestPay_ADeclineLeavesTheOrderLive(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	_, err := s.pay(t.Context(), order.ID, "pm_card_chargeDeclinedInsufficientFunds")
	refused := requireProblem(t, err, problem.Declined)
	require.Equal(t, problem.Detail{Message: "Your card has insufficient funds.", Field: "paymentMethod", Code: "insufficient_funds"}, refused.Details[0])
	_, err = s.pay(t.Context(), order.ID, "tok_chargeDeclined")
	require.Equal(t, "token", requireProblem(t, err, problem.Declined).Details[0].Field)
	_, err = s.pay(t.Context(), order.ID, "tok_chargeDeclined")
	requireProblem(t, err, problem.Declined)

	receipt, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.True(t, receipt.Fresh)
	require.Equal(t, 4, receipt.Payment.Attempt.Number)
	require.False(t, receipt.Payment.Attempt.Open)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.requireEvents(t, "payment.failed", "payment.failed", "payment.failed", "payment.created")
}

func TestPay_TheSameOrderAgainIsTheSamePayment(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	first, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	asked := s.processor.asked.Load()
	for _, card := range []string{"pm_card_visa", "pm_card_mastercard"} {
		again, err := s.pay(t.Context(), order.ID, card)
		require.NoError(t, err)
		require.False(t, again.Fresh)
		require.Equal(t, first.Payment.ID, again.Payment.ID)
	}
	require.Equal(t, asked, s.processor.asked.Load(), "Stripe is not asked")
	require.NoError(t, s.ApplyOrder(t.Context(), after(order, "complete")))
	again, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, Captured, again.Payment.Status)
}

func TestPay_RefusesOrdersThatCannotBePaid(t *testing.T) {
	s := newScene(t)
	expired := reserved()
	expired.ExpiresAt = now()
	require.NoError(t, s.ApplyOrder(t.Context(), expired))
	cancelled := after(reserved(), "cancelled")
	require.NoError(t, s.ApplyOrder(t.Context(), cancelled))
	complete := after(reserved(), "complete")
	require.NoError(t, s.ApplyOrder(t.Context(), complete))
	others := reserved()
	others.UserID = "buyer-2"
	require.NoError(t, s.ApplyOrder(t.Context(), others))

	for id, want := range map[string]error{
		expired.ID: errExpired, cancelled.ID: errCancelled, complete.ID: errComplete, others.ID: errNotYours,
		"00000000-0000-7000-8000-000000000000": errNoOrder, // made long ago: no event of it is on the way
	} {
		_, err := s.pay(t.Context(), id, "pm_card_visa")
		require.ErrorIs(t, err, want)
	}
	require.Zero(t, s.processor.asked.Load(), "Stripe hears of none of them")
}

func TestPay_ADeclinedPaymentCannotBeTriedAgainAfterTheOrdersTime(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	_, err := s.pay(t.Context(), order.ID, "pm_card_chargeDeclined")
	requireProblem(t, err, problem.Declined)
	late := order
	late.Version, late.ExpiresAt = 2, now()
	require.NoError(t, s.ApplyOrder(t.Context(), late))
	_, err = s.pay(t.Context(), order.ID, "pm_card_visa")
	require.ErrorIs(t, err, errExpired)
	s.requireMoney(t, order.ID, 0, 0, 0)
}

func TestPay_WaitsForAnOrderThatWasMadeAMomentAgo(t *testing.T) {
	s := newScene(t)
	order := reserved()
	var once sync.Once
	s.sidecar.missed = func(key string) {
		if key == orderKey(order.ID) { // the buyer was first; now the event comes
			go once.Do(func() { assert.NoError(t, s.ApplyOrder(context.Background(), order)) })
		}
	}
	_, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
}

func TestPay_ThreeDSecure(t *testing.T) {
	const card = "pm_card_authenticationRequired"
	s := newScene(t)
	order := s.createOrder(t)
	receipt, err := s.pay(t.Context(), order.ID, card)
	require.NoError(t, err)
	require.True(t, receipt.Fresh)
	require.Equal(t, RequiresAction, receipt.Payment.Status)
	secret := receipt.Intent.ClientSecret
	require.NotEmpty(t, secret)
	s.sidecar.requireNowhere(t, secret)

	again, err := s.pay(t.Context(), order.ID, card)
	require.NoError(t, err)
	require.False(t, again.Fresh)
	require.Equal(t, secret, again.Intent.ClientSecret)
	shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
	require.NoError(t, err)
	require.Equal(t, secret, shown.Intent.ClientSecret)

	s.processor.authenticate(t, receipt.Payment.StripeID, "fail")
	_, err = s.pay(t.Context(), order.ID, card)
	require.Equal(t, "payment_intent_authentication_failure", requireProblem(t, err, problem.Declined).Details[0].Code)

	_, err = s.pay(t.Context(), order.ID, card)
	require.NoError(t, err, "another try with the same card")
	s.processor.authenticate(t, receipt.Payment.StripeID, "succeed")
	for range 2 { // the webhook, twice
		known, err := s.HandleNotice(t.Context(), receipt.Payment.StripeID)
		require.NoError(t, err)
		require.True(t, known)
	}
	s.requireEvents(t, "payment.failed", "payment.created")
	s.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestPay_WithoutAnyWebhookALookFindsTheTruth(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	receipt, err := s.pay(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	s.processor.authenticate(t, receipt.Payment.StripeID, "succeed")
	shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
	require.NoError(t, err)
	require.Equal(t, Authorized, shown.Payment.Status)
	s.requireEvents(t, "payment.created")
}

func TestPay_AnotherCardWhileTheBankWaitsForTheBuyer(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	_, err := s.pay(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	receipt, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, Authorized, receipt.Payment.Status)
	s.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestPay_ACancellationWhileTheBankWaitsForTheBuyerEndsTheIntent(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	receipt, err := s.pay(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	require.NoError(t, s.ApplyOrder(t.Context(), after(order, "cancelled")))
	require.Equal(t, "canceled", s.processor.money(t, order.ID)[0].Status, "the buyer's page cannot authorize it any more")
	_, err = s.pay(t.Context(), order.ID, "pm_card_visa")
	require.ErrorIs(t, err, errCancelled)
	shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
	require.NoError(t, err)
	require.Equal(t, Voided, shown.Payment.Status)
}

func TestPay_AnUnknownOutcomeIsTakenUpAgain(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	// The bank agrees, but the answer is lost.
	lose := func(r *http.Request, w *httptest.ResponseRecorder) {
		if attempts(r) {
			panic(http.ErrAbortHandler)
		}
	}
	s.processor.after.Store(&lose)
	_, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	requireProblem(t, err, problem.Unavailable)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.requireEvents(t)

	s.processor.after.Store(nil)
	receipt, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.True(t, receipt.Fresh, "the buyer has had no answer before this one")
	require.Equal(t, 1, receipt.Payment.Attempt.Number)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.requireEvents(t, "payment.created")
}

func TestPay_AnUnknownOutcomeOfACancelledOrderIsVoided(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	lose := func(r *http.Request, w *httptest.ResponseRecorder) {
		if attempts(r) {
			panic(http.ErrAbortHandler)
		}
	}
	s.processor.after.Store(&lose)
	_, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	requireProblem(t, err, problem.Unavailable)
	s.processor.after.Store(nil)
	require.NoError(t, s.ApplyOrder(t.Context(), after(order, "cancelled")))
	s.requireMoney(t, order.ID, 0, 0, 0)
	s.requireEvents(t, "payment.voided")
}

// TestPay_CancelledInTheMiddle cancels the order at each of the moments at which it can be cancelled.
func TestPay_CancelledInTheMiddle(t *testing.T) {
	for _, moment := range []string{"/v1/payment_intents", "/confirm"} {
		for _, side := range []string{"before", "after"} {
			t.Run(side+" "+moment, func(t *testing.T) {
				s := newScene(t)
				order := s.createOrder(t)
				if moment == "/confirm" { // an intent that there is already
					_, err := s.pay(t.Context(), order.ID, "pm_card_chargeDeclined")
					requireProblem(t, err, problem.Declined)
				}
				var done atomic.Bool
				cancel := func(r *http.Request) {
					if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, moment) && !done.Swap(true) {
						assert.NoError(t, s.ApplyOrder(t.Context(), after(order, "cancelled")))
					}
				}
				if side == "before" {
					before := func(_ http.ResponseWriter, r *http.Request) bool { cancel(r); return false }
					s.processor.before.Store(&before)
				} else {
					after := func(r *http.Request, _ *httptest.ResponseRecorder) { cancel(r) }
					s.processor.after.Store(&after)
				}
				_, err := s.pay(t.Context(), order.ID, "pm_card_visa")
				require.ErrorIs(t, err, errCancelled)
				s.requireMoney(t, order.ID, 0, 0, 0)
				require.NotContains(t, s.sidecar.eventTypes(), "payment.created")
			})
		}
	}
}

func TestSettle_StripeAwayIsTriedAgain(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	_, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	away := func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, `{"error":{"type":"api_error"}}`, http.StatusServiceUnavailable)
		return true
	}
	s.processor.before.Store(&away)
	require.Error(t, s.ApplyOrder(t.Context(), after(order, "complete")))
	s.processor.before.Store(nil)
	require.NoError(t, s.ApplyOrder(t.Context(), after(order, "complete")))
	s.requireMoney(t, order.ID, 0, 2500, 0)
}

func TestSettle_AnAuthorizationThatLapsedIsTold(t *testing.T) {
	for name, hears := range map[string]func(s *scene, o events.Order, stripeID string) error{
		"by the webhook, while the capture is due": func(s *scene, o events.Order, stripeID string) error {
			if err := s.store.ApplyOrder(t.Context(), after(o, "complete")); err != nil {
				return err
			}
			_, err := s.HandleNotice(t.Context(), stripeID)
			return err
		},
		"by the webhook, before the order is complete": func(s *scene, _ events.Order, stripeID string) error {
			_, err := s.HandleNotice(t.Context(), stripeID)
			return err
		},
		"by the capture that fails": func(s *scene, o events.Order, _ string) error {
			return s.ApplyOrder(t.Context(), after(o, "complete"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			order := s.createOrder(t)
			receipt, err := s.pay(t.Context(), order.ID, "pm_card_visa")
			require.NoError(t, err)
			s.processor.expire(t, receipt.Payment.StripeID)
			for range 2 {
				require.NoError(t, hears(s, order, receipt.Payment.StripeID))
			}
			s.requireEvents(t, "payment.created", "payment.voided")
			s.requireMoney(t, order.ID, 0, 0, 0)
			_, err = s.pay(t.Context(), order.ID, "pm_card_visa")
			require.ErrorIs(t, err, errCancelled)

			// The orders service cancels the order for it; that changes nothing here.
			cancelled := after(after(order, "complete"), "cancelled")
			require.NoError(t, s.ApplyOrder(t.Context(), cancelled))
			require.Equal(t, []string{"payment.created", "payment.voided"}, s.sidecar.eventTypes())
		})
	}
}

// A copy of the request comes while the bank has agreed and the first has not written it down, but a webhook has.
func TestPay_ACopyThatAWebhookOvertookIsAnsweredAsTheFirst(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	var copied Receipt
	var done atomic.Bool
	overtake := func(r *http.Request, _ *httptest.ResponseRecorder) {
		if attempts(r) && !done.Swap(true) {
			_, err := s.HandleNotice(t.Context(), s.processor.money(t, order.ID)[0].ID)
			assert.NoError(t, err)
			copied, err = s.pay(t.Context(), order.ID, "pm_card_visa")
			assert.NoError(t, err)
		}
	}
	s.processor.after.Store(&overtake)
	first, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.True(t, copied.Fresh, "nobody was answered before it")
	require.Equal(t, first.Payment, copied.Payment)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.requireEvents(t, "payment.created")
}

func TestPay_DoesNotWaitForTheMoneyToBeTaken(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	first, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	s.processor.misbehaves(t, `{"operation":"capture","fault":"unavailable","times":2}`)
	require.NoError(t, s.store.ApplyOrder(t.Context(), after(order, "complete")))
	again, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, first.Payment, again.Payment)
	s.requireMoney(t, order.ID, 2500, 0, 0)
	s.round(t)
	s.requireMoney(t, order.ID, 0, 2500, 0)
}

func TestPayment_IsShownToItsBuyerAlone(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	receipt, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	_, err = s.Payment(t.Context(), receipt.Payment.ID, "buyer-2")
	require.ErrorIs(t, err, errNotYourPayment)
	_, err = s.Payment(t.Context(), uuid.NewString(), buyer)
	require.ErrorIs(t, err, errNoPayment)
}

func TestPayment_IsShownAsKnownWhileStripeIsAway(t *testing.T) {
	s := newScene(t)
	order := s.createOrder(t)
	receipt, err := s.pay(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	away := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	s.processor.before.Store(&away)
	shown, err := s.Payment(t.Context(), receipt.Payment.ID, buyer)
	require.NoError(t, err)
	require.Equal(t, RequiresAction, shown.Payment.Status)
}

func TestHandleNotice_NotOurs(t *testing.T) {
	known, err := newScene(t).HandleNotice(t.Context(), "pi_somebody")
	require.NoError(t, err)
	require.False(t, known)
}

// TestMoney_AgreesWithTheOrderWhateverTheInterleaving lets buyers pay with several cards, pass or fail their bank's
// questions, and the order end, all at once, with webhooks and events in any order and number.
func TestMoney_AgreesWithTheOrderWhateverTheInterleaving(t *testing.T) {
	s := newScene(t)
	for round := range 60 {
		order := reserved()
		ends := []string{"cancelled", "complete"}[round%2]
		t.Run(fmt.Sprintf("%d %s", round, ends), func(t *testing.T) {
			require.NoError(t, s.ApplyOrder(t.Context(), order))
			random := rand.New(rand.NewPCG(uint64(round), 7))
			cards := []string{"pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired", "tok_visa", "pm_card_mastercard"}
			random.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
			pause := func() time.Duration { return time.Duration(random.IntN(8)) * time.Millisecond }

			var all sync.WaitGroup
			for _, card := range cards[:3] {
				before := pause()
				all.Go(func() {
					time.Sleep(before)
					_, err := s.pay(t.Context(), order.ID, card)
					assert.NotEqual(t, problem.Internal, kindOf(err), "%v", err)
				})
			}
			for range 3 {
				before, outcome := pause(), []string{"succeed", "fail"}[random.IntN(2)]
				all.Go(func() {
					time.Sleep(before)
					for _, entry := range s.processor.money(t, order.ID) {
						s.processor.sandbox.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/sandbox/payment_intents/"+entry.ID+"/authenticate?outcome="+outcome, nil))
						_, err := s.HandleNotice(t.Context(), entry.ID)
						assert.NotEqual(t, problem.Internal, kindOf(err), "%v", err)
					}
				})
			}
			if ends == "cancelled" {
				before := pause()
				all.Go(func() {
					time.Sleep(before)
					hear(t, s, after(order, ends))
				})
			}
			all.Wait()
			// An order is completed only after it was paid, so that comes last.
			hear(t, s, after(order, ends))
			for _, entry := range s.processor.money(t, order.ID) {
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
				require.Equal(t, Voided, p.Status)
			}
		})
	}
}

// hear tells an order's event until it is taken, as the broker does.
func hear(t *testing.T, s *scene, reported events.Order) {
	assert.Eventually(t, func() bool { return s.ApplyOrder(t.Context(), reported) == nil }, 5*time.Second, time.Millisecond)
}

// kindOf is problem.KindOf, and Conflict for no error: anything but Internal is an answer that a buyer can get.
func kindOf(err error) problem.Kind {
	if err == nil {
		return problem.Conflict
	}
	return problem.KindOf(err)
}
