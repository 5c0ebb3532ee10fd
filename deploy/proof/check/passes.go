package check

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Rules about passes, check-ins and resale. A pass is of a complete order of a ticket for a show, until that is resold.

// resale names what a ticket offers again: a ticket, and the order whose pass its seller holds.
type resale struct {
	TicketID string `json:"ticketId"`
	OrderID  string `json:"orderId"`
}

// hasPass reports whether the order has a valid pass, or one that was used.
func (o orderDoc) hasPass() bool {
	return o.Status == "complete" && o.Ticket.ShowID != "" && o.ResoldAt.IsZero()
}

// keepsTicket reports whether the order was cancelled after its pass was used or its ticket resold. Then the ticket is not sold again.
func (o orderDoc) keepsTicket() bool {
	return o.Status == "cancelled" && (!o.UsedAt.IsZero() || !o.ResoldAt.IsZero())
}

// placeKey identifies a place with a number in its show; "" if the order's ticket has none.
func (o orderDoc) placeKey() string {
	if o.Ticket.Seat == nil || o.Ticket.Seat.Number == "" {
		return ""
	}
	return o.Ticket.ShowID + " " + o.Ticket.Seat.key()
}

// resales are what each ticket offers again, by the ticket, as they were published.
func (c *checker) resales() map[string]resale {
	all := map[string]resale{}
	for _, e := range c.byID {
		if e.Type != "ticket.created" {
			continue
		}
		if t, err := decode[struct {
			ResaleOf *resale `json:"resaleOf"`
		}](e); err == nil && t.ResaleOf != nil {
			all[e.Subject] = *t.ResaleOf
		}
	}
	return all
}

// Promise 10. A place has at most one valid pass, and was used at most once. A pass that was used is not sold.
func (c *checker) onePass() {
	passes, used := map[string][]string{}, map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(c.orders)) {
		o := c.orders[id]
		at := o.placeKey()
		if at != "" && o.hasPass() {
			passes[at] = append(passes[at], id)
		}
		if at != "" && !o.UsedAt.IsZero() {
			used[at] = append(used[at], id)
		}
		if !o.UsedAt.IsZero() && !o.ResoldAt.IsZero() {
			c.violation(10, "order "+id, fmt.Sprintf("its pass was used at %s, and its ticket was resold at %s", o.UsedAt, o.ResoldAt), id)
		}
	}
	for at, ids := range passes {
		if len(ids) > 1 {
			c.violation(10, "place "+at, fmt.Sprintf("%d orders have a valid pass of it: %v", len(ids), ids), ids...)
		}
	}
	for at, ids := range used {
		if len(ids) > 1 {
			c.violation(10, "place "+at, fmt.Sprintf("the passes of %d orders were used for it: %v", len(ids), ids), ids...)
		}
	}
}

// Promise 10. A resale has the show, the place and the face value of the ticket that it offers again, by the buyer of that ticket. When it is
// sold, the old pass is void, and an old pass is void for no other reason.
func (c *checker) resalesMovePasses() {
	resales := c.resales()
	moved := map[string]bool{} // orders whose pass went to another order
	ordersOf := c.ordersByTicket()
	for _, id := range slices.Sorted(maps.Keys(resales)) {
		of := resales[id]
		t, first, old := c.tickets[id], c.tickets[of.TicketID], c.orders[of.OrderID]
		switch {
		case old.ID == "" || old.Ticket.ID != of.TicketID:
			c.violation(10, "ticket "+id, fmt.Sprintf("it resells ticket %s of order %s, and that order has ticket %q", of.TicketID, of.OrderID, old.Ticket.ID), id, of.OrderID)
		case old.UserID != t.UserID:
			c.violation(10, "ticket "+id, fmt.Sprintf("its seller is %s, and %s bought what it resells", t.UserID, old.UserID), id, of.OrderID)
		case t.ShowID != first.ShowID || !samePlace(t.Seat, first.Seat) || t.FaceValue != first.FaceValue:
			c.violation(10, "ticket "+id, fmt.Sprintf("it has the show %q, the place %s and the face value %d, and what it resells has %q, %s and %d",
				t.ShowID, t.Seat, t.FaceValue, first.ShowID, first.Seat, first.FaceValue), id, of.TicketID)
		}
		if !t.Deleted && t.Status == "available" && (!old.hasPass() || !old.UsedAt.IsZero()) {
			c.violation(6, "ticket "+id, fmt.Sprintf("it is for sale, and its seller has no pass to sell: order %s is %s, used %t, resold %t", old.ID, old.Status, !old.UsedAt.IsZero(), !old.ResoldAt.IsZero()), id, old.ID)
		}
		for _, o := range ordersOf[id] {
			if o.Status == "complete" || !o.UsedAt.IsZero() || !o.ResoldAt.IsZero() {
				moved[of.OrderID] = true
				if old.ResoldAt.IsZero() {
					c.violation(10, "order "+old.ID, fmt.Sprintf("order %s bought its ticket, and its pass is not void", o.ID), old.ID, o.ID)
				}
			}
		}
	}
	for id, o := range c.orders {
		// An order that was cancelled after its place was resold stays resold, also when the buyer's order is cancelled after it, with the show.
		if o.Status == "complete" && !o.ResoldAt.IsZero() && !moved[id] && c.allEvents {
			c.violation(10, "order "+id, "its pass is void as resold, and no order has bought its ticket", id)
		}
	}
}

// Promise 10. A check-in was granted once for a pass and once for a place, is kept, and each use of a pass was requested.
func (c *checker) checkInsAreTrue() {
	if c.history == nil {
		return
	}
	c.history.mu.Lock()
	defer c.history.mu.Unlock()
	orders, places := map[string]int{}, map[string]int{}
	for _, granted := range c.history.checkIns {
		o, exists := c.orders[granted.Order]
		orders[granted.Order]++
		switch at := o.placeKey(); {
		case !exists:
			c.violation(10, "order "+granted.Order, "its check-in was acknowledged, and it does not exist")
			continue
		case at != "":
			places[at]++
		}
		if !o.UsedAt.Truncate(time.Millisecond).Equal(granted.UsedAt.Truncate(time.Millisecond)) {
			c.violation(10, "order "+o.ID, fmt.Sprintf("its check-in was acknowledged with the time %s, and its pass was used at %s", granted.UsedAt, o.UsedAt), o.ID)
		}
	}
	for id, n := range orders {
		if n > 1 {
			c.violation(10, "order "+id, fmt.Sprintf("its pass admitted %d times", n), id)
		}
	}
	for at, n := range places {
		if n > 1 {
			c.violation(10, "place "+at, fmt.Sprintf("%d passes of it were admitted", n))
		}
	}
	requested := map[string]bool{}
	for _, r := range c.history.requests {
		if r.Kind == CheckIn && !r.refused() {
			requested[r.Order] = true
		}
	}
	for id, o := range c.orders {
		if !o.UsedAt.IsZero() && !requested[id] && len(c.history.requests) > 0 {
			c.violation(5, "order "+id, "its pass was used, and all requests for that were refused", id)
		}
	}
}
