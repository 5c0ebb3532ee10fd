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
	events.On(r, func(ctx context.Context, e events.PaymentCaptured) error { return b.paymentTold(ctx, e.Payment) })
	events.On(r, func(ctx context.Context, e events.PaymentRefunded) error { return b.paymentTold(ctx, e.Payment) })
	events.On(r, func(ctx context.Context, e events.PaymentFailed) error { return b.paymentTold(ctx, e.Payment) })
	events.On(r, func(ctx context.Context, e events.PaymentVoided) error { return b.paymentTold(ctx, e.Payment) })

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
	order, err := b.Complete(ctx, e.OrderID)
	if err != nil {
		return ours(err, e.OrderID)
	}
	if order.Status == Cancelled {
		err = b.TellAgain(ctx, &order)
	}
	return errors.Join(err, b.paymentTold(ctx, e.Payment))
}

// paymentTold records what became of a payment. An order whose payment fell through gets no money any more, be it
// complete or not: it is cancelled, and its ticket is free again. Most often the payment was voided because the order
// is cancelled already; then nothing changes.
func (b *box) paymentTold(ctx context.Context, told events.Payment) error {
	payment, err := b.HearPayment(ctx, told)
	if err != nil || !payment.FellThrough() {
		return err
	}
	return ours(b.Cancel(ctx, told.OrderID, Unpaid, func(*Order) error { return nil }), told.OrderID)
}

// ours refuses an event that tells of an order which is not known: orders begin here and are never forgotten.
func ours(err error, orderID string) error {
	if errors.Is(err, errNoOrder) {
		return fmt.Errorf("%w: there is no order %s", events.ErrRefused, orderID)
	}
	return err
}
