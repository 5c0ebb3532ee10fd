package main

import (
	"context"
	"sync"
	"time"
)

// refreshInterval is how often a buyer's requests make a process ask Stripe about one payment. Stripe takes about a hundred
// requests a second of an account: a buyer who asks all the time must not keep the others from paying.
const refreshInterval = 3 * time.Second

// refreshes remembers, for refreshInterval, what Stripe said of intents that buyers asked for.
type refreshes struct {
	every time.Duration // tests change it

	mu sync.Mutex
	of map[string]*refreshed
}

// refreshed is a question that was put to Stripe; what it said is there when done is closed.
type refreshed struct {
	at     time.Time
	done   chan struct{}
	intent Intent
	err    error
}

// refreshesRemembered bounds how many intents are remembered.
const refreshesRemembered = 8192

// look asks Stripe for an intent. If it was asked a moment ago, the result has no status, for that may be older than what
// is written down: it is the client secret, or the error, of then.
func (l *refreshes) get(ctx context.Context, stripe *stripeClient, stripeID string) (Intent, error) {
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
	if l.of == nil || len(l.of) >= refreshesRemembered {
		l.of = map[string]*refreshed{}
	}
	asked := &refreshed{at: time.Now(), done: make(chan struct{})}
	l.of[stripeID] = asked
	l.mu.Unlock()
	defer close(asked.done)
	asked.intent, asked.err = stripe.Get(ctx, stripeID)
	return asked.intent, asked.err
}
