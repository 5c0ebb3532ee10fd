package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writeCertificate writes a certificate for localhost that signs for itself, and its key.
func writeCertificate(t *testing.T, certFile, keyFile, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func TestPublicPort_SpeaksTLSWithACertificateThatMayBeReplaced(t *testing.T) {
	folder := t.TempDir()
	certFile, keyFile := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	cfg := &Config{APIToken: "a token of the sidecar", Port: freePort(t), TLSCertFile: certFile, TLSKeyFile: keyFile}
	s := newService("tested", cfg, slog.New(slog.DiscardHandler))
	s.running = t.Context()
	require.ErrorContains(t, s.servePublic(t.Context()), "TLS_CERT_FILE")

	writeCertificate(t, certFile, keyFile, "first")
	require.NoError(t, s.servePublic(t.Context()))
	t.Cleanup(func() { _ = s.Public.ShutdownWithTimeout(time.Second) })
	port := strconv.Itoa(cfg.Port)
	served := func() string {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	require.Equal(t, "first", served())
	t.Setenv("TLS_CERT_FILE", certFile)
	require.NoError(t, probe(t.Context(), "healthz", port), "the health check of an image")
	res, err := http.Get("http://127.0.0.1:" + port + "/healthz")
	if err == nil {
		_ = res.Body.Close()
		require.NotEqual(t, 200, res.StatusCode, "nothing is answered in the clear")
	}

	// The certificate behind the port, as it is after certificateAge.
	c := &certificate{certFile: certFile, keyFile: keyFile, log: s.Log}
	get := func() string {
		c.checked = time.Time{}
		current, err := c.get(nil)
		require.NoError(t, err)
		leaf, err := x509.ParseCertificate(current.Certificate[0])
		require.NoError(t, err)
		return leaf.Subject.CommonName
	}
	require.Equal(t, "first", get())
	writeCertificate(t, certFile, keyFile, "second")
	later := time.Now().Add(time.Second)
	require.NoError(t, os.Chtimes(certFile, later, later))
	require.Equal(t, "second", get())
	require.NoError(t, os.WriteFile(certFile, []byte("half a fi"), 0o600))
	require.Equal(t, "second", get(), "one that cannot be read is not used")
}

func TestReadiness_IsGivenAgainForAWhile(t *testing.T) {
	s := newService("tested", &Config{APIToken: "a token of the sidecar"}, slog.New(slog.DiscardHandler))
	s.running = t.Context()
	close(s.ready)
	var checked atomic.Int32
	s.ReadyCheck("store", func(context.Context) error {
		checked.Add(1)
		return nil
	})
	ask := func() {
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(func() {
				report, ready := s.readiness(t.Context())
				if !ready || report.Checks["store"] != "ok" {
					t.Errorf("%+v", report)
				}
			})
		}
		asking.Wait()
	}
	ask()
	require.EqualValues(t, 20, checked.Load())
	s.ReadyAge = time.Hour
	ask()
	ask()
	require.EqualValues(t, 21, checked.Load(), "who asks at once shares an answer")
	s.checked.at = s.checked.at.Add(-s.ReadyAge)
	ask()
	require.EqualValues(t, 22, checked.Load(), "an old answer is not given again")
}

func TestReadyz_IsAProblemThatNamesWhatIsNotReady(t *testing.T) {
	s := newService("tested", &Config{APIToken: "a token of the sidecar"}, slog.New(slog.DiscardHandler))
	s.running = t.Context()
	var away error
	s.ReadyCheck("store", func(context.Context) error { return away })
	request := func() (*http.Response, map[string]any) {
		res, err := s.Public.Test(httptest.NewRequest("GET", "/readyz", nil))
		require.NoError(t, err)
		body := map[string]any{}
		require.NoError(t, json.NewDecoder(res.Body).Decode(&body))
		return res, body
	}
	requireNotReady := func(reason string, checks map[string]any) {
		t.Helper()
		res, body := request()
		require.Equal(t, 503, res.StatusCode)
		require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
		require.Equal(t, "1", res.Header.Get("Retry-After"))
		require.Equal(t, []any{map[string]any{"message": reason, "code": "not_ready"}}, body["errors"])
		require.Equal(t, checks, body["checks"])
	}

	requireNotReady("This service is starting.", map[string]any{})
	close(s.ready)
	away = errors.New("connection refused")
	requireNotReady("This service is not ready.", map[string]any{"store": "not reachable"})
	away = nil
	res, body := request()
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, map[string]any{"status": "ready", "checks": map[string]any{"store": "ok"}}, body)
}
