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
