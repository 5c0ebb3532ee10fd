package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// job is what one client repeats. It returns the number of operations that it did, which may be several in one call, and the
// status of the response, 0 if there is none.
type job func(ctx context.Context, client int) (done, status int, err error)

// errExhausted ends a load early: the tickets that the clients use up are used up.
var errExhausted = errors.New("nothing left to work on")

// measurement is the result of a load.
type measurement struct {
	done      int
	all       int // including operations before and after the measured time
	took      time.Duration
	latencies []time.Duration // of the calls of the job, sorted
	statuses  map[int]int
	failures  map[string]int // by message
	cpu       cpuTimes
	begin     time.Time // of the measured time
}

func (m *measurement) rate() float64 { return float64(m.done) / m.took.Seconds() }

// percentile is the latency that a share of the calls did not exceed.
func (m *measurement) percentile(share float64) time.Duration {
	if len(m.latencies) == 0 {
		return 0
	}
	return m.latencies[min(len(m.latencies)-1, int(share*float64(len(m.latencies))))]
}

// load runs a job in several clients at once, first for warm, which does not count, then for span. A call counts if it ends within
// span. load returns when all calls have ended.
func load(ctx context.Context, clients int, warm, span time.Duration, cpu cpuReader, work job) *measurement {
	var counting atomic.Bool
	running, stop := context.WithCancel(ctx)
	defer stop()

	parts := make([]measurement, clients)
	var working sync.WaitGroup
	for client := range clients {
		working.Go(func() {
			part := &parts[client]
			part.statuses, part.failures = map[int]int{}, map[string]int{}
			for running.Err() == nil {
				start := time.Now()
				done, status, err := work(ctx, client)
				part.all += done
				switch {
				case errors.Is(err, errExhausted):
					stop()
				case err != nil:
					// Failures before and after the measured time count, too.
					part.failures[err.Error()]++
				case counting.Load():
					part.done += done
					part.statuses[status]++
					part.latencies = append(part.latencies, time.Since(start))
				}
			}
		})
	}
	pause(running, warm)
	before, begin := cpu.times(), time.Now()
	counting.Store(true)
	pause(running, span)
	counting.Store(false)
	all := &measurement{begin: begin, took: max(time.Since(begin), time.Millisecond), statuses: map[int]int{}, failures: map[string]int{}}
	all.cpu = cpu.times().since(before)
	stop()
	working.Wait()

	for _, part := range parts {
		all.done += part.done
		all.all += part.all
		all.latencies = append(all.latencies, part.latencies...)
		for status, n := range part.statuses {
			all.statuses[status] += n
		}
		for message, n := range part.failures {
			all.failures[message] += n
		}
	}
	slices.Sort(all.latencies)
	return all
}

func pause(ctx context.Context, span time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(span):
	}
}

// problems are the failed calls and the statuses other than the expected ones, or nil.
func (m *measurement) problems(expected ...int) error {
	var all []error
	for _, message := range slices.Sorted(maps.Keys(m.failures)) {
		all = append(all, fmt.Errorf("%d times: %s", m.failures[message], message))
	}
	for _, status := range slices.Sorted(maps.Keys(m.statuses)) {
		if !slices.Contains(expected, status) {
			all = append(all, fmt.Errorf("%d times: status %d", m.statuses[status], status))
		}
	}
	if m.done == 0 && len(all) == 0 {
		all = append(all, errors.New("nothing ended within the measured time"))
	}
	return errors.Join(all...)
}
