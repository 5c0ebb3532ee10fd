package main

import (
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"boxoffice/services/internal/id"
	"boxoffice/services/payments/domain"
)

// cacheLength bounds how many orders are cached: about 4 MB.
const cacheLength = 8192

// cache has the orders that this process has read or committed last, and those that it works on now. It may be older than the
// store, so it only serves to find out that there is nothing to do. A decision is made on what was read, and guarded by the
// ETag.
type cache struct {
	mu     sync.Mutex
	orders *lru.Cache[id.Order, domain.Order]
	busy   map[id.Order]int
}

func newCache() *cache {
	orders, _ := lru.New[id.Order, domain.Order](cacheLength) // the error is that of a size below 1
	return &cache{orders: orders, busy: map[id.Order]int{}}
}

// put caches an order as it is in the store.
func (c *cache) put(order domain.Order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cached, known := c.orders.Peek(order.ID); !known || !order.IsOlderThan(cached) {
		c.orders.Add(order.ID, order.Copy())
	}
}

// get returns an order as this process has read or committed it last. Its payment must not be changed.
func (c *cache) get(orderID id.Order) (cached domain.Order, known bool) { return c.orders.Get(orderID) }

// begin marks an order as being worked on: this process is about to commit an outcome of its payment. done ends that.
func (c *cache) begin(orderID id.Order) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy[orderID]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.busy[orderID]--; c.busy[orderID] == 0 {
			delete(c.busy, orderID)
		}
	}
}

func (c *cache) isBusy(orderID id.Order) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy[orderID] > 0
}
