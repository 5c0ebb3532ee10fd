package stack_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// .build/runtime contains the programs that a stack starts, by their names.
func TestRuntime_HoldsItsPrograms(t *testing.T) {
	binary := filepath.Join(filepath.Dir(testFolder(t)), ".build", "runtime")
	for name, c := range map[string]struct {
		args []string
		want string
		code int
	}{
		"daprd":       {[]string{"daprd", "--help"}, "Usage of daprd", 2},
		"placement":   {[]string{"placement", "--help"}, "Usage of placement", 2},
		"scheduler":   {[]string{"scheduler", "--help"}, "Usage of scheduler", 2},
		"nats-server": {[]string{"nats-server", "--version"}, "nats-server: v2", 0},
		"versions":    {[]string{"versions"}, "github.com/dapr/dapr v1", 0},
		"sentry":      {[]string{"sentry", "--help"}, "Usage of sentry", 2},
		"unknown":     {[]string{"injector"}, `no program "injector" in this binary`, 1},
		"none":        {nil, "usage: runtime", 2},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binary, c.args...)
			out, _ := cmd.CombinedOutput()
			require.Contains(t, string(out), c.want)
			require.Equal(t, c.code, cmd.ProcessState.ExitCode())
		})
	}
}

// The lease of a killed scheduler would block its successor, and so all sidecars, for twenty seconds.
func TestRuntime_SchedulerStartsSoonAfterItWasKilled(t *testing.T) {
	opts := stack.Options{
		Folder: t.TempDir(), Sidecars: []stack.Sidecar{{ID: "orders"}}, Infra: []string{stack.NATS, stack.Placement, stack.Scheduler},
	}
	first := stacktest.Start(t, opts)
	require.NoError(t, first.Process(stack.Scheduler).Kill())
	require.NoError(t, first.Stop())
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()

	second, err := stack.Start(ctx, opts)

	require.NoError(t, err)
	require.NoError(t, second.Stop())
}
