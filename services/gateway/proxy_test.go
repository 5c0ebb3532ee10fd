package main

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/rest"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// serve runs handler as a service and returns its address.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	l := listen(t)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + l.Addr().String()
}

// unreachable returns an address where no process listens.
func unreachable(t *testing.T) string {
	l := listen(t)
	require.NoError(t, l.Close())
	return "http://" + l.Addr().String()
}

// gateway starts a gateway and returns its address. One service, whose replicas are separated by commas, takes the place of all.
func gateway(t *testing.T, service string, change ...func(*config)) string {
	t.Helper()
	cfg := config{UpstreamTimeout: 10 * time.Second}
	for _, c := range change {
		c(&cfg)
	}
	return gatewayTo(t, service, nil, cfg)
}

// gatewayTo is gateway with a whole configuration.
func gatewayTo(t *testing.T, service string, roots *x509.CertPool, cfg config) string {
	t.Helper()
	cfg.BodyLimit = 64 << 10
	replicas := strings.Split(service, ",")
	for _, of := range []*[]string{&cfg.AuthURLs, &cfg.TicketsURLs, &cfg.OrdersURLs, &cfg.PaymentsURLs, &cfg.ExpirationURLs, &cfg.CatalogueURLs} {
		if *of == nil {
			*of = replicas
		}
	}
	app := rest.New(rest.Options{
		Name: "gateway", Log: slog.New(slog.DiscardHandler), BodyLimit: cfg.BodyLimit, BodyLimitOf: cfg.BodyLimitOf, TrustedProxies: cfg.TrustedProxies, Edge: cfg.Edge(),
	})
	a, err := newAPI(cfg, roots, newLimits(cfg, byName, prometheus.NewRegistry()), newStreams(cfg, prometheus.NewRegistry()))
	require.NoError(t, err)
	for _, u := range a.upstreams() {
		go u.watch(t.Context(), slog.New(slog.DiscardHandler))
	}
	a.register(app)
	l := listen(t)
	go func() { _ = app.Listener(l) }()
	t.Cleanup(func() { _ = app.Shutdown() })
	return "http://" + l.Addr().String()
}

type response struct {
	status int
	header http.Header
	body   string
}

func (r response) code(t *testing.T) string {
	t.Helper()
	require.Equal(t, rest.MediaType, r.header.Get("Content-Type"), r.body)
	var fault struct {
		Errors []struct{ Code string }
	}
	require.NoError(t, json.Unmarshal([]byte(r.body), &fault))
	require.Len(t, fault.Errors, 1)
	return fault.Errors[0].Code
}

func do(t *testing.T, method, url, body string, headers ...string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Add(pair[0], pair[1])
	}
	res, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return response{res.StatusCode, res.Header, string(read)}
}

// Webhooks needs Node. Without its address the path does not exist, and the gateway does not wait for the service.
func TestAPI_WithoutWebhooksThereIsNoSuchPath(t *testing.T) {
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) {}))
	r := do(t, "GET", url+"/api/webhooks", "")
	require.Equal(t, 404, r.status)
	require.Equal(t, "not_found", r.code(t))
	a, err := newAPI(config{
		AuthConfig: identity.AuthConfig{AuthURLs: []string{"http://auth"}}, TicketsURLs: []string{"http://tickets"}, OrdersURLs: []string{"http://orders"},
		PaymentsURLs: []string{"http://payments"}, ExpirationURLs: []string{"http://expiration"}, CatalogueURLs: []string{"http://catalogue"},
	}, nil, nil, nil)
	require.NoError(t, err)
	for _, u := range a.upstreams() {
		require.NotEqual(t, "webhooks", u.name)
	}
}

func TestAPI_RoutesEachPathToItsService(t *testing.T) {
	named := func(name string) []string {
		return []string{serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name, " ", r.URL.RequestURI()) })}
	}
	url := gateway(t, "", func(c *config) {
		c.AuthURLs, c.TicketsURLs, c.OrdersURLs = named("auth"), named("tickets"), named("orders")
		c.PaymentsURLs, c.ExpirationURLs, c.WebhooksURLs = named("payments"), named("expiration"), named("webhooks")
		c.CatalogueURLs = named("catalogue")
	})
	tests := map[string]string{
		"/api/users/signin":                          "auth",
		"/api/users/a/b":                             "auth",
		"/.well-known/jwks.json":                     "auth",
		"/api/tickets":                               "tickets",
		"/api/tickets?limit=2&cursor=%2":             "tickets",
		"/api/tickets/7?a=b%20c&d=é":                 "tickets",
		"/api/orders":                                "orders",
		"/api/orders/7":                              "orders",
		"/api/shows/7/checkins":                      "orders",
		"/.well-known/passes/jwks.json":              "orders",
		"/api/payments/webhook":                      "payments",
		"/api/payments":                              "payments",
		"/api/tickets?status=available":              "catalogue",
		"/api/tickets?a=%2&status=available&limit=2": "catalogue",
		"/api/tickets?%73tatus=%61vailable":          "catalogue",
		"/api/tickets?status=sold":                   "tickets",
		"/api/tickets?status=Available":              "tickets",
		"/api/tickets/7?status=available":            "tickets",
		"/api/catalogue/live?show=7":                 "catalogue",
		"/api/shows":                                 "catalogue",
		"/api/shows/7/image":                         "catalogue",
		"/api/catalogue/shows?q=a":                   "catalogue",
		"/api/webhooks":                              "webhooks",
		"/api/webhooks/7/deliveries?a=b":             "webhooks",
		"/api/ticketsale":                            "",
		"/api/Tickets":                               "",
		"/api/expiration":                            "",
		"/api":                                       "",
		"/other":                                     "",
		"/api/../metrics":                            "",
		"/.well-known/other":                         "",
		"/metrics/../api/tickets":                    "",
		"//api/tickets":                              "",
	}
	for path, service := range tests {
		t.Run(path, func(t *testing.T) {
			c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			require.NoError(t, err)
			defer c.Close()
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			require.NoError(t, err)
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			if service == "" {
				require.Equal(t, 404, res.StatusCode)
				require.Equal(t, rest.MediaType, res.Header.Get("Content-Type"))
				return
			}
			require.Equal(t, 200, res.StatusCode)
			require.Equal(t, service+" "+path, string(body))
		})
	}
}

func TestProxy_ForwardsTheRequest(t *testing.T) {
	type seen struct {
		method, body, host string
		header             http.Header
		length             int64
	}
	requests := make(chan seen, 1)
	url := gateway(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{r.Method, string(body), r.Host, r.Header, r.ContentLength}
	}))
	// Bytes that any decoding on the way would change: a webhook's signature is over every one of them.
	raw := "{\"a\" :\t1,\r\n \"b\":\"\\u00e9\xff\x00\"}\n"

	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		got := do(t, method, url+"/api/payments/webhook", raw,
			"Stripe-Signature", "t=1,v1=abc", "Content-Type", "application/json; charset=utf-8", "Authorization", "Bearer x",
			"Cookie", "jwt=y; other=z", "Connection", "X-Secret, X-Forwarded-For", "X-Secret", "for the gateway alone", "Te", "trailers", "Keep-Alive", "timeout=5",
			"X-Forwarded-For", "6.6.6.6", "X-Forwarded-For", "7.7.7.7", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "X-Forwarded-Ssl", "on", "Forwarded", "for=6.6.6.6", "X-Real-IP", "6.6.6.6",
			"X-Request-Id", "request-1", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate", "a=b", "tracestate", "c=d", "baggage", "user=admin", "Idempotency-Key", "k1")
		require.Equal(t, 200, got.status)
		require.Equal(t, "request-1", got.header.Get("X-Request-Id"))
		r := <-requests
		require.Equal(t, method, r.method)
		require.Equal(t, raw, r.body)
		require.EqualValues(t, len(raw), r.length)
		require.Equal(t, http.Header{
			"Accept-Encoding":   nil,
			"Authorization":     {"Bearer x"},
			"Content-Length":    {fmt.Sprint(len(raw))},
			"Content-Type":      {"application/json; charset=utf-8"},
			"Cookie":            {"jwt=y; other=z"},
			"Idempotency-Key":   {"k1"},
			"Stripe-Signature":  {"t=1,v1=abc"},
			"Traceparent":       {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
			"User-Agent":        {"Go-http-client/1.1"},
			"X-Forwarded-For":   {"127.0.0.1"},
			"X-Forwarded-Host":  {strings.TrimPrefix(url, "http://")},
			"X-Forwarded-Proto": {"http"},
			"X-Request-Id":      {"request-1"},
		}, func() http.Header { r.header["Accept-Encoding"] = nil; return r.header }())
	}

	do(t, "GET", url+"/api/tickets", "")
	r := <-requests
	require.Regexp(t, `^[0-9a-f-]{36}$`, r.header.Get("X-Request-Id"))
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`, r.header.Get("traceparent"))
}

func TestProxy_AcceptsForwardedHeadersOfTrustedProxies(t *testing.T) {
	header := make(chan http.Header, 1)
	service := serve(t, func(w http.ResponseWriter, r *http.Request) { header <- r.Header })
	url := gateway(t, service, func(c *config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })

	got := do(t, "GET", url+"/api/tickets", "", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "tickets.example", "X-Forwarded-Proto", "https")

	h := <-header
	require.Equal(t, "1.2.3.4, 127.0.0.1", h.Get("X-Forwarded-For"))
	require.Equal(t, "tickets.example", h.Get("X-Forwarded-Host"))
	require.Equal(t, "https", h.Get("X-Forwarded-Proto"))
	require.Equal(t, "max-age=31536000", got.header.Get("Strict-Transport-Security"))
}

func TestProxy_ForwardsTheResponse(t *testing.T) {
	url := gateway(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/api/tickets":
			h.Set("Content-Type", "application/json")
			h.Add("Set-Cookie", "jwt=a; Path=/; HttpOnly")
			h.Add("Set-Cookie", "b=c")
			h.Set("Link", `</api/tickets?cursor=2>; rel="next"`)
			h.Set("ETag", `"3"`)
			h.Set("Cache-Control", "public, max-age=5")
			h.Set("Connection", "close, X-Private")
			h.Set("X-Private", "y")
			h.Set("X-Frame-Options", "ALLOWALL")
			w.WriteHeader(201)
			fmt.Fprint(w, `{"a":1}`)
		case "/api/tickets/empty":
			w.WriteHeader(204)
		case "/api/tickets/chunked":
			for range 3 {
				fmt.Fprint(w, strings.Repeat("x", 10_000))
				w.(http.Flusher).Flush()
			}
		case "/api/tickets/fault":
			h.Set("Content-Type", rest.MediaType)
			h.Set("Retry-After", "7")
			w.WriteHeader(503)
			fmt.Fprint(w, `{"status":503}`)
		case "/api/tickets/moved":
			http.Redirect(w, r, "http://elsewhere.example/", http.StatusFound)
		case "/api/tickets/large":
			_, _ = w.Write(bytes.Repeat([]byte("y"), 5<<20))
		}
	}))

	got := do(t, "GET", url+"/api/tickets", "")
	require.Equal(t, 201, got.status)
	require.Equal(t, `{"a":1}`, got.body)
	require.Equal(t, []string{"jwt=a; Path=/; HttpOnly", "b=c"}, got.header.Values("Set-Cookie"))
	require.Equal(t, `</api/tickets?cursor=2>; rel="next"`, got.header.Get("Link"))
	require.Equal(t, `"3"`, got.header.Get("ETag"))
	require.Equal(t, "public, max-age=5", got.header.Get("Cache-Control"))
	require.Empty(t, got.header.Get("X-Private"))
	require.Equal(t, []string{"DENY"}, got.header.Values("X-Frame-Options"))
	require.Len(t, got.header.Values("Date"), 1)
	require.Len(t, got.header.Values("Content-Length"), 1)

	got = do(t, "HEAD", url+"/api/tickets", "")
	require.Equal(t, 201, got.status)
	require.Empty(t, got.body)

	got = do(t, "DELETE", url+"/api/tickets/empty", "")
	require.Equal(t, 204, got.status)
	require.Empty(t, got.header.Get("Content-Type"))

	require.Equal(t, strings.Repeat("x", 30_000), do(t, "GET", url+"/api/tickets/chunked", "").body)
	require.Len(t, do(t, "GET", url+"/api/tickets/large", "").body, 5<<20)

	got = do(t, "GET", url+"/api/tickets/fault", "")
	require.Equal(t, 503, got.status)
	require.Equal(t, "7", got.header.Get("Retry-After"))
	require.Equal(t, `{"status":503}`, got.body)

	got = do(t, "GET", url+"/api/tickets/moved", "")
	require.Equal(t, http.StatusFound, got.status)
}

func TestGateway_SetsSecurityHeaders(t *testing.T) {
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) {}))
	for _, path := range []string{"/api/tickets", "/api/unknown"} {
		got := do(t, "GET", url+path, "")
		require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
		require.Equal(t, "DENY", got.header.Get("X-Frame-Options"))
		require.Equal(t, "no-referrer", got.header.Get("Referrer-Policy"))
		require.Equal(t, "default-src 'none'; frame-ancestors 'none'", got.header.Get("Content-Security-Policy"))
		require.Equal(t, "no-store", got.header.Get("Cache-Control"))
		require.Empty(t, got.header.Get("Strict-Transport-Security"), "over plain HTTP it would lock users out")
		require.Empty(t, got.header.Get("Server"))
	}
}

func TestGateway_DoesNotForwardBodiesThatAreTooLarge(t *testing.T) {
	var called atomic.Int32
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) { called.Add(1) }))

	require.Equal(t, 200, do(t, "POST", url+"/api/tickets", strings.Repeat("x", 64<<10)).status)
	require.EqualValues(t, 1, called.Load())

	for _, size := range []int{64<<10 + 1, 10 << 20} {
		got := do(t, "POST", url+"/api/tickets", strings.Repeat("x", size))
		require.Equal(t, 413, got.status)
		require.Equal(t, "too_large", got.code(t))
	}
	require.EqualValues(t, 1, called.Load())
}

func TestGateway_RefusesUnknownMethods(t *testing.T) {
	var called atomic.Int32
	url := gateway(t, serve(t, func(http.ResponseWriter, *http.Request) { called.Add(1) }))

	got := do(t, "TRACE", url+"/api/tickets", "")
	require.Equal(t, 405, got.status)
	require.Contains(t, got.header.Get("Allow"), "POST")
	require.Equal(t, 400, do(t, "BREW", url+"/api/tickets", "").status)
	require.Zero(t, called.Load())
}

func TestProxy_ServiceThatIsDownIs503(t *testing.T) {
	url := gateway(t, unreachable(t))
	for _, method := range []string{"GET", "POST"} {
		got := do(t, method, url+"/api/orders", "{}", "X-Request-Id", "r1")
		require.Equal(t, 503, got.status)
		require.Equal(t, "upstream_unavailable", got.code(t))
		require.Equal(t, "2", got.header.Get("Retry-After"))
		require.Equal(t, "r1", got.header.Get("X-Request-Id"))
	}
}

func TestProxy_ServiceThatIsTooSlowIs503(t *testing.T) {
	var called atomic.Int32
	release := make(chan struct{})
	service := serve(t, func(http.ResponseWriter, *http.Request) { called.Add(1); <-release })
	defer close(release)
	url := gateway(t, service, func(c *config) { c.UpstreamTimeout = 50 * time.Millisecond })

	for i, method := range []string{"GET", "POST"} {
		got := do(t, method, url+"/api/orders", "{}")
		require.Equal(t, 503, got.status)
		require.Equal(t, "upstream_timeout", got.code(t))
		require.EqualValues(t, i+1, called.Load(), "a slow service is not called again")
	}
}

func TestProxy_RetriesReadsOnly(t *testing.T) {
	// A service that reads the request and closes the connection without a response.
	var called atomic.Int32
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				called.Add(1)
			}
			_ = c.Close()
		}
	}()
	url := gateway(t, "http://"+l.Addr().String())

	for method, calls := range map[string]int32{"POST": 1, "PUT": 1, "PATCH": 1, "DELETE": 1, "GET": 2, "HEAD": 2} {
		called.Store(0)
		got := do(t, method, url+"/api/orders", "")
		require.Equal(t, 503, got.status)
		switch method {
		case "GET":
			require.Equal(t, "upstream_unavailable", got.code(t))
		case "HEAD": // has no body
		default:
			require.Equal(t, "outcome_unknown", got.code(t), "the service has read the request: %s", method)
		}
		require.Equal(t, calls, called.Load(), method)
	}
}

func TestProxy_RestartOfAServiceCausesNoError(t *testing.T) {
	l := listen(t)
	address := l.Addr().String()
	start := func(l net.Listener) *http.Server {
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "done") })}
		go func() { _ = server.Serve(l) }()
		return server
	}
	server := start(l)
	url := gateway(t, "http://"+address)

	for range 10 {
		for range 3 {
			got := do(t, "POST", url+"/api/orders", "{}")
			require.Equal(t, 200, got.status, got.body)
		}
		require.NoError(t, server.Close())
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		server = start(l)
	}
	require.NoError(t, server.Close())
}

func TestProxy_ToleratesClientsThatDisconnect(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	url := gateway(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/orders/slow" {
			entered <- struct{}{}
			<-release
		}
		fmt.Fprint(w, "done")
	}))
	for range 5 {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		require.NoError(t, err)
		fmt.Fprint(c, "POST /api/orders/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		<-entered
		require.NoError(t, c.Close())
		release <- struct{}{}
	}
	// A client that disconnects in the middle of its body: nothing is forwarded.
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	fmt.Fprint(c, "POST /api/orders/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
	require.NoError(t, c.Close())

	require.Equal(t, "done", do(t, "GET", url+"/api/orders", "").body)
}

func TestProxy_SpeaksHTTP11ForHTTP10Clients(t *testing.T) {
	url := gateway(t, serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	in := bufio.NewReader(c)
	for range 2 {
		fmt.Fprint(c, "GET /api/orders HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1", string(body))
		require.Equal(t, "keep-alive", strings.ToLower(res.Header.Get("Connection")))
	}
}

func TestProxy_IgnoresTheHostOfTheRequestLine(t *testing.T) {
	hosts := make(chan string, 1)
	service := serve(t, func(w http.ResponseWriter, r *http.Request) { hosts <- r.Host + r.Header.Get("Authorization") })
	url := gateway(t, service)
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer c.Close()

	fmt.Fprint(c, "GET http://user:pw@elsewhere.example/api/orders HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")

	require.Equal(t, strings.TrimPrefix(service, "http://"), <-hosts)
}

func TestUpstream_IsReadyIfOneReplicaIs(t *testing.T) {
	var ready atomic.Bool
	u, err := newUpstream("orders", []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready.Load() {
			w.WriteHeader(503)
		}
		fmt.Fprint(w, `{"status":"x"}`)
	}), unreachable(t)}, nil, time.Second, nil)
	require.NoError(t, err)

	require.ErrorContains(t, u.ready(t.Context()), `call orders: the response is 503: {"status":"x"}`)
	ready.Store(true)
	require.NoError(t, u.ready(t.Context()))

	u, err = newUpstream("orders", []string{unreachable(t)}, nil, time.Second, nil)
	require.NoError(t, err)
	require.ErrorContains(t, u.ready(t.Context()), "refused")
}

func TestNewUpstream_RefusesInvalidAddresses(t *testing.T) {
	for _, address := range []string{"", "localhost:80", "https://localhost/api", "https://", "http://", "http://localhost/api", "http://localhost?x=y", "ftp://localhost", "http://a b"} {
		_, err := newUpstream("orders", []string{"http://localhost:1", address}, nil, time.Second, nil)
		require.ErrorContains(t, err, "address of orders", address)
	}
}

func BenchmarkProxy(b *testing.B) {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Get("/api/tickets", func(c *fiber.Ctx) error { return c.SendString(`{"a":1}`) })
	service, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	go func() { _ = app.Listener(service) }()
	u, err := newUpstream("tickets", []string{"http://" + service.Addr().String()}, nil, time.Second, nil)
	require.NoError(b, err)
	front := rest.New(rest.Options{Log: slog.New(slog.DiscardHandler)})
	front.Get("/api/tickets", u.proxy)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	go func() { _ = front.Listener(l) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := client.Get("http://" + l.Addr().String() + "/api/tickets")
			if err != nil || res.StatusCode != 200 {
				b.Error(err, res)
				return
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
}

func TestProxy_ForwardsConditionalRequestsAndCompressedResponses(t *testing.T) {
	url := gateway(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Vary", "Accept-Encoding")
		w.Header().Set("Cache-Control", "public, no-cache")
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Encoding", r.Header.Get("Accept-Encoding"))
		fmt.Fprint(w, "\x1f\x8b compressed")
	}))
	for _, path := range []string{"/api/catalogue/shows", "/api/tickets?status=available"} {
		got := do(t, "GET", url+path, "", "Accept-Encoding", "gzip")
		require.Equal(t, "gzip", got.header.Get("Content-Encoding"))
		require.Equal(t, "\x1f\x8b compressed", got.body)
		require.Equal(t, "public, no-cache", got.header.Get("Cache-Control"))
		require.Equal(t, "Accept-Encoding", got.header.Get("Vary"))
		for _, method := range []string{"GET", "HEAD"} {
			got = do(t, method, url+path, "", "If-None-Match", `"1"`)
			require.Equal(t, http.StatusNotModified, got.status)
			require.Equal(t, `"1"`, got.header.Get("ETag"))
			require.Empty(t, got.body)
		}
	}
}
