package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dapr/dapr/pkg/sentry/server/ca/bundle"
)

// Identities outside Kubernetes: what sentry needs, and a token for each program that asks it for a certificate. Kubernetes
// has service accounts for that. The folder holds
//
//	sentry/      ca.crt, issuer.crt, issuer.key, config.yaml: of sentry alone (--issuer-credentials, --config)
//	apps/ID/     token (DAPR_SENTRY_TOKEN_FILE) and ca.crt (its text is DAPR_TRUST_ANCHORS): of the app ID alone
//	signing.key  signs tokens; no running program needs it
//
// The control plane's apps are dapr-placement and dapr-scheduler. A token lets its holder have certificates of that app,
// for as long as sentry runs with this folder, so it is as secret as a password.
type identities struct {
	folder    string
	namespace string // of apps and control plane
	// domain is the trust domain of the control plane. That of apps is what Dapr gives those whose Configuration names none.
	domain string
	now    time.Time
}

const (
	appDomain = "public"
	// An authority serves for authorityTime. In its last renewTime the next start makes another, and everything else anew.
	authorityTime = 5 * 365 * 24 * time.Hour
	renewTime     = 365 * 24 * time.Hour
	clockSkew     = 15 * time.Minute
)

// controlPlane are the programs that ask sentry for certificates beside the apps.
var controlPlane = []string{"dapr-placement", "dapr-scheduler"}

var appID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

func runIdentities(args []string) error {
	ids := identities{now: time.Now()}
	var apps []string
	flags := flag.NewFlagSet("identities", flag.ExitOnError)
	flags.StringVar(&ids.folder, "folder", "", "the `folder` to make, or to complete")
	flags.StringVar(&ids.namespace, "namespace", "default", "Dapr's `namespace` of all programs (NAMESPACE in their environment)")
	flags.StringVar(&ids.domain, "trust-domain", "localhost", "the control plane's trust `domain`")
	flags.Func("app", "the `id` of an app; give it once an app", func(id string) error {
		apps = append(apps, id)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if ids.folder == "" || flags.NArg() > 0 {
		return errors.New("usage: identities --folder FOLDER --app ID --app ID …")
	}
	return ids.make(append(apps, controlPlane...))
}

// make makes what is missing, what belongs to another authority, and what ends soon; it changes nothing else. Apps of
// earlier calls keep their identities.
func (ids *identities) make(apps []string) error {
	for _, id := range apps {
		if !appID.MatchString(id) {
			return fmt.Errorf("%q is not the id of an app", id)
		}
	}
	if err := os.MkdirAll(filepath.Join(ids.folder, "sentry"), 0o700); err != nil {
		return err
	}
	until, authority, err := ids.authority()
	if err != nil {
		return err
	}
	key, err := ids.signingKey()
	if err != nil {
		return err
	}
	if err := ids.configure(key); err != nil {
		return err
	}
	before, err := os.ReadDir(filepath.Join(ids.folder, "apps"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range before {
		apps = append(apps, entry.Name())
	}
	for _, id := range apps {
		folder := filepath.Join(ids.folder, "apps", id)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		token, err := ids.token(id, key, until)
		if err != nil {
			return err
		}
		if err := errors.Join(replace(filepath.Join(folder, "token"), token), replace(filepath.Join(folder, "ca.crt"), authority)); err != nil {
			return err
		}
	}
	return nil
}

// authority returns the certificate of the authority, PEM, and when it ends.
func (ids *identities) authority() (until time.Time, certificate []byte, err error) {
	folder := filepath.Join(ids.folder, "sentry")
	read := func(name string) []byte {
		text, readErr := os.ReadFile(filepath.Join(folder, name))
		if readErr != nil && !errors.Is(readErr, fs.ErrNotExist) {
			err = errors.Join(err, readErr)
		}
		return text
	}
	root, issuer, key := read("ca.crt"), read("issuer.crt"), read("issuer.key")
	if err != nil {
		return until, nil, err
	}
	if until, ok := lasting(root, issuer, key, ids.now.Add(renewTime)); ok {
		return until, root, nil
	}
	_, rootKey, err := ed25519.GenerateKey(rand.Reader) // it signs the issuer and is forgotten
	if err != nil {
		return until, nil, err
	}
	ttl := authorityTime
	made, err := bundle.GenerateX509(bundle.OptionsX509{X509RootKey: rootKey, TrustDomain: ids.domain, AllowedClockSkew: clockSkew, OverrideCATTL: &ttl})
	if err != nil {
		return until, nil, fmt.Errorf("make an authority: %w", err)
	}
	if err := errors.Join(
		replace(filepath.Join(folder, "issuer.key"), made.IssKeyPEM),
		replace(filepath.Join(folder, "issuer.crt"), made.IssChainPEM),
		replace(filepath.Join(folder, "ca.crt"), made.TrustAnchors),
	); err != nil {
		return until, nil, err
	}
	return made.IssChain[0].NotAfter, made.TrustAnchors, nil
}

// lasting is whether an authority and its issuer belong together and are good at a time; and when the issuer ends.
func lasting(root, issuer, key []byte, at time.Time) (until time.Time, ok bool) {
	pool := x509.NewCertPool()
	block, _ := pem.Decode(issuer)
	if !pool.AppendCertsFromPEM(root) || block == nil {
		return until, false
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return until, false
	}
	if _, err := certificate.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return until, false
	}
	block, _ = pem.Decode(key)
	if block == nil {
		return until, false
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return until, false
	}
	signer, _ := private.(ed25519.PrivateKey)
	return certificate.NotAfter, signer != nil && signer.Public().(ed25519.PublicKey).Equal(certificate.PublicKey)
}

// signingKey is the key that signs tokens.
func (ids *identities) signingKey() (ed25519.PrivateKey, error) {
	path := filepath.Join(ids.folder, "signing.key")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(text) == ed25519.SeedSize {
		return ed25519.NewKeyFromSeed(text), nil
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return key, replace(path, key.Seed())
}

// configure writes sentry's configuration, which has the public key of tokens in it.
func (ids *identities) configure(key ed25519.PrivateKey) error {
	keys, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": keyID(key),
		"x": base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)),
	}}})
	if err != nil {
		return err
	}
	return replace(filepath.Join(ids.folder, "sentry", "config.yaml"), fmt.Appendf(nil, `# Made by "runtime identities". Sentry signs only for programs with a token that this key has signed.
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: sentry
spec:
  mtls:
    enabled: true
    controlPlaneTrustDomain: %s
    tokenValidators:
      - name: jwks
        options:
          source: '%s'
`, ids.domain, keys))
}

func keyID(key ed25519.PrivateKey) string {
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// token is a JWT by which sentry knows an app. The same is made each time, so that a file is not written without need.
func (ids *identities) token(id string, key ed25519.PrivateKey, until time.Time) ([]byte, error) {
	domain := appDomain
	if slices.Contains(controlPlane, id) {
		domain = ids.domain
	}
	var parts []string
	for _, part := range []map[string]any{
		{"alg": "EdDSA", "typ": "JWT", "kid": keyID(key)},
		{
			"sub": fmt.Sprintf("spiffe://%s/ns/%s/%s", domain, ids.namespace, id),
			"aud": []string{fmt.Sprintf("spiffe://%s/ns/%s/dapr-sentry", ids.domain, ids.namespace)},
			"exp": until.Unix(),
		},
	} {
		text, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	signed := strings.Join(parts, ".")
	return []byte(signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed)))), nil
}

// replace writes a file, whole or not at all, if its content changes. Sentry and its clients may be running.
func replace(path string, content []byte) error {
	if before, err := os.ReadFile(path); err == nil && bytes.Equal(before, content) {
		return nil
	}
	partial := path + ".new"
	if err := os.WriteFile(partial, content, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, path)
}
