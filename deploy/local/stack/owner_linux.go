package stack

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// ownsConnection reports whether a process has the connection from one address to the other, both on 127.0.0.1. It needs both addresses,
// because the kernel gives the same port to connections that go to different addresses.
func ownsConnection(pid int, from, to net.Addr) bool {
	ends := ""
	for _, address := range []net.Addr{from, to} {
		at, ok := address.(*net.TCPAddr)
		if pid == 0 || !ok {
			return false
		}
		ends += fmt.Sprintf(" 0100007F:%04X", at.Port)
	}
	// While other connections open and close, a read of the table may lack one.
	for range 3 {
		table, err := os.ReadFile("/proc/net/tcp") // proc(5)
		if err != nil {
			return false
		}
		if _, line, found := strings.Cut(string(table), ends+" "); found {
			fields := strings.Fields(line)
			return len(fields) > 6 && slices.Contains(openFiles(pid), "socket:["+fields[6]+"]")
		}
	}
	return false
}

// openFiles are what the descriptors of a process point to.
func openFiles(pid int) (targets []string) {
	descriptors, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, descriptor := range descriptors {
		if target, err := os.Readlink(descriptor); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}

// CanFillDisk reports whether Process.FillDisk works here.
const CanFillDisk = true

// FillDisk makes every write of a process to a file fail (EFBIG), as on a full disk. Free ends that. A process that is started again
// can write.
func (p *Process) FillDisk() (free func(), err error) {
	limited := map[int]bool{}
	for _, pid := range p.members() {
		if err = limitFiles(pid, 0); err == nil {
			limited[pid] = true
		}
	}
	if len(limited) == 0 {
		return nil, fmt.Errorf("no process of %s could be limited: %w", p.Name, err)
	}
	return func() {
		for _, pid := range p.members() { // children that were started meanwhile have the limit, too
			_ = limitFiles(pid, unlimited)
		}
	}, nil
}

// unlimited is RLIM_INFINITY.
const unlimited = ^uint64(0)

// limitFiles sets the soft limit of the size of a process's files. Any process of the same user may raise a soft limit again.
func limitFiles(pid int, size uint64) error {
	limit := syscall.Rlimit{Cur: size, Max: unlimited}
	_, _, failed := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if failed != 0 {
		return failed
	}
	return nil
}

// members are the processes of a process's group: itself and its children.
func (p *Process) members() (pids []int) {
	group := p.PID()
	if group == 0 {
		return nil
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// "pid (name) state parent group …"; the name may contain any character.
		pid, rest := string(text), string(text[strings.LastIndexByte(string(text), ')')+1:])
		fields := strings.Fields(rest)
		if len(fields) < 3 || fields[2] != strconv.Itoa(group) {
			continue
		}
		if number, err := strconv.Atoi(strings.Fields(pid)[0]); err == nil {
			pids = append(pids, number)
		}
	}
	return pids
}
