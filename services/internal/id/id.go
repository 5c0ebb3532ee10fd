// Package id has a type for the ids of each kind of aggregate. An id is parsed once, where it enters a service; inside, it is
// in its canonical form and need not be checked again.
package id

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

type (
	// User is the id of a user.
	User string
	// Show is the id of a show.
	Show string
	// Ticket is the id of a ticket.
	Ticket string
	// Order is the id of an order.
	Order string
	// Payment is the id of a payment.
	Payment string
)

// New makes an id that no other has: a UUIDv7, which holds the time.
func New[T ~string]() T { return T(uuid.Must(uuid.NewV7()).String()) }

// Parse reads an id. Its canonical form is a UUID in lower case; upper case is accepted, other forms of UUIDs are not.
func Parse[T ~string](text string) (T, error) {
	parsed, err := uuid.Parse(text)
	if err != nil || len(text) != len(parsed.String()) {
		return "", fmt.Errorf("%q is not an id", text)
	}
	return T(parsed.String()), nil
}

const (
	// youngAge is the age up to which an id is young. An event is late by more than that only if a service or the broker is
	// away for longer.
	youngAge = time.Minute
	// clockSkew is how far the clock of the process that made an id may be ahead.
	clockSkew = 5 * time.Second
)

// IsYoung reports whether an id was made so recently that the aggregate may exist although its event has not arrived yet: a
// service that does not know a young id does not know whether the aggregate exists. Only a UUIDv7 holds its time, so no other id
// is young.
func IsYoung[T ~string](of T, now time.Time) bool {
	made, ok := TimeOf(of)
	age := now.Sub(made)
	return ok && -clockSkew <= age && age <= youngAge
}

// TimeOf returns when an id was made. ok is false if it is not a UUIDv7, which alone holds its time.
func TimeOf[T ~string](of T) (made time.Time, ok bool) {
	parsed, err := uuid.Parse(string(of))
	if err != nil || parsed.Version() != 7 {
		return time.Time{}, false
	}
	return time.Unix(parsed.Time().UnixTime()), true
}
