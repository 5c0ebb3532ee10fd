package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"
)

// historyReport is what the evaluation of a history found.
type historyReport struct {
	tickets   int // with requests about their reservation
	requests  int
	undecided int // tickets whose evaluation took too long
	found     []Violation
}

// evaluatedAtOnce limits the histories that are evaluated concurrently, for each may need much memory.
const evaluatedAtOnce = 2

// evaluate finds what is wrong with the answers to clients. They do not change after the load, so it is done once.
func (h *History) evaluate(jumps []Jump) *historyReport {
	h.mu.Lock()
	requests := slices.Clone(h.requests)
	h.mu.Unlock()
	byTicket := requestsByTicket(requests)
	tickets := slices.Sorted(maps.Keys(byTicket))
	models := make([]*model, len(tickets))
	results := make([]porcupine.CheckResult, len(tickets))
	found := make([][]Violation, len(tickets))
	var evaluations errgroup.Group
	evaluations.SetLimit(evaluatedAtOnce)
	for i, ticket := range tickets {
		evaluations.Go(func() error {
			models[i] = newModel(byTicket[ticket], jumps)
			results[i], found[i] = models[i].check(ticket)
			return nil
		})
	}
	_ = evaluations.Wait() // no evaluation returns an error
	report := &historyReport{}
	for i := range tickets {
		if len(models[i].operations) == 0 {
			continue
		}
		report.tickets++
		report.requests += len(models[i].operations)
		report.found = append(report.found, found[i]...)
		if results[i] == porcupine.Unknown {
			report.undecided++
		}
	}
	for _, ticket := range tickets {
		report.found = append(report.found, olderVersionsShown(ticket, byTicket[ticket])...)
	}
	return report
}

// requestsByTicket groups requests by the ticket that they, or their orders, are about.
func requestsByTicket(requests []Request) map[string][]Request {
	ticketOf := map[string]string{} // by order
	for _, r := range requests {
		if r.Kind == Reserve && r.Granted {
			ticketOf[r.Order] = r.Ticket
		}
	}
	byTicket := map[string][]Request{}
	for _, r := range requests {
		if r.Ticket == "" {
			r.Ticket = ticketOf[r.Order]
		}
		byTicket[r.Ticket] = append(byTicket[r.Ticket], r)
	}
	delete(byTicket, "")
	return byTicket
}

// model is what may happen to the reservation of one ticket, as far as clients can see. It has the requests with a known
// outcome as operations. Everything else (a request without an answer, a window that ends, a payment that is being made)
// may happen at any moment after its time, or never.
type model struct {
	operations []Request            // reservations, cancellations and reads of orders with a known outcome
	mayEnd     map[string]time.Time // by order: from when on it may end, if it is not complete
	mayBePaid  map[string]time.Time
	mayRefund  map[string]time.Time // from when on it may end, also if it is complete
	edits      []time.Time          // of the listing: after a refund, an edit puts it on sale again
	// staysSold is from when on the ticket may stay sold after its order has ended, because its pass was used or it was resold; zero if never.
	staysSold time.Time
	// unanswered is the call of the first reservation whose outcome is unknown; zero if there is none.
	unanswered time.Time
}

func newModel(requests []Request, jumps []Jump) *model {
	m := &model{mayEnd: map[string]time.Time{}, mayBePaid: map[string]time.Time{}, mayRefund: map[string]time.Time{}}
	setEarliest := func(in map[string]time.Time, order string, at time.Time) {
		if first, known := in[order]; !known || at.Before(first) {
			in[order] = at
		}
	}
	var orders []string
	var withdrawn, revoked time.Time
	for _, r := range requests {
		switch r.Kind {
		case Reserve:
			switch {
			case r.Granted:
				orders = append(orders, r.Order)
				setEarliest(m.mayEnd, r.Order, mayExpireAt(r.ExpiresAt, jumps))
				m.operations = append(m.operations, r)
			case r.known():
				m.operations = append(m.operations, r)
			case m.unanswered.IsZero() || r.Call.Before(m.unanswered):
				m.unanswered = r.Call
			}
		case Cancel:
			if !r.refused() {
				setEarliest(m.mayEnd, r.Order, r.Call)
			}
			if r.known() {
				m.operations = append(m.operations, r)
			}
		case ReadOrder:
			if r.known() {
				m.operations = append(m.operations, r)
			}
		case Pay:
			setEarliest(m.mayBePaid, r.Order, r.Call)
		case Refund:
			setEarliest(m.mayRefund, r.Order, r.Call)
		case Edit:
			if !r.refused() {
				m.edits = append(m.edits, r.Call)
			}
		case Withdraw:
			if !r.refused() && (withdrawn.IsZero() || r.Call.Before(withdrawn)) {
				withdrawn = r.Call
			}
		case Revoke:
			if !r.refused() && (revoked.IsZero() || r.Call.Before(revoked)) {
				revoked = r.Call
			}
		case CheckIn, Resell:
			if !r.refused() && (m.staysSold.IsZero() || r.Call.Before(m.staysSold)) {
				m.staysSold = r.Call
			}
		}
	}
	for _, order := range orders {
		if !withdrawn.IsZero() {
			setEarliest(m.mayEnd, order, withdrawn)
		}
		if !revoked.IsZero() { // it ends also if it is complete
			setEarliest(m.mayEnd, order, revoked)
			setEarliest(m.mayRefund, order, revoked)
		}
	}
	return m
}

// mayExpireAt is the first moment at which a clock of the orders service may have shown the end of a reservation window.
func mayExpireAt(expiresAt time.Time, jumps []Jump) time.Time {
	earliest := expiresAt
	for _, j := range jumps {
		if first := expiresAt.Add(-j.Offset); j.of("orders") && j.Offset > 0 && !first.After(j.To) {
			if first.Before(j.From) {
				first = j.From
			}
			if first.Before(earliest) {
				earliest = first
			}
		}
	}
	return earliest
}

// modelState is the reservation of the ticket, as far as operations have shown it.
type modelState struct {
	holder   string // an order; "" if the ticket is free, or was reserved by a request without an answer
	complete bool   // the holder is known to be complete
	ended    string // the orders that held the ticket before, each with a comma
	withheld bool   // the last of them was refunded, and no edit is known to have put the listing on sale again
}

func (s modelState) hasEnded(order string) bool { return strings.Contains(s.ended, order+",") }

func (s modelState) end() modelState {
	if s.holder == "" {
		return s
	}
	return modelState{ended: s.ended + s.holder + ",", withheld: s.complete} // only a refund ends a complete order
}

// last is the order that held the ticket last; "" if there is none.
func (s modelState) last() string {
	orders := strings.Split(strings.TrimSuffix(s.ended, ","), ",")
	return orders[len(orders)-1]
}

// possible reports whether something that may happen from a time on may have happened before the request was answered.
func possible(from map[string]time.Time, order string, r Request) bool {
	first, may := from[order]
	return may && !first.After(r.Return)
}

// free is the state after the holder has ended without an operation, if that is possible.
func (m *model) free(s modelState, r Request) (modelState, bool) {
	switch {
	case s.holder == "", !s.complete && possible(m.mayEnd, s.holder, r):
		return s.end(), true
	case possible(m.mayRefund, s.holder, r): // it was complete, even if no operation showed it
		s.complete = true
		return s.end(), true
	}
	return s, false
}

// onSale is the state of a free ticket that is not withheld, if that is possible.
func (m *model) onSale(s modelState, r Request) (modelState, bool) {
	s.withheld = s.withheld && !slices.ContainsFunc(m.edits, func(at time.Time) bool { return !at.After(r.Return) && m.refundedBefore(s, at) })
	return s, s.holder == "" && !s.withheld
}

// refundedBefore reports whether the last order may have been refunded before a time.
func (m *model) refundedBefore(s modelState, at time.Time) bool {
	return !m.mayRefund[s.last()].After(at)
}

// paid is the state in which order is the holder and complete, if that is possible.
func (m *model) paid(s modelState, order string, r Request) (modelState, bool) {
	if s.holder == "" || s.holder != order || !s.complete && !possible(m.mayBePaid, order, r) {
		return s, false
	}
	s.complete = true
	return s, true
}

// step is the state after an operation, and whether the state before allows the operation's answer.
func (m *model) step(s modelState, r Request) (modelState, bool) {
	switch r.Kind {
	case Reserve:
		return m.reserve(s, r)
	case Cancel:
		switch {
		case r.Granted && s.hasEnded(r.Order):
			return s, true // a second cancellation changes nothing
		case r.Granted:
			return s.end(), s.holder == r.Order && !s.complete
		case r.Code == "order_complete":
			return m.paid(s, r.Order, r)
		}
		return s, !r.orderNotFound()
	case ReadOrder:
		switch {
		case !r.Granted:
			return s, !r.orderNotFound()
		case r.Status == "created":
			return s, s.holder == r.Order && !s.complete
		case r.Status == "complete":
			return m.paid(s, r.Order, r)
		case s.hasEnded(r.Order):
			return s, true
		case s.holder == r.Order:
			return m.free(s, r)
		}
		return s, false
	}
	return s, true
}

// mayBeUnanswered reports whether a reservation without an answer may have been made before the request was answered.
func (m *model) mayBeUnanswered(r Request) bool {
	return !m.unanswered.IsZero() && !m.unanswered.After(r.Return)
}

func (m *model) reserve(s modelState, r Request) (modelState, bool) {
	switch {
	case r.Granted:
		s, free := m.free(s, r)
		s, onSale := m.onSale(s, r)
		return modelState{holder: r.Order, ended: s.ended}, free && onSale && !s.hasEnded(r.Order)
	case r.Code == "ticket_withheld":
		if s.holder != "" {
			s = s.end()
		}
		s.withheld = true
		return s, possible(m.mayRefund, s.last(), r)
	case r.Code == "ticket_reserved":
		return s, s.holder != "" && !s.complete || s.holder == "" && m.mayBeUnanswered(r)
	case r.Code == "own_reservation":
		return s, s.holder == r.Order || s.holder == "" && m.mayBeUnanswered(r)
	case r.Code == "ticket_sold" && !m.staysSold.IsZero() && !m.staysSold.After(r.Return):
		return s, true
	case r.Code == "ticket_sold":
		return m.paid(s, s.holder, r)
	}
	return s, true // for example: there is no such ticket
}

const (
	decisionTime  = 20 * time.Second // for the history of one ticket
	shownRequests = 40
)

// check decides whether the operations can have happened one after the other, each between its call and its answer.
func (m *model) check(ticket string) (porcupine.CheckResult, []Violation) {
	if len(m.operations) == 0 {
		return porcupine.Ok, nil
	}
	base := m.operations[0].Call
	operations := make([]porcupine.Operation, len(m.operations))
	for i, r := range m.operations {
		operations[i] = porcupine.Operation{Input: i, Call: int64(r.Call.Sub(base)), Return: int64(r.Return.Sub(base))}
	}
	result, log := porcupine.CheckOperationsVerbose(porcupine.Model{
		Init: func() any { return modelState{} },
		Step: func(state, input, _ any) (bool, any) {
			after, allowed := m.step(state.(modelState), m.operations[input.(int)])
			return allowed, after
		},
	}, operations, decisionTime)
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
		"the answers to clients cannot have happened in any order: %d of %d requests of this history can", longest, len(m.operations))}
	byCall := slices.SortedStableFunc(slices.Values(m.operations), func(a, b Request) int { return a.Call.Compare(b.Call) })
	from := max(0, min(longest, len(byCall))-shownRequests/2)
	for _, r := range byCall[from:min(len(byCall), from+shownRequests)] {
		v.History = append(v.History, r.String())
	}
	return result, []Violation{v}
}

// olderVersionsShown finds the first read that showed an older version of a ticket than an earlier answer did.
func olderVersionsShown(ticket string, requests []Request) []Violation {
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

// Promise 5. A refused request has no effect: each change that is there has a request that was granted or not answered.
func (c *checker) refusalsHadNoEffect() {
	if c.history == nil {
		return
	}
	c.history.mu.Lock()
	defer c.history.mu.Unlock()
	type pair struct{ ticket, buyer string }
	type offer struct {
		ticket, title string
		price         int64
	}
	reservations := map[pair]int{} // that may have been made
	cancelled, withdrawn := map[string]bool{}, map[string]bool{}
	offered, refused := map[offer]bool{}, map[offer]Request{}
	buyers := map[string]bool{}
	for _, id := range c.history.users {
		buyers[id] = true
	}
	for _, r := range c.history.requests {
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
		case r.Kind == Withdraw, r.Kind == Revoke:
			withdrawn[r.Ticket] = true
		}
		if r.Kind == Edit && r.Granted && r.Version != r.From+1 {
			c.violation(5, "ticket "+r.Ticket, fmt.Sprintf("a change of its version %d made version %d", r.From, r.Version), r.Ticket)
		}
	}
	if len(c.history.requests) == 0 {
		return
	}
	found := map[pair]int{}
	for _, id := range slices.Sorted(maps.Keys(c.orders)) {
		o := c.orders[id]
		if !buyers[o.UserID] {
			continue // a client whose requests were not recorded
		}
		at := pair{o.Ticket.ID, o.UserID}
		if found[at]++; found[at] == reservations[at]+1 {
			c.violation(5, "order "+id, fmt.Sprintf("buyer %s has %d orders or more of ticket %s, and all but %d of the requests for it were refused",
				o.UserID, found[at], o.Ticket.ID, reservations[at]), id)
		}
		switch {
		case o.Reason == "user" && !cancelled[id]:
			c.violation(5, "order "+id, "it is cancelled by its buyer, whose requests to cancel it were all refused", id)
		case o.Reason == "withdrawn" && !withdrawn[o.Ticket.ID]:
			c.violation(5, "order "+id, "it is cancelled because its seller deleted the ticket, and all requests for that were refused", id, o.Ticket.ID)
		}
	}
	for _, e := range c.events {
		if e.Type != "ticket.updated" {
			continue
		}
		t, err := decode[ticketDoc](e)
		o := offer{e.Subject, t.Title, t.Price}
		if r, was := refused[o]; was && err == nil && !offered[o] {
			c.violation(5, "ticket "+e.Subject, fmt.Sprintf("it became %q for %d, which was refused (%s)", t.Title, t.Price, cmp.Or(r.Code, "no reason")), e.Subject)
		}
	}
}
