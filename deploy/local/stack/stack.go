// Package stack brings up the box office on one machine: NATS, placement, scheduler, the Stripe sandbox, and
// the apps of a run file (dapr.yaml) with a sidecar each. The launcher behind `make run` is built on it, and so
// are the tests: a stack has a folder and ports of its own, several may run side by side, and each of its
// processes can be killed, paused and started again.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say what a stack is made of. The zero value is the whole run file on free ports, which needs a Folder.
type Options struct {
	// RunFile is the path of dapr.yaml. Empty: the one in the working directory or the nearest above it.
	RunFile string
	// Folder is where all processes run and under which .state lies. Empty: the run file's folder. A second
	// stack in the same folder, after the first has stopped, finds its state.
	Folder string
	// FixedPorts makes the apps listen on the run file's ports, and the rest on these. Nil: free ports.
	FixedPorts *Ports

	// Apps are the apps of the run file to start. Nil: all of them, or none if there are Sidecars.
	Apps []string
	// Sidecars are started without an app of the run file.
	Sidecars []Sidecar
	// Infra is what to start of NATS, Placement, Scheduler and Sandbox; the rest is expected to be there
	// already, on its port. Nil: all of them if there are apps, else NATS.
	Infra []string

	// Env is added to the environment of every process, and AppEnv to that of one app; they win over the run
	// file and over .state/env.
	Env    map[string]string
	AppEnv map[string]map[string]string
	// Resources are folders that sidecars get in place of the run file's resourcesPaths.
	Resources []string
	// ExtraResources are folders that sidecars get besides.
	ExtraResources []string
	// SidecarLogLevel is the log level of the sidecars, if not the run file's.
	SidecarLogLevel string

	// Output takes every line that the run file sends to the console, with the process's name. Nil: they are
	// in the files under .state/logs only. Calls for one process do not overlap.
	Output func(process, line string)
}

// Sidecar is a sidecar on its own: for tests that talk to Dapr themselves.
type Sidecar struct {
	// ID is its app id. Subscriptions are scoped by it: a sidecar called "orders" gets what orders subscribes to.
	ID string
	// AppPort is where the test answers callbacks on 127.0.0.1. 0: there is no app.
	AppPort int
	// HealthCheck is whether the run file's health check applies to the app. Without one, the sidecar takes the
	// app for healthy as soon as AppPort accepts connections.
	HealthCheck bool
	// Resources are folders in place of those that the other sidecars get.
	Resources []string
}

// Stack is a running stack.
type Stack struct {
	opts     Options
	root     string // folder of the run file
	folder   string
	state    string
	runtime  string // binaries
	launcher string
	ports    Ports
	moves    moves
	blocks   portBlocks
	rendered map[string]string
	secrets  map[string]string
	infra    []string
	apps     []App
	bare     []App
	spawner  *spawner

	processes map[string]*Process
	order     []string // of processes, as they were made
	failures  chan *ExitError
	stopping  sync.Once
	stopErr   error
}

// StateFolder is where a stack keeps everything, inside its folder.
const StateFolder = ".state"

const (
	pollInterval = 20 * time.Millisecond
	// The services finish requests and publish events for up to 15 s; sidecars have 5 s of their own.
	appGrace     = 20 * time.Second
	sidecarGrace = 10 * time.Second
	infraGrace   = 10 * time.Second
)

// Start brings a stack up and waits until all of it is ready, or ctx ends. On an error nothing is left running.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	s, err := prepare(opts)
	if err != nil {
		return nil, err
	}
	if err := s.launch(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// prepare decides everything that can be decided before a process runs.
func prepare(opts Options) (*Stack, error) {
	if opts.RunFile == "" {
		path, err := FindRunFile(".")
		if err != nil {
			return nil, err
		}
		opts.RunFile = path
	}
	run, err := ReadRunFile(opts.RunFile)
	if err != nil {
		return nil, err
	}
	s := &Stack{
		opts: opts, root: filepath.Dir(run.Path), folder: opts.Folder,
		moves: moves{}, rendered: map[string]string{}, processes: map[string]*Process{},
		failures: make(chan *ExitError, 64),
	}
	if s.folder == "" {
		s.folder = s.root
	}
	if s.folder, err = filepath.Abs(s.folder); err != nil {
		return nil, err
	}
	s.state = filepath.Join(s.folder, StateFolder)
	s.runtime, s.launcher = filepath.Join(s.root, ".build", "runtime"), filepath.Join(s.root, ".build", "local")

	if err := s.choose(run); err != nil {
		return nil, err
	}
	if err := s.checkBuilt(); err != nil {
		return nil, err
	}
	if err := s.assignPorts(run); err != nil {
		s.blocks.release()
		return nil, err
	}
	if err := s.makeFolder(); err != nil {
		s.blocks.release()
		return nil, err
	}
	return s, nil
}

// choose picks the apps, sidecars and other processes that the options ask for.
func (s *Stack) choose(run *RunFile) error {
	all := s.opts.Apps == nil && len(s.opts.Sidecars) == 0
	for _, app := range run.Apps {
		if all || slices.Contains(s.opts.Apps, app.ID) {
			s.apps = append(s.apps, app)
		}
	}
	for _, id := range s.opts.Apps {
		if !slices.ContainsFunc(s.apps, func(a App) bool { return a.ID == id }) {
			return fmt.Errorf("%s has no app %q", run.Path, id)
		}
	}
	for _, sidecar := range s.opts.Sidecars {
		app := App{settings: run.Apps[0].settings, ID: sidecar.ID, Dir: s.folder, Port: sidecar.AppPort}
		app.Env = nil
		app.HealthCheck = sidecar.HealthCheck && app.HealthCheck
		app.ResourcesPaths = slices.Clone(app.ResourcesPaths)
		if sidecar.Resources != nil {
			app.ResourcesPaths = slices.Clone(sidecar.Resources)
		}
		s.bare = append(s.bare, app)
	}
	switch {
	case s.opts.Infra != nil:
		s.infra = s.opts.Infra
	case len(s.apps) > 0:
		s.infra = []string{NATS, Placement, Scheduler, Sandbox}
	default:
		s.infra = []string{NATS}
	}
	for i := range s.apps {
		if s.opts.Resources != nil {
			s.apps[i].ResourcesPaths = slices.Clone(s.opts.Resources)
		}
	}
	for _, list := range [][]App{s.apps, s.bare} {
		for i := range list {
			list[i].ResourcesPaths = append(list[i].ResourcesPaths, s.opts.ExtraResources...)
			if s.opts.SidecarLogLevel != "" {
				list[i].LogLevel = s.opts.SidecarLogLevel
			}
			if s.opts.Folder != "" {
				// A stack with a folder of its own runs there what the run file runs in its own folder.
				list[i].Command = absoluteCommand(list[i])
				list[i].Dir = s.folder
			}
		}
	}
	return nil
}

// absoluteCommand is an app's command with the path that it has in the app's folder.
func absoluteCommand(a App) []string {
	command := slices.Clone(a.Command)
	if len(command) > 0 && strings.ContainsRune(command[0], filepath.Separator) {
		command[0] = within(a.Dir, command[0])
	}
	return command
}

func (s *Stack) has(infra string) bool { return slices.Contains(s.infra, infra) }

func (s *Stack) app(id string) (App, bool) {
	for _, a := range append(slices.Clone(s.apps), s.bare...) {
		if a.ID == id {
			return a, true
		}
	}
	return App{}, false
}

// checkBuilt names every binary that is missing, at once.
func (s *Stack) checkBuilt() error {
	needed := []string{s.runtime}
	if s.has(Sandbox) {
		needed = append(needed, s.launcher)
	}
	for _, a := range s.apps {
		if command := absoluteCommand(a); len(command) > 0 && filepath.IsAbs(command[0]) {
			needed = append(needed, command[0])
		}
	}
	var missing []string
	for _, path := range needed {
		if _, err := os.Stat(path); err != nil {
			if short, err := filepath.Rel(s.root, path); err == nil {
				path = short
			}
			missing = append(missing, path)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not built: %s (run `make build`)", strings.Join(missing, ", "))
	}
	return nil
}

// assignPorts takes the fixed ports and checks that they are free, or finds free ones and notes what moved.
func (s *Stack) assignPorts(run *RunFile) error {
	if s.opts.FixedPorts != nil {
		s.ports = *s.opts.FixedPorts
		for from, to := range pairs(DefaultPorts(), s.ports) {
			s.moves[from] = to
		}
		if err := s.bareports(); err != nil {
			return err
		}
		return checkPorts(s.portUses())
	}
	defaults := DefaultPorts()
	for _, port := range portFields(&defaults) {
		if err := s.move(*port); err != nil {
			return err
		}
	}
	// All apps move, also those that are not started: what is left out must not be found at its usual address.
	for _, a := range run.Apps {
		for _, port := range []int{a.Port, a.HTTPPort, a.GRPCPort, a.InternalPort, a.MetricsPort, publicPort(a)} {
			if err := s.move(port); err != nil {
				return err
			}
		}
	}
	s.ports = defaults
	for _, port := range portFields(&s.ports) {
		*port = s.moves[*port]
	}
	for i := range s.apps {
		a := &s.apps[i]
		for _, port := range []*int{&a.Port, &a.HTTPPort, &a.GRPCPort, &a.InternalPort, &a.MetricsPort} {
			*port = s.moves[*port]
		}
	}
	return s.bareports()
}

func (s *Stack) bareports() error {
	for i := range s.bare {
		a := &s.bare[i]
		for _, port := range []*int{&a.HTTPPort, &a.GRPCPort, &a.InternalPort, &a.MetricsPort} {
			var err error
			if *port, err = s.blocks.next(); err != nil {
				return err
			}
		}
	}
	for i := range s.apps {
		a := &s.apps[i]
		env := maps.Clone(a.Env)
		for name, value := range env {
			env[name] = s.moves.in(value)
		}
		if port := publicPort(*a); port != 0 && s.moves[port] != 0 {
			env["PORT"] = strconv.Itoa(s.moves[port])
		}
		a.Env = env
	}
	return nil
}

func (s *Stack) move(port int) error {
	if port == 0 || s.moves[port] != 0 {
		return nil
	}
	to, err := s.blocks.next()
	s.moves[port] = to
	return err
}

// publicPort is where an app listens for the world, by the variable PORT; 0 if it has none.
func publicPort(a App) int {
	port, _ := strconv.Atoi(a.Env["PORT"])
	return port
}

func portFields(p *Ports) []*int {
	return []*int{
		&p.NATS, &p.NATSMonitor, &p.Placement, &p.PlacementHealth, &p.PlacementRaft,
		&p.Scheduler, &p.SchedulerHealth, &p.EtcdClient, &p.EtcdPeer, &p.Sandbox,
	}
}

// pairs yields each port of from with the one in its place in to.
func pairs(from, to Ports) map[int]int {
	result := map[int]int{}
	others := portFields(&to)
	for i, port := range portFields(&from) {
		if *port != *others[i] {
			result[*port] = *others[i]
		}
	}
	return result
}

func (s *Stack) portUses() []portUse {
	var uses []portUse
	flag := func(port int, what, name string) {
		uses = append(uses, portUse{port, what, "it with the flag -" + name})
	}
	if s.has(NATS) {
		flag(s.ports.NATS, "NATS", "nats-port")
		flag(s.ports.NATSMonitor, "NATS, monitoring", "nats-monitor-port")
	}
	if s.has(Placement) {
		flag(s.ports.Placement, "placement", "placement-port")
		flag(s.ports.PlacementHealth, "placement, health", "placement-health-port")
		flag(s.ports.PlacementRaft, "placement, raft", "placement-raft-port")
	}
	if s.has(Scheduler) {
		flag(s.ports.Scheduler, "scheduler", "scheduler-port")
		flag(s.ports.SchedulerHealth, "scheduler, health", "scheduler-health-port")
		flag(s.ports.EtcdClient, "scheduler, etcd clients", "etcd-client-port")
		flag(s.ports.EtcdPeer, "scheduler, etcd peers", "etcd-peer-port")
	}
	if s.has(Sandbox) {
		flag(s.ports.Sandbox, "Stripe sandbox", "sandbox-port")
	}
	for _, a := range s.apps {
		in := func(port int, what, key string) {
			if port != 0 {
				uses = append(uses, portUse{port, a.ID + ", " + what, fmt.Sprintf("%s of %s in dapr.yaml", key, a.ID)})
			}
		}
		in(publicPort(a), "public API", "env.PORT")
		in(a.Port, "callbacks", "appPort")
		in(a.HTTPPort, "sidecar HTTP", "daprHTTPPort")
		in(a.GRPCPort, "sidecar gRPC", "daprGRPCPort")
		in(a.InternalPort, "sidecar to sidecar", "daprInternalGRPCPort")
		in(a.MetricsPort, "sidecar metrics", "metricsPort")
	}
	return uses
}

func (s *Stack) makeFolder() error {
	if err := os.MkdirAll(filepath.Join(s.state, "logs"), 0o700); err != nil {
		return err
	}
	var err error
	if s.secrets, err = ensureSecrets(s.state); err != nil {
		return err
	}
	// Addresses of sidecars of an earlier run, which may have ended without taking them back.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(filepath.Join(s.state, "names.db"+suffix))
	}
	if len(s.moves) == 0 {
		return nil
	}
	for _, list := range [][]App{s.apps, s.bare} {
		for i := range list {
			if err := s.renderResources(&list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// launch starts everything. All that does not need NATS starts at once; the sidecars when its streams are there,
// for a sidecar whose broker is missing gives up.
func (s *Stack) launch(ctx context.Context) error {
	s.spawner = newSpawner()
	if err := s.makeProcesses(); err != nil {
		return err
	}
	for _, name := range s.order {
		if !strings.HasSuffix(name, sidecarName("")) {
			if err := s.processes[name].Start(); err != nil {
				return err
			}
		}
	}
	if s.has(NATS) {
		if err := s.watched(ctx, func(ctx context.Context) error { return ensureStreams(ctx, s.NATSURL()) }); err != nil {
			return s.whatIsNotUp(err, NATS)
		}
	}
	for _, name := range s.order {
		if err := s.processes[name].Start(); err != nil {
			return err
		}
	}
	return s.WaitReady(ctx)
}

func (s *Stack) makeProcesses() error {
	for _, name := range s.infra {
		args, err := s.infraArgs(name)
		if err != nil {
			return err
		}
		if err := s.add(name, s.folder, args, s.environment(nil), infraGrace, s.infraReady(name), LogFileAndConsole); err != nil {
			return err
		}
	}
	for _, a := range append(slices.Clone(s.apps), s.bare...) {
		env := s.environment(nil)
		if os.Getenv("DAPR_HOST_IP") == "" {
			env["DAPR_HOST_IP"] = "127.0.0.1" // as Dapr's CLI does: sidecars find each other there
		}
		ready := httpReady(a.HTTPPort, "/v1.0/healthz")
		if err := s.add(sidecarName(a.ID), a.Dir, s.sidecarArgs(a), env, sidecarGrace, ready, a.SidecarLog); err != nil {
			return err
		}
	}
	for _, a := range s.apps {
		if len(a.Command) == 0 {
			continue
		}
		ready := tcpReady(a.Port)
		if port := publicPort(a); port != 0 {
			ready = httpReady(port, "/readyz")
		}
		if err := s.add(a.ID, a.Dir, absoluteCommand(a), s.environment(&a), appGrace, ready, a.AppLog); err != nil {
			return err
		}
	}
	return nil
}

// environment is what a process gets, by rising precedence: .state/env, our own environment, what Dapr's CLI
// sets, the run file, the options.
func (s *Stack) environment(a *App) map[string]string {
	env := maps.Clone(s.secrets)
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	if a != nil {
		env["APP_ID"] = a.ID
		env["APP_PORT"] = strconv.Itoa(a.Port)
		env["APP_PROTOCOL"] = a.Protocol
		env["DAPR_HTTP_PORT"] = strconv.Itoa(a.HTTPPort)
		env["DAPR_GRPC_PORT"] = strconv.Itoa(a.GRPCPort)
		env["DAPR_METRICS_PORT"] = strconv.Itoa(a.MetricsPort)
		maps.Copy(env, a.Env)
	}
	maps.Copy(env, s.opts.Env)
	if a != nil {
		maps.Copy(env, s.opts.AppEnv[a.ID])
	}
	return env
}

func (s *Stack) add(name, dir string, args []string, env map[string]string, grace time.Duration, ready func(context.Context) error, log LogDestination) error {
	path := filepath.Join(s.state, "logs", name+".log")
	_ = os.Rename(path, filepath.Join(s.state, "logs", name+".previous.log"))
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	output := &processLog{file: file}
	if s.opts.Output != nil && log.shown() {
		output.show = func(line string) { s.opts.Output(name, line) }
	}
	var variables []string
	for name, value := range env {
		variables = append(variables, name+"="+value)
	}
	s.processes[name] = &Process{
		Name: name, grace: grace, ready: ready, spawner: s.spawner, log: output,
		command: func() *exec.Cmd {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Dir, cmd.Env = dir, variables
			return cmd
		},
		died: func(failure *ExitError) {
			select {
			case s.failures <- failure:
			default: // a crowd of deaths; the first ones tell enough
			}
		},
	}
	s.order = append(s.order, name)
	return nil
}

// WaitReady waits until the named processes are ready; without names, all of them. If ctx ends first, the error
// names what is not up, and why, with its last lines; if a process dies meanwhile, it is an ExitError.
func (s *Stack) WaitReady(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		names = s.order
	}
	var mu sync.Mutex
	waiting := map[string]error{} // guarded by mu
	for _, name := range names {
		if s.processes[name] == nil {
			return fmt.Errorf("the stack has no process %q", name)
		}
		waiting[name] = errNotReady
	}
	err := s.watched(ctx, func(ctx context.Context) error {
		var group sync.WaitGroup
		for _, name := range names {
			process := s.processes[name]
			group.Go(func() {
				for {
					err := process.ready(ctx)
					mu.Lock()
					if err == nil {
						delete(waiting, name)
						mu.Unlock()
						return
					}
					if ctx.Err() == nil {
						waiting[name] = err
					}
					mu.Unlock()
					select {
					case <-ctx.Done():
						return
					case <-time.After(pollInterval):
					}
				}
			})
		}
		group.Wait()
		return ctx.Err()
	})
	var exit *ExitError
	if err == nil || errors.As(err, &exit) || len(waiting) == 0 {
		return err
	}
	reasons := []error{fmt.Errorf("not ready: %s: %w", strings.Join(slices.Sorted(maps.Keys(waiting)), ", "), err)}
	for _, name := range slices.Sorted(maps.Keys(waiting)) {
		reasons = append(reasons, fmt.Errorf("  %s: %w%s", name, waiting[name], quote(s.processes[name].log.lastLines(tailShown))))
	}
	return errors.Join(reasons...)
}

func (s *Stack) whatIsNotUp(err error, name string) error {
	var exit *ExitError
	if errors.As(err, &exit) {
		return err
	}
	return fmt.Errorf("%s is not up: %w%s", name, err, quote(s.processes[name].log.lastLines(tailShown)))
}

// watched runs wait until it ends or a process dies.
func (s *Stack) watched(ctx context.Context, wait func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- wait(ctx) }()
	select {
	case err := <-done:
		return err
	case failure := <-s.failures:
		cancel(failure)
		<-done
		return failure
	}
}

// Wait returns an ExitError as soon as a process ends that was not told to, or nil when ctx ends.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case failure := <-s.failures:
		return failure
	}
}

// Stop ends everything in order: the gateway, so that nothing new comes in; the services, which publish what
// they owe through their sidecars; the sidecars; and what those need. Nothing is left running; an error names
// what had to be killed.
func (s *Stack) Stop() error {
	s.stopping.Do(func() {
		s.stopErr = s.stopAll()
		s.blocks.release()
	})
	return s.stopErr
}

func (s *Stack) stopAll() error {
	if s.spawner == nil {
		return nil
	}
	var services, sidecars []string
	for _, a := range s.apps {
		if a.ID != "gateway" {
			services = append(services, a.ID)
		}
	}
	for _, a := range append(slices.Clone(s.apps), s.bare...) {
		sidecars = append(sidecars, sidecarName(a.ID))
	}
	var failed []error
	for _, group := range [][]string{{"gateway"}, services, sidecars, {Sandbox, Placement, Scheduler}, {NATS}} {
		failed = append(failed, s.stopGroup(group)...)
	}
	for _, p := range s.processes {
		_ = p.log.file.Close()
	}
	s.spawner.close()
	return errors.Join(failed...)
}

func (s *Stack) stopGroup(names []string) []error {
	var group sync.WaitGroup
	failed := make([]error, len(names))
	for i, name := range names {
		if process := s.processes[name]; process != nil {
			group.Go(func() { failed[i] = process.Stop() })
		}
	}
	group.Wait()
	return failed
}

// Process returns a process by name: nats, placement, scheduler, sandbox, an app by its id, or an app's sidecar
// as ID-dapr. It is nil if the stack has none of that name.
func (s *Stack) Process(name string) *Process { return s.processes[name] }

// Processes are the names of all processes.
func (s *Stack) Processes() []string { return slices.Clone(s.order) }

// Folder is where the stack's processes run; its state is in .state below.
func (s *Stack) Folder() string { return s.folder }

// GatewayURL is the address of the public API.
func (s *Stack) GatewayURL() string { return s.URL("gateway") }

// URL is the public address of an app.
func (s *Stack) URL(app string) string {
	a, _ := s.app(app)
	return s.publicURL(a)
}

func (s *Stack) publicURL(a App) string { return "http://" + local(publicPort(a)) }

// CallbackURL is where an app listens for its sidecar.
func (s *Stack) CallbackURL(app string) string {
	a, _ := s.app(app)
	return "http://" + local(a.Port)
}

// SidecarHTTP is the address (a URL) of a sidecar's HTTP API.
func (s *Stack) SidecarHTTP(app string) string {
	a, _ := s.app(app)
	return "http://" + local(a.HTTPPort)
}

// SidecarGRPC is the address (host:port) of a sidecar's gRPC API.
func (s *Stack) SidecarGRPC(app string) string {
	a, _ := s.app(app)
	return local(a.GRPCPort)
}

// NATSURL is the address of the broker.
func (s *Stack) NATSURL() string { return "nats://" + local(s.ports.NATS) }

// SandboxURL is the address of the Stripe sandbox.
func (s *Stack) SandboxURL() string { return "http://" + local(s.ports.Sandbox) }

// Secret returns a variable of the stack's .state/env: APP_API_TOKEN or STRIPE_WEBHOOK_SECRET.
func (s *Stack) Secret(name string) string { return s.environment(nil)[name] }

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func tcpReady(port int) func(context.Context) error {
	return func(ctx context.Context) error {
		dialer := net.Dialer{Timeout: time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", local(port))
		if err == nil {
			err = conn.Close()
		}
		return err
	}
}

func httpReady(port int, path string) func(context.Context) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+local(port)+path, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode/100 != 2 {
			body, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
			return fmt.Errorf("%s answers %s: %s", path, response.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}
