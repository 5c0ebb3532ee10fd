package stack

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProxy_AddsTheTimeToEachRoundTrip(t *testing.T) {
	const delay = 30 * time.Millisecond
	proxy, err := startProxy("127.0.0.1:0", echoServer(t), delay)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", proxy.listener.Addr().String())
	require.NoError(t, err)

	begin, answer := time.Now(), make([]byte, 5)
	for range 3 {
		_, err := conn.Write([]byte("hello"))
		require.NoError(t, err)
		_, err = io.ReadFull(conn, answer)
		require.NoError(t, err)
		require.Equal(t, "hello", string(answer))
	}
	require.GreaterOrEqual(t, time.Since(begin), 3*delay)

	require.NoError(t, proxy.close())
	_, err = conn.Read(answer)
	require.Error(t, err, "close ends the connections")
}

// echoServer answers with what it gets, and returns its address.
func echoServer(t *testing.T) string {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = echo.Close() })
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	return echo.Addr().String()
}

// self is a Process that is this test's own.
func self(t *testing.T) *Process {
	me, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	return &Process{Name: "self", running: &exec.Cmd{Process: me}}
}

func TestProxy_CutsOffOneProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows the process of a connection")
	}
	proxy, err := startProxy("127.0.0.1:0", echoServer(t), 0)
	require.NoError(t, err)
	defer func() { _ = proxy.close() }()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", proxy.listener.Addr().String())
		require.NoError(t, err)
		return conn
	}
	answered := func(conn net.Conn, wait time.Duration) bool {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(wait)))
		answer := make([]byte, 5)
		_, err := io.ReadFull(conn, answer)
		return err == nil && string(answer) == "hello"
	}
	send := func(conn net.Conn) {
		_, err := conn.Write([]byte("hello"))
		require.NoError(t, err)
	}
	const moment, limit = 100 * time.Millisecond, 10 * time.Second

	before := dial()
	send(before)
	require.True(t, answered(before, limit))
	other := proxy.begin(&Process{Name: "another"}) // it does not run
	send(before)
	require.True(t, answered(before, limit), "a cut is of one process")
	proxy.end(other, true)

	cut := proxy.begin(self(t))
	meanwhile := dial()
	for _, conn := range []net.Conn{before, meanwhile} {
		send(conn)
		require.False(t, answered(conn, moment))
	}
	proxy.end(cut, false)
	for _, conn := range []net.Conn{before, meanwhile} {
		require.True(t, answered(conn, limit), "what was sent meanwhile arrives")
	}

	cut = proxy.begin(self(t))
	send(before)
	proxy.end(cut, true)
	require.False(t, answered(before, limit))
	after := dial()
	send(after)
	require.True(t, answered(after, limit))
}

func TestProcess_FillDisk(t *testing.T) {
	if !CanFillDisk {
		t.Skip("it needs Linux")
	}
	file := filepath.Join(t.TempDir(), "file")
	writer := exec.Command("sh", "-c", `trap "" XFSZ; while true; do echo line >> "$0" || exit 7; sleep 0.01; done`, file)
	writer.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, writer.Start())
	process := &Process{Name: "writer", running: writer}
	length := func() int64 {
		stat, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return stat.Size()
	}
	require.Eventually(t, func() bool { return length() > 0 }, 10*time.Second, 10*time.Millisecond)
	free, err := process.FillDisk()
	require.NoError(t, err)
	require.ErrorContains(t, writer.Wait(), "exit status 7")
	full := length()
	free() // of a process that is gone
	require.Equal(t, full, length())
}
