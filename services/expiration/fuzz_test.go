package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func FuzzParseDeadline(f *testing.F) {
	for _, raw := range []string{
		`{"schema":1,"expiresAt":"2026-05-01T12:00:00Z"}`, `{"schema":1,"expiresAt":"0001-01-01T00:00:00Z"}`, `{"expiresAt":"9999-12-31T23:59:59.999999999+14:00"}`,
		`{}`, `null`, `"e30="`, ``, `{"expiresAt":1}`, `{"schema":"1"}`, `[]`,
	} {
		f.Add([]byte(raw), int64(1777636800), int64(15e9))
	}
	f.Add([]byte(`{"expiresAt":"2026-05-01T12:00:00Z"}`), int64(-1<<40), int64(time.Second))
	f.Add([]byte(`{"expiresAt":"0001-01-01T00:00:00Z"}`), int64(1<<40), int64(time.Second))
	f.Fuzz(func(t *testing.T, body []byte, unix, period int64) {
		deadline, err := parseDeadline(body)
		if err != nil {
			return
		}
		if written, err := json.Marshal(deadline); err == nil {
			again, err := parseDeadline(written)
			require.NoError(t, err)
			require.True(t, deadline.ExpiresAt.Equal(again.ExpiresAt))
			require.Equal(t, deadline.Schema, again.Schema)
		}
		if unix < -1<<40 || unix > 1<<40 || time.Duration(period) < time.Second {
			return // no clock, and no period that the configuration allows
		}
		now := time.Unix(unix, 0)
		require.GreaterOrEqual(t, deadline.Due(now), time.Duration(0))
		told := deadline.Told("order-1", now, time.Duration(period))
		_, version := told.Aggregate()
		require.Positive(t, version, "an event without a version is dead on arrival")
		later := deadline.Told("order-1", now.Add(time.Duration(period)), time.Duration(period))
		require.GreaterOrEqual(t, later.Firing, told.Firing)
	})
}
