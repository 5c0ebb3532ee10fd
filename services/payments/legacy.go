package main

import (
	"context"
	"errors"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"
)

// Releases up to schema 1 of an order had further documents:
//
//	payment/{id}       legacyPayment: a payment; or, since it is part of its order's document, its order's id
//	intent/{stripeId}  legacyIntent: the order of a PaymentIntent, which is also in the intent's metadata
func legacyPaymentKey(payment id.Payment) string { return "payment/" + string(payment) }
func legacyIntentKey(stripeID string) string     { return "intent/" + stripeID }

type legacyIntent struct {
	Schema  int      `json:"schema"`
	OrderID id.Order `json:"orderId"`
}

// legacyPayment is a payment with a document of its own. In schema 2 only the order's id is left of it.
type legacyPayment struct {
	Schema  int      `json:"schema"`
	OrderID id.Order `json:"orderId"`
	domain.Payment
}

// Newest implements state.Upgrader.
func (*legacyPayment) Newest() int { return 2 }

// Upgrade implements state.Upgrader.
func (*legacyPayment) Upgrade(int) error { return nil }

func (p *legacyPayment) isMoved() bool { return p.Schema > 1 }

// movedPayment is what replaces a legacyPayment that has become part of its order's document.
type movedPayment struct {
	Schema  int        `json:"schema"`
	ID      id.Payment `json:"id"`
	OrderID id.Order   `json:"orderId"`
}

// loadLegacy reads the order of a payment that has an id of its own.
func (s *store) loadLegacy(ctx context.Context, payment id.Payment) (storedOrder, error) {
	doc, err := state.Get[legacyPayment](ctx, s.documents, legacyPaymentKey(payment))
	if errors.Is(err, state.ErrNotFound) {
		return storedOrder{}, domain.ErrNoPayment
	}
	if err != nil {
		return storedOrder{}, err
	}
	stored, err := s.load(ctx, doc.Value.OrderID)
	if errors.Is(err, domain.ErrNoOrder) || err == nil && stored.order.Value.Payment == nil {
		return stored, domain.ErrNoPayment
	}
	return stored, err
}
