package main

import (
	"encoding/json"
	"fmt"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
)

// deadLetterSchema is the format of the dead letters that this release stores.
const deadLetterSchema = 1

// DeadLetter is a dead letter as it is stored.
type DeadLetter struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
	Failure
	StoredAt time.Time `json:"takenAt"`

	// Sendings counts how often it was sent again. Begun is the event of the current sending, until the broker has it. If the command
	// ends before that, the next one publishes the event, so that no sending is lost.
	Sendings int        `json:"sendings"`
	Begun    []byte     `json:"begun,omitempty"`
	SentAt   *time.Time `json:"sentAt,omitempty"`
	Version  int        `json:"version"`
}

// Failure is what the service published about the event that it could not handle: an events.DeadLetter, as it is stored.
type Failure struct {
	Service      string      `json:"service"`
	Instance     string      `json:"instance"`
	Code         events.Code `json:"code"`
	Reason       string      `json:"reason"`
	Attempts     int         `json:"attempts"`
	FirstFailure time.Time   `json:"firstFailure"`
	LastFailure  time.Time   `json:"lastFailure"`

	EventID   string          `json:"eventId,omitempty"`
	EventKind string          `json:"eventType,omitempty"`
	Event     json.RawMessage `json:"event,omitempty"`
	Raw       []byte          `json:"raw,omitempty"` // instead of Event, if it is not JSON
}

func (f Failure) published() events.DeadLetter {
	return events.DeadLetter{
		Service: f.Service, Instance: f.Instance, Code: f.Code, Reason: f.Reason, Attempts: f.Attempts,
		FirstFailure: clock.Stamp(f.FirstFailure), LastFailure: clock.Stamp(f.LastFailure),
		EventID: f.EventID, EventKind: f.EventKind, Event: f.Event, Raw: f.Raw,
	}
}

func failureOf(l events.DeadLetter) Failure {
	return Failure{
		Service: l.Service, Instance: l.Instance, Code: l.Code, Reason: l.Reason, Attempts: l.Attempts,
		FirstFailure: l.FirstFailure.Time, LastFailure: l.LastFailure.Time,
		EventID: l.EventID, EventKind: l.EventKind, Event: l.Event, Raw: l.Raw,
	}
}

// Status is where a dead letter is in its life.
type Status string

const (
	Waiting Status = "waiting" // to be sent again
	Sending Status = "sending" // the broker may not have the event yet
	Sent    Status = "sent"
)

// Status returns where the dead letter is in its life: waiting, then sending, then sent. A sent one may be sent again.
func (l DeadLetter) Status() Status {
	switch {
	case l.Begun != nil:
		return Sending
	case l.SentAt != nil:
		return Sent
	default:
		return Waiting
	}
}

// newDeadLetter reads a message of a topic of dead letters.
func newDeadLetter(topic string, message []byte, now time.Time) DeadLetter {
	published := events.ReadDeadLetter(topic, message, now)
	return DeadLetter{Schema: deadLetterSchema, ID: published.ID(), Failure: failureOf(published), StoredAt: now, Version: 1}
}

// BeginSending makes the event that is published again, with a new id. It changes nothing if a sending has begun already.
func (l *DeadLetter) BeginSending() error {
	if l.Begun != nil {
		return nil
	}
	event, err := l.published().Renewed(l.Sendings + 1)
	if err != nil {
		return fmt.Errorf("it cannot be sent: %w", err)
	}
	l.Begun = event
	l.Sendings++
	l.Version++
	return nil
}

// RetryTopics are the topics on which the event is published again: that of the service that could not handle it. A message of the
// topic of an earlier release does not name the service. Its event goes to all services, and those that do not handle its type ignore
// it.
func (l *DeadLetter) RetryTopics() []string {
	services := []string{l.Service}
	if l.Service == "" {
		services = events.Subscribers
	}
	topics := make([]string, len(services))
	for i, service := range services {
		topics[i] = events.RetryTopic(service)
	}
	return topics
}

// FinishSending marks the sending as published. It changes nothing if this sending was finished already.
func (l *DeadLetter) FinishSending(sending int, now time.Time) {
	if l.Begun == nil || l.Sendings != sending {
		return
	}
	l.Begun = nil
	l.SentAt = &now
	l.Version++
}
