package service

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// linesOf is a log, and a function that returns what was written since its last call.
func linesOf() (log *slog.Logger, written func() []string) {
	var out bytes.Buffer
	log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	return log, func() []string {
		defer out.Reset()
		return strings.Split(strings.TrimSpace(out.String()), "\n")
	}
}

func TestOutageLog_WritesOneLineAtTheBeginningOfAnOutageAndOneAtItsEnd(t *testing.T) {
	log, written := linesOf()
	reasons := map[string]string{"store": "not reachable", "sidecar": "not reachable"}
	checks, away := []check{{name: "store"}, {name: "sidecar"}}, errors.New("connection refused")
	var l outageLog

	l.note(log, checks, []error{nil, away}, reasons)
	require.Equal(t, []string{`level=INFO msg="not ready" check=sidecar error="connection refused"`}, written(), "before the first time it is no warning")
	l.note(log, checks, []error{nil, nil}, reasons)
	require.Equal(t, []string{`level=INFO msg="ready again" check=sidecar`}, written())

	l.note(log, checks, []error{away, nil}, reasons)
	require.Equal(t, []string{`level=WARN msg="not ready" check=store error="connection refused"`}, written())
	l.note(log, checks, []error{away, nil}, reasons)
	require.Equal(t, []string{""}, written(), "the same outage")
	l.note(log, checks, []error{away, away}, reasons)
	require.Equal(t, []string{`level=WARN msg="not ready" check=sidecar error="connection refused"`}, written())
	l.note(log, checks, []error{nil, nil}, reasons)
	require.Equal(t, []string{`level=INFO msg="ready again" check=store`, `level=INFO msg="ready again" check=sidecar`}, written())
}

func TestOutageLog_WritesTheNewReasonOfALongOutage(t *testing.T) {
	log, written := linesOf()
	checks, away := []check{{name: "store"}}, []error{errors.New("away")}
	var l outageLog
	l.note(log, checks, []error{nil}, nil)
	l.note(log, checks, away, map[string]string{"store": "not reachable"})
	l.note(log, checks, []error{errors.New("refused")}, map[string]string{"store": "The password is wrong."})
	require.Equal(t, []string{`level=WARN msg="not ready" check=store error=away`, `level=WARN msg="not ready" check=store error=refused`}, written())
}

func TestOutageLog_WarnsOfAServiceThatDoesNotBecomeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, written := linesOf()
		checks, away, reasons := []check{{name: "store"}}, []error{errors.New("away")}, map[string]string{"store": "not reachable"}
		var l outageLog
		for range 3 {
			l.note(log, checks, away, reasons)
			time.Sleep(usualStart)
		}
		require.Equal(t, []string{`level=INFO msg="not ready" check=store error=away`, `level=WARN msg="not ready" check=store error=away`}, written())
	})
}
