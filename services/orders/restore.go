package main

import (
	"context"
	"errors"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
)

// After a restore of an older backup, other services have events of orders and reservations that this service has
// lost. Orders are created here and never deleted, so an order that does not exist here was lost in a restore. Its
// expiration, void and refund are ignored. Its authorized or captured money must go back to the buyer: the order is
// published as cancelled. A seat whose later changes are lost catches up with tickets (Seat.CatchUp), and tickets
// gets an event of the seat's holder.

// lostVersion is added to the version of an order in events that must be newer than all that were published before
// the restore. It is higher than the number of changes that an order ever has.
const lostVersion = 1 << 20

// cancelIfLost publishes the cancellation of a payment's order, if err is errNoOrder. It returns any other err.
func (s *subscriptions) cancelIfLost(ctx context.Context, payment events.Payment, err error) error {
	if !errors.Is(err, errNoOrder) {
		return err
	}
	s.log.WarnContext(ctx, "a payment's order does not exist; it may be newer than a restored backup. It is published as cancelled, so that its money goes back",
		"orderId", payment.OrderID, "paymentId", payment.ID)
	return s.store.PublishLostOrder(ctx, payment)
}

// ignoreIfLost returns err, unless it is errNoOrder: then the payment has no money, and nothing is to be done.
func (s *subscriptions) ignoreIfLost(ctx context.Context, payment events.Payment, err error) error {
	if !errors.Is(err, errNoOrder) {
		return err
	}
	s.log.WarnContext(ctx, "a payment's order does not exist; it may be newer than a restored backup. The event is ignored", "orderId", payment.OrderID)
	return nil
}

// PublishLostOrder publishes the cancellation of an order of which only its payment is left.
func (s *store) PublishLostOrder(ctx context.Context, payment events.Payment) error {
	var change state.Change
	change.Emit(ctx, lostOrder(payment, s.clock()))
	return s.documents.Commit(ctx, &change)
}

// lostOrder has no ticket and no sequence: tickets ignores it.
func lostOrder(payment events.Payment, now time.Time) events.OrderCancelled {
	return events.OrderCancelled{Order: events.Order{
		ID:        payment.OrderID,
		UserID:    payment.UserID,
		Status:    events.OrderStatusCancelled,
		Reason:    events.CancelReasonUnknown,
		ExpiresAt: payment.CreatedAt,
		Ticket:    events.OrderedTicket{Price: payment.Amount, Currency: payment.Currency},
		Version:   lostVersion,
		CreatedAt: payment.CreatedAt,
		UpdatedAt: clock.Stamp(now),
	}}
}

// lostHolder is the cancellation of the order that tickets shows for a seat which is free here.
func lostHolder(order id.Order, seat *Seat, now time.Time) events.OrderCancelled {
	return events.OrderCancelled{Order: events.Order{
		ID:        order,
		SellerID:  seat.SellerID,
		Status:    events.OrderStatusCancelled,
		Reason:    events.CancelReasonUnknown,
		ExpiresAt: clock.Stamp(now),
		Ticket:    seat.snapshot().published(),
		Sequence:  seat.Sequence,
		Version:   lostVersion + seat.Sequence,
		CreatedAt: clock.Stamp(now),
		UpdatedAt: clock.Stamp(now),
	}}
}

// MovePastLostChanges gives the order the seat's new sequence, and a version above any that was published before the
// restore: each change of an order is also one of its seat's sequence.
func (o *Order) MovePastLostChanges(seat *Seat, now time.Time) {
	o.Version = max(o.Version, lostVersion+seat.Sequence-1)
	o.change(o.Status, seat, now)
}

// addHolder adds to the change of a seat that has caught up what tickets must get: the seat's live order, or the
// cancellation of the lost order that tickets shows.
func (s *store) addHolder(ctx context.Context, change *state.Change, seat *Seat, listing events.Ticket) error {
	s.log.WarnContext(ctx, "tickets has a later change of a reservation; it may be newer than a restored backup", "ticketId", seat.ID, "orderId", listing.OrderID)
	now := s.clock()
	switch {
	case seat.Reservation != nil:
		order, err := s.readOrder(ctx, seat.Reservation.OrderID)
		if err != nil {
			return err
		}
		order.Value.MovePastLostChanges(seat, now)
		change.Update(order.Key, order.ETag, order.Value)
		change.Emit(ctx, order.Value.Event())
	case listing.OrderID != "":
		change.Emit(ctx, lostHolder(listing.OrderID, seat, now))
	}
	return nil
}
