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

// signInFailures limit how often passwords of one email can be guessed. Each process counts for itself. It counts by email and not by
// address: an address can be changed, and behind a proxy it can be forged. The price: somebody can keep a user from signing in for
// some minutes, but not end the user's sessions.
type signInFailures struct {
	allowed int // wrong passwords in a window; 0: no limit

	mu      sync.Mutex
	byEmail *simplelru.LRU[string, failureCount]
}

type failureCount struct {
	count int
	until time.Time
}

func newSignInFailures(allowed int) *signInFailures {
	counted, _ := simplelru.NewLRU[string, failureCount](countedEmails, nil) // fails for a size of 0 only
	return &signInFailures{allowed: allowed, byEmail: counted}
}

// Check returns a problem of the kind TooManyRequests if there were too many wrong passwords for the email. Sign-ins at the same moment
// may all pass.
func (s *signInFailures) Check(email string, now time.Time) error {
	if s.allowed == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, _ := s.byEmail.Get(email); f.count >= s.allowed && now.Before(f.until) {
		return problem.New(problem.TooManyRequests, "too_many_attempts", "Too many wrong passwords for this email. Wait for the time in Retry-After.").WithRetryAfter(f.until.Sub(now))
	}
	return nil
}

// Count counts a wrong password. The right one removes the earlier failures.
func (s *signInFailures) Count(email string, right bool, now time.Time) {
	if s.allowed == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if right {
		s.byEmail.Remove(email)
		return
	}
	f, _ := s.byEmail.Get(email)
	if !now.Before(f.until) {
		f = failureCount{until: now.Add(failureWindow)}
	}
	f.count++
	s.byEmail.Add(email, f)
}
