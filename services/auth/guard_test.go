package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
)

func newTestPasswords(t *testing.T) *passwords {
	t.Helper()
	p, err := newPasswords(bcrypt.MinCost, 0, nil)
	require.NoError(t, err)
	return p
}

// always lets every comparison happen.
func always(match func() bool) (bool, error) { return match(), nil }

func TestPasswords_MatchOnlyTheirOwnHash(t *testing.T) {
	p := newTestPasswords(t)
	long := strings.Repeat("x", 72)
	hash, err := p.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	longHash, err := p.Hash(t.Context(), long)
	require.NoError(t, err)

	tests := map[string]struct {
		hash, password string
		right          bool
	}{
		"right":                      {hash, "correct horse", true},
		"wrong":                      {hash, "correct cow", false},
		"empty":                      {hash, "", false},
		"other case":                 {hash, "Correct Horse", false},
		"a space more":               {hash, "correct horse ", false},
		"the longest":                {longHash, long, true},
		"longer, beginning the same": {longHash, long + "y", false},
		"nobody's":                   {"", "correct horse", false},
		"the decoy's own":            {"", "nobody has this password", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			right, err := p.Match(t.Context(), tt.hash, tt.password, always)
			require.NoError(t, err)
			require.Equal(t, tt.right, right)
		})
	}
}

func TestPasswords_CostAsMuchForNobodyAsForSomebody(t *testing.T) {
	p := newTestPasswords(t)
	hash, err := p.Hash(t.Context(), "correct horse")
	require.NoError(t, err)

	forSomebody, err := bcrypt.Cost([]byte(hash))
	require.NoError(t, err)
	forNobody, err := bcrypt.Cost(p.decoy)
	require.NoError(t, err)

	require.Equal(t, forSomebody, forNobody)
}

func TestPasswords_UseNoMoreThanTheirCores(t *testing.T) {
	p := newTestPasswords(t)
	var running, most atomic.Int32
	var all sync.WaitGroup
	for range 5 * cap(p.cores) {
		all.Go(func() {
			_, err := p.Match(context.Background(), "", "x", func(func() bool) (bool, error) {
				now := running.Add(1)
				defer running.Add(-1)
				for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				return false, nil
			})
			require.NoError(t, err)
		})
	}
	all.Wait()
	require.LessOrEqual(t, int(most.Load()), cap(p.cores))
}

func TestPasswords_DoNotKeepWhoeverHasNoTime(t *testing.T) {
	p := newTestPasswords(t)
	for range cap(p.cores) {
		p.cores <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err := p.Hash(ctx, "correct horse")
	require.ErrorIs(t, err, context.Canceled)
	_, err = p.Match(ctx, "", "correct horse", always)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAttempts_EndAfterTooManyFailures(t *testing.T) {
	a := newAttempts(3)
	at := time.Now()
	try := func(email string, right bool, at time.Time) (bool, error) {
		return a.Try(email, at, func() bool { return right })
	}
	for range 3 {
		right, err := try("ada@example.com", false, at)
		require.NoError(t, err)
		require.False(t, right)
	}

	_, err := try("ada@example.com", true, at.Add(time.Minute))
	p, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok)
	require.Equal(t, problem.TooManyRequests, p.Kind)
	require.Equal(t, 4*time.Minute, p.RetryAfter)

	right, err := try("bob@example.com", true, at.Add(time.Minute))
	require.NoError(t, err)
	require.True(t, right, "another email is not concerned")

	right, err = try("ada@example.com", true, at.Add(failureWindow))
	require.NoError(t, err)
	require.True(t, right)
}

func TestAttempts_BeginAnewAfterASuccess(t *testing.T) {
	a := newAttempts(2)
	at := time.Now()
	for _, right := range []bool{false, true, false, true, false, true} {
		got, err := a.Try("ada@example.com", at, func() bool { return right })
		require.NoError(t, err)
		require.Equal(t, right, got)
	}
	require.Empty(t, a.failures)
}

func TestAttempts_AreNotCountedWhenSwitchedOff(t *testing.T) {
	a := newAttempts(0)
	for range 100 {
		_, err := a.Try("ada@example.com", time.Now(), func() bool { return false })
		require.NoError(t, err)
	}
	require.Empty(t, a.failures)
}

func TestAttempts_TakeBoundedMemory(t *testing.T) {
	a := newAttempts(3)
	at := time.Now()
	fill := func(at time.Time, from int) {
		for i := range countedEmails {
			_, err := a.Try(fmt.Sprint(from+i), at, func() bool { return false })
			require.NoError(t, err)
		}
	}
	fill(at, 0)
	require.Len(t, a.failures, countedEmails)
	fill(at.Add(failureWindow-1), countedEmails)
	require.LessOrEqual(t, len(a.failures), countedEmails)
	fill(at.Add(3*failureWindow), 2*countedEmails)
	require.LessOrEqual(t, len(a.failures), countedEmails)
}

// store stands for the secret store: it fails some times, then answers.
type store struct {
	fails int
	value string
}

func (s *store) GetSecret(_ context.Context, store, key string, _ map[string]string) (map[string]string, error) {
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

	got, err := signingKeys(t.Context(), &store{fails: 2, value: encode(t, private)})

	require.NoError(t, err)
	require.Equal(t, keys{private: private}, got)
}

func TestSigningKeys_SayWhatIsMissing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := signingKeys(ctx, &store{fails: 1})
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
			_, err := signingKeys(t.Context(), &store{value: text})
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

func TestWatchKeys_TakesUpWhatChangesAndGoesOnWhenItCannotRead(t *testing.T) {
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

func TestUseKeys_TokensOfBothKeysAreGoodWhileBothAreServed(t *testing.T) {
	old, next := newKey(t), newKey(t)
	issuer, verifier := newIdentity(keys{private: old}, time.Hour)
	use := useKeys(issuer, verifier, slog.New(slog.DiscardHandler))
	token := func() string {
		text, _, err := issuer.Issue(identity.User{ID: "ada"}, time.Now())
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

func TestPasswords_RefuseWhoWouldWaitForTooLong(t *testing.T) {
	p, err := newPasswords(bcrypt.MinCost, 2*time.Second, nil)
	require.NoError(t, err)
	for range cap(p.cores) {
		p.cores <- struct{}{}
	}
	p.took.Store(int64(time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	var inLine sync.WaitGroup
	for range 3 * cap(p.cores) {
		inLine.Go(func() { _, _ = p.Hash(ctx, "correct horse") })
	}
	require.Eventually(t, func() bool { return p.waiting.Load() == int64(3*cap(p.cores)) }, 5*time.Second, time.Millisecond)

	for name, try := range map[string]func() error{
		"before anything": p.Admit,
		"to hash":         func() error { _, err := p.Hash(t.Context(), "correct horse"); return err },
		"to compare":      func() error { _, err := p.Match(t.Context(), "", "correct horse", always); return err },
	} {
		refused, ok := errors.AsType[*problem.Error](try())
		require.True(t, ok, name)
		require.Equal(t, problem.Unavailable, refused.Kind, name)
		require.Equal(t, "overloaded", refused.Details[0].Code, name)
		require.InDelta(t, 3, refused.RetryAfter.Seconds(), 0.1, name)
	}

	cancel()
	inLine.Wait()
	require.Zero(t, p.waiting.Load())
	require.NoError(t, p.Admit())
	for range cap(p.cores) {
		<-p.cores
	}
	_, err = p.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.Less(t, p.took.Load(), int64(time.Second), "it is measured")
}

func TestPasswords_OneIsNeverRefusedHoweverSlowTheMachine(t *testing.T) {
	p, err := newPasswords(bcrypt.MinCost, time.Second, nil)
	require.NoError(t, err)
	p.took.Store(int64(time.Minute))

	_, err = p.Hash(t.Context(), "correct horse")

	require.NoError(t, err)
}
