package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"boxoffice/deploy/local/stack"
)

const usage = `usage: proof chaos [flags]

Starts a stack of its own, on free ports and in a folder of its own, with replicas of every app. Simulated clients use it
while faults are injected at random. When the stack is at rest, every promise is checked. The command fails if one does not
hold, and keeps the folder then.

Faults: processes are killed, stopped and frozen; several at once (the broker is away, a service is killed with its sidecar,
and the process that takes over its journal as well); the network is cut between sidecars and the broker or PostgreSQL, and
a disk is full (both on Linux only); the clock of a service is wrong by ten minutes; answers of the sandbox are late, wrong
or missing.

The same -seed, -time, -replicas, -set and -clocks cause the same faults at the same moments.

`

// Command runs chaos with the options of the command line, and prints the outcome.
func Command(ctx context.Context, args []string) error {
	var opts Options
	flags := flag.NewFlagSet("proof chaos", flag.ContinueOnError)
	flags.Uint64Var(&opts.Seed, "seed", 0, "of all chance (default: another at each run)")
	flags.DurationVar(&opts.Time, "time", time.Minute, "of the load")
	flags.IntVar(&opts.Clients, "clients", 12, "`number` of clients at once")
	flags.IntVar(&opts.Replicas, "replicas", 2, "`number` of replicas of every app")
	flags.BoolVar(&opts.NoFaults, "nofaults", false, "only the load")
	flags.StringVar(&opts.Set, "set", "", "`set` of components: embedded, nats or redis (default: $INFRA, or embedded)")
	flags.DurationVar(&opts.Settle, "settle", 2*time.Minute, "how long the stack may take to come to rest")
	flags.StringVar(&opts.Folder, "folder", "", "of the state (default: a new `folder`, deleted if nothing is wrong)")
	flags.BoolVar(&opts.Clocks, "clocks", true, "build services whose clocks can be set, and let them jump")
	quiet := flags.Bool("quiet", false, "do not print each fault")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("chaos: unexpected argument %q", flags.Arg(0))
	case opts.Replicas < 1 || opts.Replicas > stack.MaxReplicas:
		return fmt.Errorf("chaos: -replicas must be 1 to %d", stack.MaxReplicas)
	case opts.Clients < 1 || opts.Time <= 0:
		return errors.New("chaos: -clients and -time must be greater than 0")
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
