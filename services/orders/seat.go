package main

import (
	"cmp"
	"slices"
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

const (
	// seatSchema is the format of seats without a show.
	seatSchema = 1
	// showSeatSchema is the format of seats with a show. The previous release cannot read it: it would lose when sales end.
	showSeatSchema = 2
)

// Seat is a ticket in this service: the projection of its listing, which the tickets service owns, and its
// reservation, which is decided here. The ETag of the seat's document is the reservation lock.
type Seat struct {
	Schema   int       `json:"schema"`
	ID       id.Ticket `json:"id"`
	Title    string    `json:"title"`
	Price    int64     `json:"price"`
	Currency string    `json:"currency"`
	Version  int       `json:"version"` // of the listing that was applied last
	Deleted  bool      `json:"deleted,omitempty"`
	// SellerID is "" in a document of an earlier release, until the listing's next event.
	SellerID id.User `json:"userId,omitempty"`
	// ShowID is the show that the ticket is for; "" if it has none. Only then the next two are set. Place may be nil.
	ShowID id.Show `json:"showId,omitempty"`
	Place  *Place  `json:"seat,omitempty"`
	// SalesEndAt is when the show starts: nobody can reserve the ticket from then on.
	SalesEndAt time.Time `json:"salesEndAt,omitzero"`
	// ShowOwnerID is the show's owner, who checks people in. It is "" in a document of an earlier release, when only the owner could
	// list tickets: then the seller is the owner (CheckShowOwner).
	ShowOwnerID id.User `json:"showOwnerId,omitempty"`
	// ResaleOf is what the seller resells; nil unless the ticket is a resale (transfer.go).
	ResaleOf *Resold `json:"resaleOf,omitempty"`

	// Sequence counts the changes of the reservation, over all orders of the ticket. Consumers of orders' events put these
	// changes in order by it.
	Sequence    int          `json:"sequence"`
	Reservation *Reservation `json:"reservation,omitempty"` // nil: the seat is free
	// Cooldowns are of buyers who reserved the ticket and did not pay. Some may have ended.
	Cooldowns []Cooldown `json:"cooldowns,omitempty"`
	// Withheld is the sequence of a refund. The ticket may not be reserved until its seller, after that refund, has changed
	// the listing. 0: it is not withheld.
	Withheld int `json:"withheld,omitempty"`
}

// Newest implements state.Upgrader.
func (*Seat) Newest() int { return showSeatSchema }

// Upgrade implements state.Upgrader. A seat gets the other format when its ticket has a show.
func (*Seat) Upgrade(int) error { return nil }

// Place is where the holder of a ticket sits or stands, in the seller's words. A part may be "".
type Place struct {
	Section string `json:"section,omitempty"`
	Row     string `json:"row,omitempty"`
	Number  string `json:"number,omitempty"`
}

// placeOf is the place of an event.
func placeOf(published *events.Place) *Place {
	if published == nil {
		return nil
	}
	return &Place{Section: published.Section, Row: published.Row, Number: published.Number}
}

// published is the place as events have it.
func (p *Place) published() *events.Place {
	if p == nil {
		return nil
	}
	return &events.Place{Section: p.Section, Row: p.Row, Number: p.Number}
}

// Reservation is the hold that a live order has on a seat. Its status is that of the order. It is Cancelled if the order was cancelled
// after its place was spent (Order.isSpent): then nobody gets the ticket again.
type Reservation struct {
	OrderID id.Order `json:"orderId"`
	// UserID is the order's buyer. It is "" if a process of an earlier release has written the document.
	UserID    id.User   `json:"userId,omitempty"`
	Status    Status    `json:"status"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Cooldown is until when a buyer may not reserve a ticket again.
type Cooldown struct {
	UserID id.User   `json:"userId"`
	Until  time.Time `json:"until"`
}

// maxCooldowns bounds a seat's cooldowns; those that end first are removed first. With a cooldown of one window there
// are two at a time.
const maxCooldowns = 16

// ExpiredOrder returns the unpaid order that still has the seat after its window is over, if there is one. It must be
// cancelled before the seat can be reserved again.
func (s *Seat) ExpiredOrder(now time.Time) (order id.Order, expired bool) {
	if s.Reservation == nil || s.Reservation.Status != Created || now.Before(s.Reservation.ExpiresAt) {
		return "", false
	}
	return s.Reservation.OrderID, true
}

func (s *Seat) isHeldBy(order id.Order) bool {
	return s.Reservation != nil && s.Reservation.OrderID == order
}

// checkFree refuses a seat that has a live order: errOwnReservation, with the order's id, if the order is the buyer's own,
// else errSold or errReserved.
func (s *Seat) checkFree(buyer id.User) error {
	switch r := s.Reservation; {
	case r == nil:
		return nil
	case r.Status == Cancelled:
		return errSold
	case r.UserID == buyer:
		return errOwnReservation.WithMember("orderId", r.OrderID)
	case r.Status == Complete:
		return errSold
	}
	return errReserved
}

// checkSales refuses (errShowStarted) a ticket whose show has started.
func (s *Seat) checkSales(now time.Time) error {
	if !s.SalesEndAt.IsZero() && !now.Before(s.SalesEndAt) {
		return errShowStarted
	}
	return nil
}

// checkCooldown refuses a buyer whose cooldown has not ended. If the setting is 0, stored cooldowns do not count.
func (s *Seat) checkCooldown(buyer id.User, now time.Time, cooldown time.Duration) error {
	if cooldown == 0 {
		return nil
	}
	for _, c := range s.Cooldowns {
		if left := c.Until.Sub(now); c.UserID == buyer && left > 0 {
			return errCooldown.WithRetryAfter(left)
		}
	}
	return nil
}

// addCooldown adds a cooldown, if it has not ended yet, and removes those that have.
func (s *Seat) addCooldown(added Cooldown, now time.Time) {
	s.Cooldowns = slices.DeleteFunc(append(slices.Clip(s.Cooldowns), added), func(c Cooldown) bool { return !c.Until.After(now) })
	slices.SortStableFunc(s.Cooldowns, func(a, b Cooldown) int { return a.Until.Compare(b.Until) })
	if excess := len(s.Cooldowns) - maxCooldowns; excess > 0 {
		s.Cooldowns = slices.Delete(s.Cooldowns, 0, excess)
	}
	if len(s.Cooldowns) == 0 {
		s.Cooldowns = nil
	}
}

// Apply changes the projection to an event of the listing, if the event is newer, or names the seller or the show that the document
// lacks, because a process of an earlier release has written it. It never changes the reservation. It ends the withholding if the seller has changed the listing after the refund.
func (s *Seat) Apply(listing events.Ticket, deleted bool) (changed bool) {
	lacksSeller := s.SellerID == "" && listing.UserID != ""
	lacksShow := s.ShowID == "" && listing.ShowID != "" || s.ShowOwnerID == "" && listing.ShowOwnerID != ""
	if listing.Version < s.Version || listing.Version == s.Version && !lacksSeller && !lacksShow {
		return false
	}
	// The last event of a deleted listing counts too: it has status available only if the ticket was available when it
	// was deleted.
	if listing.Status == events.TicketStatusAvailable && listing.Sequence >= s.Withheld {
		s.Withheld = 0
	}
	s.Schema = seatSchema
	s.ID = listing.ID
	s.SellerID = listing.UserID
	s.Title = listing.Title
	s.Price = listing.Price
	s.Currency = listing.Currency
	if listing.ShowID != "" {
		s.Schema = showSeatSchema
		s.ShowID = listing.ShowID
		s.Place = placeOf(listing.Seat)
		s.SalesEndAt = listing.SalesEndAt.Time
		s.ShowOwnerID = cmp.Or(listing.ShowOwnerID, s.ShowOwnerID)
		s.ResaleOf = resoldOf(listing.ResaleOf)
	}
	s.Version = listing.Version
	s.Deleted = deleted
	return true
}

// CatchUp moves the sequence past the listing's, if tickets has applied a change of the reservation that this service
// has lost with a restored backup. Otherwise tickets would take the seat's next changes for old ones. A withheld
// ticket stays withheld.
//
// Without a restore, tickets never has a higher sequence than this service, and at the same sequence both have the
// same order.
func (s *Seat) CatchUp(listing events.Ticket) (changed bool) {
	var order id.Order
	if s.Reservation != nil {
		order = s.Reservation.OrderID
	}
	if listing.Sequence == 0 || listing.Sequence < s.Sequence || listing.Sequence == s.Sequence && listing.OrderID == order {
		return false
	}
	if listing.Status == events.TicketStatusWithheld && s.Reservation == nil {
		s.Withheld = listing.Sequence
	}
	s.Sequence = listing.Sequence + 1
	return true
}
