package main

import (
	"context"
	"fmt"

	"boxoffice/services/catalogue/feed"
	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/events"
)

// subscriptions appends to the change feed what the events of shows, tickets and orders mean for the read model. Such an event is handled when
// its change is committed; each replica then applies it (feed.Feed). The deletion of an account is handled when the owner's shows are
// cancelled.
type subscriptions struct {
	feed  *feed.Feed
	store *store
}

func (s *subscriptions) register(r *events.Router) {
	events.OnQueued(r, func(ctx context.Context, e events.ShowCreated) (outcome, error) { return s.show(ctx, e.Show) })
	events.OnQueued(r, func(ctx context.Context, e events.ShowUpdated) (outcome, error) { return s.show(ctx, e.Show) })
	events.OnQueued(r, func(ctx context.Context, e events.ShowCancelled) (outcome, error) { return s.show(ctx, e.Show) })

	events.OnQueued(r, func(ctx context.Context, e events.TicketCreated) (outcome, error) {
		return s.ticket(ctx, e.Ticket, false)
	})
	events.OnQueued(r, func(ctx context.Context, e events.TicketUpdated) (outcome, error) {
		return s.ticket(ctx, e.Ticket, false)
	})
	events.OnQueued(r, func(ctx context.Context, e events.TicketDeleted) (outcome, error) {
		return s.ticket(ctx, e.Ticket, true)
	})

	events.OnQueued(r, func(ctx context.Context, e events.OrderCreated) (outcome, error) { return s.order(ctx, e.Order) })
	events.OnQueued(r, func(ctx context.Context, e events.OrderCompleted) (outcome, error) { return s.order(ctx, e.Order) })
	events.OnQueued(r, func(ctx context.Context, e events.OrderUpdated) (outcome, error) { return s.order(ctx, e.Order) })
	events.OnQueued(r, func(ctx context.Context, e events.OrderCancelled) (outcome, error) { return s.order(ctx, e.Order) })

	events.On(r, func(ctx context.Context, e events.UserDeleted) error { return s.store.DeleteOwner(ctx, e.ID) })
}

// outcome waits until a queued change is committed.
type outcome = func() error

func (s *subscriptions) show(ctx context.Context, show events.Show) (outcome, error) {
	return s.feed.Queue(ctx, index.Change{Show: showChange(show)})
}

// ticket queues a listing. If an order has changed the ticket, it also queues the ticket's availability: an event that is published
// again has the listing's version, and may have a later availability than the read model, if that has missed an order's event.
func (s *subscriptions) ticket(ctx context.Context, ticket events.Ticket, deleted bool) (outcome, error) {
	changes := []index.Change{{Listing: listingChange(ticket, deleted)}}
	if ticket.Sequence > 0 {
		changes = append(changes, index.Change{Reservation: &index.Reservation{
			TicketID: ticket.ID, Sequence: ticket.Sequence, Status: index.Status(ticket.Status), At: ticket.UpdatedAt.Time,
		}})
	}
	return s.feed.Queue(ctx, changes...)
}

// order queues the availability of an order's ticket. It ignores the cancellation of an order that orders has lost with a restored
// backup, if the ticket is not known.
func (s *subscriptions) order(ctx context.Context, order events.Order) (outcome, error) {
	if !order.Status.IsKnown() {
		return nil, fmt.Errorf("%w: order %s has the status %q", events.ErrRefused, order.ID, order.Status)
	}
	if order.Ticket.ID == "" {
		return func() error { return nil }, nil
	}
	return s.feed.Queue(ctx, index.Change{Reservation: &index.Reservation{
		TicketID: order.Ticket.ID, Sequence: order.Sequence, Status: index.Status(order.TicketStatus()), At: order.UpdatedAt.Time,
	}})
}

func showChange(show events.Show) *index.Show {
	change := &index.Show{
		ID: show.ID, Name: show.Name, Venue: show.Venue, City: show.City, Country: show.Country,
		StartsAt: show.StartsAt.Time, TimeZone: show.TimeZone, Category: show.Category, Description: show.Description,
		MaxMarkup: show.MaxMarkup, Cancelled: show.Status == events.ShowStatusCancelled, UserID: show.UserID,
		Version: show.Version, CreatedAt: show.CreatedAt.Time, UpdatedAt: show.UpdatedAt.Time,
	}
	if show.Image != nil {
		change.Image = &index.Image{URL: show.Image.URL, Width: show.Image.Width, Height: show.Image.Height}
	}
	return change
}

func listingChange(ticket events.Ticket, deleted bool) *index.Listing {
	change := &index.Listing{
		ID: ticket.ID, ShowID: ticket.ShowID, Title: ticket.Title, Price: ticket.Price, Currency: ticket.Currency, UserID: ticket.UserID,
		FaceValue: ticket.FaceValue, SalesEndAt: ticket.SalesEndAt.Time, Status: index.Status(ticket.Status), Sequence: ticket.Sequence,
		Version: ticket.Version, Deleted: deleted, CreatedAt: ticket.CreatedAt.Time, UpdatedAt: ticket.UpdatedAt.Time,
	}
	if ticket.ResaleOf != nil {
		change.ResaleOf = ticket.ResaleOf.TicketID
	}
	if seat := ticket.Seat; seat != nil {
		change.Place = &index.Place{Section: seat.Section, Row: seat.Row, Number: seat.Number}
	}
	return change
}
