package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe/stripetest"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	noon  = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
)

// fakeStripe is the sandbox, with what buyers, banks and operators do at Stripe.
type fakeStripe struct{ *stripetest.Server }

func liveOrder() domain.Order {
	return domain.Order{Schema: domain.OrderSchema, ID: "order-1", UserID: "buyer-1", Status: domain.OrderCreated, ExpiresAt: noon.Add(15 * time.Minute), Amount: 2500, Currency: "usd", Version: 1}
}

// requireProblem finds the problem in err.
func requireProblem(t *testing.T, err error, kind problem.Kind) *problem.Error {
	t.Helper()
	p, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "not a problem: %v", err)
	require.Equal(t, kind, p.Kind, err)
	return p
}

// get reads JSON from a handler.
func get[T any](t *testing.T, from http.Handler, path string) T {
	t.Helper()
	w := httptest.NewRecorder()
	from.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	require.Equal(t, 200, w.Code, w.Body.String())
	var value T
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &value))
	return value
}
