package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"boxoffice/services/internal/problem"
)

const (
	// handlingTime bounds one handler call. It is shorter than the broker's wait for an acknowledgement, so
	// that a slow handler ends before its event is delivered a second time.
	handlingTime = 20 * time.Second
	// letterTime bounds the publication of a dead letter.
	letterTime = 5 * time.Second
)

// Router hands incoming events to a service's functions and responds to the sidecar what became of them: handled (or
// put aside with the dead letters), or to be delivered again. Register with On, then Mount it once.
//
// An event is accepted on the topic of its type alone, for only the owner of that type can publish there, and on the
// service's retry topic. What a topic carries and this service does not handle is ignored.
//
// The router itself decides when an event is dead, for it alone knows why. An event that cannot be decoded, or
// that its handler refuses, is so at once. While what is needed is away, an event is tried again for as long as
// that lasts: it is nobody's fault. Any other failure is taken for a bug, and ends after Options.Deliveries.
type Router struct {
	opts      Options
	handlers  map[string]func(context.Context, Event) error
	handled   *prometheus.CounterVec
	repairs   *prometheus.CounterVec
	letters   *prometheus.CounterVec
	age       prometheus.Histogram
	failures  failures
	unhandled unhandled

	retryTopic string
}

// Options say where a Router stands, and what it works with. All are required.
type Options struct {
	Service  string // its name, for dead letters
	Instance string // the process's place
	// Deliveries is after how many failed deliveries an event is dead.
	Deliveries int
	// Publish brings an event, a CloudEvent in JSON, to a topic, and returns when the broker has it.
	Publish func(ctx context.Context, topic string, event []byte) error
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// NewRouter makes an empty Router.
func NewRouter(opts Options) *Router {
	r := &Router{
		opts:       opts,
		retryTopic: RetryTopic(opts.Service),
		handlers:   map[string]func(context.Context, Event) error{},
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_events_handled_total",
			Help: "Events delivered to this service, by type and outcome (success, ignored, retry, dead).",
		}, []string{"type", "outcome"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_reconcile_repairs_total",
			Help: "Events of a reconciliation that told this service what it did not know: what was repaired here, by type.",
		}, []string{"type"}),
		letters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_events_dead_letters_total",
			Help: "Events that this service gave up and published as dead letters, by reason (undecodable, foreign, refused, failed).",
		}, []string{"code"}),
		age: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "boxoffice_events_age_seconds", Help: "Age of events when they were handled, by the time that they name.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 11), // to 87 minutes
		}),
	}
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "boxoffice_events_oldest_unhandled_seconds",
		Help: "Age of the oldest event that was delivered to this process and is not handled: it is in hand, or is to be delivered again. 0: there is none.",
	}, func() float64 { return r.unhandled.oldest(time.Now()).Seconds() })
	for _, code := range []Code{Undecodable, Foreign, Refused, Failed} {
		r.letters.WithLabelValues(string(code))
	}
	opts.Metrics.MustRegister(r.handled, r.repairs, r.letters, r.age, oldest)
	return r
}

// On calls handle for every event of P's type. An error from handle asks for another delivery, unless it is
// ErrRefused; an event that cannot be decoded goes to the dead letters without a call. handle is called in
// parallel, and must bear repeats and any order.
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
		return fmt.Errorf("%w: it is of type %q, not %q", errUndecodable, event.Type, known.EventType())
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

// errForeign marks an event on a topic that is not that of its type.
var errForeign = errors.New("event is on a topic of another owner")

// Mount serves the router at /events, where the subscriptions bring all events of all topics, in bulk.
func (r *Router) Mount(mux chi.Router) { mux.Post("/events", r.serveBulk) }

// deliver hands one event, which came on a topic, to its function.
func (r *Router) deliver(ctx context.Context, topic string, raw []byte) outcome {
	var event Event
	if err := json.Unmarshal(raw, &event); err != nil {
		return r.finish(ctx, event, raw, fmt.Errorf("%w: %w", errUndecodable, err))
	}
	if !r.carries(topic, event.Type) {
		return r.finish(ctx, event, raw, fmt.Errorf("%w: type %q came on the topic %q", errForeign, event.Type, topic))
	}
	handle, known := r.handlers[event.Type]
	if !known {
		return r.count(event.Type, ignored)
	}
	r.unhandled.begin(event)
	ctx = traceContext(ctx, event)
	handling, cancel := context.WithTimeout(ctx, handlingTime)
	defer cancel()
	handling, applied := observeChanges(handling, event)
	err := call(handling, handle, event)
	if applied() {
		r.repairs.WithLabelValues(event.Type).Inc()
		r.opts.Log.WarnContext(ctx, "a reconciliation repaired what this service did not know", "event", event.ID, "type", event.Type, "subject", event.Subject)
	}
	return r.finish(ctx, event, raw, err)
}

// carries says whether events of a type may come on a topic.
func (r *Router) carries(topic, eventType string) bool {
	return topic == OldTopic || topic == r.retryTopic || topic != "" && topic == TopicOf(eventType)
}

// call turns a panic into an error: a bug in one handler must not take the service's other work with it.
func call(ctx context.Context, handle func(context.Context, Event) error, event Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return handle(ctx, event)
}

// finish decides what becomes of an event, which came as raw, whose handling ended with err.
func (r *Router) finish(ctx context.Context, event Event, raw []byte, err error) outcome {
	eventType := event.Type
	if err == nil {
		r.failures.forget(event.ID)
		r.unhandled.end(event, success, time.Now())
		if !event.Time.IsZero() {
			r.age.Observe(time.Since(event.Time).Seconds())
		}
		r.opts.Log.DebugContext(ctx, "event handled", "event", event.ID, "type", eventType)
		return r.count(eventType, success)
	}
	log := r.opts.Log.With("event", event.ID, "type", eventType, "traceId", trace.SpanContextFromContext(ctx).TraceID().String())
	now := time.Now().UTC()
	letter := DeadLetter{Service: r.opts.Service, Instance: r.opts.Instance, Attempts: 1, FirstFailure: now, LastFailure: now}
	letter.hold(raw)
	switch {
	case errors.Is(err, errUndecodable):
		letter.Code = Undecodable
	case errors.Is(err, errForeign):
		letter.Code = Foreign
	case errors.Is(err, ErrRefused):
		letter.Code = Refused
	case isAway(err):
		if r.unhandled.end(event, retry, now) { // it comes every second
			log.Warn("event will be delivered again, for something that it needs is away", "error", err)
		}
		return r.count(eventType, retry)
	default:
		failed := r.failures.add(letter.name(), now)
		if failed.attempts < r.opts.Deliveries {
			r.unhandled.end(event, retry, now)
			log.Warn("event will be delivered again", "failures", failed.attempts, "error", err)
			return r.count(eventType, retry)
		}
		letter.Code, letter.Attempts, letter.FirstFailure = Failed, failed.attempts, failed.first
	}
	letter.Reason = err.Error()
	if notTaken := r.publish(ctx, letter); notTaken != nil {
		if r.unhandled.end(event, retry, now) {
			log.Warn("the broker did not take a dead letter; its event will be delivered again", "error", errors.Join(err, notTaken))
		}
		return r.count(eventType, retry)
	}
	r.failures.forget(letter.name())
	r.unhandled.end(event, dead, now)
	r.letters.WithLabelValues(string(letter.Code)).Inc()
	log.Error("event went to the dead letters", "letter", letter.ID(), "code", letter.Code, "attempts", letter.Attempts, "error", err)
	return r.count(eventType, dead)
}

// isAway says whether err comes from something that is needed and out of reach, rather than from the event or a
// bug: then the event is fine, and only has to wait.
func isAway(err error) bool {
	if problem.KindOf(err) == problem.Unavailable || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}

// publish brings a letter to the broker. Doing it twice is doing it once: a process that dies before it has responded
// leaves the event to be delivered, and its letter to be published, again.
func (r *Router) publish(ctx context.Context, letter DeadLetter) error {
	ctx, cancel := context.WithTimeout(ctx, letterTime)
	defer cancel()
	event, err := New(ctx, letter)
	if err != nil {
		return err
	}
	event.Source = "/" + r.opts.Service
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return r.opts.Publish(ctx, DeadLetterTopic(r.opts.Service), body)
}

// outcome is what became of a delivery.
type outcome string

const (
	success outcome = "success"
	ignored outcome = "ignored" // nothing here handles events of this type
	retry   outcome = "retry"
	dead    outcome = "dead" // and the broker has its letter
)

// status is the outcome in Dapr's words. It is never DROP: see components/README.md.
func (o outcome) status() string {
	if o == retry {
		return "RETRY"
	}
	return "SUCCESS"
}

// types that are nobody's share one name among the metrics, for anybody could make up more.
func (r *Router) count(eventType string, o outcome) outcome {
	if _, known := r.handlers[eventType]; !known {
		eventType = "unknown"
	}
	r.handled.WithLabelValues(eventType, string(o)).Inc()
	return o
}

func traceContext(ctx context.Context, event Event) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": event.TraceParent})
}
