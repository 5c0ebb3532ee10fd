package main

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"boxoffice/services/internal/problem"
)

const (
	// failureWindow is how long a wrong password counts.
	failureWindow = 5 * time.Minute
	// countedEmails limits the memory. When there are more emails, the least recently used one is no longer counted.
	countedEmails = 10_000
)

// attempts limit how often passwords of one email can be guessed. Each process counts for itself. It counts by email and not by
// address: an address can be changed, and behind a proxy it can be forged. The price: somebody can keep a user from signing in for
// some minutes, but not end the user's sessions.
type attempts struct {
	allowed int // wrong passwords in a window; 0: no limit

	mu       sync.Mutex
	failures *simplelru.LRU[string, failures]
}

type failures struct {
	count int
	until time.Time
}

func newAttempts(allowed int) *attempts {
	counted, _ := simplelru.NewLRU[string, failures](countedEmails, nil) // fails for a size of 0 only
	return &attempts{allowed: allowed, failures: counted}
}

// Check returns a problem of the kind TooManyRequests if there were too many wrong passwords for the email. Attempts at the same moment
// may all pass.
func (a *attempts) Check(email string, now time.Time) error {
	if a.allowed == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if f, _ := a.failures.Get(email); f.count >= a.allowed && now.Before(f.until) {
		return problem.New(problem.TooManyRequests, "Too many wrong passwords for this email. Try again later.").
			WithCode("too_many_attempts").WithRetryAfter(f.until.Sub(now))
	}
	return nil
}

// Count counts a wrong password. The right one removes the earlier failures.
func (a *attempts) Count(email string, right bool, now time.Time) {
	if a.allowed == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if right {
		a.failures.Remove(email)
		return
	}
	f, _ := a.failures.Get(email)
	if !now.Before(f.until) {
		f = failures{until: now.Add(failureWindow)}
	}
	f.count++
	a.failures.Add(email, f)
}
