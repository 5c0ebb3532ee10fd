package index

import (
	"slices"
	"time"
)

// This file removes what time has made useless: closed shows, and what was deleted or sold long ago.

const (
	// keepFor is how long shows are kept after their start or cancellation, and listings after their deletion or sale.
	keepFor = 7 * 24 * time.Hour
	// tidyBuckets is how many buckets each tidy checks for what can be dropped.
	tidyBuckets = 16
)

// tidy removes the listings of closed shows from the newest, and drops what is not needed any more. It holds the lock for short times only.
func (x *Index) tidy() {
	for _, s := range x.takeClosed() {
		for x.removeFromNewest(s) {
		}
	}
	for range tidyBuckets {
		x.dropOld(x.takeBucket())
	}
}

// takeBucket returns the bucket whose turn it is.
func (x *Index) takeBucket() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.nextBucket = (x.nextBucket + 1) % MaxChunks
	return x.nextBucket
}

// takeClosed returns the shows that have started or were cancelled, and have listings in newest.
func (x *Index) takeClosed() []*show {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.advance(x.clock().UnixMilli())
	closed := x.closed
	x.closed = nil
	for row, of := range x.byRow {
		if of != nil && of.inNewest > 0 && x.columns[row].startsAt <= x.now {
			closed = append(closed, of)
		}
	}
	return closed
}

// removeFromNewest removes some listings of a show that is not open. It reports whether there may be more.
func (x *Index) removeFromNewest(s *show) (more bool) {
	const some = 256
	x.mu.Lock()
	defer x.mu.Unlock()
	if s.inNewest == 0 || s.isOpen(x.now) {
		return false
	}
	// From the end: listings are attached there, and the next call continues with those before.
	removed := 0
	for _, l := range slices.Backward(s.listings) {
		if l.isNewest {
			x.takeFromNewest(l)
			if removed++; removed == some {
				return true
			}
		}
	}
	return false
}

// dropOld drops what is not needed any more in a bucket.
func (x *Index) dropOld(bucket int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := x.now - keepFor.Milliseconds()
	for _, l := range x.buckets[bucket].listings {
		if l.isOld(before) {
			x.dropListing(l)
		}
	}
	for _, s := range x.buckets[bucket].shows {
		if s.isOld(before) {
			x.unlist(s)
			s.state = nil
			x.showChanges++
			x.dropIfUnused(s)
		}
	}
}

func (x *Index) dropListing(l *listing) {
	of := l.of
	x.take(l)
	x.attach(l, nil)
	x.refresh(of)
	x.dropIfUnused(of)
	delete(x.buckets[bucketOf(l.id)].listings, l.id)
	x.listingCount--
}

func (l *listing) isOld(before int64) bool {
	switch {
	case l.version == 0:
		return l.reservedAt != 0 && l.reservedAt < before
	case l.deleted:
		return l.updatedAt < before
	case l.salesEndAt != 0:
		return l.salesEndAt < before
	}
	return l.status() == Sold && max(l.updatedAt, l.reservedAt) < before
}

func (s *show) isOld(before int64) bool {
	switch {
	case s.state == nil:
		return false
	case s.state.Cancelled && s.state.UpdatedAt.UnixMilli() < before:
		return true
	}
	return s.state.StartsAt.UnixMilli() < before
}
