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

func TestTimestamp_AlwaysHasThreeDigitsOfASecond(t *testing.T) {
	noon := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	cases := map[string]time.Time{
		`"2030-01-02T12:00:00.000Z"`: noon,
		`"2030-01-02T12:00:00.600Z"`: noon.Add(600 * time.Millisecond),
		`"2030-01-02T12:00:00.001Z"`: noon.Add(time.Millisecond + 999*time.Microsecond),
		`"2030-01-02T11:00:00.000Z"`: time.Date(2030, 1, 2, 12, 0, 0, 0, time.FixedZone("CET", 3600)),
	}
	for want, at := range cases {
		got, err := json.Marshal(Stamp(at))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		require.Equal(t, want, `"`+Stamp(at).String()+`"`)
	}
}

func TestTimestamp_ReadsAnyRFC3339(t *testing.T) {
	noon := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, text := range []string{`"2030-01-02T12:00:00Z"`, `"2030-01-02T12:00:00.0Z"`, `"2030-01-02T12:00:00.000Z"`, `"2030-01-02T13:00:00+01:00"`} {
		var read Timestamp
		require.NoError(t, json.Unmarshal([]byte(text), &read))
		require.True(t, noon.Equal(read.Time), text)
	}
	require.Error(t, json.Unmarshal([]byte(`"noon"`), new(Timestamp)))
}

func TestTimestamp_OmitsZero(t *testing.T) {
	got, err := json.Marshal(struct {
		EndsAt Timestamp `json:"endsAt,omitzero"`
	}{})
	require.NoError(t, err)
	require.Equal(t, `{}`, string(got))
}
