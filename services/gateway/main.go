// Command gateway is the one address of the whole system: it proxies the public REST APIs of the services,
// bounds what may be sent to them, and tells whether all of them are ready. It keeps nothing: it needs no store and no broker.
package main

import (
	"context"
	"time"

	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config

	// The addresses of the services, of the form http://host:port; several for a service that runs as several
	// replicas, separated by commas.
	AuthURLs       []string `env:"AUTH_URL" validate:"min=1,dive,http_url,startswith=http://"`
	TicketsURLs    []string `env:"TICKETS_URL" validate:"min=1,dive,http_url,startswith=http://"`
	OrdersURLs     []string `env:"ORDERS_URL" validate:"min=1,dive,http_url,startswith=http://"`
	PaymentsURLs   []string `env:"PAYMENTS_URL" validate:"min=1,dive,http_url,startswith=http://"`
	ExpirationURLs []string `env:"EXPIRATION_URL" validate:"min=1,dive,http_url,startswith=http://"`

	// UpstreamTimeout bounds one call to a service; it is longer than the deadline that services give themselves.
	UpstreamTimeout time.Duration `env:"UPSTREAM_TIMEOUT" envDefault:"20s" validate:"min=1s,max=5m"`
	// TraceSampling is the share of requests whose trace is recorded. What clients ask for is not believed.
	TraceSampling float64 `env:"TRACE_SAMPLING" envDefault:"0" validate:"min=0,max=1"`
}

// Edge says that anybody can call.
func (c *config) Edge() *rest.Edge { return &rest.Edge{TraceSampling: c.TraceSampling} }

func main() {
	var cfg config
	service.Main("gateway", &cfg, func(_ context.Context, s *service.Service) error {
		to := func(name string, addresses []string) (*upstream, error) {
			u, err := newUpstream(name, addresses, cfg.UpstreamTimeout, cfg.TrustedProxies)
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
		return routes(s.Public, to, cfg)
	})
}
