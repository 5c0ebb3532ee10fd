package service

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProbe_ReportsTheResponse(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			http.Error(w, "the store is away", http.StatusServiceUnavailable)
		}
	}))
	at, err := url.Parse(server.URL)
	require.NoError(t, err)

	require.NoError(t, probe(t.Context(), "healthz", at.Port()))
	require.ErrorContains(t, probe(t.Context(), "readyz", at.Port()), "503 Service Unavailable: the store is away")

	server.Close()
	require.ErrorContains(t, probe(t.Context(), "healthz", at.Port()), "refused")
	require.ErrorContains(t, probe(t.Context(), "healthz", ""), "PORT is not set")
}

func TestIsProbe_IsFalseForOtherCommands(t *testing.T) {
	require.True(t, isProbe([]string{"/service", "healthz"}))
	require.True(t, isProbe([]string{"/service", "readyz"}))
	require.False(t, isProbe([]string{"/service"}))
	require.False(t, isProbe([]string{"/service", "dead-letters"}))
	require.False(t, isProbe([]string{"/service", "healthz", "more"}))
}
