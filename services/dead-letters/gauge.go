package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/service"
)

// countTime bounds one count.
const countTime = time.Minute

// countPace is how often the dead letters are counted, because commands and other replicas change them, too. Counting
// takes at most a twentieth of the time.
var countPace = service.Pace{Period: 5 * time.Second, Share: 20}

// gauge is the number of dead letters that wait, by the service that could not handle their events.
type gauge struct {
	store   *store
	waiting *prometheus.GaugeVec
	log     *slog.Logger
	soon    chan struct{}
}

func newGauge(store *store, metrics prometheus.Registerer, log *slog.Logger) *gauge {
	g := &gauge{
		store: store,
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "boxoffice_dead_letters",
			Help: "Dead letters that wait to be sent again, by the service that could not handle their events.",
		}, []string{"service"}),
		log:  log,
		soon: make(chan struct{}, 1),
	}
	metrics.MustRegister(g.waiting)
	return g
}

// CountSoon has the dead letters counted before the next period.
func (g *gauge) CountSoon() {
	select {
	case g.soon <- struct{}{}:
	default: // it was called before
	}
}

// Run counts the dead letters until ctx ends. While they cannot be counted, the gauge keeps its value.
func (g *gauge) Run(ctx context.Context) error {
	service.Repeat(ctx, countPace, g.soon, func() {
		counting, cancel := context.WithTimeout(ctx, countTime)
		defer cancel()
		letters, err := g.store.All(counting)
		if err == nil {
			g.set(letters)
		} else if ctx.Err() == nil {
			g.log.Warn("the dead letters cannot be counted", "error", err)
		}
	})
	return nil
}

func (g *gauge) set(letters []DeadLetter) {
	count := map[string]int{"": 0}
	for _, subscriber := range events.Subscribers {
		count[subscriber] = 0
	}
	for _, l := range letters {
		if l.Status() != Sent {
			count[l.Service]++
		}
	}
	for subscriber, n := range count {
		if subscriber == "" {
			subscriber = "unknown"
		}
		g.waiting.WithLabelValues(subscriber).Set(float64(n))
	}
}
