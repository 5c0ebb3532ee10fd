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

func TestEnsureSecrets_KeepsTheKeyOfThePreviousRelease(t *testing.T) {
	state := t.TempDir()
	earlier := []byte(`{"jwt-signing-key":"of the previous release"}`)
	require.NoError(t, os.WriteFile(filepath.Join(state, earlierSecrets), earlier, 0o600))

	_, err := ensureSecrets(state)
	require.NoError(t, err)

	auth, err := os.ReadFile(SecretsFile(SecretsFolder(state), "auth"))
	require.NoError(t, err)
	require.Equal(t, string(earlier), string(auth))
	orders, err := os.ReadFile(SecretsFile(SecretsFolder(state), "orders"))
	require.NoError(t, err)
	require.Contains(t, string(orders), "pass-signing-key")
	require.NotContains(t, string(orders), "jwt-signing-key")
	require.FileExists(t, filepath.Join(state, earlierSecrets), "the previous release reads it if somebody goes back")

	// From then on the file of the previous release has no effect.
	require.NoError(t, os.WriteFile(filepath.Join(state, earlierSecrets), []byte(`{}`), 0o600))
	_, err = ensureSecrets(state)
	require.NoError(t, err)
	again, err := os.ReadFile(SecretsFile(SecretsFolder(state), "auth"))
	require.NoError(t, err)
	require.Equal(t, string(earlier), string(again))
}
