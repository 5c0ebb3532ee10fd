package events

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Code says why an event was given up.
type Code string

const (
	// Undecodable events are not what their type says; no service will ever read them.
	Undecodable Code = "undecodable"
	// Foreign events came on a topic that is not that of their type: nobody knows who published them.
	Foreign Code = "foreign"
	// Refused events were understood, and can never be applied.
	Refused Code = "refused"
	// Failed events were tried several times, and each time their handler failed.
	Failed Code = "failed"
	// GivenUp events come from a service's sidecar, which could not deliver them and does not say why.
	GivenUp Code = "given up"
)

// DeadLetter is a dead letter: an event that a service has given up, with why, when and where. It travels on
// the service's DeadLetterTopic, in an envelope of its own.
type DeadLetter struct {
	Service      string    `json:"service"`
	Instance     string    `json:"instance"`
	Code         Code      `json:"code"`
	Reason       string    `json:"reason"` // the last error, in words
	Attempts     int       `json:"attempts"`
	FirstFailure time.Time `json:"firstFailure"`
	LastFailure  time.Time `json:"lastFailure"`

	EventID   string `json:"eventId,omitempty"` // its id and type, as far as they can be read
	EventKind string `json:"eventType,omitempty"`
	// Event is the event whole, as it was delivered. What is no JSON is in Raw instead.
	Event json.RawMessage `json:"event,omitempty"`
	Raw   []byte          `json:"raw,omitempty"`
}

// deadLetterType is the CloudEvents type of an envelope that holds a DeadLetter.
const deadLetterType = "event.dead"

// EventType implements Payload.
func (DeadLetter) EventType() string { return deadLetterType }

// Schema implements Payload.
func (DeadLetter) Schema() int { return 1 }

// Aggregate implements Payload. It names the service and the event: the same letter sent twice is one, and two
// services' letters of one event are two.
func (l DeadLetter) Aggregate() (string, int) { return l.Service + ":" + l.name(), 1 }

// name is the event's id, or what stands for it when it cannot be read.
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

// hold puts the event into the letter, and reads of it what can be read.
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
	_ = json.Unmarshal(body, &envelope) // no object: nothing to read
	l.EventID, _ = envelope.ID.(string)
	l.EventKind, _ = envelope.Type.(string)
}

// ReadDeadLetter reads a message of a topic of dead letters: a DeadLetter, or the bare event that a sidecar put there, which was
// first seen now. Whose it is the topic says, on which that service alone can publish, whatever the letter says. Only on
// OldDeadLetterTopic the letter counts, and a bare event is nobody's.
func ReadDeadLetter(topic string, body []byte, now time.Time) DeadLetter {
	var event Event
	var letter DeadLetter
	if json.Unmarshal(body, &event) != nil || decode(event, DeadLetter{}, &letter) != nil {
		letter = DeadLetter{
			Code:         GivenUp,
			Reason:       "given up by a sidecar: it could not deliver the event to its service",
			FirstFailure: now,
			LastFailure:  now,
		}
		letter.hold(body)
	}
	if service, found := strings.CutPrefix(topic, DeadLetterTopic("")); found {
		letter.Service = service
	}
	return letter
}

// Renewed is the letter's event under a new id, for the broker drops an id that it has seen a short while ago, and several
// services may have letters of one event; sending counts from 1. An error says why this cannot be sent.
func (l DeadLetter) Renewed(sending int) ([]byte, error) {
	if l.Code == Foreign {
		return nil, fmt.Errorf("letter %s holds an event that its owner did not publish: no service may handle it", l.ID())
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(l.Bytes(), &members); err != nil || members == nil {
		return nil, fmt.Errorf("letter %s holds no event (a CloudEvent is a JSON object): nobody could read it", l.ID())
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
