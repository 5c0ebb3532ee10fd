package main

import (
	"context"
	"errors"
	"log/slog"

	"boxoffice/services/internal/events"
)

// subscriptions handles the events of other services.
type subscriptions struct {
	store *store
	log   *slog.Logger
}

func (s *subscriptions) register(r *events.Router) {
	events.On(r, func(ctx context.Context, e events.TicketCreated) error { return s.listingChanged(ctx, e.Ticket) })
	events.On(r, func(ctx context.Context, e events.TicketUpdated) error { return s.listingChanged(ctx, e.Ticket) })
	events.On(r, s.listingDeleted)

	events.On(r, s.paymentAuthorized)
	events.On(r, s.paymentCaptured)
	events.On(r, s.paymentVoided)
	events.On(r, s.paymentRefunded) // payment.failed changes no order: the buyer may try again

	events.On(r, s.expirationCompleted)

	events.On(r, func(ctx context.Context, e events.UserDeleted) error { return s.store.DeleteBuyer(ctx, e.ID) })
}

func (s *subscriptions) listingChanged(ctx context.Context, listing events.Ticket) error {
	_, err := s.store.ApplyListing(ctx, listing, false)
	return err
}

// listingDeleted cancels the order that reserved the ticket while its seller deleted the listing. A complete order
// stays as it is. It is published again, so that the tickets service restores the listing as sold. If the ticket is revoked, a
// complete order is cancelled too.
func (s *subscriptions) listingDeleted(ctx context.Context, e events.TicketDeleted) error {
	reservation, err := s.store.ApplyListing(ctx, e.Ticket, true)
	if err != nil || reservation == nil {
		return err
	}
	if e.Revoked {
		return s.store.CancelRevoked(ctx, reservation.OrderID)
	}
	if reservation.Status == Cancelled { // the ticket stays sold
		return s.store.RepublishLastEvent(ctx, reservation.OrderID)
	}
	err = s.store.Cancel(ctx, reservation.OrderID, Withdrawn)
	if errors.Is(err, errComplete) {
		return s.store.RepublishLastEvent(ctx, reservation.OrderID)
	}
	return err
}

// paymentAuthorized completes the payment's order. If the order is cancelled, its cancellation is published again, so
// that payments voids the payment.
func (s *subscriptions) paymentAuthorized(ctx context.Context, e events.PaymentCreated) error {
	return s.cancelIfLost(ctx, e.Payment, s.complete(ctx, e.Payment))
}

func (s *subscriptions) complete(ctx context.Context, payment events.Payment) error {
	order, err := s.store.Complete(ctx, payment.OrderID, payment.ID)
	if err != nil || !order.IsCancelled() {
		return err
	}
	return s.store.RepublishLastEvent(ctx, order.ID)
}

// paymentCaptured notes that a complete order is settled. After a restore the order may not be complete though its
// money is captured: then it is completed again, or, if the ticket has another order now, published again as
// cancelled, so that payments refunds it.
func (s *subscriptions) paymentCaptured(ctx context.Context, e events.PaymentCaptured) error {
	order, err := s.store.MarkCaptured(ctx, e.OrderID, e.ID)
	if err == nil && order.LacksCompletion() {
		if err = s.complete(ctx, e.Payment); err == nil {
			_, err = s.store.MarkCaptured(ctx, e.OrderID, e.ID)
		}
	}
	return s.cancelIfLost(ctx, e.Payment, err)
}

// paymentVoided cancels an order whose authorization lapsed, or was released by Stripe. Most often the order was
// cancelled first, which is why the payment was voided; then nothing changes.
func (s *subscriptions) paymentVoided(ctx context.Context, e events.PaymentVoided) error {
	return s.ignoreIfLost(ctx, e.Payment, s.store.CancelByPayment(ctx, e.OrderID, e.ID, PaymentLost))
}

// paymentRefunded cancels an order whose money was all given back. A partial refund changes nothing.
func (s *subscriptions) paymentRefunded(ctx context.Context, e events.PaymentRefunded) error {
	if !e.IsFull() {
		return nil
	}
	return s.ignoreIfLost(ctx, e.Payment, s.store.CancelByPayment(ctx, e.OrderID, e.ID, Refunded))
}

// expirationCompleted cancels the unpaid orders of a slot. If the window of some has not ended by this process's
// clock, the event is delivered again until it has: no other event follows.
func (s *subscriptions) expirationCompleted(ctx context.Context, e events.ExpirationComplete) error {
	unknown, err := s.store.Expire(ctx, e.All())
	for _, order := range unknown {
		s.log.WarnContext(ctx, "an expired order does not exist, and is ignored; it may be newer than a restored backup", "orderId", order, "slot", e.Slot)
	}
	return err
}
