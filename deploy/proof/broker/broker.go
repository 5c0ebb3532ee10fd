// Package broker looks into the broker of a stack, whichever it is: for the checker, and for tests that look at what
// was told, or tell it once more. The services know nothing of it.
package broker

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"boxoffice/deploy/local/stack"
)

// Message is one that a topic of events holds.
type Message struct {
	Topic string
	Place string // how far who has it has read, in all topics
	Data  []byte

	id string // in the broker
}

// State is how far the events have come.
type State struct {
	Last        string // the place of the last event that there ever was; empty if there was none
	Whole       bool   // whether all that were ever published are still there
	Messages    uint64 // that the topics of events hold
	Waiting     uint64 // deliveries that services have not answered for yet
	Delivered   uint64 // deliveries to services so far, repeated ones included
	Redelivered uint64 // deliveries after the first; 0 if the broker does not count them
	Dead        uint64 // dead letters
}

// Broker holds the topics of events, of dead letters and of those that are sent again. A broker that is away is looked for again at the next call.
type Broker interface {
	// Events are those of all topics after a place, oldest first (of several topics on Redis: to the millisecond); "" is
	// before the first.
	Events(ctx context.Context, after string) ([]Message, error)
	State(ctx context.Context) (State, error)
	// Retries are the dead letters that were sent again, in no order.
	Retries(ctx context.Context) ([]Message, error)
	// Publish publishes an event on a topic, as one that it does not have yet.
	Publish(ctx context.Context, topic string, event []byte) error
	// Remove takes an event out of its topic.
	Remove(ctx context.Context, event Message) error
	Close()
}

// Open connects to a broker. The error of one that is not there says so.
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
	return nil, fmt.Errorf("%s: there is no broker that speaks %s", address.Host(), parsed.Scheme)
}

// answerTime bounds the wait for one answer.
const answerTime = 5 * time.Second

// oldDeadTopic is where the release before put dead letters. It is among the topics of events, and holds none.
const oldDeadTopic = "events.dead"
