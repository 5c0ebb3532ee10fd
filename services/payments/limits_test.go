package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"
)

const declinedByBank = "pm_card_chargeDeclined"

// requireTooMany checks a refusal, and that nothing was sent to Stripe.
func (s *fixture) requireTooMany(t *testing.T, orderID id.Order, card string, kind problem.Kind) *problem.Error {
	t.Helper()
	asked := s.stripeServer.Requests.Load()
	_, err := s.payWith(t.Context(), orderID, card)
	refused := requireProblem(t, err, kind)
	require.Equal(t, "too_many_attempts", refused.Details[0].Code)
	require.Equal(t, asked, s.stripeServer.Requests.Load(), "Stripe is not asked")
	return refused
}

// declines counts the cards that the bank has declined for these orders.
func (s *fixture) declines(t *testing.T, orders ...events.Order) (n int) {
	t.Helper()
	for _, order := range orders {
		for _, entry := range s.stripeServer.Money(t, order.ID) {
			n += entry.Declines
		}
	}
	return n
}

func TestLimits_AnOrderTakesSoManyDeclinedCards(t *testing.T) {
	s := newFixture(t)
	s.limits.PerOrder = 3
	order := s.newOrder(t)
	for range 3 {
		_, err := s.payWith(t.Context(), order.ID, declinedByBank)
		requireProblem(t, err, problem.Declined)
	}
	s.requireTooMany(t, order.ID, declinedByBank, problem.Conflict)
	s.requireTooMany(t, order.ID, "pm_card_visa", problem.Conflict)
	require.Equal(t, 3, s.declines(t, order))

	other := s.newOrder(t)
	_, err := s.payWith(t.Context(), other.ID, "pm_card_visa")
	require.NoError(t, err, "another order has a count of its own")
}

func TestLimits_OnlyDeclinesCount(t *testing.T) {
	s := newFixture(t)
	s.limits = domain.Limits{PerOrder: 1, PerHour: 4} // attempts that only cost requests count in the hour
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_nobody_knows")
	requireProblem(t, err, problem.Invalid)
	for _, card := range []string{"pm_card_authenticationRequired", "pm_card_threeDSecure2Required"} {
		receipt, err := s.payWith(t.Context(), order.ID, card)
		require.NoError(t, err)
		require.Equal(t, domain.RequiresAction, receipt.Payment.Status)
	}
	paid, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Zero(t, paid.Payment.Declines)
	_, err = s.payWith(t.Context(), order.ID, declinedByBank)
	require.NoError(t, err, "it is paid")
}

func TestLimits_ABankThatRefusesAfterItHasSeenTheBuyerCounts(t *testing.T) {
	s := newFixture(t)
	s.limits.PerOrder = 1
	order := s.newOrder(t)
	waiting, err := s.payWith(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	s.stripeServer.Authenticate(t, waiting.Payment.StripeID, "fail")
	_, err = s.handleAndSettle(t.Context(), waiting.Payment.StripeID)
	require.NoError(t, err)
	s.requireTooMany(t, order.ID, "pm_card_visa", problem.Conflict)
}

// confirm makes an attempt as a buyer's browser can: with a client secret and the publishable key.
func (p fakeStripe) confirm(t *testing.T, stripeID, secret, card string) (status int) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/v1/payment_intents/"+stripeID+"/confirm", strings.NewReader(url.Values{"client_secret": {secret}, "payment_method": {card}}.Encode()))
	r.Header.Set("Authorization", "Bearer pk_test_sandbox")
	p.Sandbox.ServeHTTP(w, r)
	return w.Code
}

// beginAuthentication makes an attempt for which the bank waits for the buyer, so that the client secret is known.
func (s *fixture) beginAuthentication(t *testing.T, orderID id.Order) (stripeID, secret string) {
	t.Helper()
	receipt, err := s.payWith(t.Context(), orderID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	require.NotEmpty(t, receipt.Intent.ClientSecret)
	return receipt.Payment.StripeID, receipt.Intent.ClientSecret
}

func TestLimits_DeclinesWithTheClientSecretCount(t *testing.T) {
	s := newFixture(t)
	s.limits.PerOrder = 3
	order := s.newOrder(t)
	stripeID, secret := s.beginAuthentication(t, order.ID)
	for n := range 3 {
		require.Equal(t, 402, s.stripeServer.confirm(t, stripeID, secret, declinedByBank))
		for range 2 { // the second reports nothing new
			_, err := s.handleAndSettle(t.Context(), stripeID)
			require.NoError(t, err)
		}
		require.Equal(t, n+1, s.storedPayment(t, order.ID).Declines)
	}
	s.requireTooMany(t, order.ID, "pm_card_visa", problem.Conflict)
	s.settleQueued(t)
	require.Equal(t, domain.Voided, s.storedPayment(t, order.ID).Status)
	require.Equal(t, 400, s.stripeServer.confirm(t, stripeID, secret, "pm_card_visa"), "the client secret cannot be used any more")
	require.Equal(t, 3, s.declines(t, order))
	s.requireTooMany(t, order.ID, "pm_card_visa", problem.Conflict)
	s.requireMoney(t, order.ID, 0, 0, 0)
	s.requireEvents(t, "payment.failed", "payment.failed", "payment.failed", "payment.voided")
}

func TestLimits_TheSweepCancelsWhatTheAgendaDidNot(t *testing.T) {
	s := newFixture(t)
	s.limits.PerOrder = 1
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, declinedByBank)
	requireProblem(t, err, problem.Declined)
	require.NoError(t, newSweep(s.store, time.Minute, quiet).pass(t.Context(), 0))
	require.Equal(t, domain.Voided, s.storedPayment(t, order.ID).Status)
}

func TestLimits_ADeclineThatIsReportedAfterAnotherCardCounts(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	waiting, err := s.payWith(t.Context(), order.ID, "pm_card_threeDSecureRequiredChargeDeclined")
	require.NoError(t, err)
	s.stripeServer.Authenticate(t, waiting.Payment.StripeID, "succeed")
	late := s.notice(waiting.Payment.StripeID)
	require.Equal(t, domain.Failed, late.Intent.Status)
	_, err = s.payWith(t.Context(), order.ID, declinedByBank)
	requireProblem(t, err, problem.Declined)
	for range 2 {
		_, err = s.store.HandleNotice(t.Context(), late)
		require.NoError(t, err)
		require.Equal(t, 2, s.storedPayment(t, order.ID).Declines)
	}
}

func TestLimits_DeclinesWithTheClientSecretCountForTheUser(t *testing.T) {
	s := newFixture(t)
	s.limits.PerHour = 4
	order, other, third := s.newOrder(t), s.newOrder(t), s.newOrder(t)
	stripeID, secret := s.beginAuthentication(t, order.ID)
	for range 2 {
		s.stripeServer.confirm(t, stripeID, secret, declinedByBank)
		_, err := s.handleAndSettle(t.Context(), stripeID)
		require.NoError(t, err)
	}
	otherID, otherSecret := s.beginAuthentication(t, other.ID)
	s.stripeServer.confirm(t, otherID, otherSecret, declinedByBank)
	_, err := s.handleAndSettle(t.Context(), otherID)
	require.NoError(t, err)
	require.False(t, s.storedPayment(t, other.ID).Exhausted, "three of four")
	s.stripeServer.confirm(t, otherID, otherSecret, declinedByBank)
	_, err = s.handleAndSettle(t.Context(), otherID)
	require.NoError(t, err)
	s.requireTooMany(t, third.ID, "pm_card_visa", problem.TooManyRequests)

	s.settleQueued(t)
	require.Equal(t, domain.Voided, s.storedPayment(t, other.ID).Status, "the hour is used up, and with it this client secret")
	s.stripeServer.confirm(t, stripeID, secret, declinedByBank)
	_, err = s.handleAndSettle(t.Context(), stripeID)
	require.NoError(t, err)
	s.settleQueued(t)
	require.Equal(t, domain.Voided, s.storedPayment(t, order.ID).Status)
	require.Equal(t, 5, s.declines(t, order, other, third))
}

func TestLimits_CardsThatCameToNothingCountInTheHour(t *testing.T) {
	for name, card := range map[string]func(n int) string{
		"a payment method that Stripe does not know": func(n int) string { return fmt.Sprintf("pm_%d", n) },
		"a token that Stripe does not know":          func(n int) string { return fmt.Sprintf("tok_%d", n) },
		"given up while the bank waited": func(n int) string {
			return []string{"pm_card_authenticationRequired", "pm_card_threeDSecureRequired"}[n%2]
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			s.limits = domain.Limits{PerOrder: 2, PerHour: 3}
			order := s.newOrder(t)
			for n := range 3 {
				_, err := s.payWith(t.Context(), order.ID, card(n))
				if err != nil {
					requireProblem(t, err, problem.Invalid)
				}
			}
			s.requireTooMany(t, order.ID, card(3), problem.TooManyRequests)
			s.requireTooMany(t, s.newOrder(t).ID, card(4), problem.TooManyRequests)
		})
	}
}

// TestAPI_ManyRequestsOfABuyerAreFewAtStripe: Stripe limits an account's requests a second.
func TestAPI_ManyRequestsOfABuyerAreFewAtStripe(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	d.refreshes.every = time.Hour
	order := d.newOrder(t)
	const card = "pm_card_authenticationRequired"
	key := []string{idempotency.Header, "once"}
	waiting := d.post(t, order.ID, card, key...).payment(t)
	require.Equal(t, costs{stripeReads: 1}.stripeReads, d.costs(t, func() {
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				for _, res := range []response{d.send(t, buyer, "GET", paymentPath(waiting.ID), ""), d.post(t, order.ID, card), d.post(t, order.ID, card, key...)} {
					assert.Equal(t, waiting.ClientSecret, res.payment(t).ClientSecret, res.text)
				}
			})
		}
		all.Wait()
	}).stripeReads)
	d.sidecar.requireNowhere(t, waiting.ClientSecret)

	d.stripeServer.Authenticate(t, waiting.StripeID, "succeed")
	require.Equal(t, domain.RequiresAction, d.send(t, buyer, "GET", paymentPath(waiting.ID), "").payment(t).Status)
	d.refreshes.every = 0
	require.Equal(t, domain.Authorized, d.send(t, buyer, "GET", paymentPath(waiting.ID), "").payment(t).Status)
}

func TestLimits_AUserHasSoManyDeclinedCardsAnHour(t *testing.T) {
	s := newFixture(t)
	s.limits.PerHour = 4
	for range 6 { // what is paid does not count
		order := s.newOrder(t)
		_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
	}
	first, second, third := s.newOrder(t), s.newOrder(t), s.newOrder(t)
	for _, order := range []events.Order{first, first, second, third} {
		_, err := s.payWith(t.Context(), order.ID, declinedByBank)
		requireProblem(t, err, problem.Declined)
	}
	for _, order := range []events.Order{first, second, s.newOrder(t)} {
		refused := s.requireTooMany(t, order.ID, "pm_card_visa", problem.TooManyRequests)
		require.InDelta(t, time.Hour.Seconds(), refused.RetryAfter.Seconds(), 30)
	}

	somebody := reserved()
	somebody.UserID = "buyer-2"
	require.NoError(t, s.applyAndSettle(t.Context(), somebody))
	_, _, err := s.Pay(t.Context(), somebody.ID, "buyer-2", domain.Method{PaymentMethod: "pm_card_visa"}, idempotency.Request{})
	require.NoError(t, err, "another user has a count of its own")
}

func TestLimits_WhatIsOlderThanAnHourIsForgotten(t *testing.T) {
	s := newFixture(t)
	s.limits.PerHour = 2
	old := clock.System().Add(-domain.AttemptWindow)
	var change state.Change
	change.PutFor(userKey(buyer), "", domain.UserAttempts{Schema: 1, Attempts: []domain.UserAttempt{
		{OrderID: "order-1", At: old.Add(-time.Minute)}, {OrderID: "order-2", At: old.Add(-time.Second)}, {OrderID: "order-3", At: old.Add(time.Minute)},
	}}, time.Hour)
	require.NoError(t, s.documents.Commit(t.Context(), &change))
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, declinedByBank)
	requireProblem(t, err, problem.Declined)
	refused := s.requireTooMany(t, order.ID, declinedByBank, problem.TooManyRequests)
	require.InDelta(t, 60, refused.RetryAfter.Seconds(), 30, "until the oldest of them is an hour old")
}

// TestLimits_HoldAtOnceInTwoReplicas sends many cards of a card tester for many orders to two processes at the same time.
func TestLimits_HoldAtOnceInTwoReplicas(t *testing.T) {
	for name, limit := range map[string]domain.Limits{
		"an order's":       {PerOrder: 5},
		"a user's":         {PerHour: 7},
		"both":             {PerOrder: 2, PerHour: 7},
		"a single attempt": {PerOrder: 1, PerHour: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			documents, err := state.Open(t.Context(), s.sidecar, state.Options{Service: "payments", Instance: "second", Log: quiet})
			require.NoError(t, err)
			t.Cleanup(func() { _ = documents.Close(context.Background()) })
			second := &fixture{newStore(documents, s.stripe, domain.Limits{}, clock.System, quiet), s.sidecar, s.stripeServer}
			s.limits, second.limits = limit, limit
			orders := []events.Order{s.newOrder(t), s.newOrder(t), s.newOrder(t), s.newOrder(t)}
			cards := []string{declinedByBank, "pm_card_chargeDeclinedInsufficientFunds", "pm_card_chargeDeclinedExpiredCard", "tok_chargeDeclined", "pm_card_chargeDeclinedStolenCard"}
			var all sync.WaitGroup
			for round := range 8 {
				for n, order := range orders {
					for _, replica := range []*fixture{s, second} {
						all.Go(func() {
							_, err := replica.payWith(t.Context(), order.ID, cards[(round+n)%len(cards)])
							assert.NotEqual(t, problem.Internal, kindOf(err), "%v", err)
						})
					}
				}
			}
			all.Wait()
			for range 10 { // one after another, until nothing is admitted any more
				for _, order := range orders {
					_, _ = s.payWith(t.Context(), order.ID, declinedByBank)
				}
			}
			for _, order := range orders {
				if limit.PerOrder > 0 {
					require.LessOrEqual(t, s.declines(t, order), limit.PerOrder)
				}
			}
			if limit.PerHour > 0 {
				require.LessOrEqual(t, s.declines(t, orders...), limit.PerHour)
			}
		})
	}
}

func TestLimits_NoneMeansNone(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	for range 20 {
		_, err := s.payWith(t.Context(), order.ID, declinedByBank)
		requireProblem(t, err, problem.Declined)
	}
	require.Equal(t, 20, s.declines(t, order))
}

func TestLimits_CostAPurchaseNoCall(t *testing.T) {
	s := newFixture(t)
	s.limits = domain.Limits{PerOrder: 5, PerHour: 10}
	for range 3 {
		order := s.newOrder(t)
		require.Equal(t, costs{reads: 1, transactions: 2, stripeWrites: 1}, s.costs(t, func() {
			_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
			require.NoError(t, err)
		}))
	}
}

func TestAPI_ShowsACardTesterNothing(t *testing.T) {
	for _, card := range []string{"pm_card_chargeDeclinedStolenCard", "pm_card_chargeDeclinedLostCard", "pm_card_chargeDeclinedFraudulent"} {
		t.Run(card, func(t *testing.T) {
			d := newTestAPI(t, webhookSecret)
			order := d.newOrder(t)
			res := d.post(t, order.ID, card)
			require.Equal(t, 402, res.StatusCode)
			require.Equal(t, []problem.Detail{{Message: "Your card was declined.", Field: "paymentMethod", Code: "card_declined"}}, res.errors(t))
			shown := d.send(t, buyer, "GET", paymentPath(id.Payment(order.ID)), "")
			require.Equal(t, "card_declined", shown.payment(t).DeclineCode)
			a, err := d.load(t.Context(), order.ID)
			require.NoError(t, err)
			require.NotEqual(t, "card_declined", a.order.Value.Payment.DeclineCode, "the document has the bank's code")
			require.Equal(t, "card_declined", domain.ShownDecline(a.order.Value.Payment.DeclineCode))
			d.requireEvents(t, "payment.failed")
			var reported events.PaymentFailed
			require.NoError(t, json.Unmarshal(d.sidecar.Published()[0].Data, &reported))
			require.Equal(t, "card_declined", reported.DeclineCode)
		})
	}
}

func TestAPI_TooManyAttempts(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	d.limits = domain.Limits{PerOrder: 1, PerHour: 2}
	first, second, third := d.newOrder(t), d.newOrder(t), d.newOrder(t)
	require.Equal(t, 402, d.post(t, first.ID, declinedByBank).StatusCode)
	res := d.post(t, first.ID, "pm_card_visa")
	require.Equal(t, 409, res.StatusCode, res.text)
	require.Equal(t, []problem.Detail{{Message: domain.ErrOrderAttempts.Details[0].Message, Field: "orderId", Code: "too_many_attempts"}}, res.errors(t))
	require.Equal(t, 402, d.post(t, second.ID, declinedByBank).StatusCode)
	res = d.post(t, third.ID, "pm_card_visa")
	require.Equal(t, 429, res.StatusCode, res.text)
	require.Equal(t, "too_many_attempts", res.errors(t)[0].Code)
	require.Contains(t, []string{"3599", "3600"}, res.Header.Get("Retry-After"))
}

func TestLimits_AnOrderWhoseEventIsOnItsWayIsWaitedFor(t *testing.T) {
	s := newFixture(t)
	s.limits = domain.Limits{PerOrder: 5, PerHour: 10}
	for range 15 {
		order := reserved()
		go func() {
			time.Sleep(30 * time.Millisecond)
			_ = s.store.ApplyOrder(context.Background(), order)
		}()
		began := time.Now()
		_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
		require.Less(t, time.Since(began), 2*time.Second)
	}
}
