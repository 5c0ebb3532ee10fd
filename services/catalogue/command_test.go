package main

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"boxoffice/services/catalogue/feed"
	"boxoffice/services/catalogue/index"
	"boxoffice/services/catalogue/live"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

func TestCommand_ErrorsExplainWhatToDo(t *testing.T) {
	t.Setenv("DAPR_GRPC_PORT", "")
	var out, problems bytes.Buffer
	require.Equal(t, 2, runCommand(t.Context(), []string{"burn"}, &out, &problems))
	require.Equal(t, 2, runCommand(t.Context(), []string{"rebuild", "now"}, &out, &problems))
	require.Contains(t, problems.String(), "usage:")
	require.Equal(t, 1, runCommand(t.Context(), []string{"rebuild"}, &out, &problems))
	require.Contains(t, problems.String(), "DAPR_GRPC_PORT")
	require.Empty(t, out.String())
	require.Zero(t, runCommand(t.Context(), []string{"rebuild", "-h"}, &out, &problems))
	require.Contains(t, out.String(), "usage:")
}

func openDocuments(t *testing.T, s state.Sidecar, instance string) *state.Store {
	t.Helper()
	documents, err := state.Open(t.Context(), s, state.Options{Service: "catalogue", Instance: instance, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(context.Background()) })
	return documents
}

// startReadModel follows the feed of a store as a replica does.
func startReadModel(t *testing.T, documents *state.Store) (*index.Index, *subscriptions) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	shows, err := index.New(clock.System)
	require.NoError(t, err)
	hub := live.New(live.Options{Log: log, Metrics: prometheus.NewRegistry()})
	changes := feed.New(documents, &readModel{index: shows, live: hub, clock: clock.System, log: log}, feed.Options{Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = changes.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return shows, &subscriptions{feed: changes}
}

// handle waits for the outcome of what a handler has queued.
func handle(t *testing.T) func(wait outcome, err error) {
	return func(wait outcome, err error) {
		t.Helper()
		require.NoError(t, err)
		require.NoError(t, wait())
	}
}

func TestSubscriptions_EventsBecomeTheReadModel(t *testing.T) {
	s := statetest.New()
	shows, sub := startReadModel(t, openDocuments(t, s, "one"))
	other, _ := startReadModel(t, openDocuments(t, s, "two"))
	start := clock.Stamp(time.Now().Add(24 * time.Hour))
	show := events.Show{ID: id.New[id.Show](), Name: "Hamlet", Venue: "Globe", City: "London", Country: "GB", StartsAt: start,
		TimeZone: "Europe/London", Category: "theatre", Status: events.ShowStatusScheduled, UserID: "u", Version: 1, MaxMarkup: new(10),
		Image: &events.ShowImage{URL: "/i", Width: 1, Height: 2}}
	ticket := events.Ticket{ID: id.New[id.Ticket](), Title: "Hamlet", Price: 500, Currency: "usd", UserID: "u", Status: events.TicketStatusAvailable,
		ShowID: show.ID, Seat: &events.Place{Section: "A", Row: "1", Number: "7"}, FaceValue: 450, SalesEndAt: start, Version: 1}
	order := events.Order{ID: id.New[id.Order](), Status: events.OrderStatusCreated, Ticket: events.OrderedTicket{ID: ticket.ID}, Sequence: 1, Version: 1}
	left := func(want int) {
		t.Helper()
		got, _, ok := shows.Left(show.ID)
		require.True(t, ok)
		require.Equal(t, want, got, "the replica that handled the event has applied it")
		require.Eventually(t, func() bool { got, _, ok := other.Left(show.ID); return ok && got == want }, 5*time.Second, time.Millisecond)
	}

	handle(t)(sub.show(t.Context(), show))
	handle(t)(sub.ticket(t.Context(), ticket, false))
	left(1)
	found, sections, ok := other.Show(show.ID)
	require.True(t, ok)
	require.Equal(t, "Hamlet", found.Show.Name)
	require.Equal(t, "A", sections[0].Name)
	handle(t)(sub.order(t.Context(), order))
	left(0)
	cancelled := order
	cancelled.Status, cancelled.Reason, cancelled.Sequence = events.OrderStatusCancelled, events.CancelReasonExpired, 2
	handle(t)(sub.order(t.Context(), cancelled))
	left(1)
	cancelled.Reason, cancelled.Sequence = events.CancelReasonRefunded, 4
	handle(t)(sub.order(t.Context(), cancelled))
	left(0)
	handle(t)(sub.order(t.Context(), events.Order{Status: events.OrderStatusCancelled, Reason: events.CancelReasonUnknown, Version: 2}))
	_, err := sub.order(t.Context(), events.Order{Status: "melted", Ticket: events.OrderedTicket{ID: ticket.ID}})
	require.ErrorIs(t, err, events.ErrRefused)

	// A listing that is published again has an availability that the read model may have missed.
	ticket.Sequence = 5
	handle(t)(sub.ticket(t.Context(), ticket, false))
	left(1)
	ticket.Version, ticket.Status = 6, events.TicketStatusAvailable
	handle(t)(sub.ticket(t.Context(), ticket, true))
	left(0)
}

func TestRebuild_BringsTheShowsBackAtEveryReplica(t *testing.T) {
	s := statetest.New()
	documents := openDocuments(t, s, "one")
	one, sub := startReadModel(t, documents)
	two, _ := startReadModel(t, openDocuments(t, s, "two"))
	owned := newStore(documents, clock.System)
	change, show, err := owned.Announce(t.Context(), "u", Details{Name: "Hamlet", Venue: "Globe", City: "London", Country: "GB",
		StartsAt: clock.System().Add(24 * time.Hour), TimeZone: "Europe/London", Category: "theatre"})
	require.NoError(t, err)
	require.NoError(t, documents.Commit(t.Context(), change))
	stale := events.Ticket{ID: id.New[id.Ticket](), Title: "gone", Price: 1, Currency: "usd", UserID: "u", Status: events.TicketStatusAvailable, Version: 1}
	handle(t)(sub.ticket(t.Context(), stale, false))

	appended, err := rebuild(t.Context(), openDocuments(t, s, "command"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, 1, appended)
	for _, x := range []*index.Index{one, two} {
		require.Eventually(t, func() bool {
			_, _, found := x.Show(show.ID)
			_, listings, _ := x.Stats()
			return found && listings == 0
		}, 5*time.Second, time.Millisecond)
	}
}
