package peer

import (
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

func serve(t *testing.T, response http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(response)
	t.Cleanup(server.Close)
	return server.URL
}

func newPeer(t *testing.T, urls ...string) *Peer {
	t.Helper()
	p, err := New("auth", urls, "")
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func respond(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+r.URL.Path+`"`)
		_, _ = w.Write([]byte(text))
	}
}

func TestGet_ReadsTheAnswer(t *testing.T) {
	response, err := newPeer(t, serve(t, respond(`{"n":7}`))+"/").Get(t.Context(), "/a", nil)

	require.NoError(t, err)
	require.Equal(t, Response{Status: 200, ETag: `"/a"`, Body: []byte(`{"n":7}`)}, response)
	var read struct{ N int }
	require.NoError(t, response.Decode(&read))
	require.Equal(t, 7, read.N)
}

func TestGet_SendsTheHeader(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Header.Get("Authorization"))) })

	response, err := newPeer(t, url).Get(t.Context(), "/", http.Header{"Authorization": {"Bearer x"}})

	require.NoError(t, err)
	require.Equal(t, "Bearer x", string(response.Body))
}

func TestGet_AsksEachAddressInTurnAndStaysWithTheOneThatAnswers(t *testing.T) {
	failed := 0
	broken := serve(t, func(w http.ResponseWriter, _ *http.Request) { failed++; w.WriteHeader(500) })
	p := newPeer(t, broken, "http://127.0.0.1:1", serve(t, respond("here")))

	for range 3 {
		response, err := p.Get(t.Context(), "/", nil)
		require.NoError(t, err)
		require.Equal(t, "here", string(response.Body))
	}

	require.Equal(t, 1, failed)
}

func TestGet_RefusesWhatIsNoAnswer(t *testing.T) {
	elsewhere := serve(t, respond("secret"))
	for name, response := range map[string]http.HandlerFunc{
		"a redirect":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, http.StatusFound) },
		"not found":   http.NotFound,
		"broken off":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"without end": endless,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newPeer(t, serve(t, response)).Get(t.Context(), "/", nil)
			require.ErrorContains(t, err, "call auth")
		})
	}
}

func endless(w http.ResponseWriter, _ *http.Request) {
	chunk := []byte(strings.Repeat(" ", 1<<20))
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestGet_ReturnsTheStatusesThatAreAskedFor(t *testing.T) {
	response, err := newPeer(t, serve(t, http.NotFound)).Get(t.Context(), "/", nil, 404, 304)

	require.NoError(t, err)
	require.Equal(t, Response{Status: 404}, response)
}

func TestGet_DoesNotWaitLongForAnAddressThatIsSilent(t *testing.T) {
	silent := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	began := time.Now()

	response, err := newPeer(t, silent, serve(t, respond("here"))).Get(t.Context(), "/", nil)

	require.NoError(t, err)
	require.Equal(t, "here", string(response.Body))
	require.Less(t, time.Since(began), 2*requestTimeout)
}

func TestNew_TrustsThePrivateAuthorityAlone(t *testing.T) {
	server := httptest.NewTLSServer(respond("here"))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))

	trusting, err := New("auth", []string{server.URL}, file)
	require.NoError(t, err)
	defer trusting.Close()
	_, err = trusting.Get(t.Context(), "/", nil)
	require.NoError(t, err)

	_, err = newPeer(t, server.URL).Get(t.Context(), "/", nil)
	require.ErrorContains(t, err, "certificate")

	_, err = New("auth", nil, file+".none")
	require.ErrorContains(t, err, "UPSTREAM_CA_FILE")
	require.NoError(t, os.WriteFile(file, []byte("nothing"), 0o600))
	_, err = New("auth", nil, file)
	require.ErrorContains(t, err, "UPSTREAM_CA_FILE")
}
