// Package stack starts the box office on one machine: the servers of a set of components, sentry, placement, scheduler, the Stripe
// sandbox, and the apps of a run file (dapr.yaml) with a sidecar each. The launcher behind `make run` uses it, and so do the
// tests: several stacks may run at the same time, each with a folder and ports of its own, and each process can be killed,
// paused and started again.
//
// newLayout (layout.go) decides what runs, and on which ports. newPlan (plan.go) computes from that and the credentials the
// programs and their files, as a value. Stack (stack.go) executes the plan.
package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options describe a stack. The zero value is the whole run file on free ports, which needs a Folder.
type Options struct {
	// RunFile is the path of dapr.yaml. Empty: the one in the working directory or the nearest above it.
	RunFile string
	// Folder is where all processes run. It contains the state folder. Empty: the run file's folder. A second stack in the same
	// folder, after the first has stopped, uses its state.
	Folder string
	// FixedPorts makes the apps listen on the run file's ports, and the rest on these. Nil: free ports.
	FixedPorts *Ports

	// Apps are the apps of the run file to start. Nil: all of them, or none if there are Sidecars.
	Apps []string
	// Without are apps that are not started, and whose addresses the other apps do not get. An id that the run file does not have is
	// ignored. An app that cannot run here (Omissions) is treated as if it were named here, unless Apps names it.
	Without []string
	// Replicas is how many of each app are started, each with a sidecar of its own. The second replica of an app is
	// called ID-2, and so on; with FixedPorts its ports are 10 above those of the first. 0 is 1.
	Replicas int
	// Sidecars are started without an app of the run file.
	Sidecars []Sidecar
	// Infra is what to start of Servers (those of the set), Sentry, Placement, Scheduler and Sandbox; the rest must run already,
	// on its port. Nil: all of them if there are apps, else the servers. If the Configuration asks for mTLS, Sentry is started
	// with placement or scheduler.
	Infra []string
	// Set is the folder of components to use in place of the one that the run file names. Empty: the one that INFRA names in the
	// environment, or that of the run file. A stack starts the servers of embedded, nats and redis.
	Set string

	// Programs replace the programs of apps, by app id, for tests with builds of their own. Paths are absolute.
	Programs map[string]string
	// Env is added to the environment of every process, and AppEnv to that of one app: of all replicas by the app's id, of one by the
	// replica's name. They override the run file and .state/env.
	Env    map[string]string
	AppEnv map[string]map[string]string
	// Resources are folders that sidecars get in place of the run file's resourcesPaths.
	Resources []string
	// ExtraResources are folders that sidecars get in addition.
	ExtraResources []string
	// DatabaseTemplate is the path of a copy of a new database cluster. The first stack makes it; the next ones start from a
	// copy, which takes a quarter of the time. It is for tests. Empty: each stack makes its own.
	DatabaseTemplate string
	// StoreDelay is added to each round trip between sidecars and PostgreSQL, by a proxy.
	StoreDelay time.Duration
	// Cuttable puts a proxy between sidecars and each server, so that Cut can interrupt the connections.
	Cuttable bool
	// Profiles makes services, sidecars and NATS serve their profiles; see ProfileURLs.
	Profiles bool
	// SidecarLogLevel is the log level of the sidecars, if not the run file's.
	SidecarLogLevel string

	// Output receives every line that the run file sends to the console, with the process's name. Nil: all lines are only in the
	// files under .state/logs. Calls for one process do not overlap.
	Output func(process, line string)
	// OutputAll gives Output all lines, also those of NATS, placement and scheduler.
	OutputAll bool
}

// Sidecar is a sidecar without an app of the run file: for tests that call Dapr themselves.
type Sidecar struct {
	// ID is its app id. A sidecar with the id "orders" has the subscriptions of orders.
	ID string
	// AppPort is the port on 127.0.0.1 where the test answers callbacks. 0: there is no app.
	AppPort int
	// HealthCheck is whether the run file's health check applies to the app. Without one, the app is healthy for the sidecar
	// as soon as AppPort accepts connections.
	HealthCheck bool
	// Resources are folders in place of those that the other sidecars get.
	Resources []string
}

// Stack is a running stack: it executes a plan.
type Stack struct {
	plan   *plan
	lock   *os.File // on the state folder
	blocks portBlocks

	spawner   *spawner
	processes map[string]*Process
	order     []string          // of processes, as they were made
	proxies   map[string]*proxy // by server
	failures  chan *ExitError
	stopping  sync.Once
	stopErr   error
}

// StateFolder is the folder for everything that a stack keeps, inside its own folder.
const StateFolder = ".state"

// gateway is the app that stops first, so that no new requests arrive.
const gateway = "gateway"

// Start starts a stack and waits until all of it is ready, or ctx ends. After an error no process is left.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	s := &Stack{processes: map[string]*Process{}, proxies: map[string]*proxy{}, failures: make(chan *ExitError, 64)}
	if err := s.prepare(opts); err != nil {
		s.release()
		return nil, err
	}
	if err := s.launch(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// prepare makes the plan, and checks that it can be executed here. After an error only the state folder remains.
func (s *Stack) prepare(opts Options) error {
	l, err := newLayout(opts, environ(), s.blocks.next, cannotRun)
	if err != nil {
		return err
	}
	if err := l.checkBuilt(); err != nil {
		return err
	}
	if err := checkInstalled(l.set.name, l.infra); err != nil {
		return err
	}
	if err := os.MkdirAll(l.state, 0o700); err != nil {
		return err
	}
	if s.lock, err = LockState(l.folder); err != nil {
		return err
	}
	if opts.FixedPorts != nil { // others are free by choice
		if err := checkPorts(l.fixedPorts()); err != nil {
			return err
		}
	}
	made, err := ensureCredentials(l)
	if err != nil {
		return err
	}
	s.plan = newPlan(l, made)
	return s.plan.write()
}

// environ is the environment of this process.
func environ() map[string]string {
	env := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// write writes the files that the programs read.
func (p *plan) write() error {
	folders := []string{filepath.Join(p.state, "logs"), p.dataFolder(), filepath.Join(p.state, tokensFolder)}
	if p.has(Redis) {
		folders = append(folders, p.redisFolder())
	}
	for _, folder := range folders {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	for _, file := range p.files {
		if err := os.WriteFile(file.path, []byte(file.text), 0o600); err != nil {
			return err
		}
	}
	if !p.forCLI() { // the file may be that of sidecars of Dapr's CLI
		for _, path := range p.namesDatabase() {
			_ = os.Remove(path) // addresses of sidecars of an earlier run that was killed
		}
	}
	for _, folder := range p.copies {
		if err := p.copyFolder(folder); err != nil {
			return fmt.Errorf("copy resources: %w", err)
		}
	}
	return nil
}

// release frees the ports and the state folder.
func (s *Stack) release() {
	s.blocks.release()
	if s.lock != nil {
		_ = s.lock.Close()
	}
}

// launch starts the programs by their stages. Sidecars start when the servers are ready and NATS has its streams, because a
// sidecar without its broker or store ends.
func (s *Stack) launch(ctx context.Context) error {
	s.spawner = newSpawner()
	for _, p := range s.plan.programs {
		if err := s.add(p); err != nil {
			return err
		}
	}
	if err := s.startStage(first); err != nil {
		return err
	}
	if s.plan.has(Postgres) {
		if err := s.preparePostgres(ctx); err != nil {
			return err
		}
	}
	if err := s.startStage(early); err != nil {
		return err
	}
	if err := s.startControlPlane(ctx); err != nil {
		return err
	}
	for _, name := range []string{Postgres, Redis} {
		if s.plan.has(name) {
			if err := s.WaitReady(ctx, name); err != nil {
				return err
			}
		}
	}
	if err := s.startProxies(); err != nil {
		return err
	}
	if err := s.startStage(sidecars); err != nil {
		return err
	}
	if s.plan.opts.Replicas > 1 {
		// If two sidecars create the same SQLite file at the same moment, one fails and ends.
		if err := s.WaitReady(ctx, s.names(sidecars)...); err != nil {
			return err
		}
	}
	if err := s.startStage(furtherSidecars); err != nil {
		return err
	}
	return s.WaitReady(ctx)
}

// startControlPlane starts placement and scheduler as soon as sentry is ready, and makes the streams of NATS at the same time. It
// returns when both are done.
func (s *Stack) startControlPlane(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if s.plan.has(NATS) {
		group.Go(func() error { return s.ensureStreams(ctx) })
	}
	group.Go(func() error {
		if s.plan.has(Sentry) {
			if err := s.WaitReady(ctx, Sentry); err != nil {
				return err
			}
		}
		return s.startStage(controlPlane)
	})
	return group.Wait()
}

// startStage starts the programs of a stage.
func (s *Stack) startStage(stage stage) error {
	for _, name := range s.names(stage) {
		if err := s.processes[name].Start(); err != nil {
			return err
		}
	}
	return nil
}

// names are the processes of a stage.
func (s *Stack) names(stage stage) (names []string) {
	for _, p := range s.plan.programs {
		if p.stage == stage {
			names = append(names, p.name)
		}
	}
	return names
}

// add makes the process of a program, without starting it, and its log. The log of the run before is kept.
func (s *Stack) add(p program) error {
	logs := filepath.Join(s.plan.state, "logs")
	path := filepath.Join(logs, p.name+".log")
	_ = os.Rename(path, filepath.Join(logs, p.name+".previous.log"))
	opened, err := os.Create(path)
	if err != nil {
		return err
	}
	output := &processLog{file: opened}
	opts := s.plan.opts
	if opts.Output != nil && (opts.OutputAll || p.log.shown()) {
		output.show = func(line string) { opts.Output(p.name, line) }
	}
	var account *syscall.Credential
	if p.asPostgres {
		if account, err = postgresAccount(); err != nil {
			return err
		}
	}
	var env []string
	for name, value := range p.env {
		env = append(env, name+"="+value)
	}
	s.processes[p.name] = &Process{
		Name: p.name, grace: p.grace, stop: p.stopSignal, account: account, mayKill: p.sidecar, ready: s.readiness(p), spawner: s.spawner, log: output,
		command: func() *exec.Cmd {
			cmd := exec.Command(p.args[0], p.args[1:]...)
			cmd.Dir, cmd.Env = p.dir, env
			return cmd
		},
		died: func(failure *ExitError) {
			select {
			case s.failures <- failure:
			default: // there are many; the first ones are enough
			}
		},
	}
	s.order = append(s.order, p.name)
	return nil
}

// Wait returns an ExitError as soon as a process ends by itself, or nil when ctx ends.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case failure := <-s.failures:
		return failure
	}
}

// Stop ends all processes in the order of the plan. No process is left. An error names those that had to be killed.
func (s *Stack) Stop() error {
	s.stopping.Do(func() {
		s.stopErr = s.stopAll()
		s.release()
	})
	return s.stopErr
}

func (s *Stack) stopAll() error {
	if s.spawner == nil {
		return nil
	}
	var failed []error
	for _, group := range s.plan.stopOrder() {
		failed = append(failed, s.stopGroup(group)...)
	}
	for _, p := range s.proxies {
		failed = append(failed, p.close())
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

// Process returns a process by name: nats, postgres, redis, sentry, placement, scheduler, sandbox, an app by its id, its second
// replica as ID-2, or the sidecar of one of them as ID-dapr or ID-2-dapr. It is nil if there is no such process.
func (s *Stack) Process(name string) *Process { return s.processes[name] }

// Processes are the names of all processes.
func (s *Stack) Processes() []string { return slices.Clone(s.order) }

// Omissions are the apps that were not started because they cannot run on this machine.
func (s *Stack) Omissions() []Omission { return slices.Clone(s.plan.omissions) }

// Folder is the folder where the stack's processes run. It contains the state folder.
func (s *Stack) Folder() string { return s.plan.folder }

// Data is the folder with the data of the set, in the state folder.
func (s *Stack) Data() string { return s.plan.dataFolder() }

// GatewayURL is the address of the public API.
func (s *Stack) GatewayURL() string { return s.URL(gateway) }

// GatewayURLs are the addresses of all replicas of the gateway.
func (s *Stack) GatewayURLs() []string {
	var urls []string
	for _, name := range s.Replicas(gateway) {
		urls = append(urls, s.URL(name))
	}
	return urls
}

// Replicas are the names of an app's replicas, by its id.
func (s *Stack) Replicas(app string) []string {
	var names []string
	for _, a := range s.plan.apps {
		if a.ID == app {
			names = append(names, a.Name)
		}
	}
	return names
}

// URL is the public address of an app of the run file, also of one that is not started. In this and the other methods that take
// an app, its id means the first replica, ID-2 the second.
func (s *Stack) URL(app string) string { return publicURL(s.plan.app(app)) }

// CallbackURL is the address where an app listens for its sidecar.
func (s *Stack) CallbackURL(app string) string { return "http://" + local(s.plan.app(app).Port) }

// SidecarHTTP is the address (a URL) of a sidecar's HTTP API.
func (s *Stack) SidecarHTTP(app string) string { return "http://" + local(s.plan.app(app).HTTPPort) }

// SidecarGRPC is the address (host:port) of a sidecar's gRPC API.
func (s *Stack) SidecarGRPC(app string) string { return local(s.plan.app(app).GRPCPort) }

// AppMetrics is the address (a URL) of an app's own metrics, in Prometheus' format. An earlier release serves them on the
// public port.
func (s *Stack) AppMetrics(app string) string {
	if port := appMetricsPort(s.plan.app(app)); port != 0 {
		return "http://" + local(port) + "/metrics"
	}
	return s.URL(app) + "/metrics"
}

// SidecarInternal is the address (host:port) where a sidecar accepts calls of other sidecars.
func (s *Stack) SidecarInternal(app string) string { return local(s.plan.app(app).InternalPort) }

// SidecarMetrics is the address (a URL) of a sidecar's metrics, in Prometheus' format.
func (s *Stack) SidecarMetrics(app string) string {
	return "http://" + local(s.plan.app(app).MetricsPort) + "/metrics"
}

// SentryAddress, PlacementAddress and SchedulerAddress are where these listen (host:port).
func (s *Stack) SentryAddress() string    { return local(s.plan.ports.Sentry) }
func (s *Stack) PlacementAddress() string { return local(s.plan.ports.Placement) }
func (s *Stack) SchedulerAddress() string { return local(s.plan.ports.Scheduler) }

// SandboxURL is the address of the Stripe sandbox.
func (s *Stack) SandboxURL() string { return "http://" + local(s.plan.ports.Sandbox) }

// Secret returns a variable of the stack's .state/env, for example STRIPE_WEBHOOK_SECRET. For tokens see SidecarToken and AppToken.
func (s *Stack) Secret(name string) string { return s.plan.environment(nil)[name] }

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
