package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

const (
	// A client may send the requests of two seconds at once, and the sign-ins of four, because users mistype.
	requestBurst = 2
	signinBurst  = 4
	// verifyTime limits the wait for auth's keys. A request whose token is not verified in time counts for its address only.
	verifyTime = 200 * time.Millisecond
)

// passwordRoutes make auth hash a password, which costs far more than any other request.
var passwordRoutes = []struct{ method, path string }{
	{fiber.MethodPost, "/api/users/signup"},
	{fiber.MethodPost, "/api/users/signin"},
	{fiber.MethodPost, "/api/users/password"},
	{fiber.MethodDelete, "/api/users/currentuser"},
}

// passwordKey marks a request to one of these routes, in its locals.
const passwordKey = "hashes a password"

// limits limit how many requests one client and one user may send. A client is the connection's address, or the one that a
// trusted proxy names (rest.Client). A user is the one whom a verified token names; with an unverified token anybody could use up
// another user's limit. Both are counted, so that neither many addresses nor many accounts get around the limit.
//
// The counts are in this process's memory: with several replicas of the gateway each has limits of its own.
type limits struct {
	requests, signins             *buckets[netip.Addr]
	requestsOfUser, signinsOfUser *buckets[id.User]
	verify                        func(ctx context.Context, token string) (identity.Caller, error)
	refused                       *prometheus.CounterVec
}

func newLimits(cfg config, verify func(ctx context.Context, token string) (identity.Caller, error), metrics prometheus.Registerer) *limits {
	l := &limits{
		requests:       newBuckets[netip.Addr]("address", cfg.RateLimit, requestBurst),
		requestsOfUser: newBuckets[id.User]("user", cfg.RateLimit, requestBurst),
		signins:        newBuckets[netip.Addr]("signin-address", cfg.SigninRate, signinBurst),
		signinsOfUser:  newBuckets[id.User]("signin-user", cfg.SigninRate, signinBurst),
		verify:         verify,
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_rate_limited_total", Help: "Requests refused because a client or a user sends too many, by policy.",
		}, []string{"policy"}),
	}
	metrics.MustRegister(l.refused)
	return l
}

// register puts the limits before the routes that are added later. The router itself finds the requests that hash a password: it
// matches paths as auth's router does, so no other spelling of a path (with slashes at its end) gets around the limit.
func (l *limits) register(app *fiber.App) {
	for _, route := range passwordRoutes {
		app.Add(route.method, route.path, func(c *fiber.Ctx) error {
			c.Locals(passwordKey, true)
			return c.Next()
		})
	}
	app.Use(l.handle)
}

// handle forwards or refuses a request. The response's headers have the quotas.
func (l *limits) handle(c *fiber.Ctx) error {
	quotas, err := l.take(c)
	if err == nil {
		err = c.Next()
	}
	// After the handlers, because proxy replaces all headers with those of the service's response.
	setRateLimit(c, quotas)
	return err
}

// take takes a token from each bucket that counts the request, and returns their quotas. The first empty bucket ends it with a
// problem of the kind TooManyRequests.
func (l *limits) take(c *fiber.Ctx) ([]quota, error) {
	var quotas []quota
	now := time.Now()
	address := rest.NetworkOf(rest.Client(c))
	hashes := l.signins != nil && c.Locals(passwordKey) != nil
	add := func(q quota, whose string) error {
		quotas = append(quotas, q)
		if q.allowed() {
			return nil
		}
		l.refused.WithLabelValues(q.policy).Inc()
		return problem.New(problem.TooManyRequests, "rate_limited", "There are too many requests %s. Try again in %d s.", whose, seconds(q.wait)).WithRetryAfter(q.wait)
	}
	const ofAddress, ofUser = "from your address", "of yours"
	if l.requests != nil {
		if err := add(l.requests.take(address, now), ofAddress); err != nil {
			return quotas, err
		}
	}
	if hashes {
		if err := add(l.signins.take(address, now), ofAddress); err != nil {
			return quotas, err
		}
	}
	if l.requestsOfUser == nil && !hashes {
		return quotas, nil
	}
	user, ok := l.user(c)
	if !ok {
		return quotas, nil
	}
	if l.requestsOfUser != nil {
		if err := add(l.requestsOfUser.take(user, now), ofUser); err != nil {
			return quotas, err
		}
	}
	if hashes {
		if err := add(l.signinsOfUser.take(user, now), ofUser); err != nil {
			return quotas, err
		}
	}
	return quotas, nil
}

// user returns the user of the request's token, if the token is valid. The services decide what the user may do.
func (l *limits) user(c *fiber.Ctx) (id.User, bool) {
	token, err := identity.TokenOf(c)
	if err != nil {
		return "", false
	}
	ctx, cancel := context.WithTimeout(rest.Context(c), verifyTime)
	defer cancel()
	caller, err := l.verify(ctx, token)
	return caller.ID, err == nil
}

// signedIn reports whether the request has a valid token.
func (l *limits) signedIn(c *fiber.Ctx) bool {
	_, ok := l.user(c)
	return ok
}

// setRateLimit writes the fields of draft-ietf-httpapi-ratelimit-headers-11. RateLimit-Policy has the policies that apply: q tokens,
// which come back in w seconds. RateLimit has what is left of each: r tokens, and all of them again in t seconds. After a refusal t
// is the time until the next token, as in Retry-After.
func setRateLimit(c *fiber.Ctx, quotas []quota) {
	if len(quotas) == 0 {
		return
	}
	var policies, left strings.Builder
	for i, q := range quotas {
		if i > 0 {
			policies.WriteString(", ")
			left.WriteString(", ")
		}
		until := q.full
		if !q.allowed() {
			until = q.wait
		}
		fmt.Fprintf(&policies, `"%s";q=%d;w=%d`, q.policy, q.burst, q.window)
		fmt.Fprintf(&left, `"%s";r=%d;t=%d`, q.policy, q.remaining, seconds(until))
	}
	c.Set("RateLimit-Policy", policies.String())
	c.Set("RateLimit", left.String())
}
