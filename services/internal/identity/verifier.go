package identity

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

const (
	// Leeway is how far apart the clocks of auth and of this machine may be.
	Leeway = 5 * time.Second
	// fetchTime bounds one fetch of keys and revocations, from however many addresses.
	fetchTime = 10 * time.Second
	// fetchPause is the least time between two fetches that tokens cause: those that name keys which do not exist must
	// not turn into load on auth. While there are no keys at all, it is shorter.
	fetchPause      = 5 * time.Second
	firstFetchPause = 500 * time.Millisecond
	// failedFetchPause is the time until Watch tries again after a fetch that failed.
	failedFetchPause = 2 * time.Second
	// longestToken bounds what is worth parsing; ours are about 500 bytes.
	longestToken = 4 << 10
	// rememberedTokens bounds the tokens whose signature is not checked again at every request: that takes as
	// long as all the rest of a request's handling.
	rememberedTokens = 4096
)

var (
	errNotSignedIn = problem.New(problem.Unauthorized, "You are not signed in.").WithCode("not_signed_in")
	errExpired     = problem.New(problem.Unauthorized, "Your session has ended. Sign in again.").WithCode("token_expired")
	errToken       = problem.New(problem.Unauthorized, "The token is not valid. Sign in again.").WithCode("token_invalid")
	// ErrRevoked refuses a token whose user has signed out everywhere, changed the password or deleted the account, or
	// whose session was ended because its refresh token was used twice.
	ErrRevoked = problem.New(problem.Unauthorized, "You were signed out. Sign in again.").WithCode("token_revoked")
	errNoKeys  = problem.New(problem.Unavailable, "Signing in cannot be checked at the moment. Try again shortly.").
			WithCode("keys_unavailable").WithRetryAfter(time.Second)
)

// Verifier checks tokens with keys and revocations that it fetches and keeps. It goes on with what it has while that
// cannot be fetched. Its methods may be called in parallel.
type Verifier struct {
	fetch   func(context.Context) (Trust, error)
	now     func() time.Time
	parser  *jwt.Parser
	flights singleflight.Group

	mu    sync.RWMutex
	keys  map[string]ed25519.PublicKey // nil until they were fetched once
	tried time.Time                    // when the last fetch ended that a token caused
	since time.Time                    // of what is known: when it was set
	// epochs and sessions are what is revoked.
	epochs   map[string]int
	sessions map[string]struct{}
	// good holds tokens that these keys have verified. It begins anew when it is full or the keys change.
	good map[string]verified
}

// verified is what a token said whose signature was good.
type verified struct {
	user    User
	expires time.Time
}

// NewVerifier makes a Verifier of keys alone, without revocations. The first token makes it fetch them.
func NewVerifier(fetch func(context.Context) (KeySet, error)) *Verifier {
	return NewRevokingVerifier(func(ctx context.Context) (Trust, error) {
		set, err := fetch(ctx)
		return Trust{Keys: set}, err
	}, nil)
}

// NewRevokingVerifier makes a Verifier of keys and revocations. Run Watch beside it, or it learns of revocations only when a
// token makes it fetch keys. metrics may be nil.
func NewRevokingVerifier(fetch func(context.Context) (Trust, error), metrics prometheus.Registerer) *Verifier {
	v := &Verifier{fetch: fetch, now: time.Now, since: time.Now()}
	if metrics != nil {
		metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "boxoffice_revocations_age_seconds", Help: "How long ago auth was asked last for keys and revocations and answered, or the process started.",
		}, func() float64 { return v.age().Seconds() }))
	}
	v.parser = jwt.NewParser(append(v.signatureRules(),
		jwt.WithIssuer(issuedBy),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(Leeway),
		jwt.WithTimeFunc(func() time.Time { return v.now() }),
	)...)
	return v
}

func (v *Verifier) signatureRules() []jwt.ParserOption {
	return []jwt.ParserOption{jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding()}
}

// Verify returns whom the token was issued to. Its error is a problem: Unauthorized if the token is not good
// (any more), Unavailable if there are no keys to tell.
func (v *Verifier) Verify(ctx context.Context, token string) (User, error) {
	if len(token) > longestToken {
		return User{}, errToken
	}
	if user, ok := v.remembered(token); ok {
		return v.unlessRevoked(user)
	}
	c, kid, err := v.parse(ctx, v.parser, token)
	switch {
	case errors.Is(err, errNoKeys):
		return User{}, errNoKeys.Because(err)
	case errors.Is(err, jwt.ErrTokenExpired):
		return User{}, errExpired
	case err != nil:
		return User{}, errToken.Because(err)
	case c.Subject == "" || c.IssuedAt == nil:
		return User{}, errToken
	}
	user := c.user()
	v.remember(token, kid, verified{user, c.ExpiresAt.Time})
	return v.unlessRevoked(user)
}

// Ended returns whom a token was issued to, also if its time is over or it is revoked. It serves to end the token's session,
// and nothing else.
func (v *Verifier) Ended(ctx context.Context, token string) (User, error) {
	if len(token) > longestToken {
		return User{}, errToken
	}
	lax := jwt.NewParser(append(v.signatureRules(), jwt.WithoutClaimsValidation())...)
	c, _, err := v.parse(ctx, lax, token)
	if err != nil || c.Issuer != issuedBy || c.Subject == "" {
		return User{}, errToken.Because(err)
	}
	return c.user(), nil
}

func (v *Verifier) parse(ctx context.Context, parser *jwt.Parser, token string) (c claims, kid string, err error) {
	_, err = parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		return v.key(ctx, kid)
	})
	return c, kid, err
}

func (c claims) user() User {
	return User{ID: id.User(c.Subject), Email: c.Email, Epoch: c.Epoch, Session: c.Session}
}

func (v *Verifier) unlessRevoked(user User) (User, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	_, ended := v.sessions[user.Session]
	if ended || user.Epoch < v.epochs[string(user.ID)] {
		return User{}, ErrRevoked
	}
	return user, nil
}

func (v *Verifier) remembered(token string) (User, bool) {
	v.mu.RLock()
	known, ok := v.good[token]
	v.mu.RUnlock()
	return known.user, ok && v.now().Before(known.expires)
}

func (v *Verifier) remember(token, kid string, seen verified) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.keys[kid]; !known {
		return // withdrawn while the signature was checked
	}
	if v.good == nil || len(v.good) >= rememberedTokens {
		v.good = make(map[string]verified)
	}
	v.good[strings.Clone(token)] = seen
}

var (
	errUnknownKey = errors.New("unknown key")
	errSoon       = errors.New("the keys were asked for a moment ago")
)

// key returns the key of that id, fetching the keys if it is not among those that are known.
func (v *Verifier) key(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	if key, known := v.known(kid); known {
		return key, nil
	}
	err := v.wait(ctx)
	if key, known := v.known(kid); known {
		return key, nil
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.keys == nil {
		return nil, errNoKeys.Because(err)
	}
	return nil, errUnknownKey
}

func (v *Verifier) known(kid string) (ed25519.PublicKey, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	key, known := v.keys[kid]
	return key, known
}

// wait fetches keys and revocations and returns when they are here or ctx ends.
func (v *Verifier) wait(ctx context.Context) error {
	v.mu.RLock()
	pause := fetchPause
	if v.keys == nil {
		pause = firstFetchPause
	}
	v.mu.RUnlock()
	select {
	case result := <-v.refresh(ctx, pause):
		return result.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Watch fetches keys and revocations at once and then every period, within a fifth, until ctx ends. A fetch that fails
// is tried again soon, and logged if that fails, too: services start side by side, and auth may be the last. It returns nil.
func (v *Verifier) Watch(ctx context.Context, period time.Duration, log *slog.Logger) error {
	failures := 0 // in a row
	for {
		result := <-v.refresh(ctx, 0)
		pause := period*4/5 + rand.N(period*2/5)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(result.Err, errSoon): // a token's question came in between
			pause, failures = failedFetchPause, 0
		case result.Err != nil:
			pause = min(pause, failedFetchPause)
			if failures++; failures == 2 {
				log.Warn("auth's keys and revocations cannot be fetched; tokens are verified by what is known", "error", result.Err)
			}
		default:
			if failures >= 2 {
				log.Info("auth's keys and revocations are fetched again")
			}
			failures = 0
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// refresh fetches keys and revocations, unless a token caused that less than a pause ago. All who ask for the same fetch share it,
// so it does not end with the request that happened to be first; it ends with fetchTime.
func (v *Verifier) refresh(ctx context.Context, pause time.Duration) <-chan singleflight.Result {
	return v.flights.DoChan("", func() (any, error) {
		v.mu.RLock()
		soon := v.now().Sub(v.tried) < pause
		v.mu.RUnlock()
		if soon {
			return nil, errSoon
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
		defer cancel()
		trust, err := v.fetch(ctx)
		if err == nil {
			err = v.Set(trust)
		}
		if pause > 0 {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.tried = v.now()
		}
		return nil, err
	})
}

// Set replaces what tokens are verified with. It fails, and leaves things as they are, if there is no key among the keys.
func (v *Verifier) Set(trust Trust) error {
	keys := make(map[string]ed25519.PublicKey, len(trust.Keys.Keys))
	for _, key := range trust.Keys.Keys {
		if public, ok := key.public(); ok {
			keys[key.ID] = public
		}
	}
	if len(keys) == 0 {
		return fmt.Errorf("the key set holds no Ed25519 key among its %d", len(trust.Keys.Keys))
	}
	sessions := make(map[string]struct{}, len(trust.Revocations.Sessions))
	for _, id := range trust.Revocations.Sessions {
		if id != "" { // tokens of the release before have no session
			sessions[id] = struct{}{}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !maps.EqualFunc(keys, v.keys, func(a, b ed25519.PublicKey) bool { return a.Equal(b) }) {
		v.good = nil
	}
	v.keys, v.epochs, v.sessions, v.since = keys, trust.Revocations.Users, sessions, v.now()
	return nil
}

// age is how old is what the verifier knows.
func (v *Verifier) age() time.Duration {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.now().Sub(v.since)
}
