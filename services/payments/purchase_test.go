package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
)

// costs are the calls to the sidecar for documents of this service, and the requests to Stripe.
type costs struct{ reads, transactions, stripeWrites, stripeReads int }

func (s *fixture) costs(t *testing.T, of func()) costs {
	t.Helper()
	count := func() costs {
		wrote := int(s.stripeServer.Writes.Load())
		return costs{int(s.sidecar.reads.Load()), int(s.sidecar.transactions.Load()), wrote, int(s.stripeServer.Requests.Load()) - wrote}
	}
	before := count()
	of()
	after := count()
	return costs{after.reads - before.reads, after.transactions - before.transactions, after.stripeWrites - before.stripeWrites, after.stripeReads - before.stripeReads}
}

func TestPurchase_ReadsOnceAndAsksStripeTwice(t *testing.T) {
	s := newFixture(t)
	order := reserved()
	require.Equal(t, costs{transactions: 1}, s.costs(t, func() {
		require.NoError(t, s.store.ApplyOrder(t.Context(), order))
	}), "the order is new: nothing is read")

	var paid Receipt
	require.Equal(t, costs{reads: 1, transactions: 2, stripeWrites: 1}, s.costs(t, func() {
		var err error
		paid, err = s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
	}), "the attempt is written down, made, and its outcome written down")
	authorized := s.notice(paid.Payment.StripeID)

	require.Equal(t, costs{reads: 1, transactions: 1, stripeWrites: 1}, s.costs(t, func() {
		require.NoError(t, s.store.ApplyOrder(t.Context(), after(order, "complete")))
	}), "the money is taken, and that is written down with what the order has become")
	s.requireMoney(t, order.ID, 0, 2500, 0)

	captured := s.notice(paid.Payment.StripeID)
	require.Equal(t, domain.Captured, captured.Intent.Status)
	require.Zero(t, s.costs(t, func() {
		for _, reported := range []stripe.Notice{authorized, captured, captured, authorized} { // late, and repeated
			known, err := s.store.HandleNotice(t.Context(), reported)
			require.NoError(t, err)
			require.True(t, known)
		}
		for range 2 { // delivered again
			require.NoError(t, s.store.ApplyOrder(t.Context(), after(order, "complete")))
			require.NoError(t, s.store.ApplyOrder(t.Context(), order))
		}
		s.settleQueued(t)
	}), "it is all known")
	require.Equal(t, costs{reads: 1}, s.costs(t, func() {
		known, err := newStore(s.documents, s.stripe, domain.Limits{}, clock.System, quiet).HandleNotice(t.Context(), captured)
		require.NoError(t, err)
		require.True(t, known)
	}), "another replica reads once")
	s.requireEvents(t, "payment.created", "payment.captured")
}

func TestPurchase_ATokenCostsAThirdWrite(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	require.Equal(t, costs{reads: 1, transactions: 2, stripeWrites: 2}, s.costs(t, func() {
		_, err := s.payWith(t.Context(), order.ID, "tok_visa")
		require.NoError(t, err)
	}))
}

func TestApplyOrder_ARepeatAfterARestartChangesNothing(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.NoError(t, s.applyAndSettle(t.Context(), after(order, "complete")))
	s.store = newStore(s.documents, s.stripe, domain.Limits{}, clock.System, quiet)
	require.NoError(t, s.store.ApplyOrder(t.Context(), order))
	require.NoError(t, s.store.ApplyOrder(t.Context(), after(order, "complete")))
	a, err := s.load(t.Context(), order.ID)
	require.NoError(t, err)
	require.Equal(t, domain.OrderComplete, a.order.Value.Status)
	require.Equal(t, domain.Captured, a.order.Value.Payment.Status)
	s.requireMoney(t, order.ID, 0, 2500, 0)
}

func TestApplyOrder_DoesNotWaitForASlowStripe(t *testing.T) {
	s := newFixture(t)
	s.stripeServer.Inject(t, `{"operation":"capture","fault":"hang_before","times":1}`)
	first, second := s.newOrder(t), s.newOrder(t)
	for _, order := range []id.Order{first.ID, second.ID} {
		_, err := s.payWith(t.Context(), order, "pm_card_visa")
		require.NoError(t, err)
	}
	began := time.Now()
	require.NoError(t, s.store.ApplyOrder(t.Context(), after(first, "complete")))
	require.InDelta(t, deliveryTime, time.Since(began), float64(deliveryTime))
	require.Equal(t, costs{reads: 1, transactions: 1}, s.costs(t, func() {
		require.NoError(t, s.store.ApplyOrder(t.Context(), after(second, "complete")))
	}), "the next does not even ask")
	for _, order := range []id.Order{first.ID, second.ID} {
		a, err := s.load(t.Context(), order)
		require.NoError(t, err)
		require.Equal(t, domain.OrderComplete, a.order.Value.Status, "what the order has become is on disk")
	}
	s.settleQueued(t)
	s.requireMoney(t, first.ID, 0, 2500, 0)
	s.requireMoney(t, second.ID, 0, 2500, 0)
}

// crash makes the documents of a process that has committed an attempt and died. With got, Stripe has had the attempt.
func (s *fixture) crash(t *testing.T, card string, got bool) (orderID id.Order) {
	t.Helper()
	order := s.newOrder(t)
	method := domain.Method{PaymentMethod: card}
	command := &payCommand{store: s.store, orderID: order.ID, buyer: buyer, card: method}
	a, err := command.load(t.Context())
	require.NoError(t, err)
	require.NoError(t, command.begin(t.Context(), &a))
	if got {
		_, err = s.stripe.Authorize(t.Context(), &a.order.Value, a.order.Value.Payment.Attempt, method)
		require.NoError(t, err)
	}
	s.store = newStore(s.documents, s.stripe, domain.Limits{}, clock.System, quiet) // its cache is empty
	return order.ID
}

func TestAttempt_TheSweepFindsTheOutcomeAfterACrash(t *testing.T) {
	for name, c := range map[string]struct {
		card     string
		got      bool
		held     int64
		then     domain.Status
		reported []string
	}{
		"authorized":           {"pm_card_visa", true, 2500, domain.Authorized, []string{"payment.created"}},
		"declined":             {"pm_card_chargeDeclined", true, 0, domain.Failed, []string{"payment.failed"}},
		"the bank asks":        {"pm_card_authenticationRequired", true, 0, domain.RequiresAction, nil},
		"Stripe was not asked": {"pm_card_visa", false, 0, domain.Pending, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			orderID := s.crash(t, c.card, c.got)
			s.runSweep(t)
			s.requireMoney(t, orderID, c.held, 0, 0)
			a, err := s.load(t.Context(), orderID)
			require.NoError(t, err)
			require.Equal(t, c.then, a.order.Value.Payment.Status)
			require.NotEmpty(t, a.order.Value.Payment.StripeID)
			s.requireEvents(t, c.reported...)

			asked := s.stripeServer.Requests.Load()
			paid, err := s.payWith(t.Context(), orderID, "pm_card_visa")
			require.NoError(t, err)
			if c.card != "pm_card_authenticationRequired" { // with another card, this is the same intent, too
				require.True(t, paid.Fresh, "the buyer has had no answer before")
			}
			require.Equal(t, c.then == domain.Authorized, asked == s.stripeServer.Requests.Load())
			s.requireMoney(t, orderID, 2500, 0, 0)
		})
	}
}

func TestAttempt_ACrashedOnesOrderIsCancelled(t *testing.T) {
	for name, got := range map[string]bool{"authorized": true, "Stripe was not asked": false} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			orderID := s.crash(t, "pm_card_visa", got)
			a, err := s.load(t.Context(), orderID)
			require.NoError(t, err)
			reported := reserved()
			reported.ID, reported.ExpiresAt = orderID, clock.Stamp(a.order.Value.ExpiresAt)
			require.NoError(t, s.store.ApplyOrder(t.Context(), after(reported, "cancelled")))
			s.runSweep(t)
			s.requireMoney(t, orderID, 0, 0, 0)
			s.requireEvents(t, "payment.voided")
		})
	}
}

func TestAttempt_AnotherCardResolvesTheFirst(t *testing.T) {
	for name, c := range map[string]struct {
		card  string
		got   bool
		fresh bool
	}{
		"authorized":           {"pm_card_mastercard", true, false},
		"declined":             {"pm_card_chargeDeclined", true, true},
		"the bank asks":        {"pm_card_authenticationRequired", true, true},
		"Stripe was not asked": {"pm_card_mastercard", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			orderID := s.crash(t, c.card, c.got)
			paid, err := s.payWith(t.Context(), orderID, "pm_card_visa")
			require.NoError(t, err)
			require.Equal(t, c.fresh, paid.Fresh)
			require.Equal(t, domain.Authorized, paid.Payment.Status)
			s.requireMoney(t, orderID, 2500, 0, 0)
		})
	}
}

func TestAttempt_OneThatWasEndedCannotBeMadeLater(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	ended := false
	sweep := func(_ http.ResponseWriter, r *http.Request) bool {
		if attempts(r) && !ended { // the request is under way when another process ends the attempt
			ended = true
			s.runSweep(t)
		}
		return false
	}
	s.stripeServer.Before.Store(&sweep)
	paid, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.True(t, paid.Fresh)
	require.Equal(t, 2, paid.Payment.Attempt.Number)
	s.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestAttempt_OneOlderThanItsKeyIsSearched(t *testing.T) {
	for name, got := range map[string]bool{"authorized": true, "Stripe was not asked": false} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			orderID := s.crash(t, "pm_card_visa", got)
			for n := range 120 { // of other orders, so that the list has pages
				s.stripeServer.CreateByHand(t, id.Order(fmt.Sprintf("another-%d", n)), nil, "")
			}
			s.store.stripe = newClient(s.stripeServer.URL, func() time.Time { return clock.System().Add(domain.KeyLife) })
			calls := s.stripeServer.Calls(t)
			s.runSweep(t)
			require.Equal(t, calls.Writes, s.stripeServer.Calls(t).Writes, "its key is not used any more")
			a, err := s.load(t.Context(), orderID)
			if got {
				require.NoError(t, err)
				require.Equal(t, domain.Authorized, a.order.Value.Payment.Status)
				s.requireMoney(t, orderID, 2500, 0, 0)
				return
			}
			require.Equal(t, domain.Pending, a.order.Value.Payment.Status)
			require.False(t, a.order.Value.Payment.Attempt.Open)
			require.Empty(t, s.stripeServer.Money(t, orderID))
			_, err = s.payWith(t.Context(), orderID, "pm_card_visa")
			require.NoError(t, err)
			s.requireMoney(t, orderID, 2500, 0, 0)
		})
	}
}

func TestAttempt_OneThatStripeDoesNotTakeIsOver(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_nobody")
	requireProblem(t, err, problem.Invalid)
	require.Empty(t, s.stripeServer.Money(t, order.ID))
	_, err = s.Payment(t.Context(), id.Payment(order.ID), buyer)
	require.ErrorIs(t, err, domain.ErrNoPayment, "nobody was reported of one")
	asked := s.stripeServer.Requests.Load()
	s.runSweep(t)
	require.Equal(t, asked, s.stripeServer.Requests.Load(), "there is nothing to find out")

	paid, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, 2, paid.Payment.Attempt.Number)
	s.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestHandleNotice_AnIntentThatIsNotThePaymentsKeepsNoMoney(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	paid, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	stray := s.stripeServer.CreateByHand(t, order.ID, nil, "pm_card_visa")
	for range 2 {
		known, err := s.store.HandleNotice(t.Context(), s.notice(stray))
		require.NoError(t, err)
		require.True(t, known)
	}
	_, err = s.store.HandleNotice(t.Context(), stripe.Notice{Intent: domain.Intent{ID: "pi_nobody", Status: domain.Authorized}, OrderID: order.ID})
	require.NoError(t, err, "there is none")
	for _, entry := range s.stripeServer.Money(t, order.ID) {
		require.Equal(t, entry.ID == paid.Payment.StripeID, entry.Held == 2500, "%+v", entry)
	}
}

// A webhook that comes before the response to the request that has caused it must not publish the outcome a second time.
func TestHandleNotice_BeforeTheResponseTheRequestCommits(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	overtake := func(r *http.Request, _ *httptest.ResponseRecorder) {
		if attempts(r) || strings.HasSuffix(r.URL.Path, "/capture") {
			known, err := s.store.HandleNotice(t.Context(), s.notice(s.stripeServer.Money(t, order.ID)[0].ID))
			require.NoError(t, err)
			require.True(t, known)
		}
	}
	s.stripeServer.After.Store(&overtake)
	require.Equal(t, costs{reads: 1, transactions: 2, stripeWrites: 1}, s.costs(t, func() {
		_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
		s.settleQueued(t)
	}))
	require.Equal(t, costs{reads: 1, transactions: 1, stripeWrites: 1}, s.costs(t, func() {
		require.NoError(t, s.store.ApplyOrder(t.Context(), after(order, "complete")))
		s.settleQueued(t)
	}))
	s.requireEvents(t, "payment.created", "payment.captured")
}

// The response is lost, and the webhook comes while the request is under way: the outcome is not lost.
func TestHandleNotice_BeforeAnAnswerThatIsLost(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	lose := func(*http.Request, *httptest.ResponseRecorder) {
		s.stripeServer.After.Store(nil)
		known, err := s.store.HandleNotice(t.Context(), s.notice(s.stripeServer.Money(t, order.ID)[0].ID))
		require.NoError(t, err)
		require.True(t, known)
		panic(http.ErrAbortHandler)
	}
	s.stripeServer.After.Store(&lose)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	requireProblem(t, err, problem.Unavailable)
	s.settleQueued(t)
	s.requireEvents(t, "payment.created")
	s.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestPay_TheEventEndsTheWait(t *testing.T) {
	s := newFixture(t)
	order := reserved()
	done := make(chan error, 1)
	spent := s.costs(t, func() {
		go func() {
			_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
			done <- err
		}()
		require.Eventually(t, func() bool {
			return s.sidecar.reads.Load() >= 2 // and waits
		}, time.Second, time.Millisecond)
		require.NoError(t, s.store.ApplyOrder(t.Context(), order))
		require.NoError(t, <-done)
	})
	require.LessOrEqual(t, spent.reads, 4, "the store is not polled")
}

func TestPay_AnEventThatCameToAnotherReplicaIsFound(t *testing.T) {
	s := newFixture(t)
	order := reserved()
	go func() {
		time.Sleep(50 * time.Millisecond)
		_ = newStore(s.documents, s.stripe, domain.Limits{}, clock.System, quiet).ApplyOrder(t.Context(), order)
	}()
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
}
