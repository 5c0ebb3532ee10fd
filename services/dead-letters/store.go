package main

import (
	"context"
	"errors"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	letter/{id}  DeadLetter; the index "letters" lists them
func deadLetterKey(id string) string { return "letter/" + id }

const index = "letters"

var errNoDeadLetter = errors.New("there is no such dead letter")

// store reads and commits the dead letters.
type store struct {
	documents *state.Store
	clock     clock.Clock
}

func newStore(documents *state.Store, clock clock.Clock) *store { return &store{documents, clock} }

// Create stores a new dead letter. It returns false if it is stored already, because its message was delivered again.
func (s *store) Create(ctx context.Context, l DeadLetter) (created bool, err error) {
	var change state.Change
	change.Create(deadLetterKey(l.ID), l)
	change.Append(index, l.ID)
	err = s.documents.Commit(ctx, &change)
	if errors.Is(err, state.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// Get returns a dead letter, or errNoDeadLetter.
func (s *store) Get(ctx context.Context, id string) (DeadLetter, error) {
	doc, err := state.Get[DeadLetter](ctx, s.documents, deadLetterKey(id))
	if errors.Is(err, state.ErrNotFound) {
		err = errNoDeadLetter
	}
	return doc.Value, err
}

// All returns all dead letters, newest first.
func (s *store) All(ctx context.Context) ([]DeadLetter, error) {
	const page = 200
	var all []DeadLetter
	for from := ""; ; {
		letters, next, err := state.List(ctx, s.documents, index, page, from, deadLetterKey, func(DeadLetter) bool { return true })
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

// BeginSending commits the event that is to be published again.
func (s *store) BeginSending(ctx context.Context, id string) (DeadLetter, error) {
	return s.modify(ctx, id, (*DeadLetter).BeginSending)
}

// FinishSending commits that the broker has the event of a sending.
func (s *store) FinishSending(ctx context.Context, id string, sending int) (DeadLetter, error) {
	return s.modify(ctx, id, func(l *DeadLetter) error {
		l.FinishSending(sending, s.clock())
		return nil
	})
}

func (s *store) modify(ctx context.Context, id string, modify func(*DeadLetter) error) (DeadLetter, error) {
	return state.Modify(ctx, s.documents, deadLetterKey(id), func(l *DeadLetter, _ *state.Change) (changed bool, err error) {
		if l.ID == "" {
			return false, errNoDeadLetter
		}
		version := l.Version
		err = modify(l)
		return l.Version != version, err
	})
}
