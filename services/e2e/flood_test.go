package e2e

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// A flood of sign-ins, as many at once as would wait for most of a minute: those for whom there is no time are told so at once,
// those who wait get their answer soon, and who reads or reserves does not feel it.
func TestFlood_OfSignInsIsShedAndDisturbsNobody(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"BCRYPT_COST": "10"}})
	seller, buyer, flooder := h.signUp(t), h.signUp(t), h.signUp(t)
	quiet := h.sales(t, seller, buyer)

	const at = 300
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	answers, codes, slowest := map[int]int{}, map[string]int{}, time.Duration(0)
	var flood sync.WaitGroup
	for range at {
		flood.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				r, err := h.send("POST", "/api/users/signin", credentials{flooder.Email, flooder.password})
				took := time.Since(began)
				if err != nil {
					continue
				}
				mu.Lock()
				answers[r.status]++
				slowest = max(slowest, took)
				mu.Unlock()
				if r.status == 503 {
					f := as[fault](t, r)
					mu.Lock()
					codes[f.Errors[0].Code]++
					mu.Unlock()
					require.NotEmpty(t, r.header.Get("Retry-After"))
					time.Sleep(time.Second) // as Retry-After says, at least
				}
			}
		})
	}
	time.Sleep(2 * time.Second) // the flood has filled the line
	flooded := h.sales(t, seller, buyer)
	stop()
	flood.Wait()

	t.Logf("sign-ins: %v %v, the slowest after %s", answers, codes, slowest.Round(time.Millisecond))
	t.Logf("p99 of a reservation: %s without, %s with the flood; of a read: %s, %s", quiet.reserve, flooded.reserve, quiet.read, flooded.read)
	require.Positive(t, answers[200], "some are served")
	require.Greater(t, answers[503], answers[200], "more are shed")
	require.Equal(t, map[string]int{"overloaded": answers[503]}, codes)
	require.Equal(t, 2, len(answers), "%v", answers)
	require.Less(t, slowest, 10*time.Second, "nobody waits until it is too late")
	require.Less(t, flooded.reserve, time.Second)
	require.Less(t, flooded.read, time.Second)
}

type salesTimes struct{ reserve, read time.Duration }

// sales reserves and reads for some seconds and returns the 99th percentiles.
func (h *house) sales(t *testing.T, seller, buyer *person) salesTimes {
	t.Helper()
	var reserve, read []time.Duration
	for range 150 {
		listed := seller.list(t, "Sold in a flood", 1000)
		began := time.Now()
		buyer.reserved(t, listed.ID)
		reserve = append(reserve, time.Since(began))
		began = time.Now()
		require.Equal(t, 200, h.do(t, "GET", "/api/tickets/"+listed.ID, nil).status)
		read = append(read, time.Since(began))
	}
	p99 := func(times []time.Duration) time.Duration {
		slices.Sort(times)
		return times[len(times)*99/100].Round(10 * time.Microsecond)
	}
	return salesTimes{p99(reserve), p99(read)}
}
