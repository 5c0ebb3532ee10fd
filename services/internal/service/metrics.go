package service

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	metricsReadTime  = 5 * time.Second
	metricsWriteTime = 10 * time.Second
	metricsIdleTime  = 2 * time.Minute // longer than the pause between two scrapes
)

// serveMetrics serves only /metrics on METRICS_ADDRESS, because the public port can be reached by anyone.
func (s *Service) serveMetrics() {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	server := &http.Server{
		Addr: s.config.MetricsAddress, Handler: mux, MaxHeaderBytes: 8 << 10,
		ReadTimeout: metricsReadTime, WriteTimeout: metricsWriteTime, IdleTimeout: metricsIdleTime,
	}
	s.serve("metrics on "+s.config.MetricsAddress, server.ListenAndServe)
	s.onShutdown("metrics", func(context.Context) error { return server.Close() })
}
