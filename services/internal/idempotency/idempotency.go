// Package idempotency makes a POST safe to send twice. With the header Idempotency-Key, the same request of the same user
// takes effect once and gets the same response each time.
//
// The response is stored in the transaction that commits the request's change. When two copies of a request arrive at
// the same time, even at two replicas, one transaction is committed. The other gets a conflict, its decision is made
// again, and finds the stored response.
//
// Only success is kept and sent again (status, Location and body, with the header Idempotent-Replayed): no problem of any status
// is. So after an error, the same key may be used again; after an error that does not show whether the request took effect, it
// should be, for if it did, the client then gets the kept response. A key is that of one user and one path, with one body.
//
// auth's sign-up takes the same header, and keeps no response, because that has a token: see services/auth/api.go.
//
// This follows the IETF draft
// draft-ietf-httpapi-idempotency-key-header with one difference: while the first request is under way, the second one
// waits for it and is not refused.
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

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

const (
	// Header is the request header that carries the key.
	Header = "Idempotency-Key"
	// ReplayedHeader marks a response that was given before.
	ReplayedHeader = "Idempotent-Replayed"

	// KeptFor is how long a key is known.
	KeptFor = 24 * time.Hour

	maxKeyLength = 255
)

// Request is one request's key, and the hash of its body. Without a key it is the zero Request, for which no response
// is stored.
type Request struct {
	document    string // "" without a key
	fingerprint string
}

// Response is a successful response to a request. Location is that of what was created, or empty. Version is what the response's
// ETag shows; 0 if it has none. Body is what encoding/json makes JSON of.
type Response struct {
	Status   int
	Location string
	Version  int
	Body     any

	replayed bool
}

// storedResponse is the document of a response.
type storedResponse struct {
	Schema      int             `json:"schema"`
	Fingerprint string          `json:"fingerprint"`
	Status      int             `json:"status"`
	Location    string          `json:"location,omitempty"`
	Version     int             `json:"version,omitempty"`
	Body        json.RawMessage `json:"body"`
}

// Do responds to a request whose effect is one decision. If a response is stored for the request's key, that is sent.
// Otherwise decide returns a change (nil if nothing changes) and the response; Do stores the response with the change,
// commits both, and sends the response. On a conflict it begins anew, so decide must read what it decides on.
func Do(c *fiber.Ctx, store *state.Store, user id.User, decide func(ctx context.Context) (*state.Change, Response, error)) error {
	request, err := Of(c, user)
	if err != nil {
		return err
	}
	response, err := state.Decide(rest.Context(c), store, func(ctx context.Context) (*state.Change, Response, error) {
		if stored, err := request.Find(ctx, store); stored != nil || err != nil {
			return nil, valueOf(stored), err
		}
		change, response, err := decide(ctx)
		if problem.KindOf(err) == problem.Conflict {
			// A copy of this request may have caused the conflict after Find.
			if stored, findErr := request.Find(ctx, store); stored != nil || findErr != nil {
				return nil, valueOf(stored), findErr
			}
		}
		if err != nil {
			return nil, Response{}, err
		}
		if change == nil {
			change = &state.Change{}
		}
		return change, response, request.Keep(change, response)
	})
	if err != nil {
		return err
	}
	return response.Send(c)
}

func valueOf(response *Response) Response {
	if response == nil {
		return Response{}
	}
	return *response
}

// Of reads the key of c's request, sent by the user. Keys of different users and routes are different keys.
func Of(c *fiber.Ctx, user id.User) (Request, error) {
	key, err := KeyOf(c)
	if err != nil || key == "" {
		return Request{}, err
	}
	return Request{
		document:    "idempotency/" + string(user) + "/" + digest([]byte(c.Method()+" "+c.Path()+"\n"+key)),
		fingerprint: digest(c.Body()),
	}, nil
}

// KeyOf returns the key of c's request, or "" if it has none.
func KeyOf(c *fiber.Ctx) (string, error) {
	key := c.Get(Header)
	if len(key) > maxKeyLength {
		return "", problem.New(problem.Invalid, "max", "The header %s must have from 1 to %d characters.", Header, maxKeyLength).WithField(Header)
	}
	return key, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Find returns the response that is stored for this key, or nil. It returns a problem.Conflict if the key was sent with
// another body.
func (r Request) Find(ctx context.Context, store *state.Store) (*Response, error) {
	if r.document == "" {
		return nil, nil
	}
	doc, err := state.Get[storedResponse](ctx, store, r.document)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if doc.Value.Fingerprint != r.fingerprint {
		return nil, problem.New(problem.Conflict, "idempotency_key_reused", "This %s was used before, with another body. Use a new key for a new request.", Header).
			WithField(Header)
	}
	return &Response{Status: doc.Value.Status, Location: doc.Value.Location, Version: doc.Value.Version, Body: doc.Value.Body, replayed: true}, nil
}

// Keep adds the response to the change that it reports.
func (r Request) Keep(change *state.Change, response Response) error {
	if r.document == "" {
		return nil
	}
	body, err := json.Marshal(response.Body)
	if err != nil {
		return fmt.Errorf("encode a response: %w", err)
	}
	change.CreateFor(r.document, storedResponse{
		Schema: 1, Fingerprint: r.fingerprint, Status: response.Status, Location: response.Location, Version: response.Version, Body: body,
	}, KeptFor)
	return nil
}

// Decode reads the body of a response that Find has returned.
func (r Response) Decode(into any) error {
	body, _ := r.Body.(json.RawMessage)
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("decode a stored response: %w", err)
	}
	return nil
}

// Send writes the response.
func (r Response) Send(c *fiber.Ctx) error {
	if r.Location != "" {
		c.Location(r.Location)
	}
	if r.Version > 0 {
		rest.SetETag(c, r.Version)
	}
	if r.replayed {
		c.Set(ReplayedHeader, "true")
	}
	c.Status(r.Status)
	if body, encoded := r.Body.(json.RawMessage); encoded {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(body)
	}
	return c.JSON(r.Body)
}
