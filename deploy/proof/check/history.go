package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A history is what clients asked for and were answered, each with the times of the call and of the answer. It shows what
// no end state does: that a ticket was given to two buyers for a moment, or that an order was complete and then was not.

// RequestKind is what a client asked for.
type RequestKind string

const (
	Reserve    RequestKind = "reserve"
	Cancel     RequestKind = "cancel"
	ReadOrder  RequestKind = "read the order"
	Pay        RequestKind = "pay"
	Refund     RequestKind = "refund" // at Stripe, by whoever runs the marketplace
	Edit       RequestKind = "edit"
	Withdraw   RequestKind = "delete"
	ReadTicket RequestKind = "read the ticket"
)

// Request is one of them. A request that is repeated until it is answered (with the same Idempotency-Key) is one, from the
// first call to the answer.
type Request struct {
	Kind         RequestKind
	Call, Return time.Time // Return is zero if the outcome is not known: it may have happened, or may happen yet

	Ticket, Order, Buyer string // as far as they are known

	// Granted is a 2xx; else Code says why it was refused: the problem's code or, without one, the status.
	Granted bool
	Code    string

	ExpiresAt      time.Time // of a reservation that was granted
	Status, Reason string    // of an order that was read; Status also of a ticket
	Version        int       // of a ticket that was read, or of what an edit made
	From           int       // the version that an edit was made of
	Title          string    // of an edit
	Price          int64
}

func (r Request) known() bool   { return !r.Return.IsZero() }
func (r Request) refused() bool { return r.known() && !r.Granted }

// String is the request for people.
func (r Request) String() string {
	text := fmt.Sprintf("%s to %s  %s", r.Call.Format("15:04:05.000"), r.Return.Format("15:04:05.000"), r.Kind)
	if !r.known() {
		text = fmt.Sprintf("%s to ?             %s", r.Call.Format("15:04:05.000"), r.Kind)
	}
	switch {
	case r.Kind == Reserve && r.Granted:
		text += fmt.Sprintf(": order %s until %s", r.Order, r.ExpiresAt.Format("15:04:05.000"))
	case r.Order != "":
		text += " " + r.Order
	}
	switch {
	case !r.known():
		return text + ": no answer"
	case r.refused():
		return text + ": refused, " + r.Code
	case r.Status != "":
		return text + ": " + strings.TrimSpace(r.Status+" "+r.Reason)
	}
	return text
}

// Jump is a time in which a process's clock was wrong.
type Jump struct {
	App      string // the name of the replica
	Offset   time.Duration
	From, To time.Time
}

// of says whether it was the clock of one of an app's replicas.
func (j Jump) of(app string) bool { return j.App == app || strings.HasPrefix(j.App, app+"-") }

// showed says whether it may be the wrong clock that showed a time.
func (j Jump) showed(at time.Time) bool {
	const about = time.Second
	return at.After(j.From.Add(j.Offset-about)) && at.Before(j.To.Add(j.Offset+about))
}

// history finds out what is wrong with what clients were answered. It does not change after the load, so it is done once.
func (t *Told) history(jumps []Jump) *historyReport {
	t.mu.Lock()
	requests := slices.Clone(t.requests)
	t.mu.Unlock()
	h := &historyReport{}
	tickets := map[string][]Request{}
	ticketOf := map[string]string{} // by order
	for _, r := range requests {
		if r.Kind == Reserve && r.Granted {
			ticketOf[r.Order] = r.Ticket
		}
	}
	for _, r := range requests {
		if r.Ticket == "" {
			r.Ticket = ticketOf[r.Order]
		}
		tickets[r.Ticket] = append(tickets[r.Ticket], r)
	}
	delete(tickets, "")
	names := make(chan string, len(tickets))
	for _, name := range slices.Sorted(maps.Keys(tickets)) {
		names <- name
	}
	close(names)
	var working sync.WaitGroup
	for range 2 {
		working.Go(func() {
			for name := range names {
				l := newLives(tickets[name], jumps)
				result, found := l.check(name)
				h.mu.Lock()
				h.add(result, len(l.operations), found...)
				h.mu.Unlock()
			}
		})
	}
	working.Wait()
	for _, name := range slices.Sorted(maps.Keys(tickets)) {
		h.found = append(h.found, neverBack(name, tickets[name])...)
	}
	return h
}

// historyReport is what history found.
type historyReport struct {
	mu        sync.Mutex
	tickets   int // with requests about their reservation
	requests  int
	undecided int // tickets for which the time was too short
	found     []Violation
}

func (h *historyReport) add(result porcupine.CheckResult, requests int, found ...Violation) {
	if requests == 0 {
		return
	}
	h.tickets++
	h.requests += requests
	h.found = append(h.found, found...)
	if result == porcupine.Unknown {
		h.undecided++
	}
}

// lives are the orders of one ticket, as far as clients know of them: from when on each may have ended or been paid by
// what others did. What nobody answers for (a request without an answer, a time that is over, a payment on its way) may happen at any
// time after that, or never.
type lives struct {
	operations []Request            // reservations, cancellations and reads of orders with a known outcome
	mayEnd     map[string]time.Time // by order: if it is not complete
	mayBePaid  map[string]time.Time
	mayRefund  map[string]time.Time // also if it is complete
	edits      []time.Time          // of the listing: after a refund, they put it up again
	ghost      time.Time            // the first reservation with an unknown outcome; zero if there is none
}

func newLives(requests []Request, jumps []Jump) *lives {
	l := &lives{mayEnd: map[string]time.Time{}, mayBePaid: map[string]time.Time{}, mayRefund: map[string]time.Time{}}
	sooner := func(in map[string]time.Time, order string, at time.Time) {
		if first, known := in[order]; !known || at.Before(first) {
			in[order] = at
		}
	}
	var orders []string
	var withdrawn time.Time
	for _, r := range requests {
		switch r.Kind {
		case Reserve:
			switch {
			case r.Granted:
				orders = append(orders, r.Order)
				sooner(l.mayEnd, r.Order, overAt(r.ExpiresAt, jumps))
				l.operations = append(l.operations, r)
			case r.known():
				l.operations = append(l.operations, r)
			case l.ghost.IsZero() || r.Call.Before(l.ghost):
				l.ghost = r.Call
			}
		case Cancel:
			if !r.refused() {
				sooner(l.mayEnd, r.Order, r.Call)
			}
			if r.known() {
				l.operations = append(l.operations, r)
			}
		case ReadOrder:
			if r.known() {
				l.operations = append(l.operations, r)
			}
		case Pay:
			sooner(l.mayBePaid, r.Order, r.Call)
		case Refund:
			sooner(l.mayRefund, r.Order, r.Call)
		case Edit:
			if !r.refused() {
				l.edits = append(l.edits, r.Call)
			}
		case Withdraw:
			if !r.refused() && (withdrawn.IsZero() || r.Call.Before(withdrawn)) {
				withdrawn = r.Call
			}
		}
	}
	for _, order := range orders {
		if !withdrawn.IsZero() {
			sooner(l.mayEnd, order, withdrawn)
		}
	}
	return l
}

// overAt is the first moment at which a clock of the orders service may have shown that an order's time is over.
func overAt(expiresAt time.Time, jumps []Jump) time.Time {
	over := expiresAt
	for _, j := range jumps {
		if first := expiresAt.Add(-j.Offset); j.of("orders") && j.Offset > 0 && !first.After(j.To) {
			if first.Before(j.From) {
				first = j.From
			}
			if first.Before(over) {
				over = first
			}
		}
	}
	return over
}

// lock is who has a ticket, as far as requests have shown.
type lock struct {
	holder   string // an order; "" if the ticket is free, or has been reserved by a request without an answer
	complete bool   // the holder is known to be
	ended    string // the orders that had it before, each with a comma
	withheld bool   // the last of them was refunded, and the listing has not been put up again as far as is known
}

func (k lock) hasEnded(order string) bool { return strings.Contains(k.ended, order+",") }

func (k lock) end() lock {
	if k.holder == "" {
		return k
	}
	return lock{ended: k.ended + k.holder + ",", withheld: k.complete} // a complete order ends by a refund
}

// last is the order that had the ticket last; "" if there is none.
func (k lock) last() string {
	orders := strings.Split(strings.TrimSuffix(k.ended, ","), ",")
	return orders[len(orders)-1]
}

// by says whether something that may happen from a time on may have happened before the request was answered.
func by(from map[string]time.Time, order string, r Request) bool {
	first, may := from[order]
	return may && !first.After(r.Return)
}

// free is the lock when its holder has ended by itself, if that may be.
func (l *lives) free(k lock, r Request) (lock, bool) {
	switch {
	case k.holder == "", !k.complete && by(l.mayEnd, k.holder, r):
		return k.end(), true
	case by(l.mayRefund, k.holder, r): // it was complete, whether anybody saw it or not
		k.complete = true
		return k.end(), true
	}
	return k, false
}

// offered is the lock of a free ticket that is for sale, if it may be.
func (l *lives) offered(k lock, r Request) (lock, bool) {
	k.withheld = k.withheld && !slices.ContainsFunc(l.edits, func(at time.Time) bool { return !at.After(r.Return) && l.refundedBefore(k, at) })
	return k, k.holder == "" && !k.withheld
}

// refundedBefore says whether the last order may have been refunded when a request was made that was answered after at.
func (l *lives) refundedBefore(k lock, at time.Time) bool {
	return !l.mayRefund[k.last()].After(at)
}

// paid is the lock when its holder is order and complete, if that may be.
func (l *lives) paid(k lock, order string, r Request) (lock, bool) {
	if k.holder == "" || k.holder != order || !k.complete && !by(l.mayBePaid, order, r) {
		return k, false
	}
	k.complete = true
	return k, true
}

// step is what a request makes of the lock, if its answer is one that the lock allows.
func (l *lives) step(k lock, r Request) (lock, bool) {
	switch r.Kind {
	case Reserve:
		return l.reserve(k, r)
	case Cancel:
		switch {
		case r.Granted && k.hasEnded(r.Order):
			return k, true // to cancel twice is to cancel once
		case r.Granted:
			return k.end(), k.holder == r.Order && !k.complete
		case r.Code == "order_complete":
			return l.paid(k, r.Order, r)
		}
		return k, !isLost(r)
	case ReadOrder:
		switch {
		case !r.Granted:
			return k, !isLost(r)
		case r.Status == "created":
			return k, k.holder == r.Order && !k.complete
		case r.Status == "complete":
			return l.paid(k, r.Order, r)
		case k.hasEnded(r.Order):
			return k, true
		case k.holder == r.Order:
			return l.free(k, r)
		}
		return k, false
	}
	return k, true
}

func (l *lives) reserve(k lock, r Request) (lock, bool) {
	switch {
	case r.Granted:
		k, free := l.free(k, r)
		k, offered := l.offered(k, r)
		return lock{holder: r.Order, ended: k.ended}, free && offered && !k.hasEnded(r.Order)
	case r.Code == "ticket_withheld":
		if k.holder != "" {
			k = k.end()
		}
		k.withheld = true
		return k, by(l.mayRefund, k.last(), r)
	case r.Code == "ticket_reserved":
		return k, k.holder != "" && !k.complete || k.holder == "" && !l.ghost.IsZero() && !l.ghost.After(r.Return)
	case r.Code == "ticket_sold":
		return l.paid(k, k.holder, r)
	}
	return k, true // that there is no such ticket, for example
}

// isLost says whether a request was answered as if there were no such order.
func isLost(r Request) bool { return r.Code == "404" || r.Code == "order_not_found" || r.Code == "403" }

const (
	decisionTime  = 20 * time.Second // for the history of one ticket
	shownRequests = 40
)

// check says whether the requests can have happened one after the other, each between its call and its answer.
func (l *lives) check(ticket string) (porcupine.CheckResult, []Violation) {
	if len(l.operations) == 0 {
		return porcupine.Ok, nil
	}
	base := l.operations[0].Call
	operations := make([]porcupine.Operation, len(l.operations))
	for i, r := range l.operations {
		operations[i] = porcupine.Operation{Input: i, Call: int64(r.Call.Sub(base)), Return: int64(r.Return.Sub(base))}
	}
	model := porcupine.Model{
		Init: func() any { return lock{} },
		Step: func(state, input, _ any) (bool, any) {
			after, allowed := l.step(state.(lock), l.operations[input.(int)])
			return allowed, after
		},
	}
	result, log := porcupine.CheckOperationsVerbose(model, operations, decisionTime)
	if result != porcupine.Illegal {
		return result, nil
	}
	longest := 0
	for _, partition := range log.PartialLinearizationsOperations() {
		for _, some := range partition {
			longest = max(longest, len(some))
		}
	}
	v := Violation{Promise: 1, Aggregate: "ticket " + ticket, What: fmt.Sprintf(
		"what clients were answered cannot have happened in any order: %d of %d requests of this history can", longest, len(l.operations))}
	all := slices.Clone(l.operations)
	slices.SortStableFunc(all, func(a, b Request) int { return a.Call.Compare(b.Call) })
	from := max(0, min(longest, len(all))-shownRequests/2)
	for _, r := range all[from:min(len(all), from+shownRequests)] {
		v.History = append(v.History, r.String())
	}
	return result, []Violation{v}
}

// neverBack finds reads that showed an older version of a ticket than was shown to somebody before them.
func neverBack(ticket string, requests []Request) []Violation {
	var shown []Request
	for _, r := range requests {
		if (r.Kind == ReadTicket || r.Kind == Edit) && r.Granted && r.Version > 0 {
			shown = append(shown, r)
		}
	}
	byReturn := slices.Clone(shown)
	slices.SortFunc(shown, func(a, b Request) int { return a.Call.Compare(b.Call) })
	slices.SortFunc(byReturn, func(a, b Request) int { return a.Return.Compare(b.Return) })
	newest, next := Request{}, 0
	for _, r := range shown {
		for ; next < len(byReturn) && byReturn[next].Return.Before(r.Call); next++ {
			if byReturn[next].Version > newest.Version {
				newest = byReturn[next]
			}
		}
		if r.Kind == ReadTicket && r.Version < newest.Version {
			return []Violation{{Promise: 6, Aggregate: "ticket " + ticket,
				What:    fmt.Sprintf("it was shown as of version %d (%s) after it had been shown as of version %d (%s)", r.Version, r.Status, newest.Version, newest.Status),
				History: []string{newest.String(), r.String()}}}
		}
	}
	return nil
}

// Promise 5. What was refused had no effect: for everything that there is, somebody's request was granted or not answered.
func (b *book) refusalsHadNoEffect() {
	if b.told == nil {
		return
	}
	b.told.mu.Lock()
	defer b.told.mu.Unlock()
	type pair struct{ ticket, buyer string }
	type offer struct {
		ticket, title string
		price         int64
	}
	reservations := map[pair]int{} // that may have been made
	cancelled, withdrawn := map[string]bool{}, map[string]bool{}
	offered, refused := map[offer]bool{}, map[offer]Request{}
	buyers := map[string]bool{}
	for _, id := range b.told.users {
		buyers[id] = true
	}
	for _, r := range b.told.requests {
		o := offer{r.Ticket, r.Title, r.Price}
		switch {
		case r.Kind == Edit && r.refused():
			refused[o] = r
		case r.refused():
		case r.Kind == Edit:
			offered[o] = true
		case r.Kind == Reserve:
			reservations[pair{r.Ticket, r.Buyer}]++
		case r.Kind == Cancel:
			cancelled[r.Order] = true
		case r.Kind == Withdraw:
			withdrawn[r.Ticket] = true
		}
		if r.Kind == Edit && r.Granted && r.Version != r.From+1 {
			b.broken(5, "ticket "+r.Ticket, fmt.Sprintf("a change of its version %d made version %d", r.From, r.Version), r.Ticket)
		}
	}
	if len(b.told.requests) == 0 {
		return
	}
	there := map[pair]int{}
	for _, id := range slices.Sorted(maps.Keys(b.orders)) {
		o := b.orders[id]
		if !buyers[o.UserID] {
			continue // a client that nobody wrote down
		}
		at := pair{o.Ticket.ID, o.UserID}
		if there[at]++; there[at] == reservations[at]+1 {
			b.broken(5, "order "+id, fmt.Sprintf("buyer %s has %d orders or more of ticket %s, and all but %d of the requests for it were refused",
				o.UserID, there[at], o.Ticket.ID, reservations[at]), id)
		}
		switch {
		case o.Reason == "user" && !cancelled[id]:
			b.broken(5, "order "+id, "it is cancelled by its buyer, whose requests to cancel it were all refused", id)
		case o.Reason == "withdrawn" && !withdrawn[o.Ticket.ID]:
			b.broken(5, "order "+id, "it is cancelled because its seller deleted the ticket, and all requests for that were refused", id, o.Ticket.ID)
		}
	}
	for _, e := range b.events {
		if e.Type != "ticket.updated" {
			continue
		}
		t, err := decode[ticketDoc](e)
		o := offer{e.Subject, t.Title, t.Price}
		if r, was := refused[o]; was && err == nil && !offered[o] {
			b.broken(5, "ticket "+e.Subject, fmt.Sprintf("it became %q for %d, which was refused (%s)", t.Title, t.Price, cmp.Or(r.Code, "no reason")), e.Subject)
		}
	}
}
