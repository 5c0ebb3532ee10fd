package stack_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	internalpb "github.com/dapr/dapr/pkg/proto/internals/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// A sidecar as `dapr run -f .` starts it (Dapr's CLI 1.18): in the app's folder, with the environment of the shell and that of
// the app in the run file, with mTLS because the Configuration asks for it, and on all interfaces.
func TestStack_ServesTheSidecarsOfDaprsCLI(t *testing.T) {
	runFile := testFolder(t)
	folder := filepath.Dir(runFile)
	s := stacktest.Start(t, stack.Options{
		RunFile: runFile, Folder: folder, Apps: []string{}, Infra: []string{stack.Servers, stack.Sentry, stack.Placement, stack.Scheduler},
	})
	ports := make([]int, 4)
	for i := range ports {
		ports[i] = stacktest.FreePort(t)
	}
	start := func(environment string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", fmt.Sprintf(environment+` exec .build/runtime daprd --app-id tickets --dapr-http-port %d --dapr-grpc-port %d --dapr-internal-grpc-port %d \
			--metrics-port %d --dapr-listen-addresses 127.0.0.1 --config components/embedded/config.yaml --resources-path components/embedded --resources-path components/events --log-level warn \
			--enable-mtls --sentry-address %s --placement-host-address %s --scheduler-host-address %s`,
			ports[0], ports[1], ports[2], ports[3], s.SentryAddress(), s.PlacementAddress(), s.SchedulerAddress()))
		output := &bytes.Buffer{}
		cmd.Dir, cmd.Stdout, cmd.Stderr = folder, output, output
		require.NoError(t, cmd.Start())
		return cmd, output
	}
	get := func(path, token string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", ports[0], path), nil)
		require.NoError(t, err)
		request.Header.Set("dapr-api-token", token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0
		}
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}

	// Without what stands in .state/env it does not start.
	bare, output := start("")
	require.Error(t, bare.Wait())
	require.Contains(t, output.String(), "trust anchors are required")

	sidecar, output := start(`set -a; . .state/env; set +a; export DAPR_SENTRY_TOKEN_FILE=.state/identities/apps/tickets/token;`)
	t.Cleanup(func() {
		_ = sidecar.Process.Signal(syscall.SIGKILL)
		_ = sidecar.Wait()
	})
	require.Eventually(t, func() bool { return get("/v1.0/healthz", "") == http.StatusNoContent }, 20*time.Second, 50*time.Millisecond, "%v", output)
	require.Equal(t, http.StatusUnauthorized, get("/v1.0/metadata", ""))
	token, err := stack.SidecarTokenIn(folder, "tickets")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, get("/v1.0/metadata", token))
	env, err := os.ReadFile(filepath.Join(folder, stack.StateFolder, "env"))
	require.NoError(t, err)
	require.True(t, strings.Contains(string(env), "DAPR_API_TOKEN="+token+"\n"), "the CLI gives all apps one token")

	conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", ports[2]), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = internalpb.NewServiceInvocationClient(conn).CallLocal(ctx, &internalpb.InternalInvokeRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
}
