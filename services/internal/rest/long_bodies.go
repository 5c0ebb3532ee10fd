package rest

import (
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/problem"
)

// maxLongBodies bounds the requests at a time whose bodies are longer than Options.BodyLimit. A body is in memory whole, from its first
// byte until the response, and clients who are not signed in can send one on every connection.
const maxLongBodies = 16

// bodyLimits decides how long the body of a request may be.
type bodyLimits struct {
	limit int                           // of most requests
	of    func(method, path string) int // Options.BodyLimitOf
	life  time.Duration                 // longer than any request takes

	mu   sync.Mutex
	long map[*fasthttp.RequestHeader]time.Time // requests with longer bodies that are under way, with their beginning
}

func newBodyLimits(o Options) *bodyLimits {
	return &bodyLimits{limit: o.BodyLimit, of: o.BodyLimitOf, life: o.BodyTimeout + handlingTime + writeTime, long: map[*fasthttp.RequestHeader]time.Time{}}
}

// begin returns the limit of a request whose header has arrived. If it has a longer body, it counts until end is called. Beyond
// maxLongBodies, the limit is that of most requests.
func (b *bodyLimits) begin(header *fasthttp.RequestHeader) int {
	limit := b.ofRoute(header)
	// Without a length (-1), the body may be long.
	if length := header.ContentLength(); limit <= b.limit || 0 <= length && length <= b.limit {
		return limit
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	delete(b.long, header) // of an earlier request on the connection, which ended without a response
	if len(b.long) >= maxLongBodies {
		for other, began := range b.long {
			if now.Sub(began) > b.life {
				delete(b.long, other)
			}
		}
		if len(b.long) >= maxLongBodies {
			return b.limit
		}
	}
	b.long[header] = now
	return limit
}

// ofRoute returns the limit of a route, however many bodies there are.
func (b *bodyLimits) ofRoute(header *fasthttp.RequestHeader) int {
	if b.of == nil {
		return b.limit
	}
	path, _, _ := strings.Cut(string(header.RequestURI()), "?")
	if limit := b.of(string(header.Method()), path); limit != 0 {
		return limit
	}
	return b.limit
}

// end notes that a request is responded to. It returns whether the request had a longer body.
func (b *bodyLimits) end(header *fasthttp.RequestHeader) (long bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, long = b.long[header]
	delete(b.long, header)
	return long
}

// counted makes a handler that calls end for each request.
func (b *bodyLimits) counted(handle fasthttp.RequestHandler) fasthttp.RequestHandler {
	if b.of == nil {
		return handle
	}
	return func(ctx *fasthttp.RequestCtx) {
		defer func() {
			if b.end(&ctx.Request.Header) {
				ctx.Request.ReleaseBody(b.limit) // the connection would keep its memory for the next request
			}
		}()
		handle(ctx)
	}
}

// refusal is the problem of a request whose body was not read, because it is too long, or because there were too many.
func (b *bodyLimits) refusal(c *fiber.Ctx) error {
	header := &c.Request().Header
	limit := b.ofRoute(header)
	b.mu.Lock()
	_, counted := b.long[header]
	b.mu.Unlock()
	if limit > b.limit && !counted && header.ContentLength() <= limit {
		return problem.New(problem.Unavailable, "unavailable", "The service receives many long requests at the moment. Nothing was changed: send the same request again.")
	}
	return problem.New(problem.TooLarge, "too_large", "The request's body is longer than %d bytes.", limit)
}
