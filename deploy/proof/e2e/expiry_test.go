package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// An order that is not paid in its window ends by itself, and its ticket is free again.

// expiryLag is how long after an order's time its ticket may still look reserved.
const expiryLag = 3 * time.Second

// unremindedLag is the same while no reminder fires.
const unremindedLag = 10 * time.Second

// hastyWindow is how long buyers have to pay in a hastyHouse.
const hastyWindow = 3 * time.Second

// hastyHouse is one in which there is little time to pay.
func hastyHouse(t *testing.T) *house {
	return lentHouse(t, map[string]string{"RESERVATION_WINDOW": hastyWindow.String()})
}

// isOver waits until the order's time is over.
func isOver(t *testing.T, o order) {
	t.Helper()
	eventually(t, "the time of order "+o.ID+" is over", func() bool { return time.Now().After(o.ExpiresAt) })
}

func TestExpiry_UnpaidOrderEndsAndFreesItsTicket(t *testing.T) {
	t.Parallel()
	h := hastyHouse(t)
	seller := h.signUp(t)
	buyers := h.crowd(t, 10)
	seats, orders := make([]ticket, len(buyers)), make([]order, len(buyers))
	var paid payment
	for i, buyer := range buyers {
		seats[i] = seller.list(t, "Until I have asked my wife", 500)
		orders[i] = buyer.reserved(t, seats[i].ID)
		require.WithinDuration(t, orders[i].CreatedAt.Add(hastyWindow), orders[i].ExpiresAt, 0)
		if i == 0 {
			var status int
			status, paid = buyer.pay(t, orders[i].ID, goodCard)
			require.Equal(t, 201, status)
		}
	}

	for i, buyer := range buyers[1:] {
		given := orders[i+1]
		eventuallyWithin(t, time.Until(given.ExpiresAt.Add(expiryLag)), "the ticket of order "+given.ID+" is free", func() bool {
			return h.ticket(t, given.Ticket.ID).Status == "available"
		})
		ended := buyer.order(t, given.ID)
		require.Equal(t, "cancelled", ended.Status)
		require.Equal(t, "expired", ended.Reason)
		require.False(t, ended.UpdatedAt.Before(given.ExpiresAt), "cancelled before its time was over")
		require.Empty(t, h.ticket(t, given.Ticket.ID).OrderID)
	}
	require.Equal(t, "complete", buyers[0].order(t, orders[0].ID).Status, "a paid order does not expire")
	require.Equal(t, "sold", h.ticket(t, seats[0].ID).Status)
	require.Equal(t, "captured", buyers[0].payment(t, paid.ID).Status)
}

// Here nobody keeps the time, so an order whose time is over stays as it is.
func TestExpiry_OrderWhoseTimeIsOverIsWorthNothingEvenBeforeItIsCancelled(t *testing.T) {
	t.Parallel()
	h := hastyHouse(t)
	seller, late, declined, buyers := h.signUp(t), h.signUp(t), h.signUp(t), h.crowd(t, 100)
	require.NoError(t, h.Process("expiration-dapr").Kill())
	seats := []ticket{seller.list(t, "Left lying", 500), seller.list(t, "Left lying, too", 500)}
	unpaid := late.reserved(t, seats[0].ID)
	tried := declined.reserved(t, seats[1].ID)
	status, _ := declined.pay(t, tried.ID, declinedCard)
	require.Equal(t, 402, status)
	isOver(t, unpaid)
	isOver(t, tried)
	require.Equal(t, "created", late.order(t, unpaid.ID).Status)

	// It cannot be paid, whether that was tried before or not.
	refused(t, 409, late.do(t, "POST", "/api/payments", paying{OrderID: unpaid.ID, PaymentMethod: goodCard}), "order_expired")
	refused(t, 409, declined.do(t, "POST", "/api/payments", paying{OrderID: tried.ID, PaymentMethod: goodCard}), "order_expired")
	require.Empty(t, h.ledger(t, unpaid.ID))

	// Its ticket is to be had, by one.
	winner, won := rush(t, buyers, seats[0].ID)
	ended := late.order(t, unpaid.ID)
	require.Equal(t, "cancelled", ended.Status)
	require.Equal(t, "expired", ended.Reason)
	status, paid := winner.pay(t, won.ID, goodCard)
	require.Equal(t, 201, status)
	sold := h.ticketBecomes(t, "sold", seats[0].ID)
	require.Equal(t, won.ID, sold.OrderID)
	winner.paymentBecomes(t, "captured", paid.ID)
	refused(t, 409, late.do(t, "POST", "/api/payments", paying{OrderID: unpaid.ID, PaymentMethod: goodCard}), "order_cancelled")

	// What its buyer has tried is undone when somebody keeps the time again, and the new order stays.
	require.NoError(t, h.Process("expiration-dapr").Start())
	declined.orderBecomes(t, "cancelled", tried.ID)
	h.ticketBecomes(t, "available", seats[1].ID)
	becomes(t, "canceled", "the intent of order "+tried.ID, func() string { return h.ledger(t, tried.ID)[0].Status })
	require.Equal(t, "complete", winner.order(t, won.ID).Status)
}

// endsUnreminded waits until the order is cancelled, which must be within unremindedLag of its time.
func (p *person) endsUnreminded(t *testing.T, o order) {
	t.Helper()
	eventuallyWithin(t, time.Until(o.ExpiresAt.Add(unremindedLag)), "order "+o.ID+" is cancelled", func() bool {
		return p.order(t, o.ID).Status == "cancelled"
	})
	require.Equal(t, "expired", p.order(t, o.ID).Reason)
	p.house.ticketBecomes(t, "available", o.Ticket.ID)
}

// The scheduler keeps all reminders. Without them the expiration service finds by itself what is over.
func TestExpiry_LostSchedulerHoldsNoTicket(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"RESERVATION_WINDOW": "8s"}})
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	scheduler := h.Process(stack.Scheduler)
	for name, lose := range map[string]func(){
		"its data are lost":     func() { require.NoError(t, scheduler.Start()) },
		"it does not come back": func() {},
	} {
		t.Run(name, func(t *testing.T) {
			given := buyer.reserved(t, seller.list(t, "Its reminder is lost", 500).ID)
			events.settled(t)
			require.NoError(t, scheduler.Kill())
			for _, folder := range []string{"", h.Set()} { // of all sets, or of this one
				require.NoError(t, os.RemoveAll(filepath.Join(h.Folder(), stack.StateFolder, folder, "scheduler")))
			}
			lose()
			inTheDark := buyer.reserved(t, seller.list(t, "It may get no reminder", 500).ID)

			buyer.endsUnreminded(t, given)
			buyer.endsUnreminded(t, inTheDark)
			if scheduler.PID() == 0 {
				require.NoError(t, scheduler.Start())
			}
			require.NoError(t, h.WaitReady(t.Context()))
		})
	}
	require.Zero(t, events.dead(t))
}

// slotsOf are the documents of the slots that an order may be in, as far as they exist.
func (h *house) slotsOf(t *testing.T, o order) (keys []string) {
	t.Helper()
	end := o.ExpiresAt.Add(time.Second - 1).Unix()
	for shard := range 2 {
		key := fmt.Sprintf("slot/%d.%d", end, shard)
		if h.do(t, "GET", h.SidecarHTTP("expiration")+"/v1.0/state/state/"+url.PathEscape(key), nil, "dapr-api-token", h.APIToken("expiration")).status == http.StatusOK {
			keys = append(keys, key)
		}
	}
	return keys
}

// Each order had a reminder of its own in the release before. Those that are pending at an upgrade still fire.
func TestExpiry_ReminderOfASingleOrderStillFires(t *testing.T) {
	t.Parallel()
	h := hastyHouse(t)
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	given := buyer.reserved(t, seller.list(t, "Reserved before the upgrade", 500).ID)
	events.settled(t)
	slots := h.slotsOf(t, given)
	require.Len(t, slots, 1)
	h.dropState(t, "expiration", slots[0]) // so it is as if the release before had handled the event
	reminder := h.SidecarHTTP("expiration") + "/v1.0/actors/OrderExpiration/" + given.ID + "/reminders/expire"
	deadline, err := json.Marshal(map[string]any{"schema": 1, "expiresAt": given.ExpiresAt})
	require.NoError(t, err)
	r := h.do(t, "POST", reminder, map[string]any{"dueTime": time.Until(given.ExpiresAt).String(), "period": "15s", "data": deadline}, "dapr-api-token", h.APIToken("expiration"))
	require.Equal(t, http.StatusNoContent, r.status, "%s", r.body)

	require.Equal(t, "expired", buyer.orderBecomes(t, "cancelled", given.ID).Reason)
	h.ticketBecomes(t, "available", given.Ticket.ID)
	eventually(t, "the reminder has ended", func() bool {
		return h.do(t, "GET", reminder, nil, "dapr-api-token", h.APIToken("expiration")).status != http.StatusOK
	})
	require.Zero(t, events.dead(t))
}
