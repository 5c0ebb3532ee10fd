package check

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"boxoffice/deploy/local/stack"
)

// Of is the marketplace that a stack runs.
func Of(s *stack.Stack) Market {
	m := Market{
		Gateways: s.GatewayURLs(), Sidecars: map[string][]string{}, Sandbox: s.SandboxURL(), Broker: s.Broker(),
		Tokens: map[string]string{},
	}
	for _, app := range read {
		for _, replica := range s.Replicas(app) {
			m.Sidecars[app] = append(m.Sidecars[app], s.SidecarHTTP(replica))
			m.Tokens[s.SidecarHTTP(replica)] = s.APIToken(app)
		}
	}
	return m
}

// read are the apps whose documents are looked at.
var read = []string{"tickets", "orders", "payments"}

// running is the marketplace that `make run` started by a run file, on a set of components.
func running(runFile, set string, ports stack.Ports) (Market, error) {
	if runFile == "" {
		path, err := stack.FindRunFile(".")
		if err != nil {
			return Market{}, err
		}
		runFile = path
	}
	run, err := stack.ReadRunFile(runFile)
	if err != nil {
		return Market{}, err
	}
	at := func(scheme string, port int) string {
		return scheme + "://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	address, err := stack.BrokerOf(filepath.Dir(run.Path), set, ports)
	if err != nil {
		return Market{}, err
	}
	m := Market{Sidecars: map[string][]string{}, Sandbox: at("http", ports.Sandbox), Broker: address, Tokens: map[string]string{}}
	for _, a := range run.Apps {
		sidecar := at("http", a.HTTPPort)
		m.Sidecars[a.ID] = []string{sidecar}
		if m.Tokens[sidecar], err = stack.APITokenIn(filepath.Dir(run.Path), a.ID); err != nil {
			return Market{}, err
		}
		if port, err := strconv.Atoi(a.Env["PORT"]); err == nil && a.ID == "gateway" {
			m.Gateways = []string{at("http", port)}
		}
	}
	return m, nil
}

// Command is the check as a subcommand: it looks at the marketplace that `make run` started, which may be at work,
// and fails if one of its promises does not hold.
func Command(ctx context.Context, args []string) error {
	ports := stack.DefaultPorts()
	flags := flag.NewFlagSet("local check", flag.ContinueOnError)
	runFile := flags.String("file", "", "run `file` of the stack (default: dapr.yaml here or in the nearest folder above)")
	var opts Options
	flags.DurationVar(&opts.Patience, "patience", 15*time.Second, "how long something may be under way")
	flags.DurationVar(&opts.Late, "late", 0, "how long an unpaid order may outlive its time (default 30s)")
	set := flags.String("set", os.Getenv("INFRA"), "`set` of components that it runs on: embedded, nats or redis (default: $INFRA, or embedded)")
	flags.IntVar(&ports.Redis, "redis-port", ports.Redis, "`port` of Redis")
	flags.IntVar(&ports.NATS, "nats-port", ports.NATS, "`port` of NATS")
	flags.IntVar(&ports.Sandbox, "sandbox-port", ports.Sandbox, "`port` of the Stripe sandbox")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: local check [flags]\n\n%s\n\n", about)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	m, err := running(*runFile, *set, ports)
	if err != nil {
		return err
	}
	report, err := Check(ctx, m, opts)
	if err != nil {
		return fmt.Errorf("%w\nIs it running? Start it with `make run`", err)
	}
	fmt.Print(report)
	if !report.Right() {
		return fmt.Errorf("%d violations", len(report.Violations))
	}
	return nil
}

const about = `Looks at the running marketplace, at work or not, and says which of its promises do not hold:
documents through the sidecars, the list of tickets through the gateway, all events, and the sandbox's money.
What is wrong at every look during the patience counts; what is merely under way does not.`
