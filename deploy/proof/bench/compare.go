package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// compare prints the figures of two files of results side by side.
func compare(to io.Writer, oldPath, newPath string) error {
	old, err := readReport(oldPath)
	if err != nil {
		return err
	}
	current, err := readReport(newPath)
	if err != nil {
		return err
	}
	for i, r := range []*report{old, current} {
		fmt.Fprintf(to, "%s: set %s, replicas %d, %d clients, filled with %d tickets and %d orders, slow %s\n",
			[]string{"old", "new"}[i], r.Set, r.Replicas, r.Clients, r.Tickets, r.Orders, r.Slow)
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\t/s\tnew\t\tp99 ms\tnew\t\tCPU µs\tnew\t\tcalls\tnew\ttransactions\tnew\tdeliveries\tnew\t")
	for _, before := range old.Workloads {
		i := slices.IndexFunc(current.Workloads, func(w workloadReport) bool { return w.Name == before.Name })
		if i < 0 || before.Gateway == nil || current.Workloads[i].Gateway == nil {
			continue
		}
		after := current.Workloads[i]
		fmt.Fprintf(table, "%-31s\t%s\t%s\t%s\t", before.Name, change(before.Gateway.PerSecond, after.Gateway.PerSecond),
			change(before.Gateway.P99, after.Gateway.P99), change(float64(before.CPU["total"]), float64(after.CPU["total"])))
		if before.Cost != nil && after.Cost != nil {
			b, a := before.Cost, after.Cost
			fmt.Fprintf(table, "%.2f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t", b.Calls, a.Calls, b.Transactions, a.Transactions, b.Deliveries, a.Deliveries)
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

func readReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}

// change is three cells: before, after, and the difference in per cent.
func change(before, after float64) string {
	if before == 0 {
		return "-\t-\t"
	}
	return fmt.Sprintf("%.0f\t%.0f\t%+.0f%%", before, after, 100*(after-before)/before)
}
