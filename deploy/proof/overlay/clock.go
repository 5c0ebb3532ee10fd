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

// A program with a clock that can be set has another time.Now: one that adds to the wall clock what is in a file, and leaves
// the monotonic clock alone, as it is when somebody sets the clock of a machine. (Tools that replace the C library's functions
// have no hold on Go programs.)

// ClockVariable names, in the environment of such a program, the file that holds its offset. Without it the clock is right.
const ClockVariable = "CLOCK_OFFSET_FILE"

const (
	nowBefore = "\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	nowAfter  = nowBefore + "\tsec += clockOffset()\n"

	// clockSource is one more file of package time. The file is mapped into memory, so that the offset costs one load.
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

// BuildWithClock builds services whose clock can be set, into a folder that it makes. The first time takes minutes: all that
// imports time is built anew.
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

// clockRules writes the files that replace those of package time.
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
		return nil, fmt.Errorf("%s has another Now than this knows: bring deploy/proof/overlay/clock.go up to date", original)
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

// NewClock makes a clock's file. Its offset is 0.
func NewClock(path string) (*Clock, error) {
	return &Clock{path}, os.WriteFile(path, make([]byte, 8), 0o600)
}

// Env is what the program needs in its environment.
func (c *Clock) Env() map[string]string { return map[string]string{ClockVariable: c.path} }

// Set moves the clock by so much from the right time, in whole seconds.
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
