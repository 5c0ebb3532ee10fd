package e2e

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// signInFlood is 300 clients that sign in without end. Each waits a second after a 503, as Retry-After asks.
type signInFlood struct {
	mu        sync.Mutex
	responses map[int]int    // by status
	codes     map[string]int // of those with 503
	errs      []error
	working   sync.WaitGroup
}

func (s *testStack) startSignInFlood(ctx context.Context, t *testing.T, user *testUser) *signInFlood {
	t.Helper()
	const clients = 300
	f := &signInFlood{responses: map[int]int{}, codes: map[string]int{}}
	for range clients {
		f.working.Go(func() {
			for ctx.Err() == nil {
				// Not ctx: a request that is under way ends with a response.
				r, err := s.try(t.Context(), client.SignIn(user.Email, user.password))
				f.count(r, err)
				if err != nil {
					return
				}
				if r.Status != 503 {
					continue
				}
				assert.NotEmpty(t, r.Header.Get("Retry-After"))
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
		})
	}
	return f
}

func (f *signInFlood) count(r client.Response, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.errs = append(f.errs, err)
		return
	}
	f.responses[r.Status]++
	if r.Status == 503 {
		f.codes[r.Code()]++
	}
}

func (f *signInFlood) responsesWith(status int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.responses[status]
}

// More sign-ins arrive than there is time for. Those too many are refused with 503 "overloaded" and Retry-After, none waits until a deadline,
// and every reservation and read succeeds. The test logs how long these take.
func TestSignInFlood_IsShedWhileOthersReserve(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"BCRYPT_COST": "10"}})
	seller, buyer, flooder := s.signUp(t), s.signUp(t), s.signUp(t)
	without := s.reserveAndRead(t, seller, buyer)

	ctx, stop := context.WithCancel(t.Context())
	flood := s.startSignInFlood(ctx, t, flooder)
	defer flood.working.Wait()
	defer stop()
	eventually(t, "sign-ins are shed", func() bool { return flood.responsesWith(503) > 0 })
	during := s.reserveAndRead(t, seller, buyer)
	stop()
	flood.working.Wait()

	t.Logf("sign-ins: %v %v", flood.responses, flood.codes)
	t.Logf("p99 of a reservation: %s without, %s during the flood; of a read: %s, %s", without.reserve, during.reserve, without.read, during.read)
	require.Empty(t, flood.errs)
	require.Positive(t, flood.responses[200], "some succeed")
	require.Positive(t, flood.responses[503], "others are shed")
	require.Len(t, flood.responses, 2, "%v", flood.responses)
	require.Equal(t, map[string]int{"overloaded": flood.responses[503]}, flood.codes, "none waits until a deadline")
}

// latencies are 99th percentiles.
type latencies struct{ reserve, read time.Duration }

// reserveAndRead makes 150 reservations and reads, which must succeed.
func (s *testStack) reserveAndRead(t *testing.T, seller, buyer *testUser) latencies {
	t.Helper()
	var reserve, read []time.Duration
	for range 150 {
		listed := seller.list(t, "Reserved in a flood", 1000)
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
