// Command payments is the service of money. It authorizes the money when a buyer pays, captures it when the order is complete,
// and gives it back when the order is cancelled.
//
//   - domain has the rules: payment.go (the life of a payment), order.go (what the order asks for), next.go (the next step at
//     Stripe), limits.go (how many cards may be declined). It does no I/O.
//   - stripe is the client for Stripe.
//   - store.go has the documents and the decisions, and the loop that settles a payment; pay.go, limits.go and legacy.go belong
//     to it.
//   - queue.go and sweep.go settle payments in the background; compare.go compares them with Stripe once a day.
//   - cache.go and refresh.go save reads, of documents and at Stripe. metrics.go is for operators.
package main

import (
	"context"
	"errors"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/service"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
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
	// SweepPeriod is how often one of the service's processes settles the payments that are not settled yet.
	SweepPeriod time.Duration `env:"SWEEP_PERIOD" envDefault:"30s" validate:"min=1s,max=24h"`
	// Attempts is how many cards may be declined for an order, and AttemptsPerHour how many of a user within an hour;
	// 0 is no limit.
	Attempts        int `env:"PAYMENT_ATTEMPTS" envDefault:"5" validate:"min=0,max=1000"`
	AttemptsPerHour int `env:"PAYMENT_ATTEMPTS_PER_HOUR" envDefault:"10" validate:"min=0,max=1000"`
}

// sandboxKey is the sandbox's secret key. It is not secret.
const sandboxKey = "sk_test_sandbox"

// stripeRetries is how often a request to Stripe is repeated whose connection failed.
const stripeRetries = 2

// processor is the secret key and the URL of Stripe (""), or of the sandbox.
func (c *config) processor() (key, url string, err error) {
	switch {
	case c.StripeKey != "":
		return c.StripeKey, "", nil
	case c.SandboxURL != "":
		return sandboxKey, c.SandboxURL, nil
	}
	return "", "", errors.New("no card processor is configured: set STRIPE_SECRET_KEY to use Stripe, or STRIPE_SANDBOX_URL to use the sandbox (`make run` starts one)")
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
		origin, err := readOrigin(ctx, documents)
		if err != nil {
			return err
		}
		client := stripe.New(stripe.Options{Key: key, URL: url, Timeout: cfg.StripeTimeout, Origin: origin, Clock: clock.System, Log: s.Log, Retries: stripeRetries})
		limits := domain.Limits{PerOrder: cfg.Attempts, PerHour: cfg.AttemptsPerHour}
		payments := newStore(documents, client, limits, clock.System, s.Log)
		payments.metrics = newMetrics(s.Metrics)
		(&api{store: payments, webhookSecret: cfg.WebhookSecret}).register(s.Public, identity.RequireUser(verifier))
		(&subscriptions{store: payments}).register(s.Events)
		s.Go("queue", payments.queue.run)
		sweep := newSweep(payments, cfg.SweepPeriod, s.Log)
		s.Go("sweep", sweep.run)
		s.Job("sweep", cfg.SweepPeriod, sweep.fire)
		reconcile.Start(s, documents, cfg.Settings, payments.comparison())
		return nil
	})
}
