package stack

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The secrets of a stack are made at its first start and kept with its state: the key that signs sign-ins in
// secrets.json, where the secret store reads it, and in env what processes get through their environment.
const (
	secretsFile = "secrets.json"
	envFile     = "env"
)

// ensureSecrets makes what is missing in the state folder and returns the variables of its env file.
func ensureSecrets(state string) (map[string]string, error) {
	if err := ensureFile(filepath.Join(state, secretsFile), newSigningKey); err != nil {
		return nil, err
	}
	path := filepath.Join(state, envFile)
	if err := ensureFile(path, newEnv); err != nil {
		return nil, err
	}
	return readEnv(path)
}

// ensureFile leaves a file alone that is there. A new one appears whole or not at all.
func ensureFile(path string, content func() ([]byte, error)) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := content()
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	partial := path + ".new"
	if err := os.WriteFile(partial, text, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, path)
}

func newSigningKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return json.MarshalIndent(map[string]string{"jwt-signing-key": string(block)}, "", "  ")
}

func newEnv() ([]byte, error) {
	return fmt.Appendf(nil, `# Made at the first start. For dapr run -f . : set -a; . .state/env; set +a
APP_API_TOKEN=%s
STRIPE_WEBHOOK_SECRET=whsec_%s
`, randomText(), randomText()), nil
}

func randomText() string {
	var bits [24]byte
	_, _ = rand.Read(bits[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(bits[:])
}

func readEnv(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if !found {
			return nil, fmt.Errorf("%s: %q is not NAME=value", path, line)
		}
		env[name] = strings.Trim(value, `'"`)
	}
	return env, nil
}
