package state

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/dapr/go-sdk/client"

	"boxoffice/services/internal/events"
)

// fault is what a memory does to one call.
type fault int

const (
	works       fault = iota
	refuses           // nothing happens, and the call fails
	silent            // it happens, but the answer is lost
	happensLate       // the call fails, and it happens later, if its conditions still hold
	failsInPart       // of a bulk call, some fails
	breaksOff         // of a bulk read, some documents seem not to exist; other calls fail
)

// memory is a sidecar whose store is a map with transactions and ETags, and whose broker is a list. Each call meets the next of
// its faults; when none is left, all calls succeed. It is a model: the other tests of this package show that a real sidecar
// behaves in this way.
type memory struct {
	mu        sync.Mutex
	documents map[string]item
	lifetimes map[string]string // of documents that the store is to remove by itself, in seconds
	writes    int
	published map[string]int // how often each event was accepted, by id
	faults    []fault
	broke     bool // whether the last bulk read broke off
}

func newMemory() *memory {
	return &memory{documents: map[string]item{}, lifetimes: map[string]string{}, published: map[string]int{}}
}

var errFault = errors.New("the sidecar fails")

// meet takes the next fault.
func (m *memory) meet() fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.faults) == 0 {
		return works
	}
	next := m.faults[0]
	m.faults = m.faults[1:]
	return next
}

func (m *memory) meetNoMore() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = nil
}

func (m *memory) get(key string) item {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.documents[key]
}

// allDocuments are the documents as they are now.
func (m *memory) allDocuments() map[string]item {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.documents)
}

func (m *memory) GetState(_ context.Context, _, key string, _ map[string]string) (*client.StateItem, error) {
	if m.meet() != works {
		return nil, errFault
	}
	found := m.get(key)
	return &client.StateItem{Key: key, Value: found.value, Etag: found.etag}, nil
}

func (m *memory) GetBulkState(_ context.Context, _ string, keys []string, _ map[string]string, _ int32) ([]*client.BulkStateItem, error) {
	fault := m.meet()
	if fault != works && fault != failsInPart && fault != breaksOff {
		return nil, errFault
	}
	var items []*client.BulkStateItem
	m.mu.Lock()
	again := m.broke
	m.broke = fault == breaksOff
	m.mu.Unlock()
	for i, key := range keys {
		found := m.get(key)
		items = append(items, &client.BulkStateItem{Key: key, Value: found.value, Etag: found.etag})
		if fault == failsInPart && i == len(keys)/2 {
			items[i] = &client.BulkStateItem{Key: key, Error: errFault.Error()}
		}
		if fault == breaksOff && (again || i < len(keys)/2) {
			items[i] = &client.BulkStateItem{Key: key}
		}
	}
	return items, nil
}

func (m *memory) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	switch m.meet() {
	case works:
		return m.execute(ops)
	case silent:
		return errors.Join(m.execute(ops), errFault)
	case happensLate:
		time.AfterFunc(time.Duration(1+len(ops))*7*time.Millisecond, func() { _ = m.execute(ops) })
	}
	return errFault
}

func (m *memory) execute(ops []*client.StateOperation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
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
		m.documents[op.Item.Key] = item{value: op.Item.Value, etag: strconv.Itoa(m.writes)}
		m.lifetimes[op.Item.Key] = op.Item.Metadata["ttlInSeconds"]
	}
	return nil
}

func (m *memory) PublishEvents(_ context.Context, _, _ string, entries []any, _ ...client.PublishEventsOption) client.PublishEventsResponse {
	accepted, response := entries, client.PublishEventsResponse{}
	switch m.meet() {
	case works:
	case silent, happensLate:
		response = client.PublishEventsResponse{Error: errFault, FailedEvents: entries}
	case failsInPart:
		accepted = entries[:len(entries)/2]
		response = client.PublishEventsResponse{Error: errFault, FailedEvents: entries[len(entries)/2:]}
	case refuses, breaksOff:
		return client.PublishEventsResponse{Error: errFault, FailedEvents: entries}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, entry := range accepted {
		var event events.Event
		if err := json.Unmarshal(entry.(client.PublishEventsEvent).Data, &event); err != nil {
			return client.PublishEventsResponse{Error: err}
		}
		m.published[event.ID]++
	}
	return response
}

func (m *memory) GetMetadata(context.Context) (*client.GetMetadataResponse, error) {
	return &client.GetMetadataResponse{}, nil
}
