package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxoffice/deploy/local/stack"
)

const aboutEnv = `Prints what an app of dapr.yaml and its sidecar need, as variables for a shell: ports, addresses, the token of the
sidecar, and the app's environment. Variables that are set already keep their values.

  eval "$(local env tickets)"`

// env prints the environment of an app, for programs that are started beside the launcher.
func env(args []string) error {
	flags := flag.NewFlagSet("local env", flag.ContinueOnError)
	file := flags.String("file", "", "run `file` (default: dapr.yaml here or in the nearest folder above)")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: local env [flags] APP\n\n%s\n\n", aboutEnv)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("env: name one app")
	}
	variables, err := appVariables(*file, flags.Arg(0))
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Printf("export %s='%s'\n", name, strings.ReplaceAll(variables[name], "'", `'\''`))
	}
	return nil
}

func appVariables(file, id string) (map[string]string, error) {
	if file == "" {
		path, err := stack.FindRunFile(".")
		if err != nil {
			return nil, err
		}
		file = path
	}
	run, err := stack.ReadRunFile(file)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(run.Apps, func(a stack.App) bool { return a.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("%s has no app %q", run.Path, id)
	}
	a := run.Apps[i]
	token, err := stack.SidecarTokenIn(filepath.Dir(run.Path), id)
	if err != nil {
		return nil, err
	}
	variables := map[string]string{}
	for name, value := range a.Env {
		if os.Getenv(name) == "" {
			variables[name] = value
		}
	}
	maps.Copy(variables, map[string]string{
		"APP_ID": id, "APP_PORT": strconv.Itoa(a.Port), "DAPR_API_TOKEN": token, "DAPR_CONFIG_FILE": a.ConfigFile,
		"DAPR_HTTP_PORT": strconv.Itoa(a.HTTPPort), "DAPR_GRPC_PORT": strconv.Itoa(a.GRPCPort),
		"DAPR_INTERNAL_PORT": strconv.Itoa(a.InternalPort), "DAPR_METRICS_PORT": strconv.Itoa(a.MetricsPort),
	})
	return variables, nil
}
