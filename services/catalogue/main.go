// Command catalogue is the service of the shows, and of what is for sale for them.
//
// Read show.go first: it has a show's whole life. Then store.go (documents and decisions), owner.go (who may not announce shows any more),
// image.go (what becomes of an upload) and api.go (REST). subscriptions.go cancels the shows of deleted accounts, and appends all other
// events to the change feed (package feed); readmodel.go applies the feed to what clients search (package index, pages.go) and follow
// (package live). command.go has the command `catalogue rebuild`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the time zones that a show may name, whatever the host has

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/catalogue/feed"
	"boxoffice/services/catalogue/index"
	"boxoffice/services/catalogue/live"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	reconcile.Settings
	identity.AuthConfig
	// MaxStreams bounds the open streams of this process; 0 is no limit.
	MaxStreams int `env:"MAX_STREAMS" envDefault:"3000" validate:"min=0"`
}

// BodyLimitOf makes bodies of images longer than others.
func (c *config) BodyLimitOf(method, path string) int {
	if isUpload(method, path) {
		return maxUpload
	}
	return 0
}

func main() {
	if service.IsCommand(os.Args) {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		status := runCommand(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(status)
	}
	var cfg config
	service.Main("catalogue", &cfg, func(ctx context.Context, s *service.Service) error {
		verifier, err := s.VerifyTokens(cfg.AuthConfig)
		if err != nil {
			return err
		}
		documents, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		store := newStore(documents, clock.System)
		(&api{store}).register(s.Public, identity.RequireUser(verifier))

		shows, err := index.New(clock.System)
		if err != nil {
			return err
		}
		streams := live.New(live.Options{MaxStreams: cfg.MaxStreams, Log: s.Log, Metrics: s.Metrics})
		changes := feed.New(documents, &readModel{index: shows, live: streams, clock: clock.System, log: s.Log}, feed.Options{
			Log: s.Log, Metrics: s.Metrics, InUse: func() bool { return streams.Open() > 0 },
		})
		s.ReadyCheck("feed", changes.CaughtUp)
		(&subscriptions{changes, store}).register(s.Events)
		s.Public.Use([]string{"/api/catalogue", "/api/tickets"}, func(c *fiber.Ctx) error {
			changes.Touch()
			return c.Next()
		})
		newPages(shows, streams.Position).register(s.Public)
		streams.Register(s.Public)
		s.Go("keep the index", func(ctx context.Context) error { return shows.Run(ctx, s.Log) })
		s.Go("live streams", streams.Run)
		s.Go("follow the change feed", changes.Run)
		s.Job("compact", feed.CompactEvery, changes.Compact)

		reconcile.Start(s, documents, cfg.Settings, reconcile.RepublishRecent(documents, allShows, keyOfIndexed, (*Show).Event), store.indexOwners())
		return nil
	})
}
