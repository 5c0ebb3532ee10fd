package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/broker"
	"boxoffice/deploy/proof/event"
)

// stream is all that the broker has, for tests that look at what was published, or publish it once more. It bears
// a broker that is away for a while.
type stream struct {
	house  *house
	broker broker.Broker
	told   []told
}

// told is an event as the stream holds it. What cannot be decoded has no id and no type.
type told struct {
	event.Event
	message broker.Message
	raw     []byte
}

func (h *house) stream(t testing.TB) *stream {
	t.Helper()
	b, err := broker.Open(h.Broker())
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return &stream{house: h, broker: b}
}

// answerTime bounds the wait for the broker, which may hang.
const answerTime = 2 * time.Second

// read returns everything that was told so far, as far as the broker answers.
func (s *stream) read() []told {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	var last string
	if len(s.told) > 0 {
		last = s.told[len(s.told)-1].message.Place
	}
	messages, _ := s.broker.Events(ctx, last)
	for _, message := range messages {
		decoded, _ := event.Read(message.Data)
		s.told = append(s.told, told{decoded, message, message.Data})
	}
	return s.told
}

// has says whether an event with that id was told.
func (s *stream) has(id string) bool {
	return slices.ContainsFunc(s.read(), func(e told) bool { return e.ID == id })
}

// holds waits until events with these ids were told.
func (s *stream) holds(t testing.TB, ids ...string) {
	t.Helper()
	for _, id := range ids {
		eventually(t, "the stream holds "+id, func() bool { return s.has(id) })
	}
}

// tell publishes an event on the topic of its type, as one that the broker does not have already.
func (s *stream) tell(t testing.TB, raw []byte) {
	t.Helper()
	e, err := event.Read(raw)
	require.NoError(t, err)
	s.tellOn(t, event.Topic(e.Type), raw)
}

// tellOn publishes whatever it is on a topic.
func (s *stream) tellOn(t testing.TB, topic string, raw []byte) {
	t.Helper()
	require.NoError(t, s.broker.Publish(t.Context(), topic, raw))
}

// sentAgain waits until a service's dead letter was sent again, as an event with that id and the service's name.
func (s *stream) sentAgain(t testing.TB, service, id string) {
	t.Helper()
	eventually(t, id+" was sent again to "+service, func() bool {
		all, err := s.broker.Retries(t.Context())
		return err == nil && slices.ContainsFunc(all, func(m broker.Message) bool {
			e, err := event.Read(m.Data)
			return m.Topic == "retry."+service && err == nil && e.ID == id+"@"+service
		})
	})
}

// takeBack removes events from their topics.
func (s *stream) takeBack(t testing.TB, all []told) {
	t.Helper()
	for _, e := range all {
		require.NoError(t, s.broker.Remove(t.Context(), e.message))
	}
}

// dead is how many events are among the dead letters.
func (s *stream) dead(t testing.TB) uint64 {
	t.Helper()
	state, err := s.broker.State(t.Context())
	require.NoError(t, err)
	return state.Dead
}

// settled waits until nothing is under way any more: every service has heard all that was told, has nothing left
// to tell, and the bank has nothing left to say.
func (s *stream) settled(t testing.TB) {
	t.Helper()
	becomes(t, "", "what is under way", func() string {
		before, unheard := s.heard()
		if unheard != "" {
			return unheard
		}
		if untold := s.untold(); untold != "" {
			return untold
		}
		after, unheard := s.heard()
		if unheard == "" && before != after {
			return "events are told"
		}
		return unheard
	})
}

// heard says where the stream ends, and what the services have not taken of it yet.
func (s *stream) heard() (last, unheard string) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	switch state, err := s.broker.State(ctx); {
	case err != nil:
		return "", "the broker: " + err.Error()
	case state.Waiting > 0:
		return state.Last, fmt.Sprintf("%d deliveries", state.Waiting)
	default:
		return state.Last, ""
	}
}

// untold says which service that runs has events left in its journal, or that the bank has webhooks left.
func (s *stream) untold() string {
	for _, service := range []string{"auth", "tickets", "orders", "payments", "expiration"} {
		for _, replica := range s.house.Replicas(service) {
			if p := s.house.Process(replica); p != nil && p.PID() != 0 {
				if backlog, found := s.house.metric(replica, "boxoffice_journal_backlog_events"); !found || backlog > 0 {
					return "the journal of " + replica
				}
			}
		}
	}
	answer, err := s.house.send(http.MethodGet, s.house.SandboxURL()+"/sandbox/ledger", nil)
	var ledger struct{ Undelivered int }
	if err == nil {
		err = json.Unmarshal(answer.body, &ledger)
	}
	switch {
	case err != nil:
		return "the sandbox: " + err.Error()
	case ledger.Undelivered > 0:
		return fmt.Sprintf("%d webhooks", ledger.Undelivered)
	}
	return ""
}

// metric is the value of a metric without labels that a service's process shows.
func (h *house) metric(process, name string) (value float64, found bool) {
	res, err := h.client.Get(h.AppMetrics(process))
	if err != nil {
		return 0, false
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, false
	}
	_, text, found := strings.Cut(string(body), "\n"+name+" ")
	if !found {
		return 0, false
	}
	text, _, _ = strings.Cut(text, "\n")
	value, err = strconv.ParseFloat(text, 64)
	return value, err == nil
}
