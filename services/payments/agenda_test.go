package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
)

// round does what the agenda does when it is later than every appointment.
func (s *scene) round(t *testing.T) {
	t.Helper()
	due, _ := s.agenda.take(time.Now().Add(24 * time.Hour))
	for _, orderID := range due {
		s.agenda.settle(t.Context(), orderID)
	}
}

// impatient has deliveries not wait for Stripe, as after one that waited in vain.
func (s *scene) impatient() { s.patience.exhausted.Store(time.Now().Add(time.Hour).UnixNano()) }

// running runs the agenda until the test ends.
func (s *scene) running(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.agenda.run(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-ended) })
}

func (s *scene) authorized(t *testing.T) (orderID string, told func(status string) error) {
	t.Helper()
	order := s.hears(t)
	_, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	return order.ID, func(status string) error {
		order = after(order, status)
		return s.till.HearOrder(t.Context(), order)
	}
}

func TestAgenda_MoneyFollowsTheOrderSoon(t *testing.T) {
	s := newScene(t)
	s.impatient()
	s.running(t)
	taken, tell := s.authorized(t)
	require.NoError(t, tell("complete"))
	given, tellOther := s.authorized(t)
	require.NoError(t, tellOther("cancelled"))
	require.Eventually(t, func() bool {
		return s.processor.money(t, taken)[0].Captured == 2500 && s.processor.money(t, given)[0].Voided == 2500
	}, 5*time.Second, 5*time.Millisecond)
}

func TestAgenda_AnEventIsTakenWhileStripeIsAway(t *testing.T) {
	s := newScene(t)
	id, tell := s.authorized(t)
	away := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	s.processor.before.Store(&away)
	require.NoError(t, tell("complete"))
	require.Equal(t, firstRetry, s.agenda.next[id].wait)
	s.round(t)
	require.Equal(t, 2*firstRetry, s.agenda.next[id].wait)
	s.processor.before.Store(nil)
	s.round(t)
	s.requireMoney(t, id, 0, 2500, 0)
	require.Empty(t, s.agenda.next)
}

func TestAgenda_FindsOutWhatTheBankSaidWithoutAWebhook(t *testing.T) {
	s := newScene(t)
	order := s.hears(t)
	receipt, err := s.pay(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	due, wait := s.agenda.take(time.Now())
	require.Empty(t, due, "not at once")
	require.InDelta(t, firstLook, wait, float64(5*time.Second))

	s.round(t)
	require.Equal(t, 2*firstLook, s.agenda.next[order.ID].wait, "still open")
	s.processor.authenticate(t, receipt.Payment.StripeID, "succeed")
	s.round(t)
	s.requireTold(t, "payment.created")
	require.Empty(t, s.agenda.next)
}

func TestAgenda_FindsOutAnOutcomeThatWasLost(t *testing.T) {
	s := newScene(t)
	order := s.hears(t)
	lose := func(*http.Request, *httptest.ResponseRecorder) {
		panic(http.ErrAbortHandler)
	}
	s.processor.after.Store(&lose)
	_, err := s.pay(t.Context(), order.ID, "pm_card_visa")
	requireProblem(t, err, problem.Unavailable)
	s.round(t)
	require.Len(t, s.agenda.next, 1, "Stripe is still away")
	s.processor.after.Store(nil)
	s.round(t)
	s.requireTold(t, "payment.created")
	require.Empty(t, s.agenda.next)
}

func TestAgenda_HoldsOnlyWhatIsOpen(t *testing.T) {
	s := newScene(t)
	s.authorized(t)
	_, err := s.pay(t.Context(), s.hears(t).ID, "pm_card_chargeDeclined")
	requireProblem(t, err, problem.Declined)
	require.NoError(t, s.till.HearOrder(t.Context(), after(reserved(), "cancelled"))) // never paid
	require.Empty(t, s.agenda.next)
}

func TestAgenda_NewsIsNotLost(t *testing.T) {
	a := newAgenda(nil, quiet)
	a.add("order", firstLook)
	a.add("order", 0)
	due, _ := a.take(time.Now())
	require.Equal(t, []string{"order"}, due, "the earlier appointment stands")

	again := a.add("order", 0) // while it is busy
	require.False(t, a.next["order"].busy, "it is looked at once more")
	require.Equal(t, again, a.add("order", firstLook))
}
