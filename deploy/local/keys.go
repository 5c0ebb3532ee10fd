package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"

	"boxoffice/deploy/local/stack"
)

const aboutRotateKeys = `Replaces the keys that sign, in the files of secrets, in two steps: auth's key, which signs tokens, and orders' key,
which signs passes. First it adds a new key, which its service serves, and waits until all processes have read it.
Then the new key signs. Auth serves the old key until its last tokens expire. Orders serves it without an end,
because people have printed their passes. The stack may run meanwhile: all users stay signed in, and all passes stay
valid. (Dapr's own sidecar reads the file once: restart those of auth and orders after each step.) If the command is
interrupted, run it again.`

// signer is what rotate-keys knows of an app that signs.
type signer struct {
	app    string
	signs  string // what its key signs
	keySet string // the path of its public keys at the gateway
	// forever means that old keys are served without an end.
	forever bool
}

var signers = []signer{
	{app: "auth", signs: "tokens", keySet: "/.well-known/jwks.json"},
	{app: "orders", signs: "passes", keySet: "/.well-known/passes/jwks.json", forever: true},
}

func (s signer) secret() string { return stack.SigningKeys[s.app] }

// chosenSigners are the signers of the flag -key.
func chosenSigners(key string) ([]signer, error) {
	if key == "all" {
		return signers, nil
	}
	for _, one := range signers {
		if one.secret() == key {
			return []signer{one}, nil
		}
	}
	return nil, fmt.Errorf("-key %s: it is %s, %s or all", key, signers[0].secret(), signers[1].secret())
}

// servedLonger is how long an old key is served after its last tokens have expired.
const servedLonger = 10 * time.Minute

// rotateKeys is the command.
func rotateKeys(ctx context.Context, args []string) error {
	lifetime := time.Hour
	if text := os.Getenv("TOKEN_LIFETIME"); text != "" {
		var err error
		if lifetime, err = time.ParseDuration(text); err != nil {
			return fmt.Errorf("TOKEN_LIFETIME=%q is not a duration", text)
		}
	}
	flags := flag.NewFlagSet("local rotate-keys", flag.ContinueOnError)
	secrets := flags.String("secrets", stack.SecretsFolder(stack.StateFolder), "`folder` of the files of secrets")
	key := flags.String("key", "all", "the `secret` to replace: jwt-signing-key (auth's, for tokens), pass-signing-key (orders', for passes), or all")
	gateway := flags.String("url", "http://localhost:8080", "`address` of the gateway")
	wait := flags.Duration("wait", 2*time.Minute, "how long to wait until all services have the new key: at least KEYS_PERIOD, AUTH_PERIOD\nand some seconds")
	flags.DurationVar(&lifetime, "lifetime", lifetime, "how long tokens are valid (default: $TOKEN_LIFETIME, or 1h)")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: local rotate-keys [flags]\n\n%s\n\n", aboutRotateKeys)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("rotate-keys: unexpected argument %q", flags.Arg(0))
	}

	chosen, err := chosenSigners(*key)
	if err != nil {
		return err
	}
	var rotations []*rotation
	for _, one := range chosen {
		r, err := beginRotation(one, *secrets)
		if err != nil {
			return err
		}
		rotations = append(rotations, r)
	}
	switch err := reachable(ctx, *gateway); {
	case errors.Is(err, syscall.ECONNREFUSED):
		fmt.Printf("No gateway answers at %s, so there is no service to wait for.\n", *gateway)
	case err != nil:
		return err
	default:
		fmt.Printf("The new keys are in %s. Waiting for %s until all services have read them.\n", *secrets, *wait)
		if err := pause(ctx, *wait); err != nil {
			return err
		}
		for _, r := range rotations {
			if err := r.requireServed(ctx, *gateway); err != nil {
				return err
			}
		}
	}
	for _, r := range rotations {
		if err := r.finish(time.Now().Add(lifetime + servedLonger)); err != nil {
			return err
		}
	}
	return nil
}

// rotation replaces the key of one signer. From beginRotation on, its file has the next key.
type rotation struct {
	signer
	path string
	ring *keyRing
	next ed25519.PublicKey
}

func beginRotation(of signer, folder string) (*rotation, error) {
	r := &rotation{signer: of, path: stack.SecretsFile(folder, of.app)}
	var err error
	if r.ring, err = readKeys(r.path, of.secret()); err != nil {
		return nil, err
	}
	if r.next, err = r.ring.addNext(); err != nil {
		return nil, err
	}
	return r, r.ring.write(r.path)
}

// requireServed is an error unless the signer's service serves the next key.
func (r *rotation) requireServed(ctx context.Context, gateway string) error {
	served, err := servedKeys(ctx, gateway+r.keySet)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(served, func(key ed25519.PublicKey) bool { return r.next.Equal(key) }) {
		return fmt.Errorf("%s does not serve the new key; the old one still signs. Is %s the file that its sidecar reads? "+
			"Dapr's own sidecar must be restarted. Then run this again", r.app, r.path)
	}
	return nil
}

// finish makes the next key the one that signs. The old one is served until end, or without an end.
func (r *rotation) finish(end time.Time) error {
	until := "without an end"
	if r.forever {
		end = time.Time{}
	} else {
		until = "until " + end.Format(time.RFC3339)
	}
	if err := r.ring.useNext(end); err != nil {
		return err
	}
	if err := r.ring.write(r.path); err != nil {
		return err
	}
	fmt.Printf("The new key for %s signs as soon as %s has read the file (KEYS_PERIOD). The old key is served %s.\n", r.signs, r.app, until)
	return nil
}

func pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return errors.New("interrupted; the old key still signs. Run it again to continue")
	case <-time.After(wait):
		return nil
	}
}

// keyRing is a file of secrets with the keys of one secret. The first key signs. If there is a second private key, it is the next one. The others are
// old.
type keyRing struct {
	name    string // of the secret
	secrets map[string]string
	blocks  []*pem.Block
}

func readKeys(path, name string) (*keyRing, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the secrets: %w", err)
	}
	ring := &keyRing{name: name}
	if err := json.Unmarshal(text, &ring.secrets); err != nil {
		return nil, fmt.Errorf("read the secrets in %s: %w", path, err)
	}
	rest := []byte(ring.secrets[name])
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		ring.blocks = append(ring.blocks, block)
	}
	if len(ring.blocks) == 0 || ring.blocks[0].Type != privateKey {
		return nil, fmt.Errorf("%s holds no %s that is a private key in PEM", path, name)
	}
	return ring, nil
}

const (
	privateKey = "PRIVATE KEY"
	publicKey  = "PUBLIC KEY"
)

// write replaces the file, whole or not at all.
func (r *keyRing) write(path string) error {
	var keys bytes.Buffer
	for _, block := range r.blocks {
		if err := pem.Encode(&keys, block); err != nil {
			return fmt.Errorf("write the keys: %w", err)
		}
	}
	r.secrets[r.name] = keys.String()
	text, err := json.MarshalIndent(r.secrets, "", "  ")
	if err != nil {
		return err
	}
	partial := path + ".new"
	if err := os.WriteFile(partial, text, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, path)
}

// addNext adds a new key after the one that signs, and drops the old keys that have expired. If an interrupted run added a next key,
// it uses that. It returns the public part of the next key.
func (r *keyRing) addNext() (ed25519.PublicKey, error) {
	kept := r.blocks[:1]
	for _, block := range r.blocks[1:] {
		end, err := time.Parse(time.RFC3339, block.Headers["Expires"])
		if block.Headers["Expires"] == "" || err == nil && time.Now().Before(end) {
			kept = append(kept, block)
		}
	}
	r.blocks = kept
	n := r.next()
	if n < 0 {
		key, err := stack.NewSigningKey()
		if err != nil {
			return nil, err
		}
		n = len(r.blocks)
		r.blocks = append(r.blocks, key)
	}
	return publicOf(r.blocks[n])
}

// next is the index of the next key, or -1.
func (r *keyRing) next() int {
	for n, block := range r.blocks {
		if n > 0 && block.Type == privateKey {
			return n
		}
	}
	return -1
}

// useNext makes the next key the first, and keeps the public part of the old one until end. The zero time is no end.
func (r *keyRing) useNext(end time.Time) error {
	n := r.next()
	public, err := publicOf(r.blocks[0])
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	next := r.blocks[n]
	old := &pem.Block{Type: publicKey, Bytes: der}
	if !end.IsZero() {
		old.Headers = map[string]string{"Expires": end.UTC().Format(time.RFC3339)}
	}
	r.blocks = append([]*pem.Block{next, old}, slices.Delete(r.blocks, n, n+1)[1:]...)
	return nil
}

func publicOf(block *pem.Block) (ed25519.PublicKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("a private key among the secrets is not PKCS #8")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key among the secrets is a %T, not an Ed25519 key", key)
	}
	return private.Public().(ed25519.PublicKey), nil
}

// reachable is an error if the gateway does not answer.
func reachable(ctx context.Context, gateway string) error {
	_, err := servedKeys(ctx, gateway+signers[0].keySet)
	return err
}

// servedKeys returns the keys of a key set. It is an error if the gateway does not answer.
func servedKeys(ctx context.Context, url string) ([]ed25519.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get the keys from %s: status %d", url, response.StatusCode)
	}
	var set struct {
		Keys []struct{ X string } // RFC 8037
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&set); err != nil {
		return nil, fmt.Errorf("read the keys of %s: %w", url, err)
	}
	var served []ed25519.PublicKey
	for _, key := range set.Keys {
		public, err := base64.RawURLEncoding.DecodeString(key.X)
		if err != nil {
			return nil, fmt.Errorf("read the keys of %s: %w", url, err)
		}
		served = append(served, public)
	}
	return served, nil
}
