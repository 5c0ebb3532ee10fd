package identity

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

const (
	// cookieName is the cookie that carries a browser's token.
	cookieName = "jwt"
	// refreshCookieName is the cookie that carries what a new token is given for. Browsers send it to refreshCookiePath alone,
	// and never with a request that another site has caused.
	refreshCookieName = "refresh"
	// refreshCookiePath holds what takes refresh tokens: to refresh, and to sign out when the token's cookie is gone.
	refreshCookiePath = "/api/users"
	// oldRefreshCookiePath was the path in the release before. Browsers keep a cookie a path, and send the one with the longer
	// path first, so the old one is cleared whenever the new one is set or cleared. It goes with a later release.
	oldRefreshCookiePath = "/api/users/refresh"
)

type userKey struct{}

// RequireUser lets a request through only with a good token, from the Authorization header or else from the
// cookie. The problem is of kind Unauthorized, or Unavailable while there are no keys.
func RequireUser(v *Verifier) fiber.Handler {
	return func(c *fiber.Ctx) error {
		token, err := tokenOf(c)
		if err != nil {
			return err
		}
		user, err := v.Verify(rest.Context(c), token)
		if err != nil {
			return err
		}
		setUser(c, user)
		return c.Next()
	}
}

// OptionalUser lets every request through. One with a token that is not good counts as one without.
func OptionalUser(v *Verifier) fiber.Handler {
	return func(c *fiber.Ctx) error {
		token, err := tokenOf(c)
		if err != nil {
			return c.Next()
		}
		user, err := v.Verify(rest.Context(c), token)
		if problem.KindOf(err) == problem.Unavailable {
			return err
		}
		if err == nil {
			setUser(c, user)
		}
		return c.Next()
	}
}

// UserOf returns who is asking, if RequireUser or OptionalUser found somebody.
func UserOf(c *fiber.Ctx) (User, bool) {
	user, ok := c.Locals(userKey{}).(User)
	return user, ok
}

func setUser(c *fiber.Ctx, user User) {
	c.Locals(userKey{}, user)
	rest.Annotate(c, slog.String("userId", string(user.ID)))
}

// TokenOf returns the token that a request brings, as it is, not verified. The problem is of kind Unauthorized.
func TokenOf(c *fiber.Ctx) (string, error) { return tokenOf(c) }

// tokenOf takes the token from the Authorization header, which wins, or from the cookie.
func tokenOf(c *fiber.Ctx) (string, error) {
	if header := c.Get(fiber.HeaderAuthorization); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") || strings.TrimSpace(token) == "" {
			return "", errToken
		}
		return strings.TrimSpace(token), nil
	}
	if token := c.Cookies(cookieName); token != "" {
		return token, nil
	}
	return "", errNotSignedIn
}

// CookieSecurity says when the cookie is marked Secure, so that browsers send it over HTTPS alone.
type CookieSecurity string

const (
	// SecureAuto marks it except on plain HTTP to this very machine by name, where browsers would drop it.
	SecureAuto   CookieSecurity = "auto"
	SecureAlways CookieSecurity = "always"
	SecureNever  CookieSecurity = "never"
)

// SetCookie gives the browser a token to keep until it expires.
func SetCookie(c *fiber.Ctx, security CookieSecurity, token string, expires time.Time) {
	cookie := newCookie(c, security)
	cookie.Value = token
	cookie.Expires = expires
	cookie.MaxAge = max(1, int(time.Until(expires).Seconds()))
	c.Cookie(cookie)
}

// ClearCookie takes the token from the browser.
func ClearCookie(c *fiber.Ctx, security CookieSecurity) {
	cookie := newCookie(c, security)
	cookie.Expires = time.Unix(0, 0)
	c.Cookie(cookie)
}

// SetRefreshCookie gives the browser a refresh token to keep until it expires.
func SetRefreshCookie(c *fiber.Ctx, security CookieSecurity, token string, expires time.Time) {
	cookie := newRefreshCookie(c, security)
	cookie.Value = token
	cookie.Expires = expires
	cookie.MaxAge = max(1, int(time.Until(expires).Seconds()))
	c.Cookie(cookie)
	clearOldRefreshCookie(c)
}

// ClearRefreshCookie takes the refresh token from the browser.
func ClearRefreshCookie(c *fiber.Ctx, security CookieSecurity) {
	cookie := newRefreshCookie(c, security)
	cookie.Expires = time.Unix(0, 0)
	c.Cookie(cookie)
	clearOldRefreshCookie(c)
}

// clearOldRefreshCookie adds a second cookie of the same name, which c.Cookie cannot: it would replace the first.
func clearOldRefreshCookie(c *fiber.Ctx) {
	expired := http.Cookie{Name: refreshCookieName, Path: oldRefreshCookiePath, Expires: time.Unix(1, 0), HttpOnly: true, SameSite: http.SameSiteStrictMode}
	c.Response().Header.Add(fiber.HeaderSetCookie, expired.String())
}

// RefreshTokenOf returns the refresh token that a request brings, or "".
func RefreshTokenOf(c *fiber.Ctx) string { return c.Cookies(refreshCookieName) }

func newRefreshCookie(c *fiber.Ctx, security CookieSecurity) *fiber.Cookie {
	cookie := newCookie(c, security)
	cookie.Name, cookie.Path, cookie.SameSite = refreshCookieName, refreshCookiePath, fiber.CookieSameSiteStrictMode
	return cookie
}

func newCookie(c *fiber.Ctx, security CookieSecurity) *fiber.Cookie {
	return &fiber.Cookie{
		Name:     cookieName,
		Path:     "/",
		HTTPOnly: true,
		SameSite: fiber.CookieSameSiteLaxMode,
		Secure:   security == SecureAlways || security == SecureAuto && !plainLocalhost(c),
	}
}

// plainLocalhost says whether the browser speaks plain HTTP to its own machine. It believes the headers of a
// proxy; whoever forges those weakens a cookie of their own alone.
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
