// Package mutants builds services with a defect each, as a developer could make it, and tests whether chaos finds it (mutation
// testing). A check that cannot fail proves nothing.
//
// Each mutant is a patch under builds. A patch that no longer applies fails the unit tests: when the code changes, update the
// patch so that it causes a defect of the same kind.
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

// Mutant is a build of services with a defect. Its file begins with a sentence about the defect and a line "Services:" with
// the services that are built with it. The patch follows, as git diff prints it. The zero value is the build without a defect.
type Mutant struct {
	Name     string // of its file, without ".patch"
	Defect   string
	Services []string
	patch    string // the path of its file
}

// Folder has the patches, in the repository.
const Folder = "deploy/proof/mutants/builds"

const servicesPrefix = "Services: "

// All reads all mutants. Root is the repository's folder.
func All(root string) ([]Mutant, error) {
	files, err := filepath.Glob(filepath.Join(root, Folder, "*.patch"))
	if err != nil {
		return nil, err
	}
	var all []Mutant
	for _, file := range files {
		m, err := read(file)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there are no patches in %s", filepath.Join(root, Folder))
	}
	return all, nil
}

// Find reads one mutant.
func Find(root, name string) (Mutant, error) {
	return read(filepath.Join(root, Folder, name+".patch"))
}

func read(file string) (Mutant, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Mutant{}, err
	}
	m := Mutant{Name: strings.TrimSuffix(filepath.Base(file), ".patch"), patch: file}
	head, _, found := strings.Cut(string(text), "\ndiff --git ")
	if !found {
		return m, fmt.Errorf("%s contains no patch as git diff prints it", file)
	}
	var defect []string
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		if services, is := strings.CutPrefix(line, servicesPrefix); is {
			m.Services = strings.Fields(services)
		} else if line != "" {
			defect = append(defect, line)
		}
	}
	m.Defect = strings.Join(defect, " ")
	if m.Defect == "" || len(m.Services) == 0 {
		return m, fmt.Errorf("%s must begin with the defect and a line %q", file, servicesPrefix+"…")
	}
	return m, nil
}

// Apply writes the files that the patch changes into folder, with the change, and returns their paths by the paths of the
// originals.
func (m Mutant) Apply(ctx context.Context, root, folder string) (map[string]string, error) {
	text, err := os.ReadFile(m.patch)
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
			return nil, fmt.Errorf("the patch %s is out of date: %w", m.Name, err)
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
	command := exec.CommandContext(ctx, "git", "apply", "--verbose", m.patch)
	command.Dir = folder
	// git must not use a repository that the folder may be in.
	command.Env = append(slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "GIT_") }), "GIT_CEILING_DIRECTORIES="+filepath.Dir(folder))
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the patch %s is out of date; update it to the present code:\n%s", m.Name, output)
	}
	for original, changed := range replace {
		before, beforeErr := os.ReadFile(original)
		after, afterErr := os.ReadFile(changed)
		if err := errors.Join(beforeErr, afterErr); err != nil {
			return nil, err
		}
		if string(before) == string(after) {
			return nil, fmt.Errorf("the patch %s does not change %s", m.Name, original)
		}
	}
	return replace, nil
}

// Build builds the mutant's services into folder, which must exist, and returns the paths of the programs.
func (m Mutant) Build(ctx context.Context, root, folder string) (map[string]string, error) {
	sources := filepath.Join(folder, "sources")
	replace, err := m.Apply(ctx, root, sources)
	if err != nil {
		return nil, err
	}
	programs := map[string]string{}
	goServices := slices.DeleteFunc(slices.Clone(m.Services), func(service string) bool { return isTypeScript(root, service) })
	if len(goServices) > 0 {
		if programs, err = overlay.Build(ctx, root, folder, replace, goServices...); err != nil {
			return nil, err
		}
	}
	for _, service := range m.Services {
		if isTypeScript(root, service) {
			if programs[service], err = bundle(ctx, root, sources, service); err != nil {
				return nil, err
			}
		}
	}
	return programs, nil
}

func isTypeScript(root, service string) bool {
	_, err := os.Stat(filepath.Join(root, "services", service, "package.json"))
	return err == nil
}

// bundle builds a service in TypeScript from its sources in root and those that the patch has changed, which are in folder already, and
// returns the path of the bundle.
func bundle(ctx context.Context, root, folder, service string) (string, error) {
	original, changed := filepath.Join(root, "services", service), filepath.Join(folder, "services", service)
	text, err := os.ReadFile(filepath.Join(original, "package.json"))
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(changed, "package.json"), text, 0o600); err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(original, "src", "*.ts"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		target := filepath.Join(changed, "src", filepath.Base(file))
		if _, err := os.Stat(target); err == nil {
			continue // changed
		}
		if err := os.Symlink(file, target); err != nil {
			return "", err
		}
	}
	if err := os.Symlink(filepath.Join(original, "node_modules"), filepath.Join(changed, "node_modules")); err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, "npm", "run", "--silent", "build", "--", "--preserve-symlinks")
	command.Dir = changed
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s (it needs Node, and make build before): %w\n%s", service, err, output)
	}
	return filepath.Join(folder, ".build", service+".mjs"), nil
}
