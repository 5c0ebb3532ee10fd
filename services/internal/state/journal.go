package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
)

// The journal makes events as durable as the documents that they are about. A process has one or more writers. Each
// transaction of a writer also creates one journal entry, which holds the transaction's events. They are published after the
// commit, and a later transaction deletes the entry. If a process ends before, another one publishes its events (takeover.go),
// so an event may be published twice.
//
//	journal/registry            the registry: all writers, and the number of partitions that indexes have
//	journal/{writer}            the writer's document: its last renewal, the numbers of its entries
//	journal/{writer}/{number}   an entry
//
// Numbers are used one after the other: a writer has one transaction under way, and does not use the next number before an
// entry exists under this one. An entry's key must not exist when its transaction commits. So an entry has three purposes:
//
//   - It holds the events.
//   - It shows whether a transaction happened whose response was lost (writer.resolve).
//   - It is a fence: if another process creates an entry under a number first, the writer's transaction with this number never
//     happens, however late it arrives at the store. So a batch need not check before whether its writer is still registered.
//
// A fence is kept for fenceTime, much longer than any transaction can be under way.

const (
	registryKey = "journal/registry"
	// reservedNumbers is how many entry numbers a writer reserves at once in its document. A takeover reads the entries under
	// all reserved numbers.
	reservedNumbers = 512
	// fenceTime is the time to live of a fence.
	fenceTime = 24 * time.Hour
	// trimAtOnce bounds the published entries that one transaction deletes.
	trimAtOnce = 16
)

// registry lists the writers whose entries may hold events. Partitions is the highest number of partitions that indexes have
// had: each writer has its own; see index.go.
type registry struct {
	Schema     int                `json:"schema"`
	Partitions int                `json:"partitions"`
	Legacy     bool               `json:"legacy,omitempty"` // the earlier release has used this store; see legacy.go
	Writers    []registeredWriter `json:"writers"`
}

type registeredWriter struct {
	ID        string `json:"id"`
	Instance  string `json:"instance"`
	Partition int    `json:"partition"`
}

// freePartition returns the lowest partition that no registered writer has.
func (r *registry) freePartition() int {
	for partition := 0; ; partition++ {
		if !slices.ContainsFunc(r.Writers, func(w registeredWriter) bool { return w.Partition == partition }) {
			return partition
		}
	}
}

// writerDocument is the document of a writer. Entries exist only under numbers from From to To - 1. Next was the next number
// when the document was written. A writer that is closed may not reserve further numbers, and must register again.
type writerDocument struct {
	Schema    int       `json:"schema"`
	Instance  string    `json:"instance"`
	RenewedAt time.Time `json:"renewedAt"`
	From      int64     `json:"from"`
	Next      int64     `json:"next"`
	To        int64     `json:"to"`
	Closed    bool      `json:"closed,omitempty"`
}

// entryDocument is an entry as it is stored. A fence has no events. It has a Batch only if it replaced that batch's entry.
// Against is the batch that the fence's own writer has given up.
type entryDocument struct {
	Schema  int               `json:"schema"`
	Batch   string            `json:"batch"`
	Fence   bool              `json:"fence,omitempty"`
	Against string            `json:"against,omitempty"`
	Events  []json.RawMessage `json:"events,omitempty"`
}

// ofTakeover reports whether the entry is a fence of a takeover, at which the writer ends.
func (e entryDocument) ofTakeover() bool { return e.Fence && e.Batch == "" && e.Against == "" }

func writerKey(writer string) string { return "journal/" + writer }
func entryKey(writer string, number int64) string {
	return writerKey(writer) + "/" + strconv.FormatInt(number, 10)
}

// encodeEntry encodes the entry of a batch. Its events are encoded already.
func encodeEntry(batch string, records []record) []byte {
	size := 64 + len(batch)
	for _, r := range records {
		size += len(r.body) + 1
	}
	var b bytes.Buffer
	b.Grow(size)
	b.WriteString(`{"schema":1,"batch":"` + batch + `"`)
	for i, r := range records {
		if i == 0 {
			b.WriteString(`,"events":[`)
		} else {
			b.WriteByte(',')
		}
		b.Write(r.body)
	}
	if len(records) > 0 {
		b.WriteByte(']')
	}
	b.WriteByte('}')
	return b.Bytes()
}

// fenceAt returns the write that creates a fence under a number, if there is no entry yet. against is empty in a takeover.
func fenceAt(writer string, number int64, against string) (write, error) {
	body, err := json.Marshal(entryDocument{Schema: 1, Fence: true, Against: against})
	return write{key: entryKey(writer, number), value: body, ttl: fenceTime}, err
}

// register registers the given writers under new ids, each with its own partition. It retries on conflicts with other
// processes until ctx ends.
func (s *Store) register(ctx context.Context, writers ...*writer) error {
	ids, partitions := make([]string, len(writers)), make([]int, len(writers))
	err := s.editRegistry(ctx, func(r *registry, change *Change) {
		for i, w := range writers {
			// New ids each time: an attempt whose response was lost may have happened. Its writer is taken over soon.
			id := uuid.Must(uuid.NewV7()).String()
			w.registration.Store(&id) // before it is in the registry, so that this process does not take over from itself
			ids[i], partitions[i] = id, r.freePartition()
			r.Writers = append(r.Writers, registeredWriter{ID: id, Instance: s.opts.Instance, Partition: partitions[i]})
			r.Partitions = max(r.Partitions, partitions[i]+1)
			change.Create(writerKey(id), writerDocument{
				Schema: 1, Instance: s.opts.Instance, RenewedAt: time.Now().UTC(), From: 1, Next: 1, To: 1 + reservedNumbers,
			})
		}
	})
	if err != nil {
		return err
	}
	for i, w := range writers {
		w.begin(ids[i], partitions[i])
		s.opts.Log.Debug("registered as a writer of the journal", "writer", ids[i], "partition", partitions[i])
	}
	return nil
}

// registered reads the registry. It is empty before the first writer has registered.
func (s *Store) registered(ctx context.Context) (Doc[registry], error) {
	doc, err := Get[registry](ctx, s, registryKey)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return doc, err
}

// editRegistry changes the registry. It retries on conflicts until ctx ends. What edit adds to the change is written together
// with the registry.
func (s *Store) editRegistry(ctx context.Context, edit func(*registry, *Change)) error {
	for {
		doc, err := s.registered(ctx)
		if err != nil {
			return err
		}
		if doc.ETag == "" {
			if doc.Value.Legacy, err = s.hasLegacyWriters(ctx); err != nil {
				return err
			}
		}
		doc.Value.Schema = 1
		var change Change
		edit(&doc.Value, &change)
		change.Put(registryKey, doc.ETag, doc.Value)
		if err := s.direct(ctx, &change); !errors.Is(err, ErrConflict) {
			return err
		}
		if ctx.Err() != nil {
			return unavailable(ctx.Err())
		}
	}
}

// direct commits a change of the journal's own documents without the committer. The error is ErrConflict if a condition does
// not hold, or if the change was committed and the response was lost: callers read and decide again.
func (s *Store) direct(ctx context.Context, c *Change) error {
	if c.err != nil {
		return c.err
	}
	tx := &transaction{}
	tx.add(c.writes...)
	cause := s.execute(ctx, tx.ops)
	if cause == nil {
		return nil
	}
	now, err := s.read(ctx, tx.keys...)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(c.writes, func(w write) bool { return w.fails(now[w.key]) }) {
		return ErrConflict
	}
	return unavailable(cause)
}

// removal deletes a document without a condition. Only the journal's writer, or a takeover of it, may delete the document.
func removal(key string) *client.StateOperation {
	return &client.StateOperation{Type: client.StateOperationTypeDelete, Item: &client.SetStateItem{Key: key}}
}

// deleteEntries deletes entries of a writer, some at a time.
func (s *Store) deleteEntries(ctx context.Context, writer string, numbers []int64) error {
	for chunk := range slices.Chunk(numbers, recoveryChunk) {
		ops := make([]*client.StateOperation, len(chunk))
		for i, number := range chunk {
			ops[i] = removal(entryKey(writer, number))
		}
		if err := s.execute(ctx, ops); err != nil {
			return fmt.Errorf("delete journal entries: %w", err)
		}
	}
	return nil
}

// unregister removes a writer from the registry and deletes its document.
func (s *Store) unregister(ctx context.Context, id string) error {
	return s.editRegistry(ctx, func(r *registry, change *Change) {
		r.Writers = slices.DeleteFunc(r.Writers, func(w registeredWriter) bool { return w.ID == id })
		change.add(write{key: writerKey(id), delete: true, blind: true})
	})
}
