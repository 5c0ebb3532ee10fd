package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// askTime bounds one request to one address of auth.
	askTime = 2 * time.Second
	// longestAnswer bounds what is read of an answer, in bytes.
	longestAnswer = 32 << 20
)

// AuthConfig says where auth is. A service that verifies tokens embeds it in its configuration.
type AuthConfig struct {
	// AuthURLs are the base URLs of auth's replicas, of the form http://host:port or https://host:port, separated by
	// commas.
	AuthURLs []string `env:"AUTH_URL" validate:"min=1,dive,http_url"`
	// CAFile holds the certificates, in PEM, of a private authority that signs for https addresses of other services.
	// Empty: the system's authorities.
	CAFile string `env:"UPSTREAM_CA_FILE"`
}

// Auth is the auth service as other services ask it: over HTTP, at its public port.
type Auth struct {
	urls   []string
	client *http.Client
	next   atomic.Uint32 // index of the address that is asked first
}

// NewAuth makes a client of auth. It fails if the authority's file cannot be read.
func NewAuth(cfg AuthConfig) (*Auth, error) {
	client, err := NewClient(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	a := &Auth{client: client}
	for _, url := range cfg.AuthURLs {
		a.urls = append(a.urls, strings.TrimRight(url, "/"))
	}
	return a, nil
}

// NewClient makes an HTTP client for other services. It follows no redirects, uses no proxy, and trusts the authority
// in caFile for https, or the system's if caFile is "".
func NewClient(caFile string) (*http.Client, error) {
	var roots *x509.CertPool
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read UPSTREAM_CA_FILE: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("UPSTREAM_CA_FILE: %s holds no certificate in PEM", caFile)
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: askTime}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   askTime,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   2,
			IdleConnTimeout:       30 * time.Second,
			ResponseHeaderTimeout: askTime,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Keys fetches the key set.
func (a *Auth) Keys(ctx context.Context) (KeySet, error) {
	var set KeySet
	err := a.get(ctx, "/.well-known/jwks.json", &set)
	return set, err
}

// get reads a JSON document from the first address that answers 200. It begins with the one that did so last.
func (a *Auth) get(ctx context.Context, path string, into any) error {
	first := int(a.next.Load())
	var problems []error
	for i := range a.urls {
		n := (first + i) % len(a.urls)
		err := a.getFrom(ctx, a.urls[n]+path, into)
		if err == nil {
			a.next.Store(uint32(n))
			return nil
		}
		if problems = append(problems, err); ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("ask auth: %w", errors.Join(problems...))
}

func (a *Auth) getFrom(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d", url, response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("GET %s: %w", url, err)
	case len(body) > longestAnswer:
		return fmt.Errorf("GET %s: the answer is longer than %d bytes", url, longestAnswer)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}
