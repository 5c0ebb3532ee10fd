package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"boxoffice/deploy/local/stack"
)

// profiler collects processor profiles of all processes that serve them, and of this one, while a workload is measured.
type profiler struct {
	folder string // "": no profiles are wanted
	stack  *stack.Stack
}

var notInFileName = regexp.MustCompile(`[^a-z0-9]+`)

// during begins to collect when the workload is warm, for as long as it is measured. Call the function that it returns
// after the workload, for the error.
func (p profiler) during(ctx context.Context, workload string, warm, span time.Duration) func() error {
	if p.folder == "" {
		return func() error { return nil }
	}
	ended := make(chan error, 1)
	go func() { ended <- p.collect(ctx, workload, warm, span) }()
	return func() error { return <-ended }
}

func (p profiler) collect(ctx context.Context, workload string, warm, span time.Duration) error {
	folder := filepath.Join(p.folder, strings.Trim(notInFileName.ReplaceAllString(strings.ToLower(workload), "-"), "-"))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	pause(ctx, warm)
	own, err := os.Create(filepath.Join(folder, self+".pprof"))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(own); err != nil {
		return errors.Join(err, own.Close())
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var problems []error
	for name, url := range p.stack.ProfileURLs() {
		group.Go(func() {
			if err := fetch(ctx, fmt.Sprintf("%sprofile?seconds=%d", url, max(1, int(span.Seconds()))), filepath.Join(folder, name+".pprof")); err != nil {
				mu.Lock()
				problems = append(problems, fmt.Errorf("profile of %s: %w", name, err))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	pprof.StopCPUProfile()
	return errors.Join(append(problems, own.Close())...)
}

func fetch(ctx context.Context, url, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, response.Body)
	return errors.Join(err, file.Close())
}
