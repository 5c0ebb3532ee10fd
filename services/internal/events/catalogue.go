package events

import (
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
)

// The catalogue has every event type of the box office. An event carries the whole public state of its aggregate, so that a
// service that handles it need not ask for more, and can decide by the version whether to apply it.
//
// The types here are the source of the JSON Schemas in services/contracts/schemas, which the gateway serves. Comments of types and members
// become descriptions there: write them for readers of any language. Names of members, types and constants become those of the
// JSON. Tags named jsonschema add what a Go type does not have.
//
// Within a schema number, only an optional member may be added, because services refuse a number that they do not know, and
// releases run side by side during an update. Any other change needs a new number: to remove or rename a member, to change
// its type or its meaning, to make it optional or required, or to give it a further value. Release the services that read the
// new number before the service that publishes it. A test in services/contracts compares with the previous release.

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
	// The user's id.
	ID id.User `json:"id"`
	// Version grows with every event of the user.
	Version int `json:"version" jsonschema:"minimum=1"`
	// CreatedAt is when the user signed up.
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

// Ticket is the public state of a ticket, as its seller offers it.
type Ticket struct {
	// The ticket's id.
	ID id.Ticket `json:"id"`
	// What is for sale, in the seller's words.
	Title string `json:"title"`
	// Price is in the currency's minor unit: cents, if the currency is usd.
	Price int64 `json:"price" jsonschema:"minimum=0"`
	// Currency is that of the price: an ISO 4217 code in lower case.
	Currency string `json:"currency" jsonschema:"pattern=^[a-z]{3}$"`
	// The seller's id.
	UserID id.User `json:"userId"`
	// Status is the ticket's availability, as the tickets service knows it. What orders publishes is newer.
	Status TicketStatus `json:"status"`
	// OrderID is the order that has the ticket. It is absent unless the ticket is reserved or sold.
	OrderID id.Order `json:"orderId,omitempty"`
	// Sequence is that of the last order's event that the tickets service has applied. It is absent if there was none, and in
	// events of earlier releases.
	Sequence int `json:"sequence,omitempty" jsonschema:"minimum=0"`
	// ShowID is the show that the ticket is for. It is absent if the ticket has no show. It never changes.
	ShowID id.Show `json:"showId,omitempty"`
	// Seat is where the ticket's holder sits or stands. It is absent if the seller named no place. It never changes.
	Seat *Place `json:"seat,omitempty"`
	// FaceValue is the price that the show's owner has set for the ticket, in the currency's minor unit. It is absent if the
	// ticket has no show.
	FaceValue int64 `json:"faceValue,omitempty" jsonschema:"minimum=0"`
	// SalesEndAt is when the show starts: the ticket cannot be reserved from then on. It is absent if the ticket has no show.
	SalesEndAt clock.Timestamp `json:"salesEndAt,omitzero"`
	// ShowOwnerID is the owner of the show. It is absent if the ticket has no show, and in events of earlier releases, in which
	// the seller is the owner.
	ShowOwnerID id.User `json:"showOwnerId,omitempty"`
	// ResaleOf is what the seller resells: the ticket and the complete order whose pass admits to the place. It is absent unless the
	// ticket is a resale. It never changes.
	ResaleOf *Resold `json:"resaleOf,omitempty"`
	// Revoked is true if the ticket is void, because its show was cancelled or another ticket has its place. An order that has it
	// is cancelled, also a complete one, and its money is given back. It is absent in all events but TicketDeleted.
	Revoked bool `json:"revoked,omitempty"`
	// Version grows with every change of the ticket. Versions that were not published are missing.
	Version int `json:"version" jsonschema:"minimum=1"`
	// CreatedAt is when the ticket was listed.
	CreatedAt clock.Timestamp `json:"createdAt"`
	// UpdatedAt is when the ticket changed last.
	UpdatedAt clock.Timestamp `json:"updatedAt"`
}

func (Ticket) Schema() int                { return 1 }
func (t Ticket) Aggregate() (string, int) { return string(t.ID), t.Version }

// TicketCreated is published when a seller has listed a ticket.
type TicketCreated struct{ Ticket }

func (TicketCreated) EventType() string { return "ticket.created" }

// TicketUpdated is published when a seller has changed a ticket's title, price or face value, or when its show was moved to another
// time.
type TicketUpdated struct{ Ticket }

func (TicketUpdated) EventType() string { return "ticket.updated" }

// TicketDeleted is published when a listing was withdrawn or revoked. Its version is higher than those of all other events of the ticket.
type TicketDeleted struct{ Ticket }

func (TicketDeleted) EventType() string { return "ticket.deleted" }

// Resold is what a resale sells: the ticket that its seller has bought, and the seller's order of it.
type Resold struct {
	// The ticket that the seller has bought.
	TicketID id.Ticket `json:"ticketId"`
	// The seller's order of that ticket.
	OrderID id.Order `json:"orderId"`
}

// Place is where the holder of a ticket sits or stands, in the venue's words. A place with a number is of one ticket of its show.
type Place struct {
	// Section is a part of the venue.
	Section string `json:"section,omitempty"`
	// Row is a row of the section.
	Row string `json:"row,omitempty"`
	// Number is that of the seat in its row. It is absent if the place is not numbered, as for people who stand.
	Number string `json:"number,omitempty"`
}

// OrderedTicket is the ticket as it was when it was reserved. The buyer pays this price, even if the listing changes later. It
// is the published form only: services store and return types of their own.
type OrderedTicket struct {
	// The ticket's id.
	ID id.Ticket `json:"id"`
	// What was for sale.
	Title string `json:"title"`
	// Price is what the buyer pays, in the currency's minor unit.
	Price int64 `json:"price" jsonschema:"minimum=0"`
	// Currency is an ISO 4217 code in lower case.
	Currency string `json:"currency" jsonschema:"pattern=^[a-z]{3}$"`
	// ShowID is the show that the ticket is for. It is absent if the ticket has no show.
	ShowID id.Show `json:"showId,omitempty"`
	// Seat is where the ticket's holder sits or stands. It is absent if the seller named no place.
	Seat *Place `json:"seat,omitempty"`
}

// Order is the public state of an order: one buyer's purchase of one ticket.
type Order struct {
	// The order's id.
	ID id.Order `json:"id"`
	// The buyer's id.
	UserID id.User `json:"userId"`
	// SellerID is who listed the ticket. It is absent in events of earlier releases, and if the orders service does not know
	// it.
	SellerID id.User `json:"sellerId,omitempty"`
	// Status is the order's state.
	Status OrderStatus `json:"status"`
	// Reason is why the order was cancelled. It is absent if it is not cancelled.
	Reason CancelReason `json:"reason,omitempty"`
	// ExpiresAt is the end of the reservation window: unless it is paid before, the order is cancelled then.
	ExpiresAt clock.Timestamp `json:"expiresAt"`
	// The ticket as it was when it was reserved.
	Ticket OrderedTicket `json:"ticket"`
	// Sequence grows with every change of a reservation of the ticket, over all orders of that ticket. Of two events about one
	// ticket, the one with the higher sequence is the newer.
	Sequence int `json:"sequence" jsonschema:"minimum=0"`
	// UsedAt is when the order's pass was used at the entrance. It is absent if it was not.
	UsedAt clock.Timestamp `json:"usedAt,omitzero"`
	// ResoldAt is when another order bought the place from this order's buyer: the pass is void. It is absent if the place was not
	// resold, or if that sale was given back.
	ResoldAt clock.Timestamp `json:"resoldAt,omitzero"`
	// Version grows with every event of the order.
	Version int `json:"version" jsonschema:"minimum=1"`
	// CreatedAt is when the ticket was reserved.
	CreatedAt clock.Timestamp `json:"createdAt"`
	// UpdatedAt is when the order changed last.
	UpdatedAt clock.Timestamp `json:"updatedAt"`
}

func (Order) Schema() int                { return 1 }
func (o Order) Aggregate() (string, int) { return string(o.ID), o.Version }

// OrderCreated is published when a ticket was reserved.
type OrderCreated struct{ Order }

func (OrderCreated) EventType() string { return "order.created" }

// OrderCancelled is published when an order has ended without a sale, or when its sale was refunded. If the reason is
// CancelReasonUnknown, only the order's id, its status and its version are reliable, and ids that are not known are "".
type OrderCancelled struct{ Order }

func (OrderCancelled) EventType() string { return "order.cancelled" }

// OrderCompleted is published when the order's money is authorized: the ticket belongs to the buyer.
type OrderCompleted struct{ Order }

func (OrderCompleted) EventType() string { return "order.completed" }

// OrderUpdated is published when the pass of a complete order was used, or became void because its place was resold, or became
// valid again because that sale was given back.
type OrderUpdated struct{ Order }

func (OrderUpdated) EventType() string { return "order.updated" }

// ExpirationComplete is published when the reservation windows of some orders have ended. Such a group of orders, a slot,
// may have several events, or none. An event may name orders that were paid or cancelled before, and may name an order twice: only the
// service orders decides what is cancelled.
type ExpirationComplete struct {
	// Slot is the group's name. Together with the part, it identifies the event.
	Slot string `json:"slot,omitempty" jsonschema:"required"`
	// EndsAt is when the last of the windows ended.
	EndsAt clock.Timestamp `json:"endsAt,omitzero" jsonschema:"required"`
	// Part counts the events of the slot.
	Part int `json:"part,omitempty" jsonschema:"required,minimum=1"`
	// The orders whose windows have ended, 200 at most.
	Orders []ExpiredOrder `json:"orders,omitempty" jsonschema:"required,minItems=1"`

	// Events of schema 1 had one order each and were published again until it was paid or cancelled. Such events may still be
	// in the stream. All reads both schemas.
	OrderID   id.Order        `json:"orderId,omitempty" jsonschema:"-"`
	ExpiresAt clock.Timestamp `json:"expiresAt,omitzero" jsonschema:"-"`
	Firing    int             `json:"firing,omitempty" jsonschema:"-"`
}

// ExpiredOrder is an order whose reservation window has ended.
type ExpiredOrder struct {
	// The order's id.
	ID id.Order `json:"id"`
	// ExpiresAt is the end of the window.
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

// Payment is the public state of a payment: the money of one order. Amounts are in the currency's minor unit.
type Payment struct {
	// The payment's id.
	ID id.Payment `json:"id"`
	// The order that is paid.
	OrderID id.Order `json:"orderId"`
	// The buyer's id.
	UserID id.User `json:"userId"`
	// StripeID is the id of the PaymentIntent at Stripe. It is "" if the payment ended before there was one.
	StripeID string `json:"stripeId" jsonschema:"example=pi_3MtwBwLkdIwHu7ix28a3tqPa"`
	// Status is the payment's state.
	Status PaymentStatus `json:"status"`
	// Amount is the order's price.
	Amount int64 `json:"amount" jsonschema:"minimum=0"`
	// Currency is an ISO 4217 code in lower case.
	Currency string `json:"currency" jsonschema:"pattern=^[a-z]{3}$"`
	// Refunded is what was given back: the sum of all refunds and of all disputes that were lost. It is absent if that is 0, and
	// in events of earlier releases, which published only full refunds.
	Refunded int64 `json:"refunded,omitempty" jsonschema:"minimum=0"`
	// DeclineCode is why the bank declined the card, in Stripe's words. It is absent if there was no decline.
	DeclineCode string `json:"declineCode,omitempty" jsonschema:"example=insufficient_funds"`
	// Dispute is Stripe's status of the last dispute. It is absent if there was none.
	Dispute string `json:"dispute,omitempty" jsonschema:"example=needs_response"`
	// Version grows with every change of the payment. Versions that were not published are missing.
	Version int `json:"version" jsonschema:"minimum=1"`
	// CreatedAt is when the payment began.
	CreatedAt clock.Timestamp `json:"createdAt"`
	// UpdatedAt is when the payment changed last.
	UpdatedAt clock.Timestamp `json:"updatedAt"`
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

// PaymentRefunded is published when captured money was given back, whole or in part (see Refunded). It is also
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

// Show is the public state of a show: an event at a venue, for which tickets are sold.
type Show struct {
	// The show's id.
	ID id.Show `json:"id"`
	// What is on.
	Name string `json:"name"`
	// The building or the place.
	Venue string `json:"venue"`
	// The venue's city.
	City string `json:"city"`
	// The venue's country: an ISO 3166-1 alpha-2 code in upper case.
	Country string `json:"country" jsonschema:"pattern=^[A-Z]{2}$"`
	// StartsAt is when the show starts: sales end then.
	StartsAt clock.Timestamp `json:"startsAt"`
	// TimeZone is that of the venue, as the IANA time zone database names it.
	TimeZone string `json:"timeZone" jsonschema:"example=Europe/Berlin"`
	// Category is what kind of show it is, a word in lower case: music, theatre, comedy, dance, sport, family, festival or other.
	// Further ones may come.
	Category string `json:"category" jsonschema:"pattern=^[a-z]+$"`
	// Description is the owner's text about the show.
	Description string `json:"description,omitempty"`
	// MaxMarkup is by how many percent a ticket's price may exceed its face value. It is absent if prices have no cap.
	MaxMarkup *int `json:"maxMarkup,omitempty" jsonschema:"minimum=0"`
	// Image is absent if the owner has uploaded none.
	Image *ShowImage `json:"image,omitempty"`
	// Status is whether the show takes place.
	Status ShowStatus `json:"status"`
	// The owner's id.
	UserID id.User `json:"userId"`
	// Version grows with every event of the show.
	Version int `json:"version" jsonschema:"minimum=1"`
	// CreatedAt is when the owner announced the show.
	CreatedAt clock.Timestamp `json:"createdAt"`
	// UpdatedAt is when the show changed last.
	UpdatedAt clock.Timestamp `json:"updatedAt"`
}

// ShowImage is the image of a show, a JPEG.
type ShowImage struct {
	// URL is the path at the gateway. What is there never changes: another image has another path.
	URL string `json:"url"`
	// Width is in pixels.
	Width int `json:"width" jsonschema:"minimum=1"`
	// Height is in pixels.
	Height int `json:"height" jsonschema:"minimum=1"`
}

func (Show) Schema() int                { return 1 }
func (s Show) Aggregate() (string, int) { return string(s.ID), s.Version }

// ShowCreated is published when an owner has announced a show.
type ShowCreated struct{ Show }

func (ShowCreated) EventType() string { return "show.created" }

// ShowUpdated is published when the owner has changed a show, or its image.
type ShowUpdated struct{ Show }

func (ShowUpdated) EventType() string { return "show.updated" }

// ShowCancelled is published when the owner has cancelled a show, or has deleted the account before it started: it does not take place.
// Its version is higher than those of all other events of the show.
type ShowCancelled struct{ Show }

func (ShowCancelled) EventType() string { return "show.cancelled" }
