package main

import (
	"math"
	"sync"
	"time"
)

// maxBuckets bounds what one policy remembers, whoever comes: some 3 MB of addresses.
const maxBuckets = 1 << 15

// buckets are token buckets, one for each key. A bucket holds a burst of tokens and fills at a constant rate; a request takes
// one. A bucket is a single time, the one at which it is full again (the "generic cell rate algorithm").
//
// They are kept in two generations: when the younger one is full, the older one is forgotten. A bucket that is forgotten was not
// used while maxBuckets/2 others were; it begins anew, full.
type buckets[K comparable] struct {
	name     string
	interval time.Duration // in which one token comes
	burst    int
	window   int // seconds in which an empty bucket is full
	half     int

	mu             sync.Mutex
	younger, older map[K]int64 // nanoseconds
}

// longestInterval keeps times within an int64: a rate of less than a token in it is one token in it.
const longestInterval = 365 * 24 * time.Hour

// newBuckets makes buckets of that many tokens a second, at most 1e9, and burst times as many at once; nil for 0 a second, which is no limit.
func newBuckets[K comparable](name string, perSecond, burst float64) *buckets[K] {
	if perSecond <= 0 {
		return nil
	}
	interval := time.Duration(min(float64(time.Second)/perSecond, float64(longestInterval)))
	b := &buckets[K]{
		name: name, interval: interval, burst: max(1, int(perSecond*burst)),
		half: maxBuckets / 2, younger: map[K]int64{},
	}
	b.window = seconds(b.interval * time.Duration(b.burst))
	return b
}

// verdict is what a bucket said to a request.
type verdict struct {
	policy        string
	quota, window int
	remaining     int
	wait          time.Duration // until the next token, if there was none
	full          time.Duration // until the bucket is full
}

func (v verdict) allowed() bool { return v.wait == 0 }

// take takes a token from a key's bucket, if there is one.
func (b *buckets[K]) take(key K, now time.Time) verdict {
	at, size := now.UnixNano(), int64(b.interval)*int64(b.burst)
	v := verdict{policy: b.name, quota: b.burst, window: b.window}
	b.mu.Lock()
	defer b.mu.Unlock()
	full, ok := b.younger[key]
	if !ok {
		full = b.older[key]
	}
	next := max(full, at) + int64(b.interval)
	if excess := next - at - size; excess > 0 {
		v.wait, v.full = time.Duration(excess), time.Duration(max(full, at)-at)
		next = full
	} else {
		v.full = time.Duration(next - at)
		v.remaining = int((size - (next - at)) / int64(b.interval))
	}
	if !ok && len(b.younger) >= b.half {
		b.younger, b.older = make(map[K]int64, b.half), b.younger
	}
	b.younger[key] = next
	return v
}

// seconds rounds up.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
