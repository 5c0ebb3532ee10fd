package e2e

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// session is what a sign-in gives a client.
type session struct {
	token   string
	refresh *http.Cookie
}

func sessionOf(t *testing.T, r reply) session {
	t.Helper()
	s := session{as[signedIn](t, r).Token, r.cookie("refresh")}
	require.NotEmpty(t, s.token)
	require.NotNil(t, s.refresh)
	return s
}

func (h *house) signInAs(t *testing.T, somebody *person) session {
	t.Helper()
	r := h.do(t, "POST", "/api/users/signin", credentials{somebody.Email, somebody.password})
	require.Equal(t, 200, r.status, "%s", r.body)
	return sessionOf(t, r)
}

func (h *house) refresh(t *testing.T, s session) reply {
	t.Helper()
	return h.do(t, "POST", "/api/users/refresh", nil, "Cookie", "refresh="+s.refresh.Value)
}

// accepts says which of the services that verify tokens take this one.
func (h *house) accepts(t *testing.T, token string) map[string]bool {
	t.Helper()
	taken := map[string]bool{}
	for service, path := range map[string]string{"tickets": "/api/tickets", "orders": "/api/orders", "payments": "/api/payments"} {
		method, body := "POST", any(`{}`)
		if service == "orders" {
			method, body = "GET", nil
		}
		r := h.do(t, method, path, body, "Authorization", "Bearer "+token)
		require.Contains(t, []int{200, 400, 401}, r.status, "%s: %s", service, r.body)
		taken[service] = r.status != 401
	}
	r := h.do(t, "GET", "/api/users/currentuser", nil, "Authorization", "Bearer "+token)
	require.Equal(t, 200, r.status, "%s", r.body)
	taken["auth"] = as[currentUser](t, r).CurrentUser != nil
	return taken
}

var (
	acceptedByAll  = map[string]bool{"auth": true, "tickets": true, "orders": true, "payments": true}
	acceptedByNone = map[string]bool{"auth": false, "tickets": false, "orders": false, "payments": false}
)

// revokedSoon requires auth to refuse the token at once, and all other services soon.
func (h *house) revokedSoon(t *testing.T, token string) {
	t.Helper()
	require.False(t, h.accepts(t, token)["auth"])
	eventually(t, "a revoked token is refused by every service", func() bool {
		accepted := h.accepts(t, token)
		return !accepted["tickets"] && !accepted["orders"] && !accepted["payments"]
	})
	require.Equal(t, acceptedByNone, h.accepts(t, token))
	refused(t, 401, h.do(t, "GET", "/api/orders", nil, "Authorization", "Bearer "+token), "token_revoked")
}

func TestSessions_ARefreshTokenIsGoodOnce(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)
	first, other := h.signInAs(t, somebody), h.signInAs(t, somebody)
	require.Equal(t, "/api/users", first.refresh.Path)
	require.True(t, first.refresh.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, first.refresh.SameSite)
	require.InDelta(t, (30 * 24 * time.Hour).Seconds(), first.refresh.MaxAge, 60)

	r := h.refresh(t, first)
	require.Equal(t, 200, r.status, "%s", r.body)
	second := sessionOf(t, r)
	require.Equal(t, acceptedByAll, h.accepts(t, second.token))
	require.Equal(t, acceptedByAll, h.accepts(t, first.token), "the token before is good until its time is over")

	refused(t, 401, h.refresh(t, first), "session_ended")
	refused(t, 401, h.refresh(t, second), "session_ended")
	for _, token := range []string{first.token, second.token} {
		h.revokedSoon(t, token)
	}
	require.Equal(t, acceptedByAll, h.accepts(t, other.token), "the user's other session goes on")
	require.Equal(t, 200, h.refresh(t, other).status)
	refused(t, 401, h.do(t, "POST", "/api/users/refresh", nil), "session_ended")
}

func TestSessions_SigningOutEndsThisSession(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)
	first, other := h.signInAs(t, somebody), h.signInAs(t, somebody)

	r := h.do(t, "POST", "/api/users/signout", nil, "Cookie", "jwt="+first.token)

	require.Equal(t, 200, r.status)
	for _, name := range []string{"jwt", "refresh"} {
		require.Empty(t, r.cookie(name).Value, name)
		require.True(t, r.cookie(name).Expires.Before(time.Now()), name)
	}
	refused(t, 401, h.refresh(t, first), "session_ended")
	require.Equal(t, 200, h.refresh(t, other).status)
}

// A browser drops the token's cookie when its time is over, and keeps that of the refresh token.
func TestSessions_SigningOutWithoutATokenEndsThisSession(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)
	first, other := h.signInAs(t, somebody), h.signInAs(t, somebody)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	home, err := url.Parse(h.GatewayURL() + "/api/users/signin")
	require.NoError(t, err)
	jar.SetCookies(home, []*http.Cookie{first.refresh})
	signOut, err := url.Parse(h.GatewayURL() + "/api/users/signout")
	require.NoError(t, err)
	sent := jar.Cookies(signOut)
	require.Len(t, sent, 1, "the browser sends the refresh token")

	r := h.do(t, "POST", "/api/users/signout", nil, "Cookie", sent[0].String())

	require.Equal(t, 200, r.status)
	jar.SetCookies(signOut, (&http.Response{Header: r.header}).Cookies())
	require.Empty(t, jar.Cookies(signOut))
	refused(t, 401, h.refresh(t, first), "session_ended")
	require.Equal(t, 200, h.refresh(t, other).status)
}

func TestSessions_SigningOutEverywhereIsHeardByAll(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody, bystander := h.signUp(t), h.signUp(t)
	first, other := h.signInAs(t, somebody), h.signInAs(t, somebody)
	require.Equal(t, acceptedByAll, h.accepts(t, first.token))
	refused(t, 401, h.do(t, "POST", "/api/users/signout-everywhere", nil), "not_signed_in")

	r := h.do(t, "POST", "/api/users/signout-everywhere", nil, "Cookie", "jwt="+first.token)

	require.Equal(t, 200, r.status, "%s", r.body)
	require.JSONEq(t, `{}`, string(r.body))
	for _, ended := range []session{first, other, {token: somebody.token}} {
		h.revokedSoon(t, ended.token)
	}
	refused(t, 401, h.refresh(t, first), "session_ended")
	refused(t, 401, h.refresh(t, other), "session_ended")
	require.Equal(t, acceptedByAll, h.accepts(t, bystander.token))
	require.Equal(t, 404, h.do(t, "GET", "/.well-known/revocations", nil).status, "the list is for services alone")
	require.Equal(t, acceptedByAll, h.accepts(t, h.signInAs(t, somebody).token), "who signs in again is in")
}

func TestUsers_ANewPasswordNeedsTheOldOneAndEndsOtherSessions(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)
	other := h.signInAs(t, somebody)
	change := func(old, chosen string) reply {
		return h.do(t, "POST", "/api/users/password", map[string]string{"oldPassword": old, "newPassword": chosen}, "Cookie", "jwt="+somebody.token)
	}

	require.Equal(t, "oldPassword", refused(t, 403, change("wrong horse", "battery staple"), "wrong_password").Errors[0].Field)
	require.Equal(t, "newPassword", refused(t, 400, change(somebody.password, "short"), "min").Errors[0].Field)
	require.Equal(t, acceptedByAll, h.accepts(t, other.token))
	r := change(somebody.password, "battery staple")

	require.Equal(t, 200, r.status, "%s", r.body)
	fresh := sessionOf(t, r)
	require.Equal(t, acceptedByAll, h.accepts(t, fresh.token))
	h.revokedSoon(t, other.token)
	h.revokedSoon(t, somebody.token)
	refused(t, 401, h.refresh(t, other), "session_ended")
	require.Equal(t, 200, h.refresh(t, fresh).status)
	refused(t, 401, h.do(t, "POST", "/api/users/signin", credentials{somebody.Email, somebody.password}), "invalid_credentials")
	require.Equal(t, 200, h.do(t, "POST", "/api/users/signin", credentials{somebody.Email, "battery staple"}).status)
}

func TestUsers_AnAccountIsDeletedWhenItsOrdersAreSettled(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	other := h.signInAs(t, buyer)
	listed := seller.list(t, "To be bought", 2000)
	reserved := buyer.reserved(t, listed.ID)
	remove := func(password string) reply {
		return h.do(t, "DELETE", "/api/users/currentuser", map[string]string{"password": password}, "Cookie", "jwt="+buyer.token)
	}

	refused(t, 409, remove(buyer.password), "orders_unsettled")
	require.Equal(t, 204, buyer.cancel(t, reserved.ID))
	require.Equal(t, "password", refused(t, 403, remove("wrong horse"), "wrong_password").Errors[0].Field)
	require.Equal(t, acceptedByAll, h.accepts(t, buyer.token))

	r := remove(buyer.password)

	require.Equal(t, 204, r.status, "%s", r.body)
	require.Empty(t, r.cookie("jwt").Value)
	require.Empty(t, r.cookie("refresh").Value)
	h.revokedSoon(t, buyer.token)
	h.revokedSoon(t, other.token)
	refused(t, 401, h.refresh(t, other), "session_ended")
	refused(t, 401, h.do(t, "POST", "/api/users/signin", credentials{buyer.Email, buyer.password}), "invalid_credentials")
	again := h.do(t, "POST", "/api/users/signup", credentials{buyer.Email, "battery staple"})
	require.Equal(t, 201, again.status, "the address may sign up again: %s", again.body)
	require.NotEqual(t, buyer.ID, as[signedIn](t, again).User.ID)
}

// While auth is away, the others go on with the keys and revocations that they know. No account is deleted while orders is away.
func TestSessions_ServicesGoOnWhileAuthIsAway(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, nil)
	somebody, out := h.signUp(t), h.signUp(t)
	require.Equal(t, 200, h.do(t, "POST", "/api/users/signout-everywhere", nil, "Authorization", "Bearer "+out.token).status)
	h.revokedSoon(t, out.token)
	buys := func(token string) int {
		return h.do(t, "GET", "/api/orders", nil, "Authorization", "Bearer "+token).status
	}

	h.without(t, "auth", func() {
		eventually(t, "auth is away", func() bool { return h.do(t, "GET", "/.well-known/jwks.json", nil).status == 503 })
		for _, service := range []string{"gateway", "orders"} {
			eventually(t, service+" has had no revocations for some periods", func() bool {
				age, found := h.metric(service, "boxoffice_revocations_age_seconds")
				return found && age > 3
			})
		}
		require.Equal(t, 200, buys(somebody.token))
		require.Equal(t, 401, buys(out.token))
	})
	h.without(t, "auth-dapr", func() {
		r := h.do(t, "POST", "/api/users/signout", nil, "Cookie", "jwt="+somebody.token)
		refused(t, 503, r)
		require.Empty(t, r.cookie("jwt").Value, "the browser is signed out all the same")
	})
	eventually(t, "auth reaches its store again", func() bool { return h.do(t, "GET", "/readyz", nil).status == 200 })
	eventually(t, "auth reaches its sidecar again", func() bool {
		return h.do(t, "GET", "/api/users/currentuser", nil, "Authorization", "Bearer "+somebody.token).status == 200
	})
	h.without(t, "orders", func() {
		r := h.do(t, "DELETE", "/api/users/currentuser", map[string]string{"password": somebody.password}, "Authorization", "Bearer "+somebody.token)
		refused(t, 503, r, "orders_unavailable")
		require.NotEmpty(t, r.header.Get("Retry-After"))
	})
	eventually(t, "orders is back", func() bool { return buys(somebody.token) == 200 })
}
