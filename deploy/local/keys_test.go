package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// secretsWith is a file of secrets with a new signing key in it.
func secretsWith(t *testing.T) (path string, key *pem.Block) {
	t.Helper()
	ring := &keyRing{secrets: map[string]string{"other": "kept"}}
	ring.blocks = []*pem.Block{{}}
	_, err := ring.addNext()
	require.NoError(t, err)
	ring.blocks = ring.blocks[1:]
	path = filepath.Join(t.TempDir(), "secrets.json")
	require.NoError(t, ring.write(path))
	return path, ring.blocks[0]
}

func blocksOf(t *testing.T, path string) []*pem.Block {
	t.Helper()
	ring, err := readKeys(path)
	require.NoError(t, err)
	require.Equal(t, "kept", ring.secrets["other"])
	return ring.blocks
}

func TestRotateKeys_WithoutAStackTheNewKeySignsAtOnce(t *testing.T) {
	path, old := secretsWith(t)

	require.NoError(t, rotateKeys(t.Context(), []string{"-secrets", path, "-url", "http://127.0.0.1:1"}))

	blocks := blocksOf(t, path)
	require.Len(t, blocks, 2)
	require.Equal(t, privateKey, blocks[0].Type)
	require.NotEqual(t, old.Bytes, blocks[0].Bytes)
	require.Equal(t, publicKey, blocks[1].Type)
	end, err := time.Parse(time.RFC3339, blocks[1].Headers["Expires"])
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour+servedLonger), end, time.Minute)
	found, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), found.Mode().Perm())

	require.NoError(t, rotateKeys(t.Context(), []string{"-secrets", path, "-url", "http://127.0.0.1:1", "-lifetime", "-1h"}))
	require.Len(t, blocksOf(t, path), 3)
	require.NoError(t, rotateKeys(t.Context(), []string{"-secrets", path, "-url", "http://127.0.0.1:1"}))
	require.Len(t, blocksOf(t, path), 3, "what has expired is dropped")
}

func TestRotateKeys_TheOldKeySignsUntilAuthServesTheNewOne(t *testing.T) {
	path, old := secretsWith(t)
	served := ed25519.PublicKey("another key, of 32 bytes as all are")[:32]
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{"x": base64.RawURLEncoding.EncodeToString(served)}}})
	}))
	defer auth.Close()
	rotate := func() error {
		return rotateKeys(t.Context(), []string{"-secrets", path, "-url", auth.URL, "-wait", "1ms"})
	}

	require.ErrorContains(t, rotate(), "the old one still signs")
	blocks := blocksOf(t, path)
	require.Len(t, blocks, 2)
	require.Equal(t, old.Bytes, blocks[0].Bytes)
	next, err := publicOf(blocks[1])
	require.NoError(t, err)

	served = next
	require.NoError(t, rotate())
	require.Equal(t, blocks[1].Bytes, blocksOf(t, path)[0].Bytes, "the key of the interrupted run signs now")
	require.Len(t, blocksOf(t, path), 2)
}

func TestRotateKeys_ExplainsErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.json")
	require.ErrorContains(t, rotateKeys(t.Context(), []string{"-secrets", path}), "read the secrets")
	for _, text := range []string{`{`, `{}`, `{"jwt-signing-key":"x"}`} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.ErrorContains(t, rotateKeys(t.Context(), []string{"-secrets", path}), path)
	}
	t.Setenv("TOKEN_LIFETIME", "soon")
	require.ErrorContains(t, rotateKeys(t.Context(), nil), "TOKEN_LIFETIME")
}
