package e2e

import (
	"bytes"
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
	"gateway":    {},

	"dead-letters": {"retry.tickets", "retry.orders", "retry.payments", "retry.expiration"},
}

func allTopics() []string {
	topics := []string{"events", "events.dead"}
	for _, some := range mayPublish {
		topics = append(topics, some...)
	}
	slices.Sort(topics)
	return topics
}

// publishBySidecar asks a service's sidecar to publish, and returns the status of its response.
func (h *house) publishBySidecar(t *testing.T, service, topic, event string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, h.SidecarHTTP(service)+"/v1.0/publish/pubsub/"+topic, bytes.NewReader([]byte(event)))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("dapr-api-token", h.APIToken(service))
	res, err := h.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode
}

func TestTopics_ASidecarPublishesItsOwnServicesAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{})
	for service, own := range mayPublish {
		for _, topic := range allTopics() {
			if slices.Contains(own, topic) {
				continue
			}
			want := http.StatusForbidden
			if service == "gateway" {
				want = http.StatusNotFound // its sidecar knows no broker
			}
			require.Equal(t, want, h.publishBySidecar(t, service, topic, `{}`), "%s on %s", service, topic)
		}
	}

	// On its own topic a service can publish what it wants, and is believed in what is its own.
	buyer, unpaid := h.orderOf(t, 4200)
	order := event.Order{ID: unpaid.ID, UserID: unpaid.UserID, Status: "complete", Ticket: event.OrderedTicket{ID: unpaid.Ticket.ID}, Sequence: 1000, Version: 1000}
	require.Equal(t, http.StatusNoContent, h.publishBySidecar(t, "tickets", "events.tickets", forged(event.ExpirationOfOne(event.ExpiredOrder{ID: unpaid.ID, ExpiresAt: time.Now()}, 1))))
	require.Equal(t, http.StatusNoContent, h.publishBySidecar(t, "payments", "events.payments", forged(order.Event("order.completed"))))
	for _, id := range []string{"expiration.complete:" + unpaid.ID + ":1", "order.completed:" + unpaid.ID + ":1000"} {
		foreign := h.letterOf(t, "orders", id)
		require.Equal(t, "foreign", foreign.Code)
		_, problems, status := h.deadLetters(t, "send", foreign.ID)
		require.Equal(t, 1, status)
		require.Contains(t, problems, "its owner did not publish")
	}
	require.Equal(t, unpaid, buyer.order(t, unpaid.ID))
	require.Equal(t, "reserved", h.ticketBecomes(t, "reserved", unpaid.Ticket.ID).Status)
}

// The broker refuses it, too, to whoever has a service's password and no sidecar.
func TestTopics_TheBrokerKnowsWhoMayPublish(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{})
	for service, own := range mayPublish {
		refuses := publisherAs(t, h, service)
		for _, topic := range allTopics() {
			require.Equal(t, !slices.Contains(own, topic), refuses(topic), "%s on %s", service, topic)
		}
	}
}

// publisherAs publishes on a topic with a service's own credentials, and says whether the broker refused.
func publisherAs(t *testing.T, h *house, service string) (refuses func(topic string) bool) {
	t.Helper()
	address := h.BrokerAs(service)
	event := []byte(`{"specversion":"1.0","id":"` + uuid.NewString() + `","source":"test","type":"none.such"}`)
	if h.Set() == stack.SetRedis {
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
	denied := make(chan error, 100)
	options := []nats.Option{nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })}
	if address.Authority != "" {
		options = append(options, nats.RootCAs(address.Authority))
	}
	conn, err := nats.Connect(address.URL, options...)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return func(topic string) bool {
		require.NoError(t, conn.Publish(topic, event))
		require.NoError(t, conn.Flush())
		select {
		case err := <-denied:
			require.ErrorContains(t, err, strings.ToLower("permissions violation"))
			return true
		case <-time.After(50 * time.Millisecond): // a refusal comes before the answer to Flush
			return false
		}
	}
}
