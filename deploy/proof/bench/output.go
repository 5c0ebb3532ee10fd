package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// print prints the results as tables.
func (b *bench) print(to io.Writer) {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...any) {
		for _, cell := range cells {
			fmt.Fprintf(table, "%v\t", cell)
		}
		fmt.Fprintln(table)
	}
	fmt.Fprintln(to, "by the second                        through the gateway         at the service             bare sidecar, so many at once  of bare sidecar")
	row("", "/s", "p50", "p99", "/s", "p50", "p99", "1", "16", "64", "gateway", "service")
	for _, r := range b.results {
		cells := []any{fmt.Sprintf("%-32s", r.workload.name)}
		for _, m := range r.routes {
			cells = append(cells, rate(m), latency(m, .5), latency(m, .99))
		}
		for _, group := range groups {
			cells = append(cells, rate(r.bare[group]))
		}
		for _, m := range r.routes {
			cells = append(cells, share(m, r.bestBare()))
		}
		row(cells...)
	}
	_ = table.Flush()

	fmt.Fprintln(to)
	for _, r := range b.results {
		if m := r.routes[0]; m != nil && len(r.workload.expected) > 1 {
			fmt.Fprintf(to, "%s: %d got it (201), %d did not (409)\n", r.workload.name, m.statuses[201], m.statuses[409])
		}
		if r.background != "" {
			fmt.Fprintf(to, "%s, of %d clients more: %s\n", strings.TrimSpace(r.workload.name), b.settings.clients, r.background)
		}
	}
	for _, r := range b.results {
		if r.handled > 0 {
			fmt.Fprintf(to, "%s: %.0f/s with all events handled, the last %.1f s after the load; changes that shared a transaction: %s\n",
				r.workload.name, r.sustained(), r.lag.Seconds(), r.cost.changesPerTransaction())
			if r.steps != "" {
				fmt.Fprintf(to, "  half of the purchases took at most: %s\n", r.steps)
			}
		}
	}
	fmt.Fprintln(to, "\nwhat one costs, with all events handled")
	for _, r := range b.results {
		if r.handled > 0 {
			fmt.Fprintf(to, "%s: %s\n", r.workload.name, r.cost.perOperation(r.routes[0].all))
		}
	}
	if b.purchaseCost != nil {
		fmt.Fprintf(to, "%s, listing included: %s\n    %s\n", singlePurchase, b.purchaseCost.perOperation(purchases), b.purchaseSteps)
	}
	fmt.Fprintln(to)
	if b.endpoints != nil {
		fmt.Fprintln(to, b.endpoints)
	}
	if b.catalogue != nil {
		fmt.Fprintln(to, b.catalogue)
	}
	if len(b.shownReserved) > 0 {
		fmt.Fprintf(to, "at rest, a reserved ticket is shown so %.1f ms after the answer (half of %d; at most %.1f ms)\n",
			milliseconds(b.shownReserved[len(b.shownReserved)/2]), len(b.shownReserved), milliseconds(b.shownReserved[len(b.shownReserved)-1]))
	}
	if b.settings.cpu {
		b.printCPU(to)
	}
}

func (b *bench) printCPU(to io.Writer) {
	fmt.Fprintln(to, "\nprocessor time of one, in microseconds: the sum, and by kind of process; replicas together, ended processes too")
	for _, r := range b.results {
		for i, name := range []string{"gateway", "service"} {
			if m := r.routes[i]; m != nil {
				fmt.Fprintf(to, "%s (%s): %s\n", r.workload.name, name, m.cpu.perOperation(m.done))
			}
		}
		if r.handled > 0 {
			fmt.Fprintf(to, "  with all events handled: %s\n", r.cpu.perOperation(r.routes[0].all))
		}
		for _, group := range groups {
			if m := r.bare[group]; m != nil {
				fmt.Fprintf(to, "  bare, %d at once: %s\n", group, m.cpu.perOperation(m.done))
			}
		}
	}
}

func rate(m *measurement) string {
	if m == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", m.rate())
}

func latency(m *measurement, share float64) string {
	if m == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", milliseconds(m.percentile(share)))
}

func share(m *measurement, best float64) string {
	if m == nil || best == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*m.rate()/best)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
