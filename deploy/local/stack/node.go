package stack

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Apps in other languages need a program that may not be installed here. Without it the stack starts all other apps.

// nodeProgram is the command of an app for Node, and leastNode the oldest version that can run it.
const (
	nodeProgram = "node"
	leastNode   = "20.19"
)

// Omission is an app of the run file that cannot run on this machine.
type Omission struct {
	App string
	// Reason is why, and what to do.
	Reason string
}

func (o Omission) String() string { return "without " + o.App + ": " + o.Reason }

// Omissions are the apps of a run file that cannot run on this machine. A stack starts without them, and gives no other app their address.
func (r *RunFile) Omissions() (all []Omission) {
	for _, a := range r.Apps {
		if reason := cannotRun(a); reason != "" {
			all = append(all, Omission{a.ID, reason})
		}
	}
	return all
}

// cannotRun is why an app cannot run on this machine, and what to do; "" if it can.
func cannotRun(a App) string { return a.cannotRun(nodeVersion) }

// ofNode reports whether Node runs the app.
func (a *App) ofNode() bool { return len(a.Command) > 0 && filepath.Base(a.Command[0]) == nodeProgram }

// cannotRun is why an app cannot run here, if nodeVersion returns the version of a program; "" if it can. Apps that are not of Node
// are not examined: if one of them is not built, checkBuilt ends the start.
func (a *App) cannotRun(nodeVersion func(program string) (string, error)) string {
	if !a.ofNode() {
		return ""
	}
	const get = "Install it, for example from https://nodejs.org, then: make build"
	version, err := nodeVersion(a.Command[0])
	if err != nil {
		return fmt.Sprintf("it needs Node %s or later, which is not installed here. %s", leastNode, get)
	}
	if slices.Compare(majorAndMinor(version), majorAndMinor(leastNode)) < 0 {
		return fmt.Sprintf("it needs Node %s or later, and %s is %s here. %s", leastNode, a.Command[0], version, get)
	}
	if bundle := a.bundle(); bundle != "" {
		if _, err := os.Stat(within(a.Dir, bundle)); err != nil {
			return bundle + " is not built, which needs Node and npm: make build"
		}
	}
	return ""
}

// bundle is the file that Node runs: the first argument that is no flag.
func (a *App) bundle() string {
	i := slices.IndexFunc(a.Command[1:], func(argument string) bool { return !strings.HasPrefix(argument, "-") })
	if i < 0 {
		return ""
	}
	return a.Command[1+i]
}

// nodeVersion is the version that the program prints, as in v20.19.1.
func nodeVersion(program string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text, err := exec.CommandContext(ctx, program, "--version").Output()
	return strings.TrimSpace(string(text)), err
}

// majorAndMinor are the first two numbers of a version, as in v20.19.1; 0 for one that is not there.
func majorAndMinor(version string) []int {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	numbers := make([]int, 2)
	for i := range min(len(parts), len(numbers)) {
		numbers[i], _ = strconv.Atoi(parts[i])
	}
	return numbers
}

// omit decides which apps of the run file this stack is without: those of Options.Without, and those of Node that cannot run here or are
// not to be started. The other apps do not get their addresses. An app that Options.Apps names must be able to run.
func (l *layout) omit(cannotRun func(App) string) error {
	for _, id := range l.appIDs() {
		a := l.app(id)
		switch {
		case slices.Contains(l.opts.Without, id):
			l.without = append(l.without, id)
		case !a.ofNode():
		case slices.Contains(l.opts.Apps, id):
			if reason := cannotRun(a); reason != "" {
				return fmt.Errorf("%s cannot run: %s", id, reason)
			}
		case l.startsAll():
			if reason := cannotRun(a); reason != "" {
				l.without = append(l.without, id)
				l.omissions = append(l.omissions, Omission{id, reason})
			}
		default:
			l.without = append(l.without, id)
		}
	}
	for i := range l.apps {
		maps.DeleteFunc(l.apps[i].Env, func(name, _ string) bool {
			return slices.ContainsFunc(l.without, func(id string) bool { return name == addressVariable(id) })
		})
	}
	return nil
}

// addressVariable is the variable by which other apps get an app's address.
func addressVariable(app string) string {
	return strings.ToUpper(strings.ReplaceAll(app, "-", "_")) + "_URL"
}
