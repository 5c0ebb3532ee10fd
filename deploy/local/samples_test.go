package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/samples"
)

// showsAt serves a list of shows, and refuses everything else.
func showsAt(t *testing.T, shows *string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/api/shows" && r.Header.Get("Authorization") == "" {
			_, _ = io.WriteString(w, *shows)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"status":403,"errors":[{"code":"closed"}]}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestSampleProgramme_OnlyIfThereAreNoShows(t *testing.T) {
	shows := `[{"id":"1","name":"Hamlet"}]`
	file := filepath.Join(t.TempDir(), "samples")
	url := showsAt(t, &shows)
	p, err := newSampleProgramme()
	require.NoError(t, err)

	require.Empty(t, p.begin(t.Context(), url, file))
	require.Empty(t, p.fill(t.Context()))
	shows = `[]` // if the owner deletes all later, no programme comes either
	require.Empty(t, p.begin(t.Context(), url, file))
	require.Empty(t, p.fill(t.Context()))
}

func TestSampleProgramme_TheNextStartContinuesWhatHasBegun(t *testing.T) {
	shows := `[]`
	file := filepath.Join(t.TempDir(), "samples")
	url := showsAt(t, &shows)
	p, err := newSampleProgramme()
	require.NoError(t, err)

	require.Contains(t, p.begin(t.Context(), url, file), samples.Email+" / "+samples.Password+", which is being made")
	require.Contains(t, p.fill(t.Context()), "could not be made: sign in as organiser@example.com: refused with 403 closed")
	stopped, stop := context.WithCancel(t.Context())
	stop()
	require.Empty(t, p.fill(stopped), "the launcher stops")

	shows = `[{"id":"1","name":"of the programme"}]`
	require.Contains(t, p.begin(t.Context(), url, file), "which is being made")
	p.remember(samplesDone)
	require.Equal(t, "sample programme of organiser@example.com / organiser-password", p.begin(t.Context(), url, file))
	require.Empty(t, p.fill(t.Context()), "it is made once")
}

func TestSampleProgramme_OffMakesNone(t *testing.T) {
	shows := `[]`
	file := filepath.Join(t.TempDir(), "samples")
	t.Setenv("SAMPLES", "off")
	p, err := newSampleProgramme()
	require.NoError(t, err)
	require.Empty(t, p.begin(t.Context(), showsAt(t, &shows), file))
	require.Empty(t, p.fill(t.Context()))
	require.NoFileExists(t, file)

	t.Setenv("SAMPLES", "maybe")
	_, err = newSampleProgramme()
	require.ErrorContains(t, err, `SAMPLES="maybe": it is on or off`)
}

func TestMakeSamples_AsksForAPasswordElsewhere(t *testing.T) {
	t.Setenv("SAMPLES_PASSWORD", "")
	require.ErrorContains(t, makeSamples(t.Context(), []string{"-url", "https://tickets.example"}), "SAMPLES_PASSWORD")
	require.ErrorContains(t, makeSamples(t.Context(), []string{"-rate", "0"}), "at least 1")
	shows := `[{"id":"1"}]`
	require.ErrorContains(t, makeSamples(t.Context(), []string{"-url", showsAt(t, &shows)}), "sign in as organiser@example.com")
}
