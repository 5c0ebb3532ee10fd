package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/dapr/dapr/pkg/buildinfo"
)

// Dapr's CLI asks daprd for its version. Without one it starts no reminders.
func TestVersion_IsThatOfDaprInGoMod(t *testing.T) {
	text := read(t, "go.mod")
	found := regexp.MustCompile(`(?m)^\s*github\.com/dapr/dapr v(\S+)$`).FindStringSubmatch(text)
	if found == nil {
		t.Fatal("go.mod does not require " + daprModule)
	}
	want := found[1]
	if got := buildinfo.Version(); got != want {
		t.Errorf("Dapr's own version is %q, not %q", got, want)
	}
	for _, program := range []string{"daprd", "placement", "scheduler", "sentry"} {
		out, err := runtimeCommand(program, "--version").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s --version: %q, %v; not %q", program, got, err, want)
		}
	}
}

// runtimeCommand is a program of this binary as a process of its own: the test's binary in its place.
func runtimeCommand(program string, args ...string) *exec.Cmd {
	command := exec.Command(os.Args[0], append([]string{program}, args...)...)
	command.Env = append(os.Environ(), asRuntimeVariable+"=1")
	return command
}

const asRuntimeVariable = "RUN_AS_RUNTIME"

func TestMain(m *testing.M) {
	if os.Getenv(asRuntimeVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}
