package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/propagation"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

const (
	// maxConnections bounds the connections to one service; who finds all of them busy waits a while.
	maxConnections = 1024
	connectionWait = 3 * time.Second
	dialTime       = 2 * time.Second
	// keptConnection is how long an idle connection is kept. It is shorter than the services keep theirs.
	keptConnection = 30 * time.Second
	// retryAfter is told to clients when a service does not answer.
	retryAfter = 2 * time.Second
)

// routes sends each part of the API to its service.
func routes(app *fiber.App, limits *limits, to func(name string, addresses []string) (*upstream, error), cfg config) error {
	app.Use(secure)
	limits.routes(app)
	for _, service := range []struct {
		name      string
		addresses []string
		paths     []string
	}{
		{"auth", cfg.AuthURLs, []string{"/api/users/*", "/.well-known/jwks.json"}},
		{"tickets", cfg.TicketsURLs, []string{"/api/tickets", "/api/tickets/*"}},
		{"orders", cfg.OrdersURLs, []string{"/api/orders", "/api/orders/*"}},
		{"payments", cfg.PaymentsURLs, []string{"/api/payments", "/api/payments/*"}},
		{"expiration", cfg.ExpirationURLs, nil}, // nothing of it is public, but the whole is not ready without it
	} {
		u, err := to(service.name, service.addresses)
		if err != nil {
			return err
		}
		for _, path := range service.paths {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				app.Add(method, path, u.proxy)
			}
		}
	}
	return nil
}

// secure tells browsers to make nothing of the answers but data.
func secure(c *fiber.Ctx) error {
	err := c.Next()
	// After the handlers, for the proxy takes over the headers of the service's answer.
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	c.Set(fiber.HeaderXFrameOptions, "DENY")
	c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; frame-ancestors 'none'")
	c.Set("Cross-Origin-Resource-Policy", "same-origin")
	if len(c.Response().Header.Peek(fiber.HeaderCacheControl)) == 0 {
		c.Set(fiber.HeaderCacheControl, "no-store")
	}
	if string(c.Request().Header.Peek(fiber.HeaderXForwardedProto)) == "https" {
		c.Set(fiber.HeaderStrictTransportSecurity, "max-age=31536000")
	}
	return err
}

// upstream is one service behind the gateway.
type upstream struct {
	name     string
	timeout  time.Duration
	trusted  []netip.Prefix
	replicas []*replica
	turn     atomic.Uint32
}

// newUpstream takes the addresses of a service's replicas, each of the form http://host:port or https://host:port. For the
// latter roots are the authorities that are trusted; nil: the system's.
func newUpstream(name string, addresses []string, roots *x509.CertPool, timeout time.Duration, trusted []netip.Prefix) (*upstream, error) {
	u := &upstream{name: name, timeout: timeout, trusted: trusted}
	for _, address := range addresses {
		r, err := newReplica(address, roots)
		if err != nil {
			return nil, fmt.Errorf("address of %s: %w", name, err)
		}
		u.replicas = append(u.replicas, r)
	}
	return u, nil
}

// proxy sends the request on as it is, but for the headers that are between two neighbours only, and answers
// with what the service says.
func (u *upstream) proxy(c *fiber.Ctx) error {
	req, res := c.Request(), c.Response()
	u.prepare(c, req)
	if err := u.send(req, res); err != nil {
		res.Reset()
		c.Set(fiber.HeaderXRequestID, rest.RequestID(c))
		return u.unavailable(err)
	}
	removeHopByHop(&res.Header)
	res.Header.SetNoDefaultContentType(true)
	c.Set(fiber.HeaderXRequestID, rest.RequestID(c))
	return nil
}

func (u *upstream) prepare(c *fiber.Ctx, req *fasthttp.Request) {
	// First, or a client could name what is added below as meant for the gateway alone.
	removeHopByHop(&req.Header)
	u.forwarded(c, req)
	// Its answer was given here, before the body was read.
	req.Header.Del(fiber.HeaderExpect)
	replace(&req.Header, fiber.HeaderXRequestID, rest.RequestID(c))
	// With the flags that were chosen here; what a client sends for others' systems goes nowhere.
	propagation.TraceContext{}.Inject(rest.Context(c), carrier{&req.Header})
	req.Header.Del("tracestate")
	req.Header.Del("baggage")
	uri := req.URI()
	uri.SetScheme("http")
	// A request line may hold a user and a password, which fasthttp would turn into an Authorization header.
	uri.SetUsername("")
	uri.SetPassword("")
	req.SetTimeout(u.timeout)
}

// forwarded tells the service what the client asked for, and who the client is. What the client itself says
// about that is believed only of trusted proxies.
func (u *upstream) forwarded(c *fiber.Ctx, req *fasthttp.Request) {
	peer := rest.Peer(c.Context())
	via := peer.String()
	h := &req.Header
	if rest.IsTrusted(peer, u.trusted) {
		if before := bytes.Join(h.PeekAll(fiber.HeaderXForwardedFor), []byte(", ")); len(before) > 0 {
			via = string(before) + ", " + via
		}
	} else {
		h.Del(fiber.HeaderXForwardedProto)
		h.Del(fiber.HeaderXForwardedHost)
	}
	replace(h, fiber.HeaderXForwardedFor, via)
	if len(h.Peek(fiber.HeaderXForwardedProto)) == 0 {
		// Not that of the URI, which is what a client writes into its request line.
		h.Set(fiber.HeaderXForwardedProto, "http")
	}
	if len(h.Peek(fiber.HeaderXForwardedHost)) == 0 {
		h.SetBytesV(fiber.HeaderXForwardedHost, h.Host())
	}
	// Other spellings of the same, which the services need not know.
	for _, name := range []string{"Forwarded", "X-Real-Ip", "X-Forwarded-Port", "X-Forwarded-Protocol", "X-Forwarded-Ssl", "X-Url-Scheme"} {
		h.Del(name)
	}
}

// replace sets a header that the client may have sent in several lines; fasthttp's Set would replace the first and
// leave the others.
func replace(h *fasthttp.RequestHeader, name, value string) {
	h.Del(name)
	h.Set(name, value)
}

// send makes the call, to another replica if the first cannot be reached. It is made a second time only if that
// cannot do anything twice: if nothing was sent before, or if the request only reads.
func (u *upstream) send(req *fasthttp.Request, res *fasthttp.Response) error {
	// fasthttp writes HTTP/1.0 to the service if the client spoke it, and answers the client by the same field.
	if !req.Header.IsHTTP11() {
		spoken := string(req.Header.Protocol())
		req.Header.SetProtocol("HTTP/1.1")
		defer req.Header.SetProtocol(spoken)
	}
	reads := req.Header.IsGet() || req.Header.IsHead()
	var tried []*replica
	for {
		r := u.pick(tried)
		r.busy.Add(1)
		err := r.call(req, res)
		r.busy.Add(-1)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errUnconnected):
			r.down.Store(true) // until it passes its next health check
		case !reads || isTimeout(err):
			return err
		}
		if tried = append(tried, r); len(tried) >= max(2, len(u.replicas)) {
			return err
		}
	}
}

func (u *upstream) unavailable(err error) error {
	err = fmt.Errorf("call %s: %w", u.name, err)
	if isTimeout(err) && !errors.Is(err, errUnconnected) {
		return problem.New(problem.Unavailable, "The %s service did not answer in time. What was asked of it may still happen.", u.name).
			WithCode("upstream_timeout").WithRetryAfter(retryAfter).Because(err)
	}
	return problem.New(problem.Unavailable, "The %s service does not answer at the moment. Try again shortly.", u.name).
		WithCode("upstream_unavailable").WithRetryAfter(retryAfter).Because(err)
}

func isTimeout(err error) bool {
	timed, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timed.Timeout()
}

// headers is what fasthttp's two kinds of header have in common here.
type headers interface {
	VisitAll(func(name, value []byte))
	ResetConnectionClose()
	Del(name string)
}

// removeHopByHop removes what is meant for the next neighbour alone (RFC 9110, section 7.6.1).
func removeHopByHop(h headers) {
	var named []string
	h.VisitAll(func(name, value []byte) {
		if string(name) == fiber.HeaderConnection {
			named = append(named, strings.Split(string(value), ",")...)
		}
	})
	for _, name := range named {
		h.Del(strings.TrimSpace(name))
	}
	h.ResetConnectionClose()
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
}

// carrier lets the trace context be written into a request's header.
type carrier struct{ *fasthttp.RequestHeader }

func (c carrier) Set(name, value string) { replace(c.RequestHeader, name, value) }
func (c carrier) Get(name string) string { return string(c.Peek(name)) }
func (c carrier) Keys() []string         { return nil } // asked by readers only
