package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

const (
	// A bucket holds what comes in two seconds; of sign-ins, in four, for people mistype.
	requestBurst = 2
	signinBurst  = 4
	// verifyTime bounds the wait for auth's keys. A token that cannot be verified in it counts for its address alone.
	verifyTime = 200 * time.Millisecond
)

// hashes are the routes on which auth hashes a password, which takes far more of the machine than any other request.
var hashes = []struct{ method, path string }{
	{fiber.MethodPost, "/api/users/signup"},
	{fiber.MethodPost, "/api/users/signin"},
	{fiber.MethodPost, "/api/users/password"},
	{fiber.MethodDelete, "/api/users/currentuser"},
}

// hashesKey marks a request on one of these routes, in its locals.
const hashesKey = "hashes a password"

// limits bound how often one client and one user may ask. An address is that of a connection, or the one that a trusted proxy
// names (rest.Client). A user is whom a verified token names: one that is not verified would let anybody use up another's
// share. Both count, so that neither many addresses nor many accounts are a way around.
//
// They are in this process's memory: with several replicas a client has as many times the limit.
type limits struct {
	requests, signins             *buckets[netip.Addr]
	requestsOfUser, signinsOfUser *buckets[string]
	verify                        func(ctx context.Context, token string) (identity.User, error)
	refused                       *prometheus.CounterVec
}

func newLimits(cfg config, verify func(ctx context.Context, token string) (identity.User, error), metrics prometheus.Registerer) *limits {
	l := &limits{
		requests:       newBuckets[netip.Addr]("address", cfg.RateLimit, requestBurst),
		requestsOfUser: newBuckets[string]("user", cfg.RateLimit, requestBurst),
		signins:        newBuckets[netip.Addr]("signin-address", cfg.SigninRate, signinBurst),
		signinsOfUser:  newBuckets[string]("signin-user", cfg.SigninRate, signinBurst),
		verify:         verify,
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_rate_limited_total", Help: "Requests refused because a client or a user asks too often, by policy.",
		}, []string{"policy"}),
	}
	metrics.MustRegister(l.refused)
	return l
}

// routes puts the limits before what is added to the app after it. Which requests hash a password is for the router to say: it
// matches paths as auth's does, so no other spelling of a path (slashes at its end) has auth hash and is not counted.
func (l *limits) routes(app *fiber.App) {
	for _, route := range hashes {
		app.Add(route.method, route.path, func(c *fiber.Ctx) error {
			c.Locals(hashesKey, true)
			return c.Next()
		})
	}
	app.Use(l.handle)
}

// handle lets a request through, or refuses it. The response says how much is left.
func (l *limits) handle(c *fiber.Ctx) error {
	verdicts, err := l.judge(c)
	if err == nil {
		err = c.Next()
	}
	// After the handlers, for the proxy takes over the headers of the service's answer.
	setRateLimit(c, verdicts)
	return err
}

// judge returns what the buckets said that the request has met. After a refusal no other bucket is asked.
func (l *limits) judge(c *fiber.Ctx) ([]verdict, error) {
	var verdicts []verdict
	now := time.Now()
	address := rest.NetworkOf(rest.Client(c))
	hash := l.signins != nil && c.Locals(hashesKey) != nil
	met := func(v verdict, whose string) error {
		verdicts = append(verdicts, v)
		if v.allowed() {
			return nil
		}
		l.refused.WithLabelValues(v.policy).Inc()
		return problem.New(problem.TooManyRequests, "There are too many requests %s. Try again in %d s.", whose, seconds(v.wait)).
			WithCode("rate_limited").WithRetryAfter(v.wait)
	}
	const ofAddress, ofUser = "from your address", "of yours"
	if l.requests != nil {
		if err := met(l.requests.take(address, now), ofAddress); err != nil {
			return verdicts, err
		}
	}
	if hash {
		if err := met(l.signins.take(address, now), ofAddress); err != nil {
			return verdicts, err
		}
	}
	if l.requestsOfUser == nil && !hash {
		return verdicts, nil
	}
	user, ok := l.user(c)
	if !ok {
		return verdicts, nil
	}
	if l.requestsOfUser != nil {
		if err := met(l.requestsOfUser.take(user, now), ofUser); err != nil {
			return verdicts, err
		}
	}
	if hash {
		if err := met(l.signinsOfUser.take(user, now), ofUser); err != nil {
			return verdicts, err
		}
	}
	return verdicts, nil
}

// user is who asks, if the request brings a good token. Whether it may do what it asks for is the service's decision.
func (l *limits) user(c *fiber.Ctx) (string, bool) {
	token, err := identity.TokenOf(c)
	if err != nil {
		return "", false
	}
	ctx, cancel := context.WithTimeout(rest.Context(c), verifyTime)
	defer cancel()
	user, err := l.verify(ctx, token)
	return user.ID, err == nil
}

// setRateLimit writes the fields of draft-ietf-httpapi-ratelimit-headers-11: the policies that apply to the request (q tokens,
// which come back in w seconds), and what is left of each (r tokens, all of them again in t seconds; after a refusal, the
// time until the next one, as in Retry-After).
func setRateLimit(c *fiber.Ctx, verdicts []verdict) {
	if len(verdicts) == 0 {
		return
	}
	var policy, left strings.Builder
	for i, v := range verdicts {
		if i > 0 {
			policy.WriteString(", ")
			left.WriteString(", ")
		}
		effective := v.full
		if !v.allowed() {
			effective = v.wait
		}
		fmt.Fprintf(&policy, `"%s";q=%d;w=%d`, v.policy, v.quota, v.window)
		fmt.Fprintf(&left, `"%s";r=%d;t=%d`, v.policy, v.remaining, seconds(effective))
	}
	c.Set("RateLimit-Policy", policy.String())
	c.Set("RateLimit", left.String())
}
