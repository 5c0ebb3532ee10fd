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

// childAttributes: a child has a process group of its own, so that Ctrl-C reaches only the launcher, which then stops all processes in
// order. And it ends with its parent, also if the launcher is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// runAs makes a child run under another account. The child can open files in folders of the launcher's account, as those of tests are,
// but cannot start in one.
func runAs(attributes *syscall.SysProcAttr, account *syscall.Credential) {
	const dacOverride = 1 // CAP_DAC_OVERRIDE, capabilities(7)
	if account != nil {
		attributes.Credential, attributes.AmbientCaps = account, []uintptr{dacOverride}
	}
}

// postgresAccount is the account for PostgreSQL, which refuses to run as root. Nil: that of the launcher.
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

// frozen reports whether a signal has stopped a process, or it has ended.
func frozen(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	// "pid (name) state …"; the name may contain any character.
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return bytes.HasPrefix(after, []byte(" T")) || bytes.HasPrefix(after, []byte(" Z"))
}
