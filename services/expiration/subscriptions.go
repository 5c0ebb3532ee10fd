package main

import (
	"context"

	"boxoffice/services/internal/events"
)

// subscribe routes what this service hears: an order that begins gets a reminder, one that is settled loses it.
// Should the two come in the wrong order, the reminder fires in vain, and the orders service tells once more
// that the order is settled.
func (r *reminders) subscribe(router *events.Router) {
	events.On(router, func(ctx context.Context, e events.OrderCreated) error { return r.Set(ctx, e.ID, e.ExpiresAt) })
	events.On(router, func(ctx context.Context, e events.OrderCancelled) error { return r.Drop(ctx, e.ID) })
	events.On(router, func(ctx context.Context, e events.OrderCompleted) error { return r.Drop(ctx, e.ID) })
}
