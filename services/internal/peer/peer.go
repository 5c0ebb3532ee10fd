// Package peer asks another service over HTTP, at its public port. Few things need that: services learn of each other by
// events.
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
	// maxBody bounds what is read of an response, in bytes.
	maxBody = 32 << 20
)

// Peer is a service that runs as one or several replicas. Its methods may be called in parallel.
type Peer struct {
	name   string
	urls   []string
	client *http.Client
	first  atomic.Uint32 // index of the address that is asked first: the last one that answered
}

// New makes a client of a service. The addresses are base URLs of its replicas, http or https. caFile holds the certificates,
// in PEM, of a private authority for https; "" trusts the system's. It fails if the file cannot be read.
func New(name string, urls []string, caFile string) (*Peer, error) {
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
	p := &Peer{name: name, client: &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: requestTimeout}).DialContext,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: 8,
			// Shorter than the services keep theirs.
			IdleConnTimeout: 5 * time.Second,
		},
		// A service never redirects; whoever does is not the service.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, url := range urls {
		p.urls = append(p.urls, strings.TrimRight(url, "/"))
	}
	return p, nil
}

// Response is what a service answered. Body is nil if Status is not 200.
type Response struct {
	Status int
	ETag   string
	Body   []byte
}

// Decode reads the body, JSON.
func (a Response) Decode(into any) error {
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("read the response: %w", err)
	}
	return nil
}

// Get asks one address after the other until one answers with status 200 or one of those in also. The error names what
// each of them said.
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
	return Response{}, fmt.Errorf("ask %s: %w", p.name, errors.Join(failures...))
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

// Close gives up the connections that are not in use.
func (p *Peer) Close() { p.client.CloseIdleConnections() }
