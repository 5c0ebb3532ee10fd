// Command orders is the service that decides who gets a ticket, and who gets into the show with it: it reserves, completes, cancels
// and checks in.
//
// Read order.go first: it has an order's whole life. Then pass.go (how its buyer gets into the show) and transfer.go (how its place is
// sold again), seat.go (what is reserved) and buyer.go (how much one user may reserve), store.go (documents and decisions), api.go
// (REST), sales.go (what sellers have sold), subscriptions.go (events), restore.go (after a restored backup) and picture.go (a pass as a QR code).
package main

import (
	"context"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/signing"
)

type config struct {
	service.Config
	reconcile.Settings
	identity.AuthConfig
	// ReservationWindow is how long a buyer has to pay.
	ReservationWindow time.Duration `env:"RESERVATION_WINDOW" envDefault:"15m" validate:"min=1s,max=24h"`
	// ReservationsPerUser is how many live unpaid orders one buyer may have; 0 means any number.
	ReservationsPerUser int `env:"RESERVATIONS_PER_USER" envDefault:"10" validate:"min=0,max=1000"`
	// ReservationCooldown is how long a buyer whose reservation expired may not reserve the same ticket again; 0
	// allows it at once. Without a value it is ReservationWindow.
	ReservationCooldown *time.Duration `env:"RESERVATION_COOLDOWN" validate:"omitempty,min=0s,max=168h"`
	// KeysPeriod is how often the keys that sign passes are read again.
	KeysPeriod time.Duration `env:"KEYS_PERIOD" envDefault:"1m" validate:"min=1s,max=10m"`
}

func (c *config) terms() Terms {
	terms := Terms{Window: c.ReservationWindow, Cooldown: c.ReservationWindow, PerUser: c.ReservationsPerUser}
	if c.ReservationCooldown != nil {
		terms.Cooldown = *c.ReservationCooldown
	}
	return terms
}

// passSigningKey is the secret with the keys that sign passes.
const passSigningKey = "pass-signing-key"

func main() {
	var cfg config
	service.Main("orders", &cfg, func(ctx context.Context, s *service.Service) error {
		verifier, err := s.VerifyTokens(cfg.AuthConfig)
		if err != nil {
			return err
		}
		secret := signing.Secret{Name: passSigningKey, From: s.Dapr}
		keys, err := secret.Read(ctx)
		if err != nil {
			return err
		}
		documents, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		store := newStore(documents, cfg.terms(), clock.System, s.Log)
		codes := newPassCodes(keys)
		s.Go("keys", func(ctx context.Context) error { return secret.Watch(ctx, cfg.KeysPeriod, s.Log, codes.SetKeys) })
		(&api{store, codes}).register(s.Public, identity.RequireUser(verifier))
		(&subscriptions{store, s.Log}).register(s.Events)
		reconcile.Start(s, documents, cfg.Settings, reconcile.RepublishRecent(documents, recentOrders, keyOfIndexed, (*Order).Event))
		return nil
	})
}
