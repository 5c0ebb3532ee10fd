package stacktest

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// lastPort bounds the ports of FreePort: those of stacks begin after it, and those of outgoing connections later still.
const lastPort = 19_999

// portsTried counts the ports that FreePort has tried.
var portsTried atomic.Int64

// FreePort returns a port for a program that a test starts. No stack and no outgoing connection can take it before the program does, and no
// other call in this process returns it. Test processes that run at the same time begin at different ports.
func FreePort(t testing.TB) int {
	t.Helper()
	for {
		port := 14_000 + os.Getpid()%5_000 + int(portsTried.Add(1))
		require.LessOrEqual(t, port, lastPort, "too few ports are free")
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			require.NoError(t, listener.Close())
			return port
		}
	}
}
