package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
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
func routes(app *fiber.App, to func(name, url string) (*upstream, error), cfg config) error {
	app.Use(secure)
	for _, service := range []struct {
		name, url string
		paths     []string
	}{
		{"auth", cfg.AuthURL, []string{"/api/users/*", "/.well-known/jwks.json"}},
		{"tickets", cfg.TicketsURL, []string{"/api/tickets", "/api/tickets/*"}},
		{"orders", cfg.OrdersURL, []string{"/api/orders", "/api/orders/*"}},
		{"payments", cfg.PaymentsURL, []string{"/api/payments", "/api/payments/*"}},
		{"expiration", cfg.ExpirationURL, nil}, // nothing of it is public, but the whole is not ready without it
	} {
		u, err := to(service.name, service.url)
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
	name    string
	host    string
	timeout time.Duration
	trusted []netip.Prefix
	client  *fasthttp.HostClient
}

func newUpstream(name, address string, timeout time.Duration, trusted []netip.Prefix) (*upstream, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address of %s: %w", name, err)
	}
	if parsed.Scheme != "http" || parsed.Hostname() == "" || strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" {
		return nil, fmt.Errorf("address of %s: %q is not of the form http://host:port", name, address)
	}
	dialAddress := parsed.Host
	if parsed.Port() == "" {
		dialAddress = net.JoinHostPort(parsed.Hostname(), "80")
	}
	return &upstream{
		name:    name,
		host:    parsed.Host,
		timeout: timeout,
		trusted: trusted,
		client: &fasthttp.HostClient{
			Addr:                     dialAddress,
			Dial:                     dial,
			MaxConns:                 maxConnections,
			MaxConnWaitTimeout:       connectionWait,
			MaxIdleConnDuration:      keptConnection,
			NoDefaultUserAgentHeader: true,
			DisablePathNormalizing:   true,
			SecureErrorLogMessage:    true,
			// What may be sent twice is decided in send. fasthttp would repeat a POST whose connection broke.
			MaxIdemponentCallAttempts: 1,
		},
	}, nil
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
	req.Header.Set(fiber.HeaderXRequestID, rest.RequestID(c))
	propagation.TraceContext{}.Inject(rest.Context(c), carrier{&req.Header})
	uri := req.URI()
	uri.SetScheme("http")
	uri.SetHost(u.host)
	// A request line may hold a user and a password, which fasthttp would turn into an Authorization header.
	uri.SetUsername("")
	uri.SetPassword("")
	req.SetTimeout(u.timeout)
}

// forwarded tells the service what the client asked for, and who the client is. What the client itself says
// about that is believed only of trusted proxies.
func (u *upstream) forwarded(c *fiber.Ctx, req *fasthttp.Request) {
	peer, _ := netip.AddrFromSlice(c.Context().RemoteIP())
	peer = peer.Unmap()
	via := peer.String()
	h := &req.Header
	if slices.ContainsFunc(u.trusted, func(network netip.Prefix) bool { return network.Contains(peer) }) {
		if before := h.Peek(fiber.HeaderXForwardedFor); len(before) > 0 {
			via = string(before) + ", " + via
		}
	} else {
		h.Del(fiber.HeaderXForwardedProto)
		h.Del(fiber.HeaderXForwardedHost)
	}
	h.Set(fiber.HeaderXForwardedFor, via)
	if len(h.Peek(fiber.HeaderXForwardedProto)) == 0 {
		h.Set(fiber.HeaderXForwardedProto, string(c.Context().URI().Scheme()))
	}
	if len(h.Peek(fiber.HeaderXForwardedHost)) == 0 {
		h.SetBytesV(fiber.HeaderXForwardedHost, h.Host())
	}
	// Other spellings of the same, which the services need not know.
	for _, name := range []string{"Forwarded", "X-Real-Ip", "X-Forwarded-Port", "X-Forwarded-Protocol", "X-Forwarded-Ssl", "X-Url-Scheme"} {
		h.Del(name)
	}
}

// send makes the call. It is made a second time only if that cannot do anything twice: if nothing was sent on
// the first connection, or if the request only reads.
func (u *upstream) send(req *fasthttp.Request, res *fasthttp.Response) error {
	// fasthttp writes HTTP/1.0 to the service if the client spoke it, and answers the client by the same field.
	spoken := ""
	if !req.Header.IsHTTP11() {
		spoken = string(req.Header.Protocol())
		req.Header.SetProtocol("HTTP/1.1")
	}
	reads := req.Header.IsGet() || req.Header.IsHead()
	err := u.client.Do(req, res)
	if errors.Is(err, errStale) {
		// The service was restarted; all connections of that time are as dead as this one.
		u.client.CloseIdleConnections()
		err = u.client.Do(req, res)
	} else if err != nil && reads && !isTimeout(err) {
		err = u.client.Do(req, res)
	}
	if spoken != "" {
		req.Header.SetProtocol(spoken)
	}
	return err
}

func (u *upstream) unavailable(err error) error {
	err = fmt.Errorf("call %s: %w", u.name, err)
	if isTimeout(err) {
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

// ready says whether the service is ready, in its own words.
func (u *upstream) ready(ctx context.Context) error {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI("http://" + u.host + "/readyz")
	req.SetTimeout(u.timeout)
	if deadline, ok := ctx.Deadline(); ok {
		req.SetTimeout(time.Until(deadline))
	}
	if err := u.send(req, res); err != nil {
		return fmt.Errorf("call %s: %w", u.name, err)
	}
	if res.StatusCode() != http.StatusOK {
		return fmt.Errorf("%s answers %d: %s", u.name, res.StatusCode(), bytes.TrimSpace(res.Body()))
	}
	return nil
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

func (c carrier) Get(name string) string { return string(c.Peek(name)) }
func (c carrier) Keys() []string         { return nil } // asked by readers only
