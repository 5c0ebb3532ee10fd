package main

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
)

// differences are what a comparison has found, by kind.
type differences map[string]int

// runComparison makes the daily comparison, of payments of any age.
func (s *fixture) runComparison(t *testing.T) differences {
	t.Helper()
	found, err := s.tryComparison(t)
	require.NoError(t, err)
	return found
}

func (s *fixture) tryComparison(t *testing.T) (differences, error) {
	t.Helper()
	s.minAge = 0
	registry := prometheus.NewRegistry()
	err := reconcile.New(s.documents, reconcile.Settings{ReconcileEvery: time.Nanosecond}, quiet, registry, s.comparison()).ReconcileIfDue(t.Context())
	metrics, failed := registry.Gather()
	require.NoError(t, failed)
	found := differences{}
	for _, family := range metrics {
		if family.GetName() == "boxoffice_reconcile_differences_total" {
			for _, metric := range family.Metric {
				for _, label := range metric.Label {
					if label.GetName() == "kind" {
						found[label.GetValue()] = int(metric.Counter.GetValue())
					}
				}
			}
		}
	}
	return found, err
}

// restoreBackup replaces the service's documents by those of a backup.
func (s *fixture) restoreBackup(t *testing.T, backup map[string]statetest.Document) {
	t.Helper()
	for key := range s.sidecar.Documents() {
		if !isOfPayments(key) {
			continue
		}
		if before, kept := backup[key]; kept {
			s.sidecar.Write(key, before.Value)
		} else {
			s.sidecar.Delete(key)
		}
	}
	s.store = newStore(s.documents, s.stripe, domain.Limits{}, clock.System, quiet)
}

func (s *fixture) storedPayment(t *testing.T, orderID id.Order) domain.Payment {
	t.Helper()
	a, err := s.load(t.Context(), orderID)
	require.NoError(t, err)
	require.NotNil(t, a.order.Value.Payment)
	return *a.order.Value.Payment
}

// lost is the event of the orders service about a payment whose order it does not have.
func lost(orderID id.Order) events.Order {
	return events.Order{ID: orderID, UserID: buyer, Status: "cancelled", Reason: "unknown", Version: 1 << 20, Ticket: events.OrderedTicket{Price: 2500, Currency: "usd"}}
}

func TestCompare_WithNothingToFindOnlyPublishesAgain(t *testing.T) {
	s := newFixture(t)
	sold, _ := s.newCapturedOrder(t)
	held := s.newOrder(t)
	_, err := s.payWith(t.Context(), held.ID, "pm_card_visa")
	require.NoError(t, err)
	refused := s.newOrder(t)
	_, err = s.payWith(t.Context(), refused.ID, declinedByBank)
	require.Error(t, err)
	s.requireEvents(t, "payment.created", "payment.captured", "payment.created", "payment.failed")
	wrote := s.stripeServer.Writes.Load()
	require.Empty(t, s.runComparison(t))
	require.Equal(t, wrote, s.stripeServer.Writes.Load())
	s.requireEvents(t, "payment.created", "payment.captured", "payment.created", "payment.failed", "payment.captured", "payment.created")
	require.Equal(t, domain.Captured, s.storedPayment(t, sold.ID).Status)
}

func TestCompare_FindsWhatWebhooksDidNotReport(t *testing.T) {
	for name, c := range map[string]struct {
		happens  func(t *testing.T, s *fixture, intent string)
		status   domain.Status
		refunded int64
		failed   bool
		dispute  string
	}{
		"a refund": {func(t *testing.T, s *fixture, intent string) { s.stripeServer.refundInDashboard(t, intent, "") }, domain.Refunded, 2500, false, ""},
		"a part":   {func(t *testing.T, s *fixture, intent string) { s.stripeServer.refundInDashboard(t, intent, "700") }, domain.Captured, 700, false, ""},
		"a refund that failed": {func(t *testing.T, s *fixture, intent string) {
			id := s.stripeServer.refundInDashboard(t, intent, "")
			_, _, err := s.settleOrder(t.Context(), s.notice(intent).OrderID, domain.Cause{Refresh: domain.RefreshAlways})
			require.NoError(t, err)
			s.stripeServer.simulate(t, "/refunds/"+id+"/fail", "")
		}, domain.Captured, 0, true, ""},
		"a dispute": {func(t *testing.T, s *fixture, intent string) {
			s.stripeServer.simulate(t, "/payment_intents/"+intent+"/dispute", "")
		}, domain.Captured, 0, false, "needs_response"},
		"a dispute that was lost": {func(t *testing.T, s *fixture, intent string) {
			id := s.stripeServer.simulate(t, "/payment_intents/"+intent+"/dispute", "")
			_, _, err := s.settleOrder(t.Context(), s.notice(intent).OrderID, domain.Cause{Refresh: domain.RefreshAlways})
			require.NoError(t, err)
			s.stripeServer.simulate(t, "/disputes/"+id+"/close", `{"outcome":"lost"}`)
		}, domain.Refunded, 2500, false, "lost"},
	} {
		for _, from := range []string{"the list of intents", "the list of events"} {
			t.Run(name+", by "+from, func(t *testing.T) {
				s := newFixture(t)
				order, intent := s.newCapturedOrder(t)
				c.happens(t, s, intent)
				other := func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodGet && r.URL.Path == map[string]string{"the list of intents": "/v1/events", "the list of events": "/v1/payment_intents"}[from] {
						_, _ = w.Write([]byte(`{"object":"list","data":[],"has_more":false}`))
						return true
					}
					return false
				}
				s.stripeServer.Before.Store(&other)
				if name == "a dispute that was lost" && from == "the list of intents" {
					t.Skip("a charge does not contain how a dispute ended")
				}
				require.Equal(t, differences{kindBehind: 1}, s.runComparison(t))
				p := s.storedPayment(t, order.ID)
				require.Equal(t, []any{c.status, c.refunded, c.failed, c.dispute}, []any{p.Status, p.Refunded, p.RefundFailed, p.Dispute.Status})
				require.Empty(t, s.runComparison(t), "once")
			})
		}
	}
}

func TestCompare_ReadsTheIntentBeforeAStepThatIsDue(t *testing.T) {
	s := newFixture(t)
	complete, intent := s.newCapturedOrder(t)
	s.stripeServer.refundInDashboard(t, intent, "") // no webhook comes
	s.withoutBudget()
	require.NoError(t, s.store.ApplyOrder(t.Context(), after(complete, "cancelled")))
	wrote := s.stripeServer.Writes.Load()
	require.Equal(t, differences{kindBehind: 1}, s.runComparison(t))
	require.Equal(t, domain.Refunded, s.storedPayment(t, complete.ID).Status)
	require.Equal(t, wrote, s.stripeServer.Writes.Load(), "the money was given back already")
}

func TestCompare_APaymentWhoseDocumentsWereLost(t *testing.T) {
	t.Run("authorized, and orders completes it", func(t *testing.T) {
		s := newFixture(t)
		order := s.newOrder(t)
		_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
		s.restoreBackup(t, nil)
		require.Equal(t, differences{kindUnknown: 1}, s.runComparison(t))
		s.requireEvents(t, "payment.created", "payment.created")
		require.Contains(t, s.ahead(t), order.ID, "it waits for its order")
		_, err = s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err, "it is paid")
		require.NoError(t, s.applyAndSettle(t.Context(), after(order, "complete")))
		s.requireMoney(t, order.ID, 0, 2500, 0)
		require.Empty(t, s.runComparison(t))
	})
	t.Run("authorized, and orders has lost the order, too", func(t *testing.T) {
		s := newFixture(t)
		order := s.newOrder(t)
		_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
		s.restoreBackup(t, nil)
		s.runComparison(t)
		require.NoError(t, s.applyAndSettle(t.Context(), lost(order.ID)))
		s.requireMoney(t, order.ID, 0, 0, 0)
		require.Equal(t, domain.Voided, s.storedPayment(t, order.ID).Status)
	})
	t.Run("captured", func(t *testing.T) {
		s := newFixture(t)
		order, _ := s.newCapturedOrder(t)
		s.restoreBackup(t, nil)
		require.Equal(t, differences{kindUnknown: 1}, s.runComparison(t))
		s.requireEvents(t, "payment.created", "payment.captured", "payment.created", "payment.captured")
		require.NoError(t, s.applyAndSettle(t.Context(), order))
		s.requireMoney(t, order.ID, 0, 2500, 0)
		s.runSweep(t)
		require.Empty(t, s.ahead(t))
	})
	t.Run("captured, and orders has lost the order, too", func(t *testing.T) {
		s := newFixture(t)
		order, _ := s.newCapturedOrder(t)
		s.restoreBackup(t, nil)
		s.runComparison(t)
		require.NoError(t, s.applyAndSettle(t.Context(), lost(order.ID)))
		s.requireMoney(t, order.ID, 0, 2500, 2500)
	})
	t.Run("a backup from between reservation and payment", func(t *testing.T) {
		s := newFixture(t)
		order := s.newOrder(t)
		backup := s.sidecar.Documents()
		_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
		complete := after(order, "complete")
		require.NoError(t, s.applyAndSettle(t.Context(), complete))
		s.restoreBackup(t, backup)
		require.Equal(t, differences{kindUnknown: 1}, s.runComparison(t))
		require.NoError(t, s.applyAndSettle(t.Context(), complete), "by the reconciliation of orders")
		require.Equal(t, domain.Captured, s.storedPayment(t, order.ID).Status)
		s.requireMoney(t, order.ID, 0, 2500, 0)
	})
	t.Run("a backup from between payment and capture", func(t *testing.T) {
		s := newFixture(t)
		order := s.newOrder(t)
		_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
		backup := s.sidecar.Documents()
		complete := after(order, "complete")
		require.NoError(t, s.applyAndSettle(t.Context(), complete))
		s.restoreBackup(t, backup)
		require.Equal(t, differences{kindBehind: 1}, s.runComparison(t))
		require.Equal(t, domain.Captured, s.storedPayment(t, order.ID).Status)
		require.NoError(t, s.applyAndSettle(t.Context(), complete))
		s.requireMoney(t, order.ID, 0, 2500, 0)
	})
	t.Run("nothing was paid yet", func(t *testing.T) {
		s := newFixture(t)
		order := s.newOrder(t)
		waiting, err := s.payWith(t.Context(), order.ID, "pm_card_authenticationRequired")
		require.NoError(t, err)
		s.restoreBackup(t, nil)
		require.Equal(t, differences{kindUnknown: 1}, s.runComparison(t))
		require.Equal(t, domain.Voided, s.notice(waiting.Payment.StripeID).Intent.Status, "nobody can pay it any more")
		require.Empty(t, s.runComparison(t))
	})
}

func TestCompare_AnOrderThatOrdersHasLostIsGivenBack(t *testing.T) {
	s := newFixture(t)
	held := s.newOrder(t)
	_, err := s.payWith(t.Context(), held.ID, "pm_card_visa")
	require.NoError(t, err)
	sold, _ := s.newCapturedOrder(t)
	for _, order := range []events.Order{held, sold} {
		for range 2 { // as often as it is reported
			require.NoError(t, s.applyAndSettle(t.Context(), lost(order.ID)))
		}
	}
	s.requireMoney(t, held.ID, 0, 0, 0)
	s.requireMoney(t, sold.ID, 0, 2500, 2500)
}

func TestCompare_IgnoresIntentsOfOtherSystems(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	s.restoreBackup(t, nil)
	s.stripe.Origin = "another-system"
	require.Empty(t, s.runComparison(t))
	s.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestCompare_SkipsWhatIsTooNew(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	s.restoreBackup(t, nil)
	registry := prometheus.NewRegistry()
	require.NoError(t, reconcile.New(s.documents, reconcile.Settings{ReconcileEvery: time.Hour}, quiet, registry, s.comparison()).ReconcileIfDue(t.Context()))
	s.requireMoney(t, order.ID, 2500, 0, 0)
	_, err = s.load(t.Context(), order.ID)
	require.ErrorIs(t, err, domain.ErrNoOrder)
}

func TestCompare_AStrayIntentKeepsNoMoney(t *testing.T) {
	s := newFixture(t)
	sold, intent := s.newCapturedOrder(t)
	s.stripeServer.CreateByHand(t, sold.ID, nil, "pm_card_visa")
	require.Equal(t, differences{kindStray: 1}, s.runComparison(t))
	for _, entry := range s.stripeServer.Money(t, sold.ID) {
		require.Zero(t, entry.Held)
		require.Equal(t, entry.ID == intent, entry.Kept == 2500)
	}
	require.Empty(t, s.runComparison(t))
}

func TestCompare_ReadsInBulk(t *testing.T) {
	s := newFixture(t)
	for range 230 {
		order := domain.Order{ID: id.New[id.Order](), UserID: buyer, Amount: 2500, Currency: "usd", Schema: domain.OrderSchema, Status: domain.OrderCreated, Version: 1, ExpiresAt: clock.System().Add(time.Hour)}
		made := s.notice(s.stripeServer.CreateByHand(t, order.ID, nil, "pm_card_visa")).Intent
		payment := order.Begin("visa", clock.System())
		payment.Conclude(1, false)
		payment.Observe(made, clock.System())
		var change state.Change
		change.Create(orderKey(order.ID), order)
		require.NoError(t, s.documents.Commit(t.Context(), &change))
	}
	require.Equal(t, costs{reads: 3, stripeReads: 4}, s.costs(t, func() { require.Empty(t, s.runComparison(t)) }), "three pages, and one of events")
}

func TestCompare_GoesOnAfterStripeWasAway(t *testing.T) {
	s := newFixture(t)
	order, intent := s.newCapturedOrder(t)
	s.stripeServer.refundInDashboard(t, intent, "")
	s.stripeServer.SetAway(true)
	_, err := s.tryComparison(t)
	require.Error(t, err)
	s.stripeServer.SetAway(false)
	require.Eventually(t, func() bool {
		_, err := s.tryComparison(t)
		return err == nil && s.storedPayment(t, order.ID).Status == domain.Refunded
	}, 5*time.Second, time.Millisecond)
}

func TestCompare_TwoReplicasAtOncePublishEachEventOnce(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	s.requireEvents(t, "payment.created")
	s.restoreBackup(t, nil)
	documents, err := state.Open(t.Context(), s.sidecar, state.Options{Service: "payments", Instance: "second", Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(context.Background()) })
	second := newStore(documents, s.stripe, domain.Limits{}, clock.System, quiet)
	var all sync.WaitGroup
	for _, replica := range []*store{s.store, second, s.store, second} {
		all.Go(func() {
			err := s.stripe.Intents(t.Context(), noon.AddDate(-20, 0, 0), func(page []stripe.Listed) error {
				for _, made := range page {
					if _, err := replica.recoverPayment(t.Context(), made); err != nil {
						return err
					}
				}
				return nil
			})
			assert.NoError(t, err)
		})
	}
	all.Wait()
	s.requireEvents(t, "payment.created", "payment.created")
	require.Equal(t, domain.Authorized, s.storedPayment(t, order.ID).Status)
}

func TestOrigin_IsMadeOnce(t *testing.T) {
	s := newFixture(t)
	first, err := readOrigin(t.Context(), s.documents)
	require.NoError(t, err)
	again, err := readOrigin(t.Context(), s.documents)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.NoError(t, uuid.Validate(first))
	s.stripe.Origin = first
	order := s.newOrder(t)
	_, err = s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.Equal(t, first, s.stripeServer.Money(t, order.ID)[0].Metadata["origin"])
}

func TestMetrics_ShowTheAgeOfTheOldestUnsettledPayment(t *testing.T) {
	s := newFixture(t)
	require.Zero(t, testutil.CollectAndCount(s.metrics, "boxoffice_payments_unsettled"), "nothing is known yet")
	s.newCapturedOrder(t)
	for range 2 {
		order := s.newOrder(t)
		_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
	}
	s.runSweep(t)
	require.InDelta(t, 2, gauge(t, s.metrics, "boxoffice_payments_unsettled"), 0)
	require.InDelta(t, 1, gauge(t, s.metrics, "boxoffice_payments_oldest_unsettled_seconds"), 5)
	s.metrics.setBacklog(backlog{payments: 1, oldest: time.Now().Add(-time.Hour)}, time.Now(), time.Minute)
	require.InDelta(t, 3600, gauge(t, s.metrics, "boxoffice_payments_oldest_unsettled_seconds"), 5)
	s.metrics.setBacklog(backlog{}, time.Now(), time.Minute)
	require.Zero(t, gauge(t, s.metrics, "boxoffice_payments_oldest_unsettled_seconds"))
	s.metrics.setBacklog(backlog{payments: 1, oldest: time.Now().Add(-time.Hour)}, time.Now().Add(-2*time.Minute), time.Minute)
	require.Zero(t, testutil.CollectAndCount(s.metrics, "boxoffice_payments_unsettled"), "another process has swept since")
}

func gauge(t *testing.T, m *metrics, name string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.Metric[0].Gauge.GetValue()
		}
	}
	require.Fail(t, "there is no "+name)
	return 0
}

func TestMeters_CountRefundsThatFailedAndDisputes(t *testing.T) {
	s := newFixture(t)
	order, intent := s.newCapturedOrder(t)
	require.NoError(t, s.applyAndSettle(t.Context(), after(order, "cancelled")))
	s.stripeServer.simulate(t, "/refunds/"+s.stripeServer.refunds(t, intent)[0]+"/fail", "")
	s.runComparison(t)
	require.InDelta(t, 1, testutil.ToFloat64(s.metrics.refundsFailed), 0)
	_, intent = s.newCapturedOrder(t)
	s.stripeServer.simulate(t, "/payment_intents/"+intent+"/dispute", "")
	s.runComparison(t)
	require.InDelta(t, 1, testutil.ToFloat64(s.metrics.disputes.WithLabelValues("needs_response")), 0)
}

func TestHandleNotice_AnOrderWithoutItsPaymentGetsItAgain(t *testing.T) {
	s := newFixture(t)
	s.stripe.Origin = "this service"
	order := s.newOrder(t)
	backup := s.sidecar.Documents()
	paid, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	s.restoreBackup(t, backup)
	known, err := s.handleAndSettle(t.Context(), paid.Payment.StripeID)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, domain.Authorized, s.storedPayment(t, order.ID).Status, "its order may be complete, and must not lose its money")
	s.requireMoney(t, order.ID, 2500, 0, 0)

	other := s.newOrder(t)
	made := s.stripeServer.CreateByHand(t, other.ID, map[string]string{"origin": "another system"}, "pm_card_visa")
	_, err = s.handleAndSettle(t.Context(), made)
	require.NoError(t, err)
	s.requireMoney(t, other.ID, 0, 0, 0)
}
