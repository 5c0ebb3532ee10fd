package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// probePeriod is the time between two looks at a replica's health, probeTime how long one may take: a replica
	// that hangs gets no new requests after about two seconds.
	probePeriod = time.Second
	probeTime   = time.Second
)

// replica is one process of a service. It gets requests while its health check passes; how many are under way
// there decides between it and the others.
type replica struct {
	host   string
	client *fasthttp.HostClient
	down   atomic.Bool
	busy   atomic.Int64
}

// newReplica takes an address of the form http://host:port or https://host:port.
func newReplica(address string, roots *x509.CertPool) (*replica, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "" || strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" {
		return nil, fmt.Errorf("%q is not of the form http://host:port or https://host:port", address)
	}
	port := "80"
	var secure *tls.Config
	if parsed.Scheme == "https" {
		port = "443"
		secure = &tls.Config{RootCAs: roots, ServerName: parsed.Hostname(), MinVersion: tls.VersionTLS12}
	}
	dialAddress := parsed.Host
	if parsed.Port() == "" {
		dialAddress = net.JoinHostPort(parsed.Hostname(), port)
	}
	return &replica{
		host: parsed.Host,
		client: &fasthttp.HostClient{
			Addr:                     dialAddress,
			Dial:                     func(address string) (net.Conn, error) { return dial(address, secure) },
			MaxConns:                 maxConnections,
			MaxConnWaitTimeout:       connectionWait,
			MaxIdleConnDuration:      keptConnection,
			NoDefaultUserAgentHeader: true,
			DisablePathNormalizing:   true,
			SecureErrorLogMessage:    true,
			// What may be sent twice is decided in send. fasthttp would repeat a POST whose connection broke.
			MaxIdemponentCallAttempts: 1,
		},
	}, nil
}

// call makes the request to this replica. After errUnconnected nothing was sent.
func (r *replica) call(req *fasthttp.Request, res *fasthttp.Response) error {
	req.URI().SetHost(r.host)
	err := r.client.Do(req, res)
	if errors.Is(err, errStale) {
		// The service was restarted; all connections of that time are as dead as this one.
		r.client.CloseIdleConnections()
		err = r.client.Do(req, res)
	}
	return err
}

// ready asks the replica whether it is ready, and returns its own words if it is not.
func (r *replica) ready(ctx context.Context) error {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI("http://" + r.host + "/readyz")
	if deadline, ok := ctx.Deadline(); ok {
		req.SetTimeout(time.Until(deadline))
	}
	if err := r.call(req, res); err != nil {
		return err
	}
	if res.StatusCode() != http.StatusOK {
		return fmt.Errorf("it answers %d: %s", res.StatusCode(), bytes.TrimSpace(res.Body()))
	}
	return nil
}

// watch looks at the replica's health until ctx ends.
func (r *replica) watch(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(probePeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		probing, cancel := context.WithTimeout(ctx, probeTime)
		err := r.ready(probing)
		cancel()
		if ctx.Err() != nil {
			return
		}
		switch was := r.down.Swap(err != nil); {
		case err != nil && !was:
			log.Warn("a replica is not ready; others get its requests", "replica", r.host, "error", err)
		case err == nil && was:
			log.Info("a replica is ready again", "replica", r.host)
		}
	}
}

// pick chooses the replica with the fewest requests under way: if there is one, among those that were not tried and
// are well. One that is not well is better than none, for a health check may be wrong, and what it answers itself
// says more than what can be said here.
func (u *upstream) pick(tried []*replica) *replica {
	var chosen *replica
	from := int(u.turn.Add(1)) // so that replicas with equal work take turns
	for i := range u.replicas {
		r := u.replicas[(from+i)%len(u.replicas)]
		if slices.Contains(tried, r) && len(tried) < len(u.replicas) {
			continue
		}
		if chosen == nil || chosen.down.Load() && !r.down.Load() || chosen.down.Load() == r.down.Load() && r.busy.Load() < chosen.busy.Load() {
			chosen = r
		}
	}
	return chosen
}

// watch looks at the health of the replicas until ctx ends. Where there is but one, there is no choice to make.
func (u *upstream) watch(ctx context.Context, log *slog.Logger) {
	if len(u.replicas) == 1 {
		return
	}
	var watching sync.WaitGroup
	for _, r := range u.replicas {
		watching.Go(func() { r.watch(ctx, log.With("upstream", u.name)) })
	}
	watching.Wait()
}

// ready says whether one of the replicas is ready at least; if none is, why not.
func (u *upstream) ready(ctx context.Context) error {
	failed := make([]error, len(u.replicas))
	var asking sync.WaitGroup
	for i, r := range u.replicas {
		asking.Go(func() { failed[i] = r.ready(ctx) })
	}
	asking.Wait()
	for _, err := range failed {
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("call %s: %w", u.name, errors.Join(failed...))
}
