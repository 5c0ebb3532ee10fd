package main

import (
	"crypto/x509"

	"github.com/gofiber/fiber/v2"
)

// api is the public REST API: which service serves which paths, behind the limits. The gateway itself serves the documents.
type api struct {
	limits    *limits
	routes    []route
	documents *documents
}

// route is a service and the paths that it serves.
type route struct {
	to    *upstream
	paths []string
}

// newAPI uses roots to verify services with an https address; nil: the system's authorities.
func newAPI(cfg config, roots *x509.CertPool, limits *limits) (*api, error) {
	a := &api{limits: limits, documents: newDocuments()}
	for _, service := range []struct {
		name      string
		addresses []string
		paths     []string
	}{
		{"auth", cfg.AuthURLs, []string{"/api/users/*", "/.well-known/jwks.json"}},
		{"tickets", cfg.TicketsURLs, []string{"/api/tickets", "/api/tickets/*"}},
		{"orders", cfg.OrdersURLs, []string{"/api/orders", "/api/orders/*"}},
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

func (a *api) register(app *fiber.App) {
	app.Use(secure)
	a.limits.register(app)
	a.documents.register(app)
	for _, r := range a.routes {
		for _, path := range r.paths {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				app.Add(method, path, r.to.proxy)
			}
		}
	}
}

// secure adds headers that make browsers treat every response as data, except the gateway's own pages.
func secure(c *fiber.Ctx) error {
	err := c.Next()
	// After the handlers, because proxy replaces all headers with those of the service's response.
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	c.Set(fiber.HeaderXFrameOptions, "DENY")
	c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	policy, isPage := c.Locals(policyKey{}).(string)
	if !isPage {
		policy = "default-src 'none'; frame-ancestors 'none'"
	}
	c.Set(fiber.HeaderContentSecurityPolicy, policy)
	c.Set("Cross-Origin-Resource-Policy", "same-origin")
	if len(c.Response().Header.Peek(fiber.HeaderCacheControl)) == 0 {
		c.Set(fiber.HeaderCacheControl, "no-store")
	}
	if string(c.Request().Header.Peek(fiber.HeaderXForwardedProto)) == "https" {
		c.Set(fiber.HeaderStrictTransportSecurity, "max-age=31536000")
	}
	return err
}
