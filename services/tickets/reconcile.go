package main

import (
	"context"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/state"
)

func noteChanged(change *state.Change, ticket Ticket) {
	change.Note(allTickets, ticket.ID, ticket.CreatedAt, ticket.UpdatedAt)
}

// lastEvents are the events of the sellers' last changes of tickets, for a reconciliation to publish again.
func (l *listings) lastEvents(ctx context.Context, ids []string) ([]events.Payload, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = ticketKey(id)
	}
	docs, err := state.GetMany[Ticket](ctx, l.store, keys)
	if err != nil {
		return nil, err
	}
	last := make([]events.Payload, len(docs))
	for i, doc := range docs {
		last[i] = doc.Value.AsListed()
	}
	return last, nil
}

// compactAll is a step that removes deleted tickets from the whole index of all tickets; the compactor otherwise goes through its
// newest pages alone.
func (l *listings) compactAll() reconcile.Step {
	return reconcile.Step{Name: "compact list", Run: func(ctx context.Context, _ *reconcile.Pass) error {
		_, err := l.compactor.All(ctx)
		return err
	}}
}
