package main

import (
	"context"

	"boxoffice/services/internal/events"
)

// subscribe routes the events that this service handles: an order that begins is put into the slot of its time. What
// becomes of the order later costs nothing here: the slot's event names it, and the orders service knows better.
func (c *calendar) subscribe(router *events.Router) {
	events.On(router, func(ctx context.Context, e events.OrderCreated) error {
		return c.Add(ctx, Expiring{ID: e.ID, ExpiresAt: e.ExpiresAt})
	})
}
