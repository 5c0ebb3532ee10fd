package check

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

var (
	noon  = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	later = noon.Add(time.Second)
)

// published is an event as the broker has it.
func published(kind, id string, version int, data any) event {
	body, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	aggregate, _, _ := strings.Cut(kind, ".")
	return event{ID: fmt.Sprintf("%s:%s:%d", kind, id, version), Type: kind, Subject: id, Data: body, topic: "events." + aggregate + "s"}
}

func order(id, status string, sequence, version int) orderDoc {
	o := orderDoc{ID: id, UserID: "buyer", SellerID: "seller", Status: status, Sequence: sequence, Version: version, ExpiresAt: noon.Add(time.Minute), UpdatedAt: noon}
	o.Ticket.ID, o.Ticket.Price = "seat", 500
	return o
}

// expired is the data of an expiration event.
func expired(endsAt time.Time, orders ...string) expirationDoc {
	e := expirationDoc{EndsAt: endsAt}
	for _, id := range orders {
		e.Orders = append(e.Orders, expiredOrder{id, noon.Add(time.Minute)})
	}
	return e
}

// sold are the facts of a marketplace without violations: a first order was cancelled, the seller reduced the price, and a
// second order bought the ticket.
func sold() *facts {
	seat := seatDoc{ID: "seat", Title: "Front row", Price: 500, Version: 4, Sequence: 4}
	seat.Reservation = &struct {
		OrderID string `json:"orderId"`
		Status  string `json:"status"`
	}{"second", "complete"}
	ticket := ticketDoc{ID: "seat", UserID: "seller", Title: "Front row", Price: 500, Status: "sold", OrderID: "second", Sequence: 4, Version: 6, Listed: 4}
	paid := paymentDoc{ID: "payment", OrderID: "second", Status: "captured", Amount: 500, Version: 4}
	bought := order("second", "complete", 4, 2)
	bought.PaymentID = "payment"
	f := &facts{
		now:                noon.Add(time.Hour),
		tickets:            map[string]ticketDoc{"seat": ticket},
		seats:              map[string]seatDoc{"seat": seat},
		orders:             map[string]orderDoc{"first": order("first", "cancelled", 2, 2), "second": bought},
		accounts:           map[string]accountDoc{"first": {"first", "cancelled", 500, 2, nil, ""}, "second": {"second", "complete", 500, 2, &paid, ""}},
		payments:           map[string]paymentDoc{"payment": paid},
		paymentProjections: map[string]paymentDoc{},
		listed:             map[string]client.Ticket{"seat": {ID: "seat", Status: "sold", OrderID: "second", Version: 6}},
		intents:            []intent{{ID: "pi", Metadata: map[string]string{"orderId": "second"}, Charges: 1, Authorized: 500, Captured: 500, Kept: 500, CapturedAt: &later}},
		allEvents:          true,
		history:            NewHistory(),
		events: []event{
			published("user.created", "buyer", 1, nil),
			published("ticket.created", "seat", 1, ticketDoc{Title: "Front row", Price: 700}),
			published("order.created", "first", 1, order("first", "created", 1, 1)),
			published("order.cancelled", "first", 2, order("first", "cancelled", 2, 2)),
			published("ticket.updated", "seat", 4, ticketDoc{Title: "Front row", Price: 500}),
			published("order.created", "second", 1, order("second", "created", 3, 1)),
			published("payment.created", "payment", 3, paymentDoc{}),
			published("order.completed", "second", 2, order("second", "complete", 4, 2)),
			published("payment.captured", "payment", 4, paid),
			published("expiration.complete", "1777636861.0", 1, expired(noon.Add(61*time.Second), "first", "second")),
			published("expiration.complete", "first", 2, map[string]any{"orderId": "first", "expiresAt": noon.Add(time.Minute), "firing": 2}),
		},
	}
	for i := range f.events {
		f.events[i].at = uint64(i + 1)
	}
	f.history.SignedUp("buyer")
	f.history.Listed("seat", Listing{1, "Front row", 700})
	f.history.Listed("seat", Listing{4, "Front row", 500})
	f.history.Ordered("first", "seat", "buyer")
	f.history.Cancelled("first")
	f.history.Ordered("second", "seat", "buyer")
	f.history.Paid("payment", "second")
	return f
}

// refunded are the facts after all of the money was refunded: no order holds the ticket, and it is withheld.
func refunded() *facts {
	f := sold()
	put(f.orders, "second", func(o *orderDoc) { o.Status, o.Reason, o.Version, o.Sequence = "cancelled", "refunded", 3, 5 })
	put(f.seats, "seat", func(s *seatDoc) { s.Reservation, s.Sequence, s.Withheld = nil, 5, 5 })
	put(f.tickets, "seat", func(t *ticketDoc) { t.Status, t.OrderID, t.Sequence, t.Version = "withheld", "", 5, 7 })
	f.listed["seat"] = client.Ticket{ID: "seat", Status: "withheld", Version: 7}
	paid := f.payments["payment"]
	paid.Status, paid.Version = "refunded", 5
	f.payments["payment"] = paid
	put(f.accounts, "second", func(a *accountDoc) { a.Status, a.Version, a.Payment = "cancelled", 3, &paid })
	f.intents[0].Refunded, f.intents[0].Kept = 500, 0
	f.events = append(f.events, published("payment.refunded", "payment", 5, paid), published("order.cancelled", "second", 3, order("second", "cancelled", 5, 3)))
	for i := range f.events {
		f.events[i].at = uint64(i + 1)
	}
	return f
}

func TestRules_AcceptARefundedSaleWhoseTicketIsWithheld(t *testing.T) {
	f := refunded()
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
	put(f.tickets, "seat", func(t *ticketDoc) { t.Status = "available" })
	require.NotEmpty(t, f.report(Options{Late: time.Minute}).Violations, "it is on sale without an edit")
}

// soldBefore are the facts that the previous release left: it published each version of a ticket, used one topic for all
// events, and had a projection of the payment in orders and a document of its own for it in payments.
func soldBefore() *facts {
	f := sold()
	put(f.tickets, "seat", func(d *ticketDoc) { d.Listed = 0 })
	put(f.seats, "seat", func(s *seatDoc) { s.Version = 6 })
	put(f.orders, "second", func(o *orderDoc) { o.PaymentID = "" })
	put(f.accounts, "second", func(a *accountDoc) { a.Payment, a.PaymentID = nil, "payment" })
	f.paymentProjections["second"] = f.payments["payment"]
	for _, version := range []int{2, 3, 5, 6} {
		f.events = append(f.events, published("ticket.updated", "seat", version, nil))
	}
	for i := range f.events {
		f.events[i].topic = "events"
	}
	return f
}

// without removes an event.
func without(f *facts, id string) {
	f.events = slices.DeleteFunc(f.events, func(e event) bool { return e.ID == id })
}

// put changes one of the documents in a map.
func put[T any](in map[string]T, id string, change func(*T)) {
	doc := in[id]
	change(&doc)
	in[id] = doc
}

func TestRules_FindNothingWhereNothingIsWrong(t *testing.T) {
	require.Empty(t, sold().report(Options{Late: time.Minute}).Violations)
	require.Empty(t, soldBefore().report(Options{Late: time.Minute}).Violations)
}

// A ticket that was sold before its deletion took effect is restored, without an event.
func TestRules_AcceptAListingThatASaleRestored(t *testing.T) {
	f := sold()
	without(f, "ticket.updated:seat:4")
	f.history = NewHistory()
	f.history.Deleted("seat")
	f.events = append(f.events, published("ticket.deleted", "seat", 4, nil))
	put(f.tickets, "seat", func(d *ticketDoc) { d.Withdrawn = true })
	put(f.seats, "seat", func(s *seatDoc) { s.Deleted = true })
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)

	put(f.seats, "seat", func(s *seatDoc) { s.Deleted = false })
	require.Contains(t, f.report(Options{Late: time.Minute}).Violations[0].What, "deleted true), and the orders service has version 4 (\"Front row\" for 500, deleted false)")

	f = soldBefore() // which published the restored listing
	put(f.tickets, "seat", func(d *ticketDoc) { d.Withdrawn = true })
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
}

func TestRules_AcceptAPartialRefund(t *testing.T) {
	f := sold()
	f.intents[0].Refunded, f.intents[0].Kept = 100, 400
	f.history.Add(Request{Kind: Refund, Order: "second"})
	put(f.payments, "payment", func(p *paymentDoc) { p.Refunded = 100 })
	for i := range f.history.orders { // requests for all orders
		o := f.history.orders[i]
		f.history.Add(reserve(1, 2, o.ID))
		f.history.Add(of(Cancel, 3, 4, o.ID))
	}
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations, "it is published with the capture")
	put(f.payments, "payment", func(p *paymentDoc) { p.Version = 5 })
	f.events = append(f.events, published("payment.refunded", "payment", 5, nil))
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
}

func TestRules_FindViolations(t *testing.T) {
	tests := []struct {
		promise int
		finds   string
		spoil   func(*facts)
	}{
		{1, "2 live orders at once", func(f *facts) {
			put(f.orders, "first", func(o *orderDoc) { o.Status = "complete" })
		}},
		{1, `the ticket is reserved for ""`, func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Reservation = nil }) }},
		{1, "which is not live", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.Status = "cancelled" }) }},
		{1, "both its change number 3", func(f *facts) {
			f.orders["third"] = order("third", "cancelled", 3, 1)
			f.events = append(f.events, published("order.created", "third", 1, order("third", "created", 3, 1)))
		}},
		{1, "began while order second was live", func(f *facts) {
			f.events = append(f.events, published("order.created", "third", 1, order("third", "created", 5, 1)))
		}},
		{2, "it was acknowledged to buyer buyer for ticket seat, and does not exist", func(f *facts) { f.history.Ordered("lost", "seat", "buyer") }},
		{2, "its cancellation was acknowledged, and it is complete", func(f *facts) { f.history.Cancelled("second") }},
		{2, "another buyer", func(f *facts) { f.history.Ordered("second", "seat", "other") }},
		{2, "it was acknowledged to its seller, and does not exist", func(f *facts) { f.history.Listed("lost", Listing{1, "Gone", 500}) }},
		{2, "the sign-up was acknowledged, and not published", func(f *facts) { f.history.SignedUp("lost") }},
		{2, "it was acknowledged to the buyer, and does not exist", func(f *facts) { f.history.Paid("lost", "second") }},
		{2, "its version 2 was not published", func(f *facts) { without(f, "order.completed:second:2") }},
		{2, "its version 1 was not published", func(f *facts) { without(f, "ticket.created:seat:1") }},
		{2, "its version 4 was not published", func(f *facts) { without(f, "ticket.updated:seat:4") }},
		{2, "its version 4 was acknowledged to its seller, and not published", func(f *facts) {
			without(f, "ticket.updated:seat:4")
			put(f.tickets, "seat", func(d *ticketDoc) { d.Listed = 5 })
			f.events = append(f.events, published("ticket.updated", "seat", 5, nil))
		}},
		{2, "its version 4 was not published", func(f *facts) { // the deletion, of which there is another event
			put(f.tickets, "seat", func(d *ticketDoc) { d.Withdrawn = true })
		}},
		{2, "ticket.updated:seat:6 was published, and the last version is 4", func(f *facts) {
			f.events = append(f.events, published("ticket.updated", "seat", 6, nil))
		}},
		{2, "it is captured, which was not published", func(f *facts) { without(f, "payment.captured:payment:4") }},
		{2, "it is captured, which was not published", func(f *facts) {
			f.intents[0].Refunded, f.intents[0].Kept = 100, 400
			put(f.payments, "payment", func(p *paymentDoc) { p.Refunded, p.Version = 100, 5 })
			f.history.Add(Request{Kind: Refund, Order: "second"})
		}},
		{2, "the aggregate does not exist", func(f *facts) {
			f.events = append(f.events, published("order.created", "ghost", 1, order("ghost", "created", 9, 1)))
		}},
		{2, "the last version is 2", func(f *facts) {
			f.events = append(f.events, published("order.cancelled", "second", 3, order("second", "cancelled", 5, 3)))
		}},
		{2, `order.created:first:1 is on the topic "events.tickets"`, func(f *facts) { f.events[2].topic = "events.tickets" }},
		{2, `ticket.created:seat:1 is on the topic "events.orders"`, func(f *facts) {
			again := f.events[1]
			again.topic = "events.orders"
			f.events = append([]event{again}, f.events...)
		}},
		{2, `none.such:1 is on the topic "events.orders"`, func(f *facts) {
			f.events = append(f.events, event{ID: "none.such:1", Type: "none.such", Subject: "1", topic: "events.orders"})
		}},
		{2, "tickets could not handle it, and it was not sent again", func(f *facts) { f.unresent = []deadLetter{{"tickets", "order.created:first:1"}} }},
		{2, "1 deliveries are not made or not handled", func(f *facts) { f.counts.Pending = 1 }},
		{3, "1000 were taken", func(f *facts) { f.intents[0].Kept, f.intents[0].Captured = 1000, 1000 }},
		{3, "and 100 were refunded", func(f *facts) { f.intents[0].Refunded = 100 }},
		{3, "were refunded without a request", func(f *facts) { f.intents[0].Refunded, f.intents[0].Kept = 100, 400 }},
		{6, "its document has 50 as refunded, and the ledger has 100", func(f *facts) {
			f.intents[0].Refunded, f.intents[0].Kept = 100, 400
			put(f.payments, "payment", func(p *paymentDoc) { p.Refunded = 50 })
		}},
		{6, "it is shown as sold for order \"second\" (change 4), and is withheld", func(f *facts) {
			put(f.seats, "seat", func(s *seatDoc) { s.Reservation, s.Withheld = nil, 4 })
		}},
		{3, "0 were taken", func(f *facts) { f.intents = nil }},
		{3, "are held for it", func(f *facts) { f.intents[0].Held = 500 }},
		{3, "charged 2 times", func(f *facts) { f.intents[0].Charges = 2 }},
		{3, "1m0s before it was complete", func(f *facts) { f.intents[0].CapturedAt = new(noon.Add(-time.Minute)) }},
		{3, "never complete", func(f *facts) { f.intents[0].Metadata["orderId"] = "first" }},
		{3, "it is authorized, and its order second is complete", func(f *facts) {
			put(f.payments, "payment", func(p *paymentDoc) { p.Status = "authorized" })
		}},
		{4, "its window ended 59m0s ago", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.Status = "created" }) }},
		{4, "1s before the end of its window", func(f *facts) {
			put(f.orders, "first", func(o *orderDoc) { o.Reason, o.UpdatedAt = "expired", o.ExpiresAt.Add(-time.Second) })
		}},
		{4, "the order does not exist", func(f *facts) {
			f.events = append(f.events, published("expiration.complete", "slot", 1, expired(noon.Add(time.Hour), "ghost")))
		}},
		{4, "names no order", func(f *facts) {
			f.events = append(f.events, published("expiration.complete", "slot", 1, expired(noon.Add(time.Hour))))
		}},
		{4, "too early", func(f *facts) {
			f.events = append(f.events, published("expiration.complete", "slot", 1, expired(noon, "first")))
		}},
		{4, "as the end of its window, and that is", func(f *facts) { put(f.orders, "first", func(o *orderDoc) { o.ExpiresAt = noon }) }},
		{5, "both granted as version 1", func(f *facts) { f.history.Listed("seat", Listing{1, "Last row", 100}) }},
		{5, "and published as \"Last row\"", func(f *facts) {
			f.events[1] = published("ticket.created", "seat", 1, ticketDoc{Title: "Last row", Price: 500})
		}},
		{6, "the orders service has version 1", func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Version = 1 }) }},
		{6, "the orders service has version 6", func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Version = 6 }) }},
		{6, `("Last row"`, func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Title = "Last row" }) }},
		{6, "for 700, deleted false)", func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Price = 700 }) }},
		{6, "deleted true)", func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Deleted = true }) }},
		{6, "the orders service has no projection of it", func(f *facts) { delete(f.seats, "seat") }},
		{6, "it is shown as reserved", func(f *facts) { put(f.tickets, "seat", func(d *ticketDoc) { d.Status = "reserved" }) }},
		{6, "another state", func(f *facts) { f.listed["seat"] = client.Ticket{ID: "seat", Status: "available", Version: 6} }},
		{6, "its presence in the list is false", func(f *facts) { delete(f.listed, "seat") }},
		{6, "the payments service has created", func(f *facts) { put(f.accounts, "second", func(a *accountDoc) { a.Status = "created" }) }},
		{6, "the payments service has no projection of it", func(f *facts) { delete(f.accounts, "first") }},
		{6, `payment other completed it, and the payments service has payment "payment" for it`, func(f *facts) {
			put(f.orders, "second", func(o *orderDoc) { o.PaymentID = "other" })
		}},
		{6, `payment payment completed it, and the payments service has payment "" for it`, func(f *facts) {
			put(f.orders, "first", func(o *orderDoc) { o.PaymentID = "payment" })
		}},
		{6, "order.completed:second:2 names the seller other, and seller listed its ticket", func(f *facts) {
			o := order("second", "complete", 4, 2)
			o.SellerID = "other"
			f.events[7] = published("order.completed", "second", 2, o)
		}},
		{6, "and names no payment", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.PaymentID = "" }) }},
	}
	for _, c := range tests {
		t.Run(c.finds, func(t *testing.T) {
			f := sold()
			c.spoil(f)
			found := f.report(Options{Late: time.Minute}).Violations
			require.True(t, slices.ContainsFunc(found, func(v Violation) bool {
				return v.Promise == c.promise && strings.Contains(v.What, c.finds)
			}), "found %v", found)
		})
	}
}

func TestRules_ReadAPaymentWithADocumentOfItsOwn(t *testing.T) {
	f := sold()
	put(f.accounts, "second", func(a *accountDoc) { a.Payment, a.PaymentID = nil, "payment" })
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
	put(f.payments, "payment", func(p *paymentDoc) { p.Status = "authorized" })
	require.Contains(t, f.report(Options{Late: time.Minute}).Violations[0].What+f.report(Options{Late: time.Minute}).Violations[1].What, "it is authorized, and its order second is complete")
}

func TestReport_KeepsWhatEveryRoundFinds(t *testing.T) {
	seen := map[string]bool{}
	round := func(first bool, what ...string) []Violation {
		r := &Report{}
		for _, w := range what {
			r.Violations = append(r.Violations, Violation{What: w})
		}
		r.keepPersistent(seen, first)
		return r.Violations
	}
	require.Len(t, round(true, "always", "at first"), 2)
	require.Equal(t, []Violation{{What: "always"}}, round(false, "always", "in between"))
	require.Equal(t, []Violation{{What: "always"}}, round(false, "always", "at first", "in between"))
}

func TestRules_AcceptDeadLettersThatWereSentAgain(t *testing.T) {
	f := sold()
	f.counts.Dead, f.counts.Resent = 1, 1
	report := f.report(Options{Late: time.Minute})
	require.Empty(t, report.Violations)
	require.Contains(t, report.String(), "1 dead (1 sent again)")
}
