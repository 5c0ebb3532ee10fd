package e2e

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// sendMany sends 100 requests at once, because a limit admits more in a longer time. It returns how many were refused with 429, and one
// refusal.
func sendMany(send func(i int) client.Response) (refusals int, refusal client.Response) {
	responses := make([]client.Response, 100)
	atOnce(len(responses), func(i int) { responses[i] = send(i) })
	for _, response := range responses {
		if response.Status == 429 {
			refusals, refusal = refusals+1, response
		}
	}
	return refusals, refusal
}

// from returns the request as a trusted proxy passes it on from a client's address.
func from(address string, r client.Request) client.Request {
	return r.With("X-Forwarded-For", "1.1.1.1, "+address)
}

func TestLimits_OneClientDoesNotKeepOthersFromBuying(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RATE_LIMIT": "20", "SIGNIN_RATE": "2", "TRUSTED_PROXIES": "127.0.0.0/8"}})
	seller, buyer := s.signUp(t), s.signUp(t) // from 127.0.0.1

	refusals, refusal := sendMany(func(int) client.Response { return s.call(t, from("198.51.100.1", client.ReadTickets())) })
	require.Greater(t, refusals, 20)
	requireProblem(t, 429, refusal, "rate_limited")
	require.NotEmpty(t, refusal.Header.Get("Retry-After"))
	require.Equal(t, `"address";q=40;w=2`, refusal.Header.Get("RateLimit-Policy"))
	require.Regexp(t, `^"address";r=0;t=\d+$`, refusal.Header.Get("RateLimit"))
	guess := client.SignIn(newEmail(), "a wrong guess")
	refusals = 0
	for range 100 { // one after the other: at once they would reach the limit of the address, too
		if r := s.call(t, from("198.51.100.2", guess)); r.Status == 429 {
			if refusals++; refusals == 1 {
				refusal = r
			}
		}
	}
	require.Greater(t, refusals, 60)
	require.Contains(t, refusal.Header.Get("RateLimit-Policy"), `"signin-address";q=8;w=4`)

	// The requests of a user are counted together, from any number of addresses. A forged token counts for no user.
	refusals, _ = sendMany(func(i int) client.Response {
		return buyer.call(t, from(fmt.Sprintf("203.0.113.%d", i), client.ReadOrders()))
	})
	require.Greater(t, refusals, 20)
	forged := *seller
	forged.token = seller.token[:len(seller.token)-4] + "AAAA"
	for i := range 100 {
		requireStatus(t, 401, forged.call(t, from(fmt.Sprintf("203.0.113.%d", 100+i), client.ReadOrders())))
	}

	s.sell(t, s.signUp(t))
	for range 100 {
		require.Equal(t, 200, s.call(t, from("198.51.100.1", newRequest("GET", "/healthz", nil))).Status, "probes have no limit")
	}
	require.Contains(t, s.metrics(t, "gateway"), `boxoffice_rate_limited_total{policy="signin-address"}`)
	require.Contains(t, strings.Join(s.Process("gateway").Log(), "\n"), "client=198.51.100.1 ")
}

// 2,000 connections send a byte now and then, and are opened again when they are cut. Other clients buy meanwhile.
func TestLimits_SlowClientsAreCutWhileOthersBuy(t *testing.T) {
	t.Parallel()
	if l, err := net.ListenTCP("tcp", slowClientsAddress); err != nil {
		t.Skipf("this machine has no second loopback address: %v", err)
	} else {
		_ = l.Close()
	}
	for name, env := range map[string]map[string]string{
		"limit of an address": {"CONNECTIONS_PER_ADDRESS": "256"},
		"limit of all":        {"MAX_CONNECTIONS": "400"},
		"time for a header":   {"HEADER_TIMEOUT": "2s"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t, stack.Options{Env: env})
			s.sell(t, s.signUp(t))
			var slow slowClients
			slow.start(t, strings.TrimPrefix(s.GatewayURL(), "http://"))
			eventually(t, "all slow connections were opened", func() bool { return slow.opened.Load() >= slowConnections })
			for range 15 {
				s.sell(t, s.signUp(t))
			}
			eventually(t, "tickets are sold until slow clients are cut", func() bool {
				s.sell(t, s.signUp(t))
				return slow.cut.Load() > slowConnections*3/4
			})
			t.Logf("%d connections were opened, %d cut", slow.opened.Load(), slow.cut.Load())
		})
	}
}

// slowConnections is how many connections slowClients keep open.
const slowConnections = 2000

// slowClientsAddress is not the address of the buyers.
var slowClientsAddress = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}

// slowClients keep connections open, each of which sends a byte of a request every half second.
type slowClients struct {
	opened, cut atomic.Int64
	working     sync.WaitGroup
}

// start starts the clients, which end with the test.
func (c *slowClients) start(t *testing.T, address string) {
	t.Helper()
	const workers = 4
	end := make(chan struct{})
	for range workers {
		c.working.Go(func() { c.keepOpen(address, slowConnections/workers, end) })
	}
	t.Cleanup(func() {
		close(end)
		c.working.Wait()
	})
}

func (c *slowClients) keepOpen(address string, connections int, end <-chan struct{}) {
	dialer := net.Dialer{Timeout: time.Second, LocalAddr: slowClientsAddress}
	all := make([]net.Conn, connections)
	defer func() {
		for _, conn := range all {
			if conn != nil {
				_ = conn.Close()
			}
		}
	}()
	for {
		next := time.After(500 * time.Millisecond)
		for i, conn := range all {
			if conn != nil && c.sendByte(conn) {
				continue
			}
			all[i] = c.open(dialer, address)
		}
		select {
		case <-next:
		case <-end:
			return
		}
	}
}

// sendByte reports whether the connection is still open.
func (c *slowClients) sendByte(conn net.Conn) bool {
	_ = conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
	if _, err := conn.Write([]byte("x")); err == nil {
		return true
	}
	_ = conn.Close()
	c.cut.Add(1)
	return false
}

// open returns nil if the connection is refused.
func (c *slowClients) open(dialer net.Dialer, address string) net.Conn {
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil
	}
	if _, err := conn.Write([]byte("GET /api/tickets HTTP/1.1\r\nHost: x\r\nX-Slow: ")); err == nil {
		c.opened.Add(1)
	}
	return conn
}
