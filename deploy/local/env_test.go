package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

func TestEnv_HasThePortsTheTokenAndTheEnvironmentOfAnApp(t *testing.T) {
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	text, err := os.ReadFile(runFile)
	require.NoError(t, err)
	folder := t.TempDir()
	file := filepath.Join(folder, "dapr.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	require.NoError(t, os.Symlink(filepath.Join(filepath.Dir(runFile), "components"), filepath.Join(folder, "components")))
	tokens := filepath.Join(folder, stack.StateFolder, "tokens")
	require.NoError(t, os.MkdirAll(tokens, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(tokens, "orders"), []byte("secret"), 0o600))
	t.Setenv("PORT", "")
	t.Setenv("AUTH_URL", "http://mine")

	variables, err := appVariables(file, "orders")

	require.NoError(t, err)
	require.Equal(t, "secret", variables["DAPR_API_TOKEN"])
	require.Equal(t, "8203", variables["APP_PORT"])
	require.Equal(t, "3603", variables["DAPR_GRPC_PORT"])
	require.Equal(t, "8103", variables["PORT"])
	require.NotContains(t, variables, "AUTH_URL", "it is set already")
	_, err = appVariables(file, "pigeons")
	require.ErrorContains(t, err, `has no app "pigeons"`)
	require.ErrorContains(t, env(nil), "name one app")
}
