package signing

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

func TestRead_WaitForTheSecretStore(t *testing.T) {
	private := newKey(t)

	got, err := Secret{"a-secret", &failingSecrets{fails: 2, value: encode(t, private)}}.Read(t.Context())

	require.NoError(t, err)
	require.Equal(t, Keys{Private: private}, got)
}

func TestRead_ErrorsNameTheSecret(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Secret{"a-secret", &failingSecrets{fails: 1}}.Read(ctx)
	require.ErrorContains(t, err, "a-secret")
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
			_, err := Secret{"a-secret", &failingSecrets{value: text}}.Read(t.Context())
			require.ErrorContains(t, err, "secret a-secret in the store secrets")
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
	require.Equal(t, Keys{signs, []ed25519.PublicKey{next.Public().(ed25519.PublicKey), last.Public().(ed25519.PublicKey)}}, got)
}

func TestWatch_UsesChangedKeysAndContinuesAfterFailures(t *testing.T) {
	first, second := newKey(t), newKey(t)
	texts := []string{encode(t, first), "nonsense", encode(t, second)}
	ctx, cancel := context.WithCancel(t.Context())
	var used []ed25519.PrivateKey

	err := Secret{"a-secret", secretsFunc(func() (string, error) {
		if len(texts) == 0 {
			cancel()
			return "", io.ErrUnexpectedEOF
		}
		text := texts[0]
		texts = texts[1:]
		return text, nil
	})}.Watch(ctx, time.Millisecond, slog.New(slog.DiscardHandler), func(k Keys) { used = append(used, k.Private) })

	require.NoError(t, err)
	require.Equal(t, []ed25519.PrivateKey{first, second}, used)
}

type secretsFunc func() (string, error)

func (f secretsFunc) GetSecret(_ context.Context, _, key string, _ map[string]string) (map[string]string, error) {
	text, err := f()
	return map[string]string{key: text}, err
}
