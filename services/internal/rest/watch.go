package rest

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/problem"
)

const (
	// longestRequestID bounds what a client may have us write into every log line.
	longestRequestID = 128
	// unmatched is the route of requests that matched none.
	unmatched = "unmatched"
)

// watch sees every request come and go: it gives it an id, a trace and a deadline, and leaves one log line and
// one measurement of it.
type watch struct {
	log      *slog.Logger
	duration *prometheus.HistogramVec
	trusted  []netip.Prefix
	tracing  tracing
}

func newWatch(log *slog.Logger, metrics prometheus.Registerer) *watch {
	w := &watch{
		log: log,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "boxoffice_http_request_duration_seconds",
			Help:    "Requests answered on the public port, by method, route and status; the count is their number.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route", "status"}),
	}
	metrics.MustRegister(w.duration)
	return w
}

// observation is what the log line of one request will tell beyond the request itself.
type observation struct {
	requestID string
	traceID   string
	client    netip.Addr
	attrs     []slog.Attr
	cause     error
	stack     []byte
}

type observationKey struct{}

// observed returns the request's observation; nil for one that never reached the handlers.
func observed(c *fiber.Ctx) *observation {
	o, _ := c.Locals(observationKey{}).(*observation)
	return o
}

// Annotate adds to the request's log line, for example the id of what it created.
func Annotate(c *fiber.Ctx, attrs ...slog.Attr) {
	if o := observed(c); o != nil {
		o.attrs = append(o.attrs, attrs...)
	}
}

func (w *watch) request(c *fiber.Ctx) error {
	start := time.Now()
	ctx, traceID := w.tracing.traced(c)
	ctx, cancel := context.WithTimeout(ctx, handlingTime)
	defer cancel()
	c.SetUserContext(ctx)

	o := &observation{requestID: requestID(c), traceID: traceID, client: clientOf(c.Context(), w.trusted)}
	c.Locals(observationKey{}, o)
	c.Set(fiber.HeaderXRequestID, o.requestID)

	if err := c.Next(); err != nil {
		// Answered here and not by returning it, because the log line tells the answer's status.
		if err := w.fail(c, err); err != nil {
			return err
		}
	}
	took := time.Since(start)
	w.duration.WithLabelValues(c.Method(), route(c), strconv.Itoa(c.Response().StatusCode())).Observe(took.Seconds())
	w.leave(c, o, took)
	return nil
}

// leave writes the request's log line.
func (w *watch) leave(c *fiber.Ctx, o *observation, took time.Duration) {
	status := c.Response().StatusCode()

	level := slog.LevelInfo
	switch {
	case o.stack != nil || status == fiber.StatusInternalServerError:
		level = slog.LevelError
	case ofOperators(c.Path()): // also if it is not ready: the service logs why
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

// route is the pattern that the request matched. Requests that matched none share one name, so that a client
// cannot make measurements without end.
func route(c *fiber.Ctx) string {
	if path := c.Route().Path; path != "/" {
		return path
	}
	return unmatched
}

// ofOperators says whether a path is asked by machines that watch the service, every few seconds.
func ofOperators(path string) bool {
	return path == "/healthz" || path == "/readyz"
}

// RequestID is the id under which this request is logged, here and in the service that called. It is made
// here unless the client sent a usable one.
func RequestID(c *fiber.Ctx) string {
	if o := observed(c); o != nil {
		return o.requestID
	}
	return ""
}

func requestID(c *fiber.Ctx) string {
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
		// The system has no randomness left; an id that is not unique is better than no answer.
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

// fail answers with err as problem+json.
func (w *watch) fail(c *fiber.Ctx, err error) error {
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

// refuse answers a request that fasthttp could not read, so that no handler ever saw it.
func (w *watch) refuse(c *fiber.Ctx, err error) error {
	o := &observation{requestID: newRequestID(), cause: err, client: Peer(c.Context())}
	c.Set(fiber.HeaderXRequestID, o.requestID)
	switch {
	case errors.Is(err, fiber.ErrRequestEntityTooLarge), errors.Is(err, fiber.ErrRequestHeaderFieldsTooLarge):
		drain(c)
	case errors.Is(err, fiber.ErrBadGateway):
		// So Fiber calls a connection that the client broke.
		err = fiber.ErrBadRequest
	}
	status, p := problemOf(c, err)
	err = write(c, status, p, o.requestID)
	// fasthttp sets the time to write an answer only for answers of handlers. On a connection that has been idle
	// for longer, the last one's is over, and this answer would not go out.
	_ = c.Context().Conn().SetWriteDeadline(time.Now().Add(writeTime)) // if it fails, so does writing
	// Neither method nor path can be trusted here, and anybody can send many.
	w.duration.WithLabelValues("other", unmatched, strconv.Itoa(status)).Observe(0)
	w.leave(c, o, 0)
	return err
}
