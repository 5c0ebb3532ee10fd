// Command payments is the service of the money: it authorizes it when a buyer pays, takes it when the order is
// complete, and gives it back when the order is not. Read payment.go for the rules, store.go for what is kept
// and how Stripe's word and the orders' state are brought together, stripe.go for what is asked of Stripe, limits.go for how
// many cards may be declined, queue.go for when things happen without a request, sweep.go for how nothing is forgotten,
// compare.go for the daily look at all that Stripe has, metrics.go for what operators see, recent.go for what is remembered
// so as not to be read again, refreshes.go for how seldom Stripe is asked for a buyer who asks often, api.go for what clients and Stripe call, subscriptions.go for what it hears.
package main

import (
	"context"
	"errors"
	"time"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	reconcile.Settings
	identity.AuthConfig
	// StripeKey is the account's secret key. Without one, SandboxURL is used.
	StripeKey string `env:"STRIPE_SECRET_KEY"`
	// WebhookSecret is what Stripe, or the sandbox, signs webhooks with.
	WebhookSecret string `env:"STRIPE_WEBHOOK_SECRET"`
	// SandboxURL is where the project's stand-in for Stripe listens.
	SandboxURL string `env:"STRIPE_SANDBOX_URL" validate:"omitempty,http_url"`
	// StripeTimeout bounds one request to Stripe. A confirmation waits for the buyer's bank.
	StripeTimeout time.Duration `env:"STRIPE_TIMEOUT" envDefault:"10s" validate:"min=1s,max=20s"`
	// SweepPeriod is how often one of the service's processes refreshes for payments that nobody sees to.
	SweepPeriod time.Duration `env:"SWEEP_PERIOD" envDefault:"30s" validate:"min=1s,max=24h"`
	// Attempts is how many cards may be declined for an order, and AttemptsPerHour how many of a user within an hour;
	// 0 is no limit.
	Attempts        int `env:"PAYMENT_ATTEMPTS" envDefault:"5" validate:"min=0,max=1000"`
	AttemptsPerHour int `env:"PAYMENT_ATTEMPTS_PER_HOUR" envDefault:"10" validate:"min=0,max=1000"`
}

// sandboxKey is what the sandbox takes for a key; it opens nothing.
const sandboxKey = "sk_test_sandbox"

// processor says whom to ask and with which key: Stripe (url is ""), or the sandbox.
func (c *config) processor() (key, url string, err error) {
	switch {
	case c.StripeKey != "":
		return c.StripeKey, "", nil
	case c.SandboxURL != "":
		return sandboxKey, c.SandboxURL, nil
	}
	return "", "", errors.New("there is nobody to take payments: set STRIPE_SECRET_KEY to use Stripe, or STRIPE_SANDBOX_URL to use the sandbox (`make run` starts one)")
}

func main() {
	var cfg config
	service.Main("payments", &cfg, func(ctx context.Context, s *service.Service) error {
		key, url, err := cfg.processor()
		if err != nil {
			return err
		}
		verifier, err := s.VerifyTokens(cfg.AuthConfig)
		if err != nil {
			return err
		}
		documents, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		if url != "" {
			s.Log.Info("payments go to the sandbox; no money moves", "url", url)
		}
		if cfg.WebhookSecret == "" {
			s.Log.Warn("webhooks are not taken: STRIPE_WEBHOOK_SECRET is not set")
		}
		g := newStripeClient(key, url, cfg.StripeTimeout, s.Log)
		if g.origin, err = readOrigin(ctx, documents); err != nil {
			return err
		}
		t := newStore(documents, g, s.Log)
		t.metrics = newMetrics(s.Metrics)
		t.limits = limits{perOrder: cfg.Attempts, perHour: cfg.AttemptsPerHour}
		a := &api{store: t, webhookSecret: cfg.WebhookSecret}
		a.routes(s.Public, identity.RequireUser(verifier))
		t.subscribe(s.Events)
		s.Go("queue", t.queue.run)
		swept := newSweep(t, cfg.SweepPeriod, s.Log)
		s.Go("sweep", swept.run)
		s.Job("sweep", cfg.SweepPeriod, swept.fire)
		reconcile.Start(s, documents, cfg.Settings, t.comparison())
		return nil
	})
}
