// Package state stores a service's documents in its Dapr state store. Every write is conditional, and one decision is one
// transaction. The events of a decision are committed with it, in a journal, and published afterwards (a transactional
// outbox).
//
// Callers need decide.go, change.go, this file, projection.go (documents that an event creates) and index.go (lists). The rest is
// inside: committer.go and writer.go make transactions of changes, reader.go lets reads share calls, journal.go and
// takeover.go make sure that no event is lost, schema.go reads documents of older and newer formats, legacy.go reads the
// journal of the earlier release, and probe.go refuses stores that cannot be used.
package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

var (
	// ErrNotFound means that there is no document under a key.
	ErrNotFound = errors.New("document not found")
	// ErrConflict means that a document was changed, created or deleted after it was read. Nothing of the change was
	// written.
	ErrConflict = errors.New("document changed since it was read")
)

// Sidecar has the calls of Dapr that this package makes. client.Client of the go-sdk implements it.
type Sidecar interface {
	GetState(ctx context.Context, store, key string, meta map[string]string) (*client.StateItem, error)
	GetBulkState(ctx context.Context, store string, keys []string, meta map[string]string, parallelism int32) ([]*client.BulkStateItem, error)
	ExecuteStateTransaction(ctx context.Context, store string, meta map[string]string, ops []*client.StateOperation) error
	PublishEvents(ctx context.Context, pubsub, topic string, events []any, opts ...client.PublishEventsOption) client.PublishEventsResponse
	GetMetadata(ctx context.Context) (*client.GetMetadataResponse, error)
}

// Options are the settings of a Store. A zero value stands for the default.
type Options struct {
	// Service is the name of the service; it is the source of its events. Required.
	Service string
	// PublicURL is the base URL of the public API, which serves the schemas of the events. Default http://localhost:8080.
	PublicURL string
	// Instance is the place of this process (a host and a port, a pod), which stays the same after a restart. When a process
	// starts, an earlier process of the same instance has ended. Required.
	Instance string
	// Component is the Dapr state store. Default "state".
	Component string
	// MaxTransactions bounds the transactions whose events may wait for the broker. Default 16384.
	MaxTransactions int
	// Writers is how many transactions may be under way. Default 1 on SQLite, which runs one at a time, and 2 on other stores.
	// More writers help if the store is far away: a transaction makes one network round trip for each document.
	Writers int
	// Backlog bounds the events that may wait for the broker. Default 32768.
	Backlog int
	// Lease is the time without a renewal after which another process takes over from a writer. Default 15s.
	Lease time.Duration

	Log     *slog.Logger          // default slog.Default()
	Metrics prometheus.Registerer // default: a new registry
}

// origin is where the store's events come from.
func (o *Options) origin() events.Origin {
	return events.Origin{Service: o.Service, PublicURL: o.PublicURL}
}

func (o *Options) setDefaults() {
	if o.PublicURL == "" {
		o.PublicURL = "http://localhost:8080"
	}
	if o.Component == "" {
		o.Component = "state"
	}
	if o.MaxTransactions == 0 {
		o.MaxTransactions = 16384
	}
	if o.Backlog == 0 {
		o.Backlog = 32768
	}
	if o.Lease == 0 {
		o.Lease = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
}

const (
	// readTime and commitTime bound one call to the sidecar.
	readTime   = 5 * time.Second
	commitTime = 10 * time.Second
	// queueLength bounds the changes that wait for the committer.
	queueLength = 4096
)

// Store has a service's documents. Make one with Open. Its methods may be called in parallel.
type Store struct {
	opts      Options
	sidecar   Sidecar
	reader    *reader
	writers   []*writer
	committer *committer
	publisher *publisher
	arrivals  arrivals

	knownPartitions atomic.Int64 // of indexes, as last read from the registry
	legacy          atomic.Bool  // whether the earlier release has used this store

	stop    context.CancelFunc // ends the background work
	working sync.WaitGroup
}

// Open tests whether the store can be used (see probe.go), registers this process as a writer of the journal, and starts to
// publish events, also those of an earlier process that has ended. It waits for the sidecar until ctx ends. The caller must
// call Close.
func Open(ctx context.Context, sidecar Sidecar, opts Options) (*Store, error) {
	if opts.Service == "" || opts.Instance == "" {
		return nil, errors.New("state.Open: Options.Service and Options.Instance are required")
	}
	opts.setDefaults()
	s := &Store{opts: opts, sidecar: sidecar, reader: newReader(sidecar, opts.Component)}
	if err := s.probe(ctx); err != nil {
		return nil, err
	}
	if s.opts.Writers == 0 {
		s.opts.Writers = 2
		if strings.HasPrefix(s.componentType(ctx), "state.sqlite") {
			s.opts.Writers = 1
		}
	}
	for range s.opts.Writers {
		s.writers = append(s.writers, &writer{store: s})
	}
	metrics := newMetrics(opts.Metrics)
	s.publisher = newPublisher(sidecar, s.opts, metrics)
	metrics.limits.WithLabelValues("entries").Set(float64(s.opts.MaxTransactions))
	metrics.limits.WithLabelValues("events").Set(float64(s.opts.Backlog))
	opts.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "boxoffice_journal_oldest_unpublished_seconds",
		Help: "How long the oldest committed event has waited for the broker. 0: no event waits.",
	}, func() float64 { return s.publisher.oldest(time.Now()).Seconds() }))
	s.committer = newCommitter(s, metrics, len(s.writers))
	if err := s.register(ctx, s.writers...); err != nil {
		return nil, fmt.Errorf("register as a writer of the journal: %w", err)
	}
	registered, err := s.registered(ctx)
	if err != nil {
		return nil, err
	}
	s.knownPartitions.Store(int64(registered.Value.Partitions))
	s.legacy.Store(registered.Value.Legacy)
	s.reader.anchored.Store(true)

	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.working.Go(func() { s.committer.run(background, s.writers) })
	s.working.Go(func() { s.publisher.run(background) })
	s.working.Go(func() { s.watch(background) })
	return s, nil
}

// Close refuses new changes, finishes those under way, publishes the remaining events and unregisters the writers. If ctx ends
// first, the remaining events stay in the journal for the next process, and Close returns an error.
func (s *Store) Close(ctx context.Context) error {
	s.committer.close()
	drained := s.committer.wait(ctx) == nil && s.publisher.drain(ctx) == nil
	s.stop()
	s.working.Wait()
	if !drained {
		return fmt.Errorf("%d events were not published before the deadline; they stay in the journal and are published at the next start", s.publisher.backlog())
	}
	for _, w := range s.writers {
		if err := w.unregister(ctx); err != nil {
			return fmt.Errorf("unregister from the journal: %w", err)
		}
	}
	return nil
}

// Instance returns Options.Instance.
func (s *Store) Instance() string { return s.opts.Instance }

// Ping returns an error if the store does not respond.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.read(ctx, registryKey)
	return err
}

// CheckJournal returns the problem that a change gets while the journal is full, and nil if it is not full.
func (s *Store) CheckJournal(context.Context) error {
	if s.publisher.full() {
		return busy()
	}
	return nil
}

// Doc is a document as it was read. A change of it must name its ETag.
type Doc[T any] struct {
	Key   string
	ETag  string
	Value T
}

// Get reads the document under key and converts it to the format of this release (see schema.go). The error is ErrNotFound if
// there is no document, and a problem.Unavailable if the store cannot be reached or the document has a newer format than this
// release can read.
func Get[T any](ctx context.Context, s *Store, key string) (Doc[T], error) {
	items, err := s.read(ctx, key)
	if err != nil {
		return Doc[T]{}, err
	}
	return decode[T](items[key], key)
}

// GetMany reads the documents under keys, in the same order. It omits those that do not exist.
func GetMany[T any](ctx context.Context, s *Store, keys []string) ([]Doc[T], error) {
	items, err := s.read(ctx, keys...)
	if err != nil {
		return nil, err
	}
	docs := make([]Doc[T], 0, len(keys))
	for _, key := range keys {
		doc, err := decode[T](items[key], key)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

// GetBoth reads two documents of different types with one call. One that does not exist has no ETag.
func GetBoth[A, B any](ctx context.Context, s *Store, keyA, keyB string) (a Doc[A], b Doc[B], err error) {
	items, err := s.read(ctx, keyA, keyB)
	if err != nil {
		return a, b, err
	}
	if a, err = decode[A](items[keyA], keyA); err != nil && !errors.Is(err, ErrNotFound) {
		return a, b, err
	}
	if b, err = decode[B](items[keyB], keyB); err != nil && !errors.Is(err, ErrNotFound) {
		return a, b, err
	}
	return a, b, nil
}

// item is a document's bytes and ETag. The zero item stands for no document.
type item struct {
	value []byte
	etag  string
	err   error // if this document could not be read and others could
}

func (i item) exists() bool { return i.etag != "" }

func decode[T any](i item, key string) (Doc[T], error) {
	doc := Doc[T]{Key: key, ETag: i.etag}
	if !i.exists() {
		return doc, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	return doc, unmarshal(key, i.value, &doc.Value)
}

// read returns the items under keys; see reader.go.
func (s *Store) read(ctx context.Context, keys ...string) (map[string]item, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	return s.reader.read(ctx, keys)
}

// execute runs one transaction. After an error, the transaction may have happened or not.
func (s *Store) execute(ctx context.Context, ops []*client.StateOperation) error {
	ctx, cancel := context.WithTimeout(ctx, commitTime)
	defer cancel()
	return s.sidecar.ExecuteStateTransaction(ctx, s.opts.Component, nil, ops)
}

// unavailable is the problem of a read or a change that the store could not make. Nothing was written, and the same request may
// succeed later.
func unavailable(cause error) error {
	return problem.New(problem.Unavailable, "unavailable", "The service cannot reach its storage at the moment. Nothing was changed: send the same request again.").
		WithRetryAfter(2 * time.Second).
		Because(cause)
}

// outcomeUnknown is the problem of a change that may have been committed: the store has not responded.
func outcomeUnknown(cause error) error {
	return problem.New(problem.Unavailable, "outcome_unknown", "The service's storage did not respond in time. The request may have taken effect: %s", problem.Repeat).
		WithRetryAfter(2 * time.Second).
		Because(cause)
}

// busy is the problem of a change when the journal is full, because the broker has been unavailable for long.
func busy() error {
	return problem.New(problem.Unavailable, "unavailable", "The service cannot take changes at the moment: its events wait for the message broker. Nothing was changed: send the same request again.").
		WithRetryAfter(5 * time.Second)
}
