package bench

import (
	"encoding/json"
	"os"
	"time"
)

// report is the file of results. Times are in milliseconds, processor times in microseconds of one operation.
type report struct {
	Set       string           `json:"set"`
	Replicas  int              `json:"replicas"`
	Clients   int              `json:"clients"`
	Slow      time.Duration    `json:"slowNanoseconds,omitempty"`
	Tickets   int              `json:"filledTickets,omitempty"`
	Orders    int              `json:"filledOrders,omitempty"`
	Workloads []workloadReport `json:"workloads"`
	// ShownReserved is the median time at rest until the tickets service shows a reservation.
	ShownReserved float64     `json:"shownReservedMs,omitempty"`
	Purchase      *costReport `json:"onePurchaseAlone,omitempty"`

	Endpoints *endpointsResult `json:"eventsToEndpoints,omitempty"`
	Catalogue *catalogueResult `json:"catalogue,omitempty"`
}

type workloadReport struct {
	Name    string       `json:"name"`
	Gateway *routeReport `json:"gateway,omitempty"`
	Service *routeReport `json:"service,omitempty"`
	// The members below are with all events handled.
	Sustained float64          `json:"sustainedPerSecond,omitempty"`
	LagMs     float64          `json:"lagMs,omitempty"`
	CPU       map[string]int64 `json:"cpuMicros,omitempty"`
	Cost      *costReport      `json:"cost,omitempty"`
}

type routeReport struct {
	PerSecond float64 `json:"perSecond"`
	P50       float64 `json:"p50Ms"`
	P99       float64 `json:"p99Ms"`
}

// costReport is the cost of one operation.
type costReport struct {
	Calls        float64            `json:"sidecarCalls"`
	Transactions float64            `json:"transactions"`
	Deliveries   float64            `json:"deliveries"`
	StripeWrites float64            `json:"stripeWrites"`
	StripeReads  float64            `json:"stripeReads"`
	Changes      map[string]float64 `json:"changesPerTransaction"`
	// Retried is the share of transactions that were retried, for services that count them.
	Retried map[string]float64 `json:"retried,omitempty"`
}

func (b *bench) write(path string) error {
	s := b.settings
	r := report{Set: s.set, Replicas: s.replicas, Clients: s.clients, Slow: s.slow, Tickets: s.fill.tickets, Orders: s.fill.orders, Endpoints: b.endpoints, Catalogue: b.catalogue}
	for _, result := range b.results {
		w := workloadReport{Name: result.workload.name, Gateway: reportRoute(result.routes[0]), Service: reportRoute(result.routes[1])}
		if result.handled > 0 {
			n := result.routes[0].all
			w.Sustained, w.LagMs, w.CPU, w.Cost = result.sustained(), milliseconds(result.lag), result.cpu.micros(n), reportCost(result.cost, n)
		}
		r.Workloads = append(r.Workloads, w)
	}
	if len(b.shownReserved) > 0 {
		r.ShownReserved = milliseconds(b.shownReserved[len(b.shownReserved)/2])
	}
	if b.purchaseCost != nil {
		r.Purchase = reportCost(b.purchaseCost, purchases)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func reportRoute(m *measurement) *routeReport {
	if m == nil {
		return nil
	}
	return &routeReport{m.rate(), milliseconds(m.percentile(.5)), milliseconds(m.percentile(.99))}
}

func reportCost(c *cost, operations int) *costReport {
	per := func(n float64) float64 { return n / float64(max(1, operations)) }
	r := &costReport{
		Calls: per(c.callsOf("")), Transactions: per(c.callsOf(transaction)), Deliveries: per(c.deliveries),
		StripeWrites: per(c.stripeWrites), StripeReads: per(c.stripeReads), Changes: map[string]float64{}, Retried: map[string]float64{},
	}
	for app, commit := range c.commits {
		r.Changes[app] = commit.changes / commit.transactions
		if commit.retries >= 0 {
			r.Retried[app] = commit.retries / commit.transactions
		}
	}
	return r
}
