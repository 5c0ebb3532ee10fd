package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// load is people who sell and buy until they are told to stop, and who note what was answered for. They bear
// being told to come again later. What matters is that somebody is at it in every moment, not how many: so they go
// at a pace that leaves the machine to the tests beside this one.
type load struct {
	house   *house
	stop    atomic.Bool
	rounds  atomic.Int64 // in which a ticket was reserved
	working sync.WaitGroup

	mu       sync.Mutex
	people   []*person
	tickets  []ticket
	earlier  map[string]bool    // the orders of which the bank knew before it began
	orders   map[string]*person // the buyer of each
	payments map[string]*person
	answers  map[int]int // by status; 0: none
}

// loadPace is how far apart the rounds of one of them are, at least.
const loadPace = 400 * time.Millisecond

// hurry is how soon somebody who is told to come again later does: earlier than told.
const hurry = 20 * time.Millisecond

func (h *house) load(t *testing.T, workers int) *load {
	l := &load{house: h, earlier: map[string]bool{}, orders: map[string]*person{}, payments: map[string]*person{}, answers: map[int]int{}}
	for _, entry := range h.ledger(t, "") {
		l.earlier[entry.Metadata["orderId"]] = true
	}
	for range workers {
		seller := h.signUp(t)
		l.note(func() { l.people = append(l.people, seller) })
		l.working.Go(func() {
			pace := time.NewTicker(loadPace)
			defer pace.Stop()
			for n := 0; !l.stop.Load(); n++ {
				l.round(t, seller, n)
				<-pace.C
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

// end tells the people to stop and waits until they have.
func (l *load) end() {
	l.stop.Store(true)
	l.working.Wait()
}

// round is what one seller and one buyer do with one ticket.
func (l *load) round(t *testing.T, seller *person, n int) {
	buyer, ok := l.signUp(t)
	if !ok {
		return
	}
	r := l.ask(seller, "POST", "/api/tickets", offer{Title: "In troubled times", Price: int64(1000 + n)})
	if r.status != 201 {
		return
	}
	seat := as[ticket](t, r)
	l.note(func() { l.tickets = append(l.tickets, seat) })

	// The seller has second thoughts: one of the two gets the ticket.
	var given order
	together(2, func(i int) {
		who := []*person{buyer, seller}[i]
		r := l.ask(who, "POST", "/api/orders", wanted{seat.ID})
		if r.status != 201 {
			return
		}
		reserved := as[order](t, r)
		l.note(func() { l.orders[reserved.ID] = who })
		l.rounds.Add(1)
		if who == buyer {
			given = reserved
		}
	})
	if given.ID == "" {
		return
	}
	pay := func() {
		r := l.ask(buyer, "POST", "/api/payments", paying{OrderID: given.ID, PaymentMethod: goodCard})
		if r.status == 201 {
			paid := as[payment](t, r)
			l.note(func() { l.payments[paid.ID] = buyer })
		}
	}
	cancel := func() { l.ask(buyer, "DELETE", "/api/orders/"+given.ID, nil) }
	switch n % 5 {
	case 0, 1:
		pay()
	case 2:
		cancel()
	case 3:
		together(2, func(i int) { []func(){pay, cancel}[i]() })
	}
}

func (l *load) signUp(t *testing.T) (*person, bool) {
	wanted := credentials{Email: newEmail(), Password: "correct horse"}
	r := l.ask(&person{house: l.house}, "POST", "/api/users/signup", wanted)
	if r.status != 201 {
		return nil, false
	}
	in := as[signedIn](t, r)
	p := &person{user: in.User, password: wanted.Password, token: in.Token, house: l.house}
	l.note(func() { l.people = append(l.people, p) })
	return p, true
}

// ask makes a request and notes the answer; none has status 0.
func (l *load) ask(p *person, method, path string, body any) reply {
	r, _ := p.send(method, path, body)
	l.note(func() { l.answers[r.status]++ })
	if r.status == 503 {
		time.Sleep(hurry)
	}
	return r
}

func (l *load) note(what func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what()
}

// goesOn waits until a few more tickets have been reserved.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	const more = 5
	until := l.rounds.Load() + more
	eventually(t, "tickets are reserved", func() bool { return l.rounds.Load() >= until })
}

// check requires that what was answered for is there, and that the rules hold once everything has been heard.
func (l *load) check(t *testing.T, s *stream) {
	t.Helper()
	h := l.house
	orders := l.allOrders(t)
	for _, p := range l.people {
		r := h.do(t, "POST", "/api/users/signin", credentials{p.Email, p.password})
		assert.Equal(t, 200, r.status, "%s signed up", p.Email)
		assert.True(t, s.has("user.created:"+p.ID+":1"), "%s signed up", p.Email)
	}
	for _, listed := range l.tickets {
		assert.Equal(t, listed.Price, h.ticket(t, listed.ID).Price, "ticket %s was listed", listed.ID)
		assert.True(t, s.has("ticket.created:"+listed.ID+":1"), "ticket %s was listed", listed.ID)
	}
	for id := range l.orders {
		assert.NotZero(t, orders[id], "order %s was made", id)
	}
	for id := range orders {
		assert.True(t, s.has("order.created:"+id+":1"), "order %s was made", id)
	}
	for id, buyer := range l.payments {
		assert.Equal(t, 200, buyer.do(t, "GET", "/api/payments/"+id, nil).status, "payment %s was made", id)
	}
	becomes(t, "", "what is wrong in the end", func() string { return strings.Join(l.wrong(t), "\n") })
	for status := range l.answers {
		assert.Contains(t, []int{201, 204, 404, 409, 503}, status, "a wish is granted, refused, or to be repeated later")
	}
	t.Logf("%d people, %d tickets, %d orders (%d answered), %d payments; answers: %v",
		len(l.people), len(l.tickets), len(orders), len(l.orders), len(l.payments), l.answers)
}

func (l *load) allOrders(t *testing.T) map[string]order {
	t.Helper()
	all := map[string]order{}
	for _, p := range l.people {
		for _, o := range p.orders(t) {
			all[o.ID] = o
		}
	}
	return all
}

// wrong says where the rules do not hold: a ticket has one live order at most, and shows it; money is kept for
// complete orders, and for no others.
func (l *load) wrong(t *testing.T) (wrong []string) {
	t.Helper()
	note := func(holds bool, format string, args ...any) {
		if !holds {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	orders := l.allOrders(t)
	live := map[string][]order{}
	for _, o := range orders {
		if o.Status != "cancelled" {
			live[o.Ticket.ID] = append(live[o.Ticket.ID], o)
		}
	}
	for _, listed := range l.tickets {
		shown, want := l.house.ticket(t, listed.ID), "available"
		var holder order
		if holders := live[listed.ID]; len(holders) > 0 {
			holder = holders[0]
			want = map[string]string{"created": "reserved", "complete": "sold"}[holder.Status]
			note(len(holders) == 1, "ticket %s has %d live orders", listed.ID, len(holders))
		}
		note(shown.Status == want, "ticket %s is %s, not %s", listed.ID, shown.Status, want)
		note(shown.OrderID == holder.ID, "ticket %s is for order %q, not %q", listed.ID, shown.OrderID, holder.ID)
	}

	for id, buyer := range l.payments {
		paid := buyer.payment(t, id)
		want := map[string]string{"complete": "captured", "cancelled": "voided"}[orders[paid.OrderID].Status]
		note(paid.Status == want, "payment %s is %s, not %s", id, paid.Status, want)
	}
	kept := map[string]int64{}
	charges := map[string]int{}
	for _, entry := range l.house.ledger(t, "") {
		id := entry.Metadata["orderId"]
		if l.earlier[id] {
			continue // of a test that had the house before
		}
		kept[id] += entry.Kept
		charges[id] += entry.Charges
		note(entry.Held == 0, "money is held for order %s, which is %s", id, orders[id].Status)
		note(charges[id] <= 1, "order %s was charged twice", id)
	}
	for id, o := range orders {
		due := map[string]int64{"complete": o.Ticket.Price}[o.Status]
		note(kept[id] == due, "%d was kept for order %s, which is %s", kept[id], id, o.Status)
	}
	return wrong
}

// orders are all orders of a person.
func (p *person) orders(t testing.TB) []order {
	t.Helper()
	r := p.do(t, "GET", "/api/orders?limit=200", nil)
	require.Empty(t, r.header.Get("Link"), "more than a page")
	return asIf[[]order](t, r, 200)
}

func TestCrash_UnderLoadNothingThatWasAnsweredForIsLost(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, nil)
	events := h.stream(t)
	load := h.load(t, 4)
	for _, victim := range []string{
		"orders", "orders-dapr", "payments", "payments-dapr", "tickets", "tickets-dapr", "auth", "auth-dapr", "expiration", "expiration-dapr", h.BrokerName(),
	} {
		load.goesOn(t)
		require.NoError(t, h.Process(victim).Kill())
		require.NoError(t, h.Process(victim).Start())
		require.NoError(t, h.WaitReady(t.Context(), victim))
	}
	load.goesOn(t)
	load.end()
	require.NoError(t, h.WaitReady(t.Context()))

	events.settled(t)
	load.check(t, events)
	require.Zero(t, events.dead(t))
}
