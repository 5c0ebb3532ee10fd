package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
)

// No caller of an actor can make an order expire before its time: the actor publishes nothing before its slot has ended by its own
// clock. An order's time in the reminder's data does not matter, because orders checks it again.
func TestFire_BeforeTheSlotsEndPublishesNothing(t *testing.T) {
	s := newFixture(t)
	order := expiring(1, noon.Add(time.Hour))[0]
	s.deliver(t, order)
	slot := slotFor(order.ID, order.ExpiresAt, noon, headway)
	fire := func(actorID string, body string) error {
		a := &OrderExpiration{store: s.store, reminders: newReminders(nil, clock.System, quiet, time.Second)}
		a.SetID(actorID)
		_, err := a.fire(t.Context(), []byte(body))
		return err
	}
	future := Slot{End: time.Now().Add(time.Hour).Unix(), Shard: slot.Shard}
	require.ErrorContains(t, fire(future.String(), ""), "before its slot's end")
	for _, nobody := range []string{"nobody", "", "1e9.0", slot.String() + ".0", string(id.New[id.Order]()) + "x"} {
		require.Error(t, fire(nobody, `{"schema":1,"expiresAt":"2020-01-01T00:00:00Z"}`), nobody)
	}
	require.Error(t, fire(string(id.New[id.Order]()), "nonsense"))
	require.Empty(t, s.sidecar.Published())
}
