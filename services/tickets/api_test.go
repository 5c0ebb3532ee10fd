package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/signing"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

// testAPI is the service's REST API with a sidecar in memory.
type testAPI struct {
	app    *fiber.App
	store  *store
	issuer *identity.Issuer
}

func newTestAPI(t *testing.T) *testAPI {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	documents, err := state.Open(t.Context(), statetest.New(), state.Options{Service: "tickets", Instance: "test", Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(context.Background()) })
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	a := &testAPI{
		rest.New(rest.Options{Name: "tickets", Log: quiet, BodyLimit: 65536}),
		newStore(documents, Terms{"usd", 50}, clock.System, quiet),
		identity.NewIssuer(private, time.Hour),
	}
	keys := identity.NewVerifier(func(context.Context) (signing.KeySet, error) { return a.issuer.KeySet(), nil })
	(&api{a.store}).register(a.app, identity.RequireUser(keys))
	return a
}

type response struct {
	status int
	header http.Header
	body   string
}

func (r response) ticket(t *testing.T) ticketResponse {
	t.Helper()
	var ticket ticketResponse
	require.NoError(t, json.Unmarshal([]byte(r.body), &ticket), r.body)
	return ticket
}

func (r response) errors(t *testing.T) []problem.Detail {
	t.Helper()
	var p struct{ Errors []problem.Detail }
	require.NoError(t, json.Unmarshal([]byte(r.body), &p), r.body)
	return p.Errors
}

func (a *testAPI) send(t *testing.T, seller id.User, method, path, body string, header ...string) response {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	token, _, err := a.issuer.Issue(identity.Caller{ID: seller, Email: "seller@example.com"}, time.Now())
	if !assert.NoError(t, err) {
		return response{}
	}
	request.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	res, err := a.app.Test(request, -1)
	if !assert.NoError(t, err) {
		return response{}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	assert.NoError(t, err)
	return response{res.StatusCode, res.Header, string(text)}
}

func (a *testAPI) listed(t *testing.T) []Ticket {
	t.Helper()
	tickets, _, err := a.store.Tickets(t.Context(), 100, "")
	require.NoError(t, err)
	return tickets
}

const frontRow = `{"title":"Front row","price":4500}`

func TestAPI_ARequestWithAKeyListsOneTicket(t *testing.T) {
	a := newTestAPI(t)
	key := []string{idempotency.Header, "key-1"}
	first := a.send(t, "seller", "POST", "/api/tickets", frontRow, key...)
	require.Equal(t, 201, first.status, first.body)
	made := first.ticket(t)
	require.Equal(t, "/api/tickets/"+string(made.ID), first.header.Get("Location"))
	require.Equal(t, `"1"`, first.header.Get("ETag"))
	require.Empty(t, first.header.Get(idempotency.ReplayedHeader))

	require.Equal(t, 200, a.send(t, "seller", "PUT", "/api/tickets/"+string(made.ID), `{"title":"Back row","price":4500}`).status)
	again := a.send(t, "seller", "POST", "/api/tickets", frontRow, key...)
	require.Equal(t, 201, again.status, again.body)
	require.Equal(t, first.body, again.body, "as it was")
	require.Equal(t, "true", again.header.Get(idempotency.ReplayedHeader))
	for _, name := range []string{"Location", "ETag", "Content-Type"} {
		require.Equal(t, first.header.Get(name), again.header.Get(name), name)
	}
	require.Len(t, a.listed(t), 1)

	other := a.send(t, "seller", "POST", "/api/tickets", `{"title":"Front row","price":4600}`, key...)
	require.Equal(t, 409, other.status, other.body)
	require.Equal(t, "idempotency_key_reused", other.errors(t)[0].Code)
	require.Equal(t, 400, a.send(t, "seller", "POST", "/api/tickets", `{"price":4500}`, idempotency.Header, "key-2").status)
	require.Equal(t, 201, a.send(t, "seller", "POST", "/api/tickets", frontRow, idempotency.Header, "key-2").status, "a refusal does not use the key up")
	require.Equal(t, 201, a.send(t, "other", "POST", "/api/tickets", frontRow, key...).status, "each seller has keys of their own")
	require.Equal(t, 201, a.send(t, "seller", "POST", "/api/tickets", frontRow).status)
	require.Equal(t, 201, a.send(t, "seller", "POST", "/api/tickets", frontRow).status, "without a key each request lists a ticket")
	require.Len(t, a.listed(t), 5)
}

func TestAPI_CopiesAtTheSameTimeListOneTicket(t *testing.T) {
	a := newTestAPI(t)
	responses := make([]response, 16)
	var all sync.WaitGroup
	for i := range responses {
		all.Go(func() {
			responses[i] = a.send(t, "seller", "POST", "/api/tickets", frontRow, idempotency.Header, "key-1")
		})
	}
	all.Wait()
	first := 0
	for _, r := range responses {
		require.Equal(t, 201, r.status, r.body)
		require.Equal(t, responses[0].body, r.body)
		require.Equal(t, `"1"`, r.header.Get("ETag"))
		if r.header.Get(idempotency.ReplayedHeader) == "" {
			first++
		}
	}
	require.Equal(t, 1, first)
	require.Len(t, a.listed(t), 1)
}

func TestAPI_APriceThatNoCardCanPay(t *testing.T) {
	a := newTestAPI(t)
	listed := a.send(t, "seller", "POST", "/api/tickets", frontRow).ticket(t)
	const bounds = "Price must be from 50 to 99999999, in the currency's smallest unit."
	title := problem.Detail{Message: "Title is required for a ticket without a show.", Field: "title", Code: "required"}
	for body, want := range map[string][]problem.Detail{
		`{"title":"Front row","price":-1}`:        {{Message: bounds, Field: "price", Code: "min"}},
		`{"title":"Front row","price":0}`:         {{Message: bounds, Field: "price", Code: "min"}},
		`{"title":"Front row","price":49}`:        {{Message: bounds, Field: "price", Code: "min"}},
		`{"title":"Front row","price":100000000}`: {{Message: bounds, Field: "price", Code: "max"}},
		`{"title":"Front row"}`:                   {{Message: "Price is required.", Field: "price", Code: "required"}},
		`{"title":"Front row","price":null}`:      {{Message: "Price is required.", Field: "price", Code: "required"}},
		`{"price":49}`:                            {title, {Message: bounds, Field: "price", Code: "min"}},
		`{"price":50}`:                            {title},
		`{"title":"Front row","price":"50"}`:      {{Message: "Price must be a whole number.", Field: "price", Code: "wrong_type"}},
		`{"title":7,"price":50}`:                  {{Message: "Title must be a text.", Field: "title", Code: "wrong_type"}},
	} {
		for method, path := range map[string]string{"POST": "/api/tickets", "PUT": "/api/tickets/" + string(listed.ID)} {
			r := a.send(t, "seller", method, path, body)
			require.Equal(t, 400, r.status, r.body)
			require.Equal(t, want, r.errors(t), "%s %s", method, body)
		}
	}
	for _, price := range []string{"50", "99999999"} {
		require.Equal(t, 201, a.send(t, "seller", "POST", "/api/tickets", `{"title":"Front row","price":`+price+`}`).status)
	}
}

func TestAPI_RefusalsOfAChange(t *testing.T) {
	a := newTestAPI(t)
	path := "/api/tickets/" + string(a.send(t, "seller", "POST", "/api/tickets", frontRow).ticket(t).ID)
	refused := func(r response, status int, code, field string) {
		t.Helper()
		require.Equal(t, status, r.status, r.body)
		require.Equal(t, code, r.errors(t)[0].Code)
		require.Equal(t, field, r.errors(t)[0].Field)
	}
	refused(a.send(t, "other", "PUT", path, frontRow), 403, "not_owner", "")
	refused(a.send(t, "other", "DELETE", path, ""), 403, "not_owner", "")
	refused(a.send(t, "other", "PUT", path, `{"price":4500}`), 400, "required", "title")
	refused(a.send(t, "seller", "PUT", "/api/tickets/0197b2f0-0000-7000-8000-000000000001", `{"price":4500}`), 404, "not_found", "")
	refused(a.send(t, "seller", "PUT", path, frontRow, "If-Match", `"2"`), 409, "stale_version", "version")
	refused(a.send(t, "seller", "DELETE", path, "", "If-Match", `"2"`), 409, "stale_version", "version")
	refused(a.send(t, "seller", "PUT", path, `{"title":"Front row","price":4500,"version":1}`, "If-Match", `"2"`), 400, "invalid", "version")
	refused(a.send(t, "seller", "PUT", path, `{"title":"Front row","price":4500,"version":-1}`), 400, "min", "version")
	refused(a.send(t, "seller", "PUT", path, frontRow, "If-Match", "2"), 400, "invalid", "If-Match")
	refused(a.send(t, "seller", "PUT", path+"0", frontRow), 404, "not_found", "")
	require.Equal(t, 204, a.send(t, "seller", "DELETE", path, "", "If-Match", `"1"`).status)
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		refused(a.send(t, "seller", method, path, frontRow), 404, "not_found", "")
	}
}

func TestAPI_ATicketForAShow(t *testing.T) {
	a := newTestAPI(t)
	of := newShow(t, a.store)
	body := func(members string) string { return `{"price":4500,"showId":"` + string(of.ID) + `"` + members + `}` }
	r := a.send(t, "seller", "POST", "/api/tickets", body(`,"seat":{"section":"Block A","row":"8","number":"12"},"faceValue":4000`), idempotency.Header, "key-1")
	require.Equal(t, 201, r.status, r.body)
	made := r.ticket(t)
	require.Equal(t, ticketResponse{
		ID: made.ID, Title: "Radiohead", Price: 4500, Currency: "usd", UserID: "seller", Status: Available,
		ShowID: of.ID, Seat: &placeResponse{"Block A", "8", "12"}, FaceValue: 4000, SalesEndAt: of.StartsAt,
		Version: 1, CreatedAt: made.CreatedAt, UpdatedAt: made.UpdatedAt,
	}, made)
	require.Equal(t, r.body, a.send(t, "other", "GET", "/api/tickets/"+string(made.ID), "").body)
	again := a.send(t, "seller", "POST", "/api/tickets", body(`,"seat":{"section":"Block A","row":"8","number":"12"},"faceValue":4000`), idempotency.Header, "key-1")
	require.Equal(t, r.body, again.body, "and not seat_listed")

	r = a.send(t, "seller", "PUT", "/api/tickets/"+string(made.ID), `{"price":4600}`)
	require.Equal(t, 200, r.status, r.body)
	require.Equal(t, "Radiohead", r.ticket(t).Title)
	require.EqualValues(t, 4000, r.ticket(t).FaceValue)
	r = a.send(t, "seller", "POST", "/api/tickets", body(`,"title":"Standing","seat":{}`))
	require.Equal(t, 201, r.status, r.body)
	require.NotContains(t, r.body, "seat")

	r = a.send(t, "seller", "POST", "/api/tickets", frontRow)
	for _, member := range []string{"showId", "seat", "faceValue", "salesEndAt"} {
		require.NotContains(t, r.body, member)
	}
}

func TestAPI_RefusalsOfATicketForAShow(t *testing.T) {
	a := newTestAPI(t)
	of := newShow(t, a.store)
	capped := showEvent(of.ID, 2, of.StartsAt.Time, "scheduled")
	capped.MaxMarkup = percent(10)
	require.NoError(t, a.store.ApplyShow(t.Context(), capped))
	const seat = `"seat":{"section":"Block A","row":"8","number":"12"}`
	showID := `"showId":"` + string(of.ID) + `"`
	made := a.send(t, "seller", "POST", "/api/tickets", `{"price":4500,`+showID+`,`+seat+`}`)
	require.Equal(t, 201, made.status, made.body)
	path := "/api/tickets/" + string(made.ticket(t).ID)
	plain := "/api/tickets/" + string(a.send(t, "seller", "POST", "/api/tickets", frontRow).ticket(t).ID)
	for _, c := range []struct {
		seller             id.User
		method, path, body string
		status             int
		code, field        string
	}{
		{"seller", "POST", "/api/tickets", `{"price":4500,` + showID + `,` + seat + `}`, 409, "seat_listed", "seat"},
		{"other", "POST", "/api/tickets", `{"price":4500,` + showID + `}`, 403, "not_show_owner", "showId"},
		{"seller", "POST", "/api/tickets", `{"price":4500,"showId":"0197b2f0-0000-7000-8000-000000000001"}`, 404, "show_not_found", "showId"},
		{"seller", "POST", "/api/tickets", `{"price":4500,"showId":"1"}`, 400, "uuid", "showId"},
		{"seller", "POST", "/api/tickets", `{"price":4401,"faceValue":4000,` + showID + `}`, 409, "price_above_cap", "price"},
		{"seller", "POST", "/api/tickets", `{"price":4500,"faceValue":0,` + showID + `}`, 400, "min", "faceValue"},
		{"seller", "POST", "/api/tickets", `{"price":4500,"faceValue":100000000,` + showID + `}`, 400, "max", "faceValue"},
		{"seller", "POST", "/api/tickets", `{"price":4500,` + showID + `,"seat":"8"}`, 400, "wrong_type", "seat"},
		{"seller", "POST", "/api/tickets", `{"price":4500,` + showID + `,"seat":{"row":8}}`, 400, "wrong_type", "seat.row"},
		{"seller", "POST", "/api/tickets", `{"price":4500,` + showID + `,"seat":{"row":" "}}`, 400, "notblank", "seat.row"},
		{"seller", "POST", "/api/tickets", `{"price":4500,` + showID + `,"seat":{"number":"1\n2"}}`, 400, "printable", "seat.number"},
		{"seller", "POST", "/api/tickets", `{"price":4500,` + showID + `,"seat":{"section":"` + strings.Repeat("x", 51) + `"}}`, 400, "max", "seat.section"},
		{"seller", "POST", "/api/tickets", `{"title":"Front row","price":4500,` + seat + `}`, 400, "required", "showId"},
		{"seller", "POST", "/api/tickets", `{"title":"Front row","price":4500,"faceValue":4500}`, 400, "required", "showId"},
		{"seller", "PUT", path, `{"price":4951}`, 409, "price_above_cap", "price"},
		{"seller", "PUT", path, `{"price":49}`, 400, "min", "price"},
		{"seller", "PUT", plain, `{"title":"Front row","price":4500,"faceValue":4500}`, 400, "invalid", "faceValue"},
		{"seller", "PUT", plain, `{"price":4500}`, 400, "required", "title"},
		{"seller", "GET", "/api/tickets?status=available", "", 400, "invalid", "status"},
		{"seller", "GET", "/api/tickets?status=", "", 400, "invalid", "status"},
	} {
		r := a.send(t, c.seller, c.method, c.path, c.body)
		require.Equal(t, c.status, r.status, "%s %s: %s", c.method, c.body, r.body)
		require.Equal(t, c.code, r.errors(t)[0].Code, r.body)
		require.Equal(t, c.field, r.errors(t)[0].Field, r.body)
	}
	r := a.send(t, "seller", "PUT", path, `{"price":4951}`)
	require.Contains(t, r.body, `"maxPrice":4950`)

	moved := showEvent(of.ID, 3, clock.System().Add(-time.Second), "scheduled")
	require.NoError(t, a.store.ApplyShow(t.Context(), moved))
	require.Equal(t, "show_started", a.send(t, "seller", "POST", "/api/tickets", `{"price":4500,`+showID+`}`).errors(t)[0].Code)
	require.NoError(t, a.store.ApplyShow(t.Context(), showEvent(of.ID, 4, of.StartsAt.Time, "cancelled")))
	require.Equal(t, "show_cancelled", a.send(t, "seller", "POST", "/api/tickets", `{"price":4500,`+showID+`}`).errors(t)[0].Code)
}

func TestAPI_ASellerListsTheOwnTickets(t *testing.T) {
	a := newTestAPI(t)
	var own []id.Ticket
	for _, seller := range []id.User{"seller", "other", "seller", "seller", "seller"} {
		listed := a.send(t, seller, "POST", "/api/tickets", frontRow).ticket(t)
		if seller == "seller" {
			own = append([]id.Ticket{listed.ID}, own...)
		}
	}
	sale := orderEvent("order-1", 1, Sold)
	sale.Ticket.ID = own[0]
	require.NoError(t, a.store.ApplyOrder(t.Context(), sale))
	require.Equal(t, 204, a.send(t, "seller", "DELETE", "/api/tickets/"+string(own[1]), "").status)
	own = append(own[:1], own[2:]...)

	var listed []id.Ticket
	for path := "/api/tickets?seller=me&limit=2"; path != ""; {
		r := a.send(t, "seller", "GET", path, "")
		require.Equal(t, 200, r.status, r.body)
		var tickets []ticketResponse
		require.NoError(t, json.Unmarshal([]byte(r.body), &tickets))
		for _, ticket := range tickets {
			listed = append(listed, ticket.ID)
		}
		path, _, _ = strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
	}
	require.Equal(t, own, listed, "newest first, with the sold one and without the deleted one")

	require.JSONEq(t, `[]`, a.send(t, "nobody", "GET", "/api/tickets?seller=me", "").body)
	for path, want := range map[string]string{
		"/api/tickets?seller=other":                        "seller",
		"/api/tickets?seller=":                             "seller",
		"/api/tickets?seller=me&status=available":          "status",
		"/api/tickets?seller=me&limit=0":                   "limit",
		"/api/tickets?seller=me&showId=x":                  "showId",
		"/api/tickets?showId=" + string(id.New[id.Show]()): "showId",
	} {
		r := a.send(t, "seller", "GET", path, "")
		require.Equal(t, 400, r.status, r.body)
		require.Equal(t, want, r.errors(t)[0].Field)
	}
	anonymous, err := a.app.Test(httptest.NewRequest("GET", "/api/tickets?seller=me", nil), -1)
	require.NoError(t, err)
	require.Equal(t, 401, anonymous.StatusCode)
}
