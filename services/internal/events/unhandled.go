package events

import (
	"sync"
	"time"
)

const (
	// rememberedUnhandled bounds the unhandled events that are remembered. Beyond it, newer ones are not remembered.
	rememberedUnhandled = 16384
	// forgetAfter is the time without a delivery after which an event counts as delivered to another process. It is longer than
	// the sidecar's pause between two deliveries.
	forgetAfter = time.Minute
	// warnAgain is the time between two log lines about the same event.
	warnAgain = time.Minute
)

// unhandled are the events that were delivered to this process and are not handled yet: a handler runs, or they will be
// delivered again. The zero value is ready to use.
type unhandled struct {
	mu     sync.Mutex
	events map[string]*unhandledEvent // by id
}

type unhandledEvent struct {
	at        time.Time // when it happened, by its own time
	running   int       // handlers
	delivered time.Time // when its last delivery ended
	warned    time.Time
}

// begin notes that a delivery of an event is being handled.
func (u *unhandled) begin(event Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.events == nil {
		u.events = map[string]*unhandledEvent{}
	}
	known := u.events[event.ID]
	if known == nil {
		if len(u.events) >= rememberedUnhandled {
			return
		}
		known = &unhandledEvent{at: event.Time.Time}
		if known.at.IsZero() {
			known.at = time.Now()
		}
		u.events[event.ID] = known
	}
	known.running++
}

// end notes the outcome of a delivery. It reports whether a log line about its redelivery is due.
func (u *unhandled) end(event Event, o outcome, now time.Time) (warn bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	known := u.events[event.ID]
	switch {
	case known == nil:
		return true
	case o != retry:
		delete(u.events, event.ID)
		return false
	}
	known.running--
	known.delivered = now
	if now.Sub(known.warned) < warnAgain {
		return false
	}
	known.warned = now
	return true
}

// oldest is the age of the oldest event that is not handled, 0 if there is none.
func (u *unhandled) oldest(now time.Time) (age time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, event := range u.events {
		if event.running <= 0 && now.Sub(event.delivered) > forgetAfter {
			delete(u.events, id)
			continue
		}
		age = max(age, now.Sub(event.at))
	}
	return age
}
