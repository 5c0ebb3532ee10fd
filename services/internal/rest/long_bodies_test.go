package rest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

func TestNew_ReceivesFewLongBodiesAtATime(t *testing.T) {
	o := quiet()
	o.BodyLimit = 1 << 10
	o.BodyLimitOf = func(method, _ string) int { return map[string]int{"PUT": 1 << 20}[method] }
	o.BodyTimeout = time.Minute
	app := New(o)
	app.All("/*", func(c *fiber.Ctx) error { return c.SendString(fmt.Sprint(len(c.Body()))) })
	address, err := url.Parse(serve(t, app))
	require.NoError(t, err)
	const long = 1 << 19
	responseOn := func(conn net.Conn) (int, string) {
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(body)
	}
	send := func(method string, length int) (int, string) {
		req, err := http.NewRequest(method, address.String(), strings.NewReader(strings.Repeat("x", length)))
		require.NoError(t, err)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		got := read(t, res)
		return got.status, got.body
	}
	tooMany := func() bool {
		status, body := send("PUT", long)
		if status == 503 {
			require.Contains(t, body, `"code":"unavailable"`)
		}
		return status == 503
	}

	// slow sends a header and no body. The server has counted it when it asks for the body.
	slow := func() net.Conn {
		conn, err := net.Dial("tcp", address.Host)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		_, err = fmt.Fprintf(conn, "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", long)
		require.NoError(t, err)
		const goOn = "HTTP/1.1 100 Continue\r\n\r\n"
		read := make([]byte, len(goOn))
		_, err = io.ReadFull(conn, read)
		require.NoError(t, err)
		require.Equal(t, goOn, string(read))
		return conn
	}
	first, second := slow(), slow()
	for range maxLongBodies - 2 {
		slow()
	}
	require.True(t, tooMany())
	for _, method := range []string{"PUT", "POST"} {
		status, body := send(method, 1<<10)
		require.Equal(t, []any{200, "1024"}, []any{status, body}, "short bodies are received")
	}
	status, _ := send("POST", 1<<10+1)
	require.Equal(t, 413, status)
	status, _ = send("PUT", 1<<20+1)
	require.Equal(t, 413, status)

	_, err = io.WriteString(first, strings.Repeat("x", long))
	require.NoError(t, err)
	status, body := responseOn(first)
	require.Equal(t, []any{200, fmt.Sprint(long)}, []any{status, body})
	require.Eventually(t, func() bool { return !tooMany() }, 10*time.Second, time.Millisecond, "one is responded to")
	slow()
	require.True(t, tooMany())
	require.NoError(t, second.Close())
	require.Eventually(t, func() bool { return !tooMany() }, 10*time.Second, time.Millisecond, "a client has given up")
}

func TestBodyLimits_ForgetsRequestsThatHaveEndedUnseen(t *testing.T) {
	b := newBodyLimits(Options{BodyLimit: 10, BodyLimitOf: func(string, string) int { return 100 }, BodyTimeout: time.Second})
	header := func() *fasthttp.RequestHeader {
		h := &fasthttp.RequestHeader{}
		h.SetContentLength(50)
		return h
	}
	again := header()
	for range 2 * maxLongBodies {
		require.Equal(t, 100, b.begin(again), "the next request on a connection replaces the last")
	}
	for range maxLongBodies - 1 {
		require.Equal(t, 100, b.begin(header()))
	}
	require.Equal(t, 10, b.begin(header()))
	b.long[again] = time.Now().Add(-b.life - time.Second)
	require.Equal(t, 100, b.begin(header()))
}
