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

// The secrets of a stack are made at its first start and kept with its state. secrets.json, which the secret store reads, contains the
// key that signs sessions; env contains what processes get through their environment.
const (
	secretsFile = "secrets.json"
	envFile     = "env"
)

// ensureSecrets makes what is missing in the state folder and returns the variables of its env file.
func ensureSecrets(state string) (map[string]string, error) {
	if err := ensureFile(filepath.Join(state, secretsFile), newSecretsFile); err != nil {
		return nil, err
	}
	path := filepath.Join(state, envFile)
	if err := ensureFile(path, func() ([]byte, error) { return []byte(envHead), nil }); err != nil {
		return nil, err
	}
	if err := completeEnv(path); err != nil {
		return nil, err
	}
	return readEnv(path)
}

// ensureFile writes a file if there is none, whole or not at all.
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

// SigningKey is the name of the secret with the keys that sign sessions.
const SigningKey = "jwt-signing-key"

// NewSigningKey makes a key that signs sessions: Ed25519, as PKCS #8 in PEM.
func NewSigningKey() (*pem.Block, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, nil
}

func newSecretsFile() ([]byte, error) {
	key, err := NewSigningKey()
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(map[string]string{SigningKey: string(pem.EncodeToMemory(key))}, "", "  ")
}

const envHead = "# Made at the first start. For dapr run -f . : set -a; . .state/env; set +a\n"

// completeEnv adds the variables that an env file lacks: it is new, or an earlier release made it.
func completeEnv(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var missing []byte
	if !bytes.HasSuffix(text, []byte("\n")) {
		missing = []byte("\n")
	}
	complete := true
	for _, variable := range []struct{ name, value string }{
		{"APP_API_TOKEN", randomText()},
		{"DAPR_API_TOKEN", randomText()},
		{"STRIPE_WEBHOOK_SECRET", "whsec_" + randomText()},
		// For Dapr's CLI. The certificate may be renewed, so this is a command that reads it.
		{"DAPR_TRUST_ANCHORS", fmt.Sprintf(`"$(cat %s)"`, filepath.Join(StateFolder, identitiesFolder, "sentry", "ca.crt"))},
	} {
		if !bytes.Contains(append([]byte("\n"), text...), []byte("\n"+variable.name+"=")) {
			missing, complete = append(missing, variable.name+"="+variable.value+"\n"...), false
		}
	}
	if complete {
		return nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(missing)
	return errors.Join(err, file.Close())
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
		if strings.Contains(value, "$(") {
			continue // for a shell
		}
		env[name] = strings.Trim(value, `'"`)
	}
	return env, nil
}
