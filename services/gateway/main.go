// Command gateway is the one public address of the system. It proxies the REST APIs of the services, limits what clients may
// send, and reports whether all services are ready. It needs no store and no broker.
//
// Read api.go for the paths, pages.go for the storefront, origin.go for requests of other sites, limits.go and buckets.go for the rate
// limits, proxy.go for the headers, stream.go for responses that do not end, upstream.go and replica.go for the choice of a process,
// connection.go for the connections to it.
package main

import (
	"context"
	"time"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/peer"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config

	// The base URLs of the services' replicas, separated by commas: http://host:port or https://host:port.
	identity.AuthConfig
	TicketsURLs    []string `env:"TICKETS_URL" validate:"min=1,dive,http_url"`
	OrdersURLs     []string `env:"ORDERS_URL" validate:"min=1,dive,http_url"`
	PaymentsURLs   []string `env:"PAYMENTS_URL" validate:"min=1,dive,http_url"`
	ExpirationURLs []string `env:"EXPIRATION_URL" validate:"min=1,dive,http_url"`
	CatalogueURLs  []string `env:"CATALOGUE_URL" validate:"min=1,dive,http_url"`
	// WebhooksURLs is optional, because the service needs Node. Without it there is no /api/webhooks.
	WebhooksURLs []string `env:"WEBHOOKS_URL" validate:"dive,http_url"`

	// UpstreamTimeout limits one call to a service. It is longer than the services' own deadline.
	UpstreamTimeout time.Duration `env:"UPSTREAM_TIMEOUT" envDefault:"20s" validate:"min=1s,max=5m"`
	// RateLimit is the number of requests a second that one address, and one user, may send; see requestBurst. 0: no limit.
	RateLimit float64 `env:"RATE_LIMIT" envDefault:"100" validate:"min=0,max=1000000000"`
	// SigninRate is the same for requests that make auth hash a password; see signinBurst. 0: no limit.
	SigninRate float64 `env:"SIGNIN_RATE" envDefault:"5" validate:"min=0,max=1000000000"`
	// ConnectionsPerAddress limits the open connections of one address. Trusted proxies have no such limit. 0: no limit.
	ConnectionsPerAddress int `env:"CONNECTIONS_PER_ADDRESS" envDefault:"256" validate:"min=0"`
	// MaxStreams limits the open streams, because their connections cannot be closed for others, as those that wait for a request can.
	// StreamsPerAddress limits those of one address. 0: no limit.
	MaxStreams        int `env:"MAX_STREAMS" envDefault:"3000" validate:"min=0"`
	StreamsPerAddress int `env:"STREAMS_PER_ADDRESS" envDefault:"64" validate:"min=0"`
	// Other values of the constants with these names, for tests.
	streamSilence, streamWriteTimeout time.Duration
	// Storefront is whether the gateway serves the pages of the storefront, or the APIs alone.
	Storefront string `env:"STOREFRONT" envDefault:"on" validate:"oneof=on off"`
	// StripePublishableKey makes the storefront use Stripe's form to pay. It is public.
	StripePublishableKey string `env:"STRIPE_PUBLISHABLE_KEY" validate:"omitempty,startswith=pk_"`
	// Currency is that of every price, as in tickets.
	Currency string `env:"CURRENCY" envDefault:"usd" validate:"len=3,lowercase"`
	// TraceSampling is the share of requests whose trace is recorded. The client's own sampling flag is ignored.
	TraceSampling float64 `env:"TRACE_SAMPLING" envDefault:"0" validate:"min=0,max=1"`
}

// Edge makes the public port one that the whole internet may call.
func (c *config) Edge() *rest.Edge {
	return &rest.Edge{TraceSampling: c.TraceSampling, ConnectionsPerAddress: c.ConnectionsPerAddress}
}

// readyAge is how long one result of /readyz is kept, because each check calls every service.
const readyAge = time.Second

func main() {
	var cfg config
	service.Main("gateway", &cfg, func(_ context.Context, s *service.Service) error {
		s.ReadyAge = readyAge
		verifier, err := s.VerifyTokens(cfg.AuthConfig)
		if err != nil {
			return err
		}
		roots, err := peer.Authorities(cfg.CAFile)
		if err != nil {
			return err
		}
		a, err := newAPI(cfg, roots, newLimits(cfg, verifier.Verify, s.Metrics), newStreams(cfg, s.Metrics))
		if err != nil {
			return err
		}
		for _, u := range a.upstreams() {
			s.ReadyCheck(u.name, u.ready)
			s.Go("health of "+u.name, func(ctx context.Context) error {
				u.watch(ctx, s.Log)
				return nil
			})
		}
		s.Go("streams", a.streams.run)
		a.register(s.Public)
		return nil
	})
}
