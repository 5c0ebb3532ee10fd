package storefront

import (
	"fmt"

	"boxoffice/services/internal/rest"
)

// Pages have no inline scripts and styles, and ask this origin alone. Scripts cannot turn a text into HTML or code (Trusted Types).
const (
	ownContent = "default-src 'none'; script-src 'self'%s; style-src 'self'%s; img-src 'self' data:%s; connect-src 'self'%s; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	typed      = "; require-trusted-types-for 'script'; trusted-types 'none'"
)

// policyOf returns the policy of a page. With Stripe's key the page of an order may also use Stripe's hosts
// (https://docs.stripe.com/security/guide#content-security-policy). Stripe's script has no Trusted Types, so that page does not require them.
func policyOf(page, stripeKey string) rest.Policy {
	p := rest.Policy{Content: fmt.Sprintf(ownContent, "", "", "", "") + typed, Permissions: "camera=(), microphone=(), geolocation=(), payment=()"}
	switch {
	case page == "order" && stripeKey != "":
		p.Content = fmt.Sprintf(ownContent, " https://js.stripe.com https://*.js.stripe.com", "", " https://*.stripe.com", " https://api.stripe.com") +
			"; frame-src https://js.stripe.com https://*.js.stripe.com https://hooks.stripe.com"
		p.Permissions = `camera=(), microphone=(), geolocation=(), payment=(self "https://js.stripe.com")`
	case page == "checkin":
		p.Permissions = "camera=(self), microphone=(), geolocation=(), payment=()"
	}
	return p
}
