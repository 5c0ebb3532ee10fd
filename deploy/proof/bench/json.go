package main

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
	// ShownReserved is the middle time until a reserved ticket shows it, at rest.
	ShownReserved float64     `json:"shownReservedMs,omitempty"`
	Purchase      *costReport `json:"onePurchaseAlone,omitempty"`
}

type workloadReport struct {
	Name    string     `json:"name"`
	Gateway *wayReport `json:"gateway,omitempty"`
	Service *wayReport `json:"service,omitempty"`
	// With all events handled:
	Sustained float64          `json:"sustainedPerSecond,omitempty"`
	LagMs     float64          `json:"lagMs,omitempty"`
	CPU       map[string]int64 `json:"cpuMicros,omitempty"`
	Cost      *costReport      `json:"cost,omitempty"`
}

type wayReport struct {
	PerSecond float64 `json:"perSecond"`
	P50       float64 `json:"p50Ms"`
	P99       float64 `json:"p99Ms"`
}

// costReport is what one operation costs.
type costReport struct {
	Calls        float64            `json:"sidecarCalls"`
	Transactions float64            `json:"transactions"`
	Deliveries   float64            `json:"deliveries"`
	StripeWrites float64            `json:"stripeWrites"`
	StripeReads  float64            `json:"stripeReads"`
	Changes      map[string]float64 `json:"changesPerTransaction"`
	// Retried is the share of transactions that were tried again, by service that counts them.
	Retried map[string]float64 `json:"retried,omitempty"`
}

func (b *bench) write(path string) error {
	s := b.settings
	r := report{Set: s.set, Replicas: s.replicas, Clients: s.clients, Slow: s.slow, Tickets: s.fill.tickets, Orders: s.fill.orders}
	for _, result := range b.results {
		w := workloadReport{Name: result.workload.name, Gateway: reportWay(result.ways[0]), Service: reportWay(result.ways[1])}
		if result.handled > 0 {
			n := result.ways[0].all
			w.Sustained, w.LagMs, w.CPU, w.Cost = result.sustained(), milliseconds(result.lag), result.cpu.micros(n), reportCost(result.did, n)
		}
		r.Workloads = append(r.Workloads, w)
	}
	if len(b.idle) > 0 {
		r.ShownReserved = milliseconds(b.idle[len(b.idle)/2])
	}
	if b.single != nil {
		r.Purchase = reportCost(b.single, purchases)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func reportWay(m *measurement) *wayReport {
	if m == nil {
		return nil
	}
	return &wayReport{m.rate(), milliseconds(m.percentile(.5)), milliseconds(m.percentile(.99))}
}

func reportCost(a *activity, operations int) *costReport {
	per := func(n float64) float64 { return n / float64(max(1, operations)) }
	c := &costReport{
		Calls: per(a.callsOf("")), Transactions: per(a.callsOf(transaction)), Deliveries: per(a.deliveries),
		StripeWrites: per(a.stripe), StripeReads: per(a.stripeReads), Changes: map[string]float64{}, Retried: map[string]float64{},
	}
	for app, commit := range a.commits {
		c.Changes[app] = commit.changes / commit.transactions
		if commit.retries >= 0 {
			c.Retried[app] = commit.retries / commit.transactions
		}
	}
	return c
}
