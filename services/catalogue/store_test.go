package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/reconcile"
)

// A show whose last event was lost is published again within a day.
func TestReconcile_PublishesTheLastEventOfEachRecentShow(t *testing.T) {
	a := newTestAPI(t)
	a.now = clock.System()
	starts := map[string]any{"startsAt": a.now.AddDate(1, 0, 0).Format(time.RFC3339)}
	var shows []string
	for range 2 {
		r := a.send(t, "owner", "POST", "/api/shows", bodyWith(starts))
		require.Equal(t, 201, r.status, "%s", r.body)
		shows = append(shows, string(r.show(t).ID))
	}
	require.Equal(t, 204, a.send(t, "owner", "DELETE", "/api/shows/"+shows[1], nil).status)
	require.Eventually(t, func() bool { return len(a.sidecar.Published()) == 3 }, 10*time.Second, time.Millisecond)

	step := reconcile.RepublishRecent(a.store.documents, allShows, keyOfIndexed, (*Show).Event)
	r := reconcile.New(a.store.documents, reconcile.Settings{ReconcileEvery: 24 * time.Hour}, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), step)
	require.NoError(t, r.ReconcileIfDue(t.Context()))
	var again []string
	for _, event := range a.sidecar.Published()[3:] {
		id, _, found := strings.Cut(event.ID, "/")
		require.True(t, found, event.ID)
		again = append(again, id)
	}
	require.ElementsMatch(t, []string{"show.created:" + shows[0] + ":1", "show.cancelled:" + shows[1] + ":2"}, again)
}
