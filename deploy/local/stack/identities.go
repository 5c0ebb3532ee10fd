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
	"slices"

	"gopkg.in/yaml.v3"
)

// With mTLS each sidecar, placement and the scheduler have a certificate of sentry's, for which they show it a token of their
// own (deploy/runtime/identities.go). What sentry and they need is in the state folder, made at the first start.
const (
	identitiesFolder = "identities"
	// namespace is that of all, as Dapr has it without Kubernetes.
	namespace = "default"
)

// mtlsConfigured is whether a Configuration asks for mTLS. Dapr's CLI looks there, too.
func mtlsConfigured(path string) (bool, error) {
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

// chooseIdentities decides on mTLS: if the Configuration asks for it, and placement and scheduler are ours. A sidecar alone has
// nobody to talk to.
func (s *Stack) chooseIdentities(run *RunFile) error {
	if run.Apps[0].ConfigFile == "" {
		s.infra = slices.DeleteFunc(s.infra, func(name string) bool { return name == Sentry })
		return nil
	}
	wanted, err := mtlsConfigured(run.Apps[0].ConfigFile)
	if err != nil {
		return err
	}
	s.mtlsWanted = wanted
	if needed := s.has(Sentry) || s.has(Placement) || s.has(Scheduler); !wanted || !needed {
		s.infra = slices.DeleteFunc(s.infra, func(name string) bool { return name == Sentry })
		return nil
	}
	s.mtls = true
	if !s.has(Sentry) {
		s.infra = append([]string{Sentry}, s.infra...)
	}
	return nil
}

// makeIdentities makes those that are missing, and renews them in time.
func (s *Stack) makeIdentities() error {
	if !s.mtls {
		return nil
	}
	args := []string{"identities", "--folder", filepath.Join(s.state, identitiesFolder)}
	for _, id := range s.appIDs() {
		args = append(args, "--app", id)
	}
	if output, err := exec.Command(s.runtime, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("make the identities of sidecars: %w: %s", err, output)
	}
	return nil
}

// identity adds to a process's environment what it shows to sentry, and how it knows sentry.
func (s *Stack) identity(env map[string]string, id string) error {
	for _, name := range []string{"DAPR_SENTRY_TOKEN_FILE", "DAPR_TRUST_ANCHORS"} {
		delete(env, name) // of another stack
	}
	if !s.mtls {
		return nil
	}
	env["NAMESPACE"] = namespace
	if id == "dapr-sentry" {
		return nil
	}
	folder := s.Identity(id)
	anchors, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return err
	}
	env["DAPR_TRUST_ANCHORS"], env["DAPR_SENTRY_TOKEN_FILE"] = string(anchors), filepath.Join(folder, "token")
	return nil
}

// Identity is the folder with an app's token for sentry (token) and the authority's certificate (ca.crt).
func (s *Stack) Identity(app string) string {
	return filepath.Join(s.state, identitiesFolder, "apps", app)
}

// SentryAddress is where sentry listens (host:port).
func (s *Stack) SentryAddress() string { return local(s.ports.Sentry) }

// PlacementAddress and SchedulerAddress are where these listen (host:port).
func (s *Stack) PlacementAddress() string { return local(s.ports.Placement) }
func (s *Stack) SchedulerAddress() string { return local(s.ports.Scheduler) }

// Tokens: a sidecar takes calls of its API only with DAPR_API_TOKEN, an app those of its sidecar with APP_API_TOKEN. Here each
// app has its own two, made from those in .state/env, so that what one app is given opens no other. Dapr's CLI gives all apps
// those of .state/env.
const tokensFolder = "tokens"

var tokenVariables = []string{"DAPR_API_TOKEN", "APP_API_TOKEN"}

// tokens replaces the tokens in an environment by those of an app.
func (s *Stack) tokens(env map[string]string, app string) {
	for _, name := range tokenVariables {
		env[name] = s.token(name, app)
	}
}

func (s *Stack) token(name, app string) string {
	key := s.environment(nil)[name]
	if key == "" || s.forCLI() {
		return key
	}
	sum := hmac.New(sha256.New, []byte(key))
	sum.Write([]byte(app))
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

// forCLI is whether the apps are not ours but those of Dapr's CLI.
func (s *Stack) forCLI() bool { return len(s.chosen) == 0 }

// APIToken is what the sidecar of an app (by its id) wants to be shown, in the header or gRPC metadata dapr-api-token.
func (s *Stack) APIToken(app string) string { return s.token("DAPR_API_TOKEN", s.app(app).ID) }

// AppToken is what an app wants its sidecar to show.
func (s *Stack) AppToken(app string) string { return s.token("APP_API_TOKEN", s.app(app).ID) }

// writeTokens leaves the sidecars' tokens where those who administer the stack find them (APITokenIn).
func (s *Stack) writeTokens() error {
	folder := filepath.Join(s.state, tokensFolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for _, id := range s.appIDs() {
		if err := os.WriteFile(filepath.Join(folder, id), []byte(s.token("DAPR_API_TOKEN", id)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// APITokenIn is the token of an app's sidecar in a stack that runs in another process: in that folder.
func APITokenIn(folder, app string) (string, error) {
	text, err := os.ReadFile(filepath.Join(folder, StateFolder, tokensFolder, app))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // of a release before, which had none
	}
	return string(text), err
}
