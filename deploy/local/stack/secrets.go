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

// The secrets of a stack are made at its first start and kept with its state. The folder secrets has a file for each app with a secret
// of its own, which only the secret store of that app's sidecar reads; env contains what processes get through their environment.
const (
	secretsFolder = "secrets"
	envFile       = "env"
	// earlierSecrets is the file of the previous release, with auth's key.
	earlierSecrets = "secrets.json"
)

// SigningKeys names the secret of each app that signs: auth signs tokens, orders signs passes. Nobody else can read it.
var SigningKeys = map[string]string{"auth": "jwt-signing-key", "orders": "pass-signing-key"}

// SecretsFolder is the folder with the files of secrets, in a state folder.
func SecretsFolder(state string) string { return filepath.Join(state, secretsFolder) }

// SecretsFile is an app's file in a folder of secrets.
func SecretsFile(folder, app string) string { return filepath.Join(folder, app+".json") }

// ensureSecrets makes what is missing in the state folder and returns the variables of its env file.
func ensureSecrets(state string) (map[string]string, error) {
	if err := ensureSigningKeys(state); err != nil {
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

// ensureSigningKeys makes the keys that are missing. Auth's key may be in the file of the previous release, which stays for it.
func ensureSigningKeys(state string) error {
	if err := os.MkdirAll(SecretsFolder(state), 0o700); err != nil {
		return err
	}
	for app, name := range SigningKeys {
		err := ensureFile(SecretsFile(SecretsFolder(state), app), func() ([]byte, error) {
			if app == "auth" {
				text, err := os.ReadFile(filepath.Join(state, earlierSecrets))
				if !errors.Is(err, fs.ErrNotExist) {
					return text, err
				}
			}
			return newSecretsFile(name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// NewSigningKey makes a key that signs: Ed25519, as PKCS #8 in PEM.
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

func newSecretsFile(name string) ([]byte, error) {
	key, err := NewSigningKey()
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(map[string]string{name: string(pem.EncodeToMemory(key))}, "", "  ")
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
