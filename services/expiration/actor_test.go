package main

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// Whoever calls an actor, or registers a reminder of their own, ends no order before its time: the actor publishes nothing
// before its slot is over by its own clock, and what it is told beside that is an order's time, which orders knows better.
func TestFire_BeforeItsTimeDoesNothing(t *testing.T) {
	s := newScene(t)
	order := expiring(1, noon.Add(time.Hour))[0]
	s.deliver(t, order)
	slot := slotFor(order.ID, order.ExpiresAt, noon, headway)
	fire := func(actorID string, body string) error {
		a := &OrderExpiration{calendar: s.calendar, reminders: newReminders(nil, quiet, time.Second)}
		a.SetID(actorID)
		_, err := a.fire(t.Context(), []byte(body))
		return err
	}
	future := Slot{End: time.Now().Add(time.Hour).Unix(), Shard: slot.Shard}
	require.ErrorContains(t, fire(future.String(), ""), "before its slot is over")
	for _, nobody := range []string{"nobody", "", "1e9.0", slot.String() + ".0", uuid.NewString() + "x"} {
		require.Error(t, fire(nobody, `{"schema":1,"expiresAt":"2020-01-01T00:00:00Z"}`), nobody)
	}
	require.Error(t, fire(uuid.NewString(), "nonsense"))
	require.Empty(t, s.sidecar.published)
}
