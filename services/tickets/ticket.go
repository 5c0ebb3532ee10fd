package main

import (
	"cmp"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// This file is the whole life of a ticket, as its seller offers it. The seller changes it while it is free; the
// orders service decides whether it is reserved or sold:
//
//	            Create
//	               │
//	               ▼    order.created                 order.completed
//	           available ─────────────────▶ reserved ─────────────────▶ sold
//	            │      ▲                       │                          │
//	            │      ├───────────────────────┴──────────────────────────┤ order.cancelled
//	     Delete │      │ Update                                           │
//	            ▼      └────────── withheld ◀─────────────────────────────┘ order.cancelled, with reason refunded
//	         deleted
//	            │
//	            │ Follow: its show is cancelled (also a ticket that is reserved, sold or withheld)
//	            │ LosePlace: another ticket has its place
//	            ▼
//	         revoked: deleted for ever, whatever its orders' events are
//
// The rules of tickets that are for a show are in show.go and place.go, and those of the resale of a sold ticket in resale.go.
//
// How a ticket becomes sold, through the services:
//
//  1. POST /api/orders: orders reserves the ticket's seat and publishes order.created (orders/order.go, Seat.Reserve).
//  2. Tickets applies it (Ticket.Apply): the ticket is reserved, and its seller cannot change it.
//  3. POST /api/payments: payments authorizes the order's price at Stripe and publishes payment.created.
//  4. Orders completes the order and publishes order.completed (Order.Complete).
//  5. Tickets applies it: the ticket is sold. Payments captures the money.
//
// If the buyer does not pay in the reservation window, orders publishes order.cancelled in place of step 4, and the
// ticket is available again.
//
// Orders' events come late, more than once and in any order. Each has the sequence of its seat's changes, and Apply
// takes only events with a higher sequence than the last.

// Status is whether a ticket can be bought.
type Status string

const (
	Available Status = "available"
	Reserved  Status = "reserved"
	Sold      Status = "sold"
	Withheld  Status = "withheld"
)

// Terms are the settings of a ticket's price.
type Terms struct {
	// Currency is that of every price, as an ISO 4217 code in lower case.
	Currency string
	// MinPrice is the lowest price, in the currency's minor unit.
	MinPrice int64
}

const (
	// ticketSchema is the format of tickets without a show.
	ticketSchema = 1
	// showTicketSchema is the format of tickets with a show. The previous release cannot read it: it would lose the show, the place and
	// the revocation.
	showTicketSchema = 2
)

// Ticket is the stored ticket. Price is in the currency's minor unit. The document of a deleted ticket is kept, so
// that a late event does not create the ticket again.
type Ticket struct {
	Schema   int       `json:"schema"`
	ID       id.Ticket `json:"id"`
	Title    string    `json:"title"`
	Price    int64     `json:"price"`
	Currency string    `json:"currency"`
	UserID   id.User   `json:"userId"` // the seller
	Status   Status    `json:"status"`
	OrderID  id.Order  `json:"orderId,omitempty"` // the order that has the ticket
	Sequence int       `json:"sequence"`          // of the last event of an order that was applied
	Deleted  bool      `json:"deleted,omitempty"`
	// RemovedFromIndex: the deleted ticket has no entry in the index of all tickets any more.
	RemovedFromIndex bool `json:"unlisted,omitempty"`
	// InSellerIndex: the ticket has an entry in the index of its seller's tickets. A ticket of the previous release has none at first.
	InSellerIndex bool `json:"inSellerIndex,omitempty"`
	// Withdrawn: the seller deleted the ticket. It is sold all the same if the sale came first.
	Withdrawn bool `json:"withdrawn,omitempty"`
	// Ending: the seller's account was deleted while the ticket was reserved or sold. The ticket is deleted when it
	// is free again.
	Ending bool `json:"ending,omitempty"`
	// ShowID is the show that the ticket is for; "" if it has none. Only then the next four are set. It never changes, nor does the
	// Place, which may be nil.
	ShowID id.Show `json:"showId,omitempty"`
	Place  *Place  `json:"seat,omitempty"`
	// FaceValue is what the show's cap counts from, in the currency's minor unit.
	FaceValue int64 `json:"faceValue,omitempty"`
	// SalesEndAt is when the show starts, as of the show's change that the ticket has followed.
	SalesEndAt time.Time `json:"salesEndAt,omitzero"`
	// BuyerID is the buyer of the order that has the ticket. It is "" in a document of the previous release, until an event of that order.
	// UsedAt and ResoldAt are when that order's pass was used, and when its buyer has resold the ticket. OrderCancelled: the order was cancelled after
	// that, and has the ticket all the same.
	BuyerID        id.User   `json:"buyerId,omitempty"`
	UsedAt         time.Time `json:"usedAt,omitzero"`
	ResoldAt       time.Time `json:"resoldAt,omitzero"`
	OrderCancelled bool      `json:"orderCancelled,omitempty"`
	// ResaleID is the resale of the ticket that is not deleted; "" if there is none. The rules of resales are in resale.go.
	ResaleID id.Ticket `json:"resaleId,omitempty"`
	// ResaleOf is what a resale sells; nil if the ticket is no resale. It never changes. ShowOwnerID is the owner of the show then, who is not
	// the seller.
	ResaleOf    *Resold `json:"resaleOf,omitempty"`
	ShowOwnerID id.User `json:"showOwnerId,omitempty"`
	// Revoked: the ticket is void. It is deleted, and no sale restores it.
	Revoked bool `json:"revoked,omitempty"`
	Version int  `json:"version"`
	// ListedVersion is the version of the listing's last change, by its seller or its show, which was published. It is 0 in documents of an earlier
	// release, which published each version. For such a ticket each version is published until its seller changes it.
	ListedVersion int       `json:"listed,omitempty"`
	CreatedAt     time.Time `json:"createdAt"`
	UpdatedAt     time.Time `json:"updatedAt"`
}

// Newest implements state.Upgrader.
func (*Ticket) Newest() int { return resaleTicketSchema }

// Upgrade implements state.Upgrader. A ticket stays in the format that it was made in, until it is resold (Resell).
func (*Ticket) Upgrade(int) error { return nil }

// Offer is the part of a ticket that its seller decides. Of a ticket with a show, Title may be "" and FaceValue 0: a change keeps
// those that the ticket has (for a new ticket see CreateForShow).
type Offer struct {
	Title     string
	Price     int64
	FaceValue int64
}

// ExpectedVersion is the version on which a seller's change is based; 0 means any.
type ExpectedVersion int

var (
	errNoTicket = problem.New(problem.NotFound, "not_found", "There is no such ticket.")
	errNotYours = problem.New(problem.Forbidden, "not_owner", "This ticket belongs to somebody else.")
	errReserved = problem.New(problem.Conflict, "ticket_reserved", "This ticket is reserved; it can be changed again when the reservation ends.")
	errSold     = problem.New(problem.Conflict, "ticket_sold", "This ticket is sold; it cannot be changed any more.")
	errStale    = problem.New(problem.Conflict, "stale_version", "This ticket has changed since you read it. Read it again, then repeat your change on what it is now.").WithField("version")
)

// maxPrice is the highest price, in the currency's minor unit. Stripe charges no more.
const maxPrice = 99_999_999

// CheckPrice refuses a price that no card can pay; nil if one can.
func (t Terms) CheckPrice(price int64) *problem.Error {
	refusal := func(code string) *problem.Error {
		return problem.New(problem.Invalid, code, "Price must be from %d to %d, in the currency's smallest unit.", t.MinPrice, maxPrice).WithField("price")
	}
	switch {
	case price < t.MinPrice:
		return refusal("min")
	case price > maxPrice:
		return refusal("max")
	}
	return nil
}

// Create makes a ticket that is available.
func Create(ticket id.Ticket, seller id.User, currency string, offer Offer, now time.Time) Ticket {
	return Ticket{
		Schema:        ticketSchema,
		ID:            ticket,
		Title:         offer.Title,
		Price:         offer.Price,
		Currency:      currency,
		UserID:        seller,
		Status:        Available,
		InSellerIndex: true,
		Version:       1,
		ListedVersion: 1,
		CreatedAt:     now,
		UpdatedAt:     now,
	}
}

// Update replaces the offer, if checkSeller and the cap of the ticket's show allow it, and the show has not started (errSalesEnded). A withheld
// ticket is available again. Of a resale, only the price can change (errResaleFixed). If the ticket has no show, the show is the zero Show, and the offer must have a title and no face value (errTitleRequired, errNoFaceValue).
func (t *Ticket) Update(seller id.User, expected ExpectedVersion, offer Offer, show Show, now time.Time) error {
	if err := t.checkSeller(seller, expected); err != nil {
		return err
	}
	switch {
	case t.ResaleOf != nil && offer.Title != "":
		return errResaleFixed("title")
	case t.ResaleOf != nil && offer.FaceValue != 0:
		return errResaleFixed("faceValue")
	case t.ShowID != "":
		offer.Title = cmp.Or(offer.Title, t.Title)
		offer.FaceValue = cmp.Or(offer.FaceValue, t.FaceValue)
	case offer.Title == "":
		return errTitleRequired
	case offer.FaceValue != 0:
		return errNoFaceValue
	}
	if t.ShowID != "" && !now.Before(show.StartsAt) {
		return errSalesEnded
	}
	if err := show.CheckPrice(offer.Price, offer.FaceValue); err != nil {
		return err
	}
	t.Title, t.Price, t.FaceValue = offer.Title, offer.Price, offer.FaceValue
	t.Status = Available
	t.change(now)
	t.ListedVersion = t.Version
	return nil
}

// Delete withdraws the ticket, if checkSeller allows it.
func (t *Ticket) Delete(seller id.User, expected ExpectedVersion, now time.Time) error {
	if err := t.checkSeller(seller, expected); err != nil {
		return err
	}
	t.markDeleted(now)
	return nil
}

// checkSeller refuses changes by another user (errNotYours), of a deleted (errNoTicket), reserved (errReserved) or
// sold ticket (errSold), and changes based on another version than the ticket's (errStale).
func (t *Ticket) checkSeller(user id.User, expected ExpectedVersion) error {
	switch {
	case t.Deleted:
		return errNoTicket
	case t.UserID != user:
		return errNotYours
	case t.Status == Reserved:
		return errReserved
	case t.Status == Sold:
		return errSold
	case expected != 0 && int(expected) != t.Version:
		return errStale
	}
	return nil
}

// DeleteWithAccount deletes the ticket because its seller's account was deleted. A reserved or sold ticket stays the
// buyer's, and is deleted if the order is cancelled.
func (t *Ticket) DeleteWithAccount(now time.Time) (changed bool) {
	switch {
	case t.isEnding():
		return false
	case t.isTaken():
		t.Ending = true
		t.change(now)
		return true
	}
	t.markDeleted(now)
	return true
}

// IsOnSaleBy reports whether the ticket is one of these sellers', and not deleted or to be deleted.
func (t *Ticket) IsOnSaleBy(sellers map[id.User]bool) bool { return sellers[t.UserID] && !t.isEnding() }

func (t *Ticket) isEnding() bool { return t.Deleted || t.Withdrawn || t.Ending }

// isTaken reports whether an order has the ticket.
func (t *Ticket) isTaken() bool { return t.Status == Reserved || t.Status == Sold }

// Apply changes the ticket as an order's event demands, if the event is newer than the last.
//
// A sale is stronger than the seller's deletion, which may have been made before this service received the
// reservation: the ticket is restored as sold, and deleted again if the order is cancelled. A reservation is not:
// orders cancels it when it receives the deletion. Nothing restores a revoked ticket: orders cancels the sale.
func (t *Ticket) Apply(order events.Order, now time.Time) (changed bool) {
	if t.lacksBuyer(order) {
		t.applyPass(order)
		t.change(now)
		return true
	}
	if order.Sequence <= t.Sequence {
		return false
	}
	t.Sequence = order.Sequence
	t.Status = Status(order.TicketStatus())
	t.OrderID = ""
	if t.isTaken() {
		t.OrderID = order.ID
	}
	t.applyPass(order)
	t.Withdrawn = t.Withdrawn || t.Deleted
	t.Deleted = t.Revoked || t.Withdrawn && t.Status != Sold
	t.change(now)
	if t.Ending && !t.isTaken() {
		t.Deleted, t.Ending = true, false
		t.ListedVersion = t.Version
	}
	return true
}

func (t *Ticket) markDeleted(now time.Time) {
	t.Deleted = true
	t.change(now)
	t.ListedVersion = t.Version
}

func (t *Ticket) change(now time.Time) {
	t.Version++
	t.UpdatedAt = now
}

// Event is the event of the listing's last change. It is nil if the ticket has changed since then, because orders'
// events already have those changes; in a document of an earlier release each version has an event.
func (t *Ticket) Event() events.Payload {
	if t.ListedVersion != 0 && t.ListedVersion != t.Version {
		return nil
	}
	return t.eventOf(t.Version, t.Deleted)
}

// ListingEvent is the event of the listing's last change under that change's version, so that it can be published
// again at any time: consumers who have that version ignore it.
func (t *Ticket) ListingEvent() events.Payload {
	if t.ListedVersion == 0 {
		return t.eventOf(t.Version, t.Deleted)
	}
	return t.eventOf(t.ListedVersion, t.Deleted || t.Withdrawn)
}

func (t *Ticket) eventOf(version int, deleted bool) events.Payload {
	ticket := events.Ticket{
		ID:        t.ID,
		Title:     t.Title,
		Price:     t.Price,
		Currency:  t.Currency,
		UserID:    t.UserID,
		Status:    events.TicketStatus(t.Status),
		OrderID:   t.OrderID,
		Sequence:  t.Sequence,
		ShowID:    t.ShowID,
		Seat:      t.Place.published(),
		FaceValue: t.FaceValue,

		ShowOwnerID: t.showOwner(),
		ResaleOf:    t.ResaleOf.published(),
		Revoked:     t.Revoked,
		Version:     version,
		CreatedAt:   clock.Stamp(t.CreatedAt),
		UpdatedAt:   clock.Stamp(t.UpdatedAt),
	}
	if t.ShowID != "" {
		ticket.SalesEndAt = clock.Stamp(t.SalesEndAt)
	}
	switch {
	case deleted:
		return events.TicketDeleted{Ticket: ticket}
	case version == 1:
		return events.TicketCreated{Ticket: ticket}
	default:
		return events.TicketUpdated{Ticket: ticket}
	}
}

// DropFromIndex reports whether the ticket's entry must be removed from the index of all tickets, and notes that it is.
func (t *Ticket) DropFromIndex() bool {
	t.RemovedFromIndex = t.Deleted
	return t.Deleted
}

// ReturnToIndex reports whether the ticket needs a new entry, because a sale has restored it, and notes that it has one.
func (t *Ticket) ReturnToIndex() bool {
	again := t.RemovedFromIndex && !t.Deleted
	t.RemovedFromIndex = t.RemovedFromIndex && t.Deleted
	return again
}
