package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/signing"
	"boxoffice/services/internal/state"
)

// testSales is the REST API with a store whose clock the test sets.
type testSales struct {
	*testStore
	app    *fiber.App
	issuer *identity.Issuer
	now    time.Time
}

func newTestSales(t *testing.T) *testSales {
	t.Helper()
	s := &testSales{testStore: newTestStore(t, Terms{Window: time.Hour}), now: clock.System()}
	s.clock = func() time.Time { return s.now }
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	s.issuer = identity.NewIssuer(private, time.Hour)
	keys := identity.NewVerifier(func(context.Context) (signing.KeySet, error) { return s.issuer.KeySet(), nil })
	s.app = rest.New(rest.Options{Name: "orders", Log: slog.New(slog.DiscardHandler)})
	(&api{store: s.store}).register(s.app, identity.RequireUser(keys))
	return s
}

// get sends a request of a user; "" is nobody. The error is that of a response that breaks.
func (s *testSales) get(t *testing.T, user id.User, path string, header ...string) (*http.Response, string, error) {
	t.Helper()
	request := httptest.NewRequest("GET", path, nil)
	if user != "" {
		token, _, err := s.issuer.Issue(identity.Caller{ID: user, Email: "seller@example.com"}, time.Now())
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := s.app.Test(request, -1)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

func (s *testSales) list(t *testing.T, path string) (sales []saleResponse, next string) {
	t.Helper()
	response, body, err := s.get(t, "seller", path)
	require.NoError(t, err)
	require.Equal(t, 200, response.StatusCode, body)
	require.NoError(t, json.Unmarshal([]byte(body), &sales), body)
	next, _, _ = strings.Cut(strings.TrimPrefix(response.Header.Get("Link"), "<"), ">")
	return sales, next
}

// reserved lists a ticket of a seller, and reserves it.
func (s *testSales) reserved(t *testing.T, listing events.Ticket) Order {
	t.Helper()
	listing.ID, listing.Currency, listing.Version = id.New[id.Ticket](), "usd", 1
	listing.SalesEndAt = clock.Stamp(s.now.Add(24 * time.Hour))
	_, err := s.ApplyListing(t.Context(), listing, false)
	require.NoError(t, err)
	order, err := s.reserve(t, listing.ID, "buyer")
	require.NoError(t, err)
	return order
}

func (s *testSales) complete(t *testing.T, order Order) {
	t.Helper()
	s.now = s.now.Add(time.Second)
	_, err := s.Complete(t.Context(), order.ID, id.Payment("payment-of-"+order.ID))
	require.NoError(t, err)
}

const oneShow, otherShow = id.Show("01990c3f-6a00-7abc-8def-000000000001"), id.Show("01990c3f-6a00-7abc-8def-000000000002")

func TestSales_ASellerSeesWhatWasSoldAndNothingOfTheBuyer(t *testing.T) {
	s := newTestSales(t)
	first := s.reserved(t, events.Ticket{UserID: "seller", Title: "Front row", Price: 4500})
	second := s.reserved(t, events.Ticket{UserID: "seller", Title: "Hamlet", Price: 5500, ShowID: oneShow, Seat: &events.Place{Section: "A", Row: "8", Number: "12"}})
	unpaid := s.reserved(t, events.Ticket{UserID: "seller", Title: "Unpaid", Price: 50})
	others := s.reserved(t, events.Ticket{UserID: "other", Title: "Theirs", Price: 50})
	for _, order := range []Order{second, others, first} {
		s.complete(t, order)
		s.complete(t, order) // a redelivery
	}
	require.NoError(t, s.Cancel(t.Context(), unpaid.ID, ByUser), "not a sale")
	s.now = s.now.Add(time.Minute)
	require.NoError(t, s.CancelByPayment(t.Context(), second.ID, id.Payment("payment-of-"+second.ID), Refunded))

	response, body, err := s.get(t, "seller", "/api/orders/sales")
	require.NoError(t, err)
	require.Equal(t, "private, no-store", response.Header.Get("Cache-Control"))
	require.NotContains(t, body, "buyer")
	at := func(seconds int) string { return textOf(clock.Stamp(s.now.Add(time.Duration(seconds) * time.Second))) }
	require.JSONEq(t, `[
		{"orderId":"`+string(first.ID)+`","ticketId":"`+string(first.Ticket.ID)+`","title":"Front row","price":4500,"currency":"usd","status":"complete","soldAt":"`+at(-61)+`"},
		{"orderId":"`+string(second.ID)+`","ticketId":"`+string(second.Ticket.ID)+`","showId":"`+string(oneShow)+`","title":"Hamlet",
		 "seat":{"section":"A","row":"8","number":"12"},"price":5500,"currency":"usd","status":"cancelled","reason":"refunded","soldAt":"`+at(-65)+`","cancelledAt":"`+at(0)+`"}]`,
		body, "the last sale first, each once")

	_, body, err = s.get(t, "buyer", "/api/orders/sales")
	require.NoError(t, err)
	require.JSONEq(t, `[]`, body, "a buyer has sold nothing")

	response, body, err = s.get(t, "seller", "/api/orders/sales", "Accept", "text/csv")
	require.NoError(t, err)
	require.Equal(t, `attachment; filename="sales.csv"`, response.Header.Get("Content-Disposition"))
	require.Equal(t, "text/csv; charset=utf-8; header=present", response.Header.Get("Content-Type"))
	require.Equal(t, "orderId,ticketId,showId,title,section,row,number,amount,currency,status,reason,soldAt,cancelledAt\r\n"+
		string(first.ID)+","+string(first.Ticket.ID)+",,Front row,,,,45.00,usd,complete,,"+at(-61)+",\r\n"+
		string(second.ID)+","+string(second.Ticket.ID)+","+string(oneShow)+",Hamlet,A,8,12,55.00,usd,cancelled,refunded,"+at(-65)+","+at(0)+"\r\n", body)
}

func TestSales_ThePassAndTheMoneyMakeNoFurtherSale(t *testing.T) {
	s := newTestSales(t)
	order := s.reserved(t, events.Ticket{UserID: "seller", ShowOwnerID: "seller", Title: "Hamlet", Price: 5500, ShowID: oneShow})
	s.complete(t, order)
	_, err := s.MarkCaptured(t.Context(), order.ID, id.Payment("payment-of-"+order.ID))
	require.NoError(t, err)
	_, err = state.Decide(t.Context(), s.documents, func(ctx context.Context) (*state.Change, Order, error) {
		return s.UsePass(ctx, passClaims{Order: order.ID, Ticket: order.Ticket.ID, Show: oneShow}, "seller")
	})
	require.NoError(t, err)
	sales, _ := s.list(t, "/api/orders/sales")
	require.Len(t, sales, 1)
}

func TestSales_InPagesAndOfOneShow(t *testing.T) {
	s := newTestSales(t)
	const many = 2*salesAtOnce + 5
	var sold, ofOne []id.Order // newest first
	for n := range many {
		show := oneShow
		if n%3 == 0 {
			show = otherShow
		}
		order := s.reserved(t, events.Ticket{UserID: "seller", Title: "Hamlet", Price: 5500, ShowID: show})
		s.complete(t, order)
		sold = append([]id.Order{order.ID}, sold...)
		if show == oneShow {
			ofOne = append([]id.Order{order.ID}, ofOne...)
		}
	}
	for path, want := range map[string][]id.Order{"/api/orders/sales?limit=199": sold, "/api/orders/sales?limit=50&showId=" + string(oneShow): ofOne} {
		var listed []id.Order
		for next := path; next != ""; {
			var page []saleResponse
			page, next = s.list(t, next)
			for _, sale := range page {
				listed = append(listed, sale.OrderID)
			}
		}
		require.Equal(t, want, listed)

		_, body, err := s.get(t, "seller", path+"&format=csv")
		require.NoError(t, err)
		rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, len(want)+1, "all of them, whatever the limit")
		for i, row := range rows[1:] {
			require.EqualValues(t, want[i], row[0])
		}
	}

	reads := 0
	s.beforeRead(func([]string) { reads++ })
	_, _, err := s.get(t, "seller", "/api/orders/sales?format=csv")
	require.NoError(t, err)
	half := reads / 2
	reads = 0
	s.sidecar.BeforeRead = func([]string) error {
		if reads++; reads > half {
			return errors.New("the store is away")
		}
		return nil
	}
	_, _, err = s.get(t, "seller", "/api/orders/sales?format=csv")
	require.Error(t, err, "a file that is not whole is not complete for its reader")
	reads = half
	response, body, err := s.get(t, "seller", "/api/orders/sales?format=csv")
	require.NoError(t, err)
	require.Equal(t, 503, response.StatusCode, body)
}

func TestSales_Refusals(t *testing.T) {
	s := newTestSales(t)
	response, _, err := s.get(t, "", "/api/orders/sales")
	require.NoError(t, err)
	require.Equal(t, 401, response.StatusCode)
	for query, want := range map[string]problem.Detail{
		"showId=x":   {Field: "showId", Code: "uuid"},
		"format=xml": {Field: "format", Code: "invalid"},
		"format=":    {Field: "format", Code: "invalid"},
		"limit=0":    {Field: "limit", Code: "min"},
		"cursor=x":   {Field: "cursor", Code: "invalid"},
	} {
		response, body, err := s.get(t, "seller", "/api/orders/sales?"+query)
		require.NoError(t, err)
		require.Equal(t, 400, response.StatusCode, body)
		var refused struct{ Errors []problem.Detail }
		require.NoError(t, json.Unmarshal([]byte(body), &refused))
		require.Equal(t, want, problem.Detail{Field: refused.Errors[0].Field, Code: refused.Errors[0].Code})
	}
	_, body, err := s.get(t, "seller", "/api/orders/sales?format=json", "Accept", "text/csv")
	require.NoError(t, err)
	require.JSONEq(t, `[]`, body)
}

func TestSalesRow_AmountsHaveTheDigitsOfTheirCurrency(t *testing.T) {
	for want, ticket := range map[string]TicketSnapshot{
		"12.00":       {Price: 1200, Currency: "usd"},
		"0.05":        {Price: 5, Currency: "eur"},
		"99999999.99": {Price: 9_999_999_999, Currency: "usd"},
		"1200":        {Price: 1200, Currency: "jpy"},
	} {
		require.Equal(t, want, salesRow(Order{Ticket: ticket})[7])
	}
}

func TestSalesRow_NoCellIsAFormula(t *testing.T) {
	order := Order{ID: "order-1", Status: Complete, Ticket: TicketSnapshot{Title: `=HYPERLINK("https://example.com")`, Price: 100, Place: &Place{Section: "+1", Row: "-1", Number: "@A1"}}}
	row := salesRow(order)
	require.Equal(t, []string{`'=HYPERLINK("https://example.com")`, "'+1", "'-1", "'@A1"}, row[3:7])
	order.Ticket.Title, order.Ticket.Place = "\tx", nil
	require.Equal(t, []string{"'\tx", "", "", ""}, salesRow(order)[3:7])
	for title, cell := range map[string]string{
		"A = B": "A = B", "A; B": "A; B",
		" =1": "' =1", `"=1`: `'"=1`,
		"A;=1": "A;'=1", "A; =1": "A;' =1", `A;"=1`: `A;'"=1`, "A;B;@x": "A;B;'@x", "=1;-1": "'=1;'-1",
	} {
		order.Ticket.Title = title
		require.Equal(t, cell, salesRow(order)[3], title)
	}
}
