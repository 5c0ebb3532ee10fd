package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// Processes are killed. What was confirmed before is not lost, and its effects follow when they run again.

// change is a change that a service confirms, and whose effects other services show. Everything that it needs is there before commit,
// so that it can be committed while the broker is down.
type change interface {
	// commit makes the change and returns the ids of its events.
	commit(t *testing.T) []string
	// requireEffects waits until the effects are there.
	requireEffects(t *testing.T)
}

// changes prepare a change of each service that has a journal.
var changes = []struct {
	service string
	prepare func(t *testing.T, s *testStack) change
}{
	{"auth", func(_ *testing.T, s *testStack) change { return &signUpChange{stack: s} }},
	{"tickets", prepareListingChange},
	{"orders", prepareOrderChange},
	{"payments", preparePaymentChange},
}

// signUpChange is a new user.
type signUpChange struct {
	stack *testStack
	user  *testUser
}

func (c *signUpChange) commit(t *testing.T) []string {
	c.user = c.stack.signUp(t)
	return []string{"user.created:" + c.user.ID + ":1"}
}

func (c *signUpChange) requireEffects(t *testing.T) {
	requireStatus(t, 200, c.stack.call(t, client.SignIn(c.user.Email, c.user.password)))
}

// listingChange is a ticket that is listed and edited.
type listingChange struct {
	seller, buyer *testUser
	listed        client.Ticket
}

func prepareListingChange(t *testing.T, s *testStack) change {
	return &listingChange{seller: s.signUp(t), buyer: s.signUp(t)}
}

func (c *listingChange) commit(t *testing.T) []string {
	c.listed = c.seller.list(t, "First title", 1000)
	requireStatus(t, 200, c.seller.call(t, client.EditTicket(c.listed.ID, client.Offer{Title: "Last title", Price: 2000})))
	return []string{"ticket.created:" + c.listed.ID + ":1", "ticket.updated:" + c.listed.ID + ":2"}
}

func (c *listingChange) requireEffects(t *testing.T) {
	eventually(t, "the ticket can be reserved at its last price", func() bool {
		status, order := c.buyer.tryReserve(t, c.listed.ID)
		if status == 201 && order.Ticket.Price != 2000 { // only the first event was handled
			c.buyer.cancel(t, order.ID)
			return false
		}
		return status == 201
	})
}

// orderChange is an order that is created, and another that is cancelled.
type orderChange struct {
	stack      *testStack
	buyer      *testUser
	available  client.Ticket
	held, made client.Order
}

func prepareOrderChange(t *testing.T, s *testStack) change {
	seller, buyer := s.signUp(t), s.signUp(t)
	available := seller.list(t, "To be reserved", 1000)
	held := buyer.reserve(t, seller.list(t, "To be cancelled", 1000).ID)
	s.ticketBecomes(t, "reserved", held.Ticket.ID)
	projectTicket(t, buyer, available)
	return &orderChange{stack: s, buyer: buyer, available: available, held: held}
}

func (c *orderChange) commit(t *testing.T) []string {
	c.made = c.buyer.reserve(t, c.available.ID)
	c.buyer.cancel(t, c.held.ID)
	return []string{"order.created:" + c.made.ID + ":1", "order.cancelled:" + c.held.ID + ":2"}
}

func (c *orderChange) requireEffects(t *testing.T) {
	require.Equal(t, c.made.ID, c.stack.ticketBecomes(t, "reserved", c.available.ID).OrderID)
	c.stack.ticketBecomes(t, "available", c.held.Ticket.ID)
}

// paymentChange is an order that is paid.
type paymentChange struct {
	stack *testStack
	buyer *testUser
	order client.Order
	paid  client.Payment
}

func preparePaymentChange(t *testing.T, s *testStack) change {
	buyer, order := s.reserveNew(t, 1000)
	requireStatus(t, 402, buyer.callKnown(t, client.Pay(order.ID, declinedCard))) // so payments has the order's event
	return &paymentChange{stack: s, buyer: buyer, order: order}
}

func (c *paymentChange) commit(t *testing.T) []string {
	c.paid = c.buyer.pay(t, c.order.ID, goodCard)
	return []string{"payment.created:" + c.paid.ID + ":3"}
}

func (c *paymentChange) requireEffects(t *testing.T) {
	c.buyer.orderBecomes(t, "complete", c.order.ID)
	c.stack.ticketBecomes(t, "sold", c.order.Ticket.ID)
	c.buyer.paymentBecomes(t, "captured", c.paid.ID)
	c.stack.requireMoney(t, c.order.ID, money{charges: 1, kept: 1000})
}

func TestCrash_ServiceDiesBetweenCommitAndPublish(t *testing.T) {
	t.Parallel()
	crashBetweenCommitAndPublish(t, "")
}

func TestCrash_SidecarDiesBetweenCommitAndPublish(t *testing.T) {
	t.Parallel()
	crashBetweenCommitAndPublish(t, "-dapr")
}

// crashBetweenCommitAndPublish lets each service confirm a change while the broker is down, so that its events are in the journal
// only. Then the process dies.
func crashBetweenCommitAndPublish(t *testing.T, suffix string) {
	s := pooledStack(t, nil)
	events := s.stream(t)
	for _, c := range changes {
		victim := c.service + suffix
		t.Run(victim, func(t *testing.T) {
			prepared := c.prepare(t, s)
			events.waitIdle(t)
			var ids []string

			s.whileDown(t, s.BrokerName(), func() {
				ids = prepared.commit(t)
				s.kill(t, victim)
			})
			s.start(t, victim)
			s.waitReady(t)

			events.waitFor(t, ids...)
			prepared.requireEffects(t)
			require.Zero(t, events.deadLetterCount(t))
		})
	}
}

// Two orders expire while the broker is down: one whose slot has a reminder, and one whose event is not published yet.
func TestCrash_ExpirationDies_OrdersStillExpire(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RESERVATION_WINDOW": "2s", "REMINDER_PERIOD": "1s"}})
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	for _, victim := range []string{"expiration", "expiration-dapr"} {
		t.Run(victim, func(t *testing.T) {
			withReminder, unpublished := seller.list(t, "Has a reminder", 1000), seller.list(t, "Its order is not published", 1000)
			projectTicket(t, buyer, unpublished)
			first := buyer.reserve(t, withReminder.ID)
			events.waitIdle(t)
			var second client.Order

			s.whileDown(t, s.BrokerName(), func() {
				second = buyer.reserve(t, unpublished.ID)
				waitTime(second.ExpiresAt)
				s.kill(t, victim)
			})
			s.start(t, victim)
			s.waitReady(t)

			for _, order := range []client.Order{first, second} {
				require.Equal(t, "expired", buyer.orderBecomes(t, "cancelled", order.ID).Reason)
				s.ticketBecomes(t, "available", order.Ticket.ID)
			}
			require.Zero(t, events.deadLetterCount(t))
		})
	}
}

func TestCrash_UnderLoadNoConfirmedChangeIsLost(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	events := s.stream(t)
	load := s.startLoad(t, 4)
	for _, victim := range []string{
		"orders", "orders-dapr", "payments", "payments-dapr", "tickets", "tickets-dapr", "auth", "auth-dapr", "expiration", "expiration-dapr", s.BrokerName(),
	} {
		load.waitForReservations(t)
		s.kill(t, victim)
		s.start(t, victim)
		s.waitReady(t, victim)
	}
	load.finishAndCheck(t, events)
}
