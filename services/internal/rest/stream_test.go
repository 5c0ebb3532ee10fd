package rest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// streaming serves streams at /stream, behind a bound for connections. A stream sends what comes from send, and ends with it.
func streaming(t *testing.T, limits ConnectionLimits) (address string, send chan string, ended chan bool) {
	t.Helper()
	app := New(quiet())
	send, ended = make(chan string), make(chan bool, 8)
	app.Use(func(c *fiber.Ctx) error {
		err := c.Next()
		c.Set("X-After", "the handler")
		return err
	})
	app.Get("/", func(c *fiber.Ctx) error { return c.SendString("done") })
	app.Get("/stream", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, "text/event-stream")
		Stream(c, func(conn net.Conn) {
			defer func() { ended <- true }()
			for text := range send {
				if _, err := io.WriteString(conn, text); err != nil {
					return
				}
			}
		})
		return nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = app.Listener(LimitConnections(l, limits, prometheus.NewRegistry())) }()
	t.Cleanup(func() { _ = app.Shutdown() })
	return l.Addr().String(), send, ended
}

func TestStream_IsWrittenAsItComes(t *testing.T) {
	address, send, ended := streaming(t, ConnectionLimits{})
	c := connect(t, address)
	c.send(t, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"+request) // what follows is not answered
	res, err := http.ReadResponse(c.in, nil)
	require.NoError(t, err)
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, "the handler", res.Header.Get("X-After"))
	require.NotEmpty(t, res.Header.Get("X-Request-Id"))
	require.Empty(t, res.TransferEncoding)
	require.True(t, res.Close)
	body := bufio.NewReader(res.Body)
	for _, text := range []string{"one\n", "two\n"} {
		send <- text
		line, err := body.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, text, line)
	}
	close(send)
	rest, err := io.ReadAll(body)
	require.NoError(t, err)
	require.Empty(t, rest)
	<-ended
}

func TestStream_ItsConnectionIsNotClosedForANewOne(t *testing.T) {
	address, send, ended := streaming(t, ConnectionLimits{Total: 2})
	followed := connect(t, address)
	followed.send(t, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(followed.in, nil)
	require.NoError(t, err)
	var last caller
	for range 4 { // each takes the place of the one before
		last = connect(t, address)
		last.send(t, request)
		require.True(t, last.getsResponse(t))
	}
	send <- "still"
	got := make([]byte, 5)
	_, err = io.ReadFull(res.Body, got)
	require.NoError(t, err)

	close(send)
	<-ended
	followed.isCut(t)
	another := connect(t, address) // there is room for both now
	another.send(t, request)
	require.True(t, another.getsResponse(t))
	last.send(t, request)
	require.True(t, last.getsResponse(t))
}
