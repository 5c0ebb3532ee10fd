package main

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

func TestStore_PublishesUsersWithoutTheirEmail(t *testing.T) {
	sidecar := statetest.New()
	documents, err := state.Open(t.Context(), sidecar, state.Options{Service: "auth", Instance: "test", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(t.Context()) })
	s := newStore(documents, newRevocations(documents, time.Hour), time.Hour, clock.System, slog.New(slog.DiscardHandler))

	in, err := s.SignUp(t.Context(), "ada@example.com", "hash", "")
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), identity.Caller{ID: in.ID, Epoch: in.Epoch, Session: in.Session.ID}))

	require.Eventually(t, func() bool { return len(sidecar.Published()) >= 2 }, 10*time.Second, time.Millisecond)
	published := sidecar.Published()
	require.Len(t, published, 2)
	for i, eventType := range []string{"user.created", "user.deleted"} {
		event := published[i]
		require.Equal(t, eventType, event.Type)
		require.Equal(t, string(in.ID), event.Subject)
		require.NotContains(t, string(event.Data), "example.com")
		var user events.User
		require.NoError(t, json.Unmarshal(event.Data, &user))
		require.Equal(t, in.ID, user.ID)
		require.Equal(t, i+1, user.Version)
	}
}
