package stack_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// A run file is read, or refused with an error that names it. What was read can be started.
func FuzzReadRunFile(f *testing.F) {
	path, err := stack.FindRunFile(".")
	require.NoError(f, err)
	real, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(real)
	const app = "version: 1\napps:\n- {appID: one, appDirPath: ., command: [x], appPort: 1, daprHTTPPort: 2, daprGRPCPort: 3, daprInternalGRPCPort: 4, metricsPort: 5}\n"
	f.Add([]byte(app))
	f.Add([]byte(app + "- {appID: one, appDirPath: ., daprHTTPPort: 2, daprGRPCPort: 3, daprInternalGRPCPort: 4, metricsPort: 5}\n"))
	f.Add([]byte("version: 1\ncommon: {env: {A: 1, B: [x]}}\napps: []\n"))
	f.Add([]byte("version: 1\nunknown: 1\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("\xff"))
	f.Add([]byte(""))
	file := filepath.Join(f.TempDir(), "dapr.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		require.NoError(t, os.WriteFile(file, text, 0o600))
		run, err := stack.ReadRunFile(file)
		if err != nil {
			require.ErrorContains(t, err, file, "the error names the file")
			return
		}
		require.NotEmpty(t, run.Apps)
		seen := map[string]bool{}
		for _, app := range run.Apps {
			require.NotEmpty(t, app.ID)
			require.False(t, seen[app.ID], "two apps of one name")
			seen[app.ID] = true
			require.True(t, filepath.IsAbs(app.Dir))
			for _, port := range []int{app.HTTPPort, app.GRPCPort, app.InternalPort, app.MetricsPort} {
				require.True(t, 0 < port && port < 1<<16, "port %d", port)
			}
			if len(app.Command) > 0 {
				require.True(t, 0 < app.Port && app.Port < 1<<16, "appPort %d", app.Port)
			}
		}
	})
}
