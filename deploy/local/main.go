// Command local runs the box office on one machine. It is behind `make run`:
//
//	local run        everything: servers, placement, scheduler, the Stripe sandbox, the services with their sidecars
//	local infra      only what the services need, for `dapr run -f .` with Dapr's CLI
//	local env        the ports, addresses and tokens of one app, for a shell
//	local certs      certificates for servers that you run yourself
//	local samples    give a running system the sample programme
//	local rotate-keys  replace the keys that sign tokens and passes, while all of these stay valid
//	local reset      delete all users, tickets, orders, events and secrets
//
// Each takes -h. The package stack does the work; tests use it too. This package is the command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage: local run|infra|env|samples|certs|rotate-keys|reset [flags]

  run        start everything: servers, placement, scheduler, the Stripe sandbox,
             and the services of dapr.yaml with a sidecar each
  infra      start only what the services need, for dapr run -f .
  env        print the ports, addresses and tokens of one app, for a shell
  samples    give a running system the sample programme: shows, pictures, tickets
  certs      make certificates for servers that you run yourself
  rotate-keys
             replace the keys that sign tokens and passes; all of these stay valid
  reset      delete the state: users, tickets, orders, events, secrets

local run -h shows the flags of run, and so on.
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	// Two seconds after the first signal, a second Ctrl-C ends the launcher at once, and on Linux all its processes. Not sooner,
	// because some programs send a signal both to their child and to its process group.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { time.AfterFunc(2*time.Second, stop) })

	var err error
	switch command, args := os.Args[1], os.Args[2:]; command {
	case "run":
		err = run(ctx, args)
	case "infra":
		err = infra(ctx, args)
	case "env":
		err = env(args)
	case "samples":
		err = makeSamples(ctx, args)
	case "certs":
		err = certs(args)
	case "rotate-keys":
		err = rotateKeys(ctx, args)
	case "reset":
		err = reset(args)
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "local: there is no command %q\n\n%s", command, usage)
		os.Exit(2)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "local:", err)
		os.Exit(1)
	}
}
