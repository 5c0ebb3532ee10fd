package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/broker"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/event"
	"boxoffice/deploy/stripe/sandbox"
)

// eventStream reads and publishes events at the stack's broker, past the sidecars. The broker may be down for a while.
type eventStream struct {
	stack  *testStack
	broker broker.Broker
	events []publishedEvent // as far as they were read
}

// publishedEvent is an event as the broker has it. What cannot be decoded has no id and no type.
type publishedEvent struct {
	event.Event
	message broker.Message
	raw     []byte
}

// stream opens the stack's event stream.
func (s *testStack) stream(t testing.TB) *eventStream {
	t.Helper()
	b, err := broker.Open(s.Broker())
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return &eventStream{stack: s, broker: b}
}

// brokerTimeout bounds one call to the broker, which may hang.
const brokerTimeout = 2 * time.Second

// read returns all events that were published so far. If the broker does not respond, some are missing.
func (es *eventStream) read() []publishedEvent {
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	var last string
	if len(es.events) > 0 {
		last = es.events[len(es.events)-1].message.Place
	}
	messages, _ := es.broker.Events(ctx, last)
	for _, message := range messages {
		decoded, _ := event.Read(message.Data)
		es.events = append(es.events, publishedEvent{decoded, message, message.Data})
	}
	return es.events
}

// has reports whether an event with that id was published.
func (es *eventStream) has(id string) bool {
	return slices.ContainsFunc(es.read(), func(e publishedEvent) bool { return e.ID == id })
}

// waitFor waits until events with these ids were published.
func (es *eventStream) waitFor(t testing.TB, ids ...string) {
	t.Helper()
	for _, id := range ids {
		eventually(t, id+" is published", func() bool { return es.has(id) })
	}
}

// publish publishes an event on the topic of its type. The broker takes it also if it has an event with that id.
func (es *eventStream) publish(t testing.TB, raw []byte) {
	t.Helper()
	e, err := event.Read(raw)
	require.NoError(t, err)
	es.publishOn(t, event.Topic(e.Type), raw)
}

// publishOn publishes any bytes on a topic.
func (es *eventStream) publishOn(t testing.TB, topic string, raw []byte) {
	t.Helper()
	require.NoError(t, es.broker.Publish(t.Context(), topic, raw))
}

// publishRefund publishes a refund, as the payments service does.
func (es *eventStream) publishRefund(t *testing.T, p client.Payment, buyer string, refunded int64) {
	t.Helper()
	refund := event.Payment{
		ID: p.ID, OrderID: p.OrderID, UserID: buyer, StripeID: p.StripeID, Status: "captured",
		Amount: p.Amount, Refunded: refunded, Currency: p.Currency, Version: 1000 + int(refunded), CreatedAt: p.CreatedAt, UpdatedAt: time.Now(),
	}
	es.publish(t, refund.Event("payment.refunded").JSON())
}

// waitSentAgain waits until a service's dead letter was sent again. id is the new event's id without the service's name.
func (es *eventStream) waitSentAgain(t testing.TB, service, id string) {
	t.Helper()
	eventually(t, id+" is sent again to "+service, func() bool {
		all, err := es.broker.Retries(t.Context())
		return err == nil && slices.ContainsFunc(all, func(m broker.Message) bool {
			e, err := event.Read(m.Data)
			return m.Topic == "retry."+service && err == nil && e.ID == id+"@"+service
		})
	})
}

// remove removes events from the broker.
func (es *eventStream) remove(t testing.TB, events []publishedEvent) {
	t.Helper()
	for _, e := range events {
		require.NoError(t, es.broker.Remove(t.Context(), e.message))
	}
}

// deadLetterCount is how many dead letters the broker has.
func (es *eventStream) deadLetterCount(t testing.TB) uint64 {
	t.Helper()
	state, err := es.broker.State(t.Context())
	require.NoError(t, err)
	return state.Dead
}

// waitIdle waits until all events are published and handled, and all webhooks are delivered.
func (es *eventStream) waitIdle(t testing.TB) {
	t.Helper()
	eventuallyEqual(t, "", "what is not done", func() string {
		before, undelivered := es.deliveries()
		if undelivered != "" {
			return undelivered
		}
		if unpublished := es.unpublished(t); unpublished != "" {
			return unpublished
		}
		after, undelivered := es.deliveries()
		if undelivered == "" && before != after {
			return "new events"
		}
		return undelivered
	})
}

// deliveries returns where the stream ends, and what the services have not handled yet.
func (es *eventStream) deliveries() (last, undelivered string) {
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	switch state, err := es.broker.State(ctx); {
	case err != nil:
		return "", "the broker: " + err.Error()
	case state.Waiting > 0:
		return state.Last, fmt.Sprintf("%d deliveries", state.Waiting)
	default:
		return state.Last, ""
	}
}

// unpublished names a running service with events in its journal, or the webhooks that the sandbox has yet to deliver.
func (es *eventStream) unpublished(t testing.TB) string {
	t.Helper()
	for _, service := range []string{"auth", "tickets", "orders", "payments", "expiration", "catalogue"} {
		for _, replica := range es.stack.Replicas(service) {
			if p := es.stack.Process(replica); p != nil && p.PID() != 0 {
				if backlog, found := es.stack.metric(t, replica, "boxoffice_journal_backlog_events"); !found || backlog > 0 {
					return "the journal of " + replica
				}
			}
		}
	}
	ledger, err := client.Decode[sandbox.Ledger](es.stack.try(t.Context(), newRequest("GET", es.stack.SandboxURL()+"/sandbox/ledger", nil)))
	switch {
	case err != nil:
		return "the sandbox: " + err.Error()
	case ledger.Undelivered > 0:
		return fmt.Sprintf("%d webhooks", ledger.Undelivered)
	}
	return ""
}

// metric reads a metric without labels of a service's process.
func (s *testStack) metric(t testing.TB, process, name string) (value float64, found bool) {
	t.Helper()
	_, text, found := strings.Cut(s.metrics(t, process), "\n"+name+" ")
	if !found {
		return 0, false
	}
	text, _, _ = strings.Cut(text, "\n")
	value, err := strconv.ParseFloat(text, 64)
	return value, err == nil
}
