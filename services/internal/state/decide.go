package state

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"boxoffice/services/internal/problem"
)

// Decide makes a decision and commits it. decide reads what the decision depends on and returns the change and an answer; a
// nil change commits nothing. If a document that the change writes was changed after it was read, Decide calls decide again.
// After many conflicts the error is a problem.Conflict with the code "conflict". Other errors are those of decide and Store.Commit. The answer is the last one of decide, also if there is an error.
func Decide[A any](ctx context.Context, s *Store, decide func(ctx context.Context) (*Change, A, error)) (A, error) {
	var answer A
	err := Retry(ctx, func(ctx context.Context) error {
		var change *Change
		var err error
		if change, answer, err = decide(ctx); err != nil || change == nil {
			return err
		}
		return s.Commit(ctx, change)
	})
	return answer, err
}

// Modify changes one document. It reads the document under key (the zero value if there is none) and calls modify, which
// changes doc, adds events or index entries to change, and reports whether there is anything to commit. On a conflict, Modify
// begins again. It returns the document as modify left it, also if there is an error.
func Modify[T any](ctx context.Context, s *Store, key string, modify func(doc *T, change *Change) (changed bool, err error)) (T, error) {
	return Decide(ctx, s, func(ctx context.Context) (*Change, T, error) {
		doc, err := Get[T](ctx, s, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, doc.Value, err
		}
		change := new(Change)
		changed, err := modify(&doc.Value, change)
		if err != nil || !changed {
			return nil, doc.Value, err
		}
		change.Put(key, doc.ETag, doc.Value)
		return change, doc.Value, nil
	})
}

// decisionAttempts bounds the tries of a decision, at about a second in all. It is generous, because a document may change
// often although the changes do not contradict each other: a ticket's projection changes with every event of its reservations.
const decisionAttempts = 32

// Retry calls decide, which reads, decides and commits, until it does not return ErrConflict. After many conflicts the
// error is a problem.Conflict. Use Decide or Modify where they fit.
func Retry(ctx context.Context, decide func(ctx context.Context) error) error {
	var last error
	_, err := backoff.Retry(ctx, func() (none struct{}, err error) {
		if last = decide(ctx); errors.Is(last, ErrConflict) {
			return none, last
		}
		return none, backoff.Permanent(last)
	},
		backoff.WithBackOff(&backoff.ExponentialBackOff{
			InitialInterval: time.Millisecond, Multiplier: 2, MaxInterval: 32 * time.Millisecond, RandomizationFactor: 1,
		}),
		backoff.WithMaxTries(decisionAttempts), backoff.WithMaxElapsedTime(0))
	switch {
	case !errors.Is(last, ErrConflict):
		return last
	case errors.Is(err, ErrConflict):
		return problem.New(problem.Conflict, "conflict", "Other requests changed this at the same moment, several times. Nothing was changed by this one: read it again, then repeat it.").Because(err)
	default:
		return unavailable(err) // ctx has ended
	}
}

// persistently are the options of a retry that only its context ends: the pause grows from first to longest.
func persistently(first, longest time.Duration) []backoff.RetryOption {
	return []backoff.RetryOption{
		backoff.WithBackOff(&backoff.ExponentialBackOff{
			InitialInterval: first, Multiplier: 2, MaxInterval: longest, RandomizationFactor: backoff.DefaultRandomizationFactor,
		}),
		backoff.WithMaxElapsedTime(0),
	}
}
