// Command local runs the box office on one machine. It is behind `make run`:
//
//	local run        everything: servers, placement, scheduler, the Stripe sandbox, the services with their sidecars
//	local infra      only what the services need, for `dapr run -f .` with Dapr's own CLI
//	local certs      certificates for servers that you run yourself
//	local rotate-keys  change the key that signs, without signing anybody out
//	local reset      forget all users, tickets, orders, events and secrets
//
// Each takes -h. The work is in the package stack, which tests use as well; here is what a person sees of it.
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

const usage = `usage: local run|infra|certs|rotate-keys|reset [flags]

  run        start everything: servers, placement, scheduler, the Stripe sandbox,
             and the services of dapr.yaml with a sidecar each
  infra      start only what the services need, for dapr run -f .
  certs      make certificates for servers that you run yourself
  rotate-keys
             change the key that signs, without signing anybody out
  reset      delete the state: users, tickets, orders, events, secrets

local run -h shows the flags of run, and so on.
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	// A while after the first signal the default comes back: then a second Ctrl-C ends the launcher at once, and
	// on Linux everything that it started with it. Not sooner, for some programs send a signal both to their child
	// and to its process group.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { time.AfterFunc(2*time.Second, stop) })

	var err error
	switch command, args := os.Args[1], os.Args[2:]; command {
	case "run":
		err = run(ctx, args)
	case "infra":
		err = infra(ctx, args)
	case "certs":
		err = certs(args)
	case "rotate-keys":
		err = rotateKeys(ctx, args)
	case "reset":
		err = reset(args)
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "local: there is no %q\n\n%s", command, usage)
		os.Exit(2)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "local:", err)
		os.Exit(1)
	}
}
