// Command controlplane is the part of Dapr that lives in a Kubernetes cluster and nowhere else, in one binary, for
// the proof of deploy/k8s: nothing of it is shipped.
//
//	controlplane operator …  hands components, subscriptions and configurations to sidecars
//	controlplane sentry …    the authority for the certificates of all of them
//	controlplane injector …  puts the sidecar into pods, as a webhook of the API server
//
// The flags after the name are those of the original program, unchanged. Called under the name of one of them, as by a
// symbolic link /sentry, it is that program: so Dapr's chart calls it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	injector "github.com/dapr/dapr/cmd/injector/app"
	operator "github.com/dapr/dapr/cmd/operator/app"
	sentry "github.com/dapr/dapr/cmd/sentry/app"
)

const usage = "usage: controlplane operator|sentry|injector [flags of that program]"

func main() {
	program := filepath.Base(os.Args[0])
	if !slices.Contains([]string{"operator", "sentry", "injector"}, program) {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, usage)
			os.Exit(2)
		}
		program = os.Args[1]
		os.Args = append([]string{program}, os.Args[2:]...) // each program reads its flags from os.Args
	}
	switch program {
	case "operator":
		operator.Run()
	case "sentry":
		sentry.Run()
	case "injector":
		injector.Run()
	default:
		fmt.Fprintf(os.Stderr, "no program %q in this binary; %s\n", program, usage)
		os.Exit(2)
	}
}
