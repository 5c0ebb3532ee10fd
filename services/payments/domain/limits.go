package domain

import (
	"slices"
	"time"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// Card testing: somebody tries many stolen cards to learn which of them work. Two limits prevent it: how many cards may be
// declined for an order, and how many of a user within an hour. An attempt over a limit is refused, and nothing is sent to
// Stripe.
//
// Cards can also be tried at Stripe directly, with an intent's client secret and the publishable key. Such declines are
// counted when a webhook reports them: Stripe's number of failed charges is what counts. When a limit is reached, the intent
// is canceled. What is sent to Stripe before that exceeds the limit.
//
// A user's hour also counts attempts that only cost requests to Stripe: with cards that Stripe does not know, and those that
// are given up for another card while the bank waits for the buyer.
//
// An attempt counts from its commit until it is known that it was not declined. So both limits hold for any number of
// simultaneous requests, processes and orders: an order's count is in its document and a user's in another, and the commit of
// an attempt writes both, each on the condition that it has not changed.

// Limits are the numbers of cards that may be declined. 0 is no limit.
type Limits struct {
	PerOrder int
	PerHour  int // of a user
}

// AttemptWindow is the time within which a user's declined cards are counted.
const AttemptWindow = time.Hour

var (
	ErrOrderAttempts = problem.New(problem.Conflict, "too_many_attempts", "Too many cards were declined for this order. It cannot be paid with another one; nothing was charged.").
				WithField("orderId")
	ErrUserAttempts = problem.New(problem.TooManyRequests, "too_many_attempts", "Too many of your cards were declined or not known within an hour. Wait before you try another one; nothing was charged.")
)

// CheckOrder returns ErrOrderAttempts if no more cards may be tried for an order that has so many declines.
func (l Limits) CheckOrder(declines int) error {
	if l.PerOrder > 0 && declines >= l.PerOrder {
		return ErrOrderAttempts
	}
	return nil
}

// UserAttempts is the document of a user who has tried to pay within the last hour. The store deletes it after that.
type UserAttempts struct {
	Schema   int           `json:"schema"`
	Attempts []UserAttempt `json:"attempts"` // the oldest first
}

// UserAttempt is an attempt that may have been declined.
type UserAttempt struct {
	OrderID id.Order  `json:"orderId"`
	At      time.Time `json:"at"`
}

// InWindow are the attempts that are not older than AttemptWindow.
func (u UserAttempts) InWindow(now time.Time) UserAttempts {
	begin := now.Add(-AttemptWindow)
	recent := slices.DeleteFunc(slices.Clone(u.Attempts), func(a UserAttempt) bool { return !a.At.After(begin) })
	return UserAttempts{Schema: 1, Attempts: recent}
}

// Add adds n attempts for an order.
func (u *UserAttempts) Add(orderID id.Order, n int, now time.Time) {
	for range n {
		u.Attempts = append(u.Attempts, UserAttempt{OrderID: orderID, At: now})
	}
}

// Counted are the attempts that count, if of each order in counts at most so many do. It keeps the newest.
func (u UserAttempts) Counted(counts map[id.Order]int) UserAttempts {
	var counted []UserAttempt
	kept := map[id.Order]int{}
	for _, attempt := range slices.Backward(u.Attempts) {
		if n, known := counts[attempt.OrderID]; known && kept[attempt.OrderID] >= n {
			continue
		}
		kept[attempt.OrderID]++
		counted = append(counted, attempt)
	}
	slices.Reverse(counted)
	return UserAttempts{Schema: 1, Attempts: counted}
}

// ReachesHour reports whether these attempts use up the user's hour.
func (l Limits) ReachesHour(u UserAttempts) bool {
	return l.PerHour > 0 && len(u.Attempts) >= l.PerHour
}

// CheckHour returns ErrUserAttempts, with the time to wait, if these attempts use up the user's hour.
func (l Limits) CheckHour(u UserAttempts, now time.Time) error {
	if !l.ReachesHour(u) {
		return nil
	}
	oldest := u.Attempts[len(u.Attempts)-l.PerHour]
	return ErrUserAttempts.WithRetryAfter(oldest.At.Add(AttemptWindow).Sub(now))
}

// CountedForUser is how many attempts of the payment count in its user's hour: those that were declined or may still be, such
// as one that waits for the buyer's bank, and those that only cost requests.
func (p *Payment) CountedForUser() int {
	if p.Status == RequiresAction {
		return p.Declines + p.UserOnly + 1
	}
	return p.Declines + p.UserOnly
}

// KnownDeclines is how many attempts were declined. An open attempt is not among them.
func (p *Payment) KnownDeclines() int {
	if p.Attempt.Open {
		return p.Declines - 1
	}
	return p.Declines
}
