package stack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrRunning means that another stack uses the state folder. Errors of LockState wrap it.
var ErrRunning = errors.New("another stack runs here")

// LockState takes the lock that a running stack holds on its state folder, until the file is closed. If another process holds
// it, the error is ErrRunning with that process's id and the time of its start.
func LockState(folder string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(folder, StateFolder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(lock)
		_ = lock.Close()
		return nil, &runningError{folder: folder, holder: string(holder)}
	}
	text := fmt.Sprintf("%d %s\n", os.Getpid(), time.Now().Format(time.RFC3339))
	if _, err := lock.WriteAt([]byte(text), 0); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, lock.Truncate(int64(len(text)))
}

// runningError is ErrRunning with what the lock file contains: the process and its start.
type runningError struct{ folder, holder string }

func (e *runningError) Unwrap() error { return ErrRunning }

func (e *runningError) Error() string {
	pid, start, _ := strings.Cut(strings.TrimSpace(e.holder), " ")
	since, err := time.Parse(time.RFC3339, start)
	if _, notNumber := strconv.Atoi(pid); err != nil || notNumber != nil {
		return fmt.Sprintf("%v, in %s", ErrRunning, e.folder) // the file is of an earlier release
	}
	return fmt.Sprintf("%v, in %s, since %s; stop it with Ctrl-C in its terminal, or with: kill %s", ErrRunning, e.folder, since.Format("2006-01-02 15:04:05"), pid)
}
