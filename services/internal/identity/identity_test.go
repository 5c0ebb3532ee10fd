package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/signing"
)

var ada = Caller{ID: "0197a0b2-5d07-7000-8000-00000000000a", Email: "ada@example.com"}

func newPrivateKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return private
}

func newIssuer(t *testing.T) *Issuer { return NewIssuer(newPrivateKey(t), time.Hour) }

func issue(t *testing.T, i *Issuer, at time.Time) string {
	t.Helper()
	token, _, err := i.Issue(ada, at)
	require.NoError(t, err)
	return token
}

// keyServer stands for auth: it counts how often it is asked, and can be away.
type keyServer struct {
	mu    sync.Mutex
	set   signing.KeySet
	err   error
	asked atomic.Int32
}

func (s *keyServer) fetch(context.Context) (signing.KeySet, error) {
	s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set, s.err
}

func (s *keyServer) change(set signing.KeySet, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set, s.err = set, err
}

// clock is a time that a test sets.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Now().UnixNano())
	return c
}
func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

func newVerifier(server *keyServer) (*Verifier, *clock) {
	v, c := NewVerifier(server.fetch), newClock()
	v.now = c.now
	return v, c
}

func TestKey_IsNamedByItsThumbprint(t *testing.T) {
	// The example of RFC 8037, appendix A.2 and A.3.
	x, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	require.NoError(t, err)

	encoded, err := json.Marshal(signing.NewKey(x))

	require.NoError(t, err)
	require.JSONEq(t, `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
		"kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","use":"sig","alg":"EdDSA"}`, string(encoded))
}

func TestVerifier_KnowsWhomAnIssuedTokenIsFor(t *testing.T) {
	issuer := newIssuer(t)
	v, clock := newVerifier(&keyServer{set: issuer.KeySet()})

	token, expires, err := issuer.Issue(ada, clock.now())
	require.NoError(t, err)
	require.WithinDuration(t, clock.now().Add(time.Hour), expires, time.Second)
	user, err := v.Verify(t.Context(), token)

	require.NoError(t, err)
	require.Equal(t, ada, user)
}

func TestVerifier_RefusesWhatItsIssuerDidNotSignNow(t *testing.T) {
	private := newPrivateKey(t)
	issuer := NewIssuer(private, time.Hour)
	v, clock := newVerifier(&keyServer{set: issuer.KeySet()})
	good := func() jwt.MapClaims {
		return jwt.MapClaims{"iss": issuedBy, "sub": ada.ID, "email": ada.Email, "iat": clock.now().Unix(), "exp": clock.now().Add(time.Hour).Unix()}
	}
	with := func(name string, value any) jwt.MapClaims {
		c := good()
		if value == nil {
			delete(c, name)
		} else {
			c[name] = value
		}
		return c
	}
	sign := func(key ed25519.PrivateKey, kid any, c jwt.MapClaims) string {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
		if kid != nil {
			token.Header["kid"] = kid
		}
		signed, err := token.SignedString(key)
		require.NoError(t, err)
		return signed
	}
	kid := issuer.KeySet().Keys[0].ID
	part := func(v any) string {
		encoded, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(encoded)
	}
	// The public key as the secret of an HMAC: what a verifier without a pinned algorithm falls for.
	confused := part(map[string]any{"alg": "HS256", "kid": kid}) + "." + part(good())
	mac := hmac.New(sha256.New, private.Public().(ed25519.PublicKey))
	mac.Write([]byte(confused))
	confused += "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	valid := sign(private, kid, good())
	require.NotEmpty(t, valid)
	header, rest, _ := strings.Cut(valid, ".")
	_, signature, _ := strings.Cut(rest, ".")

	tests := map[string]struct {
		token string
		code  string
	}{
		"expired":                      {sign(private, kid, with("exp", clock.now().Add(-10*time.Second).Unix())), "token_expired"},
		"without expiry":               {sign(private, kid, with("exp", nil)), "token_invalid"},
		"issued in the future":         {sign(private, kid, with("iat", clock.now().Add(time.Minute).Unix())), "token_invalid"},
		"without a time of issue":      {sign(private, kid, with("iat", nil)), "token_invalid"},
		"of another issuer":            {sign(private, kid, with("iss", "somebody")), "token_invalid"},
		"without an issuer":            {sign(private, kid, with("iss", nil)), "token_invalid"},
		"without a subject":            {sign(private, kid, with("sub", nil)), "token_invalid"},
		"without a key's name":         {sign(private, nil, good()), "token_invalid"},
		"with a number for the name":   {sign(private, 7, good()), "token_invalid"},
		"of another key, by our name":  {sign(newPrivateKey(t), kid, good()), "token_invalid"},
		"with the algorithm none":      {part(map[string]any{"alg": "none", "kid": kid}) + "." + part(good()) + ".", "token_invalid"},
		"with an HMAC of the key":      {confused, "token_invalid"},
		"with other claims":            {header + "." + part(with("sub", "mallory")) + "." + signature, "token_invalid"},
		"with the signature cut off":   {strings.TrimSuffix(valid, signature), "token_invalid"},
		"nothing":                      {"", "token_invalid"},
		"no token at all":              {"a.b.c", "token_invalid"},
		"longer than any token can be": {strings.Repeat("a", 1<<20), "token_invalid"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			user, err := v.Verify(t.Context(), tt.token)
			require.Zero(t, user)
			p, ok := errors.AsType[*problem.Error](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, problem.Unauthorized, p.Kind)
			require.Equal(t, tt.code, p.Details[0].Code, "%v", err)
		})
	}
	_, err := v.Verify(t.Context(), valid)
	require.NoError(t, err)
}

func TestVerifier_RemembersATokenOnlyWhileItIsGood(t *testing.T) {
	issuer := newIssuer(t)
	v, clock := newVerifier(&keyServer{set: issuer.KeySet()})
	token := issue(t, issuer, clock.now())
	for range 2 {
		user, err := v.Verify(t.Context(), token)
		require.NoError(t, err)
		require.Equal(t, ada, user)
	}
	_, err := v.Verify(t.Context(), token+"x")
	require.ErrorIs(t, err, errToken)

	clock.advance(time.Hour + leeway + time.Second)

	_, err = v.Verify(t.Context(), token)
	require.ErrorIs(t, err, errExpired)
}

func TestVerifier_RemembersABoundedNumberOfTokens(t *testing.T) {
	v := NewVerifier(nil)
	v.keys = map[string]ed25519.PublicKey{"k": nil}
	for i := range rememberedTokens + 10 {
		v.remember(strings.Repeat("t", i+1), "k", verified{})
	}
	v.remember("withdrawn", "other", verified{})

	require.Len(t, v.good, 10)
}

func TestVerifier_BearsClocksThatDifferALittle(t *testing.T) {
	issuer := newIssuer(t)
	v, clock := newVerifier(&keyServer{set: issuer.KeySet()})

	_, err := v.Verify(t.Context(), issue(t, issuer, clock.now().Add(3*time.Second)))

	require.NoError(t, err)
}

func TestVerifier_AsksOnceForAllWhoWait(t *testing.T) {
	issuer := newIssuer(t)
	server := &keyServer{set: issuer.KeySet()}
	v, clock := newVerifier(server)
	token := issue(t, issuer, clock.now())

	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, err := v.Verify(context.Background(), token)
			require.NoError(t, err)
		})
	}
	all.Wait()

	require.EqualValues(t, 1, server.asked.Load())
}

func TestVerifier_TakesUpANewKeyButIsNotMadeToAskWithoutEnd(t *testing.T) {
	first, second, foreign := newIssuer(t), newIssuer(t), newIssuer(t)
	server := &keyServer{set: first.KeySet()}
	v, clock := newVerifier(server)
	_, err := v.Verify(t.Context(), issue(t, first, clock.now()))
	require.NoError(t, err)

	server.change(signing.KeySet{Keys: append(first.KeySet().Keys, second.KeySet().Keys...)}, nil)
	clock.advance(fetchPause)
	for _, issuer := range []*Issuer{second, first} {
		_, err = v.Verify(t.Context(), issue(t, issuer, clock.now()))
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, server.asked.Load())

	for range 20 {
		_, err = v.Verify(t.Context(), issue(t, foreign, clock.now()))
		require.ErrorIs(t, err, errToken)
	}
	require.EqualValues(t, 2, server.asked.Load())
}

func TestVerifier_ForgetsAKeyThatWasWithdrawn(t *testing.T) {
	first, second := newIssuer(t), newIssuer(t)
	server := &keyServer{set: first.KeySet()}
	v, clock := newVerifier(server)
	_, err := v.Verify(t.Context(), issue(t, first, clock.now()))
	require.NoError(t, err)

	token := issue(t, first, clock.now())
	server.change(second.KeySet(), nil)
	require.NoError(t, poll(v))

	_, err = v.Verify(t.Context(), token)
	require.ErrorIs(t, err, errToken)
}

// poll fetches once, as Watch does each period.
func poll(v *Verifier) error { return (<-v.refresh(context.Background(), 0)).Err }

func TestVerifier_GoesOnWithItsKeysWhileAuthIsAway(t *testing.T) {
	issuer := newIssuer(t)
	server := &keyServer{set: issuer.KeySet()}
	v, clock := newVerifier(server)
	_, err := v.Verify(t.Context(), issue(t, issuer, clock.now()))
	require.NoError(t, err)

	server.change(signing.KeySet{}, io.ErrUnexpectedEOF)
	for range 3 {
		require.ErrorIs(t, poll(v), io.ErrUnexpectedEOF)
		_, err = v.Verify(t.Context(), issue(t, issuer, clock.now()))
		require.NoError(t, err)
	}
	_, err = v.Verify(t.Context(), issue(t, newIssuer(t), clock.now()))
	require.ErrorIs(t, err, errToken)
}

func TestVerifier_IsUnavailableUntilItHadKeys(t *testing.T) {
	issuer := newIssuer(t)
	tests := map[string]struct {
		set signing.KeySet
		err error
	}{
		"auth is away":         {signing.KeySet{}, io.ErrUnexpectedEOF},
		"it has no keys":       {signing.KeySet{}, nil},
		"it has others only":   {signing.KeySet{Keys: []signing.Key{{Type: "RSA", ID: "a"}}}, nil},
		"its key is malformed": {signing.KeySet{Keys: []signing.Key{{Type: "OKP", Curve: "Ed25519", ID: "a", X: "AAAA"}}}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			server := &keyServer{set: tt.set, err: tt.err}
			v, clock := newVerifier(server)
			for range 3 {
				_, err := v.Verify(t.Context(), issue(t, issuer, clock.now()))
				require.ErrorIs(t, err, errNoKeys)
			}
			require.EqualValues(t, 1, server.asked.Load())

			server.change(issuer.KeySet(), nil)
			clock.advance(firstFetchPause)
			_, err := v.Verify(t.Context(), issue(t, issuer, clock.now()))
			require.NoError(t, err)
		})
	}
}

func TestVerifier_DoesNotKeepACallerLongerThanItsContext(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	v := NewVerifier(func(context.Context) (signing.KeySet, error) { <-release; return signing.KeySet{}, nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err := v.Verify(ctx, issue(t, newIssuer(t), time.Now()))

	require.ErrorIs(t, err, errNoKeys)
	require.ErrorIs(t, err, context.Canceled)
}

func TestRequireUser_TakesTheHeaderBeforeTheCookie(t *testing.T) {
	issuer := newIssuer(t)
	app := rest.New(rest.Options{Log: slog.New(slog.DiscardHandler)})
	v := NewVerifier((&keyServer{set: issuer.KeySet()}).fetch)
	showUser := func(c *fiber.Ctx) error {
		user, ok := CallerOf(c)
		if !ok {
			return c.SendString("nobody")
		}
		return c.SendString(user.Email)
	}
	app.Get("/required", RequireUser(v), showUser)
	app.Get("/optional", OptionalUser(v), showUser)
	good := issue(t, issuer, time.Now())

	tests := map[string]struct {
		header, cookie string
		user           bool
	}{
		"neither":                     {"", "", false},
		"a cookie":                    {"", good, true},
		"a header":                    {"Bearer " + good, "", true},
		"a header in lower case":      {"bearer " + good, "", true},
		"a good header, a bad cookie": {"Bearer " + good, "x", true},
		"a bad header, a good cookie": {"Bearer x", good, false},
		"an empty token":              {"Bearer ", good, false},
		"another scheme":              {"Basic YTpi", good, false},
		"a bad cookie":                {"", "x", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ask := func(path string) (int, string) {
				req := httptest.NewRequest("GET", path, nil)
				if tt.header != "" {
					req.Header.Set("Authorization", tt.header)
				}
				if tt.cookie != "" {
					req.AddCookie(&http.Cookie{Name: "jwt", Value: tt.cookie})
				}
				res, err := app.Test(req, -1)
				require.NoError(t, err)
				body, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				return res.StatusCode, string(body)
			}
			required, body := ask("/required")
			optional, who := ask("/optional")
			require.Equal(t, 200, optional)
			if tt.user {
				require.Equal(t, 200, required)
				require.Equal(t, ada.Email, body)
				require.Equal(t, ada.Email, who)
			} else {
				require.Equal(t, 401, required)
				require.Equal(t, "nobody", who)
			}
		})
	}
}

func TestRequireUser_IsUnavailableWithoutKeys(t *testing.T) {
	app := rest.New(rest.Options{Log: slog.New(slog.DiscardHandler)})
	v := NewVerifier((&keyServer{err: io.ErrUnexpectedEOF}).fetch)
	app.Get("/required", RequireUser(v))
	app.Get("/optional", OptionalUser(v))
	for _, path := range []string{"/required", "/optional"} {
		req := httptest.NewRequest("GET", path, nil)
		req.Header.Set("Authorization", "Bearer "+issue(t, newIssuer(t), time.Now()))
		res, err := app.Test(req, -1)
		require.NoError(t, err)
		require.Equal(t, 503, res.StatusCode)
		require.Equal(t, "1", res.Header.Get("Retry-After"))
	}
}

func TestCookie_IsSecureExceptOnPlainLocalhost(t *testing.T) {
	tests := []struct {
		security    CookieSecurity
		url         string
		proto, host string
		secure      bool
	}{
		{SecureAuto, "http://localhost:8080/", "", "", false},
		{SecureAuto, "http://127.0.0.1:8080/", "", "", false},
		{SecureAuto, "http://[::1]:8080/", "", "", false},
		{SecureAuto, "http://tickets.localhost/", "", "", false},
		{SecureAuto, "http://example.com/", "", "", true},
		{SecureAuto, "http://localhost.example.com/", "", "", true},
		{SecureAuto, "http://localhost:8101/", "http", "localhost:8080", false},
		{SecureAuto, "http://localhost:8101/", "https", "localhost", true},
		{SecureAuto, "http://localhost:8101/", "https", "example.com", true},
		{SecureAuto, "http://localhost:8101/", "http", "example.com", true},
		{SecureAlways, "http://localhost/", "", "", true},
		{SecureNever, "http://example.com/", "https", "example.com", false},
	}
	for _, tt := range tests {
		t.Run(strings.Join([]string{string(tt.security), tt.url, tt.proto, tt.host}, " "), func(t *testing.T) {
			app := rest.New(rest.Options{Log: slog.New(slog.DiscardHandler)})
			app.Post("/", func(c *fiber.Ctx) error {
				SetCookie(c, tt.security, "token", time.Now().Add(time.Hour))
				return nil
			})
			app.Delete("/", func(c *fiber.Ctx) error {
				ClearCookie(c, tt.security)
				return nil
			})
			ask := func(method string) *http.Cookie {
				req := httptest.NewRequest(method, tt.url, nil)
				if tt.proto != "" {
					req.Header.Set("X-Forwarded-Proto", tt.proto)
					req.Header.Set("X-Forwarded-Host", tt.host)
				}
				res, err := app.Test(req, -1)
				require.NoError(t, err)
				require.Len(t, res.Cookies(), 1)
				cookie := res.Cookies()[0]
				require.Equal(t, "jwt", cookie.Name)
				require.Equal(t, "/", cookie.Path)
				require.True(t, cookie.HttpOnly)
				require.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
				require.Equal(t, tt.secure, cookie.Secure)
				return cookie
			}
			set := ask("POST")
			require.Equal(t, "token", set.Value)
			require.InDelta(t, 3600, set.MaxAge, 2)
			cleared := ask("DELETE")
			require.Empty(t, cleared.Value)
			require.True(t, cleared.Expires.Before(time.Now()))
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(b, err)
	issuer := NewIssuer(private, time.Hour)
	v := NewVerifier(func(context.Context) (signing.KeySet, error) { return issuer.KeySet(), nil })
	token, _, err := issuer.Issue(ada, time.Now())
	require.NoError(b, err)
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
