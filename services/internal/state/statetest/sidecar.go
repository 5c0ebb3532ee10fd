// Package statetest has a Dapr sidecar in memory for the tests of services. It is a model of a state store with
// transactions and ETags, and of a broker. The tests of package state show that real sidecars behave in this way.
package statetest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/dapr/go-sdk/client"

	"boxoffice/services/internal/events"
)

// Sidecar implements state.Sidecar. Make one with New. Its methods may be called in parallel.
type Sidecar struct {
	// BeforeRead and BeforeCommit are called before the documents under some keys are read, and before a transaction. If they
	// return an error, the call fails with it. They may be nil, and are set before the sidecar is used.
	BeforeRead   func(keys []string) error
	BeforeCommit func(operations []*client.StateOperation) error

	mu        sync.Mutex
	documents map[string]Document
	writes    int
	published []events.Event
}

// Document is a document as it is stored. TTL is its time to live in seconds, as Dapr's metadata has it, or "".
type Document struct {
	Value []byte
	ETag  string
	TTL   string
}

// New makes a Sidecar without documents.
func New() *Sidecar { return &Sidecar{documents: map[string]Document{}} }

// Document returns the document under key; one that does not exist has no ETag.
func (s *Sidecar) Document(key string) Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.documents[key]
}

// Documents returns all documents by their keys.
func (s *Sidecar) Documents() map[string]Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.documents)
}

// Published returns all events that were published, in order.
func (s *Sidecar) Published() []events.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.published)
}

// Write stores a document whatever was there before.
func (s *Sidecar) Write(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(key, value, "")
}

// Delete removes a document, if there is one.
func (s *Sidecar) Delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.documents, key)
}

func (s *Sidecar) write(key string, value []byte, ttl string) {
	s.writes++
	s.documents[key] = Document{Value: value, ETag: strconv.Itoa(s.writes), TTL: ttl}
}

// GetState implements state.Sidecar.
func (s *Sidecar) GetState(ctx context.Context, store, key string, meta map[string]string) (*client.StateItem, error) {
	items, err := s.GetBulkState(ctx, store, []string{key}, meta, 0)
	if err != nil {
		return nil, err
	}
	return &client.StateItem{Key: key, Value: items[0].Value, Etag: items[0].Etag}, nil
}

// GetBulkState implements state.Sidecar.
func (s *Sidecar) GetBulkState(_ context.Context, _ string, keys []string, _ map[string]string, _ int32) ([]*client.BulkStateItem, error) {
	if s.BeforeRead != nil {
		if err := s.BeforeRead(keys); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	items := make([]*client.BulkStateItem, len(keys))
	for i, key := range keys {
		found := s.documents[key]
		items[i] = &client.BulkStateItem{Key: key, Value: found.Value, Etag: found.ETag}
	}
	return items, nil
}

// errCondition is the error of a transaction one of whose conditions does not hold.
var errCondition = errors.New("a condition does not hold")

// ExecuteStateTransaction implements state.Sidecar.
func (s *Sidecar) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, operations []*client.StateOperation) error {
	if s.BeforeCommit != nil {
		if err := s.BeforeCommit(operations); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range operations {
		if !s.allows(op.Item) {
			return errCondition
		}
	}
	for _, op := range operations {
		if op.Type == client.StateOperationTypeDelete {
			delete(s.documents, op.Item.Key)
			continue
		}
		s.write(op.Item.Key, op.Item.Value, op.Item.Metadata["ttlInSeconds"])
	}
	return nil
}

// allows reports whether an item's condition holds. Without an ETag, first-write is the condition that there is no document.
func (s *Sidecar) allows(item *client.SetStateItem) bool {
	found := s.documents[item.Key].ETag
	if item.Etag != nil && item.Etag.Value != "" {
		return found == item.Etag.Value
	}
	firstWrite := item.Options != nil && item.Options.Concurrency == client.StateConcurrencyFirstWrite
	return found == "" || !firstWrite
}

// PublishEvents implements state.Sidecar.
func (s *Sidecar) PublishEvents(_ context.Context, _, _ string, entries []any, _ ...client.PublishEventsOption) client.PublishEventsResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, entry := range entries {
		var event events.Event
		if err := json.Unmarshal(entry.(client.PublishEventsEvent).Data, &event); err != nil {
			return client.PublishEventsResponse{Error: err, FailedEvents: entries}
		}
		s.published = append(s.published, event)
	}
	return client.PublishEventsResponse{}
}

// GetMetadata implements state.Sidecar.
func (s *Sidecar) GetMetadata(context.Context) (*client.GetMetadataResponse, error) {
	return &client.GetMetadataResponse{}, nil
}
