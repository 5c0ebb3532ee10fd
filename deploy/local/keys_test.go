package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"boxoffice/deploy/local/stack"

	"github.com/stretchr/testify/require"
)

// secretsWith is a folder of secrets in which an app's file has a new signing key.
func secretsWith(t *testing.T, app string) (folder string, key *pem.Block) {
	t.Helper()
	ring := &keyRing{name: stack.SigningKeys[app], secrets: map[string]string{"other": "kept"}}
	ring.blocks = []*pem.Block{{}}
	_, err := ring.addNext()
	require.NoError(t, err)
	ring.blocks = ring.blocks[1:]
	folder = t.TempDir()
	require.NoError(t, ring.write(stack.SecretsFile(folder, app)))
	return folder, ring.blocks[0]
}

func blocksOf(t *testing.T, folder, app string) []*pem.Block {
	t.Helper()
	ring, err := readKeys(stack.SecretsFile(folder, app), stack.SigningKeys[app])
	require.NoError(t, err)
	require.Equal(t, "kept", ring.secrets["other"])
	return ring.blocks
}

func TestRotateKeys_WithoutAStackTheNewKeySignsAtOnce(t *testing.T) {
	folder, old := secretsWith(t, "auth")
	rotate := func(more ...string) {
		args := append([]string{"-secrets", folder, "-key", "jwt-signing-key", "-url", "http://127.0.0.1:1"}, more...)
		require.NoError(t, rotateKeys(t.Context(), args))
	}

	rotate()

	blocks := blocksOf(t, folder, "auth")
	require.Len(t, blocks, 2)
	require.Equal(t, privateKey, blocks[0].Type)
	require.NotEqual(t, old.Bytes, blocks[0].Bytes)
	require.Equal(t, publicKey, blocks[1].Type)
	end, err := time.Parse(time.RFC3339, blocks[1].Headers["Expires"])
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour+servedLonger), end, time.Minute)
	found, err := os.Stat(stack.SecretsFile(folder, "auth"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), found.Mode().Perm())

	rotate("-lifetime", "-1h")
	require.Len(t, blocksOf(t, folder, "auth"), 3)
	rotate()
	require.Len(t, blocksOf(t, folder, "auth"), 3, "what has expired is dropped")
}

// Passes do not expire, and people have printed them.
func TestRotateKeys_OldKeysOfPassesAreServedWithoutAnEnd(t *testing.T) {
	folder, _ := secretsWith(t, "orders")
	for range 3 {
		require.NoError(t, rotateKeys(t.Context(), []string{"-secrets", folder, "-key", "pass-signing-key", "-url", "http://127.0.0.1:1", "-lifetime", "-1h"}))
	}
	blocks := blocksOf(t, folder, "orders")
	require.Len(t, blocks, 4)
	for _, block := range blocks[1:] {
		require.Equal(t, publicKey, block.Type)
		require.Empty(t, block.Headers)
	}
}

func TestRotateKeys_TheOldKeySignsUntilItsServiceServesTheNewOne(t *testing.T) {
	for _, one := range signers {
		t.Run(one.app, func(t *testing.T) {
			folder, old := secretsWith(t, one.app)
			served := ed25519.PublicKey("another key, of 32 bytes as all are")[:32]
			gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				key := ed25519.PublicKey("the other service's key, 32 bytes")[:32]
				if r.URL.Path == one.keySet {
					key = served
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{"x": base64.RawURLEncoding.EncodeToString(key)}}})
			}))
			defer gateway.Close()
			rotate := func() error {
				return rotateKeys(t.Context(), []string{"-secrets", folder, "-key", one.secret(), "-url", gateway.URL, "-wait", "1ms"})
			}

			require.ErrorContains(t, rotate(), one.app+" does not serve the new key; the old one still signs")
			blocks := blocksOf(t, folder, one.app)
			require.Len(t, blocks, 2)
			require.Equal(t, old.Bytes, blocks[0].Bytes)
			next, err := publicOf(blocks[1])
			require.NoError(t, err)

			served = next
			require.NoError(t, rotate())
			require.Equal(t, blocks[1].Bytes, blocksOf(t, folder, one.app)[0].Bytes, "the key of the interrupted run signs now")
			require.Len(t, blocksOf(t, folder, one.app), 2)
		})
	}
}

func TestRotateKeys_ReplacesBothKeysIfNoneIsNamed(t *testing.T) {
	folder, token := secretsWith(t, "auth")
	passes, pass := secretsWith(t, "orders")
	require.NoError(t, os.Rename(stack.SecretsFile(passes, "orders"), stack.SecretsFile(folder, "orders")))

	require.NoError(t, rotateKeys(t.Context(), []string{"-secrets", folder, "-url", "http://127.0.0.1:1"}))

	require.NotEqual(t, token.Bytes, blocksOf(t, folder, "auth")[0].Bytes)
	require.NotEqual(t, pass.Bytes, blocksOf(t, folder, "orders")[0].Bytes)
}

func TestRotateKeys_ExplainsErrors(t *testing.T) {
	folder := t.TempDir()
	require.ErrorContains(t, rotateKeys(t.Context(), []string{"-secrets", folder}), "read the secrets")
	path := stack.SecretsFile(folder, "auth")
	for _, text := range []string{`{`, `{}`, `{"jwt-signing-key":"x"}`} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.ErrorContains(t, rotateKeys(t.Context(), []string{"-secrets", folder}), path)
	}
	require.ErrorContains(t, rotateKeys(t.Context(), []string{"-key", "stripe"}), "jwt-signing-key, pass-signing-key or all")
	t.Setenv("TOKEN_LIFETIME", "soon")
	require.ErrorContains(t, rotateKeys(t.Context(), nil), "TOKEN_LIFETIME")
}
