// Package check reads a running marketplace and reports which of its promises do not hold:
//
//  1. A ticket has at most one live order at any time.
//  2. An order that was acknowledged is not lost, and neither is any event.
//  3. Money is kept for complete orders and for no others; nobody is charged twice, or before the order is complete.
//  4. A reservation that is not paid in its window is cancelled, and its ticket is free again.
//  5. A stale write is refused, never merged.
//  6. A projection becomes what its owner's aggregate is.
//  9. What happens to a user's tickets and orders arrives at the user's endpoint.
//
// It reads documents through the services' sidecars, the list of tickets through the gateway, all events from the broker,
// and all money from the Stripe sandbox's ledger. These are the facts (facts.go); rules.go and linearizability.go have
// the rules. The package shares no code with the services, so a defect there is not repeated here.
package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"boxoffice/deploy/local/stack"
)

// Target is the marketplace that is checked. If there are several addresses of one kind, the first that answers is used.
type Target struct {
	Gateways []string            // URLs
	Services map[string][]string // URLs of the services' REST APIs by app: to find out why facts cannot be read; of catalogue, all are compared
	Sidecars map[string][]string // URLs of the sidecars' HTTP APIs by app; tickets, orders and payments are needed, and catalogue if it runs
	Sandbox  string              // URL
	Broker   stack.BrokerAddress
	Tokens   map[string]string // the API token of each sidecar (DAPR_API_TOKEN), by the URLs of Sidecars
}

// Options of a check.
type Options struct {
	// Settle is how long the marketplace may take to become right: events may be under way, and a service may have just
	// started. With 0 the facts are read once.
	Settle time.Duration
	// AtRest means that no client uses the marketplace. The check then waits until no order is unpaid, and nothing may be
	// wrong at the end. Otherwise something is always under way, and a violation counts if every round finds it.
	AtRest bool
	// Late is how long after the end of its window an unpaid order may still exist. 0 is 30 seconds.
	Late time.Duration
	// History is what clients requested and were answered; nil if that was not recorded.
	History *History
	// Endpoints are the endpoints of users, and what arrived there; nil if there are none.
	Endpoints *Endpoints
	// Jumps are the periods in which clocks were wrong. An order that was made in one may end long after its window; the
	// check does not wait for it.
	Jumps []Jump
}

// roundPause is the pause between two rounds.
const roundPause = time.Second

// Check reads the facts and applies the rules, in rounds, until nothing is wrong or the time is over. The error is ctx's,
// or means that the facts could not be read even once.
func Check(ctx context.Context, target Target, opts Options) (*Report, error) {
	if opts.Late == 0 {
		opts.Late = 30 * time.Second
	}
	begin := time.Now()
	deadline := begin.Add(opts.Settle)
	reader, err := newReader(target)
	if err != nil {
		return nil, fmt.Errorf("read the marketplace: %w", err)
	}
	defer reader.close()
	var history *historyReport
	if opts.History != nil {
		history = opts.History.evaluate(opts.Jumps)
	}
	var last *Report
	persistent := map[string]bool{} // what every round has found
	for round := 1; ; round++ {
		facts, err := reader.facts(ctx, opts.History)
		if err == nil {
			report := facts.report(opts)
			report.Rounds = round
			report.addHistory(history)
			if !opts.AtRest {
				report.keepPersistent(persistent, last == nil)
			}
			last = report
			if len(report.Violations) == 0 && !(opts.AtRest && report.unpaid > 0) {
				report.Took = time.Since(begin)
				return report, nil
			}
		} else if last != nil {
			last.ReadError = err
		}
		if ctx.Err() != nil || !time.Now().Before(deadline) {
			if last == nil {
				return nil, fmt.Errorf("read the marketplace: %w", errors.Join(err, ctx.Err()))
			}
			last.Took = time.Since(begin)
			return last, ctx.Err()
		}
		select {
		case <-time.After(roundPause):
		case <-ctx.Done():
		}
	}
}
