package e2e

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// getState reads a document of a service past the service; nil says that there is none.
func (h *house) getState(t testing.TB, service, key string) json.RawMessage {
	t.Helper()
	found := h.do(t, http.MethodGet, h.SidecarHTTP(service)+"/v1.0/state/state/"+strings.ReplaceAll(key, "/", "%2F"), nil, "dapr-api-token", h.APIToken(service))
	if found.status == http.StatusNoContent {
		return nil
	}
	require.Equal(t, http.StatusOK, found.status)
	return json.RawMessage(found.body)
}

// repairs is how many events of a type a service has counted as repairs.
func (h *house) repairs(t testing.TB, service, eventType string) int {
	t.Helper()
	text := h.do(t, http.MethodGet, h.AppMetrics(service), nil).body
	found := regexp.MustCompile(`boxoffice_reconcile_repairs_total\{type="` + regexp.QuoteMeta(eventType) + `"\} (\d+)`).FindStringSubmatch(string(text))
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return n
}

// Documents of consumers are lost, or are what they were a while ago, as after a restore. The owner's events have been delivered,
// so nothing but a reconciliation brings them back.
func TestReconciliation_RepairsWhatConsumersHaveLost(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"RECONCILE_EVERY": "3s"}})
	stream := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)

	lost := seller.list(t, "Its projection is lost", 1500)
	eventually(t, "orders knows the ticket", func() bool { return h.getState(t, "orders", "ticket/"+lost.ID) != nil })
	h.dropState(t, "orders", "ticket/"+lost.ID)
	eventually(t, "orders knows the ticket again", func() bool { return h.getState(t, "orders", "ticket/"+lost.ID) != nil })
	eventually(t, "orders has counted a repair", func() bool { return h.repairs(t, "orders", "ticket.created") == 1 })

	stale := seller.list(t, "Its status is lost", 1600)
	var before any
	require.NoError(t, json.Unmarshal(h.getState(t, "tickets", "ticket/"+stale.ID), &before))
	eventually(t, "orders knows the ticket", func() bool { return h.getState(t, "orders", "ticket/"+stale.ID) != nil })
	buyer.reserved(t, stale.ID)
	h.ticketBecomes(t, "reserved", stale.ID)
	h.putState(t, "tickets", "ticket/"+stale.ID, before)
	require.Equal(t, "available", h.ticket(t, stale.ID).Status)
	h.ticketBecomes(t, "reserved", stale.ID)
	eventually(t, "tickets has counted a repair", func() bool { return h.repairs(t, "tickets", "order.created") == 1 })

	// What is as it should be is published again and again, and is no repair.
	published := func() int {
		found := regexp.MustCompile(`boxoffice_reconcile_published_total\{step="tickets"\} (\d+)`).FindStringSubmatch(string(h.do(t, http.MethodGet, h.AppMetrics("tickets"), nil).body))
		require.NotNil(t, found)
		n, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		return n
	}
	more := published() + 4
	eventually(t, "tickets has reconciled twice more", func() bool { return published() >= more })
	require.Equal(t, 1, h.repairs(t, "orders", "ticket.created"))
	require.Equal(t, 1, h.repairs(t, "tickets", "order.created"))
	require.Zero(t, stream.dead(t))
}

// After many listings were created and deleted, the first page of the list is as full as it was before.
func TestList_IsFullAfterManyDeletions(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{})
	seller := h.signUp(t)
	var stay []ticket
	for range 12 {
		stay = append(stay, seller.list(t, "It stays", 1500))
	}
	for range 400 {
		gone := seller.list(t, "It goes", 1500)
		require.Equal(t, 204, seller.do(t, "DELETE", "/api/tickets/"+gone.ID, nil).status)
	}
	eventually(t, "page one shows what stays", func() bool {
		var page []ticket
		require.NoError(t, json.Unmarshal(h.do(t, "GET", "/api/tickets?limit=10", nil).body, &page))
		return len(page) == 10 && page[0].ID == stay[11].ID && page[9].ID == stay[2].ID
	})
}
