package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// The tests run the test binary itself: as the launcher, and as the app that it starts.
func TestMain(m *testing.M) {
	switch os.Getenv("LAUNCHER_TEST_ROLE") {
	case "launcher":
		_ = os.Setenv("LAUNCHER_TEST_ROLE", "app")
		main()
	case "app":
		serveApp()
	default:
		os.Exit(m.Run())
	}
}

func serveApp() {
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/api/users/signup", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	http.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) {
		fmt.Println("out of luck")
		os.Exit(7)
	})
	go func() { panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("APP_PORT"), nil)) }()
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

// launch runs `local run` on a folder with one app, called gateway, and returns when the launcher prints that it is open.
func launch(t *testing.T) *launched {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real sidecars")
	}
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	folder := t.TempDir()
	for _, name := range []string{".build", "components"} {
		require.NoError(t, os.Symlink(filepath.Join(filepath.Dir(runFile), name), filepath.Join(folder, name)))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	var others stack.Ports
	ports := make([]int, 6+len(others.Flags()))
	for i := range ports {
		ports[i] = stacktest.FreePort(t)
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "dapr.yaml"), fmt.Appendf(nil, `
version: 1
apps:
  - appID: gateway
    appDirPath: .
    command: [%q]
    resourcesPaths: [components/embedded, components/events]
    configFilePath: components/embedded/config.yaml
    appPort: %d
    daprHTTPPort: %d
    daprGRPCPort: %d
    daprInternalGRPCPort: %d
    metricsPort: %d
    env: {PORT: %d}
`, self, ports[0], ports[1], ports[2], ports[3], ports[4], ports[5]), 0o600))

	args := []string{"run"}
	for i, port := range ports[6:] {
		args = append(args, fmt.Sprintf("-%s=%d", others.Flags()[i].Name, port))
	}
	l := &launched{cmd: exec.Command(self, args...), folder: folder, url: fmt.Sprintf("http://127.0.0.1:%d", ports[5])}
	l.cmd.Dir = folder
	l.cmd.Env = append(os.Environ(), "LAUNCHER_TEST_ROLE=launcher", "SAMPLES=off")
	out, err := l.cmd.StdoutPipe()
	require.NoError(t, err)
	l.cmd.Stderr = l.cmd.Stdout
	require.NoError(t, l.cmd.Start())
	t.Cleanup(func() { _ = l.cmd.Process.Kill() })
	l.out = bufio.NewReader(out)
	for !strings.Contains(l.text.String(), "Ctrl-C stops it") {
		line, err := l.out.ReadString('\n')
		l.text.WriteString(line)
		require.NoError(t, err, l.text.String())
	}
	return l
}

type launched struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	text   strings.Builder
	folder string
	url    string
}

// wait returns what the launcher printed until its end, and its exit code.
func (l *launched) wait(t *testing.T) (string, int) {
	t.Helper()
	rest, err := io.ReadAll(l.out)
	require.NoError(t, err)
	l.text.Write(rest)
	_ = l.cmd.Wait()
	return l.text.String(), l.cmd.ProcessState.ExitCode()
}

func TestRun_PrintsWhatToTryAndStopsOnSIGTERM(t *testing.T) {
	l := launch(t)

	require.NoError(t, l.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, l.cmd.Process.Signal(syscall.SIGTERM), "as programs do that signal a process and its group")
	text, code := l.wait(t)

	require.Zero(t, code, text)
	require.Contains(t, text, "The box office is open at "+strings.Replace(l.url, "127.0.0.1", "localhost", 1))
	require.Contains(t, text, "demo account: demo@example.com")
	require.Contains(t, text, "All stopped")
	_, err := http.Get(l.url + "/healthz")
	require.Error(t, err)
}

func TestRun_NamesAProcessThatEndsAndStopsTheOthers(t *testing.T) {
	l := launch(t)

	_, _ = http.Get(l.url + "/crash")
	text, code := l.wait(t)

	require.Equal(t, 1, code, text)
	require.Contains(t, text, "gateway ended by itself (exit status 7); its last lines:\n    out of luck\n")
	require.Contains(t, text, "gateway         | out of luck")
	require.Contains(t, text, "All stopped")
	require.Contains(t, text, "local: stopped because gateway ended by itself (exit status 7)")
	lock, err := stack.LockState(l.folder)
	require.NoError(t, err, "the state folder is free")
	require.NoError(t, lock.Close())
}

func TestReset_DeletesTheStateButNotUnderARunningStack(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "dapr.yaml")
	require.NoError(t, reset([]string{"-file", file}), "there is nothing yet")
	require.NoError(t, os.Mkdir(filepath.Join(folder, stack.StateFolder), 0o700))
	lock, err := stack.LockState(folder)
	require.NoError(t, err)

	require.ErrorIs(t, reset([]string{"-file", file}), stack.ErrRunning)
	require.NoError(t, lock.Close())
	require.NoError(t, reset([]string{"-file", file}))

	require.NoDirExists(t, filepath.Join(folder, stack.StateFolder))
}

func TestConsole_PrefixesLinesAndColoursThemOnATerminalOnly(t *testing.T) {
	var out strings.Builder
	plain := &console{out: &out, width: 8, colourOf: map[string]int{}}
	plain.line("auth", "hello")
	require.Equal(t, "auth     | hello\n", out.String())

	out.Reset()
	coloured := &console{out: &out, width: 8, colours: true, colourOf: map[string]int{}}
	coloured.line("auth", "one")
	coloured.line("auth-dapr", "two")
	coloured.line("orders", "three")
	colour := func(line int) string { return strings.Split(out.String(), "\n")[line][:5] }
	require.Equal(t, colour(0), colour(1), "an app and its sidecar have one colour")
	require.NotEqual(t, colour(0), colour(2))
}

func TestMemory_CountsThisProcess(t *testing.T) {
	rss, pss := memory([]int{os.Getpid()})

	require.Positive(t, rss)
	require.LessOrEqual(t, pss, rss)
	require.Equal(t, int64(1234<<10), field("Rss:  1234 kB\n", "Rss:"))
}

func TestDemoAccount_SignsUpOnceAndThenSignsIn(t *testing.T) {
	var requests []string
	signedUp := false
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.URL.Path)
		switch {
		case r.URL.Path == "/api/users/signin" && !signedUp:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/api/users/signup":
			signedUp = true
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer gateway.Close()
	made := filepath.Join(t.TempDir(), "made")

	require.Equal(t, "demo@example.com / demo-password", demoAccount(t.Context(), gateway.URL, made))
	require.Equal(t, "demo@example.com / demo-password", demoAccount(t.Context(), gateway.URL, made))
	signedUp = false // deleted meanwhile
	require.Equal(t, "demo@example.com / demo-password", demoAccount(t.Context(), gateway.URL, made))

	const signup, signin = "/api/users/signup", "/api/users/signin"
	require.Equal(t, []string{signup, signin, signin, signup}, requests)
}

func TestDemoAccount_ExplainsWhyThereIsNone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	made := filepath.Join(t.TempDir(), "made")

	require.Contains(t, demoAccount(t.Context(), "http://"+listener.Addr().String(), made), "could not be made")
	require.NoFileExists(t, made)
}
