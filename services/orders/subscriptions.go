package main

import (
	"context"
	"errors"

	"boxoffice/services/internal/events"
)

// subscribe routes what this service hears.
func (b *box) subscribe(r *events.Router) {
	events.On(r, func(ctx context.Context, e events.TicketCreated) error { return b.ticketTold(ctx, e.Ticket, false) })
	events.On(r, func(ctx context.Context, e events.TicketUpdated) error { return b.ticketTold(ctx, e.Ticket, false) })
	events.On(r, func(ctx context.Context, e events.TicketDeleted) error { return b.ticketTold(ctx, e.Ticket, true) })

	events.On(r, b.paymentAuthorized)
	events.On(r, b.paymentCaptured)
	events.On(r, b.paymentVoided)
	events.On(r, b.paymentRefunded) // a declined one changes nothing here

	events.On(r, b.timeIsOver)

	events.On(r, func(ctx context.Context, e events.UserDeleted) error { return b.DeleteBuyer(ctx, e.ID) })
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
	return b.giveBack(ctx, e.Payment, b.complete(ctx, e.Payment))
}

func (b *box) complete(ctx context.Context, payment events.Payment) error {
	order, err := b.Complete(ctx, payment.OrderID, payment.ID)
	if err != nil {
		return err
	}
	if order.Status == Cancelled {
		return b.TellAgain(ctx, &order)
	}
	return nil
}

// paymentCaptured notes that a complete order is settled. An order that is not complete though its money is taken was, until
// this service's store was restored from a backup: it is completed again. If somebody else has the ticket since then, it is
// published as cancelled once more, and the money goes back.
func (b *box) paymentCaptured(ctx context.Context, e events.PaymentCaptured) error {
	order, err := b.Capture(ctx, e.OrderID, e.ID)
	if err == nil && (order.Status == Created || order.Status == Cancelled && order.Reason != Refunded) {
		if err = b.complete(ctx, e.Payment); err == nil {
			_, err = b.Capture(ctx, e.OrderID, e.ID)
		}
	}
	return b.giveBack(ctx, e.Payment, err)
}

// paymentVoided cancels an order whose payment ended without any money, be the order complete or not, and its ticket is
// free again: the authorization lapsed before it was captured, or Stripe gave it up. Most often the payment was voided
// because the order is cancelled already; then nothing changes.
func (b *box) paymentVoided(ctx context.Context, e events.PaymentVoided) error {
	return b.cancelPaid(ctx, e.Payment, Unpaid)
}

// paymentRefunded cancels an order whose money was all given back. Its ticket does not go on sale again by itself. A refund of
// a part changes nothing.
func (b *box) paymentRefunded(ctx context.Context, e events.PaymentRefunded) error {
	if !e.IsFull() {
		return nil
	}
	return b.cancelPaid(ctx, e.Payment, Refunded)
}

// cancelPaid cancels the order that a payment was for, unless another payment has completed it.
func (b *box) cancelPaid(ctx context.Context, payment events.Payment, reason Reason) error {
	err := b.Cancel(ctx, payment.OrderID, reason, func(o *Order) error {
		if !o.IsPaidBy(payment.ID) {
			return errOtherPayment
		}
		return nil
	})
	if errors.Is(err, errOtherPayment) {
		return nil
	}
	return b.unlessLost(ctx, payment.OrderID, err)
}

// errOtherPayment says that a payment is not the one that completed its order.
var errOtherPayment = errors.New("the order was completed by another payment")
