package main

import (
	"bytes"
	"context"
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
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"boxoffice/deploy/local/stack"
)

const aboutRotateKeys = `Changes the key that signs, in the file of secrets, in two steps: it adds a new key, which auth serves to the
other services, and waits until all know it; then the new key signs, and the old one is still served for as
long as its tokens are good. A stack that runs goes on, and nobody is signed out. (With a sidecar of Dapr's
own, which reads the file once, start auth's again after each step.) If it is interrupted, run it again.`

const (
	// signingKey is the secret's name in the file.
	signingKey = "jwt-signing-key"
	// servedLonger is how much longer than its tokens are good an old key is served.
	servedLonger = 10 * time.Minute
)

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
	wait := flags.Duration("wait", 2*time.Minute, "how long to wait until all know the new key: KEYS_PERIOD, AUTH_PERIOD and some\nseconds at least")
	flags.DurationVar(&lifetime, "lifetime", lifetime, "how long tokens are good (default: $TOKEN_LIFETIME, or 1h)")
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
		fmt.Printf("No gateway answers at %s, so nobody has to learn of the new key first.\n", *gateway)
	case err != nil:
		return err
	default:
		fmt.Printf("The new key %s is in %s. Waiting for %s until all services know it.\n", next, *secrets, *wait)
		if err := until(ctx, *wait); err != nil {
			return err
		}
		served, err := servedKeys(ctx, *gateway)
		if err != nil {
			return err
		}
		if !slices.Contains(served, next) {
			return fmt.Errorf("auth does not serve the new key; the old one still signs. Is %s the file that it reads? "+
				"With a sidecar of Dapr's own, start auth's sidecar again. Then run this again", *secrets)
		}
	}
	end := time.Now().Add(lifetime + servedLonger)
	if err := ring.useNext(end); err != nil {
		return err
	}
	if err := ring.write(*secrets); err != nil {
		return err
	}
	fmt.Printf("It signs as soon as auth has read it (KEYS_PERIOD). The old key is served until %s.\n", end.Format(time.RFC3339))
	return nil
}

func until(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return errors.New("interrupted; the old key still signs. Run it again to go on")
	case <-time.After(wait):
		return nil
	}
}

// keyRing is the file of secrets, and its keys: the first signs, the next one, if there is one, is the only other private
// key, and the rest are old ones.
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
	rest := []byte(ring.secrets[signingKey])
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		ring.blocks = append(ring.blocks, block)
	}
	if len(ring.blocks) == 0 || ring.blocks[0].Type != privateKey {
		return nil, fmt.Errorf("%s holds no %s that is a private key in PEM", path, signingKey)
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
	r.secrets[signingKey] = keys.String()
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

// addNext adds a new key behind the one that signs, and drops old ones whose time is over. A next key that an interrupted
// run has left is taken. It returns the key's id.
func (r *keyRing) addNext() (id string, err error) {
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
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return "", err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return "", err
		}
		n = len(r.blocks)
		r.blocks = append(r.blocks, &pem.Block{Type: privateKey, Bytes: der})
	}
	public, err := publicOf(r.blocks[n])
	if err != nil {
		return "", err
	}
	return keyID(public), nil
}

// next is the place of the next key, or -1.
func (r *keyRing) next() int {
	for n, block := range r.blocks {
		if n > 0 && block.Type == privateKey {
			return n
		}
	}
	return -1
}

// useNext puts the next key first, and keeps of the old one the public part, until end.
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

// keyID is the thumbprint of RFC 7638, under which auth serves a key.
func keyID(public ed25519.PublicKey) string {
	x := base64.RawURLEncoding.EncodeToString(public)
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// servedKeys returns the ids of the keys that auth serves, or an error if the gateway does not answer.
func servedKeys(ctx context.Context, gateway string) ([]string, error) {
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
		return nil, fmt.Errorf("ask for auth's keys at %s: status %d", gateway, response.StatusCode)
	}
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&set); err != nil {
		return nil, fmt.Errorf("read auth's keys: %w", err)
	}
	ids := make([]string, len(set.Keys))
	for i, key := range set.Keys {
		ids[i] = key.ID
	}
	return ids, nil
}
