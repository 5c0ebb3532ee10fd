package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/contract"
	"boxoffice/deploy/stripe/sandbox"
)

// Calls of the public API, and of the Stripe sandbox.
//
// Functions that return a response or a status may be called from any goroutine. Those that return only a value require success, and
// so belong to the test's own goroutine.

// try sends a request through the gateway, or to the whole URL in its path.
func (s *testStack) try(ctx context.Context, r client.Request) (client.Response, error) {
	return s.api.Do(ctx, r)
}

// call sends a request. If there is no response, the test fails, and the status is 0.
func (s *testStack) call(t testing.TB, r client.Request) client.Response {
	t.Helper()
	response, err := s.try(contract.WithReporter(t.Context(), reportTo(t)), r)
	assert.NoError(t, err)
	return response
}

// request is call for a request that the client has no function for. headers are pairs of name and value.
func (s *testStack) request(t testing.TB, method, path string, body any, headers ...string) client.Response {
	t.Helper()
	return s.call(t, newRequest(method, path, body, headers...))
}

func newRequest(method, path string, body any, headers ...string) client.Request {
	r := client.Request{Method: method, Path: path, Body: body}
	for i := 0; i+1 < len(headers); i += 2 {
		r = r.With(headers[i], headers[i+1])
	}
	return r
}

// testUser is a user who has signed up, with a token.
type testUser struct {
	client.User
	password string
	token    string
	stack    *testStack
}

// try, call and request are those of the stack, with the user's token.
func (u *testUser) try(ctx context.Context, r client.Request) (client.Response, error) {
	return u.stack.api.As(u.token).Do(ctx, r)
}

func (u *testUser) call(t testing.TB, r client.Request) client.Response {
	t.Helper()
	response, err := u.try(contract.WithReporter(t.Context(), reportTo(t)), r)
	assert.NoError(t, err)
	return response
}

func (u *testUser) request(t testing.TB, method, path string, body any, headers ...string) client.Response {
	t.Helper()
	return u.call(t, newRequest(method, path, body, headers...))
}

// at returns the same user on another stack.
func (u *testUser) at(s *testStack) *testUser {
	other := *u
	other.stack = s
	return &other
}

// decode reads a response's body.
func decode[T any](t testing.TB, r client.Response) T {
	t.Helper()
	var value T
	assert.NoError(t, json.Unmarshal(r.Body, &value), "status %d, body: %s", r.Status, r.Body)
	return value
}

// decodeIf reads the body of a response with one of these statuses. For another status it returns the zero value.
func decodeIf[T any](t testing.TB, r client.Response, statuses ...int) T {
	t.Helper()
	for _, status := range statuses {
		if r.Status == status {
			return decode[T](t, r)
		}
	}
	var zero T
	return zero
}

// requireStatus requires the response to have that status.
func requireStatus(t testing.TB, status int, r client.Response) {
	t.Helper()
	require.Equal(t, status, r.Status, "%s", r.Body)
}

// requireProblem requires a refusal with that status, in the form that all refusals have, and with that code if one is given.
func requireProblem(t testing.TB, status int, r client.Response, code ...string) client.Problem {
	t.Helper()
	requireStatus(t, status, r)
	require.Equal(t, "application/problem+json", r.Header.Get("Content-Type"))
	problem, err := r.Problem()
	require.NoError(t, err)
	require.Equal(t, status, problem.Status)
	require.Equal(t, http.StatusText(status), problem.Title)
	require.NotEmpty(t, problem.Type)
	require.NotEmpty(t, problem.Detail)
	require.NotEmpty(t, problem.Errors)
	for _, e := range problem.Errors {
		require.NotEmpty(t, e.Message)
		require.NotEmpty(t, e.Code)
	}
	require.Equal(t, r.Header.Get("X-Request-Id"), problem.RequestID)
	if len(code) > 0 {
		require.Equal(t, code[0], problem.Code(), "%s", r.Body)
	}
	return problem
}

var userCount atomic.Int64

// newEmail returns an address that no user has.
func newEmail() string {
	return fmt.Sprintf("user-%d-%s@example.com", userCount.Add(1), uuid.NewString()[:8])
}

const password = "correct horse"

// signUp creates a user.
func (s *testStack) signUp(t testing.TB) *testUser {
	t.Helper()
	r := s.call(t, client.SignUp(newEmail(), password))
	requireStatus(t, 201, r)
	return s.userOf(decode[client.SignedIn](t, r))
}

func (s *testStack) userOf(in client.SignedIn) *testUser {
	return &testUser{User: in.User, password: password, token: in.Token, stack: s}
}

// signUpMany creates n users.
func (s *testStack) signUpMany(t *testing.T, n int) []*testUser {
	t.Helper()
	users := make([]*testUser, n)
	for i := range users {
		users[i] = s.signUp(t)
	}
	return users
}

// list lists a ticket.
func (u *testUser) list(t testing.TB, title string, price int64) client.Ticket {
	t.Helper()
	r := u.call(t, client.ListTicket(title, price))
	requireStatus(t, 201, r)
	return decode[client.Ticket](t, r)
}

// callKnown sends a request, and again while the event of what it names has not arrived.
func (u *testUser) callKnown(t testing.TB, r client.Request) (response client.Response) {
	t.Helper()
	eventually(t, "the service knows what the request names", func() bool {
		response = u.call(t, r)
		return response.Code() != "not_yet_known"
	})
	return response
}

// reserve reserves a ticket that is available.
func (u *testUser) reserve(t testing.TB, ticketID string) client.Order {
	t.Helper()
	r := u.callKnown(t, client.Reserve(ticketID))
	requireStatus(t, 201, r)
	return decode[client.Order](t, r)
}

// tryReserve returns the status, and the order if it is 201.
func (u *testUser) tryReserve(t testing.TB, ticketID string) (int, client.Order) {
	t.Helper()
	r := u.call(t, client.Reserve(ticketID))
	return r.Status, decodeIf[client.Order](t, r, 201)
}

// projectTicket reserves a ticket and cancels the order, so that the orders service has a projection of the ticket.
func projectTicket(t *testing.T, buyer *testUser, listed client.Ticket) {
	t.Helper()
	buyer.cancel(t, buyer.reserve(t, listed.ID).ID)
}

// reserveNew lists a ticket at that price, and reserves it. It returns the new buyer with the order.
func (s *testStack) reserveNew(t testing.TB, price int64) (*testUser, client.Order) {
	t.Helper()
	buyer := s.signUp(t)
	return buyer, buyer.reserve(t, s.signUp(t).list(t, "Concert", price).ID)
}

// Stripe's test cards.
const (
	goodCard              = "pm_card_visa"
	declinedCard          = "pm_card_chargeDeclined"
	secureCard            = "pm_card_authenticationRequired" // asks for 3-D Secure
	insufficientFundsCard = "pm_card_chargeDeclinedInsufficientFunds"
	declineAfterAuth      = "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds"
)

// pay pays an order that has no payment yet.
func (u *testUser) pay(t testing.TB, orderID, card string) client.Payment {
	t.Helper()
	r := u.callKnown(t, client.Pay(orderID, card))
	requireStatus(t, 201, r)
	return decode[client.Payment](t, r)
}

// tryPay returns the status, and the payment if it is 200 or 201.
func (u *testUser) tryPay(t testing.TB, orderID, card string) (int, client.Payment) {
	t.Helper()
	r := u.call(t, client.Pay(orderID, card))
	return r.Status, decodeIf[client.Payment](t, r, 200, 201)
}

// beginSecurePayment reserves a ticket, and begins to pay with a card that asks for 3-D Secure.
func (u *testUser) beginSecurePayment(t testing.TB, ticketID string) (client.Order, client.Payment) {
	t.Helper()
	order := u.reserve(t, ticketID)
	begun := u.pay(t, order.ID, secureCard)
	require.Equal(t, "requires_action", begun.Status)
	return order, begun
}

// cancel cancels an order.
func (u *testUser) cancel(t testing.TB, orderID string) {
	t.Helper()
	requireStatus(t, 204, u.call(t, client.CancelOrder(orderID)))
}

// sell lists a ticket and sells it to the buyer. It returns the buyer's payment.
func (s *testStack) sell(t testing.TB, buyer *testUser) client.Payment {
	t.Helper()
	listed := s.signUp(t).list(t, "Sold", 1500)
	paid := buyer.pay(t, buyer.reserve(t, listed.ID).ID, goodCard)
	buyer.orderBecomes(t, "complete", paid.OrderID)
	s.ticketBecomes(t, "sold", listed.ID)
	return paid
}

// ticket reads a ticket. Without a 200 it is the zero value; so are the order and the payment below.
func (s *testStack) ticket(t testing.TB, id string) client.Ticket {
	t.Helper()
	return decodeIf[client.Ticket](t, s.call(t, client.ReadTicket(id)), 200)
}

// order reads an order of the user.
func (u *testUser) order(t testing.TB, id string) client.Order {
	t.Helper()
	return decodeIf[client.Order](t, u.call(t, client.ReadOrder(id)), 200)
}

// payment reads a payment of the user.
func (u *testUser) payment(t testing.TB, id string) client.Payment {
	t.Helper()
	return decodeIf[client.Payment](t, u.call(t, client.ReadPayment(id)), 200)
}

// ticketBecomes waits until a ticket has the status.
func (s *testStack) ticketBecomes(t testing.TB, status, id string) (last client.Ticket) {
	t.Helper()
	eventuallyEqual(t, status, "ticket "+id, func() string { last = s.ticket(t, id); return last.Status })
	return last
}

// orderBecomes waits until an order of the user has the status.
func (u *testUser) orderBecomes(t testing.TB, status, id string) (last client.Order) {
	t.Helper()
	eventuallyEqual(t, status, "order "+id, func() string { last = u.order(t, id); return last.Status })
	return last
}

// paymentBecomes waits until a payment of the user has the status.
func (u *testUser) paymentBecomes(t testing.TB, status, id string) (last client.Payment) {
	t.Helper()
	eventuallyEqual(t, status, "payment "+id, func() string { last = u.payment(t, id); return last.Status })
	return last
}

// ownOrders reads all orders of the user, which must be on one page.
func (u *testUser) ownOrders(t testing.TB) []client.Order {
	t.Helper()
	return onlyPage[client.Order](t, u.call(t, client.ReadOrders().WithQuery("limit", 200)))
}

// ownTickets reads all tickets of the user. All tickets of the stack must be on one page.
func (u *testUser) ownTickets(t testing.TB) (own []client.Ticket) {
	t.Helper()
	for _, listed := range onlyPage[client.Ticket](t, u.call(t, client.ReadTickets().WithQuery("limit", 200))) {
		if listed.UserID == u.ID {
			own = append(own, listed)
		}
	}
	return own
}

// onlyPage reads a list that must end with this page. Without a 200 it is empty.
func onlyPage[T any](t testing.TB, page client.Response) []T {
	t.Helper()
	require.Empty(t, page.Next(), "the list has more than one page")
	return decodeIf[[]T](t, page, 200)
}

// metrics reads the metrics of a process. They are empty if it does not respond.
func (s *testStack) metrics(t testing.TB, process string) string {
	t.Helper()
	r, err := s.try(t.Context(), newRequest("GET", s.AppMetrics(process), nil))
	if err != nil {
		return ""
	}
	return string(r.Body)
}

// ledger reads the sandbox's account of an order, or of all orders: an entry for each PaymentIntent.
func (s *testStack) ledger(t testing.TB, orderID string) []sandbox.LedgerEntry {
	t.Helper()
	r := s.request(t, "GET", s.SandboxURL()+"/sandbox/ledger?orderId="+orderID, nil)
	return decodeIf[sandbox.Ledger](t, r, 200).Intents
}

// authenticate passes 3-D Secure in the buyer's place (outcome "succeed"), or fails it ("fail").
func (s *testStack) authenticate(t testing.TB, stripeID, outcome string) {
	t.Helper()
	r := s.request(t, "POST", s.SandboxURL()+"/sandbox/payment_intents/"+stripeID+"/authenticate", map[string]string{"outcome": outcome})
	requireStatus(t, 200, r)
}
