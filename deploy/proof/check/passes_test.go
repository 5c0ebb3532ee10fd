package check

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

// resold are the facts of onShow, in which the buyer of the ticket has resold it, and the new holder was admitted.
func resold() *facts {
	f := onShow()
	f.history = NewHistory()
	starts := f.shows["evening"].StartsAt
	put(f.orders, "second", func(o *orderDoc) { o.ResoldAt, o.Version, o.Sequence = later, 3, 5 })
	put(f.accounts, "second", func(a *accountDoc) { a.Version = 3 })
	put(f.seats, "seat", func(s *seatDoc) { s.Sequence = 5 })
	put(f.tickets, "seat", func(t *ticketDoc) { t.Sequence, t.Version = 5, 7 })
	f.listed["seat"] = client.Ticket{ID: "seat", Status: "sold", OrderID: "second", Version: 7}

	again := ticketDoc{ID: "again", Title: "Front row", UserID: "buyer", Price: 550, Currency: "usd", Status: "sold", OrderID: "third", Sequence: 3, Version: 4, Listed: 1,
		ShowID: "evening", Seat: f.tickets["seat"].Seat, FaceValue: 500, SalesEndAt: starts}
	f.tickets["again"] = again
	f.seats["again"] = seatDoc{ID: "again", Title: "Front row", Price: 550, Currency: "usd", Version: 1, Sequence: 3, ShowID: "evening", Seat: again.Seat, SalesEndAt: starts,
		Reservation: &struct {
			OrderID string `json:"orderId"`
			Status  string `json:"status"`
		}{"third", "complete"}}
	f.listed["again"] = client.Ticket{ID: "again", Status: "sold", OrderID: "third", Version: 4}
	third := func(status string, sequence, version int) orderDoc {
		o := order("third", status, sequence, version)
		o.UserID, o.SellerID, o.CreatedAt = "other", "buyer", noon
		o.Ticket.ID, o.Ticket.Price, o.Ticket.ShowID, o.Ticket.Seat = "again", 550, "evening", again.Seat
		return o
	}
	paid := paymentDoc{ID: "resale", OrderID: "third", Status: "captured", Amount: 550, Version: 4}
	bought := third("complete", 3, 3)
	bought.PaymentID, bought.UsedAt = "resale", later
	f.orders["third"] = bought
	f.accounts["third"] = accountDoc{"third", "complete", 550, 3, &paid, ""}
	f.payments["resale"] = paid
	f.intents = append(f.intents, intent{ID: "pi_resale", Metadata: map[string]string{"orderId": "third"}, Charges: 1, Authorized: 550, Captured: 550, Kept: 550, CapturedAt: &later})
	f.events = append(f.events,
		published("user.created", "other", 1, nil),
		published("ticket.created", "again", 1, map[string]any{"price": 550, "faceValue": 500, "showId": "evening", "resaleOf": resale{"seat", "second"}}),
		published("order.created", "third", 1, third("created", 1, 1)),
		published("order.completed", "third", 2, third("complete", 2, 2)),
		published("order.updated", "second", 3, order("second", "complete", 5, 3)),
		published("payment.captured", "resale", 4, paid),
		published("order.updated", "third", 3, third("complete", 3, 3)))
	for i := range f.events {
		f.events[i].at = uint64(i + 1)
	}
	f.history.SignedUp("other")
	f.history.CheckedIn(GrantedCheckIn{"third", "again", "evening", later})
	f.history.Add(Request{Kind: Reserve, Ticket: "again", Buyer: "other", Order: "third", Granted: true, Call: noon, Return: later})
	f.history.Add(Request{Kind: CheckIn, Ticket: "again", Order: "third", Granted: true, Call: noon, Return: later})
	f.history.Add(Request{Kind: CheckIn, Ticket: "again", Order: "third", Code: "already_used", Call: noon, Return: later})
	return f
}

func TestRules_AcceptAResale(t *testing.T) {
	require.Empty(t, resold().report(Options{Late: time.Minute}).Violations)
}

func TestRules_FindViolationsOfPasses(t *testing.T) {
	tests := []struct {
		promise int
		finds   string
		spoil   func(*facts)
	}{
		{1, "2 listings have it", func(f *facts) {
			f.tickets["twice"] = f.tickets["again"]
			f.events = append(f.events, published("ticket.created", "twice", 1, map[string]any{"resaleOf": resale{"seat", "second"}}))
		}},
		{2, "its version 3 was not published", func(f *facts) { without(f, "order.updated:second:3") }},
		{1, "it is reserved for order third, which is not live", func(f *facts) {
			put(f.orders, "third", func(o *orderDoc) { o.Status, o.UsedAt = "cancelled", time.Time{} })
		}},
		{6, "it is for sale, and its seller has no pass to sell", func(f *facts) { put(f.tickets, "again", func(t *ticketDoc) { t.Status = "available" }) }},
		{10, "2 orders have a valid pass of it", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.ResoldAt = time.Time{} }) }},
		{10, "order third bought its ticket, and its pass is not void", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.ResoldAt = time.Time{} }) }},
		{10, "the passes of 2 orders were used for it", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.UsedAt = noon }) }},
		{10, "and its ticket was resold at", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.UsedAt = noon }) }},
		{10, "no order has bought its ticket", func(f *facts) {
			put(f.orders, "third", func(o *orderDoc) { o.Status, o.UsedAt = "cancelled", time.Time{} })
		}},
		{10, `that order has ticket "again"`, func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.Ticket.ID = "again" }) }},
		{10, "its seller is stranger, and buyer bought what it resells", func(f *facts) { put(f.tickets, "again", func(t *ticketDoc) { t.UserID = "stranger" }) }},
		{10, "and the face value 900", func(f *facts) { put(f.tickets, "again", func(t *ticketDoc) { t.FaceValue = 900 }) }},
		{10, "its pass admitted 2 times", func(f *facts) { f.history.CheckedIn(GrantedCheckIn{"third", "again", "evening", later}) }},
		{10, "2 passes of it were admitted", func(f *facts) { f.history.CheckedIn(GrantedCheckIn{"second", "seat", "evening", later}) }},
		{10, "its check-in was acknowledged, and it does not exist", func(f *facts) { f.history.CheckedIn(GrantedCheckIn{"lost", "seat", "evening", later}) }},
		{10, "its check-in was acknowledged with the time", func(f *facts) { put(f.orders, "third", func(o *orderDoc) { o.UsedAt = noon }) }},
		{5, "its pass was used, and all requests for that were refused", func(f *facts) { put(f.orders, "first", func(o *orderDoc) { o.UsedAt = noon }) }},
	}
	for _, c := range tests {
		t.Run(c.finds, func(t *testing.T) {
			f := resold()
			c.spoil(f)
			found := f.report(Options{Late: time.Minute}).Violations
			require.True(t, slices.ContainsFunc(found, func(v Violation) bool {
				return v.Promise == c.promise && strings.Contains(v.What, c.finds)
			}), "found %v", found)
		})
	}
}

// The place of a pass that was used is not sold again, also if its money was given back.
func TestRules_AcceptARefundAfterTheCheckIn(t *testing.T) {
	f := resold()
	put(f.orders, "third", func(o *orderDoc) { o.Status, o.Reason, o.Version, o.Sequence = "cancelled", "refunded", 4, 4 })
	put(f.seats, "again", func(s *seatDoc) { s.Reservation.Status, s.Sequence = "cancelled", 4 })
	put(f.tickets, "again", func(t *ticketDoc) { t.Sequence, t.Version = 4, 5 })
	f.listed["again"] = client.Ticket{ID: "again", Status: "sold", OrderID: "third", Version: 5}
	paid := f.payments["resale"]
	paid.Status, paid.Version = "refunded", 5
	f.payments["resale"] = paid
	put(f.accounts, "third", func(a *accountDoc) { a.Status, a.Version, a.Payment = "cancelled", 4, &paid })
	f.intents[1].Refunded, f.intents[1].Kept = 550, 0
	cancelled := f.orders["third"]
	f.events = append(f.events, published("payment.refunded", "resale", 5, paid), published("order.cancelled", "third", 4, cancelled))
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
	put(f.tickets, "again", func(t *ticketDoc) { t.Status = "withheld" })
	require.NotEmpty(t, f.report(Options{Late: time.Minute}).Violations)
}

// A refund ends the order of a ticket that was resold, and the ticket stays sold.
func TestHistory_ATicketThatWasResoldStaysSold(t *testing.T) {
	at := func(second int) time.Time { return noon.Add(time.Duration(second) * time.Second) }
	requests := []Request{
		{Kind: Reserve, Ticket: "seat", Buyer: "buyer", Order: "first", Granted: true, Call: at(0), Return: at(1), ExpiresAt: at(600)},
		{Kind: Pay, Order: "first", Call: at(2)},
		{Kind: Refund, Order: "first", Call: at(5)},
		{Kind: ReadOrder, Order: "first", Granted: true, Status: "cancelled", Call: at(6), Return: at(7)},
		{Kind: Reserve, Ticket: "seat", Buyer: "third", Code: "ticket_sold", Call: at(8), Return: at(9)},
	}
	violations := func(requests []Request) []Violation {
		h := NewHistory()
		for _, r := range requests {
			h.Add(r)
		}
		return h.evaluate(nil).found
	}
	require.NotEmpty(t, violations(requests), "its last order has ended, so it is withheld")
	require.Empty(t, violations(append(slices.Clone(requests), Request{Kind: Resell, Ticket: "seat", Granted: true, Call: at(3), Return: at(4)})))
	require.NotEmpty(t, violations(append(slices.Clone(requests), Request{Kind: Resell, Ticket: "seat", Code: "pass_void", Call: at(3), Return: at(4)})))
}

// A cancelled show cancels the seller's order first, and then the buyer's.
func TestRules_AcceptAResoldOrderThatIsCancelledWithItsBuyers(t *testing.T) {
	f := resold()
	for _, id := range []string{"second", "third"} {
		put(f.orders, id, func(o *orderDoc) { o.Status, o.UsedAt = "cancelled", time.Time{} })
	}
	for _, v := range f.report(Options{Late: time.Minute}).Violations {
		require.NotContains(t, v.What, "no order has bought its ticket")
	}
}
