package main

import (
	"context"
	"sync"
	"time"
)

// lookEvery is how often a buyer's requests make a process ask Stripe about one payment. Stripe takes about a hundred
// requests a second of an account: a buyer who asks all the time must not keep the others from paying.
const lookEvery = 3 * time.Second

// looks remembers, for lookEvery, what Stripe said of intents that buyers asked for.
type looks struct {
	every time.Duration // tests change it

	mu sync.Mutex
	of map[string]*looked
}

// looked is a question that was put to Stripe; what it said is there when done is closed.
type looked struct {
	at     time.Time
	done   chan struct{}
	intent Intent
	err    error
}

// looksLength bounds how many intents are remembered.
const looksLength = 8192

// look asks Stripe for an intent. If it was asked a moment ago, the result has no status, for that may be older than what
// is written down: it is the client secret, or the error, of then.
func (l *looks) look(ctx context.Context, stripe *gateway, stripeID string) (Intent, error) {
	l.mu.Lock()
	before, known := l.of[stripeID]
	if known && time.Since(before.at) < l.every {
		l.mu.Unlock()
		select {
		case <-before.done:
			return Intent{ClientSecret: before.intent.ClientSecret}, before.err
		case <-ctx.Done():
			return Intent{}, ctx.Err()
		}
	}
	if l.of == nil || len(l.of) >= looksLength {
		l.of = map[string]*looked{}
	}
	asked := &looked{at: time.Now(), done: make(chan struct{})}
	l.of[stripeID] = asked
	l.mu.Unlock()
	defer close(asked.done)
	asked.intent, asked.err = stripe.Look(ctx, stripeID)
	return asked.intent, asked.err
}
