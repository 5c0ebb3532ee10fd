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
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"boxoffice/deploy/local/stack"
)

const aboutRotateKeys = `Replaces the key that signs sessions, in the file of secrets, in two steps. First it adds a new key, which auth
serves to the other services, and waits until all have read it. Then the new key signs, and auth serves the old one
until its last tokens expire. The stack may run meanwhile, and all users stay signed in. (Dapr's own sidecar reads
the file once: restart that of auth after each step.) If the command is interrupted, run it again.`

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
	secrets := flags.String("secrets", filepath.Join(stack.StateFolder, "secrets.json"), "`file` of secrets")
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

	ring, err := readKeys(*secrets)
	if err != nil {
		return err
	}
	next, err := ring.addNext()
	if err != nil {
		return err
	}
	if err := ring.write(*secrets); err != nil {
		return err
	}
	switch _, err := servedKeys(ctx, *gateway); {
	case errors.Is(err, syscall.ECONNREFUSED):
		fmt.Printf("No gateway answers at %s, so there is no service to wait for.\n", *gateway)
	case err != nil:
		return err
	default:
		fmt.Printf("The new key is in %s. Waiting for %s until all services have read it.\n", *secrets, *wait)
		if err := pause(ctx, *wait); err != nil {
			return err
		}
		served, err := servedKeys(ctx, *gateway)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(served, func(key ed25519.PublicKey) bool { return next.Equal(key) }) {
			return fmt.Errorf("auth does not serve the new key; the old one still signs. Is %s the file that its sidecar reads? "+
				"Dapr's own sidecar must be restarted. Then run this again", *secrets)
		}
	}
	end := time.Now().Add(lifetime + servedLonger)
	if err := ring.useNext(end); err != nil {
		return err
	}
	if err := ring.write(*secrets); err != nil {
		return err
	}
	fmt.Printf("The new key signs as soon as auth has read the file (KEYS_PERIOD). The old key is served until %s.\n", end.Format(time.RFC3339))
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

// keyRing is the file of secrets with its keys. The first key signs. If there is a second private key, it is the next one. The others are
// old.
type keyRing struct {
	secrets map[string]string
	blocks  []*pem.Block
}

func readKeys(path string) (*keyRing, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the secrets: %w", err)
	}
	ring := &keyRing{}
	if err := json.Unmarshal(text, &ring.secrets); err != nil {
		return nil, fmt.Errorf("read the secrets in %s: %w", path, err)
	}
	rest := []byte(ring.secrets[stack.SigningKey])
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		ring.blocks = append(ring.blocks, block)
	}
	if len(ring.blocks) == 0 || ring.blocks[0].Type != privateKey {
		return nil, fmt.Errorf("%s holds no %s that is a private key in PEM", path, stack.SigningKey)
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
	r.secrets[stack.SigningKey] = keys.String()
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

// useNext makes the next key the first, and keeps the public part of the old one until end.
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
	old := &pem.Block{Type: publicKey, Headers: map[string]string{"Expires": end.UTC().Format(time.RFC3339)}, Bytes: der}
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

// servedKeys returns the keys that auth serves. It is an error if the gateway does not answer.
func servedKeys(ctx context.Context, gateway string) ([]ed25519.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, gateway+"/.well-known/jwks.json", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get auth's keys from %s: status %d", gateway, response.StatusCode)
	}
	var set struct {
		Keys []struct{ X string } // RFC 8037
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&set); err != nil {
		return nil, fmt.Errorf("read auth's keys: %w", err)
	}
	var served []ed25519.PublicKey
	for _, key := range set.Keys {
		public, err := base64.RawURLEncoding.DecodeString(key.X)
		if err != nil {
			return nil, fmt.Errorf("read auth's keys: %w", err)
		}
		served = append(served, public)
	}
	return served, nil
}
