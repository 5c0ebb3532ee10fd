package state

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"
)

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

var theSidecar client.Client

func TestMain(m *testing.M) {
	code := func() int {
		dir, _ := os.MkdirTemp("", "state")
		defer os.RemoveAll(dir)
		runtime, _ := filepath.Abs("../../../.build/runtime")
		t := &testing.T{}
		natsPort, grpcPort := freePort(t), freePort(t)
		os.MkdirAll(dir+"/res", 0o755)
		os.WriteFile(dir+"/res/r.yaml", []byte(fmt.Sprintf(`apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: state}
spec: {type: state.sqlite, version: v1, metadata: [{name: connectionString, value: "state.db"}]}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: pubsub}
spec: {type: pubsub.jetstream, version: v1, metadata: [{name: natsURL, value: "nats://127.0.0.1:%d"}]}
`, natsPort)), 0o644)
		start := func(args ...string) *exec.Cmd {
			c := exec.Command(runtime, args...)
			c.Dir = dir
			f, _ := os.Create(dir + "/" + args[0] + ".log")
			c.Stdout, c.Stderr = f, f
			c.Start()
			return c
		}
		n := start("nats-server", "-js", "-sd", dir+"/nats", "-a", "127.0.0.1", "-p", strconv.Itoa(natsPort))
		defer n.Process.Kill()
		time.Sleep(500 * time.Millisecond)
		d := start("daprd", "--app-id", "statetest", "--resources-path", dir+"/res", "--dapr-grpc-port", strconv.Itoa(grpcPort), "--dapr-http-port", strconv.Itoa(freePort(t)), "--dapr-internal-grpc-port", strconv.Itoa(freePort(t)), "--metrics-port", strconv.Itoa(freePort(t)))
		defer d.Process.Kill()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		var err error
		theSidecar, err = client.NewClientWithAddressContext(ctx, "127.0.0.1:"+strconv.Itoa(grpcPort))
		if err != nil {
			b, _ := os.ReadFile(dir + "/daprd.log")
			fmt.Println(err, string(b))
			return 1
		}
		return m.Run()
	}()
	os.Exit(code)
}

func sidecar(t *testing.T) client.Client { return theSidecar }

// keepsHalf behaves as Dapr's Redis store: the writes of a transaction are done one by one, and those whose
// condition holds stay when another's does not.
type keepsHalf struct{ client.Client }

func (k keepsHalf) ExecuteStateTransaction(ctx context.Context, store string, meta map[string]string, ops []*client.StateOperation) error {
	var failed error
	for _, op := range ops {
		if err := k.Client.ExecuteStateTransaction(ctx, store, meta, []*client.StateOperation{op}); err != nil {
			failed = err
		}
	}
	return failed
}

// ignoresConditions writes whatever comes.
type ignoresConditions struct{ client.Client }

func (i ignoresConditions) ExecuteStateTransaction(ctx context.Context, store string, meta map[string]string, ops []*client.StateOperation) error {
	for _, op := range ops {
		op.Item.Etag = nil
		op.Item.Options = &client.StateOptions{Concurrency: client.StateConcurrencyLastWrite}
	}
	return i.Client.ExecuteStateTransaction(ctx, store, meta, ops)
}
