package contracts

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The example verifies what the document promises of a code, and nothing else. The end-to-end tests run it with a real pass.
func TestVerifyPass_AcceptsPassesOfItsShowAlone(t *testing.T) {
	for _, program := range []string{"python3", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("there is no " + program)
		}
	}
	encode := base64.RawURLEncoding.EncodeToString
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	code := func(key ed25519.PrivateKey, header, claims string) string {
		text := encode([]byte(header)) + "." + encode([]byte(claims))
		return text + "." + encode(ed25519.Sign(key, []byte(text)))
	}
	const (
		header = `{"alg":"EdDSA","typ":"pass+jwt","kid":"k1"}`
		claims = `{"iss":"boxoffice/orders","aud":"boxoffice/checkin","order":"order-1","ticket":"ticket-1","show":"show-1","iat":1795746047}`
	)
	changed := func(text, from, to string) string {
		require.Contains(t, text, from)
		return strings.Replace(text, from, to, 1)
	}
	valid := code(private, header, claims)
	parts := strings.Split(valid, ".")
	lines := []struct{ code, output string }{
		{valid, "valid order-1"},
		{valid, "refused: it was used"},
		{code(private, header, changed(claims, "order-1", "order-2")), "valid order-2"},
		{code(private, header, changed(claims, "show-1", "show-2")), "refused: it is for another show"},
		{code(private, header, changed(claims, "boxoffice/checkin", "boxoffice/other")), "refused: it is another kind of token"},
		{code(private, header, changed(claims, "boxoffice/orders", "boxoffice/auth")), "refused: it is another kind of token"},
		{code(private, changed(header, "pass+jwt", "JWT"), claims), "refused: it is another kind of token"},
		{code(private, changed(header, "EdDSA", "none"), claims), "refused: it is another kind of token"},
		{code(private, changed(header, "k1", "k2"), claims), "refused: its key is not in the key set"},
		{code(other, header, claims), "refused: its signature is wrong"},
		{parts[0] + "." + encode([]byte(changed(claims, "order-1", "order-3"))) + "." + parts[2], "refused: its signature is wrong"},
		{parts[0] + "." + parts[1] + ".", "refused: its signature is wrong"},
		{"nonsense", "refused: it is no code"},
		{"a.b.c", "refused: it is no code"},
		{encode([]byte("[]")) + "." + parts[1] + "." + parts[2], "refused: it is no code"},
	}
	keys, err := json.Marshal(map[string]any{"keys": []any{map[string]string{"kty": "OKP", "crv": "Ed25519", "x": encode(public), "kid": "k1", "use": "sig", "alg": "EdDSA"}}})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(file, keys, 0o600))
	var input, want strings.Builder
	for _, line := range lines {
		input.WriteString(line.code + "\n")
		want.WriteString(line.output + "\n")
	}

	program := exec.CommandContext(t.Context(), "python3", "verify_pass.py", file, "show-1")
	program.Stdin = strings.NewReader(input.String())
	output, err := program.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Equal(t, want.String(), string(output))
}
