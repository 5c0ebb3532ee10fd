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
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// A replica that does not respond gets no new requests after about healthPeriod + healthTimeout.
	healthPeriod  = time.Second
	healthTimeout = time.Second

	// maxConnections limits the connections to one replica. A request waits connectionWait for a free one.
	maxConnections = 1024
	connectionWait = 3 * time.Second
	// idleTime is how long an idle connection is kept. It is shorter than the services' own limit.
	idleTime = 30 * time.Second
)

// replica is one process of a service. Its health check and its number of active requests decide whether it gets a request.
type replica struct {
	host   string
	client *fasthttp.HostClient
	down   atomic.Bool
	active atomic.Int64
	// streams are open streams. They do not count as active requests: after a restart a replica has none, and would get all requests.
	streams atomic.Int64
}

func (r *replica) activeRequests() int64 { return r.active.Load() }
func (r *replica) openStreams() int64    { return r.streams.Load() }

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
			MaxIdleConnDuration:      idleTime,
			NoDefaultUserAgentHeader: true,
			DisablePathNormalizing:   true,
			SecureErrorLogMessage:    true,
			// upstream.send decides what may be sent twice. fasthttp would repeat a POST whose connection broke.
			MaxIdemponentCallAttempts: 1,
		},
	}, nil
}

// call sends the request to this replica. After errNotConnected nothing was sent.
func (r *replica) call(req *fasthttp.Request, res *fasthttp.Response) error {
	req.URI().SetHost(r.host)
	err := r.client.Do(req, res)
	if errors.Is(err, errStale) {
		// The service was restarted, so all its other connections are closed, too.
		r.client.CloseIdleConnections()
		err = r.client.Do(req, res)
	}
	return err
}

// ready calls the replica's /readyz. Its error has the replica's explanation.
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
		return fmt.Errorf("the response is %d: %s", res.StatusCode(), bytes.TrimSpace(res.Body()))
	}
	return nil
}

// usualStart is how long a replica may take to start before it is a warning.
const usualStart = 30 * time.Second

// watch checks the replica's health until ctx ends. A replica that was not ready yet may still be starting, together with the
// gateway: that is logged only if it takes long.
func (r *replica) watch(ctx context.Context, log *slog.Logger) {
	began := time.Now()
	var logged, wasReady bool // logged: the log has that it is not ready
	tick := time.NewTicker(healthPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		checking, cancel := context.WithTimeout(ctx, healthTimeout)
		err := r.ready(checking)
		cancel()
		if ctx.Err() != nil {
			return
		}
		r.down.Store(err != nil)
		switch {
		case err != nil && !logged && (wasReady || time.Since(began) > usualStart):
			log.Warn("a replica is not ready; others get its requests", "replica", r.host, "error", err)
			logged = true
		case err == nil && logged:
			log.Info("a replica is ready again", "replica", r.host)
			logged = false
		}
		wasReady = wasReady || err == nil
	}
}
