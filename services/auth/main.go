// Command auth is the service of the users: they sign up and in here, and get tokens that every other service
// can verify. Read user.go and session.go for the rules, store.go for what is kept, revocations.go for what is no longer
// good, api.go for what clients call, passwords.go and attempts.go for how passwords are guarded, key.go for the keys.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/peer"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	// TokenLifetime is how long a token is good. Its maximum is longestTokenLifetime.
	TokenLifetime time.Duration `env:"TOKEN_LIFETIME" envDefault:"1h" validate:"min=15m,max=24h"`
	// SessionLifetime is how long a session lasts, from the sign-in on: as long new tokens are given for its refresh token.
	// 0: there are no sessions, and a sign-in ends with its token.
	SessionLifetime time.Duration `env:"SESSION_LIFETIME" envDefault:"720h" validate:"min=0,max=8760h"`
	// KeysPeriod is how often the keys are read again.
	KeysPeriod time.Duration `env:"KEYS_PERIOD" envDefault:"1m" validate:"min=1s,max=10m"`
	// CookieSecure says when the cookies are for HTTPS alone.
	CookieSecure identity.CookieSecurity `env:"COOKIE_SECURE" envDefault:"auto" validate:"oneof=auto always never"`
	// BcryptCost is the cost of new passwords: each step doubles the time of a sign-in. Below 10 is for tests.
	BcryptCost int `env:"BCRYPT_COST" envDefault:"10" validate:"min=4,max=16"`
	// PasswordWait is how long a request may wait until its password is hashed; who would wait for longer is answered 503 at
	// once. 0 is however long.
	PasswordWait time.Duration `env:"PASSWORD_WAIT" envDefault:"2s" validate:"min=0,max=10s"`
	// SigninFailures is how many wrong passwords for one email are taken in five minutes; 0 is any number.
	SigninFailures int `env:"SIGNIN_FAILURES" envDefault:"20" validate:"min=0"`
	// OrdersURLs are the base URLs of orders' replicas, separated by commas.
	OrdersURLs []string `env:"ORDERS_URL" validate:"min=1,dive,http_url"`
	// CAFile holds the certificates, in PEM, of a private authority that signs for https addresses of other services.
	CAFile string `env:"UPSTREAM_CA_FILE"`
}

func main() {
	var cfg config
	service.Main("auth", &cfg, func(ctx context.Context, s *service.Service) error {
		ordersPeer, err := peer.New("orders", cfg.OrdersURLs, cfg.CAFile)
		if err != nil {
			return err
		}
		first, err := signingKeys(ctx, s.Dapr)
		if err != nil {
			return err
		}
		checker, err := newPasswords(cfg.BcryptCost, cfg.PasswordWait, s.Metrics)
		if err != nil {
			return fmt.Errorf("prepare passwords: %w", err)
		}
		store, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		issuer, verifier := newIdentity(first, cfg.TokenLifetime)
		s.Go("keys", func(ctx context.Context) error {
			return watchKeys(ctx, s.Dapr, cfg.KeysPeriod, s.Log, useKeys(issuer, verifier, s.Log))
		})
		a := &accounts{
			store:           store,
			passwords:       checker,
			attempts:        newAttempts(cfg.SigninFailures),
			revoked:         &revocations{store: store, lifetime: cfg.TokenLifetime, started: time.Now()},
			orders:          orders{ordersPeer},
			sessionLifetime: cfg.SessionLifetime,
			log:             s.Log,
		}
		api{accounts: a, issuer: issuer, verifier: verifier, cookie: cfg.CookieSecure}.routes(s.Public)
		return nil
	})
}

// newIdentity makes what signs and what verifies tokens with the keys. The verifier knows no revocations: they are looked up
// with the user.
func newIdentity(k keys, lifetime time.Duration) (*identity.Issuer, *identity.Verifier) {
	issuer := identity.NewIssuer(k.private, lifetime)
	issuer.SetKeys(k.private, k.others...)
	return issuer, identity.NewVerifier(func(context.Context) (identity.KeySet, error) { return issuer.KeySet(), nil })
}

// useKeys returns what puts changed keys to use.
func useKeys(issuer *identity.Issuer, verifier *identity.Verifier, log *slog.Logger) func(keys) {
	return func(k keys) {
		before := issuer.KeySet()
		issuer.SetKeys(k.private, k.others...)
		now := issuer.KeySet()
		if slices.Equal(before.Keys, now.Keys) {
			return
		}
		if err := verifier.Set(identity.Trust{Keys: now}); err != nil {
			log.Error("the keys cannot be used", "error", err) // cannot happen: one of them signs
			return
		}
		log.Info("the keys have changed", "signs", now.Keys[0].ID, "keys", len(now.Keys))
	}
}
