//go:build !linux

package stack

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// childAttributes: a child has a process group of its own, so that Ctrl-C reaches only the launcher, which then stops all processes in
// order. Only Linux can end a child with its parent: here processes stay after a SIGKILL of the launcher, and the next start
// reports taken ports.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// frozen reports true, because other systems have no file that shows it; the signal takes a moment.
func frozen(int) bool { return true }

// runAs changes nothing; see postgresAccount.
func runAs(*syscall.SysProcAttr, *syscall.Credential) {}

// postgresAccount: PostgreSQL refuses to run as root.
func postgresAccount() (*syscall.Credential, error) {
	if os.Getuid() == 0 {
		return nil, errors.New("PostgreSQL does not run as root; start as another user")
	}
	return nil, nil
}

// ownsConnection reports true, because other systems do not show the process of a connection. So a cut applies to all processes.
func ownsConnection(int, net.Addr, net.Addr) bool { return true }

// CanFillDisk reports whether Process.FillDisk works here.
const CanFillDisk = false

// FillDisk needs prlimit(2).
func (p *Process) FillDisk() (free func(), err error) { return nil, errors.ErrUnsupported }
