package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// The pauses between two probes of a process are short at first, because most are ready in a moment.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 200 * time.Millisecond
)

var errNotReady = errors.New("not ready")

// WaitReady waits until the named processes are ready; without names, all of them. If ctx ends first, the error names the processes
// that are not ready, with the reasons and their last lines. If a process ends meanwhile, the error is an ExitError.
func (s *Stack) WaitReady(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		names = s.order
	}
	for _, name := range names {
		if s.processes[name] == nil {
			return fmt.Errorf("the stack has no process %q", name)
		}
	}
	// The gateway is ready when the services are. A probe before that would only fill its log.
	var gateways, others []string
	for _, name := range names {
		if s.plan.app(name).ID == gateway {
			gateways = append(gateways, name)
		} else {
			others = append(others, name)
		}
	}
	if err := s.waitForEach(ctx, others); err != nil {
		return err
	}
	return s.waitForEach(ctx, gateways)
}

// IsReady waits until a process is ready or ctx ends. It reports whether the process is ready. Other processes may end meanwhile.
func (s *Stack) IsReady(ctx context.Context, name string) bool {
	return poll(ctx, func() error { return s.processes[name].ready(ctx) }) == nil
}

// waitForEach waits until all of the named processes are ready.
func (s *Stack) waitForEach(ctx context.Context, names []string) error {
	var mu sync.Mutex
	waiting := map[string]error{} // the reason of each process that is not ready; guarded by mu
	for _, name := range names {
		waiting[name] = errNotReady
	}
	err := s.watched(ctx, func(ctx context.Context) error {
		var group sync.WaitGroup
		for _, name := range names {
			group.Go(func() {
				_ = poll(ctx, func() error {
					err := s.processes[name].ready(ctx)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						delete(waiting, name)
					} else if ctx.Err() == nil {
						waiting[name] = err
					}
					return err
				})
			})
		}
		group.Wait()
		return context.Cause(ctx)
	})
	if len(waiting) == 0 {
		return err
	}
	if _, died := errors.AsType[*ExitError](err); died {
		return err
	}
	missing := slices.Sorted(maps.Keys(waiting))
	reasons := []error{fmt.Errorf("not ready: %s: %w", strings.Join(missing, ", "), err)}
	for _, name := range missing {
		reasons = append(reasons, fmt.Errorf("  %s: %w%s", name, waiting[name], quote(s.processes[name].log.lastLines(tailShown))))
	}
	return errors.Join(reasons...)
}

// poll calls try until it succeeds. The error is the cause of the end of ctx.
func poll(ctx context.Context, try func() error) error {
	pauses := &backoff.ExponentialBackOff{InitialInterval: firstPause, Multiplier: 1.25, MaxInterval: lastPause}
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, try() }, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	return err
}

// watched runs wait until it returns or a process ends by itself.
func (s *Stack) watched(ctx context.Context, wait func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- wait(ctx) }()
	select {
	case err := <-done:
		return err
	case failure := <-s.failures:
		cancel(failure)
		<-done
		return failure
	}
}

// readiness is the test that a program is ready.
func (s *Stack) readiness(p program) func(context.Context) error {
	switch {
	case p.name == Postgres:
		return s.postgresReady
	case p.name == Redis:
		return s.redisReady
	case p.ready.path == "":
		return tcpReady(p.ready.port)
	default:
		return httpReady(p.ready.port, p.ready.path)
	}
}

func tcpReady(port int) func(context.Context) error {
	return func(ctx context.Context) error {
		dialer := net.Dialer{Timeout: time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", local(port))
		if err == nil {
			err = conn.Close()
		}
		return err
	}
}

func httpReady(port int, path string) func(context.Context) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+local(port)+path, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode/100 != 2 {
			body, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
			return fmt.Errorf("%s answers %s: %s", path, response.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}
