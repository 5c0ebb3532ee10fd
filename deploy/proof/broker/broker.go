// Package broker reads the broker of a stack, NATS or Redis, for the checker and for tests. Tests also publish and remove
// events. The services do not use it.
package broker

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"boxoffice/deploy/local/stack"
)

// Message is one message of a topic.
type Message struct {
	Topic string
	Place string // in all topics of its kind: reading may continue after it
	Data  []byte

	id string // in the broker
}

// State is how far the events have been delivered.
type State struct {
	Last        string // the place of the newest event that was ever published; empty if there was none
	Complete    bool   // whether the broker still has all events since the first
	Messages    uint64 // in the topics of events
	Waiting     uint64 // deliveries that services have not acknowledged
	Delivered   uint64 // deliveries to services so far, including redeliveries
	Redelivered uint64 // deliveries after the first; 0 if the broker does not count them
	Dead        uint64 // dead letters
}

// Broker reads the topics of events, of dead letters (dead.SERVICE), and of dead letters that were sent again
// (retry.SERVICE). If the connection is lost, the next call connects again.
type Broker interface {
	// Events are the events of all topics after a place, oldest first (of several topics on Redis: to the millisecond). ""
	// is the place before the first.
	Events(ctx context.Context, after string) ([]Message, error)
	State(ctx context.Context) (State, error)
	// DeadLetters are all dead letters, in no order. The broker keeps them for 30 days, also if they were sent again.
	DeadLetters(ctx context.Context) ([]Message, error)
	// Retries are the dead letters that were sent again, in no order.
	Retries(ctx context.Context) ([]Message, error)
	// Publish publishes an event on a topic under a new message id, so that the broker does not drop it as a duplicate.
	Publish(ctx context.Context, topic string, event []byte) error
	// Remove deletes an event from its topic.
	Remove(ctx context.Context, event Message) error
	Close()
}

// Open connects to a broker. It fails if the broker does not answer.
func Open(address stack.BrokerAddress) (Broker, error) {
	parsed, err := url.Parse(address.URL)
	if err != nil {
		return nil, fmt.Errorf("the broker's address: %w", err)
	}
	switch parsed.Scheme {
	case "nats", "tls":
		return openNATS(address)
	case "redis", "rediss":
		return openRedis(parsed, address.Authority)
	}
	return nil, fmt.Errorf("%s: no broker has the scheme %s", address.Host(), parsed.Scheme)
}

// answerTime limits the wait for one answer.
const answerTime = 5 * time.Second

// oldDeadTopic had the dead letters of the previous release. It is among the topics of events, and has no messages now.
const oldDeadTopic = "events.dead"
