package e2e

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// Events come late, twice and in any order. What a service knows of another's tickets and orders is right all
// the same.

// lives are several tickets with all that can happen to them, as they ended.
type lives struct {
	seller, buyer *person
	tickets       []ticket
	orders        []order
	payments      []payment
}

// live lets a ticket be sold after a cancellation, a declined card and a change of price; one expire; one be
// deleted; and one be cancelled while the buyer's bank asks who pays.
func live(t *testing.T, h *house) lives {
	t.Helper()
	l := lives{seller: h.signUp(t), buyer: h.signUp(t)}
	sold := l.seller.list(t, "Sold at last", 1000)
	expired := l.seller.list(t, "Nobody pays", 2000)
	deleted := l.seller.list(t, "I go myself", 3000)
	voided := l.seller.list(t, "Paid almost", 4000)

	unpaid := l.buyer.reserved(t, expired.ID)

	first := l.buyer.reserved(t, sold.ID)
	h.ticketBecomes(t, "reserved", sold.ID)
	require.Equal(t, 204, l.buyer.cancel(t, first.ID))
	h.ticketBecomes(t, "available", sold.ID)
	r := l.seller.do(t, "PUT", "/api/tickets/"+sold.ID, offer{Title: "Sold at last, for less", Price: 900})
	require.Equal(t, 200, r.status, "%s", r.body)
	second := l.buyer.reserved(t, sold.ID)
	status, _ := l.buyer.pay(t, second.ID, declinedCard)
	require.Equal(t, 402, status)
	status, paid := l.buyer.pay(t, second.ID, goodCard)
	require.Equal(t, 201, status)

	require.Equal(t, 204, l.seller.do(t, "DELETE", "/api/tickets/"+deleted.ID, nil).status)

	taken := l.buyer.reserved(t, voided.ID)
	status, given := l.buyer.pay(t, taken.ID, secureCard)
	require.Equal(t, 201, status)
	require.Equal(t, 204, l.buyer.cancel(t, taken.ID))

	l.tickets = []ticket{
		h.ticketBecomes(t, "sold", sold.ID), h.ticketBecomes(t, "available", expired.ID),
		h.ticketBecomes(t, "available", voided.ID),
	}
	l.orders = []order{
		l.buyer.orderBecomes(t, "cancelled", unpaid.ID), l.buyer.order(t, first.ID),
		l.buyer.orderBecomes(t, "complete", second.ID), l.buyer.order(t, taken.ID),
	}
	l.payments = []payment{l.buyer.paymentBecomes(t, "captured", paid.ID), l.buyer.paymentBecomes(t, "voided", given.ID)}
	return l
}

// look reads again how the lives have ended.
func (l lives) look(t *testing.T, h *house) lives {
	t.Helper()
	l.tickets, l.orders, l.payments = slices.Clone(l.tickets), slices.Clone(l.orders), slices.Clone(l.payments)
	for i := range l.tickets {
		l.tickets[i] = h.ticket(t, l.tickets[i].ID)
	}
	for i := range l.orders {
		l.orders[i] = l.buyer.order(t, l.orders[i].ID)
	}
	for i := range l.payments {
		l.payments[i] = l.buyer.payment(t, l.payments[i].ID)
	}
	return l
}

func TestReplicas_BearEventsTwiceAndInAnyOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"RESERVATION_WINDOW": "3s"}})
	events := h.stream(t)
	before := live(t, h)
	events.settled(t)
	all := slices.Clone(events.read())
	ledger := h.do(t, "GET", h.SandboxURL()+"/sandbox/ledger", nil)

	for range 3 {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, event := range all {
			events.tell(t, event.raw)
		}
	}
	events.settled(t)

	require.Equal(t, before, before.look(t, h))
	require.JSONEq(t, string(ledger.body), string(h.do(t, "GET", h.SandboxURL()+"/sandbox/ledger", nil).body))
	require.Zero(t, events.dead(t))

	// What is free is really free, at the price that was last said.
	for _, seat := range before.tickets[1:] {
		again := before.buyer.reserved(t, seat.ID)
		require.Equal(t, seat.Price, again.Ticket.Price)
		held := h.ticketBecomes(t, "reserved", seat.ID)
		require.Equal(t, again.ID, held.OrderID)
		status, paid := before.buyer.pay(t, again.ID, goodCard)
		require.Equal(t, 201, status)
		h.ticketBecomes(t, "sold", seat.ID)
		before.buyer.paymentBecomes(t, "captured", paid.ID)
	}
	require.Equal(t, 409, before.buyer.do(t, "POST", "/api/orders", wanted{before.tickets[0].ID}).status)
}

// backwards lets a service hear what happens now for the first time when all of it is over, and the last first.
func (s *stream) backwards(t *testing.T, service string, happens func()) {
	t.Helper()
	s.settled(t)
	from := len(s.read())
	sidecar := s.house.Process(service + "-dapr")
	require.NoError(t, sidecar.Kill())
	happens()
	becomes(t, "", "what is not told yet", s.untold)
	missed := slices.Clone(s.read()[from:])
	s.takeBack(t, missed)
	require.NoError(t, sidecar.Start())
	require.NoError(t, s.house.WaitReady(t.Context(), service, service+"-dapr"))
	for _, event := range slices.Backward(missed) {
		s.tell(t, event.raw)
		s.settled(t) // one by one, for events are handled side by side
	}
}

func TestReplicas_BearEventsInReverse(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, nil)
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)

	// The orders service hears of changes of a listing, and of a deletion, before it hears of the listing.
	var changed, deleted ticket
	events.backwards(t, "orders", func() {
		changed, deleted = seller.list(t, "First price", 1000), seller.list(t, "Withdrawn", 1000)
		for _, price := range []int64{2000, 3000} {
			require.Equal(t, 200, seller.do(t, "PUT", "/api/tickets/"+changed.ID, offer{Title: "Last price", Price: price}).status)
		}
		require.Equal(t, 204, seller.do(t, "DELETE", "/api/tickets/"+deleted.ID, nil).status)
	})
	require.Equal(t, 404, buyer.do(t, "POST", "/api/orders", wanted{deleted.ID}).status)
	first := buyer.reserved(t, changed.ID)
	require.Equal(t, orderedTicket{ID: changed.ID, Title: "Last price", Price: 3000, Currency: "usd"}, first.Ticket)
	held := h.ticketBecomes(t, "reserved", changed.ID)

	// The tickets service hears of the sale first, then of the reservations and cancellations before it.
	var bought order
	events.backwards(t, "tickets", func() {
		require.Equal(t, 204, buyer.cancel(t, first.ID))
		second := buyer.reserved(t, changed.ID)
		require.Equal(t, 204, buyer.cancel(t, second.ID))
		bought = buyer.reserved(t, changed.ID)
		status, _ := buyer.pay(t, bought.ID, goodCard)
		require.Equal(t, 201, status)
		buyer.orderBecomes(t, "complete", bought.ID)
	})
	sold := h.ticket(t, changed.ID)
	require.Equal(t, "sold", sold.Status)
	require.Equal(t, bought.ID, sold.OrderID)
	require.Equal(t, held.Version+1, sold.Version, "only the last event is news")

	// The payments service hears of a cancellation before it hears of the order.
	other := seller.list(t, "Not this one", 1000)
	var cancelled, live order
	events.backwards(t, "payments", func() {
		cancelled = buyer.reserved(t, other.ID)
		require.Equal(t, 204, buyer.cancel(t, cancelled.ID))
		live = buyer.reserved(t, other.ID)
	})
	refused(t, 409, buyer.do(t, "POST", "/api/payments", paying{OrderID: cancelled.ID, PaymentMethod: goodCard}), "order_cancelled")
	status, paid := buyer.pay(t, live.ID, goodCard)
	require.Equal(t, 201, status)
	buyer.paymentBecomes(t, "captured", paid.ID)
	require.Equal(t, live.ID, h.ticketBecomes(t, "sold", other.ID).OrderID)
	require.Zero(t, events.dead(t))
}
