// Command orders is the service that decides who gets a ticket: it reserves, completes and cancels. Read
// order.go for the rules, store.go for what is kept, api.go for what clients call, subscriptions.go for what it
// hears.
package main

import (
	"context"
	"time"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	identity.AuthConfig
	// ReservationWindow is how long a buyer has to pay.
	ReservationWindow time.Duration `env:"RESERVATION_WINDOW" envDefault:"15m" validate:"min=1s,max=24h"`
}

func main() {
	var cfg config
	service.Main("orders", &cfg, func(ctx context.Context, s *service.Service) error {
		auth, err := identity.NewAuth(cfg.AuthConfig)
		if err != nil {
			return err
		}
		store, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		b := newBox(store, cfg.ReservationWindow, s.Log)
		verifier := identity.NewRevokingVerifier(auth.Fetch)
		s.Go("keys and revocations", func(ctx context.Context) error { return verifier.Watch(ctx, cfg.AuthPeriod, s.Log) })
		b.routes(s.Public, identity.RequireUser(verifier))
		b.subscribe(s.Events)
		return nil
	})
}
