package events

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// rememberedFailures bounds the events whose failures are counted. Beyond it, the count of the event that failed least
// recently begins again.
const rememberedFailures = 4096

// failures counts, in memory only, how often the handling of each event has failed.
type failures struct {
	mu  sync.Mutex
	ids *simplelru.LRU[string, failure]
}

type failure struct {
	attempts int
	first    time.Time
}

func newFailures() *failures {
	ids, err := simplelru.NewLRU[string, failure](rememberedFailures, nil)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &failures{ids: ids}
}

// add counts one more failure of an event, and returns how many there were and when the first was.
func (f *failures) add(event string, now time.Time) failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	counted, found := f.ids.Get(event)
	if !found {
		counted.first = now
	}
	counted.attempts++
	f.ids.Add(event, counted)
	return counted
}

// forget ends the count of an event that was handled, or that became a dead letter.
func (f *failures) forget(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids.Remove(event)
}
