package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	dapr "github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
)

// bare does the state operations of the services' requests on a sidecar without a service, with documents of the same sizes. This is
// what a service could reach if its own work cost nothing.
type bare struct {
	sidecar dapr.Client
	tickets []string // documents to read
}

const store = "state"

func newBare(ctx context.Context, address, token string) (*bare, error) {
	dapr.SetLogger(log.New(io.Discard, "", 0))
	sidecar, err := dapr.NewClientWithAddressContext(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("the bare sidecar: %w", err)
	}
	sidecar.WithAuthToken(token)
	return &bare{sidecar: sidecar}, nil
}

func (b *bare) close() { b.sidecar.Close() }

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// The documents are like those of the services; only their length matters.

func ticketDocument(id string) []byte {
	return document(map[string]any{
		"schema": 1, "id": id, "title": "Front row, seat 17", "price": 4500, "currency": "usd", "userId": newID(), "status": "available",
		"sequence": 0, "version": 1, "createdAt": time.Now().UTC().Truncate(time.Millisecond), "updatedAt": time.Now().UTC().Truncate(time.Millisecond),
	})
}

func orderDocument(id, ticket string) []byte {
	return document(map[string]any{
		"schema": 1, "id": id, "userId": newID(), "status": "created", "expiresAt": time.Now().UTC().Truncate(time.Millisecond),
		"ticket":   map[string]any{"id": ticket, "title": "Front row, seat 17", "price": 4500, "currency": "usd"},
		"sequence": 1, "version": 1, "createdAt": time.Now().UTC().Truncate(time.Millisecond), "updatedAt": time.Now().UTC().Truncate(time.Millisecond),
	})
}

// headDocument is an index's head.
func headDocument(ids []string) []byte {
	return document(map[string]any{"schema": 1, "number": 1, "ids": ids})
}

func journalEntry(events int) []byte {
	event := string(ticketDocument(newID())) + strings.Repeat("x", 600) // as long as an event's other members
	list := make([]string, events)
	for i := range list {
		list[i] = event
	}
	return document(map[string]any{"schema": 1, "batch": newID(), "events": list})
}

func writerDocument() []byte {
	return document(map[string]any{"schema": 1, "instance": "localhost:8202", "batch": newID(), "renewedAt": time.Now().UTC(), "closed": false})
}

func document(value any) []byte {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // it consists of strings and numbers
	}
	return body
}

// Entries in an index's head: that of all tickets is half full on average, a buyer's has few.
const (
	allEntries = longPage / 2
	ownEntries = 5
)

func ids(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = newID()
	}
	return list
}

func upsert(key string, value []byte, etag string) *dapr.StateOperation {
	op := &dapr.StateOperation{Type: dapr.StateOperationTypeUpsert, Item: &dapr.SetStateItem{
		Key: key, Value: value,
		Options: &dapr.StateOptions{Concurrency: dapr.StateConcurrencyFirstWrite, Consistency: dapr.StateConsistencyStrong},
	}}
	if etag != "" {
		op.Item.Etag = &dapr.ETag{Value: etag}
	}
	return op
}

// overwrite is a write without a condition.
func overwrite(key string, value []byte) *dapr.StateOperation {
	return &dapr.StateOperation{Type: dapr.StateOperationTypeUpsert, Item: &dapr.SetStateItem{Key: key, Value: value}}
}

// seed writes the documents that jobs read: tickets, and the pages of the list.
func (b *bare) seed(ctx context.Context, tickets int) error {
	for len(b.tickets) < tickets {
		var ops []*dapr.StateOperation
		for range min(100, tickets-len(b.tickets)) {
			id := newID()
			b.tickets = append(b.tickets, id)
			ops = append(ops, upsert("ticket/"+id, ticketDocument(id), ""))
		}
		if err := b.sidecar.ExecuteStateTransaction(ctx, store, nil, ops); err != nil {
			return fmt.Errorf("seed the bare sidecar: %w", err)
		}
	}
	for page := range tickets/longPage + 1 {
		body := headDocument(ids(longPage))
		if err := b.sidecar.ExecuteStateTransaction(ctx, store, nil, []*dapr.StateOperation{overwrite(fmt.Sprintf("index/tickets/%d", page), body)}); err != nil {
			return fmt.Errorf("seed the bare sidecar: %w", err)
		}
	}
	return nil
}

func (b *bare) readOne(ctx context.Context, client int) (int, int, error) {
	_, err := b.sidecar.GetState(ctx, store, "ticket/"+b.tickets[client%len(b.tickets)], nil)
	return 1, 0, err
}

func (b *bare) readPage(ctx context.Context, _ int) (int, int, error) {
	return 1, 0, b.page(ctx, 0, pageLength, false)
}

func (b *bare) readAll(ctx context.Context, _ int) (int, int, error) {
	for page := range len(b.tickets) / longPage {
		if err := b.page(ctx, page, longPage, page > 0); err != nil {
			return 0, 0, err
		}
	}
	return 1, 0, nil
}

// page reads a list's head, another page if that is not the first, and the tickets.
func (b *bare) page(ctx context.Context, number, length int, following bool) error {
	if _, err := b.sidecar.GetState(ctx, store, "index/tickets/0", nil); err != nil {
		return err
	}
	if following {
		if _, err := b.sidecar.GetState(ctx, store, fmt.Sprintf("index/tickets/%d", number), nil); err != nil {
			return err
		}
	}
	keys := make([]string, length)
	for i := range keys {
		keys[i] = "ticket/" + b.tickets[number*length+i]
	}
	found, err := b.sidecar.GetBulkState(ctx, store, keys, nil, 16)
	if err == nil && len(found) != length {
		err = fmt.Errorf("%d documents instead of %d", len(found), length)
	}
	return err
}

// writer is one of several that write at once. Each has its own documents where services share theirs, because transactions with the same
// documents would only conflict.
type writer struct {
	key, entry string
	heads      []string
}

func newWriter(heads int) *writer {
	w := &writer{key: "journal/" + newID()}
	w.entry = w.key + "/0"
	for range heads {
		w.heads = append(w.heads, "index/"+newID())
	}
	return w
}

// begin reads the documents that a transaction replaces: the writer's and the heads of the indexes.
func (w *writer) begin(ctx context.Context, sidecar dapr.Client) (etags map[string]string, err error) {
	keys := append([]string{w.key}, w.heads...)
	found, err := sidecar.GetBulkState(ctx, store, keys, nil, 16)
	if err != nil {
		return nil, err
	}
	etags = map[string]string{}
	for _, item := range found {
		etags[item.Key] = item.Etag
	}
	return etags, nil
}

// end adds the documents that services write in every transaction of n changes. The heads of the indexes have so many entries.
func (w *writer) end(ops []*dapr.StateOperation, etags map[string]string, entries, n int) []*dapr.StateOperation {
	for _, head := range w.heads {
		ops = append(ops, upsert(head, headDocument(ids(entries)), etags[head]))
	}
	return append(ops, overwrite(w.entry, journalEntry(n)), upsert(w.key, writerDocument(), etags[w.key]))
}

// writers creates a writer for each client.
func writers(clients, group, heads int) []*writer {
	all := make([]*writer, max(1, clients/group))
	for i := range all {
		all[i] = newWriter(heads)
	}
	return all
}

// listing creates tickets, so many in a transaction.
func (b *bare) listing(clients, group int) job {
	all := writers(clients, group, 1)
	return func(ctx context.Context, client int) (int, int, error) {
		w := all[client]
		etags, err := w.begin(ctx, b.sidecar)
		if err != nil {
			return 0, 0, err
		}
		var ops []*dapr.StateOperation
		for range group {
			id := newID()
			ops = append(ops, upsert("ticket/"+id, ticketDocument(id), ""))
		}
		return group, 0, b.sidecar.ExecuteStateTransaction(ctx, store, nil, w.end(ops, etags, allEntries, group))
	}
}

// reserving changes tickets and creates orders, so many of each in a transaction, for different buyers if there are enough users.
func (b *bare) reserving(clients, group, users int) job {
	heads := min(group, users)
	all := writers(clients, group, heads)
	own := make([][]string, len(all)) // each writer has its own tickets, which no other reserves
	for i := range own {
		own[i] = b.tickets[i*group : (i+1)*group]
	}
	return func(ctx context.Context, client int) (int, int, error) {
		w := all[client]
		keys := make([]string, group)
		for i, id := range own[client] {
			keys[i] = "ticket/" + id
		}
		tickets := map[string]string{}
		if group == 1 {
			found, err := b.sidecar.GetState(ctx, store, keys[0], nil)
			if err != nil {
				return 0, 0, err
			}
			tickets[keys[0]] = found.Etag
		} else {
			found, err := b.sidecar.GetBulkState(ctx, store, keys, nil, 16)
			if err != nil {
				return 0, 0, err
			}
			for _, item := range found {
				tickets[item.Key] = item.Etag
			}
		}
		etags, err := w.begin(ctx, b.sidecar)
		if err != nil {
			return 0, 0, err
		}
		var ops []*dapr.StateOperation
		for i, id := range own[client] {
			order := newID()
			ops = append(ops, upsert(keys[i], ticketDocument(id), tickets[keys[i]]), upsert("order/"+order, orderDocument(order, id), ""))
		}
		return group, 0, b.sidecar.ExecuteStateTransaction(ctx, store, nil, w.end(ops, etags, ownEntries, group))
	}
}
