package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	ticket/{id}         Ticket: the replica of a listing with its reservation
//	order/{id}          Order
//	payment/{orderId}   PaymentRecord: what was last heard of an order's payment
//	index/orders/{user} a buyer's orders, oldest first
func ticketKey(id string) string       { return "ticket/" + id }
func orderKey(id string) string        { return "order/" + id }
func paymentKey(orderID string) string { return "payment/" + orderID }
func ordersOf(buyer string) string     { return "orders/" + buyer }

// box is where tickets and orders are kept; each method is one decision, committed whole.
type box struct {
	store  *state.Store
	window time.Duration
	log    *slog.Logger
}

// keepAnswer adds the answer to a request to the change that it tells of.
type keepAnswer func(change *state.Change, order Order) error

// Reserve gives the ticket to the buyer, if it is free.
func (b *box) Reserve(ctx context.Context, ticketID, buyer string, keep keepAnswer) (Order, error) {
	ticket, err := state.GetReplica[Ticket](ctx, b.store, ticketKey(ticketID), ticketID)
	if errors.Is(err, state.ErrNotFound) {
		return Order{}, errNoTicket
	}
	if err != nil {
		return Order{}, err
	}
	now := now()
	order, expired, err := ticket.Value.Reserve(uuid.Must(uuid.NewV7()).String(), buyer, now, b.window)
	if err != nil {
		return Order{}, err
	}

	var change state.Change
	if expired != "" {
		late, err := state.Get[Order](ctx, b.store, orderKey(expired))
		if err != nil {
			return Order{}, fmt.Errorf("the order that held ticket %s: %w", ticketID, err)
		}
		late.Value.GiveWay(order, now)
		change.Update(late.Key, late.ETag, late.Value)
		change.Emit(ctx, late.Value.Told())
	}
	change.Update(ticket.Key, ticket.ETag, ticket.Value)
	change.Create(orderKey(order.ID), order)
	change.Append(ordersOf(buyer), order.ID)
	change.Emit(ctx, order.Told())
	if err := keep(&change, order); err != nil {
		return Order{}, err
	}
	return order, b.store.Commit(ctx, &change)
}

// Order reads one order. It returns errNoOrder if there is none.
func (b *box) Order(ctx context.Context, id string) (state.Doc[Order], error) {
	doc, err := state.Get[Order](ctx, b.store, orderKey(id))
	if errors.Is(err, state.ErrNotFound) {
		return doc, errNoOrder
	}
	return doc, err
}

// OrdersOf lists a buyer's orders, newest first.
func (b *box) OrdersOf(ctx context.Context, buyer string, limit int, cursor string) ([]Order, string, error) {
	return state.List(ctx, b.store, ordersOf(buyer), limit, cursor, orderKey, func(Order) bool { return true })
}

// Cancel cancels an order, unless it is complete or cancelled already.
func (b *box) Cancel(ctx context.Context, id string, reason Reason, may func(*Order) error) error {
	return b.decide(ctx, id, func(order *Order, ticket *Ticket) (bool, error) {
		if err := may(order); err != nil {
			return false, err
		}
		return order.Cancel(ticket, reason, now())
	})
}

// Complete completes an order whose funds are authorized, and returns it. An order that is settled already stays
// as it is.
func (b *box) Complete(ctx context.Context, id string) (completed Order, err error) {
	err = b.decide(ctx, id, func(order *Order, ticket *Ticket) (changed bool, err error) {
		if order.Status == Created {
			changed, err = true, order.Complete(ticket, now())
		}
		completed = *order
		return changed, err
	})
	return completed, err
}

// decide lets a transition change an order and its ticket, and commits both with the order's event.
func (b *box) decide(ctx context.Context, id string, transition func(*Order, *Ticket) (changed bool, err error)) error {
	return state.Retry(ctx, func(ctx context.Context) error {
		order, err := b.Order(ctx, id)
		if err != nil {
			return err
		}
		ticket, err := state.Get[Ticket](ctx, b.store, ticketKey(order.Value.Ticket.ID))
		if err != nil {
			return fmt.Errorf("the ticket of order %s: %w", id, err)
		}
		changed, err := transition(&order.Value, &ticket.Value)
		if errors.Is(err, errNotReserved) {
			// The two are changed together, but were read one after the other.
			return fmt.Errorf("order %s gave way to another between two reads: %w", id, state.ErrConflict)
		}
		if err != nil || !changed {
			return err
		}
		var change state.Change
		change.Update(order.Key, order.ETag, order.Value)
		change.Update(ticket.Key, ticket.ETag, ticket.Value)
		change.Emit(ctx, order.Value.Told())
		return b.store.Commit(ctx, &change)
	})
}

// TellAgain publishes an order's last event once more, for whoever seems to have missed it.
func (b *box) TellAgain(ctx context.Context, order *Order) error {
	var change state.Change
	change.Emit(ctx, order.Told())
	return b.store.Commit(ctx, &change)
}

// HearTicket brings the replica of a listing up to what the tickets service tells. It returns the order that
// loses its ticket by that, if any.
func (b *box) HearTicket(ctx context.Context, listing events.Ticket, deleted bool) (reservation *Reservation, err error) {
	err = state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[Ticket](ctx, b.store, ticketKey(listing.ID))
		missing := errors.Is(err, state.ErrNotFound)
		if err != nil && !missing {
			return err
		}
		changed := doc.Value.Hear(listing, deleted)
		reservation = doc.Value.Reservation
		if !changed {
			return nil
		}
		var change state.Change
		if missing {
			change.Create(doc.Key, doc.Value)
		} else {
			change.Update(doc.Key, doc.ETag, doc.Value)
		}
		return b.store.Commit(ctx, &change)
	})
	return reservation, err
}

// HearPayment records what the payments service tells of an order's payment, if it is newer than what is known, and
// returns what is known then.
func (b *box) HearPayment(ctx context.Context, told events.Payment) (known PaymentRecord, err error) {
	err = state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[PaymentRecord](ctx, b.store, paymentKey(told.OrderID))
		missing := errors.Is(err, state.ErrNotFound)
		if err != nil && !missing {
			return err
		}
		changed := doc.Value.Hear(told)
		known = doc.Value
		if !changed {
			return nil
		}
		var change state.Change
		if missing {
			change.Create(doc.Key, doc.Value)
		} else {
			change.Update(doc.Key, doc.ETag, doc.Value)
		}
		return b.store.Commit(ctx, &change)
	})
	return known, err
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
