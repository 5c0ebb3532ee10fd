package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/stripe/sandbox"
)

// The client of the public API that all tests use. Calls that return a reply or a status may be made from any
// goroutine; those that return only what they made fail the test if they could not, and are for the test's own
// goroutine.

// user, ticket, order and payment are what the API answers.
type user struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	CreatedAt time.Time `json:"createdAt"`
}

type ticket struct {
	ID        string    `json:"id"`
	Title     string    `json:"title"`
	Price     int64     `json:"price"`
	Currency  string    `json:"currency"`
	UserID    string    `json:"userId"`
	Status    string    `json:"status"`
	OrderID   string    `json:"orderId"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

type orderedTicket struct {
	ID       string `json:"id"`
	Title    string `json:"title"`
	Price    int64  `json:"price"`
	Currency string `json:"currency"`
}

type order struct {
	ID        string        `json:"id"`
	UserID    string        `json:"userId"`
	Status    string        `json:"status"`
	Reason    string        `json:"reason"`
	ExpiresAt time.Time     `json:"expiresAt"`
	Ticket    orderedTicket `json:"ticket"`
	Version   int           `json:"version"`
	CreatedAt time.Time     `json:"createdAt"`
	UpdatedAt time.Time     `json:"updatedAt"`
}

type payment struct {
	ID           string    `json:"id"`
	OrderID      string    `json:"orderId"`
	StripeID     string    `json:"stripeId"`
	Status       string    `json:"status"`
	Amount       int64     `json:"amount"`
	Currency     string    `json:"currency"`
	DeclineCode  string    `json:"declineCode"`
	ClientSecret string    `json:"clientSecret"`
	CreatedAt    time.Time `json:"createdAt"`
	UpdatedAt    time.Time `json:"updatedAt"`
}

// fault is the body of an answer that refuses (RFC 9457).
type fault struct {
	Type      string        `json:"type"`
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Detail    string        `json:"detail"`
	Errors    []faultDetail `json:"errors"`
	RequestID string        `json:"requestId"`
}

type faultDetail struct {
	Message string `json:"message"`
	Field   string `json:"field"`
	Code    string `json:"code"`
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// as decodes the reply's body.
func as[T any](t testing.TB, r reply) T {
	t.Helper()
	var v T
	assert.NoError(t, json.Unmarshal(r.body, &v), "status %d, body: %s", r.status, r.body)
	return v
}

// asIf decodes the body of a reply with that status, and gives the zero value for any other.
func asIf[T any](t testing.TB, r reply, statuses ...int) T {
	t.Helper()
	for _, status := range statuses {
		if r.status == status {
			return as[T](t, r)
		}
	}
	var zero T
	return zero
}

// cookie is the cookie of that name that the reply sets, or nil.
func (r reply) cookie(name string) *http.Cookie {
	for _, cookie := range (&http.Response{Header: r.header}).Cookies() {
		if cookie.Name == name {
			return cookie
		}
	}
	return nil
}

// refused requires that the reply is a fault with that status, in the form that all faults have, and whose
// first error has that code, if one is given.
func refused(t testing.TB, status int, r reply, code ...string) fault {
	t.Helper()
	require.Equal(t, status, r.status, "%s", r.body)
	require.Equal(t, "application/problem+json", r.header.Get("Content-Type"))
	f := as[fault](t, r)
	require.Equal(t, status, f.Status)
	require.Equal(t, http.StatusText(status), f.Title)
	require.NotEmpty(t, f.Type)
	require.NotEmpty(t, f.Detail)
	require.NotEmpty(t, f.Errors)
	for _, e := range f.Errors {
		require.NotEmpty(t, e.Message)
	}
	require.Equal(t, r.header.Get("X-Request-Id"), f.RequestID)
	if len(code) > 0 {
		require.Equal(t, code[0], f.Errors[0].Code, "%s", r.body)
	}
	return f
}

// send makes a request, through the gateway unless path is a whole URL. body may be nil, a string or bytes that
// are sent as they are, or a value that is sent as JSON; headers are pairs of name and value, and an empty value
// removes the header.
func (h *house) send(method, path string, body any, headers ...string) (reply, error) {
	url := path
	if strings.HasPrefix(path, "/") {
		url = h.GatewayURL() + path
	}
	var raw []byte
	switch b := body.(type) {
	case nil:
	case string:
		raw = []byte(b)
	case []byte:
		raw = b
	default:
		var err error
		if raw, err = json.Marshal(b); err != nil {
			return reply{}, err
		}
	}
	req, err := http.NewRequest(method, url, bytes.NewReader(raw))
	if err != nil {
		return reply{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		switch {
		case headers[i+1] == "":
			req.Header.Del(headers[i])
		case headers[i] == "Host":
			req.Host = headers[i+1]
		default:
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := h.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return reply{}, fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	return reply{res.StatusCode, res.Header, answer}, nil
}

// do is send for whom an answer is certain: without one the test fails, and the reply's status is 0.
func (h *house) do(t testing.TB, method, path string, body any, headers ...string) reply {
	t.Helper()
	r, err := h.send(method, path, body, headers...)
	assert.NoError(t, err)
	return r
}

// person is somebody who has signed up.
type person struct {
	user
	password string
	token    string
	house    *house
}

var people atomic.Int64

// newEmail is one that nobody has used.
func newEmail() string {
	return fmt.Sprintf("person-%d-%s@example.com", people.Add(1), uuid.NewString()[:8])
}

type credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

type signedIn struct {
	User  user   `json:"user"`
	Token string `json:"token"`
}

// signUp makes a new person.
func (h *house) signUp(t testing.TB) *person {
	t.Helper()
	wanted := credentials{Email: newEmail(), Password: "correct horse"}
	r := h.do(t, "POST", "/api/users/signup", wanted)
	require.Equal(t, 201, r.status, "%s", r.body)
	in := as[signedIn](t, r)
	return &person{user: in.User, password: wanted.Password, token: in.Token, house: h}
}

// send and do make a request as the person, who shows a Bearer token.
func (p *person) send(method, path string, body any, headers ...string) (reply, error) {
	return p.house.send(method, path, body, append([]string{"Authorization", "Bearer " + p.token}, headers...)...)
}

func (p *person) do(t testing.TB, method, path string, body any, headers ...string) reply {
	t.Helper()
	r, err := p.send(method, path, body, headers...)
	assert.NoError(t, err)
	return r
}

type offer struct {
	Title   string `json:"title"`
	Price   int64  `json:"price"`
	Version int    `json:"version,omitempty"`
}

// list offers a ticket.
func (p *person) list(t testing.TB, title string, price int64) ticket {
	t.Helper()
	r := p.do(t, "POST", "/api/tickets", offer{Title: title, Price: price})
	require.Equal(t, 201, r.status, "%s", r.body)
	return as[ticket](t, r)
}

type wanted struct {
	TicketID string `json:"ticketId"`
}

// reserve asks for a ticket; without a 201 there is no order.
func (p *person) reserve(t testing.TB, ticketID string) (int, order) {
	t.Helper()
	r := p.do(t, "POST", "/api/orders", wanted{ticketID})
	return r.status, asIf[order](t, r, 201)
}

// reserved reserves a ticket that is free.
func (p *person) reserved(t testing.TB, ticketID string) order {
	t.Helper()
	r := p.do(t, "POST", "/api/orders", wanted{ticketID})
	require.Equal(t, 201, r.status, "%s", r.body)
	return as[order](t, r)
}

const (
	goodCard         = "pm_card_visa"
	declinedCard     = "pm_card_chargeDeclined"
	secureCard       = "pm_card_authenticationRequired"
	poorCard         = "pm_card_chargeDeclinedInsufficientFunds"
	declineAfterAuth = "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds"
)

type paying struct {
	OrderID       string `json:"orderId"`
	PaymentMethod string `json:"paymentMethod,omitempty"`
	Token         string `json:"token,omitempty"`
}

// pay pays an order with a card; without a 200 or 201 there is no payment.
func (p *person) pay(t testing.TB, orderID, card string) (int, payment) {
	t.Helper()
	r := p.do(t, "POST", "/api/payments", paying{OrderID: orderID, PaymentMethod: card})
	return r.status, asIf[payment](t, r, 200, 201)
}

// cancel cancels an order.
func (p *person) cancel(t testing.TB, orderID string) int {
	t.Helper()
	return p.do(t, "DELETE", "/api/orders/"+orderID, nil).status
}

// ticket reads a ticket; without a 200 it is the zero ticket.
func (h *house) ticket(t testing.TB, id string) ticket {
	t.Helper()
	return asIf[ticket](t, h.do(t, "GET", "/api/tickets/"+id, nil), 200)
}

// order reads an order of the person's; without a 200 it is the zero order.
func (p *person) order(t testing.TB, id string) order {
	t.Helper()
	return asIf[order](t, p.do(t, "GET", "/api/orders/"+id, nil), 200)
}

// payment reads a payment of the person's; without a 200 it is the zero payment.
func (p *person) payment(t testing.TB, id string) payment {
	t.Helper()
	return asIf[payment](t, p.do(t, "GET", "/api/payments/"+id, nil), 200)
}

// ticketBecomes waits until a ticket has the status.
func (h *house) ticketBecomes(t testing.TB, status, id string) ticket {
	t.Helper()
	var last ticket
	becomes(t, status, "ticket "+id, func() string { last = h.ticket(t, id); return last.Status })
	return last
}

// orderBecomes waits until an order of the person's has the status.
func (p *person) orderBecomes(t testing.TB, status, id string) order {
	t.Helper()
	var last order
	becomes(t, status, "order "+id, func() string { last = p.order(t, id); return last.Status })
	return last
}

// paymentBecomes waits until a payment of the person's has the status.
func (p *person) paymentBecomes(t testing.TB, status, id string) payment {
	t.Helper()
	var last payment
	becomes(t, status, "payment "+id, func() string { last = p.payment(t, id); return last.Status })
	return last
}

// ledger is the bank's account of an order: an entry for each PaymentIntent, of which there is at most one.
func (h *house) ledger(t testing.TB, orderID string) []sandbox.LedgerEntry {
	t.Helper()
	r := h.do(t, "GET", h.SandboxURL()+"/sandbox/ledger?orderId="+orderID, nil)
	return asIf[sandbox.Ledger](t, r, 200).Intents
}

// authenticate passes, or fails, the 3-D Secure challenge of a payment in the buyer's place.
func (h *house) authenticate(t testing.TB, stripeID, outcome string) {
	t.Helper()
	r := h.do(t, "POST", h.SandboxURL()+"/sandbox/payment_intents/"+stripeID+"/authenticate", map[string]string{"outcome": outcome})
	require.Equal(t, 200, r.status, "%s", r.body)
}

// sold lists a ticket and sells it to the buyer; it returns the buyer's payment.
func (h *house) sold(t testing.TB, buyer *person) payment {
	t.Helper()
	listed := h.signUp(t).list(t, "Sold", 1500)
	status, paid := buyer.pay(t, buyer.reserved(t, listed.ID).ID, goodCard)
	require.Equal(t, 201, status)
	buyer.orderBecomes(t, "complete", paid.OrderID)
	h.ticketBecomes(t, "sold", listed.ID)
	return paid
}
