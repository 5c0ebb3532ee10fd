package events

import (
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
)

// The catalogue has every event type of the box office. An event carries the whole public state of its aggregate, so that a
// service that handles it need not ask for more, and can decide by the version whether to apply it.
//
// Adding a member is a compatible change. Changing or removing one is not: raise the payload's schema number, and release the
// services that handle the event before the service that publishes it.

// Payload is the data of an event. Implementations are plain structs, one for each event type.
type Payload interface {
	// EventType is the CloudEvents type, for example "order.created".
	EventType() string
	// Schema is the number of the payload's format.
	Schema() int
	// Aggregate returns the id of the aggregate that changed, and its version after the change. Type, id and version identify
	// the event.
	Aggregate() (id string, version int)
}

// User is the public state of a user. Schema 1 had the email, which no other service needs; now only auth has it.
type User struct {
	ID        id.User         `json:"id"`
	Version   int             `json:"version"`
	CreatedAt clock.Timestamp `json:"createdAt"`
}

func (User) Schema() int                { return 2 }
func (u User) Aggregate() (string, int) { return string(u.ID), u.Version }

// UserCreated is published when a user has signed up.
type UserCreated struct{ User }

func (UserCreated) EventType() string { return "user.created" }

// UserDeleted is published when a user has deleted the account. Services end or delete what belongs to the user.
type UserDeleted struct{ User }

func (UserDeleted) EventType() string { return "user.deleted" }

// Ticket is the public state of a ticket. Price is in the currency's minor unit (cents), Currency an ISO 4217 code in lower
// case. OrderID is set while the ticket is reserved or sold. Sequence is that of the last change of reservation that the
// tickets service has applied; earlier releases did not publish it.
type Ticket struct {
	ID        id.Ticket       `json:"id"`
	Title     string          `json:"title"`
	Price     int64           `json:"price"`
	Currency  string          `json:"currency"`
	UserID    id.User         `json:"userId"`
	Status    TicketStatus    `json:"status"`
	OrderID   id.Order        `json:"orderId,omitempty"`
	Sequence  int             `json:"sequence,omitempty"`
	Version   int             `json:"version"`
	CreatedAt clock.Timestamp `json:"createdAt"`
	UpdatedAt clock.Timestamp `json:"updatedAt"`
}

func (Ticket) Schema() int                { return 1 }
func (t Ticket) Aggregate() (string, int) { return string(t.ID), t.Version }

// TicketCreated is published when a seller has listed a ticket.
type TicketCreated struct{ Ticket }

func (TicketCreated) EventType() string { return "ticket.created" }

// TicketUpdated is published when a seller has changed a ticket's title or price.
type TicketUpdated struct{ Ticket }

func (TicketUpdated) EventType() string { return "ticket.updated" }

// TicketDeleted is published when a listing was withdrawn. Its version is higher than those of all other events of the ticket.
type TicketDeleted struct{ Ticket }

func (TicketDeleted) EventType() string { return "ticket.deleted" }

// OrderedTicket is the ticket as it was when it was reserved. The buyer pays this price, even if the listing changes later. It
// is the published form only: services store and return types of their own.
type OrderedTicket struct {
	ID       id.Ticket `json:"id"`
	Title    string    `json:"title"`
	Price    int64     `json:"price"`
	Currency string    `json:"currency"`
}

// Order is the public state of an order. Sequence grows with every change of reservation of the ticket, over all its orders.
// Reason is set if the order is cancelled. If it is CancelReasonUnknown, the event has only the order's id and the
// members of its payment's event, and may have no ticket. UserID is the buyer. SellerID is who listed the ticket; earlier
// releases did not publish it, and it is "" if the orders service does not know it.
type Order struct {
	ID        id.Order        `json:"id"`
	UserID    id.User         `json:"userId"`
	SellerID  id.User         `json:"sellerId,omitempty"`
	Status    OrderStatus     `json:"status"`
	Reason    CancelReason    `json:"reason,omitempty"`
	ExpiresAt clock.Timestamp `json:"expiresAt"`
	Ticket    OrderedTicket   `json:"ticket"`
	Sequence  int             `json:"sequence"`
	Version   int             `json:"version"`
	CreatedAt clock.Timestamp `json:"createdAt"`
	UpdatedAt clock.Timestamp `json:"updatedAt"`
}

func (Order) Schema() int                { return 1 }
func (o Order) Aggregate() (string, int) { return string(o.ID), o.Version }

// OrderCreated is published when a ticket was reserved.
type OrderCreated struct{ Order }

func (OrderCreated) EventType() string { return "order.created" }

// OrderCancelled is published when an order has ended without a sale, or when its sale was refunded.
type OrderCancelled struct{ Order }

func (OrderCancelled) EventType() string { return "order.cancelled" }

// OrderCompleted is published when the order's money is authorized: the ticket belongs to the buyer.
type OrderCompleted struct{ Order }

func (OrderCompleted) EventType() string { return "order.completed" }

// ExpirationComplete is published when the reservation windows of a slot's orders have ended; the last of them ends at EndsAt. A
// slot with many orders has several events, which Part counts. An event may name orders that are paid or cancelled, and may
// name an order twice.
type ExpirationComplete struct {
	Slot   string          `json:"slot,omitempty"`
	EndsAt clock.Timestamp `json:"endsAt,omitzero"`
	Part   int             `json:"part,omitempty"`
	Orders []ExpiredOrder  `json:"orders,omitempty"`

	// Events of schema 1 had one order each and were published again until it was paid or cancelled. Such events may still be
	// in the stream. All reads both schemas.
	OrderID   id.Order        `json:"orderId,omitempty"`
	ExpiresAt clock.Timestamp `json:"expiresAt,omitzero"`
	Firing    int             `json:"firing,omitempty"`
}

// ExpiredOrder is an order whose reservation window ended at ExpiresAt.
type ExpiredOrder struct {
	ID        id.Order        `json:"id"`
	ExpiresAt clock.Timestamp `json:"expiresAt"`
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

// Payment is the public state of a payment. Amount is in the currency's minor unit. DeclineCode is Stripe's reason, on failed
// payments only. Refunded is the sum of all refunds and of all disputes that were lost; see PaymentRefunded.IsFull. Dispute is
// Stripe's status of the last dispute, if there was one.
type Payment struct {
	ID          id.Payment      `json:"id"`
	OrderID     id.Order        `json:"orderId"`
	UserID      id.User         `json:"userId"`
	StripeID    string          `json:"stripeId"`
	Status      PaymentStatus   `json:"status"`
	Amount      int64           `json:"amount"`
	Currency    string          `json:"currency"`
	Refunded    int64           `json:"refunded,omitempty"` // in the currency's minor unit
	DeclineCode string          `json:"declineCode,omitempty"`
	Dispute     string          `json:"dispute,omitempty"`
	Version     int             `json:"version"`
	CreatedAt   clock.Timestamp `json:"createdAt"`
	UpdatedAt   clock.Timestamp `json:"updatedAt"`
}

func (Payment) Schema() int                { return 1 }
func (p Payment) Aggregate() (string, int) { return string(p.ID), p.Version }

// PaymentCreated is published when the buyer's money is authorized: it is held, and not taken yet.
type PaymentCreated struct{ Payment }

func (PaymentCreated) EventType() string { return "payment.created" }

// PaymentCaptured is published when the money of a complete order was taken.
type PaymentCaptured struct{ Payment }

func (PaymentCaptured) EventType() string { return "payment.captured" }

// PaymentVoided is published when an authorization was voided before money was taken.
type PaymentVoided struct{ Payment }

func (PaymentVoided) EventType() string { return "payment.voided" }

// PaymentRefunded is published when captured money was given back, whole or in part (see Payment.Refunded). It is also
// published when a refund has failed, so that less is given back than in an earlier event.
type PaymentRefunded struct{ Payment }

func (PaymentRefunded) EventType() string { return "payment.refunded" }

// IsFull reports whether all of the money was given back. Earlier releases published only full refunds, without the amount.
func (p PaymentRefunded) IsFull() bool {
	return p.Refunded >= p.Amount || p.Refunded == 0 && p.Status == PaymentStatusRefunded
}

// PaymentFailed is published when an attempt was declined. The reservation stays: the buyer may try again.
type PaymentFailed struct{ Payment }

func (PaymentFailed) EventType() string { return "payment.failed" }
