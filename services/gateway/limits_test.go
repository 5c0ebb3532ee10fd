package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/peer"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/service"
)

// byName verifies tokens in place of auth: "of-NAME" is valid.
func byName(_ context.Context, token string) (identity.Caller, error) {
	name, ok := strings.CutPrefix(token, "of-")
	if !ok {
		return identity.Caller{}, errors.New("forged")
	}
	return identity.Caller{ID: id.User(name)}, nil
}

func TestBuckets_FillAtTheirRate(t *testing.T) {
	b := newBuckets[string]("user", 10, 2)
	now := time.Now()
	for left := 19; left >= 0; left-- {
		v := b.take("a", now)
		require.True(t, v.allowed())
		require.Equal(t, left, v.remaining)
	}
	v := b.take("a", now)
	require.Equal(t, 100*time.Millisecond, v.wait)
	require.Equal(t, 2, v.window)
	require.Zero(t, v.remaining)
	require.True(t, b.take("b", now).allowed(), "another has a bucket of its own")
	require.False(t, b.take("a", now.Add(99*time.Millisecond)).allowed(), "a refused request costs nothing, and brings nothing")
	require.True(t, b.take("a", now.Add(100*time.Millisecond)).allowed())
	require.False(t, b.take("a", now.Add(100*time.Millisecond)).allowed())
	require.Equal(t, 19, b.take("a", now.Add(time.Hour)).remaining, "no more than the burst is saved")
	require.Nil(t, newBuckets[string]("user", 0, 2))
	slow := newBuckets[string]("slow", 0.1, 2)
	require.True(t, slow.take("a", now).allowed())
	require.Equal(t, 10*time.Second, slow.take("a", now).wait)
}

func TestBuckets_UseBoundedMemory(t *testing.T) {
	b := newBuckets[int]("address", 1, 2)
	now := time.Now()
	for range 3 {
		b.take(-1, now)
	}
	for i := range 10 * maxBuckets {
		b.take(i, now)
		if i%(maxBuckets/4) == 0 {
			require.False(t, b.take(-1, now).allowed(), "a bucket in use is not removed")
		}
		require.LessOrEqual(t, b.full.Len(), maxBuckets)
	}
}

func limited(requests, signins float64) func(*config) {
	return func(c *config) {
		c.RateLimit, c.SigninRate = requests, signins
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	}
}

// from returns the headers with which a trusted proxy forwards a request of an address.
func from(address string, more ...string) []string {
	return append([]string{"X-Forwarded-For", address}, more...)
}

func TestLimits_EachAddressHasALimit(t *testing.T) {
	var passed atomic.Int32
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) { passed.Add(1) }), limited(0.01, 0))
	for _, address := range []string{"198.51.100.1", "198.51.100.2", "2001:db8::1"} {
		got := do(t, "GET", url+"/api/tickets", "", from(address)...)
		require.Equal(t, 200, got.status)
		require.Equal(t, `"address";q=1;w=100`, got.header.Get("RateLimit-Policy"))
		require.Equal(t, `"address";r=0;t=100`, got.header.Get("RateLimit"))

		got = do(t, "GET", url+"/api/orders", "", from("6.6.6.6, "+address)...)
		require.Equal(t, 429, got.status, "the client wrote what stands left of its address")
		require.Equal(t, "rate_limited", got.code(t))
		require.Equal(t, "100", got.header.Get("Retry-After"))
		require.Equal(t, `"address";r=0;t=100`, got.header.Get("RateLimit"))
		require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
	}
	require.Equal(t, 429, do(t, "GET", url+"/api/tickets", "", from("2001:db8::2:3:4")...).status, "the same network of 64 bits")
	require.Equal(t, 200, do(t, "GET", url+"/api/tickets", "", from("2001:db8:0:1::1")...).status)
	require.Equal(t, 429, do(t, "GET", url+"/nothing", "", from("198.51.100.1")...).status)
	require.EqualValues(t, 4, passed.Load())
}

func TestLimits_IgnoreForwardedHeadersOfClients(t *testing.T) {
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) {}), func(c *config) { c.RateLimit = 0.01 })
	require.Equal(t, 200, do(t, "GET", url+"/api/tickets", "", from("198.51.100.1")...).status)
	for i := range 3 {
		got := do(t, "GET", url+"/api/tickets", "", "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i), "X-Real-IP", "1.1.1.1", "Forwarded", "for=1.1.1.1")
		require.Equal(t, 429, got.status)
	}
}

func TestLimits_AUserHasOneLimitForAllAddresses(t *testing.T) {
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) {}), limited(0.01, 0))
	ask := func(address, token string) int {
		return do(t, "GET", url+"/api/orders", "", from(address, "Authorization", "Bearer "+token)...).status
	}
	require.Equal(t, 200, ask("198.51.100.1", "of-ada"))
	require.Equal(t, 429, ask("198.51.100.2", "of-ada"))
	require.Equal(t, 200, ask("198.51.100.3", "of-bob"))
	for i := range 5 {
		require.Equal(t, 200, ask(fmt.Sprintf("198.51.100.%d", 10+i), "forged-eve"), "an invalid token does not count for the user whom it names")
	}
	require.Equal(t, 200, ask("198.51.100.4", "of-eve"))
	got := do(t, "GET", url+"/api/orders", "", from("198.51.100.5", "Cookie", "jwt=of-ada")...)
	require.Equal(t, 429, got.status)
	require.Equal(t, `"address";q=1;w=100, "user";q=1;w=100`, got.header.Get("RateLimit-Policy"))
	require.Equal(t, `"address";r=0;t=100, "user";r=0;t=100`, got.header.Get("RateLimit"))
}

func TestLimits_RequestsThatHashAPasswordHaveTheirOwn(t *testing.T) {
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) {}), limited(1000, 0.01))
	for i, request := range []string{"POST /api/users/signin", "POST /api/users/signup", "POST /api/users/password", "DELETE /api/users/currentuser"} {
		method, path, _ := strings.Cut(request, " ")
		address := fmt.Sprintf("198.51.100.%d", i)
		require.Equal(t, 200, do(t, method, url+path, "{}", from(address)...).status)
		for _, again := range []string{path, path + "/"} {
			got := do(t, method, url+again, "{}", from(address)...)
			require.Equal(t, 429, got.status, again)
			require.Contains(t, got.header.Get("RateLimit"), `, "signin-address";r=0;t=100`)
		}
		require.Equal(t, 200, do(t, "GET", url+"/api/users/currentuser", "", from(address)...).status)
	}
	change := func(address string) int {
		return do(t, "POST", url+"/api/users/password", "{}", from(address, "Authorization", "Bearer of-ada")...).status
	}
	require.Equal(t, []int{200, 429}, []int{change("198.51.100.20"), change("198.51.100.21")}, "of one user, from two addresses")
}

// Whatever the spelling of a path: a request that reaches a handler of auth that hashes a password is counted.
func TestLimits_NoSpellingOfAPathGetsAround(t *testing.T) {
	app := rest.New(rest.Options{Name: "auth", Log: slog.New(slog.DiscardHandler)})
	var hashed atomic.Int32
	for _, route := range passwordRoutes { // as in services/auth/api.go
		app.Group("/api/users").Add(route.method, strings.TrimPrefix(route.path, "/api/users"), func(*fiber.Ctx) error {
			hashed.Add(1)
			return nil
		})
	}
	l := listen(t)
	go func() { _ = app.Listener(l) }()
	t.Cleanup(func() { _ = app.Shutdown() })
	url := gateway(t, "http://"+l.Addr().String(), limited(1000, 0.01))
	for i, route := range passwordRoutes {
		address, last := fmt.Sprintf("198.51.100.%d", i), route.path[strings.LastIndex(route.path, "/")+1:]
		before := hashed.Load()
		for _, path := range []string{
			route.path, route.path + "/", route.path + "//", route.path + "///", route.path + "?a=b", route.path + "//?a=b", route.path + "/.", route.path + "/x/..",
			"//api/users/" + last, "/api//users/" + last, "/api/users//" + last, "/api/users/./" + last, "/api/users/" + strings.ToUpper(last),
			route.path + "%2F", route.path + "/%2F", "/api/users/%73" + last[1:], route.path + ";", route.path + "%00",
		} {
			do(t, route.method, url+path, "{}", from(address)...)
			require.Equal(t, before+1, hashed.Load(), path)
		}
	}
}

func TestConfig_RatesAreBounded(t *testing.T) {
	for name, value := range map[string]string{"PORT": "1", "APP_PORT": "2", "DAPR_GRPC_PORT": "3", "APP_API_TOKEN": "a token that is long enough for this, surely"} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"AUTH_URL", "TICKETS_URL", "ORDERS_URL", "PAYMENTS_URL", "EXPIRATION_URL", "CATALOGUE_URL"} {
		t.Setenv(name, "http://127.0.0.1:8101")
	}
	for _, name := range []string{"RATE_LIMIT", "SIGNIN_RATE"} {
		for _, right := range []string{"0", "1e-300", "0.5", "1e9"} {
			t.Setenv(name, right)
			var cfg config
			require.NoError(t, service.Load(&cfg), right)
			for _, b := range []*buckets[string]{newBuckets[string]("user", cfg.RateLimit, requestBurst), newBuckets[string]("user", cfg.SigninRate, signinBurst)} {
				if b != nil {
					now := time.Now()
					require.True(t, b.take("a", now).allowed())
					require.True(t, b.take("a", now.Add(2*longestInterval)).allowed())
				}
			}
		}
		for _, wrong := range []string{"-1", "1000000001", "1e10", "Inf", "NaN"} {
			t.Setenv(name, wrong)
			require.ErrorContains(t, service.Load(&config{}), name+" must be at ", wrong)
		}
		t.Setenv(name, "2e9")
		require.ErrorContains(t, service.Load(&config{}), name+" must be at most 1000000000")
		t.Setenv(name, "1")
	}
}

func TestLimits_ZeroMeansNoLimit(t *testing.T) {
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) {}), limited(0, 0))
	for range 50 {
		got := do(t, "POST", url+"/api/users/signin", "{}")
		require.Equal(t, 200, got.status)
		require.Empty(t, got.header.Get("RateLimit"))
	}
}

func TestUpstream_VerifiesTheCertificateOfAPrivateAuthority(t *testing.T) {
	var asked atomic.Int32
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, r.Host)
	}))
	t.Cleanup(service.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), 0o600))
	roots, err := peer.Authorities(file)
	require.NoError(t, err)
	proxied := func(roots *x509.CertPool) string {
		cfg := config{UpstreamTimeout: 5 * time.Second}
		return gatewayTo(t, service.URL, roots, cfg)
	}

	url := proxied(roots)
	for range 20 { // on kept connections
		got := do(t, "POST", url+"/api/orders", "{}")
		require.Equal(t, 200, got.status, got.body)
		require.Equal(t, strings.TrimPrefix(service.URL, "https://"), got.body)
	}
	service.CloseClientConnections()
	for range 5 { // as after a restart of the service
		require.Equal(t, 200, do(t, "POST", url+"/api/orders", "{}").status)
	}
	before := asked.Load()
	require.Equal(t, "upstream_unavailable", do(t, "POST", proxied(x509.NewCertPool())+"/api/orders", "{}").code(t), "no trusted authority has signed its certificate")
	require.Equal(t, before, asked.Load())

	_, err = peer.Authorities(file + ".none")
	require.ErrorContains(t, err, "UPSTREAM_CA_FILE")
	require.NoError(t, os.WriteFile(file, []byte("nothing"), 0o600))
	_, err = peer.Authorities(file)
	require.ErrorContains(t, err, "holds no certificate")
}

func TestUpstream_ATLSHandshakeThatHangsEndsInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	began := time.Now()
	require.Equal(t, "upstream_unavailable", do(t, "POST", gatewayTo(t, "https://"+l.Addr().String(), nil, config{UpstreamTimeout: 20 * time.Second})+"/api/orders", "{}").code(t))
	require.Less(t, time.Since(began), 10*time.Second)
}

// Each service has its own connections: many sign-ins, which take auth long, do not delay purchases.
func TestUpstream_ASlowServiceDoesNotDelayOthers(t *testing.T) {
	release := make(chan struct{})
	arrived := atomic.Int32{}
	slow := serve(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1); <-release })
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) {}), func(c *config) { c.AuthURLs = []string{slow} })
	var signingIn sync.WaitGroup
	for range 300 {
		signingIn.Go(func() {
			res, err := http.Post(url+"/api/users/signin", "application/json", strings.NewReader("{}"))
			if err == nil {
				_ = res.Body.Close()
			}
		})
	}
	eventually(t, "all of them wait", func() bool { return arrived.Load() == 300 })
	began := time.Now()
	for range 20 {
		require.Equal(t, 200, do(t, "POST", url+"/api/orders", "{}").status)
	}
	require.Less(t, time.Since(began), 5*time.Second)
	close(release)
	signingIn.Wait()
}
