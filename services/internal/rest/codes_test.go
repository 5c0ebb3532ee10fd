package rest

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
)

// Whatever bytes a client sends: what is refused is a problem with a code, also if no handler gets the request.
func TestNew_EveryErrorIsAProblemWithACode(t *testing.T) {
	o := quiet()
	o.BodyLimit = 1 << 10
	o.HeaderTimeout, o.BodyTimeout = 200*time.Millisecond, 200*time.Millisecond
	app := New(o)
	type body struct {
		Title string `json:"title" validate:"required,min=2,max=5"`
	}
	app.Post("/things", func(c *fiber.Ctx) error {
		_, err := Decode[body](c)
		return err
	})
	app.Get("/things", func(c *fiber.Ctx) error {
		_, _, err := Paging(c)
		return err
	})
	app.Put("/things/:id", func(c *fiber.Ctx) error {
		if _, err := PathID[string](c, "id"); err != nil {
			return err
		}
		_, _, err := IfMatch(c)
		return err
	})
	address, err := url.Parse(serve(t, app))
	require.NoError(t, err)

	const jsonBody = "Content-Type: application/json\r\n"
	post := func(headers, body string) string {
		return "POST /things HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n" + body
	}
	tests := map[string]struct {
		sent   string
		status int
		code   string
	}{
		"no HTTP":                       {"hello\r\n\r\n", 400, "bad_request"},
		"TLS":                           {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"},
		"HTTP/2":                        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"},
		"an unknown method":             {"BREW /things HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_request"},
		"a header's name with a space":  {"GET /things HTTP/1.1\r\nHost: h\r\nX Y: z\r\n\r\n", 400, "bad_request"},
		"a negative length":             {post(jsonBody+"Content-Length: -1\r\n", ""), 400, "bad_request"},
		"a length that is no number":    {post(jsonBody+"Content-Length: x\r\n", "{}"), 400, "bad_request"},
		"chunks that are none":          {post(jsonBody+"Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"), 400, "bad_request"},
		"long headers":                  {"GET /things HTTP/1.1\r\nHost: h\r\nCookie: " + strings.Repeat("x", headerLimit) + "\r\n\r\n", 431, "headers_too_large"},
		"a long path":                   {"GET /" + strings.Repeat("x", headerLimit) + " HTTP/1.1\r\nHost: h\r\n\r\n", 431, "headers_too_large"},
		"headers that do not end":       {"GET /things HTTP/1.1\r\nHost: h\r\n", 408, "timeout"},
		"a body that does not end":      {post(jsonBody+"Content-Length: 9\r\n", "{"), 408, "timeout"},
		"a long body":                   {post(jsonBody+"Content-Length: 1025\r\n", strings.Repeat(" ", 1025)), 413, "too_large"},
		"no such path":                  {"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", 404, "not_found"},
		"no path":                       {"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 404, "not_found"},
		"a path that is not decodable":  {"GET /things/%zz HTTP/1.1\r\nHost: h\r\n\r\n", 405, "method_not_allowed"},
		"no such method":                {"DELETE /things HTTP/1.1\r\nHost: h\r\n\r\n", 405, "method_not_allowed"},
		"a method of proxies":           {"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 404, "not_found"},
		"no id":                         {"PUT /things/7 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 404, "not_found"},
		"no ETag":                       {"PUT /things/0197a0b2-5d07-7000-8000-00000000000a HTTP/1.1\r\nHost: h\r\nIf-Match: x\r\nContent-Length: 0\r\n\r\n", 400, "invalid"},
		"a form":                        {post("Content-Type: text/plain\r\nContent-Length: 2\r\n", "{}"), 415, "unsupported_media_type"},
		"compressed":                    {post(jsonBody+"Content-Encoding: gzip\r\nContent-Length: 2\r\n", "{}"), 415, "unsupported_encoding"},
		"no JSON":                       {post(jsonBody+"Content-Length: 1\r\n", "{"), 400, "not_json"},
		"no body":                       {post(jsonBody+"Content-Length: 0\r\n", ""), 400, "not_json"},
		"no object":                     {post(jsonBody+"Content-Length: 2\r\n", "[]"), 400, "wrong_type"},
		"a member is missing":           {post(jsonBody+"Content-Length: 2\r\n", "{}"), 400, "required"},
		"a member breaks a rule":        {post(jsonBody+"Content-Length: 13\r\n", `{"title":"x"}`), 400, "min"},
		"a limit that is too high":      {"GET /things?limit=1000 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "max"},
		"a cursor that is too long":     {"GET /things?cursor=" + strings.Repeat("x", 300) + " HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid"},
		"an expectation of a long body": {post(jsonBody+"Expect: 100-continue\r\nContent-Length: 1025\r\n", ""), 413, "too_large"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", address.Host)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
			_, err = io.WriteString(conn, tt.sent)
			require.NoError(t, err)
			reader := bufio.NewReader(conn)
			res, err := http.ReadResponse(reader, nil)
			require.NoError(t, err)
			if res.StatusCode == http.StatusContinue {
				res, err = http.ReadResponse(reader, nil)
				require.NoError(t, err)
			}
			raw, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, tt.status, res.StatusCode, "%s", raw)
			require.Equal(t, MediaType, res.Header.Get("Content-Type"))
			require.NotEmpty(t, res.Header.Get("X-Request-Id"))
			var got fault
			require.NoError(t, json.Unmarshal(raw, &got), "%s", raw)
			require.Equal(t, tt.status, got.Status)
			require.NotEmpty(t, got.Errors)
			require.Equal(t, tt.code, got.Errors[0].Code, "%s", raw)
		})
	}
}
