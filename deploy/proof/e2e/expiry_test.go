package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// An order that is not paid within its reservation window is cancelled, and its ticket is available again.

// expiryLimit is how long after an order's time its ticket may still be reserved.
const expiryLimit = 3 * time.Second

// expiryLimitWithoutReminder is the same while no reminder fires.
const expiryLimitWithoutReminder = 10 * time.Second

// shortWindow is the reservation window of a shortWindowStack.
const shortWindow = 3 * time.Second

func shortWindowStack(t *testing.T) *testStack {
	return pooledStack(t, map[string]string{"RESERVATION_WINDOW": shortWindow.String()})
}

func TestExpiry_UnpaidOrderIsCancelledAndItsTicketIsFree(t *testing.T) {
	t.Parallel()
	s := shortWindowStack(t)
	seller := s.signUp(t)
	buyers := s.signUpMany(t, 10)
	orders := make([]client.Order, len(buyers))
	var paid client.Payment
	for i, buyer := range buyers {
		orders[i] = buyer.reserve(t, seller.list(t, "Reserved for a short time", 500).ID)
		require.WithinDuration(t, orders[i].CreatedAt.Add(shortWindow), orders[i].ExpiresAt, 0)
		if i == 0 {
			paid = buyer.pay(t, orders[i].ID, goodCard)
		}
	}

	for i, buyer := range buyers[1:] {
		order := orders[i+1]
		// The order first: before tickets knows of the reservation, the ticket is available, too.
		var expired client.Order
		eventuallyWithin(t, time.Until(order.ExpiresAt.Add(expiryLimit)), "order "+order.ID+" is cancelled and its ticket available", func() bool {
			expired = buyer.order(t, order.ID)
			return expired.Status == "cancelled" && s.ticket(t, order.Ticket.ID).Status == "available"
		})
		require.Equal(t, "expired", expired.Reason)
		require.False(t, expired.UpdatedAt.Before(order.ExpiresAt), "cancelled before its window ended")
		require.Empty(t, s.ticket(t, order.Ticket.ID).OrderID)
	}
	buyers[0].orderBecomes(t, "complete", orders[0].ID) // a paid order does not expire
	s.ticketBecomes(t, "sold", orders[0].Ticket.ID)
	buyers[0].paymentBecomes(t, "captured", paid.ID)
}

// The expiration service is down, so an expired order is not cancelled by itself.
func TestExpiry_ExpiredOrderCannotBePaidBeforeItIsCancelled(t *testing.T) {
	t.Parallel()
	s := shortWindowStack(t)
	seller, late, declined, buyers := s.signUp(t), s.signUp(t), s.signUp(t), s.signUpMany(t, 100)
	s.kill(t, "expiration-dapr")
	unpaid := late.reserve(t, seller.list(t, "Not paid", 500).ID)
	tried := declined.reserve(t, seller.list(t, "Declined", 500).ID)
	requireStatus(t, 402, declined.callKnown(t, client.Pay(tried.ID, declinedCard)))
	waitTime(tried.ExpiresAt)
	require.Equal(t, "created", late.order(t, unpaid.ID).Status)

	// It cannot be paid, with or without an earlier attempt.
	requireProblem(t, 409, late.call(t, client.Pay(unpaid.ID, goodCard)), "order_expired")
	requireProblem(t, 409, declined.call(t, client.Pay(tried.ID, goodCard)), "order_expired")
	require.Empty(t, s.ledger(t, unpaid.ID))

	// Its ticket can be reserved, by one buyer.
	winner, won := reserveAtOnce(t, buyers, unpaid.Ticket.ID)
	cancelled := late.order(t, unpaid.ID)
	require.Equal(t, "cancelled", cancelled.Status)
	require.Equal(t, "expired", cancelled.Reason)
	paid := winner.pay(t, won.ID, goodCard)
	require.Equal(t, won.ID, s.ticketBecomes(t, "sold", unpaid.Ticket.ID).OrderID)
	winner.paymentBecomes(t, "captured", paid.ID)
	eventuallyEqual(t, "order_cancelled", "the refusal of payments", func() string {
		problem := requireProblem(t, 409, late.call(t, client.Pay(unpaid.ID, goodCard)))
		return problem.Code()
	})

	// When the service runs again, the other order is cancelled with its attempt, and the new order stays.
	s.start(t, "expiration-dapr")
	declined.orderBecomes(t, "cancelled", tried.ID)
	s.ticketBecomes(t, "available", tried.Ticket.ID)
	eventuallyEqual(t, "canceled", "the intent of order "+tried.ID, func() string { return s.ledger(t, tried.ID)[0].Status })
	require.Equal(t, "complete", winner.order(t, won.ID).Status)
}

// The scheduler has all reminders. Without them the expiration service finds expired slots by itself.
func TestExpiry_OrdersExpireWithoutTheScheduler(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RESERVATION_WINDOW": "8s"}})
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	for name, comesBack := range map[string]bool{"it has lost its data": true, "it stays down": false} {
		t.Run(name, func(t *testing.T) {
			before := buyer.reserve(t, seller.list(t, "Its reminder is lost", 500).ID)
			events.waitIdle(t)
			s.kill(t, stack.Scheduler)
			for _, folder := range []string{"", s.Set()} { // of all sets, or of this one
				require.NoError(t, os.RemoveAll(filepath.Join(s.Folder(), stack.StateFolder, folder, "scheduler")))
			}
			if comesBack {
				s.start(t, stack.Scheduler)
			}
			after := buyer.reserve(t, seller.list(t, "May have no reminder", 500).ID)

			for _, order := range []client.Order{before, after} {
				eventuallyWithin(t, time.Until(order.ExpiresAt.Add(expiryLimitWithoutReminder)), "order "+order.ID+" is cancelled", func() bool {
					return buyer.order(t, order.ID).Status == "cancelled"
				})
				require.Equal(t, "expired", buyer.order(t, order.ID).Reason)
				s.ticketBecomes(t, "available", order.Ticket.ID)
			}
			if !comesBack {
				s.start(t, stack.Scheduler)
			}
			s.waitReady(t)
		})
	}
	require.Zero(t, events.deadLetterCount(t))
}

// slotsOf returns the keys of the existing slots that an order may be in.
func (s *testStack) slotsOf(t *testing.T, o client.Order) (keys []string) {
	t.Helper()
	end := o.ExpiresAt.Add(time.Second - 1).Unix()
	for shard := range 2 {
		key := fmt.Sprintf("slot/%d.%d", end, shard)
		if s.getState(t, "expiration", key) != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// In an earlier release each order had a reminder of its own. Those that are pending at an upgrade still fire.
func TestExpiry_ReminderOfAnEarlierReleaseFires(t *testing.T) {
	t.Parallel()
	s := shortWindowStack(t)
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	order := buyer.reserve(t, seller.list(t, "Reserved before the upgrade", 500).ID)
	var slots []string // the wait is short, because the window is
	eventually(t, "expiration has handled the order", func() bool { slots = s.slotsOf(t, order); return len(slots) > 0 })
	require.Len(t, slots, 1)
	s.deleteState(t, "expiration", slots[0]) // as if the earlier release had handled the event
	reminder := s.SidecarHTTP("expiration") + "/v1.0/actors/OrderExpiration/" + order.ID + "/reminders/expire"
	deadline, err := json.Marshal(map[string]any{"schema": 1, "expiresAt": order.ExpiresAt})
	require.NoError(t, err)
	r := s.request(t, "POST", reminder, map[string]any{"dueTime": time.Until(order.ExpiresAt).String(), "period": "15s", "data": deadline}, "dapr-api-token", s.SidecarToken("expiration"))
	requireStatus(t, 204, r)

	require.Equal(t, "expired", buyer.orderBecomes(t, "cancelled", order.ID).Reason)
	s.ticketBecomes(t, "available", order.Ticket.ID)
	eventually(t, "the reminder has ended", func() bool {
		return s.request(t, "GET", reminder, nil, "dapr-api-token", s.SidecarToken("expiration")).Status != 200
	})
	require.Zero(t, events.deadLetterCount(t))
}
