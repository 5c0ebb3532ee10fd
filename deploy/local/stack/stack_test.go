package stack_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// The tests run the test binary itself as app and, where the launcher must be killed, as launcher.
func TestMain(m *testing.M) {
	switch os.Getenv("STACK_TEST_ROLE") {
	case "app":
		serveApp()
	case "launcher":
		launchAndHang()
	default:
		os.Exit(m.Run())
	}
}

// serveApp is a small app: it keeps the events that it receives. The data of an event contain the status of the response.
func serveApp() {
	if os.Getenv("FAIL_AT_START") != "" {
		fmt.Println("the cause of the trouble")
		os.Exit(3)
	}
	var mu sync.Mutex
	received := []string{}
	callbacks := http.NewServeMux()
	callbacks.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	bulk := func(w http.ResponseWriter, r *http.Request) {
		var delivery struct {
			Topic   string
			Entries []struct {
				EntryID string
				Event   []byte // as it was published, in base64
			}
		}
		_ = json.NewDecoder(r.Body).Decode(&delivery)
		statuses := []map[string]string{}
		mu.Lock()
		defer mu.Unlock()
		for _, entry := range delivery.Entries {
			var event struct {
				ID   string
				Data struct{ Answer string }
			}
			_ = json.Unmarshal(entry.Event, &event)
			received = append(received, delivery.Topic+" "+event.ID)
			statuses = append(statuses, map[string]string{"entryId": entry.EntryID, "status": event.Data.Answer})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"statuses": statuses})
	}
	callbacks.HandleFunc("POST /events", bulk)
	public := http.NewServeMux()
	public.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if os.Getenv("NEVER_READY") != "" {
			http.Error(w, "waiting for the moon", http.StatusServiceUnavailable)
		}
	})
	public.HandleFunc("GET /received", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(w).Encode(received)
	})
	public.HandleFunc("POST /crash", func(http.ResponseWriter, *http.Request) {
		fmt.Println("about to crash")
		os.Exit(7)
	})
	fmt.Println("app starts", os.Getenv("COLOUR"))
	go func() { panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("APP_PORT"), callbacks)) }()
	go func() { panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), public)) }()
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	<-stop.Done()
	fmt.Println("app stops")
}

// launchAndHang starts the stack of the folder in the environment, prints when it is up, and waits for SIGKILL.
func launchAndHang() {
	s, err := stack.Start(context.Background(), stack.Options{
		RunFile: os.Getenv("STACK_TEST_RUN_FILE"), Folder: filepath.Dir(os.Getenv("STACK_TEST_RUN_FILE")), Infra: []string{stack.NATS},
		Env: map[string]string{"STACK_TEST_ROLE": "app"},
	})
	if err != nil {
		panic(err)
	}
	for _, name := range s.Processes() {
		fmt.Println("pid", s.Process(name).PID())
	}
	fmt.Println("up")
	select {}
}

// testFolder is a folder with a run file: one app, called tickets, which is this binary, the real component files, and the programs that
// were built.
func testFolder(t *testing.T) (runFile string) {
	t.Helper()
	stacktest.SkipIfShort(t)
	real, err := stack.FindRunFile(".")
	require.NoError(t, err)
	root := filepath.Dir(real)
	dir := t.TempDir()
	for _, name := range []string{".build", "components"} {
		require.NoError(t, os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	return write(t, dir, `
version: 1
common:
  resourcesPaths: [./components/embedded, ./components/events]
  configFilePath: ./components/embedded/config.yaml
  enableAppHealthCheck: true
  appHealthProbeInterval: 1
  appHealthProbeTimeout: 900
apps:
  - appID: tickets
    appDirPath: .
    command: ["`+self+`"]
    appPort: 8201
    daprHTTPPort: 3501
    daprGRPCPort: 51001
    daprInternalGRPCPort: 52001
    metricsPort: 9191
    env:
      PORT: 8101
      SELF_URL: http://localhost:8101
`)
}

func write(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "dapr.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func options(runFile string) stack.Options {
	return stack.Options{
		RunFile: runFile, Folder: filepath.Dir(runFile), Infra: []string{stack.NATS},
		Env: map[string]string{"STACK_TEST_ROLE": "app"},
	}
}

// publish publishes an event on a topic, past the sidecar, which may not.
func publish(t *testing.T, s *stack.Stack, id, topic, answer string) {
	t.Helper()
	event := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"test","type":"test","datacontenttype":"application/json","data":{"Answer":%q}}`, id, answer)
	_, err := connect(t, s).Publish(topic, []byte(event))
	require.NoError(t, err)
}

func received(t *testing.T, s *stack.Stack) []string {
	t.Helper()
	response, err := http.Get(s.URL("tickets") + "/received")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var events []string
	require.NoError(t, json.NewDecoder(response.Body).Decode(&events))
	return events
}

func eventuallyReceived(t *testing.T, s *stack.Stack, want ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.Subset(c, received(t, s), want) }, 20*time.Second, 50*time.Millisecond)
}

// deadLetters is how many messages the stream of dead letters holds.
func deadLetters(t *testing.T, s *stack.Stack) int {
	t.Helper()
	conn, err := nats.Connect(s.NATSURL())
	require.NoError(t, err)
	defer conn.Close()
	js, err := conn.JetStream()
	require.NoError(t, err)
	stream, err := js.StreamInfo("dead")
	require.NoError(t, err)
	return int(stream.State.Msgs)
}

func TestStack_DeliversByTopicAndKeepsWhatIsDropped(t *testing.T) {
	s := stacktest.Start(t, options(testFolder(t)))

	publish(t, s, "foreign", "events.payments", "SUCCESS")
	publish(t, s, "taken", "events.orders", "SUCCESS")
	publish(t, s, "again", "retry.tickets", "SUCCESS")
	publish(t, s, "of before", "events", "SUCCESS")
	eventuallyReceived(t, s, "events.orders taken", "retry.tickets again", "events of before")

	// Alone in its bulk: for a DROP among other events daprd makes the wrong event a dead letter, or panics (components/README.md).
	publish(t, s, "dropped", "events.orders", "DROP")
	eventuallyReceived(t, s, "events.orders dropped")
	require.Eventually(t, func() bool { return deadLetters(t, s) == 1 }, 10*time.Second, 50*time.Millisecond)
	require.Len(t, received(t, s), 4)
}

func TestStack_DeliversAfterTheAppWasDown(t *testing.T) {
	s := stacktest.Start(t, options(testFolder(t)))

	require.NoError(t, s.Process("tickets").Kill())
	publish(t, s, "late", "events.orders", "SUCCESS")
	require.NoError(t, s.Process("tickets").Start())
	require.NoError(t, s.WaitReady(t.Context(), "tickets"))

	eventuallyReceived(t, s, "events.orders late")
	require.Zero(t, deadLetters(t, s))
}

func TestStack_StopsThoughADeliveryIsUnderWay(t *testing.T) {
	runFile := testFolder(t)
	first := stacktest.Start(t, options(runFile))
	publish(t, first, "stubborn", "events.orders", "RETRY")
	eventuallyReceived(t, first, "events.orders stubborn")

	require.NoError(t, first.Stop())

	second := stacktest.Start(t, options(runFile))
	eventuallyReceived(t, second, "events.orders stubborn")
	require.NoError(t, second.Process("tickets-dapr").Kill(), "so that the test need not wait for its end")
}

// ask calls the HTTP API of an app's sidecar.
func ask(t *testing.T, s *stack.Stack, app, method, path string, body io.Reader) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.SidecarHTTP(app)+path, body)
	require.NoError(t, err)
	request.Header.Set("dapr-api-token", s.SidecarToken(app))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	return response
}

func TestStack_SecondStartFindsStateAndSecrets(t *testing.T) {
	runFile := testFolder(t)
	first := stacktest.Start(t, options(runFile))
	state := strings.NewReader(`[{"key":"a","value":"kept"}]`)
	response := ask(t, first, "tickets", http.MethodPost, "/v1.0/state/state", state)
	require.NoError(t, response.Body.Close())
	require.NoError(t, first.Process("tickets-dapr").Kill())
	require.NoError(t, first.Process("tickets").Kill())
	published := connect(t, first)
	_, err := published.Publish("events.orders", []byte(`{"specversion":"1.0","id":"kept","source":"test","type":"order.created","data":{"Answer":"SUCCESS"}}`))
	require.NoError(t, err)
	require.NoError(t, first.Stop())
	require.NotEmpty(t, first.Secret("APP_API_TOKEN"))

	second := stacktest.Start(t, options(runFile))

	response = ask(t, second, "tickets", http.MethodGet, "/v1.0/state/state/a", nil)
	value, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, `"kept"`, string(value))
	require.Equal(t, first.Secret("APP_API_TOKEN"), second.Secret("APP_API_TOKEN"))
	eventuallyReceived(t, second, "events.orders kept")
}

func connect(t *testing.T, s *stack.Stack) nats.JetStreamContext {
	t.Helper()
	conn, err := nats.Connect(s.NATSURL())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := conn.JetStream()
	require.NoError(t, err)
	return js
}

func TestStart_MakesSecretsThatOnlyTheOwnerReads(t *testing.T) {
	s := stacktest.Start(t, stack.Options{Sidecars: []stack.Sidecar{{ID: "auth"}, {ID: "orders"}, {ID: "tickets"}}})

	for _, name := range []string{"secrets/auth.json", "secrets/orders.json", "env"} {
		info, err := os.Stat(filepath.Join(s.Folder(), stack.StateFolder, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	// An app reads its own key, and neither the other's nor all.
	secrets := func(app, path string) map[string]string {
		response := ask(t, s, app, http.MethodGet, "/v1.0/secrets/secrets/"+path, nil)
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return nil
		}
		var secret map[string]string
		require.NoError(t, json.NewDecoder(response.Body).Decode(&secret))
		return secret
	}
	for app, name := range stack.SigningKeys {
		require.Contains(t, secrets(app, name)[name], "BEGIN PRIVATE KEY", app)
		for _, other := range []string{"auth", "orders", "tickets"} {
			require.True(t, other == app || secrets(other, name) == nil, "%s reads %s", other, name)
		}
		response := ask(t, s, app, http.MethodGet, "/v1.0/secrets/secrets/bulk", nil)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, errors.Join(err, response.Body.Close()))
		require.Equal(t, 1, strings.Count(string(text), "BEGIN PRIVATE KEY"), "%s: %s", app, text)
	}
	require.True(t, strings.HasPrefix(s.Secret("STRIPE_WEBHOOK_SECRET"), "whsec_"))
}

func TestStack_ReportsAProcessThatEndsByItself(t *testing.T) {
	s := stacktest.Start(t, options(testFolder(t)))

	_, _ = http.Post(s.URL("tickets")+"/crash", "", nil)

	var exit *stack.ExitError
	require.ErrorAs(t, s.Wait(t.Context()), &exit)
	require.Equal(t, "tickets", exit.Process)
	require.Equal(t, "exit status 7", exit.Status)
	require.Contains(t, exit.Tail, "about to crash")
}

func TestStack_KilledProcessIsNoFailure(t *testing.T) {
	s := stacktest.Start(t, options(testFolder(t)))

	require.NoError(t, s.Process("tickets").Kill())
	require.Zero(t, s.Process("tickets").PID())
	require.NoError(t, s.Process("tickets").Start())
	require.NoError(t, s.WaitReady(t.Context(), "tickets"))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Wait(ctx))
}

func TestStack_PausedProcessDoesNotAnswerAndStops(t *testing.T) {
	s := stacktest.Start(t, options(testFolder(t)))
	client := http.Client{Timeout: 200 * time.Millisecond}

	require.NoError(t, s.Process("tickets").Pause())
	_, err := client.Get(s.URL("tickets") + "/received")
	require.Error(t, err)
	require.NoError(t, s.Process("tickets").Resume())
	received(t, s)

	require.NoError(t, s.Process("tickets").Pause())
	require.NoError(t, s.Stop())
}

func TestStart_NamesAnAppThatEndsWithItsLastLines(t *testing.T) {
	opts := options(testFolder(t))
	opts.Env["FAIL_AT_START"] = "yes"

	_, err := stack.Start(t.Context(), opts)

	require.ErrorContains(t, err, "tickets ended by itself (exit status 3)")
	require.ErrorContains(t, err, "the cause of the trouble")
}

func TestStart_NamesWhatIsNotReady(t *testing.T) {
	opts := options(testFolder(t))
	opts.AppEnv = map[string]map[string]string{"tickets": {"NEVER_READY": "yes", "COLOUR": "blue"}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	_, err := stack.Start(ctx, opts)

	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "not ready: tickets:")
	require.ErrorContains(t, err, "waiting for the moon")
	require.ErrorContains(t, err, "app starts blue")
}

func TestStart_NamesTakenPortsAndTheirSettings(t *testing.T) {
	runFile := testFolder(t)
	text, err := os.ReadFile(runFile)
	require.NoError(t, err)
	inFile, ofFlag := listen(t), listen(t)
	text = bytes.ReplaceAll(text, []byte("8101"), []byte(strconv.Itoa(inFile)))
	require.NoError(t, os.WriteFile(runFile, text, 0o600))
	opts := options(runFile)
	ports := stack.DefaultPorts()
	ports.NATS = ofFlag
	opts.FixedPorts = &ports

	_, err = stack.Start(t.Context(), opts)

	var taken *stack.TakenError
	require.ErrorAs(t, err, &taken)
	require.ErrorContains(t, err, fmt.Sprintf("port %d (tickets, public API); stop the program that listens there, or change env.PORT of tickets in dapr.yaml", inFile))
	require.ErrorContains(t, err, fmt.Sprintf("port %d (NATS); stop the program that listens there, or change it with -nats-port", ofFlag))
	require.NoFileExists(t, filepath.Join(filepath.Dir(runFile), stack.StateFolder, "nats.conf"))
}

func listen(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().(*net.TCPAddr).Port
}

func TestStart_RefusesAStateFolderInUse(t *testing.T) {
	runFile := testFolder(t)
	stacktest.Start(t, options(runFile))

	_, err := stack.Start(t.Context(), options(runFile))

	require.ErrorIs(t, err, stack.ErrRunning)
}

func TestStart_NamesWhatIsNotBuilt(t *testing.T) {
	runFile := testFolder(t)
	require.NoError(t, os.Remove(filepath.Join(filepath.Dir(runFile), ".build")))

	_, err := stack.Start(t.Context(), options(runFile))

	require.ErrorContains(t, err, ".build/runtime (run `make build`)")
}

func TestStack_ProcessesEndWhenTheLauncherIsKilled(t *testing.T) {
	runFile := testFolder(t)
	launcher := exec.Command(os.Args[0])
	launcher.Env = append(os.Environ(), "STACK_TEST_ROLE=launcher", "STACK_TEST_RUN_FILE="+runFile)
	launcher.Stderr = os.Stderr
	out, err := launcher.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, launcher.Start())
	t.Cleanup(func() { _ = launcher.Process.Kill() })
	var pids []int
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "up"; {
		pid, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "pid "))
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	require.Len(t, pids, 3)

	require.NoError(t, launcher.Process.Kill())
	_ = launcher.Wait()

	require.Eventually(t, func() bool {
		for _, pid := range pids {
			if syscall.Kill(pid, 0) == nil {
				return false
			}
		}
		return true
	}, 10*time.Second, 20*time.Millisecond)
}
