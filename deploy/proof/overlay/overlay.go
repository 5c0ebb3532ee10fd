// Package overlay builds services from changed sources (go build -overlay): with a defect that the proof must find, or with a
// clock that can be set.
package overlay

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Build builds services from the sources in root, the repository's folder, and returns the paths of the programs by service.
// Replace has the path of the replacement by the path of the original file; paths are absolute. The programs are written into
// folder, which must exist.
func Build(ctx context.Context, root, folder string, replace map[string]string, services ...string) (map[string]string, error) {
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, err
	}
	rules := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(rules, text, 0o600); err != nil {
		return nil, err
	}
	args := []string{"build", "-trimpath", "-overlay", rules, "-o", folder + string(filepath.Separator)}
	programs := map[string]string{}
	for _, service := range services {
		args = append(args, "./services/"+service)
		programs[service] = filepath.Join(folder, service)
	}
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir, command.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", strings.Join(services, ", "), err, output)
	}
	return programs, nil
}

// Services are the names of all services in root, the repository's folder.
func Services(root string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, "services", "*", "main.go"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, file := range files {
		names = append(names, filepath.Base(filepath.Dir(file)))
	}
	slices.Sort(names)
	return names, nil
}
