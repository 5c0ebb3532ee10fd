package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/problem"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func traced() context.Context {
	return propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": parent})
}

func someOrder() OrderCreated {
	return OrderCreated{Order{ID: "o1", UserID: "u1", Status: "created", Version: 1, Sequence: 3, ExpiresAt: clock.Stamp(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))}}
}

func TestNew_IsACloudEventThatNamesItself(t *testing.T) {
	event, err := New(traced(), someOrder())
	require.NoError(t, err)
	require.Equal(t, "order.created:o1:1", event.ID)
	require.Equal(t, "1.0", event.SpecVersion)
	require.Equal(t, "order.created", event.Type)
	require.Equal(t, "o1", event.Subject)
	event = event.From(Origin{Service: "orders", PublicURL: "https://tickets.example.com"})
	require.Equal(t, "/orders", event.Source)
	require.Equal(t, "https://tickets.example.com/api/schemas/order.created/1", event.DataSchema)
	require.Equal(t, parent, event.TraceParent)

	again, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	require.Equal(t, event.ID, again.ID, "the same version published twice is the same event")

	var data map[string]any
	require.NoError(t, json.Unmarshal(event.Data, &data))
	require.Equal(t, "o1", data["id"], "the payload is flat")
	require.EqualValues(t, 3, data["sequence"])
}

// ordersTopic is where most of these tests' events come on.
const ordersTopic = "events.orders"

// deliver brings one event to the router, on a topic, and returns its status.
func deliver(t *testing.T, r *Router, topic, body string) string {
	t.Helper()
	return deliverBulk(t, r, topic, body)["0"]
}

func newTestRouter() *Router {
	return newRouterWith(&office{})
}

func newRouterWith(o *office) *Router {
	return NewRouter(Options{
		Origin: Origin{Service: "tickets", PublicURL: "http://localhost:8080"}, Instance: "here:1", Deliveries: 3, Publish: o.take,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
}

// office takes what is published.
type office struct {
	err error

	mu    sync.Mutex
	taken []Event
}

func (o *office) take(_ context.Context, topic string, event []byte) error {
	if o.err != nil {
		return o.err
	}
	var taken Event
	if err := json.Unmarshal(event, &taken); err != nil {
		return err
	}
	if topic != deadLetterTopic("tickets") {
		return fmt.Errorf("not a letter: on %s", topic)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken = append(o.taken, taken)
	return nil
}

// letter is the one letter that was taken.
func (o *office) letter(t *testing.T) DeadLetter {
	t.Helper()
	require.Len(t, o.taken, 1)
	body, err := json.Marshal(o.taken[0])
	require.NoError(t, err)
	return ReadDeadLetter(deadLetterTopic("tickets"), body, time.Time{})
}

func encoded(t *testing.T, event Event) string {
	t.Helper()
	body, err := json.Marshal(event)
	require.NoError(t, err)
	return string(body)
}

func TestRouter_DecodesAndCallsWithTheTrace(t *testing.T) {
	r := newTestRouter()
	var handled OrderCreated
	var handledTrace string
	On(r, func(ctx context.Context, e OrderCreated) error {
		handled = e
		handledTrace = trace.SpanContextFromContext(ctx).TraceID().String()
		return nil
	})
	event, err := New(traced(), someOrder())
	require.NoError(t, err)
	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, event)))
	require.Equal(t, someOrder(), handled)
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", handledTrace)
}

func TestRouter_FailuresEndWithADeadLetter(t *testing.T) {
	for name, fail := range map[string]func() error{
		"an error": func() error { return errors.New("a bug") },
		"a panic":  func() error { panic("a bug") },
	} {
		t.Run(name, func(t *testing.T) {
			o := &office{}
			r := newRouterWith(o)
			On(r, func(context.Context, OrderCreated) error { return fail() })
			event, err := New(traced(), someOrder())
			require.NoError(t, err)
			body := encoded(t, event)

			before := time.Now()
			require.Equal(t, "RETRY", deliver(t, r, ordersTopic, body))
			require.Equal(t, "RETRY", deliver(t, r, ordersTopic, body))
			require.Empty(t, o.taken)
			require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, body))

			letter := o.letter(t)
			require.Equal(t, Failed, letter.Code)
			require.Equal(t, 3, letter.Attempts)
			require.Contains(t, letter.Reason, "a bug")
			require.Equal(t, "tickets", letter.Service)
			require.Equal(t, "here:1", letter.Instance)
			require.Equal(t, event.ID, letter.EventID)
			require.Equal(t, "order.created", letter.EventKind)
			require.JSONEq(t, body, string(letter.Event))
			require.WithinRange(t, letter.FirstFailure.Time, before.Add(-time.Second), letter.LastFailure.Time)
			require.Equal(t, "event.dead:tickets:order.created:o1:1:1", o.taken[0].ID)
			require.Equal(t, parent, o.taken[0].TraceParent)
			require.Equal(t, "RETRY", deliver(t, r, ordersTopic, body), "a new count begins")
		})
	}
}

func TestRouter_SuccessEndsTheCount(t *testing.T) {
	o := &office{}
	r := newRouterWith(o)
	var result error
	On(r, func(context.Context, OrderCreated) error { return result })
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	for _, result = range []error{errors.New("one"), errors.New("two"), nil, errors.New("one again"), errors.New("two again")} {
		status := deliver(t, r, ordersTopic, encoded(t, event))
		require.Equal(t, map[bool]string{true: "SUCCESS", false: "RETRY"}[result == nil], status)
	}
	require.Empty(t, o.taken)
}

func TestRouter_WaitsForWhatIsAwayAsLongAsItTakes(t *testing.T) {
	o := &office{}
	r := newRouterWith(o)
	var result error
	On(r, func(context.Context, OrderCreated) error { return result })
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	for name, away := range map[string]error{
		"the store":    fmt.Errorf("apply it: %w", problem.New(problem.Unavailable, "unavailable", "The store is away.").Because(errors.New("unknown"))),
		"too slow":     fmt.Errorf("call: %w", context.DeadlineExceeded),
		"the sidecar":  fmt.Errorf("call: %w", status.Error(codes.Unavailable, "connection refused")),
		"on the way":   status.Error(codes.DeadlineExceeded, "late"),
		"the delivery": context.Canceled,
	} {
		t.Run(name, func(t *testing.T) {
			result = away
			for range 10 {
				require.Equal(t, "RETRY", deliver(t, r, ordersTopic, encoded(t, event)))
			}
		})
	}
	result = nil
	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, event)))
	require.Empty(t, o.taken)
}

func TestRouter_RefusalGoesToTheDeadLettersAtOnce(t *testing.T) {
	o := &office{}
	r := newRouterWith(o)
	On(r, func(context.Context, OrderCreated) error { return fmt.Errorf("%w: of something unknown", ErrRefused) })
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, event)))
	require.Equal(t, Refused, o.letter(t).Code)
	require.Contains(t, o.letter(t).Reason, "of something unknown")
}

func TestRouter_AnEventIsNotLetGoBeforeTheBrokerHasItsLetter(t *testing.T) {
	o := &office{err: errors.New("the broker is away")}
	r := newRouterWith(o)
	On(r, func(context.Context, OrderCreated) error { return ErrRefused })
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	require.Equal(t, "RETRY", deliver(t, r, ordersTopic, encoded(t, event)))
	o.err = nil
	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, event)))
	require.Equal(t, event.ID, o.letter(t).EventID)
}

func TestRouter_WhatCannotBeDecodedGoesToTheDeadLettersAtOnce(t *testing.T) {
	o := &office{}
	r := newRouterWith(o)
	On(r, func(context.Context, OrderCreated) error { t.Error("called"); return nil })
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	change := func(edit func(*Event)) string {
		copied := event
		edit(&copied)
		return encoded(t, copied)
	}
	for name, body := range map[string]string{
		"no data":              change(func(e *Event) { e.Data = nil }),
		"data of another sort": change(func(e *Event) { e.Data = []byte(`"text"`) }),
		"wrong type of member": change(func(e *Event) { e.Data = []byte(`{"id":"o1","version":"one"}`) }),
		"no aggregate":         change(func(e *Event) { e.Data = []byte(`{"version":1}`) }),
		"no version":           change(func(e *Event) { e.Data = []byte(`{"id":"o1"}`) }),
		"of a later schema":    change(func(e *Event) { e.DataSchema = "https://tickets.example.com/api/schemas/order.created/2" }),
		"of a later schema, as the previous release named them": change(func(e *Event) { e.DataSchema = "urn:boxoffice:order.created:2" }),
		"no envelope": `{"id":5,"type":"order.created"}`,
	} {
		t.Run(name, func(t *testing.T) {
			o.taken = nil
			require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, body))
			letter := o.letter(t)
			require.Equal(t, Undecodable, letter.Code)
			require.Equal(t, 1, letter.Attempts)
			require.Equal(t, body, string(letter.Bytes()), "the event is kept as it came")
		})
	}
}

func TestRouter_AnEventIsAcceptedOnTheTopicOfItsTypeAlone(t *testing.T) {
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	for topic, accepted := range map[string]bool{
		ordersTopic: true, oldTopic: true, RetryTopic("tickets"): true,
		"events.tickets": false, "events.payments": false, RetryTopic("orders"): false, deadLetterTopic("tickets"): false, "": false,
	} {
		t.Run(topic, func(t *testing.T) {
			o, handled := &office{}, 0
			r := newRouterWith(o)
			On(r, func(context.Context, OrderCreated) error { handled++; return nil })
			require.Equal(t, "SUCCESS", deliver(t, r, topic, encoded(t, event)))
			if accepted {
				require.Equal(t, 1, handled)
				require.Empty(t, o.taken)
				return
			}
			require.Zero(t, handled)
			letter := o.letter(t)
			require.Equal(t, Foreign, letter.Code)
			_, err := letter.Renewed(1)
			require.ErrorContains(t, err, "its owner did not publish")
		})
	}
}

func TestRouter_WhatATopicCarriesAndNobodyHereHandlesIsIgnored(t *testing.T) {
	o := &office{}
	r := newRouterWith(o)
	On(r, func(context.Context, OrderCreated) error { t.Error("called"); return nil })
	for topic, eventType := range map[string]string{ordersTopic: "order.forgotten", oldTopic: "user.created", RetryTopic("tickets"): "ticket.created"} {
		require.Equal(t, "SUCCESS", deliver(t, r, topic, `{"id":"x","type":"`+eventType+`","data":{}}`))
	}
	require.Empty(t, o.taken)
}

func TestSchemaOf_IsTheNumberInEitherForm(t *testing.T) {
	for schema, want := range map[string]int{
		"http://localhost:8080/api/schemas/order.created/3":       3,
		"https://tickets.example.com/api/schemas/order.created/1": 1,
		"https://10.0.0.1/base/api/schemas/order.created/12":      12,
		"urn:boxoffice:order.created:2":                           2,

		"":                              0,
		"urn:boxoffice:order.created":   0,
		"urn:boxoffice:order.created:x": 0,
		"http://localhost:8080/api/schemas/order.created/":    0,
		"http://localhost:8080/api/schemas/ticket.created/2":  0,
		"http://localhost:8080/somewhere/order.created/2":     0,
		"http://localhost:8080/api/schemas/order.created/2/3": 0,
	} {
		got, found := schemaOf(Event{Type: "order.created", DataSchema: schema})
		require.Equal(t, want, got, schema)
		require.Equal(t, want > 0, found, schema)
	}
}

func TestTopicOf_IsThatOfTheAggregate(t *testing.T) {
	for eventType, topic := range map[string]string{
		"user.created": "events.users", "ticket.updated": "events.tickets", "order.cancelled": "events.orders",
		"payment.captured": "events.payments", "expiration.complete": "events.expirations", "": "", "order": "", ".created": "",
	} {
		require.Equal(t, topic, TopicOf(eventType), eventType)
	}
}

func TestLetter_TwoServicesLettersOfOneEventAreTwoAndRepeatsAreOne(t *testing.T) {
	of := func(service, body string) DeadLetter {
		l := DeadLetter{Service: service, LastFailure: clock.Stamp(time.Now())}
		l.hold([]byte(body))
		return l
	}
	one := of("tickets", `{"id":"e1"}`)
	require.Equal(t, one.ID(), of("tickets", `{"id":"e1"}`).ID())
	require.NotEqual(t, one.ID(), of("orders", `{"id":"e1"}`).ID())
	require.NotEqual(t, one.ID(), of("tickets", `{"id":"e2"}`).ID())
	require.NotEqual(t, of("tickets", `no JSON`).ID(), of("tickets", `other`).ID())
}

func TestReadDeadLetter_UnderstandsWhatSidecarsPutAside(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	letter := ReadDeadLetter(deadLetterTopic("tickets"), []byte(encoded(t, event)), now)
	require.Equal(t, GivenUp, letter.Code)
	require.Equal(t, event.ID, letter.EventID)
	require.Equal(t, clock.Stamp(now), letter.FirstFailure)
	require.Equal(t, "tickets", letter.Service)
	require.Empty(t, ReadDeadLetter(OldDeadLetterTopic, []byte(encoded(t, event)), now).Service)

	for _, raw := range []string{`neither JSON nor anything`, `[1]`, ``} {
		letter := ReadDeadLetter(OldDeadLetterTopic, []byte(raw), now)
		require.Equal(t, GivenUp, letter.Code)
		require.Equal(t, raw, string(letter.Bytes()))
		require.Empty(t, letter.EventID)
		_, err := letter.Renewed(1)
		require.ErrorContains(t, err, "holds no event")
	}
}

func TestReadDeadLetter_BelongsToTheServiceOnWhoseTopicItCame(t *testing.T) {
	event, err := New(context.Background(), DeadLetter{Service: "orders", Code: Failed, EventID: "e1", Event: json.RawMessage(`{"id":"e1"}`)})
	require.NoError(t, err)
	require.Equal(t, "tickets", ReadDeadLetter(deadLetterTopic("tickets"), []byte(encoded(t, event)), time.Now()).Service)
	require.Equal(t, "orders", ReadDeadLetter(OldDeadLetterTopic, []byte(encoded(t, event)), time.Now()).Service)
}

func TestRenewed_IsTheSameEventUnderAnIDOfItsOwn(t *testing.T) {
	event, err := New(traced(), someOrder())
	require.NoError(t, err)
	letter := ReadDeadLetter(OldDeadLetterTopic, []byte(encoded(t, event)), time.Now())
	body, err := letter.Renewed(2)
	require.NoError(t, err)
	var again Event
	require.NoError(t, json.Unmarshal(body, &again))
	require.Equal(t, "order.created:o1:1/again-2", again.ID)
	again.ID = event.ID
	require.Equal(t, event, again)
}

func TestFailures_TheCountThatIsLeastRecentIsForgottenFirst(t *testing.T) {
	f := newFailures()
	f.add("first", time.Now())
	for i := range rememberedFailures - 1 {
		f.add(fmt.Sprint(i), time.Now())
	}
	require.Equal(t, 2, f.add("first", time.Now()).attempts)
	f.add("one more", time.Now())
	require.Equal(t, 3, f.add("first", time.Now()).attempts)
	require.Equal(t, 1, f.add("0", time.Now()).attempts)
	require.LessOrEqual(t, f.ids.Len(), rememberedFailures)
}

func TestNew_CopiesNoTraceStateOfClients(t *testing.T) {
	long := strings.Repeat("vendor=0123456789,", 700) + "v=1"
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": parent, "tracestate": "vendor=secret"})
	event, err := New(ctx, someOrder())
	require.NoError(t, err)
	require.NotContains(t, encoded(t, event), "vendor")

	r := newTestRouter()
	On(r, func(ctx context.Context, e OrderCreated) error {
		require.Zero(t, trace.SpanContextFromContext(ctx).TraceState().Len(), "nor is one handed on that an event has")
		return nil
	})
	var members map[string]any
	require.NoError(t, json.Unmarshal([]byte(encoded(t, event)), &members))
	members["tracestate"] = long
	body, err := json.Marshal(members)
	require.NoError(t, err)
	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, string(body)))
}

func TestRouter_CountsWhatAReconciliationRepaired(t *testing.T) {
	r := newTestRouter()
	known := map[string]bool{}
	On(r, func(ctx context.Context, e OrderCreated) error {
		if !known[string(e.ID)] {
			known[string(e.ID)] = true
			MarkChanged(ctx)
		}
		return nil
	})
	repairs := func() float64 { return testutil.ToFloat64(r.repairs.WithLabelValues("order.created")) }
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	again := event.Again("one")
	require.NotEqual(t, event.ID, again.ID, "or the broker would drop it as a repeat")

	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, again)))
	require.EqualValues(t, 1, repairs(), "it was missing")
	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, event.Again("two"))))
	require.EqualValues(t, 1, repairs(), "it was known")

	clear(known)
	require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, event)))
	require.EqualValues(t, 1, repairs(), "an event that comes for the first time repairs nothing")
}
