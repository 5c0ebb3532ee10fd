package check

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/broker"
	"boxoffice/deploy/proof/client"
)

// readerOf reads from a sidecar that has these documents.
func readerOf(t *testing.T, documents map[string]string) *reader {
	t.Helper()
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Keys []string `json:"keys"`
		}
		if r.URL.Path != "/v1.0/state/state/bulk" || json.NewDecoder(r.Body).Decode(&request) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		items := []map[string]any{}
		for _, key := range request.Keys {
			item := map[string]any{"key": key}
			if document, exists := documents[key]; exists {
				item["data"] = json.RawMessage(document)
			}
			items = append(items, item)
		}
		_ = json.NewEncoder(w).Encode(items)
	}))
	t.Cleanup(sidecar.Close)
	return &reader{target: Target{Sidecars: map[string][]string{"orders": {sidecar.URL}}}, api: client.New("", client.Options{})}
}

func TestIndexes_AreReadInAllPartitions(t *testing.T) {
	r := readerOf(t, map[string]string{
		"journal/registry":       `{"schema": 1, "partitions": 2, "writers": []}`,
		"index/orders/ada":       `{"schema": 1, "number": 2, "ids": ["of the previous release"]}`,
		"index/orders/ada/1":     `{"schema": 1, "number": 1, "ids": ["full page of the previous release"]}`,
		"index/orders/ada@0":     `{"schema": 1, "number": 3, "ids": ["five"]}`,
		"index/orders/ada@0/1":   `{"schema": 1, "number": 1, "ids": ["one", "two"]}`,
		"index/orders/ada@0/2":   `{"schema": 1, "number": 2, "ids": ["three", "four"]}`,
		"index/orders/ada@2":     `{"schema": 1, "number": 1, "ids": ["of a partition that does not exist"]}`,
		"index/orders/grace@1":   `{"schema": 1, "number": 1, "ids": ["six"]}`,
		"index/orders/edsger@1":  `{"schema": 1, "number": 1, "ids": ["of another buyer"]}`,
		"index/orders/grace@1/1": `{"schema": 1, "number": 1, "ids": ["before the only page"]}`,
	})
	ids, err := r.indexes(t.Context(), "orders", []string{"orders/ada", "orders/grace"})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"of the previous release", "full page of the previous release", "one", "two", "three", "four", "five", "six"}, ids)
}

func TestIndexes_OfThePreviousReleaseHaveNoPartitions(t *testing.T) {
	r := readerOf(t, map[string]string{"index/orders/ada": `{"schema": 1, "number": 1, "ids": ["one"]}`})
	ids, err := r.indexes(t.Context(), "orders", []string{"orders/ada"})
	require.NoError(t, err)
	require.Equal(t, []string{"one"}, ids)
}

func TestDeadLetters_ThatWereSentAgainAreRecognized(t *testing.T) {
	envelope := func(service, event string) broker.Message {
		return broker.Message{Topic: "dead." + service, Data: []byte(`{"id": "event.dead:` + service + `:` + event + `:1", "type": "event.dead", "data": {}}`)}
	}
	event := func(topic, id string) broker.Message {
		return broker.Message{Topic: topic, Data: []byte(`{"id": "` + id + `", "type": "order.created"}`)}
	}
	resent := resentLetters([]broker.Message{
		event("retry.tickets", "order.created:a:1/again-1@tickets"),
		event("retry.payments", "order.created:b:1/again-12"),
		event("retry.payments", "order.created:c:1/again-1@payments/again-2@payments"),
		event("retry.payments", "order.created:d:1"),
		{Topic: "retry.payments", Data: []byte("not an event")},
	})
	for _, c := range []struct {
		name   string
		letter broker.Message
		resent bool
	}{
		{"of a service", envelope("tickets", "order.created:a:1"), true},
		{"of a sidecar", event("dead.payments", "order.created:b:1"), true},
		{"of another service", envelope("payments", "order.created:a:1"), false},
		{"of another event", envelope("tickets", "order.created:b:1"), false},
		{"that failed again", envelope("tickets", "order.created:a:1/again-1@tickets"), false},
		{"that failed again and was sent again", envelope("payments", "order.created:c:1/again-1@payments"), true},
		{"whose retry has no number", event("dead.payments", "order.created:d:1"), false},
		{"that is no event", broker.Message{Topic: "dead.payments", Data: []byte("not an event")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.resent, resent[deadLetterIn(c.letter)])
		})
	}
}

func TestReadList_WaitsIfTheRateLimitIsExceeded(t *testing.T) {
	requests := 0
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte(`{"status": 429}`))
			return
		}
		if requests == 2 {
			w.Header().Set("Link", `</api/tickets?limit=200&cursor=b>; rel="next"`)
			_, _ = w.Write([]byte(`[{"id": "a", "version": 3}]`))
			return
		}
		_, _ = w.Write([]byte(`[{"id": "b"}]`))
	}))
	t.Cleanup(gateway.Close)
	r := &reader{target: Target{Gateways: []string{gateway.URL}}, api: client.New("", client.Options{})}
	f := &facts{}
	require.NoError(t, r.readList(t.Context(), f))
	require.Len(t, f.listed, 2)
	require.Equal(t, 3, f.listed["a"].Version)
}
