package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/peer"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/signing"
	"boxoffice/services/internal/state"
)

// testAuth is the service's API with a real sidecar.
type testAuth struct {
	public    *fiber.App
	documents *state.Store
	issuer    *identity.Issuer
	verifier  *identity.Verifier
	orders    *ordersServer
}

func start(t *testing.T, allowedFailures int) testAuth {
	t.Helper()
	s := stacktest.Start(t, stack.Options{Sidecars: []stack.Sidecar{{ID: "auth"}}})
	dapr, err := client.NewClientWithAddressContext(t.Context(), s.SidecarGRPC("auth"))
	require.NoError(t, err)
	t.Cleanup(dapr.Close)
	dapr.WithAuthToken(s.SidecarToken("auth"))
	k, err := signing.Secret{Name: signingKey, From: dapr}.Read(t.Context())
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	documents, err := state.Open(t.Context(), dapr, state.Options{Service: "auth", Instance: "test", Log: log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, documents.Close(context.Background())) })
	passwords, err := newPasswords(bcrypt.MinCost, 0, allowedFailures, nil)
	require.NoError(t, err)

	r := testAuth{public: rest.New(rest.Options{Log: log}), orders: &ordersServer{}, documents: documents}
	ordersAPI := httptest.NewServer(r.orders)
	t.Cleanup(ordersAPI.Close)
	to, err := peer.New("orders", []string{ordersAPI.URL}, "")
	require.NoError(t, err)
	t.Cleanup(to.Close)
	r.issuer, r.verifier = newIdentity(k, time.Hour)
	revocations := newRevocations(documents, time.Hour)
	a := &api{
		store:     newStore(documents, revocations, 30*24*time.Hour, clock.System, log),
		passwords: passwords, revocations: revocations, orders: orders{to},
		issuer: r.issuer, verifier: r.verifier, cookies: identity.SecureAuto,
	}
	a.register(r.public)
	return r
}

// ordersServer responds as orders does to /api/orders/unsettled, with any token.
type ordersServer struct {
	mu     sync.Mutex
	status int // 0 is 200
	body   string
}

func (o *ordersServer) set(status int, body string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status, o.body = status, body
}

func (o *ordersServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.URL.Path != "/api/orders/unsettled" || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ey") {
		http.NotFound(w, r)
		return
	}
	if o.status != 0 {
		w.WriteHeader(o.status)
	}
	_, _ = io.WriteString(w, o.body)
}

// response is what a client gets.
type response struct {
	status  int
	cookie  *http.Cookie // the token's
	refresh *http.Cookie // the refresh token's
	old     *http.Cookie // the refresh token's, at the path of the earlier release
	header  http.Header
	body    string

	User        *userResponse
	CurrentUser *userResponse
	Token       string
	Errors      []struct{ Message, Field, Code string }
}

func (r testAuth) send(t *testing.T, method, path, body string, headers ...string) response {
	t.Helper()
	req := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := r.public.Test(req, -1)
	require.NoError(t, err)
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	got := response{status: res.StatusCode, header: res.Header, body: string(raw)}
	if len(raw) > 0 {
		require.NoError(t, json.Unmarshal(raw, &got), got.body)
	}
	for _, cookie := range res.Cookies() {
		switch {
		case cookie.Name == "jwt":
			got.cookie = cookie
		case cookie.Name == "refresh" && cookie.Path == "/api/users/refresh":
			got.old = cookie
		case cookie.Name == "refresh":
			got.refresh = cookie
		}
	}
	return got
}

func TestAPI_UsersSignUpAndInAndOut(t *testing.T) {
	auth := start(t, 0)
	const ada = `{"email":" Ada@Example.com ","password":"correct horse"}`

	up := auth.send(t, "POST", "/api/users/signup", ada)
	require.Equal(t, 201, up.status, up.body)
	require.Equal(t, "ada@example.com", up.User.Email)
	require.WithinDuration(t, time.Now(), up.User.CreatedAt.Time, time.Minute)
	require.NotContains(t, strings.ToLower(up.body), "password")
	require.Equal(t, up.Token, up.cookie.Value)
	require.True(t, up.cookie.HttpOnly)

	in := auth.send(t, "POST", "/api/users/signin", `{"email":"ADA@example.com","password":"correct horse"}`)
	require.Equal(t, 200, in.status)
	require.Equal(t, up.User, in.User)
	require.Equal(t, in.Token, in.cookie.Value)

	for name, headers := range map[string][]string{
		"cookie": {"Cookie", "jwt=" + in.cookie.Value},
		"bearer": {"Authorization", "Bearer " + up.Token},
	} {
		current := auth.send(t, "GET", "/api/users/currentuser", "", headers...)
		require.Equal(t, 200, current.status, name)
		require.Equal(t, up.User, current.CurrentUser, name)
	}
	for name, headers := range map[string][]string{
		"no token":      {},
		"a bad token":   {"Authorization", "Bearer x"},
		"another's key": {"Authorization", "Bearer " + foreignToken(t, up.User.ID)},
	} {
		current := auth.send(t, "GET", "/api/users/currentuser", "", headers...)
		require.Equal(t, 200, current.status, name)
		require.JSONEq(t, `{"currentUser":null}`, current.body, name)
	}

	out := auth.send(t, "POST", "/api/users/signout", "", "Cookie", "jwt="+in.Token)
	require.Equal(t, 200, out.status)
	require.JSONEq(t, `{}`, out.body)
	require.Equal(t, "jwt", out.cookie.Name)
	require.Empty(t, out.cookie.Value)
	require.True(t, out.cookie.Expires.Before(time.Now()))

	t.Run("the same email again", func(t *testing.T) {
		again := auth.send(t, "POST", "/api/users/signup", `{"email":"ADA@EXAMPLE.COM","password":"another one"}`)
		require.Equal(t, 409, again.status)
		require.Equal(t, "email_in_use", again.Errors[0].Code)
		require.Equal(t, "email", again.Errors[0].Field)
		require.Nil(t, again.cookie)
	})

	t.Run("a wrong email and a wrong password have the same response", func(t *testing.T) {
		var bodies []string
		for _, body := range []string{
			`{"email":"ada@example.com","password":"wrong horse"}`,
			`{"email":"eve@example.com","password":"correct horse"}`,
			`{"email":"no email","password":"correct horse"}`,
			`{"email":"ada@example.com","password":"` + strings.Repeat("x", 100) + `"}`,
		} {
			refused := auth.send(t, "POST", "/api/users/signin", body, "X-Request-Id", "same")
			require.Equal(t, 401, refused.status)
			require.Nil(t, refused.cookie)
			bodies = append(bodies, refused.body)
		}
		for _, body := range bodies[1:] {
			require.Equal(t, bodies[0], body)
		}
	})

	t.Run("invalid requests", func(t *testing.T) {
		tests := map[string]struct {
			path, body string
			fields     []string
		}{
			"nothing":             {"signup", `{}`, []string{"email", "password"}},
			"no password":         {"signup", `{"email":"a@example.com"}`, []string{"password"}},
			"both wrong":          {"signup", `{"email":"a","password":"b"}`, []string{"email", "password"}},
			"a long password":     {"signup", `{"email":"a@example.com","password":"` + strings.Repeat("x", 73) + `"}`, []string{"password"}},
			"a number":            {"signup", `{"email":7,"password":"12345678"}`, []string{"email"}},
			"not JSON":            {"signup", `email=a`, []string{""}},
			"sign in without all": {"signin", `{}`, []string{"email", "password"}},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				refused := auth.send(t, "POST", "/api/users/"+tt.path, tt.body)
				require.Equal(t, 400, refused.status)
				var fields []string
				for _, e := range refused.Errors {
					fields = append(fields, e.Field)
				}
				require.Equal(t, tt.fields, fields)
			})
		}
		require.Equal(t, 415, auth.send(t, "POST", "/api/users/signup", ada, "Content-Type", "text/plain").status)
		require.Equal(t, 405, auth.send(t, "GET", "/api/users/signup", "").status)
		require.Equal(t, 404, auth.send(t, "GET", "/api/users/7", "").status)
	})

	t.Run("the keys verify the token", func(t *testing.T) {
		public := auth.send(t, "GET", identity.KeysPath, "")
		require.Equal(t, 200, public.status)
		require.NotContains(t, public.body, `"d"`, "the private part")

		v := identity.NewVerifier(func(context.Context) (keys signing.KeySet, err error) {
			return keys, json.Unmarshal([]byte(public.body), &keys)
		})
		user, err := v.Verify(t.Context(), up.Token)
		require.NoError(t, err)
		require.NotEmpty(t, user.Session)
		user.Session = ""
		require.Equal(t, identity.Caller{ID: up.User.ID, Email: "ada@example.com"}, user)
	})

	t.Run("parallel sign-ups with one email make one user", func(t *testing.T) {
		const many = 20
		statuses := make([]int, many)
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				statuses[i] = auth.send(t, "POST", "/api/users/signup", `{"email":"bob@example.com","password":"correct horse"}`).status
			})
		}
		all.Wait()
		counts := map[int]int{}
		for _, status := range statuses {
			counts[status]++
		}
		require.Equal(t, map[int]int{201: 1, 409: many - 1}, counts)
	})

	t.Run("an unusual email is valid", func(t *testing.T) {
		const odd = `{"email":"a/b||c%2F'd@example.com","password":"correct horse"}`
		require.Equal(t, 201, auth.send(t, "POST", "/api/users/signup", odd).status)
		require.Equal(t, 200, auth.send(t, "POST", "/api/users/signin", odd).status)
		require.Equal(t, 409, auth.send(t, "POST", "/api/users/signup", odd).status)
	})
}

func TestAPI_ASignUpWithTheSameKeyBeginsAnotherSessionOfTheSameUser(t *testing.T) {
	auth := start(t, 2)
	const key = "Idempotency-Key"
	body := func(email, password string) string {
		return `{"email":"` + email + `","password":"` + password + `"}`
	}
	signUp := func(body string, headers ...string) response {
		return auth.send(t, "POST", "/api/users/signup", body, headers...)
	}

	first := signUp(body("ada@example.com", "correct horse"), key, "k1")
	require.Equal(t, 201, first.status, first.body)
	require.Empty(t, first.header.Get("Idempotent-Replayed"))
	again := signUp(body("Ada@Example.com", "correct horse"), key, "k1")
	require.Equal(t, 201, again.status, again.body)
	require.Equal(t, "true", again.header.Get("Idempotent-Replayed"))
	require.Equal(t, first.User, again.User)
	require.NotEqual(t, first.refresh.Value, again.refresh.Value, "a session of its own")
	require.Equal(t, again.Token, again.cookie.Value)
	require.Equal(t, again.User, auth.send(t, "GET", "/api/users/currentuser", "", "Authorization", "Bearer "+again.Token).CurrentUser)
	require.Equal(t, 201, signUp(body("eve@example.com", "correct horse"), key, "k1").status, "a key is of one email")
	require.Equal(t, "max", signUp(body("bob@example.com", "correct horse"), key, strings.Repeat("k", 256)).Errors[0].Code)

	require.Equal(t, 201, signUp(body("carl@example.com", "correct horse")).status)
	for name, refused := range map[string]response{
		"another key":                            signUp(body("ada@example.com", "correct horse"), key, "k2"),
		"no key":                                 signUp(body("ada@example.com", "correct horse")),
		"another password":                       signUp(body("ada@example.com", "wrong horse"), key, "k1"),
		"a key for a user that was made without": signUp(body("carl@example.com", "correct horse"), key, "k1"),
	} {
		require.Equal(t, 409, refused.status, name)
		require.Equal(t, "email_in_use", refused.Errors[0].Code, name)
		require.Nil(t, refused.cookie, name)
	}
	require.Equal(t, 409, signUp(body("ada@example.com", "wrong horse"), key, "k1").status)
	require.Equal(t, 409, signUp(body("ada@example.com", "correct horse"), key, "k1").status, "passwords are not guessed in this way either")
	require.Equal(t, "too_many_attempts", auth.send(t, "POST", "/api/users/signin", body("ada@example.com", "correct horse")).Errors[0].Code)

	t.Run("at the same moment", func(t *testing.T) {
		var signingUp sync.WaitGroup
		responses := make([]response, 8)
		for i := range responses {
			signingUp.Go(func() { responses[i] = signUp(body("dora@example.com", "correct horse"), key, "k1") })
		}
		signingUp.Wait()
		for _, r := range responses {
			require.Equal(t, 201, r.status, r.body)
			require.Equal(t, responses[0].User, r.User)
		}
	})
}

func TestAPI_LimitsWrongPasswords(t *testing.T) {
	auth := start(t, 2)
	require.Equal(t, 201, auth.send(t, "POST", "/api/users/signup", `{"email":"ada@example.com","password":"correct horse"}`).status)
	for _, email := range []string{"ada@example.com", "eve@example.com"} {
		for range 2 {
			require.Equal(t, 401, auth.send(t, "POST", "/api/users/signin", `{"email":"`+email+`","password":"wrong horse"}`).status)
		}
		stopped := auth.send(t, "POST", "/api/users/signin", `{"email":"`+email+`","password":"correct horse"}`)
		require.Equal(t, 429, stopped.status)
		require.Equal(t, "too_many_attempts", stopped.Errors[0].Code)
		require.Regexp(t, `^(299|300)$`, stopped.header.Get("Retry-After"))
	}
}

// foreignToken returns a token for a user, signed with another key.
func foreignToken(t *testing.T, user id.User) string {
	t.Helper()
	token, _, err := identity.NewIssuer(newKey(t), time.Hour).Issue(identity.Caller{ID: user}, time.Now())
	require.NoError(t, err)
	return token
}

func TestAPI_CookieOnlyKeepsTheTokenFromScripts(t *testing.T) {
	auth := start(t, 2)
	isInCookiesAlone := func(r response, status int) response {
		t.Helper()
		require.Equal(t, status, r.status, r.body)
		require.NotContains(t, r.body, "token", "absent")
		require.NotContains(t, r.body, r.cookie.Value)
		require.NotContains(t, r.body, r.refresh.Value)
		require.NotNil(t, r.User)
		for _, cookie := range []*http.Cookie{r.cookie, r.refresh} {
			require.True(t, cookie.HttpOnly)
			require.NotEmpty(t, cookie.Value)
		}
		current := auth.send(t, "GET", "/api/users/currentuser", "", "Cookie", "jwt="+r.cookie.Value)
		require.Equal(t, r.User, current.CurrentUser)
		return r
	}
	const ada = `{"email":"ada@example.com","password":"correct horse","cookieOnly":true}`
	for range 2 { // the second one is a repetition
		isInCookiesAlone(auth.send(t, "POST", "/api/users/signup", ada, "Idempotency-Key", "k1"), 201)
	}
	in := isInCookiesAlone(auth.send(t, "POST", "/api/users/signin", ada), 200)
	in = isInCookiesAlone(auth.send(t, "POST", "/api/users/refresh", `{"cookieOnly":true}`, "Cookie", "refresh="+in.refresh.Value), 200)
	in = isInCookiesAlone(auth.send(t, "POST", "/api/users/password", `{"oldPassword":"correct horse","newPassword":"battery staple","cookieOnly":true}`,
		"Cookie", "jwt="+in.cookie.Value), 200)

	for _, body := range []string{`{"cookieOnly":"yes"}`, `cookieOnly`, `[]`} {
		refused := auth.send(t, "POST", "/api/users/refresh", body, "Cookie", "refresh="+in.refresh.Value)
		require.Equal(t, 400, refused.status, refused.body)
	}
	require.Equal(t, 415, auth.send(t, "POST", "/api/users/refresh", `{}`, "Cookie", "refresh="+in.refresh.Value, "Content-Type", "text/plain").status)
	for _, body := range []string{"", `{}`, `{"cookieOnly":false}`} { // the refused requests have not used the refresh token
		refreshed := auth.send(t, "POST", "/api/users/refresh", body, "Cookie", "refresh="+in.refresh.Value)
		require.Equal(t, 200, refreshed.status, refreshed.body)
		require.Equal(t, refreshed.cookie.Value, refreshed.Token)
		in = refreshed
	}
}
