package stack

import (
	"maps"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// plan is a stack as a value: which programs run with which arguments, environment and ports, and which files they read.
// Stack executes it.
type plan struct {
	layout
	credentials
	programs []program
	files    []file
}

// program is one process before it runs.
type program struct {
	name       string
	stage      stage
	dir        string
	args       []string
	env        map[string]string
	ready      probe
	stopSignal syscall.Signal
	grace      time.Duration // between the signal and SIGKILL
	log        LogDestination
	sidecar    bool
	asPostgres bool // it runs under the account of PostgreSQL
}

// probe is how to see that a program is ready: it answers a GET request with success, or, without a path, it accepts connections.
// PostgreSQL and Redis have probes of their own.
type probe struct {
	port int
	path string
}

// file is one that is written before the programs start.
type file struct{ path, text string }

// stage is when a program starts.
type stage int

const (
	first           stage = iota // sentry
	early                        // what needs no other process: servers, sandbox, apps
	controlPlane                 // placement and scheduler, which end if sentry does not answer
	sidecars                     // which end if a server does not answer
	furtherSidecars              // of the second replica and so on
)

const (
	// A service finishes requests and publishes events for up to 15 s.
	appGrace = 20 * time.Second
	// After SIGTERM a sidecar continues the deliveries that have begun, for as long as their retries last, though its app has
	// ended. After SIGKILL they are delivered again at the next start.
	sidecarGrace = 3 * time.Second
	infraGrace   = 10 * time.Second
)

// newPlan computes the plan. It reads and writes nothing.
func newPlan(l *layout, c credentials) *plan {
	p := &plan{layout: *l, credentials: c}
	for _, name := range p.infra {
		p.programs = append(p.programs, p.infraProgram(name))
	}
	for _, a := range p.started {
		p.programs = append(p.programs, p.sidecarProgram(a))
		if len(a.Command) > 0 {
			p.programs = append(p.programs, p.appProgram(a))
		}
	}
	if p.has(NATS) {
		p.files = append(p.files, file{p.natsConfigPath(), p.natsConfig()})
	}
	if p.has(Redis) {
		p.files = append(p.files, file{p.redisConfigPath(), p.redisConfig()})
	}
	p.files = append(p.files, p.tokenFiles()...)
	if p.set.passwords {
		p.files = append(p.files, p.passwordFiles()...)
	}
	return p
}

func (p *plan) infraProgram(name string) program {
	program := program{
		name: name, stage: early, dir: p.folder, args: p.infraArgs(name), env: p.environment(nil), ready: p.infraProbe(name),
		stopSignal: syscall.SIGTERM, grace: infraGrace, log: LogFile, // a developer of services rarely needs their lines
	}
	for _, token := range tokenVariables {
		delete(program.env, token)
	}
	switch name {
	case Sentry:
		program.stage = first
		p.identify(program.env, name)
	case Placement, Scheduler:
		program.stage = controlPlane
		p.identify(program.env, name)
	case Postgres:
		program.stopSignal = syscall.SIGINT         // after SIGTERM it would wait for all clients
		program.dir, program.asPostgres = "/", true // its account may have no right to enter the stack's folder; see runAs
	case Sandbox:
		program.log = LogFileAndConsole
	}
	if port := p.profiles[name]; port != 0 {
		program.args = append(program.args, "--profile", strconv.Itoa(port))
	}
	return program
}

func (p *plan) sidecarProgram(a App) program {
	env := p.environment(nil)
	if env["DAPR_HOST_IP"] == "" {
		env["DAPR_HOST_IP"] = "127.0.0.1" // as Dapr's CLI does: sidecars find each other there
	}
	if p.set.tls() {
		env[trustVariable] = p.certificates.Trusted
	}
	p.setTokens(env, a.ID)
	p.identify(env, a.ID)
	program := program{
		name: sidecarName(a.Name), stage: sidecars, dir: a.Dir, args: p.sidecarArgs(a), env: env, sidecar: true,
		ready: probe{a.HTTPPort, "/v1.0/healthz"}, stopSignal: syscall.SIGTERM, grace: sidecarGrace, log: a.SidecarLog,
	}
	if a.Name != a.ID {
		program.stage = furtherSidecars
	}
	if port := p.profiles[program.name]; port != 0 {
		program.args = append(program.args, "--enable-profiling", "--profile-port", strconv.Itoa(port))
	}
	return program
}

func (p *plan) appProgram(a App) program {
	program := program{
		name: a.Name, stage: early, dir: a.Dir, args: absoluteCommand(a), env: p.environment(&a),
		ready: probe{port: a.Port}, stopSignal: syscall.SIGTERM, grace: appGrace, log: a.AppLog,
	}
	if port := publicPort(a); port != 0 {
		program.ready = probe{port, "/readyz"}
	}
	if port := p.profiles[a.Name]; port != 0 {
		program.env[profilePort] = strconv.Itoa(port)
	}
	return program
}

// environment is the environment of a process. By rising precedence: settings of Go's runtime, the gateway's address,
// .state/env, the launcher's environment, what Dapr's CLI sets, the run file, the options. For servers and sidecars a is nil.
func (p *plan) environment(a *App) map[string]string {
	env := map[string]string{}
	switch {
	case a == nil:
		env = goSettings("")
	case !a.ofNode():
		env = goSettings(a.ID)
	}
	for _, started := range p.started {
		if started.Name == gateway && publicPort(started) != 0 {
			env["PUBLIC_URL"] = "http://localhost:" + strconv.Itoa(publicPort(started))
		}
	}
	maps.Copy(env, p.env)
	maps.Copy(env, p.environ)
	if a != nil {
		env["APP_ID"] = a.ID
		env["APP_PORT"] = strconv.Itoa(a.Port)
		env["APP_PROTOCOL"] = a.Protocol
		env["DAPR_HTTP_PORT"] = strconv.Itoa(a.HTTPPort)
		env["DAPR_GRPC_PORT"] = strconv.Itoa(a.GRPCPort)
		env["DAPR_METRICS_PORT"] = strconv.Itoa(a.MetricsPort)
		maps.Copy(env, a.Env)
		p.setTokens(env, a.ID)
		delete(env, "DAPR_SENTRY_TOKEN_FILE") // of its sidecar
	}
	maps.Copy(env, p.opts.Env)
	if a != nil {
		maps.Copy(env, p.opts.AppEnv[a.ID])
		if a.Name != a.ID {
			maps.Copy(env, p.opts.AppEnv[a.Name])
		}
	}
	return env
}

// stopOrder are the names of processes in the order in which they stop; those of one group stop together. The gateway is
// first, so that no new requests arrive. Then the services publish their last events through their sidecars.
func (p *plan) stopOrder() [][]string {
	var gateways, services, sidecarNames []string
	for _, a := range p.started {
		if a.ID == gateway {
			gateways = append(gateways, a.Name)
		} else {
			services = append(services, a.Name)
		}
		sidecarNames = append(sidecarNames, sidecarName(a.Name))
	}
	return [][]string{gateways, services, sidecarNames, {Sandbox, Placement, Scheduler}, {Sentry, NATS, Redis, Postgres}}
}

// namesDatabase are the files with the addresses of sidecars.
func (p *plan) namesDatabase() []string {
	var paths []string
	for _, suffix := range []string{"", "-wal", "-shm"} {
		paths = append(paths, filepath.Join(p.state, "names.db"+suffix))
	}
	return paths
}
