package main

import (
	"context"

	"boxoffice/services/internal/events"
)

// subscriptions handles the events of other services. Each event of an order has its whole state, so all of them lead to the
// same decision.
type subscriptions struct{ store *store }

func (s *subscriptions) register(r *events.Router) {
	events.On(r, func(ctx context.Context, e events.OrderCreated) error { return s.store.ApplyOrder(ctx, e.Order) })
	events.On(r, func(ctx context.Context, e events.OrderCancelled) error { return s.store.ApplyOrder(ctx, e.Order) })
	events.On(r, func(ctx context.Context, e events.OrderCompleted) error { return s.store.ApplyOrder(ctx, e.Order) })
	// Of an order that is updated after it was complete, reconciliation publishes order.updated alone.
	events.On(r, func(ctx context.Context, e events.OrderUpdated) error { return s.store.ApplyOrder(ctx, e.Order) })
}
