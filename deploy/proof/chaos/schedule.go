package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/stripe/sandbox"
)

// fault is injected into a process at a time after the begin of the load.
type fault struct {
	at     time.Duration
	target string // the process
	kind   string
	length time.Duration
	rule   sandbox.Rule  // of misbehave
	server string        // of cut: the server that the target cannot reach
	broken bool          // of cut: whether the connections are closed at the end
	offset time.Duration // of jump
	steps  []step        // of overlap
}

// step is one part of an overlap.
type step struct {
	after   time.Duration // the begin of the fault
	action  string        // kill, freeze, start or resume
	process string
}

func (f fault) String() string {
	kind := f.kind
	switch f.kind {
	case misbehave:
		kind = fmt.Sprintf("%s at %.0f %% in", f.rule.Fault, 100**f.rule.Rate)
	case cut:
		kind = fmt.Sprintf("cut %s off from", f.server)
	case jump:
		kind = fmt.Sprintf("clock %+.0f min of", f.offset.Minutes())
	case fill:
		kind = "full disk of"
	case overlap:
		var steps []string
		for _, s := range f.steps {
			steps = append(steps, fmt.Sprintf("%s %s after %.1f s", s.action, s.process, s.after.Seconds()))
		}
		return fmt.Sprintf("%6.1f s  overlap: %s", f.at.Seconds(), strings.Join(steps, ", "))
	}
	return fmt.Sprintf("%6.1f s  %s %s for %.1f s", f.at.Seconds(), kind, f.target, f.length.Seconds())
}

// The kinds of faults.
const (
	kill      = "kill"      // SIGKILL; the process is started again at the end
	stop      = "stop"      // SIGTERM, as an operator does it; the process is started again at the end
	freeze    = "freeze"    // SIGSTOP; SIGCONT at the end
	cut       = "cut"       // the network between a sidecar and its store or the broker
	fill      = "fill"      // the disk of a store or the broker
	jump      = "jump"      // a service's clock is wrong by ten minutes
	misbehave = "misbehave" // the sandbox answers with errors or late

	// overlap is several faults that endanger events. While the broker is away, a service is killed with its sidecar, so that
	// its events are in the journal only; then the process that takes over the journal is killed as well.
	overlap = "overlap"
)

// The actions of an overlap's steps, beside kill and freeze.
const (
	start  = "start"
	resume = "resume"
)

// sandboxFaults are what misbehave does to a part of the requests at the sandbox.
var sandboxFaults = []sandbox.Fault{
	sandbox.ErrorBefore, sandbox.ErrorAfter, sandbox.RateLimited, sandbox.Unavailable, sandbox.HangAfter,
	sandbox.DisconnectBefore, sandbox.DisconnectAfter, sandbox.Slow,
	sandbox.WebhookDrop, sandbox.WebhookDelay, sandbox.WebhookDouble, sandbox.WebhookFirst,
}

const (
	// meanPause is the mean time between two faults.
	meanPause = 1500 * time.Millisecond
	// lease of the journal's writers is shorter than the default, so that there are takeovers within a run.
	lease = 5 * time.Second
	// longFreeze is longer than the lease, so that another process takes over the journal of the frozen one.
	longFreeze = 7 * time.Second
	// firstOverlap is when the first overlap begins, and pauseOfOverlaps the mean time to the next.
	firstOverlap    = 3 * time.Second
	pauseOfOverlaps = 9 * time.Second
	// clockJump is how far a clock is set wrong.
	clockJump = 10 * time.Minute
)

// supported are the kinds of faults that not every run can inject.
type supported struct{ cuts, disks, clocks, endpoints, catalogue bool }

// missing are the kinds that this run cannot inject.
func (s supported) missing() (kinds []string) {
	for kind, can := range map[string]bool{"cut networks (need Linux)": s.cuts, "full disks (need Linux)": s.disks, "jumping clocks (-clocks)": s.clocks, "endpoints of users (need Node)": s.endpoints} {
		if !can {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// schedule chooses the faults of a run. The same seed, length, processes and kinds give the same schedule.
func schedule(seed uint64, length time.Duration, processes []string, kinds supported) []fault {
	chance := rand.New(rand.NewPCG(seed, 0))
	faults := overlaps(chance, length, processes)
	if kinds.endpoints {
		faults = append(faults, attacks(rand.New(rand.NewPCG(seed, 1<<32)), length, processes, kinds, "webhooks")...)
	}
	if kinds.catalogue {
		faults = append(faults, attacks(rand.New(rand.NewPCG(seed, 1<<32+1)), length, processes, kinds, "catalogue")...)
	}
	for at := time.Second; ; {
		at += time.Duration(chance.ExpFloat64() * float64(meanPause))
		if at >= length {
			slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
			return faults
		}
		faults = append(faults, single(chance, at, processes, kinds))
	}
}

// single is one fault of one process.
func single(chance *rand.Rand, at time.Duration, processes []string, kinds supported) fault {
	of := groups(processes)
	switch n := chance.IntN(20); {
	case n < 2 && kinds.cuts:
		return fault{at: at, kind: cut, target: pickFrom(chance, of.sidecars), server: pickFrom(chance, of.servers),
			length: between(chance, 500*time.Millisecond, 8*time.Second), broken: chance.IntN(2) == 0}
	case n < 5 && kinds.disks:
		targets := of.servers
		if !slices.Contains(of.servers, stack.Postgres) && chance.IntN(3) > 0 { // sidecars write documents into files
			targets = nil
			for _, service := range withJournal(of.services) {
				targets = append(targets, service+"-dapr")
			}
		}
		return fault{at: at, kind: fill, target: pickFrom(chance, targets), length: between(chance, time.Second, 5*time.Second)}
	case n < 7 && kinds.clocks:
		return fault{at: at, kind: jump, target: pickFrom(chance, of.services), length: between(chance, time.Second, 10*time.Second),
			offset: []time.Duration{clockJump, -clockJump}[chance.IntN(2)]}
	}
	f := fault{at: at, target: chooseTarget(chance, of)}
	switch n := chance.IntN(10); {
	case n < 8 && f.target == stack.Sandbox:
		f.kind, f.length = misbehave, between(chance, 2*time.Second, 8*time.Second)
		rate := 0.1 + 0.8*chance.Float64()
		f.rule = sandbox.Rule{Operation: "*", Fault: sandboxFaults[chance.IntN(len(sandboxFaults))], Rate: &rate, Seed: chance.Uint64()}
		if f.rule.Fault == sandbox.Slow || f.rule.Fault == sandbox.WebhookDelay {
			f.rule.Milliseconds = 200 + chance.IntN(3000)
		}
	case n < 5:
		f.kind, f.length = kill, between(chance, 0, 4*time.Second)
	case n < 6:
		f.kind, f.length = stop, between(chance, 0, 2*time.Second)
	case n < 9 || isInfra(f.target):
		f.kind, f.length = freeze, between(chance, 500*time.Millisecond, 6*time.Second)
	default:
		f.kind, f.length = freeze, between(chance, longFreeze, longFreeze+5*time.Second)
	}
	return f
}

// pauseOfAttacks is the mean time between two faults of webhooks, and of the catalogue.
const pauseOfAttacks = 8 * time.Second

// attacks chooses faults of an app that else would have few. Between its answer to an event and the end of an attempt only the documents of
// webhooks know a message. A replica of the catalogue must find what it missed, and streams go on at the other replica.
func attacks(chance *rand.Rand, length time.Duration, processes []string, kinds supported, of string) (faults []fault) {
	by := groups(processes)
	services := slices.DeleteFunc(by.services, func(name string) bool { app, _, _ := strings.Cut(name, "-"); return app != of })
	stored := slices.Contains(by.servers, stack.Postgres)
	for at := between(chance, time.Second, pauseOfAttacks); at < length && len(services) > 0; at += between(chance, pauseOfAttacks/2, 3*pauseOfAttacks/2) {
		target := pickFrom(chance, services)
		f := fault{at: at, kind: kill, target: target, length: between(chance, 0, 4*time.Second)}
		switch n := chance.IntN(6); {
		case n == 0:
			f.kind, f.length = freeze, between(chance, time.Second, longFreeze)
		case n == 1:
			f.target += "-dapr"
		case n < 4 && stored && kinds.cuts:
			f.kind, f.target, f.server, f.broken = cut, target+"-dapr", stack.Postgres, chance.IntN(2) == 0
		case n < 4 && !stored && kinds.disks:
			f.kind, f.target = fill, target+"-dapr"
		}
		faults = append(faults, f)
	}
	return faults
}

// overlaps chooses the overlaps of a run.
func overlaps(chance *rand.Rand, length time.Duration, processes []string) (faults []fault) {
	of := groups(processes)
	for at := firstOverlap; at < length; at += between(chance, pauseOfOverlaps/2, 3*pauseOfOverlaps/2) {
		if services := withJournal(of.services); len(services) > 0 && len(of.brokers) > 0 {
			faults = append(faults, overlapping(chance, at, pickFrom(chance, services), processes, of.brokers[0]))
		}
	}
	return faults
}

// overlapping is one overlap. While the broker is away a service is killed with its sidecar. Then there are two variants. Either
// the service is started again soon, takes over its own journal, and is killed during that. Or it stays away until its other
// replica takes over, which is killed during that. The broker is back before the end or after it.
func overlapping(chance *rand.Rand, at time.Duration, service string, processes []string, broker string) fault {
	f := fault{at: at, kind: overlap, target: service}
	do := func(after time.Duration, action string, what ...string) {
		for _, process := range what {
			f.steps = append(f.steps, step{after, action, process})
			f.length = max(f.length, after)
		}
	}
	killed := between(chance, time.Second, 2500*time.Millisecond)
	both := []string{service, service + "-dapr"}
	do(killed, kill, both...)
	var end time.Duration
	other := otherReplica(service, processes)
	if other == "" || chance.IntN(2) == 0 {
		again := killed + between(chance, 0, time.Second)
		do(again, start, both...)
		interrupted := again + between(chance, 300*time.Millisecond, 3*time.Second)
		do(interrupted, kill, both...)
		end = interrupted + between(chance, 0, time.Second)
	} else {
		takenOver := killed + lease + between(chance, 0, lease/2)
		do(takenOver, kill, other, other+"-dapr")
		do(takenOver+between(chance, 0, time.Second), start, other, other+"-dapr")
		end = takenOver + between(chance, 0, 3*time.Second)
	}
	do(end, start, both...)
	back := between(chance, killed, end+2*time.Second)
	if chance.IntN(3) == 0 {
		do(0, kill, broker)
		do(back, start, broker)
	} else {
		do(0, freeze, broker)
		do(back, resume, broker)
	}
	slices.SortStableFunc(f.steps, func(a, b step) int { return cmp.Compare(a.after, b.after) })
	return f
}

// withJournal are the services that publish events of their documents. Those of a sale are in the list more often.
func withJournal(services []string) (some []string) {
	for _, name := range services {
		switch app, _, _ := strings.Cut(name, "-"); app {
		case "orders", "tickets":
			some = append(some, name, name, name)
		case "payments", "expiration", "auth", "catalogue":
			some = append(some, name)
		}
	}
	return some
}

// otherReplica is another replica of a service's app; "" if there is none.
func otherReplica(service string, processes []string) string {
	app, _, _ := strings.Cut(service, "-")
	for _, name := range processes {
		if other, number, _ := strings.Cut(name, "-"); other == app && name != service && !strings.HasSuffix(number, "dapr") {
			return name
		}
	}
	return ""
}

func between(chance *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(chance.Int64N(int64(to-from)))
}

func isInfra(name string) bool {
	return slices.Contains([]string{stack.NATS, stack.Redis, stack.Postgres, stack.Placement, stack.Scheduler, stack.Sandbox}, name)
}

func pickFrom(chance *rand.Rand, names []string) string { return names[chance.IntN(len(names))] }

// grouped are the processes by their role.
type grouped struct{ services, sidecars, infra, servers, brokers []string }

func groups(processes []string) (of grouped) {
	for _, name := range processes {
		switch {
		case isInfra(name):
			of.infra = append(of.infra, name)
			if name == stack.NATS || name == stack.Redis {
				of.brokers = append(of.brokers, name)
			}
			if slices.Contains([]string{stack.NATS, stack.Redis, stack.Postgres}, name) {
				of.servers = append(of.servers, name)
			}
		case strings.HasSuffix(name, "-dapr"):
			of.sidecars = append(of.sidecars, name)
		default:
			of.services = append(of.services, name)
		}
	}
	return of
}

// chooseTarget chooses the sandbox or an infrastructure process with one in ten each, and a service or a sidecar with four in ten
// each.
func chooseTarget(chance *rand.Rand, of grouped) string {
	switch n := chance.IntN(10); {
	case n < 1:
		return stack.Sandbox
	case n < 2:
		return pickFrom(chance, of.infra)
	case n < 6:
		return pickFrom(chance, of.sidecars)
	}
	return pickFrom(chance, of.services)
}
