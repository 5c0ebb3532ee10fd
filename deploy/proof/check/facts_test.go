package check

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// sidecarOf answers bulk reads with these documents.
func sidecarOf(t *testing.T, documents map[string]string) *looker {
	t.Helper()
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Keys []string `json:"keys"`
		}
		if r.URL.Path != "/v1.0/state/state/bulk" || json.NewDecoder(r.Body).Decode(&asked) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		items := []map[string]any{}
		for _, key := range asked.Keys {
			item := map[string]any{"key": key}
			if document, there := documents[key]; there {
				item["data"] = json.RawMessage(document)
			}
			items = append(items, item)
		}
		_ = json.NewEncoder(w).Encode(items)
	}))
	t.Cleanup(sidecar.Close)
	return &looker{market: Market{Sidecars: map[string][]string{"orders": {sidecar.URL}}}, http: sidecar.Client()}
}

func TestIndexes_AreReadWholeInAllPartitions(t *testing.T) {
	l := sidecarOf(t, map[string]string{
		"journal/registry":       `{"schema": 1, "partitions": 2, "writers": []}`,
		"index/orders/ada":       `{"schema": 1, "number": 2, "ids": ["of the release before"]}`,
		"index/orders/ada/1":     `{"schema": 1, "number": 1, "ids": ["and its full page"]}`,
		"index/orders/ada@0":     `{"schema": 1, "number": 3, "ids": ["five"]}`,
		"index/orders/ada@0/1":   `{"schema": 1, "number": 1, "ids": ["one", "two"]}`,
		"index/orders/ada@0/2":   `{"schema": 1, "number": 2, "ids": ["three", "four"]}`,
		"index/orders/ada@2":     `{"schema": 1, "number": 1, "ids": ["there is no such partition"]}`,
		"index/orders/grace@1":   `{"schema": 1, "number": 1, "ids": ["six"]}`,
		"index/orders/nobody@1":  `{"schema": 1, "number": 1, "ids": ["not asked for"]}`,
		"index/orders/grace@1/1": `{"schema": 1, "number": 1, "ids": ["of no use"]}`,
	})
	ids, err := l.indexes(t.Context(), "orders", []string{"orders/ada", "orders/grace"})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"of the release before", "and its full page", "one", "two", "three", "four", "five", "six"}, ids)
}

func TestIndexes_OfTheReleaseBeforeHaveNoPartitions(t *testing.T) {
	l := sidecarOf(t, map[string]string{"index/orders/ada": `{"schema": 1, "number": 1, "ids": ["one"]}`})
	ids, err := l.indexes(t.Context(), "orders", []string{"orders/ada"})
	require.NoError(t, err)
	require.Equal(t, []string{"one"}, ids)
}
