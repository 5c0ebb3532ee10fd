package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxoffice/deploy/local/stack"
)

// apps are those whose documents are read.
var apps = []string{"tickets", "orders", "payments", catalogueApp}

// TargetOf is the marketplace that a stack of this process runs.
func TargetOf(s *stack.Stack) Target {
	t := Target{
		Gateways: s.GatewayURLs(), Services: map[string][]string{}, Sidecars: map[string][]string{}, Sandbox: s.SandboxURL(), Broker: s.Broker(),
		Tokens: map[string]string{},
	}
	for _, app := range apps {
		for _, replica := range s.Replicas(app) {
			t.Sidecars[app] = append(t.Sidecars[app], s.SidecarHTTP(replica))
			t.Tokens[s.SidecarHTTP(replica)] = s.SidecarToken(app)
		}
	}
	for _, replica := range s.Replicas(catalogueApp) {
		t.Services[catalogueApp] = append(t.Services[catalogueApp], s.URL(replica))
	}
	return t
}

// targetOfRunFile is the marketplace that `make run` started by a run file, on a set of components.
func targetOfRunFile(runFile, set string, ports stack.Ports) (Target, error) {
	if runFile == "" {
		path, err := stack.FindRunFile(".")
		if err != nil {
			return Target{}, err
		}
		runFile = path
	}
	run, err := stack.ReadRunFile(runFile)
	if err != nil {
		return Target{}, err
	}
	local := func(port int) string { return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	folder := filepath.Dir(run.Path)
	broker, err := stack.BrokerOf(folder, set, ports)
	if errors.Is(err, fs.ErrNotExist) { // the passwords, which the first start makes
		return Target{}, errNotRunning
	}
	if err != nil {
		return Target{}, err
	}
	t := Target{Services: map[string][]string{}, Sidecars: map[string][]string{}, Sandbox: local(ports.Sandbox), Broker: broker, Tokens: map[string]string{}}
	omitted := map[string]bool{} // apps that cannot run here
	for _, omission := range run.Omissions() {
		omitted[omission.App] = true
	}
	for _, app := range run.Apps {
		if omitted[app.ID] {
			continue
		}
		sidecar := local(app.HTTPPort)
		t.Sidecars[app.ID] = []string{sidecar}
		if t.Tokens[sidecar], err = stack.SidecarTokenIn(folder, app.ID); err != nil {
			return Target{}, err
		}
		port, err := strconv.Atoi(app.Env["PORT"])
		if err != nil {
			continue // the app has no REST API
		}
		t.Services[app.ID] = []string{local(port)}
		if app.ID == "gateway" {
			t.Gateways = []string{local(port)}
		}
	}
	return t, nil
}

// errNotRunning means that nothing answers at any address of the target.
var errNotRunning = errors.New("no stack is running here. Start one with `make run`")

// probeTime limits one probe of diagnose.
const probeTime = 3 * time.Second

// diagnose explains why the facts of the target could not be read: it finds the parts that do not answer and the services
// that are not ready, and returns cause with them. If nothing answers at all it returns errNotRunning.
func (t Target) diagnose(ctx context.Context, cause error) error {
	type part struct{ name, address string }
	var parts []part
	add := func(name, address string) {
		if parsed, err := url.Parse(address); err == nil && parsed.Host != "" {
			parts = append(parts, part{name, parsed.Host})
		}
	}
	for _, gateway := range t.Gateways {
		add("gateway", gateway)
	}
	for _, app := range apps {
		for _, sidecar := range t.Sidecars[app] {
			add("sidecar of "+app, sidecar)
		}
	}
	add("Stripe sandbox", t.Sandbox)
	add("broker", t.Broker.URL)
	var problems []string
	closed := 0
	for _, p := range parts {
		if err := dial(ctx, p.address); err != nil {
			closed++
			problems = append(problems, fmt.Sprintf("the %s does not answer at %s: %v", p.name, p.address, err))
		}
	}
	if closed == len(parts) {
		return errNotRunning
	}
	for _, app := range slices.Sorted(maps.Keys(t.Services)) {
		for _, service := range t.Services[app] {
			if problem := readiness(ctx, service); problem != "" {
				problems = append(problems, fmt.Sprintf("%s is not ready: %s", app, problem))
			}
		}
	}
	if len(problems) == 0 {
		return fmt.Errorf("the stack is running, but cannot be checked: %w", cause)
	}
	return fmt.Errorf("the stack is running, but cannot be checked during an outage:\n  %s\nThe check failed to %w", strings.Join(problems, "\n  "), cause)
}

func dial(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return errors.Unwrap(err) // without the address, which the caller names
	}
	return connection.Close()
}

// readiness is what a service lacks, in its own words; "" if it is ready.
func readiness(ctx context.Context, service string) string {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, service+"/readyz", nil)
	if err != nil {
		return err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 500))
	return strings.TrimSpace(response.Status + " " + string(text))
}
