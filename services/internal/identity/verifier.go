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
	"boxoffice/services/internal/signing"
)

const (
	// leeway is the difference that the clocks of auth and of this machine may have.
	leeway = 5 * time.Second
	// fetchTime bounds one fetch of keys and revocations, over all addresses.
	fetchTime = 10 * time.Second
	// fetchPause is the shortest time between two fetches that tokens cause, so that tokens with unknown keys do not cause load
	// on auth. firstFetchPause is that time while there are no keys.
	fetchPause      = 5 * time.Second
	firstFetchPause = 500 * time.Millisecond
	// DeletedTime is how long a service that must refuse requests of deleted accounts keeps that one was deleted: longer than any
	// token is valid.
	DeletedTime = 25 * time.Hour
	// failedFetchPause is the time until Watch retries a fetch that failed.
	failedFetchPause = 2 * time.Second
	// longestToken bounds the tokens that are parsed. Those of auth have about 500 bytes.
	longestToken = 4 << 10
	// rememberedTokens bounds the tokens whose signature is not verified again in every request. The verification takes as long as
	// the rest of a request.
	rememberedTokens = 4096
)

var (
	errNotSignedIn = problem.New(problem.Unauthorized, "not_signed_in", "You are not signed in.")
	errExpired     = problem.New(problem.Unauthorized, "token_expired", "Your session has ended. Sign in again.")
	errToken       = problem.New(problem.Unauthorized, "token_invalid", "The token is not valid. Sign in again.")
	// ErrRevoked is the problem of a token whose user has signed out everywhere, changed the password or deleted the account, or
	// whose session was ended because its refresh token was used twice.
	ErrRevoked = problem.New(problem.Unauthorized, "token_revoked", "You were signed out. Sign in again.")
	// ErrAccountDeleted is the problem of a service that knows of the deletion of an account, when its token is still accepted.
	ErrAccountDeleted = problem.New(problem.Unauthorized, "account_deleted", "This account was deleted.")
	errNoKeys         = problem.New(problem.Unavailable, "keys_unavailable", "Signing in cannot be checked at the moment. Nothing was changed: send the same request again.").WithRetryAfter(time.Second)
)

// Verifier verifies tokens with keys and revocations that it fetches from auth. While auth is unavailable, it uses those that it
// has. Its methods may be called in parallel.
type Verifier struct {
	fetch   func(context.Context) (Trust, error)
	now     func() time.Time
	parser  *jwt.Parser
	flights singleflight.Group

	mu    sync.RWMutex
	keys  map[string]ed25519.PublicKey // nil before the first fetch
	tried time.Time                    // when the last fetch that a token caused has ended
	since time.Time                    // when keys and revocations were set
	// epochs and sessions are the revocations.
	epochs   map[string]int
	sessions map[string]struct{}
	// good has tokens that these keys have verified. It is cleared when it is full or the keys change. (A map, not an LRU: reads
	// then share a read lock.)
	good map[string]verified
}

// verified has the claims of a token whose signature was verified.
type verified struct {
	caller  Caller
	expires time.Time
}

// NewVerifier makes a Verifier without revocations. The first token makes it fetch the keys.
func NewVerifier(fetch func(context.Context) (signing.KeySet, error)) *Verifier {
	return NewRevokingVerifier(func(ctx context.Context) (Trust, error) {
		set, err := fetch(ctx)
		return Trust{Keys: set}, err
	}, nil)
}

// NewRevokingVerifier makes a Verifier with revocations. Without Watch it fetches them only when a token makes it fetch keys. metrics
// may be nil.
func NewRevokingVerifier(fetch func(context.Context) (Trust, error), metrics prometheus.Registerer) *Verifier {
	v := &Verifier{fetch: fetch, now: time.Now, since: time.Now()}
	if metrics != nil {
		metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "boxoffice_revocations_age_seconds", Help: "How long ago keys and revocations were last fetched from auth, or the process started.",
		}, func() float64 { return v.age().Seconds() }))
	}
	v.parser = jwt.NewParser(append(v.signatureRules(),
		jwt.WithIssuer(issuedBy),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(func() time.Time { return v.now() }),
	)...)
	return v
}

func (v *Verifier) signatureRules() []jwt.ParserOption {
	return []jwt.ParserOption{jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding()}
}

// Verify returns the user of a valid token. Otherwise the problem is Unauthorized, or Unavailable if there are no keys.
func (v *Verifier) Verify(ctx context.Context, token string) (Caller, error) {
	if len(token) > longestToken {
		return Caller{}, errToken
	}
	if caller, ok := v.remembered(token); ok {
		return v.unlessRevoked(caller)
	}
	c, kid, err := v.parse(ctx, v.parser, token)
	switch {
	case errors.Is(err, errNoKeys):
		return Caller{}, errNoKeys.Because(err)
	case errors.Is(err, jwt.ErrTokenExpired):
		return Caller{}, errExpired
	case err != nil:
		return Caller{}, errToken.Because(err)
	case c.Subject == "" || c.IssuedAt == nil:
		return Caller{}, errToken
	}
	caller := c.caller()
	v.remember(token, kid, verified{caller, c.ExpiresAt.Time})
	return v.unlessRevoked(caller)
}

// Ended returns the user of a token, also if it has expired or is revoked. Use it only to end the token's session.
func (v *Verifier) Ended(ctx context.Context, token string) (Caller, error) {
	if len(token) > longestToken {
		return Caller{}, errToken
	}
	lax := jwt.NewParser(append(v.signatureRules(), jwt.WithoutClaimsValidation())...)
	c, _, err := v.parse(ctx, lax, token)
	if err != nil || c.Issuer != issuedBy || c.Subject == "" {
		return Caller{}, errToken.Because(err)
	}
	return c.caller(), nil
}

func (v *Verifier) parse(ctx context.Context, parser *jwt.Parser, token string) (c claims, kid string, err error) {
	_, err = parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		return v.key(ctx, kid)
	})
	return c, kid, err
}

func (c claims) caller() Caller {
	return Caller{ID: id.User(c.Subject), Email: c.Email, Epoch: c.Epoch, Session: c.Session}
}

func (v *Verifier) unlessRevoked(caller Caller) (Caller, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	_, ended := v.sessions[caller.Session]
	if ended || caller.Epoch < v.epochs[string(caller.ID)] {
		return Caller{}, ErrRevoked
	}
	return caller, nil
}

func (v *Verifier) remembered(token string) (Caller, bool) {
	v.mu.RLock()
	known, ok := v.good[token]
	v.mu.RUnlock()
	return known.caller, ok && v.now().Before(known.expires)
}

func (v *Verifier) remember(token, kid string, seen verified) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.keys[kid]; !known {
		return // the key was removed while the signature was verified
	}
	if v.good == nil || len(v.good) >= rememberedTokens {
		v.good = make(map[string]verified)
	}
	v.good[strings.Clone(token)] = seen
}

var (
	errUnknownKey = errors.New("unknown key")
	errSoon       = errors.New("the keys were fetched a moment ago")
)

// key returns the key with an id. It fetches the keys if it does not have that key.
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

// wait fetches keys and revocations, and returns when they are set or ctx ends.
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

// Watch fetches keys and revocations at once and then every period, give or take a fifth, until ctx ends. It soon retries a fetch
// that has failed, and logs a warning if the retry fails too: services start at the same time, and auth may be the last. It
// returns nil. (The pause depends on success as well as on failure, so the loop is not a retry of the library's kind.)
func (v *Verifier) Watch(ctx context.Context, period time.Duration, log *slog.Logger) error {
	failures := 0 // in a row
	for {
		result := <-v.refresh(ctx, 0)
		pause := period*4/5 + rand.N(period*2/5)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(result.Err, errSoon): // a token has caused a fetch a moment ago
			pause, failures = failedFetchPause, 0
		case result.Err != nil:
			pause = min(pause, failedFetchPause)
			if failures++; failures == 2 {
				log.Warn("auth's keys and revocations cannot be fetched; tokens are verified with those fetched before", "error", result.Err)
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

// refresh fetches keys and revocations, unless a token has caused a fetch less than a pause ago. Callers at the same time share one
// fetch, so it does not end with the first one's request, but after fetchTime.
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

// Set replaces keys and revocations. If there is no usable key, it changes nothing and returns an error.
func (v *Verifier) Set(trust Trust) error {
	keys := trust.Keys.Public()
	if len(keys) == 0 {
		return fmt.Errorf("the key set holds no Ed25519 key among its %d", len(trust.Keys.Keys))
	}
	sessions := make(map[string]struct{}, len(trust.Revocations.Sessions))
	for _, id := range trust.Revocations.Sessions {
		if id != "" { // tokens of the earlier release have no session
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

// age returns the age of keys and revocations.
func (v *Verifier) age() time.Duration {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.now().Sub(v.since)
}
