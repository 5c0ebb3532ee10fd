package e2e

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

// session is what a client receives when it signs in.
type session struct {
	token   string
	refresh *http.Cookie
}

func sessionOf(t *testing.T, r client.Response) session {
	t.Helper()
	own := session{decode[client.SignedIn](t, r).Token, r.Cookie("refresh")}
	require.NotEmpty(t, own.token)
	require.NotNil(t, own.refresh)
	return own
}

func (s *testStack) signIn(t *testing.T, user *testUser) session {
	t.Helper()
	r := s.call(t, client.SignIn(user.Email, user.password))
	requireStatus(t, 200, r)
	return sessionOf(t, r)
}

func (s *testStack) refresh(t *testing.T, own session) client.Response {
	t.Helper()
	return s.call(t, client.Refresh(own.refresh.Value))
}

// acceptingServices reports for each service that verifies tokens whether it accepts this one.
func (s *testStack) acceptingServices(t *testing.T, token string) map[string]bool {
	t.Helper()
	accepted := map[string]bool{}
	for service, path := range map[string]string{"tickets": "/api/tickets", "orders": "/api/orders", "payments": "/api/payments"} {
		method, body := "POST", any(`{}`)
		if service == "orders" {
			method, body = "GET", nil
		}
		r := s.request(t, method, path, body, "Authorization", "Bearer "+token)
		require.Contains(t, []int{200, 400, 401}, r.Status, "%s: %s", service, r.Body)
		accepted[service] = r.Status != 401
	}
	r := s.call(t, client.ReadCurrentUser().With("Authorization", "Bearer "+token))
	requireStatus(t, 200, r)
	accepted["auth"] = decode[client.CurrentUser](t, r).CurrentUser != nil
	return accepted
}

var (
	acceptedByAll  = map[string]bool{"auth": true, "tickets": true, "orders": true, "payments": true}
	acceptedByNone = map[string]bool{"auth": false, "tickets": false, "orders": false, "payments": false}
)

// waitRevoked requires auth to refuse the token now, and waits until all other services do.
func (s *testStack) waitRevoked(t *testing.T, token string) {
	t.Helper()
	require.False(t, s.acceptingServices(t, token)["auth"])
	eventually(t, "a revoked token is refused by every service", func() bool {
		accepted := s.acceptingServices(t, token)
		return !accepted["tickets"] && !accepted["orders"] && !accepted["payments"]
	})
	require.Equal(t, acceptedByNone, s.acceptingServices(t, token))
	requireProblem(t, 401, s.call(t, client.ReadOrders().With("Authorization", "Bearer "+token)), "token_revoked")
}

func TestSessions_RefreshTokenWorksOnce(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)
	first, other := s.signIn(t, user), s.signIn(t, user)
	require.Equal(t, "/api/users", first.refresh.Path)
	require.True(t, first.refresh.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, first.refresh.SameSite)
	require.InDelta(t, (30 * 24 * time.Hour).Seconds(), first.refresh.MaxAge, 60)

	r := s.refresh(t, first)
	requireStatus(t, 200, r)
	second := sessionOf(t, r)
	require.Equal(t, acceptedByAll, s.acceptingServices(t, second.token))
	require.Equal(t, acceptedByAll, s.acceptingServices(t, first.token), "the earlier token is valid until it expires")

	requireProblem(t, 401, s.refresh(t, first), "session_ended")
	requireProblem(t, 401, s.refresh(t, second), "session_ended")
	for _, token := range []string{first.token, second.token} {
		s.waitRevoked(t, token)
	}
	require.Equal(t, acceptedByAll, s.acceptingServices(t, other.token), "the user's other session continues")
	requireStatus(t, 200, s.refresh(t, other))
	requireProblem(t, 401, s.request(t, "POST", "/api/users/refresh", nil), "session_ended")
}

func TestSessions_SignOutEndsThisSession(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)
	first, other := s.signIn(t, user), s.signIn(t, user)

	r := s.call(t, client.SignOut().WithCookie("jwt", first.token))

	requireStatus(t, 200, r)
	for _, name := range []string{"jwt", "refresh"} {
		require.Empty(t, r.Cookie(name).Value, name)
		require.True(t, r.Cookie(name).Expires.Before(time.Now()), name)
	}
	requireProblem(t, 401, s.refresh(t, first), "session_ended")
	requireStatus(t, 200, s.refresh(t, other))
}

// A browser drops the token's cookie when the token expires, and keeps the refresh cookie.
func TestSessions_SignOutByRefreshCookieEndsThisSession(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)
	first, other := s.signIn(t, user), s.signIn(t, user)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	home, err := url.Parse(s.GatewayURL() + "/api/users/signin")
	require.NoError(t, err)
	jar.SetCookies(home, []*http.Cookie{first.refresh})
	signOut, err := url.Parse(s.GatewayURL() + "/api/users/signout")
	require.NoError(t, err)
	sent := jar.Cookies(signOut)
	require.Len(t, sent, 1, "the browser sends the refresh token")

	r := s.call(t, client.SignOut().With("Cookie", sent[0].String()))

	requireStatus(t, 200, r)
	jar.SetCookies(signOut, (&http.Response{Header: r.Header}).Cookies())
	require.Empty(t, jar.Cookies(signOut))
	requireProblem(t, 401, s.refresh(t, first), "session_ended")
	requireStatus(t, 200, s.refresh(t, other))
}

func TestSessions_SignOutEverywhereRevokesAllTokens(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user, bystander := s.signUp(t), s.signUp(t)
	first, other := s.signIn(t, user), s.signIn(t, user)
	require.Equal(t, acceptedByAll, s.acceptingServices(t, first.token))
	requireProblem(t, 401, s.call(t, client.SignOutEverywhere()), "not_signed_in")

	r := s.call(t, client.SignOutEverywhere().WithCookie("jwt", first.token))

	requireStatus(t, 200, r)
	require.JSONEq(t, `{}`, string(r.Body))
	for _, ended := range []session{first, other, {token: user.token}} {
		s.waitRevoked(t, ended.token)
	}
	requireProblem(t, 401, s.refresh(t, first), "session_ended")
	requireProblem(t, 401, s.refresh(t, other), "session_ended")
	require.Equal(t, acceptedByAll, s.acceptingServices(t, bystander.token))
	require.Equal(t, 404, s.request(t, "GET", "/.well-known/revocations", nil).Status, "the list is only for services")
	require.Equal(t, acceptedByAll, s.acceptingServices(t, s.signIn(t, user).token), "the user can sign in again")
}

func TestUsers_NewPasswordRequiresTheOldOneAndEndsOtherSessions(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)
	other := s.signIn(t, user)
	change := func(old, chosen string) client.Response {
		return s.call(t, client.ChangePassword(old, chosen).WithCookie("jwt", user.token))
	}

	require.Equal(t, "oldPassword", requireProblem(t, 403, change("wrong horse", "battery staple"), "wrong_password").Errors[0].Field)
	require.Equal(t, "newPassword", requireProblem(t, 400, change(user.password, "short"), "min").Errors[0].Field)
	require.Equal(t, acceptedByAll, s.acceptingServices(t, other.token))
	r := change(user.password, "battery staple")

	requireStatus(t, 200, r)
	fresh := sessionOf(t, r)
	require.Equal(t, acceptedByAll, s.acceptingServices(t, fresh.token))
	s.waitRevoked(t, other.token)
	s.waitRevoked(t, user.token)
	requireProblem(t, 401, s.refresh(t, other), "session_ended")
	requireStatus(t, 200, s.refresh(t, fresh))
	requireProblem(t, 401, s.call(t, client.SignIn(user.Email, user.password)), "invalid_credentials")
	requireStatus(t, 200, s.call(t, client.SignIn(user.Email, "battery staple")))
}

func TestUsers_AccountIsDeletedOnlyWhenItsOrdersAreSettled(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	other := s.signIn(t, buyer)
	listed := seller.list(t, "To be bought", 2000)
	reserved := buyer.reserve(t, listed.ID)
	remove := func(password string) client.Response {
		return s.call(t, client.DeleteAccount(password).WithCookie("jwt", buyer.token))
	}

	requireProblem(t, 409, remove(buyer.password), "orders_unsettled")
	buyer.cancel(t, reserved.ID)
	require.Equal(t, "password", requireProblem(t, 403, remove("wrong horse"), "wrong_password").Errors[0].Field)
	require.Equal(t, acceptedByAll, s.acceptingServices(t, buyer.token))

	r := remove(buyer.password)

	requireStatus(t, 204, r)
	require.Empty(t, r.Cookie("jwt").Value)
	require.Empty(t, r.Cookie("refresh").Value)
	s.waitRevoked(t, buyer.token)
	s.waitRevoked(t, other.token)
	requireProblem(t, 401, s.refresh(t, other), "session_ended")
	requireProblem(t, 401, s.call(t, client.SignIn(buyer.Email, buyer.password)), "invalid_credentials")
	again := s.call(t, client.SignUp(buyer.Email, "battery staple"))
	require.Equal(t, 201, again.Status, "the address may sign up again: %s", again.Body)
	require.NotEqual(t, buyer.ID, decode[client.SignedIn](t, again).User.ID)
}

// While auth is down, other services use the keys and revocations that they have. While orders is down, no account can be deleted.
func TestSessions_ServicesVerifyTokensWhileAuthIsDown(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	user, out := s.signUp(t), s.signUp(t)
	requireStatus(t, 200, s.call(t, client.SignOutEverywhere().With("Authorization", "Bearer "+out.token)))
	s.waitRevoked(t, out.token)
	ordersStatus := func(token string) int {
		return s.call(t, client.ReadOrders().With("Authorization", "Bearer "+token)).Status
	}

	s.whileDown(t, "auth", func() {
		eventually(t, "auth is down", func() bool { return s.request(t, "GET", "/.well-known/jwks.json", nil).Status == 503 })
		for _, service := range []string{"gateway", "orders"} {
			eventually(t, service+" has received no revocations for some periods", func() bool {
				age, found := s.metric(t, service, "boxoffice_revocations_age_seconds")
				return found && age > 3
			})
		}
		require.Equal(t, 200, ordersStatus(user.token))
		require.Equal(t, 401, ordersStatus(out.token))
	})
	s.whileDown(t, "auth-dapr", func() {
		r := s.call(t, client.SignOut().WithCookie("jwt", user.token))
		requireProblem(t, 503, r)
		require.Empty(t, r.Cookie("jwt").Value, "the cookie is cleared all the same")
	})
	eventually(t, "auth reaches its store", func() bool { return s.request(t, "GET", "/readyz", nil).Status == 200 })
	eventually(t, "auth reaches its sidecar", func() bool {
		return s.call(t, client.ReadCurrentUser().With("Authorization", "Bearer "+user.token)).Status == 200
	})
	s.whileDown(t, "orders", func() {
		r := s.call(t, client.DeleteAccount(user.password).With("Authorization", "Bearer "+user.token))
		requireProblem(t, 503, r, "orders_unavailable")
		require.NotEmpty(t, r.Header.Get("Retry-After"))
	})
	eventually(t, "orders works again", func() bool { return ordersStatus(user.token) == 200 })
}
