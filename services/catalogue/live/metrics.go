package live

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	open    prometheus.Gauge
	refused prometheus.Counter
	ended   *prometheus.CounterVec
	sent    prometheus.Counter
	delay   prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) metrics {
	m := metrics{
		open:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "boxoffice_live_streams", Help: "Open streams of live updates."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "boxoffice_live_streams_refused_total", Help: "Streams refused because there were too many."}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_live_streams_ended_total",
			Help: "Streams that have ended, by reason: client (it closed the connection), slow (it did not read), behind (it read too slowly), stopped (the process stopped).",
		}, []string{"reason"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "boxoffice_live_events_sent_total", Help: "Events sent to streams, with heartbeats."}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "boxoffice_live_delay_seconds",
			Help:    "Time from an update of the read model to the end of its writing to a stream, of the oldest update in each write.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	for _, reason := range []error{errClientClosed, errSlow, errBehind, errStopped} {
		m.ended.WithLabelValues(reason.Error()) // or a rate would miss the first one
	}
	if registry != nil {
		registry.MustRegister(m.open, m.refused, m.ended, m.sent, m.delay)
	}
	return m
}
