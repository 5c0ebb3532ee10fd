package stack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// childAttributes: a process group of its own, so that Ctrl-C reaches the launcher alone, which then stops all
// in order; and an end with its parent, so that a launcher that is killed leaves nothing behind.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// runAs makes a child run under another account. It may still pass through folders that are ours, as those of tests are,
// but not begin in one.
func runAs(attributes *syscall.SysProcAttr, account *syscall.Credential) {
	const dacOverride = 1 // CAP_DAC_OVERRIDE, capabilities(7)
	if account != nil {
		attributes.Credential, attributes.AmbientCaps = account, []uintptr{dacOverride}
	}
}

// postgresAccount is what PostgreSQL runs under, which refuses to be root. Nil: whoever we are.
func postgresAccount() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, uidErr := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(nobody.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
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
