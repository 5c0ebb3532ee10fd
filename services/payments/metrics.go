package main

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// staleAfter is after how many periods without a pass of its own a process no longer says what its last one has found: the
// next was another process's.
const staleAfter = 3

// metrics measure what operators must know of payments.
type metrics struct {
	refused       *prometheus.CounterVec
	refundsFailed prometheus.Counter
	disputes      *prometheus.CounterVec

	count, oldest *prometheus.Desc
	mu            sync.Mutex
	left          backlog
	until         time.Time // when left says nothing any more
}

// backlog is what a pass of the sweep has found unsettled.
type backlog struct {
	payments int
	oldest   time.Time // when the oldest of them was begun
}

func (b *backlog) add(begun time.Time) {
	b.payments++
	if b.oldest.IsZero() || begun.Before(b.oldest) {
		b.oldest = begun
	}
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_payments_attempts_refused_total", Help: "Attempts to pay that were refused because too many cards were declined, by limit: order or user.",
		}, []string{"limit"}),
		refundsFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "boxoffice_payments_refunds_failed_total", Help: "Refunds that did not reach the buyer. Nothing tries them again: somebody must find another way.",
		}),
		disputes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_payments_disputes_total", Help: "Changes of disputes, by Stripe's status: one that needs_response has a deadline.",
		}, []string{"status"}),
		count:  prometheus.NewDesc("boxoffice_payments_unsettled", "Payments that are not settled, as this process's last sweep found. Absent if that was long ago: take the maximum over the processes.", nil, nil),
		oldest: prometheus.NewDesc("boxoffice_payments_oldest_unsettled_seconds", "How long ago the oldest payment that is not settled was begun. 0: all are settled. Absent as boxoffice_payments_unsettled is.", nil, nil),
	}
	m.refused.WithLabelValues("order")
	m.refused.WithLabelValues("user")
	registry.MustRegister(m.refused, m.refundsFailed, m.disputes, m)
	return m
}

// swept notes what a pass has found. It counts for some time, until the next pass.
func (m *metrics) swept(left backlog, at time.Time, counts time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.until = left, at.Add(counts)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.count
	to <- m.oldest
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	left, until := m.left, m.until
	m.mu.Unlock()
	at := time.Now()
	if at.After(until) {
		return
	}
	age := 0.0
	if left.payments > 0 {
		age = max(at.Sub(left.oldest).Seconds(), 0)
	}
	to <- prometheus.MustNewConstMetric(m.count, prometheus.GaugeValue, float64(left.payments))
	to <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, age)
}

// reversed counts what a payment's change says of refunds and disputes.
func (m *metrics) reversed(before, after Payment) {
	if after.RefundFailed && !before.RefundFailed {
		m.refundsFailed.Inc()
	}
	if after.Dispute.Status != before.Dispute.Status {
		m.disputes.WithLabelValues(after.Dispute.Status).Inc()
	}
}
