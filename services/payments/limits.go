package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"

	lru "github.com/hashicorp/golang-lru/v2"
)

// For a payment that succeeds at once the limits (domain/limits.go) need no additional call. The user's document is written
// with the attempt, and not changed when the outcome is known. It is read, in the same call as the order, only if this process
// remembers that it exists. Otherwise it is written on the condition that it does not exist; if it does, it is read after the
// conflict. Only when a user has used up all attempts of the hour are the orders of these attempts read, to see which of them
// were declined.

// usersWithAttempts remembers which users have a document, and since when. It may be wrong: a commit is guarded by the ETag.
type usersWithAttempts struct {
	seen *lru.Cache[id.User, time.Time]
}

// usersRemembered bounds how many users are remembered.
const usersRemembered = 8192

func newUsersWithAttempts() usersWithAttempts {
	seen, _ := lru.New[id.User, time.Time](usersRemembered) // the error is that of a size below 1
	return usersWithAttempts{seen}
}

func (u usersWithAttempts) put(user id.User, now time.Time) { u.seen.Add(user, now) }

func (u usersWithAttempts) has(user id.User, now time.Time) bool {
	seen, known := u.seen.Get(user)
	return known && now.Sub(seen) < domain.AttemptWindow
}

// admit adds an attempt for an order to the user's document, or returns domain.ErrUserAttempts. counted is how many of the
// order's attempts count for the user.
func (s *store) admit(ctx context.Context, change *state.Change, user state.Doc[domain.UserAttempts], order *domain.Order, counted int) error {
	if s.limits.PerHour == 0 {
		return nil
	}
	now := s.clock()
	attempts, err := s.attemptsThatCount(ctx, user.Value.InWindow(now), order.ID, counted)
	if err != nil {
		return err
	}
	if err := s.limits.CheckHour(attempts, now); err != nil {
		s.metrics.refused.WithLabelValues("user").Inc()
		return err
	}
	attempts.Add(order.ID, 1, now)
	s.putAttempts(change, user, attempts, order, now)
	return nil
}

// recordDeclines adds the declines that Observe has found to the user's document, and marks the payment as exhausted if they,
// or the order's, are too many.
func (s *store) recordDeclines(ctx context.Context, change *state.Change, order *domain.Order) error {
	p := order.Payment
	if p == nil {
		return nil
	}
	if s.limits.CheckOrder(p.KnownDeclines()) != nil {
		p.Exhausted = true
	}
	if p.Unrecorded() == 0 || s.limits.PerHour == 0 {
		return nil
	}
	user, err := state.Get[domain.UserAttempts](ctx, s.documents, userKey(order.UserID))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	now := s.clock()
	attempts := user.Value.InWindow(now)
	attempts.Add(order.ID, min(p.Unrecorded(), s.limits.PerHour), now)
	if attempts, err = s.attemptsThatCount(ctx, attempts, order.ID, p.CountedForUser()); err != nil {
		return err
	}
	p.Exhausted = p.Exhausted || s.limits.ReachesHour(attempts)
	s.putAttempts(change, user, attempts, order, now)
	return nil
}

// putAttempts adds the document of the order's user to the change, with the user's attempts as they are now.
func (s *store) putAttempts(change *state.Change, user state.Doc[domain.UserAttempts], attempts domain.UserAttempts, order *domain.Order, now time.Time) {
	s.usersWithAttempts.put(order.UserID, now)
	change.PutFor(userKey(order.UserID), user.ETag, attempts, domain.AttemptWindow)
}

// attemptsThatCount removes the attempts that do not count, if there are so many that this matters. It reads their orders; n
// attempts count of the given order.
func (s *store) attemptsThatCount(ctx context.Context, attempts domain.UserAttempts, orderID id.Order, n int) (domain.UserAttempts, error) {
	if !s.limits.ReachesHour(attempts) {
		return attempts, nil
	}
	var keys []string
	for _, attempt := range attempts.Attempts {
		if key := orderKey(attempt.OrderID); attempt.OrderID != orderID && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	docs, err := state.GetMany[domain.Order](ctx, s.documents, keys)
	if err != nil {
		return attempts, err
	}
	counts := map[id.Order]int{orderID: n}
	for _, doc := range docs {
		if p := doc.Value.Payment; p != nil {
			counts[doc.Value.ID] = p.CountedForUser()
		}
	}
	return attempts.Counted(counts), nil
}

// countRefused counts the error if it is that of a limit of an order.
func (s *store) countRefused(err error) error {
	if errors.Is(err, domain.ErrOrderAttempts) {
		s.metrics.refused.WithLabelValues("order").Inc()
	}
	return err
}
