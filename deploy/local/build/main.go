// Command build builds programs that take minutes, and only if their sources have changed:
//
//	build runtime          .build/runtime: Dapr's runtime and NATS, which every stack needs
//	build cluster          .build/cluster and .build/controlplane: a Kubernetes API server and Dapr's control plane, for test-k8s
//	build release COMMIT   .build/release-before: an earlier release, for the tests of an upgrade
//
// It runs in the folder of the repository. It needs the standard library alone, so that `make run` downloads nothing for it.
package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "runtime":
		return runtimeProduct.build()
	case len(args) == 1 && args[0] == "cluster":
		return clusterProduct.build()
	case len(args) == 2 && args[0] == "release":
		return buildRelease(args[1])
	}
	return errors.New("usage: build runtime | cluster | release COMMIT")
}

// product is what is built together.
type product struct {
	what    string
	stamp   string   // the file with the hash of the sources that it was built from
	sources []string // patterns of files
	steps   []step
}

// step is one call of go build. Paths are relative to the repository.
type step struct{ module, pkg, program string }

var runtimeProduct = product{
	what:    "Dapr's runtime and NATS: about five minutes from nothing, once",
	stamp:   ".build/runtime.sources",
	sources: []string{"deploy/runtime/*.go", "deploy/runtime/go.mod", "deploy/runtime/go.sum"},
	steps:   []step{{"deploy/runtime", ".", ".build/runtime"}},
}

var clusterProduct = product{
	what:  "a Kubernetes API server and Dapr's control plane: about eight minutes from nothing, once",
	stamp: ".build/cluster.sources",
	sources: []string{
		"deploy/k8s/cluster/*.*", "deploy/k8s/cluster/program/*", "deploy/runtime/controlplane/*.go", "deploy/runtime/go.mod", "deploy/runtime/go.sum",
	},
	steps: []step{{"deploy/k8s/cluster", ".", ".build/cluster"}, {"deploy/runtime", "./controlplane", ".build/controlplane"}},
}

func (p product) build() error {
	hash, err := hashFiles(p.sources)
	if err != nil || p.built(hash) {
		return err
	}
	fmt.Printf("Building %s.\n", p.what)
	for _, s := range p.steps {
		if err := s.run("."); err != nil {
			return err
		}
		fmt.Printf("Built %s.\n", s.program)
	}
	return os.WriteFile(p.stamp, []byte(hash+"\n"), 0o644)
}

// built is whether all programs are there, from these sources.
func (p product) built(hash string) bool {
	for _, s := range p.steps {
		if _, err := os.Stat(s.program); err != nil {
			return false
		}
	}
	stamp, err := os.ReadFile(p.stamp)
	return err == nil && strings.TrimSpace(string(stamp)) == hash
}

// hashFiles is the hash that git has for the contents of all files, one after the other. Contents and not times, because a
// checkout gives every file a new time.
func hashFiles(patterns []string) (string, error) {
	var contents []byte
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		if len(paths) == 0 {
			return "", fmt.Errorf("there is no file %s; run this in the folder of the repository", pattern)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			contents = append(contents, text...)
		}
	}
	sum := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(contents)), contents...))
	return hex.EncodeToString(sum[:]), nil
}

// run builds the program in a copy of the repository, and shows how far it is.
func (s step) run(root string) error {
	module := filepath.Join(root, s.module)
	program, err := filepath.Abs(filepath.Join(root, s.program))
	if err != nil {
		return err
	}
	list := goCommand(module, "list", "-deps", s.pkg)
	list.Stderr = os.Stderr
	packages, err := list.Output()
	if err != nil {
		return fmt.Errorf("list the packages of %s: %w", s.program, err)
	}
	build := goCommand(module, "build", "-v", "-trimpath", "-ldflags=-s -w", "-o", program, s.pkg)
	build.Stdout = os.Stdout
	lines, err := build.StderrPipe()
	if err != nil {
		return err
	}
	if err := build.Start(); err != nil {
		return err
	}
	showProgress(lines, os.Stdout, strings.Count(string(packages), "\n"))
	if err := build.Wait(); err != nil {
		return fmt.Errorf("build %s: %w", s.program, err)
	}
	return nil
}

// goCommand is the go command in a module, without experiments: Dapr and Kubernetes are built as they are released.
func goCommand(module string, args ...string) *exec.Cmd {
	cmd := exec.Command("go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOEXPERIMENT=")
	return cmd
}

var packagePath = regexp.MustCompile(`^[a-z0-9][^ :]*$`)

// showProgress counts the packages that go build -v names, and copies all other lines.
func showProgress(lines io.Reader, out io.Writer, total int) {
	compiled := 0
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		if !packagePath.MatchString(scanner.Text()) {
			fmt.Fprintln(out, scanner.Text())
			continue
		}
		if compiled++; compiled%100 == 0 {
			fmt.Fprintf(out, "  %d packages of %d at most\n", compiled, total)
		}
	}
}

// releaseFolder is where the tests of an upgrade find the earlier release.
const releaseFolder = ".build/release-before"

// buildRelease builds all programs of an earlier release from the repository's history. Its Stripe sandbox was a command of its
// launcher; now it is a program.
func buildRelease(commit string) error {
	stripe := filepath.Join(releaseFolder, ".build", "stripe")
	built, _ := os.ReadFile(filepath.Join(releaseFolder, "commit"))
	if _, err := os.Stat(stripe); err == nil && strings.TrimSpace(string(built)) == commit {
		return nil
	}
	if exec.Command("git", "cat-file", "-e", commit+"^{commit}").Run() != nil {
		fmt.Printf("The earlier release, %s, is not in this clone's history (git fetch --unshallow): its test is skipped.\n", commit)
		if os.Getenv("CI_REQUIRE_UPGRADE") != "" {
			return errors.New("CI_REQUIRE_UPGRADE is set")
		}
		return nil
	}
	fmt.Println("Building the earlier release: half a minute after build-runtime, which compiles the same packages.")
	if err := os.RemoveAll(releaseFolder); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(stripe), 0o755); err != nil {
		return err
	}
	if err := unpack(commit, releaseFolder); err != nil {
		return err
	}
	mains, err := filepath.Glob(filepath.Join(releaseFolder, "services", "*", "main.go"))
	if err != nil {
		return err
	}
	packages := []string{"./deploy/local"}
	for _, path := range mains {
		packages = append(packages, "./services/"+filepath.Base(filepath.Dir(path)))
	}
	build := goCommand(releaseFolder, slices.Concat([]string{"build", "-trimpath", "-o", ".build/"}, packages)...)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the earlier release: %w", err)
	}
	if err := runtimeProduct.steps[0].run(releaseFolder); err != nil {
		return err
	}
	if err := os.WriteFile(stripe, []byte("#!/bin/sh\nexec \"${0%/*}/local\" sandbox \"$@\"\n"), 0o755); err != nil {
		return err
	}
	fmt.Printf("Built %s.\n", releaseFolder)
	return os.WriteFile(filepath.Join(releaseFolder, "commit"), []byte(commit+"\n"), 0o644)
}

// unpack puts the files of a commit into a folder.
func unpack(commit, folder string) error {
	archive := exec.Command("git", "archive", commit)
	archive.Stderr = os.Stderr
	files, err := archive.StdoutPipe()
	if err != nil {
		return err
	}
	extract := exec.Command("tar", "-x", "-C", folder)
	extract.Stdin, extract.Stderr = files, os.Stderr
	if err := archive.Start(); err != nil {
		return err
	}
	err = extract.Run()
	return errors.Join(err, archive.Wait())
}
