// Package stacktest starts stacks in tests: in a temporary folder, stopped when the test ends, and with the last lines of every process
// in the test's output if it failed.
package stacktest

import (
	"context"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// startTime limits the start of a stack, also on a machine where other tests run.
const startTime = 90 * time.Second

// Start starts a stack on free ports, or fails the test. Options.Folder may name the folder of an earlier stack of the same test, which
// must have been stopped. A Stripe key in the environment is never used. Under go test -short the test is skipped.
func Start(t testing.TB, opts stack.Options) *stack.Stack {
	t.Helper()
	SkipIfShort(t)
	if opts.Folder == "" {
		opts.Folder = t.TempDir()
	}
	s, err := Open(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop the stack: %v", err)
		}
		if t.Failed() {
			ShowLogs(t, s)
		}
	})
	return s
}

// SkipIfShort skips a test that needs sidecars, under go test -short.
func SkipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real sidecars")
	}
}

// RequireNode skips a test if an app of the run file cannot run here, because Node is missing or too old. With CI_REQUIRE_TYPESCRIPT the
// test fails instead.
func RequireNode(t testing.TB) {
	t.Helper()
	path, err := stack.FindRunFile(".")
	require.NoError(t, err)
	run, err := stack.ReadRunFile(path)
	require.NoError(t, err)
	for _, omission := range run.Omissions() {
		if os.Getenv("CI_REQUIRE_TYPESCRIPT") != "" {
			t.Fatal(omission)
		}
		t.Skip(omission)
	}
}

// Open starts a stack as Start does, for more than one test: the caller names its folder and stops it.
//
// If the options name no apps, the stack is without webhooks, which few tests need, and which needs Node. A test that needs it sets
// Options.Without to an empty list, and calls RequireNode.
func Open(ctx context.Context, opts stack.Options) (*stack.Stack, error) {
	env := map[string]string{"STRIPE_SECRET_KEY": "", "LOG_FORMAT": "text"}
	maps.Copy(env, opts.Env)
	opts.Env = env
	if opts.Without == nil && opts.Apps == nil {
		opts.Without = []string{"webhooks"}
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return stack.Start(ctx, opts)
}

// ShowLogs puts the last lines of every process into the test's output.
func ShowLogs(t testing.TB, s *stack.Stack) {
	const shown = 40
	for _, name := range s.Processes() {
		lines := s.Process(name).Log()
		for _, line := range lines[max(0, len(lines)-shown):] {
			t.Logf("%s | %s", name, line)
		}
	}
}
