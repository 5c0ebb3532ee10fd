package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
)

// Documents of an earlier release, whose payments had documents of their own.

// legacy is an order and its payment of that release.
type legacy struct {
	order     events.Order
	paymentID id.Payment
	stripeID  string
}

// storedByLegacyRelease makes a payment and its intent with this status, with documents as that release has written them. The
// attempt is open if its outcome was never committed.
func (s *fixture) storedByLegacyRelease(t *testing.T, card string, status domain.Status, open bool) legacy {
	t.Helper()
	f := legacy{order: reserved(), paymentID: id.New[id.Payment]()}
	order := domain.Order{ID: f.order.ID, UserID: buyer, Amount: 2500, Currency: "usd"}
	f.stripeID = s.stripeServer.CreateByHand(t, order.ID, map[string]string{"userId": string(buyer)}, "")
	var made domain.Intent
	if status != domain.Pending || open {
		var err error
		made, err = s.stripe.Confirm(t.Context(), &domain.Payment{OrderID: order.ID, StripeID: f.stripeID}, 1, domain.Method{PaymentMethod: card})
		require.NoError(t, err)
	}
	if status == domain.Captured {
		_, err := s.stripe.Capture(t.Context(), &domain.Payment{ID: f.paymentID, StripeID: f.stripeID})
		require.NoError(t, err)
		f.order = after(f.order, "complete")
	}
	decline, charge := "", ""
	if status == domain.Failed {
		decline = fmt.Sprintf(`"declineCode":%q,`, made.DeclineCode)
	}
	if status != domain.Pending {
		charge = fmt.Sprintf(`"chargeId":%q,`, made.ChargeID)
	}
	at := clock.System().Format("2006-01-02T15:04:05.999Z")
	var change state.Change
	change.Create(orderKey(order.ID), json.RawMessage(fmt.Sprintf(
		`{"schema":1,"id":%q,"userId":%q,"status":%q,"expiresAt":%q,"amount":2500,"currency":"usd","version":%d,"paymentId":%q}`,
		order.ID, buyer, f.order.Status, f.order.ExpiresAt.Format("2006-01-02T15:04:05.999Z"), f.order.Version, f.paymentID)))
	change.Create(legacyPaymentKey(f.paymentID), json.RawMessage(fmt.Sprintf(
		`{"schema":1,"id":%q,"orderId":%q,"userId":%q,"stripeId":%q,"status":%q,"amount":2500,"currency":"usd",%s%s"attempt":{"number":1,"method":%q,"open":%t},"version":2,"createdAt":%q,"updatedAt":%q}`,
		f.paymentID, order.ID, buyer, f.stripeID, status, decline, charge, domain.Method{PaymentMethod: card}.Digest(), open, at, at)))
	change.Create(legacyIntentKey(f.stripeID), json.RawMessage(fmt.Sprintf(`{"schema":1,"orderId":%q}`, order.ID)))
	change.Append(unsettled, string(order.ID))
	require.NoError(t, s.documents.Commit(t.Context(), &change))
	return f
}

// requireMoved checks that a payment is part of its order's document, and is still found by its own id.
func (s *fixture) requireMoved(t *testing.T, f legacy, status domain.Status) {
	t.Helper()
	a, err := s.load(t.Context(), f.order.ID)
	require.NoError(t, err)
	require.Empty(t, a.legacy.ETag)
	require.Equal(t, f.paymentID, a.order.Value.Payment.ID)
	require.Equal(t, status, a.order.Value.Payment.Status)
	require.JSONEq(t, fmt.Sprintf(`{"schema":2,"id":%q,"orderId":%q}`, f.paymentID, f.order.ID), string(s.sidecar.Document(legacyPaymentKey(f.paymentID)).Value))
	var document struct{ Schema int }
	require.NoError(t, json.Unmarshal(s.sidecar.Document(orderKey(f.order.ID)).Value, &document))
	require.Equal(t, domain.OrderSchema, document.Schema)
	s.requireShown(t, f, status)
}

func (s *fixture) requireShown(t *testing.T, f legacy, status domain.Status) {
	t.Helper()
	shown, err := s.Payment(t.Context(), f.paymentID, buyer)
	require.NoError(t, err)
	require.Equal(t, []any{f.paymentID, f.order.ID, f.stripeID, status, int64(2500), "usd"},
		[]any{shown.Payment.ID, shown.Payment.OrderID, shown.Payment.StripeID, shown.Payment.Status, shown.Payment.Amount, shown.Payment.Currency})
	_, err = s.Payment(t.Context(), f.paymentID, "buyer-2")
	require.ErrorIs(t, err, domain.ErrNotYourPayment)
	_, err = s.Payment(t.Context(), id.Payment(f.order.ID), buyer)
	require.ErrorIs(t, err, domain.ErrNoPayment, "it has an id of its own")
}

func TestLegacy_APaymentIsShownAsItIs(t *testing.T) {
	for card, status := range map[string]domain.Status{"pm_card_visa": domain.Authorized, "pm_card_chargeDeclined": domain.Failed, "pm_card_authenticationRequired": domain.RequiresAction, "pm_card_mastercard": domain.Captured} {
		t.Run(string(status), func(t *testing.T) {
			s := newFixture(t)
			f := s.storedByLegacyRelease(t, card, status, false)
			s.requireShown(t, f, status)
			if status != domain.Failed { // whose declines were not counted
				require.Contains(t, string(s.sidecar.Document(legacyPaymentKey(f.paymentID)).Value), `"schema":1`, "a read changes nothing")
			}
		})
	}
}

func TestLegacy_MoneyFollowsTheOrder(t *testing.T) {
	for name, c := range map[string]struct {
		card     string
		status   domain.Status
		ends     events.OrderStatus
		then     domain.Status
		captured int64
		refunded int64
		reported string
	}{
		"authorized, complete":       {"pm_card_visa", domain.Authorized, "complete", domain.Captured, 2500, 0, "payment.captured"},
		"authorized, cancelled":      {"pm_card_visa", domain.Authorized, "cancelled", domain.Voided, 0, 0, "payment.voided"},
		"requires action, cancelled": {"pm_card_authenticationRequired", domain.RequiresAction, "cancelled", domain.Voided, 0, 0, "payment.voided"},
		"declined, cancelled":        {"pm_card_chargeDeclined", domain.Failed, "cancelled", domain.Voided, 0, 0, "payment.voided"},
		"captured, cancelled":        {"pm_card_visa", domain.Captured, "cancelled", domain.Refunded, 2500, 2500, "payment.refunded"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			f := s.storedByLegacyRelease(t, c.card, c.status, false)
			require.NoError(t, s.store.ApplyOrder(t.Context(), after(f.order, c.ends)))
			s.requireMoney(t, f.order.ID, 0, c.captured, c.refunded)
			s.requireMoved(t, f, c.then)
			s.requireEvents(t, c.reported)
		})
	}
}

func TestLegacy_AnOpenAttemptIsResumedUnderItsKey(t *testing.T) {
	s := newFixture(t)
	f := s.storedByLegacyRelease(t, "pm_card_visa", domain.Pending, true)
	seen := s.stripeServer.attemptKeys()
	paid, err := s.payWith(t.Context(), f.order.ID, "pm_card_visa")
	require.NoError(t, err)
	require.True(t, paid.Fresh)
	require.Equal(t, f.paymentID, paid.Payment.ID)
	require.Equal(t, []string{"order/" + string(f.order.ID) + "/attempt/1/confirm"}, seen())
	s.requireMoney(t, f.order.ID, 2500, 0, 0)
	s.requireMoved(t, f, domain.Authorized)
	s.requireEvents(t, "payment.created")
}

func TestLegacy_AnotherCardPaysTheSameIntent(t *testing.T) {
	for card, status := range map[string]domain.Status{"pm_card_chargeDeclined": domain.Failed, "pm_card_authenticationRequired": domain.RequiresAction} {
		t.Run(string(status), func(t *testing.T) {
			s := newFixture(t)
			f := s.storedByLegacyRelease(t, card, status, false)
			paid, err := s.payWith(t.Context(), f.order.ID, "pm_card_visa")
			require.NoError(t, err)
			require.Equal(t, f.stripeID, paid.Payment.StripeID)
			s.requireMoney(t, f.order.ID, 2500, 0, 0)
			s.requireMoved(t, f, domain.Authorized)
		})
	}
}

func TestLegacy_AWebhookFindsItWithoutMetadata(t *testing.T) {
	s := newFixture(t)
	f := s.storedByLegacyRelease(t, "pm_card_authenticationRequired", domain.RequiresAction, false)
	s.stripeServer.Authenticate(t, f.stripeID, "succeed")
	known, err := s.store.HandleNotice(t.Context(), stripe.Notice{Intent: domain.Intent{ID: f.stripeID, Status: domain.Authorized}})
	require.NoError(t, err)
	require.True(t, known)
	s.requireMoved(t, f, domain.Authorized)
	s.requireEvents(t, "payment.created")
}

func TestLegacy_WhatWasLeftIsSwept(t *testing.T) {
	s := newFixture(t)
	settled := s.storedByLegacyRelease(t, "pm_card_visa", domain.Captured, false)
	lost := s.storedByLegacyRelease(t, "pm_card_visa", domain.Pending, true)
	var change state.Change
	change.Create(watermarkKey, json.RawMessage(`{"schema":1,"page":1,"entry":1}`))
	require.NoError(t, s.documents.Commit(t.Context(), &change))
	require.Equal(t, state.Places{firstPartition: {Page: 1, Entry: 1}}, s.watermark(t))
	asked := s.stripeServer.Requests.Load()
	s.runSweep(t)
	require.Equal(t, asked+1, s.stripeServer.Requests.Load())
	s.requireMoney(t, lost.order.ID, 2500, 0, 0)
	s.requireMoved(t, lost, domain.Authorized)
	s.requireShown(t, settled, domain.Captured)
	require.NoError(t, s.store.ApplyOrder(t.Context(), after(lost.order, "complete")))
	s.runSweep(t)
	require.Empty(t, s.ahead(t))
	require.Equal(t, state.Place{Page: 1, Entry: 1}, s.watermark(t)[firstPartition])
}
