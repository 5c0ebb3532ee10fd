package main

import (
	"bytes"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/propagation"

	"boxoffice/services/internal/rest"
)

// proxy forwards the request to the service and returns its response. Only headers for one hop are changed.
func (u *upstream) proxy(c *fiber.Ctx) error {
	req, res := c.Request(), c.Response()
	u.prepare(c, req)
	if err := u.send(req, res); err != nil {
		return u.fail(c, err)
	}
	finish(c)
	return nil
}

// fail returns the problem of a request for which the service has not responded.
func (u *upstream) fail(c *fiber.Ctx, err error) error {
	c.Response().Reset()
	c.Set(fiber.HeaderXRequestID, rest.RequestID(c))
	return u.unavailable(c.Method(), err)
}

// finish turns the service's response into the one that the client gets.
func finish(c *fiber.Ctx) {
	res := c.Response()
	removeHopByHop(&res.Header)
	res.Header.SetNoDefaultContentType(true)
	c.Set(fiber.HeaderXRequestID, rest.RequestID(c))
}

// prepare turns the client's request into the one that the service gets.
func (u *upstream) prepare(c *fiber.Ctx, req *fasthttp.Request) {
	// First: the client could otherwise list the headers that are added below in Connection, and so have them removed.
	removeHopByHop(&req.Header)
	u.setForwarded(c, req)
	// The gateway has answered it before it read the body.
	req.Header.Del(fiber.HeaderExpect)
	replace(&req.Header, fiber.HeaderXRequestID, rest.RequestID(c))
	// The gateway decides the sampling flag, and does not forward a client's own trace data.
	propagation.TraceContext{}.Inject(rest.Context(c), carrier{&req.Header})
	req.Header.Del("tracestate")
	req.Header.Del("baggage")
	uri := req.URI()
	uri.SetScheme("http")
	// fasthttp turns a user and password in the request line into an Authorization header.
	uri.SetUsername("")
	uri.SetPassword("")
	req.SetTimeout(u.timeout)
}

// setForwarded sets the X-Forwarded headers: who the client is and what it asked for. Values that the request brings count only
// if they come from a trusted proxy.
func (u *upstream) setForwarded(c *fiber.Ctx, req *fasthttp.Request) {
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
		// Not the scheme of the URI: the client can write any scheme into its request line.
		h.Set(fiber.HeaderXForwardedProto, "http")
	}
	if len(h.Peek(fiber.HeaderXForwardedHost)) == 0 {
		h.SetBytesV(fiber.HeaderXForwardedHost, h.Host())
	}
	// Other headers with the same meaning. The services read none of them.
	for _, name := range []string{"Forwarded", "X-Real-Ip", "X-Forwarded-Port", "X-Forwarded-Protocol", "X-Forwarded-Ssl", "X-Url-Scheme"} {
		h.Del(name)
	}
}

// replace sets a header that the client may have sent in several lines. fasthttp's Set replaces only the first line.
func replace(h *fasthttp.RequestHeader, name, value string) {
	h.Del(name)
	h.Set(name, value)
}

// headers has the methods that fasthttp's request and response headers share.
type headers interface {
	VisitAll(func(name, value []byte))
	ResetConnectionClose()
	Del(name string)
}

// removeHopByHop removes the headers that are meant for one connection only (RFC 9110, section 7.6.1). It is our own code because
// fasthttp and fiber's proxy remove Connection alone, and the standard library's function is private.
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

// carrier lets OpenTelemetry write the trace context into a request's headers.
type carrier struct{ *fasthttp.RequestHeader }

func (c carrier) Set(name, value string) { replace(c.RequestHeader, name, value) }
func (c carrier) Get(name string) string { return string(c.Peek(name)) }
func (c carrier) Keys() []string         { return nil } // not used by Inject
