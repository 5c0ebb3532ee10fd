package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/problem"
)

// MediaType is the media type of every error response (RFC 9457).
const MediaType = "application/problem+json"

// errUnknownMethod is the error of a request with a method that HTTP does not have.
var errUnknownMethod = errors.New("unknown method")

// defaultRetryAfter is for temporary problems without a RetryAfter.
const defaultRetryAfter = time.Second

// fault is the body of an error response. A problem's members follow it, at the same level.
type fault struct {
	Type      string           `json:"type"`
	Title     string           `json:"title"`
	Status    int              `json:"status"`
	Detail    string           `json:"detail"`
	Errors    []problem.Detail `json:"errors"`
	RequestID string           `json:"requestId"`
}

var statuses = map[problem.Kind]int{
	problem.Invalid:          http.StatusBadRequest,
	problem.Unauthorized:     http.StatusUnauthorized,
	problem.Declined:         http.StatusPaymentRequired,
	problem.Forbidden:        http.StatusForbidden,
	problem.NotFound:         http.StatusNotFound,
	problem.Conflict:         http.StatusConflict,
	problem.TooLarge:         http.StatusRequestEntityTooLarge,
	problem.UnsupportedMedia: http.StatusUnsupportedMediaType,
	problem.TooManyRequests:  http.StatusTooManyRequests,
	problem.Unavailable:      http.StatusServiceUnavailable,
	problem.Internal:         http.StatusInternalServerError,
}

// problemOf converts err to the problem of the response, with its status. A problem stays as it is, and an error of Fiber gets a
// text of this package. Any other error is internal: the response does not have its text.
func problemOf(c *fiber.Ctx, err error) (int, *problem.Error) {
	if p, ok := errors.AsType[*problem.Error](err); ok && len(p.Details) > 0 {
		return statuses[p.Kind], p
	}
	if refusal, ok := errors.AsType[*fiber.Error](err); ok {
		return refusal.Code, ofFiber(c, refusal)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusServiceUnavailable, problem.New(problem.Unavailable, "timeout", "The service did not respond in time. %s", AfterTimeout(c.Method()))
	}
	return http.StatusInternalServerError, problem.New(problem.Internal, "internal", "Something went wrong on our side.")
}

// AfterTimeout returns what a client does after a request of a method whose outcome it does not get.
func AfterTimeout(method string) string {
	if method == http.MethodGet || method == http.MethodHead {
		return "Send the request again."
	}
	return "The request may have taken effect: " + problem.Repeat
}

func ofFiber(c *fiber.Ctx, refusal *fiber.Error) *problem.Error {
	switch refusal.Code {
	case http.StatusNotFound:
		return problem.New(problem.NotFound, "not_found", "There is nothing at %s.", c.Path())
	case http.StatusMethodNotAllowed:
		return problem.New(problem.Invalid, "method_not_allowed", "%s cannot be used on %s.", c.Method(), c.Path())
	case http.StatusRequestEntityTooLarge:
		return problem.New(problem.TooLarge, "too_large", "The request's body is longer than %d bytes.", c.App().Config().BodyLimit)
	case http.StatusRequestHeaderFieldsTooLarge:
		return problem.New(problem.TooLarge, "headers_too_large", "The request's headers are too long.")
	case http.StatusRequestTimeout:
		return problem.New(problem.Invalid, "timeout", "The request did not arrive in time, and had no effect. Send it again.")
	case http.StatusBadRequest:
		return problem.New(problem.Invalid, "bad_request", "The request is not valid HTTP.").Because(refusal)
	}
	if refusal.Code >= http.StatusInternalServerError {
		return problem.New(problem.Internal, "internal", "Something went wrong on our side.")
	}
	return problem.New(problem.Invalid, "bad_request", "%s.", http.StatusText(refusal.Code))
}

func write(c *fiber.Ctx, status int, p *problem.Error, requestID string) error {
	body := fault{
		Type:      "about:blank",
		Title:     http.StatusText(status),
		Status:    status,
		Detail:    p.Details[0].Message,
		Errors:    p.Details,
		RequestID: requestID,
	}
	switch {
	case p.RetryAfter > 0:
		setRetryAfter(c, p.RetryAfter)
	case p.Kind == problem.Unavailable || p.Kind == problem.TooManyRequests:
		setRetryAfter(c, defaultRetryAfter)
	}
	if p.Kind == problem.Unauthorized {
		c.Set(fiber.HeaderWWWAuthenticate, "Bearer")
	}
	// The handler may have set these before it failed.
	c.Response().Header.Del(fiber.HeaderETag)
	c.Response().Header.Del(fiber.HeaderLocation)
	c.Set(fiber.HeaderContentType, MediaType)
	return c.Status(status).Send(encode(body, p.Members))
}

// encode writes a fault as JSON, with the members of its problem at the end.
func encode(body fault, members map[string]any) []byte {
	encoded, err := json.Marshal(body)
	if err == nil && len(members) > 0 {
		var more []byte
		if more, err = json.Marshal(members); err == nil {
			encoded = append(append(encoded[:len(encoded)-1], ','), more[1:]...)
		}
	}
	if err != nil {
		panic(fmt.Sprintf("rest: a problem's member is not JSON: %v", err))
	}
	return encoded
}

// setRetryAfter rounds up, because 0 would mean "at once".
func setRetryAfter(c *fiber.Ctx, d time.Duration) {
	c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(d.Seconds()))))
}

const (
	drainBytes = 16 << 20
	drainTime  = 2 * time.Second
	drainIdle  = 100 * time.Millisecond
)

// drain reads the rest of the request, within limits. The connection is closed after the response. If bytes were unread then, TCP
// would reset the connection, and the client would lose the response.
func drain(c *fiber.Ctx) {
	conn := c.Context().Conn()
	end := time.Now().Add(drainTime)
	for range drainBytes >> 16 {
		next := time.Now().Add(drainIdle)
		if next.After(end) || conn.SetReadDeadline(next) != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, conn, 1<<16); err != nil {
			return
		}
	}
}
