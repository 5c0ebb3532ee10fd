package main

import (
	"context"
	"errors"
	"fmt"

	"boxoffice/services/internal/events"
)

// subscribe routes what this service hears.
func (b *box) subscribe(r *events.Router) {
	events.On(r, func(ctx context.Context, e events.TicketCreated) error { return b.ticketTold(ctx, e.Ticket, false) })
	events.On(r, func(ctx context.Context, e events.TicketUpdated) error { return b.ticketTold(ctx, e.Ticket, false) })
	events.On(r, func(ctx context.Context, e events.TicketDeleted) error { return b.ticketTold(ctx, e.Ticket, true) })

	events.On(r, b.paymentAuthorized)
	events.On(r, b.paymentVoided) // the others change nothing here

	events.On(r, b.timeIsOver)
}

// ticketTold applies a listing's change. If the seller deleted the listing in the moment in which somebody
// reserved it, the unpaid order is cancelled; one that is complete stands, and is told again, so that the
// tickets service learns that the sale came first.
func (b *box) ticketTold(ctx context.Context, listing events.Ticket, deleted bool) error {
	reservation, err := b.HearTicket(ctx, listing, deleted)
	if err != nil || !deleted || reservation == nil {
		return err
	}
	err = b.Cancel(ctx, reservation.OrderID, Withdrawn, func(*Order) error { return nil })
	if errors.Is(err, errComplete) {
		order, err := b.Order(ctx, reservation.OrderID)
		if err != nil {
			return err
		}
		return b.TellAgain(ctx, &order.Value)
	}
	return err
}

// paymentAuthorized completes the order. If it was cancelled before, it says so again: the payments service
// must hear of it to give the funds back.
func (b *box) paymentAuthorized(ctx context.Context, e events.PaymentCreated) error {
	order, err := b.Complete(ctx, e.OrderID, e.ID)
	if err != nil {
		return ours(err, e.OrderID)
	}
	if order.Status == Cancelled {
		return b.TellAgain(ctx, &order)
	}
	return nil
}

// paymentVoided cancels an order whose payment ended without any money, be the order complete or not, and its ticket is
// free again: the authorization lapsed before it was captured, or Stripe gave it up. Most often the payment was voided
// because the order is cancelled already; then nothing changes.
func (b *box) paymentVoided(ctx context.Context, e events.PaymentVoided) error {
	err := b.Cancel(ctx, e.OrderID, Unpaid, func(o *Order) error {
		if !o.IsPaidBy(e.ID) {
			return errOtherPayment
		}
		return nil
	})
	if errors.Is(err, errOtherPayment) {
		return nil
	}
	return ours(err, e.OrderID)
}

// errOtherPayment says that a payment is not the one that completed its order.
var errOtherPayment = errors.New("the order was completed by another payment")

// ours refuses an event that tells of an order which is not known: orders begin here and are never forgotten.
func ours(err error, orderID string) error {
	if errors.Is(err, errNoOrder) {
		return fmt.Errorf("%w: there is no order %s", events.ErrRefused, orderID)
	}
	return err
}
