package e2e

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// A flood of sign-ins, as many at once as would wait for most of a minute: those for whom there is no time are refused with 503
// "overloaded" and Retry-After, nobody waits until a deadline, and every reservation and read succeeds. How long these take is
// logged, for people.
func TestSignInFlood_IsShedWhileOthersReserve(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"BCRYPT_COST": "10"}})
	seller, buyer, flooder := s.signUp(t), s.signUp(t), s.signUp(t)
	quiet := s.reserveAndRead(t, seller, buyer)

	const at = 300
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	answers, codes, slowest := map[int]int{}, map[string]int{}, time.Duration(0)
	var failed []error
	var flood sync.WaitGroup
	for range at {
		flood.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				r, err := s.try(t.Context(), client.SignIn(flooder.Email, flooder.password))
				took := time.Since(began)
				if err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
					return
				}
				mu.Lock()
				answers[r.Status]++
				slowest = max(slowest, took)
				mu.Unlock()
				if r.Status != 503 {
					continue
				}
				var refusal client.Problem
				if assert.NoError(t, json.Unmarshal(r.Body, &refusal)) && assert.NotEmpty(t, refusal.Errors) {
					mu.Lock()
					codes[refusal.Errors[0].Code]++
					mu.Unlock()
				}
				assert.NotEmpty(t, r.Header.Get("Retry-After"))
				select {
				case <-time.After(time.Second): // as Retry-After says, at least
				case <-ctx.Done():
				}
			}
		})
	}
	eventually(t, "sign-ins are shed", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return answers[503] > 0
	})
	flooded := s.reserveAndRead(t, seller, buyer)
	stop()
	flood.Wait()

	t.Logf("sign-ins: %v %v, the slowest after %s", answers, codes, slowest.Round(time.Millisecond))
	t.Logf("p99 of a reservation: %s without, %s with the flood; of a read: %s, %s", quiet.reserve, flooded.reserve, quiet.read, flooded.read)
	require.Empty(t, failed)
	require.Positive(t, answers[200], "some are served")
	require.Positive(t, answers[503], "others are shed")
	require.Len(t, answers, 2, "%v", answers)
	require.Equal(t, map[string]int{"overloaded": answers[503]}, codes, "none ran into a deadline")
}

type latencies struct{ reserve, read time.Duration }

// sales reserves and reads for some seconds and returns the 99th percentiles.
func (s *testStack) reserveAndRead(t *testing.T, seller, buyer *testUser) latencies {
	t.Helper()
	var reserve, read []time.Duration
	for range 150 {
		listed := seller.list(t, "Sold in a flood", 1000)
		began := time.Now()
		buyer.reserve(t, listed.ID)
		reserve = append(reserve, time.Since(began))
		began = time.Now()
		requireStatus(t, 200, s.call(t, client.ReadTicket(listed.ID)))
		read = append(read, time.Since(began))
	}
	p99 := func(times []time.Duration) time.Duration {
		slices.Sort(times)
		return times[len(times)*99/100].Round(10 * time.Microsecond)
	}
	return latencies{p99(reserve), p99(read)}
}
