package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxEventBytes bounds what a delivery may hold; ours are about 1 kB.
	maxEventBytes = 1 << 20
	// handlingTime bounds one handler call. It is shorter than the broker's wait for an acknowledgement, so
	// that a slow handler ends before its event is delivered a second time.
	handlingTime = 20 * time.Second
)

// Router hands incoming events to a service's functions and tells the sidecar what became of them: handled,
// to be delivered again, or to be put aside with the dead letters. Register with On, then Mount it once.
type Router struct {
	log      *slog.Logger
	handlers map[string]func(context.Context, Event) error
	handled  *prometheus.CounterVec
}

// NewRouter makes an empty Router.
func NewRouter(log *slog.Logger, metrics prometheus.Registerer) *Router {
	r := &Router{
		log:      log,
		handlers: map[string]func(context.Context, Event) error{},
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_events_handled_total",
			Help: "Events delivered to this service, by type and outcome (success, retry, drop).",
		}, []string{"type", "outcome"}),
	}
	metrics.MustRegister(r.handled)
	return r
}

// On calls handle for every event of P's type. An error from handle asks for another delivery, unless it is
// ErrRefused; an event that cannot be decoded goes to the dead letters without a call. handle is called in parallel, and must bear
// repeats and any order.
func On[P Payload](r *Router, handle func(ctx context.Context, payload P) error) {
	var known P
	r.handlers[known.EventType()] = func(ctx context.Context, event Event) error {
		var payload P
		if err := decode(event, known, &payload); err != nil {
			return err
		}
		return handle(ctx, payload)
	}
}

// errUndecodable marks an event that no retry will make readable.
var errUndecodable = errors.New("event cannot be decoded")

// ErrRefused is for a handler to wrap when no further delivery will make it succeed, whatever happens meanwhile:
// the event then goes to the dead letters at once.
var ErrRefused = errors.New("event is refused")

func decode[P Payload](event Event, known Payload, into *P) error {
	if event.Type != known.EventType() {
		return fmt.Errorf("%w: it is of type %q but came on the route of %q", errUndecodable, event.Type, known.EventType())
	}
	if schema, ok := schemaOf(event); ok && schema > known.Schema() {
		return fmt.Errorf("%w: it has schema %d of %s, this service knows up to %d", errUndecodable, schema, event.Type, known.Schema())
	}
	if err := json.Unmarshal(event.Data, into); err != nil {
		return fmt.Errorf("%w: %w", errUndecodable, err)
	}
	id, version := (*into).Aggregate()
	if id == "" || version < 1 {
		return fmt.Errorf("%w: its data names no aggregate or no version", errUndecodable)
	}
	return nil
}

// schemaOf reads the payload's schema number from the envelope; an event without one is of the first schema.
func schemaOf(event Event) (int, bool) {
	_, number, found := strings.Cut(strings.TrimPrefix(event.DataSchema, "urn:boxoffice:"), ":")
	if !found {
		return 0, false
	}
	schema, err := strconv.Atoi(number)
	return schema, err == nil
}

// Mount serves the router under /events: one path for each type, and /events/ignored for what the
// subscription routes to nobody. (Dapr puts an event that matches no route among the dead letters, so every
// subscription needs a default route that accepts.)
func (r *Router) Mount(mux chi.Router) {
	mux.Post("/events/ignored", func(w http.ResponseWriter, _ *http.Request) { answer(w, "SUCCESS") })
	for eventType, handle := range r.handlers {
		mux.Post("/events/"+eventType, func(w http.ResponseWriter, req *http.Request) { r.serve(w, req, eventType, handle) })
	}
}

func (r *Router) serve(w http.ResponseWriter, req *http.Request, eventType string, handle func(context.Context, Event) error) {
	var event Event
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxEventBytes))
	if err != nil {
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
			r.finish(w, eventType, event, fmt.Errorf("%w: it is longer than %d bytes", errUndecodable, maxEventBytes))
			return
		}
		r.finish(w, eventType, event, fmt.Errorf("read the delivery: %w", err))
		return
	}
	if err := json.Unmarshal(body, &event); err != nil {
		r.finish(w, eventType, event, fmt.Errorf("%w: %w", errUndecodable, err))
		return
	}
	ctx, cancel := context.WithTimeout(traceContext(req.Context(), event), handlingTime)
	defer cancel()
	r.finish(w, eventType, event, r.call(ctx, event, handle))
}

// call turns a panic into an error: a bug in one handler must not take the service's other work with it.
func (r *Router) call(ctx context.Context, event Event, handle func(context.Context, Event) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return handle(ctx, event)
}

func (r *Router) finish(w http.ResponseWriter, eventType string, event Event, err error) {
	outcome := "SUCCESS"
	switch {
	case errors.Is(err, errUndecodable), errors.Is(err, ErrRefused):
		outcome = "DROP"
		r.log.Error("event goes to the dead letters", "event", event.ID, "type", eventType, "error", err)
	case err != nil:
		outcome = "RETRY"
		r.log.Warn("event will be delivered again", "event", event.ID, "type", eventType, "traceId", traceID(event), "error", err)
	default:
		r.log.Debug("event handled", "event", event.ID, "type", eventType, "traceId", traceID(event))
	}
	r.handled.WithLabelValues(eventType, strings.ToLower(outcome)).Inc()
	answer(w, outcome)
}

// answer is what Dapr expects: the outcome is in the body, the status is 200 for all three.
func answer(w http.ResponseWriter, outcome string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"status":"`+outcome+`"}`)
}

func traceContext(ctx context.Context, event Event) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{
		"traceparent": event.TraceParent,
		"tracestate":  event.TraceState,
	})
}

func traceID(event Event) string {
	return trace.SpanContextFromContext(traceContext(context.Background(), event)).TraceID().String()
}
