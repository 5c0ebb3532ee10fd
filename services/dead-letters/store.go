package main

import (
	"context"
	"errors"
	"time"

	"boxoffice/services/internal/state"
)

const index = "letters"

func letterKey(id string) string { return "letter/" + id }

var errNotFound = errors.New("there is no such letter")

// box keeps the letters.
type box struct {
	store   *state.Store
	publish func(ctx context.Context, topic string, event []byte) error
}

// keep puts a letter that came in into the box. The same letter twice is one; false says that it was there.
func (b *box) keep(ctx context.Context, l Letter) (fresh bool, err error) {
	var change state.Change
	change.Create(letterKey(l.ID), l)
	change.Append(index, l.ID)
	err = b.store.Commit(ctx, &change)
	if errors.Is(err, state.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// get returns a letter, or errNotFound.
func (b *box) get(ctx context.Context, id string) (Letter, error) {
	doc, err := state.Get[Letter](ctx, b.store, letterKey(id))
	if errors.Is(err, state.ErrNotFound) {
		err = errNotFound
	}
	return doc.Value, err
}

// all returns the letters, newest first.
func (b *box) all(ctx context.Context) ([]Letter, error) {
	const page = 200
	var all []Letter
	for from := ""; ; {
		letters, next, err := state.List(ctx, b.store, index, page, from, letterKey, func(Letter) bool { return true })
		if err != nil {
			return nil, err
		}
		all = append(all, letters...)
		if next == "" {
			return all, nil
		}
		from = next
	}
}

// send publishes a letter's event again, for the service that could not handle it: the intent first, then the event, then that it is out. A command that dies
// in between leaves a letter whose sending has begun, and the next one finishes it.
func (b *box) send(ctx context.Context, id string) (Letter, error) {
	l, err := b.decide(ctx, id, (*Letter).begin)
	if err != nil {
		return l, err
	}
	return b.finish(ctx, l)
}

func (b *box) finish(ctx context.Context, l Letter) (Letter, error) {
	for _, topic := range l.retryTopics() {
		if err := b.publish(ctx, topic, l.Begun); err != nil {
			return l, err
		}
	}
	number := l.Sendings
	return b.decide(ctx, l.ID, func(l *Letter) error {
		if l.Begun != nil && l.Sendings == number {
			l.finish(now())
		}
		return nil
	})
}

// finishAll finishes the sendings that a command has begun which then died.
func (b *box) finishAll(ctx context.Context) error {
	letters, err := b.all(ctx)
	if err != nil {
		return err
	}
	for _, l := range letters {
		if l.status() != sending {
			continue
		}
		// What does not go out now stays, and is shown as it is.
		if _, err := b.finish(ctx, l); ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// decide lets a transition change a letter, and commits it.
func (b *box) decide(ctx context.Context, id string, transition func(*Letter) error) (Letter, error) {
	var letter Letter
	err := state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[Letter](ctx, b.store, letterKey(id))
		if errors.Is(err, state.ErrNotFound) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		letter = doc.Value
		version := letter.Version
		if err := transition(&letter); err != nil || letter.Version == version {
			return err
		}
		var change state.Change
		change.Update(doc.Key, doc.ETag, letter)
		return b.store.Commit(ctx, &change)
	})
	return letter, err
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
