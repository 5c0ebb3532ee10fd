// Package e2e tests the whole system from the outside: through its public API, on real sidecars and a real
// broker, with the Stripe sandbox for a bank.
//
// Most tests share one house, a stack that is started once (sharedHouse) and in which nothing is broken and no
// setting is unusual; each of them brings its own users and tickets and touches nothing else. A test that kills
// something, and mends it, has a house for itself for a while (lentHouse). One that leaves something behind, or looks at
// everything that is there, has a new one (newHouse).
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
)

// house is a running stack and a client of it.
type house struct {
	*stack.Stack
	client *http.Client
}

func houseOf(s *stack.Stack) *house {
	return &house{Stack: s, client: &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 256},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// newHouse starts a stack of the test's own, which ends with the test. The zero Options are the whole run file.
func newHouse(t testing.TB, opts stack.Options) *house {
	t.Helper()
	h := houseOf(stacktest.Start(t, inTests(opts)))
	t.Cleanup(h.client.CloseIdleConnections) // the gateway would wait for those that were never used
	return h
}

// onEmbedded skips a test on all sets but the default one: it would show the same there.
func onEmbedded(t *testing.T, reason string) {
	t.Helper()
	if set := os.Getenv("INFRA"); set != "" && set != stack.SetEmbedded {
		t.Skipf("runs on the set %q alone: %s", stack.SetEmbedded, reason)
	}
}

// inTests adds what makes tests quick.
func inTests(opts stack.Options) stack.Options {
	env := stack.WithoutLimits()
	maps.Copy(env, map[string]string{"BCRYPT_COST": "4", "SWEEP_PERIOD": "1s", "STRIPE_TIMEOUT": "1s", "AUTH_PERIOD": "1s", "KEYS_PERIOD": "1s"})
	maps.Copy(env, opts.Env)
	opts.Env, opts.DatabaseTemplate = env, filepath.Join(work, "databases")
	return opts
}

// sharedHouse is the one stack of all tests that break nothing in it. It runs until TestMain ends.
func sharedHouse(t testing.TB) *house {
	t.Helper()
	stacktest.SkipIfShort(t)
	shared.once.Do(func() { shared.standing, shared.err = open(nil) })
	require.NoError(t, shared.err)
	return shared.house
}

var shared struct {
	once sync.Once
	*standing
	err error
}

// work is the folder of what outlives a single test.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "boxoffice-e2e-"); err != nil {
		panic(err)
	}
	code := m.Run()
	err = errors.Join(closeShared(code != 0), lent.close(), os.RemoveAll(work))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// standing is a house that outlives the tests in it.
type standing struct {
	*house
	folder string
}

// open starts a house in a folder under work.
func open(env map[string]string) (*standing, error) {
	folder, err := os.MkdirTemp(work, "house-")
	if err != nil {
		return nil, err
	}
	running, err := stacktest.Open(context.Background(), inTests(stack.Options{Folder: folder, Env: env}))
	if err != nil {
		return nil, err
	}
	return &standing{houseOf(running), folder}, nil
}

// close stops the house. It must not have died, nor have lost an event.
func (s *standing) close() error {
	defer func() { _ = os.RemoveAll(s.folder) }()
	lost := noDeadLetters(s.house)
	s.client.CloseIdleConnections() // the gateway would wait for those that were never used
	stopped := s.Stop()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Join(lost, stopped, s.Wait(ended))
}

// closeShared closes the shared house, if it was opened. In there nothing is broken, so nothing may have logged an error.
func closeShared(failed bool) error {
	if shared.standing == nil {
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
		return fmt.Errorf("the shared house: %w", err)
	}
	return nil
}

// noDeadLetters returns an error if there were events that could not be handled.
func noDeadLetters(h *house) error {
	b, err := broker.Open(h.Broker())
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	defer b.Close()
	state, err := b.State(context.Background())
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	if state.Dead > 0 {
		return fmt.Errorf("%d events went to the dead letters", state.Dead)
	}
	return nil
}

const (
	// patience is how long eventually waits: far longer than anything takes when all is well, also on a machine
	// that has much else to do.
	patience = 20 * time.Second
	// Waiting asks less and less often, for each question takes from the machine what the tests beside need.
	firstPoll = 10 * time.Millisecond
	lastPoll  = 250 * time.Millisecond
)

// within asks until the condition holds, and says whether it did before the limit.
func within(limit time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(limit)
	for wait := firstPoll; !condition(); wait = min(lastPoll, wait*5/4) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(wait)
	}
	return true
}

// eventually waits until the condition holds; what says what was waited for.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	eventuallyWithin(t, patience, what, condition)
}

// eventuallyWithin is eventually with a limit of its own.
func eventuallyWithin(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	require.True(t, within(limit, condition), "not in time: %s; waited %s", what, limit)
}

// becomes waits until look returns want; if it does not, the last value is told.
func becomes[T comparable](t testing.TB, want T, what string, look func() T) {
	t.Helper()
	var last T
	if !within(patience, func() bool { last = look(); return last == want }) {
		require.Equal(t, want, last, "%s, after %s", what, patience)
	}
}
