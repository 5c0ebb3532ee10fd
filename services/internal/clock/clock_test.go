package clock

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSystem_TimesAreEqualAfterTheyWereStored(t *testing.T) {
	for range 100 {
		now := System()
		stored, err := json.Marshal(now)
		require.NoError(t, err)
		var read time.Time
		require.NoError(t, json.Unmarshal(stored, &read))
		require.Equal(t, now, read)
		require.Equal(t, time.UTC, now.Location())
		require.Zero(t, now.Nanosecond()%int(time.Millisecond))
	}
	require.WithinDuration(t, time.Now(), System(), time.Second)
}

func TestAt_Stands(t *testing.T) {
	noon := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	c := At(noon)
	require.Equal(t, noon, c())
	require.Equal(t, noon, c())
}
