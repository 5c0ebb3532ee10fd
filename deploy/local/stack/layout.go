package stack

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// layout is what a stack consists of: its folders, its set of components, its apps and servers, and their ports. It is
// computed from the run file, the components and the options. To compute it starts no process and writes no file.
type layout struct {
	opts    Options
	environ map[string]string // of the launcher
	paths

	set      componentSet
	ports    Ports
	moves    moves
	proxies  map[string]int // the ports where sidecars reach servers through a proxy, by server
	profiles map[string]int // the ports of profiles, by process
	etcd     []int          // the ports of the scheduler's etcd; only an earlier release needs them

	apps    []App // of the run file, with their replicas, and the sidecars without an app
	started []App // those of apps that the stack starts
	infra   []string

	without   []string   // ids of apps that are not started, and whose addresses the others do not get
	omissions []Omission // those of them that cannot run here

	mtls           bool // between sidecars, and with placement and scheduler
	mtlsConfigured bool // the Configuration asks for it; those of earlier releases do not

	copies []folderCopy // resource folders with other ports in them
}

// paths are the folders and programs of a stack.
type paths struct {
	runFile string
	root    string // the folder of the run file
	folder  string // the processes run here
	state   string // .state in folder
	runtime string // the program .build/runtime
	stripe  string // the program .build/stripe

	postgresPrograms, redisProgram string // "": not installed
}

// folderCopy is a folder of resources to be copied, with the ports of the stack in place of the usual ones.
type folderCopy struct{ from, to string }

// newLayout computes the layout. Ports that are not fixed come from next. cannotRun is why an app cannot run on this machine, or "".
func newLayout(opts Options, environ map[string]string, next func() (int, error), cannotRun func(App) string) (*layout, error) {
	run, err := findAndReadRunFile(opts.RunFile)
	if err != nil {
		return nil, err
	}
	l := &layout{opts: opts, environ: environ}
	if l.paths, err = newPaths(run, opts.Folder); err != nil {
		return nil, err
	}
	var apps []App
	if l.set, apps, err = chooseSet(run, opts.Set, environ[setVariable]); err != nil {
		return nil, err
	}
	if err := l.checkNames(apps); err != nil {
		return nil, err
	}
	free := &freePorts{next: next}
	l.placeServers(free)
	l.placeApps(apps, free)
	l.addReplicas(free)
	if err := l.omit(cannotRun); err != nil {
		return nil, err
	}
	l.startApps()
	l.startSidecars(apps[0].settings, free)
	l.chooseInfra()
	if err := l.chooseMTLS(apps[0].ConfigFile); err != nil {
		return nil, err
	}
	l.placeProfiles(free)
	if l.has(Scheduler) && !l.mtlsConfigured {
		l.etcd = []int{free.take(), free.take()}
	}
	l.copyResources()
	return l, free.err
}

func findAndReadRunFile(path string) (*RunFile, error) {
	if path == "" {
		var err error
		if path, err = FindRunFile("."); err != nil {
			return nil, err
		}
	}
	return ReadRunFile(path)
}

func newPaths(run *RunFile, folder string) (paths, error) {
	p := paths{runFile: run.Path, root: filepath.Dir(run.Path), postgresPrograms: PostgresPrograms(), redisProgram: redisProgram()}
	p.folder = p.root
	if folder != "" {
		var err error
		if p.folder, err = filepath.Abs(folder); err != nil {
			return paths{}, err
		}
	}
	p.state = filepath.Join(p.folder, StateFolder)
	p.runtime = filepath.Join(p.root, ".build", "runtime")
	p.stripe = filepath.Join(p.root, ".build", "stripe")
	return p, nil
}

func (l *layout) checkNames(apps []App) error {
	for _, id := range l.opts.Apps {
		if !slices.ContainsFunc(apps, func(a App) bool { return a.ID == id }) {
			return fmt.Errorf("%s has no app %q", l.runFile, id)
		}
	}
	for _, name := range l.opts.Infra {
		if !slices.Contains([]string{Servers, NATS, Postgres, Redis, Sentry, Placement, Scheduler, Sandbox}, name) {
			return fmt.Errorf("no process is called %q", name)
		}
	}
	return nil
}

// placeServers chooses the ports that no run file names.
func (l *layout) placeServers(free *freePorts) {
	usual := DefaultPorts()
	l.moves, l.ports, l.proxies = moves{}, usual, map[string]int{}
	if l.opts.FixedPorts != nil {
		l.ports = *l.opts.FixedPorts
	}
	for i, port := range l.ports.all() {
		if l.opts.FixedPorts == nil {
			*port = free.take()
		}
		if from := *usual.all()[i]; from != *port {
			l.moves[from] = *port
		}
	}
	for _, server := range l.proxied() {
		l.proxies[server] = free.take()
		l.moves[usual.of(server)] = l.proxies[server]
	}
}

// proxied are the servers that sidecars reach through a proxy.
func (l *layout) proxied() []string {
	switch {
	case l.opts.Cuttable:
		return []string{NATS, Postgres, Redis}
	case l.opts.StoreDelay > 0:
		return []string{Postgres}
	}
	return nil
}

// placeApps chooses the ports of all apps of the run file. Those that are not started move too: at their usual addresses
// another stack may run.
func (l *layout) placeApps(apps []App, free *freePorts) {
	if l.opts.FixedPorts == nil {
		for i := range apps {
			public, metrics := publicPort(apps[i]), appMetricsPort(apps[i])
			for _, port := range append(apps[i].ports(), &public, &metrics) {
				l.move(port, free)
			}
		}
	}
	// After all have moved: an app's environment contains the ports of other apps.
	for i := range apps {
		apps[i].Env = l.movedEnv(apps[i])
	}
	l.apps = apps
}

// move replaces a port of the run file by a free one.
func (l *layout) move(port *int, free *freePorts) {
	if *port == 0 {
		return
	}
	if _, moved := l.moves[*port]; !moved {
		l.moves[*port] = free.take()
	}
	*port = l.moves[*port]
}

func (l *layout) movedEnv(a App) map[string]string {
	env := make(map[string]string, len(a.Env))
	for name, value := range a.Env {
		env[name] = l.moves.in(value)
	}
	if to, moved := l.moves[publicPort(a)]; moved {
		env["PORT"] = strconv.Itoa(to)
	}
	return env
}

const (
	// MaxReplicas is how many replicas of each app there can be.
	MaxReplicas = 9
	// replicaStep is the distance between the ports of a replica and those of the one before it, if ports are fixed.
	replicaStep = 10
)

// addReplicas adds the further replicas of every app. Where the environment of an app contains the address of another app, the
// addresses of all its replicas take its place.
func (l *layout) addReplicas(free *freePorts) {
	if l.opts.Replicas <= 1 {
		return
	}
	addresses := map[string]string{} // of all replicas of an app, by the address of the first
	for _, a := range slices.Clone(l.apps) {
		addresses[publicURL(a)] = publicURL(a)
		for number := 2; number <= l.opts.Replicas; number++ {
			replica := l.replica(a, number, free)
			addresses[publicURL(a)] += "," + publicURL(replica)
			l.apps = append(l.apps, replica)
		}
	}
	for _, a := range l.apps {
		for name, value := range a.Env {
			if all, listed := addresses[strings.Replace(value, "//localhost:", "//127.0.0.1:", 1)]; listed {
				a.Env[name] = all
			}
		}
	}
}

// replica is a further replica of an app. Only its name and its ports differ.
func (l *layout) replica(a App, number int, free *freePorts) App {
	a.Name = a.ID + "-" + strconv.Itoa(number)
	a.Env = maps.Clone(a.Env)
	public, metrics := publicPort(a), appMetricsPort(a)
	for _, port := range append(a.ports(), &public, &metrics) {
		switch {
		case *port == 0:
		case l.opts.FixedPorts != nil:
			*port += (number - 1) * replicaStep
		default:
			*port = free.take()
		}
	}
	if public != 0 {
		a.Env["PORT"] = strconv.Itoa(public)
	}
	if metrics != 0 {
		a.Env[metricsAddress] = local(metrics)
	}
	return a
}

// startsAll reports whether the options ask for all apps of the run file.
func (l *layout) startsAll() bool { return l.opts.Apps == nil && len(l.opts.Sidecars) == 0 }

// startApps chooses the apps that the options ask for.
func (l *layout) startApps() {
	all := l.startsAll()
	for _, a := range l.apps {
		if !all && !slices.Contains(l.opts.Apps, a.ID) || slices.Contains(l.without, a.ID) {
			continue
		}
		if l.opts.Folder != "" {
			// A stack with a folder of its own runs everything there.
			a.Command, a.Dir = absoluteCommand(a), l.folder
		}
		if program, other := l.opts.Programs[a.ID]; other {
			a.Command = withProgram(a.Command, program)
		}
		l.start(a, nil)
	}
}

// withProgram is a command with another program. A bundle of JavaScript is an argument of its interpreter.
func withProgram(command []string, program string) []string {
	isBundle := func(argument string) bool { return filepath.Ext(argument) == ".mjs" }
	at := 0
	if isBundle(program) {
		at = max(0, slices.IndexFunc(command, isBundle))
	}
	changed := slices.Clone(command)
	changed[at] = program
	return changed
}

// startSidecars adds the sidecars without an app. They have the settings of the run file's first app.
func (l *layout) startSidecars(first settings, free *freePorts) {
	for _, sidecar := range l.opts.Sidecars {
		a := App{settings: first, ID: sidecar.ID, Name: sidecar.ID, Dir: l.folder, Port: sidecar.AppPort}
		a.Env = nil
		a.HealthCheck = sidecar.HealthCheck && a.HealthCheck
		for _, port := range a.ports()[1:] { // the first is the test's own
			*port = free.take()
		}
		l.apps = slices.DeleteFunc(l.apps, func(other App) bool { return other.ID == a.ID })
		l.apps = append(l.apps, a)
		l.start(a, sidecar.Resources)
	}
}

// start adds an app to those that are started. Its resources are the given ones, or else those of the options, or else its own.
func (l *layout) start(a App, resources []string) {
	if resources == nil {
		resources = l.opts.Resources
	}
	if resources == nil {
		resources = a.ResourcesPaths
	}
	a.ResourcesPaths = slices.Concat(resources, l.opts.ExtraResources)
	if l.opts.SidecarLogLevel != "" {
		a.LogLevel = l.opts.SidecarLogLevel
	}
	l.started = append(l.started, a)
}

// chooseInfra chooses the processes beside apps and sidecars.
func (l *layout) chooseInfra() {
	switch {
	case l.opts.Infra != nil:
		l.infra = slices.Clone(l.opts.Infra)
	case len(l.started) > 0:
		l.infra = []string{Servers, Sentry, Placement, Scheduler, Sandbox}
	default:
		l.infra = []string{Servers}
	}
	if i := slices.Index(l.infra, Servers); i >= 0 {
		l.infra = slices.Replace(l.infra, i, i+1, serversOf[l.set.name]...)
	}
}

// chooseMTLS decides on mTLS: the Configuration asks for it, and the stack has a control plane. Then there is a sentry, and
// otherwise none: a sidecar alone connects to no other.
func (l *layout) chooseMTLS(configFile string) error {
	if configFile != "" {
		var err error
		if l.mtlsConfigured, err = readMTLS(configFile); err != nil {
			return err
		}
	}
	l.mtls = l.mtlsConfigured && (l.has(Sentry) || l.has(Placement) || l.has(Scheduler))
	switch {
	case !l.mtls:
		l.infra = slices.DeleteFunc(l.infra, func(name string) bool { return name == Sentry })
	case !l.has(Sentry):
		l.infra = append([]string{Sentry}, l.infra...)
	}
	return nil
}

func (l *layout) placeProfiles(free *freePorts) {
	l.profiles = map[string]int{}
	if !l.opts.Profiles {
		return
	}
	if l.has(NATS) {
		l.profiles[NATS] = free.take()
	}
	for _, a := range l.started {
		l.profiles[sidecarName(a.Name)] = free.take()
		if len(a.Command) > 0 && !a.ofNode() {
			l.profiles[a.Name] = free.take()
		}
	}
}

// copyResources lets sidecars read copies of their resources, if ports in these have moved.
func (l *layout) copyResources() {
	if len(l.moves) == 0 {
		return
	}
	copied := func(from string) string {
		for _, c := range l.copies {
			if c.from == from {
				return c.to
			}
		}
		to := filepath.Join(l.state, "resources", fmt.Sprintf("%d-%s", len(l.copies), filepath.Base(from)))
		l.copies = append(l.copies, folderCopy{from, to})
		return to
	}
	for i := range l.started {
		a := &l.started[i]
		for j, path := range a.ResourcesPaths {
			a.ResourcesPaths[j] = copied(path)
		}
		if a.ConfigFile != "" {
			a.ConfigFile = filepath.Join(copied(filepath.Dir(a.ConfigFile)), filepath.Base(a.ConfigFile))
		}
	}
}

func (l *layout) has(infra string) bool { return slices.Contains(l.infra, infra) }

// app is an app by its name; the zero App if there is none.
func (l *layout) app(name string) App {
	for _, a := range l.apps {
		if a.Name == name {
			return a
		}
	}
	return App{}
}

// appIDs are the ids of all apps, in order.
func (l *layout) appIDs() []string {
	var ids []string
	for _, a := range l.apps {
		ids = append(ids, a.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// dataFolder is the folder of the set's own data: documents, events, and the reminders and payments that belong to them. So two sets in
// one state folder do not mix.
func (l *layout) dataFolder() string {
	if l.set.tls() {
		return filepath.Join(l.state, "set-"+l.set.name)
	}
	return l.state
}

// needed are the programs that must have been built.
func (l *layout) needed() []string {
	needed := []string{l.runtime}
	if l.has(Sandbox) {
		needed = append(needed, l.stripe)
	}
	for _, a := range l.started {
		if command := absoluteCommand(a); len(command) > 0 && filepath.IsAbs(command[0]) {
			needed = append(needed, command[0])
		}
		if a.ofNode() {
			needed = append(needed, within(a.Dir, a.bundle()))
		}
	}
	return needed
}

// checkBuilt returns an error with every program that is missing.
func (l *layout) checkBuilt() error {
	var missing []string
	for _, path := range l.needed() {
		if _, err := os.Stat(path); err != nil {
			if short, err := filepath.Rel(l.root, path); err == nil {
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

// fixedPorts are all ports that the stack will listen on, if ports are fixed.
func (l *layout) fixedPorts() []portUse {
	var uses []portUse
	for _, name := range l.infra {
		uses = append(uses, l.ports.uses(name)...)
	}
	for _, a := range l.started {
		add := func(port int, what, key string) {
			if port != 0 {
				uses = append(uses, portUse{port, a.Name + ", " + what, fmt.Sprintf("%s of %s in %s", key, a.ID, filepath.Base(l.runFile))})
			}
		}
		add(publicPort(a), "public API", "env.PORT")
		add(appMetricsPort(a), "metrics", "env."+metricsAddress)
		if len(a.Command) > 0 {
			add(a.Port, "callbacks", "appPort")
		}
		add(a.HTTPPort, "sidecar HTTP", "daprHTTPPort")
		add(a.GRPCPort, "sidecar gRPC", "daprGRPCPort")
		add(a.InternalPort, "sidecar to sidecar", "daprInternalGRPCPort")
		add(a.MetricsPort, "sidecar metrics", "metricsPort")
	}
	return uses
}

// ports are those of an app and its sidecar, except the public port and that of the app's metrics, which are in its environment.
func (a *App) ports() []*int {
	return []*int{&a.Port, &a.HTTPPort, &a.GRPCPort, &a.InternalPort, &a.MetricsPort}
}

// publicPort is the port of an app's public API, from the variable PORT; 0 if it has none.
func publicPort(a App) int {
	port, _ := strconv.Atoi(a.Env["PORT"])
	return port
}

func publicURL(a App) string { return "http://" + local(publicPort(a)) }

// metricsAddress is the variable with the address where an app serves its metrics.
const metricsAddress = "METRICS_ADDRESS"

// appMetricsPort is the port of an app's metrics; 0 if its environment names none.
func appMetricsPort(a App) int {
	_, text, _ := net.SplitHostPort(a.Env[metricsAddress])
	port, _ := strconv.Atoi(text)
	return port
}

// absoluteCommand is an app's command with an absolute path.
func absoluteCommand(a App) []string {
	command := slices.Clone(a.Command)
	if len(command) > 0 && strings.ContainsRune(command[0], filepath.Separator) {
		command[0] = within(a.Dir, command[0])
	}
	if a.ofNode() {
		if i := slices.Index(command, a.bundle()); i > 0 {
			command[i] = within(a.Dir, command[i])
		}
	}
	return command
}

// Installed returns an error if the servers of a set are not installed on this machine. Its text contains how to install them.
func Installed(set string) error { return checkInstalled(set, serversOf[set]) }

func checkInstalled(set string, servers []string) error {
	var missing, packages []string
	if slices.Contains(servers, Postgres) && PostgresPrograms() == "" {
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
