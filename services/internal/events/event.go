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
var Subscribers = []string{"tickets", "orders", "payments", "expiration", "webhooks"}

// RetryTopic is the topic of the dead letters that are sent again to a service. Only the service dead-letters publishes there.
func RetryTopic(service string) string { return "retry." + service }

// Event is a CloudEvents 1.0 envelope. Its ID consists of type, aggregate and version, so an event that is published again is
// the same event: the broker may drop it, and handlers treat it as a redelivery.
type Event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            clock.Timestamp `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	DataSchema      string          `json:"dataschema"`
	Data            json.RawMessage `json:"data"`

	// TraceParent is that of W3C trace context, as in the CloudEvents distributed tracing extension: 55 characters.
	// TraceID repeats TraceParent, because Dapr writes its own trace into an event without it. There is no trace state: it comes
	// from clients and has no bounded length.
	TraceID     string `json:"traceid,omitempty"`
	TraceParent string `json:"traceparent,omitempty"`

	// Republished is the id of the reconciliation that published the event again, or empty; see Again.
	Republished string `json:"republished,omitempty"`
}

// New puts payload into an envelope with ctx's trace context. The journal sets Source to the name of its service.
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
		DataSchema:      schemaName(payload),
		Data:            body,
		TraceID:         trace["traceparent"],
		TraceParent:     trace["traceparent"],
	}, nil
}

// Again returns the event as a reconciliation publishes it. It has another id, because the broker drops an id that it has
// seen shortly before. It is marked, so that the Router counts the repairs that it leads to.
func (e Event) Again(reconciliation string) Event {
	e.ID += "/reconciled-" + reconciliation
	e.Republished = reconciliation
	return e
}

// schemaName returns the name of a payload's format, for example "urn:boxoffice:order.created:1".
func schemaName(payload Payload) string {
	return "urn:boxoffice:" + payload.EventType() + ":" + strconv.Itoa(payload.Schema())
}
