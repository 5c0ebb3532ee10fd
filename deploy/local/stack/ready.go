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
)

// A process is asked whether it is ready often at first, for most are so in a moment.
const (
	firstPoll = 20 * time.Millisecond
	lastPoll  = 200 * time.Millisecond
)

var errNotReady = errors.New("not ready")

// WaitReady waits until the named processes are ready; without names, all of them. If ctx ends first, the error
// names what is not up, and why, with its last lines; if a process dies meanwhile, it is an ExitError.
func (s *Stack) WaitReady(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		names = s.order
	}
	for _, name := range names {
		if s.processes[name] == nil {
			return fmt.Errorf("the stack has no process %q", name)
		}
	}
	// The gateway answers for the services too: asked before they are ready, it would fill its log with them.
	var gateways, others []string
	for _, name := range names {
		if s.plan.app(name).ID == gateway {
			gateways = append(gateways, name)
		} else {
			others = append(others, name)
		}
	}
	if err := s.waitReady(ctx, others); err != nil {
		return err
	}
	return s.waitReady(ctx, gateways)
}

// IsReady waits until a process is ready or ctx ends, and says which. It does not mind the end of other processes.
func (s *Stack) IsReady(ctx context.Context, name string) (ready bool) {
	poll(ctx, func() bool {
		ready = s.processes[name].ready(ctx) == nil
		return ready
	})
	return ready
}

func (s *Stack) waitReady(ctx context.Context, names []string) error {
	var mu sync.Mutex
	waiting := map[string]error{} // what each process lacks; guarded by mu
	for _, name := range names {
		waiting[name] = errNotReady
	}
	err := s.watched(ctx, func(ctx context.Context) error {
		var group sync.WaitGroup
		for _, name := range names {
			group.Go(func() {
				poll(ctx, func() bool {
					err := s.processes[name].ready(ctx)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						delete(waiting, name)
					} else if ctx.Err() == nil {
						waiting[name] = err
					}
					return err == nil
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

// poll calls done until it returns true or ctx ends.
func poll(ctx context.Context, done func() bool) {
	for wait := firstPoll; !done(); wait = min(lastPoll, wait*5/4) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// watched runs wait until it ends or a process dies.
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
