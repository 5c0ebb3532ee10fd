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

	"boxoffice/deploy/proof/client"
)

// load is a number of sellers and buyers who work until they are stopped. It records what was confirmed to them, so that check can
// search for it afterwards. A refusal with 503 is expected, and the next round follows.
//
// Its pace is slow: what matters is that requests are under way at any time, not how many.
type load struct {
	stack   *testStack
	stop    atomic.Bool
	rounds  atomic.Int64 // in which a ticket was reserved
	working sync.WaitGroup

	mu        sync.Mutex
	users     []*testUser
	tickets   []client.Ticket
	earlier   map[string]bool      // the orders that the sandbox had before the load began
	orders    map[string]*testUser // the buyer of each
	payments  map[string]*testUser
	responses map[int]int // by status; 0 counts requests without a response
	unknown   int         // of those with 503: the event of a ticket or an order that was new had not arrived
}

// loadPace is the shortest time between two rounds of a worker.
const loadPace = 400 * time.Millisecond

// retryPause is the pause after a 503. It is shorter than the response asks for.
const retryPause = 20 * time.Millisecond

// startLoad starts a load of that many workers. It ends with the test at the latest.
func (s *testStack) startLoad(t *testing.T, workers int) *load {
	l := &load{stack: s, earlier: map[string]bool{}, orders: map[string]*testUser{}, payments: map[string]*testUser{}, responses: map[int]int{}}
	for _, entry := range s.ledger(t, "") {
		l.earlier[entry.Metadata["orderId"]] = true
	}
	for range workers {
		seller := s.signUp(t)
		l.update(func() { l.users = append(l.users, seller) })
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

// end stops the workers and waits for them.
func (l *load) end() {
	l.stop.Store(true)
	l.working.Wait()
}

// round lists a ticket. Its seller and a new buyer reserve it at the same time. The buyer's order is then paid, cancelled, both at the same
// time, or neither.
func (l *load) round(t *testing.T, seller *testUser, n int) {
	buyer, ok := l.signUp(t)
	if !ok {
		return
	}
	r := l.call(t, seller, client.ListTicket("Listed under load", int64(1000+n)))
	if r.Status != 201 {
		return
	}
	listed := decode[client.Ticket](t, r)
	l.update(func() { l.tickets = append(l.tickets, listed) })

	var bought client.Order
	atOnce(2, func(i int) {
		user := []*testUser{buyer, seller}[i]
		r := l.call(t, user, client.Reserve(listed.ID))
		if r.Status != 201 {
			return
		}
		order := decode[client.Order](t, r)
		l.update(func() { l.orders[order.ID] = user })
		l.rounds.Add(1)
		if user == buyer {
			bought = order
		}
	})
	if bought.ID == "" {
		return
	}
	pay := func() {
		r := l.call(t, buyer, client.Pay(bought.ID, goodCard))
		if r.Status == 201 {
			paid := decode[client.Payment](t, r)
			l.update(func() { l.payments[paid.ID] = buyer })
		}
	}
	cancel := func() { l.call(t, buyer, client.CancelOrder(bought.ID)) }
	switch n % 5 {
	case 0, 1:
		pay()
	case 2:
		cancel()
	case 3:
		atOnce(2, func(i int) { []func(){pay, cancel}[i]() })
	}
}

func (l *load) signUp(t *testing.T) (user *testUser, ok bool) {
	r := l.call(t, &testUser{stack: l.stack}, client.SignUp(newEmail(), password))
	if r.Status != 201 {
		return nil, false
	}
	user = l.stack.userOf(decode[client.SignedIn](t, r))
	l.update(func() { l.users = append(l.users, user) })
	return user, true
}

// call sends a request and counts the response. Without a response the status is 0.
func (l *load) call(t *testing.T, u *testUser, r client.Request) client.Response {
	response, _ := u.try(t.Context(), r)
	l.update(func() {
		l.responses[response.Status]++
		if response.Code() == "not_yet_known" {
			l.unknown++
		}
	})
	if response.Status == 503 {
		time.Sleep(retryPause)
	}
	return response
}

func (l *load) update(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// waitForReservations waits until a few more tickets are reserved.
func (l *load) waitForReservations(t *testing.T) {
	t.Helper()
	const more = 5
	until := l.rounds.Load() + more
	eventually(t, "tickets are reserved", func() bool { return l.rounds.Load() >= until })
}

// listedCount is how many tickets were listed.
func (l *load) listedCount() (n int) {
	l.update(func() { n = len(l.tickets) })
	return n
}

// refusedForNow is how many requests were refused with 503, without those about a ticket or an order that was not known yet.
func (l *load) refusedForNow() (n int) {
	l.update(func() { n = l.responses[503] - l.unknown })
	return n
}

// finishAndCheck ends the load, and requires that nothing was lost in an outage before.
func (l *load) finishAndCheck(t *testing.T, events *eventStream) {
	t.Helper()
	l.waitForReservations(t)
	l.end()
	l.stack.waitReady(t)
	events.waitIdle(t)
	l.check(t, events)
	require.Zero(t, events.deadLetterCount(t))
}

// check requires that everything that was confirmed is there, and that there are no violations once all events are handled.
func (l *load) check(t *testing.T, events *eventStream) {
	t.Helper()
	s := l.stack
	orders := l.allOrders(t)
	for _, u := range l.users {
		assert.Equal(t, 200, s.call(t, client.SignIn(u.Email, u.password)).Status, "sign-up of %s was confirmed", u.Email)
		assert.True(t, events.has("user.created:"+u.ID+":1"), "sign-up of %s was confirmed", u.Email)
	}
	for _, listed := range l.tickets {
		assert.Equal(t, listed.Price, s.ticket(t, listed.ID).Price, "ticket %s was confirmed", listed.ID)
		assert.True(t, events.has("ticket.created:"+listed.ID+":1"), "ticket %s was confirmed", listed.ID)
	}
	for id := range l.orders {
		assert.NotZero(t, orders[id], "order %s was confirmed", id)
	}
	for id := range orders {
		assert.True(t, events.has("order.created:"+id+":1"), "order %s exists", id)
	}
	for id, buyer := range l.payments {
		assert.Equal(t, 200, buyer.call(t, client.ReadPayment(id)).Status, "payment %s was confirmed", id)
	}
	eventuallyEqual(t, "", "violations", func() string { return strings.Join(l.violations(t), "\n") })
	for status := range l.responses {
		assert.Contains(t, []int{201, 204, 404, 409, 503}, status, "a request succeeds, is refused, or can be sent again later")
	}
	t.Logf("%d users, %d tickets, %d orders (%d confirmed), %d payments; responses: %v",
		len(l.users), len(l.tickets), len(orders), len(l.orders), len(l.payments), l.responses)
}

func (l *load) allOrders(t *testing.T) map[string]client.Order {
	t.Helper()
	all := map[string]client.Order{}
	for _, u := range l.users {
		for _, o := range u.ownOrders(t) {
			all[o.ID] = o
		}
	}
	return all
}

// violations lists where a rule does not hold. A ticket has one live order at most, and shows it. Money is kept for complete orders
// only.
func (l *load) violations(t *testing.T) (violations []string) {
	t.Helper()
	expect := func(holds bool, format string, args ...any) {
		if !holds {
			violations = append(violations, fmt.Sprintf(format, args...))
		}
	}
	orders := l.allOrders(t)
	live := map[string][]client.Order{} // by ticket
	for _, o := range orders {
		if o.Status != "cancelled" {
			live[o.Ticket.ID] = append(live[o.Ticket.ID], o)
		}
	}
	for _, listed := range l.tickets {
		shown, want := l.stack.ticket(t, listed.ID), "available"
		var holder client.Order
		if holders := live[listed.ID]; len(holders) > 0 {
			holder = holders[0]
			want = map[string]string{"created": "reserved", "complete": "sold"}[holder.Status]
			expect(len(holders) == 1, "ticket %s has %d live orders", listed.ID, len(holders))
		}
		expect(shown.Status == want, "ticket %s is %s, not %s", listed.ID, shown.Status, want)
		expect(shown.OrderID == holder.ID, "ticket %s is for order %q, not %q", listed.ID, shown.OrderID, holder.ID)
	}

	for id, buyer := range l.payments {
		paid := buyer.payment(t, id)
		want := map[string]string{"complete": "captured", "cancelled": "voided"}[orders[paid.OrderID].Status]
		expect(paid.Status == want, "payment %s is %s, not %s", id, paid.Status, want)
	}
	kept := map[string]int64{}
	charges := map[string]int{}
	for _, entry := range l.stack.ledger(t, "") {
		id := entry.Metadata["orderId"]
		if l.earlier[id] {
			continue // of a test that had the stack before
		}
		kept[id] += entry.Kept
		charges[id] += entry.Charges
		expect(entry.Held == 0, "money is held for order %s, which is %s", id, orders[id].Status)
		expect(charges[id] <= 1, "order %s was charged twice", id)
	}
	for id, o := range orders {
		due := map[string]int64{"complete": o.Ticket.Price}[o.Status]
		expect(kept[id] == due, "%d was kept for order %s, which is %s", kept[id], id, o.Status)
	}
	return violations
}
