package main

import (
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

// The life of an order. There are three states and three transitions, each a function below:
//
//	   Ticket.Reserve
//	         │
//	         ▼        Order.Complete: the buyer's funds are authorized
//	      created ──────────────────────────────────────────────────▶ complete
//	         │
//	         │ Order.Cancel: by the buyer, because its time is over,           │ Order.Cancel: its payment was
//	         ▼               or because there is nothing to pay for any more   │ authorized, and fell through
//	     cancelled ◀───────────────────────────────────────────────────────────┘
//
// Created and complete orders are live: their ticket is nobody else's. A ticket has at most one live order,
// which its document names; the ticket's document and the order's are always changed together.

// Status is an order's state.
type Status string

const (
	Created   Status = "created"
	Complete  Status = "complete"
	Cancelled Status = "cancelled"
)

// Reason says why an order was cancelled.
type Reason string

const (
	ByUser    Reason = "user"      // the buyer cancelled
	Expired   Reason = "expired"   // its time was over before it was paid
	Unpaid    Reason = "payment"   // its payment fell through after it was authorized
	Withdrawn Reason = "withdrawn" // the seller deleted the listing in the moment it was reserved
)

// Order is one buyer's reservation of one ticket. Ticket is as it was when it was reserved: that price is paid.
type Order struct {
	Schema    int                  `json:"schema"`
	ID        string               `json:"id"`
	UserID    string               `json:"userId"`
	Status    Status               `json:"status"`
	Reason    Reason               `json:"reason,omitempty"`
	ExpiresAt time.Time            `json:"expiresAt"`
	Ticket    events.OrderedTicket `json:"ticket"`
	PaymentID string               `json:"paymentId,omitempty"` // of the payment that completed it
	Sequence  int                  `json:"sequence"`            // of the ticket, after this order's last change
	Version   int                  `json:"version"`
	CreatedAt time.Time            `json:"createdAt"`
	UpdatedAt time.Time            `json:"updatedAt"`
}

// Reservation is a ticket's live order.
type Reservation struct {
	OrderID   string    `json:"orderId"`
	Status    Status    `json:"status"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// open says whether the reservation keeps others from the ticket. One whose time is over does not, even before
// anybody has cancelled it.
func (r *Reservation) open(now time.Time) bool {
	return r != nil && (r.Status == Complete || now.Before(r.ExpiresAt))
}

// Ticket is this service's view of a ticket: a replica of the listing, which the tickets service owns, and the
// reservation, which is decided here. Its ETag is the lock that every reservation takes.
type Ticket struct {
	Schema   int    `json:"schema"`
	ID       string `json:"id"`
	Title    string `json:"title"`
	Price    int64  `json:"price"`
	Currency string `json:"currency"`
	Version  int    `json:"version"` // of the listing, as last heard
	Deleted  bool   `json:"deleted,omitempty"`

	// Sequence counts the changes of reservation, over all orders: whoever hears two of them late knows by it
	// which came after which.
	Sequence    int          `json:"sequence"`
	Reservation *Reservation `json:"reservation,omitempty"`
}

var (
	errNoTicket    = problem.New(problem.NotFound, "There is no such ticket.").WithField("ticketId").WithCode("ticket_not_found")
	errReserved    = problem.New(problem.Conflict, "This ticket is reserved by somebody. It may become free again if it is not paid in time.").WithField("ticketId").WithCode("ticket_reserved")
	errSold        = problem.New(problem.Conflict, "This ticket is sold.").WithField("ticketId").WithCode("ticket_sold")
	errComplete    = problem.New(problem.Conflict, "This order is paid and complete; it cannot be cancelled any more.").WithCode("order_complete")
	errNotYours    = problem.New(problem.Forbidden, "This order belongs to somebody else.")
	errNoOrder     = problem.New(problem.NotFound, "There is no such order.")
	errNotReserved = problem.New(problem.Conflict, "This order does not hold its ticket any more.").WithCode("order_not_live")
)

// Reserve makes the ticket orderID's, for the buyer, until now+window. It refuses while another live order has
// it. If that order's time is over and nobody has cancelled it yet, expired says so: it must be cancelled in the
// same change.
func (t *Ticket) Reserve(orderID, buyer string, now time.Time, window time.Duration) (order Order, expired string, err error) {
	switch {
	case t.Deleted:
		return Order{}, "", errNoTicket
	case t.Reservation.open(now) && t.Reservation.Status == Complete:
		return Order{}, "", errSold
	case t.Reservation.open(now):
		return Order{}, "", errReserved
	}
	if t.Reservation != nil {
		expired = t.Reservation.OrderID
		t.Sequence++ // the expired order's cancellation comes first
	}
	t.Sequence++
	order = Order{
		Schema:    1,
		ID:        orderID,
		UserID:    buyer,
		Status:    Created,
		ExpiresAt: now.Add(window),
		Ticket:    events.OrderedTicket{ID: t.ID, Title: t.Title, Price: t.Price, Currency: t.Currency},
		Sequence:  t.Sequence,
		Version:   1,
		CreatedAt: now,
		UpdatedAt: now,
	}
	t.Reservation = &Reservation{OrderID: order.ID, Status: Created, ExpiresAt: order.ExpiresAt}
	return order, expired, nil
}

// Complete makes a created order, whose funds are authorized, its buyer's purchase. That the order's time is
// over does not matter: the payment was begun in time, and nobody else has the ticket.
func (o *Order) Complete(t *Ticket, paymentID string, now time.Time) error {
	if o.Status != Created || !t.holds(o.ID) {
		return errNotReserved
	}
	o.PaymentID = paymentID
	t.Sequence++
	t.Reservation.Status = Complete
	o.settle(Complete, t.Sequence, now)
	return nil
}

// Cancel ends an order that is not complete and frees its ticket. Cancelling twice is once. Reason Unpaid alone
// can cancel a complete order: its payment was lost after all.
func (o *Order) Cancel(t *Ticket, reason Reason, now time.Time) (changed bool, err error) {
	switch {
	case o.Status == Cancelled:
		return false, nil
	case o.Status == Complete && reason != Unpaid:
		return false, errComplete
	case !t.holds(o.ID):
		return false, errNotReserved
	}
	t.Sequence++
	t.Reservation = nil
	o.cancelAt(t.Sequence, reason, now)
	return true, nil
}

// GiveWay cancels an order whose time is over, in the change that gives its ticket, under sequence-1, to the
// next buyer.
func (o *Order) GiveWay(next Order, now time.Time) { o.cancelAt(next.Sequence-1, Expired, now) }

func (o *Order) cancelAt(sequence int, reason Reason, now time.Time) {
	o.Reason = reason
	o.settle(Cancelled, sequence, now)
}

func (o *Order) settle(status Status, sequence int, now time.Time) {
	o.Status = status
	o.Sequence = sequence
	o.Version++
	o.UpdatedAt = now
}

// IsPaidBy says whether the payment is the one that completed the order, as far as is known: an order that is not
// complete, or was completed by the release before, names none.
func (o *Order) IsPaidBy(paymentID string) bool { return o.PaymentID == "" || o.PaymentID == paymentID }

// IsOver says whether the order's time is over.
func (o *Order) IsOver(now time.Time) bool { return !now.Before(o.ExpiresAt) }

// holds says whether orderID is the ticket's live order.
func (t *Ticket) holds(orderID string) bool {
	return t.Reservation != nil && t.Reservation.OrderID == orderID
}

// Hear applies what the tickets service tells of the listing, if it is newer than what is known. It never
// touches the reservation.
func (t *Ticket) Hear(listing events.Ticket, deleted bool) (changed bool) {
	if listing.Version <= t.Version {
		return false
	}
	t.Schema = 1
	t.ID = listing.ID
	t.Title = listing.Title
	t.Price = listing.Price
	t.Currency = listing.Currency
	t.Version = listing.Version
	t.Deleted = deleted
	return true
}

// Told is the event of the order's last change, with its whole public state.
func (o *Order) Told() events.Payload {
	state := events.Order{
		ID:        o.ID,
		UserID:    o.UserID,
		Status:    string(o.Status),
		Reason:    string(o.Reason),
		ExpiresAt: o.ExpiresAt,
		Ticket:    o.Ticket,
		Sequence:  o.Sequence,
		Version:   o.Version,
		CreatedAt: o.CreatedAt,
		UpdatedAt: o.UpdatedAt,
	}
	switch o.Status {
	case Complete:
		return events.OrderCompleted{Order: state}
	case Cancelled:
		return events.OrderCancelled{Order: state}
	default:
		return events.OrderCreated{Order: state}
	}
}
