package check

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"boxoffice/deploy/local/stack"
)

const usage = `usage: proof check [flags]

Reads the running marketplace and reports which of its promises do not hold. It reads documents through the sidecars,
the list of tickets through the gateway, all events, and the sandbox's money. Clients may use the marketplace meanwhile:
a violation counts if every round of the check finds it.

`

// Command runs a check of the marketplace that "make run" started. It fails if a promise does not hold.
func Command(ctx context.Context, args []string) error {
	ports := stack.DefaultPorts()
	var opts Options
	flags := flag.NewFlagSet("proof check", flag.ContinueOnError)
	runFile := flags.String("file", "", "run `file` of the stack (default: dapr.yaml here or in the nearest folder above)")
	flags.DurationVar(&opts.Settle, "settle", 15*time.Second, "how long something may be under way")
	flags.DurationVar(&opts.Late, "late", 0, "how long an unpaid order may exist after its window (default 30s)")
	set := flags.String("set", os.Getenv("INFRA"), "`set` of components that the stack uses: embedded, nats or redis (default: $INFRA, or embedded)")
	flags.IntVar(&ports.Redis, "redis-port", ports.Redis, "`port` of Redis")
	flags.IntVar(&ports.NATS, "nats-port", ports.NATS, "`port` of NATS")
	flags.IntVar(&ports.Sandbox, "sandbox-port", ports.Sandbox, "`port` of the Stripe sandbox")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("check: unexpected argument %q", flags.Arg(0))
	}
	target, err := targetOfRunFile(*runFile, *set, ports)
	if err != nil {
		return err
	}
	report, err := Check(ctx, target, opts)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return target.diagnose(ctx, err)
	}
	fmt.Print(report)
	if report.ReadError != nil {
		return target.diagnose(ctx, report.ReadError)
	}
	if !report.Right() {
		return fmt.Errorf("%d violations", len(report.Violations))
	}
	return nil
}
