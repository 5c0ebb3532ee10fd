package main

import (
	"cmp"
	"errors"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// This file is the whole life of an order: one buyer's purchase of one ticket.
//
//	 Seat.Reserve: a buyer reserves the ticket for the reservation window
//	      │
//	      ▼     Order.Complete: the payment is authorized
//	   created ────────────────────────────────────────────▶ complete
//	      │                                                      │
//	      │ Order.Cancel                                         │ Order.Cancel
//	      ▼                                                      ▼
//	  cancelled                                              cancelled
//
// Order.Cancel decides by the reason whether an order may be cancelled:
//
//	reason     cause                                           created          complete
//	user       its buyer asks for it                           yes              no
//	expired    the reservation window ended without payment    after the window no
//	withdrawn  the seller deleted the listing                  yes              no
//	           the ticket is revoked (CancelRevoked)           yes              yes (**)
//	           of a resale: its seller's order has ended, or   yes              no
//	           its seller has used the pass (Chain.endBuyer)
//	payment    the payment was voided                          yes              yes (*)
//	refunded   all of the money was given back                 yes              yes
//
// (*) Payments publishes payment.voided only for money that is not captured, so the buyer of a complete order has not
// paid when it is cancelled.
//
// (**) A revoked ticket is void: its show was cancelled, or another ticket has its place. Payments gives the money back.
//
// (restore.go publishes one reason more, unknown, for orders that are lost with a restored backup.)
//
// A cancelled order does not change any more. Only its buyer may read an order, or ask to cancel it (CheckBuyer).
//
// Created and complete orders are live. A ticket has at most one live order: that which its Seat names (seat.go). An
// order and its seat always change in the same transaction.
//
// A complete order of a ticket with a show has a pass, which is used once (pass.go). Its buyer may sell the place again, as a ticket
// of its own. The order of that ticket then changes in one transaction with this one (transfer.go).

// Status is an order's state.
type Status string

const (
	Created   Status = "created"
	Complete  Status = "complete"
	Cancelled Status = "cancelled"
)

// Reason is why an order was cancelled.
type Reason string

const (
	ByUser      Reason = "user"
	Expired     Reason = "expired"
	Withdrawn   Reason = "withdrawn"
	PaymentLost Reason = "payment"
	Refunded    Reason = "refunded"
)

// Terms are the settings of a reservation.
type Terms struct {
	// Window is how long a buyer has to pay.
	Window time.Duration
	// Cooldown is how long a buyer whose reservation expired may not reserve the same ticket again; 0 allows it at once.
	Cooldown time.Duration
	// PerUser is how many live unpaid orders a buyer may have; 0 means any number.
	PerUser int
}

const (
	// orderSchema is the format of orders of tickets without a show.
	orderSchema = 1
	// showOrderSchema is the format of orders of tickets with a show. The previous release cannot read it: it would lose the show and the
	// place.
	showOrderSchema = 2
)

// Order is the stored order.
type Order struct {
	Schema int      `json:"schema"`
	ID     id.Order `json:"id"`
	UserID id.User  `json:"userId"` // the buyer
	// SellerID is who listed the ticket, for the order's events alone. It is "" in a document that a process of an earlier
	// release has written, until the order's next change.
	SellerID  id.User        `json:"sellerId,omitempty"`
	Status    Status         `json:"status"`
	Reason    Reason         `json:"reason,omitempty"`
	ExpiresAt time.Time      `json:"expiresAt"` // the end of the reservation window
	Ticket    TicketSnapshot `json:"ticket"`
	PaymentID id.Payment     `json:"paymentId,omitempty"` // of the payment that completed the order
	Captured  bool           `json:"captured,omitempty"`  // the money was captured; only IsUnsettled uses it
	Sequence  int            `json:"sequence"`            // of the seat, after this order's last change
	Version   int            `json:"version"`
	CreatedAt time.Time      `json:"createdAt"`
	UpdatedAt time.Time      `json:"updatedAt"`
	// CompletedAt is when the order became complete. It stays when the order is cancelled. It is zero if an earlier release
	// completed the order.
	CompletedAt time.Time `json:"completedAt,omitzero"`

	// UsedAt is when the pass was used (pass.go).
	UsedAt time.Time `json:"usedAt,omitzero"`
	// ResaleOf is what the ticket's seller resells; nil unless the ticket is a resale. The next two are of the other side: the
	// unpaid order that buys this order's place, and the complete one that has bought it (transfer.go).
	ResaleOf *Resold   `json:"resaleOf,omitempty"`
	Transfer *Transfer `json:"transfer,omitempty"`
	ResoldTo id.Order  `json:"resoldTo,omitempty"`
	ResoldAt time.Time `json:"resoldAt,omitzero"`
	// PassChanged is true if the last change of a complete order was one of its pass, so that its event is order.updated.
	PassChanged bool `json:"passChanged,omitempty"`
}

// TicketSnapshot is the ticket at the time of its reservation. The buyer pays this price, whatever becomes of the listing.
type TicketSnapshot struct {
	ID       id.Ticket `json:"id"`
	Title    string    `json:"title"`
	Price    int64     `json:"price"`
	Currency string    `json:"currency"`
	ShowID   id.Show   `json:"showId,omitempty"`
	Place    *Place    `json:"seat,omitempty"`
}

// published is the ticket as the order's events have it.
func (t TicketSnapshot) published() events.OrderedTicket {
	return events.OrderedTicket{ID: t.ID, Title: t.Title, Price: t.Price, Currency: t.Currency, ShowID: t.ShowID, Seat: t.Place.published()}
}

// snapshot is the seat's ticket as it is now.
func (s *Seat) snapshot() TicketSnapshot {
	return TicketSnapshot{ID: s.ID, Title: s.Title, Price: s.Price, Currency: s.Currency, ShowID: s.ShowID, Place: s.Place}
}

// Newest implements state.Upgrader.
func (*Order) Newest() int { return showOrderSchema }

// Upgrade implements state.Upgrader. An order stays in the format that it was made in.
func (*Order) Upgrade(int) error { return nil }

var (
	errNoTicket = problem.New(problem.NotFound, "ticket_not_found", "There is no such ticket.").WithField("ticketId")
	errReserved = problem.New(problem.Conflict, "ticket_reserved", "This ticket is reserved by somebody. It may become free again if it is not paid in time.").WithField("ticketId")
	// errOwnReservation has a member more in the response: orderId, the buyer's order.
	errOwnReservation = problem.New(problem.Conflict, "own_reservation", "You have this ticket already, with the order that orderId names.").WithField("ticketId")
	// errTicketNotYetKnown is for a ticket that may exist: its event may be on its way.
	errTicketNotYetKnown = problem.New(problem.Unavailable, "not_yet_known", "This ticket is so new that orders may not know it yet. Nothing was changed: send the same request again.").WithField("ticketId")
	errSold              = problem.New(problem.Conflict, "ticket_sold", "This ticket is sold.").WithField("ticketId")
	errOwnTicket         = problem.New(problem.Conflict, "own_ticket", "This is your own ticket; you cannot buy it.").WithField("ticketId")
	errCooldown          = problem.New(problem.Conflict, "reservation_cooldown", "You reserved this ticket and did not pay for it. Other buyers may reserve it first; you may again after the time in Retry-After.").WithField("ticketId")
	errWithheld          = problem.New(problem.Conflict, "ticket_withheld", "This ticket is not for sale: its last sale was refunded, and its seller has not offered it again.").WithField("ticketId")
	errShowStarted       = problem.New(problem.Conflict, "show_started", "The show of this ticket has started; its tickets are not sold any more.").WithField("ticketId")

	errNoOrder  = problem.New(problem.NotFound, "not_found", "There is no such order.")
	errNotYours = problem.New(problem.Forbidden, "not_buyer", "This order belongs to somebody else.")
	errComplete = problem.New(problem.Conflict, "order_complete", "This order is paid and complete; it cannot be cancelled any more.")
	// errNotOver is Unavailable, so that an expiration event that comes too early is delivered again and never
	// becomes a dead letter.
	errNotOver = problem.New(problem.Unavailable, "window_open", "The reservation window of this order has not ended yet.")
	// errNotHeld means that the order and the seat were read at different times; the store reads both again.
	errNotHeld = errors.New("the order does not have its ticket any more")
)

// errUnknownTicket is the refusal of a ticket that has no seat: errTicketNotYetKnown if the ticket is young, else errNoTicket.
func errUnknownTicket(ticket id.Ticket, now time.Time) error {
	if id.IsYoung(ticket, now) {
		return errTicketNotYetKnown
	}
	return errNoTicket
}

// Reserve makes a created order of the buyer's, which has the seat until the reservation window ends. It refuses
//   - a seat that has a live order (checkFree). If that order's window is over, cancel it first (ExpiredOrder);
//   - a ticket that is not for sale: errNoTicket (deleted), errWithheld, or errShowStarted;
//   - the seller (errOwnTicket), and a buyer whose cooldown has not ended (errCooldown).
func (s *Seat) Reserve(order id.Order, buyer id.User, now time.Time, terms Terms) (Order, error) {
	if s.Deleted {
		return Order{}, errNoTicket
	}
	if err := s.checkFree(buyer); err != nil {
		return Order{}, err
	}
	if err := s.checkOffer(buyer, now, terms); err != nil {
		return Order{}, err
	}
	s.Sequence++
	created := Order{
		Schema:    orderSchema,
		ID:        order,
		UserID:    buyer,
		SellerID:  s.SellerID,
		Status:    Created,
		ExpiresAt: now.Add(terms.Window),
		Ticket:    s.snapshot(),
		ResaleOf:  s.ResaleOf,
		Sequence:  s.Sequence,
		Version:   1,
		CreatedAt: now,
		UpdatedAt: now,
	}
	if created.Ticket.ShowID != "" {
		created.Schema = showOrderSchema
	}
	s.Reservation = &Reservation{OrderID: created.ID, UserID: buyer, Status: Created, ExpiresAt: created.ExpiresAt}
	return created, nil
}

// checkOffer refuses a buyer to whom the ticket is not offered, whether or not an order has it.
func (s *Seat) checkOffer(buyer id.User, now time.Time, terms Terms) error {
	switch {
	case s.Deleted:
		return errNoTicket
	case s.Withheld > 0:
		return errWithheld
	case s.SellerID == buyer:
		return errOwnTicket
	}
	if err := s.checkSales(now); err != nil {
		return err
	}
	return s.checkCooldown(buyer, now, terms.Cooldown)
}

// CheckBuyer refuses (errNotYours) everybody but the order's buyer.
func (o *Order) CheckBuyer(user id.User) error {
	if o.UserID != user {
		return errNotYours
	}
	return nil
}

// Complete makes a created order a purchase, when its payment is authorized. The window may be over: the payment was
// begun in time, and no other buyer has the seat. Other orders do not change.
func (o *Order) Complete(s *Seat, payment id.Payment, now time.Time) (changed bool, err error) {
	switch {
	case o.Status != Created:
		return false, nil
	case !s.isHeldBy(o.ID):
		return false, errNotHeld
	}
	s.Sequence++
	s.Reservation.Status = Complete
	o.PaymentID = payment
	o.CompletedAt = now
	o.change(Complete, s, now)
	return true, nil
}

// Cancel ends an order and frees its seat, if the reason allows it; see the table at the top. To cancel a cancelled order
// changes nothing. After a refund the seat is withheld until its seller offers the ticket again.
func (o *Order) Cancel(s *Seat, reason Reason, now time.Time, terms Terms) (changed bool, err error) {
	switch {
	case o.Status == Cancelled:
		return false, nil
	case o.Status == Complete && reason != PaymentLost && reason != Refunded:
		return false, errComplete
	case reason == Expired && !o.IsOver(now):
		return false, errNotOver
	}
	return o.end(s, reason, now, terms)
}

// CancelRevoked ends an order whose ticket is void, and frees its seat, whether it is paid or not.
func (o *Order) CancelRevoked(s *Seat, now time.Time, terms Terms) (changed bool, err error) {
	if o.Status == Cancelled {
		return false, nil
	}
	return o.end(s, Withdrawn, now, terms)
}

// end makes a live order cancelled, and its seat free. The seat of an order whose place is spent stays taken: somebody was let in with
// the pass, or has bought the place from this buyer.
func (o *Order) end(s *Seat, reason Reason, now time.Time, terms Terms) (changed bool, err error) {
	if !s.isHeldBy(o.ID) {
		return false, errNotHeld
	}
	s.Sequence++
	if o.isSpent() {
		s.Reservation.Status = Cancelled
	} else {
		s.Reservation = nil
		if reason == Refunded {
			s.Withheld = s.Sequence
		}
	}
	s.addCooldown(o.newCooldown(reason, now, terms), now)
	o.Reason = reason
	o.change(Cancelled, s, now)
	return true, nil
}

// CancelByBuyer is Cancel at a user's request.
func (o *Order) CancelByBuyer(s *Seat, user id.User, now time.Time, terms Terms) (changed bool, err error) {
	if err := o.CheckBuyer(user); err != nil {
		return false, err
	}
	return o.Cancel(s, ByUser, now, terms)
}

// CancelByPayment is Cancel because a payment was voided or refunded. It changes nothing if another payment has
// completed the order.
func (o *Order) CancelByPayment(s *Seat, payment id.Payment, reason Reason, now time.Time, terms Terms) (changed bool, err error) {
	if !o.isPaidBy(payment) {
		return false, nil
	}
	return o.Cancel(s, reason, now, terms)
}

// MarkCaptured notes that the payment's money was captured, if the payment has completed the order. There is no event
// for it.
func (o *Order) MarkCaptured(payment id.Payment) (changed bool) {
	if o.Status != Complete || o.Captured || !o.isPaidBy(payment) {
		return false
	}
	o.Captured = true
	return true
}

// IsOver reports whether the reservation window has ended.
func (o *Order) IsOver(now time.Time) bool { return !now.Before(o.ExpiresAt) }

// IsCreated reports whether the order waits for its payment.
func (o *Order) IsCreated() bool { return o.Status == Created }

// IsCancelled reports whether the order is cancelled.
func (o *Order) IsCancelled() bool { return o.Status == Cancelled }

// IsUnsettled reports whether the buyer's account must not be deleted yet: the order is unpaid, or its money is not captured.
func (o *Order) IsUnsettled() bool { return o.Status == Created || o.Status == Complete && !o.Captured }

// LacksCompletion reports whether an order whose money is captured was complete, and this service lost that with a restored
// backup: only complete orders are captured, and only a refund or the revocation of its ticket cancels a captured one. (A revoked
// order is not completed again: see paymentCaptured.)
func (o *Order) LacksCompletion() bool {
	return o.Status == Created || o.Status == Cancelled && o.Reason != Refunded
}

// isPaidBy reports whether the payment may be the one that completed the order. An order that is not complete, or was
// completed by an earlier release, names no payment.
func (o *Order) isPaidBy(payment id.Payment) bool { return o.PaymentID == "" || o.PaymentID == payment }

// newCooldown is how long the buyer may not reserve the ticket again after the order was cancelled.
//   - The order expired: terms.Cooldown, from the end of the window.
//   - The buyer cancelled: the part of terms.Cooldown that is in proportion to the time for which the order had the ticket.
//     Otherwise a buyer could have a ticket for ever, who cancels just before the end and reserves it again at once. A mistake that
//     is corrected at once costs almost nothing.
//   - Other reasons are not the buyer's fault: none.
func (o *Order) newCooldown(reason Reason, now time.Time, terms Terms) Cooldown {
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

// change gives the order a new status, and what its events have of the seat.
func (o *Order) change(status Status, s *Seat, now time.Time) {
	o.PassChanged = o.PassChanged && status == o.Status
	o.Status = status
	o.Sequence = s.Sequence
	o.SellerID = cmp.Or(s.SellerID, o.SellerID)
	o.Version++
	o.UpdatedAt = now
}

// Event is the event of the order's last change.
func (o *Order) Event() events.Payload {
	order := events.Order{
		ID:        o.ID,
		UserID:    o.UserID,
		SellerID:  o.SellerID,
		Status:    events.OrderStatus(o.Status),
		Reason:    events.CancelReason(o.Reason),
		ExpiresAt: clock.Stamp(o.ExpiresAt),
		Ticket:    o.Ticket.published(),
		Sequence:  o.Sequence,
		UsedAt:    clock.Stamp(o.UsedAt),
		ResoldAt:  clock.Stamp(o.ResoldAt),
		Version:   o.Version,
		CreatedAt: clock.Stamp(o.CreatedAt),
		UpdatedAt: clock.Stamp(o.UpdatedAt),
	}
	switch o.Status {
	case Complete:
		if o.PassChanged {
			return events.OrderUpdated{Order: order}
		}
		return events.OrderCompleted{Order: order}
	case Cancelled:
		return events.OrderCancelled{Order: order}
	default:
		return events.OrderCreated{Order: order}
	}
}
