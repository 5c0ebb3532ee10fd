package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// passes is how many passes, which take a time each, there are in an hour in which it is woken all the time, or once.
func passes(t *testing.T, take time.Duration, always bool) (n int) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour-time.Second)
		defer cancel()
		wake := make(chan struct{}, 1)
		go func() {
			for always && ctx.Err() == nil {
				select {
				case wake <- struct{}{}:
				case <-ctx.Done():
				}
			}
		}()
		withRests(ctx, wake, func() {
			n++
			time.Sleep(take)
		})
	})
	return n
}

func TestWithdrawals_DeletedAccountsDoNotKeepAProcessLooking(t *testing.T) {
	require.Equal(t, 120, passes(t, 0, false))
	require.Equal(t, 1800, passes(t, 0, true))
	require.Equal(t, 35, passes(t, 5*time.Second, true))
	require.Equal(t, 35, passes(t, 5*time.Second, false))
}

func TestWithdrawals_AWakeAfterTheRestIsHeardAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake, passed := make(chan struct{}, 1), make(chan time.Time, 10)
		go withRests(ctx, wake, func() { passed <- time.Now() })
		first := <-passed
		time.Sleep(leaversPause + time.Second)
		wake <- struct{}{}
		require.Equal(t, leaversPause+time.Second, (<-passed).Sub(first))
		wake <- struct{}{}
		require.Equal(t, 2*leaversPause+time.Second, (<-passed).Sub(first), "it rests first")
		cancel()
		synctest.Wait()
	})
}
