package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	ticket/{id}    Ticket
//	index/tickets  all tickets, oldest first
//	index/seller/{user}  all tickets of a seller, oldest first, also deleted ones
//	index/recent/tickets/{day}  tickets that sellers changed on a day, for five days; reconciliation reads them
//	show/{id}      Show
//	place/{show}/{hash}  Placement: which ticket has a place with a number
//	index/show/{id}  all tickets of a show, oldest first, also deleted ones
//	following      the shows whose tickets are being changed (following.go)
//	index/recent/shows/{day}  shows that were moved or cancelled on a day
//
// and withdrawals (withdrawals.go).
func ticketKey(ticket id.Ticket) string { return "ticket/" + string(ticket) }
func showKey(show id.Show) string       { return "show/" + string(show) }
func ticketsOf(show id.Show) string     { return "show/" + string(show) }

// ticketsOfSeller is the index of a seller's tickets.
func ticketsOfSeller(seller id.User) string { return "seller/" + string(seller) }

// keyOfIndexed is the key of a ticket whose id is an index entry.
func keyOfIndexed(ticket string) string { return ticketKey(id.Ticket(ticket)) }

// allTickets is the index of all tickets, and the kind under which changed tickets are noted for reconciliation.
const allTickets = "tickets"

// store reads and commits the documents. Each exported method is one decision, or one query.
type store struct {
	documents *state.Store
	terms     Terms
	clock     clock.Clock
	log       *slog.Logger
	// republished is when republishIfTaken published each ticket last.
	republished *lru.Cache[id.Ticket, time.Time]
	// compactor removes deleted tickets from the index.
	compactor *state.Compactor[Ticket]
	// withdrawNow holds an element when a withdrawal is due before its period is over.
	withdrawNow chan struct{}
	// followNow holds an element when tickets must follow a show before the period is over.
	followNow chan struct{}
}

const (
	// republishAge is how long an order must have had a ticket before the ticket is published again: longer than any
	// reservation lasts.
	republishAge = 25 * time.Hour
	// republishPause is how long the ticket is not published again after that.
	republishPause = time.Hour
	// republishedCached bounds how many tickets a process remembers as published again.
	republishedCached = 16384
)

func newStore(documents *state.Store, terms Terms, clock clock.Clock, log *slog.Logger) *store {
	republished, err := lru.New[id.Ticket, time.Time](republishedCached)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &store{
		documents: documents, terms: terms, clock: clock, log: log, republished: republished, withdrawNow: make(chan struct{}, 1), followNow: make(chan struct{}, 1),
		compactor: state.NewCompactor(documents, allTickets, keyOfIndexed, (*Ticket).DropFromIndex),
	}
}

// Listing is a new ticket as its seller wants it. ShowID may be "", and Place nil. Of a resale there is only the price, and ResaleOf, the ticket
// that is resold.
type Listing struct {
	Offer
	ShowID   id.Show
	Place    *Place
	ResaleOf id.Ticket
}

// Create decides on a listing: CreateForShow has the rules if it is for a show, and Ticket.Resell if it is a resale. The caller commits the
// change, and calls decide again on a conflict.
func (s *store) Create(seller id.User, listing Listing) (decide func(ctx context.Context) (*state.Change, Ticket, error)) {
	again := false
	return func(ctx context.Context) (*state.Change, Ticket, error) {
		switch {
		case listing.ResaleOf != "":
			return s.resell(ctx, seller, listing)
		case listing.ShowID == "":
			ticket := Create(id.New[id.Ticket](), seller, s.terms.Currency, listing.Offer, s.clock())
			return newTicket(ctx, ticket), ticket, nil
		}
		afterConflict := again
		again = true
		return s.createForShow(ctx, seller, listing, afterConflict)
	}
}

// resell reads the ticket that is resold, and its show.
func (s *store) resell(ctx context.Context, seller id.User, listing Listing) (*state.Change, Ticket, error) {
	resold, err := state.Get[Ticket](ctx, s.documents, ticketKey(listing.ResaleOf))
	if errors.Is(err, state.ErrNotFound) {
		return nil, Ticket{}, errNoResoldTicket
	}
	if err != nil {
		return nil, Ticket{}, err
	}
	show, err := s.showOf(ctx, &resold.Value)
	if err != nil {
		return nil, Ticket{}, err
	}
	ticket, err := resold.Value.Resell(id.New[id.Ticket](), seller, listing.Price, show, s.clock())
	if err != nil {
		return nil, Ticket{}, err
	}
	change := newTicket(ctx, ticket)
	change.Append(ticketsOf(ticket.ShowID), string(ticket.ID))
	change.Update(resold.Key, resold.ETag, resold.Value)
	return change, ticket, nil
}

// createForShow reads the show. It does not read who has the place, unless there was a conflict: a place is most likely free, and the change
// is committed only if it is.
func (s *store) createForShow(ctx context.Context, seller id.User, listing Listing, afterConflict bool) (*state.Change, Ticket, error) {
	show, err := state.GetProjection[Show](ctx, s.documents, showKey(listing.ShowID), listing.ShowID, seller)
	if errors.Is(err, state.ErrNotFound) {
		return nil, Ticket{}, errUnknownShow(listing.ShowID, s.clock())
	}
	if err != nil {
		return nil, Ticket{}, err
	}
	ticket, err := CreateForShow(id.New[id.Ticket](), show.Value, seller, s.terms.Currency, listing.Offer, listing.Place, s.clock())
	if err != nil {
		return nil, Ticket{}, err
	}
	change := newTicket(ctx, ticket)
	change.Append(ticketsOf(ticket.ShowID), string(ticket.ID))
	if !ticket.HasPlace() {
		return change, ticket, nil
	}
	place := ticket.Place.key(ticket.ShowID)
	if afterConflict {
		if _, err := state.Get[Placement](ctx, s.documents, place); !errors.Is(err, state.ErrNotFound) {
			return nil, Ticket{}, cmp.Or(err, error(errPlaceListed))
		}
	}
	change.Create(place, ticket.placement())
	return change, ticket, nil
}

// newTicket is the change that makes a ticket.
func newTicket(ctx context.Context, ticket Ticket) *state.Change {
	change := &state.Change{}
	change.Insert(ticketKey(ticket.ID), ticket)
	change.Append(allTickets, string(ticket.ID))
	change.Append(ticketsOfSeller(ticket.UserID), string(ticket.ID))
	emit(ctx, change, &ticket)
	return change
}

// Ticket reads one ticket. The error is errNoTicket if there is none, or it is deleted.
func (s *store) Ticket(ctx context.Context, ticket id.Ticket) (Ticket, error) {
	doc, err := state.Get[Ticket](ctx, s.documents, ticketKey(ticket))
	if errors.Is(err, state.ErrNotFound) || err == nil && doc.Value.Deleted {
		return Ticket{}, errNoTicket
	}
	return doc.Value, err
}

// Tickets lists all tickets but deleted ones, newest first.
func (s *store) Tickets(ctx context.Context, limit int, cursor string) ([]Ticket, string, error) {
	return state.List(ctx, s.documents, allTickets, limit, cursor, keyOfIndexed, isListed)
}

// TicketsOf lists a seller's tickets but deleted ones, newest first: of one show, or all if show is "".
func (s *store) TicketsOf(ctx context.Context, seller id.User, show id.Show, limit int, cursor string) ([]Ticket, string, error) {
	return state.List(ctx, s.documents, ticketsOfSeller(seller), limit, cursor, keyOfIndexed, func(t Ticket) bool {
		return isListed(t) && (show == "" || t.ShowID == show)
	})
}

// isListed reports whether lists have a ticket.
func isListed(t Ticket) bool { return !t.Deleted }

// Update replaces a ticket's offer.
func (s *store) Update(ctx context.Context, ticket id.Ticket, seller id.User, expected ExpectedVersion, offer Offer) (Ticket, error) {
	updated, err := s.decide(ctx, ticket, func(t *Ticket) (bool, error) {
		show, err := s.showOf(ctx, t)
		if err != nil {
			return false, err
		}
		return true, t.Update(seller, expected, offer, show, s.clock())
	})
	s.republishIfTaken(ctx, updated, err)
	return updated, err
}

// showOf reads the show of a ticket: the zero Show if it has none.
func (s *store) showOf(ctx context.Context, ticket *Ticket) (Show, error) {
	if ticket.ShowID == "" {
		return Show{}, nil
	}
	show, err := state.Get[Show](ctx, s.documents, showKey(ticket.ShowID))
	if err != nil {
		return Show{}, fmt.Errorf("the show of ticket %s: %w", ticket.ID, err)
	}
	return show.Value, nil
}

// Delete withdraws a ticket.
func (s *store) Delete(ctx context.Context, ticket id.Ticket, seller id.User, expected ExpectedVersion) error {
	deleted, err := s.decide(ctx, ticket, func(t *Ticket) (bool, error) { return true, t.Delete(seller, expected, s.clock()) })
	s.republishIfTaken(ctx, deleted, err)
	return err
}

// ApplyOrder applies an order's event to its ticket. Tickets are created here and their documents are never deleted,
// so the event of a ticket that does not exist is refused.
func (s *store) ApplyOrder(ctx context.Context, order events.Order) error {
	if !order.Status.IsKnown() {
		return fmt.Errorf("%w: order %s has the status %q", events.ErrRefused, order.ID, order.Status)
	}
	_, err := s.decide(ctx, order.Ticket.ID, func(t *Ticket) (bool, error) { return t.Apply(order, s.clock()), nil })
	if errors.Is(err, errNoTicket) {
		return fmt.Errorf("%w: there is no ticket %s", events.ErrRefused, order.Ticket.ID)
	}
	return err
}

// decide lets a transition change a ticket, and commits it with its event, if it has one, and with what follows for its place and for a resale.
func (s *store) decide(ctx context.Context, ticket id.Ticket, transition func(*Ticket) (changed bool, err error)) (Ticket, error) {
	decided, err := state.Modify(ctx, s.documents, ticketKey(ticket), func(t *Ticket, change *state.Change) (bool, error) {
		if t.ID == "" {
			return false, errNoTicket
		}
		hadPlace, had := t.HasPlace(), t.OrderID
		changed, err := transition(t)
		if err != nil || !changed {
			return false, err
		}
		if t.HasPlace() != hadPlace {
			if err := s.changePlacement(ctx, change, t); err != nil {
				return false, err
			}
		}
		if err := s.changeResales(ctx, change, t, had); err != nil {
			return false, err
		}
		s.complete(ctx, change, t)
		return true, nil
	})
	if err == nil && decided.Deleted && !decided.RemovedFromIndex {
		s.compactor.Wake()
	}
	return decided, err
}

// complete adds to the change of a ticket what its indexes need, and its event.
func (s *store) complete(ctx context.Context, change *state.Change, ticket *Ticket) {
	addToSellerIndex(change, ticket)
	if ticket.ReturnToIndex() {
		change.Append(allTickets, string(ticket.ID))
	}
	emit(ctx, change, ticket)
}

// changeResales adds to the change of a ticket what follows for its own resale, and, if it is a resale, for the ticket that it resells. had is
// the order that had the ticket before.
func (s *store) changeResales(ctx context.Context, change *state.Change, ticket *Ticket, had id.Order) error {
	if ticket.EndsResale(had) {
		deleted, err := s.endResale(ctx, change, ticket.ResaleID)
		if err != nil {
			return err
		}
		if deleted {
			ticket.ResaleID = ""
		}
	}
	if ticket.ResaleOf == nil {
		return nil
	}
	resold, err := state.Get[Ticket](ctx, s.documents, ticketKey(ticket.ResaleOf.TicketID))
	if err != nil {
		return fmt.Errorf("the ticket that %s resells: %w", ticket.ID, err)
	}
	changed, ends := resold.Value.NoteResale(ticket)
	if !changed {
		return nil
	}
	change.Update(resold.Key, resold.ETag, resold.Value)
	if ends != "" {
		_, err = s.endResale(ctx, change, ends)
	}
	return err
}

// endResale adds to a change the end of a resale, and reports whether it is deleted then.
func (s *store) endResale(ctx context.Context, change *state.Change, resale id.Ticket) (deleted bool, err error) {
	doc, err := state.Get[Ticket](ctx, s.documents, ticketKey(resale))
	if err != nil {
		return false, fmt.Errorf("resale %s: %w", resale, err)
	}
	if doc.Value.End(s.clock()) {
		s.complete(ctx, change, &doc.Value)
		change.Update(doc.Key, doc.ETag, doc.Value)
		s.compactor.Wake()
	}
	return doc.Value.Deleted, nil
}

// addToSellerIndex adds a ticket's entry in the index of its seller's tickets to a change, if it has none.
func addToSellerIndex(change *state.Change, ticket *Ticket) (added bool) {
	if ticket.InSellerIndex {
		return false
	}
	ticket.InSellerIndex = true
	change.Append(ticketsOfSeller(ticket.UserID), string(ticket.ID))
	return true
}

// indexSellers is the step of the reconciliation that completes the indexes of sellers with tickets of the previous release.
func (s *store) indexSellers() reconcile.Step {
	isOld := func(t Ticket) bool { return !t.InSellerIndex && !t.Deleted }
	return reconcile.Convert(s.documents, "index sellers", allTickets, keyOfIndexed, isOld, func(ctx context.Context, old Ticket) error {
		_, err := state.Modify(ctx, s.documents, ticketKey(old.ID), func(t *Ticket, change *state.Change) (bool, error) { return addToSellerIndex(change, t), nil })
		return err
	})
}

// changePlacement adds to the change of a ticket that its place becomes free, because the ticket was deleted, or is the ticket's again,
// because a sale has restored it. If another ticket has the place by now, this one loses it.
func (s *store) changePlacement(ctx context.Context, change *state.Change, ticket *Ticket) error {
	placement, err := state.Get[Placement](ctx, s.documents, ticket.Place.key(ticket.ShowID))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	free, own := placement.ETag == "", placement.Value.TicketID == ticket.ID
	switch {
	case !ticket.HasPlace() && own:
		change.Delete(placement.Key, placement.ETag)
	case ticket.HasPlace() && free:
		change.Create(placement.Key, ticket.placement())
	case ticket.HasPlace() && !own:
		ticket.LosePlace()
	}
	return nil
}

// emit adds a ticket's event to a change, if it has one, and notes the ticket for reconciliation.
func emit(ctx context.Context, change *state.Change, ticket *Ticket) {
	if event := ticket.Event(); event != nil {
		change.Emit(ctx, event)
		change.Note(allTickets, string(ticket.ID), ticket.CreatedAt, ticket.UpdatedAt)
	}
}

// republishIfTaken publishes a ticket again if its seller's change was refused because an order has had the ticket
// for long. If orders has lost that order with a restored backup, it then publishes the order's cancellation, and the
// seller can try again.
func (s *store) republishIfTaken(ctx context.Context, ticket Ticket, err error) {
	now := s.clock()
	if !errors.Is(err, errReserved) && !errors.Is(err, errSold) || now.Sub(ticket.UpdatedAt) < republishAge {
		return
	}
	if last, found := s.republished.Get(ticket.ID); found && now.Sub(last) < republishPause {
		return
	}
	s.republished.Add(ticket.ID, now)
	if err := s.RepublishLastEvent(ctx, ticket); err != nil {
		s.republished.Remove(ticket.ID)
		s.log.WarnContext(ctx, "could not publish a ticket again", "ticketId", ticket.ID, "error", err)
	}
}

// RepublishLastEvent publishes the event of the seller's last change again.
func (s *store) RepublishLastEvent(ctx context.Context, ticket Ticket) error {
	var change state.Change
	change.Emit(ctx, ticket.ListingEvent())
	return s.documents.Commit(ctx, &change)
}

// compactIndex removes deleted tickets from the whole index; the compactor's own passes are only over its newest pages.
func (s *store) compactIndex(ctx context.Context, _ *reconcile.Pass) error {
	_, err := s.compactor.All(ctx)
	return err
}
