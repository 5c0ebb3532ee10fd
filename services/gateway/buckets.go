package main

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxBuckets limits the memory of one policy, however many clients come: some 4 MB of addresses.
const maxBuckets = 1 << 15

// buckets are token buckets, one for each key. A bucket holds a burst of tokens and fills at a constant rate; a request takes
// one token. Each bucket is stored as one time: when it is full again (the "generic cell rate algorithm").
//
// When there are too many, the bucket that was not used for the longest time is removed. It begins again, full. It is our own code
// because x/time/rate does not report how many tokens are left, nor when the bucket is full, which the RateLimit header needs.
type buckets[K comparable] struct {
	policy   string
	interval time.Duration // in which one token is added
	burst    int
	window   int // seconds in which an empty bucket becomes full

	mu   sync.Mutex
	full *simplelru.LRU[K, int64] // Unix time in nanoseconds
}

// longestInterval keeps times within an int64: a lower rate is raised to one token a year.
const longestInterval = 365 * 24 * time.Hour

// newBuckets makes buckets that get perSecond tokens a second, at most 1e9, and hold burst seconds' worth of them. It returns nil
// for 0 a second: no limit.
func newBuckets[K comparable](policy string, perSecond, burst float64) *buckets[K] {
	if perSecond <= 0 {
		return nil
	}
	interval := time.Duration(min(float64(time.Second)/perSecond, float64(longestInterval)))
	b := &buckets[K]{policy: policy, interval: interval, burst: max(1, int(perSecond*burst))}
	b.window = seconds(b.interval * time.Duration(b.burst))
	b.full, _ = simplelru.NewLRU[K, int64](maxBuckets, nil) // fails for a size of 0 only
	return b
}

// quota is the state of a bucket after a request.
type quota struct {
	policy        string
	burst, window int
	remaining     int           // tokens
	wait          time.Duration // until the next token; 0 if the request got one
	full          time.Duration // until the bucket is full
}

func (q quota) allowed() bool { return q.wait == 0 }

// take takes a token from a key's bucket, if there is one.
func (b *buckets[K]) take(key K, now time.Time) quota {
	at, size := now.UnixNano(), int64(b.interval)*int64(b.burst)
	q := quota{policy: b.policy, burst: b.burst, window: b.window}
	b.mu.Lock()
	defer b.mu.Unlock()
	full, _ := b.full.Get(key)
	next := max(full, at) + int64(b.interval)
	if excess := next - at - size; excess > 0 {
		q.wait, q.full = time.Duration(excess), time.Duration(max(full, at)-at)
		return q
	}
	q.full = time.Duration(next - at)
	q.remaining = int((size - (next - at)) / int64(b.interval))
	b.full.Add(key, next)
	return q
}

// seconds rounds up.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
