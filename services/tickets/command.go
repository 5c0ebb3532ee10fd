package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/urfave/cli/v3"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

const usage = `usage: tickets republish [-rate N]

  republish  publish the last event of every ticket again, for a service that has lost its projections. Services that have
             them ignore the events

  -rate N    publish at most N events a second (default 2000; 0: no limit)

It needs the sidecar of tickets. DAPR_GRPC_PORT is its gRPC port, DAPR_API_TOKEN its token. To run it:
  make rebuild-catalogue
  kubectl exec deploy/tickets -c tickets -- /service republish

Exit status: 0 done, 1 failed (the error explains why; run it again), 2 wrong command line.
`

// republishRate is the rate without -rate. The slowest consumer reads a document for each event, and has other work to do.
const republishRate = 2000

// progressTime is the time between two lines about how far a command is.
const progressTime = 5 * time.Second

// isCommand reports whether the arguments are for the command line tool, and not for the service or its health probes.
func isCommand(args []string) bool {
	return len(args) > 1 && (args[1] == "republish" || args[1] == "-h" || args[1] == "-help" || args[1] == "--help")
}

// usageError is a wrong command line.
type usageError struct{ error }

// runCommand runs the command line tool and returns its exit status.
func runCommand(ctx context.Context, args []string, out, problems io.Writer) int {
	if slices.ContainsFunc(args, func(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }) {
		fmt.Fprint(out, usage)
		return 0
	}
	err := newCommand(out).Run(ctx, append([]string{name}, args...))
	if wrong, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(problems, "tickets: %v\n\n%s", wrong, usage)
		return 2
	}
	if err != nil {
		fmt.Fprintf(problems, "tickets: %v\n", err)
		return 1
	}
	return 0
}

func newCommand(out io.Writer) *cli.Command {
	rate := 0
	wrongUsage := func(_ context.Context, _ *cli.Command, err error, _ bool) error { return usageError{err} }
	return &cli.Command{
		Name: name, Writer: out, HideVersion: true, HideHelpCommand: true, CustomRootCommandHelpTemplate: usage, OnUsageError: wrongUsage,
		Commands: []*cli.Command{{
			Name: "republish", HideHelpCommand: true, CustomHelpTemplate: usage, OnUsageError: wrongUsage,
			Flags: []cli.Flag{&cli.IntFlag{Name: "rate", Value: republishRate, Destination: &rate}},
			Action: func(ctx context.Context, c *cli.Command) error {
				switch {
				case c.Args().Present():
					return usageError{fmt.Errorf("republish takes no arguments, but got %q", c.Args().Slice())}
				case rate < 0:
					return usageError{fmt.Errorf("-rate %d is below 0", rate)}
				}
				return service.WithStore(ctx, name, "rebuild-catalogue", func(ctx context.Context, _ client.Client, documents *state.Store) error {
					return republish(ctx, newStore(documents, Terms{}, clock.System, slog.New(slog.DiscardHandler)), rate, out)
				})
			},
		}},
	}
}

// republish publishes all tickets again, and prints how far it is.
func republish(ctx context.Context, s *store, rate int, out io.Writer) error {
	printed := time.Now()
	published, err := s.RepublishAll(ctx, rate, func(published int) {
		if time.Since(printed) >= progressTime {
			printed = time.Now()
			fmt.Fprintf(out, "%d tickets are published again\n", published)
		}
	})
	if err != nil {
		return fmt.Errorf("after %d tickets: %w", published, err)
	}
	fmt.Fprintf(out, "%d tickets are published again: all\n", published)
	return nil
}
