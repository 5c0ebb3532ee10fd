package events

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"boxoffice/services/internal/clock"
)

// Code is the reason why an event became a dead letter.
type Code string

const (
	// Undecodable events do not have the format of their type. No service will ever be able to decode them.
	Undecodable Code = "undecodable"
	// Foreign events came on a topic that is not that of their type, so that their publisher is unknown.
	Foreign Code = "foreign"
	// Refused events were decoded, and can never be applied.
	Refused Code = "refused"
	// Failed events were delivered several times, and their handler failed each time.
	Failed Code = "failed"
	// GivenUp events come from a service's sidecar, which could not deliver them and gives no reason.
	GivenUp Code = "given up"
)

// DeadLetter is an event that a service could not handle, with the reason, the times and the process. It is published on the
// service's topic for dead letters, in its own envelope.
type DeadLetter struct {
	// The service that could not handle the event. Readers take it from the topic, where only that service can publish.
	Service string `json:"service"`
	// Instance is the process: its host and port, or its pod.
	Instance string `json:"instance"`
	// Code is the kind of the reason.
	Code Code `json:"code"`
	// Reason is the text of the last error.
	Reason string `json:"reason"`
	// Attempts is how many deliveries to this process have failed.
	Attempts int `json:"attempts" jsonschema:"minimum=0"`
	// FirstFailure is when the first of them failed.
	FirstFailure clock.Timestamp `json:"firstFailure"`
	// LastFailure is when the last of them failed.
	LastFailure clock.Timestamp `json:"lastFailure"`

	// EventID is the event's id. It is absent if it cannot be decoded.
	EventID string `json:"eventId,omitempty"`
	// EventKind is the event's type. It is absent if it cannot be decoded.
	EventKind string `json:"eventType,omitempty"`
	// The whole event as it was delivered. It is absent if that is not JSON.
	Event json.RawMessage `json:"event,omitempty"`
	// Raw is what was delivered, in base64, if it is not JSON.
	Raw []byte `json:"raw,omitempty"`
}

// deadLetterType is the CloudEvents type of an envelope that holds a DeadLetter.
const deadLetterType = "event.dead"

// EventType implements Payload.
func (DeadLetter) EventType() string { return deadLetterType }

// Schema implements Payload.
func (DeadLetter) Schema() int { return 1 }

// Aggregate implements Payload. The id consists of the service and the event: the same letter published twice is one letter,
// and the letters of two services about one event are two.
func (l DeadLetter) Aggregate() (string, int) { return l.Service + ":" + l.name(), 1 }

// name is the event's id, or a hash of the event if it has no readable id.
func (l DeadLetter) name() string {
	if l.EventID != "" {
		return l.EventID
	}
	sum := sha256.Sum256(l.Bytes())
	return "sha256-" + hex.EncodeToString(sum[:12])
}

// ID is short, for people to type, and the same for every copy of the letter.
func (l DeadLetter) ID() string {
	id, _ := l.Aggregate()
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:6])
}

// Bytes are the event as it was delivered.
func (l DeadLetter) Bytes() []byte {
	if l.Event != nil {
		return l.Event
	}
	return l.Raw
}

// hold puts the event into the letter, with its id and type as far as they can be decoded.
func (l *DeadLetter) hold(body []byte) {
	if !json.Valid(body) {
		l.Raw = body
		return
	}
	l.Event = body
	var envelope struct {
		ID   any `json:"id"`
		Type any `json:"type"`
	}
	_ = json.Unmarshal(body, &envelope) // not an object: no id and no type
	l.EventID, _ = envelope.ID.(string)
	l.EventKind, _ = envelope.Type.(string)
}

// ReadDeadLetter decodes a message of a dead-letter topic: a DeadLetter, or the bare event that a sidecar published there. The
// topic determines the letter's service, because only that service can publish on it; the letter's own member does not
// count. On OldDeadLetterTopic the member counts, and a bare event has no service.
func ReadDeadLetter(topic string, body []byte, now time.Time) DeadLetter {
	var event Event
	var letter DeadLetter
	if json.Unmarshal(body, &event) != nil || decode(event, DeadLetter{}, &letter) != nil {
		letter = DeadLetter{
			Code:         GivenUp,
			Reason:       "given up by a sidecar: it could not deliver the event to its service",
			FirstFailure: clock.Stamp(now),
			LastFailure:  clock.Stamp(now),
		}
		letter.hold(body)
	}
	if service, found := strings.CutPrefix(topic, deadLetterTopic("")); found {
		letter.Service = service
	}
	return letter
}

// Renewed returns the letter's event under a new id, because the broker drops an id that it has seen shortly before, and
// several services may have letters about one event. sending counts from 1. It fails if no service could handle the event.
func (l DeadLetter) Renewed(sending int) ([]byte, error) {
	if l.Code == Foreign {
		return nil, fmt.Errorf("letter %s holds an event that its owner did not publish: no service may handle it", l.ID())
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(l.Bytes(), &members); err != nil || members == nil {
		return nil, fmt.Errorf("letter %s holds no event (a CloudEvent is a JSON object): no service could decode it", l.ID())
	}
	renewed := fmt.Sprintf("%s/again-%d", l.name(), sending)
	if l.Service != "" {
		renewed += "@" + l.Service
	}
	id, err := json.Marshal(renewed)
	if err != nil {
		return nil, err
	}
	members["id"] = id
	return json.Marshal(members)
}
