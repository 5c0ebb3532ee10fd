// Command gateway is the one address of the whole system: it proxies the public REST APIs of the services,
// bounds what may be sent to them, and tells whether all of them are ready. It keeps nothing: it needs no store and no broker.
package main

import (
	"context"
	"time"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config

	// The addresses of the services, auth's among them, of the form http://host:port or https://host:port; several for a
	// service that runs as several replicas, separated by commas.
	identity.AuthConfig
	TicketsURLs    []string `env:"TICKETS_URL" validate:"min=1,dive,http_url"`
	OrdersURLs     []string `env:"ORDERS_URL" validate:"min=1,dive,http_url"`
	PaymentsURLs   []string `env:"PAYMENTS_URL" validate:"min=1,dive,http_url"`
	ExpirationURLs []string `env:"EXPIRATION_URL" validate:"min=1,dive,http_url"`

	// UpstreamTimeout bounds one call to a service; it is longer than the deadline that services give themselves.
	UpstreamTimeout time.Duration `env:"UPSTREAM_TIMEOUT" envDefault:"20s" validate:"min=1s,max=5m"`
	// RateLimit bounds the requests a second of one address, and of one user; twice as many may come at once. 0: no limit.
	RateLimit float64 `env:"RATE_LIMIT" envDefault:"100" validate:"min=0,max=1000000000"`
	// SigninRate bounds, in the same way, those for which a password is hashed; four times as many may come at once. 0: no limit.
	SigninRate float64 `env:"SIGNIN_RATE" envDefault:"5" validate:"min=0,max=1000000000"`
	// ConnectionsPerAddress bounds the open connections of one address that is no trusted proxy's. 0: no limit.
	ConnectionsPerAddress int `env:"CONNECTIONS_PER_ADDRESS" envDefault:"256" validate:"min=0"`
	// TraceSampling is the share of requests whose trace is recorded. What clients ask for is not believed.
	TraceSampling float64 `env:"TRACE_SAMPLING" envDefault:"0" validate:"min=0,max=1"`
}

// Edge says that anybody can call.
func (c *config) Edge() *rest.Edge {
	return &rest.Edge{TraceSampling: c.TraceSampling, ConnectionsPerAddress: c.ConnectionsPerAddress}
}

// readyAge is how long /readyz is answered alike: each answer asks every service.
const readyAge = time.Second

func main() {
	var cfg config
	service.Main("gateway", &cfg, func(_ context.Context, s *service.Service) error {
		s.ReadyAge = readyAge
		verifier, err := s.VerifyTokens(cfg.AuthConfig)
		if err != nil {
			return err
		}
		roots, err := authorities(cfg.CAFile)
		if err != nil {
			return err
		}
		to := func(name string, addresses []string) (*upstream, error) {
			u, err := newUpstream(name, addresses, roots, cfg.UpstreamTimeout, cfg.TrustedProxies)
			if err != nil {
				return nil, err
			}
			s.ReadyCheck(name, u.ready)
			s.Go("health of "+name, func(ctx context.Context) error {
				u.watch(ctx, s.Log)
				return nil
			})
			return u, nil
		}
		limits := newLimits(cfg, verifier.Verify, s.Metrics)
		return routes(s.Public, limits, to, cfg)
	})
}
