package check

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// second is a time of a history.
func second(n float64) time.Time { return noon.Add(time.Duration(n * float64(time.Second))) }

// request has a call and an answer in seconds after noon; an answer at 0 is no answer. The ticket is "seat".
func request(kind RequestKind, call, answer float64, change func(*Request)) Request {
	r := Request{Kind: kind, Ticket: "seat", Buyer: "buyer", Call: second(call), Granted: true}
	if answer > 0 {
		r.Return = second(answer)
	}
	if change != nil {
		change(&r)
	}
	return r
}

func reserve(call, answer float64, order string) Request {
	return request(Reserve, call, answer, func(r *Request) { r.Order, r.ExpiresAt = order, second(answer+6) })
}

func refusal(kind RequestKind, call, answer float64, order, code string) Request {
	return request(kind, call, answer, func(r *Request) { r.Order, r.Code, r.Granted = order, code, false })
}

func of(kind RequestKind, call, answer float64, order string) Request {
	return request(kind, call, answer, func(r *Request) { r.Order = order })
}

func readOrder(call, answer float64, order, status string) Request {
	return request(ReadOrder, call, answer, func(r *Request) { r.Order, r.Status = order, status })
}

func readTicket(call, answer float64, version int) Request {
	return request(ReadTicket, call, answer, func(r *Request) { r.Version = version })
}

func unanswered(r Request) Request {
	r.Return, r.Granted, r.Order = time.Time{}, false, ""
	return r
}

func TestHistory(t *testing.T) {
	late := []Jump{{App: "orders-2", Offset: 10 * time.Minute, From: second(1), To: second(4)}}
	for _, c := range []struct {
		name  string
		wrong bool
		jumps []Jump
		of    []Request
	}{
		{"one after the other", false, nil, []Request{reserve(1, 2, "a"), of(Cancel, 3, 4, "a"), reserve(5, 6, "b"), readOrder(7, 8, "a", "cancelled"), readOrder(7, 8, "b", "created")}},
		{"two at once", true, nil, []Request{reserve(1, 2, "a"), reserve(3, 4, "b")}},
		{"two at once, in the same moment", true, nil, []Request{reserve(1, 4, "a"), reserve(2, 3, "b"), readOrder(5, 6, "a", "created"), readOrder(5, 6, "b", "created")}},
		{"the second after the window of the first", false, nil, []Request{reserve(1, 2, "a"), reserve(7, 9, "b")}},
		{"the second just before the window ends", true, nil, []Request{reserve(1, 2, "a"), reserve(7, 7.9, "b")}},
		{"the second when a clock showed the end of the window", false, late, []Request{reserve(0.5, 0.6, "a"), reserve(2, 3, "b")}},
		{"the second before any clock showed it", true, late, []Request{reserve(0.2, 0.3, "a"), reserve(0.5, 0.9, "b")}},
		{"a refusal while it is reserved", false, nil, []Request{reserve(1, 2, "a"), refusal(Reserve, 3, 4, "", "ticket_reserved")}},
		{"a refusal while it is free", true, nil, []Request{refusal(Reserve, 1, 2, "", "ticket_reserved"), reserve(3, 4, "a")}},
		{"a refusal in the same moment", false, nil, []Request{refusal(Reserve, 1, 5, "", "ticket_reserved"), reserve(3, 4, "a")}},
		{"a refusal that a reservation without an answer explains", false, nil, []Request{unanswered(reserve(1, 2, "?")), refusal(Reserve, 3, 4, "", "ticket_reserved"), reserve(9, 10, "a")}},
		{"a refusal before that", true, nil, []Request{refusal(Reserve, 1, 2, "", "ticket_reserved"), unanswered(reserve(3, 4, "?"))}},
		{"two at once, though a third had no answer", true, nil, []Request{unanswered(reserve(1, 2, "?")), reserve(3, 4, "a"), reserve(5, 6, "b")}},
		{"a refusal that names the own order", false, nil, []Request{reserve(1, 2, "a"), refusal(Reserve, 3, 4, "a", "own_reservation"), of(Pay, 5, 6, "a"), refusal(Reserve, 7, 8, "a", "own_reservation")}},
		{"a refusal that names another order", true, nil, []Request{reserve(1, 2, "a"), refusal(Reserve, 3, 4, "b", "own_reservation")}},
		{"a refusal that names an order which has ended", true, nil, []Request{reserve(1, 2, "a"), of(Cancel, 3, 4, "a"), refusal(Reserve, 5, 6, "a", "own_reservation")}},
		{"a refusal that names the order of a request without an answer", false, nil, []Request{unanswered(reserve(1, 2, "?")), refusal(Reserve, 3, 4, "a", "own_reservation")}},
		{"not known yet", false, nil, []Request{refusal(Reserve, 1, 2, "", "not_yet_known"), reserve(3, 4, "a"), readOrder(5, 6, "a", "created")}},
		{"sold when it is paid", false, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), refusal(Reserve, 5, 6, "", "ticket_sold")}},
		{"sold without a payment", true, nil, []Request{reserve(1, 2, "a"), refusal(Reserve, 5, 6, "", "ticket_sold")}},
		{"reserved after it was sold", true, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), refusal(Reserve, 5, 6, "", "ticket_sold"), refusal(Reserve, 7, 8, "", "ticket_reserved")}},
		{"cancelled after it was sold", true, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), readOrder(5, 6, "a", "complete"), readOrder(8, 9, "a", "cancelled")}},
		{"cancelled with its show after it was sold", false, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), readOrder(5, 6, "a", "complete"), request(Revoke, 7, 0, nil), readOrder(8, 9, "a", "cancelled")}},
		{"reserved by another after it was sold", true, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), readOrder(5, 6, "a", "complete"), reserve(20, 21, "b")}},
		{"cancelled after a refund", false, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), readOrder(5, 6, "a", "complete"), unanswered(of(Refund, 7, 0, "a")), of(Refund, 7, 8, "a"), readOrder(9, 10, "a", "cancelled")}},
		{"withheld after a refund", false, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), of(Refund, 7, 8, "a"), refusal(Reserve, 9, 10, "", "ticket_withheld"), request(Edit, 11, 12, nil), reserve(13, 14, "b")}},
		{"withheld without a refund", true, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), refusal(Reserve, 9, 10, "", "ticket_withheld")}},
		{"for sale after a refund", true, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), readOrder(5, 6, "a", "complete"), of(Refund, 7, 8, "a"), readOrder(9, 10, "a", "cancelled"), reserve(13, 14, "b")}},
		{"cancelled though it is complete", true, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), readOrder(5, 6, "a", "complete"), of(Cancel, 7, 8, "a")}},
		{"cancelled twice", false, nil, []Request{reserve(1, 2, "a"), of(Cancel, 3, 4, "a"), of(Cancel, 5, 6, "a")}},
		{"not cancelled because it is complete", false, nil, []Request{reserve(1, 2, "a"), of(Pay, 3, 4, "a"), refusal(Cancel, 5, 6, "a", "order_complete")}},
		{"not cancelled because it is complete, which it was not", true, nil, []Request{reserve(1, 2, "a"), refusal(Cancel, 5, 6, "a", "order_complete")}},
		{"created again after it was cancelled", true, nil, []Request{reserve(1, 2, "a"), of(Cancel, 3, 4, "a"), readOrder(5, 6, "a", "created")}},
		{"complete after it was cancelled", true, nil, []Request{reserve(1, 2, "a"), of(Pay, 2, 3, "a"), of(Cancel, 3, 4, "a"), readOrder(5, 6, "a", "complete")}},
		{"cancelled without a request, before its window ended", true, nil, []Request{reserve(1, 2, "a"), readOrder(3, 4, "a", "cancelled")}},
		{"cancelled without a request, after its window ended", false, nil, []Request{reserve(1, 2, "a"), readOrder(8, 9, "a", "cancelled")}},
		{"cancelled by a request without an answer", false, nil, []Request{reserve(1, 2, "a"), request(Cancel, 3, 0, func(r *Request) { r.Order = "a" }), readOrder(4, 5, "a", "created"), readOrder(6, 7, "a", "cancelled")}},
		{"cancelled with the listing", false, nil, []Request{reserve(1, 2, "a"), of(Withdraw, 2, 3, ""), readOrder(3, 4, "a", "cancelled")}},
		{"cancelled with the listing, which was refused", true, nil, []Request{reserve(1, 2, "a"), refusal(Withdraw, 2, 3, "", "ticket_reserved"), readOrder(3, 4, "a", "cancelled")}},
		{"lost", true, nil, []Request{reserve(1, 2, "a"), refusal(ReadOrder, 3, 4, "a", "not_found")}},
		{"the same order twice", true, nil, []Request{reserve(1, 2, "a"), of(Cancel, 3, 4, "a"), reserve(5, 6, "a")}},

		{"versions that rise", false, nil, []Request{readTicket(1, 2, 1), readTicket(3, 4, 2), readTicket(3, 5, 1), readTicket(6, 7, 2)}},
		{"a version that falls", true, nil, []Request{readTicket(1, 2, 2), readTicket(3, 4, 1)}},
		{"a version before that of an edit", true, nil, []Request{request(Edit, 1, 2, func(r *Request) { r.Version = 5 }), readTicket(3, 4, 4)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			history := NewHistory()
			for _, r := range c.of {
				history.Add(r)
			}
			found := history.evaluate(c.jumps).found
			if !c.wrong {
				require.Empty(t, found)
				return
			}
			require.NotEmpty(t, found)
			require.NotEmpty(t, found[0].History)
		})
	}
}

func TestRules_RefusalsHadNoEffect(t *testing.T) {
	recorded := func(f *facts) { // the requests for all changes
		for _, r := range []Request{
			reserve(1, 2, "first"), of(Cancel, 3, 4, "first"), reserve(5, 6, "second"),
			request(Edit, 4, 5, func(r *Request) { r.From, r.Version, r.Title, r.Price = 3, 4, "Front row", 500 }),
		} {
			f.history.Add(r)
		}
		put(f.orders, "first", func(o *orderDoc) { o.Reason = "user" })
	}
	for _, c := range []struct {
		finds string // "": nothing
		spoil func(*facts)
	}{
		{"", func(*facts) {}},
		{"2 orders or more", func(f *facts) {
			for i, r := range f.history.requests {
				if r.Order == "second" {
					f.history.requests[i] = refusal(Reserve, 5, 6, "", "ticket_reserved")
				}
			}
		}},
		{"", func(f *facts) {
			for i, r := range f.history.requests {
				if r.Order == "second" {
					f.history.requests[i] = unanswered(r)
				}
			}
		}},
		{"whose requests to cancel it were all refused", func(f *facts) {
			f.history.requests[1] = refusal(Cancel, 3, 4, "first", "order_complete")
		}},
		{"all requests for that were refused", func(f *facts) {
			put(f.orders, "first", func(o *orderDoc) { o.Reason = "withdrawn" })
			f.history.Add(refusal(Withdraw, 3, 4, "", "ticket_reserved"))
		}},
		{`it became "Front row" for 500, which was refused (stale_version)`, func(f *facts) {
			f.history.requests[3].Granted, f.history.requests[3].Code = false, "stale_version"
		}},
		{"a change of its version 2 made version 4", func(f *facts) { f.history.requests[3].From = 2 }},
	} {
		t.Run(c.finds, func(t *testing.T) {
			f := sold()
			recorded(f)
			c.spoil(f)
			var all []string
			for _, v := range f.report(Options{Late: time.Minute}).Violations {
				all = append(all, v.What)
			}
			if c.finds == "" {
				require.Empty(t, all)
			} else {
				require.Contains(t, strings.Join(all, "\n"), c.finds)
			}
		})
	}
}
