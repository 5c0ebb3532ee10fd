package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

type keySet struct {
	Keys []map[string]string `json:"keys"`
}

func (s *testStack) publicKeys(t *testing.T) keySet {
	t.Helper()
	r := s.request(t, "GET", "/.well-known/jwks.json", nil)
	requireStatus(t, 200, r)
	return decode[keySet](t, r)
}

func TestTokens_VerifyWithThePublicKeys(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)

	r := s.request(t, "GET", "/.well-known/jwks.json", nil)
	requireStatus(t, 200, r)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.Contains(t, r.Header.Get("Cache-Control"), "max-age=")
	keys := decode[keySet](t, r).Keys
	require.Len(t, keys, 1)
	key := keys[0]
	require.NotContains(t, key, "d", "the private key")
	for member, value := range map[string]string{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig"} {
		require.Equal(t, value, key[member], member)
	}
	x, err := base64.RawURLEncoding.DecodeString(key["x"])
	require.NoError(t, err)

	var claims jwt.MapClaims
	token, err := jwt.ParseWithClaims(user.token, &claims, func(*jwt.Token) (any, error) { return ed25519.PublicKey(x), nil },
		jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithExpirationRequired())
	require.NoError(t, err)
	require.Equal(t, key["kid"], token.Header["kid"])
	require.Equal(t, user.ID, claims["sub"])
	issued, err := claims.GetIssuedAt()
	require.NoError(t, err)
	expires, err := claims.GetExpirationTime()
	require.NoError(t, err)
	require.Equal(t, time.Hour, expires.Sub(issued.Time))
}

// signingKey returns the stack's private key, so that the test can sign tokens that auth would not sign.
func signingKey(t *testing.T, s *testStack) ed25519.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(stack.SecretsFile(stack.SecretsFolder(filepath.Join(s.Folder(), stack.StateFolder)), "auth"))
	require.NoError(t, err)
	var secrets map[string]string
	require.NoError(t, json.Unmarshal(text, &secrets))
	block, _ := pem.Decode([]byte(secrets["jwt-signing-key"]))
	require.NotNil(t, block)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	return key.(ed25519.PrivateKey)
}

func TestTokens_ForgedAndExpiredTokensAreRefused(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)
	paid := s.sell(t, user)
	real, public := signingKey(t, s), s.publicKeys(t).Keys[0]
	kid := public["kid"]
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(real.Public())
	require.NoError(t, err)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	publicJSON, err := json.Marshal(public)
	require.NoError(t, err)

	var genuine jwt.MapClaims
	parsed, _, err := jwt.NewParser().ParseUnverified(user.token, &genuine)
	require.NoError(t, err)
	require.Equal(t, kid, parsed.Header["kid"])
	claims := func(changes ...any) jwt.MapClaims {
		c := jwt.MapClaims{}
		for name, value := range genuine {
			c[name] = value
		}
		for i := 0; i < len(changes); i += 2 {
			c[changes[i].(string)] = changes[i+1]
			if changes[i+1] == nil {
				delete(c, changes[i].(string))
			}
		}
		return c
	}
	sign := func(method jwt.SigningMethod, key any, c jwt.MapClaims, header ...any) string {
		token := jwt.NewWithClaims(method, c)
		token.Header["kid"] = kid
		for i := 0; i < len(header); i += 2 {
			token.Header[header[i].(string)] = header[i+1]
			if header[i+1] == nil {
				delete(token.Header, header[i].(string))
			}
		}
		text, err := token.SignedString(key)
		require.NoError(t, err)
		return text
	}
	parts := strings.Split(user.token, ".")
	admin, err := json.Marshal(claims("sub", s.signUp(t).ID))
	require.NoError(t, err)
	hour := func(n int) int64 { return time.Now().Add(time.Duration(n) * time.Hour).Unix() }

	tests := map[string]struct{ token, code string }{
		"alg none":                           {sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()), "token_invalid"},
		"no signature":                       {parts[0] + "." + parts[1] + ".", "token_invalid"},
		"HS256 with the public key":          {sign(jwt.SigningMethodHS256, []byte(real.Public().(ed25519.PublicKey)), claims()), "token_invalid"},
		"HS256 with the public key as PEM":   {sign(jwt.SigningMethodHS256, publicPEM, claims()), "token_invalid"},
		"HS256 with the public key as JWK":   {sign(jwt.SigningMethodHS256, publicJSON, claims()), "token_invalid"},
		"HS256 with the key's text":          {sign(jwt.SigningMethodHS256, []byte(public["x"]), claims()), "token_invalid"},
		"another key under the true id":      {sign(jwt.SigningMethodEdDSA, foreign, claims()), "token_invalid"},
		"another key under its own id":       {sign(jwt.SigningMethodEdDSA, foreign, claims(), "kid", "mine"), "token_invalid"},
		"another key that the header brings": {sign(jwt.SigningMethodEdDSA, foreign, claims(), "jwk", map[string]string{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(foreign.Public().(ed25519.PublicKey))}), "token_invalid"},
		"another key that the header links":  {sign(jwt.SigningMethodEdDSA, foreign, claims(), "kid", "linked", "jku", "http://127.0.0.1:1/keys.json"), "token_invalid"},
		"the true key under another id":      {sign(jwt.SigningMethodEdDSA, real, claims(), "kid", "other"), "token_invalid"},
		"the true key under no id":           {sign(jwt.SigningMethodEdDSA, real, claims(), "kid", nil), "token_invalid"},
		"an id that is a path":               {sign(jwt.SigningMethodEdDSA, real, claims(), "kid", "../../"+kid), "token_invalid"},
		"the claims of another user":         {parts[0] + "." + base64.RawURLEncoding.EncodeToString(admin) + "." + parts[2], "token_invalid"},
		"a signature of other bytes":         {parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), "token_invalid"},
		"expired":                            {sign(jwt.SigningMethodEdDSA, real, claims("iat", hour(-2), "exp", hour(-1))), "token_expired"},
		"without end":                        {sign(jwt.SigningMethodEdDSA, real, claims("exp", nil)), "token_invalid"},
		"of tomorrow":                        {sign(jwt.SigningMethodEdDSA, real, claims("iat", hour(24), "exp", hour(25))), "token_invalid"},
		"of another issuer":                  {sign(jwt.SigningMethodEdDSA, real, claims("iss", "another")), "token_invalid"},
		"without a subject":                  {sign(jwt.SigningMethodEdDSA, real, claims("sub", nil)), "token_invalid"},
		"too long":                           {sign(jwt.SigningMethodEdDSA, real, claims("padding", strings.Repeat("x", 8<<10))), "token_invalid"},
		"nonsense":                           {"nonsense", "token_invalid"},
		"three dots":                         {"a.b.c", "token_invalid"},
	}
	places := map[string]struct {
		method, path string
		body         any
	}{
		"tickets":  {"POST", "/api/tickets", client.Offer{Title: "Forged", Price: 100}},
		"orders":   {"GET", "/api/orders", nil},
		"payments": {"GET", "/api/payments/" + paid.ID, nil},
	}
	for name, tt := range tests {
		for service, place := range places {
			r := s.request(t, place.method, place.path, place.body, "Authorization", "Bearer "+tt.token)
			require.Equal(t, 401, r.Status, "%s, %s: %s", name, service, r.Body)
			requireProblem(t, 401, r, tt.code)
			require.Equal(t, "Bearer", r.Header.Get("WWW-Authenticate"))
			r = s.request(t, place.method, place.path, place.body, "Cookie", "jwt="+tt.token)
			require.Equal(t, 401, r.Status, "as a cookie: %s, %s: %s", name, service, r.Body)
		}
		r := s.call(t, client.ReadCurrentUser().With("Authorization", "Bearer "+tt.token))
		require.Equal(t, 200, r.Status, name)
		require.JSONEq(t, `{"currentUser":null}`, string(r.Body), name)
	}
	for _, header := range []string{"Bearer", "Bearer ", "Basic " + user.token, user.token, "Token " + user.token} {
		for _, place := range places {
			r := s.request(t, place.method, place.path, place.body, "Authorization", header)
			requireProblem(t, 401, r, "token_invalid")
		}
	}

	t.Run("a valid token is accepted", func(t *testing.T) {
		token := sign(jwt.SigningMethodEdDSA, real, claims())
		for service, place := range places {
			r := s.request(t, place.method, place.path, place.body, "Authorization", "Bearer "+token)
			require.Contains(t, []int{200, 201}, r.Status, service)
		}
	})
}
