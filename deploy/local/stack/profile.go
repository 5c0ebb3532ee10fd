package stack

import (
	"maps"
	"strconv"
)

// profilePort is the variable by which a service learns where to serve its profiles.
const profilePort = "PROFILE_PORT"

// ProfileURLs are the addresses of the profiles (net/http/pprof) of the processes that serve them, by process:
// services, sidecars and NATS. It is empty without Options.Profiles.
func (s *Stack) ProfileURLs() map[string]string {
	urls := map[string]string{}
	for name, port := range s.profiles {
		urls[name] = "http://" + local(port) + "/debug/pprof/"
	}
	return urls
}

// profiled makes a program serve profiles on a port of its own.
func (s *Stack) profiled(p *program) error {
	if !s.opts.Profiles || !p.sidecar && p.replica == 0 && p.name != NATS {
		return nil
	}
	port, err := s.blocks.next()
	if err != nil {
		return err
	}
	switch {
	case p.sidecar:
		p.args = append(p.args, "--enable-profiling", "--profile-port", strconv.Itoa(port))
	case p.name == NATS:
		p.args = append(p.args, "--profile", strconv.Itoa(port))
	default:
		p.env = maps.Clone(p.env)
		p.env[profilePort] = strconv.Itoa(port)
	}
	s.profiles[p.name] = port
	return nil
}
