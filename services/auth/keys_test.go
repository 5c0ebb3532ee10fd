package main

import (
	"crypto/ed25519"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/signing"
)

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return private
}

func TestUseKeys_TokensOfBothKeysAreValidWhileBothAreServed(t *testing.T) {
	old, next := newKey(t), newKey(t)
	issuer, verifier := newIdentity(signing.Keys{Private: old}, time.Hour)
	use := useKeys(issuer, verifier, slog.New(slog.DiscardHandler))
	token := func() string {
		text, _, err := issuer.Issue(identity.Caller{ID: "ada"}, time.Now())
		require.NoError(t, err)
		return text
	}
	verify := func(text string) error { _, err := verifier.Verify(t.Context(), text); return err }
	first := token()
	require.NoError(t, verify(first))

	use(signing.Keys{Private: next, Others: []ed25519.PublicKey{old.Public().(ed25519.PublicKey)}})
	second := token()
	require.NoError(t, verify(first))
	require.NoError(t, verify(second))
	require.Len(t, issuer.KeySet().Keys, 2)

	use(signing.Keys{Private: next})
	require.Error(t, verify(first))
	require.NoError(t, verify(second))
}
