package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
)

// stream is the broker's stream of events, for tests that look at what was told, or tell it once more. It bears
// a broker that is away for a while.
type stream struct {
	house *house
	js    nats.JetStreamContext
	told  []told
	next  uint64 // the first sequence number that was not read
}

// told is an event as the stream holds it. What cannot be decoded has no id and no type.
type told struct {
	sequence uint64
	events.Event
	raw []byte
}

const eventStream, deadStream = "events", "events-dead"

func (h *house) stream(t testing.TB) *stream {
	t.Helper()
	conn, err := nats.Connect(h.NATSURL(), nats.MaxReconnects(-1), nats.ReconnectWait(pollInterval))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := conn.JetStream(nats.MaxWait(2 * time.Second))
	require.NoError(t, err)
	return &stream{house: h, js: js, next: 1}
}

// read returns everything that was told so far, as far as the broker answers.
func (s *stream) read() []told {
	at, err := s.js.StreamInfo(eventStream)
	for ; err == nil && s.next <= at.State.LastSeq; s.next++ {
		var message *nats.RawStreamMsg
		message, err = s.js.GetMsg(eventStream, s.next)
		switch {
		case errors.Is(err, nats.ErrMsgNotFound): // it was removed
			err = nil
		case err == nil:
			event := told{sequence: message.Sequence, raw: message.Data}
			_ = json.Unmarshal(message.Data, &event.Event)
			s.told = append(s.told, event)
		default:
			return s.told // not read yet
		}
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

// tell puts an event into the stream, under a message id of its own: the broker does not know it for one that it
// has already.
func (s *stream) tell(t testing.TB, raw []byte) {
	t.Helper()
	_, err := s.js.Publish(events.Topic, raw, nats.MsgId(uuid.NewString()))
	require.NoError(t, err)
}

// takeBack removes events from the stream.
func (s *stream) takeBack(t testing.TB, all []told) {
	t.Helper()
	for _, event := range all {
		require.NoError(t, s.js.DeleteMsg(eventStream, event.sequence))
	}
}

// dead is how many events are among the dead letters.
func (s *stream) dead(t testing.TB) uint64 {
	t.Helper()
	at, err := s.js.StreamInfo(deadStream)
	require.NoError(t, err)
	return at.State.Msgs
}

// settled waits until nothing is under way any more: every service has heard all that was told, has nothing left
// to tell, and the bank has nothing left to say.
func (s *stream) settled(t testing.TB) {
	t.Helper()
	eventually(t, "everything has been heard", func() bool {
		before, heard := s.heard()
		if !heard || !s.allTold() {
			return false
		}
		after, heard := s.heard()
		return heard && before == after
	})
}

// heard says whether the services have taken all of the stream, and where it ends.
func (s *stream) heard() (last uint64, all bool) {
	at, err := s.js.StreamInfo(eventStream)
	if err != nil {
		return 0, false
	}
	for consumer := range s.js.Consumers(eventStream) {
		if consumer.NumPending > 0 || consumer.NumAckPending > 0 {
			return 0, false
		}
	}
	return at.State.LastSeq, true
}

// allTold says whether no service that runs has events left in its journal, and the bank none of its webhooks.
func (s *stream) allTold() bool {
	for _, service := range []string{"auth", "tickets", "orders", "payments"} {
		for _, replica := range s.house.Replicas(service) {
			if p := s.house.Process(replica); p != nil && p.PID() != 0 && !s.metricIsZero(replica, "boxoffice_journal_backlog_events") {
				return false
			}
		}
	}
	answer, err := s.house.send(http.MethodGet, s.house.SandboxURL()+"/sandbox/ledger", nil)
	var ledger struct{ Undelivered int }
	return err == nil && json.Unmarshal(answer.body, &ledger) == nil && ledger.Undelivered == 0
}

func (s *stream) metricIsZero(service, name string) bool {
	res, err := s.house.client.Get(s.house.URL(service) + "/metrics")
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return err == nil && strings.Contains(string(body), "\n"+name+" 0\n")
}
