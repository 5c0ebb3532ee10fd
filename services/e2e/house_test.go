// Package e2e tests the whole system from the outside: through its public API, on real sidecars and a real
// broker, with the Stripe sandbox for a bank.
//
// Most tests share one house, a stack that is started once (sharedHouse) and in which nothing is broken and no
// setting is unusual; each of them brings its own users and tickets and touches nothing else. A test that kills
// something, or needs a setting of its own, has a house of its own (newHouse).
package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/broker"
	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
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
	opts.Env = inTests(opts.Env)
	h := houseOf(stacktest.Start(t, opts))
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
func inTests(env map[string]string) map[string]string {
	all := map[string]string{"BCRYPT_COST": "4", "SWEEP_PERIOD": "1s", "STRIPE_TIMEOUT": "1s"}
	maps.Copy(all, env)
	return all
}

// sharedHouse is the one stack of all tests that break nothing in it. It runs until TestMain ends.
func sharedHouse(t testing.TB) *house {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real sidecars")
	}
	h, err := shared.open()
	require.NoError(t, err)
	return h
}

var shared sharedStack

func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.close(code != 0); err != nil {
		fmt.Fprintf(os.Stderr, "the shared house: %v\n", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// sharedStack starts when the first test asks for it.
type sharedStack struct {
	once   sync.Once
	folder string
	house  *house
	err    error
}

func (s *sharedStack) open() (*house, error) {
	s.once.Do(func() {
		if s.folder, s.err = os.MkdirTemp("", "boxoffice-e2e-"); s.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
		defer cancel()
		var running *stack.Stack
		running, s.err = stack.Start(ctx, stack.Options{
			Folder: s.folder,
			Env:    inTests(map[string]string{"STRIPE_SECRET_KEY": "", "LOG_FORMAT": "text"}),
		})
		if s.err == nil {
			s.house = houseOf(running)
		}
	})
	return s.house, s.err
}

// close stops the stack. If it was well all along, it must not have died, lost an event or logged an error.
func (s *sharedStack) close(failed bool) error {
	defer func() { _ = os.RemoveAll(s.folder) }()
	if s.house == nil {
		return nil
	}
	dead, err := deadLetters(s.house)
	s.house.client.CloseIdleConnections() // the gateway would wait for those that were never used
	err = errors.Join(err, s.house.Stop())
	if dead > 0 {
		err = errors.Join(err, fmt.Errorf("%d events went to the dead letters", dead))
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	err = errors.Join(err, s.house.Wait(ended))
	for _, name := range s.house.Processes() {
		lines := s.house.Process(name).Log()
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
	return err
}

// deadLetters is how many events could not be delivered.
func deadLetters(h *house) (uint64, error) {
	b, err := broker.Open(h.Broker())
	if err != nil {
		return 0, fmt.Errorf("count the dead letters: %w", err)
	}
	defer b.Close()
	state, err := b.State(context.Background())
	if err != nil {
		return 0, fmt.Errorf("count the dead letters: %w", err)
	}
	return state.Dead, nil
}

const (
	// patience is how long eventually waits: far longer than anything takes when all is well, also on a machine
	// that has much else to do.
	patience     = 20 * time.Second
	pollInterval = 20 * time.Millisecond
)

// eventually waits until the condition holds; what says what was waited for.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	eventuallyWithin(t, patience, what, condition)
}

// eventuallyWithin is eventually with a limit of its own.
func eventuallyWithin(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			require.FailNow(t, "not in time: "+what, "waited %s", limit)
		}
		time.Sleep(pollInterval)
	}
}

// becomes waits until look returns want; if it does not, the last value is told.
func becomes[T comparable](t testing.TB, want T, what string, look func() T) {
	t.Helper()
	var last T
	deadline := time.Now().Add(patience)
	for {
		if last = look(); last == want {
			return
		}
		if time.Now().After(deadline) {
			require.Equal(t, want, last, "%s, after %s", what, patience)
		}
		time.Sleep(pollInterval)
	}
}
