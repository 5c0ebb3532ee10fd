// Package check looks at a marketplace as it stands, and says which of its promises do not hold:
//
//  1. A ticket has one live order at most, at any time.
//  2. An order that was answered for is not lost, and neither is any event.
//  3. Money is kept for complete orders and for no others; nobody is charged twice, or before the order is complete.
//  4. A reservation that is not paid in its time is cancelled, and its ticket is free again.
//  5. A stale write is refused, never merged.
//  6. What a service knows of another's documents becomes the same as what that one has.
//
// It reads what services keep through their sidecars, what clients see through the gateway, all events from the
// broker's stream, and all money from the Stripe sandbox's ledger. It shares no code with the services: a mistake
// there is not made here a second time.
//
// Read rules.go for what is demanded, facts.go for where it is read from.
package check

import (
	"boxoffice/deploy/local/stack"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Market is where a marketplace can be looked at. Of several addresses of one kind any will do; the first that
// answers is asked.
type Market struct {
	Gateways  []string            // URLs
	Sidecars  map[string][]string // URLs of sidecars' HTTP APIs by app: tickets, orders and payments are needed
	Sandbox   string              // URL
	Broker    stack.BrokerAddress
	Tokens    map[string]string // what each sidecar wants to be shown (DAPR_API_TOKEN), by the URLs of Sidecars
	StateName string            // the Dapr component; "" is "state"
}

// Options say how to look.
type Options struct {
	// Patience is how long to wait for a marketplace to become right: events may be under way, and a service may
	// have just started. 0 is one look.
	Patience time.Duration
	// Quiet says that nobody works on the marketplace: it is waited until no order is unpaid any more, and everything
	// has to be right in the end. Else what is wrong at every look during Patience counts, for something is always
	// under way.
	Quiet bool
	// Late is how long after its time an unpaid order may still be there. 0 is 30 seconds.
	Late time.Duration
	// Told is what clients were told; nil if nobody wrote it down.
	Told *Told
	// Jumps are the times in which clocks were wrong. An order that was made in one may end long after its time; it is not
	// waited for.
	Jumps []Jump
}

// Violation is a promise that does not hold.
type Violation struct {
	Promise   int    // its number, as above
	Aggregate string // what it is about, for example "order 0198…"
	What      string
	History   []string // what was told of it, oldest first
}

func (v Violation) String() string {
	text := fmt.Sprintf("promise %d, %s: %s", v.Promise, v.Aggregate, v.What)
	for _, line := range v.History {
		text += "\n    " + line
	}
	return text
}

func (v Violation) key() string { return fmt.Sprint(v.Promise, v.Aggregate, v.What) }

// Report is the outcome of a look.
type Report struct {
	Tickets      int
	Orders       map[string]int // by status, cancelled ones with their reason: "cancelled (expired)"
	Payments     map[string]int // by status
	Money        Money
	Events       Events
	Histories    int // of tickets, that can be told by what clients were answered
	Requests     int // in these
	Undecided    int // histories that were too long to be decided
	Violations   []Violation
	Looks        int           // how often it was looked
	Took         time.Duration // until it was right, or patience was over
	waiting      int           // unpaid orders that will end soon
	Unanswerable error         // why a last look was not possible; then nothing was shown to be right
}

// Money sums the sandbox's ledger, in minor units of the currency.
type Money struct{ Authorized, Held, Captured, Voided, Refunded, Kept int64 }

// Events counts what the broker knows.
type Events struct {
	Published   uint64
	Redelivered uint64 // deliveries beyond one for each service
	Dead        uint64
	Pending     uint64 // not yet delivered and handled
}

// Check looks at the marketplace until it is right or patience is over. The error is ctx's, or says that the
// marketplace could not be looked at even once.
func Check(ctx context.Context, m Market, opts Options) (*Report, error) {
	if opts.Late == 0 {
		opts.Late = 30 * time.Second
	}
	look, err := newLooker(m)
	if err != nil {
		return nil, err
	}
	defer look.close()
	begin := time.Now()
	deadline := begin.Add(opts.Patience)
	var last *Report
	var history *historyReport
	if opts.Told != nil {
		history = opts.Told.history(opts.Jumps)
	}
	persistent := map[string]bool{} // what was wrong at every look so far
	for looks := 1; ; looks++ {
		facts, err := look.facts(ctx, opts.Told)
		if err == nil {
			report := facts.report(opts)
			report.Looks = looks
			report.addHistory(history)
			if !opts.Quiet {
				report.keepPersistent(persistent, last == nil)
			}
			last = report
			if len(report.Violations) == 0 && !(opts.Quiet && report.waiting > 0) {
				report.Took = time.Since(begin)
				return report, nil
			}
		} else if last != nil {
			last.Unanswerable = err
		}
		if ctx.Err() != nil || !time.Now().Before(deadline) {
			if last == nil {
				return nil, fmt.Errorf("look at the marketplace: %w", errors.Join(err, ctx.Err()))
			}
			last.Took = time.Since(begin)
			return last, ctx.Err()
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (r *Report) addHistory(h *historyReport) {
	if h != nil {
		r.Histories, r.Requests, r.Undecided = h.tickets, h.requests, h.undecided
		r.Violations = append(r.Violations, h.found...)
	}
}

// keepPersistent leaves the violations that were there at every look, of which seen is the set so far.
func (r *Report) keepPersistent(seen map[string]bool, first bool) {
	now := map[string]bool{}
	r.Violations = slices.DeleteFunc(r.Violations, func(v Violation) bool {
		now[v.key()] = true
		return !first && !seen[v.key()]
	})
	for key := range seen {
		if !now[key] {
			delete(seen, key)
		}
	}
	if first {
		for key := range now {
			seen[key] = true
		}
	}
}

// Right says whether everything was looked at and nothing is wrong.
func (r *Report) Right() bool { return len(r.Violations) == 0 && r.Unanswerable == nil }

// shownViolations bounds what String says of each promise that does not hold, for one mistake may show in thousands of
// orders.
const shownViolations = 5

// String is the report as a table, and what is wrong with its history.
func (r *Report) String() string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "  %-22s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("tickets", "%d", r.Tickets)
	line("orders", "%s", counted(r.Orders))
	line("payments", "%s", counted(r.Payments))
	line("money (cents)", "authorized %d, captured %d, voided %d, refunded %d; kept %d, held %d",
		r.Money.Authorized, r.Money.Captured, r.Money.Voided, r.Money.Refunded, r.Money.Kept, r.Money.Held)
	line("events", "%d published, %d redelivered, %d dead", r.Events.Published, r.Events.Redelivered, r.Events.Dead)
	if r.Histories > 0 {
		line("histories", "%d requests about %d tickets, %d not decided", r.Requests, r.Histories, r.Undecided)
	}
	line("settled", "after %.1f s, at look %d", r.Took.Seconds(), r.Looks)
	if r.Unanswerable != nil {
		line("not looked at", "%v", r.Unanswerable)
	}
	line("violations", "%d", len(r.Violations))
	of := map[int]int{} // promises: their violations so far
	for _, v := range r.Violations {
		if of[v.Promise]++; of[v.Promise] <= shownViolations {
			fmt.Fprintf(&b, "\n%s\n", v)
		}
	}
	for _, promise := range slices.Sorted(maps.Keys(of)) {
		if more := of[promise] - shownViolations; more > 0 {
			fmt.Fprintf(&b, "\n… and %d more of promise %d\n", more, promise)
		}
	}
	return b.String()
}

// counted is a map of counts as text, in the order of the names.
func counted(counts map[string]int) string {
	var total int
	var parts []string
	for name, n := range counts {
		total += n
		parts = append(parts, fmt.Sprintf("%s %d", name, n))
	}
	slices.SortFunc(parts, cmp.Compare[string])
	if len(parts) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(parts, ", "))
}
