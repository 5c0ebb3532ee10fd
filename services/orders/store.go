package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	ticket/{id}         Seat
//	order/{id}          Order
//	buyer/{user}        Buyer; the state store deletes it some time after the buyer's last window
//	index/orders/{user} a buyer's orders, oldest first
//	index/sales/{user}  a seller's sales (sales.go)
//	index/recent/orders/{day}  orders that changed on a day, for five days; reconciliation reads them
//
// An earlier release also had payment/{orderId}. It is not read any more.
func seatKey(ticket id.Ticket) string { return "ticket/" + string(ticket) }
func orderKey(order id.Order) string  { return "order/" + string(order) }
func buyerKey(user id.User) string    { return "buyer/" + string(user) }
func ordersIndex(user id.User) string { return "orders/" + string(user) }

// keyOfIndexed is the key of an order whose id is an index entry.
func keyOfIndexed(order string) string { return orderKey(id.Order(order)) }

// recentOrders is the kind under which changed orders are noted for reconciliation.
const recentOrders = "orders"

// store reads and commits the documents. Each exported method is one decision, or one query.
type store struct {
	documents *state.Store
	terms     Terms
	clock     clock.Clock
	log       *slog.Logger
	// ticketOf is the ticket of each order that this process has read or made. It never changes. With it, an order
	// and its seat are read at once.
	ticketOf *lru.Cache[id.Order, id.Ticket]
}

const (
	// ticketsCached bounds ticketOf. An order that is not in it costs one more read.
	ticketsCached = 65536
	// buyerTime is how long a buyer's document is kept after the last window.
	buyerTime = time.Hour
	// settlingTime is the age from which a complete order counts as settled in any case: banks release an
	// authorization after a week.
	settlingTime = 8 * 24 * time.Hour
	// unsettledPage is how many of a buyer's orders are read at once to find the unsettled ones.
	unsettledPage = 100
)

func newStore(documents *state.Store, terms Terms, clock clock.Clock, log *slog.Logger) *store {
	ticketOf, err := lru.New[id.Order, id.Ticket](ticketsCached)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &store{documents: documents, terms: terms, clock: clock, log: log, ticketOf: ticketOf}
}

// Reserve decides whether a buyer gets a ticket: Seat.Reserve and Buyer.AddOrder have the rules. The caller commits
// the change.
func (s *store) Reserve(ctx context.Context, ticket id.Ticket, user id.User) (*state.Change, Order, error) {
	seat, buyer, err := s.seatAndBuyer(ctx, ticket, user)
	if errors.Is(err, state.ErrNotFound) {
		return nil, Order{}, errUnknownTicket(ticket, s.clock())
	}
	if err != nil {
		return nil, Order{}, err
	}
	now := s.clock()
	change := &state.Change{}
	if expired, found := seat.Value.ExpiredOrder(now); found {
		if err := seat.Value.checkOffer(user, now, s.terms); err != nil {
			return nil, Order{}, err // without reading the expired order
		}
		if err := s.cancelExpired(ctx, change, expired, &seat.Value, now); err != nil {
			return nil, Order{}, err
		}
	}
	order, err := seat.Value.Reserve(id.New[id.Order](), user, now, s.terms)
	if err != nil {
		return nil, Order{}, err
	}
	if order.ResaleOf != nil {
		if err := s.beginTransfer(ctx, change, &order); err != nil {
			return nil, Order{}, err
		}
	}
	if err := s.addToBuyer(ctx, &buyer.Value, order, now); err != nil {
		return nil, Order{}, err
	}
	if s.terms.PerUser > 0 || buyer.ETag == "" { // without a limit it is only read, and a document that does not exist costs one more read
		change.PutFor(buyer.Key, buyer.ETag, buyer.Value, max(0, buyer.Value.End().Sub(now))+buyerTime)
	}
	change.Update(seat.Key, seat.ETag, seat.Value)
	change.Insert(orderKey(order.ID), order)
	change.Append(ordersIndex(user), string(order.ID))
	emit(ctx, change, order)
	s.ticketOf.Add(order.ID, ticket)
	return change, order, nil
}

// seatAndBuyer reads what a reservation is decided on, with one call.
func (s *store) seatAndBuyer(ctx context.Context, ticket id.Ticket, user id.User) (state.Doc[Seat], state.Doc[Buyer], error) {
	return state.GetProjectionAnd[Seat, Buyer](ctx, s.documents, seatKey(ticket), ticket, user, buyerKey(user))
}

// cancelExpired adds to a change the cancellation of the expired order that still has the seat.
func (s *store) cancelExpired(ctx context.Context, change *state.Change, expired id.Order, seat *Seat, now time.Time) error {
	order, err := state.Get[Order](ctx, s.documents, orderKey(expired))
	if err != nil {
		return fmt.Errorf("the expired order of ticket %s: %w", seat.ID, err)
	}
	if changed, err := order.Value.Cancel(seat, Expired, now, s.terms); err != nil || !changed {
		return fmt.Errorf("%w: order %s was paid or cancelled after its seat was read", state.ErrConflict, expired)
	}
	change.Update(order.Key, order.ETag, order.Value)
	emit(ctx, change, order.Value)
	return nil
}

// beginTransfer adds to the change that reserves a resale what becomes of its seller's order. The order that had the resale before, if
// there was one, is cancelled with the same change.
func (s *store) beginTransfer(ctx context.Context, change *state.Change, to *Order) error {
	origin, err := s.readOrder(ctx, to.ResaleOf.OrderID)
	if errors.Is(err, errNoOrder) {
		return errTicketWithdrawn.Because(err)
	}
	if err != nil {
		return err
	}
	if t := origin.Value.Transfer; t != nil && t.TicketID == to.Ticket.ID {
		origin.Value.Transfer = nil // of an order of the same seat, which Seat.Reserve has found free
	}
	if err := origin.Value.BeginTransfer(to); err != nil {
		return err
	}
	change.Update(origin.Key, origin.ETag, origin.Value)
	return nil
}

// addToBuyer adds an order to its buyer. If the limit seems reached, it reads first which of the buyer's orders are unpaid.
func (s *store) addToBuyer(ctx context.Context, buyer *Buyer, order Order, now time.Time) error {
	if !buyer.Deleted && buyer.AtLimit(now, s.terms) {
		keys := make([]string, len(buyer.Unpaid))
		for i, o := range buyer.Unpaid {
			keys[i] = orderKey(o.OrderID)
		}
		orders, err := state.GetMany[Order](ctx, s.documents, keys)
		if err != nil {
			return err
		}
		unpaid := map[id.Order]bool{}
		for _, o := range orders {
			unpaid[o.Value.ID] = o.Value.IsCreated()
		}
		buyer.RetainUnpaid(unpaid)
	}
	return buyer.AddOrder(order, now, s.terms)
}

// emit adds an order's event to a change, and notes the order for reconciliation and for its seller.
func emit(ctx context.Context, change *state.Change, order Order) {
	addSale(change, order)
	change.Emit(ctx, order.Event())
	change.Note(recentOrders, string(order.ID), order.CreatedAt, order.UpdatedAt)
}

// readOrder reads one order; the error is errNoOrder if there is none.
func (s *store) readOrder(ctx context.Context, order id.Order) (state.Doc[Order], error) {
	doc, err := state.Get[Order](ctx, s.documents, orderKey(order))
	if errors.Is(err, state.ErrNotFound) {
		return doc, errNoOrder
	}
	return doc, err
}

// OrderOfBuyer reads one order for its buyer; the error is errNoOrder if there is none, and errNotYours if it is
// another buyer's.
func (s *store) OrderOfBuyer(ctx context.Context, order id.Order, user id.User) (Order, error) {
	doc, err := s.readOrder(ctx, order)
	if err != nil {
		return Order{}, err
	}
	return doc.Value, doc.Value.CheckBuyer(user)
}

// OrdersOf lists a buyer's orders, newest first.
func (s *store) OrdersOf(ctx context.Context, user id.User, limit int, cursor string) ([]Order, string, error) {
	return state.List(ctx, s.documents, ordersIndex(user), limit, cursor, keyOfIndexed, func(Order) bool { return true })
}

// Unsettled returns a buyer's orders that are unpaid, or not captured yet.
func (s *store) Unsettled(ctx context.Context, user id.User) (unsettled []Order, err error) {
	since := s.clock().Add(-settlingTime)
	for cursor, more := "", true; more; more = cursor != "" {
		var orders []Order
		if orders, cursor, err = s.OrdersOf(ctx, user, unsettledPage, cursor); err != nil {
			return nil, err
		}
		for _, order := range orders {
			if order.CreatedAt.Before(since) {
				return unsettled, nil // all that follow are older
			}
			if order.IsUnsettled() {
				unsettled = append(unsettled, order)
			}
		}
	}
	return unsettled, nil
}

// DeleteBuyer refuses all later reservations of a user whose account was deleted, and cancels the unpaid orders.
func (s *store) DeleteBuyer(ctx context.Context, user id.User) error {
	_, err := state.Decide(ctx, s.documents, func(ctx context.Context) (*state.Change, struct{}, error) {
		buyer, err := state.Get[Buyer](ctx, s.documents, buyerKey(user))
		if err != nil && !errors.Is(err, state.ErrNotFound) || !buyer.Value.Delete() {
			return nil, struct{}{}, err
		}
		change := &state.Change{}
		change.PutFor(buyer.Key, buyer.ETag, buyer.Value, identity.DeletedTime)
		return change, struct{}{}, nil
	})
	if err != nil {
		return err
	}
	orders, err := s.Unsettled(ctx, user)
	if err != nil {
		return err
	}
	for _, order := range orders {
		if err := s.Cancel(ctx, order.ID, ByUser); err != nil && !errors.Is(err, errComplete) {
			return err
		}
	}
	return nil
}

// OrderAndSeat reads one order for its buyer, as OrderOfBuyer does, and its seat.
func (s *store) OrderAndSeat(ctx context.Context, order id.Order, user id.User) (Order, Seat, error) {
	doc, seat, err := s.orderAndSeat(ctx, order)
	if err != nil {
		return Order{}, Seat{}, err
	}
	return doc.Value, seat.Value, doc.Value.CheckBuyer(user)
}

// Cancel cancels an order, if Order.Cancel allows it for the reason.
func (s *store) Cancel(ctx context.Context, order id.Order, reason Reason) error {
	_, err := s.decide(ctx, order, func(c *Chain) (bool, error) { return c.Order.Cancel(c.Seat, reason, s.clock(), s.terms) })
	return err
}

// CancelRevoked cancels an order whose ticket is void, and the orders to which its place was resold, one after the other.
func (s *store) CancelRevoked(ctx context.Context, order id.Order) error {
	for order != "" {
		cancelled, err := s.decide(ctx, order, func(c *Chain) (bool, error) { return c.Order.CancelRevoked(c.Seat, s.clock(), s.terms) })
		if err != nil {
			return err
		}
		order = cancelled.ResoldTo
	}
	return nil
}

// CancelByBuyer cancels an order at a user's request.
func (s *store) CancelByBuyer(ctx context.Context, order id.Order, user id.User) error {
	_, err := s.decide(ctx, order, func(c *Chain) (bool, error) { return c.Order.CancelByBuyer(c.Seat, user, s.clock(), s.terms) })
	return err
}

// CancelByPayment cancels an order whose payment was voided or refunded.
func (s *store) CancelByPayment(ctx context.Context, order id.Order, payment id.Payment, reason Reason) error {
	_, err := s.decide(ctx, order, func(c *Chain) (bool, error) {
		return c.Order.CancelByPayment(c.Seat, payment, reason, s.clock(), s.terms)
	})
	return err
}

// Complete completes a created order whose payment is authorized, and returns the order as it is now.
func (s *store) Complete(ctx context.Context, order id.Order, payment id.Payment) (Order, error) {
	return s.decide(ctx, order, func(c *Chain) (bool, error) { return c.Order.Complete(c.Seat, payment, s.clock()) })
}

// UsePass decides whether the holder of a pass is checked in: Chain.Use has the rules. The caller commits the change.
func (s *store) UsePass(ctx context.Context, pass passClaims, owner id.User) (*state.Change, Order, error) {
	change, order, err := s.decision(ctx, pass.Order, func(c *Chain) (bool, error) { return true, c.Use(owner, s.clock(), s.terms) })
	if errors.Is(err, errNoOrder) || errors.Is(err, errNoPass) { // the order, or its completion, was lost with a restored backup
		err = errPassVoid.Because(err)
	}
	return change, order, err
}

// MarkCaptured notes that the money of a complete order was captured, and returns the order as it is now.
func (s *store) MarkCaptured(ctx context.Context, order id.Order, payment id.Payment) (Order, error) {
	return state.Modify(ctx, s.documents, orderKey(order), func(o *Order, _ *state.Change) (bool, error) {
		if o.ID == "" {
			return false, errNoOrder
		}
		return o.MarkCaptured(payment), nil
	})
}

// Expire cancels those of the orders that are unpaid. It returns the orders that do not exist. The error is
// errNotOver if the window of some has not ended yet; the others are cancelled then, too.
func (s *store) Expire(ctx context.Context, expired []events.ExpiredOrder) (unknown []id.Order, err error) {
	orders, unknown, err := s.unpaid(ctx, expired)
	if err != nil {
		return nil, err
	}
	seats, err := s.seatsOf(ctx, orders)
	if err != nil {
		return nil, err
	}
	failed := make([]error, len(orders))
	var cancelling sync.WaitGroup // at the same time, so that they share transactions
	for i, order := range orders {
		cancelling.Go(func() { failed[i] = s.expireOne(ctx, order, seats[order.Value.Ticket.ID]) })
	}
	cancelling.Wait()
	early := 0
	for i := range failed {
		if errors.Is(failed[i], errNotOver) {
			failed[i] = nil
			early++
		}
	}
	if early > 0 { // before all other errors, because the first decides whether the event can become a dead letter
		failed = slices.Insert(failed, 0, error(errNotOver.Because(fmt.Errorf("%d of %d orders", early, len(expired)))))
	}
	return unknown, errors.Join(failed...)
}

// unpaid reads which of the orders wait for their payment, and which do not exist.
func (s *store) unpaid(ctx context.Context, expired []events.ExpiredOrder) (unpaid []state.Doc[Order], unknown []id.Order, err error) {
	found := map[id.Order]bool{}
	var keys []string
	for _, e := range expired {
		if _, again := found[e.ID]; !again {
			keys = append(keys, orderKey(e.ID))
			found[e.ID] = false
		}
	}
	docs, err := state.GetMany[Order](ctx, s.documents, keys)
	if err != nil {
		return nil, nil, err
	}
	for _, doc := range docs {
		found[doc.Value.ID] = true
		if doc.Value.IsCreated() {
			unpaid = append(unpaid, doc)
		}
	}
	for order, exists := range found {
		if !exists {
			unknown = append(unknown, order)
		}
	}
	return unpaid, unknown, nil
}

// seatsOf reads the seats of orders, by their tickets' ids.
func (s *store) seatsOf(ctx context.Context, orders []state.Doc[Order]) (map[id.Ticket]state.Doc[Seat], error) {
	keys := make([]string, len(orders))
	for i, order := range orders {
		keys[i] = seatKey(order.Value.Ticket.ID)
	}
	docs, err := state.GetMany[Seat](ctx, s.documents, keys)
	if err != nil {
		return nil, err
	}
	seats := make(map[id.Ticket]state.Doc[Seat], len(docs))
	for _, doc := range docs {
		seats[doc.Value.ID] = doc
	}
	return seats, nil
}

// expireOne cancels an unpaid order as it and its seat were read. If either has changed since then, both are read again.
func (s *store) expireOne(ctx context.Context, order state.Doc[Order], seat state.Doc[Seat]) error {
	one := holdingDocs{order: order, seat: seat, read: order.Value}
	_, err := one.order.Value.Cancel(&one.seat.Value, Expired, s.clock(), s.terms)
	if errors.Is(err, errNotOver) {
		return err
	}
	if err == nil && order.Value.ResaleOf == nil { // else its neighbour changes too
		var change state.Change
		one.addTo(ctx, &change)
		if err = s.documents.Commit(ctx, &change); !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	if err = s.Cancel(ctx, order.Value.ID, Expired); errors.Is(err, errComplete) {
		return nil // it was paid meanwhile
	}
	return err
}

// RepublishLastEvent publishes an order's last event again, for a service that may have missed it.
func (s *store) RepublishLastEvent(ctx context.Context, order id.Order) error {
	doc, err := s.readOrder(ctx, order)
	if err != nil {
		return err
	}
	var change state.Change
	change.Emit(ctx, doc.Value.Event())
	return s.documents.Commit(ctx, &change)
}

// ApplyListing applies an event of a ticket's listing to its seat, and returns the seat's reservation, if it has one.
func (s *store) ApplyListing(ctx context.Context, listing events.Ticket, deleted bool) (*Reservation, error) {
	if listing.Version == 1 && listing.Sequence == 0 { // most likely the seat does not exist yet: then nothing need be read
		var seat Seat
		seat.Apply(listing, deleted)
		var change state.Change
		change.Create(seatKey(listing.ID), seat)
		if err := s.documents.Commit(ctx, &change); !errors.Is(err, state.ErrConflict) {
			return nil, err
		}
	}
	seat, err := state.Modify(ctx, s.documents, seatKey(listing.ID), func(seat *Seat, change *state.Change) (bool, error) {
		changed := seat.Apply(listing, deleted)
		if seat.CatchUp(listing) {
			return true, s.addHolder(ctx, change, seat, listing)
		}
		return changed, nil
	})
	return seat.Reservation, err
}
