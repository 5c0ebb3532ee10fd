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
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), runAsVariable+"="+program)
		out, err := command.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s --version: %q, %v; not %q", program, got, err, want)
		}
	}
}

// runAsVariable makes the test's binary one of the programs, asked for its version.
const runAsVariable = "RUNTIME_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if program := os.Getenv(runAsVariable); program != "" {
		os.Args = []string{"runtime", program, "--version"}
		main()
		return
	}
	os.Exit(m.Run())
}
