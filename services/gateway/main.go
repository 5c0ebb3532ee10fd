// Command gateway is the one address of the whole system: it proxies the public REST APIs of the services,
// bounds what may be sent to them, and tells whether all of them are ready.
package main

import (
	"context"
	"net/netip"
	"time"

	"boxoffice/services/internal/service"
)

type config struct {
	service.Config

	AuthURL       string `env:"AUTH_URL" validate:"http_url,startswith=http://"`
	TicketsURL    string `env:"TICKETS_URL" validate:"http_url,startswith=http://"`
	OrdersURL     string `env:"ORDERS_URL" validate:"http_url,startswith=http://"`
	PaymentsURL   string `env:"PAYMENTS_URL" validate:"http_url,startswith=http://"`
	ExpirationURL string `env:"EXPIRATION_URL" validate:"http_url,startswith=http://"`

	// UpstreamTimeout bounds one call to a service; it is longer than the deadline that services give themselves.
	UpstreamTimeout time.Duration `env:"UPSTREAM_TIMEOUT" envDefault:"20s" validate:"min=1s,max=5m"`
	// TrustedProxies are the networks of proxies before this one, whose X-Forwarded headers are believed. From
	// anybody else those headers are replaced.
	TrustedProxies []netip.Prefix `env:"TRUSTED_PROXIES"`
}

func main() {
	var cfg config
	service.Main("gateway", &cfg, func(_ context.Context, s *service.Service) error {
		to := func(name, url string) (*upstream, error) {
			u, err := newUpstream(name, url, cfg.UpstreamTimeout, cfg.TrustedProxies)
			if err == nil {
				s.ReadyCheck(name, u.ready)
			}
			return u, err
		}
		return routes(s.Public, to, cfg)
	})
}
