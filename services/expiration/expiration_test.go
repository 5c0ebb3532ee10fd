package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestDue_IsNeverInThePast(t *testing.T) {
	d := Deadline{ExpiresAt: noon}
	require.Equal(t, time.Minute, d.Due(noon.Add(-time.Minute)))
	require.Zero(t, d.Due(noon.Add(time.Hour)), "an order whose event came late is over at once")
}

func TestTold_EachFiringIsAnEventOfItsOwnAndRepeatsOfOneAreTheSame(t *testing.T) {
	d := Deadline{ExpiresAt: noon}
	for after, firing := range map[time.Duration]int{
		-time.Second:            1, // a clock that is ahead
		0:                       1,
		14 * time.Second:        1,
		15 * time.Second:        2,
		29 * time.Second:        2,
		time.Hour + time.Second: 241,
	} {
		told := d.Told("order-1", noon.Add(after), 15*time.Second)
		require.Equal(t, firing, told.Firing, "%v after", after)
		require.Equal(t, "order-1", told.OrderID)
		require.Equal(t, noon, told.ExpiresAt)
	}
}

func TestParseDeadline_RefusesWhatIsNone(t *testing.T) {
	d, err := parseDeadline([]byte(`{"schema":1,"expiresAt":"2026-05-01T12:00:00Z"}`))
	require.NoError(t, err)
	require.Equal(t, noon, d.ExpiresAt)
	for _, bad := range []string{``, `"x"`, `{"expiresAt":"tomorrow"}`} {
		_, err := parseDeadline([]byte(bad))
		require.Error(t, err, bad)
	}
}
