package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/broker"
	"boxoffice/deploy/proof/event"
)

// mayPublish are the topics on which each service publishes.
var mayPublish = map[string][]string{
	"auth":       {"events.users"},
	"tickets":    {"events.tickets", "dead.tickets"},
	"orders":     {"events.orders", "dead.orders"},
	"payments":   {"events.payments", "dead.payments"},
	"expiration": {"events.expirations", "dead.expiration"},
	"catalogue":  {"events.shows", "dead.catalogue"},
	"gateway":    {},

	"dead-letters": {"retry.tickets", "retry.orders", "retry.payments", "retry.expiration", "retry.catalogue"},
}

func allTopics() []string {
	topics := []string{"events", "events.dead"}
	for _, some := range mayPublish {
		topics = append(topics, some...)
	}
	slices.Sort(topics)
	return topics
}

// publishBySidecar publishes through a service's sidecar, and returns the status of the response.
func (s *testStack) publishBySidecar(t *testing.T, service, topic, event string) int {
	t.Helper()
	return s.request(t, "POST", s.SidecarHTTP(service)+"/v1.0/publish/pubsub/"+topic, event,
		"Content-Type", "application/cloudevents+json", "dapr-api-token", s.SidecarToken(service)).Status
}

func TestTopics_SidecarPublishesOnlyOnItsServicesTopics(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	for service, own := range mayPublish {
		for _, topic := range allTopics() {
			if slices.Contains(own, topic) {
				continue
			}
			want := http.StatusForbidden
			if service == "gateway" {
				want = http.StatusNotFound // its sidecar has no pub/sub component
			}
			require.Equal(t, want, s.publishBySidecar(t, service, topic, `{}`), "%s on %s", service, topic)
		}
	}

	// On its own topic a service can publish events of any type. Subscribers refuse those of types that it does not own.
	buyer, unpaid := s.reserveNew(t, 4200)
	order := event.Order{ID: unpaid.ID, UserID: unpaid.UserID, Status: "complete", Ticket: event.OrderedTicket{ID: unpaid.Ticket.ID}, Sequence: 1000, Version: 1000}
	require.Equal(t, http.StatusNoContent, s.publishBySidecar(t, "tickets", "events.tickets", forged(event.ExpirationOfOne(event.ExpiredOrder{ID: unpaid.ID, ExpiresAt: time.Now()}, 1))))
	require.Equal(t, http.StatusNoContent, s.publishBySidecar(t, "payments", "events.payments", forged(order.Event("order.completed"))))
	for _, id := range []string{"expiration.complete:" + unpaid.ID + ":1", "order.completed:" + unpaid.ID + ":1000"} {
		foreign := s.waitDeadLetter(t, "orders", id)
		require.Equal(t, "foreign", foreign.Code)
		_, stderr, status := s.runDeadLetters(t, "send", foreign.ID)
		require.Equal(t, 1, status)
		require.Contains(t, stderr, "its owner did not publish")
	}
	require.Equal(t, unpaid, buyer.order(t, unpaid.ID))
	require.Equal(t, "reserved", s.ticketBecomes(t, "reserved", unpaid.Ticket.ID).Status)
}

// The broker refuses it, too, to a client with a service's password and no sidecar.
func TestTopics_BrokerRefusesOtherServicesTopics(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	for service, own := range mayPublish {
		refuses := publisherAs(t, s, service)
		for _, topic := range allTopics() {
			require.Equal(t, !slices.Contains(own, topic), refuses(topic), "%s on %s", service, topic)
		}
	}
}

// publisherAs returns a function that publishes on a topic with a service's credentials, and reports whether the broker refused.
func publisherAs(t *testing.T, s *testStack, service string) (refuses func(topic string) bool) {
	t.Helper()
	address := s.BrokerAs(service)
	event := []byte(`{"specversion":"1.0","id":"` + uuid.NewString() + `","source":"test","type":"none.such"}`)
	if s.Set() == stack.SetRedis {
		b, err := broker.Open(address)
		require.NoError(t, err)
		t.Cleanup(b.Close)
		return func(topic string) bool {
			err := b.Publish(t.Context(), topic, event)
			if err != nil {
				require.ErrorContains(t, err, "NOPERM")
			}
			return err != nil
		}
	}
	options := []nats.Option{nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})} // LastError has it earlier
	if address.Authority != "" {
		options = append(options, nats.RootCAs(address.Authority))
	}
	conn, err := nats.Connect(address.URL, options...)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return func(topic string) bool {
		require.NoError(t, conn.Publish(topic, event))
		require.NoError(t, conn.Flush())
		err := conn.LastError() // a refusal arrives before Flush returns, and stays the last error
		return err != nil && strings.Contains(strings.ToLower(err.Error()), fmt.Sprintf("permissions violation for publish to %q", topic))
	}
}
