//go:build !linux

package stack

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// childAttributes: a process group of its own, so that Ctrl-C reaches the launcher alone, which then stops all
// in order. Only Linux can end a child with its parent; elsewhere a launcher killed by SIGKILL leaves processes
// behind, which the next start reports as taken ports.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// frozen: other systems do not tell; the signal works within moments.
func frozen(int) bool { return true }

// runAs: whoever we are; see postgresAccount.
func runAs(*syscall.SysProcAttr, *syscall.Credential) {}

// postgresAccount: PostgreSQL refuses to run as root.
func postgresAccount() (*syscall.Credential, error) {
	if os.Getuid() == 0 {
		return nil, errors.New("PostgreSQL does not run as root; start as another user")
	}
	return nil, nil
}

// ownsConnection: other systems do not say whose a connection is, so a cut is one for all.
func ownsConnection(int, net.Addr, net.Addr) bool { return true }

// CanFillDisk is whether Process.FillDisk works here.
const CanFillDisk = false

// FillDisk needs prlimit(2).
func (p *Process) FillDisk() (free func(), err error) { return nil, errors.ErrUnsupported }
