package stack

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The sets of components whose servers a stack starts. For any other set, a folder of components/, you start them yourself.
const (
	SetEmbedded = "embedded" // SQLite, and NATS with passwords on this machine alone
	SetNATS     = "nats"     // PostgreSQL and NATS, with TLS and passwords
	SetRedis    = "redis"    // PostgreSQL and Redis, with TLS and passwords
)

// setVariable chooses a set where no option does.
const setVariable = "INFRA"

var serversOf = map[string][]string{
	SetEmbedded: {NATS},
	SetNATS:     {NATS, Postgres},
	SetRedis:    {Redis, Postgres},
}

// Servers stands in Options.Infra for the servers of the set.
const Servers = "servers"

// componentSet is a folder of components/ that a stack runs on.
type componentSet struct {
	name   string
	folder string // "" if the run file names no configuration
	// passwords is whether the broker wants a password of each user. In the set embedded of an earlier release it did not.
	passwords bool
	rights    map[string]rights // of the broker's users, by app; nil without passwords
}

// tls reports whether the servers of the set want TLS.
func (s componentSet) tls() bool { return s.name == SetNATS || s.name == SetRedis }

// chooseSet decides on the set: the one that the option or the environment names, or that of the run file, which is the folder of
// its configuration. It returns the apps of the run file with the components of that set.
func chooseSet(run *RunFile, option, variable string) (componentSet, []App, error) {
	asked := cmp.Or(option, variable)
	apps := slices.Clone(run.Apps)
	config := run.Apps[0].ConfigFile
	if config == "" {
		if name := cmp.Or(asked, SetEmbedded); name != SetEmbedded {
			return componentSet{}, nil, fmt.Errorf("%s names no configFilePath in a folder of components, so the set %q cannot take its place", run.Path, name)
		}
		return componentSet{name: SetEmbedded}, apps, nil
	}
	named := filepath.Dir(config)
	set := componentSet{name: cmp.Or(asked, filepath.Base(named)), folder: named}
	if set.name != filepath.Base(named) {
		set.folder = filepath.Join(filepath.Dir(named), set.name)
		if _, err := os.Stat(set.folder); err != nil || set.name != filepath.Base(set.folder) {
			return componentSet{}, nil, fmt.Errorf("there is no set of components called %q: %s has %s", set.name, filepath.Dir(named), strings.Join(setsIn(filepath.Dir(named)), ", "))
		}
	}
	for i := range apps {
		a := &apps[i]
		a.ResourcesPaths = slices.Clone(a.ResourcesPaths)
		for j, path := range a.ResourcesPaths {
			if path == named {
				a.ResourcesPaths[j] = set.folder
			}
		}
		if filepath.Dir(a.ConfigFile) == named {
			a.ConfigFile = filepath.Join(set.folder, filepath.Base(a.ConfigFile))
		}
	}
	err := set.readPasswords()
	return set, apps, err
}

// readPasswords reads from the pub/sub component whether sidecars have a password for the broker, and what each may do there.
func (s *componentSet) readPasswords() error {
	if !s.tls() && s.name != SetEmbedded {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(s.folder, "pubsub.yaml"))
	if err != nil {
		return err
	}
	if s.passwords = s.tls() || strings.Contains(string(text), "nats-url"); s.passwords {
		s.rights, err = readScopes(s.folder)
	}
	return err
}

// setsIn are the folders that have a configuration.
func setsIn(components string) []string {
	files, _ := filepath.Glob(filepath.Join(components, "*", "config.yaml"))
	var names []string
	for _, file := range files {
		names = append(names, filepath.Base(filepath.Dir(file)))
	}
	return names
}

// Set is the name of the set of components that the stack runs on.
func (s *Stack) Set() string { return s.plan.set.name }

// Certificates are those of the set's servers; the zero value if they have none.
func (s *Stack) Certificates() Certificates { return s.plan.certificates }

// BrokerName is the name of the broker's process: NATS or Redis.
func (s *Stack) BrokerName() string {
	if s.plan.set.name == SetRedis {
		return Redis
	}
	return NATS
}

// StoreName is the name of the database's process; "" if documents are in files.
func (s *Stack) StoreName() string {
	if slices.Contains(serversOf[s.plan.set.name], Postgres) {
		return Postgres
	}
	return ""
}
