package stack

// profilePort is the variable with the port where a service serves its profiles.
const profilePort = "PROFILE_PORT"

// ProfileURLs are the addresses of the profiles (net/http/pprof) of services, sidecars and NATS, by process. It is empty
// without Options.Profiles.
func (s *Stack) ProfileURLs() map[string]string {
	urls := map[string]string{}
	for name, port := range s.plan.profiles {
		urls[name] = "http://" + local(port) + "/debug/pprof/"
	}
	return urls
}
