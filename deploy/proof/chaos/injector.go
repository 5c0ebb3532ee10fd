package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/overlay"
)

// injector injects faults into the processes of a stack, and restarts processes that end without a fault.
type injector struct {
	stack   *stack.Stack
	sandbox *client.Client
	log     func(format string, args ...any)
	clocks  map[string]*overlay.Clock // by service; the clocks that can be set

	mu       sync.Mutex
	faulty   map[string]bool // processes with a fault now
	injected map[string]int  // faults by kind and role of the process
	died     []string        // processes that ended without a fault, with their last log lines
	jumps    []check.Jump
}

func newInjector(s *stack.Stack, sandbox *client.Client, clocks map[string]*overlay.Clock, log func(string, ...any)) *injector {
	return &injector{stack: s, sandbox: sandbox, log: log, clocks: clocks, faulty: map[string]bool{}, injected: map[string]int{}}
}

// run injects the faults and returns at the end of the last one. When ctx ends, all faults end and no more begin.
func (i *injector) run(ctx context.Context, faults []fault) {
	begin := time.Now()
	var active sync.WaitGroup
	defer active.Wait()
	for _, f := range faults {
		if !sleep(ctx, time.Until(begin.Add(f.at))) {
			return
		}
		if f.kind == overlap {
			active.Go(func() { i.overlap(ctx, f) })
			continue
		}
		if !i.claim(f.target) {
			continue // it has another fault
		}
		i.log("%s", f)
		active.Go(func() {
			defer i.release(f.target)
			i.inject(ctx, f)
		})
	}
}

// sleep reports whether the pause ended before ctx.
func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-time.After(pause):
		return true
	case <-ctx.Done():
		return false
	}
}

// claim marks processes as faulty, or none of them if one already is.
func (i *injector) claim(processes ...string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if slices.ContainsFunc(processes, func(name string) bool { return i.faulty[name] }) {
		return false
	}
	for _, name := range processes {
		i.faulty[name] = true
	}
	return true
}

func (i *injector) release(processes ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, name := range processes {
		delete(i.faulty, name)
	}
}

// count records that a fault was injected.
func (i *injector) count(kind string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.injected[kind]++
}

// overlapWait limits how long an overlap waits until its processes have no other fault.
const overlapWait = 8 * time.Second

var errFaulty = errors.New("a process has another fault")

// overlap makes the steps of a fault, once none of its processes has another fault. At the end all of them run.
func (i *injector) overlap(ctx context.Context, f fault) {
	var processes []string
	for _, s := range f.steps {
		processes = append(processes, s.process)
	}
	slices.Sort(processes)
	processes = slices.Compact(processes)
	if _, err := backoff.Retry(ctx, func() (struct{}, error) {
		if !i.claim(processes...) {
			return struct{}{}, errFaulty
		}
		return struct{}{}, nil
	}, backoff.WithBackOff(backoff.NewConstantBackOff(50*time.Millisecond)), backoff.WithMaxElapsedTime(overlapWait)); err != nil {
		return
	}
	defer i.release(processes...)
	i.log("%s", f)
	i.count(overlap)
	begin := time.Now()
	for _, s := range f.steps {
		if !sleep(ctx, time.Until(begin.Add(s.after))) {
			break // the processes are started below
		}
		i.do(s)
	}
	for _, name := range processes {
		_ = i.stack.Process(name).Resume()
		i.do(step{action: start, process: name})
	}
}

func (i *injector) do(s step) {
	p := i.stack.Process(s.process)
	var err error
	switch s.action {
	case kill:
		_ = p.Kill()
	case freeze:
		_ = p.Pause()
	case resume:
		_ = p.Resume()
	case start:
		err = p.Start()
	}
	if err != nil {
		i.log("%v", err)
	}
}

// inject injects a fault, waits for its length, and ends it.
func (i *injector) inject(ctx context.Context, f fault) {
	p := i.stack.Process(f.target)
	switch f.kind {
	case misbehave:
		i.misbehave(ctx, f)
		return
	case cut:
		restore, err := i.stack.Cut(f.target, f.server)
		if err != nil {
			i.log("%v", err)
			return
		}
		i.last(ctx, f, cut+" "+role(f.target)+" from "+f.server)
		restore(f.broken)
		return
	case fill:
		i.fill(ctx, f)
		return
	case jump:
		i.jump(ctx, f)
		return
	case kill:
		_ = p.Kill()
	case stop:
		_ = p.Stop() // a process that had to be killed makes no difference: the check is about what is left of its work
	case freeze:
		if p.Pause() != nil {
			return // it does not run; restartEnded starts it
		}
	}
	i.last(ctx, f, f.kind+" "+role(f.target))
	if f.kind == freeze {
		_ = p.Resume()
		return
	}
	if err := p.Start(); err != nil {
		i.log("%v", err)
	}
}

// last counts a fault and returns after its length.
func (i *injector) last(ctx context.Context, f fault, kind string) {
	i.count(kind)
	sleep(ctx, f.length)
}

// recoveryTime is how long a process may take to be ready after its disk has room again.
const recoveryTime = 5 * time.Second

// fill fills a process's disk. A process that does not recover is restarted, as its operator would do it: after a write error
// a stream of NATS refuses all messages, and its health check fails.
func (i *injector) fill(ctx context.Context, f fault) {
	p := i.stack.Process(f.target)
	free, err := p.FillDisk()
	if err != nil {
		return // it does not run
	}
	i.last(ctx, f, "full disk of "+role(f.target))
	free()
	if p.PID() == 0 {
		return
	}
	recovering, cancel := context.WithTimeout(context.WithoutCancel(ctx), recoveryTime) // also at the end of the load
	defer cancel()
	if i.stack.IsReady(recovering, f.target) {
		return
	}
	i.log("%s does not recover from a full disk and is restarted", f.target)
	_ = p.Kill()
	if err := p.Start(); err != nil {
		i.log("%v", err)
	}
}

// jump sets a service's clock wrong.
func (i *injector) jump(ctx context.Context, f fault) {
	clock := i.clocks[f.target]
	if clock == nil {
		return
	}
	j := check.Jump{App: f.target, Offset: f.offset, From: time.Now()}
	if err := clock.Set(f.offset); err != nil {
		i.log("%v", err)
		return
	}
	i.last(ctx, f, fmt.Sprintf("clock %+.0f min", f.offset.Minutes()))
	if err := clock.Set(0); err != nil {
		i.log("%v", err)
	}
	j.To = time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.jumps = append(i.jumps, j)
}

// misbehave gives the sandbox a rule for wrong or late answers.
func (i *injector) misbehave(ctx context.Context, f fault) {
	const faults = "/sandbox/faults"
	response, err := i.sandbox.Do(context.WithoutCancel(ctx), client.Request{Method: http.MethodPost, Path: faults, Body: f.rule})
	if err != nil {
		return // the sandbox does not run
	}
	if response.Status != http.StatusCreated {
		i.log("the sandbox refused the fault %v: %d", f.rule, response.Status)
		return
	}
	i.last(ctx, f, string(f.rule.Fault)+" "+stack.Sandbox)
	_, _ = i.sandbox.Do(context.WithoutCancel(ctx), client.Request{Method: http.MethodDelete, Path: faults})
}

// role is the kind of a process, without its name.
func role(process string) string {
	switch {
	case isInfra(process):
		return process
	case strings.HasSuffix(process, "-dapr"):
		return "sidecar"
	case strings.HasPrefix(process, "gateway"):
		return "gateway"
	}
	return "service"
}

// restartPeriod is how often restartEnded checks all processes.
const restartPeriod = 250 * time.Millisecond

// restartEnded restarts processes that ended without a fault, as Kubernetes would do it, until ctx ends.
func (i *injector) restartEnded(ctx context.Context) {
	for sleep(ctx, restartPeriod) {
		for _, name := range i.stack.Processes() {
			p := i.stack.Process(name)
			if p.PID() != 0 || !i.claim(name) {
				continue
			}
			if p.PID() == 0 { // still, and no fault can begin now
				lines := p.Log()
				i.mu.Lock()
				i.died = append(i.died, fmt.Sprintf("%s ended by itself: %s", name, strings.Join(lines[max(0, len(lines)-3):], " | ")))
				i.mu.Unlock()
				_ = p.Start()
			}
			i.release(name)
		}
	}
}
