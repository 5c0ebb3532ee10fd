package events

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
)

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// However long something is away, the event is delivered again and is no dead letter; its age shows, and the log is not flooded.
func TestRouter_AnEventWaitsForDaysIfWhatItNeedsIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time passes by itself
		registry, log, o := prometheus.NewRegistry(), &bytes.Buffer{}, &office{}
		r := NewRouter(Options{
			Origin: Origin{Service: "tickets", PublicURL: "http://localhost:8080"}, Instance: "here:1", Deliveries: 3, Publish: o.take,
			Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: registry,
		})
		away := true
		On(r, func(context.Context, OrderCreated) error {
			if away {
				return problem.New(problem.Unavailable, "unavailable", "The store is away.")
			}
			return nil
		})
		event, err := New(t.Context(), someOrder())
		require.NoError(t, err)
		const oldest = "boxoffice_events_oldest_unhandled_seconds"
		require.Zero(t, gauge(t, registry, oldest))
		outage := 50 * time.Hour
		for began := time.Now(); time.Since(began) < outage; time.Sleep(40 * time.Second) {
			require.Equal(t, "RETRY", deliver(t, r, ordersTopic, encoded(t, event)))
		}
		require.Empty(t, o.taken, "no dead letter")
		require.InDelta(t, outage.Seconds(), gauge(t, registry, oldest), 41)
		require.LessOrEqual(t, strings.Count(log.String(), "\n"), int(outage/time.Minute)+1, "a line a minute")

		away = false
		require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, event)))
		require.Zero(t, gauge(t, registry, oldest))
	})
}

func TestRouter_AnEventThatAnotherProcessGetsIsNotCountedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		r := NewRouter(Options{
			Origin: Origin{Service: "tickets", PublicURL: "http://localhost:8080"}, Instance: "here:1", Deliveries: 3, Publish: (&office{}).take, Log: slog.New(slog.DiscardHandler), Metrics: registry,
		})
		On(r, func(context.Context, OrderCreated) error {
			return problem.New(problem.Unavailable, "unavailable", "The store is away.")
		})
		event, err := New(t.Context(), someOrder())
		require.NoError(t, err)
		deliver(t, r, ordersTopic, encoded(t, event))
		time.Sleep(30 * time.Second)
		require.InDelta(t, 30, gauge(t, registry, "boxoffice_events_oldest_unhandled_seconds"), 1)
		time.Sleep(time.Minute)
		require.Zero(t, gauge(t, registry, "boxoffice_events_oldest_unhandled_seconds"))
	})
}

func TestRouter_CountsDeadLettersByReason(t *testing.T) {
	r := newTestRouter()
	On(r, func(context.Context, OrderCreated) error { return fmt.Errorf("%w: nobody knows it", ErrRefused) })
	event, err := New(t.Context(), someOrder())
	require.NoError(t, err)
	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, event)))
	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, "no event"))
	require.EqualValues(t, 1, testutil.ToFloat64(r.letters.WithLabelValues("refused")))
	require.EqualValues(t, 1, testutil.ToFloat64(r.letters.WithLabelValues("undecodable")))
	require.Zero(t, r.unhandled.oldest(time.Now().Add(time.Hour)))
}
