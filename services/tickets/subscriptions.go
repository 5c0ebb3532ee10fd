package main

import (
	"context"

	"boxoffice/services/internal/events"
)

// subscribe routes what this service hears: whether a ticket is to be had is the orders service's to say.
func (l *listings) subscribe(r *events.Router) {
	events.On(r, func(ctx context.Context, e events.OrderCreated) error { return l.Hear(ctx, Reserved, e.Order) })
	events.On(r, func(ctx context.Context, e events.OrderCompleted) error { return l.Hear(ctx, Sold, e.Order) })
	events.On(r, l.orderCancelled)

	events.On(r, func(ctx context.Context, e events.UserDeleted) error { return l.DeleteSeller(ctx, e.ID) })
}

// orderCancelled makes a ticket free again; one whose sale was refunded is withheld. An order that the orders service has lost
// may be cancelled without any word which ticket it was for (services/orders/lost.go), and is no concern of this service then.
func (l *listings) orderCancelled(ctx context.Context, e events.OrderCancelled) error {
	switch {
	case e.Reason == "unknown" && e.Ticket.ID == "":
		return nil
	case e.Reason == "refunded":
		return l.Hear(ctx, Withheld, e.Order)
	}
	return l.Hear(ctx, Available, e.Order)
}
