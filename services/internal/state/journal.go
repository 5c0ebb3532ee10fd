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

// The journal makes events as durable as the documents that caused them. A process has one or more writers. Each
// transaction of a writer also creates one journal entry, which holds the transaction's events; after the commit
// they are published, and a later transaction deletes the entry. What a process that died has left is published by
// another one (takeover.go). That may publish an event twice; consumers bear it.
//
//	journal/registry            the registry: all writers, and how many partitions indexes have
//	journal/{writer}            the writer's document: when it was last renewed, the numbers of its entries
//	journal/{writer}/{number}   an entry
//
// Numbers are used one after the other: a writer has one transaction in flight, and does not use the next number
// before an entry exists under this one. An entry's key must not exist when its transaction commits. So an entry
// serves three purposes:
//
//   - It holds the events.
//   - It says, if the answer to a transaction is lost, whether the transaction happened (writer.resolve).
//   - It is a fence: a process that creates an entry under a number first makes sure that the writer's transaction of this
//     number never happens, however late it arrives at the store. So a batch need not ask first whether its writer is still
//     registered.
//
// A fence stays for fenceTime, much longer than the slowest transaction can be on its way.

const (
	registryKey = "journal/registry"
	// reservedNumbers is how many entry numbers a writer reserves at once in its document. Who takes over from it
	// looks for entries under all reserved numbers.
	reservedNumbers = 512
	// fenceTime is how long a fence is kept. The store removes it by itself (time to live).
	fenceTime = 24 * time.Hour
	// trimAtOnce bounds the published entries that one transaction deletes.
	trimAtOnce = 16
)

// registry lists the writers whose entries may hold events. Partitions is how many partitions indexes have had so
// far: each writer has one, alone; see index.go.
type registry struct {
	Schema     int                `json:"schema"`
	Partitions int                `json:"partitions"`
	Legacy     bool               `json:"legacy,omitempty"` // the release before has used this store; see legacy.go
	Writers    []registeredWriter `json:"writers"`
}

type registeredWriter struct {
	ID        string `json:"id"`
	Instance  string `json:"instance"`
	Partition int    `json:"partition"`
}

// freePartition is the lowest that no registered writer has.
func (r *registry) freePartition() int {
	for partition := 0; ; partition++ {
		if !slices.ContainsFunc(r.Writers, func(w registeredWriter) bool { return w.Partition == partition }) {
			return partition
		}
	}
}

// writerDocument is a writer's own. Entries exist only under numbers from From up to, and without, To. Next was the
// next number when the document was written. Once it is closed, the writer may not reserve further numbers, and must
// register anew.
type writerDocument struct {
	Schema    int       `json:"schema"`
	Instance  string    `json:"instance"`
	RenewedAt time.Time `json:"renewedAt"`
	From      int64     `json:"from"`
	Next      int64     `json:"next"`
	To        int64     `json:"to"`
	Closed    bool      `json:"closed,omitempty"`
}

// entryDocument is an entry as it is written. A fence has no events. It has a batch only if it has taken the place of
// that batch's entry, and names in Against the batch that its own writer has given up.
type entryDocument struct {
	Schema  int               `json:"schema"`
	Batch   string            `json:"batch"`
	Fence   bool              `json:"fence,omitempty"`
	Against string            `json:"against,omitempty"`
	Events  []json.RawMessage `json:"events,omitempty"`
}

// ofTakeover says whether the entry is a fence that a takeover has put there: the writer never gets past it.
func (e entryDocument) ofTakeover() bool { return e.Fence && e.Batch == "" && e.Against == "" }

func writerKey(writer string) string { return "journal/" + writer }
func entryKey(writer string, number int64) string {
	return writerKey(writer) + "/" + strconv.FormatInt(number, 10)
}

// encodeEntry is the entry of a batch with these events, which are encoded already.
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

// fenceAt is the write that puts a fence under a number, if there is no entry yet. Against is empty if it is another
// process that puts it there.
func fenceAt(writer string, number int64, against string) (write, error) {
	body, err := json.Marshal(entryDocument{Schema: 1, Fence: true, Against: against})
	return write{key: entryKey(writer, number), value: body, ttl: fenceTime}, err
}

// register makes the given writers known under new ids, each with a partition of its own. It waits for its turn
// against others that register at the same time, until ctx ends.
func (s *Store) register(ctx context.Context, writers ...*writer) error {
	ids, partitions := make([]string, len(writers)), make([]int, len(writers))
	err := s.editRegistry(ctx, func(r *registry, change *Change) {
		for i, w := range writers {
			// New ones each time: an attempt whose answer was lost may have happened. It is taken over soon.
			id := uuid.Must(uuid.NewV7()).String()
			w.registration.Store(&id) // before the registry shows it, so that this process does not take over from itself
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

// registered reads the registry. Before the first writer has registered it is empty.
func (s *Store) registered(ctx context.Context) (Doc[registry], error) {
	doc, err := Get[registry](ctx, s, registryKey)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return doc, err
}

// editRegistry changes the registry, against others that change it at the same time, until ctx ends. What edit adds
// to the change is written together with the registry.
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
		change.put(write{key: registryKey, etag: doc.ETag}, doc.Value)
		if err := s.direct(ctx, &change); !errors.Is(err, ErrConflict) {
			return err
		}
		if ctx.Err() != nil {
			return unavailable(ctx.Err())
		}
	}
}

// direct commits a change of the journal's own documents past the committer. It returns ErrConflict if a condition
// does not hold, or if the change was committed and the answer was lost: callers read again and decide anew.
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
	if slices.ContainsFunc(c.writes, func(w write) bool { return w.moved(now[w.key]) }) {
		return ErrConflict
	}
	return unavailable(cause)
}

// removal deletes documents that only the journal's writer, or who has taken over from it, may touch: they need no
// condition.
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

// unregister takes a writer out of the registry and deletes its document.
func (s *Store) unregister(ctx context.Context, id string) error {
	return s.editRegistry(ctx, func(r *registry, change *Change) {
		r.Writers = slices.DeleteFunc(r.Writers, func(w registeredWriter) bool { return w.ID == id })
		change.add(write{key: writerKey(id), delete: true, blind: true})
	})
}
