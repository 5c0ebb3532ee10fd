package chaos

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/overlay"
	"boxoffice/deploy/stripe/sandbox"
)

// fault is something that happens to a process at a time after the begin.
type fault struct {
	at     time.Duration
	victim string
	kind   string
	length time.Duration // until it runs again, or behaves
	rule   sandbox.Rule  // with misbehave
	server string        // with cut: what it is cut off from
	broken bool          // with cut: whether its connections are broken at the end of it
	offset time.Duration // with jump
	steps  []step        // with overlap
}

// step is a part of a fault that consists of several.
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
		kind = "no room on the disk of"
	case overlap:
		var steps []string
		for _, s := range f.steps {
			steps = append(steps, fmt.Sprintf("%s %s after %.1f s", s.action, s.process, s.after.Seconds()))
		}
		return fmt.Sprintf("%6.1f s  overlap: %s", f.at.Seconds(), strings.Join(steps, ", "))
	}
	return fmt.Sprintf("%6.1f s  %s %s for %.1f s", f.at.Seconds(), kind, f.victim, f.length.Seconds())
}

// The kinds of faults.
const (
	kill   = "kill"   // SIGKILL, and started again after a while
	stop   = "stop"   // SIGTERM, as an operator does it
	freeze = "freeze" // SIGSTOP, and SIGCONT after a while
	cut    = "cut"    // the network between a sidecar and its store or the broker
	fill   = "fill"   // the disk of a store or the broker
	jump   = "jump"   // of a service's clock, by ten minutes

	misbehave = "misbehave" // of the sandbox: Stripe has a bad day

	// overlap is several at once, chosen so that events are in danger: while the broker is away, a service is killed with
	// its sidecar, whose events wait in the journal then; and whoever takes over from it is killed as well.
	overlap = "overlap"
)

// The parts of an overlap that are not faults by themselves.
const (
	start  = "start"
	resume = "resume"
)

// badDays are what the sandbox does to a part of all requests when it misbehaves.
var badDays = []sandbox.Fault{
	sandbox.ErrorBefore, sandbox.ErrorAfter, sandbox.RateLimited, sandbox.Unavailable, sandbox.HangAfter,
	sandbox.DisconnectBefore, sandbox.DisconnectAfter, sandbox.Slow,
	sandbox.WebhookDrop, sandbox.WebhookDelay, sandbox.WebhookDouble, sandbox.WebhookFirst,
}

const (
	// meanPause is the mean time between two faults.
	meanPause = 1500 * time.Millisecond
	// lease of the journal's writers is shorter than usual, so that there are takeovers within a run.
	lease = 5 * time.Second
	// longFreeze is longer than the lease, so that somebody takes over from the frozen one.
	longFreeze = 7 * time.Second
	// firstOverlap is when the first of the overlapping faults begins, and pauseOfOverlaps the mean time to the next.
	firstOverlap    = 3 * time.Second
	pauseOfOverlaps = 9 * time.Second
	// clockJump is how far a clock is set wrong.
	clockJump = 10 * time.Minute
)

// means are the kinds of faults that are possible here, besides those that always are.
type means struct{ cuts, disks, clocks bool }

// missing are those that are not possible.
func (m means) missing() (kinds []string) {
	for kind, possible := range map[string]bool{"cut networks (need Linux)": m.cuts, "full disks (need Linux)": m.disks, "jumping clocks (-clocks)": m.clocks} {
		if !possible {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// schedule chooses the faults of a run: the same for the same seed, time, processes and means.
func schedule(seed uint64, length time.Duration, processes []string, with means) []fault {
	chance := rand.New(rand.NewPCG(seed, 0))
	faults := overlaps(chance, length, processes)
	for at := time.Second; ; {
		at += time.Duration(chance.ExpFloat64() * float64(meanPause))
		if at >= length {
			slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
			return faults
		}
		faults = append(faults, single(chance, at, processes, with))
	}
}

// single is one fault of one process.
func single(chance *rand.Rand, at time.Duration, processes []string, with means) fault {
	of := groups(processes)
	switch n := chance.IntN(20); {
	case n < 2 && with.cuts:
		return fault{at: at, kind: cut, victim: pickFrom(chance, of.sidecars), server: pickFrom(chance, of.servers),
			length: between(chance, 500*time.Millisecond, 8*time.Second), broken: chance.IntN(2) == 0}
	case n < 5 && with.disks:
		victims := of.servers
		if !slices.Contains(of.servers, stack.Postgres) && chance.IntN(3) > 0 { // documents are in files, which sidecars write
			victims = nil
			for _, service := range withJournal(of.services) {
				victims = append(victims, service+"-dapr")
			}
		}
		return fault{at: at, kind: fill, victim: pickFrom(chance, victims), length: between(chance, time.Second, 5*time.Second)}
	case n < 7 && with.clocks:
		return fault{at: at, kind: jump, victim: pickFrom(chance, of.services), length: between(chance, time.Second, 10*time.Second),
			offset: []time.Duration{clockJump, -clockJump}[chance.IntN(2)]}
	}
	f := fault{at: at, victim: victim(chance, of)}
	switch n := chance.IntN(10); {
	case n < 8 && f.victim == stack.Sandbox:
		f.kind, f.length = misbehave, between(chance, 2*time.Second, 8*time.Second)
		rate := 0.1 + 0.8*chance.Float64()
		f.rule = sandbox.Rule{Operation: "*", Fault: badDays[chance.IntN(len(badDays))], Rate: &rate, Seed: chance.Uint64()}
		if f.rule.Fault == sandbox.Slow || f.rule.Fault == sandbox.WebhookDelay {
			f.rule.Milliseconds = 200 + chance.IntN(3000)
		}
	case n < 5:
		f.kind, f.length = kill, between(chance, 0, 4*time.Second)
	case n < 6:
		f.kind, f.length = stop, between(chance, 0, 2*time.Second)
	case n < 9 || isInfra(f.victim):
		f.kind, f.length = freeze, between(chance, 500*time.Millisecond, 6*time.Second)
	default:
		f.kind, f.length = freeze, between(chance, longFreeze, longFreeze+5*time.Second)
	}
	return f
}

// overlaps are the faults that consist of several.
func overlaps(chance *rand.Rand, length time.Duration, processes []string) (faults []fault) {
	of := groups(processes)
	for at := firstOverlap; at < length; at += between(chance, pauseOfOverlaps/2, 3*pauseOfOverlaps/2) {
		if victims := withJournal(of.services); len(victims) > 0 && len(of.brokers) > 0 {
			faults = append(faults, overlapping(chance, at, pickFrom(chance, victims), processes, of.brokers[0]))
		}
	}
	return faults
}

// overlapping is one of them. While the broker is away a service is killed with its sidecar. Either it is started again soon,
// takes over from itself, and is killed while it does; or it stays away until its other replica takes over, which is killed
// while that does. The broker is back before the end or after it.
func overlapping(chance *rand.Rand, at time.Duration, service string, processes []string, broker string) fault {
	f := fault{at: at, kind: overlap, victim: service}
	do := func(after time.Duration, action string, what ...string) {
		for _, process := range what {
			f.steps = append(f.steps, step{after, action, process})
			f.length = max(f.length, after)
		}
	}
	killed := between(chance, time.Second, 2500*time.Millisecond)
	both := []string{service, service + "-dapr"}
	do(killed, kill, both...)
	var over time.Duration
	other := otherReplica(service, processes)
	if other == "" || chance.IntN(2) == 0 {
		again := killed + between(chance, 0, time.Second)
		do(again, start, both...)
		interrupted := again + between(chance, 300*time.Millisecond, 3*time.Second)
		do(interrupted, kill, both...)
		over = interrupted + between(chance, 0, time.Second)
	} else {
		takenOver := killed + lease + between(chance, 0, lease/2)
		do(takenOver, kill, other, other+"-dapr")
		do(takenOver+between(chance, 0, time.Second), start, other, other+"-dapr")
		over = takenOver + between(chance, 0, 3*time.Second)
	}
	do(over, start, both...)
	back := between(chance, killed, over+2*time.Second)
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

// withJournal are the services that publish events of their documents: a sale's first of all.
func withJournal(services []string) (some []string) {
	for _, name := range services {
		switch app, _, _ := strings.Cut(name, "-"); app {
		case "orders", "tickets":
			some = append(some, name, name, name)
		case "payments", "expiration", "auth":
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

// grouped are processes by what they are.
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

// victim is a service as often as a sidecar, one of the processes that all depend on a fifth of the time, and the
// sandbox a tenth.
func victim(chance *rand.Rand, of grouped) string {
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

// tormentor makes faults happen, and starts again what ended by itself.
type tormentor struct {
	stack  *stack.Stack
	log    func(format string, args ...any)
	clocks map[string]*overlay.Clock // by service; those that can be set

	mu       sync.Mutex
	hurt     map[string]bool // processes that suffer now
	happened map[string]int  // faults by kind and sort of process
	died     []string        // what ended by itself, with its last lines
	jumps    []check.Jump    // of clocks
}

func newTormentor(s *stack.Stack, clocks map[string]*overlay.Clock, log func(string, ...any)) *tormentor {
	return &tormentor{stack: s, log: log, clocks: clocks, hurt: map[string]bool{}, happened: map[string]int{}}
}

// run makes the faults happen and returns when the last one is over. If ctx ends, no more begin.
func (t *tormentor) run(ctx context.Context, faults []fault) {
	begin := time.Now()
	var suffering sync.WaitGroup
	defer suffering.Wait()
	for _, f := range faults {
		select {
		case <-time.After(time.Until(begin.Add(f.at))):
		case <-ctx.Done():
			return
		}
		if f.kind == overlap {
			suffering.Go(func() { t.overlap(ctx, f) })
			continue
		}
		if !t.mark(true, f.victim) {
			continue // it suffers already
		}
		t.log("%s", f)
		suffering.Go(func() {
			defer t.mark(false, f.victim)
			t.suffer(ctx, f)
		})
	}
}

// mark notes that processes suffer, or no more; false says that one of them did before, and then nothing is noted.
func (t *tormentor) mark(hurt bool, names ...string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if hurt && slices.ContainsFunc(names, func(name string) bool { return t.hurt[name] }) {
		return false
	}
	for _, name := range names {
		t.hurt[name] = hurt
	}
	return true
}

// overlapWait is how long an overlapping fault waits for processes that suffer from another.
const overlapWait = 8 * time.Second

// overlap makes the steps of a fault, as soon as none of its processes suffers from another. When it returns all of them run.
func (t *tormentor) overlap(ctx context.Context, f fault) {
	var processes []string
	for _, s := range f.steps {
		processes = append(processes, s.process)
	}
	slices.Sort(processes)
	processes = slices.Compact(processes)
	for begin := time.Now(); !t.mark(true, processes...); {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return
		}
		if time.Since(begin) > overlapWait {
			return
		}
	}
	defer t.mark(false, processes...)
	t.log("%s", f)
	t.mu.Lock()
	t.happened[overlap]++
	t.mu.Unlock()
	begin := time.Now()
	for _, s := range f.steps {
		select {
		case <-time.After(time.Until(begin.Add(s.after))):
		case <-ctx.Done(): // what is left is made up for below
		}
		if ctx.Err() == nil {
			t.do(s)
		}
	}
	for _, name := range processes {
		_ = t.stack.Process(name).Resume()
		t.do(step{action: start, process: name})
	}
}

func (t *tormentor) do(s step) {
	p := t.stack.Process(s.process)
	var err error
	switch s.action {
	case kill:
		_ = p.Kill()
	case freeze:
		_ = p.Pause()
	case resume:
		_ = p.Resume()
	case start:
		err = p.Start()
	}
	if err != nil {
		t.log("%v", err)
	}
}

func (t *tormentor) suffer(ctx context.Context, f fault) {
	p := t.stack.Process(f.victim)
	switch f.kind {
	case misbehave:
		t.badDay(ctx, f)
		return
	case cut:
		mend, err := t.stack.Cut(f.victim, f.server)
		if err != nil {
			t.log("%v", err)
			return
		}
		t.happens(ctx, f, cut+" "+sort(f.victim)+" from "+f.server)
		mend(f.broken)
		return
	case fill:
		t.fill(ctx, f)
		return
	case jump:
		t.jump(ctx, f)
		return
	case kill:
		_ = p.Kill()
	case stop:
		_ = p.Stop() // one that has to be killed is told by nobody; the check is about what is left of its work
	case freeze:
		if p.Pause() != nil {
			return // it is not there; keepAlive sees to it
		}
	}
	t.happens(ctx, f, f.kind+" "+sort(f.victim))
	if f.kind == freeze {
		_ = p.Resume()
		return
	}
	if err := p.Start(); err != nil {
		t.log("%v", err)
	}
}

// fill takes the room on a process's disk for a while. A process that does not recover is started again, as its operator
// would do it: a stream of NATS takes nothing after a write error, and its health check says so.
func (t *tormentor) fill(ctx context.Context, f fault) {
	p := t.stack.Process(f.victim)
	free, err := p.FillDisk()
	if err != nil {
		return // it is not there
	}
	t.happens(ctx, f, "full disk of "+sort(f.victim))
	free()
	if p.PID() == 0 {
		return
	}
	recovering, cancel := context.WithTimeout(context.WithoutCancel(ctx), recoveryTime) // also when the load is over
	defer cancel()
	if t.stack.IsReady(recovering, f.victim) {
		return
	}
	t.log("%s does not recover from a full disk, and is started again", f.victim)
	_ = p.Kill()
	if err := p.Start(); err != nil {
		t.log("%v", err)
	}
}

// recoveryTime is how long a process may take to be ready again once its disk has room.
const recoveryTime = 5 * time.Second

// jump sets a service's clock wrong for a while.
func (t *tormentor) jump(ctx context.Context, f fault) {
	clock := t.clocks[f.victim]
	if clock == nil {
		return
	}
	j := check.Jump{App: f.victim, Offset: f.offset, From: time.Now()}
	if err := clock.Set(f.offset); err != nil {
		t.log("%v", err)
		return
	}
	t.happens(ctx, f, fmt.Sprintf("clock %+.0f min", f.offset.Minutes()))
	if err := clock.Set(0); err != nil {
		t.log("%v", err)
	}
	j.To = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.jumps = append(t.jumps, j)
}

// happens counts a fault and returns when it is over.
func (t *tormentor) happens(ctx context.Context, f fault, as string) {
	t.mu.Lock()
	t.happened[as]++
	t.mu.Unlock()
	select {
	case <-time.After(f.length):
	case <-ctx.Done():
	}
}

// badDay lets the sandbox misbehave for a while.
func (t *tormentor) badDay(ctx context.Context, f fault) {
	rule, err := json.Marshal(f.rule)
	if err != nil {
		t.log("%v", err)
		return
	}
	faults := t.stack.SandboxURL() + "/sandbox/faults"
	response, err := http.Post(faults, "application/json", bytes.NewReader(rule))
	if err != nil {
		return // it is not there
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.log("the sandbox does not take the fault %s: %s", rule, response.Status)
		return
	}
	t.happens(ctx, f, string(f.rule.Fault)+" "+stack.Sandbox)
	request, err := http.NewRequest(http.MethodDelete, faults, nil)
	if err != nil {
		return
	}
	if response, err := http.DefaultClient.Do(request); err == nil {
		_ = response.Body.Close()
	}
}

// sort is what a process is, without its name.
func sort(process string) string {
	switch {
	case isInfra(process):
		return process
	case strings.HasSuffix(process, "-dapr"):
		return "sidecar"
	case strings.HasPrefix(process, "gateway"):
		return "gateway"
	}
	return "service"
}

// keepAlive starts again what ended though nobody ended it, as Kubernetes would, until ctx ends.
func (t *tormentor) keepAlive(ctx context.Context) {
	for {
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return
		}
		for _, name := range t.stack.Processes() {
			p := t.stack.Process(name)
			if p.PID() != 0 || !t.mark(true, name) {
				continue
			}
			if p.PID() == 0 { // still, now that no fault can begin
				lines := p.Log()
				t.mu.Lock()
				t.died = append(t.died, fmt.Sprintf("%s ended by itself: %s", name, strings.Join(lines[max(0, len(lines)-3):], " | ")))
				t.mu.Unlock()
				_ = p.Start()
			}
			t.mark(false, name)
		}
	}
}
