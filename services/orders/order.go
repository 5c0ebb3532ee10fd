package main

import (
	"slices"
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
//	         ▼               or because there is nothing to pay for any more   │ authorized, and fell through, or
//	     cancelled ◀───────────────────────────────────────────────────────────┘ was captured, and refunded
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
	Refunded  Reason = "refunded"  // all of its money was given back
	Unknown   Reason = "unknown"   // this service does not know it: a restored backup is older than it (lost.go)
)

// Terms are the rules of a reservation that are settings.
type Terms struct {
	// Window is how long a buyer has to pay.
	Window time.Duration
	// Cooldown is for how long a buyer who let a ticket expire may not reserve it again; 0 is not at all.
	Cooldown time.Duration
	// PerUser is how many live unpaid reservations a buyer may have; 0 is any number.
	PerUser int
}

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
	Captured  bool                 `json:"captured,omitempty"`  // the money was taken; for Unsettled alone
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
	// UserID is the seller; "" in a document of an earlier release, until the listing is heard of again.
	UserID string `json:"userId,omitempty"`

	// Sequence counts the changes of reservation, over all orders: whoever hears two of them late knows by it
	// which came after which.
	Sequence    int          `json:"sequence"`
	Reservation *Reservation `json:"reservation,omitempty"`
	// Cooldowns are of those buyers who have held the ticket for nothing lately; those that are over may be left in.
	Cooldowns []Cooldown `json:"cooldowns,omitempty"`
	// Withheld is the sequence of the refund after which nobody may reserve the ticket, until its seller has changed the
	// listing in knowledge of that; 0 if there is no such thing.
	Withheld int `json:"withheld,omitempty"`
}

// Cooldown says until when a buyer may not reserve a ticket again.
type Cooldown struct {
	UserID string    `json:"userId"`
	Until  time.Time `json:"until"`
}

// maxCooldowns bounds a ticket's cooldowns; those that end first go first. With a cooldown of one window there are two at
// a time.
const maxCooldowns = 16

var (
	errNoTicket    = problem.New(problem.NotFound, "There is no such ticket.").WithField("ticketId").WithCode("ticket_not_found")
	errReserved    = problem.New(problem.Conflict, "This ticket is reserved by somebody. It may become free again if it is not paid in time.").WithField("ticketId").WithCode("ticket_reserved")
	errSold        = problem.New(problem.Conflict, "This ticket is sold.").WithField("ticketId").WithCode("ticket_sold")
	errOwnTicket   = problem.New(problem.Conflict, "This is your own ticket; you cannot buy it.").WithField("ticketId").WithCode("own_ticket")
	errCooldown    = problem.New(problem.Conflict, "You have held this ticket and not paid for it. Others may reserve it first; you can again when Retry-After is over.").WithField("ticketId").WithCode("reservation_cooldown")
	errWithheld    = problem.New(problem.Conflict, "This ticket is not for sale: its last sale was refunded, and its seller has not offered it again.").WithField("ticketId").WithCode("ticket_withheld")
	errComplete    = problem.New(problem.Conflict, "This order is paid and complete; it cannot be cancelled any more.").WithCode("order_complete")
	errNotYours    = problem.New(problem.Forbidden, "This order belongs to somebody else.")
	errNoOrder     = problem.New(problem.NotFound, "There is no such order.")
	errNotReserved = problem.New(problem.Conflict, "This order does not hold its ticket any more.").WithCode("order_not_live")
)

// Reserve makes the ticket orderID's, for the buyer, for the window that the terms name. It refuses while another live
// order has it (errSold, errReserved), and whom the ticket's seller, cooldowns or refund keep from it. If the order that has
// it is over and nobody has cancelled that yet, expired is its id: it must be made to GiveWay in the same change.
func (t *Ticket) Reserve(orderID, buyer string, now time.Time, terms Terms) (order Order, expired string, err error) {
	switch {
	case t.Deleted:
		return Order{}, "", errNoTicket
	case t.Reservation.open(now) && t.Reservation.Status == Complete:
		return Order{}, "", errSold
	case t.Reservation.open(now):
		return Order{}, "", errReserved
	case t.Withheld > 0:
		return Order{}, "", errWithheld
	case t.UserID == buyer:
		return Order{}, "", errOwnTicket
	}
	if err := t.mayAgain(buyer, now, terms.Cooldown); err != nil {
		return Order{}, "", err
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
		ExpiresAt: now.Add(terms.Window),
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

// mayAgain refuses a buyer whose cooldown is not over. With a cooldown of 0 there is none, whatever the document says.
func (t *Ticket) mayAgain(buyer string, now time.Time, cooldown time.Duration) error {
	if cooldown == 0 {
		return nil
	}
	for _, c := range t.Cooldowns {
		if left := c.Until.Sub(now); c.UserID == buyer && left > 0 {
			return errCooldown.WithRetryAfter(left)
		}
	}
	return nil
}

// Cancel ends an order that is not complete and frees its ticket. Cancelling twice is once. Reasons Unpaid and Refunded
// alone can cancel a complete order: its payment was lost after all, or given back. After a refund the ticket is withheld
// until its seller offers it again.
func (o *Order) Cancel(t *Ticket, reason Reason, now time.Time, terms Terms) (changed bool, err error) {
	switch {
	case o.Status == Cancelled:
		return false, nil
	case o.Status == Complete && reason != Unpaid && reason != Refunded:
		return false, errComplete
	case !t.holds(o.ID):
		return false, errNotReserved
	}
	t.Sequence++
	t.Reservation = nil
	if reason == Refunded {
		t.Withheld = t.Sequence
	}
	t.coolDown(o.cooldown(reason, now, terms), now)
	o.cancelAt(t.Sequence, reason, now)
	return true, nil
}

// GiveWay cancels an order whose time is over, in the change that gives its ticket, under sequence-1, to the next buyer.
// It refuses if that is the same buyer, who let the order expire: then nothing of the change may be written.
func (o *Order) GiveWay(t *Ticket, next Order, now time.Time, terms Terms) error {
	cooldown := o.cooldown(Expired, now, terms)
	if left := cooldown.Until.Sub(now); o.UserID == next.UserID && left > 0 {
		return errCooldown.WithRetryAfter(left)
	}
	t.coolDown(cooldown, now)
	o.cancelAt(next.Sequence-1, Expired, now)
	return nil
}

// cooldown is the one that follows the end of an unpaid order. Whoever lets it expire waits the whole cooldown from then
// on. Whoever cancels waits the part of it that is in proportion to the time for which the ticket was held: else a cancellation
// just before the end, and a new reservation at once, would hold it for ever; and a mistake that is corrected at once costs next to
// nothing. Other ends are not the buyer's doing.
func (o *Order) cooldown(reason Reason, now time.Time, terms Terms) Cooldown {
	c := Cooldown{UserID: o.UserID}
	switch window := o.ExpiresAt.Sub(o.CreatedAt); {
	case reason == Expired, reason == ByUser && o.IsOver(now):
		c.Until = o.ExpiresAt.Add(terms.Cooldown)
	case reason == ByUser && window > 0:
		held := float64(now.Sub(o.CreatedAt)) / float64(window)
		c.Until = now.Add(time.Duration(held * float64(terms.Cooldown))).Truncate(time.Millisecond)
	}
	return c
}

// coolDown adds a cooldown, if it has not ended yet, and removes what has.
func (t *Ticket) coolDown(added Cooldown, now time.Time) {
	t.Cooldowns = slices.DeleteFunc(append(slices.Clip(t.Cooldowns), added), func(c Cooldown) bool { return !c.Until.After(now) })
	slices.SortStableFunc(t.Cooldowns, func(a, b Cooldown) int { return a.Until.Compare(b.Until) })
	if over := len(t.Cooldowns) - maxCooldowns; over > 0 {
		t.Cooldowns = slices.Delete(t.Cooldowns, 0, over)
	}
	if len(t.Cooldowns) == 0 {
		t.Cooldowns = nil
	}
}

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

// Hear applies what the tickets service tells of the listing, if it is newer than what is known, or names the seller of a
// document that does not. It never touches the reservation. A ticket that is withheld is for sale again when its seller has
// changed the listing after the refund: then it is published as available, after the refund's sequence.
func (t *Ticket) Hear(listing events.Ticket, deleted bool) (changed bool) {
	if listing.Version < t.Version || listing.Version == t.Version && (t.UserID != "" || listing.UserID == "") {
		return false
	}
	t.Schema = 1
	t.UserID = listing.UserID
	if listing.Status == "available" && listing.Sequence >= t.Withheld { // also one that was deleted: it was put up again before
		t.Withheld = 0
	}
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
