package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"boxoffice/services/internal/id"
)

const (
	// projectionLag is how far a projection is expected to be behind its owner at most.
	projectionLag = 5 * time.Second
	// newAge is the age up to which the event of an aggregate that is not found may still be on its way.
	newAge = 10 * time.Second
	// firstPause is how long GetProjection waits until it reads the store again, because another replica may handle the event.
	// The pause doubles each time.
	firstPause = 100 * time.Millisecond
	// maxWaiting and maxWaitingOfUser bound the requests of a process, and of one user, that wait for such documents. A client can
	// make up a new id, and its request holds a connection while it waits. The gateway has 1024 connections to a service; half
	// of them stay free. Hundreds of buyers may wait for a ticket that has just been listed.
	maxWaiting       = 512
	maxWaitingOfUser = 8
)

// GetProjection is Get for a document that another service's event creates. A client may send an id that it has just got before
// the event has arrived. So if there is no document, and the id is a UUIDv7 of the last seconds, GetProjection waits for the
// event for a short time before it returns ErrNotFound. If too many requests of this process or of this user wait, it returns
// at once.
func GetProjection[T any, ID ~string](ctx context.Context, s *Store, key string, of ID, user id.User) (doc Doc[T], err error) {
	err = s.awaitProjection(ctx, key, string(of), user, func() error {
		doc, err = Get[T](ctx, s, key)
		return err
	})
	return doc, err
}

// GetProjectionAnd is GetProjection, and reads a second document with the same call. If there is no second document, other has
// no ETag.
func GetProjectionAnd[A, B any, ID ~string](ctx context.Context, s *Store, key string, of ID, user id.User, keyB string) (projection Doc[A], other Doc[B], err error) {
	err = s.awaitProjection(ctx, key, string(of), user, func() error {
		if projection, other, err = GetBoth[A, B](ctx, s, key, keyB); err == nil && projection.ETag == "" {
			err = fmt.Errorf("%s: %w", key, ErrNotFound)
		}
		return err
	})
	return projection, other, err
}

// awaitProjection calls get, which reads the document under key, until get finds the document, the document is not expected any
// more, or too many requests wait. The loop is no plain retry: the document's arrival ends a pause early.
func (s *Store) awaitProjection(ctx context.Context, key, of string, user id.User, get func() error) error {
	if !madeWithin(of, newAge) {
		return get()
	}
	deadline := time.Now().Add(projectionLag)
	admitted := false
	for pause := firstPause; ; pause *= 2 {
		arrived, forget := s.arrivals.expect(key) // before the read, so that it is not missed
		err := get()
		if !errors.Is(err, ErrNotFound) || !time.Now().Before(deadline) {
			forget()
			return err
		}
		if !admitted {
			if !s.arrivals.admit(user) {
				forget()
				return err
			}
			defer s.arrivals.release(user)
			admitted = true
		}
		select {
		case <-arrived:
		case <-time.After(min(pause, time.Until(deadline))):
		case <-ctx.Done():
			forget()
			return err
		}
		forget()
	}
}

// arrivals has the requests that wait for documents. The zero value is ready to use.
type arrivals struct {
	mu      sync.Mutex
	waiting map[string][]chan struct{}

	admitted int             // requests that wait
	ofUser   map[id.User]int // how many of them are each user's
}

// admit reports whether one more request of this user may wait. If so, the request must call release afterwards.
func (a *arrivals) admit(user id.User) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.admitted >= maxWaiting || a.ofUser[user] >= maxWaitingOfUser {
		return false
	}
	if a.ofUser == nil {
		a.ofUser = map[id.User]int{}
	}
	a.admitted++
	a.ofUser[user]++
	return true
}

func (a *arrivals) release(user id.User) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.admitted--
	if a.ofUser[user]--; a.ofUser[user] == 0 {
		delete(a.ofUser, user)
	}
}

// expect returns a channel that is closed when this process has created the document under key. The caller must call forget when
// it does not wait any more.
func (a *arrivals) expect(key string) (arrived <-chan struct{}, forget func()) {
	created := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = map[string][]chan struct{}{}
	}
	a.waiting[key] = append(a.waiting[key], created)
	return created, func() { a.forget(key, created) }
}

func (a *arrivals) forget(key string, created chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := slices.DeleteFunc(a.waiting[key], func(other chan struct{}) bool { return other == created })
	if len(left) == 0 {
		delete(a.waiting, key)
	} else {
		a.waiting[key] = left
	}
}

// announce wakes the requests that wait for one of these documents.
func (a *arrivals) announce(created map[string]struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.waiting {
		if _, exists := created[key]; !exists {
			continue
		}
		for _, waiter := range a.waiting[key] {
			close(waiter)
		}
		delete(a.waiting, key)
	}
}

// madeWithin reports whether an id is a UUIDv7 whose time is at most age ago.
func madeWithin(of string, age time.Duration) bool {
	made, ok := id.TimeOf(of)
	since := time.Since(made)
	return ok && -age < since && since < age
}
