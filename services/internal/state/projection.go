package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/id"
)

const (
	// projectionLag is how far behind its owner a projection may reasonably be.
	projectionLag = 5 * time.Second
	// newborn is the age up to which an aggregate that is not found may be one whose event is still on its way.
	newborn = 10 * time.Second
	// firstLook is how long GetProjection waits until it looks into the store again, for an event may be handled by another
	// replica. The wait doubles each time.
	firstLook = 100 * time.Millisecond
	// maxWaiting and maxWaitingOfUser bound the requests of a process, and of one user, that wait for such documents. A client can
	// make up a young id, and would hold a connection for as long as it is waited for: the gateway has 1024 to a service, of which
	// half stay free. A ticket that has just been listed may have hundreds of buyers who wait.
	maxWaiting       = 512
	maxWaitingOfUser = 8
)

// GetProjection is Get for a document that another service's event creates. A client that has just got an id may
// use it here before the event has arrived; so if there is no document yet, and id is a UUIDv7 made a moment
// ago, it waits for a short while until this process has handled the event before it returns ErrNotFound. If too many
// requests wait, or too many of this user's, it does not wait.
func GetProjection[T any, ID ~string](ctx context.Context, s *Store, key string, of ID, user id.User) (doc Doc[T], err error) {
	err = s.awaitProjection(ctx, key, string(of), user, func() error {
		doc, err = Get[T](ctx, s, key)
		return err
	})
	return doc, err
}

// GetProjectionAnd is GetProjection, and reads a second document with the same call. If the second does not exist, it has no ETag.
func GetProjectionAnd[A, B any, ID ~string](ctx context.Context, s *Store, key string, of ID, user id.User, keyB string) (replica Doc[A], other Doc[B], err error) {
	err = s.awaitProjection(ctx, key, string(of), user, func() error {
		if replica, other, err = GetBoth[A, B](ctx, s, key, keyB); err == nil && replica.ETag == "" {
			err = fmt.Errorf("%s: %w", key, ErrNotFound)
		}
		return err
	})
	return replica, other, err
}

// awaitProjection calls get, which reads the document under key, until it does not return ErrNotFound any more, or it is not
// to be expected that the document comes, or too many wait.
func (s *Store) awaitProjection(ctx context.Context, key, of string, user id.User, get func() error) error {
	if !bornWithin(of, newborn) {
		return get()
	}
	deadline := time.Now().Add(projectionLag)
	admitted := false
	for pause := firstLook; ; pause *= 2 {
		arrived, forget := s.arrivals.expect(key) // before the read, so that it is not missed
		err := get()
		if !errors.Is(err, ErrNotFound) || time.Now().After(deadline) {
			forget()
			return err
		}
		if !admitted {
			if !s.arrivals.admit(user) {
				forget()
				return err
			}
			defer s.arrivals.leave(user)
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

// arrivals are the documents that somebody waits for. The zero value is ready to use.
type arrivals struct {
	mu      sync.Mutex
	waiting map[string][]chan struct{}

	admitted int             // requests that wait
	ofUser   map[id.User]int // how many of them are each user's
}

// admit says whether one more request of this user may wait. If so, leave must be called when it has.
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

func (a *arrivals) leave(user id.User) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.admitted--
	if a.ofUser[user]--; a.ofUser[user] == 0 {
		delete(a.ofUser, user)
	}
}

// expect returns a channel that is closed when this process has created the document under key. forget must be called
// when it is not waited for any more.
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
	var left []chan struct{}
	for _, other := range a.waiting[key] {
		if other != created {
			left = append(left, other)
		}
	}
	if len(left) == 0 {
		delete(a.waiting, key)
	} else {
		a.waiting[key] = left
	}
}

// announce wakes those who wait for one of these documents.
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
