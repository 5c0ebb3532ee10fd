package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

func TestOrders_CreateReadCancel(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyer, next := s.signUp(t), s.signUp(t), s.signUp(t)
	listed := seller.list(t, "Concert", 4200)

	r := buyer.request(t, "POST", "/api/orders", `{"ticketId":"`+listed.ID+`","price":1,"userId":"me","status":"complete"}`)
	requireStatus(t, 201, r)
	made := decode[client.Order](t, r)
	require.Equal(t, client.Order{
		ID: made.ID, UserID: buyer.ID, Status: "created", ExpiresAt: made.CreatedAt.Add(15 * time.Minute),
		Ticket:  client.OrderedTicket{ID: listed.ID, Title: "Concert", Price: 4200, Currency: "usd"},
		Version: 1, CreatedAt: made.CreatedAt, UpdatedAt: made.CreatedAt,
	}, made, "members that a client may not set are ignored")
	require.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute)
	require.Equal(t, "/api/orders/"+made.ID, r.Header.Get("Location"))
	require.NotContains(t, string(r.Body), `"schema"`)

	shown := buyer.request(t, "GET", r.Header.Get("Location"), nil)
	requireStatus(t, 200, shown)
	require.JSONEq(t, string(r.Body), string(shown.Body))

	for _, user := range []*testUser{next, seller} {
		require.Empty(t, requireProblem(t, 409, user.call(t, client.Reserve(listed.ID)), "ticket_reserved").OrderID)
	}
	own := requireProblem(t, 409, buyer.call(t, client.Reserve(listed.ID)), "own_reservation")
	require.Equal(t, made.ID, own.OrderID, "the buyer's own order")

	buyer.cancel(t, made.ID)
	cancelled := buyer.order(t, made.ID)
	require.Equal(t, []any{"cancelled", "user", 2}, []any{cancelled.Status, cancelled.Reason, cancelled.Version})
	buyer.cancel(t, made.ID)
	require.Equal(t, cancelled, buyer.order(t, made.ID), "the second cancellation changes nothing")

	second := next.reserve(t, listed.ID)
	buyer.cancel(t, made.ID)
	require.Equal(t, "created", next.order(t, second.ID).Status)
}

func TestOrders_CompleteOrderCannotBeCancelled(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer := s.signUp(t)
	paid := s.sell(t, buyer)
	bought := buyer.order(t, paid.OrderID)

	requireProblem(t, 409, buyer.call(t, client.CancelOrder(bought.ID)), "order_complete")
	requireProblem(t, 409, s.signUp(t).call(t, client.Reserve(bought.Ticket.ID)), "ticket_sold")

	require.Equal(t, bought.ID, requireProblem(t, 409, buyer.call(t, client.Reserve(bought.Ticket.ID)), "own_reservation").OrderID)

	require.Equal(t, bought, buyer.order(t, bought.ID))
	require.Equal(t, "sold", s.ticket(t, bought.Ticket.ID).Status)
}

func TestOrders_OnlyTheBuyerSeesThem(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	made := buyer.reserve(t, seller.list(t, "Concert", 4200).ID)

	for _, other := range []*testUser{seller, s.signUp(t)} {
		requireProblem(t, 403, other.call(t, client.ReadOrder(made.ID)), "not_buyer")
		requireProblem(t, 403, other.call(t, client.CancelOrder(made.ID)), "not_buyer")
		require.Empty(t, decode[[]client.Order](t, other.call(t, client.ReadOrders())))
	}
	for _, call := range [][2]string{{"POST", ""}, {"GET", ""}, {"GET", "/" + made.ID}, {"DELETE", "/" + made.ID}, {"GET", "/nonsense"}} {
		requireProblem(t, 401, s.request(t, call[0], "/api/orders"+call[1], nil), "not_signed_in")
	}
	require.Equal(t, made, buyer.order(t, made.ID))
}

func TestOrders_InvalidRequestsAreRefused(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer := s.signUp(t)

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
			problem := requireProblem(t, 400, buyer.request(t, "POST", "/api/orders", body))
			require.Equal(t, "ticketId", problem.Errors[0].Field)
		})
	}
	requireProblem(t, 400, buyer.request(t, "POST", "/api/orders", `not JSON`), "not_json")
	for name, id := range map[string]string{"old": unknownID, "random": uuid.NewString()} {
		problem := requireProblem(t, 404, buyer.call(t, client.Reserve(id)), "ticket_not_found")
		require.Equal(t, "ticketId", problem.Errors[0].Field, name)
	}
	young := requireProblem(t, 503, buyer.call(t, client.Reserve(uuid.Must(uuid.NewV7()).String())), "not_yet_known")
	require.Equal(t, "ticketId", young.Errors[0].Field)
	require.Positive(t, young.RetryAfter)
	for _, id := range append(strings.Fields(nonsenseIDs), unknownID, buyer.ID) {
		requireProblem(t, 404, buyer.call(t, client.ReadOrder(id)), "not_found")
		requireProblem(t, 404, buyer.call(t, client.CancelOrder(id)), "not_found")
	}
	require.Empty(t, decode[[]client.Order](t, buyer.call(t, client.ReadOrders())))
}

func TestOrders_TicketIDInCapitalLettersIsTheSame(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	listed := s.signUp(t).list(t, "Concert", 4200)

	status, made := s.signUp(t).tryReserve(t, strings.ToUpper(listed.ID))

	require.Equal(t, 201, status)
	require.Equal(t, listed.ID, made.Ticket.ID)
	status, _ = s.signUp(t).tryReserve(t, listed.ID)
	require.Equal(t, 409, status)
}

func TestOrders_WithdrawnTicketCannotBeReserved(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	listed := seller.list(t, "Concert", 4200)
	requireStatus(t, 204, seller.call(t, client.DeleteTicket(listed.ID)))

	// Until orders has handled the deletion, it makes an order and cancels it.
	for {
		status, order := buyer.tryReserve(t, listed.ID)
		if status != 201 {
			require.Equal(t, 404, status)
			break
		}
		require.Equal(t, "withdrawn", buyer.orderBecomes(t, "cancelled", order.ID).Reason)
	}
	requireStatus(t, 404, s.call(t, client.ReadTicket(listed.ID)))
}

func TestOrders_ListHasPagesOfTheBuyersOrders(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyer, other := s.signUp(t), s.signUp(t), s.signUp(t)
	require.Equal(t, "[]", string(buyer.call(t, client.ReadOrders()).Body), "an empty list is an array")
	var mine []string // newest first
	for range 12 {
		made := buyer.reserve(t, seller.list(t, "Concert", 4200).ID)
		mine = append([]string{made.ID}, mine...)
		r := buyer.call(t, client.CancelOrder(made.ID))
		requireStatus(t, 204, r)
	}
	foreign := other.reserve(t, seller.list(t, "Opera", 4300).ID)

	for _, limit := range []int{1, 5, 12, 200} {
		var found []string
		for _, page := range readPages(t, s.api.As(buyer.token), client.ReadOrders().WithQuery("limit", limit)) {
			orders := decode[[]client.Order](t, page)
			require.LessOrEqual(t, len(orders), limit)
			for _, o := range orders {
				found = append(found, o.ID)
				require.Equal(t, "cancelled", o.Status)
			}
		}
		require.Equal(t, mine, found, "limit %d", limit)
	}
	theirs := decode[[]client.Order](t, other.call(t, client.ReadOrders()))
	require.Equal(t, []client.Order{foreign}, theirs)
	require.Equal(t, "limit", requireProblem(t, 400, buyer.request(t, "GET", "/api/orders?limit=x", nil)).Errors[0].Field)
	require.Equal(t, "cursor", requireProblem(t, 400, buyer.request(t, "GET", "/api/orders?cursor=x", nil)).Errors[0].Field)
}

func TestOrders_IdempotencyKeyRepeatsTheResponse(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyer, other := s.signUp(t), s.signUp(t), s.signUp(t)
	listed, another := seller.list(t, "Concert", 4200), seller.list(t, "Opera", 4300)
	key := uuid.NewString()
	reserve := func(u *testUser, ticketID string) client.Response {
		return u.call(t, client.Reserve(ticketID).WithKey(key))
	}

	first := reserve(buyer, listed.ID)
	requireStatus(t, 201, first)
	require.Empty(t, first.Header.Get("Idempotent-Replayed"))
	made := decode[client.Order](t, first)

	t.Run("the same request has the same response, also after the order was cancelled", func(t *testing.T) {
		buyer.cancel(t, made.ID)
		again := reserve(buyer, listed.ID)
		requireStatus(t, 201, again)
		require.Equal(t, string(first.Body), string(again.Body))
		require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"))
		require.Equal(t, first.Header.Get("Content-Type"), again.Header.Get("Content-Type"))
		require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
		require.Equal(t, "cancelled", buyer.order(t, made.ID).Status)
		require.Len(t, decode[[]client.Order](t, buyer.call(t, client.ReadOrders())), 1)
	})
	t.Run("with another body the key is refused", func(t *testing.T) {
		requireProblem(t, 409, reserve(buyer, another.ID), "idempotency_key_reused")
	})
	t.Run("another user may use the same key", func(t *testing.T) {
		r := reserve(other, listed.ID)
		requireStatus(t, 201, r)
		require.NotEqual(t, made.ID, decode[client.Order](t, r).ID)
	})
	t.Run("after a refusal the key can be used again", func(t *testing.T) {
		key := uuid.NewString()
		requireProblem(t, 409, buyer.call(t, client.Reserve(listed.ID).WithKey(key)), "ticket_reserved")
		r := buyer.call(t, client.Reserve(another.ID).WithKey(key))
		requireStatus(t, 201, r)
	})
	t.Run("a key that is too long is refused", func(t *testing.T) {
		problem := requireProblem(t, 400, buyer.call(t, client.Reserve(listed.ID).WithKey(strings.Repeat("k", 256))))
		require.Equal(t, "Idempotency-Key", problem.Errors[0].Field)
	})
}

func TestOrders_ConcurrentRepeatsMakeOneOrder(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer := s.signUp(t)
	listed := s.signUp(t).list(t, "Concert", 4200)
	key := uuid.NewString()
	responses := make([]client.Response, 8)
	atOnce(len(responses), func(i int) { responses[i] = buyer.call(t, client.Reserve(listed.ID).WithKey(key)) })

	for _, r := range responses {
		requireStatus(t, 201, r)
		require.Equal(t, decode[client.Order](t, responses[0]).ID, decode[client.Order](t, r).ID)
	}
	require.Len(t, decode[[]client.Order](t, buyer.call(t, client.ReadOrders())), 1)
}

func TestOrders_UnsettledCountsOpenOrders(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer := s.signUp(t)
	require.Equal(t, `{"unsettled":0}`, buyer.unsettled(t))
	order := buyer.reserve(t, s.signUp(t).list(t, "Front row", 500).ID)
	require.Equal(t, `{"unsettled":1}`, buyer.unsettled(t))
	buyer.cancel(t, order.ID)
	require.Equal(t, `{"unsettled":0}`, buyer.unsettled(t))
	paid := s.sell(t, buyer)
	buyer.paymentBecomes(t, "captured", paid.ID)
	eventuallyEqual(t, `{"unsettled":0}`, "the unsettled orders", func() string { return buyer.unsettled(t) })
	requireProblem(t, 401, s.request(t, "GET", "/api/orders/unsettled", nil), "not_signed_in")
}
