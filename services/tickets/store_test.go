package main

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/state"
)

// memorySidecar is a sidecar whose store is a map with transactions and ETags.
type memorySidecar struct {
	mu        sync.Mutex
	documents map[string]*client.StateItem
	writes    int
	published int // events
}

func (m *memorySidecar) GetState(_ context.Context, _, key string, _ map[string]string) (*client.StateItem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if found := m.documents[key]; found != nil {
		return found, nil
	}
	return &client.StateItem{Key: key}, nil
}

func (m *memorySidecar) GetBulkState(ctx context.Context, store string, keys []string, meta map[string]string, _ int32) (all []*client.BulkStateItem, _ error) {
	for _, key := range keys {
		found, _ := m.GetState(ctx, store, key, meta)
		all = append(all, &client.BulkStateItem{Key: key, Value: found.Value, Etag: found.Etag})
	}
	return all, nil
}

func (m *memorySidecar) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		found := m.documents[op.Item.Key]
		first := op.Item.Options != nil && op.Item.Options.Concurrency == client.StateConcurrencyFirstWrite
		if op.Item.Etag != nil && (found == nil || found.Etag != op.Item.Etag.Value) || op.Item.Etag == nil && first && found != nil {
			return errors.New("a condition does not hold")
		}
	}
	m.writes++
	for _, op := range ops {
		if op.Type == client.StateOperationTypeDelete {
			delete(m.documents, op.Item.Key)
			continue
		}
		m.documents[op.Item.Key] = &client.StateItem{Key: op.Item.Key, Value: op.Item.Value, Etag: strconv.Itoa(m.writes)}
	}
	return nil
}

func (m *memorySidecar) PublishEvents(_ context.Context, _, _ string, all []any, _ ...client.PublishEventsOption) client.PublishEventsResponse {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.published += len(all)
	return client.PublishEventsResponse{}
}

func (*memorySidecar) GetMetadata(context.Context) (*client.GetMetadataResponse, error) {
	return &client.GetMetadataResponse{}, nil
}

// A seller who tries to change sold tickets again and again does not make this service publish as often.
func TestChange_ATicketThatIsTakenIsPublishedAgainOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sidecar := &memorySidecar{documents: map[string]*client.StateItem{}}
		store, err := state.Open(t.Context(), sidecar, state.Options{Service: "tickets", Instance: "test", Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		l := newListings(store, "usd", 50, slog.New(slog.DiscardHandler))
		var sold []Ticket
		for range 2 {
			ticket, err := l.Create(t.Context(), "seller", Offer{"Front row", 4500})
			require.NoError(t, err)
			require.NoError(t, l.Hear(t.Context(), Sold, events.Order{ID: "order-1", Sequence: 2, Ticket: events.OrderedTicket{ID: ticket.ID}}))
			sold = append(sold, ticket)
		}
		// try has the seller try to change a ticket and to delete it, and returns how many events are published.
		try := func(ticket Ticket) int {
			sidecar.mu.Lock()
			before := sidecar.published
			sidecar.mu.Unlock()
			for range 5 {
				_, err := l.Change(t.Context(), ticket.ID, "seller", 0, Offer{"Front row", 100})
				require.ErrorIs(t, err, errSold)
				require.ErrorIs(t, l.Delete(t.Context(), ticket.ID, "seller", 0), errSold)
			}
			time.Sleep(time.Second)
			sidecar.mu.Lock()
			defer sidecar.mu.Unlock()
			return sidecar.published - before
		}
		require.Zero(t, try(sold[0]), "it was sold a moment ago")
		time.Sleep(takenTime)
		require.Equal(t, 1, try(sold[0]))
		require.Equal(t, 1, try(sold[1]))
		require.Zero(t, try(sold[0]))
		time.Sleep(askedTime)
		require.Equal(t, 1, try(sold[0]))
		require.NoError(t, store.Close(context.Background()))
	})
}
