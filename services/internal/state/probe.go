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

// Dapr lists stores as transactional that do not roll back: in its Redis store a transaction in which one
// condition fails keeps the other writes, and inside a transaction first-write does not refuse an existing key.
// Its MongoDB store drops errors of a commit and brings deleted documents back, its etcd store tells the loser of a race that
// it has won. On such a store this design would sell a seat twice. So a service does not trust the list: at start it runs
// transactions that must fail, two of them at once where that matters, and looks whether anything of them stayed.

// UnfitStoreError says that the state store does not keep what every service here relies on.
type UnfitStoreError struct {
	Component string // the Dapr component's name
	Type      string // its type, for example state.redis, if Dapr tells
	Did       string // what it did, or failed to do
}

func (e *UnfitStoreError) Error() string {
	return fmt.Sprintf("the state store component %q (%s) cannot be used: %s. "+
		"A seat could be sold twice on it. Stores known to pass: state.sqlite, state.postgresql v2. "+
		"Change the component named %q under components/; pub/sub is not affected and may stay as it is",
		e.Component, e.Type, e.Did, e.Component)
}

// probe proves the store, and waits for it until ctx ends. It returns an UnfitStoreError if the store fails.
func (s *Store) probe(ctx context.Context) error {
	var last error
	_, err := backoff.Retry(ctx, func() (none struct{}, err error) {
		last = s.prove(ctx)
		if unfit, ok := errors.AsType[*UnfitStoreError](last); ok {
			unfit.Component, unfit.Type = s.opts.Component, s.componentType(ctx)
			return none, backoff.Permanent(unfit)
		}
		return none, last
	}, persistently(20*time.Millisecond, time.Second)...)
	if _, unfit := errors.AsType[*UnfitStoreError](err); err == nil || unfit {
		return err
	}
	return fmt.Errorf("the state store component %q does not respond: %w", s.opts.Component, last)
}

// proof is one run of the probe: its keys, all under one prefix, which are deleted at its end.
type proof struct {
	store  *Store
	prefix string
	keys   map[string]struct{} // under the prefix, that may exist
}

// probeLife is how long the store keeps what a probe writes, should the process die before it has deleted it.
const probeLife = 10 * time.Minute

// races is how often two transactions meet. Each is a chance to see what a store does that looks at a condition first and
// writes afterwards.
const races = 3

type mark struct {
	Schema int    `json:"schema"`
	Text   string `json:"text"`
}

// prove runs the transactions. Errors other than UnfitStoreError mean that the store could not be judged now.
func (s *Store) prove(ctx context.Context) error {
	p := &proof{store: s, prefix: "probe/" + uuid.NewString() + "/", keys: map[string]struct{}{}}
	defer p.clean(ctx)
	for _, part := range []func(context.Context) error{p.rollback, p.race, p.deleted, p.cases} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func unfit(format string, args ...any) error {
	return &UnfitStoreError{Did: fmt.Sprintf(format, args...)}
}

// key is the full key of a document of the probe.
func (p *proof) key(name string) string {
	p.keys[p.prefix+name] = struct{}{}
	return p.prefix + name
}

// run runs one transaction.
func (p *proof) run(ctx context.Context, build func(*Change)) error {
	var c Change
	build(&c)
	if c.err != nil {
		return c.err
	}
	tx := &transaction{}
	tx.add(c.writes...)
	return p.store.execute(ctx, tx.ops)
}

// update is a change's write of a document under an ETag.
func update(c *Change, key, etag, text string) {
	c.put(write{key: key, etag: etag, ttl: probeLife}, mark{1, text})
}

func (p *proof) look(ctx context.Context, key string) (item, error) {
	items, err := p.store.read(ctx, key)
	return items[key], err
}

// create writes a new document and returns it as it then is.
func (p *proof) create(ctx context.Context, key, text string) (item, error) {
	if err := p.run(ctx, func(c *Change) { c.CreateFor(key, mark{1, text}, probeLife) }); err != nil {
		return item{}, err
	}
	return p.mustBe(ctx, key, text)
}

// mustBe reads a document that was written, and which the store has said it has.
func (p *proof) mustBe(ctx context.Context, key, text string) (item, error) {
	found, err := p.look(ctx, key)
	if err != nil {
		return item{}, err
	}
	if !found.exists() {
		return item{}, unfit("a document written to it came back without an ETag, or not at all")
	}
	var m mark
	if json.Unmarshal(found.value, &m) != nil || m.Text != text {
		return item{}, unfit("it accepted a transaction, and the document was not changed: it loses what it has answered for")
	}
	return found, nil
}

// mustRefuse runs a transaction of which one condition, on the document under key, does not hold, and looks for what it left.
func (p *proof) mustRefuse(ctx context.Context, what, key string, build func(*Change)) error {
	bystander := p.key("bystander")
	before, err := p.look(ctx, key)
	if err != nil {
		return err
	}
	refusal := p.run(ctx, func(c *Change) {
		c.CreateFor(bystander, mark{1, "must not stay"}, probeLife)
		build(c)
	})
	after, err := p.look(ctx, key)
	if err != nil {
		return err
	}
	left, err := p.look(ctx, bystander)
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

// rollback: a transaction of which one condition does not hold is refused, and leaves nothing.
func (p *proof) rollback(ctx context.Context) error {
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
	if err := p.run(ctx, func(c *Change) { update(c, present, first.etag, "second") }); err != nil {
		return err
	}
	if _, err := p.mustBe(ctx, present, "second"); err != nil {
		return err
	}
	if err := p.mustRefuse(ctx, "that changes a document under a stale ETag", present, func(c *Change) {
		update(c, present, first.etag, "stale")
	}); err != nil {
		return err
	}
	return p.mustRefuse(ctx, "that deletes a document under a stale ETag", present, func(c *Change) {
		c.Delete(present, first.etag)
	})
}

// race: of two transactions at once that name the same ETag, one happens, and the other one is refused.
func (p *proof) race(ctx context.Context) error {
	contested := p.key("contested")
	now, err := p.create(ctx, contested, "0")
	if err != nil {
		return err
	}
	for round := range races {
		var answers [2]error
		texts, besides := [2]string{}, [2]string{}
		for i := range answers {
			texts[i] = fmt.Sprintf("%d of round %d", i, round)
			besides[i] = p.key(fmt.Sprintf("beside-%d-%d", round, i))
		}
		var racing sync.WaitGroup
		for i := range answers {
			racing.Go(func() {
				answers[i] = p.run(ctx, func(c *Change) {
					c.CreateFor(besides[i], mark{1, texts[i]}, probeLife)
					update(c, contested, now.etag, texts[i])
				})
			})
		}
		racing.Wait()
		if answers[0] == nil && answers[1] == nil {
			return unfit("it accepted two transactions at once that change a document under the same ETag: the loser of the race was told that it had won")
		}
		after, err := p.look(ctx, contested)
		if err != nil {
			return err
		}
		for i := range answers {
			left, err := p.look(ctx, besides[i])
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

// deleted: what is deleted stays so, and what is created under its key is another document.
func (p *proof) deleted(ctx context.Context) error {
	key := p.key("deleted")
	first, err := p.create(ctx, key, "first")
	if err != nil {
		return err
	}
	if err := p.run(ctx, func(c *Change) { c.Delete(key, first.etag) }); err != nil {
		return err
	}
	if gone, err := p.look(ctx, key); err != nil {
		return err
	} else if gone.exists() {
		return unfit("it accepted a transaction that deletes a document, and the document is still there")
	}
	if err := p.mustRefuse(ctx, "that changes a deleted document", key, func(c *Change) {
		update(c, key, first.etag, "revived")
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
		update(c, key, first.etag, "stale")
	})
}

// cases: keys that differ in case are keys of different documents.
func (p *proof) cases(ctx context.Context) error {
	lower, upper := p.key("case"), p.key("CASE")
	if _, err := p.create(ctx, lower, "lower"); err != nil {
		return err
	}
	found, err := p.look(ctx, upper)
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

// clean deletes all that the probe may have left. What it cannot delete, the store does later.
func (p *proof) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
	defer cancel()
	var ops []*client.StateOperation
	for key := range p.keys {
		ops = append(ops, removal(key))
	}
	if err := p.store.execute(ctx, ops); err != nil {
		p.store.opts.Log.Debug("could not delete what the probe of the store has written; the store does", "error", err)
	}
}

// componentType asks the sidecar what the component is.
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
