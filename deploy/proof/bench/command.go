// Package bench measures what the box office does in a second, on a stack of its own: the important requests, through the
// gateway and directly at the services. Beside them it measures the state operations of the same requests on a sidecar without a
// service (the bare sidecar), which shows the share of the services' own work.
//
// Everything, including the load, shares one machine. Two runs can be compared only if nothing else ran. -rounds repeats every
// measurement and shows the best.
//
// workloads.go has what is measured, jobs.go what clients do, load.go how they do it at once, and bare.go what is done at the
// bare sidecar.
package bench

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"time"

	"boxoffice/deploy/local/stack"
)

// settings are the flags of the command line.
type settings struct {
	runFile string
	set     string
	clients int
	users   int
	span    time.Duration
	warm    time.Duration
	settle  time.Duration
	rounds  int
	listed  int

	endpoints int
	streams   int
	only      *regexp.Regexp
	bare      bool
	cpu       bool
	profile   string
	keep      bool

	replicas int
	fill     fill
	slow     time.Duration
	limits   bool
	without  []string
	json     string
	compared []string // two files of results to compare; then nothing is measured
}

// Command measures what the command line names, and prints the results.
func Command(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	return run(ctx, s)
}

func parse(args []string) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("proof bench", flag.ContinueOnError)
	flags.StringVar(&s.runFile, "file", "", "run `file` (default: dapr.yaml here or in the nearest folder above)")
	flags.StringVar(&s.set, "set", cmp.Or(os.Getenv("INFRA"), stack.SetEmbedded), "`set` of components: embedded, nats or redis (default: $INFRA, or embedded)")
	flags.IntVar(&s.clients, "clients", 64, "how many clients at once")
	flags.IntVar(&s.users, "users", 200, "how many users the clients act as, half of them as sellers; each costs a bcrypt hash")
	seconds := flags.Float64("seconds", 5, "how long each measurement lasts")
	warm := flags.Float64("warm", 1, "how many `seconds` of load precede each measurement")
	settle := flags.Float64("settle", 300, "how many `seconds` the events of a measurement may take until all are handled")
	flags.IntVar(&s.rounds, "rounds", 1, "how often everything is measured; the best is shown")
	flags.IntVar(&s.listed, "listed", 2000, "how many tickets are listed when the list is read")
	flags.IntVar(&s.endpoints, "endpoints", 1000, "how many users have an endpoint, for \"events to endpoints\"; each costs a bcrypt hash; 0 omits it")
	flags.IntVar(&s.streams, "streams", 2000, "how many streams are open at once, for \"streams\"; 0 omits it")
	only := flags.String("only", "", "measure only the workloads whose names match this `expression`; \"alone\" is the single purchases")
	flags.BoolVar(&s.bare, "bare", true, "measure the bare sidecar as well")
	flags.IntVar(&s.replicas, "replicas", 1, "`number` of replicas of every app, each with a sidecar")
	fillText := flags.String("fill", "", "what the stores contain before the first measurement, as `tickets=300000,orders=100000,shows=50000,listings=300000`; created at the services'\nREST API, so it takes minutes. The reservation window is a day then")
	flags.DurationVar(&s.slow, "slow", 0, "add this `time` to each round trip between sidecars and PostgreSQL, as 20ms (sets nats and redis)")
	flags.BoolVar(&s.cpu, "cpu", false, "show the processor time of an operation, by process, with all processes of PostgreSQL")
	flags.BoolVar(&s.limits, "limits", false, "turn on the limits of clients, too high to be reached, to measure their cost (default: all are off)")
	flags.Func("without", "omit this `app`, for example webhooks, to measure what it costs the others; may be repeated", func(app string) error {
		s.without = append(s.without, app)
		return nil
	})
	flags.StringVar(&s.json, "json", "", "write the results into this `file`, too")
	flags.StringVar(&s.profile, "profile", "", "collect processor profiles of services, sidecars, NATS and the load into this `folder`, one folder a workload")
	flags.BoolVar(&s.keep, "keep", false, "keep the stack's folder, with its logs")
	onlyCompare := flags.Bool("compare", false, "print the figures of two files that -json wrote side by side, and measure nothing: -compare OLD NEW")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: proof bench [flags]\n\nMeasures the box office on a stack of its own. From make: make bench ARGS='-seconds 10'\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	if s.fill, err = parseFill(*fillText); err != nil {
		return nil, fmt.Errorf("-fill: %w", err)
	}
	s.span, s.warm, s.settle = inSeconds(*seconds), inSeconds(*warm), inSeconds(*settle)
	s.listed = max(longPage, s.listed/longPage*longPage)
	if *onlyCompare {
		if s.compared = flags.Args(); len(s.compared) != 2 {
			return nil, errors.New("-compare takes two files")
		}
		return s, nil
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.slow > 0 && s.set == stack.SetEmbedded:
		return nil, errors.New("-slow needs a set with PostgreSQL: -set nats or -set redis")
	case s.replicas < 1 || s.replicas > stack.MaxReplicas:
		return nil, fmt.Errorf("%d replicas: there can be 1 to %d", s.replicas, stack.MaxReplicas)
	case s.users < 2:
		return nil, errors.New("-users must be 2 or more: a seller and a buyer")
	case s.clients < 1 || s.rounds < 1 || s.span <= 0 || s.warm < 0:
		return nil, errors.New("-clients, -rounds and -seconds must be greater than 0")
	}
	return s, nil
}

func inSeconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func run(ctx context.Context, s *settings) (err error) {
	if s.compared != nil {
		return compare(os.Stdout, s.compared[0], s.compared[1])
	}
	if s.runFile == "" {
		if s.runFile, err = stack.FindRunFile("."); err != nil {
			return err
		}
	}
	// The folder is beside the sources, because the system's folder for temporary files may be in memory: the time until data
	// is on disk is part of every write.
	folder := filepath.Join(filepath.Dir(s.runFile), ".build", "bench-stack")
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if !s.keep {
		defer func() { _ = os.RemoveAll(folder) }()
	}
	diskTime, err := diskTime(folder)
	if err != nil {
		return err
	}
	fmt.Printf("components of the set %s; replicas of each app: %d; %d clients, %d users, %s each, best of %d; %d processors, shared with the load; %s; a write is on disk in %s\n",
		s.set, s.replicas, s.clients, s.users, s.span, s.rounds, runtime.NumCPU(), runtime.Version(), diskTime.Round(time.Microsecond))
	if s.slow > 0 {
		fmt.Printf("each round trip between sidecars and PostgreSQL takes %s longer\n", s.slow)
	}
	fmt.Println()

	run, err := stack.ReadRunFile(s.runFile)
	if err != nil {
		return err
	}
	var apps []string
	for _, app := range run.Apps {
		if !slices.ContainsFunc(run.Omissions(), func(o stack.Omission) bool { return o.App == app.ID }) && !slices.Contains(s.without, app.ID) {
			apps = append(apps, app.ID)
		}
	}
	for _, omission := range run.Omissions() {
		progress("%s", omission)
	}
	env := stack.WithoutLimits()
	if s.limits {
		for name := range env {
			if name != "NATS_MAX_BYTES" { // which limits no client
				env[name] = "1000000"
			}
		}
		env["RESERVATION_COOLDOWN"] = "15m"
		env["RESERVATIONS_PER_USER"] = "1000" // the maximum that orders allows
		// Payments that succeed do not count, so these limits are not reached.
		env["PAYMENT_ATTEMPTS"], env["PAYMENT_ATTEMPTS_PER_HOUR"] = "5", "10"
	}
	env["SIGNIN_FAILURES"] = "0"  // otherwise the wrong passwords of the flood would lock its users at once
	env["STRIPE_SECRET_KEY"] = "" // the environment may have a key of the real Stripe
	if s.fill.orders > 0 {
		env["RESERVATION_WINDOW"] = "24h" // orders that fill the stores must not expire during a measurement
	}
	gatewayEnv := map[string]string{}
	if slices.Contains(s.without, catalogueApp) {
		standIn := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) // it is ready, and does nothing
		defer standIn.Close()
		gatewayEnv["CATALOGUE_URL"] = standIn.URL
	}
	begin := time.Now()
	starting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	running, err := stack.Start(starting, stack.Options{
		Set:     s.set,
		RunFile: s.runFile, Folder: folder, Apps: apps, Replicas: s.replicas, Sidecars: []stack.Sidecar{{ID: bareSidecar}},
		Profiles: s.profile != "", StoreDelay: s.slow, Env: env, AppEnv: map[string]map[string]string{"gateway": gatewayEnv},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, running.Stop()) }()
	progress("ready in %.1f s", time.Since(begin).Seconds())

	ctx, fail := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer fail(nil)
	watching.Go(func() {
		if died := running.Wait(ctx); died != nil {
			fail(died)
		}
	})
	b, err := newBench(ctx, s, running, apps)
	if err != nil {
		return err
	}
	defer b.close()
	err = b.measure(ctx)
	b.print(os.Stdout)
	if s.json != "" {
		err = errors.Join(err, b.write(s.json))
	}
	if cause := context.Cause(ctx); cause != nil {
		err = errors.Join(cause, err)
	}
	return err
}

// diskTime is the median time until a small write is on disk.
func diskTime(folder string) (time.Duration, error) {
	file, err := os.CreateTemp(folder, "sync")
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	defer func() { _ = os.Remove(file.Name()) }()
	block := make([]byte, 4096)
	times := make([]time.Duration, 101)
	for i := range times {
		begin := time.Now()
		if _, err := file.Write(block); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
		times[i] = time.Since(begin)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// progress prints a line for the user to standard error. Standard output has only the results.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "  "+format+"\n", args...) }
