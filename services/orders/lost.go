package main

import (
	"context"
	"errors"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/state"
)

// Orders begin in this service, and none is ever deleted. So one that it does not know was lost: this service's store was
// restored from a backup that is older than the order. Reminders and events of such orders end without effect, and
// whatever money others have of them goes back: payments is published a cancellation.

// lostVersion is the version of a lost order's cancellation. No order comes to have as many changes.
const lostVersion = 1 << 20

// giveBack publishes the cancellation of the order of a payment, if err says that there is no such order. Any other error it
// returns.
func (b *box) giveBack(ctx context.Context, payment events.Payment, err error) error {
	if !errors.Is(err, errNoOrder) {
		return err
	}
	b.log.WarnContext(ctx, "the order of a payment is not known; a restored backup may be older. It is published as cancelled, so that its money is given back",
		"order", payment.OrderID, "payment", payment.ID)
	var change state.Change
	change.Emit(ctx, lostOrder(payment))
	return b.store.Commit(ctx, &change)
}

// lostOrder is the cancellation of an order of which nothing is known but its payment.
func lostOrder(payment events.Payment) events.OrderCancelled {
	return events.OrderCancelled{Order: events.Order{
		ID:        payment.OrderID,
		UserID:    payment.UserID,
		Status:    string(Cancelled),
		Reason:    string(Unknown),
		ExpiresAt: payment.CreatedAt,
		Ticket:    events.OrderedTicket{Price: payment.Amount, Currency: payment.Currency},
		Version:   lostVersion,
		CreatedAt: payment.CreatedAt,
		UpdatedAt: now(),
	}}
}

// unlessLost returns an error, unless it says that there is no such order: then there is nothing to do any more.
func (b *box) unlessLost(ctx context.Context, orderID string, err error) error {
	if !errors.Is(err, errNoOrder) {
		return err
	}
	b.log.WarnContext(ctx, "an event's order is not known, and the event is ignored; a restored backup may be older", "order", orderID)
	return nil
}

// CatchUp says that tickets has applied a change of the ticket's reservation which this service has lost, so that it would
// take the next changes for old ones. The sequence then goes on after that change, and a ticket that is withheld stays so. Outside of a restore, tickets knows no
// change that was not committed here, and at the same sequence both know the same holder.
func (t *Ticket) CatchUp(listing events.Ticket) (behind bool) {
	holder := ""
	if t.Reservation != nil {
		holder = t.Reservation.OrderID
	}
	if listing.Sequence == 0 || listing.Sequence < t.Sequence || listing.Sequence == t.Sequence && listing.OrderID == holder {
		return false
	}
	if listing.Status == "withheld" && t.Reservation == nil {
		t.Withheld = listing.Sequence // that of the refund, after which the seller has not offered the ticket again
	}
	t.Sequence = listing.Sequence + 1
	return true
}

// correct adds to a change that lets a ticket catch up what tickets then has to know: whose it is now, or, if it is nobody's
// and tickets shows an order that is lost, that this order is cancelled.
func (b *box) correct(ctx context.Context, change *state.Change, ticket *Ticket, listing events.Ticket) error {
	b.log.WarnContext(ctx, "tickets knows a later change of a ticket's reservation; a restored backup may be older", "ticket", ticket.ID, "order", listing.OrderID)
	switch {
	case ticket.Reservation != nil:
		order, err := b.Order(ctx, ticket.Reservation.OrderID)
		if err != nil {
			return err
		}
		// Payments may know later versions of the order. None is as high as this one: each change of an order is one of its
		// ticket's sequence, too.
		order.Value.Version = max(order.Value.Version, lostVersion+ticket.Sequence-1)
		order.Value.settle(order.Value.Status, ticket.Sequence, now())
		change.Update(order.Key, order.ETag, order.Value)
		change.Emit(ctx, order.Value.Told())
	case listing.OrderID != "":
		at := now()
		change.Emit(ctx, events.OrderCancelled{Order: events.Order{
			ID:        listing.OrderID,
			Status:    string(Cancelled),
			Reason:    string(Unknown),
			ExpiresAt: at,
			Ticket:    events.OrderedTicket{ID: ticket.ID, Title: ticket.Title, Price: ticket.Price, Currency: ticket.Currency},
			Sequence:  ticket.Sequence,
			Version:   lostVersion + ticket.Sequence,
			CreatedAt: at,
			UpdatedAt: at,
		}})
	}
	return nil
}
