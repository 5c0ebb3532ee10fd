package service

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var pace = Pace{Period: 30 * time.Second, Pause: 2 * time.Second, Share: 20}

// callsInAnHour is how often Repeat calls a function, which takes a time, while it is woken all the time or never.
func callsInAnHour(t *testing.T, take time.Duration, woken bool) (calls int) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour-time.Second)
		defer cancel()
		wake := make(chan struct{}, 1)
		go func() {
			for woken && ctx.Err() == nil {
				select {
				case wake <- struct{}{}:
				case <-ctx.Done():
				}
			}
		}()
		Repeat(ctx, pace, wake, func() {
			calls++
			time.Sleep(take)
		})
	})
	return calls
}

func TestRepeat_WakesDoNotKeepAProcessBusy(t *testing.T) {
	require.Equal(t, 120, callsInAnHour(t, 0, false))
	require.Equal(t, 1800, callsInAnHour(t, 0, true))
	require.Equal(t, 35, callsInAnHour(t, 5*time.Second, true))
	require.Equal(t, 35, callsInAnHour(t, 5*time.Second, false))
}

func TestRepeat_CallsAtOnceWhenItIsWokenAfterThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake, called := make(chan struct{}, 1), make(chan time.Time, 10)
		go Repeat(ctx, pace, wake, func() { called <- time.Now() })
		first := <-called
		time.Sleep(pace.Pause + time.Second)
		wake <- struct{}{}
		require.Equal(t, pace.Pause+time.Second, (<-called).Sub(first))
		wake <- struct{}{}
		require.Equal(t, 2*pace.Pause+time.Second, (<-called).Sub(first), "after a pause")
		cancel()
		synctest.Wait()
	})
}
