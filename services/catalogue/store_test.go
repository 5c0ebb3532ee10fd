package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/state"
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

// A show that the previous release has made is in its owner's list after the daily reconciliation, or after its next change.
func TestReconcile_AddsShowsOfThePreviousReleaseToTheirOwnersLists(t *testing.T) {
	a := newTestAPI(t)
	old := make([]Show, 3)
	for i := range old {
		show, err := Announce(id.New[id.Show](), "owner", hamlet(), a.now)
		require.NoError(t, err)
		show.InOwnerIndex = false
		var of state.Change
		of.Create(showKey(show.ID), show)
		of.Append(allShows, string(show.ID))
		require.NoError(t, a.store.documents.Commit(t.Context(), &of))
		old[i] = show
	}
	listed := func() (ids []string) {
		shows, next, err := a.store.ShowsOf(t.Context(), "owner", 50, "")
		require.NoError(t, err)
		require.Empty(t, next)
		for _, show := range shows {
			ids = append(ids, string(show.ID))
		}
		return ids
	}
	require.Empty(t, listed())
	require.NoError(t, a.store.Cancel(t.Context(), old[1].ID, "owner", 0))
	require.Equal(t, []string{string(old[1].ID)}, listed(), "its next change")

	for range 3 { // days
		r := reconcile.New(a.store.documents, reconcile.Settings{ReconcileEvery: time.Nanosecond}, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), a.store.indexOwners())
		require.NoError(t, r.ReconcileIfDue(t.Context()))
		require.ElementsMatch(t, []string{string(old[0].ID), string(old[1].ID), string(old[2].ID)}, listed(), "once each")
	}
}
