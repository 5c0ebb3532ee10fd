// Package signing reads the keys with which a service signs, from a secret, and makes the key set with which others verify. Auth
// signs tokens with such keys, orders signs passes with keys of its own.
package signing

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	secretStore = "secrets"
	// readPause is the pause before the secret is read again: at its start a sidecar may not have loaded its components.
	readPause = 200 * time.Millisecond
	// secretTime limits one read of the secret.
	secretTime = 5 * time.Second
	// expires is the header of a PEM block after whose time, in RFC 3339, its key is not served.
	expires = "Expires"
)

// Secrets is the part of the sidecar that is used here.
type Secrets interface {
	GetSecret(ctx context.Context, store, key string, meta map[string]string) (map[string]string, error)
}

// Keys are the content of a secret: blocks of PEM. The first is the private key that signs. The others are private or public keys
// that are only served, to verify what they have signed or will sign: the next key, before it signs, and the last one, until what it
// has signed has expired.
type Keys struct {
	Private ed25519.PrivateKey
	Others  []ed25519.PublicKey
}

// Secret is a secret with keys in the Dapr secret store.
type Secret struct {
	Name string
	From Secrets
}

// Read reads the keys. It tries again until ctx ends.
func (s Secret) Read(ctx context.Context) (Keys, error) {
	var last error
	text, err := backoff.Retry(ctx, func() (text string, err error) {
		text, last = s.text(ctx)
		return text, last
	}, backoff.WithBackOff(backoff.NewConstantBackOff(readPause)), backoff.WithMaxElapsedTime(0))
	if err != nil { // ctx has ended
		return Keys{}, fmt.Errorf("read the secret %s from the store %s: %w", s.Name, secretStore, last)
	}
	return s.parse(text)
}

func (s Secret) text(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTime)
	defer cancel()
	secret, err := s.From.GetSecret(ctx, secretStore, s.Name, nil)
	return secret[s.Name], err
}

func (s Secret) parse(text string) (Keys, error) {
	k, err := parseKeys(text, time.Now())
	if err != nil {
		return Keys{}, fmt.Errorf("secret %s in the store %s: %w", s.Name, secretStore, err)
	}
	return k, nil
}

// Watch reads the secret every period and calls changed with its keys, until ctx ends. A secret that cannot be read changes nothing.
// It returns nil.
func (s Secret) Watch(ctx context.Context, period time.Duration, log *slog.Logger, changed func(Keys)) error {
	failed := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(period):
		}
		text, err := s.text(ctx)
		var k Keys
		if err == nil {
			k, err = s.parse(text)
		}
		if err == nil {
			changed(k)
		} else if ctx.Err() == nil && !failed {
			log.Warn("the keys cannot be read; the last ones stay in use", "secret", s.Name, "error", err)
		}
		failed = err != nil
	}
}

// parseKeys reads the keys of a secret that are served at a time. Its errors do not have any part of the secret.
func parseKeys(text string, now time.Time) (Keys, error) {
	var k Keys
	rest := []byte(text)
	for n := 1; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if until, ok := block.Headers[expires]; ok && n > 1 {
			end, err := time.Parse(time.RFC3339, until)
			if err != nil {
				return Keys{}, fmt.Errorf("key %d: the header %s is not a time like 2026-12-31T12:00:00Z", n, expires)
			}
			if now.After(end) {
				continue
			}
		}
		private, public, err := parseBlock(block)
		switch {
		case err != nil:
			return Keys{}, fmt.Errorf("key %d: %w", n, err)
		case n > 1:
			k.Others = append(k.Others, public)
		case private == nil:
			return Keys{}, errors.New("key 1 is a public key; it must be the private key that signs")
		default:
			k.Private = private
		}
	}
	if k.Private == nil {
		return Keys{}, errors.New("it is no private key in PEM (PKCS #8)")
	}
	return k, nil
}

// parseBlock reads the Ed25519 key of a block: a private one (PKCS #8) with its public part, or a public one (SPKI) alone.
func parseBlock(block *pem.Block) (ed25519.PrivateKey, ed25519.PublicKey, error) {
	switch block.Type {
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, nil, errors.New("it is not PKCS #8")
		}
		private, ok := key.(ed25519.PrivateKey)
		if !ok {
			return nil, nil, fmt.Errorf("it is a %T, not an Ed25519 key", key)
		}
		return private, private.Public().(ed25519.PublicKey), nil
	case "PUBLIC KEY":
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, nil, errors.New("it is not a public key (SPKI)")
		}
		public, ok := key.(ed25519.PublicKey)
		if !ok {
			return nil, nil, fmt.Errorf("it is a %T, not an Ed25519 key", key)
		}
		return nil, public, nil
	}
	return nil, nil, errors.New("it is neither a PRIVATE KEY (PKCS #8) nor a PUBLIC KEY in PEM")
}
