// Command auth is the service that owns users: they sign up and in, and get tokens that every service can verify.
//
// Read user.go and session.go for the rules, store.go for the documents, revocations.go for the tokens that are refused, api.go for
// REST, passwords.go and sign_in_failures.go for the protection of passwords.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/peer"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/signing"
)

type config struct {
	service.Config
	// TokenLifetime is how long a token is valid. Its maximum is longestTokenLifetime.
	TokenLifetime time.Duration `env:"TOKEN_LIFETIME" envDefault:"1h" validate:"min=15m,max=24h"`
	// SessionLifetime is how long after the sign-in the refresh token gives new tokens. 0: there are no sessions, and a sign-in ends
	// with its token.
	SessionLifetime time.Duration `env:"SESSION_LIFETIME" envDefault:"720h" validate:"min=0,max=8760h"`
	// KeysPeriod is how often the keys are read again.
	KeysPeriod time.Duration `env:"KEYS_PERIOD" envDefault:"1m" validate:"min=1s,max=10m"`
	// CookieSecure decides when the cookies are for HTTPS only.
	CookieSecure identity.CookieSecurity `env:"COOKIE_SECURE" envDefault:"auto" validate:"oneof=auto always never"`
	// BcryptCost is the cost of new passwords: each step doubles the time of a sign-in. Below 10 is for tests.
	BcryptCost int `env:"BCRYPT_COST" envDefault:"10" validate:"min=4,max=16"`
	// PasswordWait is how long a request may wait for the hash of a password. A request that would wait longer gets 503 at once.
	// 0: no limit.
	PasswordWait time.Duration `env:"PASSWORD_WAIT" envDefault:"2s" validate:"min=0,max=10s"`
	// AllowedSignInFailures is how many wrong passwords for one email are allowed in five minutes. 0: no limit.
	AllowedSignInFailures int `env:"SIGNIN_FAILURES" envDefault:"20" validate:"min=0"`
	// OrdersURLs are the base URLs of orders' replicas, separated by commas.
	OrdersURLs []string `env:"ORDERS_URL" validate:"min=1,dive,http_url"`
	// CAFile has the certificates, in PEM, of a private authority for https addresses of other services.
	CAFile string `env:"UPSTREAM_CA_FILE"`
}

// signingKey is the secret with the keys that sign tokens.
const signingKey = "jwt-signing-key"

func main() {
	var cfg config
	service.Main("auth", &cfg, func(ctx context.Context, s *service.Service) error {
		ordersPeer, err := peer.New("orders", cfg.OrdersURLs, cfg.CAFile)
		if err != nil {
			return err
		}
		secret := signing.Secret{Name: signingKey, From: s.Dapr}
		keys, err := secret.Read(ctx)
		if err != nil {
			return err
		}
		passwords, err := newPasswords(cfg.BcryptCost, cfg.PasswordWait, cfg.AllowedSignInFailures, s.Metrics)
		if err != nil {
			return fmt.Errorf("prepare passwords: %w", err)
		}
		documents, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		issuer, verifier := newIdentity(keys, cfg.TokenLifetime)
		s.Go("keys", func(ctx context.Context) error {
			return secret.Watch(ctx, cfg.KeysPeriod, s.Log, useKeys(issuer, verifier, s.Log))
		})
		revocations := newRevocations(documents, cfg.TokenLifetime)
		a := &api{
			store:       newStore(documents, revocations, cfg.SessionLifetime, clock.System, s.Log),
			passwords:   passwords,
			revocations: revocations,
			orders:      orders{ordersPeer},
			issuer:      issuer,
			verifier:    verifier,
			cookies:     cfg.CookieSecure,
		}
		a.register(s.Public)
		return nil
	})
}

// newIdentity returns the issuer and the verifier of tokens. The verifier does not check revocations: the store does, when it
// reads the user.
func newIdentity(k signing.Keys, lifetime time.Duration) (*identity.Issuer, *identity.Verifier) {
	issuer := identity.NewIssuer(k.Private, lifetime)
	issuer.SetKeys(k.Private, k.Others...)
	return issuer, identity.NewVerifier(func(context.Context) (signing.KeySet, error) { return issuer.KeySet(), nil })
}

// useKeys returns a function that gives changed keys to the issuer and the verifier.
func useKeys(issuer *identity.Issuer, verifier *identity.Verifier, log *slog.Logger) func(signing.Keys) {
	return func(k signing.Keys) {
		before := issuer.KeySet()
		issuer.SetKeys(k.Private, k.Others...)
		after := issuer.KeySet()
		if slices.Equal(before.Keys, after.Keys) {
			return
		}
		if err := verifier.Set(identity.Trust{Keys: after}); err != nil {
			log.Error("the keys cannot be used", "error", err) // cannot happen: one of them signs
			return
		}
		log.Info("the keys have changed", "signs", after.Keys[0].ID, "keys", len(after.Keys))
	}
}
