package state

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

const (
	// replicaLag is how far behind its owner a replica may reasonably be.
	replicaLag = 2 * time.Second
	// newborn is the age up to which an aggregate that is not found may be one whose event is still on its way.
	newborn = 10 * time.Second
)

// GetReplica is Get for a document that another service's event creates. Somebody who was just told an id may
// use it here before the event has arrived; so if there is no document yet, and id is a UUIDv7 made a moment
// ago, it looks again for a short while before it returns ErrNotFound.
func GetReplica[T any](ctx context.Context, s *Store, key, id string) (Doc[T], error) {
	deadline := time.Now().Add(replicaLag)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		doc, err := Get[T](ctx, s, key)
		if !errors.Is(err, ErrNotFound) || !bornWithin(id, newborn) || time.Now().After(deadline) {
			return doc, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return doc, err
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
