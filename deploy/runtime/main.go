// Command runtime is everything of Dapr and NATS that the box office runs on, in one binary:
//
//	runtime daprd …        the Dapr sidecar, with the components listed in daprd.go
//	runtime placement …    Dapr's placement service (which replica hosts which actor)
//	runtime scheduler …    Dapr's scheduler (actor reminders)
//	runtime sentry …       Dapr's certificate authority (sentry.go)
//	runtime identities …   makes the keys and tokens of sentry and of the programs that it signs for (identities.go)
//	runtime nats-server …  NATS with JetStream
//	runtime nats-streams … makes the streams that the events go through (streams.go)
//	runtime versions       the modules in it
//
// The flags after the name are those of the original program, unchanged. Called under the name of one of them, as by a
// symbolic link /daprd, it is that program: so Dapr's injector calls the sidecar of an image. It is a Go module of its own, so
// that building it needs nothing but Go and the module mirror, and so that none of its dependencies reach the
// services.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	placement "github.com/dapr/dapr/cmd/placement/app"
	"github.com/dapr/dapr/pkg/buildinfo"
	"github.com/nats-io/nats-server/v2/server"
)

var programs = []string{"daprd", "placement", "scheduler", "sentry", "identities", "nats-server", "nats-streams"}

var usage = "usage: runtime " + strings.Join(programs, "|") + " [flags of that program], or: runtime versions"

func main() {
	program := filepath.Base(os.Args[0])
	if !slices.Contains(programs, program) {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, usage)
			os.Exit(2)
		}
		program = os.Args[1]
		os.Args = append([]string{program}, os.Args[2:]...) // each program reads its flags from os.Args
	}

	var err error
	switch program {
	case "daprd":
		err = runDaprd()
	case "placement":
		err = withVersion(func() error { placement.Run(); return nil })
	case "scheduler":
		err = withVersion(runScheduler)
	case "sentry":
		err = withVersion(runSentry)
	case "identities":
		err = runIdentities(os.Args[1:])
	case "nats-server":
		err = runNATS(os.Args[1:])
	case "nats-streams":
		err = runStreams(os.Args[1:])
	case "versions":
		printVersions()
	default:
		err = fmt.Errorf("no program %q in this binary; %s", program, usage)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(1)
	}
}

// withVersion runs a program, or prints its version if it is asked for that: of Dapr's programs daprd alone has the flag.
func withVersion(run func() error) error {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(buildinfo.Version())
		return nil
	}
	return run()
}

// runNATS is nats-server's own main, with room kept in the streams beside it.
func runNATS(args []string) error {
	flags := flag.NewFlagSet("nats-server", flag.ExitOnError)
	opts, err := server.ConfigureOptions(flags, args, server.PrintServerAndExit, flags.Usage, server.PrintTLSHelpAndDie)
	if err != nil || opts.CheckConfig {
		return err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := keepRoom(ctx, s, opts); err != nil {
		s.Shutdown()
		return err
	}
	s.WaitForShutdown()
	return nil
}
