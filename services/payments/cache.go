package main

import "sync"

// cacheLength bounds how many orders are remembered: about 4 MB.
const cacheLength = 8192

// recent remembers the orders that this process has read or written last, and which of them it works on now. It only
// serves to see that there is nothing to do, for what it remembers may be older than what is on disk: whatever is
// written is decided on what was read, and guarded by its ETag.
type cache struct {
	mu     sync.Mutex
	orders map[string]Order
	ring   []string // the ids in the order in which they came
	next   int
	busy   map[string]int
}

func newCache() *cache {
	return &cache{orders: map[string]Order{}, ring: make([]string, cacheLength), busy: map[string]int{}}
}

// put remembers an order as it is on disk.
func (r *cache) put(o Order) {
	if o.Payment != nil {
		payment := *o.Payment
		o.Payment = &payment
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.orders[o.ID]
	if known && o.olderThan(before) {
		return
	}
	if !known {
		delete(r.orders, r.ring[r.next])
		r.ring[r.next] = o.ID
		r.next = (r.next + 1) % len(r.ring)
	}
	r.orders[o.ID] = o
}

// get returns an order as it was when this process saw it last. Its payment must not be changed.
func (r *cache) get(id string) (o Order, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, known = r.orders[id]
	return o, known
}

// work notes that this process is about to write down what became of an order's payment, until done is called.
func (r *cache) work(id string) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy[id]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.busy[id]--; r.busy[id] == 0 {
			delete(r.busy, id)
		}
	}
}

func (r *cache) working(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy[id] > 0
}

// olderThan says whether the order was read before another version of it was.
func (o *Order) olderThan(other Order) bool {
	return o.Version < other.Version || other.Payment != nil && (o.Payment == nil || o.Payment.Version < other.Payment.Version)
}
