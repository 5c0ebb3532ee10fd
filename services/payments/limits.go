package main

import (
	"context"
	"errors"
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
// Cards are tried at Stripe, too, past this service: whoever has an intent's client secret and the publishable key may
// confirm the intent. Such declines are counted when a webhook tells of them: the number of failed charges is Stripe's.
// When a limit is reached, the intent is canceled. Until then Stripe takes what arrives: a limit is exceeded by what is
// sent there within the time that a webhook takes.
//
// A user's hour also counts what only costs requests to Stripe: cards that Stripe does not know, and those that are given
// up, while the bank waits for the buyer, for another.
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
	errUserAttempts = problem.New(problem.TooManyRequests, "Too many of your cards were declined or not known within an hour. Wait before you try another one; nothing was charged.").
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

// usersWithAttempts remembers which users have a document. It may forget, and be wrong: what is written is guarded by the ETag.
type usersWithAttempts struct {
	mu    sync.Mutex
	users map[string]time.Time // when the document was seen
}

// usersRemembered bounds how many users are remembered.
const usersRemembered = 8192

func (r *usersWithAttempts) put(user string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users == nil || len(r.users) >= usersRemembered {
		r.users = map[string]time.Time{}
	}
	r.users[user] = at
}

func (r *usersWithAttempts) has(user string, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, known := r.users[user]
	return known && at.Sub(seen) < attemptWindow
}

func userKey(id string) string { return "user/" + id }

// inHour is how many attempts of the payment count for its user: those that were declined, or may still be, as one that
// waits for the buyer's bank may; and those that came to nothing.
func (p *Payment) inHour() int {
	if p.Status == RequiresAction {
		return p.Declines + p.Fruitless + 1
	}
	return p.Declines + p.Fruitless
}

// declined is how many attempts were declined, without the one that is under way.
func (p *Payment) declined() int {
	if p.Attempt.Open {
		return p.Declines - 1
	}
	return p.Declines
}

// record adds to the user's document the declines that Observe has found, and marks the payment as exhausted if they, or
// the order's, are too many.
func (t *store) record(ctx context.Context, change *state.Change, order *Order) error {
	p := order.Payment
	if p == nil {
		return nil
	}
	if t.limits.perOrder > 0 && p.declined() >= t.limits.perOrder {
		p.Exhausted = true
	}
	if p.unrecorded == 0 || t.limits.perHour == 0 {
		return nil
	}
	user, err := state.Get[userAttempts](ctx, t.documents, userKey(order.UserID))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	at := now()
	attempts := since(user.Value.Attempts, at.Add(-attemptWindow))
	for range min(p.unrecorded, t.limits.perHour) {
		attempts = append(attempts, userAttempt{OrderID: order.ID, At: at})
	}
	if len(attempts) >= t.limits.perHour {
		if attempts, err = t.counted(ctx, attempts, order.ID, p.inHour()); err != nil {
			return err
		}
		p.Exhausted = p.Exhausted || len(attempts) >= t.limits.perHour
	}
	t.usersWithAttempts.put(order.UserID, at)
	change.PutFor(userKey(order.UserID), user.ETag, userAttempts{Schema: 1, Attempts: attempts}, attemptWindow)
	return nil
}

// counted leaves out the attempts that do not count; n of the given order do.
func (t *store) counted(ctx context.Context, attempts []userAttempt, orderID string, n int) ([]userAttempt, error) {
	most, err := t.inHour(ctx, attempts, orderID)
	if err != nil {
		return nil, err
	}
	most[orderID] = n
	return declined(attempts, most), nil
}

// since leaves out the attempts that are older than a time.
func since(attempts []userAttempt, at time.Time) []userAttempt {
	return slices.DeleteFunc(slices.Clone(attempts), func(a userAttempt) bool { return !a.At.After(at) })
}

// declined leaves out the attempts of which it is known that they do not count: of each order the oldest, so that no
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

// admit adds an attempt for an order to those that the user has made. before is how many of the order's attempts count. It returns errUserAttempts, with the time to wait, if there are too many.
func (t *store) admit(ctx context.Context, change *state.Change, user state.Doc[userAttempts], order *Order, before int) error {
	limit := t.limits.perHour
	if limit == 0 {
		return nil
	}
	at := now()
	attempts := since(user.Value.Attempts, at.Add(-attemptWindow))
	if len(attempts) >= limit {
		var err error
		if attempts, err = t.counted(ctx, attempts, order.ID, before); err != nil {
			return err
		}
	}
	if len(attempts) >= limit {
		t.metrics.refused.WithLabelValues("user").Inc()
		return errUserAttempts.WithRetryAfter(attempts[len(attempts)-limit].At.Add(attemptWindow).Sub(at))
	}
	attempts = append(attempts, userAttempt{OrderID: order.ID, At: at})
	t.usersWithAttempts.put(order.UserID, at)
	change.PutFor(userKey(order.UserID), user.ETag, userAttempts{Schema: 1, Attempts: attempts}, attemptWindow)
	return nil
}

// inHour says of the orders of these attempts, but for one, how many attempts count. An order of which that is not known
// is not among them.
func (t *store) inHour(ctx context.Context, attempts []userAttempt, except string) (map[string]int, error) {
	var keys []string
	for _, attempt := range attempts {
		if key := orderKey(attempt.OrderID); attempt.OrderID != except && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	docs, err := state.GetMany[Order](ctx, t.documents, keys)
	if err != nil {
		return nil, err
	}
	most := map[string]int{}
	for _, doc := range docs {
		if p := doc.Value.Payment; p != nil {
			most[strings.TrimPrefix(doc.Key, orderKey(""))] = p.inHour()
		}
	}
	return most, nil
}
