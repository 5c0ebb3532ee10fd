// Package rest has the edge of every service's public REST API: a Fiber app that responds to every error with problem+json, and
// functions that decode requests. Only this package converts errors to responses.
package rest

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

const (
	defaultBodyLimit = 1 << 20
	// headerLimit bounds the request line with all headers.
	headerLimit          = 16 << 10
	defaultHeaderTimeout = 5 * time.Second
	defaultBodyTimeout   = 15 * time.Second
	// writeTime bounds the writing of one response. idleTime bounds the wait of a connection for its next request.
	writeTime = 30 * time.Second
	idleTime  = 90 * time.Second
	// handlingTime is the deadline of Context.
	handlingTime = 15 * time.Second
)

// Options are the settings of an app.
type Options struct {
	Name string
	// Log gets one line for each request. Default slog.Default().
	Log *slog.Logger
	// Metrics gets the number and duration of requests. Default: a new registry.
	Metrics prometheus.Registerer
	// BodyLimit is the longest request body in bytes. Default 1 MiB.
	BodyLimit int
	// BodyLimitOf, if it is set, returns the limit for requests with a method and a path as they were sent; 0 is BodyLimit. Few bodies
	// longer than BodyLimit are received at a time (maxLongBodies); others get 503.
	BodyLimitOf func(method, path string) int
	// HeaderTimeout bounds the time in which a request's headers arrive, BodyTimeout that of its body. Defaults: 5 s, 15 s.
	HeaderTimeout, BodyTimeout time.Duration
	// TrustedProxies are the networks of proxies whose X-Forwarded-For is trusted.
	TrustedProxies []netip.Prefix
	// Edge is set for the app that the internet can call, and nil for those behind it.
	Edge *Edge
}

// Edge has the settings of an app that does not trust its clients.
type Edge struct {
	// TraceSampling is the share of requests, 0 to 1, whose trace is marked as one to be recorded. Marks of clients do not
	// count.
	TraceSampling float64
	// ConnectionsPerAddress bounds the connections of one address (see LimitConnections); 0 is no limit.
	ConnectionsPerAddress int
}

// New makes an app without routes. Values that a handler gets from its fiber.Ctx stay valid after the handler has returned: the app
// copies them.
func New(o Options) *fiber.App {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.BodyLimit == 0 {
		o.BodyLimit = defaultBodyLimit
	}
	if o.HeaderTimeout == 0 {
		o.HeaderTimeout = defaultHeaderTimeout
	}
	if o.BodyTimeout == 0 {
		o.BodyTimeout = defaultBodyTimeout
	}
	w := newObserver(o.Log, o.Metrics)
	w.trusted = o.TrustedProxies
	w.limits = newBodyLimits(o)
	if o.Edge != nil {
		w.tracing = tracing{edge: true, sampled: o.Edge.TraceSampling}
	}
	app := fiber.New(fiber.Config{
		AppName:                      o.Name,
		BodyLimit:                    o.BodyLimit,
		CaseSensitive:                true,
		DisablePreParseMultipartForm: true,
		DisableStartupMessage:        true,
		ErrorHandler:                 w.fail,
		IdleTimeout:                  idleTime,
		Immutable:                    true,
		ReadBufferSize:               headerLimit,
		ReadTimeout:                  o.HeaderTimeout, // until the headers are complete, also if some bytes arrive
		WriteTimeout:                 writeTime,
	})
	// A request that cannot be parsed is logged without its bytes: they may have a cookie.
	app.Server().SecureErrorLogMessage = true
	app.Server().HeaderReceived = func(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
		return fasthttp.RequestConfig{ReadTimeout: o.BodyTimeout, MaxRequestBodySize: w.limits.begin(header)}
	}
	// Stream closes the connections that it takes.
	app.Server().KeepHijackedConns = true
	refuseUnknownMethods(app)
	app.Server().Handler = w.limits.counted(markBusy(app.Server().Handler))
	app.Use(w.request)
	app.Use(recover.New(recover.Config{
		EnableStackTrace:  true,
		StackTraceHandler: func(c *fiber.Ctx, _ any) { observed(c).stack = debug.Stack() },
	}))
	return app
}

// refuseUnknownMethods responds with problem+json to a method that HTTP does not have. Fiber would respond with plain text, before
// any handler.
func refuseUnknownMethods(app *fiber.App) {
	known := app.Config().RequestMethods
	serve := app.Server().Handler
	app.Server().Handler = func(rctx *fasthttp.RequestCtx) {
		for _, method := range known {
			if method == string(rctx.Method()) {
				serve(rctx)
				return
			}
		}
		app.Server().ErrorHandler(rctx, errUnknownMethod)
	}
}

// Context returns the context for calls that a handler makes. It has the request's trace, for events and for the sidecar, and ends
// soon enough for the response to be written.
func Context(c *fiber.Ctx) context.Context { return c.UserContext() }

// PathID parses an id of the path, for example PathID[id.Ticket](c, "id"). If the text is not an id, no aggregate can have it, so
// the problem is of kind NotFound.
func PathID[T ~string](c *fiber.Ctx, name string) (T, error) {
	parsed, err := id.Parse[T](c.Params(name))
	if err != nil {
		return "", problem.New(problem.NotFound, "not_found", "There is nothing with this id.")
	}
	return parsed, nil
}

// QueryID parses an id in the query, for example QueryID[id.Show](c, "showId"). It is "" without the parameter. What is no id is refused.
func QueryID[T ~string](c *fiber.Ctx, name string) (T, error) {
	if !c.Context().QueryArgs().Has(name) {
		return "", nil
	}
	parsed, err := id.Parse[T](c.Query(name))
	if err != nil {
		return "", problem.New(problem.Invalid, "uuid", "%s must be a UUID.", label(name)).WithField(name)
	}
	return parsed, nil
}

// IfMatch parses the version in the If-Match header. present is false if there is no version, or any ("*").
func IfMatch(c *fiber.Ctx) (version int, present bool, err error) {
	raw := strings.TrimSpace(c.Get(fiber.HeaderIfMatch))
	if raw == "" || raw == "*" {
		return 0, false, nil
	}
	// Proxies that compress mark an ETag as weak. The version stays the same.
	tag := strings.TrimPrefix(raw, "W/")
	if unquoted, found := strings.CutPrefix(tag, `"`); found {
		if unquoted, found = strings.CutSuffix(unquoted, `"`); found {
			if version, err = strconv.Atoi(unquoted); err == nil && version > 0 {
				return version, true, nil
			}
		}
	}
	return 0, false, problem.New(problem.Invalid, "invalid", `If-Match must be one ETag as this API gives them, for example "3".`).
		WithField("If-Match")
}

// ExpectedVersion reads the version on which a change is based: from the body, where 0 is none, or from the If-Match header. It is 0 if the
// request names none.
func ExpectedVersion[T ~int](c *fiber.Ctx, inBody int) (T, error) {
	inHeader, present, err := IfMatch(c)
	switch {
	case err != nil:
		return 0, err
	case present && inBody != 0 && inHeader != inBody:
		return 0, problem.New(problem.Invalid, "invalid", "The version in the body and the one in If-Match differ. Send one of them.").WithField("version")
	case present:
		return T(inHeader), nil
	}
	return T(inBody), nil
}

// SetETag sets the response's ETag to a version.
func SetETag(c *fiber.Ctx, version int) {
	c.Set(fiber.HeaderETag, `"`+strconv.Itoa(version)+`"`)
}
