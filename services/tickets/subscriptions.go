package main

import (
	"context"

	"boxoffice/services/internal/events"
)

// subscribe routes what this service hears: whether a ticket is to be had is the orders service's to say.
func (l *listings) subscribe(r *events.Router) {
	events.On(r, func(ctx context.Context, e events.OrderCreated) error { return l.Hear(ctx, Reserved, e.Order) })
	events.On(r, func(ctx context.Context, e events.OrderCompleted) error { return l.Hear(ctx, Sold, e.Order) })
	events.On(r, func(ctx context.Context, e events.OrderCancelled) error { return l.Hear(ctx, Available, e.Order) })
}
