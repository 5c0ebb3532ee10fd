package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/event"
)

func TestUsers_SignUpSignInSignOut(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	email := newEmail()

	up := s.call(t, client.SignUp(" "+strings.ToUpper(email), "correct horse"))
	requireStatus(t, 201, up)
	made := decode[client.SignedIn](t, up)
	require.Equal(t, email, made.User.Email, "emails are stored in lower case")
	require.NotEmpty(t, made.User.ID)
	require.WithinDuration(t, time.Now(), made.User.CreatedAt, time.Minute)
	require.NotContains(t, strings.ToLower(string(up.Body)), "password")
	requireSessionCookie(t, up, made.Token)

	in := s.call(t, client.SignIn(email, "correct horse"))
	requireStatus(t, 200, in)
	again := decode[client.SignedIn](t, in)
	require.Equal(t, made.User, again.User)
	requireSessionCookie(t, in, again.Token)

	for name, headers := range map[string][]string{
		"by cookie":                    {"Cookie", "jwt=" + made.Token},
		"by Bearer":                    {"Authorization", "Bearer " + made.Token},
		"by the second token":          {"Cookie", "other=1; jwt=" + again.Token},
		"by Bearer, with a bad cookie": {"Authorization", "bearer " + again.Token, "Cookie", "jwt=nonsense"},
	} {
		r := s.request(t, "GET", "/api/users/currentuser", nil, headers...)
		require.Equal(t, 200, r.Status, name)
		require.Equal(t, &made.User, decode[client.CurrentUser](t, r).CurrentUser, name)
	}
	for name, headers := range map[string][]string{
		"no token":                    nil,
		"a bad cookie":                {"Cookie", "jwt=nonsense"},
		"a bad Bearer, a good cookie": {"Authorization", "Bearer nonsense", "Cookie", "jwt=" + made.Token},
	} {
		r := s.request(t, "GET", "/api/users/currentuser", nil, headers...)
		require.Equal(t, 200, r.Status, name)
		require.JSONEq(t, `{"currentUser":null}`, string(r.Body), name)
	}

	out := s.call(t, client.SignOut().With("Cookie", "jwt="+made.Token))
	requireStatus(t, 200, out)
	require.JSONEq(t, `{}`, string(out.Body))
	cleared := out.Cookie("jwt")
	require.NotNil(t, cleared)
	require.Empty(t, cleared.Value)
	require.True(t, cleared.Expires.Before(time.Now()))
	require.Equal(t, "/", cleared.Path)
	require.True(t, cleared.HttpOnly)
	require.Equal(t, 200, s.call(t, client.SignOut()).Status, "also without a session")
}

// requireSessionCookie requires a cookie that scripts cannot read, that other sites cannot use, and that ends with the token.
func requireSessionCookie(t *testing.T, r client.Response, token string) {
	t.Helper()
	cookie := r.Cookie("jwt")
	require.NotNil(t, cookie)
	require.Equal(t, token, cookie.Value)
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
	require.Equal(t, "/", cookie.Path)
	require.InDelta(t, time.Hour.Seconds(), cookie.MaxAge, 60)
	require.False(t, cookie.Secure, "browsers would drop it on localhost without TLS")
}

func TestUsers_CookieIsSecureExceptOnLocalhost(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)
	in := client.Credentials{Email: user.Email, Password: user.password}

	for host, secure := range map[string]bool{"tickets.example.com": true, "localhost:8080": false, "[::1]:8080": false} {
		r := s.request(t, "POST", "/api/users/signin", in, "Host", host)
		requireStatus(t, 200, r)
		require.Equal(t, secure, r.Cookie("jwt").Secure, host)
		out := s.call(t, client.SignOut().With("Host", host))
		require.Equal(t, secure, out.Cookie("jwt").Secure, host)
	}
}

func TestUsers_CookieWorksAsBearerDoes(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)

	r := s.call(t, client.ListTicket("By cookie", 100).WithCookie("jwt", user.token))

	requireStatus(t, 201, r)
	require.Equal(t, user.ID, decode[client.Ticket](t, r).UserID)
}

func TestUsers_EmailIsUnique(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	first := s.signUp(t)

	for _, email := range []string{first.Email, strings.ToUpper(first.Email), "  " + first.Email + " "} {
		r := s.call(t, client.SignUp(email, "another horse"))
		problem := requireProblem(t, 409, r, "email_in_use")
		require.Equal(t, "email", problem.Errors[0].Field)
		require.Nil(t, r.Cookie("jwt"))
	}
	requireStatus(t, 401, s.call(t, client.SignIn(first.Email, "another horse")))
	requireStatus(t, 200, s.call(t, client.SignIn(strings.ToUpper(first.Email), first.password)))
}

func TestUsers_ConcurrentSignUpsMakeOneUser(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	const many = 12
	email := newEmail()
	statuses := make([]int, many)
	atOnce(many, func(i int) { statuses[i] = s.call(t, client.SignUp(email, password)).Status })

	counts := map[int]int{}
	for _, status := range statuses {
		counts[status]++
	}
	require.Equal(t, map[int]int{201: 1, 409: many - 1}, counts)
}

func TestUsers_WrongEmailAndWrongPasswordHaveTheSameResponse(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)
	signIn := func(email, password string) client.Response {
		r := s.call(t, client.SignIn(email, password).With("X-Request-Id", "the-same"))
		requireProblem(t, 401, r, "invalid_credentials")
		require.Nil(t, r.Cookie("jwt"))
		r.Header.Del("Date")
		return r
	}

	wrongPassword := signIn(user.Email, "wrong horse")
	for name, other := range map[string]client.Response{
		"an unknown email":     signIn(newEmail(), user.password),
		"what is no email":     signIn("nonsense", user.password),
		"a password too short": signIn(user.Email, "x"),
		"a password too long":  signIn(user.Email, strings.Repeat("x", 200)),
		"both wrong":           signIn(newEmail(), "wrong horse"),
		"the case of a letter": signIn(user.Email, "Correct horse"),
		"a space at its end":   signIn(user.Email, "correct horse "),
	} {
		require.Equal(t, string(wrongPassword.Body), string(other.Body), name)
		require.Equal(t, wrongPassword.Header, other.Header, name)
	}
}

func TestUsers_PasswordGuessingIsLimited(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	victim, other := s.signUp(t), s.signUp(t)
	var last client.Response
	for range 30 {
		if last = s.call(t, client.SignIn(victim.Email, "wrong horse")); last.Status != 401 {
			break
		}
	}

	requireProblem(t, 429, last, "too_many_attempts")
	require.NotEmpty(t, last.Header.Get("Retry-After"))
	require.Equal(t, 200, s.call(t, client.SignIn(other.Email, other.password)).Status, "other users can sign in")
	r := s.call(t, client.ReadCurrentUser().With("Authorization", "Bearer "+victim.token))
	require.Equal(t, victim.ID, decode[client.CurrentUser](t, r).CurrentUser.ID, "an existing session is still valid")
}

func TestUsers_InvalidRequestsAreRefused(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	const good = "correct horse"
	tests := map[string]struct {
		body   any
		fields []string
	}{
		"nothing":              {`{}`, []string{"email", "password"}},
		"null":                 {`{"email":null,"password":null}`, []string{"email", "password"}},
		"no email":             {client.Credentials{Email: "", Password: good}, []string{"email"}},
		"no at":                {client.Credentials{Email: "ada", Password: good}, []string{"email"}},
		"no domain":            {client.Credentials{Email: "ada@", Password: good}, []string{"email"}},
		"a name beside it":     {client.Credentials{Email: "Ada <ada@example.com>", Password: good}, []string{"email"}},
		"two lines":            {client.Credentials{Email: "ada@example.com\nbob@example.com", Password: good}, []string{"email"}},
		"an email too long":    {client.Credentials{Email: strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 120) + "com", Password: good}, []string{"email"}},
		"a password too short": {client.Credentials{Email: newEmail(), Password: "1234567"}, []string{"password"}},
		"73 bytes":             {client.Credentials{Email: newEmail(), Password: strings.Repeat("x", 73)}, []string{"password"}},
		"73 bytes in 37 signs": {client.Credentials{Email: newEmail(), Password: strings.Repeat("ä", 36) + "x"}, []string{"password"}},
		"both":                 {client.Credentials{Email: "ada", Password: "x"}, []string{"email", "password"}},
		"a number for email":   {`{"email":1,"password":"correct horse"}`, []string{"email"}},
		"a list for password":  {`{"email":"a@example.com","password":["x"]}`, []string{"password"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := s.request(t, "POST", "/api/users/signup", tt.body)
			var fields []string
			for _, e := range requireProblem(t, 400, r).Errors {
				fields = append(fields, e.Field)
			}
			require.Equal(t, tt.fields, fields)
			require.Nil(t, r.Cookie("jwt"))
		})
	}
	longest := client.Credentials{Email: newEmail(), Password: strings.Repeat("x", 72)}
	require.Equal(t, 201, s.request(t, "POST", "/api/users/signup", longest).Status, "72 bytes are accepted")
	requireStatus(t, 200, s.request(t, "POST", "/api/users/signin", longest))
	requireStatus(t, 401, s.call(t, client.SignIn(longest.Email, longest.Password+"y")))
}

// An account is deleted. What it has reserved, listed and announced ends, what it has bought stays.
func TestDeletedAccount_ItsReservationsAndListingsEnd(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RESERVATIONS_PER_USER": "10"}})
	events := s.stream(t)
	deleted, other := s.signUp(t), s.signUp(t)
	listed, listedAndReserved := deleted.list(t, "For sale", 500), deleted.list(t, "Reserved", 500)
	unrelated := other.list(t, "Unrelated", 500)
	reserved, available := other.list(t, "Reserved by the deleted account", 500), other.list(t, "Available", 500)
	held := other.reserve(t, listedAndReserved.ID)
	s.ticketBecomes(t, "reserved", listedAndReserved.ID)
	unpaid := deleted.reserve(t, reserved.ID)
	bought := s.sell(t, deleted)
	show, kept := deleted.announce(t, hamlet()), other.announce(t, hamlet())
	statusOf := func(ticketID string) func() int {
		return func() int { return s.call(t, client.ReadTicket(ticketID)).Status }
	}

	userDeleted := event.User{ID: deleted.ID, Version: 2}.Event("user.deleted").JSON()
	for range 2 { // the second is a redelivery
		events.publish(t, userDeleted)
		require.Equal(t, "user", deleted.orderBecomes(t, "cancelled", unpaid.ID).Reason)
		eventuallyEqual(t, http.StatusNotFound, "the response for the listing", statusOf(listed.ID))
		eventuallyEqual(t, "cancelled", "the status of the show", func() string { return s.show(t, show.ID).Status })
		events.waitIdle(t)
	}
	require.Equal(t, show.Version+1, s.show(t, show.ID).Version, "it is cancelled once")
	require.Equal(t, kept, s.show(t, kept.ID))
	requireProblem(t, 401, deleted.call(t, client.CreateShow(hamlet())), "account_deleted")
	s.ticketBecomes(t, "available", reserved.ID)
	requireStatus(t, 401, deleted.call(t, client.Reserve(available.ID)))
	requireProblem(t, 404, other.call(t, client.Reserve(listed.ID)), "ticket_not_found")
	require.Equal(t, unrelated, s.ticket(t, unrelated.ID))
	require.Equal(t, "complete", deleted.order(t, bought.OrderID).Status)

	// A ticket that another buyer has reserved stays with that buyer. When the order is cancelled, the listing ends.
	require.Equal(t, "created", other.order(t, held.ID).Status)
	require.Equal(t, "reserved", s.ticket(t, listedAndReserved.ID).Status)
	other.cancel(t, held.ID)
	eventuallyEqual(t, http.StatusNotFound, "the response for the listing", statusOf(listedAndReserved.ID))
	events.waitIdle(t)
	requireProblem(t, 404, other.call(t, client.Reserve(listedAndReserved.ID)), "ticket_not_found")
	require.Zero(t, events.deadLetterCount(t))
}

// Nobody could check in the buyers of a show whose owner has deleted the account. So the show is cancelled, and the money given back.
func TestDeletedAccount_ItsShowsAreCancelled(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, buyer, other := s.signUp(t), s.signUp(t), s.signUp(t)
	show, without := owner.announce(t, newShow(inDays(30))), owner.announce(t, newShow(inDays(40)))
	places := make([]client.Ticket, 3)
	for number := range places {
		places[number] = owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(number), Price: 4000})
	}
	paid := buyer.buy(t, places[0].ID)
	s.waitMoney(t, paid.OrderID, money{charges: 1, kept: 4000})
	code := buyer.passCode(t, paid.OrderID)
	resale := buyer.resell(t, places[0].ID, 4000)
	reserved := other.reserve(t, places[1].ID)

	requireStatus(t, 204, owner.call(t, client.DeleteAccount(owner.password)))

	for _, id := range []string{show.ID, without.ID} {
		eventuallyEqual(t, "cancelled", "the status of the show", func() string { return s.show(t, id).Status })
	}
	require.Equal(t, "withdrawn", buyer.orderBecomes(t, "cancelled", paid.OrderID).Reason)
	require.Equal(t, "withdrawn", other.orderBecomes(t, "cancelled", reserved.ID).Reason)
	buyer.paymentBecomes(t, "refunded", paid.ID)
	s.requireMoney(t, paid.OrderID, money{charges: 1})
	requireProblem(t, 409, buyer.call(t, client.ReadPass(paid.OrderID)), "pass_void")
	require.Contains(t, []string{"pass_void", "token_revoked"}, owner.call(t, client.CheckIn(show.ID, code)).Code(), "the token is refused within half a minute")
	for _, listed := range append(places, resale) {
		eventually(t, "the listing is withdrawn", func() bool { return s.call(t, client.ReadTicket(listed.ID)).Status == 404 })
		eventually(t, "it cannot be reserved", func() bool { return other.call(t, client.Reserve(listed.ID)).Code() == "ticket_not_found" })
	}
	eventually(t, "the catalogue does not have the show", func() bool { return s.call(t, client.ReadCatalogueShow(show.ID)).Status == 404 })
}

// If catalogue ends while it cancels the shows, it continues when it runs again.
func TestDeletedAccount_AllItsShowsAreCancelledThoughCatalogueEnds(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	owner := s.signUp(t)
	shows := make([]string, 80)
	for i := range shows {
		shows[i] = owner.announce(t, hamlet()).ID
	}
	scheduled := func() (n int) {
		for _, id := range shows {
			if s.show(t, id).Status == "scheduled" {
				n++
			}
		}
		return n
	}
	events := s.stream(t)

	requireStatus(t, 204, owner.call(t, client.DeleteAccount(owner.password)))
	events.waitFor(t, "user.deleted:"+owner.ID+":2")
	s.kill(t, "catalogue")
	s.start(t, "catalogue")
	s.waitReady(t, "catalogue")

	eventuallyEqual(t, 0, "the number of scheduled shows", scheduled)
	for _, id := range shows {
		require.Equal(t, 2, s.show(t, id).Version, "each is cancelled once")
	}
	events.waitIdle(t)
	require.Zero(t, events.deadLetterCount(t))
}

func TestUsers_EventsHaveTheUserWithoutTheEmail(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	events := s.stream(t)
	user := s.signUp(t)
	requireStatus(t, 204, user.call(t, client.DeleteAccount(user.password)))

	for eventType, version := range map[string]int{"user.created": 1, "user.deleted": 2} {
		id := event.New(eventType, user.ID, version, nil).ID
		events.waitFor(t, id)
		all := events.read()
		e := all[slices.IndexFunc(all, func(e publishedEvent) bool { return e.ID == id })]
		require.Equal(t, "events.users", e.message.Topic)
		require.Equal(t, "/auth", e.Source)
		require.NotContains(t, string(e.raw), "example.com")
		var data event.User
		require.NoError(t, json.Unmarshal(e.Data, &data))
		require.Equal(t, event.User{ID: user.ID, Version: version, CreatedAt: data.CreatedAt}, data)
	}
}
