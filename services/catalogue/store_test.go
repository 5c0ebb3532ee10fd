package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
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

// putOldShows stores shows of "owner" as the previous release has made them.
func (a *testAPI) putOldShows(t *testing.T, n int) []Show {
	t.Helper()
	old := make([]Show, n)
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
	return old
}

// A show that the previous release has made is in its owner's list after the daily reconciliation, or after its next change.
func TestReconcile_AddsShowsOfThePreviousReleaseToTheirOwnersLists(t *testing.T) {
	a := newTestAPI(t)
	old := a.putOldShows(t, 3)
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

// announceMany announces shows of an owner, and returns their ids.
func (a *testAPI) announceMany(t *testing.T, owner id.User, n int) []id.Show {
	t.Helper()
	shows := make([]id.Show, n)
	var announcing errgroup.Group
	for i := range shows {
		announcing.Go(func() (err error) {
			shows[i], err = a.announceFor(t.Context(), owner)
			return err
		})
		if i%16 == 15 { // fewer at once than conflicts are tried again
			require.NoError(t, announcing.Wait())
		}
	}
	require.NoError(t, announcing.Wait())
	return shows
}

// announceFor announces a show of an owner, as a request does.
func (a *testAPI) announceFor(ctx context.Context, owner id.User) (id.Show, error) {
	show, err := state.Decide(ctx, a.store.documents, func(ctx context.Context) (*state.Change, Show, error) { return a.store.Announce(ctx, owner, hamlet()) })
	return show.ID, err
}

func TestDeleteOwner_CancelsAllShowsThatHaveNotStarted(t *testing.T) {
	for _, indexed := range []bool{true, false} {
		a := newTestAPI(t)
		if indexed { // otherwise there may be shows of the previous release
			r := reconcile.New(a.store.documents, reconcile.Settings{ReconcileEvery: time.Hour}, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), a.store.indexOwners())
			require.NoError(t, r.ReconcileIfDue(t.Context()))
		}
		started := a.announceMany(t, "owner", 1)
		a.now = hamlet().StartsAt.Add(-time.Hour)
		_, err := a.store.decide(t.Context(), started[0], func(show *Show) (bool, error) {
			details := hamlet()
			details.StartsAt = a.now.Add(time.Minute)
			return show.Update("owner", 0, details, a.now)
		})
		require.NoError(t, err)
		a.now = a.now.Add(time.Minute)
		many, others := a.announceMany(t, "owner", showsAtOnce+7), a.announceMany(t, "other", 3)
		require.NoError(t, a.store.Cancel(t.Context(), many[5], "owner", 0))

		for range 2 { // the second is a redelivery
			require.NoError(t, a.store.DeleteOwner(t.Context(), "owner"))
			for _, id := range many {
				show, err := a.store.Show(t.Context(), id)
				require.NoError(t, err)
				require.Equal(t, []any{true, 2}, []any{show.Cancelled, show.Version})
			}
			for _, id := range append(started, others...) {
				show, err := a.store.Show(t.Context(), id)
				require.NoError(t, err)
				require.False(t, show.Cancelled)
			}
		}
		_, err = a.announceFor(t.Context(), "owner")
		require.ErrorIs(t, err, identity.ErrAccountDeleted)
		_, err = a.announceFor(t.Context(), "other")
		require.NoError(t, err)
	}
}

// An event of an account that had no shows makes later announcements fail, too.
func TestDeleteOwner_RefusesTheFirstShow(t *testing.T) {
	a := newTestAPI(t)
	require.NoError(t, a.store.DeleteOwner(t.Context(), "owner"))
	r := a.send(t, "owner", "POST", "/api/shows", bodyWith(nil))
	require.Equal(t, 401, r.status)
	require.Contains(t, string(r.body), "account_deleted")
}

func TestDeleteOwner_CancelsShowsOfThePreviousRelease(t *testing.T) {
	a := newTestAPI(t)
	old := a.putOldShows(t, 3)
	require.NoError(t, a.store.DeleteOwner(t.Context(), "owner"))
	for _, of := range old {
		show, err := a.store.Show(t.Context(), of.ID)
		require.NoError(t, err)
		require.True(t, show.Cancelled)
		require.True(t, show.InOwnerIndex)
	}
}

// If the store fails, or the process ends, in the middle, the event is delivered again, and the rest is cancelled. Each show is cancelled once.
func TestDeleteOwner_ContinuesAfterAFailure(t *testing.T) {
	a := newTestAPI(t)
	many := a.announceMany(t, "owner", 40)
	cancelled := func() (n int) {
		for _, id := range many {
			show, err := a.store.Show(t.Context(), id)
			require.NoError(t, err)
			if show.Cancelled {
				require.Equal(t, 2, show.Version)
				n++
			}
		}
		return n
	}
	_, err := state.Modify(t.Context(), a.store.documents, ownerKey("owner"), func(o *Owner, _ *state.Change) (bool, error) { return o.Delete(), nil })
	require.NoError(t, err)
	for _, id := range many[:7] {
		_, err := a.store.decide(t.Context(), id, func(show *Show) (bool, error) { return show.CancelWithAccount(a.now), nil })
		require.NoError(t, err)
	}
	require.Equal(t, 7, cancelled())
	require.NoError(t, a.store.DeleteOwner(t.Context(), "owner"))
	require.Equal(t, len(many), cancelled())
}

// Of announcements and the deletion of the account at the same moment, each show that was announced is cancelled.
func TestDeleteOwner_FindsEachShowThatIsAnnouncedAtTheSameMoment(t *testing.T) {
	for range 20 {
		a := newTestAPI(t)
		announced := make([]id.Show, 12)
		var working errgroup.Group
		for i := range announced {
			working.Go(func() (err error) {
				announced[i], err = a.announceFor(t.Context(), "owner")
				if errors.Is(err, identity.ErrAccountDeleted) {
					announced[i], err = "", nil
				}
				return err
			})
		}
		working.Go(func() error { return a.store.DeleteOwner(t.Context(), "owner") })
		require.NoError(t, working.Wait())
		for _, id := range announced {
			if id != "" {
				show, err := a.store.Show(t.Context(), id)
				require.NoError(t, err)
				require.True(t, show.Cancelled)
			}
		}
	}
}
