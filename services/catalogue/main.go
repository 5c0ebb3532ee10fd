// Command catalogue is the service of the shows, and of what is for sale for them.
package main

import (
	"context"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	identity.AuthConfig
}

func main() {
	var cfg config
	service.Main("catalogue", &cfg, func(ctx context.Context, s *service.Service) error {
		if _, err := s.VerifyTokens(cfg.AuthConfig); err != nil {
			return err
		}
		_, err := s.OpenStore(ctx)
		return err
	})
}
