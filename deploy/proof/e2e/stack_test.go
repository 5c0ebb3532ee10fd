// Package e2e tests all services together, from the outside: through the public API, on real sidecars and a real broker, with
// the Stripe sandbox.
//
// A test chooses its stack by what it does to it:
//
//   - sharedStack: one stack for all tests that break nothing and need no unusual setting. A test brings its own users and tickets,
//     and does not touch others.
//   - pooledStack: for tests that stop processes and start them again. One test at a time has the stack; then it goes back to a pool.
//   - newStack: for tests that do not clean up, or that read everything in the stack.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/broker"
	"boxoffice/deploy/proof/client"
)

// testStack is a running stack and a client of its gateway.
type testStack struct {
	*stack.Stack
	api       *client.Client
	transport http.RoundTripper // of api
	owner     owner
}

// newTestStack returns a stack whose responses are compared with the OpenAPI document.
func newTestStack(s *stack.Stack) *testStack {
	running := &testStack{Stack: s}
	return running.through(running.contractTransport(&http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second}))
}

// through sends the client's requests through a transport.
func (s *testStack) through(transport http.RoundTripper) *testStack {
	s.transport = transport
	s.api = client.New(s.GatewayURL(), client.Options{Transport: transport})
	return s
}

// newStack starts a stack that ends with the test. The zero Options are the whole run file.
func newStack(t testing.TB, opts stack.Options) *testStack {
	t.Helper()
	s := newTestStack(stacktest.Start(t, withTestSettings(opts)))
	if runsEarlierRelease(opts) {
		s.through(http.DefaultTransport)
	}
	s.owner.Store(&t)
	t.Cleanup(s.api.Close) // or the gateway waits for idle connections when it stops
	return s
}

// onEmbedded skips a test on all sets but the default one, where it would show the same.
func onEmbedded(t *testing.T, reason string) {
	t.Helper()
	if set := os.Getenv("INFRA"); set != "" && set != stack.SetEmbedded {
		t.Skipf("runs only on the set %q: %s", stack.SetEmbedded, reason)
	}
}

// withTestSettings adds the settings that make tests fast.
func withTestSettings(opts stack.Options) stack.Options {
	env := stack.WithoutLimits()
	maps.Copy(env, map[string]string{"BCRYPT_COST": "4", "SWEEP_PERIOD": "1s", "STRIPE_TIMEOUT": "1s", "AUTH_PERIOD": "1s", "KEYS_PERIOD": "1s"})
	maps.Copy(env, opts.Env)
	opts.Env, opts.DatabaseTemplate = env, filepath.Join(work, "databases")
	return opts
}

// sharedStack returns the stack of all tests that break nothing in it. It runs until TestMain ends.
func sharedStack(t testing.TB) *testStack {
	t.Helper()
	stacktest.SkipIfShort(t)
	shared.once.Do(func() { shared.reusableStack, shared.err = openStack(stack.Options{}) })
	require.NoError(t, shared.err)
	return shared.testStack
}

var shared, sharedComplete struct {
	once sync.Once
	*reusableStack
	err error
}

// sharedCompleteStack is a shared stack with all services, also with webhooks if Node is installed.
func sharedCompleteStack(t testing.TB) *testStack {
	t.Helper()
	stacktest.SkipIfShort(t)
	sharedComplete.once.Do(func() {
		sharedComplete.reusableStack, sharedComplete.err = openStack(stack.Options{Without: []string{}})
	})
	require.NoError(t, sharedComplete.err)
	return sharedComplete.testStack
}

// root returns the repository's root folder, where the run file is.
func root(t testing.TB) string {
	t.Helper()
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	return filepath.Dir(runFile)
}

// work is the folder for what outlives a single test.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "boxoffice-e2e-"); err != nil {
		panic(err)
	}
	code := m.Run()
	err = errors.Join(reportContract(code != 0), closeShared(code != 0), closeComplete(), pool.close(), os.RemoveAll(work))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// reusableStack is a stack that outlives the tests in it.
type reusableStack struct {
	*testStack
	folder string
}

// openStack starts a stack in a folder under work.
func openStack(opts stack.Options) (*reusableStack, error) {
	folder, err := os.MkdirTemp(work, "stack-")
	if err != nil {
		return nil, err
	}
	opts.Folder = folder
	running, err := stacktest.Open(context.Background(), withTestSettings(opts))
	if err != nil {
		return nil, err
	}
	return &reusableStack{newTestStack(running), folder}, nil
}

// close stops the stack. It returns an error if the stack had ended before, has dead letters, or has published what its schemas do not describe.
func (r *reusableStack) close() error {
	defer func() { _ = os.RemoveAll(r.folder) }()
	events := errors.Join(checkNoDeadLetters(r.testStack), checkSchemas(r.testStack))
	r.api.Close() // or the gateway waits for idle connections when it stops
	stopped := r.Stop()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Join(events, stopped, r.Wait(ended))
}

// closeShared closes the shared stack, if it was started. No process in it may have logged an error.
func closeShared(failed bool) error {
	if shared.reusableStack == nil {
		return nil
	}
	err := shared.close()
	for _, name := range shared.Processes() {
		lines := shared.Process(name).Log()
		for _, line := range lines {
			if strings.Contains(line, "level=ERROR") {
				err = errors.Join(err, fmt.Errorf("%s logged an error: %s", name, line))
			}
		}
		if failed {
			for _, line := range lines[max(0, len(lines)-30):] {
				fmt.Fprintf(os.Stderr, "%s | %s\n", name, line)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("the shared stack: %w", err)
	}
	return nil
}

// closeComplete closes the shared stack with all services, if it was started.
func closeComplete() error {
	if sharedComplete.reusableStack == nil {
		return nil
	}
	if err := sharedComplete.close(); err != nil {
		return fmt.Errorf("the shared stack with all services: %w", err)
	}
	return nil
}

// checkNoDeadLetters returns an error if the stack has dead letters.
func checkNoDeadLetters(s *testStack) error {
	b, err := broker.Open(s.Broker())
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	defer b.Close()
	state, err := b.State(context.Background())
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	if state.Dead > 0 {
		return fmt.Errorf("there are %d dead letters", state.Dead)
	}
	return nil
}

// kill ends processes with SIGKILL.
func (s *testStack) kill(t testing.TB, processes ...string) {
	t.Helper()
	for _, name := range processes {
		require.NoError(t, s.Process(name).Kill())
	}
}

// start starts processes again.
func (s *testStack) start(t testing.TB, processes ...string) {
	t.Helper()
	for _, name := range processes {
		require.NoError(t, s.Process(name).Start())
	}
}

// waitReady waits until these processes are ready, or all.
func (s *testStack) waitReady(t testing.TB, processes ...string) {
	t.Helper()
	require.NoError(t, s.WaitReady(t.Context(), processes...))
}

// whileDown runs something while a process is down. While the broker is down, services commit changes and cannot publish them.
func (s *testStack) whileDown(t *testing.T, process string, run func()) {
	t.Helper()
	s.kill(t, process)
	run()
	s.start(t, process)
	s.waitReady(t, process)
}

const (
	// waitLimit is how long eventually waits. It is far more than anything takes on a busy machine.
	waitLimit = 20 * time.Second
	// The pause between two tries grows, because each try takes time from the tests that run at the same time.
	firstPause = 10 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// waitUntil waits until the condition holds. It reports whether that was within the limit.
func waitUntil(limit time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(limit)
	for pause := firstPause; !condition(); pause = min(lastPause, pause*5/4) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}

// eventually waits until the condition holds. what describes the condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	eventuallyWithin(t, waitLimit, what, condition)
}

// eventuallyWithin is eventually with a limit of its own.
func eventuallyWithin(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	require.True(t, waitUntil(limit, condition), "not within %s: %s", limit, what)
}

// eventuallyEqual waits until read returns want. If it does not, the failure shows the last value.
func eventuallyEqual[T comparable](t testing.TB, want T, what string, read func() T) {
	t.Helper()
	var last T
	if !waitUntil(waitLimit, func() bool { last = read(); return last == want }) {
		require.Equal(t, want, last, "%s, after %s", what, waitLimit)
	}
}

// waitTime waits until a moment has passed, for example the end of a reservation window.
func waitTime(moment time.Time) { time.Sleep(time.Until(moment)) }
