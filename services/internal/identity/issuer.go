package identity

import (
	"crypto/ed25519"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"boxoffice/services/internal/signing"
)

// claims are those of a token: sub is the user's id.
type claims struct {
	Email   string `json:"email"`
	Epoch   int    `json:"epoch,omitempty"`
	Session string `json:"sid,omitempty"`
	jwt.RegisteredClaims
}

// Issuer issues tokens. Only auth has one. Its methods may be called in parallel.
type Issuer struct {
	lifetime time.Duration
	ring     atomic.Pointer[keyRing]
}

// keyRing has the key that signs, and all keys whose tokens are valid.
type keyRing struct {
	private ed25519.PrivateKey
	id      string
	set     signing.KeySet
}

// NewIssuer makes an Issuer whose tokens are valid for lifetime.
func NewIssuer(private ed25519.PrivateKey, lifetime time.Duration) *Issuer {
	i := &Issuer{lifetime: lifetime}
	i.SetKeys(private)
	return i
}

// SetKeys replaces the key that signs, and the other keys whose tokens are valid: the next key, which verifiers must have before it
// signs, and the last one, whose tokens are still in use.
func (i *Issuer) SetKeys(private ed25519.PrivateKey, others ...ed25519.PublicKey) {
	set := signing.Keys{Private: private, Others: others}.Set()
	i.ring.Store(&keyRing{private: private, id: set.Keys[0].ID, set: set})
}

// Issue issues a token for a user. Its times are whole seconds, as in every JWT.
func (i *Issuer) Issue(caller Caller, now time.Time) (token string, expires time.Time, err error) {
	ring := i.ring.Load()
	now = now.UTC().Truncate(time.Second)
	expires = now.Add(i.lifetime)
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		Email:   caller.Email,
		Epoch:   caller.Epoch,
		Session: caller.Session,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    issuedBy,
			Subject:   string(caller.ID),
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(expires),
		},
	})
	unsigned.Header["kid"] = ring.id
	token, err = unsigned.SignedString(ring.private)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign a token: %w", err)
	}
	return token, expires, nil
}

// KeySet returns the public keys with which this issuer's tokens are verified. The first key is the one that signs.
func (i *Issuer) KeySet() signing.KeySet { return i.ring.Load().set }
