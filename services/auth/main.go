// Command auth is the service of the users: they sign up and in here, and get tokens that every other service
// can verify. Read user.go for the rules, store.go for what is kept, api.go for what clients call, passwords.go
// and attempts.go for how passwords are guarded, key.go for the key that signs.
package main

import (
	"context"
	"fmt"
	"time"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	// TokenLifetime is how long a sign-in is good for.
	TokenLifetime time.Duration `env:"TOKEN_LIFETIME" envDefault:"1h" validate:"min=15m,max=24h"`
	// CookieSecure says when the cookie is for HTTPS alone.
	CookieSecure identity.CookieSecurity `env:"COOKIE_SECURE" envDefault:"auto" validate:"oneof=auto always never"`
	// BcryptCost is the cost of new passwords: each step doubles the time of a sign-in. Below 10 is for tests.
	BcryptCost int `env:"BCRYPT_COST" envDefault:"10" validate:"min=4,max=16"`
	// SigninFailures is how many wrong passwords for one email are taken in five minutes; 0 is any number.
	SigninFailures int `env:"SIGNIN_FAILURES" envDefault:"20" validate:"min=0"`
}

func main() {
	var cfg config
	service.Main("auth", &cfg, func(ctx context.Context, s *service.Service) error {
		private, err := signingKey(ctx, s.Dapr)
		if err != nil {
			return err
		}
		checker, err := newPasswords(cfg.BcryptCost)
		if err != nil {
			return fmt.Errorf("prepare passwords: %w", err)
		}
		store, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		issuer := identity.NewIssuer(private, cfg.TokenLifetime)
		a := &accounts{
			store:     store,
			passwords: checker,
			attempts:  newAttempts(cfg.SigninFailures),
		}
		api{accounts: a, issuer: issuer, cookie: cfg.CookieSecure}.routes(s.Public)
		return nil
	})
}
