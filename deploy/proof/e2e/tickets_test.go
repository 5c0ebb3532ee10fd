package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

const (
	unknownID   = "0190b5a0-0000-7000-8000-000000000000"
	nonsenseIDs = "1 x 0190b5a0 {0190b5a0-0000-7000-8000-000000000000} urn:uuid:0190b5a0-0000-7000-8000-000000000000 ..%2F..%2Fx %00 " + unknownID + "x"
)

func TestTickets_CreateReadEditDelete(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller := s.signUp(t)

	r := seller.request(t, "POST", "/api/tickets", `{"title":"Concert — Grüße 🎫","price":4200,"currency":"xxx","userId":"me","status":"sold","id":"1","version":9}`)
	requireStatus(t, 201, r)
	made := decode[client.Ticket](t, r)
	require.Equal(t, client.Ticket{
		ID: made.ID, Title: "Concert — Grüße 🎫", Price: 4200, Currency: "usd", UserID: seller.ID, Status: "available",
		Version: 1, CreatedAt: made.CreatedAt, UpdatedAt: made.CreatedAt,
	}, made, "members that a client may not set are ignored")
	require.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute)
	require.Equal(t, "/api/tickets/"+made.ID, r.Header.Get("Location"))
	require.Equal(t, `"1"`, r.Header.Get("ETag"))
	require.NotContains(t, string(r.Body), `"orderId"`)
	require.NotContains(t, string(r.Body), `"schema"`)

	shown := s.request(t, "GET", r.Header.Get("Location"), nil)
	requireStatus(t, 200, shown)
	require.Equal(t, "application/json", shown.Header.Get("Content-Type"))
	require.Equal(t, `"1"`, shown.Header.Get("ETag"))
	require.JSONEq(t, string(r.Body), string(shown.Body))

	changed := seller.call(t, client.EditTicket(made.ID, client.Offer{Title: "Opera", Price: 5000}))
	requireStatus(t, 200, changed)
	require.Equal(t, `"2"`, changed.Header.Get("ETag"))
	now := decode[client.Ticket](t, changed)
	require.Equal(t, []any{"Opera", int64(5000), 2, made.CreatedAt}, []any{now.Title, now.Price, now.Version, now.CreatedAt})
	require.Equal(t, now, s.ticket(t, made.ID))

	deleted := seller.call(t, client.DeleteTicket(made.ID))
	requireStatus(t, 204, deleted)
	require.Empty(t, deleted.Body)
	requireProblem(t, 404, s.call(t, client.ReadTicket(made.ID)))
	requireProblem(t, 404, seller.call(t, client.EditTicket(made.ID, client.Offer{Title: "Back", Price: 4100})))
	requireProblem(t, 404, seller.call(t, client.DeleteTicket(made.ID)))
	for _, listed := range s.allTickets(t, 200) {
		require.NotEqual(t, made.ID, listed.ID, "a deleted ticket is not listed")
	}
}

func TestTickets_HeadIsGetWithoutTheBody(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	listed := s.signUp(t).list(t, "Concert", 100)

	r := s.request(t, "HEAD", "/api/tickets/"+listed.ID, nil)

	requireStatus(t, 200, r)
	require.Equal(t, `"1"`, r.Header.Get("ETag"))
	require.Empty(t, r.Body)
}

func TestTickets_OnlyTheSellerChangesThem(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, other := s.signUp(t), s.signUp(t)
	listed := seller.list(t, "Concert", 4200)

	requireProblem(t, 403, other.call(t, client.EditTicket(listed.ID, client.Offer{Title: "Mine", Price: 4100})), "not_owner")
	requireProblem(t, 403, other.call(t, client.DeleteTicket(listed.ID)), "not_owner")
	requireProblem(t, 401, s.call(t, client.ListTicket("Not signed in", 4100)), "not_signed_in")
	requireProblem(t, 401, s.call(t, client.EditTicket(listed.ID, client.Offer{Title: "Not signed in", Price: 4100})), "not_signed_in")
	requireProblem(t, 401, s.call(t, client.DeleteTicket(listed.ID)), "not_signed_in")
	requireProblem(t, 401, s.request(t, "POST", "/api/tickets", `not JSON`), "not_signed_in")

	require.Equal(t, listed, s.ticket(t, listed.ID))
}

func TestTickets_ConcurrentRepeatsListOneTicket(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller := s.signUp(t)
	title := "Listed once " + uuid.NewString()
	request := client.ListTicket(title, 4200).WithKey(uuid.NewString())
	responses := make([]client.Response, 8)
	atOnce(len(responses), func(i int) { responses[i] = seller.call(t, request) })
	responses = append(responses, seller.call(t, request))

	replayed := 0
	for _, r := range responses {
		requireStatus(t, 201, r)
		require.Equal(t, string(responses[0].Body), string(r.Body))
		for _, name := range []string{"Location", "ETag", "Content-Type"} {
			require.Equal(t, responses[0].Header.Get(name), r.Header.Get(name), name)
		}
		if r.Header.Get("Idempotent-Replayed") == "true" {
			replayed++
		}
	}
	require.Equal(t, len(responses)-1, replayed)
	same := 0
	for _, listed := range s.allTickets(t, 200) {
		if listed.Title == title {
			same++
		}
	}
	require.Equal(t, 1, same)
	requireProblem(t, 409, seller.call(t, client.ListTicket(title, 4300).WithKey(request.Header.Get("Idempotency-Key"))), "idempotency_key_reused")
}

func TestTickets_UnknownAndInvalidIDsAre404(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller := s.signUp(t)

	for _, id := range append(strings.Fields(nonsenseIDs), unknownID, strings.ToUpper(unknownID), seller.ID) {
		requireProblem(t, 404, s.call(t, client.ReadTicket(id)))
		requireProblem(t, 404, seller.call(t, client.EditTicket(id, client.Offer{Title: "Nothing", Price: 4100})))
		requireProblem(t, 404, seller.call(t, client.DeleteTicket(id)))
	}
	listed := seller.list(t, "Concert", 100)
	require.Equal(t, listed, s.ticket(t, strings.ToUpper(listed.ID)), "an id is the same in capital letters")
}

func TestTickets_InvalidRequestsAreRefused(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller := s.signUp(t)
	listed := seller.list(t, "Concert", 4200)
	tests := map[string]struct {
		body   string
		fields []string
	}{
		"nothing":                 {`{}`, []string{"title", "price"}},
		"no price":                {`{"title":"Concert"}`, []string{"price"}},
		"no title":                {`{"price":100}`, []string{"title"}},
		"null":                    {`{"title":null,"price":null}`, []string{"title", "price"}},
		"an empty title":          {`{"title":"","price":100}`, []string{"title"}},
		"a blank title":           {`{"title":" \t ","price":100}`, []string{"title"}},
		"a title too long":        {`{"title":"` + strings.Repeat("ü", 201) + `","price":100}`, []string{"title"}},
		"a title that is no text": {`{"title":7,"price":100}`, []string{"title"}},
		"free":                    {`{"title":"Concert","price":0}`, []string{"price"}},
		"too cheap for any card":  {`{"title":"Concert","price":49}`, []string{"price"}},
		"less than free":          {`{"title":"Concert","price":-1}`, []string{"price"}},
		"too dear":                {`{"title":"Concert","price":100000000}`, []string{"price"}},
		"far too dear":            {`{"title":"Concert","price":1e30}`, []string{"price"}},
		"a fraction":              {`{"title":"Concert","price":41.99}`, []string{"price"}},
		"a price in words":        {`{"title":"Concert","price":"4200"}`, []string{"price"}},
		"a list of prices":        {`{"title":"Concert","price":[4200]}`, []string{"price"}},
		"both wrong":              {`{"title":"","price":-5}`, []string{"title", "price"}},
		"a sign no store keeps":   {`{"title":"a\u0000b","price":100}`, []string{""}},
		"not JSON":                {`title=Concert&price=100`, []string{""}},
		"JSON that ends early":    {`{"title":"Concert"`, []string{""}},
		"two bodies":              {`{"title":"Concert","price":100}{}`, []string{""}},
		"a list":                  {`[{"title":"Concert","price":100}]`, []string{""}},
		"a text":                  {`"Concert"`, []string{""}},
		"null itself":             {`null`, []string{""}},
		"an empty body":           {``, []string{""}},
		"not UTF-8":               {"{\"title\":\"\xff\",\"price\":100}", []string{""}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, call := range [][2]string{{"POST", "/api/tickets"}, {"PUT", "/api/tickets/" + listed.ID}} {
				var fields []string
				for _, e := range requireProblem(t, 400, seller.request(t, call[0], call[1], tt.body)).Errors {
					fields = append(fields, e.Field)
				}
				require.Equal(t, tt.fields, fields, call)
			}
		})
	}
	for name, body := range map[string]string{"a text": `{"title":"a","price":1,"version":"2"}`, "less than the first": `{"title":"a","price":1,"version":-1}`} {
		problem := requireProblem(t, 400, seller.request(t, "PUT", "/api/tickets/"+listed.ID, body))
		require.Equal(t, "version", problem.Errors[0].Field, name)
	}
	require.Equal(t, listed, s.ticket(t, listed.ID))

	r := seller.call(t, client.ListTicket(strings.Repeat("ü", 200), 99_999_999))
	require.Equal(t, 201, r.Status, "the longest and dearest: %s", r.Body)
}

func TestTickets_StaleVersionIsRefused(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller := s.signUp(t)
	path := "/api/tickets/" + seller.list(t, "Concert", 4200).ID
	require.Equal(t, 200, seller.request(t, "PUT", path, client.Offer{Title: "Second", Price: 4300, Version: 1}).Status, "the current version")

	stale := client.Offer{Title: "Stale", Price: 4100}
	tests := map[string]struct {
		version int
		ifMatch string
		code    string
		status  int
	}{
		"in the body":             {1, "", "stale_version", 409},
		"in If-Match":             {0, `"1"`, "stale_version", 409},
		"in If-Match, weak":       {0, `W/"1"`, "stale_version", 409},
		"of the future":           {7, "", "stale_version", 409},
		"of the future, If-Match": {0, `"7"`, "stale_version", 409},
		"in both":                 {1, `"1"`, "stale_version", 409},
		"two that differ":         {1, `"2"`, "invalid", 400},
		"an unknown ETag":         {0, `"abc"`, "invalid", 400},
		"an ETag without quotes":  {0, `1`, "invalid", 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			stale.Version = tt.version
			requireProblem(t, tt.status, seller.request(t, "PUT", path, stale, "If-Match", tt.ifMatch), tt.code)
		})
	}
	requireProblem(t, 409, seller.request(t, "DELETE", path, nil, "If-Match", `"1"`), "stale_version")

	for i, ifMatch := range []string{`"2"`, `W/"3"`, "*"} {
		r := seller.request(t, "PUT", path, client.Offer{Title: "Changed", Price: 4400}, "If-Match", ifMatch)
		require.Equal(t, 200, r.Status, "%s: %s", ifMatch, r.Body)
		require.Equal(t, i+3, decode[client.Ticket](t, r).Version)
	}
	requireStatus(t, 204, seller.request(t, "DELETE", path, nil, "If-Match", `"5"`))
}

func TestTickets_OneOfManyEditsOfOneVersionSucceeds(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller := s.signUp(t)
	path := "/api/tickets/" + seller.list(t, "Concert", 4200).ID
	const many = 10
	statuses := make(chan int, many)
	for i := range many {
		go func() {
			statuses <- seller.request(t, "PUT", path, client.Offer{Title: fmt.Sprint("Change ", i), Price: 4100, Version: 1}).Status
		}()
	}
	counts := map[int]int{}
	for range many {
		counts[<-statuses]++
	}
	require.Equal(t, map[int]int{200: 1, 409: many - 1}, counts)
}

func TestTickets_ReservedAndSoldTicketsCannotBeChanged(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	listed := seller.list(t, "Concert", 4200)
	path := "/api/tickets/" + listed.ID
	refuses := func(code string) {
		before := s.ticket(t, listed.ID)
		requireProblem(t, 409, seller.request(t, "PUT", path, client.Offer{Title: "Changed", Price: 4100}), code)
		requireProblem(t, 409, seller.request(t, "PUT", path, client.Offer{Title: "Changed", Price: 4100, Version: before.Version}), code)
		requireProblem(t, 409, seller.request(t, "DELETE", path, nil), code)
		require.Equal(t, before, s.ticket(t, listed.ID))
	}

	first := buyer.reserve(t, listed.ID)
	require.Equal(t, first.ID, s.ticketBecomes(t, "reserved", listed.ID).OrderID)
	refuses("ticket_reserved")

	buyer.cancel(t, first.ID)
	require.Empty(t, s.ticketBecomes(t, "available", listed.ID).OrderID)
	requireStatus(t, 200, seller.request(t, "PUT", path, client.Offer{Title: "Free again", Price: 4300}))

	second := buyer.reserve(t, listed.ID)
	buyer.pay(t, second.ID, goodCard)
	require.Equal(t, second.ID, s.ticketBecomes(t, "sold", listed.ID).OrderID)
	refuses("ticket_sold")
}

// readPages reads a list to its end. Each page must have a 200, and each link to a next page must lead through the gateway.
func readPages(t testing.TB, api *client.Client, first client.Request) []client.Response {
	t.Helper()
	var all []client.Response
	for page, err := range api.Pages(t.Context(), first) {
		require.NoError(t, err)
		requireStatus(t, 200, page)
		if link := page.Header.Get("Link"); link != "" {
			require.Regexp(t, `^</api/[^>]+>; rel="next"$`, link)
		}
		all = append(all, page)
		require.Less(t, len(all), 1000, "the list does not end")
	}
	return all
}

// allTickets reads all tickets, in pages of that many.
func (s *testStack) allTickets(t testing.TB, limit int) []client.Ticket {
	t.Helper()
	var all []client.Ticket
	for _, page := range readPages(t, s.api, client.ReadTickets().WithQuery("limit", limit)) {
		tickets := decode[[]client.Ticket](t, page)
		require.LessOrEqual(t, len(tickets), limit)
		all = append(all, tickets...)
	}
	return all
}

func TestTickets_ListHasPagesToItsEnd(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller := s.signUp(t)
	var mine []string // newest first
	for i := range 25 {
		mine = append([]string{seller.list(t, fmt.Sprint("Seat ", i), 100).ID}, mine...)
	}
	withdrawn := mine[7]
	requireStatus(t, 204, seller.call(t, client.DeleteTicket(withdrawn)))
	mine = append(mine[:7:7], mine[8:]...)

	for _, limit := range []int{1, 7, 50, 200} {
		var found []string
		seen := map[string]bool{}
		for _, listed := range s.allTickets(t, limit) {
			require.False(t, seen[listed.ID], "%s came twice, limit %d", listed.ID, limit)
			seen[listed.ID] = true
			if listed.UserID == seller.ID {
				found = append(found, listed.ID)
			}
		}
		require.Equal(t, mine, found, "limit %d", limit)
	}
	first := decode[[]client.Ticket](t, s.call(t, client.ReadTickets()))
	require.LessOrEqual(t, len(first), 50)
	require.LessOrEqual(t, len(decode[[]client.Ticket](t, s.request(t, "GET", "/api/tickets?limit=200", nil))), 200)

	for limit, code := range map[string]string{
		"0": "min", "-1": "min", "201": "max", "100000": "max", "99999999999999999999": "max", "x": "wrong_type", "1.5": "wrong_type", "": "wrong_type",
	} {
		problem := requireProblem(t, 400, s.request(t, "GET", "/api/tickets?limit="+limit, nil), code)
		require.Equal(t, "limit", problem.Errors[0].Field, limit)
	}
	for _, cursor := range []string{"x", "MA", "LTEuMQ", "%00", strings.Repeat("x", 300)} {
		problem := requireProblem(t, 400, s.request(t, "GET", "/api/tickets?cursor="+cursor, nil))
		require.Equal(t, "cursor", problem.Errors[0].Field, cursor)
	}
}

func TestTickets_FirstPageIsFullAfterManyDeletions(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	seller := s.signUp(t)
	var kept []client.Ticket
	for range 12 {
		kept = append(kept, seller.list(t, "Kept", 1500))
	}
	for range 400 {
		requireStatus(t, 204, seller.call(t, client.DeleteTicket(seller.list(t, "Deleted", 1500).ID)))
	}
	eventually(t, "the first page has ten of the remaining tickets", func() bool {
		page := decode[[]client.Ticket](t, s.call(t, client.ReadTickets().WithQuery("limit", 10)))
		return len(page) == 10 && page[0].ID == kept[11].ID && page[9].ID == kept[2].ID
	})
}

func TestTickets_TitlesWithControlCharactersAreRefused(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller := s.signUp(t)
	listed := seller.list(t, "שורה 1, Opéra 👩‍👩‍👧", 500)
	for _, title := range []string{"Row\n1", "\x1b[2J", "Row \u202e1 ecils", "\u2067x", "a\u2028b"} {
		requireProblem(t, 400, seller.call(t, client.ListTicket(title, 500)), "printable")
		problem := requireProblem(t, 400, seller.call(t, client.EditTicket(listed.ID, client.Offer{Title: title, Price: 500})), "printable")
		require.Equal(t, "title", problem.Errors[0].Field)
	}
	require.Equal(t, listed, s.ticket(t, listed.ID))
}
