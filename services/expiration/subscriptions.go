package main

import (
	"context"

	"boxoffice/services/internal/events"
)

// subscriptions handles the events of other services.
type subscriptions struct{ store *store }

func (s *subscriptions) register(r *events.Router) {
	// No other event of orders matters here: the slot's event names all its orders, and the orders service cancels only those that are
	// still unpaid.
	events.On(r, func(ctx context.Context, e events.OrderCreated) error {
		return s.store.Add(ctx, Order{ID: e.ID, ExpiresAt: e.ExpiresAt.Time})
	})
}
