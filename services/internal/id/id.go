// Package id has a type for the ids of each kind of aggregate. An id is parsed once, where it enters a service; inside, it is
// in its canonical form and need not be checked again.
package id

import (
	"fmt"

	"github.com/google/uuid"
)

type (
	// User is the id of a user.
	User string
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
