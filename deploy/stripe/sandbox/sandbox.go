// Package sandbox is a stand-in for Stripe on a developer's machine: a small server with state that speaks
// the part of Stripe's HTTP API that the box office uses, so that the real stripe-go client runs unchanged
// against it. It knows Stripe's documented test cards and tokens, keeps Stripe's rules for idempotency keys
// and for the life of a PaymentIntent, and sends signed webhooks until they are accepted.
//
// What it answers follows Stripe's API reference for version 2023-10-16 and the page "Testing"
// (https://docs.stripe.com/api, https://docs.stripe.com/testing). Under /sandbox/ it has what Stripe has not:
// passing or failing a 3-D Secure challenge in the customer's place, and a ledger of all money for checkers. At
// /3d_secure/ is the page where customers authenticate themselves, as at their bank.
//
// Read api.go for how a request is served, intents.go for the life of a PaymentIntent, cards.go for the cards.
package sandbox

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Options are where the sandbox listens, what it keeps, and where its webhooks go.
type Options struct {
	// Addr is the address to listen on, for example "127.0.0.1:12112". Only Run uses it.
	Addr string
	// File holds the state between runs, a JSON document a line. Empty: nothing outlives the process.
	File string
	// SecretKey is the one API key that is accepted. Empty: any key that begins with sk_test_.
	SecretKey string
	// PublicURL is where browsers reach the sandbox, for the page of 3-D Secure. Empty: at the host that the API was called by.
	PublicURL string
	// WebhookURL is where events are sent. Empty: there are no webhooks.
	WebhookURL string
	// WebhookSecret signs the webhooks; the receiver checks with the same secret.
	WebhookSecret string
	// Faults are in force from the start; see Rule.
	Faults []Rule
	// Log gets a line for each thing that the sandbox does. Nil: slog.Default.
	Log *slog.Logger

	// retryAfter is the wait before the second try of a webhook; it doubles with each further one. Tests
	// shorten it.
	retryAfter time.Duration
}

// shutdownTime bounds how long requests that are under way may take once the sandbox is to stop.
const shutdownTime = 3 * time.Second

// Run serves until ctx ends; then it finishes the requests under way and returns nil. Webhooks that were not
// accepted yet are sent again at the next start.
func Run(ctx context.Context, opts Options) error {
	handler, err := New(opts)
	if err != nil {
		return err
	}
	defer handler.Close()

	server := &http.Server{Addr: opts.Addr, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	handler.log.Info("stripe sandbox listens", "addr", opts.Addr, "webhooks", opts.WebhookURL)

	select {
	case err := <-failed:
		return fmt.Errorf("stripe sandbox on %s: %w", opts.Addr, err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop the stripe sandbox: %w", err)
	}
	return nil
}

// Command is the sandbox as a subcommand: it takes the flags -addr, -file, -secret-key, -public-url, -webhook-url,
// -webhook-secret and -faults and runs until ctx ends or the process gets a signal. The webhook secret may also come
// from STRIPE_WEBHOOK_SECRET, which keeps it out of the list of processes.
func Command(ctx context.Context, args []string) error {
	var opts Options
	flags := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	flags.StringVar(&opts.Addr, "addr", "127.0.0.1:12112", "address to listen on")
	flags.StringVar(&opts.File, "file", "", "file that keeps the state between runs (default: none is kept)")
	flags.StringVar(&opts.SecretKey, "secret-key", "", "the one API key to accept (default: any sk_test_ key)")
	flags.StringVar(&opts.PublicURL, "public-url", os.Getenv("STRIPE_SANDBOX_PUBLIC_URL"), "where browsers reach the sandbox, for the page of 3-D Secure (default: $STRIPE_SANDBOX_PUBLIC_URL, or else the host that the API is called by)")
	flags.StringVar(&opts.WebhookURL, "webhook-url", "", "where to send webhooks (default: nowhere)")
	flags.StringVar(&opts.WebhookSecret, "webhook-secret", os.Getenv("STRIPE_WEBHOOK_SECRET"), "secret that signs webhooks (default: $STRIPE_WEBHOOK_SECRET)")
	rules := flags.String("faults", os.Getenv("STRIPE_SANDBOX_FAULTS"), "JSON array of the faults in force from the start (default: $STRIPE_SANDBOX_FAULTS)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("sandbox: unexpected argument %q", flags.Arg(0))
	}
	if opts.PublicURL != "" && !isWebURL(opts.PublicURL) {
		return fmt.Errorf("sandbox: the public URL must begin with http:// or https://, not %q", opts.PublicURL)
	}
	var err error
	if opts.Faults, err = parseRules(*rules); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, opts)
}
