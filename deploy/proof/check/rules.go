package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// checker applies the rules to facts and collects violations. Each rule is a method whose comment names its promise.
type checker struct {
	*facts
	opts     Options
	eventsOf map[string][]event // by aggregate, in the order in which they were published
	byID     map[string]event
	found    []Violation
}

func newChecker(f *facts, opts Options) *checker {
	c := &checker{facts: f, opts: opts, eventsOf: map[string][]event{}, byID: map[string]event{}}
	for _, e := range f.events {
		c.eventsOf[e.Subject] = append(c.eventsOf[e.Subject], e)
		c.byID[e.ID] = e
	}
	return c
}

func (c *checker) rules() []func() {
	return []func(){
		c.oneLiveOrder, c.acknowledgedExists, c.changesArePublished, c.onlyChangesArePublished, c.eventsAreOnTheirTopics, c.eventsAreHandled,
		c.money, c.reservationsExpire, c.expirationsAreTrue, c.noStaleWrite, c.refusalsHadNoEffect, c.projections, c.paymentsOfOrders, c.sellersOfOrders, c.endpointsGetTheirEvents,
		c.onePlace, c.acknowledgedShowsExist, c.showsArePublished, c.ticketsFollowShows, c.showsEndWithAccounts, c.salesEnd, c.pricesAreCapped, c.catalogueIsTrue,
		c.onePass, c.resalesMovePasses, c.checkInsAreTrue,
	}
}

// report applies all rules to the facts.
func (f *facts) report(opts Options) *Report {
	c := newChecker(f, opts)
	for _, apply := range c.rules() {
		apply()
	}
	r := &Report{
		Tickets: len(f.tickets), Shows: len(f.shows), Catalogues: len(f.catalogues), Orders: map[string]int{}, Payments: map[string]int{}, Events: f.counts, Violations: c.found,
	}
	for _, o := range f.orders {
		name := o.Status
		if o.Reason != "" {
			name += " (" + o.Reason + ")"
		}
		r.Orders[name]++
		if o.Status == "created" && o.ExpiresAt.Before(f.now.Add(longestWait)) {
			r.unpaid++
		}
	}
	for _, p := range f.payments {
		r.Payments[p.Status]++
	}
	for _, i := range f.intents {
		r.Money.Authorized += i.Authorized
		r.Money.Held += i.Held
		r.Money.Captured += i.Captured
		r.Money.Voided += i.Voided
		r.Money.Refunded += i.Refunded
		r.Money.Kept += i.Kept
	}
	return r
}

// longestWait is how far in the future the end of a window may be for a check at rest to wait for it.
const longestWait = time.Minute

// historyLength limits the events that are shown with a violation.
const historyLength = 30

// violation records that a promise does not hold. Its history is the last events of the named aggregates.
func (c *checker) violation(promise int, aggregate, what string, of ...string) {
	var history []event
	for _, id := range of {
		history = append(history, c.eventsOf[id]...)
	}
	slices.SortFunc(history, func(x, y event) int { return cmp.Compare(x.at, y.at) })
	v := Violation{Promise: promise, Aggregate: aggregate, What: what}
	for _, e := range history[max(0, len(history)-historyLength):] {
		v.History = append(v.History, fmt.Sprintf("%s %s %.240s", e.Time.Format("15:04:05.000"), e.ID, e.Data))
	}
	c.found = append(c.found, v)
}

// ordersByTicket are the orders of each ticket.
func (c *checker) ordersByTicket() map[string][]orderDoc {
	all := map[string][]orderDoc{}
	for _, id := range slices.Sorted(maps.Keys(c.orders)) {
		o := c.orders[id]
		all[o.Ticket.ID] = append(all[o.Ticket.ID], o)
	}
	return all
}

// Promise 1. A ticket has at most one live order: now, by the documents, and at any time, by the events.
func (c *checker) oneLiveOrder() {
	for ticket, orders := range c.ordersByTicket() {
		var live []string
		var all []string
		for _, o := range orders {
			all = append(all, o.ID)
			if o.live() {
				live = append(live, o.ID)
			}
		}
		seat, known := c.seats[ticket]
		holder := ""
		if seat.Reservation != nil && !c.orders[seat.Reservation.OrderID].keepsTicket() {
			holder = seat.Reservation.OrderID
		}
		switch {
		case len(live) > 1:
			c.violation(1, "ticket "+ticket, fmt.Sprintf("%d live orders at once: %v", len(live), live), all...)
		case !known:
			c.violation(1, "ticket "+ticket, "it has orders, and the orders service has no document of it", all...)
		case len(live) == 1 && holder != live[0]:
			c.violation(1, "ticket "+ticket, fmt.Sprintf("order %s is live, and the ticket is reserved for %q", live[0], holder), all...)
		case len(live) == 0 && holder != "":
			c.violation(1, "ticket "+ticket, fmt.Sprintf("it is reserved for order %s, which is not live", holder), all...)
		case len(live) == 1 && seat.Reservation.Status != c.orders[live[0]].Status:
			c.violation(1, "ticket "+ticket, fmt.Sprintf("its reservation is %s, and order %s is %s", seat.Reservation.Status, live[0], c.orders[live[0]].Status), all...)
		}
	}
	for ticket, changes := range c.reservations() {
		holder := ""
		var last reservationChange
		for i, change := range changes {
			switch {
			case i > 0 && change.sequence == last.sequence:
				c.violation(1, "ticket "+ticket, fmt.Sprintf("%s and %s are both its change number %d", last.event, change.event, change.sequence), last.order, change.order)
			case i > 0 && change.sequence > last.sequence+1: // an event between them is missing, which is another promise
			case change.kind == "order.created" && holder != "":
				c.violation(1, "ticket "+ticket, fmt.Sprintf("order %s began while order %s was live", change.order, holder), change.order, holder)
			case change.kind != "order.created" && holder != change.order && i > 0:
				c.violation(1, "ticket "+ticket, fmt.Sprintf("%s, but order %q held the ticket", change.event, holder), change.order)
			}
			holder, last = change.holder(), change
		}
	}
}

// reservationChange is one change of a ticket's reservation, as it was published.
type reservationChange struct {
	sequence           int
	order, kind, event string
}

// holder is the order that holds the ticket after the change.
func (c reservationChange) holder() string {
	if c.kind == "order.cancelled" {
		return ""
	}
	return c.order
}

// reservations are the changes of each ticket's reservation, in the order in which they were made. A repeated event is one
// change.
func (c *checker) reservations() map[string][]reservationChange {
	all := map[string][]reservationChange{}
	for _, id := range slices.Sorted(maps.Keys(c.byID)) {
		e := c.byID[id]
		if e.Type != "order.created" && !slices.Contains(orderChanges, e.Type) {
			continue
		}
		o, err := decode[orderDoc](e)
		if err != nil || o.Ticket.ID == "" {
			continue // onlyChangesArePublished finds it
		}
		all[o.Ticket.ID] = append(all[o.Ticket.ID], reservationChange{o.Sequence, o.ID, e.Type, e.ID})
	}
	for _, changes := range all {
		slices.SortStableFunc(changes, func(x, y reservationChange) int { return cmp.Compare(x.sequence, y.sequence) })
	}
	return all
}

// Promise 2. What was acknowledged to a client exists.
func (c *checker) acknowledgedExists() {
	if c.history == nil {
		return
	}
	c.history.mu.Lock()
	defer c.history.mu.Unlock()
	for _, id := range c.history.users {
		if c.allEvents && !c.isPublished("user.created", id, 1) {
			c.violation(2, "user "+id, "the sign-up was acknowledged, and not published", id)
		}
	}
	for id, acknowledged := range c.history.orders {
		switch o, exists := c.orders[id]; {
		case !exists:
			c.violation(2, "order "+id, fmt.Sprintf("it was acknowledged to buyer %s for ticket %s, and does not exist", acknowledged.Buyer, acknowledged.Ticket), id, acknowledged.Ticket)
		case acknowledged.Ticket != "" && (o.UserID != acknowledged.Buyer || o.Ticket.ID != acknowledged.Ticket):
			c.violation(2, "order "+id, "it has another buyer or another ticket than was acknowledged", id)
		case acknowledged.Cancelled && o.Status != "cancelled":
			c.violation(2, "order "+id, "its cancellation was acknowledged, and it is "+o.Status, id)
		}
	}
	for id, versions := range c.history.listings {
		if _, exists := c.tickets[id]; !exists {
			c.violation(2, "ticket "+id, "it was acknowledged to its seller, and does not exist", id)
			continue
		}
		for _, l := range versions {
			if c.allEvents && !c.isPublished(listingEvent(l.Version), id, l.Version) {
				c.violation(2, "ticket "+id, fmt.Sprintf("its version %d was acknowledged to its seller, and not published", l.Version), id)
			}
		}
	}
	for id := range c.history.deleted {
		// A ticket that was sold first is not deleted.
		if t := c.tickets[id]; !t.Deleted && t.Status != "sold" {
			c.violation(2, "ticket "+id, "its deletion was acknowledged, and it is "+t.Status, id)
		}
	}
	for id, order := range c.history.payments {
		switch p, exists := c.payments[id]; {
		case !exists:
			c.violation(2, "payment "+id, "it was acknowledged to the buyer, and does not exist", order)
		case p.OrderID != order:
			c.violation(2, "payment "+id, "it is for another order than was acknowledged", order, p.OrderID)
		}
	}
}

// listingEvent is the type of the event that publishes a version of a listing, except for its deletion.
func listingEvent(version int) string {
	if version == 1 {
		return "ticket.created"
	}
	return "ticket.updated"
}

var (
	// orderChanges are the types of the events of an order's versions after the first.
	orderChanges = []string{"order.cancelled", "order.completed", "order.updated"}
	// paymentEvents are the types of the events by the payment's status.
	paymentEvents = map[string]string{
		"authorized": "payment.created", "captured": "payment.captured", "voided": "payment.voided",
		"refunded": "payment.refunded", "failed": "payment.failed",
	}
)

// Promise 2. Every change is published: each version of an order, the seller's first and last version of a ticket, and the last
// version of a payment. (acknowledgedExists has the seller's versions between.)
func (c *checker) changesArePublished() {
	if !c.allEvents {
		return // the broker has dropped the oldest events
	}
	version := func(what, id string, version int, kinds ...string) {
		if !slices.ContainsFunc(kinds, func(kind string) bool { return c.isPublished(kind, id, version) }) {
			c.violation(2, what+" "+id, fmt.Sprintf("its version %d was not published", version), id)
		}
	}
	for id, o := range c.orders {
		version("order", id, 1, "order.created")
		for v := 2; v <= o.Version; v++ {
			version("order", id, v, orderChanges...)
		}
	}
	for id, t := range c.tickets {
		version("ticket", id, 1, "ticket.created")
		switch last := t.published(); {
		case last == 1: // the first version is the last
		case t.Listed == 0:
			version("ticket", id, last, "ticket.updated", "ticket.deleted")
		case t.withdrawn():
			version("ticket", id, last, "ticket.deleted")
		default:
			version("ticket", id, last, "ticket.updated")
		}
	}
	for id, p := range c.payments {
		kind, expected := paymentEvents[p.Status]
		// A partial refund that was found together with the capture is published with it.
		if expected && !c.isPublished(kind, id, p.Version) && !(p.Status == "captured" && p.Refunded > 0 && c.isPublished("payment.refunded", id, p.Version)) {
			c.violation(2, "payment "+id, fmt.Sprintf("it is %s, which was not published", p.Status), id, p.OrderID)
		}
	}
}

func (c *checker) isPublished(kind, id string, version int) bool {
	_, published := c.byID[fmt.Sprintf("%s:%s:%d", kind, id, version)]
	return published
}

// Promise 2. Only committed changes are published: each event's aggregate has a document that is at least as new.
func (c *checker) onlyChangesArePublished() {
	for id, e := range c.byID {
		version, exists := 0, false
		switch e.Type {
		case "order.created", "order.cancelled", "order.completed", "order.updated":
			var o orderDoc
			o, exists = c.orders[e.Subject]
			version = o.Version
		case "ticket.created", "ticket.updated", "ticket.deleted":
			var t ticketDoc
			t, exists = c.tickets[e.Subject]
			version = t.published()
		case "payment.created", "payment.captured", "payment.voided", "payment.refunded", "payment.failed":
			var p paymentDoc
			p, exists = c.payments[e.Subject]
			version = p.Version
		default:
			continue
		}
		switch {
		case !exists:
			c.violation(2, e.Subject, id+" was published, and the aggregate does not exist", e.Subject)
		case e.version() > version:
			c.violation(2, e.Subject, fmt.Sprintf("%s was published, and the last version is %d", id, version), e.Subject)
		}
	}
}

// topics are the topics of events by the first part of their types. Only the aggregate's owner may publish there.
var topics = map[string]string{
	"user": "events.users", "ticket": "events.tickets", "order": "events.orders", "payment": "events.payments",
	"expiration": "events.expirations", "show": "events.shows",
}

// oldTopic had all events in the previous release.
const oldTopic = "events"

// Promise 2. Each event is on the topic of its type's owner, to which services subscribe.
func (c *checker) eventsAreOnTheirTopics() {
	for _, e := range c.events {
		aggregate, _, _ := strings.Cut(e.Type, ".")
		if e.Type != "" && e.topic != topics[aggregate] && e.topic != oldTopic {
			c.violation(2, e.Subject, fmt.Sprintf("%s is on the topic %q", e.ID, e.topic), e.Subject)
		}
	}
}

// Promise 2. All events are delivered and handled. A dead letter that was sent again is a delivery like any other.
func (c *checker) eventsAreHandled() {
	if c.counts.Pending > 0 {
		c.violation(2, "events", fmt.Sprintf("%d deliveries are not made or not handled", c.counts.Pending))
	}
	for _, letter := range c.unresent {
		c.violation(2, "event "+letter.Event, fmt.Sprintf("%s could not handle it, and it was not sent again (make dead-letters lists such dead letters)", letter.Service))
	}
	if c.webhooks > 0 {
		c.violation(2, "webhooks", fmt.Sprintf("%d are not delivered", c.webhooks))
	}
}

// Promise 3. Money is kept for complete orders and no others, once, and not before they are complete.
func (c *checker) money() {
	kept, charges, refunded := map[string]int64{}, map[string]int{}, map[string]int64{}
	for _, intent := range c.intents {
		order := intent.Metadata["orderId"]
		o, exists := c.orders[order]
		kept[order] += intent.Kept
		charges[order] += intent.Charges
		refunded[order] += intent.Refunded
		if intent.Held > 0 {
			c.violation(3, "order "+order, fmt.Sprintf("%d are held for it by %s, and it is %s", intent.Held, intent.ID, o.Status), order)
		}
		if intent.Kept > 0 && !exists {
			c.violation(3, "order "+order, fmt.Sprintf("%d were taken for it by %s, and the order does not exist", intent.Kept, intent.ID))
		}
		if intent.Captured > 0 && intent.CapturedAt != nil {
			completed := c.completedAt(order)
			jumped := slices.ContainsFunc(c.opts.Jumps, func(j Jump) bool { return j.of("orders") && j.showed(completed) })
			switch {
			case completed.IsZero() && c.allEvents:
				c.violation(3, "order "+order, fmt.Sprintf("%d were taken for it by %s, and it was never complete", intent.Captured, intent.ID), order)
			case intent.CapturedAt.Before(completed) && !jumped:
				c.violation(3, "order "+order, fmt.Sprintf("the money was taken %s before it was complete", completed.Sub(*intent.CapturedAt)), order)
			}
		}
	}
	requested := c.refundsRequested()
	for id, o := range c.orders {
		due := int64(0)
		if o.Status == "complete" {
			due = o.Ticket.Price - refunded[id] // a part may be refunded by an operator
		}
		if kept[id] != due {
			c.violation(3, "order "+id, fmt.Sprintf("%d were taken for it and kept; it is %s, its price is %d, and %d were refunded", kept[id], o.Status, o.Ticket.Price, refunded[id]), id)
		}
		if refunded[id] > 0 && o.Status == "complete" && c.history != nil && !requested[id] {
			c.violation(3, "order "+id, fmt.Sprintf("%d were refunded without a request, and it is complete", refunded[id]), id)
		}
		if charges[id] > 1 {
			c.violation(3, "order "+id, fmt.Sprintf("its buyer's card was charged %d times", charges[id]), id)
		}
		p, exists := c.payments[c.accounts[id].paymentID()]
		if exists && p.Refunded > 0 && p.Refunded != refunded[id] && o.Status == "complete" {
			c.violation(6, "payment "+p.ID, fmt.Sprintf("its document has %d as refunded, and the ledger has %d", p.Refunded, refunded[id]), p.ID, id)
		}
		want := map[string]string{"complete": "captured", "cancelled": "voided"}[o.Status]
		if exists && want != "" && p.Status != want && !(want == "voided" && p.Status == "refunded") {
			c.violation(3, "payment "+p.ID, fmt.Sprintf("it is %s, and its order %s is %s", p.Status, id, o.Status), p.ID, id)
		}
	}
}

// refundsRequested are the orders for which clients requested refunds.
func (c *checker) refundsRequested() map[string]bool {
	requested := map[string]bool{}
	if c.history != nil {
		c.history.mu.Lock()
		defer c.history.mu.Unlock()
		for _, r := range c.history.requests {
			if r.Kind == Refund {
				requested[r.Order] = true
			}
		}
	}
	return requested
}

// completedAt is the time of the order's completion, as published; zero if it was never complete.
func (c *checker) completedAt(order string) time.Time {
	for _, e := range c.eventsOf[order] {
		if e.Type == "order.completed" {
			if o, err := decode[orderDoc](e); err == nil {
				return o.UpdatedAt
			}
		}
	}
	return time.Time{}
}

// Promise 4. An unpaid order is cancelled at the end of its window.
func (c *checker) reservationsExpire() {
	for id, o := range c.orders {
		if late := c.now.Sub(o.ExpiresAt); o.Status == "created" && late > c.opts.Late {
			c.violation(4, "order "+id, fmt.Sprintf("its window ended %s ago, and it still holds ticket %s", late.Round(time.Second), o.Ticket.ID), id)
		}
	}
}

// Promise 4. No order expires before the end of its window, and expiration events name existing orders with their windows.
func (c *checker) expirationsAreTrue() {
	for id, o := range c.orders {
		// During a jump the first of two readings of the clock may be after the end of the window, and the second before it.
		jumped := slices.ContainsFunc(c.opts.Jumps, func(j Jump) bool { return j.of("orders") })
		if o.Reason == "expired" && o.UpdatedAt.Before(o.ExpiresAt) && !jumped {
			c.violation(4, "order "+id, fmt.Sprintf("it expired %s before the end of its window", o.ExpiresAt.Sub(o.UpdatedAt)), id)
		}
	}
	for id, e := range c.byID {
		if e.Type != "expiration.complete" {
			continue
		}
		expired, err := decode[expirationDoc](e)
		if err != nil || len(expired.orders()) == 0 {
			c.violation(4, e.Subject, id+" names no order", e.Subject)
		}
		for _, named := range expired.orders() {
			o, exists := c.orders[named.ID]
			switch {
			case !exists:
				c.violation(4, "order "+named.ID, id+" names it as expired, and the order does not exist", e.Subject)
			case !named.ExpiresAt.Equal(o.ExpiresAt):
				c.violation(4, "order "+named.ID, fmt.Sprintf("%s has %s as the end of its window, and that is %s", id, named.ExpiresAt, o.ExpiresAt), named.ID, e.Subject)
			case !expired.EndsAt.IsZero() && expired.EndsAt.Before(o.ExpiresAt):
				c.violation(4, "order "+named.ID, fmt.Sprintf("%s names it as expired %s too early", id, o.ExpiresAt.Sub(expired.EndsAt)), named.ID, e.Subject)
			}
		}
	}
}

// Promise 5. No two changes replaced the same version, and a change is published as it was acknowledged to its seller.
func (c *checker) noStaleWrite() {
	if c.history == nil {
		return
	}
	c.history.mu.Lock()
	defer c.history.mu.Unlock()
	for id, versions := range c.history.listings {
		made := map[int]Listing{}
		for _, l := range versions {
			if other, twice := made[l.Version]; twice && other != l {
				c.violation(5, "ticket "+id, fmt.Sprintf("two changes were both granted as version %d: %v and %v", l.Version, other, l), id)
			}
			made[l.Version] = l
			e, published := c.byID[fmt.Sprintf("%s:%s:%d", listingEvent(l.Version), id, l.Version)]
			if !published {
				continue // that is another promise
			}
			if t, err := decode[ticketDoc](e); err != nil || t.Title != l.Title || t.Price != l.Price {
				c.violation(5, "ticket "+id, fmt.Sprintf("version %d was acknowledged as %v, and published as %q for %d", l.Version, l, t.Title, t.Price), id)
			}
		}
	}
}

// Promise 6. Projections of tickets and orders, and the public list, agree with the aggregates.
func (c *checker) projections() {
	for id, t := range c.tickets {
		seat, exists := c.seats[id]
		if !exists {
			c.violation(6, "ticket "+id, "the orders service has no projection of it", id)
			continue
		}
		if seat.Title != t.Title || seat.Price != t.Price || seat.Version != t.published() || seat.Deleted != t.withdrawn() {
			c.violation(6, "ticket "+id, fmt.Sprintf("its seller's version is %d (%q for %d, deleted %t), and the orders service has version %d (%q for %d, deleted %t)",
				t.published(), t.Title, t.Price, t.withdrawn(), seat.Version, seat.Title, seat.Price, seat.Deleted), id)
		}
		status, order := "available", ""
		if seat.Withheld > 0 {
			status = "withheld"
		}
		if r := seat.Reservation; r != nil {
			order = r.OrderID
			status = map[string]string{"created": "reserved", "complete": "sold", "cancelled": "sold"}[r.Status] // cancelled: keepsTicket
		}
		if t.Status != status || t.OrderID != order || t.Sequence != seat.Sequence {
			c.violation(6, "ticket "+id, fmt.Sprintf("it is shown as %s for order %q (change %d), and is %s for order %q (change %d)",
				t.Status, t.OrderID, t.Sequence, status, order, seat.Sequence), id, t.OrderID, order)
		}
		if l, listed := c.listed[id]; listed == t.Deleted {
			c.violation(6, "ticket "+id, fmt.Sprintf("its deleted is %t, and its presence in the list is %t", t.Deleted, listed), id)
		} else if listed && (l.Status != t.Status || l.OrderID != t.OrderID || l.Version != t.Version) {
			c.violation(6, "ticket "+id, "the list shows another state of it than its document has", id)
		}
	}
	for id, o := range c.orders {
		account, exists := c.accounts[id]
		if !exists {
			c.violation(6, "order "+id, "the payments service has no projection of it", id)
			continue
		}
		if account.Status != o.Status || account.Version != o.Version || account.Amount != o.Ticket.Price {
			c.violation(6, "order "+id, fmt.Sprintf("it is %s (version %d, %d to pay), and the payments service has %s (version %d, %d)",
				o.Status, o.Version, o.Ticket.Price, account.Status, account.Version, account.Amount), id)
		}
	}
}

// Promise 6. The events of an order name the seller of its ticket, if they name one.
func (c *checker) sellersOfOrders() {
	for id, e := range c.byID {
		if !strings.HasPrefix(e.Type, "order.") {
			continue
		}
		o, err := decode[orderDoc](e)
		if t, exists := c.tickets[o.Ticket.ID]; err == nil && exists && o.SellerID != "" && o.SellerID != t.UserID {
			c.violation(6, "order "+e.Subject, fmt.Sprintf("%s names the seller %s, and %s listed its ticket", id, o.SellerID, t.UserID), e.Subject, o.Ticket.ID)
		}
	}
}

// Promise 6. A complete order names the payment that completed it. (In the previous release orders had a projection of the
// payment instead.)
func (c *checker) paymentsOfOrders() {
	for id, o := range c.orders {
		payment := c.accounts[id].paymentID()
		_, projected := c.paymentProjections[id]
		switch {
		case o.PaymentID != "" && o.PaymentID != payment:
			c.violation(6, "order "+id, fmt.Sprintf("payment %s completed it, and the payments service has payment %q for it", o.PaymentID, payment), id, o.PaymentID, payment)
		case o.PaymentID == "" && o.Status == "complete" && !projected:
			c.violation(6, "order "+id, "it is complete, and names no payment", id)
		}
	}
}
