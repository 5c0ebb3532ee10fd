package main

import (
	"sync"
	"time"

	"boxoffice/services/internal/problem"
)

const (
	// failureWindow is how long a wrong password is held against an email.
	failureWindow = 5 * time.Minute
	// countedEmails bounds the memory that somebody who tries many emails can take up.
	countedEmails = 10_000
)

// attempts bounds how often passwords of one email can be guessed. It counts in this process alone, and by
// email and not by address: an address can be changed, and behind a proxy it can be forged. The price is that
// somebody can keep a user from signing in for some minutes, not from using a session that is there.
type attempts struct {
	allowed int // wrong passwords in a window; 0 is any number

	mu       sync.Mutex
	failures map[string]failures
}

type failures struct {
	count int
	until time.Time
}

func newAttempts(allowed int) *attempts {
	return &attempts{allowed: allowed, failures: map[string]failures{}}
}

// Try returns what match says, unless too many passwords for that email were wrong of late: then match is not
// called, and the problem says when to come back. As many can slip through as are tried at the same moment.
func (a *attempts) Try(email string, now time.Time, match func() bool) (bool, error) {
	if a.allowed == 0 {
		return match(), nil
	}
	if wait := a.wait(email, now); wait > 0 {
		return false, problem.New(problem.TooManyRequests, "Too many wrong passwords for this email. Try again later.").
			WithCode("too_many_attempts").WithRetryAfter(wait)
	}
	right := match()
	a.count(email, right, now)
	return right, nil
}

func (a *attempts) wait(email string, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.failures[email]
	if f.count < a.allowed {
		return 0
	}
	return f.until.Sub(now)
}

func (a *attempts) count(email string, right bool, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if right {
		delete(a.failures, email)
		return
	}
	f, counted := a.failures[email]
	if !counted && len(a.failures) >= countedEmails {
		a.forget(now)
	}
	if !now.Before(f.until) {
		f = failures{until: now.Add(failureWindow)}
	}
	f.count++
	a.failures[email] = f
}

// forget drops what is past, and everything if that is not enough: who fills this up has not one email's
// password in mind.
func (a *attempts) forget(now time.Time) {
	for email, f := range a.failures {
		if !now.Before(f.until) {
			delete(a.failures, email)
		}
	}
	if len(a.failures) >= countedEmails {
		clear(a.failures)
	}
}
