package events

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"
)

// deliverBulk posts a bulk of events of a topic to the router as the sidecar does, and returns the status of each entry.
func deliverBulk(t *testing.T, r *Router, topic string, events ...string) map[string]string {
	t.Helper()
	raw := make([]string, len(events))
	for i, event := range events {
		raw[i] = `"` + base64.StdEncoding.EncodeToString([]byte(event)) + `"`
	}
	return deliverEntries(t, r, topic, raw...)
}

// deliverEntries posts a bulk whose events are in the given JSON.
func deliverEntries(t *testing.T, r *Router, topic string, events ...string) map[string]string {
	t.Helper()
	var entries []string
	for i, event := range events {
		entries = append(entries, fmt.Sprintf(`{"entryId":"%d","event":%s,"contentType":"application/octet-stream"}`, i, event))
	}
	mux := chi.NewRouter()
	r.Mount(mux)
	response := httptest.NewRecorder()
	body := `{"id":"1","topic":"` + topic + `","pubsubname":"pubsub","type":"com.dapr.event.sent.bulk","entries":[` + strings.Join(entries, ",") + `]}`
	mux.ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(body)))
	require.Equal(t, http.StatusOK, response.Code)
	var responded struct {
		Statuses []struct{ EntryID, Status string }
	}
	require.NoError(t, json.Unmarshal(response.Body.Bytes(), &responded))
	outcomes := map[string]string{}
	for _, s := range responded.Statuses {
		outcomes[s.EntryID] = s.Status
	}
	return outcomes
}

func TestBulk_EachEventHasItsOwnOutcome(t *testing.T) {
	o := &office{}
	r := newRouterWith(o)
	On(r, func(context.Context, OrderCreated) error { return nil })
	On(r, func(context.Context, OrderCancelled) error { return errors.New("a bug") })
	On(r, func(context.Context, OrderCompleted) error { return fmt.Errorf("%w: of something unknown", ErrRefused) })
	event := func(p Payload) string {
		e, err := New(context.Background(), p)
		require.NoError(t, err)
		return encoded(t, e)
	}
	outcomes := deliverBulk(t, r, ordersTopic,
		event(someOrder()), event(OrderCancelled(someOrder())), event(OrderCompleted(someOrder())), `{"type":"order.created"}`, `"text"`, event(someOrder()))
	require.Equal(t, map[string]string{"0": "SUCCESS", "1": "RETRY", "2": "SUCCESS", "3": "SUCCESS", "4": "SUCCESS", "5": "SUCCESS"}, outcomes)
	require.Len(t, o.taken, 3, "the refused one and the two that cannot be decoded are dead letters")
}

func TestBulk_EventsThatDaprHasDecodedAreTakenAsWell(t *testing.T) {
	o := &office{}
	r := newRouterWith(o)
	var handled []OrderCreated
	On(r, func(_ context.Context, e OrderCreated) error { handled = append(handled, e); return nil })
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	require.Equal(t, map[string]string{"0": "SUCCESS"}, deliverEntries(t, r, ordersTopic, encoded(t, event)))
	require.Len(t, handled, 1)
	require.Empty(t, o.taken)
	require.Equal(t, map[string]string{"0": "SUCCESS"}, deliverEntries(t, r, ordersTopic, `"no event, and no base64"`))
	require.Equal(t, `"no event, and no base64"`, string(o.letter(t).Bytes()))
}

func TestBulk_EventsAreHandledSideBySide(t *testing.T) {
	r := newTestRouter()
	var both sync.WaitGroup
	both.Add(2)
	On(r, func(context.Context, OrderCreated) error {
		both.Done()
		both.Wait() // would wait for ever, were the other not handled meanwhile
		return nil
	})
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	require.Len(t, deliverBulk(t, r, ordersTopic, encoded(t, event), encoded(t, event)), 2)
}

func TestBulk_OneThatCannotBeReadIsAskedForAgain(t *testing.T) {
	mux := chi.NewRouter()
	newTestRouter().Mount(mux)
	response := httptest.NewRecorder()
	mux.ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(`{"entries":[`)))
	require.Equal(t, http.StatusBadRequest, response.Code)
}

func TestMessages_EachIsTakenOrComesAgain(t *testing.T) {
	var took sync.Map
	serve := Messages(slog.New(slog.DiscardHandler), func(_ context.Context, topic string, message []byte) error {
		if string(message) == "bad" {
			return errors.New("no room")
		}
		took.Store(topic+" "+string(message), true)
		return nil
	})
	entry := func(id, message string) string {
		return fmt.Sprintf(`{"entryId":%q,"event":%q}`, id, base64.StdEncoding.EncodeToString([]byte(message)))
	}
	body := `{"topic":"dead.orders","entries":[` + entry("1", "no JSON") + "," + entry("2", "bad") + "," + entry("3", `{"id":"e"}`) + `]}`
	response := httptest.NewRecorder()
	serve(response, httptest.NewRequest(http.MethodPost, "/letters", strings.NewReader(body)))
	require.Equal(t, 200, response.Code)
	require.JSONEq(t, `{"statuses":[{"entryId":"1","status":"SUCCESS"},{"entryId":"2","status":"RETRY"},{"entryId":"3","status":"SUCCESS"}]}`, response.Body.String())
	for _, message := range []string{"no JSON", `{"id":"e"}`} {
		_, taken := took.Load("dead.orders " + message)
		require.True(t, taken, message)
	}
	response = httptest.NewRecorder()
	serve(response, httptest.NewRequest(http.MethodPost, "/letters", strings.NewReader("nonsense")))
	require.Equal(t, 400, response.Code)
}
