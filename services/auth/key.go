package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

const (
	secretStore = "secrets"
	secretName  = "jwt-signing-key"
	// askAgain is how long to wait before the sidecar is asked again: at start it may not have its components.
	askAgain = 200 * time.Millisecond
)

// secrets is what is asked of the sidecar here.
type secrets interface {
	GetSecret(ctx context.Context, store, key string, meta map[string]string) (map[string]string, error)
}

// signingKey reads the private key from the Dapr secret store, waiting for it until ctx ends.
func signingKey(ctx context.Context, from secrets) (ed25519.PrivateKey, error) {
	for {
		secret, err := from.GetSecret(ctx, secretStore, secretName, nil)
		if err == nil {
			private, err := parseKey(secret[secretName])
			if err != nil {
				return nil, fmt.Errorf("secret %s in the store %s: %w", secretName, secretStore, err)
			}
			return private, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read the secret %s from the store %s: %w", secretName, secretStore, err)
		case <-time.After(askAgain):
		}
	}
}

// parseKey reads an Ed25519 private key, PKCS #8 in PEM. Its errors hold nothing of the key.
func parseKey(text string) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("it is no private key in PEM (PKCS #8)")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is not PKCS #8")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T, not an Ed25519 key", key)
	}
	return private, nil
}
