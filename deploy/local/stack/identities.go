package stack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"gopkg.in/yaml.v3"
)

// With mTLS sentry issues a certificate to each sidecar, to placement and to the scheduler. Each shows sentry a token of its
// own (deploy/runtime/identities.go). Tokens and sentry's authority are made at the first start and kept in the state folder.
const (
	identitiesFolder = "identities"
	// namespace is Dapr's default without Kubernetes.
	namespace = "default"
)

// readMTLS reports whether a Configuration asks for mTLS. Dapr's CLI reads the same setting.
func readMTLS(path string) (bool, error) {
	var configuration struct {
		Spec struct {
			MTLS struct{ Enabled bool } `yaml:"mtls"`
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if err := yaml.Unmarshal(text, &configuration); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return configuration.Spec.MTLS.Enabled, nil
}

// ensureIdentities makes the identities that are missing, and renews those that end soon.
func ensureIdentities(l *layout) error {
	args := []string{"identities", "--folder", filepath.Join(l.state, identitiesFolder)}
	for _, id := range l.appIDs() {
		args = append(args, "--app", id)
	}
	if output, err := exec.Command(l.runtime, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("make the identities of sidecars: %w: %s", err, output)
	}
	return nil
}

func sentryFolder(state string) string { return filepath.Join(state, identitiesFolder, "sentry") }

func (l *layout) identityFolder(id string) string {
	return filepath.Join(l.state, identitiesFolder, "apps", id)
}

// identify adds to a process's environment the token that it shows to sentry, and the certificate by which it recognizes sentry.
// The name is an app's id, or that of a part of the control plane.
func (p *plan) identify(env map[string]string, name string) {
	for _, variable := range []string{"DAPR_SENTRY_TOKEN_FILE", "DAPR_TRUST_ANCHORS"} {
		delete(env, variable) // the launcher's environment may have those of another stack
	}
	if !p.mtls {
		return
	}
	env["NAMESPACE"] = namespace
	switch name {
	case Sentry:
		return
	case Placement, Scheduler:
		name = "dapr-" + name
	}
	env["DAPR_TRUST_ANCHORS"], env["DAPR_SENTRY_TOKEN_FILE"] = p.anchors, filepath.Join(p.identityFolder(name), "token")
}

// Identity is the folder with an app's token for sentry (token) and the authority's certificate (ca.crt).
func (s *Stack) Identity(app string) string { return s.plan.identityFolder(app) }

// Tokens: a sidecar accepts calls of its API only with DAPR_API_TOKEN, and an app accepts calls of its sidecar only with
// APP_API_TOKEN. Each app has two tokens of its own, derived from those in .state/env, so that the token of one app opens no
// other. Dapr's CLI gives all apps those of .state/env.
const tokensFolder = "tokens"

var tokenVariables = []string{"DAPR_API_TOKEN", "APP_API_TOKEN"}

// setTokens replaces the tokens in an environment by those of an app.
func (p *plan) setTokens(env map[string]string, app string) {
	for _, name := range tokenVariables {
		env[name] = p.token(name, app)
	}
}

func (p *plan) token(name, app string) string {
	key := p.environment(nil)[name]
	if key == "" || p.forCLI() {
		return key
	}
	sum := hmac.New(sha256.New, []byte(key))
	sum.Write([]byte(app))
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

// forCLI reports whether Dapr's CLI starts the apps.
func (l *layout) forCLI() bool { return len(l.started) == 0 }

// SidecarToken is the token that the sidecar of an app accepts, in the header or gRPC metadata dapr-api-token.
func (s *Stack) SidecarToken(app string) string {
	return s.plan.token("DAPR_API_TOKEN", s.plan.app(app).ID)
}

// AppToken is the token that an app accepts from its sidecar.
func (s *Stack) AppToken(app string) string {
	return s.plan.token("APP_API_TOKEN", s.plan.app(app).ID)
}

// tokenFiles are the tokens of the sidecars, for administrators (SidecarTokenIn).
func (p *plan) tokenFiles() []file {
	var files []file
	for _, id := range p.appIDs() {
		files = append(files, file{filepath.Join(p.state, tokensFolder, id), p.token("DAPR_API_TOKEN", id)})
	}
	return files
}

// SidecarTokenIn is the token of an app's sidecar in a stack that runs in another process, in that folder.
func SidecarTokenIn(folder, app string) (string, error) {
	text, err := os.ReadFile(filepath.Join(folder, StateFolder, tokensFolder, app))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // an earlier release had none
	}
	return string(text), err
}
