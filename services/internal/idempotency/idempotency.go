// Package idempotency makes a POST safe to send twice: with the header Idempotency-Key, the same request from
// the same user is done once and answered twice.
//
// The answer is kept in the same transaction as what it tells of. When two copies arrive at once, even at two
// replicas, one transaction wins; the other conflicts, its decision is made again, and finds the answer.
//
// Only success is kept: after an error the same key may be used again. Follows the IETF draft
// draft-ietf-httpapi-idempotency-key-header, but for its answer to a key whose request is still under way:
// here the second waits for the first.
package idempotency

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

const (
	// Header is the request header that carries the key.
	Header = "Idempotency-Key"
	// ReplayedHeader marks an answer that was given before.
	ReplayedHeader = "Idempotent-Replayed"

	keep         = 24 * time.Hour
	maxKeyLength = 255
)

// Request is one request's key and what it was sent with. The zero Request is one without a key: it never
// finds an answer and keeps none.
type Request struct {
	document    string // "" without a key
	fingerprint string
}

// Answer is a response as it was given.
type Answer struct {
	Schema      int             `json:"schema"`
	Fingerprint string          `json:"fingerprint"`
	Status      int             `json:"status"`
	Location    string          `json:"location,omitempty"`
	Body        json.RawMessage `json:"body"`
}

// Of reads the key of c's request, sent by the user. Keys of different users and routes do not meet.
func Of(c *fiber.Ctx, user string) (Request, error) {
	key := c.Get(Header)
	if key == "" {
		return Request{}, nil
	}
	if len(key) > maxKeyLength {
		return Request{}, problem.New(problem.Invalid, "The header %s may hold at most %d characters.", Header, maxKeyLength).WithField(Header)
	}
	return Request{
		document:    "idempotency/" + user + "/" + digest([]byte(c.Method()+" "+c.Path()+"\n"+key)),
		fingerprint: digest(c.Body()),
	}, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Find returns the answer that was given to this key before, or nil. It returns a problem.Conflict if the key
// came with another body.
func (r Request) Find(ctx context.Context, store *state.Store) (*Answer, error) {
	if r.document == "" {
		return nil, nil
	}
	doc, err := state.Get[Answer](ctx, store, r.document)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if doc.Value.Fingerprint != r.fingerprint {
		return nil, problem.New(problem.Conflict, "This %s was used before, with another body. Use a new key for a new request.", Header).
			WithField(Header).WithCode("idempotency_key_reused")
	}
	return &doc.Value, nil
}

// Keep adds the answer to the change that it tells of.
func (r Request) Keep(change *state.Change, status int, location string, body any) error {
	if r.document == "" {
		return nil
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	change.CreateFor(r.document, Answer{Schema: 1, Fingerprint: r.fingerprint, Status: status, Location: location, Body: encoded}, keep)
	return nil
}

// Send gives the answer again.
func (a *Answer) Send(c *fiber.Ctx) error {
	if a.Location != "" {
		c.Set(fiber.HeaderLocation, a.Location)
	}
	c.Set(ReplayedHeader, "true")
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Status(a.Status).Send(a.Body)
}
