// Command proof proves that the box office keeps its promises, and measures it. Each command takes -h.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"boxoffice/deploy/proof/bench"
	"boxoffice/deploy/proof/chaos"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/mutants"
)

const usage = `usage: proof check|chaos|mutants|bench [flags]

  check    check which promises the running stack does not keep
  chaos    start a stack of its own, inject faults under load, then check it
  mutants  build services with defects, and test whether chaos finds each
  bench    measure a stack of its own

proof check -h shows the flags of check, and so on.
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	commands := map[string]func(context.Context, []string) error{
		"check": check.Command, "chaos": chaos.Command, "mutants": mutants.Command, "bench": bench.Command,
	}
	switch command, exists := commands[os.Args[1]]; {
	case exists:
		if err := command(ctx, os.Args[2:]); err != nil && !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "proof:", err)
			os.Exit(1)
		}
	case os.Args[1] == "help" || os.Args[1] == "-h" || os.Args[1] == "--help":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "proof: there is no command %q\n\n%s", os.Args[1], usage)
		os.Exit(2)
	}
}
