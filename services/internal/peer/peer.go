// Package peer calls another service over HTTP, at its public port. Few features need that, because services exchange events.
package peer

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
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// requestTimeout bounds one request to one address.
	requestTimeout = 2 * time.Second
	// maxBody bounds the body of a response, in bytes.
	maxBody = 32 << 20
)

// Peer is a service that runs as one or several replicas. Its methods may be called in parallel.
type Peer struct {
	name   string
	urls   []string
	client *http.Client
	first  atomic.Uint32 // index of the address that is called first: the last one that responded
}

// Authorities reads the file of UPSTREAM_CA_FILE: certificates, in PEM, of a private authority for https between services. Without a
// file it returns nil, which stands for the system's authorities.
func Authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read UPSTREAM_CA_FILE: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("UPSTREAM_CA_FILE: %s holds no certificate in PEM", file)
	}
	return pool, nil
}

// New makes a client of a service. urls are base URLs of its replicas, http or https. caFile is read by
// Authorities.
func New(name string, urls []string, caFile string) (*Peer, error) {
	roots, err := Authorities(caFile)
	if err != nil {
		return nil, err
	}
	p := &Peer{name: name, client: &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: requestTimeout}).DialContext,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: 8,
			// Shorter than the services keep connections.
			IdleConnTimeout: 5 * time.Second,
		},
		// A service never redirects, so a redirect does not come from the service.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, url := range urls {
		p.urls = append(p.urls, strings.TrimRight(url, "/"))
	}
	return p, nil
}

// Response is a service's response. Body is nil if Status is not 200.
type Response struct {
	Status int
	ETag   string
	Body   []byte
}

// Decode decodes the body, which is JSON.
func (a Response) Decode(into any) error {
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("decode the response: %w", err)
	}
	return nil
}

// Get calls one address after the other until one responds with status 200 or with one of those in also. The error has the errors
// of all addresses.
func (p *Peer) Get(ctx context.Context, path string, header http.Header, also ...int) (Response, error) {
	first := int(p.first.Load())
	var failures []error
	for i := range p.urls {
		n := (first + i) % len(p.urls)
		response, err := p.getFrom(ctx, p.urls[n]+path, header, also)
		if err == nil {
			p.first.Store(uint32(n))
			return response, nil
		}
		if failures = append(failures, err); ctx.Err() != nil {
			break
		}
	}
	return Response{}, fmt.Errorf("call %s: %w", p.name, errors.Join(failures...))
}

func (p *Peer) getFrom(ctx context.Context, url string, header http.Header, also []int) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Response{}, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Accept", "application/json")
	got, err := p.client.Do(request)
	if err != nil {
		return Response{}, err
	}
	defer got.Body.Close()
	response := Response{Status: got.StatusCode, ETag: got.Header.Get("ETag")}
	switch {
	case slices.Contains(also, response.Status):
		return response, nil
	case response.Status != http.StatusOK:
		return Response{}, fmt.Errorf("GET %s: status %d", url, response.Status)
	}
	response.Body, err = io.ReadAll(io.LimitReader(got.Body, maxBody+1))
	switch {
	case err != nil:
		return Response{}, fmt.Errorf("GET %s: %w", url, err)
	case len(response.Body) > maxBody:
		return Response{}, fmt.Errorf("GET %s: the response is longer than %d bytes", url, maxBody)
	}
	return response, nil
}

// Close closes the connections that are not in use.
func (p *Peer) Close() { p.client.CloseIdleConnections() }
