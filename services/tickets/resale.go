package main

import (
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// This file has the rules of resales. The buyer of a sold ticket of a show holds its pass, and may list the place again: as a ticket of its
// own, the resale. A resale takes the show, the place, the title and the face value from the ticket that it resells; its seller decides the
// price alone, within the show's cap.
//
//   - A ticket has one live resale at most: the ticket names it, and both change in the same transaction.
//   - A resale ends when its seller does not hold the pass any more: the order was cancelled, or the pass was used. It is deleted then; if an order
//     has it, when that order is cancelled.
//   - When the resale is sold, orders makes the seller's pass void (Order.ResoldAt). The buyer of a resale may resell it in turn.
//
// Orders decides who holds a valid pass: what this service knows may be old, and orders refuses to reserve a resale that is void.

// resaleTicketSchema is the format of a resale, and of a ticket that has or had one. The previous release cannot read it: it would make a second
// resale of the ticket.
const resaleTicketSchema = 3

// Resold is what a resale sells: a ticket, and the seller's order of it.
type Resold struct {
	TicketID id.Ticket `json:"ticketId"`
	OrderID  id.Order  `json:"orderId"`
}

// published is what is resold as events have it.
func (r *Resold) published() *events.Resold {
	if r == nil {
		return nil
	}
	return &events.Resold{TicketID: r.TicketID, OrderID: r.OrderID}
}

var (
	errNoResoldTicket = problem.New(problem.NotFound, "ticket_not_found", "There is no such ticket.").WithField("resaleOf")
	// errSaleNotYetKnown is for a ticket that may be the seller's: the event of the sale may be on its way.
	errSaleNotYetKnown = problem.New(problem.Unavailable, "not_yet_known", "Tickets may not know yet who has bought this ticket. Nothing was changed: send the same request again.").WithField("resaleOf")
	errNotPassHolder   = problem.New(problem.Forbidden, "not_pass_holder", "Only the buyer of this ticket can sell it again.").WithField("resaleOf")
	errNoPass          = problem.New(problem.Conflict, "no_pass", "This ticket has no show, so it has no pass that could be sold again.").WithField("resaleOf")
	errPassUsed        = problem.New(problem.Conflict, "pass_used", "The pass of this ticket was used; it cannot be sold any more.").WithField("resaleOf")
	errPassVoid        = problem.New(problem.Conflict, "pass_void", "You have sold this ticket already; your pass is void.").WithField("resaleOf")
	errResaleListed    = problem.New(problem.Conflict, "seat_listed", "You have listed this ticket already. It can be listed again when that listing is deleted.").WithField("resaleOf")
	errResaleStarted   = errShowStarted.WithField("resaleOf")
	errResaleCancelled = errShowCancelled.WithField("resaleOf")
)

// errResaleFixed is the refusal of a member that a resale takes from the ticket that it resells.
func errResaleFixed(member string) *problem.Error {
	return problem.New(problem.Invalid, "resale_fixed", "A resale takes this from the ticket that it resells. Only its price can be set.").WithField(member)
}

// Resell makes the resale of a ticket, and notes it in the ticket. It refuses
//   - everybody but the ticket's buyer: errNotPassHolder, or errSaleNotYetKnown if the caller may be the buyer soon;
//   - a ticket without a pass that could be sold: errNoPass, errPassUsed, errPassVoid;
//   - a ticket that has a live resale (errResaleListed);
//   - a show that is cancelled or has started, and a price above its cap.
func (t *Ticket) Resell(resale id.Ticket, seller id.User, price int64, show Show, now time.Time) (Ticket, error) {
	if err := t.checkPass(seller); err != nil {
		return Ticket{}, err
	}
	switch {
	case show.Cancelled:
		return Ticket{}, errResaleCancelled
	case !now.Before(show.StartsAt):
		return Ticket{}, errResaleStarted
	}
	if err := show.CheckPrice(price, t.FaceValue); err != nil {
		return Ticket{}, err
	}
	listed := Create(resale, seller, t.Currency, Offer{Title: t.Title, Price: price, FaceValue: t.FaceValue}, now)
	listed.Schema = resaleTicketSchema
	listed.ShowID, listed.Place, listed.FaceValue, listed.SalesEndAt = t.ShowID, t.Place, t.FaceValue, show.StartsAt
	listed.ShowOwnerID = t.showOwner()
	listed.ResaleOf = &Resold{TicketID: t.ID, OrderID: t.OrderID}
	t.Schema = resaleTicketSchema
	t.ResaleID = resale
	return listed, nil
}

// checkPass refuses a resale if the user does not hold a pass of the ticket that can be sold.
func (t *Ticket) checkPass(user id.User) error {
	switch {
	case t.Deleted:
		return errNoResoldTicket
	case t.isTaken() && t.BuyerID == "", t.Status == Reserved && t.BuyerID == user:
		return errSaleNotYetKnown
	case t.Status != Sold || t.BuyerID != user:
		return errNotPassHolder
	case t.ShowID == "":
		return errNoPass
	case !t.UsedAt.IsZero():
		return errPassUsed
	case !t.ResoldAt.IsZero():
		return errPassVoid
	case t.ResaleID != "":
		return errResaleListed
	}
	return nil
}

// showOwner is the owner of the ticket's show; "" if it has none. First-hand, the seller is the owner.
func (t *Ticket) showOwner() id.User {
	switch {
	case t.ShowID == "":
		return ""
	case t.ShowOwnerID != "":
		return t.ShowOwnerID
	}
	return t.UserID
}

// applyPass notes who holds the pass of the ticket, as of an order's event.
func (t *Ticket) applyPass(order events.Order) {
	t.BuyerID, t.UsedAt, t.ResoldAt, t.OrderCancelled = "", time.Time{}, time.Time{}, false
	if t.isTaken() {
		t.BuyerID, t.UsedAt, t.ResoldAt = order.UserID, order.UsedAt.Time, order.ResoldAt.Time
		t.OrderCancelled = order.Status == events.OrderStatusCancelled
	}
}

// lacksBuyer reports whether the event of the ticket's order names the buyer that the document lacks, because a process of the previous
// release has written it.
func (t *Ticket) lacksBuyer(order events.Order) bool {
	return t.BuyerID == "" && order.UserID != "" && t.isTaken() && order.ID == t.OrderID && order.Sequence == t.Sequence
}

// EndsResale reports whether the ticket's resale must end, because its seller does not hold a valid pass any more. had is the order
// that had the ticket before its last change.
func (t *Ticket) EndsResale(had id.Order) bool {
	return t.ResaleID != "" && (t.OrderID != had || t.OrderCancelled || !t.UsedAt.IsZero())
}

// End deletes a resale whose seller cannot sell it any more. One that an order has is deleted when that order is cancelled.
func (t *Ticket) End(now time.Time) (changed bool) { return t.DeleteWithAccount(now) }

// NoteResale changes which resale the ticket has, as its resale is now: a resale that is deleted is none, and one that is sold is the
// ticket's resale, also if its seller deleted it and has listed the ticket again since (a late sale restores it). It returns the resale that
// must end in its place, or "".
func (t *Ticket) NoteResale(resale *Ticket) (changed bool, ends id.Ticket) {
	switch isResale := t.ResaleID == resale.ID; {
	case resale.Deleted && isResale:
		t.ResaleID = ""
		return true, ""
	case resale.Status == Sold && !resale.Deleted && !isResale:
		ends, t.ResaleID = t.ResaleID, resale.ID
		return true, ends
	}
	return false, ""
}
