package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// timeIsOver cancels those orders of a slot that are not paid. For settled ones there is nothing to do. An order that is
// not known is logged, and does not keep the others from being cancelled. If the time of some is not over by this
// process's clock, the event is delivered again until it is, for no second one follows.
func (b *box) timeIsOver(ctx context.Context, e events.ExpirationComplete) error {
	now := now()
	orders, err := b.unpaid(ctx, e)
	if err != nil {
		return err
	}
	tickets, err := b.ticketsOf(ctx, orders)
	if err != nil {
		return err
	}
	early := 0
	failed := make([]error, len(orders))
	var cancelling sync.WaitGroup // side by side, so that they share transactions
	for i, order := range orders {
		if !order.Value.IsOver(now) {
			early++
			continue
		}
		cancelling.Go(func() { failed[i] = b.expire(ctx, order, tickets[order.Value.Ticket.ID]) })
	}
	cancelling.Wait()
	if early > 0 {
		// First of all errors, so that it decides: such an event must never become a dead letter.
		failed = slices.Insert(failed, 0, error(problem.New(problem.Unavailable, "The time of some orders is not over yet.").
			Because(fmt.Errorf("%d of the %d orders of %s are not over yet by this clock", early, len(e.All()), e.Slot))))
	}
	return errors.Join(failed...)
}

// unpaid reads which of an event's orders are neither paid nor cancelled.
func (b *box) unpaid(ctx context.Context, e events.ExpirationComplete) ([]state.Doc[Order], error) {
	unknown := map[string]bool{}
	var keys []string
	for _, expired := range e.All() {
		if !unknown[orderKey(expired.ID)] {
			keys = append(keys, orderKey(expired.ID))
		}
		unknown[orderKey(expired.ID)] = true
	}
	docs, err := state.GetMany[Order](ctx, b.store, keys)
	if err != nil {
		return nil, err
	}
	var unpaid []state.Doc[Order]
	for _, doc := range docs {
		delete(unknown, doc.Key)
		if doc.Value.Status == Created {
			unpaid = append(unpaid, doc)
		}
	}
	for key := range unknown {
		b.log.Warn("an order whose time is over is not known, and is left out; a restored backup may be older", "key", key, "slot", e.Slot)
	}
	return unpaid, nil
}

// ticketsOf reads the tickets of orders, by their ids.
func (b *box) ticketsOf(ctx context.Context, orders []state.Doc[Order]) (map[string]state.Doc[Ticket], error) {
	keys := make([]string, len(orders))
	for i, order := range orders {
		keys[i] = ticketKey(order.Value.Ticket.ID)
	}
	docs, err := state.GetMany[Ticket](ctx, b.store, keys)
	if err != nil {
		return nil, err
	}
	tickets := make(map[string]state.Doc[Ticket], len(docs))
	for _, doc := range docs {
		tickets[doc.Value.ID] = doc
	}
	return tickets, nil
}

// expire cancels an unpaid order, as it and its ticket were read; if either has changed since then, it reads them again.
func (b *box) expire(ctx context.Context, order state.Doc[Order], ticket state.Doc[Ticket]) error {
	if _, err := order.Value.Cancel(&ticket.Value, Expired, now(), b.terms); err == nil {
		var change state.Change
		change.Update(order.Key, order.ETag, order.Value)
		change.Update(ticket.Key, ticket.ETag, ticket.Value)
		change.Emit(ctx, order.Value.Told())
		noteChanged(&change, order.Value)
		if err = b.store.Commit(ctx, &change); !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	err := b.Cancel(ctx, order.Value.ID, Expired, func(*Order) error { return nil })
	if errors.Is(err, errComplete) {
		return nil // it was paid in this moment
	}
	return err
}
