package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// book collects what the rules find.
type book struct {
	*facts
	opts    Options
	telling map[string][]event // events by the aggregate that they tell of, in the order of the stream
	byID    map[string]event
	found   []Violation
}

// report judges the facts.
func (f *facts) report(opts Options) *Report {
	b := &book{facts: f, opts: opts, telling: map[string][]event{}, byID: map[string]event{}}
	for _, e := range f.events {
		b.telling[e.Subject] = append(b.telling[e.Subject], e)
		b.byID[e.ID] = e
	}
	for _, rule := range []func(){b.oneLiveOrder, b.answeredIsThere, b.everythingIsTold, b.nothingElseIsTold, b.eachIsOnItsTopic, b.everythingIsHeard, b.money, b.timeIsUp, b.expirationsAreTrue, b.noStaleWrite, b.refusalsHadNoEffect, b.replicas} {
		rule()
	}
	r := &Report{
		Tickets: len(f.tickets), Orders: map[string]int{}, Payments: map[string]int{}, Events: f.counts, Violations: b.found,
	}
	for _, o := range f.orders {
		name := o.Status
		if o.Reason != "" {
			name += " (" + o.Reason + ")"
		}
		r.Orders[name]++
		if o.Status == "created" && o.ExpiresAt.Before(f.now.Add(soon)) {
			r.waiting++
		}
	}
	for _, p := range f.payments {
		r.Payments[p.Status]++
	}
	for _, p := range f.purses {
		r.Money.Authorized += p.Authorized
		r.Money.Held += p.Held
		r.Money.Captured += p.Captured
		r.Money.Voided += p.Voided
		r.Money.Refunded += p.Refunded
		r.Money.Kept += p.Kept
	}
	return r
}

// soon is what an unpaid order of a marketplace at rest is waited for: some ten times a short window.
const soon = time.Minute

// historyLength bounds the history that is told of a violation: its last events.
const historyLength = 30

// broken notes that a promise does not hold. The history is that of all the named aggregates.
func (b *book) broken(promise int, aggregate, what string, of ...string) {
	var history []event
	for _, id := range of {
		history = append(history, b.telling[id]...)
	}
	slices.SortFunc(history, func(x, y event) int { return cmp.Compare(x.at, y.at) })
	v := Violation{Promise: promise, Aggregate: aggregate, What: what}
	for _, e := range history[max(0, len(history)-historyLength):] {
		v.History = append(v.History, fmt.Sprintf("%s %s %.240s", e.Time.Format("15:04:05.000"), e.ID, e.Data))
	}
	b.found = append(b.found, v)
}

// ordersOf are the orders of each ticket.
func (b *book) ordersOf() map[string][]orderDoc {
	all := map[string][]orderDoc{}
	for _, id := range slices.Sorted(maps.Keys(b.orders)) {
		o := b.orders[id]
		all[o.Ticket.ID] = append(all[o.Ticket.ID], o)
	}
	return all
}

// Promise 1. A ticket has one live order at most: now, by the documents, and at any time, by what was told.
func (b *book) oneLiveOrder() {
	for ticket, orders := range b.ordersOf() {
		var live []string
		var all []string
		for _, o := range orders {
			all = append(all, o.ID)
			if o.live() {
				live = append(live, o.ID)
			}
		}
		seat, known := b.seats[ticket]
		holder := ""
		if seat.Reservation != nil {
			holder = seat.Reservation.OrderID
		}
		switch {
		case len(live) > 1:
			b.broken(1, "ticket "+ticket, fmt.Sprintf("%d live orders at once: %v", len(live), live), all...)
		case !known:
			b.broken(1, "ticket "+ticket, "it has orders, and the orders service does not know it", all...)
		case len(live) == 1 && holder != live[0]:
			b.broken(1, "ticket "+ticket, fmt.Sprintf("order %s is live, and the ticket is reserved for %q", live[0], holder), all...)
		case len(live) == 0 && holder != "":
			b.broken(1, "ticket "+ticket, fmt.Sprintf("it is reserved for order %s, which is not live", holder), all...)
		case len(live) == 1 && seat.Reservation.Status != b.orders[live[0]].Status:
			b.broken(1, "ticket "+ticket, fmt.Sprintf("its reservation is %s, and order %s is %s", seat.Reservation.Status, live[0], b.orders[live[0]].Status), all...)
		}
	}
	for ticket, steps := range b.reservations() {
		holder := ""
		var last step
		for i, s := range steps {
			switch {
			case i > 0 && s.sequence == last.sequence:
				b.broken(1, "ticket "+ticket, fmt.Sprintf("%s and %s are both its change number %d", last.event, s.event, s.sequence), last.order, s.order)
			case i > 0 && s.sequence > last.sequence+1: // what happened between was not told, which is another promise
			case s.change == "order.created" && holder != "":
				b.broken(1, "ticket "+ticket, fmt.Sprintf("order %s began while order %s was live", s.order, holder), s.order, holder)
			case s.change != "order.created" && holder != s.order && i > 0:
				b.broken(1, "ticket "+ticket, fmt.Sprintf("%s, but order %q had the ticket", s.event, holder), s.order)
			}
			holder, last = s.holder(), s
		}
	}
}

// step is one change of a ticket's reservation, as it was told.
type step struct {
	sequence             int
	order, change, event string
}

// holder is who has the ticket after the step.
func (s step) holder() string {
	if s.change == "order.cancelled" {
		return ""
	}
	return s.order
}

// reservations are the changes of reservation of each ticket, in the order in which they were made. Who tells a
// thing twice tells it once.
func (b *book) reservations() map[string][]step {
	all := map[string][]step{}
	for _, id := range slices.Sorted(maps.Keys(b.byID)) {
		e := b.byID[id]
		if e.Type != "order.created" && e.Type != "order.cancelled" && e.Type != "order.completed" {
			continue
		}
		o, err := decode[orderDoc](e)
		if err != nil || o.Ticket.ID == "" {
			continue // nothingElseIsTold says so
		}
		all[o.Ticket.ID] = append(all[o.Ticket.ID], step{o.Sequence, o.ID, e.Type, e.ID})
	}
	for _, steps := range all {
		slices.SortStableFunc(steps, func(x, y step) int { return cmp.Compare(x.sequence, y.sequence) })
	}
	return all
}

// Promise 2. What was answered is there.
func (b *book) answeredIsThere() {
	if b.told == nil {
		return
	}
	b.told.mu.Lock()
	defer b.told.mu.Unlock()
	for _, id := range b.told.users {
		if b.whole && !b.isTold("user.created", id, 1) {
			b.broken(2, "user "+id, "somebody was told to be signed up, and nobody else was", id)
		}
	}
	for id, given := range b.told.orders {
		switch o, there := b.orders[id]; {
		case !there:
			b.broken(2, "order "+id, fmt.Sprintf("buyer %s was given ticket %s by it, and it is not there", given.Buyer, given.Ticket), id, given.Ticket)
		case given.Ticket != "" && (o.UserID != given.Buyer || o.Ticket.ID != given.Ticket):
			b.broken(2, "order "+id, "it is another's, or for another ticket, than its buyer was told", id)
		case given.Cancelled && o.Status != "cancelled":
			b.broken(2, "order "+id, "its buyer was told that it is cancelled, and it is "+o.Status, id)
		}
	}
	for id, versions := range b.told.listings {
		if _, there := b.tickets[id]; !there {
			b.broken(2, "ticket "+id, "its seller was told that it is listed, and it is not there", id)
			continue
		}
		for _, l := range versions {
			if b.whole && !b.isTold(listingEvent(l.Version), id, l.Version) {
				b.broken(2, "ticket "+id, fmt.Sprintf("its seller was told its version %d, which was not published", l.Version), id)
			}
		}
	}
	for id := range b.told.deleted {
		// A sale that came first stands against a deletion.
		if t := b.tickets[id]; !t.Deleted && t.Status != "sold" {
			b.broken(2, "ticket "+id, "its seller was told that it is deleted, and it is "+t.Status, id)
		}
	}
	for id, order := range b.told.payments {
		switch p, there := b.payments[id]; {
		case !there:
			b.broken(2, "payment "+id, "its buyer was told of it, and it is not there", order)
		case p.OrderID != order:
			b.broken(2, "payment "+id, "it is for another order than its buyer was told", order, p.OrderID)
		}
	}
}

// listingEvent is the type of the event of a version that a seller has made, but for the deletion.
func listingEvent(version int) string {
	if version == 1 {
		return "ticket.created"
	}
	return "ticket.updated"
}

// orderChanges are the types of events of an order's versions after the first; paymentTold is that of a payment's status.
var (
	orderChanges = []string{"order.cancelled", "order.completed"}
	paymentTold  = map[string]string{
		"authorized": "payment.created", "captured": "payment.captured", "voided": "payment.voided",
		"refunded": "payment.refunded", "failed": "payment.failed",
	}
)

// Promise 2. Every change was told: each version of an order, the seller's first and last of a ticket, and the last of
// a payment. (What a seller was told of those between is in answeredIsThere.)
func (b *book) everythingIsTold() {
	if !b.whole {
		return // the stream has forgotten its beginning
	}
	version := func(what, id string, version int, kinds ...string) {
		if !slices.ContainsFunc(kinds, func(kind string) bool { return b.isTold(kind, id, version) }) {
			b.broken(2, what+" "+id, fmt.Sprintf("its version %d was not told to anybody", version), id)
		}
	}
	for id, o := range b.orders {
		version("order", id, 1, "order.created")
		for v := 2; v <= o.Version; v++ {
			version("order", id, v, orderChanges...)
		}
	}
	for id, t := range b.tickets {
		version("ticket", id, 1, "ticket.created")
		switch last := t.published(); {
		case last == 1: // that is the same
		case t.Listed == 0:
			version("ticket", id, last, "ticket.updated", "ticket.deleted")
		case t.withdrawn():
			version("ticket", id, last, "ticket.deleted")
		default:
			version("ticket", id, last, "ticket.updated")
		}
	}
	for id, p := range b.payments {
		kind, tells := paymentTold[p.Status]
		// A part that was given back before the capture was seen is told with it.
		if tells && !b.isTold(kind, id, p.Version) && !(p.Status == "captured" && p.Refunded > 0 && b.isTold("payment.refunded", id, p.Version)) {
			b.broken(2, "payment "+id, fmt.Sprintf("that it is %s was not told to anybody", p.Status), id, p.OrderID)
		}
	}
}

func (b *book) isTold(kind, id string, version int) bool {
	_, told := b.byID[fmt.Sprintf("%s:%s:%d", kind, id, version)]
	return told
}

// Promise 2. Nothing was told that did not happen: of each event's aggregate there is a document, at least as new.
func (b *book) nothingElseIsTold() {
	for id, e := range b.byID {
		version, there := 0, false
		switch e.Type {
		case "order.created", "order.cancelled", "order.completed":
			var o orderDoc
			o, there = b.orders[e.Subject]
			version = o.Version
		case "ticket.created", "ticket.updated", "ticket.deleted":
			var t ticketDoc
			t, there = b.tickets[e.Subject]
			version = t.published()
		case "payment.created", "payment.captured", "payment.voided", "payment.refunded", "payment.failed":
			var p paymentDoc
			p, there = b.payments[e.Subject]
			version = p.Version
		default:
			continue
		}
		switch {
		case !there:
			b.broken(2, e.Subject, id+" was told, and there is no such thing", e.Subject)
		case e.version() > version:
			b.broken(2, e.Subject, fmt.Sprintf("%s was told, and its last version is %d", id, version), e.Subject)
		}
	}
}

// topics of the aggregates that events tell of, by what their types begin with. Only the aggregate's owner may publish
// there.
var topics = map[string]string{
	"user": "events.users", "ticket": "events.tickets", "order": "events.orders", "payment": "events.payments",
	"expiration": "events.expirations",
}

// oldTopic held all events in the release before.
const oldTopic = "events"

// Promise 2. Each event is on the topic of its type's owner, where those who want it hear it.
func (b *book) eachIsOnItsTopic() {
	for _, e := range b.events {
		aggregate, _, _ := strings.Cut(e.Type, ".")
		if e.Type != "" && e.topic != topics[aggregate] && e.topic != oldTopic {
			b.broken(2, e.Subject, fmt.Sprintf("%s is on the topic %q", e.ID, e.topic), e.Subject)
		}
	}
}

// Promise 2. Whatever was told has been heard by all who want to hear it.
func (b *book) everythingIsHeard() {
	if b.counts.Pending > 0 {
		b.broken(2, "events", fmt.Sprintf("%d deliveries are still to be made or handled", b.counts.Pending))
	}
	if b.counts.Dead > 0 {
		b.broken(2, "events", fmt.Sprintf("%d are among the dead letters", b.counts.Dead))
	}
	if b.webhooks > 0 {
		b.broken(2, "webhooks", fmt.Sprintf("%d are still to be taken", b.webhooks))
	}
}

// Promise 3. Money is kept for complete orders and no others, once, and not before they are complete.
func (b *book) money() {
	kept, charges, refunded := map[string]int64{}, map[string]int{}, map[string]int64{}
	for _, p := range b.purses {
		order := p.Metadata["orderId"]
		o, known := b.orders[order]
		kept[order] += p.Kept
		charges[order] += p.Charges
		refunded[order] += p.Refunded
		if p.Held > 0 {
			b.broken(3, "order "+order, fmt.Sprintf("%d are held for it by %s, and it is %s", p.Held, p.ID, o.Status), order)
		}
		if p.Kept > 0 && !known {
			b.broken(3, "order "+order, fmt.Sprintf("%d were taken for it by %s, and there is no such order", p.Kept, p.ID))
		}
		if p.Captured > 0 && p.CapturedAt != nil {
			completed := b.completedAt(order)
			jumped := slices.ContainsFunc(b.opts.Jumps, func(j Jump) bool { return j.of("orders") && j.showed(completed) })
			switch {
			case completed.IsZero() && b.whole:
				b.broken(3, "order "+order, fmt.Sprintf("%d were taken for it by %s, and it was never complete", p.Captured, p.ID), order)
			case p.CapturedAt.Before(completed) && !jumped:
				b.broken(3, "order "+order, fmt.Sprintf("the money was taken %s before it was complete", completed.Sub(*p.CapturedAt)), order)
			}
		}
	}
	asked := b.refundsAsked()
	for id, o := range b.orders {
		due := int64(0)
		if o.Status == "complete" {
			due = o.Ticket.Price - refunded[id] // in part, by whoever runs the marketplace
		}
		if kept[id] != due {
			b.broken(3, "order "+id, fmt.Sprintf("%d were taken for it and kept; it is %s, its price is %d, and %d were given back", kept[id], o.Status, o.Ticket.Price, refunded[id]), id)
		}
		if refunded[id] > 0 && o.Status == "complete" && b.told != nil && !asked[id] {
			b.broken(3, "order "+id, fmt.Sprintf("%d were given back, which nobody asked for, and it is complete", refunded[id]), id)
		}
		if charges[id] > 1 {
			b.broken(3, "order "+id, fmt.Sprintf("its buyer's card was charged %d times", charges[id]), id)
		}
		p, begun := b.payments[b.accounts[id].paymentID()]
		if begun && p.Refunded > 0 && p.Refunded != refunded[id] && o.Status == "complete" {
			b.broken(6, "payment "+p.ID, fmt.Sprintf("it says that %d were given back, and %d were", p.Refunded, refunded[id]), p.ID, id)
		}
		want := map[string]string{"complete": "captured", "cancelled": "voided"}[o.Status]
		if begun && want != "" && p.Status != want && !(want == "voided" && p.Status == "refunded") {
			b.broken(3, "payment "+p.ID, fmt.Sprintf("it is %s, and its order %s is %s", p.Status, id, o.Status), p.ID, id)
		}
	}
}

// refundsAsked are the orders of which clients have asked for refunds.
func (b *book) refundsAsked() map[string]bool {
	asked := map[string]bool{}
	if b.told != nil {
		b.told.mu.Lock()
		defer b.told.mu.Unlock()
		for _, r := range b.told.requests {
			if r.Kind == Refund {
				asked[r.Order] = true
			}
		}
	}
	return asked
}

// completedAt is when the order was complete, by what was told; zero if it never was.
func (b *book) completedAt(order string) time.Time {
	for _, e := range b.telling[order] {
		if e.Type == "order.completed" {
			if o, err := decode[orderDoc](e); err == nil {
				return o.UpdatedAt
			}
		}
	}
	return time.Time{}
}

// Promise 4. No unpaid order outlives its time.
func (b *book) timeIsUp() {
	for id, o := range b.orders {
		if late := b.now.Sub(o.ExpiresAt); o.Status == "created" && late > b.opts.Late {
			b.broken(4, "order "+id, fmt.Sprintf("its time was over %s ago, and it still holds ticket %s", late.Round(time.Second), o.Ticket.ID), id)
		}
	}
}

// Promise 4. No order ends, or is said to be over, before its time; and whoever says so says it of orders that there are.
func (b *book) expirationsAreTrue() {
	for id, o := range b.orders {
		jumped := slices.ContainsFunc(b.opts.Jumps, func(j Jump) bool { return j.of("orders") })
		if o.Reason == "expired" && o.UpdatedAt.Before(o.ExpiresAt) && !jumped { // in mid-jump, it may be over by the first of two looks
			b.broken(4, "order "+id, fmt.Sprintf("it expired %s before its time was over", o.ExpiresAt.Sub(o.UpdatedAt)), id)
		}
	}
	for id, e := range b.byID {
		if e.Type != "expiration.complete" {
			continue
		}
		expired, err := decode[expirationDoc](e)
		if err != nil || len(expired.orders()) == 0 {
			b.broken(4, e.Subject, id+" names no order", e.Subject)
		}
		for _, named := range expired.orders() {
			o, there := b.orders[named.ID]
			switch {
			case !there:
				b.broken(4, "order "+named.ID, id+" says that its time is over, and there is no such order", e.Subject)
			case !named.ExpiresAt.Equal(o.ExpiresAt):
				b.broken(4, "order "+named.ID, fmt.Sprintf("%s says that its time is over at %s, and that is at %s", id, named.ExpiresAt, o.ExpiresAt), named.ID, e.Subject)
			case !expired.EndsAt.IsZero() && expired.EndsAt.Before(o.ExpiresAt):
				b.broken(4, "order "+named.ID, fmt.Sprintf("%s says %s too early that its time is over", id, o.ExpiresAt.Sub(expired.EndsAt)), named.ID, e.Subject)
			}
		}
	}
}

// Promise 5. No two sellers' changes were made of the same version, and what a seller was told is what was done.
func (b *book) noStaleWrite() {
	if b.told == nil {
		return
	}
	b.told.mu.Lock()
	defer b.told.mu.Unlock()
	for id, versions := range b.told.listings {
		made := map[int]Listing{}
		for _, l := range versions {
			if other, twice := made[l.Version]; twice && other != l {
				b.broken(5, "ticket "+id, fmt.Sprintf("two changes were both granted as version %d: %v and %v", l.Version, other, l), id)
			}
			made[l.Version] = l
			e, told := b.byID[fmt.Sprintf("%s:%s:%d", listingEvent(l.Version), id, l.Version)]
			if !told {
				continue // that is another promise
			}
			if t, err := decode[ticketDoc](e); err != nil || t.Title != l.Title || t.Price != l.Price {
				b.broken(5, "ticket "+id, fmt.Sprintf("its seller was told that version %d is %v, others were told %q for %d", l.Version, l, t.Title, t.Price), id)
			}
		}
	}
}

// Promise 6. What services know of each other's documents is what these are.
func (b *book) replicas() {
	for id, t := range b.tickets {
		seat, heard := b.seats[id]
		if !heard {
			b.broken(6, "ticket "+id, "the orders service does not know it", id)
			continue
		}
		if seat.Title != t.Title || seat.Price != t.Price || seat.Version != t.published() || seat.Deleted != t.withdrawn() {
			b.broken(6, "ticket "+id, fmt.Sprintf("its seller's version is %d (%q for %d, deleted %t), and the orders service has version %d (%q for %d, deleted %t)",
				t.published(), t.Title, t.Price, t.withdrawn(), seat.Version, seat.Title, seat.Price, seat.Deleted), id)
		}
		status, order := "available", ""
		if seat.Withheld > 0 {
			status = "withheld"
		}
		if r := seat.Reservation; r != nil {
			order = r.OrderID
			status = map[string]string{"created": "reserved", "complete": "sold"}[r.Status]
		}
		if t.Status != status || t.OrderID != order || t.Sequence != seat.Sequence {
			b.broken(6, "ticket "+id, fmt.Sprintf("it is shown as %s for order %q (change %d), and is %s for order %q (change %d)",
				t.Status, t.OrderID, t.Sequence, status, order, seat.Sequence), id, t.OrderID, order)
		}
		if s, listed := b.shown[id]; listed == t.Deleted {
			b.broken(6, "ticket "+id, fmt.Sprintf("deleted is %t, and that the list shows it is %t", t.Deleted, listed), id)
		} else if listed && (s.Status != t.Status || s.OrderID != t.OrderID || s.Version != t.Version) {
			b.broken(6, "ticket "+id, "the list shows another state of it than there is", id)
		}
	}
	for id, o := range b.orders {
		account, heard := b.accounts[id]
		if !heard {
			b.broken(6, "order "+id, "the payments service does not know it", id)
			continue
		}
		if account.Status != o.Status || account.Version != o.Version || account.Amount != o.Ticket.Price {
			b.broken(6, "order "+id, fmt.Sprintf("it is %s (version %d, %d to pay), and the payments service has %s (version %d, %d)",
				o.Status, o.Version, o.Ticket.Price, account.Status, account.Version, account.Amount), id)
		}
	}
	b.paymentsOfOrders()
}

// Promise 6. An order that was completed names the payment that did it. (The release before kept a record of it instead.)
func (b *book) paymentsOfOrders() {
	for id, o := range b.orders {
		payment := b.accounts[id].paymentID()
		_, recorded := b.records[id]
		switch {
		case o.PaymentID != "" && o.PaymentID != payment:
			b.broken(6, "order "+id, fmt.Sprintf("payment %s completed it, and the payments service has payment %q of it", o.PaymentID, payment), id, o.PaymentID, payment)
		case o.PaymentID == "" && o.Status == "complete" && !recorded:
			b.broken(6, "order "+id, "it is complete, and names no payment", id)
		}
	}
}
