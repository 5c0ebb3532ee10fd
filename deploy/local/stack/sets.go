package stack

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The sets of components for which a stack brings the servers. For any other set (a folder of components/) it starts
// none: whoever wrote it runs them.
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

// chooseSet decides on the set, and gives the apps its components in place of those that the run file names. The set
// that a run file names is the folder of its configuration.
func (s *Stack) chooseSet(run *RunFile) error {
	defer func() { s.data = dataFolder(s.state, s.set) }()
	asked := cmp.Or(s.opts.Set, os.Getenv(setVariable))
	config := run.Apps[0].ConfigFile
	if config == "" {
		if s.set = cmp.Or(asked, SetEmbedded); s.set != SetEmbedded {
			return fmt.Errorf("%s names no configFilePath in a folder of components, so the set %q cannot take its place", run.Path, s.set)
		}
		return nil
	}
	named := filepath.Dir(config)
	s.components = named
	if s.set = cmp.Or(asked, filepath.Base(named)); s.set == filepath.Base(named) {
		return nil
	}
	folder := filepath.Join(filepath.Dir(named), s.set)
	if _, err := os.Stat(folder); err != nil || s.set != filepath.Base(folder) {
		return fmt.Errorf("there is no set of components called %q: %s has %s", s.set, filepath.Dir(named), strings.Join(setsIn(filepath.Dir(named)), ", "))
	}
	s.components = folder
	for i := range run.Apps {
		a := &run.Apps[i]
		a.ResourcesPaths = slices.Clone(a.ResourcesPaths)
		for j, path := range a.ResourcesPaths {
			if path == named {
				a.ResourcesPaths[j] = folder
			}
		}
		if filepath.Dir(a.ConfigFile) == named {
			a.ConfigFile = filepath.Join(folder, filepath.Base(a.ConfigFile))
		}
	}
	return nil
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
func (s *Stack) Set() string { return s.set }

// Certificates are those of the set's servers; the zero value if they have none.
func (s *Stack) Certificates() Certificates { return s.certificates }

// BrokerName is the name of the broker's process: NATS or Redis.
func (s *Stack) BrokerName() string {
	if s.set == SetRedis {
		return Redis
	}
	return NATS
}

// StoreName is the name of the database's process, or "" if documents are in files.
func (s *Stack) StoreName() string {
	if slices.Contains(serversOf[s.set], Postgres) {
		return Postgres
	}
	return ""
}

// secured is whether the set's servers want TLS and passwords.
func (s *Stack) secured() bool { return s.set == SetNATS || s.set == SetRedis }

// choosePasswords decides whether the broker wants passwords: if sidecars are told theirs. In the set embedded of the release
// before they were not.
func (s *Stack) choosePasswords(*RunFile) error {
	if s.passworded = s.secured(); s.passworded || s.set != SetEmbedded || s.components == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(s.components, "pubsub.yaml"))
	s.passworded = strings.Contains(string(text), "nats-url")
	return err
}

// dataFolder is where a set's own data is: its documents, its events, and the reminders and payments that belong to
// them. So two sets in one folder do not get into each other's way.
func dataFolder(state, set string) string {
	if set == SetNATS || set == SetRedis {
		return filepath.Join(state, "set-"+set)
	}
	return state
}
