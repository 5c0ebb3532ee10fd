package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// startRedis starts a redis-server that ends with the test, and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	stacktest.SkipIfShort(t)
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI_REQUIRE_REDIS") == "1" {
			require.NoError(t, err, "CI_REQUIRE_REDIS is set, so redis-server must be installed")
		}
		t.Skip("redis-server is not installed")
	}
	port := strconv.Itoa(stacktest.FreePort(t))
	address := net.JoinHostPort("127.0.0.1", port)
	server := exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	require.NoError(t, server.Start())
	ended := make(chan struct{})
	go func() { _ = server.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	eventually(t, "redis answers", func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return address
}

// redisResources returns the default set of components with Redis as the state store.
func redisResources(t *testing.T, address string) string {
	t.Helper()
	return resourcesWithState(t, fmt.Sprintf(`apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: state
spec:
  type: state.redis
  version: v1
  metadata:
    - name: redisHost
      value: %q
    - name: redisPassword
      value: ""
    - name: actorStateStore
      value: "true"
`, address))
}

// resourcesWithState writes the default set of components with this state store into a folder.
func resourcesWithState(t testing.TB, store string) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"pubsub.yaml", "secrets.yaml"} {
		text, err := os.ReadFile(filepath.Join(root(t), "components", "embedded", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), text, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "state.yaml"), []byte(store), 0o600))
	return folder
}

func TestProbe_NoServiceStartsOnAStoreThatDoesNotRollBack(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "the store is the test's own")
	resources := redisResources(t, startRedis(t))

	for _, service := range []string{"auth", "tickets", "orders", "payments", "catalogue"} {
		t.Run(service, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			running, err := stacktest.Open(ctx, withTestSettings(stack.Options{
				Folder: t.TempDir(), Apps: []string{service}, Infra: []string{stack.NATS}, Set: stack.SetEmbedded, Resources: []string{resources},
			}))
			if err == nil {
				require.NoError(t, running.Stop())
			}

			var exit *stack.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, service, exit.Process)
			require.Equal(t, "exit status 1", exit.Status)
			for _, named := range []string{`component \"state\"`, "state.redis v1", "accepted a transaction that creates a document which exists already", "state.sqlite", "state.postgresql"} {
				require.ErrorContains(t, err, named)
			}
		})
	}
}
