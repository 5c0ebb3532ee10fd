package state

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/dapr/go-sdk/client"

	"boxoffice/services/internal/events"
)

// Change is what one decision writes: documents, each with its condition, index entries and events. It is committed as a whole
// or not at all. The zero Change is empty and ready to use.
//
//	var change state.Change
//	change.Update(ticket.Key, ticket.ETag, ticket.Value)
//	change.Create(orderKey(order.ID), order)
//	change.Append(ordersOf(buyer), order.ID)
//	change.Emit(ctx, order.Event())
//	err := store.Commit(ctx, &change) // or return it to Decide
type Change struct {
	writes  []write
	appends []indexEntry
	events  []events.Event
	records []record // the events as Commit has encoded them
	err     error    // the first problem met while building; Commit reports it
}

// write is one document's new content. An empty etag is the condition that there is no document yet. A blind write has no
// condition: it is for documents that no other process can write at the same time.
type write struct {
	key    string
	etag   string
	value  []byte
	delete bool
	blind  bool
	ttl    time.Duration
}

// indexEntry is an id that is appended to an index. ttl is the time to live of the index's documents; 0 is no limit.
type indexEntry struct {
	index, id string
	ttl       time.Duration
}

// Create writes a document that must not exist yet.
func (c *Change) Create(key string, value any) { c.addDocument(write{key: key}, value) }

// Insert writes a document under an id that this decision has made (a new UUID), so that there cannot be one yet. It costs the
// store less than Create.
func (c *Change) Insert(key string, value any) { c.addDocument(write{key: key, blind: true}, value) }

// CreateFor writes a document that must not exist yet. The store deletes it after ttl.
func (c *Change) CreateFor(key string, value any, ttl time.Duration) {
	c.addDocument(write{key: key, ttl: ttl}, value)
}

// Update replaces a document, if its ETag is still the given one.
func (c *Change) Update(key, etag string, value any) {
	if etag == "" {
		c.fail(fmt.Errorf("update %s: no ETag; use Create for a new document", key))
		return
	}
	c.addDocument(write{key: key, etag: etag}, value)
}

// UpdateFor replaces a document, if its ETag is still the given one. The store deletes it after ttl.
func (c *Change) UpdateFor(key, etag string, value any, ttl time.Duration) {
	if etag == "" {
		c.fail(fmt.Errorf("update %s: no ETag; use CreateFor for a new document", key))
		return
	}
	c.addDocument(write{key: key, etag: etag, ttl: ttl}, value)
}

// Put is Create if the document had no ETag when it was read, and Update if it had one.
func (c *Change) Put(key, etag string, value any) { c.addDocument(write{key: key, etag: etag}, value) }

// PutFor is Put for a document that the store deletes after ttl.
func (c *Change) PutFor(key, etag string, value any, ttl time.Duration) {
	c.addDocument(write{key: key, etag: etag, ttl: ttl}, value)
}

// Delete removes a document, if its ETag is still the given one.
func (c *Change) Delete(key, etag string) {
	if etag == "" {
		c.fail(fmt.Errorf("delete %s: no ETag", key))
		return
	}
	c.add(write{key: key, etag: etag, delete: true})
}

// Remove deletes a document whatever it is, also if there is none. It is for documents that no process writes any more, and needs
// no read of them.
func (c *Change) Remove(key string) { c.add(write{key: key, blind: true, delete: true}) }

// Append adds id to the end of an index; see Store.Page.
func (c *Change) Append(index, id string) {
	c.appends = append(c.appends, indexEntry{index: index, id: id})
}

// Emit adds an event that is published once the change is committed. It carries ctx's trace context.
func (c *Change) Emit(ctx context.Context, payload events.Payload) {
	event, err := events.New(ctx, payload)
	if err != nil {
		c.fail(err)
		return
	}
	c.events = append(c.events, event)
}

// Encoded is a document that its caller has encoded as JSON already. It begins with the member "schema".
type Encoded []byte

func (c *Change) addDocument(w write, value any) {
	if encoded, ok := value.(Encoded); ok {
		w.value = encoded
		c.add(w)
		return
	}
	body, err := json.Marshal(value)
	if err != nil {
		c.fail(fmt.Errorf("encode %s: %w", w.key, err))
		return
	}
	w.value = body
	c.add(w)
}

func (c *Change) add(w write) {
	for _, other := range c.writes {
		if other.key == w.key {
			c.fail(fmt.Errorf("%s is written twice in one change", w.key))
			return
		}
	}
	c.writes = append(c.writes, w)
}

func (c *Change) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// encodeEvents encodes the events for the journal and the broker.
func (c *Change) encodeEvents(origin events.Origin) (err error) {
	c.records, err = encodeEvents(origin, c.events)
	return err
}

func encodeEvents(origin events.Origin, all []events.Event) ([]record, error) {
	records := make([]record, 0, len(all))
	for _, event := range all {
		body, err := json.Marshal(event.From(origin))
		if err != nil {
			return nil, fmt.Errorf("encode event %s: %w", event.ID, err)
		}
		records = append(records, record{id: event.ID, topic: events.TopicOf(event.Type), body: body})
	}
	return records, nil
}

func (c *Change) empty() bool { return len(c.writes) == 0 && len(c.appends) == 0 && len(c.events) == 0 }

// size is about the number of bytes that the change adds to a transaction.
func (c *Change) size() int {
	n := 0
	for _, w := range c.writes {
		n += len(w.value)
	}
	for _, r := range c.records {
		n += len(r.body)
	}
	return n
}

// operation is the write as Dapr expects it: a new document with first-write and without an ETag, a change with its ETag.
func (w write) operation() *client.StateOperation {
	op := &client.StateOperation{
		Type: client.StateOperationTypeUpsert,
		Item: &client.SetStateItem{
			Key:     w.key,
			Value:   w.value,
			Options: &client.StateOptions{Concurrency: client.StateConcurrencyFirstWrite, Consistency: client.StateConsistencyStrong},
		},
	}
	if w.delete {
		op.Type = client.StateOperationTypeDelete
	}
	if w.blind {
		op.Item.Options = nil
	}
	if w.etag != "" {
		op.Item.Etag = &client.ETag{Value: w.etag}
	}
	if w.ttl > 0 {
		op.Item.Metadata = map[string]string{"ttlInSeconds": strconv.Itoa(int(w.ttl.Seconds()))}
	}
	return op
}

// fails reports whether the write's condition does not hold for the document as it is now.
func (w write) fails(now item) bool { return !w.blind && now.etag != w.etag }

// Commit writes the change and returns when it is on disk. The error is ErrConflict if a condition does not hold; then nothing
// was written. It is a problem.Unavailable with the code "unavailable" if the store or the journal cannot take the change now:
// nothing was written. With the code "outcome_unknown" the change may be committed, now or later: ctx has ended before the store
// has responded.
func (s *Store) Commit(ctx context.Context, c *Change) error {
	if c.err != nil {
		return c.err
	}
	if c.empty() {
		return nil
	}
	if c.records == nil {
		if c.err = c.encodeEvents(s.opts.origin()); c.err != nil {
			return c.err
		}
	}
	err := s.committer.submit(ctx, c)
	if err == nil && len(c.writes) > 0 {
		events.MarkChanged(ctx)
	}
	return err
}
