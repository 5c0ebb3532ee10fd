package main

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/state"
)

// Once a day the payments are compared with Stripe (see package reconcile). Stripe lists what was made and what has happened
// in the last two days; the documents are read in bulk, a page at a time. Where they differ, Stripe is asked how things
// stand now, as after a webhook, and the payment is settled. So whatever was lost comes right: webhooks, or, when a
// backup is restored, documents of this service or of orders. Each payment's last event is published again on the way, and
// orders answers to one whose order it does not know with a cancellation, by which the money is given back.

const (
	// minIntentAge is up to which age an intent or a change of a payment is left alone: somebody may be about to write down
	// what becomes of it.
	minIntentAge = 10 * time.Minute
	originKey    = "origin"
)

// Kinds of differences, as they are counted.
const (
	behind  = "behind"  // Stripe had more to say than the payment knew
	stray   = "stray"   // an intent of an order that is not its payment: it was given up
	unknown = "unknown" // an intent that no document knew
)

// originRecord is made at the first start. Its id is in the metadata of each intent that this service makes; it tells them
// from those that others make with the same account, a staging system for instance, whose orders are not known here, either.
// Like all documents it comes back with a backup.
type originRecord struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
}

// readOrigin reads the origin, and makes it at the first start.
func readOrigin(ctx context.Context, documents *state.Store) (id string, err error) {
	err = state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[originRecord](ctx, documents, originKey)
		if !errors.Is(err, state.ErrNotFound) {
			id = doc.Value.ID
			return err
		}
		id = uuid.NewString()
		var change state.Change
		change.Create(originKey, originRecord{Schema: 1, ID: id})
		return documents.Commit(ctx, &change)
	})
	return id, err
}

// comparison is the step of a reconciliation that compares the payments with Stripe.
func (t *store) comparison() reconcile.Step {
	return reconcile.Step{Name: "stripe", Run: func(ctx context.Context, p *reconcile.Pass) error {
		err := t.stripe.Intents(ctx, p.Since(), func(page []listed) error { return t.compare(ctx, p, page) })
		if err != nil {
			return err
		}
		refreshed := map[string]bool{}
		return t.stripe.Reversals(ctx, p.Since(), func(page []notice) error { return t.compareReversals(ctx, p, page, refreshed) })
	}}
}

// compare compares some intents with the payments.
func (t *store) compare(ctx context.Context, p *reconcile.Pass, page []listed) error {
	if err := p.Alive(ctx); err != nil {
		return err
	}
	ids := make([]string, len(page))
	for i, made := range page {
		ids[i] = made.OrderID
	}
	orders, err := t.orders(ctx, ids)
	if err != nil {
		return err
	}
	var again []events.Payload
	for _, made := range page {
		order, known := orders[made.OrderID]
		if known && order.Payment != nil && order.has(made.Intent) {
			event, err := t.catchUp(ctx, p, order, made.Intent)
			if err != nil {
				return err
			}
			if event != nil {
				again = append(again, event)
			}
			continue
		}
		if now().Sub(made.CreatedAt) < t.minAge || made.Status == Voided || made.Status == Refunded {
			continue
		}
		if !known && made.Origin != t.stripe.origin { // somebody else's
			continue
		}
		kind, err := t.adopt(ctx, made)
		if err != nil {
			return err
		}
		if kind != "" {
			p.Found(kind, 1)
		}
	}
	return p.Publish(ctx, again...)
}

// catchUp has a payment look at Stripe, if Stripe says more than it knows. It returns the event to publish again.
func (t *store) catchUp(ctx context.Context, p *reconcile.Pass, order *Order, reported Intent) (events.Payload, error) {
	payment := order.Payment
	if !payment.agrees(reported) && now().Sub(payment.UpdatedAt) >= t.minAge {
		current, err := t.refresh(ctx, p, order.ID)
		if err != nil || current.Payment == nil {
			return nil, err
		}
		payment = current.Payment
	}
	if payment.Status.progress() == 0 {
		return nil, nil // nobody waits for an event of a payment that is open
	}
	return payment.Event(), nil
}

// agrees says whether a payment is as a list of Stripe's says, which has nothing of disputes but that there was one.
func (p *Payment) agrees(listed Intent) bool {
	if !p.Knows(listed) {
		return false
	}
	refunded := p.Refunded
	if p.Dispute.lost() {
		refunded -= p.Dispute.Amount
	}
	return listed.Status.progress() < Captured.progress() || listed.Status == Voided || listed.Refunded == refunded
}

// refresh settles a payment by what Stripe says now, and counts if that was news.
func (t *store) refresh(ctx context.Context, p *reconcile.Pass, orderID string) (Order, error) {
	a, err := t.loadWithAttempt(ctx, orderID)
	if err != nil || a.order.Value.Payment == nil {
		return a.order.Value, err
	}
	before := a.order.Value.Payment.Version
	order, _, err := t.settle(ctx, orderID, t.always)
	if isLate(err) {
		err = nil // the sweep goes on with it
	}
	if err == nil && order.Payment.Version != before {
		p.Found(behind, 1)
		t.log.WarnContext(ctx, "a payment was behind what Stripe says", "orderId", orderID, "status", order.Payment.Status)
	}
	return order, err
}

// compareReversals has the payments look at Stripe that do not know of a refund or dispute, each once.
func (t *store) compareReversals(ctx context.Context, p *reconcile.Pass, page []notice, refreshed map[string]bool) error {
	if err := p.Alive(ctx); err != nil {
		return err
	}
	var ids []string
	for i := range page {
		id, err := t.orderOf(ctx, page[i])
		if err != nil {
			return err
		}
		page[i].orderID = id
		ids = append(ids, id)
	}
	orders, err := t.orders(ctx, ids)
	if err != nil {
		return err
	}
	for _, reported := range page {
		order, known := orders[reported.orderID]
		if !known || refreshed[order.ID] || order.Payment == nil || order.Payment.StripeID != reported.intent.ID || order.Payment.Knows(reported.intent) {
			continue
		}
		refreshed[order.ID] = true
		if _, err := t.refresh(ctx, p, order.ID); err != nil {
			return err
		}
	}
	return nil
}

// adopt gives an intent that no payment knows its payment again, and says what kind of difference that was; "" if it was none
// after all. One in which there is no money, and one of an order that has another, is given up instead.
func (t *store) adopt(ctx context.Context, made listed) (kind string, err error) {
	err = state.Retry(ctx, func(ctx context.Context) error {
		kind = unknown
		a, err := t.loadWithAttempt(ctx, made.OrderID)
		lost := errors.Is(err, errNoOrder)
		if err != nil && !lost {
			return err
		}
		order := &a.order.Value
		switch {
		case !lost && order.Payment != nil && order.has(made.Intent): // meanwhile
			kind = ""
			return nil
		case !lost && order.Payment != nil:
			kind = stray
			return t.stripe.Release(ctx, made.ID)
		}
		reported, err := t.stripe.Get(ctx, made.ID)
		switch {
		case err != nil:
			return err
		case reported.Status == Voided || reported.Status == Refunded:
			kind = ""
			return nil
		case lost && reported.Status.open():
			return t.stripe.Release(ctx, made.ID)
		case lost:
			*order = Order{Schema: orderSchema, ID: made.OrderID, UserID: made.UserID, Status: OrderCreated, Amount: made.Amount, Currency: made.Currency}
			a.order.Key = orderKey(order.ID)
		}
		payment := order.Begin("", made.CreatedAt)
		payment.Conclude(payment.Attempt.Number, reported.Status == Failed)
		payment.StripeID = made.ID
		var change state.Change
		if reported.Status == Captured { // it was authorized first, and that is what orders waits for
			event, _ := payment.Observe(Intent{ID: reported.ID, Status: Authorized, ChargeID: reported.ChargeID}, now())
			change.Emit(ctx, event)
		}
		if _, err := t.follow(ctx, order, &reported, &change); err != nil && !isLate(err) {
			return err
		}
		change.Append(unsettled, order.ID)
		return t.commit(ctx, &a, &change)
	})
	if err == nil && kind != "" {
		t.log.WarnContext(ctx, "a payment intent was not known here; a restored backup may be older than it", "orderId", made.OrderID, "stripeId", made.ID, "status", made.Status, "kind", kind)
	}
	return kind, err
}
