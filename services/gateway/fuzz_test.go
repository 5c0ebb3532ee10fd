package main

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/rest"
)

// Whatever headers a client sends: the service gets exactly one request. Its X-Forwarded headers are the gateway's, not the
// client's, and it has no hop-by-hop header.
func FuzzForwarded(f *testing.F) {
	for _, headers := range []string{
		"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.example\r\n",
		"x-forwarded-for: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n", "X_Forwarded_For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n",
		"Connection: X-Forwarded-For, close\r\nTE: trailers\r\nUpgrade: h2c\r\n", "Connection: keep-alive, Authorization\r\nAuthorization: Bearer x\r\n",
		"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n", "Expect: 100-continue\r\nCookie: jwt=x\r\n",
		"Host: other\r\n", "X: a\r\n b\r\n", "X-Forwarded-Proto: \r\n", "X-Request-Id: mine\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
		"Connection: close\r\nConnection: X-Request-Id,,\r\n", "Trailer: X-Forwarded-For\r\n",
		"Tracestate: a=b\r\ntracestate: c=d\r\nBaggage: a=b\r\n", "X-Request-Id: a\r\nX-Request-Id: b\r\nTraceparent: x\r\nTraceparent: y\r\n",
	} {
		f.Add([]byte(headers), "/api/tickets?x=1", false)
		f.Add([]byte(headers), "http://user:secret@other/api/orders", true)
		f.Add([]byte(headers), "https://other/api/orders", false)
	}
	u, err := newUpstream("tickets", []string{"http://127.0.0.1:1"}, nil, 0, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
	require.NoError(f, err)
	app := rest.New(rest.Options{Name: "gateway", Log: slog.New(slog.DiscardHandler)})
	var sent bytes.Buffer
	app.Use(func(c *fiber.Ctx) error {
		u.prepare(c, c.Request())
		sent.Reset()
		out := bufio.NewWriter(&sent)
		if err := c.Request().Write(out); err != nil {
			return err
		}
		return out.Flush()
	})
	handle := app.Handler()
	f.Fuzz(func(t *testing.T, headers []byte, target string, trusted bool) {
		if strings.ContainsAny(target, " \r\n") || target == "" {
			t.Skip()
		}
		raw := append([]byte("POST "+target+" HTTP/1.1\r\nHost: tickets.example\r\n"), headers...)
		raw = append(raw, "\r\nbody"...)
		var ctx fasthttp.RequestCtx
		var req fasthttp.Request
		if req.Read(bufio.NewReaderSize(bytes.NewReader(raw), 16<<10)) != nil {
			return // fasthttp answers 400
		}
		peer := "203.0.113.9"
		if trusted {
			peer = "192.0.2.7"
		}
		forwardedFor := string(req.Header.Peek("X-Forwarded-For"))
		ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(peer), Port: 4711}, nil)
		sent.Reset()
		handle(&ctx)
		if sent.Len() == 0 {
			require.GreaterOrEqual(t, ctx.Response.StatusCode(), 400)
			return
		}
		wire := bufio.NewReader(&sent)
		got, err := http.ReadRequest(wire)
		if err != nil {
			return // the service refuses it as malformed
		}
		_, err = io.ReadAll(got.Body)
		require.NoError(t, err)
		require.Zero(t, wire.Buffered()+sent.Len(), "there is something after the request: a second one was smuggled in")

		via := got.Header.Values("X-Forwarded-For")
		require.Len(t, via, 1)
		if trusted {
			require.True(t, strings.HasSuffix(via[0], peer), "%q", via)
		} else {
			require.Equal(t, peer, via[0], "the client sent %q", forwardedFor)
			require.Equal(t, []string{"http"}, got.Header.Values("X-Forwarded-Proto"))
			require.Len(t, got.Header.Values("X-Forwarded-Host"), 1)
		}
		for _, name := range []string{"Connection", "Te", "Upgrade", "Keep-Alive", "Proxy-Authorization", "Expect", "Forwarded", "X-Real-Ip", "X-Forwarded-Port", "Tracestate", "Baggage"} {
			require.Empty(t, got.Header.Values(name), name)
		}
		require.Len(t, got.Header.Values("X-Request-Id"), 1)
		require.LessOrEqual(t, len(got.Header.Values("Traceparent")), 1)
		require.NotContains(t, got.Header.Get("Authorization"), "Basic dXNlcjpzZWNyZXQ=", "a password of the request line is not forwarded")
	})
}
