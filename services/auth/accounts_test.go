package main

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/state"
)

// testUser is a user who has signed up.
type testUser struct {
	response
	email, password string
}

func (r testAuth) signUp(t *testing.T, email string) testUser {
	t.Helper()
	up := r.send(t, "POST", "/api/users/signup", `{"email":"`+email+`","password":"correct horse"}`)
	require.Equal(t, 201, up.status, up.body)
	return testUser{up, email, "correct horse"}
}

func (r testAuth) signIn(t *testing.T, u testUser) response {
	t.Helper()
	in := r.send(t, "POST", "/api/users/signin", `{"email":"`+u.email+`","password":"`+u.password+`"}`)
	require.Equal(t, 200, in.status, in.body)
	return in
}

func (r testAuth) refresh(t *testing.T, refresh *http.Cookie) response {
	t.Helper()
	return r.send(t, "POST", "/api/users/refresh", "", "Cookie", "refresh="+refresh.Value)
}

// accepts reports whether auth accepts the token.
func (r testAuth) accepts(t *testing.T, token string) bool {
	t.Helper()
	got := r.send(t, "GET", "/api/users/currentuser", "", "Authorization", "Bearer "+token)
	require.Equal(t, 200, got.status, got.body)
	return got.CurrentUser != nil
}

// otherService returns the verifier of another service, which has just fetched the keys and revocations.
func (r testAuth) otherService(t *testing.T) *identity.Verifier {
	t.Helper()
	var trust identity.Trust
	for path, into := range map[string]any{identity.KeysPath: &trust.Keys, identity.RevocationsPath: &trust.Revocations} {
		got := r.send(t, "GET", path, "")
		require.Equal(t, 200, got.status, got.body)
		require.NoError(t, json.Unmarshal([]byte(got.body), into))
	}
	v := identity.NewRevokingVerifier(nil, nil)
	require.NoError(t, v.Set(trust))
	return v
}

// requireRevoked waits until other services refuse the token.
func (r testAuth) requireRevoked(t *testing.T, token string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := r.otherService(t).Verify(t.Context(), token)
		return err != nil
	}, 3*time.Second, 50*time.Millisecond)
	_, err := r.otherService(t).Verify(t.Context(), token)
	require.ErrorIs(t, err, identity.ErrRevoked)
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

func TestAccounts(t *testing.T) {
	auth := start(t, 3)

	t.Run("a refresh token gives a new token, once", func(t *testing.T) {
		ada := auth.signUp(t, "refresh@example.com")
		require.Equal(t, "/api/users", ada.refresh.Path)
		require.True(t, ada.refresh.HttpOnly)
		require.Equal(t, http.SameSiteStrictMode, ada.refresh.SameSite)
		require.InDelta(t, (30 * 24 * time.Hour).Seconds(), ada.refresh.MaxAge, 60)

		first := auth.refresh(t, ada.refresh)
		require.Equal(t, 200, first.status, first.body)
		require.Empty(t, first.old.Value, "browsers send the cookie of the earlier release first, so it is cleared")
		require.True(t, first.old.Expires.Before(time.Now()))
		require.Equal(t, ada.User, first.User)
		require.Equal(t, first.Token, first.cookie.Value)
		require.NotEqual(t, ada.refresh.Value, first.refresh.Value)
		require.True(t, auth.accepts(t, first.Token))
		second := auth.refresh(t, first.refresh)
		require.Equal(t, 200, second.status)
		another := auth.signIn(t, ada)

		reused := auth.refresh(t, first.refresh)
		require.Equal(t, 401, reused.status)
		require.Equal(t, "session_ended", reused.Errors[0].Code)
		require.Empty(t, reused.refresh.Value, "it is removed from the browser")
		require.Equal(t, 401, auth.refresh(t, second.refresh).status, "the session has also ended for the current refresh token")
		require.Equal(t, 200, auth.refresh(t, another.refresh).status, "another session has not ended")
		auth.requireRevoked(t, second.Token)
		require.False(t, auth.accepts(t, second.Token))
		_, err := auth.otherService(t).Verify(t.Context(), another.Token)
		require.NoError(t, err)
	})

	t.Run("of parallel uses of a refresh token at most one succeeds, and the session ends", func(t *testing.T) {
		ada := auth.signUp(t, "many@example.com")
		replies := make([]response, 8)
		var all sync.WaitGroup
		for i := range replies {
			all.Go(func() { replies[i] = auth.refresh(t, ada.refresh) })
		}
		all.Wait()
		var granted []response
		for _, r := range replies {
			if r.status == 200 {
				granted = append(granted, r)
			} else {
				require.Equal(t, 401, r.status, r.body)
			}
		}
		require.LessOrEqual(t, len(granted), 1)
		for _, r := range granted {
			require.Equal(t, 401, auth.refresh(t, r.refresh).status)
		}
	})

	t.Run("other texts than a refresh token are refused", func(t *testing.T) {
		for _, value := range []string{"", "x", "01a2095f-a4f6-7b50-824b-f6eddc3cbeaf.x", strings.Repeat("A", 3000)} {
			got := auth.send(t, "POST", "/api/users/refresh", "", "Cookie", "refresh="+value)
			require.Equal(t, 401, got.status)
			require.Equal(t, "session_ended", got.Errors[0].Code)
		}
		ada := auth.signUp(t, "guess@example.com")
		id, secret, _ := strings.Cut(ada.refresh.Value, ".")
		guess := &http.Cookie{Value: id + "." + strings.Map(func(r rune) rune {
			if r == 'A' {
				return 'B'
			}
			return 'A'
		}, secret[:len(secret)-1]) + "A"}
		require.Equal(t, 401, auth.refresh(t, guess).status)
	})

	t.Run("signing out ends the session, and no other", func(t *testing.T) {
		ada := auth.signUp(t, "out@example.com")
		other := auth.signIn(t, ada)

		out := auth.send(t, "POST", "/api/users/signout", "", "Cookie", "jwt="+ada.Token)
		require.Equal(t, 200, out.status)
		require.Empty(t, out.cookie.Value)
		require.Empty(t, out.refresh.Value)
		require.Equal(t, "/api/users", out.refresh.Path)
		require.True(t, out.refresh.Expires.Before(time.Now()))
		require.Empty(t, out.old.Value)
		require.True(t, out.old.Expires.Before(time.Now()))

		require.Equal(t, 401, auth.refresh(t, ada.refresh).status)
		require.Equal(t, 200, auth.refresh(t, other.refresh).status)
	})

	t.Run("signing out with an expired token ends the session", func(t *testing.T) {
		ada := auth.signUp(t, "late@example.com")
		user, err := auth.verifier.Verify(t.Context(), ada.Token)
		require.NoError(t, err)
		old, _, err := auth.issuer.Issue(user, time.Now().Add(-2*time.Hour))
		require.NoError(t, err)
		require.False(t, auth.accepts(t, old))

		require.Equal(t, 200, auth.send(t, "POST", "/api/users/signout", "", "Cookie", "jwt="+old).status)

		require.Equal(t, 401, auth.refresh(t, ada.refresh).status)
	})

	t.Run("signing out with the refresh token alone ends the session, and no other", func(t *testing.T) {
		ada := auth.signUp(t, "dropped@example.com")
		other := auth.signIn(t, ada)
		out := func(refresh string) response {
			return auth.send(t, "POST", "/api/users/signout", "", "Cookie", "refresh="+refresh)
		}

		next := auth.refresh(t, ada.refresh)
		for what, refresh := range map[string]string{
			"a token that was replaced":       ada.refresh.Value,
			"the secret of another session":   strings.Split(next.refresh.Value, ".")[0] + "." + strings.Split(other.refresh.Value, ".")[1],
			"a token that is none":            "x",
			"a session that was never there":  "01a2095f-a4f6-7b50-824b-f6eddc3cbeaf." + strings.Split(other.refresh.Value, ".")[1],
			"the refresh cookie without text": "",
		} {
			require.Equal(t, 200, out(refresh).status, what)
		}
		next = auth.refresh(t, next.refresh)
		require.Equal(t, 200, next.status, "none of them ended the session")

		signedOut := out(next.refresh.Value)

		require.Equal(t, 200, signedOut.status)
		require.Empty(t, signedOut.refresh.Value)
		require.Equal(t, 401, auth.refresh(t, next.refresh).status)
		require.Equal(t, 200, auth.refresh(t, other.refresh).status)
		require.Equal(t, 200, auth.send(t, "POST", "/api/users/signout", "", "Cookie", "jwt="+next.Token+"; refresh="+next.refresh.Value).status, "once more")
	})

	t.Run("signing out everywhere ends all sessions and tokens", func(t *testing.T) {
		ada, bob := auth.signUp(t, "everywhere@example.com"), auth.signUp(t, "bystander@example.com")
		other := auth.signIn(t, ada)
		require.Equal(t, 401, auth.send(t, "POST", "/api/users/signout-everywhere", "").status)

		out := auth.send(t, "POST", "/api/users/signout-everywhere", "", bearer(ada.Token)...)
		require.Equal(t, 200, out.status, out.body)
		require.JSONEq(t, `{}`, out.body)
		require.Empty(t, out.cookie.Value)
		require.Empty(t, out.refresh.Value)

		for _, session := range []response{ada.response, other} {
			require.False(t, auth.accepts(t, session.Token), "auth refuses it at once")
			require.Equal(t, 401, auth.refresh(t, session.refresh).status)
			auth.requireRevoked(t, session.Token)
			again := auth.send(t, "POST", "/api/users/signout-everywhere", "", bearer(session.Token)...)
			require.Equal(t, 401, again.status)
			require.Equal(t, "token_revoked", again.Errors[0].Code)
		}
		again := auth.signIn(t, ada)
		require.True(t, auth.accepts(t, again.Token))
		_, err := auth.otherService(t).Verify(t.Context(), again.Token)
		require.NoError(t, err)
		require.True(t, auth.accepts(t, bob.Token))
		require.Equal(t, 200, auth.refresh(t, bob.refresh).status)
	})

	t.Run("a new password needs the old one and ends all sessions and tokens", func(t *testing.T) {
		ada := auth.signUp(t, "password@example.com")
		other := auth.signIn(t, ada)
		change := func(token, body string) response {
			return auth.send(t, "POST", "/api/users/password", body, bearer(token)...)
		}

		for body, want := range map[string]struct {
			status      int
			field, code string
		}{
			`{"oldPassword":"wrong horse","newPassword":"battery staple"}`: {403, "oldPassword", "wrong_password"},
			`{"oldPassword":"correct horse","newPassword":"short"}`:        {400, "newPassword", "min"},
			`{"newPassword":"battery staple"}`:                             {400, "oldPassword", "required"},
			`{"oldPassword":"correct horse"}`:                              {400, "newPassword", "required"},
		} {
			got := change(ada.Token, body)
			require.Equal(t, want.status, got.status, got.body)
			require.Equal(t, want.field, got.Errors[0].Field)
			require.Equal(t, want.code, got.Errors[0].Code)
		}
		require.Equal(t, 401, auth.send(t, "POST", "/api/users/password", `{}`).status)
		require.True(t, auth.accepts(t, other.Token), "nothing has changed yet")

		changed := change(ada.Token, `{"oldPassword":"correct horse","newPassword":"battery staple"}`)
		require.Equal(t, 200, changed.status, changed.body)
		require.Equal(t, changed.Token, changed.cookie.Value)
		require.True(t, auth.accepts(t, changed.Token))
		require.Equal(t, 200, auth.refresh(t, changed.refresh).status)

		for _, before := range []response{ada.response, other} {
			require.False(t, auth.accepts(t, before.Token))
			require.Equal(t, 401, auth.refresh(t, before.refresh).status)
			auth.requireRevoked(t, before.Token)
		}
		require.Equal(t, 401, auth.send(t, "POST", "/api/users/signin", `{"email":"password@example.com","password":"correct horse"}`).status)
		require.Equal(t, 200, auth.send(t, "POST", "/api/users/signin", `{"email":"password@example.com","password":"battery staple"}`).status)
	})

	t.Run("an old password cannot be guessed", func(t *testing.T) {
		ada := auth.signUp(t, "guessed@example.com")
		for range 3 {
			require.Equal(t, 403, auth.send(t, "POST", "/api/users/password", `{"oldPassword":"wrong horse","newPassword":"battery staple"}`, bearer(ada.Token)...).status)
		}
		for _, right := range []response{
			auth.send(t, "POST", "/api/users/password", `{"oldPassword":"correct horse","newPassword":"battery staple"}`, bearer(ada.Token)...),
			auth.send(t, "DELETE", "/api/users/currentuser", `{"password":"correct horse"}`, bearer(ada.Token)...),
			auth.send(t, "POST", "/api/users/signin", `{"email":"guessed@example.com","password":"correct horse"}`),
		} {
			require.Equal(t, 429, right.status, right.body)
			require.Equal(t, "too_many_attempts", right.Errors[0].Code)
		}
	})

	t.Run("an account is deleted when its orders are settled", func(t *testing.T) {
		ada := auth.signUp(t, "deleted@example.com")
		remove := func(body string) response {
			return auth.send(t, "DELETE", "/api/users/currentuser", body, bearer(ada.Token)...)
		}
		const right = `{"password":"correct horse"}`

		auth.orders.set(200, `{"unsettled":1}`)
		got := remove(right)
		require.Equal(t, 409, got.status, got.body)
		require.Equal(t, "orders_unsettled", got.Errors[0].Code)
		for status, body := range map[int]string{500: `{}`, 401: `{}`, 404: `{}`, 200: `{}`, 202: `{"unsettled":0}`} {
			auth.orders.set(status, body)
			got = remove(right)
			require.Equal(t, 503, got.status, got.body)
			require.NotEmpty(t, got.header.Get("Retry-After"))
		}
		auth.orders.set(200, `{"unsettled":0}`)
		got = remove(`{"password":"wrong horse"}`)
		require.Equal(t, 403, got.status)
		require.Equal(t, "password", got.Errors[0].Field)
		require.Equal(t, 400, remove(`{}`).status)
		require.True(t, auth.accepts(t, ada.Token))

		got = remove(right)
		require.Equal(t, 204, got.status, got.body)
		require.Empty(t, got.cookie.Value)
		require.Empty(t, got.refresh.Value)

		require.False(t, auth.accepts(t, ada.Token))
		auth.requireRevoked(t, ada.Token)
		require.Equal(t, 401, auth.refresh(t, ada.refresh).status)
		require.Equal(t, 401, remove(right).status)
		in := auth.send(t, "POST", "/api/users/signin", `{"email":"deleted@example.com","password":"correct horse"}`)
		require.Equal(t, 401, in.status)
		require.Equal(t, "invalid_credentials", in.Errors[0].Code)

		kept, err := state.Get[User](t.Context(), auth.documents, userKey(ada.User.ID))
		require.NoError(t, err)
		require.True(t, kept.Value.IsDeleted())
		require.Empty(t, kept.Value.Email)
		require.Empty(t, kept.Value.PasswordHash)

		again := auth.signUp(t, "deleted@example.com")
		require.NotEqual(t, ada.User.ID, again.User.ID, "the email may sign up again, as another user")
		require.True(t, auth.accepts(t, again.Token))
	})

	t.Run("tokens of an earlier release, without epoch and session, are valid", func(t *testing.T) {
		ada := auth.signUp(t, "before@example.com")
		token, _, err := auth.issuer.Issue(identity.Caller{ID: ada.User.ID, Email: ada.email}, time.Now())
		require.NoError(t, err)
		require.True(t, auth.accepts(t, token))
		require.Equal(t, 200, auth.send(t, "POST", "/api/users/signout-everywhere", "", bearer(token)...).status)
		require.False(t, auth.accepts(t, token))
	})

	t.Run("revocations are stored until every token has expired", func(t *testing.T) {
		everywhere, reusing := auth.signUp(t, "longest@example.com"), auth.signUp(t, "reusing@example.com")
		require.Equal(t, 200, auth.send(t, "POST", "/api/users/signout-everywhere", "", bearer(everywhere.Token)...).status)
		require.Equal(t, 200, auth.refresh(t, reusing.refresh).status)
		require.Equal(t, 401, auth.refresh(t, reusing.refresh).status)
		who, err := auth.verifier.Verify(t.Context(), reusing.Token)
		require.NoError(t, err)

		until := map[string]time.Time{}
		for n := range revokedPartCount {
			part, err := state.Get[revokedPart](t.Context(), auth.documents, revokedKey(n))
			if errors.Is(err, state.ErrNotFound) {
				continue
			}
			require.NoError(t, err)
			for user, revoked := range part.Value.Users {
				until[string(user)] = revoked.Until
			}
			maps.Copy(until, part.Value.Sessions)
		}

		for _, id := range []string{string(everywhere.User.ID), who.Session} {
			require.WithinDuration(t, time.Now().Add(24*time.Hour+revocationSlack), until[id], 10*time.Second)
		}
	})

	t.Run("an unchanged list of revocations is sent once", func(t *testing.T) {
		got := auth.send(t, "GET", identity.RevocationsPath, "")
		require.Equal(t, 200, got.status)
		require.Equal(t, "application/json", got.header.Get("Content-Type"))
		etag := got.header.Get("ETag")
		require.NotEmpty(t, etag)
		same := auth.send(t, "GET", identity.RevocationsPath, "", "If-None-Match", etag)
		require.Equal(t, 304, same.status)
		require.Empty(t, same.body)
	})
}
