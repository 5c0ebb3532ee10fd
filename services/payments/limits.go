package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// Card testing: somebody tries many stolen cards to learn which of them work. Two limits are in its way: how many cards
// may be declined for an order, and how many of a user within an hour. What is over a limit is refused, and nothing is
// sent to Stripe.
//
// An attempt counts from the moment at which it is written down, and no longer counts when it is known that it was not
// declined. So both limits hold however many requests, processes and orders of a user there are at once: an order's
// count is part of its document, a user's is a document of its own, and whoever writes an attempt down writes both in one
// transaction, each on the condition that it is as it was read.
//
// The limits cost a payment that goes well no call. The user's document is written with the attempt, and not touched when
// the outcome is known. It is read, in the same call as the order, only if this process remembers that there is one; if not,
// it is written on the condition that there is none, and if that does not hold it is read after all. Only when a user has
// used up all attempts of the hour are the orders read which they were for, to see which of them were declined.

// limits bound how many cards may be declined. 0 is no limit.
type limits struct {
	perOrder int
	perHour  int // of a user
}

// attemptWindow is the time within which a user's declined cards are counted.
const attemptWindow = time.Hour

var (
	errOrderAttempts = problem.New(problem.Conflict, "Too many cards were declined for this order. It cannot be paid with another one; nothing was charged.").
				WithField("orderId").WithCode("too_many_attempts")
	errUserAttempts = problem.New(problem.TooManyRequests, "Too many of your cards were declined within an hour. Wait before you try another one; nothing was charged.").
			WithCode("too_many_attempts")
)

// userAttempts is the document of a user who has attempted to pay within the last hour. The store forgets it after that.
type userAttempts struct {
	Schema   int           `json:"schema"`
	Attempts []userAttempt `json:"attempts"` // in the order in which they were made
}

// userAttempt is an attempt that may have been declined.
type userAttempt struct {
	OrderID string    `json:"orderId"`
	At      time.Time `json:"at"`
}

// triers remembers which users have a document. It may forget, and be wrong: what is written is guarded by the ETag.
type triers struct {
	mu    sync.Mutex
	users map[string]time.Time // when the document was seen
}

// triersLength bounds how many users are remembered.
const triersLength = 8192

func (r *triers) put(user string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users == nil || len(r.users) >= triersLength {
		r.users = map[string]time.Time{}
	}
	r.users[user] = at
}

func (r *triers) has(user string, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, known := r.users[user]
	return known && at.Sub(seen) < attemptWindow
}

func userKey(id string) string { return "user/" + id }

// mayDecline is how many attempts of the payment were declined or may still be: one that waits for the buyer's bank may.
func (p *Payment) mayDecline() int {
	if p.Status == RequiresAction {
		return p.Declines + 1
	}
	return p.Declines
}

// since leaves out the attempts that are older than a time.
func since(attempts []userAttempt, at time.Time) []userAttempt {
	return slices.DeleteFunc(slices.Clone(attempts), func(a userAttempt) bool { return !a.At.After(at) })
}

// declined leaves out the attempts of which it is known that they were not declined: of each order the oldest, so that no
// more are left than it says.
func declined(attempts []userAttempt, most map[string]int) []userAttempt {
	var left []userAttempt
	kept := map[string]int{}
	for _, attempt := range slices.Backward(attempts) {
		if n, known := most[attempt.OrderID]; known && kept[attempt.OrderID] >= n {
			continue
		}
		kept[attempt.OrderID]++
		left = append(left, attempt)
	}
	slices.Reverse(left)
	return left
}

// admit adds an attempt for an order to those that the user has made. before is how many of the order's attempts may have
// been declined. It returns errUserAttempts, with the time to wait, if there are too many.
func (t *till) admit(ctx context.Context, change *state.Change, user state.Doc[userAttempts], order *Order, before int) error {
	limit := t.limits.perHour
	if limit == 0 {
		return nil
	}
	at := now()
	attempts := since(user.Value.Attempts, at.Add(-attemptWindow))
	if len(attempts) >= limit {
		most, err := t.mayDecline(ctx, attempts, order.ID)
		if err != nil {
			return err
		}
		most[order.ID] = before
		attempts = declined(attempts, most)
	}
	if len(attempts) >= limit {
		t.meters.refused.WithLabelValues("user").Inc()
		return errUserAttempts.WithRetryAfter(attempts[len(attempts)-limit].At.Add(attemptWindow).Sub(at))
	}
	attempts = append(attempts, userAttempt{OrderID: order.ID, At: at})
	t.triers.put(order.UserID, at)
	change.PutFor(userKey(order.UserID), user.ETag, userAttempts{Schema: 1, Attempts: attempts}, attemptWindow)
	return nil
}

// mayDecline says of the orders of these attempts, but for one, how many attempts may have been declined. An order of
// which that is not known is not among them.
func (t *till) mayDecline(ctx context.Context, attempts []userAttempt, except string) (map[string]int, error) {
	var keys []string
	for _, attempt := range attempts {
		if key := orderKey(attempt.OrderID); attempt.OrderID != except && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	docs, err := state.GetMany[Order](ctx, t.store, keys)
	if err != nil {
		return nil, err
	}
	most := map[string]int{}
	for _, doc := range docs {
		if p := doc.Value.Payment; p != nil {
			most[strings.TrimPrefix(doc.Key, orderKey(""))] = p.mayDecline()
		}
	}
	return most, nil
}
