package e2e

import (
	"net"
	"os"
	"os/exec"
	accounts "os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// postgres is a server on a free loopback port. It ends with the test.
type postgres struct {
	program, folder string
	port            int
	password        string              // of the superuser, boxoffice; without one, no role needs a password
	as              *syscall.Credential // the user of the process, because it refuses to run as root

	running *exec.Cmd
	ended   chan struct{}
}

// startPostgresFor initializes a database and starts its server. With a password for the superuser, all roles need theirs.
func startPostgresFor(t *testing.T, password string) *postgres {
	t.Helper()
	stacktest.SkipIfShort(t)
	programs := stack.PostgresPrograms()
	if programs == "" {
		require.NotEqual(t, "1", os.Getenv("CI_REQUIRE_POSTGRES"), "CI_REQUIRE_POSTGRES is set, so PostgreSQL must be installed")
		t.Skip("PostgreSQL is not installed")
	}
	// Not t.TempDir, which other users cannot read.
	folder, err := os.MkdirTemp("", "boxoffice-postgres-")
	require.NoError(t, err)
	p := &postgres{program: filepath.Join(programs, "postgres"), folder: folder, port: stacktest.FreePort(t), password: password}
	t.Cleanup(func() {
		p.kill()
		_ = os.RemoveAll(folder)
	})
	if os.Getuid() == 0 {
		nobody, err := accounts.Lookup("nobody")
		require.NoError(t, err)
		uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
		require.NoError(t, err)
		gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
		require.NoError(t, err)
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		require.NoError(t, os.Chown(folder, int(uid), int(gid)))
	}
	initialize := exec.Command(filepath.Join(programs, "initdb"), "-D", folder, "-U", "boxoffice", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if password != "" {
		kept := folder + ".password"
		require.NoError(t, os.WriteFile(kept, []byte(password+"\n"), 0o600))
		t.Cleanup(func() { _ = os.Remove(kept) })
		if p.as != nil {
			require.NoError(t, os.Chown(kept, int(p.as.Uid), int(p.as.Gid)))
		}
		initialize.Args = append(initialize.Args, "-A", "scram-sha-256", "--pwfile="+kept)
	}
	initialize.Dir = folder
	initialize.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	text, err := initialize.CombinedOutput()
	require.NoError(t, err, "%s", text)
	p.start(t)
	return p
}

// start starts the server and waits until it accepts connections.
func (p *postgres) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(p.program, "-D", p.folder, "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "max_connections=200")
	cmd.Dir = p.folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	p.running, p.ended = cmd, make(chan struct{})
	go func() {
		// Pdeathsig is sent when the thread that started the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(p.ended)
	}()
	require.NoError(t, <-started)
	eventually(t, "PostgreSQL accepts connections", func() bool {
		conn, err := net.DialTimeout("tcp", p.address(), time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// kill ends the server and all of its children with SIGKILL.
func (p *postgres) kill() {
	if p.running != nil && p.running.Process != nil {
		_ = syscall.Kill(-p.running.Process.Pid, syscall.SIGKILL)
		<-p.ended
	}
}

func (p *postgres) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// withEvents adds the folder of subscriptions, which every set of components needs.
func withEvents(t testing.TB, resources string) []string {
	t.Helper()
	return []string{resources, filepath.Join(root(t), "components", "events")}
}
