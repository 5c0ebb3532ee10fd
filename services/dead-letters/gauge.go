package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/events"
)

const (
	// countPeriod is how often the letters are counted, for commands and other replicas change them, too. Counting takes a
	// twentieth of the time at most.
	countPeriod = 5 * time.Second
	countShare  = 20
	countTime   = time.Minute
)

// gauge is how many letters wait, by the service that could not handle their events.
type gauge struct {
	waiting *prometheus.GaugeVec
	now     chan struct{}
}

func newGauge(metrics prometheus.Registerer) *gauge {
	g := &gauge{
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "boxoffice_dead_letters",
			Help: "Dead letters that wait for somebody to send them again, by the service that could not handle their events.",
		}, []string{"service"}),
		now: make(chan struct{}, 1),
	}
	metrics.MustRegister(g.waiting)
	return g
}

// count asks for the letters to be counted soon.
func (g *gauge) count() {
	select {
	case g.now <- struct{}{}:
	default: // somebody has asked already
	}
}

// keep counts the letters again and again until ctx ends. While they cannot be counted, the gauge stays as it was.
func (g *gauge) keep(ctx context.Context, b *box, log *slog.Logger) {
	for {
		begin := time.Now()
		counting, cancel := context.WithTimeout(ctx, countTime)
		letters, err := b.all(counting)
		cancel()
		if err == nil {
			g.set(letters)
		} else if ctx.Err() == nil {
			log.Warn("the letters cannot be counted", "error", err)
		}
		took := time.Since(begin)
		select {
		case <-time.After(max(countPeriod, countShare*took)):
		case <-g.now:
			// Not more often than their number allows, however many come.
			select {
			case <-time.After(countShare * took):
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (g *gauge) set(letters []Letter) {
	count := map[string]int{"": 0}
	for _, service := range events.Subscribers {
		count[service] = 0
	}
	for _, l := range letters {
		if l.status() != sent {
			count[l.Service]++
		}
	}
	for service, n := range count {
		if service == "" {
			service = "unknown"
		}
		g.waiting.WithLabelValues(service).Set(float64(n))
	}
}
