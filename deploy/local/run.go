package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"boxoffice/deploy/local/stack"
)

// settings are the flags that run and infra share.
type settings struct {
	runFile  string
	timeout  time.Duration
	verbose  bool
	replicas int
	set      string
	ports    stack.Ports
}

func parse(name, about string, ports stack.Ports, args []string) (*settings, error) {
	s := &settings{ports: ports, replicas: 1}
	if text := os.Getenv("REPLICAS"); text != "" {
		var err error
		if s.replicas, err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("REPLICAS=%q is not a whole number", text)
		}
	}
	flags := flag.NewFlagSet("local "+name, flag.ContinueOnError)
	flags.StringVar(&s.runFile, "file", "", "run `file` (default: dapr.yaml here or in the nearest folder above)")
	flags.StringVar(&s.set, "set", os.Getenv("INFRA"), "`set` of components: embedded, nats, redis, or another folder of components/ whose\nservers you run (default: $INFRA, or the one in the run file)")
	flags.DurationVar(&s.timeout, "timeout", time.Minute, "how long to wait until all is ready")
	flags.BoolVar(&s.verbose, "verbose", false, "show the lines of sidecars, servers, placement and scheduler too")
	if name == "run" {
		flags.IntVar(&s.replicas, "replicas", s.replicas, "`number` of replicas of every app, each with a sidecar (default: $REPLICAS, or 1)")
	}
	for _, port := range s.ports.Flags() {
		flags.IntVar(port.Port, port.Name, *port.Port, "`port` of "+port.What)
	}
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: local %s [flags]\n\n%s\n\n", name, about)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%s: unexpected argument %q", name, flags.Arg(0))
	}
	if s.replicas < 1 || s.replicas > stack.MaxReplicas {
		return nil, fmt.Errorf("%d replicas: there can be 1 to %d", s.replicas, stack.MaxReplicas)
	}
	return s, nil
}

// start starts a stack on the ports of the settings, and shows its lines.
func (s *settings) start(ctx context.Context, terminal *console, opts stack.Options) (*stack.Stack, error) {
	opts.RunFile, opts.Set, opts.FixedPorts = s.runFile, s.set, &s.ports
	opts.Output, opts.OutputAll = terminal.line, s.verbose
	if os.Getenv("LOG_FORMAT") == "" && terminal.colours {
		opts.Env = map[string]string{"LOG_FORMAT": "text"} // a service writes to a pipe, which ends in a terminal
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("not within %s", s.timeout))
	defer cancel()
	running, err := stack.Start(ctx, opts)
	if err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return nil, errInterrupted
	}
	return running, err
}

var errInterrupted = errors.New("stopped before all was ready")

const aboutRun = `Starts everything and stops it again on Ctrl-C. State is kept in .state beside dapr.yaml; a
second start uses it, and "local reset" deletes it. The lines of all processes are in .state/logs.
The services get the environment of this command (RESERVATION_WINDOW, STRIPE_SECRET_KEY, LOG_LEVEL, …).
Without STRIPE_SECRET_KEY payments go to the sandbox. If there are no shows yet, it makes a sample programme
(SAMPLES=off: none).`

func run(ctx context.Context, args []string) error {
	begin := time.Now()
	s, err := parse("run", aboutRun, stack.DefaultPorts(), args)
	if err != nil {
		return err
	}
	programme, err := newSampleProgramme()
	if err != nil {
		return err
	}
	terminal := newConsole(os.Stdout)
	opts := stack.Options{Replicas: s.replicas}
	if os.Getenv("STRIPE_SECRET_KEY") != "" {
		opts.Infra = []string{stack.Servers, stack.Sentry, stack.Placement, stack.Scheduler} // payments go to Stripe itself
	}
	running, err := s.start(ctx, terminal, opts)
	if err != nil {
		return err
	}
	ready := time.Since(begin)
	account := demoAccount(ctx, running.GatewayURL(), filepath.Join(running.Data(), "demo-account"))
	about := programme.begin(ctx, running.GatewayURL(), filepath.Join(running.Data(), "samples"))
	terminal.print(welcome(running, ready, account, about))
	for _, omission := range running.Omissions() {
		terminal.print("It runs " + omission.String() + ".")
	}
	filling, stop := context.WithCancel(ctx)
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		if line := programme.fill(filling); line != "" {
			// The requests have printed many lines since the welcome.
			terminal.print(fmt.Sprintf("%s\nThe box office is open at %s; demo account: %s", line, addresses(running), account))
		}
	}()
	return hold(ctx, terminal, running, func() { stop(); <-filled })
}

// hold waits for a signal or the end of a process, calls end, then stops the stack.
func hold(ctx context.Context, terminal *console, running *stack.Stack, end func()) error {
	died := running.Wait(ctx)
	end()
	if died != nil {
		terminal.print(fmt.Sprintf("%v\nStopping the others.", died))
	} else {
		terminal.print("Stopping. If that takes too long, press Ctrl-C again.")
	}
	begin := time.Now()
	if err := running.Stop(); err != nil {
		return errors.Join(err, died)
	}
	terminal.print(fmt.Sprintf("All stopped in %.1f s; the state is kept.", time.Since(begin).Seconds()))
	if died != nil {
		return errors.New("stopped because " + firstLine(died.Error()))
	}
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, ";")
	return line
}

const aboutInfra = `Starts what the services need, until Ctrl-C: the servers of the set, the Stripe sandbox, and Dapr's
sentry, placement and scheduler. Those of dapr init do not work here, because they use no certificates.
Then, in another terminal:

  set -a; . .state/env; set +a
  dapr run -f .

dapr run reads addresses from components/ and dapr.yaml. If you change a port here, change it there, too.`

func infra(ctx context.Context, args []string) error {
	s, err := parse("infra", aboutInfra, stack.DaprPorts(), args)
	if err != nil {
		return err
	}
	terminal := newConsole(os.Stdout)
	if err := notDapr(s.ports); err != nil {
		return err
	}
	running, err := s.start(ctx, terminal, stack.Options{Apps: []string{}, Infra: []string{
		stack.Servers, stack.Sentry, stack.Placement, stack.Scheduler, stack.Sandbox,
	}})
	if err != nil {
		return err
	}
	omissions, err := s.omissions()
	if err != nil {
		return errors.Join(err, running.Stop())
	}
	for _, omission := range omissions {
		terminal.print(fmt.Sprintf("%s cannot run here: %s.\nOr delete the app and its address, which the gateway has, from dapr.yaml: dapr run -f . ends if it cannot start an app.", omission.App, omission.Reason))
	}
	terminal.print(fmt.Sprintf(`Ready: %s. Now, in another terminal:

  set -a; . %s; set +a
%s  dapr run -f .

Ctrl-C stops them.`, strings.Join(running.Processes(), ", "), filepath.Join(stack.StateFolder, "env"), otherSet(running)))
	return hold(ctx, terminal, running, func() {})
}

// omissions are the apps of the run file that cannot run here.
func (s *settings) omissions() ([]stack.Omission, error) {
	path := s.runFile
	if path == "" {
		var err error
		if path, err = stack.FindRunFile("."); err != nil {
			return nil, err
		}
	}
	run, err := stack.ReadRunFile(path)
	if err != nil {
		return nil, err
	}
	return run.Omissions(), nil
}

// otherSet is what dapr run needs in addition for a set with certificates.
func otherSet(running *stack.Stack) string {
	trusted := running.Certificates().Trusted
	if trusted == "" {
		return ""
	}
	return fmt.Sprintf("  export SSL_CERT_DIR=%s\n  # in dapr.yaml, twice: ./components/%s\n", trusted, running.Set())
}

// notDapr is an error if a program listens on the ports of Dapr's control plane: most likely that of dapr init.
func notDapr(ports stack.Ports) error {
	var taken []string
	for _, use := range []struct {
		what string
		port int
	}{{"sentry", ports.Sentry}, {"placement", ports.Placement}, {"scheduler", ports.Scheduler}} {
		if served(use.port) {
			taken = append(taken, fmt.Sprintf("%s (port %d)", use.what, use.port))
		}
	}
	if len(taken) == 0 {
		return nil
	}
	return fmt.Errorf(`other programs listen on the ports of %s. dapr run -f . connects to these ports, and sidecars of the
box office trust only the control plane of this command. If "dapr init" started those programs, stop them:

  docker stop dapr_placement dapr_scheduler

After "dapr init --slim" or another "make infra" stop the programs themselves. (make run uses other ports.)`, strings.Join(taken, ", "))
}

func served(port int) bool {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// reset deletes the state folder beside the run file.
func reset(args []string) error {
	flags := flag.NewFlagSet("local reset", flag.ContinueOnError)
	file := flags.String("file", "", "run `file` (default: dapr.yaml here or in the nearest folder above)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *file == "" {
		path, err := stack.FindRunFile(".")
		if err != nil {
			return err
		}
		*file = path
	}
	folder := filepath.Dir(*file)
	state := filepath.Join(folder, stack.StateFolder)
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		fmt.Println("There is no state to delete.")
		return nil
	}
	lock, err := stack.LockState(folder)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := os.RemoveAll(state); err != nil {
		return err
	}
	fmt.Println("The state is deleted. The next start makes a new one.")
	return nil
}
