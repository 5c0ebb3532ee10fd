// Package mutants builds services with a fault in them, one that somebody could make, and looks whether chaos finds it. A
// check that cannot fail proves nothing.
//
// Each fault is a patch under builds. A patch that no longer applies is an error: whoever changes the code brings it up to
// date, as a fault of the same kind.
package mutants

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"boxoffice/deploy/proof/overlay"
)

// Fault is one that services are built with. Its file begins with what is wrong, in plain words, and a line "Services:" with
// the services that are built with it; the patch follows, as git diff prints it.
type Fault struct {
	Name     string // of its file, without ".patch"
	What     string
	Services []string
	patch    string // the path of its file
}

// Folder is where the faults are, in the repository.
const Folder = "deploy/proof/mutants/builds"

const servicesHead = "Services: "

// Faults reads all of them. Root is the repository's folder.
func Faults(root string) ([]Fault, error) {
	files, err := filepath.Glob(filepath.Join(root, Folder, "*.patch"))
	if err != nil {
		return nil, err
	}
	var all []Fault
	for _, file := range files {
		f, err := readFault(file)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there are no patches in %s", filepath.Join(root, Folder))
	}
	return all, nil
}

// Find reads one of them.
func Find(root, name string) (Fault, error) {
	return readFault(filepath.Join(root, Folder, name+".patch"))
}

func readFault(file string) (Fault, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Fault{}, err
	}
	f := Fault{Name: strings.TrimSuffix(filepath.Base(file), ".patch"), patch: file}
	head, _, found := strings.Cut(string(text), "\ndiff --git ")
	if !found {
		return f, fmt.Errorf("%s holds no patch as git diff prints it", file)
	}
	var what []string
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		if services, is := strings.CutPrefix(line, servicesHead); is {
			f.Services = strings.Fields(services)
		} else if line != "" {
			what = append(what, line)
		}
	}
	f.What = strings.Join(what, " ")
	if f.What == "" || len(f.Services) == 0 {
		return f, fmt.Errorf("%s does not begin with what is wrong and a line %q", file, servicesHead+"…")
	}
	return f, nil
}

// Apply writes the files that the fault changes, as they are with it, into folder, and returns them by the files in whose
// place they are.
func (f Fault) Apply(ctx context.Context, root, folder string) (map[string]string, error) {
	text, err := os.ReadFile(f.patch)
	if err != nil {
		return nil, err
	}
	replace := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, is := strings.CutPrefix(strings.TrimSpace(line), "+++ b/")
		if !is {
			continue
		}
		source, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, fmt.Errorf("the patch %s is out of date: %w", f.Name, err)
		}
		changed := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(changed), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(changed, source, 0o600); err != nil {
			return nil, err
		}
		replace[filepath.Join(root, name)] = changed
	}
	command := exec.CommandContext(ctx, "git", "apply", "--verbose", f.patch)
	command.Dir = folder
	// The folder is no repository, also if it is in one.
	command.Env = append(slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "GIT_") }), "GIT_CEILING_DIRECTORIES="+filepath.Dir(folder))
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the patch %s is out of date; bring it up to what stands there now:\n%s", f.Name, output)
	}
	for original, changed := range replace {
		before, beforeErr := os.ReadFile(original)
		after, afterErr := os.ReadFile(changed)
		if err := errors.Join(beforeErr, afterErr); err != nil {
			return nil, err
		}
		if string(before) == string(after) {
			return nil, fmt.Errorf("the patch %s does not change %s", f.Name, original)
		}
	}
	return replace, nil
}

// Build builds the fault's services with it into folder, which must exist, and returns their programs.
func (f Fault) Build(ctx context.Context, root, folder string) (map[string]string, error) {
	replace, err := f.Apply(ctx, root, filepath.Join(folder, "sources"))
	if err != nil {
		return nil, err
	}
	return overlay.Build(ctx, root, folder, replace, f.Services...)
}
