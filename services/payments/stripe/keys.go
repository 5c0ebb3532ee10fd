package stripe

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	stripego "github.com/stripe/stripe-go/v76"

	"boxoffice/services/payments/domain"
)

const (
	// keyAttempts is how many idempotency keys one operation may use at once, and keyPause the time after which it may use
	// one more; see send.
	keyAttempts = 3
	keyPause    = 10 * time.Second
)

// ErrKeyTaken means that Stripe has had another request under an attempt's key; see Client.Find.
var ErrKeyTaken = errors.New("the idempotency key was used for another request")

// request is one request under an idempotency key. It returns the intent, the headers of the response, and the error.
type request func(key string) (domain.Intent, http.Header, error)

// twice sends the request, and once more under the same key after a new 500: Stripe then does what it has not done, or repeats
// the 500.
func (do request) twice(key string) (domain.Intent, http.Header, error) {
	intent, header, err := do(key)
	if isServerError(err) && !isReplayed(header) {
		return do(key)
	}
	return intent, header, err
}

// send sends a request under an idempotency key; what is in errors, for what was tried.
//
// Stripe keeps a 500 under its key, and repeats it for a day. After such a response the next key is used. When several keys
// are used up, there is a new one every keyPause, so the operation succeeds when Stripe's fault is over. That is safe: on an
// intent each step succeeds once, whatever the key, and an intent that is created twice here is empty.
func (c *Client) send(key, what string, do request) (domain.Intent, error) {
	keys := []string{key}
	for n := 2; n <= keyAttempts; n++ {
		keys = append(keys, key+"/"+strconv.Itoa(n))
	}
	keys = append(keys, key+"/at/"+strconv.FormatInt(c.clock().Truncate(keyPause).Unix(), 10))
	var failure error
	for _, key := range keys {
		intent, header, err := do.twice(key)
		if !isServerError(err) || !isReplayed(header) {
			return intent, problemOf(err, what)
		}
		failure = err
	}
	return domain.Intent{}, problemOf(failure, what)
}

// sendForIntent is send for operations on an intent. If Stripe repeats an earlier response, which may be out of date, the
// intent is read.
func (c *Client) sendForIntent(ctx context.Context, stripeID, key, what string, do request) (domain.Intent, error) {
	replayed := false
	intent, err := c.send(key, what, func(key string) (domain.Intent, http.Header, error) {
		intent, header, err := do(key)
		replayed = isReplayed(header)
		return intent, header, err
	})
	if err != nil || !replayed {
		return intent, err
	}
	return c.Get(ctx, stripeID)
}

// isReplayed reports whether Stripe has sent this response before, to the same idempotency key.
func isReplayed(header http.Header) bool { return header.Get("Idempotent-Replayed") == "true" }

// isServerError reports whether Stripe has failed and keeps that under the key. A 503 asks to try later, and is not kept.
func isServerError(err error) bool {
	failure, ok := errors.AsType[*stripego.Error](err)
	return ok && failure.HTTPStatusCode >= 500 && failure.HTTPStatusCode != http.StatusServiceUnavailable
}

// isKeyTaken reports whether Stripe has had another request under the idempotency key. (A 409 means that Stripe still works on a
// request under the key.)
func isKeyTaken(err error) bool {
	failure, ok := errors.AsType[*stripego.Error](err)
	return ok && failure.Type == stripego.ErrorTypeIdempotency && failure.HTTPStatusCode == http.StatusBadRequest
}

func isNotFound(err error) bool {
	failure, ok := errors.AsType[*stripego.Error](err)
	return ok && failure.HTTPStatusCode == http.StatusNotFound
}
