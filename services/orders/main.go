// Command orders is the service that decides who gets a ticket: it reserves, completes and cancels. Read
// order.go for the rules, store.go for what is kept, api.go for what clients call, subscriptions.go for what it
// hears.
package main

import (
	"context"
	"time"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	reconcile.Settings
	identity.AuthConfig
	// ReservationWindow is how long a buyer has to pay.
	ReservationWindow time.Duration `env:"RESERVATION_WINDOW" envDefault:"15m" validate:"min=1s,max=24h"`
	// ReservationsPerUser is how many live unpaid reservations one buyer may have; 0 is any number.
	ReservationsPerUser int `env:"RESERVATIONS_PER_USER" envDefault:"10" validate:"min=0,max=1000"`
	// ReservationCooldown is for how long a buyer who let a ticket expire may not reserve it again; 0 is not at all. If it is
	// not set, it is the ReservationWindow.
	ReservationCooldown *time.Duration `env:"RESERVATION_COOLDOWN" validate:"omitempty,min=0s,max=168h"`
}

// terms are the rules of reservations that the configuration decides.
func (c *config) terms() Terms {
	terms := Terms{Window: c.ReservationWindow, Cooldown: c.ReservationWindow, PerUser: c.ReservationsPerUser}
	if c.ReservationCooldown != nil {
		terms.Cooldown = *c.ReservationCooldown
	}
	return terms
}

func main() {
	var cfg config
	service.Main("orders", &cfg, func(ctx context.Context, s *service.Service) error {
		verifier, err := s.VerifyTokens(cfg.AuthConfig)
		if err != nil {
			return err
		}
		store, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		b := newBox(store, cfg.terms(), s.Log)
		b.routes(s.Public, identity.RequireUser(verifier))
		b.subscribe(s.Events)
		reconcile.Start(s, store, cfg.Settings, reconcile.RepublishRecent(store, orders, orderKey, (*Order).Told))
		return nil
	})
}
