package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// settleQueued settles all payments in the queue, whatever their time.
func (s *fixture) settleQueued(t *testing.T) {
	t.Helper()
	due, _ := s.queue.take(time.Now().Add(24 * time.Hour))
	for _, orderID := range due {
		s.queue.settle(t.Context(), orderID)
	}
}

// withoutBudget makes deliveries not wait for Stripe, as after one that has waited without an answer.
func (s *fixture) withoutBudget() {
	s.deliveries.spentUntil.Store(time.Now().Add(time.Hour).UnixNano())
}

// runQueue runs the queue until the test ends.
func (s *fixture) runQueue(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.queue.run(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-ended) })
}

func (s *fixture) newAuthorizedOrder(t *testing.T) (orderID id.Order, reported func(status events.OrderStatus) error) {
	t.Helper()
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	return order.ID, func(status events.OrderStatus) error {
		order = after(order, status)
		return s.store.ApplyOrder(t.Context(), order)
	}
}

func TestQueue_MoneyFollowsTheOrderSoon(t *testing.T) {
	s := newFixture(t)
	s.withoutBudget()
	s.runQueue(t)
	taken, publish := s.newAuthorizedOrder(t)
	require.NoError(t, publish("complete"))
	given, publishOther := s.newAuthorizedOrder(t)
	require.NoError(t, publishOther("cancelled"))
	require.Eventually(t, func() bool {
		return s.stripeServer.Money(t, taken)[0].Captured == 2500 && s.stripeServer.Money(t, given)[0].Voided == 2500
	}, 5*time.Second, 5*time.Millisecond)
}

func TestQueue_AnEventIsTakenWhileStripeIsAway(t *testing.T) {
	s := newFixture(t)
	id, publish := s.newAuthorizedOrder(t)
	s.stripeServer.SetAway(true)
	require.NoError(t, publish("complete"))
	require.Equal(t, firstRetry, s.queue.entries[id].pause)
	s.settleQueued(t)
	require.Equal(t, 2*firstRetry, s.queue.entries[id].pause)
	s.stripeServer.SetAway(false)
	s.settleQueued(t)
	s.requireMoney(t, id, 0, 2500, 0)
	require.Empty(t, s.queue.entries)
}

func TestQueue_FindsTheBanksDecisionWithoutAWebhook(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	receipt, err := s.payWith(t.Context(), order.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	due, wait := s.queue.take(time.Now())
	require.Empty(t, due, "not at once")
	require.InDelta(t, firstRefresh, wait, float64(5*time.Second))

	s.settleQueued(t)
	require.Equal(t, 2*firstRefresh, s.queue.entries[order.ID].pause, "still open")
	s.stripeServer.Authenticate(t, receipt.Payment.StripeID, "succeed")
	s.settleQueued(t)
	s.requireEvents(t, "payment.created")
	require.Empty(t, s.queue.entries)
}

func TestQueue_FindsOutAnOutcomeThatWasLost(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	lose := func(*http.Request, *httptest.ResponseRecorder) {
		panic(http.ErrAbortHandler)
	}
	s.stripeServer.After.Store(&lose)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	requireProblem(t, err, problem.Unavailable)
	s.settleQueued(t)
	require.Len(t, s.queue.entries, 1, "Stripe is still away")
	s.stripeServer.After.Store(nil)
	s.settleQueued(t)
	s.requireEvents(t, "payment.created")
	require.Empty(t, s.queue.entries)
}

func TestQueue_HoldsOnlyWhatIsOpen(t *testing.T) {
	s := newFixture(t)
	s.newAuthorizedOrder(t)
	_, err := s.payWith(t.Context(), s.newOrder(t).ID, "pm_card_chargeDeclined")
	requireProblem(t, err, problem.Declined)
	require.NoError(t, s.store.ApplyOrder(t.Context(), after(reserved(), "cancelled"))) // never paid
	require.Empty(t, s.queue.entries)
}

func TestQueue_AnEarlierTimeReplacesALaterOne(t *testing.T) {
	a := newQueue(nil, quiet)
	a.add("order", firstRefresh)
	a.add("order", 0)
	due, _ := a.take(time.Now())
	require.Equal(t, []id.Order{"order"}, due, "the earlier queued stands")

	again := a.add("order", 0) // while it is busy
	require.False(t, a.entries["order"].busy, "it is refreshed at once more")
	require.Equal(t, again, a.add("order", firstRefresh))
}
