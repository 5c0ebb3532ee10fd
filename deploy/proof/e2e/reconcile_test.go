package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// counter reads a counter with one label from a service's metrics. Without the counter it is 0.
func (s *testStack) counter(t testing.TB, service, name, label, value string) int {
	t.Helper()
	pattern := regexp.QuoteMeta(fmt.Sprintf("%s{%s=%q} ", name, label, value)) + `(\d+)`
	found := regexp.MustCompile(pattern).FindStringSubmatch(s.metrics(t, service))
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return n
}

// repairCount is how many events of a type a service has counted as repairs.
func (s *testStack) repairCount(t testing.TB, service, eventType string) int {
	t.Helper()
	return s.counter(t, service, "boxoffice_reconcile_repairs_total", "type", eventType)
}

// Projections are lost, or are older than the events that were handled, as after a restore. The events are not delivered again, so only
// a reconciliation repairs them.
func TestReconciliation_RepairsLostProjections(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RECONCILE_EVERY": "3s"}})
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	waitProjection := func(ticketID string) {
		t.Helper()
		eventually(t, "orders has a projection of the ticket", func() bool { return s.getState(t, "orders", "ticket/"+ticketID) != nil })
	}

	lost := seller.list(t, "Its projection is lost", 1500)
	waitProjection(lost.ID)
	s.deleteState(t, "orders", "ticket/"+lost.ID)
	waitProjection(lost.ID)
	eventually(t, "orders counts a repair", func() bool { return s.repairCount(t, "orders", "ticket.created") == 1 })

	stale := seller.list(t, "Its status is lost", 1600)
	var before any
	require.NoError(t, json.Unmarshal(s.getState(t, "tickets", "ticket/"+stale.ID), &before))
	waitProjection(stale.ID)
	buyer.reserve(t, stale.ID)
	s.ticketBecomes(t, "reserved", stale.ID)
	s.putState(t, "tickets", "ticket/"+stale.ID, before)
	eventually(t, "tickets counts a repair", func() bool { return s.repairCount(t, "tickets", "order.created") == 1 })
	s.ticketBecomes(t, "reserved", stale.ID)

	// Correct projections are published again, too, and are not counted as repairs.
	published := func() int {
		return s.counter(t, "tickets", "boxoffice_reconcile_published_total", "step", "tickets")
	}
	require.Positive(t, published())
	more := published() + 4
	eventually(t, "tickets reconciles twice more", func() bool { return published() >= more })
	require.Equal(t, 1, s.repairCount(t, "orders", "ticket.created"))
	require.Equal(t, 1, s.repairCount(t, "tickets", "order.created"))
	require.Zero(t, events.deadLetterCount(t))
}
