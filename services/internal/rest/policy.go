package rest

import "github.com/gofiber/fiber/v2"

// Policy is what a page may do in a browser. The gateway allows nothing to responses without one.
type Policy struct {
	// Content is the Content-Security-Policy.
	Content string
	// Permissions is the Permissions-Policy; "" if the page needs none.
	Permissions string
}

type policyKey struct{}

// SetPolicy makes the response a page with a policy.
func SetPolicy(c *fiber.Ctx, p Policy) { c.Locals(policyKey{}, p) }

// PolicyOf returns the policy of a response. isPage is false if it has none.
func PolicyOf(c *fiber.Ctx) (p Policy, isPage bool) {
	p, isPage = c.Locals(policyKey{}).(Policy)
	return p, isPage
}
