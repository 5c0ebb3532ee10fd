// Package stack brings up the box office on one machine: the servers of a set of components, sentry, placement, scheduler, the Stripe sandbox, and
// the apps of a run file (dapr.yaml) with a sidecar each. The launcher behind `make run` is built on it, and so
// are the tests: a stack has a folder and ports of its own, several may run side by side, and each of its
// processes can be killed, paused and started again.
package stack

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
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
	// Replicas is how many of each app are started, each with a sidecar of its own. The second replica of an app is
	// called ID-2, and so on; with FixedPorts its ports are 10 above those of the first. 0 is 1.
	Replicas int
	// Sidecars are started without an app of the run file.
	Sidecars []Sidecar
	// Infra is what to start of Servers (those of the set), Sentry, Placement, Scheduler and Sandbox; the rest is expected to
	// be there already, on its port. Nil: all of them if there are apps, else the servers. Sentry is started with placement or
	// scheduler, and there is mTLS, if the Configuration asks for it.
	Infra []string
	// Set is the folder of components to use in place of the one that the run file names. Empty: what INFRA says in the
	// environment, or that one. A stack brings the servers of embedded, nats and redis.
	Set string

	// Programs replace the programs of apps, by app id, as tests do with builds of their own. Paths are absolute.
	Programs map[string]string
	// Env is added to the environment of every process, and AppEnv to that of one app (by its id: all replicas; by a
	// replica's name: that one); they win over the run file and over .state/env.
	Env    map[string]string
	AppEnv map[string]map[string]string
	// Resources are folders that sidecars get in place of the run file's resourcesPaths.
	Resources []string
	// ExtraResources are folders that sidecars get besides.
	ExtraResources []string
	// DatabaseTemplate is where a copy of the database cluster is kept, made by the first stack that finds none there, as it
	// is before the server starts; those after it begin with a copy, in a fourth of the time. For tests, which start many.
	// Empty: each stack makes its own.
	DatabaseTemplate string
	// StoreDelay is added to each round trip between sidecars and PostgreSQL, by a proxy.
	StoreDelay time.Duration
	// Cuttable puts a proxy between sidecars and each server, so that Cut can stop what passes.
	Cuttable bool
	// Profiles makes services, sidecars and NATS serve their profiles; see ProfileURLs.
	Profiles bool
	// SidecarLogLevel is the log level of the sidecars, if not the run file's.
	SidecarLogLevel string

	// Output takes every line that the run file sends to the console, with the process's name. Nil: all lines
	// are in the files under .state/logs only. Calls for one process do not overlap.
	Output func(process, line string)
	// OutputAll gives Output all lines, also those of NATS, placement and scheduler.
	OutputAll bool
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
	opts       Options
	root       string // folder of the run file
	folder     string
	state      string
	set        string   // of components
	components string   // its folder
	data       string   // folder of the set's own data, in state
	lock       *os.File // on the state folder
	runtime    string   // binaries
	stripe     string

	ports    Ports
	moves    moves
	blocks   portBlocks
	rendered map[string]string // resource folders by those that they were copied from
	secrets  map[string]string
	profiles map[string]int // ports, by process

	proxyPorts map[string]int    // where sidecars find the servers that are behind a proxy
	proxies    map[string]*proxy // by server

	mtls         bool         // between sidecars, and with placement and scheduler
	mtlsWanted   bool         // by the Configuration, which is not one of the release before then
	passworded   bool         // the broker wants passwords
	certificates Certificates // of a secured set's servers
	passwords    passwords

	known   []App // the run file's and their replicas, with this stack's ports, and the sidecars on their own
	chosen  []App // those of known that are started
	infra   []string
	spawner *spawner

	processes map[string]*Process
	order     []string // of processes, as they were made
	failures  chan *ExitError
	stopping  sync.Once
	stopErr   error
}

// StateFolder is where a stack keeps everything, inside its folder.
const StateFolder = ".state"

// gateway is the app that is stopped before all others, so that nothing new comes in.
const gateway = "gateway"

const (
	// The services finish requests and publish events for up to 15 s.
	appGrace = 20 * time.Second
	// A sidecar that is told to end goes on with the deliveries in its hands, for as long as their retries last,
	// though their app is gone. Killed, it leaves them to be made again at the next start.
	sidecarGrace = 3 * time.Second
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

// launch starts everything. All that does not need the servers starts at once; the sidecars when these are ready and
// NATS has its streams, for a sidecar whose broker or store is missing gives up.
func (s *Stack) launch(ctx context.Context) error {
	s.spawner = newSpawner()
	programs, err := s.programs()
	if err != nil {
		return err
	}
	for _, p := range programs {
		if err := s.profiled(&p); err != nil {
			return err
		}
		if err := s.add(p); err != nil {
			return err
		}
	}
	if s.has(Sentry) {
		if err := s.processes[Sentry].Start(); err != nil {
			return err
		}
	}
	if s.has(Postgres) {
		if err := s.preparePostgres(ctx); err != nil {
			return err
		}
	}
	if _, err := s.startAll(programs, func(p program) bool { return !p.sidecar && !p.controlPlane }); err != nil {
		return err
	}
	if err := s.startControlPlane(ctx, programs); err != nil {
		return err
	}
	for _, name := range []string{Postgres, Redis} {
		if s.has(name) {
			if err := s.WaitReady(ctx, name); err != nil {
				return err
			}
		}
	}
	if err := s.startProxies(); err != nil {
		return err
	}
	first, err := s.startAll(programs, func(p program) bool { return p.sidecar && p.replica == 1 })
	if err != nil {
		return err
	}
	if s.opts.Replicas > 1 {
		// Two that make the same SQLite file in the same moment get into each other's way, and one gives up.
		if err := s.WaitReady(ctx, first...); err != nil {
			return err
		}
	}
	if _, err := s.startAll(programs, func(p program) bool { return p.sidecar && p.replica > 1 }); err != nil {
		return err
	}
	return s.WaitReady(ctx)
}

// startControlPlane starts placement and scheduler when sentry answers, for they give up without, and makes the streams of NATS
// meanwhile. It returns when both are done.
func (s *Stack) startControlPlane(ctx context.Context, programs []program) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	streams := make(chan error, 1)
	go func() {
		var err error
		if s.has(NATS) {
			err = s.ensureStreams(ctx)
		}
		streams <- err
	}()
	var err error
	if s.has(Sentry) {
		err = s.WaitReady(ctx, Sentry)
	}
	if err == nil {
		_, err = s.startAll(programs, func(p program) bool { return p.controlPlane && p.name != Sentry })
	}
	if err != nil {
		cancel()
		<-streams
		return err
	}
	return <-streams
}

// program is what there is to know of a process before it runs.
type program struct {
	name    string
	dir     string
	args    []string
	env     map[string]string
	grace   time.Duration
	ready   func(context.Context) error
	log     LogDestination
	stop    syscall.Signal // 0: SIGTERM
	account *syscall.Credential
	sidecar bool
	replica int // of the app, from 1; 0 if it belongs to none
	// controlPlane is whether it is sentry, or needs sentry.
	controlPlane bool
}

func (s *Stack) programs() ([]program, error) {
	var programs []program
	for _, name := range s.infra {
		args, err := s.infraArgs(name)
		if err != nil {
			return nil, err
		}
		p := program{
			name: name, dir: s.folder, args: args, env: s.environment(nil),
			grace: infraGrace, ready: s.infraReady(name), log: infraLog(name),
		}
		for _, secret := range tokenVariables {
			delete(p.env, secret)
		}
		if slices.Contains([]string{Sentry, Placement, Scheduler}, name) {
			p.controlPlane = true
			if err := s.identity(p.env, "dapr-"+name); err != nil {
				return nil, err
			}
		}
		if name == Postgres {
			p.stop = syscall.SIGINT // at SIGTERM it would wait until everybody has gone
			p.dir = "/"             // it may not be able to enter ours; see runAs
			if p.account, err = postgresAccount(); err != nil {
				return nil, err
			}
		}
		programs = append(programs, p)
	}
	for _, a := range s.chosen {
		env := s.environment(nil)
		if env["DAPR_HOST_IP"] == "" {
			env["DAPR_HOST_IP"] = "127.0.0.1" // as Dapr's CLI does: sidecars find each other there
		}
		if s.secured() {
			env[trustVariable] = s.certificates.Trusted
		}
		s.tokens(env, a.ID)
		if err := s.identity(env, a.ID); err != nil {
			return nil, err
		}
		programs = append(programs, program{
			name: sidecarName(a.Name), dir: a.Dir, args: s.sidecarArgs(a), env: env, sidecar: true, replica: a.replica(),
			grace: sidecarGrace, ready: httpReady(a.HTTPPort, "/v1.0/healthz"), log: a.SidecarLog,
		})
		if len(a.Command) == 0 {
			continue
		}
		ready := tcpReady(a.Port)
		if port := publicPort(a); port != 0 {
			ready = httpReady(port, "/readyz")
		}
		programs = append(programs, program{
			name: a.Name, dir: a.Dir, args: absoluteCommand(a), env: s.environment(&a), replica: a.replica(),
			grace: appGrace, ready: ready, log: a.AppLog,
		})
	}
	return programs, nil
}

// startAll starts some of the programs, and returns their names.
func (s *Stack) startAll(programs []program, which func(program) bool) (names []string, err error) {
	for _, p := range programs {
		if which(p) {
			if err := s.processes[p.name].Start(); err != nil {
				return nil, err
			}
			names = append(names, p.name)
		}
	}
	return names, nil
}

// add makes a program's process, which does not run yet, and its log. The log of the run before is kept.
func (s *Stack) add(p program) error {
	path := filepath.Join(s.state, "logs", p.name+".log")
	_ = os.Rename(path, filepath.Join(s.state, "logs", p.name+".previous.log"))
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	output := &processLog{file: file}
	if s.opts.Output != nil && (s.opts.OutputAll || p.log.shown()) {
		output.show = func(line string) { s.opts.Output(p.name, line) }
	}
	var env []string
	for name, value := range p.env {
		env = append(env, name+"="+value)
	}
	s.processes[p.name] = &Process{
		Name: p.name, grace: p.grace, stop: cmp.Or(p.stop, syscall.SIGTERM), account: p.account, mayKill: p.sidecar, ready: p.ready, spawner: s.spawner, log: output,
		command: func() *exec.Cmd {
			cmd := exec.Command(p.args[0], p.args[1:]...)
			cmd.Dir, cmd.Env = p.dir, env
			return cmd
		},
		died: func(failure *ExitError) {
			select {
			case s.failures <- failure:
			default: // a crowd of deaths; the first ones tell enough
			}
		},
	}
	s.order = append(s.order, p.name)
	return nil
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
		s.release()
	})
	return s.stopErr
}

func (s *Stack) stopAll() error {
	if s.spawner == nil {
		return nil
	}
	var gateways, services, sidecars []string
	for _, a := range s.chosen {
		if a.ID == gateway {
			gateways = append(gateways, a.Name)
		} else {
			services = append(services, a.Name)
		}
		sidecars = append(sidecars, sidecarName(a.Name))
	}
	var failed []error
	for _, group := range [][]string{gateways, services, sidecars, {Sandbox, Placement, Scheduler}, {Sentry, NATS, Redis, Postgres}} {
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

// Process returns a process by name: nats, postgres, redis, sentry, placement, scheduler, sandbox, an app by its id, its second replica as
// ID-2, or the sidecar of one of them as ID-dapr or ID-2-dapr. It is nil if the stack has none of that name.
func (s *Stack) Process(name string) *Process { return s.processes[name] }

// Processes are the names of all processes.
func (s *Stack) Processes() []string { return slices.Clone(s.order) }

// Folder is where the stack's processes run; its state is in .state below.
func (s *Stack) Folder() string { return s.folder }

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
	for _, a := range s.known {
		if a.ID == app {
			names = append(names, a.Name)
		}
	}
	return names
}

// URL is the public address of an app of the run file, whether it is started or not. Here as in the other methods
// that take an app, its id is its first replica, ID-2 the second.
func (s *Stack) URL(app string) string { return publicURL(s.app(app)) }

// CallbackURL is where an app listens for its sidecar.
func (s *Stack) CallbackURL(app string) string { return "http://" + local(s.app(app).Port) }

// SidecarHTTP is the address (a URL) of a sidecar's HTTP API.
func (s *Stack) SidecarHTTP(app string) string { return "http://" + local(s.app(app).HTTPPort) }

// SidecarGRPC is the address (host:port) of a sidecar's gRPC API.
func (s *Stack) SidecarGRPC(app string) string { return local(s.app(app).GRPCPort) }

// AppMetrics is the address (a URL) of an app's own metrics, in Prometheus' format. (Apps of earlier releases serve them on
// their public port.)
func (s *Stack) AppMetrics(app string) string {
	if port := appMetricsPort(s.app(app)); port != 0 {
		return "http://" + local(port) + "/metrics"
	}
	return s.URL(app) + "/metrics"
}

// SidecarInternal is the address (host:port) at which a sidecar takes calls of other sidecars.
func (s *Stack) SidecarInternal(app string) string { return local(s.app(app).InternalPort) }

// SidecarMetrics is the address (a URL) of a sidecar's metrics, in Prometheus' format.
func (s *Stack) SidecarMetrics(app string) string {
	return "http://" + local(s.app(app).MetricsPort) + "/metrics"
}

func (s *Stack) app(name string) App {
	for _, a := range s.known {
		if a.Name == name {
			return a
		}
	}
	return App{}
}

// appIDs are the ids of all apps, in order.
func (s *Stack) appIDs() []string {
	var ids []string
	for _, a := range s.known {
		ids = append(ids, a.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (s *Stack) has(infra string) bool { return slices.Contains(s.infra, infra) }

// SandboxURL is the address of the Stripe sandbox.
func (s *Stack) SandboxURL() string { return "http://" + local(s.ports.Sandbox) }

// Secret returns a variable of the stack's .state/env, as STRIPE_WEBHOOK_SECRET. For tokens see APIToken and AppToken.
func (s *Stack) Secret(name string) string { return s.environment(nil)[name] }

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
