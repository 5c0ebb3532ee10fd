package main

import (
	"fmt"
	"time"

	"boxoffice/services/internal/events"
)

// Letter is a dead letter as it is kept.
type Letter struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
	events.DeadLetter
	TakenAt time.Time `json:"takenAt"`

	// Sendings counts how often it was sent again. Begun is the event of the last of them until the broker is known
	// to have it: whoever finds it publishes it, so that a sending is not lost when the command dies in between.
	Sendings int        `json:"sendings"`
	Begun    []byte     `json:"begun,omitempty"`
	SentAt   *time.Time `json:"sentAt,omitempty"`
	Version  int        `json:"version"`
}

// status says where a letter stands.
type status string

const (
	waiting status = "waiting" // for somebody to send it
	sending status = "sending" // the broker is not known to have it yet
	sent    status = "sent"
)

func (l *Letter) status() status {
	switch {
	case l.Begun != nil:
		return sending
	case l.SentAt != nil:
		return sent
	default:
		return waiting
	}
}

// newLetter is a letter that has just come in, on a topic of dead letters.
func newLetter(topic string, body []byte, now time.Time) Letter {
	l := events.ReadDeadLetter(topic, body, now)
	return Letter{Schema: 1, ID: l.ID(), DeadLetter: l, TakenAt: now, Version: 1}
}

// begin makes the event that is to be sent, under an id of its own. A sending that has begun already is the one to
// finish.
func (l *Letter) begin() error {
	if l.Begun != nil {
		return nil
	}
	event, err := l.Renewed(l.Sendings + 1)
	if err != nil {
		return fmt.Errorf("it cannot be sent: %w", err)
	}
	l.Begun = event
	l.Sendings++
	l.Version++
	return nil
}

// retryTopics are where the letter's event is sent again: to the service that could not handle it. Of a bare event of the
// release before nobody knows which one that was, so it goes to all; those that do not handle its type ignore it.
func (l *Letter) retryTopics() []string {
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

// finish notes that the broker has the event.
func (l *Letter) finish(now time.Time) {
	l.Begun = nil
	l.SentAt = &now
	l.Version++
}
