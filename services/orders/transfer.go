package main

import (
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// This file is the life of a transfer: the buyer of a place sells it again, before the show.
//
// The seller's order is O1, of ticket T1. The resale is ticket T2, which tickets lists; its order is O2. Both orders, and their
// seats, change in the same transaction:
//
//	what happens                 O2         O1
//	T2 is reserved               created    Transfer = O2           its pass is valid until O2 is complete
//	O2 ends unpaid               cancelled  Transfer = nil
//	O2 is complete               complete   ResoldTo = O2           its pass is void, and that of O2 valid
//	the sale of O2 is given back cancelled  ResoldTo = ""           its pass is valid again, unless the place is spent by O2
//	O1 is cancelled, unpaid O2   cancelled  cancelled               O2 is withdrawn: there is no place to sell
//	O1 is used, unpaid O2        cancelled  UsedAt                  O2 is withdrawn
//
// So a place has one valid pass at most at any time. O2 may be resold in the same way: a decision about an order changes the order
// before it in the chain and the one after it, and no others.
//
// An order is spent if its pass was used, or its place is resold. Nobody gets its ticket again, even if it is cancelled later
// (Order.end), and its own seller's pass does not become valid again.

// errTicketWithdrawn is the refusal of a resale whose seller has no pass to sell: it was used, resold or cancelled.
var errTicketWithdrawn = problem.New(problem.Conflict, "ticket_withdrawn", "Its seller cannot sell this ticket any more.").WithField("ticketId")

// Resold names what a resale sells: the ticket that its seller has bought, and the seller's order of it.
type Resold struct {
	TicketID id.Ticket `json:"ticketId"`
	OrderID  id.Order  `json:"orderId"`
}

func resoldOf(published *events.Resold) *Resold {
	if published == nil {
		return nil
	}
	return &Resold{TicketID: published.TicketID, OrderID: published.OrderID}
}

// Transfer names the unpaid order that buys an order's place, and the resale that it reserves.
type Transfer struct {
	TicketID id.Ticket `json:"ticketId"`
	OrderID  id.Order  `json:"orderId"`
}

// Holding is an order with the seat of its ticket.
type Holding struct {
	Order *Order
	Seat  *Seat
}

// Chain is what a decision about an order reads, and may change: the order, and its neighbours in a chain of resales.
type Chain struct {
	Holding
	// Origin is what the ticket's seller resells; nil unless the ticket is a resale.
	Origin *Holding
	// Buyer is the unpaid order that buys this order's place; nil if there is none.
	Buyer *Holding
}

// Follow changes the neighbours as the order's change of status requires. The order had the status before. The error is errNotHeld if
// the documents were read at different times.
func (c *Chain) Follow(before Status, now time.Time, terms Terms) error {
	status := c.Order.Status
	if status == before {
		return nil
	}
	if status == Cancelled && c.Order.Transfer != nil {
		if err := c.endBuyer(now, terms); err != nil {
			return err
		}
	}
	switch {
	case c.Origin == nil:
		return nil
	case status == Complete:
		return c.Origin.resell(c.Order, now)
	default:
		return c.Origin.takeBack(c.Order, now)
	}
}

// BeginTransfer notes on the seller's order that the order `to` has reserved its place. It refuses a seller who has no valid pass to
// sell (errTicketWithdrawn), and a place that another buyer has reserved (errReserved).
func (o *Order) BeginTransfer(to *Order) error {
	switch {
	case o.Ticket.ID != to.ResaleOf.TicketID, o.UserID != to.SellerID, o.CheckPass() != nil, o.isUsed():
		return errTicketWithdrawn
	case o.Transfer != nil:
		return errReserved
	}
	o.Transfer = &Transfer{TicketID: to.Ticket.ID, OrderID: to.ID}
	return nil
}

// resell makes the seller's order resold: the order `to`, which had reserved its place, is complete.
func (h *Holding) resell(to *Order, now time.Time) error {
	o := h.Order
	if !o.isReservedBy(to) || o.Status != Complete {
		return errNotHeld
	}
	o.Transfer = nil
	o.ResoldTo, o.ResoldAt = to.ID, now
	return o.changePass(h.Seat, now)
}

// takeBack ends what the order `ended`, which is cancelled, had of the seller's order: its reservation of the place, or the place.
func (h *Holding) takeBack(ended *Order, now time.Time) error {
	o := h.Order
	switch {
	case o.isReservedBy(ended):
		o.Transfer = nil
	case o.Status == Complete && o.ResoldTo == ended.ID && !ended.isSpent():
		o.ResoldTo, o.ResoldAt = "", time.Time{}
		return o.changePass(h.Seat, now)
	}
	return nil
}

// endBuyer withdraws the unpaid order that buys this order's place.
func (c *Chain) endBuyer(now time.Time, terms Terms) error {
	if c.Buyer == nil || c.Buyer.Order.Status != Created || !c.Order.isReservedBy(c.Buyer.Order) {
		return errNotHeld
	}
	c.Order.Transfer = nil
	_, err := c.Buyer.Order.Cancel(c.Buyer.Seat, Withdrawn, now, terms)
	return err
}

func (o *Order) isReservedBy(to *Order) bool { return o.Transfer != nil && o.Transfer.OrderID == to.ID }

func (o *Order) isResold() bool { return o.ResoldTo != "" }

// isSpent reports whether the order's place is taken for good: its pass was used, or the place is resold.
func (o *Order) isSpent() bool { return o.isUsed() || o.isResold() }
