package main

import (
	"context"

	"boxoffice/services/internal/events"
)

// subscriptions are the events that this service handles. Each event of an order has its whole state, so all of them lead to
// the same decision.
type subscriptions struct{ store *store }

func (s *subscriptions) register(r *events.Router) {
	events.On(r, s.orderCreated)
	events.On(r, s.orderCancelled)
	events.On(r, s.orderCompleted)
}

func (s *subscriptions) orderCreated(ctx context.Context, e events.OrderCreated) error {
	return s.store.ApplyOrder(ctx, e.Order)
}

func (s *subscriptions) orderCancelled(ctx context.Context, e events.OrderCancelled) error {
	return s.store.ApplyOrder(ctx, e.Order)
}

func (s *subscriptions) orderCompleted(ctx context.Context, e events.OrderCompleted) error {
	return s.store.ApplyOrder(ctx, e.Order)
}
