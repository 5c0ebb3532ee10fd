package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/event"
)

// Nobody keeps more tickets from others than a buyer needs, however many requests they send and wherever to.

func TestHoarding_AHundredRequestsAtOnceGetTen(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Replicas: 2, Env: map[string]string{"RESERVATIONS_PER_USER": "10"}})
	seller, buyer, other := h.signUp(t), h.signUp(t), h.signUp(t)
	seats := make([]ticket, 100)
	for i := range seats {
		seats[i] = seller.list(t, fmt.Sprint("Row ", i), 500)
	}
	stream := h.stream(t)
	stream.settled(t)

	replies := make([]reply, len(seats))
	together(len(seats), func(i int) {
		replies[i] = buyer.do(t, "POST", h.URL([]string{"orders", "orders-2"}[i%2])+"/api/orders", wanted{seats[i].ID})
	})
	var given []order
	var free []ticket
	for i, r := range replies {
		if r.status == 201 {
			given = append(given, as[order](t, r))
			continue
		}
		free = append(free, seats[i])
		require.Equal(t, "ticketId", refused(t, 409, r, "too_many_reservations").Errors[0].Field)
	}
	require.Len(t, given, 10)
	require.Len(t, buyer.orders(t), 10)
	require.Equal(t, `{"unsettled":10}`, string(buyer.do(t, "GET", "/api/orders/unsettled", nil).body))
	other.reserved(t, free[0].ID)

	// Whoever cancels or pays one may reserve one more.
	require.Equal(t, 204, buyer.cancel(t, given[0].ID))
	buyer.reserved(t, free[1].ID)
	refused(t, 409, buyer.do(t, "POST", "/api/orders", wanted{free[2].ID}), "too_many_reservations")
	status, _ := buyer.pay(t, given[1].ID, goodCard)
	require.Equal(t, 201, status)
	buyer.orderBecomes(t, "complete", given[1].ID)
	buyer.reserved(t, free[2].ID)
	refused(t, 409, buyer.do(t, "POST", "/api/orders", wanted{free[3].ID}), "too_many_reservations")
	becomes(t, `{"unsettled":10}`, "what is unsettled", func() string { return string(buyer.do(t, "GET", "/api/orders/unsettled", nil).body) })
}

func TestHoarding_WhoLetATicketExpireLetsOthersTryFirst(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, map[string]string{"RESERVATION_WINDOW": "3s", "RESERVATION_COOLDOWN": "8s"})
	seller, buyer, other := h.signUp(t), h.signUp(t), h.signUp(t)
	seats := []ticket{seller.list(t, "Held for nothing", 500), seller.list(t, "Given back at the last moment", 500)}
	expired := buyer.reserved(t, seats[0].ID)
	given := buyer.reserved(t, seats[1].ID)
	time.Sleep(time.Until(given.ExpiresAt.Add(-500 * time.Millisecond))) // the cooldown grows with the time for which it was held
	require.Equal(t, 204, buyer.cancel(t, given.ID))
	r := buyer.do(t, "POST", "/api/orders", wanted{seats[1].ID})
	refused(t, 409, r, "reservation_cooldown")
	seconds, err := strconv.Atoi(r.header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, 7, seconds, 1, "five sixths of the window, five sixths of the cooldown")
	isOver(t, expired)
	for range 2 { // before somebody has cancelled it, and after that
		r = buyer.do(t, "POST", "/api/orders", wanted{seats[0].ID})
		refused(t, 409, r, "reservation_cooldown")
		seconds, err = strconv.Atoi(r.header.Get("Retry-After"))
		require.NoError(t, err)
		require.InDelta(t, time.Until(expired.ExpiresAt.Add(8*time.Second)).Seconds(), seconds, 1.5)
		buyer.orderBecomes(t, "cancelled", expired.ID)
	}
	require.Equal(t, 204, other.cancel(t, other.reserved(t, seats[0].ID).ID), "it is there for others")
	eventually(t, "the buyer may try again", func() bool {
		status, _ := buyer.reserve(t, seats[0].ID)
		return status == 201
	})
	require.False(t, time.Now().Before(expired.ExpiresAt.Add(8*time.Second)))
}

func TestOrders_SellersDoNotBuyTheirOwnTickets(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	seat := seller.list(t, "Mine", 500)
	require.Equal(t, "ticketId", refused(t, 409, seller.do(t, "POST", "/api/orders", wanted{seat.ID}), "own_ticket").Errors[0].Field)
	buyer.reserved(t, seat.ID)
	refused(t, 409, seller.do(t, "POST", "/api/orders", wanted{seat.ID}), "ticket_reserved")
}

func TestTickets_TitlesReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller := h.signUp(t)
	seat := seller.list(t, "שורה 1, Opéra 👩‍👩‍👧", 500)
	for _, title := range []string{"Row\n1", "\x1b[2J", "Row \u202e1 ecils", "\u2067x", "a\u2028b"} {
		refused(t, 400, seller.do(t, "POST", "/api/tickets", offer{Title: title, Price: 500}), "printable")
		f := refused(t, 400, seller.do(t, "PUT", "/api/tickets/"+seat.ID, offer{Title: title, Price: 500}), "printable")
		require.Equal(t, "title", f.Errors[0].Field)
	}
	require.Equal(t, seat, h.ticket(t, seat.ID))
}

func TestOrders_UnsettledAreThoseThatKeepAnAccount(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer := h.signUp(t)
	unsettled := func() string { return string(buyer.do(t, "GET", "/api/orders/unsettled", nil).body) }
	require.Equal(t, `{"unsettled":0}`, unsettled())
	given := buyer.reserved(t, h.signUp(t).list(t, "Front row", 500).ID)
	require.Equal(t, `{"unsettled":1}`, unsettled())
	require.Equal(t, 204, buyer.cancel(t, given.ID))
	require.Equal(t, `{"unsettled":0}`, unsettled())
	paid := h.sold(t, buyer)
	buyer.paymentBecomes(t, "captured", paid.ID)
	becomes(t, `{"unsettled":0}`, "what is unsettled", unsettled)
	refused(t, 401, h.do(t, "GET", "/api/orders/unsettled", nil), "not_signed_in")
}

// A deleted account leaves nothing that others would wait for.
func TestAccounts_ThatAreDeletedGiveUpTicketsAndListings(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"RESERVATIONS_PER_USER": "10"}})
	leaver, other := h.signUp(t), h.signUp(t)
	listed, reserved := leaver.list(t, "For sale", 500), leaver.list(t, "Reserved", 500)
	stays := other.list(t, "Another's", 500)
	wanted1, wanted2 := other.list(t, "Wanted", 500), other.list(t, "Wanted later", 500)
	held := other.reserved(t, reserved.ID)
	h.ticketBecomes(t, "reserved", reserved.ID)
	unpaid := leaver.reserved(t, wanted1.ID)
	bought := h.sold(t, leaver)
	stream := h.stream(t)

	deleted := event.User{ID: leaver.ID, Version: 2}.Event("user.deleted").JSON()
	for range 2 { // the second is a repeat
		stream.tell(t, deleted)
		require.Equal(t, "user", leaver.orderBecomes(t, "cancelled", unpaid.ID).Reason)
		becomes(t, http.StatusNotFound, "the status of the listing", func() int { return h.do(t, "GET", "/api/tickets/"+listed.ID, nil).status })
		stream.settled(t)
	}
	h.ticketBecomes(t, "available", wanted1.ID)
	require.Equal(t, http.StatusUnauthorized, leaver.do(t, "POST", "/api/orders", wanted{wanted2.ID}).status)
	refused(t, 404, other.do(t, "POST", "/api/orders", wanted{listed.ID}), "ticket_not_found")
	require.Equal(t, stays, h.ticket(t, stays.ID))
	require.Equal(t, "complete", leaver.order(t, bought.OrderID).Status, "what is bought stays")

	// What somebody has reserved of the leaver's stays theirs; when it is given back, the listing ends.
	require.Equal(t, "created", other.order(t, held.ID).Status)
	require.Equal(t, "reserved", h.ticket(t, reserved.ID).Status)
	require.Equal(t, 204, other.cancel(t, held.ID))
	becomes(t, http.StatusNotFound, "the status of the listing", func() int { return h.do(t, "GET", "/api/tickets/"+reserved.ID, nil).status })
	stream.settled(t)
	refused(t, 404, other.do(t, "POST", "/api/orders", wanted{reserved.ID}), "ticket_not_found")
	require.Zero(t, stream.dead(t))
}

// refunds publishes a refund, as the payments service does.
func (s *stream) refunds(t *testing.T, p payment, buyer string, refunded int64) {
	t.Helper()
	refund := event.Payment{
		ID: p.ID, OrderID: p.OrderID, UserID: buyer, StripeID: p.StripeID, Status: "captured",
		Amount: p.Amount, Refunded: refunded, Currency: p.Currency, Version: 1000 + int(refunded), CreatedAt: p.CreatedAt, UpdatedAt: time.Now(),
	}
	s.tell(t, refund.Event("payment.refunded").JSON())
}

func TestRefund_OfAllEndsTheOrderAndWithholdsTheTicketUntilItsSellerSells(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{})
	seller, buyer, other := h.signUp(t), h.signUp(t), h.signUp(t)
	seat := seller.list(t, "Front row", 1500)
	status, paid := buyer.pay(t, buyer.reserved(t, seat.ID).ID, goodCard)
	require.Equal(t, 201, status)
	buyer.paymentBecomes(t, "captured", paid.ID)
	stream := h.stream(t)

	stream.refunds(t, paid, buyer.ID, 1499)
	stream.settled(t)
	require.Equal(t, "complete", buyer.order(t, paid.OrderID).Status, "a part changes nothing")
	require.Equal(t, "sold", h.ticket(t, seat.ID).Status)

	for range 2 {
		stream.refunds(t, paid, buyer.ID, 1500)
		require.Equal(t, "refunded", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
		stream.settled(t)
		withheld := h.ticketBecomes(t, "withheld", seat.ID)
		require.Empty(t, withheld.OrderID)
		refused(t, 409, other.do(t, "POST", "/api/orders", wanted{seat.ID}), "ticket_withheld")
	}
	becomes(t, int64(0), "what is kept of the money", func() int64 { return h.ledger(t, paid.OrderID)[0].Kept })

	r := seller.do(t, "PUT", "/api/tickets/"+seat.ID, offer{Title: "Front row, again", Price: 1600})
	require.Equal(t, 200, r.status, "%s", r.body)
	require.Equal(t, "available", as[ticket](t, r).Status)
	stream.settled(t)
	require.Equal(t, int64(1600), other.reserved(t, seat.ID).Ticket.Price)
	require.Zero(t, stream.dead(t))
}
