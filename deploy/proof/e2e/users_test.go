package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type currentUser struct {
	CurrentUser *user `json:"currentUser"`
}

func TestUsers_SignUpInAndOut(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	email := newEmail()

	up := h.do(t, "POST", "/api/users/signup", credentials{" " + strings.ToUpper(email), "correct horse"})
	require.Equal(t, 201, up.status, "%s", up.body)
	made := as[signedIn](t, up)
	require.Equal(t, email, made.User.Email, "emails are kept in lower case")
	require.NotEmpty(t, made.User.ID)
	require.WithinDuration(t, time.Now(), made.User.CreatedAt, time.Minute)
	require.NotContains(t, strings.ToLower(string(up.body)), "password")
	requireSessionCookie(t, up, made.Token)

	in := h.do(t, "POST", "/api/users/signin", credentials{email, "correct horse"})
	require.Equal(t, 200, in.status, "%s", in.body)
	again := as[signedIn](t, in)
	require.Equal(t, made.User, again.User)
	requireSessionCookie(t, in, again.Token)

	for name, headers := range map[string][]string{
		"by cookie":                        {"Cookie", "jwt=" + made.Token},
		"by Bearer":                        {"Authorization", "Bearer " + made.Token},
		"by the later one":                 {"Cookie", "other=1; jwt=" + again.Token},
		"by Bearer, whatever the cookie's": {"Authorization", "bearer " + again.Token, "Cookie", "jwt=nonsense"},
	} {
		r := h.do(t, "GET", "/api/users/currentuser", nil, headers...)
		require.Equal(t, 200, r.status, name)
		require.Equal(t, &made.User, as[currentUser](t, r).CurrentUser, name)
	}
	for name, headers := range map[string][]string{
		"nobody":                      nil,
		"a bad cookie":                {"Cookie", "jwt=nonsense"},
		"a bad Bearer, a good cookie": {"Authorization", "Bearer nonsense", "Cookie", "jwt=" + made.Token},
	} {
		r := h.do(t, "GET", "/api/users/currentuser", nil, headers...)
		require.Equal(t, 200, r.status, name)
		require.JSONEq(t, `{"currentUser":null}`, string(r.body), name)
	}

	out := h.do(t, "POST", "/api/users/signout", nil, "Cookie", "jwt="+made.Token)
	require.Equal(t, 200, out.status)
	require.JSONEq(t, `{}`, string(out.body))
	cleared := out.cookie("jwt")
	require.NotNil(t, cleared)
	require.Empty(t, cleared.Value)
	require.True(t, cleared.Expires.Before(time.Now()))
	require.Equal(t, "/", cleared.Path)
	require.True(t, cleared.HttpOnly)
	require.Equal(t, 200, h.do(t, "POST", "/api/users/signout", nil).status, "also for nobody")
}

// requireSessionCookie requires the cookie to be one that a page's scripts cannot read and that other sites
// cannot use, for as long as the token is good.
func requireSessionCookie(t *testing.T, r reply, token string) {
	t.Helper()
	cookie := r.cookie("jwt")
	require.NotNil(t, cookie)
	require.Equal(t, token, cookie.Value)
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
	require.Equal(t, "/", cookie.Path)
	require.InDelta(t, time.Hour.Seconds(), cookie.MaxAge, 60)
	require.False(t, cookie.Secure, "on plain localhost browsers would drop it")
}

func TestUsers_CookieIsForHTTPSAloneBeyondLocalhost(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)
	in := credentials{somebody.Email, somebody.password}

	for host, secure := range map[string]bool{"tickets.example.com": true, "localhost:8080": false, "[::1]:8080": false} {
		r := h.do(t, "POST", "/api/users/signin", in, "Host", host)
		require.Equal(t, 200, r.status)
		require.Equal(t, secure, r.cookie("jwt").Secure, host)
		out := h.do(t, "POST", "/api/users/signout", nil, "Host", host)
		require.Equal(t, secure, out.cookie("jwt").Secure, host)
	}
}

func TestUsers_CookieIsAsGoodAsBearer(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)

	r := h.do(t, "POST", "/api/tickets", offer{Title: "By cookie", Price: 100}, "Cookie", "jwt="+somebody.token)

	require.Equal(t, 201, r.status, "%s", r.body)
	require.Equal(t, somebody.ID, as[ticket](t, r).UserID)
}

func TestUsers_EmailBelongsToOne(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	first := h.signUp(t)

	for _, email := range []string{first.Email, strings.ToUpper(first.Email), "  " + first.Email + " "} {
		r := h.do(t, "POST", "/api/users/signup", credentials{email, "another horse"})
		f := refused(t, 409, r, "email_in_use")
		require.Equal(t, "email", f.Errors[0].Field)
		require.Nil(t, r.cookie("jwt"))
	}
	require.Equal(t, 401, h.do(t, "POST", "/api/users/signin", credentials{first.Email, "another horse"}).status)
	require.Equal(t, 200, h.do(t, "POST", "/api/users/signin", credentials{strings.ToUpper(first.Email), first.password}).status)
}

func TestUsers_EmailThatManyWantAtOnceHasOneUser(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	const many = 12
	email := newEmail()
	statuses := make([]int, many)
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			statuses[i] = h.do(t, "POST", "/api/users/signup", credentials{email, "correct horse"}).status
		})
	}
	all.Wait()

	counts := map[int]int{}
	for _, status := range statuses {
		counts[status]++
	}
	require.Equal(t, map[int]int{201: 1, 409: many - 1}, counts)
}

func TestUsers_WrongEmailAndWrongPasswordLookAlike(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)
	ask := func(email, password string) reply {
		r := h.do(t, "POST", "/api/users/signin", credentials{email, password}, "X-Request-Id", "the-same")
		refused(t, 401, r, "invalid_credentials")
		require.Nil(t, r.cookie("jwt"))
		r.header.Del("Date")
		return r
	}

	wrongPassword := ask(somebody.Email, "wrong horse")
	for name, other := range map[string]reply{
		"an email of nobody":   ask(newEmail(), somebody.password),
		"what is no email":     ask("nonsense", somebody.password),
		"a password too short": ask(somebody.Email, "x"),
		"a password too long":  ask(somebody.Email, strings.Repeat("x", 200)),
		"both wrong":           ask(newEmail(), "wrong horse"),
		"the case of a letter": ask(somebody.Email, "Correct horse"),
		"a space at its end":   ask(somebody.Email, "correct horse "),
	} {
		require.Equal(t, string(wrongPassword.body), string(other.body), name)
		require.Equal(t, wrongPassword.header, other.header, name)
	}
}

func TestUsers_GuessingIsStopped(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	victim, other := h.signUp(t), h.signUp(t)
	guess := credentials{victim.Email, "wrong horse"}

	var last reply
	for range 30 {
		if last = h.do(t, "POST", "/api/users/signin", guess); last.status != 401 {
			break
		}
	}

	refused(t, 429, last, "too_many_attempts")
	require.NotEmpty(t, last.header.Get("Retry-After"))
	require.Equal(t, 200, h.do(t, "POST", "/api/users/signin", credentials{other.Email, other.password}).status, "others are not concerned")
	r := h.do(t, "GET", "/api/users/currentuser", nil, "Authorization", "Bearer "+victim.token)
	require.Equal(t, victim.ID, as[currentUser](t, r).CurrentUser.ID, "nor is a session that is there")
}

func TestUsers_RefusesWhatIsNotValid(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	const good = "correct horse"
	tests := map[string]struct {
		body   any
		fields []string
	}{
		"nothing":              {`{}`, []string{"email", "password"}},
		"null":                 {`{"email":null,"password":null}`, []string{"email", "password"}},
		"no email":             {credentials{"", good}, []string{"email"}},
		"no at":                {credentials{"ada", good}, []string{"email"}},
		"no domain":            {credentials{"ada@", good}, []string{"email"}},
		"a name beside it":     {credentials{"Ada <ada@example.com>", good}, []string{"email"}},
		"two lines":            {credentials{"ada@example.com\nbob@example.com", good}, []string{"email"}},
		"an email too long":    {credentials{strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 120) + "com", good}, []string{"email"}},
		"a password too short": {credentials{newEmail(), "1234567"}, []string{"password"}},
		"73 bytes":             {credentials{newEmail(), strings.Repeat("x", 73)}, []string{"password"}},
		"73 bytes in 37 signs": {credentials{newEmail(), strings.Repeat("ä", 36) + "x"}, []string{"password"}},
		"both":                 {credentials{"ada", "x"}, []string{"email", "password"}},
		"a number for email":   {`{"email":1,"password":"correct horse"}`, []string{"email"}},
		"a list for password":  {`{"email":"a@example.com","password":["x"]}`, []string{"password"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := h.do(t, "POST", "/api/users/signup", tt.body)
			var fields []string
			for _, e := range refused(t, 400, r).Errors {
				fields = append(fields, e.Field)
			}
			require.Equal(t, tt.fields, fields)
			require.Nil(t, r.cookie("jwt"))
		})
	}
	longest := credentials{newEmail(), strings.Repeat("x", 72)}
	require.Equal(t, 201, h.do(t, "POST", "/api/users/signup", longest).status, "72 bytes are taken")
	require.Equal(t, 200, h.do(t, "POST", "/api/users/signin", longest).status)
	require.Equal(t, 401, h.do(t, "POST", "/api/users/signin", credentials{longest.Email, longest.Password + "y"}).status)
}
