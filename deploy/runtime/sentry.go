package main

import (
	"errors"
	"fmt"
	"os"

	sentry "github.com/dapr/dapr/cmd/sentry/app"
	"github.com/dapr/dapr/cmd/sentry/options"
	"github.com/dapr/dapr/pkg/modes"
	sentryv1 "github.com/dapr/dapr/pkg/proto/sentry/v1"
	"github.com/dapr/dapr/pkg/sentry/config"
)

// runSentry is Dapr's certificate authority. Outside Kubernetes Dapr's own one signs any identity for any program, unless its
// configuration has a token validator. This one does not start without a validator.
func runSentry() error {
	opts := options.New(os.Args[1:])
	if opts.Mode == string(modes.StandaloneMode) {
		conf, err := config.FromConfigName(opts.ConfigName, opts.Mode)
		if err != nil {
			return fmt.Errorf("read its configuration: %w", err)
		}
		if _, all := conf.Validators[sentryv1.SignCertificateRequest_INSECURE]; all || len(conf.Validators) == 0 {
			return errors.New("without a token validator it would sign any identity for any program: --config must name a Configuration with spec.mtls.tokenValidators (`runtime identities` makes one)")
		}
	}
	sentry.Run()
	return nil
}
