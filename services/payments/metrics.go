package main

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/payments/domain"
)

// staleAfter is how many periods of the sweep the result of a process's last pass is shown. The next passes may be another
// process's.
const staleAfter = 3

// metrics are the payments' metrics for operators.
type metrics struct {
	refused       *prometheus.CounterVec
	refundsFailed prometheus.Counter
	disputes      *prometheus.CounterVec

	count, oldest *prometheus.Desc
	mu            sync.Mutex
	backlog       backlog
	until         time.Time // when the backlog is out of date
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
			Name: "boxoffice_payments_refunds_failed_total", Help: "Refunds that did not reach the buyer. They are not tried again: an operator must find another way.",
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

// setBacklog sets what a pass has found, and for how long that is shown.
func (m *metrics) setBacklog(found backlog, at time.Time, shown time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.backlog, m.until = found, at.Add(shown)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.count
	to <- m.oldest
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	found, until := m.backlog, m.until
	m.mu.Unlock()
	at := time.Now()
	if at.After(until) {
		return
	}
	age := 0.0
	if found.payments > 0 {
		age = max(at.Sub(found.oldest).Seconds(), 0)
	}
	to <- prometheus.MustNewConstMetric(m.count, prometheus.GaugeValue, float64(found.payments))
	to <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, age)
}

// countReversals counts changes of refunds and disputes.
func (m *metrics) countReversals(before, after domain.Payment) {
	if after.RefundFailed && !before.RefundFailed {
		m.refundsFailed.Inc()
	}
	if after.Dispute.Status != before.Dispute.Status {
		m.disputes.WithLabelValues(after.Dispute.Status).Inc()
	}
}
