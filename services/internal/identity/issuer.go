package identity

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claims are those of our tokens: sub is the user's id.
type claims struct {
	Email string `json:"email"`
	jwt.RegisteredClaims
}

// Issuer makes tokens. Only auth has one.
type Issuer struct {
	private  ed25519.PrivateKey
	key      Key
	lifetime time.Duration
}

// NewIssuer makes an Issuer whose tokens are good for lifetime.
func NewIssuer(private ed25519.PrivateKey, lifetime time.Duration) *Issuer {
	return &Issuer{private: private, key: newKey(private.Public().(ed25519.PublicKey)), lifetime: lifetime}
}

// Issue makes a token for user. Its times are whole seconds, as a JWT's are.
func (i *Issuer) Issue(user User, now time.Time) (token string, expires time.Time, err error) {
	now = now.UTC().Truncate(time.Second)
	expires = now.Add(i.lifetime)
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		Email: user.Email,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    issuedBy,
			Subject:   user.ID,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(expires),
		},
	})
	unsigned.Header["kid"] = i.key.ID
	token, err = unsigned.SignedString(i.private)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign a token: %w", err)
	}
	return token, expires, nil
}

// KeySet is what others need to verify this issuer's tokens.
func (i *Issuer) KeySet() KeySet { return KeySet{Keys: []Key{i.key}} }
