package rest

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/problem"
)

const (
	// longestRequestID bounds a request id that a client sends, because every log line has it.
	longestRequestID = 128
	// unmatched is the route of requests that match none.
	unmatched = "unmatched"
)

// observer gives every request an id, a trace and a deadline, and writes one log line and one measurement of it.
type observer struct {
	log      *slog.Logger
	duration *prometheus.HistogramVec
	trusted  []netip.Prefix
	tracing  tracing
	limits   *bodyLimits
}

func newObserver(log *slog.Logger, metrics prometheus.Registerer) *observer {
	w := &observer{
		log: log,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "boxoffice_http_request_duration_seconds",
			Help:    "Duration of requests on the public port, by method, route and status.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route", "status"}),
	}
	metrics.MustRegister(w.duration)
	return w
}

// observation has the parts of a request's log line that are not in the request itself.
type observation struct {
	requestID string
	traceID   string
	client    netip.Addr
	attrs     []slog.Attr
	cause     error
	stack     []byte
}

type observationKey struct{}

// observed returns the request's observation, or nil if the request did not reach the handlers.
func observed(c *fiber.Ctx) *observation {
	o, _ := c.Locals(observationKey{}).(*observation)
	return o
}

// Annotate adds attributes to the request's log line, for example the id of the aggregate that it created.
func Annotate(c *fiber.Ctx, attrs ...slog.Attr) {
	if o := observed(c); o != nil {
		o.attrs = append(o.attrs, attrs...)
	}
}

func (w *observer) request(c *fiber.Ctx) error {
	start := time.Now()
	ctx, traceID := w.tracing.traced(c)
	ctx, cancel := context.WithTimeout(ctx, handlingTime)
	defer cancel()
	c.SetUserContext(ctx)

	o := &observation{requestID: chooseRequestID(c), traceID: traceID, client: clientOf(c.Context(), w.trusted)}
	c.Locals(observationKey{}, o)
	c.Set(fiber.HeaderXRequestID, o.requestID)

	if err := c.Next(); err != nil {
		// The response is written here, because the log line has its status.
		if err := w.fail(c, err); err != nil {
			return err
		}
	}
	took := time.Since(start)
	w.duration.WithLabelValues(c.Method(), route(c), strconv.Itoa(c.Response().StatusCode())).Observe(took.Seconds())
	w.logRequest(c, o, took)
	return nil
}

// logRequest writes the request's log line.
func (w *observer) logRequest(c *fiber.Ctx, o *observation, took time.Duration) {
	status := c.Response().StatusCode()

	level := slog.LevelInfo
	switch {
	case o.stack != nil || status == fiber.StatusInternalServerError:
		level = slog.LevelError
	case ofOperators(c.Path()): // also if the service is not ready: it logs the reason
		level = slog.LevelDebug
	case ofServices(c.Path()) && status < fiber.StatusBadRequest:
		level = slog.LevelDebug
	case status > fiber.StatusInternalServerError:
		level = slog.LevelWarn
	}
	if !w.log.Enabled(context.Background(), level) {
		return
	}
	attrs := append([]slog.Attr{
		slog.String("method", c.Method()),
		slog.String("path", c.Path()),
		slog.Int("status", status),
		slog.Float64("ms", float64(took.Microseconds())/1000),
		slog.String("client", o.client.String()),
		slog.String("requestId", o.requestID),
		slog.String("traceId", o.traceID),
	}, o.attrs...)
	if o.cause != nil {
		attrs = append(attrs, slog.Any("error", o.cause))
	}
	if o.stack != nil {
		attrs = append(attrs, slog.String("stack", string(o.stack)))
	}
	w.log.LogAttrs(context.Background(), level, "request", attrs...)
}

// route returns the pattern that the request matches. All requests that match none share one name, so that clients cannot create
// any number of measurements.
func route(c *fiber.Ctx) string {
	if path := c.Route().Path; path != "/" {
		return path
	}
	return unmatched
}

// ofOperators reports whether a path is requested by monitoring, every few seconds.
func ofOperators(path string) bool {
	return path == "/healthz" || path == "/readyz"
}

// ofServices reports whether a path is requested by the other services, every few seconds: auth's keys and revocations.
func ofServices(path string) bool { return strings.HasPrefix(path, "/.well-known/") }

// RequestID returns the id with which this request is logged, here and in the calling service. If the client has not sent a valid
// one, it is a new id.
func RequestID(c *fiber.Ctx) string {
	if o := observed(c); o != nil {
		return o.requestID
	}
	return ""
}

// chooseRequestID returns the id that the client has sent, or a new one if that is not valid.
func chooseRequestID(c *fiber.Ctx) string {
	sent := c.Get(fiber.HeaderXRequestID)
	if sent == "" || len(sent) > longestRequestID {
		return newRequestID()
	}
	for i := range len(sent) {
		if !idByte(sent[i]) {
			return newRequestID()
		}
	}
	return sent
}

func newRequestID() string {
	id, err := uuid.NewV7()
	if err != nil {
		// The system has no randomness. An id that is not unique is better than no response.
		return uuid.Nil.String()
	}
	return id.String()
}

func idByte(b byte) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		return true
	}
	return b == '-' || b == '_' || b == '.' || b == ':' || b == '/' || b == '+' || b == '='
}

// fail responds with err as problem+json.
func (w *observer) fail(c *fiber.Ctx, err error) error {
	o := observed(c)
	if o == nil {
		return w.refuse(c, err)
	}
	status, p := problemOf(c, err)
	if p.Kind == problem.Internal || p.Unwrap() != nil {
		o.cause = err
	}
	return write(c, status, p, o.requestID)
}

// refuse responds to a request that fasthttp could not parse, which does not reach any handler.
func (w *observer) refuse(c *fiber.Ctx, err error) error {
	defer w.limits.end(&c.Request().Header)
	o := &observation{requestID: newRequestID(), cause: err, client: Peer(c.Context())}
	c.Set(fiber.HeaderXRequestID, o.requestID)
	switch {
	case errors.Is(err, fiber.ErrRequestEntityTooLarge):
		err = w.limits.refusal(c)
		drain(c)
	case errors.Is(err, fiber.ErrRequestHeaderFieldsTooLarge):
		drain(c)
	case errors.Is(err, fiber.ErrBadGateway):
		// Fiber's error for a connection that the client has broken.
		err = fiber.ErrBadRequest
	}
	status, p := problemOf(c, err)
	err = write(c, status, p, o.requestID)
	// fasthttp sets the deadline for writing only for responses of handlers. On a connection that has been idle for longer, the
	// deadline of the last response has passed, and this response would not be written.
	_ = c.Context().Conn().SetWriteDeadline(time.Now().Add(writeTime)) // if it fails, so does writing
	// Method and path cannot be trusted here, and clients can send any number of them.
	w.duration.WithLabelValues("other", unmatched, strconv.Itoa(status)).Observe(0)
	w.logRequest(c, o, 0)
	return err
}
