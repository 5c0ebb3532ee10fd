package stack

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// childAttributes: a process group of its own, so that Ctrl-C reaches the launcher alone, which then stops all
// in order; and an end with its parent, so that a launcher that is killed leaves nothing behind.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// frozen is whether a process has been stopped by a signal. One that is gone will not run either.
func frozen(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	// "pid (name) state …"; the name may hold anything.
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return bytes.HasPrefix(after, []byte(" T")) || bytes.HasPrefix(after, []byte(" Z"))
}
