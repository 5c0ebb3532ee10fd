package identity

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

type callerKey struct{}

// RequireUser refuses requests without a valid token in the Authorization header or else in the cookie. The problem is of kind
// Unauthorized, or Unavailable while there are no keys.
func RequireUser(v *Verifier) fiber.Handler {
	return func(c *fiber.Ctx) error {
		token, err := TokenOf(c)
		if err != nil {
			return err
		}
		caller, err := v.Verify(rest.Context(c), token)
		if err != nil {
			return err
		}
		setCaller(c, caller)
		return c.Next()
	}
}

// OptionalUser accepts every request, except while there are no keys. A token that is not valid counts as none.
func OptionalUser(v *Verifier) fiber.Handler {
	return func(c *fiber.Ctx) error {
		token, err := TokenOf(c)
		if err != nil {
			return c.Next()
		}
		caller, err := v.Verify(rest.Context(c), token)
		if problem.KindOf(err) == problem.Unavailable {
			return err
		}
		if err == nil {
			setCaller(c, caller)
		}
		return c.Next()
	}
}

// OwnIf is for a list that everybody may read: with the query parameter name=me a request asks for the caller's part of it, and passes
// signedIn first, which is RequireUser. Others have no caller. Any other value is refused.
func OwnIf(name string, signedIn fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		switch {
		case !c.Context().QueryArgs().Has(name):
			return c.Next()
		case c.Query(name) != "me":
			return problem.New(problem.Invalid, "invalid", "Only your own can be asked for, with %s=me.", name).WithField(name)
		}
		return signedIn(c)
	}
}

// CallerOf returns whose request it is, if RequireUser, OptionalUser or OwnIf has found a valid token.
func CallerOf(c *fiber.Ctx) (Caller, bool) {
	caller, ok := c.Locals(callerKey{}).(Caller)
	return caller, ok
}

// UserIDOf returns the id of the user whose request it is, behind RequireUser.
func UserIDOf(c *fiber.Ctx) id.User {
	caller, _ := CallerOf(c)
	return caller.ID
}

func setCaller(c *fiber.Ctx, caller Caller) {
	c.Locals(callerKey{}, caller)
	rest.Annotate(c, slog.String("userId", string(caller.ID)))
}

// TokenOf returns the token of a request without verifying it, from the Authorization header or else from the cookie. If there is
// none, the problem is of kind Unauthorized.
func TokenOf(c *fiber.Ctx) (string, error) {
	if header := c.Get(fiber.HeaderAuthorization); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") || strings.TrimSpace(token) == "" {
			return "", errToken
		}
		return strings.TrimSpace(token), nil
	}
	if token := c.Cookies(tokenCookie.name); token != "" {
		return token, nil
	}
	return "", errNotSignedIn
}

// CookieSecurity is the rule by which cookies are marked Secure, so that browsers send them only over HTTPS.
type CookieSecurity string

const (
	// SecureAuto marks cookies, except those set over plain HTTP on the browser's own machine, where browsers would drop them.
	SecureAuto   CookieSecurity = "auto"
	SecureAlways CookieSecurity = "always"
	SecureNever  CookieSecurity = "never"
)

// cookie is one of the two cookies of a browser.
type cookie struct{ name, path, sameSite string }

var (
	// tokenCookie has a browser's token.
	tokenCookie = cookie{"jwt", "/", fiber.CookieSameSiteLaxMode}
	// refreshCookie has the refresh token. Browsers send it only to its path (to refresh, and to sign out when the token's cookie
	// has expired), and never with a request that another site has caused.
	refreshCookie = cookie{"refresh", "/api/users", fiber.CookieSameSiteStrictMode}
)

// oldRefreshCookiePath is the refresh cookie's path in the earlier release. Browsers have a cookie for each path and send the one
// with the longer path first, so the old one is cleared whenever the new one is set or cleared. A later release removes this.
const oldRefreshCookiePath = "/api/users/refresh"

func (k cookie) set(c *fiber.Ctx, security CookieSecurity, token string, expires time.Time) {
	made := k.in(c, security)
	made.Value = token
	made.Expires = expires
	made.MaxAge = max(1, int(time.Until(expires).Seconds()))
	c.Cookie(made)
}

func (k cookie) clear(c *fiber.Ctx, security CookieSecurity) {
	made := k.in(c, security)
	made.Expires = time.Unix(0, 0)
	c.Cookie(made)
}

func (k cookie) in(c *fiber.Ctx, security CookieSecurity) *fiber.Cookie {
	return &fiber.Cookie{
		Name:     k.name,
		Path:     k.path,
		HTTPOnly: true,
		SameSite: k.sameSite,
		Secure:   security == SecureAlways || security == SecureAuto && !plainLocalhost(c),
	}
}

// SetCookie sets the cookie with a browser's token, until the token expires.
func SetCookie(c *fiber.Ctx, security CookieSecurity, token string, expires time.Time) {
	tokenCookie.set(c, security, token, expires)
}

// ClearCookie removes the cookie with a browser's token.
func ClearCookie(c *fiber.Ctx, security CookieSecurity) { tokenCookie.clear(c, security) }

// SetRefreshCookie sets the cookie with a browser's refresh token, until the token expires.
func SetRefreshCookie(c *fiber.Ctx, security CookieSecurity, token string, expires time.Time) {
	refreshCookie.set(c, security, token, expires)
	clearOldRefreshCookie(c)
}

// ClearRefreshCookie removes the cookie with a browser's refresh token.
func ClearRefreshCookie(c *fiber.Ctx, security CookieSecurity) {
	refreshCookie.clear(c, security)
	clearOldRefreshCookie(c)
}

// clearOldRefreshCookie adds a second cookie of the same name. c.Cookie cannot do that: it would replace the first one.
func clearOldRefreshCookie(c *fiber.Ctx) {
	expired := http.Cookie{Name: refreshCookie.name, Path: oldRefreshCookiePath, Expires: time.Unix(1, 0), HttpOnly: true, SameSite: http.SameSiteStrictMode}
	c.Response().Header.Add(fiber.HeaderSetCookie, expired.String())
}

// RefreshTokenOf returns the refresh token of a request, or "".
func RefreshTokenOf(c *fiber.Ctx) string { return c.Cookies(refreshCookie.name) }

// plainLocalhost reports whether the browser uses plain HTTP to its own machine. It trusts the headers of any proxy: a client that
// forges them weakens only its own cookie.
func plainLocalhost(c *fiber.Ctx) bool {
	if c.Protocol() != "http" {
		return false
	}
	host := c.Hostname()
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
