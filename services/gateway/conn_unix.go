//go:build unix

package main

import (
	"net"
	"syscall"
)

// alive says whether an idle connection can be written to: the other end has neither closed it nor said
// anything that nobody asked for. It does not wait.
func alive(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	idle := false
	// Not raw.Read, which fails if the deadline of the last request is over.
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		idle = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	})
	return err == nil && idle
}
