package stack

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEnsureSecrets_CompletesTheEnvFileOfAnEarlierRelease(t *testing.T) {
	folder := t.TempDir()
	state := filepath.Join(folder, StateFolder)
	require.NoError(t, os.Mkdir(state, 0o700))
	path := filepath.Join(state, envFile)
	require.NoError(t, os.WriteFile(path, []byte("# mine\nAPP_API_TOKEN=0123456789abcdef\nSTRIPE_WEBHOOK_SECRET=whsec_mine"), 0o600))

	first, err := ensureSecrets(state)
	require.NoError(t, err)
	second, err := ensureSecrets(state)
	require.NoError(t, err)

	require.Equal(t, "0123456789abcdef", first["APP_API_TOKEN"])
	require.Equal(t, "whsec_mine", first["STRIPE_WEBHOOK_SECRET"])
	require.Len(t, first["DAPR_API_TOKEN"], 32)
	require.Equal(t, first, second)
	require.NotContains(t, first, "DAPR_TRUST_ANCHORS", "which is for a shell")

	certificate := filepath.Join(state, identitiesFolder, "sentry", "ca.crt")
	require.NoError(t, os.MkdirAll(filepath.Dir(certificate), 0o700))
	require.NoError(t, os.WriteFile(certificate, []byte("two\nlines\n"), 0o600))
	shell := exec.Command("sh", "-c", `set -a; . .state/env; set +a; env | grep -A1 TRUST; echo "$DAPR_API_TOKEN"`)
	shell.Dir = folder
	out, err := shell.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "DAPR_TRUST_ANCHORS=two\nlines\n"+first["DAPR_API_TOKEN"]+"\n", string(out))
}
