package e2e

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// Many buyers want one ticket. One of them gets it, and the others are refused.

// atOnce makes n calls at the same moment, and waits for all of them.
func atOnce(n int, call func(i int)) {
	start := make(chan struct{})
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			<-start
			call(i)
		})
	}
	close(start)
	calls.Wait()
}

// reserveAtOnce lets all buyers reserve one ticket at the same moment. It requires that one of them gets it, and that the others are
// refused because it is reserved. It returns the one with the order.
func reserveAtOnce(t *testing.T, buyers []*testUser, ticketID string) (winner *testUser, won client.Order) {
	t.Helper()
	responses := make([]client.Response, len(buyers))
	atOnce(len(buyers), func(i int) { responses[i] = buyers[i].call(t, client.Reserve(ticketID)) })

	statuses := map[int]int{}
	for i, r := range responses {
		statuses[r.Status]++
		if r.Status == 201 {
			winner, won = buyers[i], decode[client.Order](t, r)
		}
	}
	require.Equal(t, map[int]int{201: 1, 409: len(buyers) - 1}, statuses)
	for _, r := range responses {
		if r.Status == 409 {
			requireProblem(t, 409, r, "ticket_reserved")
		}
	}
	return winner, won
}

func TestReserve_OneOfHundredBuyersGetsTheTicket(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyers := s.signUp(t), s.signUpMany(t, 100)

	for range 10 {
		listed := seller.list(t, "The last one", 9900)
		winner, won := reserveAtOnce(t, buyers, listed.ID)

		require.Equal(t, winner.ID, won.UserID)
		require.Equal(t, won.ID, s.ticketBecomes(t, "reserved", listed.ID).OrderID)
		require.Equal(t, "created", winner.order(t, won.ID).Status)
	}
}

func TestReserve_TicketThatIsCancelledMeanwhileGoesToOneBuyerAtMost(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, first, buyers := s.signUp(t), s.signUp(t), s.signUpMany(t, 100)
	listed := seller.list(t, "Cancelled at that moment", 9900)
	order := first.reserve(t, listed.ID)

	responses := make([]client.Response, len(buyers))
	atOnce(len(buyers)+1, func(i int) {
		if i == len(buyers) {
			first.call(t, client.CancelOrder(order.ID))
			return
		}
		responses[i] = buyers[i].call(t, client.Reserve(listed.ID))
	})

	require.Equal(t, "cancelled", first.order(t, order.ID).Status)
	var holder string
	for i, r := range responses {
		switch r.Status {
		case 201:
			require.Empty(t, holder, "a second buyer got the ticket")
			holder = decode[client.Order](t, r).ID
			require.Equal(t, "created", buyers[i].order(t, holder).Status)
		default:
			requireProblem(t, 409, r, "ticket_reserved")
		}
	}
	if holder == "" { // all of them came before the cancellation
		s.ticketBecomes(t, "available", listed.ID)
		return
	}
	eventuallyEqual(t, holder, "the order that holds the ticket", func() string { return s.ticket(t, listed.ID).OrderID })
}

func TestReserve_SellerCannotBuyOwnTicket(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	listed := seller.list(t, "My own", 500)
	require.Equal(t, "ticketId", requireProblem(t, 409, seller.call(t, client.Reserve(listed.ID)), "own_ticket").Errors[0].Field)
	buyer.reserve(t, listed.ID)
	requireProblem(t, 409, seller.call(t, client.Reserve(listed.ID)), "ticket_reserved")
}

// unsettled reads how many orders keep the user from deleting the account.
func (u *testUser) unsettled(t testing.TB) string {
	t.Helper()
	return string(u.request(t, "GET", "/api/orders/unsettled", nil).Body)
}

func TestReservationLimit_HundredRequestsAtOnceGetTen(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Replicas: 2, Env: map[string]string{"RESERVATIONS_PER_USER": "10"}})
	seller, buyer, other := s.signUp(t), s.signUp(t), s.signUp(t)
	listed := make([]client.Ticket, 100)
	for i := range listed {
		listed[i] = seller.list(t, fmt.Sprint("Row ", i), 500)
	}
	s.stream(t).waitIdle(t)

	responses := make([]client.Response, len(listed))
	atOnce(len(listed), func(i int) {
		responses[i] = buyer.call(t, client.Reserve(listed[i].ID).At(s.URL([]string{"orders", "orders-2"}[i%2])))
	})
	var orders []client.Order
	var available []client.Ticket
	for i, r := range responses {
		if r.Status == 201 {
			orders = append(orders, decode[client.Order](t, r))
			continue
		}
		available = append(available, listed[i])
		require.Equal(t, "ticketId", requireProblem(t, 409, r, "too_many_reservations").Errors[0].Field)
	}
	require.Len(t, orders, 10)
	require.Len(t, buyer.ownOrders(t), 10)
	require.Equal(t, `{"unsettled":10}`, buyer.unsettled(t))
	other.reserve(t, available[0].ID)

	// For each order that is cancelled or paid, one more ticket can be reserved.
	buyer.cancel(t, orders[0].ID)
	buyer.reserve(t, available[1].ID)
	requireProblem(t, 409, buyer.call(t, client.Reserve(available[2].ID)), "too_many_reservations")
	buyer.pay(t, orders[1].ID, goodCard)
	buyer.orderBecomes(t, "complete", orders[1].ID)
	buyer.reserve(t, available[2].ID)
	requireProblem(t, 409, buyer.call(t, client.Reserve(available[3].ID)), "too_many_reservations")
	eventuallyEqual(t, `{"unsettled":10}`, "the unsettled orders", func() string { return buyer.unsettled(t) })
}

// requireCooldown requires that the buyer cannot reserve the ticket again yet, and must wait about that many seconds.
func (u *testUser) requireCooldown(t *testing.T, ticketID string, seconds, delta float64) {
	t.Helper()
	r := u.call(t, client.Reserve(ticketID))
	requireProblem(t, 409, r, "reservation_cooldown")
	wait, err := strconv.Atoi(r.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, seconds, wait, delta)
}

func TestReservationCooldown_BuyerWhoseOrderExpiredWaits(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, map[string]string{"RESERVATION_WINDOW": "3s", "RESERVATION_COOLDOWN": "8s"})
	seller, buyer, other := s.signUp(t), s.signUp(t), s.signUp(t)
	expired := buyer.reserve(t, seller.list(t, "Not paid", 500).ID)
	cancelled := buyer.reserve(t, seller.list(t, "Cancelled at the last moment", 500).ID)
	waitTime(cancelled.ExpiresAt.Add(-500 * time.Millisecond)) // the cooldown grows with the time of the reservation
	buyer.cancel(t, cancelled.ID)
	buyer.requireCooldown(t, cancelled.Ticket.ID, 7, 1) // five sixths of the window, so five sixths of the cooldown
	end := expired.ExpiresAt.Add(8 * time.Second)
	waitTime(expired.ExpiresAt)
	for range 2 { // before the order is cancelled, and after that
		buyer.requireCooldown(t, expired.Ticket.ID, time.Until(end).Seconds(), 1.5)
		buyer.orderBecomes(t, "cancelled", expired.ID)
	}
	other.cancel(t, other.reserve(t, expired.Ticket.ID).ID)
	eventually(t, "the buyer can reserve the ticket again", func() bool {
		status, _ := buyer.tryReserve(t, expired.Ticket.ID)
		return status == 201
	})
	require.False(t, time.Now().Before(end))
}
