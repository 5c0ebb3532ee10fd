package identity

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authServer answers as auth would.
func authServer(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server.URL
}

func newAuth(t *testing.T, urls ...string) *Auth {
	t.Helper()
	auth, err := NewAuth(AuthConfig{AuthURLs: urls})
	require.NoError(t, err)
	t.Cleanup(auth.client.CloseIdleConnections)
	return auth
}

func serveKeys(set KeySet) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/jwks.json" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(set)
	}
}

func TestAuth_FetchesTheKeySet(t *testing.T) {
	set := newIssuer(t).KeySet()

	got, err := newAuth(t, authServer(t, serveKeys(set))+"/").Keys(t.Context())

	require.NoError(t, err)
	require.Equal(t, set, got)
}

func TestAuth_AsksEachAddressInTurnAndStaysWithTheOneThatAnswers(t *testing.T) {
	set := newIssuer(t).KeySet()
	failed := 0
	broken := authServer(t, func(w http.ResponseWriter, _ *http.Request) { failed++; w.WriteHeader(500) })
	auth := newAuth(t, broken, "http://127.0.0.1:1", authServer(t, serveKeys(set)))

	for range 3 {
		got, err := auth.Keys(t.Context())
		require.NoError(t, err)
		require.Equal(t, set, got)
	}

	require.Equal(t, 1, failed)
}

func TestAuth_RefusesWhatIsNoAnswerOfAuth(t *testing.T) {
	elsewhere := authServer(t, serveKeys(newIssuer(t).KeySet()))
	for name, answer := range map[string]http.HandlerFunc{
		"a redirect":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere+r.URL.Path, 302) },
		"not found":     http.NotFound,
		"not JSON":      func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"without end":   func(w http.ResponseWriter, _ *http.Request) { endless(w) },
		"broken off":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"another shape": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":1}`)) },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newAuth(t, authServer(t, answer)).Keys(t.Context())
			require.Error(t, err)
		})
	}
}

func endless(w http.ResponseWriter) {
	chunk := []byte(strings.Repeat(" ", 1<<20))
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestAuth_DoesNotWaitLongForAnAddressThatIsSilent(t *testing.T) {
	silent := authServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	set := newIssuer(t).KeySet()
	began := time.Now()

	got, err := newAuth(t, silent, authServer(t, serveKeys(set))).Keys(t.Context())

	require.NoError(t, err)
	require.Equal(t, set, got)
	require.Less(t, time.Since(began), fetchTime)
}

func TestAuth_TrustsThePrivateAuthorityAlone(t *testing.T) {
	set := newIssuer(t).KeySet()
	server := httptest.NewTLSServer(serveKeys(set))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))

	auth, err := NewAuth(AuthConfig{AuthURLs: []string{server.URL}, CAFile: file})
	require.NoError(t, err)
	defer auth.client.CloseIdleConnections()
	got, err := auth.Keys(t.Context())
	require.NoError(t, err)
	require.Equal(t, set, got)

	_, err = newAuth(t, server.URL).Keys(t.Context())
	require.ErrorContains(t, err, "certificate")

	_, err = NewAuth(AuthConfig{CAFile: file + ".none"})
	require.ErrorContains(t, err, "UPSTREAM_CA_FILE")
	require.NoError(t, os.WriteFile(file, []byte("nothing"), 0o600))
	_, err = NewAuth(AuthConfig{CAFile: file})
	require.ErrorContains(t, err, "UPSTREAM_CA_FILE")
}
