package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

var quiet = slog.New(slog.DiscardHandler)

// memory is a sidecar in memory that counts calls and can fail.
type memory struct {
	*statetest.Sidecar

	mu           sync.Mutex
	transactions int
	reads        int
	refuse       int                                // transactions that fail from now on
	committing   func(ops []*client.StateOperation) // called before each transaction; may be nil
}

func newMemory() *memory {
	m := &memory{Sidecar: statetest.New()}
	m.BeforeRead = func([]string) error {
		m.set(func() { m.reads++ })
		return nil
	}
	m.BeforeCommit = func(ops []*client.StateOperation) error {
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
		m.transactions++
		return nil
	}
	return m
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
	for key := range m.Documents() {
		if !strings.HasPrefix(key, "journal/") {
			keys = append(keys, key)
		}
	}
	return keys
}

// expired returns the published events in their order.
func (m *memory) expired() (all []events.ExpirationComplete) {
	for _, event := range m.Published() {
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
	m := newMemory()
	store := openStore(t, m, "test")
	t.Cleanup(func() { _ = store.Close(context.Background()) })
	return m, store
}
