package main

import (
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

// The life of a ticket. The seller lists it, changes it and withdraws it, as long as nobody has it; whether
// somebody has it is decided by the orders service, and heard here:
//
//	            List                  order.created              order.completed
//	              │      Change  ┌───────────────────────┐
//	              ▼     ◀──────▶ │                       ▼
//	          available ─────────┘                    reserved ──────────────▶ sold
//	              │     ◀────────────────────────────────┘
//	              ▼ Delete              order.cancelled
//	           deleted
//
// After a refund (order.cancelled, reason refunded) a ticket is withheld instead of available: it is not for sale until its
// seller changes the listing, or deletes it.
//
// Order events come late, twice and in any order; each carries the sequence of the reservation's changes, and
// one is applied only if it is newer than the last.

// Status is what a buyer sees of a ticket.
type Status string

const (
	Available Status = "available"
	Reserved  Status = "reserved"
	Sold      Status = "sold"
	Withheld  Status = "withheld"
)

// Ticket is a listing. Price is in the currency's minor unit. A deleted ticket stays as a mark, so that an
// event which comes late does not bring it back.
type Ticket struct {
	Schema   int    `json:"schema"`
	ID       string `json:"id"`
	Title    string `json:"title"`
	Price    int64  `json:"price"`
	Currency string `json:"currency"`
	UserID   string `json:"userId"`
	Status   Status `json:"status"`
	OrderID  string `json:"orderId,omitempty"`
	Sequence int    `json:"sequence"` // of the last change of reservation that was heard
	Deleted  bool   `json:"deleted,omitempty"`
	// Unlisted says that the deleted ticket has no entry in the index of all tickets any more.
	Unlisted  bool `json:"unlisted,omitempty"`
	Withdrawn bool `json:"withdrawn,omitempty"` // deleted by its seller, though a sale may stand against that
	// Ending says that its seller's account was deleted while somebody had the ticket. It is deleted when it is free again.
	Ending  bool `json:"ending,omitempty"`
	Version int  `json:"version"`
	// Listed is the version of the seller's last change, which was published. It is 0 in documents of the release before,
	// which published each version: such a ticket goes on to, until its seller changes it.
	Listed    int       `json:"listed,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Offer is what a seller says of a ticket.
type Offer struct {
	Title string
	Price int64
}

var (
	errNotFound = problem.New(problem.NotFound, "There is no such ticket.")
	errNotYours = problem.New(problem.Forbidden, "This ticket belongs to somebody else.")
	errReserved = problem.New(problem.Conflict, "This ticket is reserved; it can be changed again when the reservation ends.").WithCode("ticket_reserved")
	errSold     = problem.New(problem.Conflict, "This ticket is sold; it cannot be changed any more.").WithCode("ticket_sold")
	errStale    = problem.New(problem.Conflict, "This ticket has changed since you read it. Read it again, then repeat your change on what it is now.").WithField("version").WithCode("stale_version")
)

// AtLeast refuses an offer that nobody could pay: a card processor does not take less than minimum.
func (o Offer) AtLeast(minimum int64) error {
	if o.Price < minimum {
		return problem.New(problem.Invalid, "Price must be at least %d, in the currency's smallest unit: less cannot be paid by card.", minimum).
			WithField("price").WithCode("min")
	}
	return nil
}

// List makes a seller's ticket.
func List(id, seller, currency string, offer Offer, now time.Time) Ticket {
	return Ticket{
		Schema:    1,
		ID:        id,
		Title:     offer.Title,
		Price:     offer.Price,
		Currency:  currency,
		UserID:    seller,
		Status:    Available,
		Version:   1,
		Listed:    1,
		CreatedAt: now,
		UpdatedAt: now,
	}
}

// Expect is the version that a change was made on; 0 is any.
type Expect int

// Change replaces what the seller says of the ticket.
func (t *Ticket) Change(seller string, expect Expect, offer Offer, now time.Time) error {
	if err := t.mayChange(seller, expect); err != nil {
		return err
	}
	t.Title, t.Price = offer.Title, offer.Price
	t.Status = Available // it may have been withheld
	t.touch(now)
	t.Listed = t.Version
	return nil
}

// Delete withdraws the listing.
func (t *Ticket) Delete(seller string, expect Expect, now time.Time) error {
	if err := t.mayChange(seller, expect); err != nil {
		return err
	}
	t.Deleted = true
	t.touch(now)
	t.Listed = t.Version
	return nil
}

// Withdraw ends the listing of a seller whose account was deleted. A reservation, or a sale, stands; if it falls through,
// the listing ends then.
func (t *Ticket) Withdraw(now time.Time) (changed bool) {
	switch {
	case t.Deleted || t.Withdrawn || t.Ending:
		return false
	case t.Status == Reserved || t.Status == Sold:
		t.Ending = true
		t.touch(now)
		return true
	}
	t.Deleted = true
	t.touch(now)
	t.Listed = t.Version
	return true
}

func (t *Ticket) mayChange(seller string, expect Expect) error {
	switch {
	case t.Deleted:
		return errNotFound
	case t.UserID != seller:
		return errNotYours
	case t.Status == Reserved:
		return errReserved
	case t.Status == Sold:
		return errSold
	case expect != 0 && int(expect) != t.Version:
		return errStale
	}
	return nil
}

// Hear applies what the orders service tells of the ticket's reservation, if it is newer than the last. A sale
// stands against a deletion that was made before this service had heard of the reservation: the ticket comes
// back, sold, and is deleted again if the sale falls through. A mere reservation does not stand; the orders service
// cancels it when it hears of the deletion.
func (t *Ticket) Hear(status Status, order events.Order, now time.Time) (changed bool) {
	if order.Sequence <= t.Sequence {
		return false
	}
	t.Sequence = order.Sequence
	t.Status = status
	t.OrderID = order.ID
	if status == Available || status == Withheld {
		t.OrderID = ""
	}
	t.Withdrawn = t.Withdrawn || t.Deleted
	t.Deleted = t.Withdrawn && status != Sold
	t.touch(now)
	if t.Ending && status != Reserved && status != Sold {
		t.Deleted, t.Ending = true, false
		t.Listed = t.Version
	}
	return true
}

func (t *Ticket) touch(now time.Time) {
	t.Version++
	t.UpdatedAt = now
}

// Event is the event of the seller's last change, with the ticket's whole public state; nil if the ticket has changed
// since, but for one of the release before. That it is reserved, sold or free follows from the orders' events, and is not published twice.
func (t *Ticket) Event() events.Payload {
	if t.Listed != 0 && t.Listed != t.Version {
		return nil
	}
	return t.event(t.Version, t.Deleted)
}

// AsListed is the event of the seller's last change, as it can be published again at any time: under the version of that
// change, which is the one that others have heard of, whatever became of the ticket since.
func (t *Ticket) AsListed() events.Payload {
	if t.Listed == 0 {
		return t.event(t.Version, t.Deleted)
	}
	return t.event(t.Listed, t.Deleted || t.Withdrawn)
}

func (t *Ticket) event(version int, deleted bool) events.Payload {
	state := events.Ticket{
		ID:        t.ID,
		Title:     t.Title,
		Price:     t.Price,
		Currency:  t.Currency,
		UserID:    t.UserID,
		Status:    string(t.Status),
		OrderID:   t.OrderID,
		Sequence:  t.Sequence,
		Version:   version,
		CreatedAt: t.CreatedAt,
		UpdatedAt: t.UpdatedAt,
	}
	switch {
	case deleted:
		return events.TicketDeleted{Ticket: state}
	case version == 1:
		return events.TicketCreated{Ticket: state}
	default:
		return events.TicketUpdated{Ticket: state}
	}
}

// Unlist says whether the ticket's entry in the index of all tickets is to be removed, and notes that it is.
func (t *Ticket) Unlist() bool {
	t.Unlisted = t.Deleted
	return t.Deleted
}

// Relist says whether the ticket must get an entry again, because a sale has brought it back, and notes that it has.
func (t *Ticket) Relist() bool {
	again := t.Unlisted && !t.Deleted
	t.Unlisted = t.Unlisted && t.Deleted
	return again
}
