package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

// memory is a sidecar in memory that counts calls.
type memory struct {
	*statetest.Sidecar

	// reads and transactions count the calls for documents of this service, without those of package state itself.
	reads, transactions atomic.Int64
	missed              func(key string) // called when a document was read that does not exist; may be nil
	away                atomic.Bool      // documents of this service cannot be read
	committing          func()           // called before such a transaction; may be nil
}

var errAway = errors.New("the store is away")

func newMemory() *memory {
	m := &memory{Sidecar: statetest.New()}
	m.BeforeRead = func(keys []string) error {
		if slices.ContainsFunc(keys, isOfPayments) {
			m.reads.Add(1)
			if m.away.Load() {
				return errAway
			}
		}
		return nil
	}
	m.BeforeCommit = func(ops []*client.StateOperation) error {
		if slices.ContainsFunc(ops, func(op *client.StateOperation) bool { return isOfPayments(op.Item.Key) }) {
			m.transactions.Add(1)
			if m.committing != nil {
				m.committing()
			}
		}
		return nil
	}
	return m
}

// isOfPayments reports whether a key is that of a document which store.go names, or of a stored response.
func isOfPayments(key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return slices.Contains([]string{"order", "attempt", "payment", "intent", "sweep", "idempotency", "user", "origin"}, prefix)
}

func (m *memory) GetState(ctx context.Context, store, key string, meta map[string]string) (*client.StateItem, error) {
	found, err := m.Sidecar.GetState(ctx, store, key, meta)
	if err == nil && found.Etag == "" && m.missed != nil {
		m.missed(key)
	}
	return found, err
}

func (m *memory) GetBulkState(ctx context.Context, store string, keys []string, meta map[string]string, parallelism int32) ([]*client.BulkStateItem, error) {
	found, err := m.Sidecar.GetBulkState(ctx, store, keys, meta, parallelism)
	for _, one := range found {
		if one.Etag == "" && m.missed != nil {
			m.missed(one.Key)
		}
	}
	return found, err
}

// eventTypes lists the types of the events that were published.
func (m *memory) eventTypes() []string {
	types := []string{}
	for _, event := range m.Published() {
		types = append(types, event.Type)
	}
	return types
}

// requireNowhere checks that no document and no event holds a text.
func (m *memory) requireNowhere(t *testing.T, text string) {
	t.Helper()
	for key, doc := range m.Documents() {
		require.NotContains(t, string(doc.Value), text, key)
	}
	for _, event := range m.Published() {
		require.NotContains(t, string(event.Data), text, event.ID)
	}
}

func openMemory(t *testing.T) (*memory, *state.Store) {
	t.Helper()
	m := newMemory()
	documents, err := state.Open(t.Context(), m, state.Options{Service: "payments", Instance: "test", Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(context.Background()) })
	return m, documents
}
