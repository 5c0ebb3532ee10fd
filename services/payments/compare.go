package main

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
)

// Once a day the payments are compared with Stripe (see package reconcile). Stripe lists the intents and reversals of the last
// two days; the documents are read in bulk, a page at a time. Where they differ, the intent is read from Stripe, as after a
// webhook, and the payment is settled. This repairs whatever was lost: webhooks, or, after the restore of a backup, documents
// of this service or of orders. Each payment's last event is published again on the way. Orders answers one whose order it
// does not have with a cancellation, and then the money is given back.

const (
	// minIntentAge is the age below which an intent or a payment's last change is not compared: its process may be about to
	// commit the outcome.
	minIntentAge = 10 * time.Minute
	originKey    = "origin"
)

// Kinds of differences, as they are counted.
const (
	kindBehind  = "behind"  // Stripe's state was newer than the payment's
	kindStray   = "stray"   // an intent of an order that is not its payment's: it was ended
	kindUnknown = "unknown" // an intent that no document names
)

// originRecord is created at the first start. Its id is in the metadata of each intent that this service makes. It
// distinguishes them from those of other systems at the same Stripe account, such as a staging system, whose orders are not in
// this store either. Like all documents it is restored with a backup.
type originRecord struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
}

// readOrigin reads the origin, and creates it at the first start.
func readOrigin(ctx context.Context, documents *state.Store) (string, error) {
	record, err := state.Modify(ctx, documents, originKey, func(doc *originRecord, _ *state.Change) (changed bool, err error) {
		if doc.ID != "" {
			return false, nil
		}
		*doc = originRecord{Schema: 1, ID: uuid.NewString()}
		return true, nil
	})
	return record.ID, err
}

// comparison is the step of a reconciliation that compares the payments with Stripe.
func (s *store) comparison() reconcile.Step {
	return reconcile.Step{Name: "stripe", Run: func(ctx context.Context, p *reconcile.Pass) error {
		err := s.stripe.Intents(ctx, p.Since(), func(page []stripe.Listed) error { return s.compareIntentPage(ctx, p, page) })
		if err != nil {
			return err
		}
		refreshed := map[id.Order]bool{}
		return s.stripe.Reversals(ctx, p.Since(), func(page []stripe.Notice) error { return s.compareReversals(ctx, p, page, refreshed) })
	}}
}

// compareIntentPage compares a page of intents with the payments.
func (s *store) compareIntentPage(ctx context.Context, p *reconcile.Pass, page []stripe.Listed) error {
	if err := p.Renew(ctx); err != nil {
		return err
	}
	ids := make([]id.Order, len(page))
	for i, listed := range page {
		ids[i] = listed.OrderID
	}
	orders, err := s.orders(ctx, ids)
	if err != nil {
		return err
	}
	var again []events.Payload
	for _, listed := range page {
		order, known := orders[listed.OrderID]
		if known && order.MayHaveIntent(listed.Intent) {
			event, err := s.compareIntent(ctx, p, order, listed.Intent)
			if err != nil {
				return err
			}
			if event != nil {
				again = append(again, event)
			}
			continue
		}
		if s.clock().Sub(listed.CreatedAt) < s.minAge || listed.Status.Ended() {
			continue
		}
		if !known && listed.Origin != s.stripe.Origin { // another system's
			continue
		}
		kind, err := s.recoverPayment(ctx, listed)
		if err != nil {
			return err
		}
		if kind != "" {
			p.Found(kind, 1)
		}
	}
	return p.Publish(ctx, again...)
}

// compareIntent refreshes a payment if it is behind its intent. It returns the event to publish again.
func (s *store) compareIntent(ctx context.Context, p *reconcile.Pass, order *domain.Order, listed domain.Intent) (events.Payload, error) {
	payment := order.Payment
	if !payment.Matches(listed) && s.clock().Sub(payment.UpdatedAt) >= s.minAge {
		current, err := s.refreshPayment(ctx, p, order.ID)
		if err != nil || current.Payment == nil {
			return nil, err
		}
		payment = current.Payment
	}
	if payment.Status.Rank() == 0 {
		return nil, nil // no service needs the event of an open payment
	}
	return payment.Event(), nil
}

// refreshPayment settles a payment with the intent as it is now, and counts whether it was behind.
func (s *store) refreshPayment(ctx context.Context, p *reconcile.Pass, orderID id.Order) (domain.Order, error) {
	stored, err := s.loadWithAttempt(ctx, orderID)
	if err != nil || stored.order.Value.Payment == nil {
		return stored.order.Value, err
	}
	before := stored.order.Value.Payment.Version
	order, _, err := s.settleOrder(ctx, orderID, domain.Cause{Refresh: domain.RefreshAlways})
	if isDelayed(err) {
		err = nil // the sweep captures it
	}
	if err == nil && order.Payment.Version != before {
		p.Found(kindBehind, 1)
		s.log.WarnContext(ctx, "a payment was behind its intent at Stripe", "orderId", orderID, "status", order.Payment.Status)
	}
	return order, err
}

// compareReversals refreshes the payments that lack a refund or dispute, each once.
func (s *store) compareReversals(ctx context.Context, p *reconcile.Pass, page []stripe.Notice, refreshed map[id.Order]bool) error {
	if err := p.Renew(ctx); err != nil {
		return err
	}
	var ids []id.Order
	for i := range page {
		order, err := s.orderOf(ctx, page[i])
		if err != nil {
			return err
		}
		page[i].OrderID = order
		ids = append(ids, order)
	}
	orders, err := s.orders(ctx, ids)
	if err != nil {
		return err
	}
	for _, notice := range page {
		order, known := orders[notice.OrderID]
		if !known || refreshed[order.ID] || order.Payment == nil || order.Payment.StripeID != notice.Intent.ID || order.Payment.Reflects(notice.Intent) {
			continue
		}
		refreshed[order.ID] = true
		if _, err := s.refreshPayment(ctx, p, order.ID); err != nil {
			return err
		}
	}
	return nil
}

// recoverPayment gives an intent that no payment has its payment again. It returns the kind of difference; "" if there was
// none after all. An intent without money, and one whose order has another, is ended instead.
func (s *store) recoverPayment(ctx context.Context, listed stripe.Listed) (kind string, err error) {
	err = state.Retry(ctx, func(ctx context.Context) (err error) {
		kind, err = s.tryToRecover(ctx, listed)
		return err
	})
	if err == nil && kind != "" {
		s.log.WarnContext(ctx, "no payment has this payment intent; a restored backup may be older than it", "orderId", listed.OrderID, "stripeId", listed.ID, "status", listed.Status, "kind", kind)
	}
	return kind, err
}

func (s *store) tryToRecover(ctx context.Context, listed stripe.Listed) (kind string, err error) {
	stored, err := s.loadWithAttempt(ctx, listed.OrderID)
	isLost := errors.Is(err, domain.ErrNoOrder)
	if err != nil && !isLost {
		return "", err
	}
	order := &stored.order.Value
	switch {
	case !isLost && order.MayHaveIntent(listed.Intent): // since the documents were compared
		return "", nil
	case !isLost && order.Payment != nil:
		return kindStray, s.stripe.EndIntent(ctx, listed.ID)
	}
	intent, err := s.stripe.Get(ctx, listed.ID)
	switch {
	case err != nil:
		return "", err
	case intent.Status.Ended():
		return "", nil
	case isLost && intent.Status.Open():
		return kindUnknown, s.stripe.EndIntent(ctx, listed.ID)
	case isLost:
		*order = domain.Recovered(listed.OrderID, listed.UserID, listed.Amount, listed.Currency)
		stored.order.Key = orderKey(order.ID)
	}
	payment := order.BeginWithIntent(intent, listed.CreatedAt)
	var change state.Change
	if intent.Status == domain.Captured { // orders waits for the authorization's event
		event, _ := payment.Observe(domain.Intent{ID: intent.ID, Status: domain.Authorized, ChargeID: intent.ChargeID}, s.clock())
		change.Emit(ctx, event)
	}
	if event, _ := order.Observe(intent, s.clock()); event != nil {
		change.Emit(ctx, event)
	}
	if _, err := s.settle(ctx, order, domain.Cause{}, domain.Method{}, &change); err != nil {
		return "", err
	}
	change.Append(unsettled, string(order.ID))
	return kindUnknown, s.commit(ctx, &stored, &change)
}
