package feed

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	appended, batches, changes, conflicts, loads, reloads, snapshots prometheus.Counter

	lost          *prometheus.CounterVec
	appendSeconds prometheus.Histogram
	delay         prometheus.Histogram

	head       atomic.Uint64 // the last batch, as it was read last
	snapshotAt atomic.Int64  // in Unix milliseconds
}

func newMetrics(registry prometheus.Registerer, f *Feed) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	seconds := prometheus.ExponentialBuckets(0.001, 2, 14) // to 8 seconds
	m := &metrics{
		appended:  counter("boxoffice_feed_appended_total", "Batches that this process has appended to the change feed."),
		batches:   counter("boxoffice_feed_batches_total", "Batches of the change feed that this process has applied, its own included."),
		changes:   counter("boxoffice_feed_changes_total", "Changes in the batches that this process has applied."),
		conflicts: counter("boxoffice_feed_conflicts_total", "Appends that were tried again because another process was first."),
		loads:     counter("boxoffice_feed_loads_total", "How often this process has loaded the snapshot, its start included."),
		reloads:   counter("boxoffice_feed_reloads_total", "How often this process had to load the snapshot again: it was too slow, or the feed has begun anew."),
		snapshots: counter("boxoffice_feed_snapshots_total", "Snapshots that this process has made."),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_feed_lost_total",
			Help: "Parts of the change feed that the state store has lost (head, batches, chunks), and how often the store was found restored from a backup (restored).",
		}, []string{"of"}),
		appendSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "boxoffice_feed_append_seconds", Help: "Time to commit a batch.", Buckets: seconds,
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "boxoffice_feed_delay_seconds", Help: "Age of the batches of other processes when this process applied them, by the clocks of both.", Buckets: seconds,
		}),
	}
	for _, of := range []string{"head", "batches", "chunks", "restored"} {
		m.lost.WithLabelValues(of)
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	registry.MustRegister(m.appended, m.batches, m.changes, m.conflicts, m.loads, m.reloads, m.snapshots, m.lost, m.appendSeconds, m.delay,
		gauge("boxoffice_feed_position", "The last batch of the change feed that this process has applied.",
			func() float64 { return float64(f.current().batch) }),
		gauge("boxoffice_feed_behind_batches", "Batches that this process has not applied, as it read the head last.",
			func() float64 { return max(0, float64(m.head.Load())-float64(f.current().batch)) }),
		gauge("boxoffice_feed_unread_seconds", "How long ago this process has reached the end of the change feed: while it grows, the catalogue is out of date.", func() float64 {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.reached.IsZero() {
				return 0
			}
			return time.Since(f.reached).Seconds()
		}),
		gauge("boxoffice_feed_snapshot_age_seconds", "Age of the snapshot, as this process has read it last. 0: there is none.", func() float64 {
			made := m.snapshotAt.Load()
			if made <= 0 {
				return 0
			}
			return time.Since(time.UnixMilli(made)).Seconds()
		}),
	)
	return m
}
