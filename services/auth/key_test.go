package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/identity"
)

// failingSecrets is a secret store that fails some times before it returns the secret.
type failingSecrets struct {
	fails int
	value string
}

func (s *failingSecrets) GetSecret(_ context.Context, store, key string, _ map[string]string) (map[string]string, error) {
	if s.fails > 0 {
		s.fails--
		return nil, io.ErrUnexpectedEOF
	}
	return map[string]string{key: s.value}, nil
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return private
}

func encode(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestSigningKeys_WaitForTheSecretStore(t *testing.T) {
	private := newKey(t)

	got, err := signingKeys(t.Context(), &failingSecrets{fails: 2, value: encode(t, private)})

	require.NoError(t, err)
	require.Equal(t, keys{private: private}, got)
}

func TestSigningKeys_ErrorsNameTheSecret(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := signingKeys(ctx, &failingSecrets{fails: 1})
	require.ErrorContains(t, err, "jwt-signing-key")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	good, public := encode(t, newKey(t)), encodePublic(t, newKey(t), nil)
	for name, text := range map[string]string{
		"nothing":                    "",
		"no PEM":                     "secret",
		"another algorithm":          encode(t, other),
		"no PKCS #8":                 string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})),
		"no public key":              string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("secret")})),
		"a public key first":         public + good,
		"a certificate":              string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("secret")})),
		"another algorithm later":    good + encode(t, other),
		"an end that is not a time":  good + encodePublic(t, newKey(t), map[string]string{"Expires": "tomorrow"}),
		"a certificate after a key":  good + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})),
		"no public key after a good": good + string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := signingKeys(t.Context(), &failingSecrets{value: text})
			require.ErrorContains(t, err, "secret jwt-signing-key in the store secrets")
		})
	}
}

func encodePublic(t *testing.T, key ed25519.PrivateKey, headers map[string]string) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Headers: headers, Bytes: der}))
}

func TestParseKeys_TheFirstSignsAndTheOthersAreServedUntilTheyExpire(t *testing.T) {
	signs, next, last, gone := newKey(t), newKey(t), newKey(t), newKey(t)
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	text := encode(t, signs) + "\n" + encode(t, next) +
		encodePublic(t, last, map[string]string{"Expires": "2026-11-01T12:00:00Z"}) +
		encodePublic(t, gone, map[string]string{"Expires": "2026-11-01T11:59:59Z"})

	got, err := parseKeys(text, at)

	require.NoError(t, err)
	require.Equal(t, keys{signs, []ed25519.PublicKey{next.Public().(ed25519.PublicKey), last.Public().(ed25519.PublicKey)}}, got)
}

func TestWatchKeys_UsesChangedKeysAndContinuesAfterFailures(t *testing.T) {
	first, second := newKey(t), newKey(t)
	texts := []string{encode(t, first), "nonsense", encode(t, second)}
	ctx, cancel := context.WithCancel(t.Context())
	var signing []ed25519.PrivateKey

	err := watchKeys(ctx, secretsFunc(func() (string, error) {
		if len(texts) == 0 {
			cancel()
			return "", io.ErrUnexpectedEOF
		}
		text := texts[0]
		texts = texts[1:]
		return text, nil
	}), time.Millisecond, slog.New(slog.DiscardHandler), func(k keys) { signing = append(signing, k.private) })

	require.NoError(t, err)
	require.Equal(t, []ed25519.PrivateKey{first, second}, signing)
}

type secretsFunc func() (string, error)

func (f secretsFunc) GetSecret(_ context.Context, _, key string, _ map[string]string) (map[string]string, error) {
	text, err := f()
	return map[string]string{key: text}, err
}

func TestUseKeys_TokensOfBothKeysAreValidWhileBothAreServed(t *testing.T) {
	old, next := newKey(t), newKey(t)
	issuer, verifier := newIdentity(keys{private: old}, time.Hour)
	use := useKeys(issuer, verifier, slog.New(slog.DiscardHandler))
	token := func() string {
		text, _, err := issuer.Issue(identity.Caller{ID: "ada"}, time.Now())
		require.NoError(t, err)
		return text
	}
	verify := func(text string) error { _, err := verifier.Verify(t.Context(), text); return err }
	first := token()
	require.NoError(t, verify(first))

	use(keys{next, []ed25519.PublicKey{old.Public().(ed25519.PublicKey)}})
	second := token()
	require.NoError(t, verify(first))
	require.NoError(t, verify(second))
	require.Len(t, issuer.KeySet().Keys, 2)

	use(keys{private: next})
	require.Error(t, verify(first))
	require.NoError(t, verify(second))
}
