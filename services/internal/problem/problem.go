// Package problem is the error of the application: what went wrong, told for people, and of which kind it is.
//
// Domain code returns these and knows nothing of HTTP; package rest alone turns a Kind into a status. What is
// not a problem is an unexpected error: it is logged where it ends, and its text is shown to nobody.
package problem

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind says what sort of thing went wrong, and so what the caller can do about it.
type Kind int

const (
	Internal         Kind = iota // a bug or a fault of ours; the caller can do nothing
	Invalid                      // what was sent breaks a rule; sending it again will not help
	Unauthorized                 // nobody is signed in, or the credentials are wrong
	Declined                     // the payment was refused
	Forbidden                    // it belongs to somebody else
	NotFound                     // there is no such thing
	Conflict                     // the thing is not in a state for this, or has changed since it was read
	TooLarge                     // what was sent is too long
	UnsupportedMedia             // what was sent is not of a type that is read here
	TooManyRequests              // the caller must slow down
	Unavailable                  // something that is needed is away; the same request may succeed later
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
// is about, if it is about one; Code is for programs, and stays the same when the message is reworded.
type Detail struct {
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
	Code    string `json:"code,omitempty"`
}

// Error is a problem. Make one with New; the methods that add to it return a copy, so that a problem kept in a
// variable can be used by many.
type Error struct {
	Kind Kind
	// Details holds at least one entry.
	Details []Detail
	// RetryAfter is how long the caller should wait; 0 leaves it to the edge.
	RetryAfter time.Duration

	cause error
}

// New makes a problem with one detail, whose message is a sentence for people.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Details: []Detail{{Message: fmt.Sprintf(format, args...)}}}
}

func (e *Error) copy() *Error {
	c := *e
	c.Details = slices.Clone(e.Details)
	return &c
}

// WithCode sets the code of the last detail.
func (e *Error) WithCode(code string) *Error {
	c := e.copy()
	c.Details[len(c.Details)-1].Code = code
	return c
}

// WithField sets the field of the last detail.
func (e *Error) WithField(field string) *Error {
	c := e.copy()
	c.Details[len(c.Details)-1].Field = field
	return c
}

// WithRetryAfter says when it makes sense to try again.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := e.copy()
	c.RetryAfter = d
	return c
}

// Because keeps the error that led here, for the log alone: it is not shown to the caller.
func (e *Error) Because(err error) *Error {
	c := e.copy()
	c.cause = err
	return c
}

// Error holds the messages, and the cause if there is one.
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

// Unwrap returns what was given to Because.
func (e *Error) Unwrap() error { return e.cause }

// Is holds two problems for the same if their kind and details are, whatever their causes: a problem kept in a
// variable is found by errors.Is also when a cause was added to it.
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
