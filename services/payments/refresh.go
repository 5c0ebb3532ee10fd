package main

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
)

// refreshInterval is how often a process reads one intent for its buyer's requests. Stripe allows about a hundred requests a
// second for an account: a buyer who sends many must not prevent others from paying.
const refreshInterval = 3 * time.Second

// refreshesRemembered bounds how many intents are remembered.
const refreshesRemembered = 8192

// refreshLimit bounds how often an intent is read for its buyer.
type refreshLimit struct {
	every time.Duration // tests change it

	mu       sync.Mutex
	byIntent *lru.Cache[string, *refresh]
}

// refresh is one read of an intent. The result is there when done is closed.
type refresh struct {
	at     time.Time
	done   chan struct{}
	intent domain.Intent
	err    error
}

func newRefreshLimit(every time.Duration) *refreshLimit {
	byIntent, _ := lru.New[string, *refresh](refreshesRemembered) // the error is that of a size below 1
	return &refreshLimit{every: every, byIntent: byIntent}
}

// forget makes the next get read the intent. Call it after an attempt on the intent, which has a redirect URL of its own.
func (l *refreshLimit) forget(stripeID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byIntent.Remove(stripeID)
}

// get reads an intent. If it was read within the interval, the result is the client secret and the redirect URL, or the error,
// of that read. It has no status, because that may be older than the payment's.
func (l *refreshLimit) get(ctx context.Context, client *stripe.Client, stripeID string) (domain.Intent, error) {
	l.mu.Lock()
	if earlier, known := l.byIntent.Get(stripeID); known && time.Since(earlier.at) < l.every {
		l.mu.Unlock()
		select {
		case <-earlier.done:
			return domain.Intent{ClientSecret: earlier.intent.ClientSecret, RedirectURL: earlier.intent.RedirectURL}, earlier.err
		case <-ctx.Done():
			return domain.Intent{}, ctx.Err()
		}
	}
	current := &refresh{at: time.Now(), done: make(chan struct{})}
	l.byIntent.Add(stripeID, current)
	l.mu.Unlock()
	defer close(current.done)
	current.intent, current.err = client.Get(ctx, stripeID)
	return current.intent, current.err
}
