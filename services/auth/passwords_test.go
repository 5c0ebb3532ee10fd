package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"boxoffice/services/internal/problem"
)

func newTestPasswords(t *testing.T) *passwords {
	t.Helper()
	p, err := newPasswords(bcrypt.MinCost, 0, 0, nil)
	require.NoError(t, err)
	return p
}

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
		"no user":                    {"", "correct horse", false},
		"the decoy's own":            {"", "no user has this password", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			right, err := p.Match(t.Context(), "ada@example.com", tt.hash, tt.password)
			require.NoError(t, err)
			require.Equal(t, tt.right, right)
		})
	}
}

func TestPasswords_CostTheSameWithoutAUser(t *testing.T) {
	p := newTestPasswords(t)
	hash, err := p.Hash(t.Context(), "correct horse")
	require.NoError(t, err)

	withUser, err := bcrypt.Cost([]byte(hash))
	require.NoError(t, err)
	withoutUser, err := bcrypt.Cost(p.decoy)
	require.NoError(t, err)

	require.Equal(t, withUser, withoutUser)
}

func TestPasswords_UseNoMoreThanTheirCores(t *testing.T) {
	p := newTestPasswords(t)
	var running, most atomic.Int32
	var all sync.WaitGroup
	p.compare = func([]byte, []byte) error {
		now := running.Add(1)
		defer running.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		return bcrypt.ErrMismatchedHashAndPassword
	}
	for range 5 * p.cores {
		all.Go(func() {
			_, err := p.Match(context.Background(), "ada@example.com", "", "x")
			require.NoError(t, err)
		})
	}
	all.Wait()
	require.LessOrEqual(t, int64(most.Load()), p.cores)
}

func TestPasswords_EndWithTheContext(t *testing.T) {
	p := newTestPasswords(t)
	require.True(t, p.running.TryAcquire(p.cores))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err := p.Hash(ctx, "correct horse")
	require.ErrorIs(t, err, context.Canceled)
	_, err = p.Match(ctx, "ada@example.com", "", "correct horse")
	require.ErrorIs(t, err, context.Canceled)
}

func TestSignInFailures_AreRefusedAfterTooManyFailures(t *testing.T) {
	a := newSignInFailures(3)
	at := time.Now()
	for range 3 {
		require.NoError(t, a.Check("ada@example.com", at))
		a.Count("ada@example.com", false, at)
	}

	err := a.Check("ada@example.com", at.Add(time.Minute))
	p, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok)
	require.Equal(t, problem.TooManyRequests, p.Kind)
	require.Equal(t, 4*time.Minute, p.RetryAfter)

	require.NoError(t, a.Check("bob@example.com", at.Add(time.Minute)), "another email is counted separately")
	require.NoError(t, a.Check("ada@example.com", at.Add(failureWindow)))
	a.Count("ada@example.com", false, at.Add(failureWindow))
	require.NoError(t, a.Check("ada@example.com", at.Add(failureWindow)), "a new window begins")
}

func TestSignInFailures_ASuccessRemovesEarlierFailures(t *testing.T) {
	a := newSignInFailures(2)
	at := time.Now()
	for _, right := range []bool{false, true, false, true, false, true} {
		require.NoError(t, a.Check("ada@example.com", at))
		a.Count("ada@example.com", right, at)
	}
	require.Zero(t, a.byEmail.Len())
}

func TestSignInFailures_ZeroMeansNoLimit(t *testing.T) {
	a := newSignInFailures(0)
	for range 100 {
		require.NoError(t, a.Check("ada@example.com", time.Now()))
		a.Count("ada@example.com", false, time.Now())
	}
	require.Zero(t, a.byEmail.Len())
}

func TestSignInFailures_UseBoundedMemory(t *testing.T) {
	a := newSignInFailures(3)
	at := time.Now()
	fill := func(at time.Time, from int) {
		for i := range countedEmails {
			a.Count(fmt.Sprint(from+i), false, at)
		}
	}
	fill(at, 0)
	require.Equal(t, countedEmails, a.byEmail.Len())
	fill(at.Add(failureWindow-1), countedEmails)
	require.LessOrEqual(t, a.byEmail.Len(), countedEmails)
	fill(at.Add(3*failureWindow), 2*countedEmails)
	require.LessOrEqual(t, a.byEmail.Len(), countedEmails)
}

func TestPasswords_RefuseRequestsThatWouldWaitTooLong(t *testing.T) {
	p, err := newPasswords(bcrypt.MinCost, 2*time.Second, 0, nil)
	require.NoError(t, err)
	require.True(t, p.running.TryAcquire(p.cores))
	p.took.Store(int64(time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	var queued sync.WaitGroup
	for range 3 * p.cores {
		queued.Go(func() { _, _ = p.Hash(ctx, "correct horse") })
	}
	require.Eventually(t, func() bool { return p.waiting.Load() == 3*p.cores }, 5*time.Second, time.Millisecond)

	for name, try := range map[string]func() error{
		"before other work": p.Admit,
		"to hash":           func() error { _, err := p.Hash(t.Context(), "correct horse"); return err },
		"to compare":        func() error { _, err := p.Match(t.Context(), "ada@example.com", "", "correct horse"); return err },
	} {
		refused, ok := errors.AsType[*problem.Error](try())
		require.True(t, ok, name)
		require.Equal(t, problem.Unavailable, refused.Kind, name)
		require.Equal(t, "overloaded", refused.Details[0].Code, name)
		require.InDelta(t, 3, refused.RetryAfter.Seconds(), 0.1, name)
	}

	cancel()
	queued.Wait()
	require.Zero(t, p.waiting.Load())
	require.NoError(t, p.Admit())
	p.running.Release(p.cores)
	_, err = p.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.Less(t, p.took.Load(), int64(time.Second), "a hash was measured")
}

func TestPasswords_ASingleRequestIsNeverRefused(t *testing.T) {
	p, err := newPasswords(bcrypt.MinCost, time.Second, 0, nil)
	require.NoError(t, err)
	p.took.Store(int64(time.Minute))

	_, err = p.Hash(t.Context(), "correct horse")

	require.NoError(t, err)
}

func TestPasswords_MatchCountsWrongPasswordsOfAnEmail(t *testing.T) {
	p, err := newPasswords(bcrypt.MinCost, 0, 2, nil)
	require.NoError(t, err)
	hash, err := p.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	for range 2 {
		right, err := p.Match(t.Context(), "ada@example.com", hash, "wrong horse")
		require.NoError(t, err)
		require.False(t, right)
	}

	p.compare = func([]byte, []byte) error { t.Error("the password was compared"); return nil }
	_, err = p.Match(t.Context(), "ada@example.com", hash, "correct horse")

	require.Equal(t, problem.TooManyRequests, problem.KindOf(err))
}
