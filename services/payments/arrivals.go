package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// replicaLag is how long somebody who was just told an id may have to wait for the event of it.
	replicaLag = 2 * time.Second
	// newborn is the age up to which an aggregate that is not found may be one whose event is still on its way.
	newborn = 10 * time.Second
	// firstLookAgain is the wait before the store is asked again, in case the event came to another replica of this
	// service; it grows by half of itself and some each time.
	firstLookAgain = 100 * time.Millisecond
)

// arrivals wakes requests that wait for a document which an event is about to bring. The event that ends the wait mostly
// comes to this very process, so the store is asked again rarely.
type arrivals struct {
	mu      sync.Mutex
	waiting map[string][]chan struct{} // by the document's id
}

func newArrivals() *arrivals { return &arrivals{waiting: map[string][]chan struct{}{}} }

// arrived wakes whoever waits for the document. It is called when the document is on disk.
func (a *arrivals) arrived(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, waiter := range a.waiting[id] {
		close(waiter)
	}
	delete(a.waiting, id)
}

// expect returns a channel that is closed when the document arrives, and forgets about it when stop is called.
func (a *arrivals) expect(id string) (arrived <-chan struct{}, stop func()) {
	waiter := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting[id] = append(a.waiting[id], waiter)
	return waiter, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		left := a.waiting[id][:0]
		for _, other := range a.waiting[id] {
			if other != waiter {
				left = append(left, other)
			}
		}
		if len(left) == 0 {
			delete(a.waiting, id)
		} else {
			a.waiting[id] = left
		}
	}
}

// await calls read until it returns another error than missing, or none: at first at once, then when the document with
// this id arrives, and now and then. It waits only if the id is a UUIDv7 that was made a moment ago, and for replicaLag
// at most; then it returns missing.
func (a *arrivals) await(ctx context.Context, id string, missing error, read func(context.Context) error) error {
	if !bornWithin(id, newborn) {
		return read(ctx)
	}
	deadline := time.Now().Add(replicaLag)
	for pause := firstLookAgain; ; pause = min(5*pause/2, replicaLag/2) {
		arrived, stop := a.expect(id)
		err := read(ctx)
		if !errors.Is(err, missing) || time.Now().After(deadline) {
			stop()
			return err
		}
		select {
		case <-arrived:
		case <-time.After(min(pause, max(time.Until(deadline), time.Millisecond))):
			stop()
		case <-ctx.Done():
			stop()
			return err
		}
	}
}

// bornWithin reads the time that a UUIDv7 holds.
func bornWithin(id string, age time.Duration) bool {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.Version() != 7 {
		return false
	}
	seconds, nanoseconds := parsed.Time().UnixTime()
	since := time.Since(time.Unix(seconds, nanoseconds))
	return -age < since && since < age
}
