package mutants

import (
	"context"
	"errors"
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
	"boxoffice/deploy/proof/check"
)

// Options of a test.
type Options struct {
	Seed   uint64
	Load   time.Duration // of each run
	Settle time.Duration // after the load
	Set    string        // of components
	Limit  time.Duration // within which a defect must be found
}

// Result is the outcome of chaos on one mutant.
type Result struct {
	Mutant  Mutant
	Found   string        // the first violation; "" if there is none
	After   time.Duration // from the start of the stack to the result
	Err     error         // why the mutant could not be tested
	Outcome string        // the whole outcome of chaos
}

// webhooks is the service whose messages may take a minute to arrive.
const webhooks = "webhooks"

// withoutDefect is the name of the build without a defect.
const withoutDefect = "(none)"

func nameOf(m Mutant) string {
	if m.Name == "" {
		return withoutDefect
	}
	return m.Name
}

// Test builds a mutant and runs chaos on it.
func Test(ctx context.Context, root string, m Mutant, opts Options) Result {
	result := Result{Mutant: m}
	folder, err := os.MkdirTemp("", "boxoffice-mutant-")
	if err != nil {
		result.Err = err
		return result
	}
	defer func() { _ = os.RemoveAll(folder) }()
	var programs map[string]string
	if m.Name != "" {
		if programs, result.Err = m.Build(ctx, root, folder); result.Err != nil {
			return result
		}
	}
	run := chaos.Options{Seed: opts.Seed, Time: opts.Load, Settle: opts.Settle, Set: opts.Set, Programs: programs, Folder: filepath.Join(folder, "stack")}
	if m.Name == "" || slices.Contains(m.Services, webhooks) {
		run.Settle = max(run.Settle, check.ArrivalLimit+15*time.Second)
	} else {
		run.Without = []string{webhooks} // its messages would take longer to arrive than the defect takes to be seen
	}
	begin := time.Now()
	out, err := chaos.Run(ctx, run)
	result.After, result.Err = time.Since(begin), err
	switch {
	case err == nil:
		result.Found, result.Outcome = out.Finding(), out.String()
	case errors.Is(err, chaos.ErrNotReady):
		result.Found, _, _ = strings.Cut(err.Error(), "\n")
		result.Err, result.Outcome = nil, err.Error()
	}
	return result
}

// Right reports whether a defect was found within the limit, or nothing was found in the build without a defect.
func (r Result) Right(limit time.Duration) bool {
	if r.Err != nil {
		return false
	}
	return (r.Found != "") == (r.Mutant.Name != "") && (r.Found == "" || r.After <= limit)
}

func (r Result) String() string {
	found := r.Found
	switch {
	case r.Err != nil:
		found, _, _ = strings.Cut("could not be tested: "+r.Err.Error(), "\n")
	case found == "" && r.Mutant.Name == "":
		found = "nothing, as expected"
	case found == "":
		found = "NOT FOUND"
	}
	return fmt.Sprintf("%-28s %6.0f s  %s", nameOf(r.Mutant), r.After.Seconds(), found)
}

const usage = `usage: proof mutants [flags]

Builds services with one defect each (the patches in ` + Folder + `), runs chaos on each build, and expects it
to find a violation; and none in the build without a defect. The command fails if a defect is not found within the limit.

`

// Command tests the mutants that the command line names.
func Command(ctx context.Context, args []string) error {
	var opts Options
	flags := flag.NewFlagSet("proof mutants", flag.ContinueOnError)
	flags.Uint64Var(&opts.Seed, "seed", 11, "of all chance")
	flags.DurationVar(&opts.Load, "time", 55*time.Second, "of the load in each run")
	flags.DurationVar(&opts.Settle, "settle", 30*time.Second, "how long the stack may take to come to rest; with webhooks at least 75 s")
	flags.DurationVar(&opts.Limit, "limit", 2*time.Minute+30*time.Second, "how long it may take to find a defect")
	flags.StringVar(&opts.Set, "set", "", "`set` of components: embedded, nats or redis (default: $INFRA, or embedded)")
	names := flags.String("run", "*", "`pattern` of the mutants' names, as of files; "+withoutDefect+" is the build without a defect")
	verbose := flags.Bool("v", false, "show the outcome of each run")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("mutants: unexpected argument %q", flags.Arg(0))
	}
	runFile, err := stack.FindRunFile(".")
	if err != nil {
		return err
	}
	root := filepath.Dir(runFile)
	chosen, err := matching(root, *names)
	if err != nil {
		return err
	}
	fmt.Printf("%-28s %8s  %s\n", "mutant", "after", "found by")
	var wrong []string
	for _, m := range chosen {
		result := Test(ctx, root, m, opts)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Println(result)
		if !result.Right(opts.Limit) {
			wrong = append(wrong, nameOf(m))
		}
		if *verbose || m.Name == "" && !result.Right(opts.Limit) {
			fmt.Println(result.Outcome)
		}
		if result.Err != nil {
			fmt.Println(result.Err)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("not as expected: %s", strings.Join(wrong, ", "))
	}
	return nil
}

// matching are the mutants, and the build without a defect, whose names match a pattern.
func matching(root, pattern string) ([]Mutant, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("-run %q: %w", pattern, err)
	}
	all, err := All(root)
	if err != nil {
		return nil, err
	}
	chosen := slices.DeleteFunc(append([]Mutant{{}}, all...), func(m Mutant) bool {
		matches, _ := path.Match(pattern, nameOf(m))
		return !matches
	})
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no mutant's name matches %q", pattern)
	}
	return chosen, nil
}
