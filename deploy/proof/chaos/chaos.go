// Package chaos proves that the marketplace keeps its promises under load and faults. It starts a stack of its own with
// replicas of every app, lets simulated clients use it, injects faults at random, waits until the stack is at rest, and then
// checks it (package check).
//
// All chance comes from a seed. The same seed, time, number of replicas, set and clocks give the same schedule of faults and
// the same choices of the clients. The timing of the machine differs.
//
// load.go has the clients, schedule.go the choice of faults, and injector.go their execution.
package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/overlay"
)

// Options of a run.
type Options struct {
	Seed     uint64
	Time     time.Duration // of the load; 0 is a minute
	Clients  int           // 0 is 12
	Replicas int           // of every app; 0 is 2
	NoFaults bool          // only the load
	Set      string        // of components, as in stack.Options
	// Settle is how long the stack may take to come to rest. 0 is two minutes.
	Settle time.Duration
	// Programs replace programs of apps, as in stack.Options.
	Programs map[string]string
	// Without are apps that are not started, as in stack.Options.
	Without []string
	// Clocks builds services whose clocks can be set, and lets them jump. The first build takes minutes. Apps in Programs keep
	// their clocks.
	Clocks bool
	// Folder has the stack's state. "" is a new folder, which is deleted if nothing is wrong.
	Folder string
	// Log receives the faults as they happen; nil discards them.
	Log func(format string, args ...any)
}

// Outcome is the result of a run.
type Outcome struct {
	Options
	Load     *stats
	Faults   map[string]int
	Died     []string // processes that ended without a fault
	Report   *check.Report
	Duration time.Duration

	supported supported
	endpoints *check.Endpoints
	followers []*follower
}

// lateness is how long an unpaid order may exist after its window once the stack is at rest.
const lateness = 15 * time.Second

// Run executes a run. An error means that it could not be completed; what is wrong with the marketplace is in the Outcome.
func Run(ctx context.Context, opts Options) (out *Outcome, err error) {
	opts.Time = cmp.Or(opts.Time, time.Minute)
	opts.Clients = cmp.Or(opts.Clients, 12)
	opts.Replicas = cmp.Or(opts.Replicas, 2)
	opts.Settle = cmp.Or(opts.Settle, 2*time.Minute)
	if opts.Log == nil {
		opts.Log = func(string, ...any) {}
	}
	begin := time.Now()
	if opts.Folder == "" {
		if opts.Folder, err = os.MkdirTemp("", "boxoffice-chaos-"); err != nil {
			return nil, err
		}
		defer func() {
			if err == nil && out.Right() {
				_ = os.RemoveAll(opts.Folder)
			}
		}()
	}
	// Windows and periods are short, so that much happens in little time.
	env := stack.WithoutLimits()
	maps.Copy(env, map[string]string{
		"RESERVATION_WINDOW": "6s", "JOURNAL_LEASE": lease.String(), "REMINDER_PERIOD": "2s", "SWEEP_PERIOD": "3s", "BCRYPT_COST": "4", "SIGNIN_FAILURES": "0",
		"LOG_LEVEL": "warn", "LOG_FORMAT": "text", "STRIPE_SECRET_KEY": "",
	})
	programs, clocks, err := opts.withClocks(ctx)
	if err != nil {
		return nil, err
	}
	appEnv := map[string]map[string]string{}
	for name, clock := range clocks {
		appEnv[name] = clock.Env()
	}
	starting, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("the stack was not ready within two minutes"))
	defer cancel()
	s, err := stack.Start(starting, stack.Options{Folder: opts.Folder, Set: opts.Set, Replicas: opts.Replicas, Programs: programs, Env: env, AppEnv: appEnv, Without: opts.Without, Cuttable: true})
	if err != nil {
		return nil, fmt.Errorf("start the stack: %w", err)
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	opts.Set = s.Set()
	opts.Log("ready: %d processes, %d replicas of every app, on the set %s, in %s", len(s.Processes()), opts.Replicas, opts.Set, opts.Folder)

	out = &Outcome{
		Options: opts, Load: newStats(),
		supported: supported{cuts: runtime.GOOS == "linux", disks: stack.CanFillDisk, clocks: opts.Clocks, endpoints: s.Process("webhooks") != nil, catalogue: s.Process("catalogue") != nil},
	}
	sandbox := client.New(s.SandboxURL(), client.Options{Timeout: requestTimeout})
	defer sandbox.Close()
	load, err := newLoad(s.GatewayURLs(), sandbox, out.Load)
	if err != nil {
		return nil, err
	}
	if out.supported.endpoints {
		if load.receiver, err = startReceiver(); err != nil {
			return nil, err
		}
		defer load.receiver.close()
		out.endpoints = load.receiver.endpoints
	}
	if out.supported.catalogue {
		load.streams = client.New("", client.Options{Transport: &http.Transport{DisableCompression: true}})
		defer load.streams.Close()
	}
	faults := newInjector(s, sandbox, clocks, opts.Log)

	var restarting sync.WaitGroup
	restartCtx, stopRestarting := context.WithCancel(ctx)
	defer restarting.Wait()
	defer stopRestarting()
	restarting.Go(func() { faults.restartEnded(restartCtx) })

	working, stopWork := context.WithTimeout(ctx, opts.Time)
	defer stopWork()
	var injecting sync.WaitGroup
	if !opts.NoFaults {
		injecting.Go(func() { faults.run(working, schedule(opts.Seed, opts.Time, s.Processes(), out.supported)) })
	}
	following, stopFollowing := context.WithCancel(ctx)
	var streaming sync.WaitGroup
	defer streaming.Wait()
	defer stopFollowing()
	if out.supported.catalogue {
		for number := range followers {
			f := newFollower(load, opts.Seed, number)
			out.followers = append(out.followers, f)
			streaming.Go(func() { f.run(following, working) })
		}
	}
	load.run(working, opts.Clients, opts.Seed)
	injecting.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}

	opts.Log("the load is over; waiting until everything is ready and at rest")
	if err := ready(ctx, s, opts.Settle); err != nil {
		return nil, err
	}
	stopRestarting()
	restarting.Wait()
	out.Faults, out.Died = faults.injected, faults.died
	if load.receiver != nil {
		load.receiver.behave()
		maps.Copy(out.Faults, load.receiver.faults())
	}
	out.Report, err = check.Check(ctx, check.TargetOf(s), check.Options{Settle: opts.Settle, AtRest: true, Late: lateness, History: load.history, Jumps: faults.jumps, Endpoints: out.endpoints})
	if err == nil {
		load.checkStreams(ctx, out.followers)
		load.checkRevoked(ctx)
	}
	out.Duration = time.Since(begin)
	return out, err
}

// withClocks builds programs whose clocks can be set for the apps that have no other program, and creates a clock for each of their
// replicas.
func (o *Options) withClocks(ctx context.Context) (map[string]string, map[string]*overlay.Clock, error) {
	if !o.Clocks {
		return o.Programs, nil, nil
	}
	runFile, err := stack.FindRunFile(".")
	if err != nil {
		return nil, nil, err
	}
	root := filepath.Dir(runFile)
	services, err := overlay.Services(root)
	if err != nil {
		return nil, nil, err
	}
	o.Log("building services whose clocks can be set (minutes the first time)")
	programs, err := overlay.BuildWithClock(ctx, root, filepath.Join(root, ".build", "clock"), services...)
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(programs, o.Programs)
	folder := filepath.Join(o.Folder, "clocks")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, nil, err
	}
	clocks := map[string]*overlay.Clock{}
	for app := range programs {
		if _, given := o.Programs[app]; given {
			continue
		}
		for number := 1; number <= o.Replicas; number++ {
			name := app
			if number > 1 {
				name = fmt.Sprintf("%s-%d", app, number)
			}
			if clocks[name], err = overlay.NewClock(filepath.Join(folder, name)); err != nil {
				return nil, nil, err
			}
		}
	}
	return programs, clocks, nil
}

// ErrNotReady means that a process was not ready again in time, though all faults were over.
var ErrNotReady = errors.New("not ready")

// ready waits until all processes are ready. restartEnded restarts those that end meanwhile.
func ready(ctx context.Context, s *stack.Stack, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %s of the last fault", ErrNotReady, limit))
	defer cancel()
	for {
		err := s.WaitReady(ctx)
		if _, died := errors.AsType[*stack.ExitError](err); died && ctx.Err() == nil {
			continue
		}
		return err
	}
}

// Right reports whether nothing is wrong.
func (o *Outcome) Right() bool {
	return o.Report != nil && o.Report.Right() && len(o.Load.unexpected) == 0
}

// Finding is the first thing that is wrong, in one line; "" if nothing is wrong.
func (o *Outcome) Finding() string {
	switch {
	case o.Right():
		return ""
	case len(o.Report.Violations) > 0:
		v := o.Report.Violations[0]
		return fmt.Sprintf("promise %d, %s: %s (%d violations)", v.Promise, v.Aggregate, v.What, len(o.Report.Violations))
	case len(o.Load.unexpected) > 0:
		return fmt.Sprintf("%s (%d unexpected answers)", o.Load.unexpected[0], len(o.Load.unexpected))
	}
	return fmt.Sprint(o.Report.ReadError)
}

// String is the outcome as a table.
func (o *Outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %s of load by %d clients, %d replicas, set %s, %.0f s in all\n\n", o.Seed, o.Time, o.Clients, o.Replicas, o.Set, o.Duration.Seconds())
	fmt.Fprintf(&b, "  %-18s %8s %8s %10s   %s\n", "requests", "sent", "granted", "no answer", "refused")
	var all outcomes
	for _, kind := range o.Load.kinds {
		k := o.Load.byKind[kind]
		var refused []string
		for _, reason := range slices.Sorted(maps.Keys(k.refused)) {
			refused = append(refused, fmt.Sprintf("%s: %d", reason, k.refused[reason]))
		}
		fmt.Fprintf(&b, "  %-18s %8d %8d %10d   %s\n", kind, k.sent, k.granted, k.unanswered, strings.Join(refused, ", "))
		all.sent += k.sent
		all.granted += k.granted
		all.unanswered += k.unanswered
	}
	fmt.Fprintf(&b, "  %-18s %8d %8d %10d\n\n", "all", all.sent, all.granted, all.unanswered)
	var faults []string
	for _, kind := range slices.Sorted(maps.Keys(o.Faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", kind, o.Faults[kind]))
	}
	if len(faults) == 0 {
		faults = []string{"none"}
	}
	fmt.Fprintf(&b, "  %-22s %s\n", "faults", strings.Join(faults, ", "))
	if missing := o.supported.missing(); len(missing) > 0 && !o.NoFaults {
		fmt.Fprintf(&b, "  %-22s %s\n", "not in this run", strings.Join(missing, "; "))
	}
	fmt.Fprintf(&b, "  %-22s %d\n", "ended by themselves", len(o.Died))
	for _, died := range o.Died {
		fmt.Fprintf(&b, "    %s\n", died)
	}
	fmt.Fprintf(&b, "  %-22s %d\n", "unexpected answers", len(o.Load.unexpected))
	for _, text := range o.Load.unexpected {
		fmt.Fprintf(&b, "    %s\n", text)
	}
	if o.endpoints != nil {
		endpoints, different, all := o.endpoints.Messages()
		fmt.Fprintf(&b, "  %-22s %d, to which %d messages came (%d with repeats)\n", "endpoints", endpoints, different, all)
	}
	if len(o.followers) > 0 {
		opened, updates, resets := counts(o.followers)
		fmt.Fprintf(&b, "  %-22s %d opened, %d updates, %d resets\n", "streams", opened, updates, resets)
	}
	b.WriteString(o.Report.String())
	return b.String()
}
