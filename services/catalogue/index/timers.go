package index

import "container/heap"

// This file has what time alone changes: listings whose sale ends are no longer available.

// timer is a time at which a listing may end to be available.
type timer struct {
	at int64
	of *listing
}

// timers are a heap with the earliest first.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(v any)        { *t = append(*t, v.(timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	(*t)[len(*t)-1] = timer{}
	*t = (*t)[:len(*t)-1]
	return last
}

func (t timers) due(now int64) bool { return len(t) > 0 && t[0].at <= now }

// setTimer sets a timer for the end of the listing's sale, if its show does not start before, as is the rule.
func (c *contents) setTimer(l *listing) {
	if l.salesEndAt == 0 || l.of != nil && l.of.state != nil && l.of.state.StartsAt.UnixMilli() <= l.salesEndAt {
		return
	}
	if l.timerAt != 0 && l.timerAt <= l.salesEndAt {
		return // it is set again when it is due
	}
	l.timerAt = l.salesEndAt
	heap.Push(&c.timers, timer{l.timerAt, l})
}

// advance ends the sales of listings whose time has come.
func (c *contents) advance(now int64) {
	c.now = max(c.now, now)
	for c.timers.due(c.now) {
		due := heap.Pop(&c.timers).(timer)
		l := due.of
		if l.timerAt != due.at {
			continue // another timer is set
		}
		l.timerAt = 0
		if !l.offered {
			continue
		}
		c.take(l)
		c.put(l)
		c.refresh(l.of)
	}
}
