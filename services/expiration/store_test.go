package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/id"
)

// testClock is a clock that a test sets.
type testClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *testClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// fixture is a store on documents in memory.
type fixture struct {
	*store
	*testClock
	sidecar *memory
	mu      sync.Mutex
	started []Slot // the slots whose first order was added
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	m, documents := openMemory(t)
	s := &fixture{testClock: &testClock{at: noon}, sidecar: m}
	s.store = newStore(documents, s.now, func(slot Slot) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.started = append(s.started, slot)
	})
	_, err := s.Watermark(t.Context())
	require.NoError(t, err)
	return s
}

func (s *fixture) ticker() *ticker { return &ticker{store: s.store, log: quiet} }

// deliver adds orders in parallel, as the events of a delivery are handled.
func (s *fixture) deliver(t *testing.T, orders ...Order) {
	t.Helper()
	var handling sync.WaitGroup
	errs := make([]error, len(orders))
	for i, order := range orders {
		handling.Go(func() { errs[i] = s.Add(t.Context(), order) })
	}
	handling.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func expiring(n int, expiresAt time.Time) []Order {
	orders := make([]Order, n)
	for i := range orders {
		orders[i] = Order{ID: id.New[id.Order](), ExpiresAt: expiresAt}
	}
	return orders
}

// requireExpired waits until the events have these orders, each as often as given, and no others.
func (s *fixture) requireExpired(t *testing.T, orders ...Order) {
	t.Helper()
	want := []id.Order{}
	for _, order := range orders {
		want = append(want, order.ID)
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		named := []id.Order{}
		for _, event := range s.sidecar.expired() {
			for _, order := range event.All() {
				named = append(named, order.ID)
			}
		}
		assert.ElementsMatch(c, want, named)
	}, 20*time.Second, time.Millisecond)
}

func (s *fixture) publishAll(t *testing.T) (orders int) {
	t.Helper()
	for shard := range shardCount {
		for _, slot := range s.started {
			if slot.Shard == shard {
				some, err := s.Publish(t.Context(), slot)
				require.NoError(t, err)
				orders += some
			}
		}
	}
	return orders
}

func TestAdd_OrdersOfADeliveryShareATransactionAndAReminder(t *testing.T) {
	s := newFixture(t)
	s.deliver(t, expiring(64, noon.Add(15*time.Minute))...)
	require.Len(t, s.started, shardCount)

	// The next delivery finds the slots in memory.
	transactions, reads := s.sidecar.calls()
	s.deliver(t, expiring(64, noon.Add(15*time.Minute))...)
	transactionsNow, readsNow := s.sidecar.calls()
	require.LessOrEqual(t, transactionsNow-transactions, 4, "64 orders share them")
	require.LessOrEqual(t, readsNow-reads, 4, "only what a transaction of the journal needs")
	require.Len(t, s.started, shardCount)
}

func TestPublish_PublishesEachOrderOnceAndDeletesItsDocuments(t *testing.T) {
	s := newFixture(t)
	var all []Order
	for range 40 { // more pages than one transaction takes
		some := expiring(20, noon.Add(time.Minute))
		s.deliver(t, some...)
		all = append(all, some...)
	}
	s.pass(time.Minute)
	require.Equal(t, len(all), s.publishAll(t))
	s.requireExpired(t, all...)
	require.Zero(t, s.publishAll(t), "a reminder that repeats finds nothing")

	tick := s.ticker()
	s.pass(sweepAge + time.Second)
	for range 8 {
		tick.swept = time.Time{}
		require.NoError(t, tick.Tick(t.Context()))
	}
	require.Equal(t, []string{watermarkKey}, s.sidecar.keys())
	s.requireExpired(t, all...)
}

func TestAdd_OrderWhoseTimeIsOverGetsALaterSlot(t *testing.T) {
	s := newFixture(t)
	late := expiring(1, noon.Add(-time.Hour))[0]
	s.deliver(t, late)
	require.Len(t, s.started, 1)
	require.GreaterOrEqual(t, s.started[0].Remaining(noon), headway)
	require.LessOrEqual(t, s.started[0].Remaining(noon), headway+slotLength)
	s.pass(headway + slotLength)
	s.publishAll(t)
	s.requireExpired(t, late)
}

// The slot ends, and may be read, while the transaction is committed.
func TestAdd_OrderThatWasCommittedTooLateIsAddedToALaterSlot(t *testing.T) {
	s := newFixture(t)
	slow := expiring(1, noon.Add(2*time.Second))[0]
	var once sync.Once
	s.sidecar.set(func() {
		s.sidecar.committing = func(ops []*client.StateOperation) {
			for _, op := range ops {
				if strings.HasPrefix(op.Item.Key, "page/") {
					once.Do(func() { s.pass(time.Minute) })
				}
			}
		}
	})
	s.deliver(t, slow)
	require.Len(t, s.started, 2)
	require.False(t, s.started[1].HasEnded(s.now()))
	some, err := s.Publish(t.Context(), s.started[1])
	require.NoError(t, err)
	require.Equal(t, 1, some)
}

func TestAdd_AFailureIsReturnedAndLosesNoLaterOrder(t *testing.T) {
	s := newFixture(t)
	first, second, third := expiring(1, noon.Add(time.Minute))[0], expiring(1, noon.Add(time.Minute))[0], expiring(1, noon.Add(time.Minute))[0]
	s.deliver(t, first)
	s.sidecar.set(func() { s.sidecar.refuse = 1000 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, s.Add(ctx, second))
	s.sidecar.set(func() { s.sidecar.refuse = 0 })
	s.deliver(t, third)
	s.pass(time.Minute)
	s.publishAll(t)
	require.Eventually(t, func() bool {
		named := fmt.Sprint(s.sidecar.expired())
		return strings.Contains(named, string(first.ID)) && strings.Contains(named, string(third.ID))
	}, 20*time.Second, time.Millisecond)
}

func TestTick_PublishesSlotsWhoseReminderDidNotFire(t *testing.T) {
	s := newFixture(t)
	orders := expiring(3, noon.Add(5*time.Second))
	s.deliver(t, orders...)
	tick := s.ticker()
	tick.swept = noon
	s.pass(5 * time.Second)
	require.NoError(t, tick.Tick(t.Context()))
	require.Empty(t, s.sidecar.expired(), "its reminder may still fire")
	s.pass(reminderTime)
	require.NoError(t, tick.Tick(t.Context()))
	s.requireExpired(t, orders...)
}

// The clock of the publishing process is ahead: it reads the slot before the last page is added.
func TestTick_PublishesAPageThatWasAddedLate(t *testing.T) {
	s := newFixture(t)
	early, late := expiring(1, noon.Add(5*time.Second))[0], expiring(1, noon.Add(5*time.Second))[0]
	s.deliver(t, early)
	_, err := s.Publish(t.Context(), s.started[0])
	require.NoError(t, err)
	for slotFor(late.ID, late.ExpiresAt, noon, headway) != s.started[0] {
		late.ID = id.New[id.Order]()
	}
	s.deliver(t, late)
	require.Len(t, s.started, 1)
	tick := s.ticker()
	s.pass(time.Minute)
	for tick.swept.IsZero() { // until a sweep is complete: the slot ended too long ago for a tick
		require.NoError(t, tick.Tick(t.Context()))
	}
	s.requireExpired(t, early, late)
}

func TestTick_CatchesUpAfterHoursInBoundedSteps(t *testing.T) {
	s := newFixture(t)
	orders := expiring(1, noon.Add(time.Minute))
	orders = append(orders, expiring(1, noon.Add(3*time.Hour))...)
	s.deliver(t, orders...)
	s.pass(4 * time.Hour)
	tick := s.ticker()
	for range 1000 {
		_, reads := s.sidecar.calls()
		require.NoError(t, tick.Tick(t.Context()))
		_, readsNow := s.sidecar.calls()
		require.Less(t, readsNow-reads, 100)
		if !tick.swept.IsZero() {
			break
		}
	}
	s.requireExpired(t, orders...)
}

// Whatever happens to several processes: each order that was added is published, none before its time, and at the end only the
// watermark remains.
func TestExpiration_NoOrderIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory()
		at := &testClock{at: noon}
		type process struct {
			*store
			tick *ticker
		}
		var mu sync.Mutex
		reminders := map[Slot]bool{}
		var processes []process
		for i := range 2 {
			documents := openStore(t, m, fmt.Sprint("process-", i))
			defer func() { _ = documents.Close(context.Background()) }()
			skew := time.Duration(rapid.Int64Range(-int64(time.Second)/2, int64(time.Second)/2).Draw(t, "skew"))
			now := func() time.Time { return at.now().Add(skew) }
			s := newStore(documents, now, func(slot Slot) {
				mu.Lock()
				defer mu.Unlock()
				reminders[slot] = true
			})
			_, err := s.Watermark(context.Background())
			require.NoError(t, err)
			processes = append(processes, process{s, &ticker{store: s, log: quiet}})
		}
		some := rapid.SampledFrom(processes)
		added := map[id.Order]time.Time{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				p := some.Draw(t, "process")
				window := time.Duration(rapid.Int64Range(-int64(time.Second), int64(20*time.Second)).Draw(t, "window"))
				orders := expiring(rapid.IntRange(1, 5).Draw(t, "orders"), p.clock().Add(window).Truncate(time.Millisecond)) // as orders publishes times
				var adding sync.WaitGroup
				errs := make([]error, len(orders))
				for i, order := range orders {
					adding.Go(func() { errs[i] = p.Add(context.Background(), order) })
				}
				adding.Wait()
				for i, order := range orders {
					require.NoError(t, errs[i])
					added[order.ID] = order.ExpiresAt
				}
			},
			"time passes": func(t *rapid.T) {
				at.pass(time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "time")))
			},
			"a reminder fires": func(t *rapid.T) {
				p := some.Draw(t, "process")
				mu.Lock()
				var over []Slot
				for slot := range reminders {
					if slot.HasEnded(p.clock()) {
						over = append(over, slot)
						delete(reminders, slot)
						break
					}
				}
				mu.Unlock()
				for _, slot := range over {
					_, err := p.Publish(context.Background(), slot)
					require.NoError(t, err)
				}
			},
			"the scheduler loses its data": func(*rapid.T) {
				mu.Lock()
				defer mu.Unlock()
				clear(reminders)
			},
			"tick":                 func(t *rapid.T) { require.NoError(t, some.Draw(t, "process").tick.Tick(context.Background())) },
			"the store fails once": func(*rapid.T) { m.set(func() { m.refuse = 1 }) },
		})
		for range 3 {
			at.pass(sweepAge)
			for _, p := range processes {
				for range 8 {
					p.tick.swept = time.Time{}
					require.NoError(t, p.tick.Tick(context.Background()))
				}
			}
		}
		require.Equal(t, []string{watermarkKey}, m.keys())
		require.Eventually(t, func() bool {
			named := map[id.Order]bool{}
			for _, event := range m.expired() {
				for _, order := range event.All() {
					named[order.ID] = true
				}
			}
			return len(named) == len(added)
		}, 10*time.Second, time.Millisecond)
		for _, event := range m.expired() {
			for _, order := range event.All() {
				require.True(t, added[order.ID].Equal(order.ExpiresAt.Time))
				require.False(t, event.EndsAt.Before(order.ExpiresAt.Time), "published before its time")
			}
		}
	})
}
