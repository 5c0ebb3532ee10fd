package check

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	noon  = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	later = noon.Add(time.Second)
)

// told is an event as the stream holds it.
func told(kind, id string, version int, carries any) event {
	body, err := json.Marshal(carries)
	if err != nil {
		panic(err)
	}
	aggregate, _, _ := strings.Cut(kind, ".")
	return event{ID: fmt.Sprintf("%s:%s:%d", kind, id, version), Type: kind, Subject: id, Data: body, topic: "events." + aggregate + "s"}
}

func order(id, status string, sequence, version int) orderDoc {
	o := orderDoc{ID: id, UserID: "buyer", Status: status, Sequence: sequence, Version: version, ExpiresAt: noon.Add(time.Minute), UpdatedAt: noon}
	o.Ticket.ID, o.Ticket.Price = "seat", 500
	return o
}

// expired is what says that the time of orders is over.
func expired(endsAt time.Time, orders ...string) expirationDoc {
	e := expirationDoc{EndsAt: endsAt}
	for _, id := range orders {
		e.Orders = append(e.Orders, expiredOrder{id, noon.Add(time.Minute)})
	}
	return e
}

// sold is a market in which everything is right: a first order was cancelled, the seller made the ticket cheaper, a second
// order bought it.
func sold() *facts {
	seat := seatDoc{ID: "seat", Title: "Front row", Price: 500, Version: 4, Sequence: 4}
	seat.Reservation = &struct {
		OrderID string `json:"orderId"`
		Status  string `json:"status"`
	}{"second", "complete"}
	ticket := ticketDoc{ID: "seat", Title: "Front row", Price: 500, Status: "sold", OrderID: "second", Sequence: 4, Version: 6, Listed: 4}
	paid := paymentDoc{ID: "payment", OrderID: "second", Status: "captured", Amount: 500, Version: 4}
	bought := order("second", "complete", 4, 2)
	bought.PaymentID = "payment"
	f := &facts{
		now:      noon.Add(time.Hour),
		tickets:  map[string]ticketDoc{"seat": ticket},
		seats:    map[string]seatDoc{"seat": seat},
		orders:   map[string]orderDoc{"first": order("first", "cancelled", 2, 2), "second": bought},
		accounts: map[string]accountDoc{"first": {"first", "cancelled", 500, 2, nil, ""}, "second": {"second", "complete", 500, 2, &paid, ""}},
		payments: map[string]paymentDoc{"payment": paid},
		records:  map[string]paymentDoc{},
		shown:    map[string]shown{"seat": {"seat", "sold", "second", 6}},
		purses:   []purse{{ID: "pi", Metadata: map[string]string{"orderId": "second"}, Charges: 1, Authorized: 500, Captured: 500, Kept: 500, CapturedAt: &later}},
		whole:    true,
		told:     NewTold(),
		events: []event{
			told("user.created", "buyer", 1, nil),
			told("ticket.created", "seat", 1, ticketDoc{Title: "Front row", Price: 700}),
			told("order.created", "first", 1, order("first", "created", 1, 1)),
			told("order.cancelled", "first", 2, order("first", "cancelled", 2, 2)),
			told("ticket.updated", "seat", 4, ticketDoc{Title: "Front row", Price: 500}),
			told("order.created", "second", 1, order("second", "created", 3, 1)),
			told("payment.created", "payment", 3, paymentDoc{}),
			told("order.completed", "second", 2, order("second", "complete", 4, 2)),
			told("payment.captured", "payment", 4, paid),
			told("expiration.complete", "1777636861.0", 1, expired(noon.Add(61*time.Second), "first", "second")),
			told("expiration.complete", "first", 2, map[string]any{"orderId": "first", "expiresAt": noon.Add(time.Minute), "firing": 2}),
		},
	}
	for i := range f.events {
		f.events[i].at = uint64(i + 1)
	}
	f.told.User("buyer")
	f.told.Listed("seat", Listing{1, "Front row", 700})
	f.told.Listed("seat", Listing{4, "Front row", 500})
	f.told.Order("first", "seat", "buyer")
	f.told.Cancelled("first")
	f.told.Order("second", "seat", "buyer")
	f.told.Paid("payment", "second")
	return f
}

// refunded is the same market after all of the money was given back: nobody has the ticket, and it is not for sale.
func refunded() *facts {
	f := sold()
	put(f.orders, "second", func(o *orderDoc) { o.Status, o.Reason, o.Version, o.Sequence = "cancelled", "refunded", 3, 5 })
	put(f.seats, "seat", func(s *seatDoc) { s.Reservation, s.Sequence, s.Withheld = nil, 5, 5 })
	put(f.tickets, "seat", func(t *ticketDoc) { t.Status, t.OrderID, t.Sequence, t.Version = "withheld", "", 5, 7 })
	f.shown["seat"] = shown{"seat", "withheld", "", 7}
	paid := f.payments["payment"]
	paid.Status, paid.Version = "refunded", 5
	f.payments["payment"] = paid
	put(f.accounts, "second", func(a *accountDoc) { a.Status, a.Version, a.Payment = "cancelled", 3, &paid })
	f.purses[0].Refunded, f.purses[0].Kept = 500, 0
	f.events = append(f.events, told("payment.refunded", "payment", 5, paid), told("order.cancelled", "second", 3, order("second", "cancelled", 5, 3)))
	for i := range f.events {
		f.events[i].at = uint64(i + 1)
	}
	return f
}

func TestReport_ARefundedSaleIsRightAndItsTicketIsWithheld(t *testing.T) {
	f := refunded()
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
	put(f.tickets, "seat", func(t *ticketDoc) { t.Status = "available" })
	require.NotEmpty(t, f.report(Options{Late: time.Minute}).Violations, "it is on sale again by itself")
}

// soldBefore is the same market as the release before left it: it published each version of a ticket, all on one topic,
// kept a record of the payment with the order, and the payment in a document of its own.
func soldBefore() *facts {
	f := sold()
	put(f.tickets, "seat", func(d *ticketDoc) { d.Listed = 0 })
	put(f.seats, "seat", func(s *seatDoc) { s.Version = 6 })
	put(f.orders, "second", func(o *orderDoc) { o.PaymentID = "" })
	put(f.accounts, "second", func(a *accountDoc) { a.Payment, a.PaymentID = nil, "payment" })
	f.records["second"] = f.payments["payment"]
	for _, version := range []int{2, 3, 5, 6} {
		f.events = append(f.events, told("ticket.updated", "seat", version, nil))
	}
	for i := range f.events {
		f.events[i].topic = "events"
	}
	return f
}

// without takes an event out of the stream.
func without(f *facts, id string) {
	f.events = slices.DeleteFunc(f.events, func(e event) bool { return e.ID == id })
}

// put changes one of the documents in a map.
func put[T any](in map[string]T, id string, change func(*T)) {
	doc := in[id]
	change(&doc)
	in[id] = doc
}

func TestRules_FindNothingWhereAllIsRight(t *testing.T) {
	require.Empty(t, sold().report(Options{Late: time.Minute}).Violations)
	require.Empty(t, soldBefore().report(Options{Late: time.Minute}).Violations)
}

// A sale stands against a deletion. The listing is there again, and nothing is published of that.
func TestRules_ASaleBringsAListingBack(t *testing.T) {
	f := sold()
	without(f, "ticket.updated:seat:4")
	f.told = NewTold()
	f.told.Deleted("seat")
	f.events = append(f.events, told("ticket.deleted", "seat", 4, nil))
	put(f.tickets, "seat", func(d *ticketDoc) { d.Withdrawn = true })
	put(f.seats, "seat", func(s *seatDoc) { s.Deleted = true })
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)

	put(f.seats, "seat", func(s *seatDoc) { s.Deleted = false })
	require.Contains(t, f.report(Options{Late: time.Minute}).Violations[0].What, "deleted true), and the orders service has version 4 (\"Front row\" for 500, deleted false)")

	f = soldBefore() // which published that it is there again
	put(f.tickets, "seat", func(d *ticketDoc) { d.Withdrawn = true })
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
}

func TestRules_APartMayBeGivenBack(t *testing.T) {
	f := sold()
	f.purses[0].Refunded, f.purses[0].Kept = 100, 400
	f.told.Request(Request{Kind: Refund, Order: "second"})
	put(f.payments, "payment", func(p *paymentDoc) { p.Refunded = 100 })
	for i := range f.told.orders { // as whoever was answered so
		o := f.told.orders[i]
		f.told.Request(reserve(1, 2, o.ID))
		f.told.Request(of(Cancel, 3, 4, o.ID))
	}
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations, "it was seen with the capture")
	put(f.payments, "payment", func(p *paymentDoc) { p.Version = 5 })
	f.events = append(f.events, told("payment.refunded", "payment", 5, nil))
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
}

func TestRules_FindWhatIsWrong(t *testing.T) {
	tests := []struct {
		promise int
		says    string
		wrong   func(*facts)
	}{
		{1, "2 live orders at once", func(f *facts) {
			put(f.orders, "first", func(o *orderDoc) { o.Status = "complete" })
		}},
		{1, `the ticket is reserved for ""`, func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Reservation = nil }) }},
		{1, "which is not live", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.Status = "cancelled" }) }},
		{1, "both its change number 3", func(f *facts) {
			f.orders["third"] = order("third", "cancelled", 3, 1)
			f.events = append(f.events, told("order.created", "third", 1, order("third", "created", 3, 1)))
		}},
		{1, "began while order second was live", func(f *facts) {
			f.events = append(f.events, told("order.created", "third", 1, order("third", "created", 5, 1)))
		}},
		{2, "and it is not there", func(f *facts) { f.told.Order("lost", "seat", "buyer") }},
		{2, "told that it is cancelled, and it is complete", func(f *facts) { f.told.Cancelled("second") }},
		{2, "another's", func(f *facts) { f.told.Order("second", "seat", "somebody else") }},
		{2, "told that it is listed", func(f *facts) { f.told.Listed("lost", Listing{1, "Gone", 500}) }},
		{2, "told to be signed up", func(f *facts) { f.told.User("lost") }},
		{2, "told of it, and it is not there", func(f *facts) { f.told.Paid("lost", "second") }},
		{2, "its version 2 was not told", func(f *facts) { without(f, "order.completed:second:2") }},
		{2, "its version 1 was not told", func(f *facts) { without(f, "ticket.created:seat:1") }},
		{2, "its version 4 was not told", func(f *facts) { without(f, "ticket.updated:seat:4") }},
		{2, "told its version 4, which was not published", func(f *facts) {
			without(f, "ticket.updated:seat:4")
			put(f.tickets, "seat", func(d *ticketDoc) { d.Listed = 5 })
			f.events = append(f.events, told("ticket.updated", "seat", 5, nil))
		}},
		{2, "its version 4 was not told", func(f *facts) { // the deletion, of which there is another event
			put(f.tickets, "seat", func(d *ticketDoc) { d.Withdrawn = true })
		}},
		{2, "ticket.updated:seat:6 was told, and its last version is 4", func(f *facts) {
			f.events = append(f.events, told("ticket.updated", "seat", 6, nil))
		}},
		{2, "that it is captured was not told", func(f *facts) { without(f, "payment.captured:payment:4") }},
		{2, "that it is captured was not told", func(f *facts) {
			f.purses[0].Refunded, f.purses[0].Kept = 100, 400
			put(f.payments, "payment", func(p *paymentDoc) { p.Refunded, p.Version = 100, 5 })
			f.told.Request(Request{Kind: Refund, Order: "second"})
		}},
		{2, "there is no such thing", func(f *facts) {
			f.events = append(f.events, told("order.created", "ghost", 1, order("ghost", "created", 9, 1)))
		}},
		{2, "its last version is 2", func(f *facts) {
			f.events = append(f.events, told("order.cancelled", "second", 3, order("second", "cancelled", 5, 3)))
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
		{2, "dead letters", func(f *facts) { f.counts.Dead = 1 }},
		{2, "still to be made or handled", func(f *facts) { f.counts.Pending = 1 }},
		{3, "1000 were taken", func(f *facts) { f.purses[0].Kept, f.purses[0].Captured = 1000, 1000 }},
		{3, "and 100 were given back", func(f *facts) { f.purses[0].Refunded = 100 }},
		{3, "which nobody asked for", func(f *facts) { f.purses[0].Refunded, f.purses[0].Kept = 100, 400 }},
		{6, "it says that 50 were given back, and 100 were", func(f *facts) {
			f.purses[0].Refunded, f.purses[0].Kept = 100, 400
			put(f.payments, "payment", func(p *paymentDoc) { p.Refunded = 50 })
		}},
		{6, "it is shown as sold for order \"second\" (change 4), and is withheld", func(f *facts) {
			put(f.seats, "seat", func(s *seatDoc) { s.Reservation, s.Withheld = nil, 4 })
		}},
		{3, "0 were taken", func(f *facts) { f.purses = nil }},
		{3, "are held for it", func(f *facts) { f.purses[0].Held = 500 }},
		{3, "charged 2 times", func(f *facts) { f.purses[0].Charges = 2 }},
		{3, "1m0s before it was complete", func(f *facts) { f.purses[0].CapturedAt = new(noon.Add(-time.Minute)) }},
		{3, "never complete", func(f *facts) { f.purses[0].Metadata["orderId"] = "first" }},
		{3, "it is authorized, and its order second is complete", func(f *facts) {
			put(f.payments, "payment", func(p *paymentDoc) { p.Status = "authorized" })
		}},
		{4, "its time was over 59m0s ago", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.Status = "created" }) }},
		{4, "1s before its time", func(f *facts) {
			put(f.orders, "first", func(o *orderDoc) { o.Reason, o.UpdatedAt = "expired", o.ExpiresAt.Add(-time.Second) })
		}},
		{4, "there is no such order", func(f *facts) {
			f.events = append(f.events, told("expiration.complete", "slot", 1, expired(noon.Add(time.Hour), "ghost")))
		}},
		{4, "names no order", func(f *facts) {
			f.events = append(f.events, told("expiration.complete", "slot", 1, expired(noon.Add(time.Hour))))
		}},
		{4, "too early that its time is over", func(f *facts) {
			f.events = append(f.events, told("expiration.complete", "slot", 1, expired(noon, "first")))
		}},
		{4, "and that is at", func(f *facts) { put(f.orders, "first", func(o *orderDoc) { o.ExpiresAt = noon }) }},
		{5, "both granted as version 1", func(f *facts) { f.told.Listed("seat", Listing{1, "Last row", 100}) }},
		{5, "others were told", func(f *facts) {
			f.events[1] = told("ticket.created", "seat", 1, ticketDoc{Title: "Last row", Price: 500})
		}},
		{6, "the orders service has version 1", func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Version = 1 }) }},
		{6, "the orders service has version 6", func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Version = 6 }) }},
		{6, `("Last row"`, func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Title = "Last row" }) }},
		{6, "for 700, deleted false)", func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Price = 700 }) }},
		{6, "deleted true)", func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Deleted = true }) }},
		{6, "the orders service does not know it", func(f *facts) { delete(f.seats, "seat") }},
		{6, "it is shown as reserved", func(f *facts) { put(f.tickets, "seat", func(d *ticketDoc) { d.Status = "reserved" }) }},
		{6, "another state", func(f *facts) { f.shown["seat"] = shown{"seat", "available", "", 6} }},
		{6, "that the list shows it is false", func(f *facts) { delete(f.shown, "seat") }},
		{6, "the payments service has created", func(f *facts) { put(f.accounts, "second", func(a *accountDoc) { a.Status = "created" }) }},
		{6, "the payments service does not know it", func(f *facts) { delete(f.accounts, "first") }},
		{6, `payment other completed it, and the payments service has payment "payment"`, func(f *facts) {
			put(f.orders, "second", func(o *orderDoc) { o.PaymentID = "other" })
		}},
		{6, `payment payment completed it, and the payments service has payment ""`, func(f *facts) {
			put(f.orders, "first", func(o *orderDoc) { o.PaymentID = "payment" })
		}},
		{6, "and names no payment", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.PaymentID = "" }) }},
	}
	for _, c := range tests {
		t.Run(c.says, func(t *testing.T) {
			f := sold()
			c.wrong(f)
			found := f.report(Options{Late: time.Minute}).Violations
			require.True(t, slices.ContainsFunc(found, func(v Violation) bool {
				return v.Promise == c.promise && strings.Contains(v.What, c.says)
			}), "found %v", found)
		})
	}
}

func TestReport_FindsAPaymentWithADocumentOfItsOwn(t *testing.T) {
	f := sold()
	put(f.accounts, "second", func(a *accountDoc) { a.Payment, a.PaymentID = nil, "payment" })
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
	put(f.payments, "payment", func(p *paymentDoc) { p.Status = "authorized" })
	require.Contains(t, f.report(Options{Late: time.Minute}).Violations[0].What+f.report(Options{Late: time.Minute}).Violations[1].What, "it is authorized, and its order second is complete")
}

func TestReport_KeepsWhatIsWrongAtEveryLook(t *testing.T) {
	seen := map[string]bool{}
	look := func(first bool, what ...string) []Violation {
		r := &Report{}
		for _, w := range what {
			r.Violations = append(r.Violations, Violation{What: w})
		}
		r.keepPersistent(seen, first)
		return r.Violations
	}
	require.Len(t, look(true, "always", "at first"), 2)
	require.Equal(t, []Violation{{What: "always"}}, look(false, "always", "in between"))
	require.Equal(t, []Violation{{What: "always"}}, look(false, "always", "at first", "in between"))
}
