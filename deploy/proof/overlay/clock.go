package overlay

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A program whose clock can be set has another time.Now. It adds an offset from a file to the wall clock and does not change the
// monotonic clock, as when an operator sets the clock of a machine. (Tools that replace functions of the C library have no
// effect on Go programs.)

// ClockVariable is the environment variable with the path of the offset's file. Without it the clock is right.
const ClockVariable = "CLOCK_OFFSET_FILE"

const (
	nowBefore = "\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	nowAfter  = nowBefore + "\tsec += clockOffset()\n"

	// clockSource is added to package time. It maps the offset's file into memory, so that reading it costs one load.
	clockSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var clockFile *int64

func init() {
	path, found := syscall.Getenv("` + ClockVariable + `")
	if !found {
		return
	}
	file, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("` + ClockVariable + `: " + path + ": " + err.Error())
	}
	page, err := syscall.Mmap(file, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("` + ClockVariable + `: " + path + ": " + err.Error())
	}
	clockFile = (*int64)(unsafe.Pointer(&page[0]))
}

// clockOffset is in seconds.
func clockOffset() int64 {
	if clockFile == nil {
		return 0
	}
	return atomic.LoadInt64(clockFile)
}
`
)

// BuildWithClock builds services whose clock can be set into a folder, which it creates if needed. The first build takes minutes,
// because all packages that import time are rebuilt.
func BuildWithClock(ctx context.Context, root, folder string, services ...string) (map[string]string, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	replace, err := clockRules(ctx, folder)
	if err != nil {
		return nil, err
	}
	return Build(ctx, root, folder, replace, services...)
}

// clockRules writes the changed files of package time, and returns them for Build.
func clockRules(ctx context.Context, folder string) (map[string]string, error) {
	output, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "time").Output()
	if err != nil {
		return nil, fmt.Errorf("find package time: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(output)), "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return nil, err
	}
	if strings.Count(string(source), nowBefore) != 1 {
		return nil, fmt.Errorf("%s has an unknown version of Now: update deploy/proof/overlay/clock.go", original)
	}
	changed, added := filepath.Join(folder, "time.go.txt"), filepath.Join(folder, "clock.go.txt")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), nowBefore, nowAfter, 1)), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(added, []byte(clockSource), 0o600); err != nil {
		return nil, err
	}
	return map[string]string{original: changed, filepath.Join(filepath.Dir(original), "clock_offset.go"): added}, nil
}

// Clock is the offset of one program's clock.
type Clock struct{ path string }

// NewClock creates a clock's file with the offset 0.
func NewClock(path string) (*Clock, error) {
	return &Clock{path}, os.WriteFile(path, make([]byte, 8), 0o600)
}

// Env is what the program's environment must contain.
func (c *Clock) Env() map[string]string { return map[string]string{ClockVariable: c.path} }

// Set sets the clock's offset from the right time, in whole seconds.
func (c *Clock) Set(offset time.Duration) error {
	file, err := os.OpenFile(c.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(offset/time.Second)), 0)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}
