package e2e

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	unknownID   = "0190b5a0-0000-7000-8000-000000000000"
	nonsenseIDs = "1 x 0190b5a0 {0190b5a0-0000-7000-8000-000000000000} urn:uuid:0190b5a0-0000-7000-8000-000000000000 ..%2F..%2Fx %00 " + unknownID + "x"
)

func TestTickets_AreListedShownChangedAndWithdrawn(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller := h.signUp(t)

	r := seller.do(t, "POST", "/api/tickets", `{"title":"Concert — Grüße 🎫","price":4200,"currency":"xxx","userId":"me","status":"sold","id":"1","version":9}`)
	require.Equal(t, 201, r.status, "%s", r.body)
	made := as[ticket](t, r)
	require.Equal(t, ticket{
		ID: made.ID, Title: "Concert — Grüße 🎫", Price: 4200, Currency: "usd", UserID: seller.ID, Status: "available",
		Version: 1, CreatedAt: made.CreatedAt, UpdatedAt: made.CreatedAt,
	}, made, "what a client may not say is not taken from it")
	require.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute)
	require.Equal(t, "/api/tickets/"+made.ID, r.header.Get("Location"))
	require.Equal(t, `"1"`, r.header.Get("ETag"))
	require.NotContains(t, string(r.body), `"orderId"`)
	require.NotContains(t, string(r.body), `"schema"`)

	shown := h.do(t, "GET", r.header.Get("Location"), nil)
	require.Equal(t, 200, shown.status)
	require.Equal(t, "application/json", shown.header.Get("Content-Type"))
	require.Equal(t, `"1"`, shown.header.Get("ETag"))
	require.JSONEq(t, string(r.body), string(shown.body))

	changed := seller.do(t, "PUT", "/api/tickets/"+made.ID, offer{Title: "Opera", Price: 5000})
	require.Equal(t, 200, changed.status, "%s", changed.body)
	require.Equal(t, `"2"`, changed.header.Get("ETag"))
	now := as[ticket](t, changed)
	require.Equal(t, []any{"Opera", int64(5000), 2, made.CreatedAt}, []any{now.Title, now.Price, now.Version, now.CreatedAt})
	require.Equal(t, now, h.ticket(t, made.ID))

	gone := seller.do(t, "DELETE", "/api/tickets/"+made.ID, nil)
	require.Equal(t, 204, gone.status, "%s", gone.body)
	require.Empty(t, gone.body)
	refused(t, 404, h.do(t, "GET", "/api/tickets/"+made.ID, nil))
	refused(t, 404, seller.do(t, "PUT", "/api/tickets/"+made.ID, offer{Title: "Back", Price: 4100}))
	refused(t, 404, seller.do(t, "DELETE", "/api/tickets/"+made.ID, nil))
	for _, listed := range h.allTickets(t, 200) {
		require.NotEqual(t, made.ID, listed.ID, "what is withdrawn is not listed")
	}
}

func TestTickets_HeadIsGetWithoutTheBody(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	listed := h.signUp(t).list(t, "Concert", 100)

	r := h.do(t, "HEAD", "/api/tickets/"+listed.ID, nil)

	require.Equal(t, 200, r.status)
	require.Equal(t, `"1"`, r.header.Get("ETag"))
	require.Empty(t, r.body)
}

func TestTickets_AreTheirSellersAlone(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, other := h.signUp(t), h.signUp(t)
	listed := seller.list(t, "Concert", 4200)

	refused(t, 403, other.do(t, "PUT", "/api/tickets/"+listed.ID, offer{Title: "Mine", Price: 4100}))
	refused(t, 403, other.do(t, "DELETE", "/api/tickets/"+listed.ID, nil))
	refused(t, 401, h.do(t, "POST", "/api/tickets", offer{Title: "Nobody's", Price: 4100}), "not_signed_in")
	refused(t, 401, h.do(t, "PUT", "/api/tickets/"+listed.ID, offer{Title: "Nobody's", Price: 4100}), "not_signed_in")
	refused(t, 401, h.do(t, "DELETE", "/api/tickets/"+listed.ID, nil), "not_signed_in")
	refused(t, 401, h.do(t, "POST", "/api/tickets", `not JSON`), "not_signed_in")

	require.Equal(t, listed, h.ticket(t, listed.ID))
}

func TestTickets_IdsThatNameNothing(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller := h.signUp(t)

	for _, id := range append(strings.Fields(nonsenseIDs), unknownID, strings.ToUpper(unknownID), seller.ID) {
		refused(t, 404, h.do(t, "GET", "/api/tickets/"+id, nil))
		refused(t, 404, seller.do(t, "PUT", "/api/tickets/"+id, offer{Title: "Nothing", Price: 4100}))
		refused(t, 404, seller.do(t, "DELETE", "/api/tickets/"+id, nil))
	}
	listed := seller.list(t, "Concert", 100)
	require.Equal(t, listed, h.ticket(t, strings.ToUpper(listed.ID)), "an id is the same in capital letters")
}

func TestTickets_RefuseWhatIsNotValid(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller := h.signUp(t)
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
				for _, e := range refused(t, 400, seller.do(t, call[0], call[1], tt.body)).Errors {
					fields = append(fields, e.Field)
				}
				require.Equal(t, tt.fields, fields, call)
			}
		})
	}
	for name, body := range map[string]string{"a text": `{"title":"a","price":1,"version":"2"}`, "less than the first": `{"title":"a","price":1,"version":-1}`} {
		f := refused(t, 400, seller.do(t, "PUT", "/api/tickets/"+listed.ID, body))
		require.Equal(t, "version", f.Errors[0].Field, name)
	}
	require.Equal(t, listed, h.ticket(t, listed.ID))

	r := seller.do(t, "POST", "/api/tickets", offer{Title: strings.Repeat("ü", 200), Price: 99_999_999})
	require.Equal(t, 201, r.status, "the longest and dearest: %s", r.body)
}

func TestTickets_RefuseAStaleVersion(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller := h.signUp(t)
	path := "/api/tickets/" + seller.list(t, "Concert", 4200).ID
	require.Equal(t, 200, seller.do(t, "PUT", path, offer{Title: "Second", Price: 4300, Version: 1}).status, "the right version")

	stale := offer{Title: "Stale", Price: 4100}
	tests := map[string]struct {
		version int
		ifMatch string
		code    string
		status  int
	}{
		"in the body":              {1, "", "stale_version", 409},
		"in If-Match":              {0, `"1"`, "stale_version", 409},
		"in If-Match, weak":        {0, `W/"1"`, "stale_version", 409},
		"of the future":            {7, "", "stale_version", 409},
		"of the future, If-Match":  {0, `"7"`, "stale_version", 409},
		"in both":                  {1, `"1"`, "stale_version", 409},
		"two that differ":          {1, `"2"`, "", 400},
		"an ETag of somebody else": {0, `"abc"`, "invalid", 400},
		"an ETag without quotes":   {0, `1`, "invalid", 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			stale.Version = tt.version
			refused(t, tt.status, seller.do(t, "PUT", path, stale, "If-Match", tt.ifMatch), tt.code)
		})
	}
	refused(t, 409, seller.do(t, "DELETE", path, nil, "If-Match", `"1"`), "stale_version")

	for i, ifMatch := range []string{`"2"`, `W/"3"`, "*"} {
		r := seller.do(t, "PUT", path, offer{Title: "Changed", Price: 4400}, "If-Match", ifMatch)
		require.Equal(t, 200, r.status, "%s: %s", ifMatch, r.body)
		require.Equal(t, i+3, as[ticket](t, r).Version)
	}
	require.Equal(t, 204, seller.do(t, "DELETE", path, nil, "If-Match", `"5"`).status)
}

func TestTickets_OneOfManyChangesOfOneVersionIsTaken(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller := h.signUp(t)
	path := "/api/tickets/" + seller.list(t, "Concert", 4200).ID
	const many = 10
	statuses := make(chan int, many)
	for i := range many {
		go func() {
			statuses <- seller.do(t, "PUT", path, offer{Title: fmt.Sprint("Change ", i), Price: 4100, Version: 1}).status
		}()
	}
	counts := map[int]int{}
	for range many {
		counts[<-statuses]++
	}
	require.Equal(t, map[int]int{200: 1, 409: many - 1}, counts)
}

func TestTickets_ReservedAndSoldOnesAreNotChanged(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	listed := seller.list(t, "Concert", 4200)
	path := "/api/tickets/" + listed.ID
	refuses := func(code string) {
		before := h.ticket(t, listed.ID)
		refused(t, 409, seller.do(t, "PUT", path, offer{Title: "Changed", Price: 4100}), code)
		refused(t, 409, seller.do(t, "PUT", path, offer{Title: "Changed", Price: 4100, Version: before.Version}), code)
		refused(t, 409, seller.do(t, "DELETE", path, nil), code)
		require.Equal(t, before, h.ticket(t, listed.ID))
	}

	first := buyer.reserved(t, listed.ID)
	require.Equal(t, first.ID, h.ticketBecomes(t, "reserved", listed.ID).OrderID)
	refuses("ticket_reserved")

	require.Equal(t, 204, buyer.cancel(t, first.ID))
	require.Empty(t, h.ticketBecomes(t, "available", listed.ID).OrderID)
	require.Equal(t, 200, seller.do(t, "PUT", path, offer{Title: "Free again", Price: 4300}).status)

	second := buyer.reserved(t, listed.ID)
	status, _ := buyer.pay(t, second.ID, goodCard)
	require.Equal(t, 201, status)
	require.Equal(t, second.ID, h.ticketBecomes(t, "sold", listed.ID).OrderID)
	refuses("ticket_sold")
}

// nextLink is the form of a Link header that leads on (RFC 8288).
var nextLink = regexp.MustCompile(`^<([^>]+)>; rel="next"$`)

// follow reads a list from path to its end, along the links, and gives each page to visit.
func (h *house) follow(t testing.TB, path string, read func(path string) reply, visit func(page reply)) {
	t.Helper()
	base, err := url.Parse(h.GatewayURL() + path)
	require.NoError(t, err)
	for range 1000 {
		page := read(base.RequestURI())
		require.Equal(t, 200, page.status, "%s: %s", base, page.body)
		visit(page)
		link := page.header.Get("Link")
		if link == "" {
			return
		}
		match := nextLink.FindStringSubmatch(link)
		require.NotNil(t, match, link)
		next, err := base.Parse(match[1])
		require.NoError(t, err)
		require.Equal(t, base.Host, next.Host, "behind the gateway, the way on leads through the gateway")
		base = next
	}
	require.Fail(t, "the list does not end", path)
}

func (h *house) allTickets(t testing.TB, limit int) []ticket {
	t.Helper()
	var all []ticket
	h.follow(t, "/api/tickets?limit="+strconv.Itoa(limit), func(path string) reply { return h.do(t, "GET", path, nil) }, func(page reply) {
		tickets := as[[]ticket](t, page)
		require.LessOrEqual(t, len(tickets), limit)
		all = append(all, tickets...)
	})
	return all
}

func TestTickets_ListIsPagedToItsEnd(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller := h.signUp(t)
	var mine []string // newest first
	for i := range 25 {
		mine = append([]string{seller.list(t, fmt.Sprint("Seat ", i), 100).ID}, mine...)
	}
	withdrawn := mine[7]
	require.Equal(t, 204, seller.do(t, "DELETE", "/api/tickets/"+withdrawn, nil).status)
	mine = append(mine[:7:7], mine[8:]...)

	for _, limit := range []int{1, 7, 50, 200} {
		var found []string
		seen := map[string]bool{}
		for _, listed := range h.allTickets(t, limit) {
			require.False(t, seen[listed.ID], "%s came twice, limit %d", listed.ID, limit)
			seen[listed.ID] = true
			if listed.UserID == seller.ID {
				found = append(found, listed.ID)
			}
		}
		require.Equal(t, mine, found, "limit %d", limit)
	}
	first := as[[]ticket](t, h.do(t, "GET", "/api/tickets", nil))
	require.LessOrEqual(t, len(first), 50)
	require.LessOrEqual(t, len(as[[]ticket](t, h.do(t, "GET", "/api/tickets?limit=100000", nil))), 200)

	for _, limit := range []string{"0", "-1", "x", "1.5", "99999999999999999999"} {
		f := refused(t, 400, h.do(t, "GET", "/api/tickets?limit="+limit, nil))
		require.Equal(t, "limit", f.Errors[0].Field, limit)
	}
	for _, cursor := range []string{"x", "MA", "LTEuMQ", "%00", strings.Repeat("x", 300)} {
		f := refused(t, 400, h.do(t, "GET", "/api/tickets?cursor="+cursor, nil))
		require.Equal(t, "cursor", f.Errors[0].Field, cursor)
	}
}
