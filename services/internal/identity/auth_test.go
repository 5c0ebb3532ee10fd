package identity

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/signing"
)

// serveTrust answers as auth does, with what it is given.
func serveTrust(keys, revocations []byte) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(KeysPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(keys) })
	mux.HandleFunc(RevocationsPath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(revocations)
	})
	return mux
}

func encoded(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return text
}

func authAt(t *testing.T, answers http.Handler) *Auth {
	t.Helper()
	server := httptest.NewServer(answers)
	t.Cleanup(server.Close)
	auth, err := NewAuth(AuthConfig{AuthURLs: []string{server.URL}})
	require.NoError(t, err)
	t.Cleanup(auth.peer.Close)
	return auth
}

func TestAuth_FetchesKeysAndRevocations(t *testing.T) {
	set := newIssuer(t).KeySet()
	auth := authAt(t, serveTrust(encoded(t, set), []byte(`{"users":{"ada":3},"sessions":["s"]}`)))

	for range 2 { // the second response is 304
		trust, err := auth.Fetch(t.Context())
		require.NoError(t, err)
		require.Equal(t, Trust{set, Revocations{Users: map[string]int{"ada": 3}, Sessions: []string{"s"}}}, trust)
	}
}

func TestAuth_OfTheReleaseBeforeRevokesNothing(t *testing.T) {
	set := newIssuer(t).KeySet()
	mux := http.NewServeMux()
	mux.HandleFunc(KeysPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(encoded(t, set)) })

	trust, err := authAt(t, mux).Fetch(t.Context())

	require.NoError(t, err)
	require.Equal(t, Trust{Keys: set}, trust)
}

func TestAuth_RefusesWhatItCannotRead(t *testing.T) {
	keys := encoded(t, newIssuer(t).KeySet())
	for name, answers := range map[string]http.Handler{
		"keys":        serveTrust([]byte(`<html>`), []byte(`{}`)),
		"revocations": serveTrust(keys, []byte(`{"users":["ada"]}`)),
	} {
		_, err := authAt(t, answers).Fetch(t.Context())
		require.Error(t, err, name)
	}
}

func TestVerifier_RefusesRevokedTokensAlsoThoseThatItRemembers(t *testing.T) {
	issuer := newIssuer(t)
	v, clock := newVerifier(&keyServer{set: issuer.KeySet()})
	token := func(user Caller) string {
		text, _, err := issuer.Issue(user, clock.now())
		require.NoError(t, err)
		return text
	}
	before, after := token(Caller{ID: "ada", Epoch: 2, Session: "one"}), token(Caller{ID: "ada", Epoch: 3, Session: "two"})
	bob, reused := token(Caller{ID: "bob"}), token(Caller{ID: "bob", Session: "reused"})
	for _, good := range []string{before, after, bob, reused} {
		_, err := v.Verify(t.Context(), good)
		require.NoError(t, err)
	}

	require.NoError(t, v.Set(Trust{issuer.KeySet(), Revocations{Users: map[string]int{"ada": 3}, Sessions: []string{"reused", ""}}}))

	for range 2 {
		for _, revoked := range []string{before, reused, token(Caller{ID: "ada"})} {
			user, err := v.Verify(t.Context(), revoked)
			require.Zero(t, user)
			require.ErrorIs(t, err, ErrRevoked)
			require.Equal(t, problem.Unauthorized, problem.KindOf(err))
		}
		for _, good := range []string{after, bob} {
			_, err := v.Verify(t.Context(), good)
			require.NoError(t, err)
		}
	}
}

func TestVerifier_KnowsWhoseTokenHasEnded(t *testing.T) {
	issuer := newIssuer(t)
	v, clock := newVerifier(&keyServer{set: issuer.KeySet()})
	user := Caller{ID: "ada", Email: "ada@example.com", Epoch: 2, Session: "one"}
	token, _, err := issuer.Issue(user, clock.now())
	require.NoError(t, err)
	clock.advance(24 * time.Hour)

	_, err = v.Verify(t.Context(), token)
	require.ErrorIs(t, err, errExpired)
	got, err := v.Ended(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, user, got)

	for _, bad := range []string{"", "a.b.c", token + "x", issue(t, newIssuer(t), clock.now())} {
		_, err = v.Ended(t.Context(), bad)
		require.ErrorIs(t, err, errToken)
	}
}

func TestVerifier_WatchFetchesEveryPeriodAndGoesOnAfterFailures(t *testing.T) {
	issuer := newIssuer(t)
	var asked atomic.Int32
	v := NewRevokingVerifier(func(context.Context) (Trust, error) {
		switch n := asked.Add(1); n {
		case 1, 3:
			return Trust{}, errors.New("away")
		default:
			return Trust{issuer.KeySet(), Revocations{Users: map[string]int{string(ada.ID): int(n)}}}, nil
		}
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- v.Watch(ctx, 10*time.Millisecond, slog.New(slog.DiscardHandler)) }()

	require.Eventually(t, func() bool { return asked.Load() >= 5 }, 10*time.Second, time.Millisecond)
	_, err := v.Verify(t.Context(), issue(t, issuer, time.Now()))
	require.ErrorIs(t, err, ErrRevoked)

	cancel()
	require.NoError(t, <-ended)
}

// Services start side by side: that auth is the last is no news.
func TestVerifier_WatchWarnsWhenASecondFetchInARowFails(t *testing.T) {
	issuer := newIssuer(t)
	var asked atomic.Int32
	v := NewRevokingVerifier(func(context.Context) (Trust, error) {
		switch asked.Add(1) {
		case 1, 3, 4, 5:
			return Trust{}, errors.New("away")
		default:
			return Trust{Keys: issuer.KeySet()}, nil
		}
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	var logged bytes.Buffer
	go func() { ended <- v.Watch(ctx, 10*time.Millisecond, slog.New(slog.NewTextHandler(&logged, nil))) }()
	require.Eventually(t, func() bool { return asked.Load() >= 8 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)

	require.Equal(t, 1, strings.Count(logged.String(), "cannot be fetched"), logged.String())
	require.Equal(t, 1, strings.Count(logged.String(), "are fetched again"), logged.String())
}

func TestIssuer_SignsWithOneKeyAndListsAll(t *testing.T) {
	old, next := newPrivateKey(t), newPrivateKey(t)
	issuer, at := NewIssuer(old, time.Hour), time.Now()
	v := NewVerifier(func(context.Context) (signing.KeySet, error) { return issuer.KeySet(), nil })
	first := issue(t, issuer, at)

	steps := []func(){
		func() { issuer.SetKeys(old, next.Public().(ed25519.PublicKey)) },
		func() { issuer.SetKeys(next, old.Public().(ed25519.PublicKey), next.Public().(ed25519.PublicKey)) },
	}
	for _, step := range steps {
		step()
		require.Len(t, issuer.KeySet().Keys, 2)
		require.NoError(t, v.Set(Trust{Keys: issuer.KeySet()}))
		for _, token := range []string{first, issue(t, issuer, at)} {
			_, err := v.Verify(t.Context(), token)
			require.NoError(t, err)
		}
	}
	issuer.SetKeys(next)
	require.NoError(t, v.Set(Trust{Keys: issuer.KeySet()}))
	_, err := v.Verify(t.Context(), first)
	require.ErrorIs(t, err, errToken)
	_, err = v.Verify(t.Context(), issue(t, issuer, at))
	require.NoError(t, err)
}

func TestVerifier_CountsHowOldIsWhatItKnows(t *testing.T) {
	issuer, metrics := newIssuer(t), prometheus.NewRegistry()
	var err error
	v, clock := NewRevokingVerifier(func(context.Context) (Trust, error) { return Trust{Keys: issuer.KeySet()}, err }, metrics), newClock()
	v.now = clock.now
	age := func() float64 {
		found, err := metrics.Gather()
		require.NoError(t, err)
		require.Equal(t, "boxoffice_revocations_age_seconds", found[0].GetName())
		return found[0].GetMetric()[0].GetGauge().GetValue()
	}
	clock.advance(time.Minute)
	require.InDelta(t, 60, age(), 1)

	require.NoError(t, poll(v))
	require.Zero(t, age())

	err = errors.New("away")
	clock.advance(time.Minute)
	require.Error(t, poll(v))
	require.EqualValues(t, 60, age())
}
