package main

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

// job is what one client does again and again. It returns how often it has done what is counted (more than once
// if it does several in one call) and the status that it was answered with, 0 if there is none.
type job func(ctx context.Context, client int) (done, status int, err error)

// errOut ends a load early: what the clients use up is used up.
var errOut = errors.New("nothing left to work on")

// measurement is what became of a load.
type measurement struct {
	done      int
	all       int // with what was done before and after the measured time
	took      time.Duration
	latencies []time.Duration // of the calls of the job, sorted
	statuses  map[int]int
	failures  map[string]int // by message
	cpu       cpuTimes
	begin     time.Time // of the measured time
}

func (m *measurement) rate() float64 { return float64(m.done) / m.took.Seconds() }

// percentile is the latency that share of the calls did not exceed.
func (m *measurement) percentile(share float64) time.Duration {
	if len(m.latencies) == 0 {
		return 0
	}
	return m.latencies[min(len(m.latencies)-1, int(share*float64(len(m.latencies))))]
}

// load lets clients do a job at once, first for warm, which does not count, then for span. What ends within span
// is counted; a call that has not ended by then is waited for, but not counted.
func load(ctx context.Context, clients int, warm, span time.Duration, watch cpuWatch, work job) *measurement {
	var counting atomic.Bool
	running, out := context.WithCancel(ctx)
	defer out()

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
				case errors.Is(err, errOut):
					out()
				case err != nil:
					// Also before and after the measured time: what is wrong then is wrong.
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
	before, begin := watch.times(), time.Now()
	counting.Store(true)
	pause(running, span)
	counting.Store(false)
	all := &measurement{begin: begin, took: max(time.Since(begin), time.Millisecond), statuses: map[int]int{}, failures: map[string]int{}}
	all.cpu = watch.times().since(before)
	out()
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

// wrong says what should not have been, or nil: failed calls, and statuses other than the expected.
func (m *measurement) wrong(expected ...int) error {
	var problems []error
	for _, message := range slices.Sorted(maps.Keys(m.failures)) {
		problems = append(problems, fmt.Errorf("%d times: %s", m.failures[message], message))
	}
	for _, status := range slices.Sorted(maps.Keys(m.statuses)) {
		if !slices.Contains(expected, status) {
			problems = append(problems, fmt.Errorf("%d times: status %d", m.statuses[status], status))
		}
	}
	if m.done == 0 && len(problems) == 0 {
		problems = append(problems, errors.New("nothing ended within the measured time"))
	}
	return errors.Join(problems...)
}
