// Package events has the catalogue of event types, their envelope, and the router that calls a service's handlers.
//
// Events are CloudEvents 1.0 in structured JSON mode. Each is delivered at least once, and events arrive in any order. So a
// handler compares versions, and handling an event twice has the same result as handling it once.
package events

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"boxoffice/services/internal/clock"
)

const (
	// PubSub is the name of the Dapr pub/sub component.
	PubSub = "pubsub"
	// oldTopic carried all events in the earlier release. Nothing is published on it any more. In this release, services still
	// subscribe to it for the events that remain there.
	oldTopic = "events"
	// OldDeadLetterTopic carried all dead letters in the earlier release.
	OldDeadLetterTopic = "events.dead"
	// ContentType is that of a CloudEvent in structured mode. With it, Dapr publishes our envelope unchanged.
	ContentType = "application/cloudevents+json"
)

// TopicOf returns the topic of an event type, which is that of its aggregate: "events.orders" for "order.created". Only the
// service that owns the aggregate may publish there. The topic of a text that is not an event type is "".
func TopicOf(eventType string) string {
	aggregate, _, found := strings.Cut(eventType, ".")
	if !found || aggregate == "" {
		return ""
	}
	return "events." + aggregate + "s"
}

// deadLetterTopic is the topic of the events that a service could not handle.
func deadLetterTopic(service string) string { return "dead." + service }

// Subscribers are the services that handle events (components/events/subscriptions.yaml) and can have dead letters.
var Subscribers = []string{"tickets", "orders", "payments", "expiration", "webhooks", "catalogue"}

// RetryTopic is the topic of the dead letters that are sent again to a service. Only the service dead-letters publishes there.
func RetryTopic(service string) string { return "retry." + service }

// Event is a CloudEvents 1.0 envelope. Its id consists of type, aggregate and version, so an event that is published again is
// the same event: the broker may drop it, and handlers treat it as a redelivery.
type Event struct {
	// The version of the CloudEvents specification.
	SpecVersion string `json:"specversion" jsonschema:"enum=1.0"`
	// The event's identity: TYPE:AGGREGATE:VERSION, for example order.created:01980c2b-7f3a-7c11-9a3e-6f2d8b1c4e5f:1. An event that a
	// reconciliation or an operator has published again has an id of its own: the first one with a suffix that begins with /.
	ID string `json:"id" jsonschema:"minLength=1"`
	// Source is the service that published the event, with a / before its name.
	Source string `json:"source" jsonschema:"pattern=^/[a-z-]+$"`
	// The event's type, which decides its topic.
	Type string `json:"type" jsonschema:"pattern=^[a-z]+\\.[a-z]+$"`
	// Subject is the id of the aggregate that has changed.
	Subject string `json:"subject" jsonschema:"minLength=1"`
	// Time is when the event was made: when its change was decided, or when it was published again.
	Time clock.Timestamp `json:"time"`
	// DataContentType is the media type of the data.
	DataContentType string `json:"datacontenttype" jsonschema:"enum=application/json"`
	// DataSchema is where the gateway serves the JSON Schema of the data: PUBLIC_URL/api/schemas/TYPE/NUMBER. The number is what
	// counts for readers, not the host. In events of the previous release it is urn:boxoffice:TYPE:NUMBER.
	DataSchema string `json:"dataschema" jsonschema:"format=uri"`
	// The public state of the aggregate after the change, as dataschema describes it.
	Data json.RawMessage `json:"data"`

	// TraceID repeats traceparent, because Dapr writes its own trace into an event without it.
	TraceID string `json:"traceid,omitempty" jsonschema:"pattern=^$|^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"`
	// TraceParent is that of W3C trace context, as in the CloudEvents distributed tracing extension: 55 characters. It is absent or
	// "" if the event belongs to no trace. There is no trace state: it comes from clients and has no bounded length.
	TraceParent string `json:"traceparent,omitempty" jsonschema:"pattern=^$|^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"`

	// Republished is the id of the reconciliation that published the event again. It is absent in other events.
	Republished string `json:"republished,omitempty"`
}

// New puts payload into an envelope with ctx's trace context. Its origin is set when it is published; see From.
func New(ctx context.Context, payload Payload) (Event, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s: %w", payload.EventType(), err)
	}
	id, version := payload.Aggregate()
	trace := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, trace)
	return Event{
		SpecVersion:     "1.0",
		ID:              payload.EventType() + ":" + id + ":" + strconv.Itoa(version),
		Type:            payload.EventType(),
		Subject:         id,
		Time:            clock.Stamp(time.Now()),
		DataContentType: "application/json",
		DataSchema:      schemaPath(payload),
		Data:            body,
		TraceID:         trace["traceparent"],
		TraceParent:     trace["traceparent"],
	}, nil
}

// Origin is where events come from: the name of the service that publishes them, and the base URL of the public API, which serves their
// schemas.
type Origin struct{ Service, PublicURL string }

// From returns a new event with its origin. The journal calls it with that of its service.
func (e Event) From(o Origin) Event {
	e.Source = "/" + o.Service
	e.DataSchema = o.PublicURL + e.DataSchema
	return e
}

// Again returns the event as a reconciliation publishes it. It has another id, because the broker drops an id that it has
// seen shortly before. It is marked, so that the Router counts the repairs that it leads to.
func (e Event) Again(reconciliation string) Event {
	e.ID += "/reconciled-" + reconciliation
	e.Republished = reconciliation
	return e
}

// schemaPath returns where the gateway serves the schema of a payload, for example "/api/schemas/order.created/1".
func schemaPath(payload Payload) string {
	return "/api/schemas/" + payload.EventType() + "/" + strconv.Itoa(payload.Schema())
}
