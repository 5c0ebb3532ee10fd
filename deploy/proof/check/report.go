package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Violation is a promise that does not hold.
type Violation struct {
	Promise   int    // its number in the package's documentation
	Aggregate string // what it is about, for example "order 0198…"
	What      string
	History   []string // the events or requests that led to it, oldest first
}

func (v Violation) String() string {
	text := fmt.Sprintf("promise %d, %s: %s", v.Promise, v.Aggregate, v.What)
	for _, line := range v.History {
		text += "\n    " + line
	}
	return text
}

func (v Violation) key() string { return fmt.Sprint(v.Promise, v.Aggregate, v.What) }

// Report is the result of a check.
type Report struct {
	Tickets    int
	Shows      int
	Catalogues int            // replicas that were compared
	Orders     map[string]int // by status, cancelled ones with their reason: "cancelled (expired)"
	Payments   map[string]int // by status
	Money      Money
	Events     Events
	Histories  int // of tickets, that were evaluated
	Requests   int // in these
	Undecided  int // histories whose evaluation took too long
	Violations []Violation
	Rounds     int
	Took       time.Duration // until nothing was wrong, or the time was over
	ReadError  error         // why a later round could not read the facts; then the result is not certain

	unpaid int // orders whose window ends soon
}

// Money sums the sandbox's ledger, in minor units of the currency.
type Money struct{ Authorized, Held, Captured, Voided, Refunded, Kept int64 }

// Events counts the broker's events and deliveries.
type Events struct {
	Published   uint64
	Redelivered uint64 // deliveries beyond one for each service
	Dead        uint64 // dead letters
	Resent      uint64 // dead letters that were sent again
	Pending     uint64 // deliveries that are not made or not handled
}

func (r *Report) addHistory(h *historyReport) {
	if h != nil {
		r.Histories, r.Requests, r.Undecided = h.tickets, h.requests, h.undecided
		r.Violations = append(r.Violations, h.found...)
	}
}

// keepPersistent keeps the violations that every round has found, of which seen is the set so far.
func (r *Report) keepPersistent(seen map[string]bool, first bool) {
	found := map[string]bool{}
	r.Violations = slices.DeleteFunc(r.Violations, func(v Violation) bool {
		found[v.key()] = true
		return !first && !seen[v.key()]
	})
	if first {
		maps.Copy(seen, found)
	}
	maps.DeleteFunc(seen, func(key string, _ bool) bool { return !found[key] })
}

// Right reports whether all facts were read and nothing is wrong.
func (r *Report) Right() bool { return len(r.Violations) == 0 && r.ReadError == nil }

// shownViolations limits what String shows of each promise, for one defect may show in thousands of orders.
const shownViolations = 5

// String is the report as a table, followed by the violations with their history.
func (r *Report) String() string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "  %-22s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("tickets", "%d", r.Tickets)
	if r.Catalogues > 0 {
		line("shows", "%d, on the pages of %d replicas of the catalogue", r.Shows, r.Catalogues)
	}
	line("orders", "%s", counted(r.Orders))
	line("payments", "%s", counted(r.Payments))
	line("money (cents)", "authorized %d, captured %d, voided %d, refunded %d; kept %d, held %d",
		r.Money.Authorized, r.Money.Captured, r.Money.Voided, r.Money.Refunded, r.Money.Kept, r.Money.Held)
	line("events", "%d published, %d redelivered, %s", r.Events.Published, r.Events.Redelivered, r.Events.deadText())
	if r.Histories > 0 {
		line("histories", "%d requests about %d tickets, %d not decided", r.Requests, r.Histories, r.Undecided)
	}
	line("settled", "after %.1f s, in round %d", r.Took.Seconds(), r.Rounds)
	if r.ReadError != nil {
		line("not read", "%v", r.ReadError)
	}
	line("violations", "%d", len(r.Violations))
	shown := map[int]int{} // violations by promise
	for _, v := range r.Violations {
		if shown[v.Promise]++; shown[v.Promise] <= shownViolations {
			fmt.Fprintf(&b, "\n%s\n", v)
		}
	}
	for _, promise := range slices.Sorted(maps.Keys(shown)) {
		if more := shown[promise] - shownViolations; more > 0 {
			fmt.Fprintf(&b, "\n… and %d more of promise %d\n", more, promise)
		}
	}
	return b.String()
}

func (e Events) deadText() string {
	if e.Resent == 0 {
		return fmt.Sprintf("%d dead", e.Dead)
	}
	return fmt.Sprintf("%d dead (%d sent again)", e.Dead, e.Resent)
}

// counted is a map of counts as text, sorted by name.
func counted(counts map[string]int) string {
	var total int
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		total += counts[name]
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	if len(parts) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(parts, ", "))
}
