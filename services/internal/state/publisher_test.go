package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/dapr/go-sdk/client"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// topicsTaken is a sidecar that keeps the ids of what is published, by topic, and refuses some of it the first time.
type topicsTaken struct {
	Sidecar
	refuse map[string]bool
	taken  map[string][]string
	calls  int
}

func (s *topicsTaken) PublishEvents(_ context.Context, _, topic string, entries []any, _ ...client.PublishEventsOption) (response client.PublishEventsResponse) {
	s.calls++
	for _, entry := range entries {
		id := entry.(client.PublishEventsEvent).EntryID
		if s.refuse[id] {
			delete(s.refuse, id)
			response.FailedEvents = append(response.FailedEvents, entry)
			response.Error = errors.New("not taken")
			continue
		}
		s.taken[topic] = append(s.taken[topic], id)
	}
	return response
}

func publishedBy(t *testing.T, refuse map[string]bool, types ...string) *topicsTaken {
	t.Helper()
	s := &topicsTaken{refuse: refuse, taken: map[string][]string{}}
	p := newPublisher(s, Options{Log: slog.New(slog.DiscardHandler), Backlog: 100}, newMetrics(prometheus.NewRegistry()))
	var records []record
	for i, eventType := range types {
		r, err := readRecord(fmt.Appendf(nil, `{"id":"%s:%c","type":%q}`, eventType, 'a'+i, eventType))
		require.NoError(t, err)
		records = append(records, r)
	}
	require.NoError(t, p.publishAll(t.Context(), records))
	return s
}

func TestPublisher_PublishesEachEventOnTheTopicOfItsType(t *testing.T) {
	s := publishedBy(t, nil, "order.created", "order.cancelled", "order.completed")
	require.Equal(t, map[string][]string{"events.orders": {"order.created:a", "order.cancelled:b", "order.completed:c"}}, s.taken)
	require.Equal(t, 1, s.calls)

	s = publishedBy(t, nil, "order.created", "ticket.created", "order.cancelled", "payment.voided", "ticket.deleted")
	require.Equal(t, map[string][]string{
		"events.orders":   {"order.created:a", "order.cancelled:c"},
		"events.tickets":  {"ticket.created:b", "ticket.deleted:e"},
		"events.payments": {"payment.voided:d"},
	}, s.taken)
}

func TestPublisher_TriesAgainWhatWasNotTakenAndNothingElse(t *testing.T) {
	s := publishedBy(t, map[string]bool{"ticket.created:b": true, "order.cancelled:c": true}, "order.created", "ticket.created", "order.cancelled", "ticket.deleted")
	require.Equal(t, map[string][]string{
		"events.orders": {"order.created:a", "order.cancelled:c"}, "events.tickets": {"ticket.deleted:d", "ticket.created:b"},
	}, s.taken)
	require.Equal(t, 4, s.calls)
}

func TestOutage_IsOverWhenAllThatWasRefusedIsAccepted(t *testing.T) {
	var out bytes.Buffer
	o := outage{log: slog.New(slog.NewTextHandler(&out, nil))}
	lines := func() int { return strings.Count(out.String(), "\n") }
	o.begin(errors.New("away"), 3)
	o.begin(errors.New("away"), 2)
	require.Equal(t, 1, lines())
	require.Contains(t, out.String(), "events=3")
	o.end(true)
	require.Equal(t, 1, lines(), "another bulk is still refused")
	o.end(true)
	require.Equal(t, 2, lines())
	o.begin(errors.New("away"), 1)
	o.end(false)
	require.Equal(t, 3, lines(), "the process ended before the broker accepted the events")
}
