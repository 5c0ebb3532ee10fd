package main

import (
	"crypto/x509"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/rest"
	"boxoffice/services/storefront"
)

// api is the public REST API: which service serves which paths, behind the limits. The gateway itself serves the documents.
type api struct {
	limits    *limits
	streams   *streams
	origins   origins
	routes    []route
	documents *documents
	pages     *storefront.Storefront // nil: the gateway serves none
}

// route is a service and the paths that it serves.
type route struct {
	to    *upstream
	paths []string
}

// newAPI uses roots to verify services with an https address; nil: the system's authorities.
func newAPI(cfg config, roots *x509.CertPool, limits *limits, streams *streams) (*api, error) {
	a := &api{limits: limits, streams: streams, origins: newOrigins(cfg.PublicURL, cfg.TrustedProxies), documents: newDocuments()}
	for _, service := range []struct {
		name      string
		addresses []string
		paths     []string
	}{
		{"auth", cfg.AuthURLs, []string{"/api/users/*", "/.well-known/jwks.json"}},
		{"tickets", cfg.TicketsURLs, []string{"/api/tickets", "/api/tickets/*"}},
		{"orders", cfg.OrdersURLs, []string{"/api/orders", "/api/orders/*", "/api/shows/:showId/checkins", "/.well-known/passes/jwks.json"}},
		{"payments", cfg.PaymentsURLs, []string{"/api/payments", "/api/payments/*"}},
		{"expiration", cfg.ExpirationURLs, nil}, // has no public path; the system is not ready without it
		{"catalogue", cfg.CatalogueURLs, []string{"/api/shows", "/api/shows/*", "/api/catalogue/*"}},
		{"webhooks", cfg.WebhooksURLs, []string{"/api/webhooks", "/api/webhooks/*"}},
	} {
		if len(service.addresses) == 0 {
			continue // an optional service that this installation does not have
		}
		u, err := newUpstream(service.name, service.addresses, roots, cfg.UpstreamTimeout, cfg.TrustedProxies)
		if err != nil {
			return nil, err
		}
		a.routes = append(a.routes, route{u, service.paths})
	}
	if cfg.Storefront != "off" {
		pages, err := storefront.New(storefront.Options{
			Read: a.upstream("catalogue").read, SignedIn: limits.signedIn,
			PublicURL: cfg.PublicURL, StripeKey: cfg.StripePublishableKey, Currency: cfg.Currency,
		})
		if err != nil {
			return nil, err
		}
		a.pages = pages
	}
	return a, nil
}

// upstreams returns all services behind the gateway.
func (a *api) upstreams() []*upstream {
	all := make([]*upstream, len(a.routes))
	for i, r := range a.routes {
		all[i] = r.to
	}
	return all
}

// upstream returns the service with a name.
func (a *api) upstream(name string) *upstream {
	for _, r := range a.routes {
		if r.to.name == name {
			return r.to
		}
	}
	panic("gateway: no service " + name)
}

func (a *api) register(app *fiber.App) {
	app.Use(secure)
	app.Use(a.origins.check)
	a.limits.register(app)
	a.documents.register(app)
	// Before the routes of whole services, some of whose paths these are.
	catalogue := a.upstream("catalogue")
	app.Add(fiber.MethodGet, "/api/catalogue/live", a.streams.proxy(catalogue))
	for _, method := range []string{fiber.MethodGet, fiber.MethodHead} {
		app.Add(method, "/api/tickets", onlyIf(asksForAvailable, catalogue.proxy))
	}
	for _, r := range a.routes {
		for _, path := range r.paths {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				app.Add(method, path, r.to.proxy)
			}
		}
	}
	if a.pages != nil {
		a.pages.Register(app) // the last one, because it has all paths
	}
}

// onlyIf handles the requests for which a condition is true. The others go to the next route.
func onlyIf(condition func(*fiber.Ctx) bool, handle fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if condition(c) {
			return handle(c)
		}
		return c.Next()
	}
}

// asksForAvailable reports whether a request for tickets is for those that are for sale, which the catalogue knows.
func asksForAvailable(c *fiber.Ctx) bool {
	// Not c.Query, after which fasthttp would send the query in a form of its own.
	var args fasthttp.Args
	args.ParseBytes(c.Request().URI().QueryString())
	return string(args.Peek("status")) == "available"
}

// imageBytes is the longest body of an image.
const imageBytes = 2_000_000

// BodyLimitOf returns how long the body of a request may be if that is not BODY_LIMIT, and otherwise 0.
func (*config) BodyLimitOf(method, path string) int {
	if method != fiber.MethodPut {
		return 0
	}
	show, isShow := strings.CutPrefix(path, "/api/shows/")
	if name, isImage := strings.CutSuffix(strings.TrimSuffix(show, "/"), "/image"); isShow && isImage && !strings.Contains(name, "/") {
		return imageBytes
	}
	return 0
}

// secure adds headers that make browsers treat every response as data, except the gateway's own pages.
func secure(c *fiber.Ctx) error {
	err := c.Next()
	// After the handlers, because proxy replaces all headers with those of the service's response.
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	c.Set(fiber.HeaderXFrameOptions, "DENY")
	c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	policy, isPage := rest.PolicyOf(c)
	if !isPage {
		policy.Content = "default-src 'none'; frame-ancestors 'none'"
	}
	c.Set(fiber.HeaderContentSecurityPolicy, policy.Content)
	if policy.Permissions != "" {
		c.Set("Permissions-Policy", policy.Permissions)
		c.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	c.Set("Cross-Origin-Resource-Policy", "same-origin")
	if len(c.Response().Header.Peek(fiber.HeaderCacheControl)) == 0 {
		c.Set(fiber.HeaderCacheControl, "no-store")
	}
	if string(c.Request().Header.Peek(fiber.HeaderXForwardedProto)) == "https" {
		c.Set(fiber.HeaderStrictTransportSecurity, "max-age=31536000")
	}
	return err
}
