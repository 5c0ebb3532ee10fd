package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// pooledStack returns a stack that no other test uses now. When the test ends, all processes must run again, and there must be no dead
// letters. The next test finds the documents and the logs of those before it. env is what differs from the run file.
//
// The pool exists because starting a stack takes longer than most tests.
func pooledStack(t testing.TB, env map[string]string) *testStack {
	t.Helper()
	stacktest.SkipIfShort(t)
	entry, err := pool.get(env)
	require.NoError(t, err)
	entry.owner.Store(&t)
	t.Cleanup(func() {
		entry.owner.Store(nil)
		if !t.Failed() {
			if err := pool.put(entry); err != nil {
				t.Errorf("the pooled stack is not as it was before the test: %v", err)
			}
		}
		if t.Failed() {
			stacktest.ShowLogs(t, entry.Stack)
			pool.closeStack(entry)
		}
	})
	return entry.testStack
}

// idleLimit is how long a stack may be unused before it is closed.
const idleLimit = 2 * time.Second

// stackPool has the stacks that tests use one after the other.
type stackPool struct {
	mu      sync.Mutex
	idle    map[string][]*poolEntry // by settings
	errs    []error                 // of closed stacks
	closing sync.WaitGroup          // counts the idle stacks and those that are being closed
}

type poolEntry struct {
	*reusableStack
	settings string
	timer    *time.Timer // closes the stack
}

var pool = &stackPool{idle: map[string][]*poolEntry{}}

// get returns an idle stack with these settings, or a new one.
func (p *stackPool) get(env map[string]string) (*poolEntry, error) {
	settings := fmt.Sprint(env)
	if entry := p.takeIdle(settings); entry != nil {
		return entry, nil
	}
	opened, err := openStack(stack.Options{Env: env})
	return &poolEntry{reusableStack: opened, settings: settings}, err
}

// takeIdle returns the stack that was used last, or nil.
func (p *stackPool) takeIdle(settings string) *poolEntry {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle[settings]
	if len(idle) == 0 {
		return nil
	}
	entry := idle[len(idle)-1]
	p.idle[settings] = idle[:len(idle)-1]
	entry.timer.Stop()
	p.closing.Done()
	return entry
}

// put takes a stack back from a test. The error describes what the test left behind.
func (p *stackPool) put(entry *poolEntry) error {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := errors.Join(checkNoDeadLetters(entry.testStack), entry.WaitReady(ctx)); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle[entry.settings] = append(p.idle[entry.settings], entry)
	p.closing.Add(1)
	entry.timer = time.AfterFunc(idleLimit, func() { p.closeIfIdle(entry) })
	return nil
}

// closeIfIdle closes the stack, unless a test has taken it in the meantime.
func (p *stackPool) closeIfIdle(entry *poolEntry) {
	p.mu.Lock()
	idle := p.idle[entry.settings]
	place := slices.Index(idle, entry)
	if place >= 0 {
		p.idle[entry.settings] = slices.Delete(idle, place, place+1)
	}
	p.mu.Unlock()
	if place >= 0 {
		p.closeStack(entry)
		p.closing.Done()
	}
}

// closeStack closes a stack that is not in the pool.
func (p *stackPool) closeStack(entry *poolEntry) {
	if err := entry.close(); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.errs = append(p.errs, fmt.Errorf("a pooled stack: %w", err))
	}
}

// close closes all idle stacks, and returns the errors of all stacks that were closed.
func (p *stackPool) close() error {
	p.mu.Lock()
	var all []*poolEntry
	for _, idle := range p.idle {
		all = append(all, idle...)
	}
	p.mu.Unlock()
	for _, entry := range all {
		p.closeIfIdle(entry)
	}
	p.closing.Wait()
	return errors.Join(p.errs...)
}
