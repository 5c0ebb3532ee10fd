package events

import (
	"sync"
	"time"
)

// rememberedFailures bounds the events whose failures are counted; past that, the oldest count begins anew.
const rememberedFailures = 4096

// failures counts, in memory alone, how often the handling of an event has failed.
type failures struct {
	mu    sync.Mutex
	of    map[string]failure
	order []string // a ring of the keys, oldest at next
	next  int
}

type failure struct {
	attempts int
	first    time.Time
}

// add counts one more failure of the event, and returns how many there were and when the first was.
func (f *failures) add(event string, now time.Time) failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[string]failure{}
		f.order = make([]string, rememberedFailures)
	}
	known, again := f.of[event]
	if !again {
		delete(f.of, f.order[f.next])
		f.order[f.next] = event
		f.next = (f.next + 1) % rememberedFailures
		known.first = now
	}
	known.attempts++
	f.of[event] = known
	return known
}

// forget is for an event that was handled, or that is dead.
func (f *failures) forget(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, event)
}
