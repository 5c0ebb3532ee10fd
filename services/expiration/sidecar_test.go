package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/state"
)

var quiet = slog.New(slog.DiscardHandler)

// memory is a sidecar whose store is a map, with transactions and ETags, and whose broker is a list. Tests of package state compare
// this behaviour with real stores.
type memory struct {
	mu           sync.Mutex
	documents    map[string]document
	transactions int
	reads        int
	published    []events.Event
	refuse       int                                // transactions that fail from now on
	committing   func(ops []*client.StateOperation) // called before each transaction; may be nil
}

type document struct {
	value []byte
	etag  string
}

func (m *memory) GetState(_ context.Context, _, key string, _ map[string]string) (*client.StateItem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	d := m.documents[key]
	return &client.StateItem{Key: key, Value: d.value, Etag: d.etag}, nil
}

func (m *memory) GetBulkState(_ context.Context, _ string, keys []string, _ map[string]string, _ int32) ([]*client.BulkStateItem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	var found []*client.BulkStateItem
	for _, key := range keys {
		d := m.documents[key]
		found = append(found, &client.BulkStateItem{Key: key, Value: d.value, Etag: d.etag})
	}
	return found, nil
}

func (m *memory) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	m.mu.Lock()
	committing := m.committing
	m.mu.Unlock()
	if committing != nil {
		committing(ops)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse > 0 {
		m.refuse--
		return errors.New("the store fails")
	}
	for _, op := range ops {
		current, wanted := m.documents[op.Item.Key].etag, ""
		if op.Item.Etag != nil {
			wanted = op.Item.Etag.Value
		}
		blind := wanted == "" && (op.Item.Options == nil || op.Item.Options.Concurrency != client.StateConcurrencyFirstWrite)
		if current != wanted && !blind {
			return errors.New("a condition does not hold")
		}
	}
	m.transactions++
	for _, op := range ops {
		if op.Type == client.StateOperationTypeDelete {
			delete(m.documents, op.Item.Key)
			continue
		}
		m.documents[op.Item.Key] = document{op.Item.Value, strconv.Itoa(m.transactions)}
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

// calls counts the calls that wrote and read documents.
func (m *memory) calls() (transactions, reads int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.transactions, m.reads
}

// set changes the sidecar's behaviour.
func (m *memory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// keys are the keys of the service's own documents.
func (m *memory) keys() (keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.documents {
		if !strings.HasPrefix(key, "journal/") {
			keys = append(keys, key)
		}
	}
	return keys
}

// expired returns the published events in their order.
func (m *memory) expired() (all []events.ExpirationComplete) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, event := range m.published {
		var e events.ExpirationComplete
		if json.Unmarshal(event.Data, &e) == nil {
			all = append(all, e)
		}
	}
	return all
}

// openStore opens the store of one process of the service.
func openStore(t require.TestingT, m *memory, instance string) *state.Store {
	store, err := state.Open(context.Background(), m, state.Options{Service: "expiration", Instance: instance, Log: quiet})
	require.NoError(t, err)
	return store
}

func openMemory(t *testing.T) (*memory, *state.Store) {
	t.Helper()
	m := &memory{documents: map[string]document{}}
	store := openStore(t, m, "test")
	t.Cleanup(func() { _ = store.Close(context.Background()) })
	return m, store
}
