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

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/problem"
)

const (
	// handlingTime bounds one call of a handler. It is shorter than the time after which the broker delivers an event again, so
	// that a slow handler ends before that.
	handlingTime = 20 * time.Second
	// publishTime bounds the publication of a dead letter.
	publishTime = 5 * time.Second
)

// Router calls a service's handlers with the events that its sidecar delivers. Its response is the outcome of each event:
// handled (or published as a dead letter), or to be delivered again. Register handlers with On, then call Mount once.
//
// An event is accepted only on the topic of its type, where only the owner of the type can publish, and on the service's
// retry topic. Events without a handler are ignored.
//
// The router decides when an event becomes a dead letter, because the sidecar does not have the reason. An event that cannot be
// decoded, or that its handler refuses, becomes one immediately. While a dependency is unavailable, the event is delivered
// again without limit. Any other failure is taken for a bug: after Options.Deliveries of them, the event is a dead letter.
type Router struct {
	opts      Options
	handlers  map[string]handler
	handled   *prometheus.CounterVec
	repairs   *prometheus.CounterVec
	letters   *prometheus.CounterVec
	age       prometheus.Histogram
	failures  *failures
	unhandled unhandled

	retryTopic string
}

// Options are the settings of a Router. All are required.
type Options struct {
	Origin          // of dead letters
	Instance string // the process's place
	// Deliveries is the number of failed deliveries after which an event becomes a dead letter.
	Deliveries int
	// Publish publishes an event, a CloudEvent in JSON, and returns when the broker has accepted it.
	Publish func(ctx context.Context, topic string, event []byte) error
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// NewRouter makes an empty Router.
func NewRouter(opts Options) *Router {
	r := &Router{
		opts:       opts,
		retryTopic: RetryTopic(opts.Service),
		handlers:   map[string]handler{},
		failures:   newFailures(),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_events_handled_total",
			Help: "Events delivered to this service, by type and outcome (success, ignored, retry, dead).",
		}, []string{"type", "outcome"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_reconcile_repairs_total",
			Help: "Events of a reconciliation that changed a document of this service, because it had missed the event before, by type.",
		}, []string{"type"}),
		letters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_events_dead_letters_total",
			Help: "Events that this service published as dead letters, by reason (undecodable, foreign, refused, failed).",
		}, []string{"code"}),
		age: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "boxoffice_events_age_seconds", Help: "Age of events when they were handled, by the time that they name.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 11), // to 87 minutes
		}),
	}
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "boxoffice_events_oldest_unhandled_seconds",
		Help: "Age of the oldest event that was delivered to this process and is not handled: its handler runs, or it will be delivered again. 0: there is none.",
	}, func() float64 { return r.unhandled.oldest(time.Now()).Seconds() })
	for _, code := range []Code{Undecodable, Foreign, Refused, Failed} {
		r.letters.WithLabelValues(string(code))
	}
	opts.Metrics.MustRegister(r.handled, r.repairs, r.letters, r.age, oldest)
	return r
}

// On registers handle for the events of P's type. If handle returns an error, the event is delivered again, unless the error is
// ErrRefused. An event that cannot be decoded becomes a dead letter without a call. handle is called in parallel, may get an
// event more than once, and gets events in any order.
func On[P Payload](r *Router, handle func(ctx context.Context, payload P) error) {
	var zero P
	r.handlers[zero.EventType()] = func(event Event, d *delivery) error {
		var payload P
		if err := decode(event, zero, &payload); err != nil {
			return err
		}
		d.handle = func(ctx context.Context) error { return handle(ctx, payload) }
		return nil
	}
}

// OnQueued is On for events that share their work. queue is called for all events of a bulk one after the other, and returns soon. Then
// wait is called for each: it returns the outcome, as handle does for On. ctx is that of the whole bulk, without a trace.
func OnQueued[P Payload](r *Router, queue func(ctx context.Context, payload P) (wait func() error, err error)) {
	var zero P
	r.handlers[zero.EventType()] = func(event Event, d *delivery) error {
		var payload P
		if err := decode(event, zero, &payload); err != nil {
			return err
		}
		d.queue = func(ctx context.Context) (func() error, error) { return queue(ctx, payload) }
		return nil
	}
}

// handler decodes an event's data and sets the delivery's handle or queue.
type handler func(event Event, d *delivery) error

// delivery is one event of a bulk. raw is the event as it was delivered.
type delivery struct {
	event   Event
	raw     []byte
	known   bool  // there is a handler for its type
	ignored bool  // there is none
	err     error // it cannot be decoded, or the result of its handler
	handle  func(ctx context.Context) error
	queue   func(ctx context.Context) (wait func() error, err error)
	wait    func() error
}

// errUndecodable is the error of an event that no redelivery makes decodable.
var errUndecodable = errors.New("event cannot be decoded")

// ErrRefused is for a handler to wrap if no redelivery can succeed: the event becomes a dead letter immediately.
var ErrRefused = errors.New("event is refused")

func decode[P Payload](event Event, expected Payload, into *P) error {
	if event.Type != expected.EventType() {
		return fmt.Errorf("%w: it is of type %q, not %q", errUndecodable, event.Type, expected.EventType())
	}
	if schema, ok := schemaOf(event); ok && schema > expected.Schema() {
		return fmt.Errorf("%w: it has schema %d of %s, this service decodes up to %d", errUndecodable, schema, event.Type, expected.Schema())
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

// schemaOf returns the payload's schema number, which is the last part of the schema's URL: /api/schemas/TYPE/NUMBER at the public address of
// the publisher. In events of the previous release, it is that of urn:boxoffice:TYPE:NUMBER. An event without a number has the
// first schema.
func schemaOf(event Event) (int, bool) {
	name, number, found := strings.Cut(event.DataSchema, event.Type+"/")
	if !found || !strings.HasSuffix(name, "/api/schemas/") {
		if number, found = strings.CutPrefix(event.DataSchema, "urn:boxoffice:"+event.Type+":"); !found {
			return 0, false
		}
	}
	schema, err := strconv.Atoi(number)
	return schema, err == nil
}

// errForeign is the error of an event on a topic that is not that of its type.
var errForeign = errors.New("event is on a topic of another owner")

// Mount serves the router at /events, the path of all subscriptions.
func (r *Router) Mount(mux chi.Router) { mux.Post("/events", r.serveBulk) }

// decode decodes an event of a topic and finds its handler.
func (r *Router) decode(topic string, raw []byte) (d delivery) {
	d.raw = raw
	var event Event
	err := json.Unmarshal(raw, &event)
	d.event = event
	if err != nil {
		d.err = fmt.Errorf("%w: %w", errUndecodable, err)
		return d
	}
	if !r.carries(topic, event.Type) {
		d.err = fmt.Errorf("%w: type %q came on the topic %q", errForeign, event.Type, topic)
		return d
	}
	decode, found := r.handlers[event.Type]
	if !found {
		d.ignored = true
		return d
	}
	d.known = true
	d.err = decode(event, &d)
	return d
}

// handle calls the handler of an event, unless it could not be decoded.
func (r *Router) handle(ctx context.Context, d *delivery) outcome {
	if d.known {
		r.unhandled.begin(d.event)
		ctx = traceContext(ctx, d.event)
	}
	if d.err != nil {
		return r.finish(ctx, d.event, d.raw, d.err)
	}
	handling, cancel := context.WithTimeout(ctx, handlingTime)
	defer cancel()
	handling, changed := observeChanges(handling, d.event)
	err := call(handling, d.handle)
	if changed() {
		r.repairs.WithLabelValues(d.event.Type).Inc()
		r.opts.Log.WarnContext(ctx, "a reconciliation repaired what this service had missed", "event", d.event.ID, "type", d.event.Type, "subject", d.event.Subject)
	}
	return r.finish(ctx, d.event, d.raw, err)
}

// carries reports whether events of a type may come on a topic.
func (r *Router) carries(topic, eventType string) bool {
	return topic == oldTopic || topic == r.retryTopic || topic != "" && topic == TopicOf(eventType)
}

// call calls a handler and turns a panic into an error, so that a bug in one handler does not end the process.
func call(ctx context.Context, handle func(context.Context) error) (err error) {
	defer recovered(&err)
	return handle(ctx)
}

// callQueue is call for a handler that queues.
func callQueue(ctx context.Context, queue func(context.Context) (func() error, error)) (wait func() error, err error) {
	defer recovered(&err)
	return queue(ctx)
}

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}

// finish decides the outcome of an event whose handling has ended with err. raw is the event as it was delivered.
func (r *Router) finish(ctx context.Context, event Event, raw []byte, err error) outcome {
	eventType := event.Type
	if err == nil {
		r.failures.forget(event.ID)
		r.unhandled.end(event, success, time.Now())
		if !event.Time.IsZero() {
			r.age.Observe(time.Since(event.Time.Time).Seconds())
		}
		if r.opts.Log.Enabled(ctx, slog.LevelDebug) {
			r.opts.Log.DebugContext(ctx, "event handled", "event", event.ID, "type", eventType)
		}
		return r.count(eventType, success)
	}
	log := r.opts.Log.With("event", event.ID, "type", eventType, "traceId", trace.SpanContextFromContext(ctx).TraceID().String())
	now := time.Now().UTC()
	letter := DeadLetter{Service: r.opts.Service, Instance: r.opts.Instance, Attempts: 1, FirstFailure: clock.Stamp(now), LastFailure: clock.Stamp(now)}
	letter.hold(raw)
	switch {
	case errors.Is(err, errUndecodable):
		letter.Code = Undecodable
	case errors.Is(err, errForeign):
		letter.Code = Foreign
	case errors.Is(err, ErrRefused):
		letter.Code = Refused
	case isUnavailable(err):
		if r.unhandled.end(event, retry, now) { // it is delivered every second
			log.Warn("event will be delivered again: something that it needs is unavailable", "error", err)
		}
		return r.count(eventType, retry)
	default:
		failed := r.failures.add(letter.name(), now)
		if failed.attempts < r.opts.Deliveries {
			r.unhandled.end(event, retry, now)
			log.Warn("event will be delivered again", "failures", failed.attempts, "error", err)
			return r.count(eventType, retry)
		}
		letter.Code, letter.Attempts, letter.FirstFailure = Failed, failed.attempts, clock.Stamp(failed.first)
	}
	letter.Reason = err.Error()
	if publishErr := r.publish(ctx, letter); publishErr != nil {
		if r.unhandled.end(event, retry, now) {
			log.Warn("the broker did not accept a dead letter; its event will be delivered again", "error", errors.Join(err, publishErr))
		}
		return r.count(eventType, retry)
	}
	r.failures.forget(letter.name())
	r.unhandled.end(event, dead, now)
	r.letters.WithLabelValues(string(letter.Code)).Inc()
	log.Error("event went to the dead letters", "letter", letter.ID(), "code", letter.Code, "attempts", letter.Attempts, "error", err)
	return r.count(eventType, dead)
}

// isUnavailable reports whether err comes from a dependency that cannot be reached now, and not from the event or a bug.
func isUnavailable(err error) bool {
	if problem.KindOf(err) == problem.Unavailable || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}

// publish publishes a dead letter. If the process ends before it has responded, the event is delivered again and the letter
// is published again, with the same id.
func (r *Router) publish(ctx context.Context, letter DeadLetter) error {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	event, err := New(ctx, letter)
	if err != nil {
		return err
	}
	body, err := json.Marshal(event.From(r.opts.Origin))
	if err != nil {
		return err
	}
	return r.opts.Publish(ctx, deadLetterTopic(r.opts.Service), body)
}

// outcome is the result of a delivery.
type outcome string

const (
	success outcome = "success"
	ignored outcome = "ignored" // the service has no handler for the type
	retry   outcome = "retry"
	dead    outcome = "dead" // and its dead letter is published
)

// status is the outcome as Dapr names it. It is never DROP: see components/README.md.
func (o outcome) status() string {
	if o == retry {
		return "RETRY"
	}
	return "SUCCESS"
}

// count counts an outcome. All types without a handler share one name in the metrics, because their number has no bound.
func (r *Router) count(eventType string, o outcome) outcome {
	if _, handled := r.handlers[eventType]; !handled {
		eventType = "unknown"
	}
	r.handled.WithLabelValues(eventType, string(o)).Inc()
	return o
}

func traceContext(ctx context.Context, event Event) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": event.TraceParent})
}
