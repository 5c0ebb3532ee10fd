// Package events is what the services tell each other: the catalogue of event types, their envelope, and the
// router that hands incoming events to a service's functions.
//
// Events are CloudEvents 1.0 in structured JSON mode. Delivery is at least once and in any order, so every
// consumer must bear repeats and compare versions.
package events

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
)

const (
	// PubSub is the name of the Dapr pub/sub component.
	PubSub = "pubsub"
	// OldTopic carried every event in the release before. Nothing is published on it any more; services subscribe to it for
	// what was left there, in this release alone.
	OldTopic = "events"
	// OldDeadLetterTopic carried every dead letter in the release before.
	OldDeadLetterTopic = "events.dead"
	// ContentType is that of a CloudEvent in structured mode; Dapr then publishes our envelope as it is.
	ContentType = "application/cloudevents+json"
)

// TopicOf is the topic of a type of events: that of its aggregate, "events.orders" for "order.created". Only the service
// that owns the aggregate may publish there. It is "" for what is no type of events.
func TopicOf(eventType string) string {
	aggregate, _, found := strings.Cut(eventType, ".")
	if !found || aggregate == "" {
		return ""
	}
	return "events." + aggregate + "s"
}

// DeadLetterTopic is the topic of the events that a service could not handle.
func DeadLetterTopic(service string) string { return "dead." + service }

// Subscribers are the services that handle events (components/events/subscriptions.yaml), and so those that have dead letters.
var Subscribers = []string{"tickets", "orders", "payments", "expiration"}

// RetryTopic is the topic of the dead letters that are sent again to a service. The dead-letter program alone publishes there.
func RetryTopic(service string) string { return "retry." + service }

// Event is a CloudEvents 1.0 envelope. Its ID is made from what it tells (type, aggregate, version), so that
// publishing it again is the same event: brokers may drop the second, consumers must bear it.
type Event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	DataSchema      string          `json:"dataschema"`
	Data            json.RawMessage `json:"data"`

	// TraceParent is that of W3C trace context, as in the CloudEvents distributed tracing extension: 55 characters.
	// TraceID repeats TraceParent: Dapr writes its own trace into an event that lacks it. There is no trace state: it comes
	// from clients, who may make it as long as they like.
	TraceID     string `json:"traceid,omitempty"`
	TraceParent string `json:"traceparent,omitempty"`

	// Republished names the reconciliation that published the event again, if one did; see Again.
	Republished string `json:"republished,omitempty"`
}

// New puts payload into an envelope that carries ctx's trace context. Source is left to the journal, which
// knows the service's name.
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
		Time:            time.Now().UTC(),
		DataContentType: "application/json",
		DataSchema:      dataSchema(payload),
		Data:            body,
		TraceID:         trace["traceparent"],
		TraceParent:     trace["traceparent"],
	}, nil
}

// Again is the event as a reconciliation publishes it: under an id of its own, for a broker drops one that it has seen a short
// while ago, and marked, so that consumers count what they did not know (Router).
func (e Event) Again(reconciliation string) Event {
	e.ID += "/reconciled-" + reconciliation
	e.Republished = reconciliation
	return e
}

// dataSchema names a payload's format, for example "urn:boxoffice:order.created:1".
func dataSchema(payload Payload) string {
	return "urn:boxoffice:" + payload.EventType() + ":" + strconv.Itoa(payload.Schema())
}
