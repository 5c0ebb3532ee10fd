package main

import (
	"context"

	"boxoffice/services/internal/events"
)

// subscriptions handles the events of other services.
type subscriptions struct{ store *store }

func (s *subscriptions) register(r *events.Router) {
	events.On(r, func(ctx context.Context, e events.OrderCreated) error { return s.store.ApplyOrder(ctx, e.Order) })
	events.On(r, func(ctx context.Context, e events.OrderCompleted) error { return s.store.ApplyOrder(ctx, e.Order) })
	events.On(r, func(ctx context.Context, e events.OrderUpdated) error { return s.store.ApplyOrder(ctx, e.Order) })
	events.On(r, s.orderCancelled)

	events.On(r, func(ctx context.Context, e events.ShowCreated) error { return s.store.ApplyShow(ctx, e.Show) })
	events.On(r, func(ctx context.Context, e events.ShowUpdated) error { return s.store.ApplyShow(ctx, e.Show) })
	events.On(r, func(ctx context.Context, e events.ShowCancelled) error { return s.store.ApplyShow(ctx, e.Show) })

	events.On(r, func(ctx context.Context, e events.UserDeleted) error { return s.store.BeginWithdrawal(ctx, e.ID) })
}

// orderCancelled ignores the cancellation of an order that orders has lost with a restored backup, if the order's
// ticket is not known.
func (s *subscriptions) orderCancelled(ctx context.Context, e events.OrderCancelled) error {
	if e.Reason == events.CancelReasonUnknown && e.Ticket.ID == "" {
		return nil
	}
	return s.store.ApplyOrder(ctx, e.Order)
}
