// Command proof checks that the box office keeps its promises:
//
//	proof check     look at a running stack
//	proof chaos     start a stack of its own, load it, kill and freeze its processes, and then check it
//	proof mutants   build services with faults, and see whether chaos finds each
//
// Each takes -h.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"boxoffice/deploy/proof/chaos"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/mutants"
)

const usage = `usage: proof check|chaos|mutants [flags]

  check    look whether the running stack keeps its promises
  chaos    start a stack of its own, load it, kill and freeze its processes,
           and then check it
  mutants  build services with faults, and see whether chaos finds each

proof check -h shows the flags of check, and so on.
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	commands := map[string]func(context.Context, []string) error{"check": check.Command, "chaos": chaos.Command, "mutants": mutants.Command}
	switch command, known := commands[os.Args[1]]; {
	case known:
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
