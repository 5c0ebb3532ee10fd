// Package chaos proves that the marketplace keeps its promises whatever happens to its processes. It starts a stack
// of its own with replicas of everything, lets a crowd work on it, causes faults at random meanwhile, lets it come to
// rest, and then checks it (see package check).
//
// Chance comes from a seed: the same seed, time, number of replicas, set and clocks bring the same faults at the same
// moments, and clients that choose alike. What the machine does between is its own.
//
// Read load.go for what the crowd does, faults.go for what happens to the processes.
package chaos

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/overlay"
)

// Options say how much of it.
type Options struct {
	Seed     uint64
	Time     time.Duration // of the load; 0 is a minute
	Clients  int           // 0 is 12
	Replicas int           // 0 is 2
	NoFaults bool          // only the load
	Set      string        // of components, as in stack.Options
	// Settle is how long the system may take to come to rest. 0 is two minutes.
	Settle time.Duration
	// Programs replace an app's program by another, as in stack.Options.
	Programs map[string]string
	// Env is added to that of every process.
	Env map[string]string
	// Clocks builds services whose clocks can be set, and lets them jump: minutes the first time. It has no effect on apps in
	// Programs.
	Clocks bool
	// Folder is where the stack's state is kept; "" is a new one, which is deleted if all is well.
	Folder string
	// Log takes what happens, line by line; nil: nobody wants to know.
	Log func(format string, args ...any)
}

// Outcome is what a run found.
type Outcome struct {
	Options
	Load     *tallies
	Faults   map[string]int
	Died     []string // processes that ended though nobody ended them
	Report   *check.Report
	Duration time.Duration

	with means
}

// lateness is how long an unpaid order may outlive its time once the system is at rest.
const lateness = 15 * time.Second

// Run does all of it. An error says that it could not be done; what is wrong with the marketplace is in the Outcome.
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
	// The times of waiting are short, so that much happens in little time.
	env := stack.WithoutLimits()
	maps.Copy(env, map[string]string{
		"RESERVATION_WINDOW": "6s", "JOURNAL_LEASE": lease.String(), "REMINDER_PERIOD": "2s", "SWEEP_PERIOD": "3s", "BCRYPT_COST": "4", "SIGNIN_FAILURES": "0",
		"LOG_LEVEL": "warn", "LOG_FORMAT": "text", "STRIPE_SECRET_KEY": "",
	})
	maps.Copy(env, opts.Env)
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
	s, err := stack.Start(starting, stack.Options{Folder: opts.Folder, Set: opts.Set, Replicas: opts.Replicas, Programs: programs, Env: env, AppEnv: appEnv, Cuttable: true})
	if err != nil {
		return nil, fmt.Errorf("start the stack: %w", err)
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	opts.Set = s.Set()
	opts.Log("ready: %d processes, %d replicas of every app, on the set %s, in %s", len(s.Processes()), opts.Replicas, opts.Set, opts.Folder)

	out = &Outcome{Options: opts, Load: newTallies()}
	people := &crowd{front: newFront(s.GatewayURLs()), sandbox: s.SandboxURL(), history: check.NewHistory(), tallies: out.Load}
	t := newTormentor(s, clocks, opts.Log)
	out.with = means{cuts: runtime.GOOS == "linux", disks: stack.CanFillDisk, clocks: opts.Clocks}

	working, stopWork := context.WithTimeout(ctx, opts.Time)
	defer stopWork()
	alive, stopCare := context.WithCancel(ctx)
	defer stopCare()
	cared := make(chan struct{})
	go func() {
		defer close(cared)
		t.keepAlive(alive)
	}()
	tormented := make(chan struct{})
	go func() {
		defer close(tormented)
		if !opts.NoFaults {
			t.run(working, schedule(opts.Seed, opts.Time, s.Processes(), out.with))
		}
	}()
	people.run(working, opts.Clients, opts.Seed)
	people.front.http.CloseIdleConnections()
	<-tormented
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}

	opts.Log("the load is over; waiting until everything is ready and at rest")
	if err := ready(ctx, s, opts.Settle); err != nil {
		return nil, err
	}
	stopCare()
	<-cared
	out.Faults, out.Died = t.happened, t.died
	out.Report, err = check.Check(ctx, check.TargetOf(s), check.Options{Settle: opts.Settle, AtRest: true, Late: lateness, History: people.history, Jumps: t.jumps})
	if err == nil {
		people.tryRevoked(ctx)
	}
	out.Duration = time.Since(begin)
	return out, err
}

// withClocks builds the programs whose clocks can be set, beside those that are given, and makes a clock for each replica of
// theirs.
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

// ready waits until all processes are ready; one that dies meanwhile is started again by keepAlive.
func ready(ctx context.Context, s *stack.Stack, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not within %s of the last fault", patience))
	defer cancel()
	for {
		err := s.WaitReady(ctx)
		if _, died := errors.AsType[*stack.ExitError](err); died && ctx.Err() == nil {
			continue
		}
		return err
	}
}

// Right says whether nothing is wrong.
func (o *Outcome) Right() bool { return o.Report != nil && o.Report.Right() && len(o.Load.odd) == 0 }

// Finding is the first of what is wrong, in a line; "" if nothing is.
func (o *Outcome) Finding() string {
	switch {
	case o.Right():
		return ""
	case len(o.Report.Violations) > 0:
		v := o.Report.Violations[0]
		return fmt.Sprintf("promise %d, %s: %s (%d violations)", v.Promise, v.Aggregate, v.What, len(o.Report.Violations))
	case len(o.Load.odd) > 0:
		return fmt.Sprintf("%s (%d odd answers)", o.Load.odd[0], len(o.Load.odd))
	}
	return fmt.Sprint(o.Report.ReadError)
}

// String is the outcome as a table.
func (o *Outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %s of load by %d clients, %d replicas, set %s, %.0f s in all\n\n", o.Seed, o.Time, o.Clients, o.Replicas, o.Set, o.Duration.Seconds())
	fmt.Fprintf(&b, "  %-18s %8s %8s %10s   %s\n", "requests", "sent", "granted", "no answer", "refused")
	var all tally
	for _, kind := range o.Load.order {
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
	if missing := o.with.missing(); len(missing) > 0 && !o.NoFaults {
		fmt.Fprintf(&b, "  %-22s %s\n", "not in this run", strings.Join(missing, "; "))
	}
	fmt.Fprintf(&b, "  %-22s %d\n", "ended by themselves", len(o.Died))
	for _, died := range o.Died {
		fmt.Fprintf(&b, "    %s\n", died)
	}
	fmt.Fprintf(&b, "  %-22s %d\n", "odd answers", len(o.Load.odd))
	for _, odd := range o.Load.odd {
		fmt.Fprintf(&b, "    %s\n", odd)
	}
	b.WriteString(o.Report.String())
	return b.String()
}

const about = `Starts a stack of its own, on free ports and in a folder of its own, with replicas of everything; lets
clients work on it while there are faults at random; waits until it is at rest; and checks every promise. It fails if one
does not hold, and keeps the folder then.

Faults: processes killed, stopped and frozen; several at once (the broker is away, a service is killed with its sidecar, and
whoever takes over from it as well); the network cut between sidecars and broker or PostgreSQL, and a full disk (both on Linux
alone); a clock of a service moved by ten minutes; answers of the sandbox that are late, wrong or missing.

The same -seed, -time, -replicas, -set and -clocks bring the same faults at the same moments.`

// Command is the chaos as a subcommand.
func Command(ctx context.Context, args []string) error {
	var opts Options
	flags := flag.NewFlagSet("local chaos", flag.ContinueOnError)
	flags.Uint64Var(&opts.Seed, "seed", 0, "of all chance (default: another at each run)")
	flags.DurationVar(&opts.Time, "time", time.Minute, "of the load")
	flags.IntVar(&opts.Clients, "clients", 12, "`number` of clients at once")
	flags.IntVar(&opts.Replicas, "replicas", 2, "`number` of replicas of every app")
	flags.BoolVar(&opts.NoFaults, "nofaults", false, "only the load")
	flags.StringVar(&opts.Set, "set", "", "`set` of components: embedded, nats or redis (default: $INFRA, or embedded)")
	flags.DurationVar(&opts.Settle, "settle", 2*time.Minute, "how long it may take until all is at rest")
	flags.StringVar(&opts.Folder, "folder", "", "where to keep the state (default: a new `folder`, deleted if all is well)")
	flags.BoolVar(&opts.Clocks, "clocks", true, "build services whose clocks can be set, and let them jump")
	quiet := flags.Bool("quiet", false, "do not tell of each fault")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: local chaos [flags]\n\n%s\n\n", about)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("chaos: unexpected argument %q", flags.Arg(0))
	case opts.Replicas < 1 || opts.Replicas > stack.MaxReplicas || opts.Clients < 1 || opts.Time <= 0:
		return fmt.Errorf("chaos: there have to be 1 to %d replicas, a client and some time", stack.MaxReplicas)
	}
	if opts.Folder != "" {
		folder, err := filepath.Abs(opts.Folder)
		if err != nil {
			return err
		}
		opts.Folder = folder
	}
	if opts.Seed == 0 {
		opts.Seed = uint64(rand.Uint32())
	}
	fmt.Printf("seed %d (the same again: -seed %d -time %s)\n", opts.Seed, opts.Seed, opts.Time)
	if !*quiet {
		opts.Log = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	}
	ctx, cancel := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer cancel()
	out, err := Run(ctx, opts)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s\n", out)
	if !out.Right() {
		return fmt.Errorf("promises are broken; the state and all logs are in %s", out.Folder)
	}
	return nil
}
