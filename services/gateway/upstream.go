package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// retryAfter is what clients are advised when a service does not respond.
const retryAfter = 2 * time.Second

// upstream is one service behind the gateway.
type upstream struct {
	name     string
	timeout  time.Duration
	trusted  []netip.Prefix
	replicas []*replica
	turn     atomic.Uint32
}

// newUpstream takes the addresses of a service's replicas: http://host:port or https://host:port. roots are the trusted
// authorities for https; nil: the system's.
func newUpstream(name string, addresses []string, roots *x509.CertPool, timeout time.Duration, trusted []netip.Prefix) (*upstream, error) {
	u := &upstream{name: name, timeout: timeout, trusted: trusted}
	for _, address := range addresses {
		r, err := newReplica(address, roots)
		if err != nil {
			return nil, fmt.Errorf("address of %s: %w", name, err)
		}
		u.replicas = append(u.replicas, r)
	}
	return u, nil
}

// send calls a replica, and a second one if the first fails. There is a second call only if it is safe: the first request was not
// sent, or it only reads.
func (u *upstream) send(req *fasthttp.Request, res *fasthttp.Response) error {
	// fasthttp would write the client's HTTP/1.0 to the service. The field is restored because it also decides the response's form.
	if !req.Header.IsHTTP11() {
		protocol := string(req.Header.Protocol())
		req.Header.SetProtocol("HTTP/1.1")
		defer req.Header.SetProtocol(protocol)
	}
	reads := req.Header.IsGet() || req.Header.IsHead()
	var tried []*replica
	for {
		r := u.pick(tried, (*replica).activeRequests)
		r.active.Add(1)
		err := r.call(req, res)
		r.active.Add(-1)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errNotConnected):
			r.down.Store(true) // until its next health check passes
		case !reads || isTimeout(err):
			return err
		}
		if tried = append(tried, r); len(tried) >= max(2, len(u.replicas)) {
			return err
		}
	}
}

// pick chooses the replica with the least load. It prefers replicas that were not tried and are not down. If all are
// down it still chooses one: a health check may be wrong, and the replica's own response explains more than the gateway can.
func (u *upstream) pick(tried []*replica, load func(*replica) int64) *replica {
	var chosen *replica
	from := int(u.turn.Add(1)) // replicas with equal work take turns
	for i := range u.replicas {
		r := u.replicas[(from+i)%len(u.replicas)]
		if slices.Contains(tried, r) && len(tried) < len(u.replicas) {
			continue
		}
		if chosen == nil || chosen.down.Load() && !r.down.Load() || chosen.down.Load() == r.down.Load() && load(r) < load(chosen) {
			chosen = r
		}
	}
	return chosen
}

// watch checks the replicas' health until ctx ends. A single replica needs no check, because there is no other to choose.
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

// ready returns nil if at least one replica is ready, and otherwise why none is.
func (u *upstream) ready(ctx context.Context) error {
	failures := make([]error, len(u.replicas))
	var checking sync.WaitGroup
	for i, r := range u.replicas {
		checking.Go(func() { failures[i] = r.ready(ctx) })
	}
	checking.Wait()
	if slices.Contains(failures, nil) {
		return nil
	}
	return fmt.Errorf("call %s: %w", u.name, errors.Join(failures...))
}

// unavailable turns a failed call with a method into the problem that the client gets.
func (u *upstream) unavailable(method string, err error) error {
	cause := fmt.Errorf("call %s: %w", u.name, err)
	var p *problem.Error
	switch {
	case wasNotSent(err):
		p = problem.New(problem.Unavailable, "upstream_unavailable", "The %s service does not respond at the moment. Nothing was changed: send the same request again.", u.name)
	case isTimeout(err):
		p = problem.New(problem.Unavailable, "upstream_timeout", "The %s service did not respond in time. %s", u.name, rest.AfterTimeout(method))
	case method == fasthttp.MethodGet || method == fasthttp.MethodHead:
		p = problem.New(problem.Unavailable, "upstream_unavailable", "The %s service does not respond at the moment. Send the request again.", u.name)
	default:
		p = problem.New(problem.Unavailable, "outcome_unknown", "The connection to the %s service broke before it responded. %s", u.name, rest.AfterTimeout(method))
	}
	return p.WithRetryAfter(retryAfter).Because(cause)
}

// wasNotSent reports whether it is certain that a failed call has not reached the service.
func wasNotSent(err error) bool {
	return errors.Is(err, errNotConnected) || errors.Is(err, errStale) || errors.Is(err, fasthttp.ErrNoFreeConns)
}

func isTimeout(err error) bool {
	timed, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timed.Timeout()
}
