// Command tickets is the service of the listings: sellers list, change and withdraw their tickets, everybody
// looks at them. Read ticket.go for the rules, store.go for what is kept, api.go for what clients call,
// subscriptions.go for what it hears.
package main

import (
	"context"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	reconcile.Settings
	identity.AuthConfig
	// Currency is that of every price, as an ISO 4217 code in lower case.
	Currency string `env:"CURRENCY" envDefault:"usd" validate:"len=3,lowercase"`
	// MinPrice is the lowest price, in the currency's minor unit; Stripe charges no less than 50 cents.
	MinPrice int64 `env:"MIN_PRICE" envDefault:"50" validate:"min=1"`
}

func main() {
	var cfg config
	service.Main("tickets", &cfg, func(ctx context.Context, s *service.Service) error {
		verifier, err := s.VerifyTokens(cfg.AuthConfig)
		if err != nil {
			return err
		}
		store, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		l := newListings(store, cfg.Currency, cfg.MinPrice, s.Log)
		l.routes(s.Public, identity.RequireUser(verifier))
		l.subscribe(s.Events)
		s.Go("withdraw listings of deleted accounts", l.RunWithdrawals)
		s.Go("remove deleted tickets from lists", l.compactor.Run)
		reconcile.Start(s, store, cfg.Settings, reconcile.RepublishRecent(store, allTickets, ticketKey, (*Ticket).AsListed), l.compactAll())
		return nil
	})
}
