package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"boxoffice/deploy/local/stack"
)

// profiler collects processor profiles of this process and of all that serve them during a workload.
type profiler struct {
	folder string // "": no profiles
	stack  *stack.Stack
}

var notInFileName = regexp.MustCompile(`[^a-z0-9]+`)

// during collects profiles in the measured time of a workload. The function that it returns waits for them and returns the
// error.
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
	var fetching errgroup.Group
	for name, url := range p.stack.ProfileURLs() {
		fetching.Go(func() error {
			if err := fetch(ctx, fmt.Sprintf("%sprofile?seconds=%d", url, max(1, int(span.Seconds()))), filepath.Join(folder, name+".pprof")); err != nil {
				return fmt.Errorf("profile of %s: %w", name, err)
			}
			return nil
		})
	}
	err = fetching.Wait()
	pprof.StopCPUProfile()
	return errors.Join(err, own.Close())
}

func fetch(ctx context.Context, url, path string) error {
	response, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, response.Body)
	return errors.Join(err, file.Close())
}
