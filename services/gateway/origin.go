package main

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// origins refuse what pages of other sites make a browser send. A browser adds the cookies of a sign-in to such requests, if it does not know
// SameSite or the other site has the same domain (a.example.com and b.example.com). What is not a browser sends neither header, and has no
// cookies that it did not set itself.
type origins struct {
	public  string // the host of PUBLIC_URL, with its port
	trusted []netip.Prefix
}

func newOrigins(publicURL string, trusted []netip.Prefix) origins {
	o := origins{trusted: trusted}
	if address, err := url.Parse(publicURL); err == nil {
		o.public = address.Host
	}
	return o
}

// errCrossOrigin is the answer to a change that a page of another site asks for.
var errCrossOrigin = problem.New(problem.Forbidden, "cross_origin", "This request came from a page of another site, and had no effect.")

// check refuses requests of other sites that may change something. Stripe's webhook has no cookies, and is signed.
func (o origins) check(c *fiber.Ctx) error {
	switch c.Method() {
	case fiber.MethodGet, fiber.MethodHead, fiber.MethodOptions:
		return c.Next()
	}
	if strings.TrimRight(c.Path(), "/") == "/api/payments/webhook" || o.isOwn(c) {
		return c.Next()
	}
	return errCrossOrigin
}

// isOwn reports whether a request comes from a page of this site, or from no page. Browsers send Sec-Fetch-Site to https and localhost, and
// scripts cannot change it; without it, they send Origin with each change.
func (o origins) isOwn(c *fiber.Ctx) bool {
	if site := c.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin" || site == "none"
	}
	origin := c.Get(fiber.HeaderOrigin)
	if origin == "" {
		return true
	}
	address, err := url.Parse(origin)
	if err != nil || address.Host == "" { // "null" has no host
		return false
	}
	host := c.Get(fiber.HeaderHost)
	if rest.IsTrusted(rest.Peer(c.Context()), o.trusted) {
		if forwarded := c.Get(fiber.HeaderXForwardedHost); forwarded != "" {
			host = forwarded
		}
	}
	return strings.EqualFold(address.Host, host) || strings.EqualFold(address.Host, o.public)
}
