package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serve returns a client of a server that answers with handle.
func serve(t *testing.T, options Options, handle http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	api := New(server.URL, options)
	t.Cleanup(api.Close)
	return api
}

func TestDo_SendsTokenKeyAndBody(t *testing.T) {
	var received *http.Request
	var body []byte
	api := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		received = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"an-order","ticket":{"price":4200}}`)
	})

	order, err := Decode[Order](api.As("a-token").Do(t.Context(), Reserve("a-ticket").WithKey("a-key")))

	require.NoError(t, err)
	require.Equal(t, "an-order", order.ID)
	require.Equal(t, int64(4200), order.Ticket.Price)
	require.Equal(t, "POST /api/orders", received.Method+" "+received.RequestURI)
	require.JSONEq(t, `{"ticketId":"a-ticket"}`, string(body))
	require.Equal(t, "Bearer a-token", received.Header.Get("Authorization"))
	require.Equal(t, "a-key", received.Header.Get("Idempotency-Key"))
	require.Equal(t, "application/json", received.Header.Get("Content-Type"))
}

func TestDo_HeadersOfARequestReplaceOrRemoveTheClients(t *testing.T) {
	var received *http.Request
	api := serve(t, Options{}, func(_ http.ResponseWriter, r *http.Request) { received = r }).As("a-token")
	plain := ListTicket("Concert", 4200)

	_, err := api.Do(t.Context(), plain.With("Authorization", "Bearer another").With("Content-Type", "").With("Host", "example.com"))
	require.NoError(t, err)
	require.Equal(t, "Bearer another", received.Header.Get("Authorization"))
	require.NotContains(t, received.Header, "Content-Type")
	require.Equal(t, "example.com", received.Host)

	_, err = api.Do(t.Context(), plain)
	require.NoError(t, err)
	require.Equal(t, "Bearer a-token", received.Header.Get("Authorization"), "the first request was a copy")
}

func TestDecode_RefusalIsAProblem(t *testing.T) {
	api := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"status":409,"detail":"another has it","errors":[{"message":"another has it","field":"ticketId","code":"ticket_reserved"}]}`)
	})

	_, err := Decode[Order](api.Do(t.Context(), Reserve("a-ticket")))

	var problem *Problem
	require.ErrorAs(t, err, &problem)
	require.Equal(t, "ticketId", problem.Errors[0].Field)
	require.Equal(t, 7*time.Second, problem.RetryAfter)
	require.Equal(t, http.StatusConflict, Status(err))
	require.Equal(t, "ticket_reserved", problem.Code())
}

func TestDecode_RefusalWithoutAReadableBodyKeepsItsStatus(t *testing.T) {
	api := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", http.StatusServiceUnavailable) })

	_, err := Decode[Order](api.Do(t.Context(), Reserve("a-ticket")))

	require.Equal(t, http.StatusServiceUnavailable, Status(err))
	require.ErrorContains(t, err, "not now")
}

func TestDo_EveryCallHasADeadline(t *testing.T) {
	block := make(chan struct{})
	api := serve(t, Options{Timeout: 50 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush() // the status arrives, the body does not
		<-block
	})
	defer close(block)

	_, err := api.Do(t.Context(), ReadTickets())

	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestPages_FollowTheListToItsEnd(t *testing.T) {
	api := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("cursor") == "" {
			w.Header().Set("Link", `</api/tickets?limit=1&cursor=b>; rel="next"`)
			_, _ = io.WriteString(w, `[{"id":"a"}]`)
			return
		}
		_, _ = io.WriteString(w, `[{"id":"b"}]`)
	})

	var ids []string
	for page, err := range api.Pages(t.Context(), ReadTickets().WithQuery("limit", 1)) {
		tickets, err := Decode[[]Ticket](page, err)
		require.NoError(t, err)
		for _, ticket := range tickets {
			ids = append(ids, ticket.ID)
		}
	}
	require.Equal(t, []string{"a", "b"}, ids)
}

func TestPages_EndWithTheFirstPageThatIsRefused(t *testing.T) {
	api := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })

	pages := 0
	for page, err := range api.Pages(t.Context(), ReadTickets()) {
		pages++
		require.NoError(t, err)
		require.Equal(t, http.StatusTooManyRequests, page.Status)
	}
	require.Equal(t, 1, pages)
}

// validator is what an Options.Transport may be: it sees each request and its response.
type validator struct{ saw []string }

func (v *validator) RoundTrip(r *http.Request) (*http.Response, error) {
	v.saw = append(v.saw, r.Method+" "+r.URL.Path)
	return nil, errors.New("not in the contract")
}

func TestOptions_TransportSeesRequestsAndMayFailThem(t *testing.T) {
	v := &validator{}
	api := New("http://localhost", Options{Transport: v})

	_, err := api.Do(t.Context(), ReadTickets())

	require.ErrorContains(t, err, "not in the contract")
	require.Equal(t, []string{"GET /api/tickets"}, v.saw)
}

func TestStream_ReadsEventsAndSkipsHeartbeats(t *testing.T) {
	var received *http.Request
	api := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		received = r
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "retry: 2000\n\nid: e-1-0\nevent: ready\ndata: {}\n\n: heartbeat\n\n"+
			"id: e-1-1\r\nevent: listing\r\ndata: {\"change\":\"sold\",\r\ndata: \"showId\":\"a-show\",\"ticketId\":\"a-ticket\",\"left\":3}\r\n\r\nevent: show\ndata: {\"change\":\"cancelled\",\"showId\":\"a-show\"}\n\n")
	})

	stream, err := api.Stream(t.Context(), FollowShows("a-show", "another").With("Last-Event-ID", "e-0-7"))
	require.NoError(t, err)
	defer func() { require.NoError(t, stream.Close()) }()
	require.Equal(t, "GET /api/catalogue/live?show=a-show&show=another", received.Method+" "+received.RequestURI)
	require.Equal(t, "e-0-7", received.Header.Get("Last-Event-ID"))

	ready, err := stream.Next()
	require.NoError(t, err)
	require.Equal(t, StreamEvent{"e-1-0", "ready", []byte("{}")}, ready)
	sold, err := stream.Next()
	require.NoError(t, err)
	listing, err := sold.Listing()
	require.NoError(t, err)
	require.Equal(t, "e-1-1", sold.ID)
	require.Equal(t, ListingUpdate{Change: "sold", ShowID: "a-show", TicketID: "a-ticket", Left: 3}, listing)
	cancelled, err := stream.Next()
	require.NoError(t, err)
	show, err := cancelled.Show()
	require.NoError(t, err)
	require.Equal(t, "e-1-1", cancelled.ID, "an event without an id has that of the event before")
	require.Equal(t, ShowUpdate{"cancelled", "a-show"}, show)
	_, err = stream.Next()
	require.ErrorIs(t, err, io.EOF)
}

func TestStream_ARefusalIsAProblem(t *testing.T) {
	api := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"errors":[{"code":"too_many_streams"}]}`)
	})
	_, err := api.Stream(t.Context(), FollowShows("a-show"))
	var problem *Problem
	require.ErrorAs(t, err, &problem)
	require.Equal(t, "too_many_streams", problem.Code())
}
