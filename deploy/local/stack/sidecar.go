package stack

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sidecarName is the name of the process beside an app.
func sidecarName(app string) string { return app + "-dapr" }

// sidecarArgs are the flags that Dapr's CLI derives from a run file, and those that bind to 127.0.0.1 what the CLI opens
// to the network.
func (p *plan) sidecarArgs(a App) []string {
	args := []string{
		p.runtime, "daprd",
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
	if p.mtls {
		args = append(args, "--enable-mtls", "--sentry-address", local(p.ports.Sentry))
	}
	if p.has(Placement) || p.opts.FixedPorts != nil {
		args = append(args, "--placement-host-address", local(p.ports.Placement))
	}
	if p.has(Scheduler) || p.opts.FixedPorts != nil {
		args = append(args, "--scheduler-host-address", local(p.ports.Scheduler))
	}
	return args
}

// copyFolder copies the resources of a folder, with the addresses of this stack in them.
func (p *plan) copyFolder(c folderCopy) error {
	if err := os.RemoveAll(c.to); err != nil {
		return err
	}
	if err := os.MkdirAll(c.to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || !strings.HasSuffix(name, ".yaml") && !strings.HasSuffix(name, ".yml") {
			continue // Dapr reads no others
		}
		text, err := os.ReadFile(filepath.Join(c.from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.to, name), []byte(p.moves.in(string(text))), 0o600); err != nil {
			return err
		}
	}
	return nil
}
