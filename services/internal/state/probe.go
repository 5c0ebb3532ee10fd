package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
)

// Dapr lists stores as transactional that do not roll back. In its Redis store, a transaction with a condition that does not hold
// keeps its other writes, and first-write inside a transaction overwrites an existing document. Its MongoDB store ignores errors
// of a commit and restores deleted documents, and its etcd store accepts both of two conflicting transactions. On such a store,
// a seat could be sold twice. So a service tests its store when it starts: it runs transactions that must fail, some of them at
// the same time, and checks that they have written nothing.

// unfitStoreError means that the state store does not give the guarantees that every service depends on.
type unfitStoreError struct {
	Component string // the Dapr component's name
	Type      string // its type, for example state.redis, if known
	Did       string // what it did, or failed to do
}

func (e *unfitStoreError) Error() string {
	return fmt.Sprintf("the state store component %q (%s) cannot be used: %s. "+
		"A seat could be sold twice on it. Stores known to pass: state.sqlite, state.postgresql v2. "+
		"Change the component named %q under components/; pub/sub is not affected and may stay as it is",
		e.Component, e.Type, e.Did, e.Component)
}

// probe tests the store, and waits for it until ctx ends. It returns an unfitStoreError if the store fails.
func (s *Store) probe(ctx context.Context) error {
	var last error
	_, err := backoff.Retry(ctx, func() (none struct{}, err error) {
		last = s.runProbe(ctx)
		if unfit, ok := errors.AsType[*unfitStoreError](last); ok {
			unfit.Component, unfit.Type = s.opts.Component, s.componentType(ctx)
			return none, backoff.Permanent(unfit)
		}
		return none, last
	}, persistently(20*time.Millisecond, time.Second)...)
	if _, unfit := errors.AsType[*unfitStoreError](err); err == nil || unfit {
		return err
	}
	return fmt.Errorf("the state store component %q does not respond: %w", s.opts.Component, last)
}

// probeRun is one run of the probe. All its keys have one prefix and are deleted at its end.
type probeRun struct {
	store  *Store
	prefix string
	keys   map[string]struct{} // of documents that may exist
}

// probeLife is the time to live of a probe's documents, in case the process ends before it has deleted them.
const probeLife = 10 * time.Minute

// races is how often two transactions run at the same time. Each is a chance to find a store that checks a condition and writes
// in two steps.
const races = 3

type mark struct {
	Schema int    `json:"schema"`
	Text   string `json:"text"`
}

// runProbe runs the transactions. Errors other than unfitStoreError mean that the store could not be tested now.
func (s *Store) runProbe(ctx context.Context) error {
	p := &probeRun{store: s, prefix: "probe/" + uuid.NewString() + "/", keys: map[string]struct{}{}}
	defer p.clean(ctx)
	for _, part := range []func(context.Context) error{p.rollback, p.race, p.deleted, p.cases} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func unfit(format string, args ...any) error {
	return &unfitStoreError{Did: fmt.Sprintf(format, args...)}
}

// key is the full key of a document of the probe.
func (p *probeRun) key(name string) string {
	p.keys[p.prefix+name] = struct{}{}
	return p.prefix + name
}

// run runs one transaction.
func (p *probeRun) run(ctx context.Context, build func(*Change)) error {
	var c Change
	build(&c)
	if c.err != nil {
		return c.err
	}
	tx := &transaction{}
	tx.add(c.writes...)
	return p.store.execute(ctx, tx.ops)
}

// replaceMark adds to a change the write of a document under an ETag.
func replaceMark(c *Change, key, etag, text string) {
	c.PutFor(key, etag, mark{1, text}, probeLife)
}

func (p *probeRun) read(ctx context.Context, key string) (item, error) {
	items, err := p.store.read(ctx, key)
	return items[key], err
}

// create writes a new document and reads it.
func (p *probeRun) create(ctx context.Context, key, text string) (item, error) {
	if err := p.run(ctx, func(c *Change) { c.CreateFor(key, mark{1, text}, probeLife) }); err != nil {
		return item{}, err
	}
	return p.mustBe(ctx, key, text)
}

// mustBe reads a document whose write the store has accepted, and checks its text.
func (p *probeRun) mustBe(ctx context.Context, key, text string) (item, error) {
	found, err := p.read(ctx, key)
	if err != nil {
		return item{}, err
	}
	if !found.exists() {
		return item{}, unfit("a document written to it came back without an ETag, or not at all")
	}
	var m mark
	if json.Unmarshal(found.value, &m) != nil || m.Text != text {
		return item{}, unfit("it accepted a transaction, and the document was not changed: it loses accepted writes")
	}
	return found, nil
}

// mustRefuse runs a transaction one of whose conditions, on the document under key, does not hold. It checks that the transaction
// is refused and has written nothing.
func (p *probeRun) mustRefuse(ctx context.Context, what, key string, build func(*Change)) error {
	bystander := p.key("bystander")
	before, err := p.read(ctx, key)
	if err != nil {
		return err
	}
	refusal := p.run(ctx, func(c *Change) {
		c.CreateFor(bystander, mark{1, "must not stay"}, probeLife)
		build(c)
	})
	after, err := p.read(ctx, key)
	if err != nil {
		return err
	}
	left, err := p.read(ctx, bystander)
	switch {
	case err != nil:
		return err
	case refusal == nil:
		return unfit("it accepted a transaction %s", what)
	case left.exists():
		return unfit("it refused a transaction %s, but kept another write of that transaction: it does not roll back", what)
	case after.etag != before.etag:
		return unfit("it refused a transaction %s, but changed the document all the same", what)
	}
	return nil
}

// rollback checks that a transaction is refused if one condition does not hold, and writes nothing.
func (p *probeRun) rollback(ctx context.Context) error {
	present := p.key("present")
	first, err := p.create(ctx, present, "first")
	if err != nil {
		return err
	}
	if err := p.mustRefuse(ctx, "that creates a document which exists already", present, func(c *Change) {
		c.CreateFor(present, mark{1, "again"}, probeLife)
	}); err != nil {
		return err
	}
	if err := p.run(ctx, func(c *Change) { replaceMark(c, present, first.etag, "second") }); err != nil {
		return err
	}
	if _, err := p.mustBe(ctx, present, "second"); err != nil {
		return err
	}
	if err := p.mustRefuse(ctx, "that changes a document under a stale ETag", present, func(c *Change) {
		replaceMark(c, present, first.etag, "stale")
	}); err != nil {
		return err
	}
	return p.mustRefuse(ctx, "that deletes a document under a stale ETag", present, func(c *Change) {
		c.Delete(present, first.etag)
	})
}

// race checks that of two transactions at the same time with the same ETag, one happens and the other is refused.
func (p *probeRun) race(ctx context.Context) error {
	contested := p.key("contested")
	now, err := p.create(ctx, contested, "0")
	if err != nil {
		return err
	}
	for round := range races {
		var answers [2]error
		texts, otherKeys := [2]string{}, [2]string{}
		for i := range answers {
			texts[i] = fmt.Sprintf("%d of round %d", i, round)
			otherKeys[i] = p.key(fmt.Sprintf("beside-%d-%d", round, i))
		}
		var racing sync.WaitGroup
		for i := range answers {
			racing.Go(func() {
				answers[i] = p.run(ctx, func(c *Change) {
					c.CreateFor(otherKeys[i], mark{1, texts[i]}, probeLife)
					replaceMark(c, contested, now.etag, texts[i])
				})
			})
		}
		racing.Wait()
		if answers[0] == nil && answers[1] == nil {
			return unfit("it accepted two transactions at once that change a document under the same ETag: one of the writes is lost")
		}
		after, err := p.read(ctx, contested)
		if err != nil {
			return err
		}
		for i := range answers {
			left, err := p.read(ctx, otherKeys[i])
			if err != nil {
				return err
			}
			if won := answers[i] == nil; won && !left.exists() {
				return unfit("it accepted one of two transactions at once, and a write of that is missing")
			} else if won {
				if after, err = p.mustBe(ctx, contested, texts[i]); err != nil {
					return err
				}
			} else if left.exists() && answers[1-i] == nil {
				return unfit("it refused one of two transactions at once, but kept a write of that: it does not roll back")
			}
		}
		now = after // unchanged, if both were refused
	}
	return nil
}

// deleted checks that a deleted document stays deleted, and that a new document under its key has another ETag.
func (p *probeRun) deleted(ctx context.Context) error {
	key := p.key("deleted")
	first, err := p.create(ctx, key, "first")
	if err != nil {
		return err
	}
	if err := p.run(ctx, func(c *Change) { c.Delete(key, first.etag) }); err != nil {
		return err
	}
	if gone, err := p.read(ctx, key); err != nil {
		return err
	} else if gone.exists() {
		return unfit("it accepted a transaction that deletes a document, and the document is still there")
	}
	if err := p.mustRefuse(ctx, "that changes a deleted document", key, func(c *Change) {
		replaceMark(c, key, first.etag, "revived")
	}); err != nil {
		return err
	}
	second, err := p.create(ctx, key, "second")
	if err != nil {
		return err
	}
	if second.etag == first.etag {
		return unfit("it gave a document that was deleted and created again the ETag that it had before")
	}
	return p.mustRefuse(ctx, "that changes a document under the ETag that it had before it was deleted and created again", key, func(c *Change) {
		replaceMark(c, key, first.etag, "stale")
	})
}

// cases checks that keys that differ in case are keys of different documents.
func (p *probeRun) cases(ctx context.Context) error {
	lower, upper := p.key("case"), p.key("CASE")
	if _, err := p.create(ctx, lower, "lower"); err != nil {
		return err
	}
	found, err := p.read(ctx, upper)
	if err != nil {
		return err
	}
	if found.exists() {
		return unfit("it takes keys that differ in case for one")
	}
	if _, err := p.create(ctx, upper, "upper"); err != nil {
		return err
	}
	if _, err := p.mustBe(ctx, lower, "lower"); err != nil {
		return unfit("it takes keys that differ in case for one")
	}
	return nil
}

// clean deletes the documents of the probe. If it fails, they end by their time to live.
func (p *probeRun) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
	defer cancel()
	var ops []*client.StateOperation
	for key := range p.keys {
		ops = append(ops, removal(key))
	}
	if err := p.store.execute(ctx, ops); err != nil {
		p.store.opts.Log.Debug("could not delete the documents of the store's probe; they have a time to live", "error", err)
	}
}

// componentType reads the component's type from the sidecar.
func (s *Store) componentType(ctx context.Context) string {
	metadata, err := s.sidecar.GetMetadata(ctx)
	if err != nil {
		return "of unknown type"
	}
	for _, component := range metadata.RegisteredComponents {
		if component.Name == s.opts.Component {
			return component.Type + " " + component.Version
		}
	}
	return "of unknown type"
}
