package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Dapr lists stores as transactional that do not roll back: in its Redis store a transaction in which one
// condition fails keeps the other writes, and inside a transaction first-write does not refuse an existing key.
// On such a store this design would sell a seat twice. So a service does not trust the list: at start it runs
// transactions that must fail, and looks whether anything of them stayed.

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

// probe proves the store, waiting for it until ctx ends. It returns an UnfitStoreError if the store fails.
func (s *Store) probe(ctx context.Context) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := s.proveRollback(ctx)
		if unfit, ok := errors.AsType[*UnfitStoreError](err); ok {
			unfit.Component, unfit.Type = s.opts.Component, s.componentType(ctx)
			return unfit
		}
		if err == nil {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("the state store component %q does not answer: %w", s.opts.Component, err)
		}
	}
}

// proveRollback runs the transactions. Errors other than UnfitStoreError mean that the store could not be
// judged now.
func (s *Store) proveRollback(ctx context.Context) error {
	type mark struct {
		Schema int    `json:"schema"`
		Text   string `json:"text"`
	}
	const keep = time.Minute // should this process die here, the store forgets by itself
	prefix := "probe/" + uuid.NewString() + "/"
	present, bystander := prefix+"present", prefix+"bystander"

	run := func(build func(*Change)) error {
		var c Change
		build(&c)
		if c.err != nil {
			return c.err
		}
		tx := &transaction{}
		tx.add(c.writes...)
		return s.execute(ctx, tx.ops)
	}
	look := func(key string) (item, error) {
		items, err := s.read(ctx, key)
		return items[key], err
	}
	// mustRefuse runs a transaction of which one condition does not hold, and looks for what it left.
	mustRefuse := func(what string, build func(*Change)) error {
		before, err := look(present)
		if err != nil {
			return err
		}
		refusal := run(build)
		after, err := look(present)
		if err != nil {
			return err
		}
		left, err := look(bystander)
		switch {
		case err != nil:
			return err
		case refusal == nil:
			return &UnfitStoreError{Did: "it accepted a transaction " + what}
		case left.exists():
			return &UnfitStoreError{Did: "it refused a transaction " + what + ", but kept another write of that transaction: it does not roll back"}
		case after.etag != before.etag:
			return &UnfitStoreError{Did: "it refused a transaction " + what + ", but changed the document all the same"}
		}
		return nil
	}

	if err := run(func(c *Change) { c.CreateFor(present, mark{1, "first"}, keep) }); err != nil {
		return err
	}
	first, err := look(present)
	if err != nil {
		return err
	}
	if !first.exists() {
		return &UnfitStoreError{Did: "a document written to it came back without an ETag, or not at all"}
	}
	if err := mustRefuse("that creates a document which exists already", func(c *Change) {
		c.CreateFor(bystander, mark{1, "must not stay"}, keep)
		c.CreateFor(present, mark{1, "again"}, keep)
	}); err != nil {
		return err
	}
	if err := run(func(c *Change) { c.Update(present, first.etag, mark{1, "second"}) }); err != nil {
		return err
	}
	if err := mustRefuse("that changes a document under a stale ETag", func(c *Change) {
		c.CreateFor(bystander, mark{1, "must not stay"}, keep)
		c.Update(present, first.etag, mark{1, "stale"})
	}); err != nil {
		return err
	}
	if err := mustRefuse("that deletes a document under a stale ETag", func(c *Change) {
		c.CreateFor(bystander, mark{1, "must not stay"}, keep)
		c.Delete(present, first.etag)
	}); err != nil {
		return err
	}
	second, err := look(present)
	if err != nil {
		return err
	}
	return run(func(c *Change) { c.Delete(present, second.etag) })
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
