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
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	ticket/{id}         Ticket: the projection of a listing with its reservation
//	order/{id}          Order
//	buyer/{user}        Buyer: the buyer's unpaid reservations; the store forgets it some time after the last one
//	index/orders/{user} a buyer's orders, oldest first
//	index/recent/orders/{day}  what changed on a day, for five days; see reconcile.go
//
// (payment/{orderId} is of the release before, and not read any more.)
func ticketKey(id string) string   { return "ticket/" + id }
func orderKey(id string) string    { return "order/" + id }
func buyerKey(user string) string  { return "buyer/" + user }
func ordersOf(buyer string) string { return "orders/" + buyer }

// box is where tickets and orders are kept; each method is one decision, committed whole.
type box struct {
	store *state.Store
	terms Terms
	log   *slog.Logger
	// ticketOf is the ticket of each order that this process has dealt with lately. It never changes, so that both
	// documents can be read at once.
	ticketOf *lru.Cache[string, string]
}

// ticketsRemembered bounds ticketOf; an order that is not in it costs one more read.
const ticketsRemembered = 65536

const (
	// buyerTime is how long the document of a buyer is kept after the last reservation may have ended.
	buyerTime = time.Hour
	// deletedTime is how long it is known that an account was deleted: longer than any token is good for.
	deletedTime = 25 * time.Hour
	// settlingTime is after how long a complete order counts as settled in any case: banks let an authorization lapse
	// after a week.
	settlingTime = 8 * 24 * time.Hour
	// recentAtOnce is how many of a buyer's orders are read at once when the unsettled ones are looked for.
	recentAtOnce = 100
)

func newBox(store *state.Store, terms Terms, log *slog.Logger) *box {
	ticketOf, err := lru.New[string, string](ticketsRemembered)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &box{store: store, terms: terms, log: log, ticketOf: ticketOf}
}

// keepAnswer adds the answer to a request to the change that it tells of.
type keepAnswer func(change *state.Change, order Order) error

// Reserve gives the ticket to the buyer, if it is free and the buyer may have one more.
func (b *box) Reserve(ctx context.Context, ticketID, user string, keep keepAnswer) (Order, error) {
	ticket, buyer, err := b.ticketAndBuyer(ctx, ticketID, user)
	if errors.Is(err, state.ErrNotFound) {
		return Order{}, errNoTicket
	}
	if err != nil {
		return Order{}, err
	}
	now := now()
	order, expired, err := ticket.Value.Reserve(uuid.Must(uuid.NewV7()).String(), user, now, b.terms)
	if err != nil {
		return Order{}, err
	}

	var change state.Change
	if expired != "" {
		late, err := state.Get[Order](ctx, b.store, orderKey(expired))
		if err != nil {
			return Order{}, fmt.Errorf("the order that held ticket %s: %w", ticketID, err)
		}
		if err := late.Value.GiveWay(&ticket.Value, order, now, b.terms); err != nil {
			return Order{}, err
		}
		change.Update(late.Key, late.ETag, late.Value)
		change.Emit(ctx, late.Value.Told())
		noteChanged(&change, late.Value)
	}
	if b.terms.PerUser > 0 {
		if err := b.hold(ctx, &buyer.Value, order, now); err != nil {
			return Order{}, err
		}
		change.PutFor(buyer.Key, buyer.ETag, buyer.Value, buyer.Value.End().Sub(now)+buyerTime)
	}
	change.Update(ticket.Key, ticket.ETag, ticket.Value)
	change.Insert(orderKey(order.ID), order)
	change.Append(ordersOf(user), order.ID)
	change.Emit(ctx, order.Told())
	noteChanged(&change, order)
	if err := keep(&change, order); err != nil {
		return Order{}, err
	}
	b.ticketOf.Add(order.ID, ticketID)
	return order, b.store.Commit(ctx, &change)
}

// ticketAndBuyer reads what a reservation is decided on, with one call. Without a bound on a buyer's reservations, the buyer's
// document is not read.
func (b *box) ticketAndBuyer(ctx context.Context, ticketID, user string) (ticket state.Doc[Ticket], buyer state.Doc[Buyer], err error) {
	if b.terms.PerUser == 0 {
		ticket, err = state.GetProjection[Ticket](ctx, b.store, ticketKey(ticketID), ticketID, id.User(user))
		return ticket, buyer, err
	}
	return state.GetProjectionAnd[Ticket, Buyer](ctx, b.store, ticketKey(ticketID), ticketID, id.User(user), buyerKey(user))
}

// hold adds an order to those of its buyer. Only when these seem too many, it reads which of them are unpaid.
func (b *box) hold(ctx context.Context, buyer *Buyer, order Order, now time.Time) error {
	if !buyer.Deleted && buyer.Full(now, b.terms) {
		keys := make([]string, len(buyer.Unpaid))
		for i, o := range buyer.Unpaid {
			keys[i] = orderKey(o.OrderID)
		}
		orders, err := state.GetMany[Order](ctx, b.store, keys)
		if err != nil {
			return err
		}
		unpaid := map[string]bool{}
		for _, o := range orders {
			unpaid[o.Value.ID] = o.Value.Status == Created
		}
		buyer.Keep(unpaid)
	}
	return buyer.Hold(order, now, b.terms)
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

// Unsettled returns those of a buyer's orders that are unpaid, or whose money is not taken yet.
func (b *box) Unsettled(ctx context.Context, buyer string) (unsettled []Order, err error) {
	since := now().Add(-settlingTime)
	for cursor, more := "", true; more; more = cursor != "" {
		var ids []string
		if ids, cursor, err = b.store.Page(ctx, ordersOf(buyer), recentAtOnce, cursor); err != nil {
			return nil, err
		}
		keys := make([]string, len(ids))
		for i, id := range ids {
			keys[i] = orderKey(id)
		}
		orders, err := state.GetMany[Order](ctx, b.store, keys)
		if err != nil {
			return nil, err
		}
		for _, order := range orders {
			if order.Value.CreatedAt.Before(since) {
				return unsettled, nil // those that follow are older
			}
			if order.Value.Unsettled() {
				unsettled = append(unsettled, order.Value)
			}
		}
	}
	return unsettled, nil
}

// DeleteBuyer refuses a user, whose account was deleted, every reservation from now on, and cancels those that are unpaid.
// What is complete stays.
func (b *box) DeleteBuyer(ctx context.Context, user string) error {
	err := state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[Buyer](ctx, b.store, buyerKey(user))
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		if !doc.Value.Delete() {
			return nil
		}
		var change state.Change
		change.PutFor(doc.Key, doc.ETag, doc.Value, deletedTime)
		return b.store.Commit(ctx, &change)
	})
	if err != nil {
		return err
	}
	orders, err := b.Unsettled(ctx, user)
	if err != nil {
		return err
	}
	for _, order := range orders {
		if err := b.Cancel(ctx, order.ID, ByUser, func(*Order) error { return nil }); err != nil && !errors.Is(err, errComplete) {
			return err
		}
	}
	return nil
}

// Cancel cancels an order that is not paid; reasons Unpaid and Refunded alone cancel a complete one (else errComplete). A cancelled
// order stays as it is. May can refuse first.
func (b *box) Cancel(ctx context.Context, id string, reason Reason, may func(*Order) error) error {
	return b.decide(ctx, id, func(order *Order, ticket *Ticket) (bool, error) {
		if err := may(order); err != nil {
			return false, err
		}
		return order.Cancel(ticket, reason, now(), b.terms)
	})
}

// Complete completes an order whose funds are authorized by a payment, and returns it. An order that is settled
// already stays as it is.
func (b *box) Complete(ctx context.Context, id, paymentID string) (completed Order, err error) {
	err = b.decide(ctx, id, func(order *Order, ticket *Ticket) (changed bool, err error) {
		if order.Status == Created {
			changed, err = true, order.Complete(ticket, paymentID, now())
		}
		completed = *order
		return changed, err
	})
	return completed, err
}

// Capture notes that the money of a complete order is taken, and returns the order. It is nobody's business but
// Unsettled's, so there is no event.
func (b *box) Capture(ctx context.Context, id, paymentID string) (order Order, err error) {
	err = state.Retry(ctx, func(ctx context.Context) error {
		doc, err := b.Order(ctx, id)
		if err != nil {
			return err
		}
		order = doc.Value
		if order.Status != Complete || order.Captured || !order.IsPaidBy(paymentID) {
			return nil
		}
		order.Captured = true
		var change state.Change
		change.Update(doc.Key, doc.ETag, order)
		return b.store.Commit(ctx, &change)
	})
	return order, err
}

// decide lets a transition change an order and its ticket, and commits both with the order's event.
func (b *box) decide(ctx context.Context, id string, transition func(*Order, *Ticket) (changed bool, err error)) error {
	return state.Retry(ctx, func(ctx context.Context) error {
		order, ticket, err := b.orderAndTicket(ctx, id)
		if err != nil {
			return err
		}
		changed, err := transition(&order.Value, &ticket.Value)
		if errors.Is(err, errNotReserved) {
			// The two are changed together, but may have been read one after the other.
			return fmt.Errorf("order %s gave way to another between two reads: %w", id, state.ErrConflict)
		}
		if err != nil || !changed {
			return err
		}
		var change state.Change
		change.Update(order.Key, order.ETag, order.Value)
		change.Update(ticket.Key, ticket.ETag, ticket.Value)
		change.Emit(ctx, order.Value.Told())
		noteChanged(&change, order.Value)
		return b.store.Commit(ctx, &change)
	})
}

// orderAndTicket reads an order and its ticket: at once, if this process knows which ticket it is.
func (b *box) orderAndTicket(ctx context.Context, id string) (order state.Doc[Order], ticket state.Doc[Ticket], err error) {
	known, remembered := b.ticketOf.Get(id)
	if !remembered {
		if order, err = b.Order(ctx, id); err != nil {
			return order, ticket, err
		}
		known = order.Value.Ticket.ID
		b.ticketOf.Add(id, known)
		ticket, err = state.Get[Ticket](ctx, b.store, ticketKey(known))
		return order, ticket, wrapTicket(id, err)
	}
	order, ticket, err = state.GetBoth[Order, Ticket](ctx, b.store, orderKey(id), ticketKey(known))
	switch {
	case err != nil:
		return order, ticket, err
	case order.ETag == "":
		return order, ticket, errNoOrder
	case ticket.ETag == "":
		return order, ticket, wrapTicket(id, state.ErrNotFound)
	}
	return order, ticket, nil
}

func wrapTicket(orderID string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the ticket of order %s: %w", orderID, err)
}

// TellAgain publishes an order's last event once more, for whoever seems to have missed it.
func (b *box) TellAgain(ctx context.Context, order *Order) error {
	var change state.Change
	change.Emit(ctx, order.Told())
	return b.store.Commit(ctx, &change)
}

// HearTicket brings the projection of a listing up to what the tickets service has published. It returns the order
// that loses its ticket by that, if any.
func (b *box) HearTicket(ctx context.Context, listing events.Ticket, deleted bool) (reservation *Reservation, err error) {
	if listing.Version == 1 && listing.Sequence == 0 { // mostly a listing that is new here: that is known without reading
		var ticket Ticket
		ticket.Hear(listing, deleted)
		var change state.Change
		change.Create(ticketKey(listing.ID), ticket)
		if err := b.store.Commit(ctx, &change); !errors.Is(err, state.ErrConflict) {
			return nil, err
		}
	}
	err = state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[Ticket](ctx, b.store, ticketKey(listing.ID))
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		changed := doc.Value.Hear(listing, deleted)
		behind := doc.Value.CatchUp(listing)
		reservation = doc.Value.Reservation
		if !changed && !behind {
			return nil
		}
		var change state.Change
		if behind {
			if err := b.correct(ctx, &change, &doc.Value, listing); err != nil {
				return err
			}
		}
		change.Put(doc.Key, doc.ETag, doc.Value)
		return b.store.Commit(ctx, &change)
	})
	return reservation, err
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
