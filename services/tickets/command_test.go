package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

func TestCommand_ErrorsExplainWhatToDo(t *testing.T) {
	t.Setenv("DAPR_GRPC_PORT", "")
	var out, problems bytes.Buffer
	for _, args := range [][]string{{"burn"}, {"republish", "now"}, {"republish", "-rate", "-1"}, {"republish", "-rate", "many"}} {
		problems.Reset()
		require.Equal(t, 2, runCommand(t.Context(), args, &out, &problems), "%v", args)
		require.Contains(t, problems.String(), "usage:")
	}
	require.Equal(t, 1, runCommand(t.Context(), []string{"republish"}, &out, &problems))
	require.Contains(t, problems.String(), "DAPR_GRPC_PORT")
	require.Zero(t, runCommand(t.Context(), []string{"republish", "-h"}, &out, &problems))
	require.Contains(t, out.String(), "usage:")
}

func TestRepublish_PublishesTheLastEventOfEveryTicket(t *testing.T) {
	sidecar := statetest.New()
	documents, err := state.Open(t.Context(), sidecar, state.Options{Service: "tickets", Instance: "test", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	s := newStore(documents, Terms{"usd", 50}, clock.System, slog.New(slog.DiscardHandler))
	want := map[string]bool{}
	for range 45 { // more than two pages of the index
		ticket := create(t, s, "seller")
		want["ticket.created:"+string(ticket.ID)+":1"] = true
	}
	changed := create(t, s, "seller")
	_, err = s.Update(t.Context(), changed.ID, "seller", 0, Offer{Title: "Front row", Price: 100})
	require.NoError(t, err)
	want["ticket.updated:"+string(changed.ID)+":2"] = true

	published, err := republish(t.Context(), documents, 0)
	require.NoError(t, err)
	require.Equal(t, len(want), published)
	require.NoError(t, documents.Close(t.Context()))
	got := map[string]bool{}
	for _, event := range sidecar.Published() {
		if id, _, again := strings.Cut(event.ID, "/reconciled-all-"); again {
			require.NotEmpty(t, event.Republished)
			got[id] = true
		}
	}
	require.Equal(t, want, got)
}
