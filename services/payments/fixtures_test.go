package main

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
	"boxoffice/services/payments/stripe/stripetest"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	noon  = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
)

// fakeStripe is the sandbox, with what buyers, banks and operators do at Stripe.
type fakeStripe struct{ *stripetest.Server }

// requireProblem finds the problem in err.
func requireProblem(t *testing.T, err error, kind problem.Kind) *problem.Error {
	t.Helper()
	p, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "not a problem: %v", err)
	require.Equal(t, kind, p.Kind, err)
	return p
}
