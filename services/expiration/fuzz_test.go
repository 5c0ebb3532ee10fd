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
	f.Fuzz(func(t *testing.T, body []byte, unix, ahead int64) {
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
		if unix < -1<<40 || unix > 1<<40 || ahead < 0 || time.Duration(ahead) > time.Hour {
			return // not a clock
		}
		requireSafe(t, "order-1", deadline.ExpiresAt, time.Unix(unix, 0), time.Duration(ahead))
	})
}

func FuzzParseSlot(f *testing.F) {
	for _, raw := range []string{"1777636800.0", "1777636800.1", "-1.0", "", ".", "1", "1.", "+1.0", "01.0", "1.-0", "9223372036854775808.0", "0190a5c3-7b1e-7000-8000-000000000000"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		slot, err := parseSlot(raw)
		if err == nil {
			require.Equal(t, raw, slot.String())
		}
	})
}
