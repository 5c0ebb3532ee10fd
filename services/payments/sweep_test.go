package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"
)

// clearQueue empties the queue, as the end of the process does.
func (s *fixture) clearQueue() { s.store.queue = newQueue(s.store, quiet) }

func (s *fixture) runSweep(t *testing.T) {
	t.Helper()
	require.NoError(t, newSweep(s.store, time.Minute, quiet).pass(t.Context(), 0))
}

func (s *fixture) watermark(t *testing.T) state.Places {
	t.Helper()
	mark, err := state.Get[watermark](t.Context(), s.documents, watermarkKey)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	require.NoError(t, err)
	return mark.Value.Places
}

// ahead are the orders in the index from the watermark on.
func (s *fixture) ahead(t *testing.T) (ids []id.Order) {
	t.Helper()
	return s.indexed(t, s.watermark(t))
}

func (s *fixture) indexed(t *testing.T, from state.Places) (ids []id.Order) {
	t.Helper()
	for {
		entries, next, err := s.documents.Forward(t.Context(), unsettled, from)
		require.NoError(t, err)
		if len(entries) == 0 {
			return ids
		}
		for _, entry := range entries {
			ids = append(ids, id.Order(entry.ID))
		}
		from = next
	}
}

// interruptedPayments makes the documents of a process that has died at different moments, with the money that each order must have in
// the end.
func interruptedPayments(t *testing.T, s *fixture) (requireAllSettled func()) {
	s.withoutBudget()
	publish := func(o events.Order, status events.OrderStatus) events.Order {
		o = after(o, status)
		require.NoError(t, s.store.ApplyOrder(t.Context(), o))
		return o
	}
	paid := func(card string) (events.Order, Receipt) {
		order := s.newOrder(t)
		receipt, err := s.payWith(t.Context(), order.ID, card)
		require.NoError(t, err)
		return order, receipt
	}
	taken, _ := paid("pm_card_visa")
	publish(taken, "complete")
	given, _ := paid("pm_card_visa")
	publish(given, "cancelled")
	back, _ := paid("pm_card_visa")
	complete := after(back, "complete")
	require.NoError(t, s.applyAndSettle(t.Context(), complete)) // captured
	publish(complete, "cancelled")
	open, receipt := paid("pm_card_authenticationRequired")
	s.stripeServer.Authenticate(t, receipt.Payment.StripeID, "succeed") // no webhook comes
	lapsed, receipt := paid("pm_card_visa")
	s.stripeServer.Expire(t, receipt.Payment.StripeID)
	publish(lapsed, "complete")
	lost := s.newOrder(t)
	s.stripeServer.Inject(t, `{"operation":"confirm","fault":"disconnect_after","times":9,"orderId":"`+string(lost.ID)+`"}`)
	_, err := s.payWith(t.Context(), lost.ID, "pm_card_visa")
	requireProblem(t, err, problem.Unavailable)
	return func() {
		s.requireMoney(t, taken.ID, 0, 2500, 0)
		s.requireMoney(t, given.ID, 0, 0, 0)
		s.requireMoney(t, back.ID, 0, 2500, 2500)
		s.requireMoney(t, open.ID, 2500, 0, 0)
		s.requireMoney(t, lapsed.ID, 0, 0, 0)
		s.requireMoney(t, lost.ID, 2500, 0, 0)
		for orderID, want := range map[id.Order]domain.Status{taken.ID: domain.Captured, given.ID: domain.Voided, back.ID: domain.Refunded, open.ID: domain.Authorized, lapsed.ID: domain.Voided, lost.ID: domain.Authorized} {
			a, err := s.load(t.Context(), orderID)
			require.NoError(t, err)
			require.Equal(t, want, a.order.Value.Payment.Status)
		}
	}
}

func TestSweep_SettlesThePaymentsOfAProcessThatDied(t *testing.T) {
	s := newFixture(t)
	requireAllSettled := interruptedPayments(t, s)
	s.clearQueue()
	s.runSweep(t)
	requireAllSettled()
	require.Empty(t, s.queue.entries, "nothing depends on the queue")
	asked := s.stripeServer.Requests.Load()
	s.runSweep(t)
	require.Equal(t, asked+2, s.stripeServer.Requests.Load(), "only the two that wait for their orders are asked about again")
}

func TestSweep_SkipsWhatIsTooNew(t *testing.T) {
	s := newFixture(t)
	s.withoutBudget()
	order := s.newOrder(t)
	_, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.NoError(t, s.store.ApplyOrder(t.Context(), after(order, "complete")))
	asked := s.stripeServer.Requests.Load()
	w := newSweep(s.store, time.Hour, quiet)
	require.NoError(t, w.pass(t.Context(), w.minAge))
	require.Equal(t, asked, s.stripeServer.Requests.Load())
	s.runSweep(t)
	s.requireMoney(t, order.ID, 0, 2500, 0)
}

func TestSweep_TriesAgainWhenStripeIsBack(t *testing.T) {
	s := newFixture(t)
	id, publish := s.newAuthorizedOrder(t)
	s.stripeServer.SetAway(true)
	require.NoError(t, publish("complete"))
	s.clearQueue()
	s.runSweep(t)
	s.requireMoney(t, id, 2500, 0, 0)
	s.stripeServer.SetAway(false)
	s.runSweep(t)
	s.requireMoney(t, id, 0, 2500, 0)
}

// settledOrders creates n orders whose payments are settled.
func (s *fixture) settledOrders(t *testing.T, n int) {
	t.Helper()
	for range n {
		order := domain.Order{Schema: domain.OrderSchema, ID: id.New[id.Order](), Status: domain.OrderComplete, Version: 2}
		order.Begin("visa", noon)
		order.Payment.Status, order.Payment.Version = domain.Captured, 3
		var change state.Change
		change.Create(orderKey(order.ID), order)
		change.Append(unsettled, string(order.ID))
		require.NoError(t, s.documents.Commit(t.Context(), &change))
	}
}

func TestSweep_GoesThroughAllAndItsCostIsWhatIsOpen(t *testing.T) {
	s := newFixture(t)
	waiting := s.newOrder(t)
	_, err := s.payWith(t.Context(), waiting.ID, "pm_card_authenticationRequired")
	require.NoError(t, err)
	s.settledOrders(t, 50)
	s.runSweep(t)
	require.Contains(t, s.ahead(t), waiting.ID, "it is open")

	s.settledOrders(t, 400)
	last, publish := s.newAuthorizedOrder(t)
	s.stripeServer.Inject(t, `{"operation":"capture","fault":"unavailable","times":1}`)
	require.NoError(t, publish("complete"))
	s.clearQueue()
	s.runSweep(t)
	s.requireMoney(t, last, 0, 2500, 0)
	require.Equal(t, []id.Order{waiting.ID, last}, s.ahead(t), "what was open was appended again, and all before is left behind")
	carried := s.watermark(t)
	s.runSweep(t)
	require.Equal(t, carried, s.watermark(t), "it is the oldest that is open")

	require.NoError(t, s.store.ApplyOrder(t.Context(), after(waiting, "cancelled")))
	s.clearQueue()
	s.runSweep(t)
	require.Equal(t, "canceled", s.stripeServer.Money(t, waiting.ID)[0].Status)
	s.runSweep(t)
	require.Empty(t, s.ahead(t), "all is settled, and a pass over nothing reads nothing")
}

func TestSweep_AppendsMoreThanOneTransactionHolds(t *testing.T) {
	s := newFixture(t)
	mark := state.Doc[watermark]{Key: watermarkKey}
	var open []state.Entry
	for range maxAppended + 3 {
		open = append(open, state.Entry{ID: uuid.NewString(), Partition: "9"})
	}
	end := state.Places{"9": {Page: 100}}
	require.NoError(t, newSweep(s.store, time.Minute, quiet).move(t.Context(), mark, open, 100*len(open), end))
	require.Equal(t, end, s.watermark(t))
	ids := s.indexed(t, nil)
	var wanted []id.Order
	for _, entry := range open {
		wanted = append(wanted, id.Order(entry.ID))
	}
	require.ElementsMatch(t, wanted, ids)

	// Another pass has moved it meanwhile: that is not undone.
	require.NoError(t, newSweep(s.store, time.Minute, quiet).move(t.Context(), mark, nil, 5, state.Places{"9": {Page: 7}}))
	require.Equal(t, end, s.watermark(t))
}

func TestSweep_TheWatermarkOfEachPartitionIsItsOldestThatIsOpen(t *testing.T) {
	s := newFixture(t)
	before := state.Places{"1": {Page: 2, Entry: 5}, "2": {Page: 1}}
	var change state.Change
	change.Create(watermarkKey, watermark{Schema: watermarkSchema, Places: before})
	require.NoError(t, s.documents.Commit(t.Context(), &change))
	mark, err := state.Get[watermark](t.Context(), s.documents, watermarkKey)
	require.NoError(t, err)
	open := []state.Entry{
		{ID: "a", Partition: "1", At: state.Place{Page: 2, Entry: 5}}, {ID: "b", Partition: "1", At: state.Place{Page: 2, Entry: 7}},
		{ID: "c", Partition: "3", At: state.Place{Page: 1, Entry: 1}},
	}
	end := state.Places{"1": {Page: 3}, "2": {Page: 4}, "3": {Page: 2}}
	require.NoError(t, newSweep(s.store, time.Minute, quiet).move(t.Context(), mark, open, 20, end))
	require.Equal(t, state.Places{"1": {Page: 2, Entry: 5}, "2": {Page: 4}, "3": {Page: 1, Entry: 1}}, s.watermark(t))
}

// Otherwise the index would grow for ever, by a page for each twenty payments.
func TestSweep_DeletesThePagesThatAreWorkedOff(t *testing.T) {
	s := newFixture(t)
	for range 10 {
		var change state.Change
		for range 50 {
			change.Append(unsettled, uuid.NewString()) // of orders that are not there, as after a restore
		}
		require.NoError(t, s.documents.Commit(t.Context(), &change))
		s.runSweep(t)
	}
	trimmed := 0
	for partition, place := range s.watermark(t) { // one for each writer of the store
		for page := 1; page < place.Page; page++ {
			_, err := state.Get[any](t.Context(), s.documents, fmt.Sprintf("index/%s@%s/%d", unsettled, partition, page))
			if errors.Is(err, state.ErrNotFound) {
				trimmed++
			}
		}
	}
	require.Greater(t, trimmed, 15, "of 25 pages")
	s.runSweep(t)
	require.Empty(t, s.ahead(t))
}

// In TestSweep_TwoReplicasSettleTheSameAtOnce, two processes over one store sweep, run their queues and handle the
// same webhooks and events, all at once.
func TestSweep_TwoReplicasSettleTheSameAtOnce(t *testing.T) {
	s := newFixture(t)
	documents, err := state.Open(t.Context(), s.sidecar, state.Options{Service: "payments", Instance: "second", Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(context.Background()) })
	second := &fixture{newStore(documents, s.stripe, domain.Limits{}, clock.System, quiet), s.sidecar, s.stripeServer}
	ends := map[id.Order]events.OrderStatus{}
	for round := range 30 {
		order := s.newOrder(t)
		receipt, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
		end := after(order, []events.OrderStatus{"complete", "cancelled"}[round%2])
		ends[order.ID] = end.Status
		var all sync.WaitGroup
		for _, replica := range []*fixture{s, second} {
			all.Go(func() { assert.NoError(t, replica.store.ApplyOrder(t.Context(), end)) })
			all.Go(func() { assert.NoError(t, newSweep(replica.store, time.Minute, quiet).pass(t.Context(), 0)) })
			all.Go(func() { replica.settleQueued(t) })
			all.Go(func() {
				_, err := replica.handleAndSettle(t.Context(), receipt.Payment.StripeID)
				assert.NotEqual(t, problem.Internal, kindOf(err), "%v", err)
			})
		}
		all.Wait()
	}
	s.runSweep(t)
	second.runSweep(t)
	reported := map[string]int{}
	for orderID, status := range ends {
		if status == "complete" {
			s.requireMoney(t, orderID, 0, 2500, 0)
			reported["payment.captured"]++
		} else {
			s.requireMoney(t, orderID, 0, 0, 0)
			reported["payment.voided"]++
		}
		reported["payment.created"]++
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		count := map[string]int{}
		for _, event := range s.sidecar.eventTypes() {
			count[event]++
		}
		assert.Equal(c, reported, count, "each once")
	}, 5*time.Second, 5*time.Millisecond)
}

// The sweep does not read a settled payment again, so it must be in the index again when it is not settled any more.
func TestSweep_FindsASettledPaymentThatIsNotSettledAnyMore(t *testing.T) {
	t.Run("its order ends after the capture", func(t *testing.T) {
		s := newFixture(t)
		complete, _ := s.newCapturedOrder(t)
		s.runSweep(t)
		require.Empty(t, s.ahead(t))
		s.withoutBudget()
		require.NoError(t, s.store.ApplyOrder(t.Context(), after(complete, "cancelled")))
		require.Equal(t, []id.Order{complete.ID}, s.ahead(t))
		s.clearQueue()
		s.runSweep(t)
		s.requireMoney(t, complete.ID, 0, 2500, 2500)
		s.runSweep(t)
		require.Empty(t, s.ahead(t))
	})
	t.Run("its refund fails while the order is live", func(t *testing.T) {
		s := newFixture(t)
		order := s.newOrder(t)
		receipt, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
		require.NoError(t, err)
		intent := receipt.Payment.StripeID
		refresh := func() {
			_, _, err := s.settleOrder(t.Context(), order.ID, domain.Cause{Refresh: domain.RefreshAlways})
			require.NoError(t, err)
		}
		s.stripeServer.captureInDashboard(t, intent)
		refund := s.stripeServer.refundInDashboard(t, intent, "")
		refresh()
		require.Equal(t, domain.Refunded, s.storedPayment(t, order.ID).Status)
		s.runSweep(t)
		require.Empty(t, s.ahead(t))

		s.stripeServer.simulate(t, "/refunds/"+refund+"/fail", "")
		for range 2 {
			refresh()
			require.Equal(t, domain.Captured, s.storedPayment(t, order.ID).Status)
			require.Equal(t, []id.Order{order.ID}, s.ahead(t), "once")
		}
		require.NoError(t, s.applyAndSettle(t.Context(), after(order, "complete")))
		s.runSweep(t)
		require.Empty(t, s.ahead(t))
	})
}
