package service

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOutageLog_WritesOneLineAtTheBeginningOfAnOutageAndOneAtItsEnd(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	written := func() []string {
		defer out.Reset()
		return strings.Split(strings.TrimSpace(out.String()), "\n")
	}
	checks, away := []check{{name: "store"}, {name: "sidecar"}}, errors.New("connection refused")
	var l outageLog

	l.note(log, checks, []error{nil, away})
	require.Equal(t, []string{`level=INFO msg="not ready" check=sidecar error="connection refused"`}, written(), "before the first time it is no warning")
	l.note(log, checks, []error{nil, nil})
	require.Equal(t, []string{`level=INFO msg="ready again" check=sidecar`}, written())

	l.note(log, checks, []error{away, nil})
	require.Equal(t, []string{`level=WARN msg="not ready" check=store error="connection refused"`}, written())
	l.note(log, checks, []error{away, nil})
	require.Equal(t, []string{""}, written(), "the same outage")
	l.note(log, checks, []error{away, away})
	require.Equal(t, []string{`level=WARN msg="not ready" check=sidecar error="connection refused"`}, written())
	l.note(log, checks, []error{nil, nil})
	require.Equal(t, []string{`level=INFO msg="ready again" check=store`, `level=INFO msg="ready again" check=sidecar`}, written())
}
