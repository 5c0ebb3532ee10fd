package rest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// bounded serves an app whose connections are bounded. GET /slow sends to entered, and waits for release.
func bounded(t *testing.T, limits ConnectionLimits, change ...func(*Options)) (address string, entered, release chan bool) {
	t.Helper()
	o := quiet()
	for _, c := range change {
		c(&o)
	}
	app := New(o)
	entered, release = make(chan bool), make(chan bool)
	app.Get("/", func(c *fiber.Ctx) error { return c.SendString("done") })
	app.Get("/slow", func(c *fiber.Ctx) error {
		entered <- true
		<-release
		return c.SendString("done")
	})
	app.Post("/", func(c *fiber.Ctx) error { return c.Send(c.Body()) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = app.Listener(LimitConnections(l, limits, prometheus.NewRegistry())) }()
	t.Cleanup(func() { _ = app.ShutdownWithTimeout(time.Second) })
	return l.Addr().String(), entered, release
}

type caller struct {
	net.Conn
	in *bufio.Reader
}

func connect(t *testing.T, address string) caller {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return caller{c, bufio.NewReader(c)}
}

func (c caller) send(t *testing.T, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
}

// getsResponse waits for a response, and reports whether there was one.
func (c caller) getsResponse(t *testing.T) bool {
	t.Helper()
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode == 200 && string(body) == "done"
}

// isCut waits until the other end closes the connection.
func (c caller) isCut(t *testing.T) {
	t.Helper()
	_, err := io.Copy(io.Discard, c.in)
	if timed, ok := err.(net.Error); ok {
		require.False(t, timed.Timeout(), "it was not cut")
	}
}

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func TestLimitConnections_ANewOneTakesThePlaceOfTheOneThatWaitsLongest(t *testing.T) {
	for name, limits := range map[string]ConnectionLimits{"total": {Total: 3}, "of one address": {PerAddress: 3}} {
		t.Run(name, func(t *testing.T) {
			address, entered, release := bounded(t, limits)
			first := connect(t, address)
			first.send(t, "GET / HTTP/1.1\r\nX-Dri")
			second := connect(t, address)
			second.send(t, request)
			require.True(t, second.getsResponse(t))
			first.send(t, "p") // some bytes are not a request
			third := connect(t, address)
			third.send(t, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
			<-entered

			fourth := connect(t, address)
			fourth.send(t, request)
			require.True(t, fourth.getsResponse(t), "there is room for a client that sends a request")
			first.isCut(t)
			fifth := connect(t, address)
			fifth.send(t, request)
			require.True(t, fifth.getsResponse(t))
			second.isCut(t)
			release <- true
			require.True(t, third.getsResponse(t), "no connection is closed while its request is being handled")
			third.send(t, request)
			require.True(t, third.getsResponse(t))
		})
	}
}

func TestLimitConnections_NewOnesTakeThePlacesOfIdleOnesIfTheseAreMore(t *testing.T) {
	for name, limits := range map[string]ConnectionLimits{"total": {Total: 3}, "of one address": {PerAddress: 3}} {
		t.Run(name, func(t *testing.T) {
			address, _, _ := bounded(t, limits)
			for range 3 {
				idle := connect(t, address)
				idle.send(t, request)
				require.True(t, idle.getsResponse(t))
			}
			one, another := connect(t, address), connect(t, address)
			for _, browser := range []caller{one, another} {
				browser.send(t, request)
				require.True(t, browser.getsResponse(t), "connections opened at once do not close each other")
			}
		})
	}
}

func TestLimitConnections_OneThatHasSentARequestIsKeptIfThoseThatHaveNotAreMore(t *testing.T) {
	for name, limits := range map[string]ConnectionLimits{"total": {Total: 3}, "of one address": {PerAddress: 3}} {
		t.Run(name, func(t *testing.T) {
			address, _, _ := bounded(t, limits)
			buyer := connect(t, address)
			buyer.send(t, request)
			require.True(t, buyer.getsResponse(t))
			for range 5 { // the buyer has waited longer than each of these
				dripping := connect(t, address)
				dripping.send(t, "GET / HTTP/1.1\r\nX-Dri")
			}
			buyer.send(t, request)
			require.True(t, buyer.getsResponse(t), "the connection is kept for the next request")
		})
	}
}

func TestLimitConnections_ANewOneIsRefusedWhileAllOthersAreServed(t *testing.T) {
	address, entered, release := bounded(t, ConnectionLimits{Total: 2})
	var busy []caller
	for range 2 {
		c := connect(t, address)
		c.send(t, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
		<-entered
		busy = append(busy, c)
	}
	connect(t, address).isCut(t)
	for range busy {
		release <- true
	}
	for _, c := range busy {
		require.True(t, c.getsResponse(t))
		require.NoError(t, c.Close())
	}
	later := connect(t, address)
	later.send(t, request)
	require.True(t, later.getsResponse(t))
}

func TestLimitConnections_TrustedProxiesHaveAsManyAsTheyNeed(t *testing.T) {
	address, _, _ := bounded(t, ConnectionLimits{PerAddress: 2, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	var all []caller
	for range 10 {
		all = append(all, connect(t, address))
	}
	for _, c := range all {
		c.send(t, request)
		require.True(t, c.getsResponse(t))
	}
}

func TestNew_CutsClientsThatAreSlow(t *testing.T) {
	address, _, _ := bounded(t, ConnectionLimits{}, func(o *Options) { o.HeaderTimeout, o.BodyTimeout = 200*time.Millisecond, 3*time.Second })
	drips := func(t *testing.T, begin string, least, most time.Duration) {
		t.Parallel()
		c := connect(t, address)
		began := time.Now()
		c.send(t, begin)
		go func() {
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond) // how slow the client is
			}
		}()
		res, err := http.ReadResponse(c.in, nil)
		if err == nil { // it may be lost with the connection
			require.Equal(t, 408, res.StatusCode)
		}
		c.isCut(t)
		require.Greater(t, time.Since(began), least)
		require.Less(t, time.Since(began), most)
	}
	t.Run("headers", func(t *testing.T) {
		drips(t, "GET / HTTP/1.1\r\nHost: x\r\nX-Drip: ", 150*time.Millisecond, 2500*time.Millisecond)
	})
	t.Run("a body", func(t *testing.T) {
		drips(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 10_000), 2500*time.Millisecond, 15*time.Second)
	})
	t.Run("nothing at all", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		connect(t, address).isCut(t)
		require.Less(t, time.Since(began), 3*time.Second)
	})
}
