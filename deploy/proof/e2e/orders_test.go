package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestOrders_AreMadeShownAndCancelled(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyer, next := h.signUp(t), h.signUp(t), h.signUp(t)
	listed := seller.list(t, "Concert", 4200)

	r := buyer.do(t, "POST", "/api/orders", `{"ticketId":"`+listed.ID+`","price":1,"userId":"me","status":"complete"}`)
	require.Equal(t, 201, r.status, "%s", r.body)
	made := as[order](t, r)
	require.Equal(t, order{
		ID: made.ID, UserID: buyer.ID, Status: "created", ExpiresAt: made.CreatedAt.Add(15 * time.Minute),
		Ticket:  orderedTicket{ID: listed.ID, Title: "Concert", Price: 4200, Currency: "usd"},
		Version: 1, CreatedAt: made.CreatedAt, UpdatedAt: made.CreatedAt,
	}, made, "what a client may not say is not taken from it")
	require.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute)
	require.Equal(t, "/api/orders/"+made.ID, r.header.Get("Location"))
	require.NotContains(t, string(r.body), `"schema"`)

	shown := buyer.do(t, "GET", r.header.Get("Location"), nil)
	require.Equal(t, 200, shown.status)
	require.JSONEq(t, string(r.body), string(shown.body))

	for _, somebody := range []*person{next, buyer, seller} {
		refused(t, 409, somebody.do(t, "POST", "/api/orders", wanted{listed.ID}), "ticket_reserved")
	}

	require.Equal(t, 204, buyer.cancel(t, made.ID))
	cancelled := buyer.order(t, made.ID)
	require.Equal(t, []any{"cancelled", "user", 2}, []any{cancelled.Status, cancelled.Reason, cancelled.Version})
	require.Equal(t, 204, buyer.cancel(t, made.ID), "cancelled already")
	require.Equal(t, cancelled, buyer.order(t, made.ID), "the second time changes nothing")

	taken := next.reserved(t, listed.ID)
	require.Equal(t, 204, buyer.cancel(t, made.ID), "the next buyer's order is not concerned")
	require.Equal(t, "created", next.order(t, taken.ID).Status)
}

func TestOrders_ThatAreCompleteStay(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer := h.signUp(t)
	paid := h.sold(t, buyer)
	bought := buyer.order(t, paid.OrderID)

	refused(t, 409, buyer.do(t, "DELETE", "/api/orders/"+bought.ID, nil), "order_complete")
	refused(t, 409, h.signUp(t).do(t, "POST", "/api/orders", wanted{bought.Ticket.ID}), "ticket_sold")

	require.Equal(t, bought, buyer.order(t, bought.ID))
	require.Equal(t, "sold", h.ticket(t, bought.Ticket.ID).Status)
}

func TestOrders_AreTheirBuyersAlone(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	made := buyer.reserved(t, seller.list(t, "Concert", 4200).ID)

	for _, other := range []*person{seller, h.signUp(t)} {
		refused(t, 403, other.do(t, "GET", "/api/orders/"+made.ID, nil))
		refused(t, 403, other.do(t, "DELETE", "/api/orders/"+made.ID, nil))
		require.Empty(t, as[[]order](t, other.do(t, "GET", "/api/orders", nil)))
	}
	for _, call := range [][2]string{{"POST", ""}, {"GET", ""}, {"GET", "/" + made.ID}, {"DELETE", "/" + made.ID}, {"GET", "/nonsense"}} {
		refused(t, 401, h.do(t, call[0], "/api/orders"+call[1], nil), "not_signed_in")
	}
	require.Equal(t, made, buyer.order(t, made.ID))
}

func TestOrders_RefuseWhatIsNotValid(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer := h.signUp(t)

	for name, body := range map[string]string{
		"nothing":           `{}`,
		"null":              `{"ticketId":null}`,
		"an empty id":       `{"ticketId":""}`,
		"no id":             `{"ticketId":"nonsense"}`,
		"a number":          `{"ticketId":7}`,
		"an object":         `{"ticketId":{"id":"` + unknownID + `"}}`,
		"an id and more":    `{"ticketId":"` + unknownID + `x"}`,
		"an id too long":    `{"ticketId":"` + strings.Repeat("x", 10_000) + `"}`,
		"an id in brackets": `{"ticketId":"{` + unknownID + `}"}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := refused(t, 400, buyer.do(t, "POST", "/api/orders", body))
			require.Equal(t, "ticketId", f.Errors[0].Field)
		})
	}
	refused(t, 400, buyer.do(t, "POST", "/api/orders", `not JSON`), "not_json")
	for name, id := range map[string]string{"old": unknownID, "new": uuid.Must(uuid.NewV7()).String(), "random": uuid.NewString()} {
		f := refused(t, 404, buyer.do(t, "POST", "/api/orders", wanted{id}), "ticket_not_found")
		require.Equal(t, "ticketId", f.Errors[0].Field, name)
	}
	for _, id := range append(strings.Fields(nonsenseIDs), unknownID, buyer.ID) {
		refused(t, 404, buyer.do(t, "GET", "/api/orders/"+id, nil))
		refused(t, 404, buyer.do(t, "DELETE", "/api/orders/"+id, nil))
	}
	require.Empty(t, as[[]order](t, buyer.do(t, "GET", "/api/orders", nil)))
}

func TestOrders_TicketIdIsTheSameInCapitalLetters(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	listed := h.signUp(t).list(t, "Concert", 4200)

	status, made := h.signUp(t).reserve(t, strings.ToUpper(listed.ID))

	require.Equal(t, 201, status)
	require.Equal(t, listed.ID, made.Ticket.ID)
	status, _ = h.signUp(t).reserve(t, listed.ID)
	require.Equal(t, 409, status)
}

func TestOrders_WithdrawnTicketIsNotToBeHad(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	listed := seller.list(t, "Concert", 4200)
	require.Equal(t, 204, seller.do(t, "DELETE", "/api/tickets/"+listed.ID, nil).status)

	// In the first moment the orders service may not have heard of it; then the order is taken back.
	for {
		status, made := buyer.reserve(t, listed.ID)
		if status != 201 {
			require.Equal(t, 404, status)
			break
		}
		require.Equal(t, "withdrawn", buyer.orderBecomes(t, "cancelled", made.ID).Reason)
	}
	require.Equal(t, 404, h.do(t, "GET", "/api/tickets/"+listed.ID, nil).status)
}

func TestOrders_ListIsTheBuyersOwnPagedToItsEnd(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyer, other := h.signUp(t), h.signUp(t), h.signUp(t)
	require.Equal(t, "[]", string(buyer.do(t, "GET", "/api/orders", nil).body), "an empty list is a list")
	var mine []string // newest first
	for range 12 {
		made := buyer.reserved(t, seller.list(t, "Concert", 4200).ID)
		mine = append([]string{made.ID}, mine...)
		r := buyer.do(t, "DELETE", "/api/orders/"+made.ID, nil)
		require.Equal(t, 204, r.status, "%s", r.body)
	}
	foreign := other.reserved(t, seller.list(t, "Opera", 4300).ID)

	for _, limit := range []int{1, 5, 12, 200} {
		var found []string
		h.follow(t, fmt.Sprint("/api/orders?limit=", limit), func(path string) reply { return buyer.do(t, "GET", path, nil) }, func(page reply) {
			orders := as[[]order](t, page)
			require.LessOrEqual(t, len(orders), limit)
			for _, o := range orders {
				found = append(found, o.ID)
				require.Equal(t, "cancelled", o.Status)
			}
		})
		require.Equal(t, mine, found, "limit %d", limit)
	}
	theirs := as[[]order](t, other.do(t, "GET", "/api/orders", nil))
	require.Equal(t, []order{foreign}, theirs)
	require.Equal(t, "limit", refused(t, 400, buyer.do(t, "GET", "/api/orders?limit=x", nil)).Errors[0].Field)
	require.Equal(t, "cursor", refused(t, 400, buyer.do(t, "GET", "/api/orders?cursor=x", nil)).Errors[0].Field)
}

func TestOrders_IdempotencyKey(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyer, other := h.signUp(t), h.signUp(t), h.signUp(t)
	listed, another := seller.list(t, "Concert", 4200), seller.list(t, "Opera", 4300)
	key := uuid.NewString()
	ask := func(p *person, ticketID string) reply {
		return p.do(t, "POST", "/api/orders", wanted{ticketID}, "Idempotency-Key", key)
	}

	first := ask(buyer, listed.ID)
	require.Equal(t, 201, first.status, "%s", first.body)
	require.Empty(t, first.header.Get("Idempotent-Replayed"))
	made := as[order](t, first)

	t.Run("the same again is answered as it was, whatever became of it", func(t *testing.T) {
		require.Equal(t, 204, buyer.cancel(t, made.ID))
		again := ask(buyer, listed.ID)
		require.Equal(t, 201, again.status)
		require.Equal(t, string(first.body), string(again.body))
		require.Equal(t, first.header.Get("Location"), again.header.Get("Location"))
		require.Equal(t, first.header.Get("Content-Type"), again.header.Get("Content-Type"))
		require.Equal(t, "true", again.header.Get("Idempotent-Replayed"))
		require.Equal(t, "cancelled", buyer.order(t, made.ID).Status)
		require.Len(t, as[[]order](t, buyer.do(t, "GET", "/api/orders", nil)), 1)
	})
	t.Run("with another body it is refused", func(t *testing.T) {
		refused(t, 409, ask(buyer, another.ID), "idempotency_key_reused")
	})
	t.Run("another's key is another key", func(t *testing.T) {
		r := ask(other, listed.ID)
		require.Equal(t, 201, r.status, "%s", r.body)
		require.NotEqual(t, made.ID, as[order](t, r).ID)
	})
	t.Run("after a refusal it can be used again", func(t *testing.T) {
		key := uuid.NewString()
		refused(t, 409, buyer.do(t, "POST", "/api/orders", wanted{listed.ID}, "Idempotency-Key", key), "ticket_reserved")
		r := buyer.do(t, "POST", "/api/orders", wanted{another.ID}, "Idempotency-Key", key)
		require.Equal(t, 201, r.status, "%s", r.body)
	})
	t.Run("one too long is refused", func(t *testing.T) {
		f := refused(t, 400, buyer.do(t, "POST", "/api/orders", wanted{listed.ID}, "Idempotency-Key", strings.Repeat("k", 256)))
		require.Equal(t, "Idempotency-Key", f.Errors[0].Field)
	})
}

func TestOrders_CopiesOfARequestAtOnceMakeOneOrder(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer := h.signUp(t)
	listed := h.signUp(t).list(t, "Concert", 4200)
	key := uuid.NewString()
	const copies = 8
	replies := make([]reply, copies)
	var all sync.WaitGroup
	for i := range copies {
		all.Go(func() {
			replies[i] = buyer.do(t, "POST", "/api/orders", wanted{listed.ID}, "Idempotency-Key", key)
		})
	}
	all.Wait()

	for _, r := range replies {
		require.Equal(t, 201, r.status, "%s", r.body)
		require.Equal(t, as[order](t, replies[0]).ID, as[order](t, r).ID)
	}
	require.Len(t, as[[]order](t, buyer.do(t, "GET", "/api/orders", nil)), 1)
}
