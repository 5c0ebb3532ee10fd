package events

import (
	"time"

	"boxoffice/services/internal/id"
)

// The catalogue: every event type of the box office, with what it carries. An event carries the whole public
// state of its aggregate, so that whoever hears it needs no second question and can apply it or leave it by
// its version alone.
//
// Adding a member is a compatible change. Changing or removing one is not: raise the payload's schema number,
// and let consumers upgrade what they read before producers write it.

// Payload is what an event carries. Implementations are plain structs, one for each event type.
type Payload interface {
	// EventType is the CloudEvents type, for example "order.created".
	EventType() string
	// Schema is the number of the payload's format.
	Schema() int
	// Aggregate is the id of what the event tells of, and that aggregate's version after the change.
	Aggregate() (id string, version int)
}

// User is the public state of a user. Schema 1 had the email, which nobody needs; only auth keeps it now.
type User struct {
	ID        id.User   `json:"id"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
}

func (User) Schema() int                { return 2 }
func (u User) Aggregate() (string, int) { return string(u.ID), u.Version }

// UserCreated tells that somebody signed up.
type UserCreated struct{ User }

func (UserCreated) EventType() string { return "user.created" }

// UserDeleted says that a user deleted the account. Whoever keeps something of the user's ends or removes it.
type UserDeleted struct{ User }

func (UserDeleted) EventType() string { return "user.deleted" }

// Ticket is the public state of a ticket. Price is in the currency's minor unit (cents), Currency an ISO 4217
// code in lower case. Status is available, reserved, sold or withheld (after a refund, until the seller changes the listing);
// OrderID is set while it is reserved or sold. Sequence is that of the last change of reservation which the tickets service has
// applied; releases before did not publish it.
type Ticket struct {
	ID        id.Ticket    `json:"id"`
	Title     string       `json:"title"`
	Price     int64        `json:"price"`
	Currency  string       `json:"currency"`
	UserID    id.User      `json:"userId"`
	Status    TicketStatus `json:"status"`
	OrderID   id.Order     `json:"orderId,omitempty"`
	Sequence  int          `json:"sequence,omitempty"`
	Version   int          `json:"version"`
	CreatedAt time.Time    `json:"createdAt"`
	UpdatedAt time.Time    `json:"updatedAt"`
}

func (Ticket) Schema() int                { return 1 }
func (t Ticket) Aggregate() (string, int) { return string(t.ID), t.Version }

// TicketCreated tells that a ticket was listed.
type TicketCreated struct{ Ticket }

func (TicketCreated) EventType() string { return "ticket.created" }

// TicketUpdated tells that a ticket's title, price or status changed.
type TicketUpdated struct{ Ticket }

func (TicketUpdated) EventType() string { return "ticket.updated" }

// TicketDeleted tells that a listing was withdrawn. Its version is higher than that of any earlier event.
type TicketDeleted struct{ Ticket }

func (TicketDeleted) EventType() string { return "ticket.deleted" }

// OrderedTicket is the ticket as it was when it was reserved: the buyer pays this price, whatever the listing
// says later.
type OrderedTicket struct {
	ID       id.Ticket `json:"id"`
	Title    string    `json:"title"`
	Price    int64     `json:"price"`
	Currency string    `json:"currency"`
}

// Order is the public state of an order. Sequence grows with every change of reservation of the ticket, over
// all its orders; Reason says why an order was cancelled (user, expired, payment, withdrawn, refunded, unknown). With reason
// unknown the orders service does not know the order, for it was restored from a backup older than the order: of the order the
// event has the id and what its payment's event told alone, and no ticket.
type Order struct {
	ID        id.Order      `json:"id"`
	UserID    id.User       `json:"userId"`
	Status    OrderStatus   `json:"status"`
	Reason    CancelReason  `json:"reason,omitempty"`
	ExpiresAt time.Time     `json:"expiresAt"`
	Ticket    OrderedTicket `json:"ticket"`
	Sequence  int           `json:"sequence"`
	Version   int           `json:"version"`
	CreatedAt time.Time     `json:"createdAt"`
	UpdatedAt time.Time     `json:"updatedAt"`
}

func (Order) Schema() int                { return 1 }
func (o Order) Aggregate() (string, int) { return string(o.ID), o.Version }

// OrderCreated tells that a ticket was reserved.
type OrderCreated struct{ Order }

func (OrderCreated) EventType() string { return "order.created" }

// OrderCancelled tells that a reservation ended without a purchase.
type OrderCancelled struct{ Order }

func (OrderCancelled) EventType() string { return "order.cancelled" }

// OrderCompleted tells that the order was paid: the ticket is the buyer's.
type OrderCompleted struct{ Order }

func (OrderCompleted) EventType() string { return "order.completed" }

// ExpirationComplete says that the time of some orders is over: those of a slot of time, whose last one is over at
// EndsAt. A slot with many orders has several events; Part counts them. It may name orders that are settled, and name an
// order twice.
type ExpirationComplete struct {
	Slot   string         `json:"slot,omitempty"`
	EndsAt time.Time      `json:"endsAt,omitzero"`
	Part   int            `json:"part,omitempty"`
	Orders []ExpiredOrder `json:"orders,omitempty"`

	// Schema 1 had one order an event, which was published again until the order was settled. Such events may still be
	// in the stream; use All.
	OrderID   id.Order  `json:"orderId,omitempty"`
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
	Firing    int       `json:"firing,omitempty"`
}

// ExpiredOrder is an order whose time was over at ExpiresAt.
type ExpiredOrder struct {
	ID        id.Order  `json:"id"`
	ExpiresAt time.Time `json:"expiresAt"`
}

func (ExpirationComplete) EventType() string { return "expiration.complete" }
func (ExpirationComplete) Schema() int       { return 2 }
func (e ExpirationComplete) Aggregate() (string, int) {
	if e.OrderID != "" {
		return string(e.OrderID), e.Firing
	}
	return e.Slot, e.Part
}

// All returns the event's orders, whichever schema it has.
func (e ExpirationComplete) All() []ExpiredOrder {
	if e.OrderID != "" {
		return []ExpiredOrder{{ID: e.OrderID, ExpiresAt: e.ExpiresAt}}
	}
	return e.Orders
}

// Payment is the public state of a payment. Amount is in the currency's minor unit. DeclineCode is Stripe's
// reason, on failed payments only. Refunded is how much was given back so far, by refunds and by disputes that were lost:
// all, if it is not less than Amount. Dispute is Stripe's status of the last dispute, if there was one.
type Payment struct {
	ID          id.Payment    `json:"id"`
	OrderID     id.Order      `json:"orderId"`
	UserID      id.User       `json:"userId"`
	StripeID    string        `json:"stripeId"`
	Status      PaymentStatus `json:"status"`
	Amount      int64         `json:"amount"`
	Currency    string        `json:"currency"`
	Refunded    int64         `json:"refunded,omitempty"` // in all so far, in the currency's minor unit
	DeclineCode string        `json:"declineCode,omitempty"`
	Dispute     string        `json:"dispute,omitempty"`
	Version     int           `json:"version"`
	CreatedAt   time.Time     `json:"createdAt"`
	UpdatedAt   time.Time     `json:"updatedAt"`
}

func (Payment) Schema() int                { return 1 }
func (p Payment) Aggregate() (string, int) { return string(p.ID), p.Version }

// PaymentCreated tells that the buyer's funds are authorized: they are held, not yet taken.
type PaymentCreated struct{ Payment }

func (PaymentCreated) EventType() string { return "payment.created" }

// PaymentCaptured tells that the money was taken, for a completed order.
type PaymentCaptured struct{ Payment }

func (PaymentCaptured) EventType() string { return "payment.captured" }

// PaymentVoided tells that an authorization was given up before any money was taken.
type PaymentVoided struct{ Payment }

func (PaymentVoided) EventType() string { return "payment.voided" }

// PaymentRefunded tells that captured money was given back, whole or in part (see Payment.Refunded), or that a refund has
// failed, so that less is given back than an earlier event said.
type PaymentRefunded struct{ Payment }

func (PaymentRefunded) EventType() string { return "payment.refunded" }

// IsFull says whether all of the money was given back. Releases before published full refunds alone, without how much was
// refunded.
func (p PaymentRefunded) IsFull() bool {
	return p.Refunded >= p.Amount || p.Refunded == 0 && p.Status == PaymentStatusRefunded
}

// PaymentFailed tells that an attempt was declined. It frees nothing: the buyer may try again.
type PaymentFailed struct{ Payment }

func (PaymentFailed) EventType() string { return "payment.failed" }
