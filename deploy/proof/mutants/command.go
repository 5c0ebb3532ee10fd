package mutants

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/chaos"
)

// Options say how to look for faults.
type Options struct {
	Seed   uint64
	Load   time.Duration // of each run
	Settle time.Duration // after the load
	Set    string        // of components
	Limit  time.Duration // by when a fault must be found
	Log    func(format string, args ...any)
}

// Result is what chaos made of one build.
type Result struct {
	Fault Fault // the zero value: none
	Found string
	After time.Duration // from the begin of the stack's start to the verdict
	Err   error         // why it could not be tried
	Long  string        // the whole outcome
}

// sound is the name of the build without a fault.
const sound = "(none)"

// Try runs chaos on the services with a fault in them, or without one.
func Try(ctx context.Context, root string, f Fault, opts Options) Result {
	result := Result{Fault: f}
	folder, err := os.MkdirTemp("", "boxoffice-broken-")
	if err != nil {
		result.Err = err
		return result
	}
	defer func() { _ = os.RemoveAll(folder) }()
	var programs map[string]string
	if f.Name != "" {
		if programs, result.Err = f.Build(ctx, root, folder); result.Err != nil {
			return result
		}
	}
	begin := time.Now()
	out, err := chaos.Run(ctx, chaos.Options{
		Seed: opts.Seed, Time: opts.Load, Settle: opts.Settle, Set: opts.Set, Programs: programs, Folder: filepath.Join(folder, "stack"),
	})
	result.After, result.Err = time.Since(begin), err
	if err == nil {
		result.Found, result.Long = out.Finding(), out.String()
	}
	return result
}

// Right says whether a fault was found in time, or none where there is none.
func (r Result) Right(limit time.Duration) bool {
	if r.Err != nil {
		return false
	}
	return (r.Found != "") == (r.Fault.Name != "") && (r.Found == "" || r.After <= limit)
}

func (r Result) String() string {
	name, found := r.Fault.Name, r.Found
	if name == "" {
		name = sound
	}
	switch {
	case r.Err != nil:
		found, _, _ = strings.Cut("could not be tried: "+r.Err.Error(), "\n")
	case found == "" && r.Fault.Name == "":
		found = "nothing, as it should be"
	case found == "":
		found = "NOT FOUND"
	}
	return fmt.Sprintf("%-28s %6.0f s  %s", name, r.After.Seconds(), found)
}

const about = `Builds services with one fault each (the patches in ` + Folder + `), runs chaos on each build, and expects
it to find what is wrong; and nothing in the build without a fault. It fails if one is not found in time.`

// Command is all of it as a subcommand.
func Command(ctx context.Context, args []string) error {
	opts := Options{Log: func(format string, args ...any) { fmt.Printf(format+"\n", args...) }}
	flags := flag.NewFlagSet("local check-the-check", flag.ContinueOnError)
	flags.Uint64Var(&opts.Seed, "seed", 11, "of all chance")
	flags.DurationVar(&opts.Load, "time", 55*time.Second, "of the load in each run")
	flags.DurationVar(&opts.Settle, "settle", 30*time.Second, "how long it may take until all is at rest")
	flags.DurationVar(&opts.Limit, "limit", 2*time.Minute, "how long it may take to find a fault")
	flags.StringVar(&opts.Set, "set", "", "`set` of components: embedded, nats or redis (default: $INFRA, or embedded)")
	names := flags.String("run", "*", "`pattern` of the faults' names, as of files; "+sound+" is the build without one")
	verbose := flags.Bool("v", false, "show each run's outcome")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: local check-the-check [flags]\n\n%s\n\n", about)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	runFile, err := stack.FindRunFile(".")
	if err != nil {
		return err
	}
	root := filepath.Dir(runFile)
	all, err := Faults(root)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(append([]Fault{{}}, all...), func(f Fault) bool {
		name := f.Name
		if name == "" {
			name = sound
		}
		matches, matchErr := path.Match(*names, name)
		err = matchErr
		return !matches
	})
	if err != nil || len(all) == 0 {
		return fmt.Errorf("check-the-check: no fault's name matches %q", *names)
	}
	fmt.Printf("%-28s %8s  %s\n", "fault", "after", "found by")
	var wrong []string
	for _, f := range all {
		result := Try(ctx, root, f, opts)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Println(result)
		if !result.Right(opts.Limit) {
			wrong = append(wrong, strings.Fields(result.String())[0])
		}
		if *verbose || f.Name == "" && !result.Right(opts.Limit) {
			fmt.Println(result.Long)
		}
		if result.Err != nil {
			fmt.Println(result.Err)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("not as it should be: %s", strings.Join(wrong, ", "))
	}
	return nil
}
