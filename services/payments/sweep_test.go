package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
)

// round does what the sweep does when it is later than every appointment.
func (s *scene) round(t *testing.T) {
	t.Helper()
	for orderID, wait := range s.sweep.due(time.Now().Add(24 * time.Hour)) {
		s.sweep.visit(t.Context(), s.till, orderID, wait)
	}
}

func TestSweep_FindsOutWhatTheBankSaidWithoutAWebhook(t *testing.T) {
	s := newScene(t)
	s.till.sweep = newSweep(quiet)
	order := s.hears(t)
	receipt, err := s.pay(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	require.Empty(t, s.sweep.due(time.Now()), "not at once")

	s.round(t)
	require.Len(t, s.sweep.next, 1, "still open")
	require.Equal(t, 2*firstLook, s.sweep.next[order.ID].wait)
	s.processor.authenticate(t, receipt.Payment.StripeID, "succeed")
	s.round(t)
	s.requireTold(t, "payment.created")
	require.Empty(t, s.sweep.next)
}

func TestSweep_FindsOutAnOutcomeThatWasLost(t *testing.T) {
	s := newScene(t)
	s.till.sweep = newSweep(quiet)
	order := s.hears(t)
	lose := func(_ *http.Request, _ *httptest.ResponseRecorder) { panic(http.ErrAbortHandler) }
	created := func(r *http.Request, w *httptest.ResponseRecorder) {
		if r.URL.Path != "/v1/payment_intents" {
			lose(r, w)
		}
	}
	s.processor.after.Store(&created)
	_, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	requireProblem(t, err, problem.Unavailable)
	s.round(t)
	require.Len(t, s.sweep.next, 1, "Stripe is still away")
	s.processor.after.Store(nil)
	s.round(t)
	s.requireTold(t, "payment.created")
	require.Empty(t, s.sweep.next)
}

func TestSweep_WatchesOnlyWhatIsOpen(t *testing.T) {
	s := newScene(t)
	s.till.sweep = newSweep(quiet)
	_, err := s.pay(t.Context(), s.hears(t).ID, "pm_card_visa")
	require.NoError(t, err)
	_, err = s.pay(t.Context(), s.hears(t).ID, "pm_card_chargeDeclined")
	requireProblem(t, err, problem.Declined)
	require.Empty(t, s.sweep.next)

	order := s.hears(t)
	_, err = s.pay(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	require.NoError(t, s.HearOrder(t.Context(), after(order, "cancelled")))
	s.round(t)
	require.Empty(t, s.sweep.next)
}

func TestSweep_TakesUpWhatAnEarlierProcessLeft(t *testing.T) {
	s := newScene(t)
	order := s.hears(t)
	_, err := s.pay(t.Context(), s.hears(t).ID, "pm_card_chargeDeclined")
	requireProblem(t, err, problem.Declined)
	receipt, err := s.pay(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	s.processor.authenticate(t, receipt.Payment.StripeID, "succeed")

	s.till.sweep = newSweep(quiet)
	require.NoError(t, s.sweep.recover(t.Context(), s.till))
	require.Len(t, s.sweep.due(time.Now()), 1)
	s.round(t)
	s.requireTold(t, "payment.failed", "payment.created")
	require.Empty(t, s.sweep.next)
}

func TestSweep_LeavesAloneWhatIsNotOurs(t *testing.T) {
	s := newScene(t)
	s.till.sweep = newSweep(quiet)
	s.sweep.watch("an order of another installation")
	s.round(t)
	require.Empty(t, s.sweep.next)
}
