package main

import (
	"context"

	"boxoffice/services/internal/events"
)

// subscribe routes what this service hears: each event of an order carries all of it, so all three lead to the
// same place.
func (t *store) subscribe(r *events.Router) {
	events.On(r, func(ctx context.Context, e events.OrderCreated) error { return t.ApplyOrder(ctx, e.Order) })
	events.On(r, func(ctx context.Context, e events.OrderCancelled) error { return t.ApplyOrder(ctx, e.Order) })
	events.On(r, func(ctx context.Context, e events.OrderCompleted) error { return t.ApplyOrder(ctx, e.Order) })
}
