package stack

import "syscall"

// childAttributes: a process group of its own, so that Ctrl-C reaches the launcher alone, which then stops all
// in order; and an end with its parent, so that a launcher that is killed leaves nothing behind.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
