package stack

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// prepare decides everything that can be decided before a process runs: what is started, on which ports, with
// which files. An error leaves nothing behind but the state folder.
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
	root := filepath.Dir(run.Path)
	folder := root
	if opts.Folder != "" {
		if folder, err = filepath.Abs(opts.Folder); err != nil {
			return nil, err
		}
	}
	s := &Stack{
		opts: opts, root: root, folder: folder, state: filepath.Join(folder, StateFolder),
		runtime: filepath.Join(root, ".build", "runtime"), stripe: filepath.Join(root, ".build", "stripe"),
		moves: moves{}, rendered: map[string]string{}, processes: map[string]*Process{}, profiles: map[string]int{},
		proxyPorts: map[string]int{}, proxies: map[string]*proxy{},
		failures: make(chan *ExitError, 64),
	}
	for _, step := range []func(*RunFile) error{s.chooseSet, s.choosePasswords, s.assignPorts, s.choose, s.chooseIdentities, s.checkBuilt, s.checkInstalled, s.checkPorts, s.makeFolder} {
		if err := step(run); err != nil {
			s.release()
			return nil, err
		}
	}
	return s, nil
}

// assignPorts notes for every port of the run file, and for those it does not name, which port this stack uses
// instead. All apps move, also those that are not started: what is left out must not be found at its usual
// address, where another stack may run.
func (s *Stack) assignPorts(run *RunFile) error {
	usual, standard := DefaultPorts(), DefaultPorts()
	if s.opts.FixedPorts != nil {
		s.ports = *s.opts.FixedPorts
		for i, port := range s.ports.all() {
			if from := *usual.all()[i]; from != *port {
				s.moves[from] = *port
			}
		}
	} else {
		s.ports = usual
		for _, port := range s.ports.all() {
			if err := s.move(port); err != nil {
				return err
			}
		}
	}
	for _, a := range run.Apps {
		if s.opts.FixedPorts == nil {
			public, metrics := publicPort(a), appMetricsPort(a)
			for _, port := range append(a.ports(), &public, &metrics) {
				if err := s.move(port); err != nil {
					return err
				}
			}
		}
		s.known = append(s.known, a)
	}
	for server, standard := range s.proxied(standard) {
		port, err := s.blocks.next()
		if err != nil {
			return err
		}
		s.proxyPorts[server], s.moves[standard] = port, port
	}
	// After all have moved: an app's environment names other apps' ports.
	for i := range s.known {
		s.known[i].Env = s.movedEnv(s.known[i])
	}
	return s.addReplicas()
}

// addReplicas makes the further replicas of every app, and tells each app the addresses of all replicas where the
// run file names an app's address.
func (s *Stack) addReplicas() error {
	if s.opts.Replicas <= 1 {
		return nil
	}
	addresses := map[string]string{} // by an app's address: those of all its replicas
	for _, a := range slices.Clone(s.known) {
		addresses[publicURL(a)] = publicURL(a)
		for number := 2; number <= s.opts.Replicas; number++ {
			replica, err := s.replica(a, number)
			if err != nil {
				return err
			}
			addresses[publicURL(a)] += "," + publicURL(replica)
			s.known = append(s.known, replica)
		}
	}
	for _, a := range s.known {
		for name, value := range a.Env {
			if all, listed := addresses[strings.Replace(value, "//localhost:", "//127.0.0.1:", 1)]; listed {
				a.Env[name] = all
			}
		}
	}
	return nil
}

const (
	// MaxReplicas is how many replicas of each app there can be.
	MaxReplicas = 9
	// replicaStep is how far a replica's ports are above those of the one before it, if ports are fixed.
	replicaStep = 10
)

// replica is a further one of an app: the same in all but its name and its ports.
func (s *Stack) replica(a App, number int) (App, error) {
	a.Name = a.ID + "-" + strconv.Itoa(number)
	a.Env = maps.Clone(a.Env)
	public, metrics := publicPort(a), appMetricsPort(a)
	for _, port := range append(a.ports(), &public, &metrics) {
		switch {
		case *port == 0:
		case s.opts.FixedPorts != nil:
			*port += (number - 1) * replicaStep
		default:
			var err error
			if *port, err = s.blocks.next(); err != nil {
				return App{}, err
			}
		}
	}
	if public != 0 {
		a.Env["PORT"] = strconv.Itoa(public)
	}
	if metrics != 0 {
		a.Env[metricsAddress] = local(metrics)
	}
	return a, nil
}

// replica is the app's number among its replicas, from 1.
func (a *App) replica() int {
	number, err := strconv.Atoi(strings.TrimPrefix(a.Name, a.ID+"-"))
	if err != nil {
		return 1
	}
	return number
}

func publicURL(a App) string { return "http://" + local(publicPort(a)) }

// move gives a port of the run file its place in this stack.
func (s *Stack) move(port *int) error {
	if *port == 0 {
		return nil
	}
	to, moved := s.moves[*port]
	if !moved {
		var err error
		if to, err = s.blocks.next(); err != nil {
			return err
		}
		s.moves[*port] = to
	}
	*port = to
	return nil
}

// ports are those of an app and its sidecar, but for the public one and that of its metrics, which only the app knows of.
func (a *App) ports() []*int {
	return []*int{&a.Port, &a.HTTPPort, &a.GRPCPort, &a.InternalPort, &a.MetricsPort}
}

// publicPort is where an app listens for the world, by the variable PORT; 0 if it has none.
func publicPort(a App) int {
	port, _ := strconv.Atoi(a.Env["PORT"])
	return port
}

// metricsAddress is the variable with the address where an app serves its metrics.
const metricsAddress = "METRICS_ADDRESS"

// appMetricsPort is where an app serves its metrics; 0 if its environment does not say.
func appMetricsPort(a App) int {
	_, text, _ := net.SplitHostPort(a.Env[metricsAddress])
	port, _ := strconv.Atoi(text)
	return port
}

func (s *Stack) movedEnv(a App) map[string]string {
	env := make(map[string]string, len(a.Env))
	for name, value := range a.Env {
		env[name] = s.moves.in(value)
	}
	if to, moved := s.moves[publicPort(a)]; moved {
		env["PORT"] = strconv.Itoa(to)
	}
	return env
}

// choose picks the apps, sidecars and other processes that the options ask for.
func (s *Stack) choose(run *RunFile) error {
	all := s.opts.Apps == nil && len(s.opts.Sidecars) == 0
	for _, id := range s.opts.Apps {
		if s.app(id).ID == "" {
			return fmt.Errorf("%s has no app %q", run.Path, id)
		}
	}
	for _, a := range s.known {
		if !all && !slices.Contains(s.opts.Apps, a.ID) {
			continue
		}
		if s.opts.Folder != "" {
			// A stack with a folder of its own runs there what the run file runs in its own folder.
			a.Command, a.Dir = absoluteCommand(a), s.folder
		}
		if s.opts.Resources != nil {
			a.ResourcesPaths = s.opts.Resources
		}
		if program, other := s.opts.Programs[a.ID]; other {
			a.Command = append([]string{program}, a.Command[1:]...)
		}
		s.chosen = append(s.chosen, a)
	}
	switch {
	case s.opts.Infra != nil:
		s.infra = s.opts.Infra
	case len(s.chosen) > 0:
		s.infra = []string{Servers, Sentry, Placement, Scheduler, Sandbox}
	default:
		s.infra = []string{Servers}
	}
	if i := slices.Index(s.infra, Servers); i >= 0 {
		s.infra = slices.Concat(s.infra[:i], serversOf[s.set], s.infra[i+1:])
	}
	for _, sidecar := range s.opts.Sidecars {
		a, err := s.bareSidecar(sidecar, run.Apps[0].settings)
		if err != nil {
			return err
		}
		s.known = slices.DeleteFunc(s.known, func(other App) bool { return other.ID == a.ID })
		s.known = append(s.known, a)
		s.chosen = append(s.chosen, a)
	}
	for i := range s.chosen {
		a := &s.chosen[i]
		a.ResourcesPaths = slices.Concat(a.ResourcesPaths, s.opts.ExtraResources)
		if s.opts.SidecarLogLevel != "" {
			a.LogLevel = s.opts.SidecarLogLevel
		}
	}
	return nil
}

// bareSidecar has the settings that the run file gives to its first app.
func (s *Stack) bareSidecar(sidecar Sidecar, from settings) (App, error) {
	a := App{settings: from, ID: sidecar.ID, Name: sidecar.ID, Dir: s.folder, Port: sidecar.AppPort}
	a.Env = nil
	a.HealthCheck = sidecar.HealthCheck && a.HealthCheck
	switch {
	case sidecar.Resources != nil:
		a.ResourcesPaths = sidecar.Resources
	case s.opts.Resources != nil:
		a.ResourcesPaths = s.opts.Resources
	}
	for _, port := range a.ports()[1:] { // the first is the test's own
		var err error
		if *port, err = s.blocks.next(); err != nil {
			return App{}, err
		}
	}
	return a, nil
}

// absoluteCommand is an app's command with the path that it has in the app's folder.
func absoluteCommand(a App) []string {
	command := slices.Clone(a.Command)
	if len(command) > 0 && strings.ContainsRune(command[0], filepath.Separator) {
		command[0] = within(a.Dir, command[0])
	}
	return command
}

// checkBuilt names every binary that is missing, at once.
func (s *Stack) checkBuilt(*RunFile) error {
	needed := []string{s.runtime}
	if s.has(Sandbox) {
		needed = append(needed, s.stripe)
	}
	for _, a := range s.chosen {
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

func (s *Stack) checkInstalled(*RunFile) error { return installed(s.set, s.infra) }

// Installed is whether the servers of a set are installed on this machine. The error says how to get them.
func Installed(set string) error { return installed(set, serversOf[set]) }

func installed(set string, servers []string) error {
	var missing, packages []string
	if slices.Contains(servers, Postgres) && postgresPrograms() == "" {
		missing, packages = append(missing, "PostgreSQL (initdb, postgres)"), append(packages, "postgresql")
	}
	if slices.Contains(servers, Redis) && redisProgram() == "" {
		missing, packages = append(missing, "Redis (redis-server)"), append(packages, "redis")
	}
	if len(missing) == 0 {
		return nil
	}
	all := strings.Join(packages, " ")
	return fmt.Errorf(`the components in %q need %s, which is not installed here.
  Debian, Ubuntu:  apt-get install %s
  macOS:           brew install %s
A server that the package starts by itself is not used, and may be stopped. Without it: %s=%s, which needs nothing`,
		set, strings.Join(missing, " and "), all, all, setVariable, SetEmbedded)
}

// checkPorts finds what is taken among fixed ports; free ones are free by choice.
func (s *Stack) checkPorts(*RunFile) error {
	if s.opts.FixedPorts == nil {
		return nil
	}
	return checkPorts(s.fixedPorts())
}

// fixedPorts are all that the stack is going to listen on, if ports are fixed.
func (s *Stack) fixedPorts() []portUse {
	var uses []portUse
	for _, name := range s.infra {
		uses = append(uses, s.ports.uses(name)...)
	}
	for _, a := range s.chosen {
		in := func(port int, what, key string) {
			if port != 0 {
				uses = append(uses, portUse{port, a.Name + ", " + what, fmt.Sprintf("%s of %s in %s", key, a.ID, filepath.Base(s.opts.RunFile))})
			}
		}
		in(publicPort(a), "public API", "env.PORT")
		in(appMetricsPort(a), "metrics", "env."+metricsAddress)
		if len(a.Command) > 0 {
			in(a.Port, "callbacks", "appPort")
		}
		in(a.HTTPPort, "sidecar HTTP", "daprHTTPPort")
		in(a.GRPCPort, "sidecar gRPC", "daprGRPCPort")
		in(a.InternalPort, "sidecar to sidecar", "daprInternalGRPCPort")
		in(a.MetricsPort, "sidecar metrics", "metricsPort")
	}
	return uses
}

// ErrRunning says that another stack uses the state folder.
var ErrRunning = errors.New("another stack is running on this state folder")

// LockState takes the lock that a running stack holds on its state folder, until the file is closed. The error
// is ErrRunning if a stack has it.
func LockState(folder string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(folder, StateFolder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("%s: %w", filepath.Join(folder, StateFolder), ErrRunning)
	}
	return lock, nil
}

func (s *Stack) makeFolder(*RunFile) error {
	for _, folder := range []string{filepath.Join(s.state, "logs"), s.data} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	var err error
	if s.lock, err = LockState(s.folder); err != nil {
		return err
	}
	if s.secrets, err = ensureSecrets(s.state); err != nil {
		return err
	}
	if err := s.writeTokens(); err != nil {
		return err
	}
	if err := s.makeIdentities(); err != nil {
		return err
	}
	if s.secured() {
		if s.certificates, err = MakeCertificates(filepath.Join(s.state, certificatesFolder)); err != nil {
			return err
		}
	}
	if s.passworded {
		if s.passwords, err = ensurePasswords(s.state); err != nil {
			return err
		}
		if err := s.writeSecrets(); err != nil {
			return err
		}
	}
	if len(s.chosen) > 0 {
		// Addresses of sidecars of an earlier run, which may have ended without taking them back. (Without
		// sidecars of our own, those of Dapr's CLI may be at work.)
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(filepath.Join(s.state, "names.db"+suffix))
		}
	}
	if len(s.moves) == 0 {
		return nil // the files under components/ are right as they are
	}
	for i := range s.chosen {
		if err := s.renderResources(&s.chosen[i]); err != nil {
			return err
		}
	}
	return nil
}

// release gives back what a stack holds besides its processes.
func (s *Stack) release() {
	s.blocks.release()
	if s.lock != nil {
		_ = s.lock.Close()
	}
}

// environment is what a process gets, by rising precedence: settings of Go's runtime, .state/env, our own environment,
// what Dapr's CLI sets, the run file, the options. For servers and sidecars a is nil.
func (s *Stack) environment(a *App) map[string]string {
	app := ""
	if a != nil {
		app = a.ID
	}
	env := goSettings(app)
	maps.Copy(env, s.secrets)
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
		s.tokens(env, a.ID)
		delete(env, "DAPR_SENTRY_TOKEN_FILE") // its sidecar's
	}
	maps.Copy(env, s.opts.Env)
	if a != nil {
		maps.Copy(env, s.opts.AppEnv[a.ID])
		if a.Name != a.ID {
			maps.Copy(env, s.opts.AppEnv[a.Name])
		}
	}
	return env
}
