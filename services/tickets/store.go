package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	ticket/{id}    Ticket
//	index/tickets  all tickets, oldest first
//	leavers        Leavers: the sellers whose listings are being withdrawn (leavers.go)
//	index/recent/tickets/{day}  what sellers changed on a day, for five days; see reconcile.go
func ticketKey(id string) string { return "ticket/" + id }

const allTickets = "tickets"

// listings is where tickets are kept; each method is one decision, committed whole.
type listings struct {
	store    *state.Store
	currency string
	minPrice int64
	log      *slog.Logger
	leaving  chan struct{} // holds a token when listings are to be withdrawn
	// asked is when askIfTaken last published each ticket.
	asked *lru.Cache[string, time.Time]
	// compactor removes deleted tickets from the index of all tickets.
	compactor *state.Compactor[Ticket]
}

func newListings(store *state.Store, currency string, minPrice int64, log *slog.Logger) *listings {
	asked, err := lru.New[string, time.Time](askedRemembered)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &listings{
		store: store, currency: currency, minPrice: minPrice, log: log, leaving: make(chan struct{}, 1), asked: asked,
		compactor: state.NewCompactor(store, allTickets, ticketKey, (*Ticket).Unlist),
	}
}

// Create lists a ticket.
func (l *listings) Create(ctx context.Context, seller string, offer Offer) (Ticket, error) {
	if err := offer.AtLeast(l.minPrice); err != nil {
		return Ticket{}, err
	}
	ticket := List(uuid.Must(uuid.NewV7()).String(), seller, l.currency, offer, now())
	var change state.Change
	change.Insert(ticketKey(ticket.ID), ticket)
	change.Append(allTickets, ticket.ID)
	change.Emit(ctx, ticket.Event())
	noteChanged(&change, ticket)
	return ticket, l.store.Commit(ctx, &change)
}

// Ticket reads one ticket. It returns errNotFound if there is none, or none any more.
func (l *listings) Ticket(ctx context.Context, id string) (state.Doc[Ticket], error) {
	doc, err := state.Get[Ticket](ctx, l.store, ticketKey(id))
	if errors.Is(err, state.ErrNotFound) || err == nil && doc.Value.Deleted {
		return doc, errNotFound
	}
	return doc, err
}

// All lists tickets, newest first.
func (l *listings) All(ctx context.Context, limit int, cursor string) ([]Ticket, string, error) {
	return state.List(ctx, l.store, allTickets, limit, cursor, ticketKey, func(t Ticket) bool { return !t.Deleted })
}

// Change replaces what the seller says of a ticket.
func (l *listings) Change(ctx context.Context, id, seller string, expect Expect, offer Offer) (Ticket, error) {
	if err := offer.AtLeast(l.minPrice); err != nil {
		return Ticket{}, err
	}
	ticket, err := l.decide(ctx, id, func(t *Ticket) (bool, error) { return true, t.Change(seller, expect, offer, now()) })
	l.askIfTaken(ctx, ticket, err)
	return ticket, err
}

// Delete withdraws a listing.
func (l *listings) Delete(ctx context.Context, id, seller string, expect Expect) error {
	ticket, err := l.decide(ctx, id, func(t *Ticket) (bool, error) { return true, t.Delete(seller, expect, now()) })
	l.askIfTaken(ctx, ticket, err)
	return err
}

const (
	// takenTime is from when on a ticket that somebody has is published again when its seller may not change it: longer than any
	// reservation lasts.
	takenTime = 25 * time.Hour
	// askedTime is for how long it is not published once more, or each refused request would publish an event.
	askedTime = time.Hour
	// askedRemembered bounds how many tickets a process remembers as published again.
	askedRemembered = 16384
)

// askIfTaken publishes a ticket again that its seller could not change because somebody has had it for long. If the orders
// service has lost that order, with a restored backup, it says so then, and the seller may try again.
func (l *listings) askIfTaken(ctx context.Context, ticket Ticket, err error) {
	if !errors.Is(err, errReserved) && !errors.Is(err, errSold) || now().Sub(ticket.UpdatedAt) < takenTime {
		return
	}
	if last, known := l.asked.Get(ticket.ID); known && now().Sub(last) < askedTime {
		return
	}
	l.asked.Add(ticket.ID, now())
	var change state.Change
	change.Emit(ctx, ticket.AsListed())
	if err := l.store.Commit(ctx, &change); err != nil {
		l.asked.Remove(ticket.ID)
		l.log.WarnContext(ctx, "could not publish a ticket again", "ticket", ticket.ID, "error", err)
	}
}

// Hear brings a ticket up to what the orders service tells of its reservation. Tickets begin here and are never
// forgotten: what is told of one that is not known is refused.
func (l *listings) Hear(ctx context.Context, status Status, order events.Order) error {
	_, err := l.decide(ctx, order.Ticket.ID, func(t *Ticket) (bool, error) { return t.Hear(status, order, now()), nil })
	if errors.Is(err, errNotFound) {
		return fmt.Errorf("%w: there is no ticket %s", events.ErrRefused, order.Ticket.ID)
	}
	return err
}

// decide lets a transition change a ticket, and commits it with its event, if it has one.
func (l *listings) decide(ctx context.Context, id string, transition func(*Ticket) (changed bool, err error)) (Ticket, error) {
	var ticket Ticket
	err := state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[Ticket](ctx, l.store, ticketKey(id))
		if errors.Is(err, state.ErrNotFound) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		ticket = doc.Value
		changed, err := transition(&ticket)
		if err != nil || !changed {
			return err
		}
		var change state.Change
		if ticket.Relist() {
			change.Append(allTickets, id)
		}
		change.Update(doc.Key, doc.ETag, ticket)
		if event := ticket.Event(); event != nil {
			change.Emit(ctx, event)
			noteChanged(&change, ticket)
		}
		return l.store.Commit(ctx, &change)
	})
	if err == nil && ticket.Deleted && !ticket.Unlisted {
		l.compactor.Wake()
	}
	return ticket, err
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
