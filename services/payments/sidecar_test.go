package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/state"
)

// memory is a sidecar whose state store is a map and whose broker is a list, so that hundreds of interleavings are fast. Tests
// of package state use real ones.
type memory struct {
	mu        sync.Mutex
	documents map[string]document
	writes    int
	// reads and transactions count the calls for documents of this service, without those of package state itself.
	reads, transactions int
	published           []events.Event
	missed              func(key string) // called when a document was read that does not exist; may be nil
}

type document struct {
	value []byte
	etag  string
}

func (m *memory) GetState(_ context.Context, _, key string, _ map[string]string) (*client.StateItem, error) {
	m.countRead(key)
	return m.get(key), nil
}

func (m *memory) countRead(keys ...string) {
	if slices.ContainsFunc(keys, isOfPayments) {
		m.mu.Lock()
		m.reads++
		m.mu.Unlock()
	}
}

// isOfPayments reports whether a key is that of a document which store.go names, or of a stored response.
func isOfPayments(key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return slices.Contains([]string{"order", "attempt", "payment", "intent", "sweep", "idempotency", "user", "origin"}, prefix)
}

func (m *memory) get(key string) *client.StateItem {
	m.mu.Lock()
	d, found := m.documents[key]
	m.mu.Unlock()
	if !found && m.missed != nil {
		m.missed(key)
	}
	return &client.StateItem{Key: key, Value: d.value, Etag: d.etag}
}

func (m *memory) GetBulkState(_ context.Context, _ string, keys []string, _ map[string]string, _ int32) ([]*client.BulkStateItem, error) {
	m.countRead(keys...)
	var found []*client.BulkStateItem
	for _, key := range keys {
		one := m.get(key)
		found = append(found, &client.BulkStateItem{Key: key, Value: one.Value, Etag: one.Etag})
	}
	return found, nil
}

func (m *memory) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.ContainsFunc(ops, func(op *client.StateOperation) bool { return isOfPayments(op.Item.Key) }) {
		m.transactions++
	}
	for _, op := range ops {
		now, wanted := m.documents[op.Item.Key].etag, ""
		if op.Item.Etag != nil {
			wanted = op.Item.Etag.Value
		}
		blind := wanted == "" && (op.Item.Options == nil || op.Item.Options.Concurrency != client.StateConcurrencyFirstWrite)
		if now != wanted && !blind {
			return errors.New("a condition does not hold")
		}
	}
	for _, op := range ops {
		if op.Type == client.StateOperationTypeDelete {
			delete(m.documents, op.Item.Key)
			continue
		}
		m.writes++
		m.documents[op.Item.Key] = document{op.Item.Value, strconv.Itoa(m.writes)}
	}
	return nil
}

func (m *memory) PublishEvents(_ context.Context, _, _ string, published []any, _ ...client.PublishEventsOption) client.PublishEventsResponse {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range published {
		var event events.Event
		if err := json.Unmarshal(one.(client.PublishEventsEvent).Data, &event); err != nil {
			return client.PublishEventsResponse{Error: err}
		}
		m.published = append(m.published, event)
	}
	return client.PublishEventsResponse{}
}

func (m *memory) GetMetadata(context.Context) (*client.GetMetadataResponse, error) {
	return &client.GetMetadataResponse{}, nil
}

// eventTypes lists the types of the events that were published.
func (m *memory) eventTypes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	types := []string{}
	for _, event := range m.published {
		types = append(types, event.Type)
	}
	return types
}

// requireNowhere checks that no document and no event holds a text.
func (m *memory) requireNowhere(t *testing.T, text string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, doc := range m.documents {
		require.NotContains(t, string(doc.value), text, key)
	}
	for _, event := range m.published {
		require.NotContains(t, string(event.Data), text, event.ID)
	}
}

func openMemory(t *testing.T) (*memory, *state.Store) {
	t.Helper()
	m := &memory{documents: map[string]document{}}
	documents, err := state.Open(t.Context(), m, state.Options{Service: "payments", Instance: "test", Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(context.Background()) })
	return m, documents
}
