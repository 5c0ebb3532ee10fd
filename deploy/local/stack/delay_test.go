package stack

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDelayed_AddsTheTimeToEachRoundTrip(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = echo.Close() }()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	const delay = 30 * time.Millisecond
	proxy, err := startDelayed("127.0.0.1:0", echo.Addr().String(), delay)
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
