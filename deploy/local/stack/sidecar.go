package stack

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sidecarName is the name of the process beside an app.
func sidecarName(app string) string { return app + "-dapr" }

// sidecarArgs are the flags that Dapr's CLI derives from a run file. What is added binds to this machine alone
// what the CLI leaves open to the network.
func (s *Stack) sidecarArgs(a App) []string {
	args := []string{
		s.runtime, "daprd",
		"--app-id", a.ID,
		"--dapr-http-port", strconv.Itoa(a.HTTPPort),
		"--dapr-grpc-port", strconv.Itoa(a.GRPCPort),
		"--dapr-internal-grpc-port", strconv.Itoa(a.InternalPort),
		"--dapr-internal-grpc-listen-address", "127.0.0.1",
		"--metrics-port", strconv.Itoa(a.MetricsPort),
		"--metrics-listen-address", "127.0.0.1",
		"--app-protocol", a.Protocol,
	}
	add := func(flag, value string) {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	number := func(flag string, value int) {
		if value != 0 {
			args = append(args, flag, strconv.Itoa(value))
		}
	}
	number("--app-port", a.Port)
	add("--config", a.ConfigFile)
	add("--dapr-listen-addresses", a.ListenAddresses)
	add("--log-level", a.LogLevel)
	number("--app-max-concurrency", a.MaxConcurrency)
	add("--max-body-size", a.MaxBodySize)
	for _, path := range a.ResourcesPaths {
		args = append(args, "--resources-path", path)
	}
	if a.HealthCheck {
		args = append(args, "--enable-app-health-check")
		add("--app-health-check-path", a.HealthPath)
		number("--app-health-probe-interval", a.HealthInterval)
		number("--app-health-probe-timeout", a.HealthTimeout)
		number("--app-health-threshold", a.HealthThreshold)
	}
	if a.APILogging {
		args = append(args, "--enable-api-logging")
	}
	if s.mtls {
		args = append(args, "--enable-mtls", "--sentry-address", s.SentryAddress())
	}
	if s.has(Placement) || s.opts.FixedPorts != nil {
		args = append(args, "--placement-host-address", "127.0.0.1:"+strconv.Itoa(s.ports.Placement))
	}
	if s.has(Scheduler) || s.opts.FixedPorts != nil {
		args = append(args, "--scheduler-host-address", "127.0.0.1:"+strconv.Itoa(s.ports.Scheduler))
	}
	return args
}

// renderResources copies an app's resources into the stack's folder, with the addresses that this stack moved.
func (s *Stack) renderResources(a *App) error {
	rendered := make([]string, len(a.ResourcesPaths))
	for i, path := range a.ResourcesPaths {
		to, err := s.renderFolder(path)
		if err != nil {
			return fmt.Errorf("resources of %s: %w", a.ID, err)
		}
		rendered[i] = to
	}
	a.ResourcesPaths = rendered
	if a.ConfigFile != "" {
		to, err := s.renderFolder(filepath.Dir(a.ConfigFile))
		if err != nil {
			return fmt.Errorf("configuration of %s: %w", a.ID, err)
		}
		a.ConfigFile = filepath.Join(to, filepath.Base(a.ConfigFile))
	}
	return nil
}

func (s *Stack) renderFolder(from string) (string, error) {
	if to, done := s.rendered[from]; done {
		return to, nil
	}
	to := filepath.Join(s.state, "resources", fmt.Sprintf("%d-%s", len(s.rendered), filepath.Base(from)))
	if err := os.RemoveAll(to); err != nil {
		return "", err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if err := s.renderFile(from, to, entry); err != nil {
			return "", err
		}
	}
	s.rendered[from] = to
	return to, nil
}

func (s *Stack) renderFile(from, to string, entry fs.DirEntry) error {
	name := entry.Name()
	if entry.IsDir() || !strings.HasSuffix(name, ".yaml") && !strings.HasSuffix(name, ".yml") {
		return nil // Dapr reads no others
	}
	text, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, name), []byte(s.moves.in(string(text))), 0o600)
}
