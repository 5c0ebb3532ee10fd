// Package problem has the error type of the application: a message for people, and the kind of problem.
//
// Domain code returns problems and does not depend on HTTP: only package rest converts a Kind to a status. Any other error is
// unexpected. It is logged where it ends, and clients do not see its text.
package problem

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kind is the sort of a problem, which decides what the caller can do.
type Kind int

const (
	Internal         Kind = iota // a bug or a failure of the service; the caller can do nothing
	Invalid                      // the request breaks a rule; the same request always fails
	Unauthorized                 // the caller is not signed in, or the credentials are wrong
	Declined                     // the payment was refused
	Forbidden                    // the aggregate belongs to another user
	NotFound                     // it does not exist
	Conflict                     // its state does not allow this, or it has changed since it was read
	TooLarge                     // the request is too long
	UnsupportedMedia             // the request has a media type that is not accepted
	TooManyRequests              // the caller must wait
	Unavailable                  // a dependency is unavailable; the same request may succeed later
)

var kindNames = [...]string{
	Internal:         "internal",
	Invalid:          "invalid",
	Unauthorized:     "unauthorized",
	Declined:         "declined",
	Forbidden:        "forbidden",
	NotFound:         "not found",
	Conflict:         "conflict",
	TooLarge:         "too large",
	UnsupportedMedia: "unsupported media",
	TooManyRequests:  "too many requests",
	Unavailable:      "unavailable",
}

func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind %d", int(k))
	}
	return kindNames[k]
}

// Detail is one thing that is wrong. Message is a sentence for people; Field is the JSON name of the member it
// is about, if it is about one; Code is for programs, is never empty, and stays the same when the message is reworded.
type Detail struct {
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
	Code    string `json:"code"`
}

// Error is a problem. Make one with New. The methods that add to it return a copy, so that a problem in a variable can be used
// many times.
type Error struct {
	Kind Kind
	// Details has at least one entry.
	Details []Detail
	// RetryAfter is how long the caller should wait. If it is 0, package rest decides.
	RetryAfter time.Duration
	// Members are what a program needs beside the code. Package rest writes them at the top level of the response's body.
	Members map[string]any

	cause error
}

// Repeat is what a client does if it is not known whether its request took effect. It is the end of such a problem's message.
const Repeat = "send it again with the same Idempotency-Key, or read before you repeat it."

// New makes a problem with one detail: a code for programs, and a message that is a sentence for people.
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Details: []Detail{{Message: fmt.Sprintf(format, args...), Code: code}}}
}

func (e *Error) copy() *Error {
	c := *e
	c.Details = slices.Clone(e.Details)
	c.Members = maps.Clone(e.Members)
	return &c
}

// WithField sets the field of the last detail.
func (e *Error) WithField(field string) *Error {
	c := e.copy()
	c.Details[len(c.Details)-1].Field = field
	return c
}

// WithMember adds a member to the response's body. Its name must be none that every problem has (see rest).
func (e *Error) WithMember(name string, value any) *Error {
	c := e.copy()
	if c.Members == nil {
		c.Members = map[string]any{}
	}
	c.Members[name] = value
	return c
}

// WithRetryAfter sets how long the caller should wait before it tries again.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := e.copy()
	c.RetryAfter = d
	return c
}

// And adds the details of another problem of the same kind, so that a response names all that is wrong.
func (e *Error) And(other *Error) *Error {
	c := e.copy()
	c.Details = append(c.Details, other.Details...)
	return c
}

// Because sets the cause. It is logged, and not part of the response.
func (e *Error) Because(err error) *Error {
	c := e.copy()
	c.cause = err
	return c
}

// Error returns the messages, and the cause if there is one.
func (e *Error) Error() string {
	messages := make([]string, len(e.Details))
	for i, d := range e.Details {
		messages[i] = d.Message
	}
	text := e.Kind.String() + ": " + strings.Join(messages, " ")
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether two problems have the same kind and details. Causes and members do not count, so errors.Is finds a problem of a
// variable also after they were added.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && e.Kind == other.Kind && slices.Equal(e.Details, other.Details)
}

// KindOf returns the kind of the first problem in err's chain, and Internal if there is none.
func KindOf(err error) Kind {
	if p, ok := errors.AsType[*Error](err); ok {
		return p.Kind
	}
	return Internal
}
