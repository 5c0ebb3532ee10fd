package stack_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The programs in .build/runtime that a stack starts answer under their names.
func TestRuntime_HoldsItsPrograms(t *testing.T) {
	binary := filepath.Join(filepath.Dir(house(t)), ".build", "runtime")
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
		"unknown":     {[]string{"sentry"}, `no program "sentry" in this binary`, 1},
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
