package e2e

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// One client that asks without end is told to wait, and others buy meanwhile.
func TestLimits_OneClientDoesNotKeepOthersFromBuying(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RATE_LIMIT": "20", "SIGNIN_RATE": "2", "TRUSTED_PROXIES": "127.0.0.0/8"}})
	from := func(address string) []string { return []string{"X-Forwarded-For", "1.1.1.1, " + address} }
	flood := func(method, path string, body any, headers []string) (refusals int, first client.Response) {
		for range 100 {
			r := s.request(t, method, path, body, headers...)
			if r.Status == 429 {
				if refusals++; refusals == 1 {
					first = r
				}
			}
		}
		return refusals, first
	}

	seller, buyer := s.signUp(t), s.signUp(t) // from 127.0.0.1
	refusals, first := flood("GET", "/api/tickets", nil, from("198.51.100.1"))
	require.Greater(t, refusals, 20)
	requireProblem(t, 429, first, "rate_limited")
	require.NotEmpty(t, first.Header.Get("Retry-After"))
	require.Equal(t, `"address";q=40;w=2`, first.Header.Get("RateLimit-Policy"))
	require.Regexp(t, `^"address";r=0;t=\d+$`, first.Header.Get("RateLimit"))
	refusals, first = flood("POST", "/api/users/signin", client.Credentials{Email: newEmail(), Password: "a wrong guess"}, from("198.51.100.2"))
	require.Greater(t, refusals, 60)
	require.Contains(t, first.Header.Get("RateLimit-Policy"), `"signin-address";q=8;w=4`)

	// A user with many addresses is one all the same; a token that is forged counts for nobody.
	refusals = 0
	for i := range 100 {
		r := buyer.request(t, "GET", "/api/orders", nil, from(fmt.Sprintf("203.0.113.%d", i))...)
		if r.Status == 429 {
			refusals++
		}
	}
	require.Greater(t, refusals, 20)
	forged := *seller
	forged.token = strings.TrimSuffix(seller.token, seller.token[len(seller.token)-4:]) + "AAAA"
	for i := range 100 {
		requireStatus(t, 401, forged.request(t, "GET", "/api/orders", nil, from(fmt.Sprintf("203.0.113.%d", 100+i))...))
	}

	later := s.signUp(t)
	s.sell(t, later)
	for range 100 {
		require.Equal(t, 200, s.request(t, "GET", "/healthz", nil, from("198.51.100.1")...).Status, "probes have no limit")
	}
	require.Contains(t, string(s.request(t, "GET", s.AppMetrics("gateway"), nil).Body), `boxoffice_rate_limited_total{policy="signin-address"}`)
	require.Contains(t, strings.Join(s.Process("gateway").Log(), "\n"), "client=198.51.100.1 ")
}

// Two thousand connections that send a byte now and then, and come back when they are cut, take nobody's place who sends a request.
func TestLimits_SlowClientsAreCutWhileOthersBuy(t *testing.T) {
	t.Parallel()
	if l, err := net.ListenTCP("tcp", attackerAddress); err != nil {
		t.Skipf("this machine has no second address of its own: %v", err)
	} else {
		_ = l.Close()
	}
	for name, env := range map[string]map[string]string{
		"a bound for an address": {"CONNECTIONS_PER_ADDRESS": "256"},
		"a bound for all":        {"MAX_CONNECTIONS": "400"},
		"no bound is reached":    {"HEADER_TIMEOUT": "2s"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t, stack.Options{Env: env})
			s.sell(t, s.signUp(t))
			var cut, opened atomic.Int64
			end, attack := make(chan bool), make(chan bool)
			for range 4 {
				go func() {
					sendSlowly(strings.TrimPrefix(s.GatewayURL(), "http://"), 500, &opened, &cut, end)
					attack <- true
				}()
			}
			eventually(t, "the attack has begun", func() bool { return opened.Load() >= 2000 })
			var slowest time.Duration
			for range 15 {
				began := time.Now()
				s.sell(t, s.signUp(t))
				slowest = max(slowest, time.Since(began))
			}
			eventually(t, "slow clients are cut", func() bool { return cut.Load() > 1500 })
			close(end)
			for range 4 {
				<-attack
			}
			t.Logf("%d connections, %d cut; the slowest of 15 purchases took %s", opened.Load(), cut.Load(), slowest)
			require.Less(t, slowest, 5*time.Second)
		})
	}
}

// attackersAddress is another than that of the people who buy.
var attackerAddress = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}

// drip keeps so many connections open, each of which sends a byte of a request every half second, until end is closed.
func sendSlowly(address string, connections int, opened, cut *atomic.Int64, end chan bool) {
	attacker := net.Dialer{Timeout: time.Second, LocalAddr: attackerAddress}
	all := make([]net.Conn, connections)
	defer func() {
		for _, c := range all {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	for {
		round := time.After(500 * time.Millisecond)
		for i, c := range all {
			if c != nil {
				_ = c.SetWriteDeadline(time.Now().Add(time.Millisecond))
				if _, err := c.Write([]byte("x")); err == nil {
					continue
				}
				_ = c.Close()
				cut.Add(1)
				all[i] = nil
			}
			next, err := attacker.Dial("tcp", address)
			if err != nil {
				continue
			}
			if _, err := next.Write([]byte("GET /api/tickets HTTP/1.1\r\nHost: x\r\nX-Drip: ")); err == nil {
				opened.Add(1)
			}
			all[i] = next
		}
		select {
		case <-round:
		case <-end:
			return
		}
	}
}
