package identity

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"

	"boxoffice/services/internal/problem"
)

const (
	// leeway is how far apart the clocks of auth and of this machine may be.
	leeway = 5 * time.Second
	// fetchTime bounds one fetch of the keys, from however many addresses.
	fetchTime = 5 * time.Second
	// fetchPause is the least time between two fetches: tokens that name keys which do not exist must not turn
	// into load on auth. While there are no keys at all, it is shorter.
	fetchPause      = 5 * time.Second
	firstFetchPause = 500 * time.Millisecond
	// keysAge is when known keys are fetched again, so that one that auth has withdrawn is not taken for ever.
	keysAge = 10 * time.Minute
	// longestToken bounds what is worth parsing; ours are about 400 bytes.
	longestToken = 4 << 10
	// rememberedTokens bounds the tokens whose signature is not checked again at every request: that takes as
	// long as all the rest of a request's handling.
	rememberedTokens = 4096
)

var (
	errNotSignedIn = problem.New(problem.Unauthorized, "You are not signed in.").WithCode("not_signed_in")
	errExpired     = problem.New(problem.Unauthorized, "Your session has ended. Sign in again.").WithCode("token_expired")
	errToken       = problem.New(problem.Unauthorized, "The token is not valid. Sign in again.").WithCode("token_invalid")
	errNoKeys      = problem.New(problem.Unavailable, "Signing in cannot be checked at the moment. Try again shortly.").
			WithCode("keys_unavailable").WithRetryAfter(time.Second)
)

// Verifier checks tokens with a key set that it fetches when it needs it and keeps. It goes on with the keys
// it has while they cannot be fetched. Its methods may be called in parallel.
type Verifier struct {
	fetch   func(context.Context) (KeySet, error)
	now     func() time.Time
	parser  *jwt.Parser
	flights singleflight.Group

	mu      sync.RWMutex
	keys    map[string]ed25519.PublicKey // nil until they were fetched once
	fetched time.Time                    // when keys arrived
	tried   time.Time                    // when the last fetch ended
	// good holds tokens that these keys have verified. It begins anew when it is full or the keys change.
	good map[string]verified
}

// verified is what a token said whose signature was good.
type verified struct {
	user    User
	expires time.Time
}

// NewVerifier makes a Verifier without keys; the first token makes it fetch them.
func NewVerifier(fetch func(context.Context) (KeySet, error)) *Verifier {
	v := &Verifier{fetch: fetch, now: time.Now}
	v.parser = jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(issuedBy),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(func() time.Time { return v.now() }),
	)
	return v
}

// Verify returns whom the token was issued to. Its error is a problem: Unauthorized if the token is not good
// (any more), Unavailable if there are no keys to tell.
func (v *Verifier) Verify(ctx context.Context, token string) (User, error) {
	if len(token) > longestToken {
		return User{}, errToken
	}
	if user, ok := v.remembered(token); ok {
		return user, nil
	}
	var c claims
	var kid string
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		return v.key(ctx, kid)
	})
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
	user := User{ID: c.Subject, Email: c.Email}
	v.remember(token, kid, verified{user, c.ExpiresAt.Time})
	return user, nil
}

func (v *Verifier) remembered(token string) (User, bool) {
	v.mu.RLock()
	known, ok := v.good[token]
	old := v.old()
	v.mu.RUnlock()
	if old {
		v.refresh(context.Background())
	}
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

var errUnknownKey = errors.New("unknown key")

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

// old says whether the keys should be fetched anew, beside the work that goes on with them. v.mu is held.
func (v *Verifier) old() bool {
	return v.keys != nil && v.now().Sub(v.fetched) > keysAge && v.now().Sub(v.tried) > fetchPause
}

// wait fetches the keys and returns when they are here or ctx ends.
func (v *Verifier) wait(ctx context.Context) error {
	select {
	case result := <-v.refresh(ctx):
		return result.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refresh fetches the keys, unless that was tried a moment ago. All who ask for the same fetch share it, so it
// does not end with the request that happened to be first; it ends with fetchTime.
func (v *Verifier) refresh(ctx context.Context) <-chan singleflight.Result {
	return v.flights.DoChan("", func() (any, error) {
		v.mu.RLock()
		pause := fetchPause
		if v.keys == nil {
			pause = firstFetchPause
		}
		soon := v.now().Sub(v.tried) < pause
		v.mu.RUnlock()
		if soon {
			return nil, errors.New("the keys were asked for a moment ago")
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
		defer cancel()
		set, err := v.fetch(ctx)

		v.mu.Lock()
		defer v.mu.Unlock()
		v.tried = v.now()
		if err != nil {
			return nil, err
		}
		keys := make(map[string]ed25519.PublicKey, len(set.Keys))
		for _, key := range set.Keys {
			if public, ok := key.public(); ok {
				keys[key.ID] = public
			}
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("the key set holds no Ed25519 key among its %d", len(set.Keys))
		}
		if !maps.EqualFunc(keys, v.keys, func(a, b ed25519.PublicKey) bool { return a.Equal(b) }) {
			v.good = nil
		}
		v.keys, v.fetched = keys, v.tried
		return nil, nil
	})
}
