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
	return event{ID: fmt.Sprintf("%s:%s:%d", kind, id, version), Type: kind, Subject: id, Data: body}
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

// sold is a market in which everything is right: a first order was cancelled, a second one bought the ticket.
func sold() *facts {
	seat := seatDoc{ID: "seat", Title: "Front row", Price: 500, Version: 5, Sequence: 4}
	seat.Reservation = &struct {
		OrderID string `json:"orderId"`
		Status  string `json:"status"`
	}{"second", "complete"}
	ticket := ticketDoc{ID: "seat", Title: "Front row", Price: 500, Status: "sold", OrderID: "second", Sequence: 4, Version: 5}
	paid := paymentDoc{ID: "payment", OrderID: "second", Status: "captured", Amount: 500, Version: 4}
	f := &facts{
		now:      noon.Add(time.Hour),
		tickets:  map[string]ticketDoc{"seat": ticket},
		seats:    map[string]seatDoc{"seat": seat},
		orders:   map[string]orderDoc{"first": order("first", "cancelled", 2, 2), "second": order("second", "complete", 4, 2)},
		accounts: map[string]accountDoc{"first": {"first", "cancelled", 500, 2, nil, ""}, "second": {"second", "complete", 500, 2, &paid, ""}},
		payments: map[string]paymentDoc{"payment": paid},
		records:  map[string]paymentDoc{"second": paid},
		shown:    map[string]shown{"seat": {"seat", "sold", "second", 5}},
		purses:   []purse{{ID: "pi", Metadata: map[string]string{"orderId": "second"}, Charges: 1, Authorized: 500, Captured: 500, Kept: 500, CapturedAt: &later}},
		whole:    true,
		told:     NewTold(),
		events: []event{
			told("user.created", "buyer", 1, nil),
			told("ticket.created", "seat", 1, ticketDoc{Title: "Front row", Price: 500}),
			told("order.created", "first", 1, order("first", "created", 1, 1)),
			told("ticket.updated", "seat", 2, nil),
			told("order.cancelled", "first", 2, order("first", "cancelled", 2, 2)),
			told("ticket.updated", "seat", 3, nil),
			told("order.created", "second", 1, order("second", "created", 3, 1)),
			told("ticket.updated", "seat", 4, nil),
			told("payment.created", "payment", 3, paymentDoc{}),
			told("order.completed", "second", 2, order("second", "complete", 4, 2)),
			told("ticket.updated", "seat", 5, nil),
			told("payment.captured", "payment", 4, paid),
			told("expiration.complete", "1777636861.0", 1, expired(noon.Add(61*time.Second), "first", "second")),
			told("expiration.complete", "first", 2, map[string]any{"orderId": "first", "expiresAt": noon.Add(time.Minute), "firing": 2}),
		},
	}
	for i := range f.events {
		f.events[i].at = uint64(i + 1)
	}
	f.told.User("buyer")
	f.told.Listed("seat", Listing{1, "Front row", 500})
	f.told.Order("first", "seat", "buyer")
	f.told.Cancelled("first")
	f.told.Order("second", "seat", "buyer")
	f.told.Paid("payment", "second")
	return f
}

// put changes one of the documents in a map.
func put[T any](in map[string]T, id string, change func(*T)) {
	doc := in[id]
	change(&doc)
	in[id] = doc
}

func TestRules_FindNothingWhereAllIsRight(t *testing.T) {
	require.Empty(t, sold().report(Options{Late: time.Minute}).Violations)
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
		{2, "its version 2 was not told", func(f *facts) { f.events = slices.Delete(f.events, 9, 10) }},
		{2, "that it is captured was not told", func(f *facts) { f.events = slices.Delete(f.events, 11, 12) }},
		{2, "there is no such thing", func(f *facts) {
			f.events = append(f.events, told("order.created", "ghost", 1, order("ghost", "created", 9, 1)))
		}},
		{2, "its last version is 2", func(f *facts) {
			f.events = append(f.events, told("order.cancelled", "second", 3, order("second", "cancelled", 5, 3)))
		}},
		{2, "dead letters", func(f *facts) { f.counts.Dead = 1 }},
		{2, "still to be made or handled", func(f *facts) { f.counts.Pending = 1 }},
		{3, "1000 were taken", func(f *facts) { f.purses[0].Kept, f.purses[0].Captured = 1000, 1000 }},
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
		{6, "the orders service has version 4", func(f *facts) { put(f.seats, "seat", func(s *seatDoc) { s.Version = 4 }) }},
		{6, "the orders service does not know it", func(f *facts) { delete(f.seats, "seat") }},
		{6, "it is shown as reserved", func(f *facts) { put(f.tickets, "seat", func(d *ticketDoc) { d.Status = "reserved" }) }},
		{6, "another state", func(f *facts) { f.shown["seat"] = shown{"seat", "available", "", 5} }},
		{6, "that the list shows it is false", func(f *facts) { delete(f.shown, "seat") }},
		{6, "the payments service has created", func(f *facts) { put(f.accounts, "second", func(a *accountDoc) { a.Status = "created" }) }},
		{6, "the payments service does not know it", func(f *facts) { delete(f.accounts, "first") }},
		{6, "(version 3)", func(f *facts) { put(f.records, "second", func(p *paymentDoc) { p.Version = 3 }) }},
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
