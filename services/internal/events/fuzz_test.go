package events

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
)

func addEvents(f *testing.F) {
	f.Helper()
	for _, payload := range []Payload{
		someOrder(), OrderCancelled{someOrder().Order}, UserCreated{User{ID: "u", Version: 1}}, TicketCreated{Ticket{ID: "t", Version: 2}},
		PaymentFailed{Payment{ID: "p", Version: 3}}, ExpirationComplete{OrderID: "o", Firing: 1},
		ExpirationComplete{Slot: "1777636800.0", Part: 1, Orders: []ExpiredOrder{{ID: "o"}}},
		DeadLetter{Service: "tickets", Code: Failed, Event: json.RawMessage(`{"id":"x","type":"y"}`)}, DeadLetter{Raw: []byte{0xff}},
	} {
		event, err := New(traced(), payload)
		require.NoError(f, err)
		body, err := json.Marshal(event)
		require.NoError(f, err)
		f.Add(body)
	}
	for _, raw := range []string{
		``, `null`, `{}`, `[]`, `"x"`, `{"type":"order.created"}`, `{"type":"order.created","data":null}`, `{"type":"order.created","data":"e30="}`,
		`{"type":"order.created","data":{"id":"o","version":0}}`, `{"type":"order.created","data":{"id":"o","version":1}}`,
		`{"type":"order.created","dataschema":"urn:boxoffice:order.created:2","data":{"id":"o","version":1}}`,
		`{"type":"order.created","dataschema":"urn:boxoffice:order.created:99999999999999999999","data":{"id":"o","version":1}}`,
		`{"id":7,"type":"order.created","data":{}}`, `{"id":"x","time":"noon"}`, "{\"id\":\"\xff\",\"type\":\"order.created\"}", `{"id":"x"`,
		`{"type":"event.dead","data":{"service":"x"}}`, `{"id":"a","traceparent":"00-x","type":"order.created","data":{"id":"o","version":1}}`,
	} {
		f.Add([]byte(raw))
	}
}

// Whatever is delivered is handled, if it is an event of that type, and else becomes a dead letter that holds it:
// nothing is lost, and nothing is answered with anything but 200.
func FuzzRouter(f *testing.F) {
	addEvents(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) {
			return // it never comes here: sidecars put what is no JSON aside
		}
		o := &office{}
		r := newRouterWith(o)
		var handled []OrderCreated
		On(r, func(_ context.Context, e OrderCreated) error { handled = append(handled, e); return nil })
		require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, string(body)))
		var event Event
		readable := json.Unmarshal(body, &event) == nil
		if readable && event.Type != "order.created" && TopicOf(event.Type) == ordersTopic {
			require.Empty(t, o.taken)
			require.Empty(t, handled, "it is ignored")
			return
		}
		if len(handled) == 0 {
			requireSame(t, body, o.letter(t).Bytes())
			if readable && event.Type != "order.created" {
				require.Equal(t, Foreign, o.letter(t).Code)
			} else {
				require.Equal(t, Undecodable, o.letter(t).Code)
			}
			return
		}
		require.Len(t, handled, 1)
		require.Empty(t, o.taken)
		require.NotEmpty(t, handled[0].ID)
		require.Positive(t, handled[0].Version)
		require.Equal(t, "order.created", event.Type)

		again, err := New(context.Background(), handled[0])
		if err != nil {
			return // a time that JSON cannot write
		}
		require.Equal(t, "SUCCESS", deliver(t, r, ordersTopic, encoded(t, again)))
		require.Len(t, handled, 2, "an event that was decoded is encoded as it was")
		require.True(t, handled[0].ExpiresAt.Equal(handled[1].ExpiresAt.Time))
		require.True(t, handled[0].CreatedAt.Equal(handled[1].CreatedAt.Time))
		require.True(t, handled[0].UpdatedAt.Equal(handled[1].UpdatedAt.Time))
		for i := range handled {
			handled[i].ExpiresAt, handled[i].CreatedAt, handled[i].UpdatedAt = clock.Timestamp{}, clock.Timestamp{}, clock.Timestamp{}
		}
		require.Equal(t, handled[0], handled[1])
	})
}

// requireSame compares what was delivered with what is kept: byte by byte, or as JSON, which may be spaced and
// escaped in another way.
func requireSame(t *testing.T, want, got []byte) {
	t.Helper()
	if !json.Valid(want) {
		require.True(t, bytes.Equal(want, got), "%q became %q", want, got)
		return
	}
	require.Equal(t, canonical(t, want), canonical(t, got))
}

func canonical(t *testing.T, body []byte) string {
	t.Helper()
	var value any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&value))
	out, err := json.Marshal(value)
	require.NoError(t, err)
	return string(out)
}

// Whatever lies among the dead letters can be read, named, and sent again if it is an event at all.
func FuzzReadDeadLetter(f *testing.F) {
	addEvents(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		letter := ReadDeadLetter(deadLetterTopic("tickets"), body, time.Unix(1, 0).UTC())
		require.NotEmpty(t, letter.ID())
		require.Equal(t, letter.ID(), ReadDeadLetter(deadLetterTopic("tickets"), body, time.Unix(2, 0).UTC()).ID(), "one letter has one id")
		again, err := letter.Renewed(1)
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(letter.Bytes(), &before))
		require.NoError(t, json.Unmarshal(again, &after))
		require.JSONEq(t, canonical(t, mustMarshal(t, letter.name()+"/again-1@tickets")), string(after["id"]))
		before["id"], after["id"] = nil, nil
		require.Equal(t, canonical(t, mustMarshal(t, before)), canonical(t, mustMarshal(t, after)))
	})
}

func mustMarshal(t *testing.T, value any) []byte {
	t.Helper()
	body, err := json.Marshal(value)
	require.NoError(t, err)
	return body
}

// Each event of a bulk has its own outcome: it was handled, or the broker has its letter. A bulk that cannot be read is
// refused before any of it is handled.
func FuzzBulk(f *testing.F) {
	event, err := New(traced(), someOrder())
	require.NoError(f, err)
	good, err := json.Marshal(event)
	require.NoError(f, err)
	for _, raw := range []string{
		`{"topic":"events.orders","entries":[{"entryId":"1","event":` + string(good) + `},{"entryId":"2","event":{}}]}`, `{"entries":[{"entryId":"1","event":` + string(good) + `}]}`, `{"entries":[{"entryId":"1","event":` + string(good) + `}]} and more`,
		`{"entries":[{"entryId":"1"}]}`, `{"entries":[{"event":null}]}`, `{"entries":[null,{"entryId":"","event":"e30="}]}`, `{"entries":[]}`, `{"entries":null}`, `{}`, `null`,
		`[]`, `{"entries":{}}`, `{"entries":[{"entryId":7}]}`, `{"entries":[{"entryId":"1","event":{"type":"user.created"}}]`, ``, "\xff",
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var mu sync.Mutex
		var letters [][]byte
		handled := 0
		r := newRouterWith(&office{})
		r.opts.Publish = func(_ context.Context, _ string, letter []byte) error {
			mu.Lock()
			defer mu.Unlock()
			letters = append(letters, ReadDeadLetter(deadLetterTopic("tickets"), letter, time.Time{}).Bytes())
			return nil
		}
		On(r, func(context.Context, OrderCreated) error {
			mu.Lock()
			defer mu.Unlock()
			handled++
			return nil
		})
		mux := chi.NewRouter()
		r.Mount(mux)
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/events", bytes.NewReader(body)))
		if answer.Code == http.StatusBadRequest {
			require.Zero(t, handled+len(letters))
			return
		}
		require.Equal(t, http.StatusOK, answer.Code)
		var outcomes bulkOutcome
		require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &outcomes))
		for _, entry := range outcomes.Statuses {
			require.Equal(t, "SUCCESS", entry.Status)
		}
		require.GreaterOrEqual(t, len(outcomes.Statuses), handled+len(letters), "every event was handled, has its letter, or is ignored")
	})
}
