package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"boxoffice/deploy/local/sandbox"
	"boxoffice/deploy/local/stack"
)

// fault is something that happens to a process at a time after the begin.
type fault struct {
	at     time.Duration
	victim string
	kind   string
	length time.Duration // until it runs again, or behaves
	rule   sandbox.Rule  // with misbehave
}

func (f fault) String() string {
	kind := f.kind
	if f.kind == misbehave {
		kind = fmt.Sprintf("%s at %.0f %% in", f.rule.Fault, 100**f.rule.Rate)
	}
	return fmt.Sprintf("%6.1f s  %s %s for %.1f s", f.at.Seconds(), kind, f.victim, f.length.Seconds())
}

// The kinds of faults.
const (
	kill   = "kill"   // SIGKILL, and started again after a while
	stop   = "stop"   // SIGTERM, as an operator does it
	freeze = "freeze" // SIGSTOP, and SIGCONT after a while

	misbehave = "misbehave" // of the sandbox: Stripe has a bad day
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
	// longFreeze is longer than the lease of the journal's writers, so that somebody takes over from the frozen one.
	longFreeze = 18 * time.Second
)

// schedule chooses the faults of a run: the same for the same seed, time and processes.
func schedule(seed uint64, length time.Duration, processes []string) []fault {
	chance := rand.New(rand.NewPCG(seed, 0))
	var faults []fault
	for at := time.Second; ; {
		at += time.Duration(chance.ExpFloat64() * float64(meanPause))
		if at >= length {
			return faults
		}
		f := fault{at: at, victim: victim(chance, processes)}
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
			f.kind, f.length = freeze, between(chance, 500*time.Millisecond, 8*time.Second)
		default:
			f.kind, f.length = freeze, between(chance, longFreeze, longFreeze+5*time.Second)
		}
		faults = append(faults, f)
	}
}

func between(chance *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(chance.Int64N(int64(to-from)))
}

func isInfra(name string) bool {
	return slices.Contains([]string{stack.NATS, stack.Redis, stack.Postgres, stack.Placement, stack.Scheduler, stack.Sandbox}, name)
}

// victim is a service as often as a sidecar, one of the processes that all depend on a fifth of the time, and the
// sandbox a tenth.
func victim(chance *rand.Rand, processes []string) string {
	var services, sidecars, infra []string
	for _, name := range processes {
		switch {
		case isInfra(name):
			infra = append(infra, name)
		case strings.HasSuffix(name, "-dapr"):
			sidecars = append(sidecars, name)
		default:
			services = append(services, name)
		}
	}
	group := services
	switch n := chance.IntN(10); {
	case n < 1:
		return stack.Sandbox
	case n < 2:
		group = infra
	case n < 6:
		group = sidecars
	}
	return group[chance.IntN(len(group))]
}

// tormentor makes faults happen, and starts again what ended by itself.
type tormentor struct {
	stack *stack.Stack
	log   func(format string, args ...any)

	mu       sync.Mutex
	hurt     map[string]bool // processes that suffer a fault at the moment
	happened map[string]int  // by kind and sort of victim
	died     []string        // what ended by itself, with its last lines
}

func newTormentor(s *stack.Stack, log func(string, ...any)) *tormentor {
	return &tormentor{stack: s, log: log, hurt: map[string]bool{}, happened: map[string]int{}}
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
		if !t.mark(f.victim, true) {
			continue // it suffers already
		}
		t.log("%s", f)
		suffering.Go(func() {
			defer t.mark(f.victim, false)
			t.suffer(ctx, f)
		})
	}
}

// mark notes that a process suffers, or no more; false says that it did before.
func (t *tormentor) mark(name string, hurt bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if hurt && t.hurt[name] {
		return false
	}
	t.hurt[name] = hurt
	return true
}

func (t *tormentor) suffer(ctx context.Context, f fault) {
	if f.kind == misbehave {
		t.badDay(ctx, f)
		return
	}
	p := t.stack.Process(f.victim)
	switch f.kind {
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
			if p.PID() != 0 || !t.mark(name, true) {
				continue
			}
			if p.PID() == 0 { // still, now that no fault can begin
				lines := p.Log()
				t.mu.Lock()
				t.died = append(t.died, fmt.Sprintf("%s ended by itself: %s", name, strings.Join(lines[max(0, len(lines)-3):], " | ")))
				t.mu.Unlock()
				_ = p.Start()
			}
			t.mark(name, false)
		}
	}
}
