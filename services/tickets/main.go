// Command tickets is the service of the tickets as sellers offer them.
//
// Read ticket.go first: it has a ticket's whole life, and how it becomes sold. Then store.go (documents and
// decisions), api.go (REST), subscriptions.go (events), withdrawals.go (sellers who delete their accounts), and for tickets
// that are for a show show.go, place.go, following.go (shows that are moved or cancelled) and resale.go (buyers who sell again). command.go has the command
// `tickets republish`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"boxoffice/services/internal/clock"
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
	MinPrice int64 `env:"MIN_PRICE" envDefault:"50" validate:"min=1,max=99999999"`
}

func (c *config) terms() Terms { return Terms{Currency: c.Currency, MinPrice: c.MinPrice} }

func main() {
	if service.IsCommand(os.Args) {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		status := runCommand(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(status)
	}
	var cfg config
	service.Main("tickets", &cfg, func(ctx context.Context, s *service.Service) error {
		verifier, err := s.VerifyTokens(cfg.AuthConfig)
		if err != nil {
			return err
		}
		documents, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		store := newStore(documents, cfg.terms(), clock.System, s.Log)
		(&api{store}).register(s.Public, identity.RequireUser(verifier))
		(&subscriptions{store}).register(s.Events)
		s.Go("withdraw tickets of deleted accounts", store.RunWithdrawals)
		s.Go("follow shows", store.RunFollowing)
		s.Go("remove deleted tickets from the index", store.compactor.Run)
		reconcile.Start(s, documents, cfg.Settings,
			reconcile.RepublishRecent(documents, allTickets, keyOfIndexed, (*Ticket).ListingEvent),
			reconcile.Step{Name: "follow shows", Run: store.followRecent},
			reconcile.Step{Name: "compact list", Run: store.compactIndex},
			store.indexSellers())
		return nil
	})
}
