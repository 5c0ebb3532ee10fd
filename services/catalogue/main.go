// Command catalogue is the service of the shows, and of what is for sale for them.
//
// Read show.go first: it has a show's whole life. Then store.go (documents and decisions), image.go (what becomes of an upload) and
// api.go (REST).
package main

import (
	"context"
	_ "time/tzdata" // the time zones that a show may name, whatever the host has

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	reconcile.Settings
	identity.AuthConfig
}

// BodyLimitOf makes bodies of images longer than others.
func (c *config) BodyLimitOf(method, path string) int {
	if isUpload(method, path) {
		return maxUpload
	}
	return 0
}

func main() {
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
		reconcile.Start(s, documents, cfg.Settings, reconcile.RepublishRecent(documents, allShows, keyOfIndexed, (*Show).Event))
		return nil
	})
}
