package identity

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/signing"
)

// fuzzKey is the same in every process, so that a corpus of tokens stays one of good tokens.
var fuzzKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

var fuzzNow = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func signed(t testing.TB, method jwt.SigningMethod, key any, header map[string]any, c jwt.MapClaims) string {
	token := jwt.NewWithClaims(method, c)
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

// A token is accepted only if our key has signed exactly it, and it is of our issuer, in its time, and names somebody.
func FuzzVerify(f *testing.F) {
	issuer := NewIssuer(fuzzKey, time.Hour)
	good, _, err := issuer.Issue(ada, fuzzNow)
	require.NoError(f, err)
	kid := map[string]any{"kid": issuer.KeySet().Keys[0].ID}
	all := jwt.MapClaims{"iss": issuedBy, "sub": ada.ID, "iat": fuzzNow.Unix(), "exp": fuzzNow.Add(time.Hour).Unix()}
	f.Add(good)
	f.Add(good + "=")
	f.Add(strings.ToUpper(good))
	f.Add(good[:len(good)-1])
	f.Add(signed(f, jwt.SigningMethodEdDSA, fuzzKey, kid, all))
	f.Add(signed(f, jwt.SigningMethodEdDSA, fuzzKey, nil, all))
	f.Add(signed(f, jwt.SigningMethodEdDSA, fuzzKey, kid, jwt.MapClaims{"iss": issuedBy, "sub": "", "iat": 0, "exp": 1e12}))
	f.Add(signed(f, jwt.SigningMethodEdDSA, fuzzKey, kid, jwt.MapClaims{"iss": issuedBy, "sub": ada.ID, "iat": fuzzNow.Unix(), "exp": 1e300}))
	f.Add(signed(f, jwt.SigningMethodHS256, []byte(fuzzKey.Public().(ed25519.PublicKey)), kid, all))
	f.Add(signed(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, all))
	f.Add("..")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		v := NewVerifier(func(context.Context) (signing.KeySet, error) { return issuer.KeySet(), nil })
		v.now = func() time.Time { return fuzzNow }
		user, err := v.Verify(t.Context(), token)
		again, errAgain := v.Verify(t.Context(), token)
		require.Equal(t, user, again, "a token that is remembered is the same token")
		require.Equal(t, err == nil, errAgain == nil)
		if err != nil {
			require.Equal(t, problem.Unauthorized, problem.KindOf(err), "%v", err)
			require.Zero(t, user)
			return
		}
		parts := strings.Split(token, ".")
		require.Len(t, parts, 3)
		signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
		require.NoError(t, err)
		require.True(t, ed25519.Verify(fuzzKey.Public().(ed25519.PublicKey), []byte(parts[0]+"."+parts[1]), signature), "accepted what we have not signed")
		body, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
		require.NoError(t, err)
		var c struct {
			Issuer  string  `json:"iss"`
			Subject string  `json:"sub"`
			Expires float64 `json:"exp"`
		}
		require.NoError(t, json.Unmarshal(body, &c))
		require.Equal(t, issuedBy, c.Issuer)
		require.Equal(t, Caller{ID: id.User(c.Subject), Email: user.Email}, user)
		require.NotEmpty(t, c.Subject)
		require.Greater(t, c.Expires+leeway.Seconds(), float64(fuzzNow.Unix()))
	})
}

// Whatever a key set holds, a token is accepted only if the set has the very key that signed it, under its name.
func FuzzKeySet(f *testing.F) {
	issuer := NewIssuer(fuzzKey, time.Hour)
	token, _, err := issuer.Issue(ada, fuzzNow)
	require.NoError(f, err)
	set, err := json.Marshal(issuer.KeySet())
	require.NoError(f, err)
	f.Add(set)
	f.Add(bytes.ReplaceAll(set, []byte(`"use":"sig"`), []byte(`"use":"enc"`)))
	f.Add(bytes.ReplaceAll(set, []byte(`"x":"`), []byte(`"x":"A`)))
	f.Add(bytes.ReplaceAll(set, []byte(`"kid":"`), []byte(`"kid":"other`)))
	for _, raw := range []string{`{}`, `null`, `{"keys":null}`, `{"keys":[{}]}`, `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"x"}]}`, `[`, `{"keys":{"kty":"OKP"}}`} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		server := httptest.NewServer(serveTrust(document, []byte("{}")))
		defer server.Close()
		auth, err := NewAuth(AuthConfig{AuthURLs: []string{server.URL}})
		require.NoError(t, err)
		defer auth.peer.Close()
		v := NewVerifier(func(ctx context.Context) (signing.KeySet, error) {
			trust, err := auth.Fetch(ctx)
			return trust.Keys, err
		})
		v.now = func() time.Time { return fuzzNow }
		user, err := v.Verify(t.Context(), token)
		var set signing.KeySet
		readable := json.Unmarshal(document, &set) == nil
		holds := readable && slices.ContainsFunc(set.Keys, func(k signing.Key) bool {
			public, ok := k.Public()
			return ok && k.ID == issuer.KeySet().Keys[0].ID && public.Equal(fuzzKey.Public())
		})
		if err == nil {
			require.True(t, holds, "accepted by a key that is not in the set: %s", document)
			require.Equal(t, ada, user)
			return
		}
		require.Contains(t, []problem.Kind{problem.Unauthorized, problem.Unavailable}, problem.KindOf(err))
		if !readable {
			require.True(t, errors.Is(err, errNoKeys) || problem.KindOf(err) == problem.Unavailable)
		}
	})
}
