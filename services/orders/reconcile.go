package main

import (
	"context"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/state"
)

// orders is the kind under which orders that changed lately are noted.
const orders = "orders"

func noteChanged(change *state.Change, order Order) {
	change.Note(orders, order.ID, order.CreatedAt, order.UpdatedAt)
}

// lastEvents are the last events of orders, for a reconciliation to publish again.
func (b *box) lastEvents(ctx context.Context, ids []string) ([]events.Payload, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = orderKey(id)
	}
	docs, err := state.GetMany[Order](ctx, b.store, keys)
	if err != nil {
		return nil, err
	}
	last := make([]events.Payload, len(docs))
	for i, doc := range docs {
		last[i] = doc.Value.Told()
	}
	return last, nil
}
