package state

import "github.com/prometheus/client_golang/prometheus"

// metrics show how changes share transactions, how many of them conflict, and whether events wait for the broker.
type metrics struct {
	batchChanges    prometheus.Histogram
	commitSeconds   prometheus.Histogram
	conflicts       prometheus.Counter
	retries         prometheus.Counter
	backlog         prometheus.Gauge
	entries         prometheus.Gauge
	limits          *prometheus.GaugeVec
	published       prometheus.Counter
	publishFailures prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		batchChanges: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "boxoffice_commit_changes", Help: "Changes that shared one state transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 7),
		}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "boxoffice_commit_seconds", Help: "Time from the start of a transaction to its outcome, retries included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "boxoffice_commit_conflicts_total", Help: "Changes refused because a document had changed since it was read.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "boxoffice_commit_retries_total", Help: "Transactions that were not committed and whose changes were tried again, or refused.",
		}),
		backlog: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "boxoffice_journal_backlog_events", Help: "Committed events that the broker has not accepted yet.",
		}),
		entries: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "boxoffice_journal_entries", Help: "Journal entries (transactions) whose events the broker has not accepted yet.",
		}),
		limits: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "boxoffice_journal_limit", Help: "How many entries (JOURNAL_SLOTS) and events may wait for the broker; past either, changes that cause events are refused.",
		}, []string{"of"}),
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "boxoffice_journal_published_events_total", Help: "Events accepted by the broker.",
		}),
		publishFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "boxoffice_journal_publish_failures_total", Help: "Publications that the broker did not accept and that were tried again.",
		}),
	}
	r.MustRegister(m.batchChanges, m.commitSeconds, m.conflicts, m.retries, m.backlog, m.entries, m.limits, m.published, m.publishFailures)
	return m
}
