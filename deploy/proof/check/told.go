package check

import "sync"

// Told is what clients were told: every answer that promises something. It may be written by many at once.
type Told struct {
	mu       sync.Mutex
	users    []string
	orders   map[string]ToldOrder
	listings map[string][]Listing // by ticket: each version that somebody was told
	deleted  map[string]bool
	payments map[string]string // the order by the payment
	requests []Request
}

// ToldOrder is an order that was answered 201.
type ToldOrder struct {
	ID, Ticket, Buyer string
	Cancelled         bool // and its cancellation 204
}

// Listing is a version of a ticket as its seller made it.
type Listing struct {
	Version int
	Title   string
	Price   int64
}

// NewTold makes an empty Told.
func NewTold() *Told {
	return &Told{orders: map[string]ToldOrder{}, listings: map[string][]Listing{}, deleted: map[string]bool{}, payments: map[string]string{}}
}

// User notes that somebody signed up.
func (t *Told) User(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.users = append(t.users, id)
}

// Order notes that a buyer was given a ticket.
func (t *Told) Order(id, ticket, buyer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.orders[id] = ToldOrder{ID: id, Ticket: ticket, Buyer: buyer}
}

// Cancelled notes that a buyer was told that an order is cancelled.
func (t *Told) Cancelled(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	order := t.orders[id]
	order.Cancelled = true
	t.orders[id] = order
}

// Listed notes that a seller was told a version of a ticket.
func (t *Told) Listed(ticket string, made Listing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listings[ticket] = append(t.listings[ticket], made)
}

// Deleted notes that a seller was told that a ticket is deleted.
func (t *Told) Deleted(ticket string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deleted[ticket] = true
}

// Paid notes that a buyer was told of a payment.
func (t *Told) Paid(payment, order string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.payments[payment] = order
}

// Request notes a request with its outcome, for the history.
func (t *Told) Request(r Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests = append(t.requests, r)
}
