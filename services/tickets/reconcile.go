package main

import (
	"context"

	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/state"
)

func noteChanged(change *state.Change, ticket Ticket) {
	change.Note(allTickets, ticket.ID, ticket.CreatedAt, ticket.UpdatedAt)
}

// compactAll is a step that removes deleted tickets from the whole index of all tickets; the compactor otherwise goes through its
// newest pages alone.
func (l *listings) compactAll() reconcile.Step {
	return reconcile.Step{Name: "compact list", Run: func(ctx context.Context, _ *reconcile.Pass) error {
		_, err := l.compactor.All(ctx)
		return err
	}}
}
