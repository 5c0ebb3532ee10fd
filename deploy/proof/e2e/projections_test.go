package e2e

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// Events are delivered late, twice and in any order. The projections of each service are right all the same.

// lifecycles are tickets with all that can happen to them, as they ended.
type lifecycles struct {
	seller, buyer *testUser
	tickets       []client.Ticket
	orders        []client.Order
	payments      []client.Payment
}

// runLifecycles lets four tickets run through their lives. One is sold after a cancellation, a declined card and a new price. One is
// reserved, and its order expires. One is deleted. One is cancelled while its buyer has yet to pass 3-D Secure.
func runLifecycles(t *testing.T, s *testStack) lifecycles {
	t.Helper()
	l := lifecycles{seller: s.signUp(t), buyer: s.signUp(t)}
	sold := l.seller.list(t, "Sold", 1000)
	expired := l.seller.list(t, "Not paid", 2000)
	deleted := l.seller.list(t, "Deleted", 3000)
	voided := l.seller.list(t, "Cancelled while it is paid", 4000)

	unpaid := l.buyer.reserve(t, expired.ID)

	first := l.buyer.reserve(t, sold.ID)
	s.ticketBecomes(t, "reserved", sold.ID)
	l.buyer.cancel(t, first.ID)
	s.ticketBecomes(t, "available", sold.ID)
	requireStatus(t, 200, l.seller.call(t, client.EditTicket(sold.ID, client.Offer{Title: "Sold for less", Price: 900})))
	second := l.buyer.reserve(t, sold.ID)
	requireStatus(t, 402, l.buyer.callKnown(t, client.Pay(second.ID, declinedCard)))
	paid := l.buyer.pay(t, second.ID, goodCard)

	requireStatus(t, 204, l.seller.call(t, client.DeleteTicket(deleted.ID)))

	third, begun := l.buyer.beginSecurePayment(t, voided.ID)
	l.buyer.cancel(t, third.ID)

	l.tickets = []client.Ticket{
		s.ticketBecomes(t, "sold", sold.ID), s.ticketBecomes(t, "available", expired.ID),
		s.ticketBecomes(t, "available", voided.ID),
	}
	l.orders = []client.Order{
		l.buyer.orderBecomes(t, "cancelled", unpaid.ID), l.buyer.order(t, first.ID),
		l.buyer.orderBecomes(t, "complete", second.ID), l.buyer.order(t, third.ID),
	}
	l.payments = []client.Payment{l.buyer.paymentBecomes(t, "captured", paid.ID), l.buyer.paymentBecomes(t, "voided", begun.ID)}
	return l
}

// readAgain reads the same tickets, orders and payments again.
func (l lifecycles) readAgain(t *testing.T, s *testStack) lifecycles {
	t.Helper()
	l.tickets, l.orders, l.payments = slices.Clone(l.tickets), slices.Clone(l.orders), slices.Clone(l.payments)
	for i := range l.tickets {
		l.tickets[i] = s.ticket(t, l.tickets[i].ID)
	}
	for i := range l.orders {
		l.orders[i] = l.buyer.order(t, l.orders[i].ID)
	}
	for i := range l.payments {
		l.payments[i] = l.buyer.payment(t, l.payments[i].ID)
	}
	return l
}

func TestProjections_AreRightAfterRepeatedAndShuffledEvents(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RESERVATION_WINDOW": "3s"}})
	events := s.stream(t)
	ended := runLifecycles(t, s)
	events.waitIdle(t)
	before := ended.readAgain(t, s) // with what the last events have changed
	all := slices.Clone(events.read())
	ledger := s.request(t, "GET", s.SandboxURL()+"/sandbox/ledger", nil)

	for range 3 {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, e := range all {
			events.publish(t, e.raw)
		}
	}
	events.waitIdle(t)

	require.Equal(t, before, before.readAgain(t, s))
	require.JSONEq(t, string(ledger.Body), string(s.request(t, "GET", s.SandboxURL()+"/sandbox/ledger", nil).Body))
	require.Zero(t, events.deadLetterCount(t))

	// The available tickets can be bought, at their last price.
	for _, listed := range before.tickets[1:] {
		order := before.buyer.reserve(t, listed.ID)
		require.Equal(t, listed.Price, order.Ticket.Price)
		require.Equal(t, order.ID, s.ticketBecomes(t, "reserved", listed.ID).OrderID)
		paid := before.buyer.pay(t, order.ID, goodCard)
		s.ticketBecomes(t, "sold", listed.ID)
		before.buyer.paymentBecomes(t, "captured", paid.ID)
	}
	requireStatus(t, 409, before.buyer.call(t, client.Reserve(before.tickets[0].ID)))
}

// deliverInReverse delivers the events of a scenario to a service after the scenario has ended, the last event first.
func (es *eventStream) deliverInReverse(t *testing.T, service string, scenario func()) {
	t.Helper()
	es.waitIdle(t)
	from := len(es.read())
	sidecar := service + "-dapr"
	es.stack.kill(t, sidecar)
	scenario()
	eventuallyEqual(t, "", "what is not published", func() string { return es.unpublished(t) })
	missed := slices.Clone(es.read()[from:])
	es.remove(t, missed)
	es.stack.start(t, sidecar)
	es.stack.waitReady(t, service, sidecar)
	for _, e := range slices.Backward(missed) {
		es.publish(t, e.raw)
		es.waitIdle(t) // one by one, because services handle several events at a time
	}
}

func TestProjections_AreRightAfterEventsInReverse(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)

	// Orders handles edits of a listing, and a deletion, before the ticket.created events.
	var edited, deleted client.Ticket
	events.deliverInReverse(t, "orders", func() {
		edited, deleted = seller.list(t, "First price", 1000), seller.list(t, "Deleted", 1000)
		for _, price := range []int64{2000, 3000} {
			requireStatus(t, 200, seller.call(t, client.EditTicket(edited.ID, client.Offer{Title: "Last price", Price: price})))
		}
		requireStatus(t, 204, seller.call(t, client.DeleteTicket(deleted.ID)))
	})
	requireStatus(t, 404, buyer.call(t, client.Reserve(deleted.ID)))
	first := buyer.reserve(t, edited.ID)
	require.Equal(t, client.OrderedTicket{ID: edited.ID, Title: "Last price", Price: 3000, Currency: "usd"}, first.Ticket)
	reserved := s.ticketBecomes(t, "reserved", edited.ID)

	// Tickets handles the sale first, then the cancellations and reservations before it.
	var bought client.Order
	events.deliverInReverse(t, "tickets", func() {
		buyer.cancel(t, first.ID)
		second := buyer.reserve(t, edited.ID)
		buyer.cancel(t, second.ID)
		bought = buyer.reserve(t, edited.ID)
		buyer.pay(t, bought.ID, goodCard)
		buyer.orderBecomes(t, "complete", bought.ID)
	})
	sold := s.ticket(t, edited.ID)
	require.Equal(t, "sold", sold.Status)
	require.Equal(t, bought.ID, sold.OrderID)
	require.Equal(t, reserved.Version+1, sold.Version, "only the last event changes the ticket")

	// Payments handles a cancellation before the order.created event.
	other := seller.list(t, "Another", 1000)
	var cancelled, live client.Order
	events.deliverInReverse(t, "payments", func() {
		cancelled = buyer.reserve(t, other.ID)
		buyer.cancel(t, cancelled.ID)
		live = buyer.reserve(t, other.ID)
	})
	requireProblem(t, 409, buyer.call(t, client.Pay(cancelled.ID, goodCard)), "order_cancelled")
	paid := buyer.pay(t, live.ID, goodCard)
	buyer.paymentBecomes(t, "captured", paid.ID)
	require.Equal(t, live.ID, s.ticketBecomes(t, "sold", other.ID).OrderID)
	require.Zero(t, events.deadLetterCount(t))
}
