package rest

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// anyBody is a body with a member of every sort that the services read.
type anyBody struct {
	Title    string     `json:"title" validate:"required,notblank,max=200"`
	Price    int64      `json:"price" validate:"gte=0"`
	Version  *int       `json:"version" validate:"omitempty,min=1"`
	TicketID string     `json:"ticketId" validate:"omitempty,uuid"`
	Tags     []string   `json:"tags" validate:"max=3"`
	Until    *time.Time `json:"until"`
	Seat     struct {
		Row int `json:"row"`
	} `json:"seat"`
}

// ask sends a request through an app without a network.
func ask(handle fasthttp.RequestHandler, change func(*fasthttp.Request)) (status int, body []byte) {
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("/")
	change(&ctx.Request)
	handle(&ctx)
	return ctx.Response.StatusCode(), ctx.Response.Body()
}

// requireFault checks that a response is a problem with its details.
func requireFault(t *testing.T, status int, body []byte, among ...int) {
	t.Helper()
	require.Contains(t, among, status, "%s", body)
	var f fault
	require.NoError(t, json.Unmarshal(body, &f), "%s", body)
	require.Equal(t, status, f.Status)
	require.NotEmpty(t, f.Errors)
	for _, detail := range f.Errors {
		require.NotEmpty(t, detail.Message)
		require.NotEmpty(t, detail.Code)
	}
}

func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		`{"title":"Front row","price":4500}`, `{"title":"x","version":3,"ticketId":"0197a0b2-5d07-7000-8000-00000000000a","tags":["a"],"until":"2026-05-01T12:00:00Z","seat":{"row":1}}`,
		`{"title":1}`, `{"price":1e3}`, `{"price":9223372036854775808}`, `{"seat":{"row":"a"}}`, `{"until":"noon"}`, `{"title":"\u0000"}`, `{"title":"\ud800"}`,
		`[]`, `null`, `{`, ` `, "\xff", `{"title":"a","title":"b"}`, strings.Repeat(`[`, 20000), `{"tags":["a","b","c","d"]}`,
	} {
		f.Add([]byte(body), "application/json")
	}
	f.Add([]byte(`{"title":"x"}`), "application/merge-patch+json; charset=UTF-8")
	f.Add([]byte(`{"title":"x"}`), "text/plain")
	f.Add([]byte(`{"title":"x"}`), "application/json; charset=latin1")
	var decoded anyBody
	app := New(quiet())
	app.Post("/", func(c *fiber.Ctx) error {
		var err error
		if decoded, err = Decode[anyBody](c); err != nil {
			return err
		}
		return c.JSON(decoded)
	})
	handle := app.Handler()
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		status, answer := ask(handle, func(r *fasthttp.Request) {
			r.Header.SetContentType(contentType)
			r.SetBodyRaw(body)
		})
		if status != 200 {
			requireFault(t, status, answer, 400, 415)
			return
		}
		require.True(t, utf8.Valid(body))
		require.NotContains(t, decoded.Title, "\x00")
		require.NotEmpty(t, strings.TrimSpace(decoded.Title))
		require.GreaterOrEqual(t, decoded.Price, int64(0))
		first := decoded
		status, answer = ask(handle, func(r *fasthttp.Request) {
			r.Header.SetContentType("application/json")
			r.SetBodyRaw(answer)
		})
		require.Equal(t, 200, status, "what was accepted is accepted again: %s", answer)
		if first.Until != nil {
			require.True(t, first.Until.Equal(*decoded.Until))
			first.Until = decoded.Until
		}
		require.True(t, reflect.DeepEqual(first, decoded), "%+v became %+v", first, decoded)
	})
}

func FuzzRequestLineAndHeaders(f *testing.F) {
	f.Add("0197a0b2-5d07-7000-8000-00000000000a", `"3"`, "limit=10&cursor=MS4x")
	f.Add("0197A0B2-5D07-7000-8000-00000000000A", `W/"3"`, "limit=1000")
	f.Add("{0197a0b2-5d07-7000-8000-00000000000a}", `*`, "limit=-1")
	f.Add("urn:uuid:0197a0b2-5d07-7000-8000-00000000000a", `3`, "limit=99999999999999999999")
	f.Add("../etc", `"0"`, "cursor="+strings.Repeat("x", 300))
	f.Add("%00", `"3", "4"`, "limit=%zz&cursor=%3e%0d%0aSet-Cookie:x&x=<>")
	f.Add("", "", "")
	app := New(quiet())
	var id, cursor string
	var version, limit int
	var present bool
	app.Post("/things/:id", func(c *fiber.Ctx) (err error) {
		if id, err = PathID[string](c, "id"); err != nil {
			return err
		}
		if version, present, err = IfMatch(c); err != nil {
			return err
		}
		if limit, cursor, err = Paging(c); err != nil {
			return err
		}
		NextLink(c, cursor)
		return c.SendString(c.GetRespHeader(fiber.HeaderLink))
	})
	handle := app.Handler()
	f.Fuzz(func(t *testing.T, rawID, ifMatch, query string) {
		status, answer := ask(handle, func(r *fasthttp.Request) {
			r.SetRequestURI("/things/" + url.PathEscape(rawID) + "?" + query)
			r.Header.Set(fiber.HeaderIfMatch, ifMatch)
		})
		if status != 200 {
			requireFault(t, status, answer, 400, 404)
			return
		}
		parsed, err := uuid.Parse(id)
		require.NoError(t, err)
		require.Equal(t, parsed.String(), id, "one id has one spelling")
		require.Equal(t, present, version > 0)
		require.True(t, 1 <= limit && limit <= maxLimit)
		require.LessOrEqual(t, len(cursor), longestCursor)
		if cursor == "" {
			require.Empty(t, answer)
			return
		}
		target, rel, found := strings.Cut(string(answer), ">; ")
		require.True(t, found)
		require.Equal(t, `rel="next"`, rel)
		link, err := url.Parse(strings.TrimPrefix(target, "<"))
		require.NoError(t, err)
		require.Equal(t, cursor, link.Query().Get("cursor"))
		require.Empty(t, link.Host, "the link leads to where the client is")
		require.NotContains(t, string(answer), "\n")
	})
}
