package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	order/{id}         Order: the replica of an order, with its payment; its ETag is the lock of both
//	payment/{id}       Payment
//	intent/{stripeId}  intentRecord: which order a PaymentIntent is for
//	index/unsettled    orders whose payment has begun, and again when they ended; see sweep
//	sweep/unsettled    watermark: how far that index is worked off
func orderKey(id string) string        { return "order/" + id }
func paymentKey(id string) string      { return "payment/" + id }
func intentKey(stripeID string) string { return "intent/" + stripeID }

const unsettled = "unsettled"

type intentRecord struct {
	Schema  int    `json:"schema"`
	OrderID string `json:"orderId"`
}

// till takes the buyers' money: it keeps orders and payments, and brings Stripe's word and the orders' state
// together.
//
// Whatever Stripe is asked for a payment is asked after its documents were read, and the outcome is written on
// the condition that they are unchanged. So what is written is never older than what it replaces, and an order
// that was cancelled meanwhile shows as a conflict: then everything is looked at again.
type till struct {
	store  *state.Store
	stripe *gateway
	agenda *agenda
}

func newTill(store *state.Store, stripe *gateway, log *slog.Logger) *till {
	t := &till{store: store, stripe: stripe}
	t.agenda = newAgenda(t, log)
	return t
}

// account is an order and its payment, as they were read. The payment has no ETag if none was begun.
type account struct {
	order   state.Doc[Order]
	payment state.Doc[Payment]
}

func (a account) begun() bool { return a.payment.ETag != "" }

// account reads an order and its payment. It returns errNoOrder if the order is not known.
func (t *till) account(ctx context.Context, orderID string) (a account, err error) {
	a.order, err = state.Get[Order](ctx, t.store, orderKey(orderID))
	if errors.Is(err, state.ErrNotFound) {
		return a, errNoOrder
	}
	if err != nil || a.order.Value.PaymentID == "" {
		return a, err
	}
	a.payment, err = state.Get[Payment](ctx, t.store, paymentKey(a.order.Value.PaymentID))
	return a, err
}

// write adds the account's documents to a change, on the condition that both are as they were read.
func (a account) write(change *state.Change) {
	change.Update(a.order.Key, a.order.ETag, a.order.Value)
	change.Update(a.payment.Key, a.payment.ETag, a.payment.Value)
}

// look is how settle learns what Stripe says of a payment that it has just read. An Intent without a status says
// that Stripe was not asked.
type look func(ctx context.Context, a *account) (Intent, error)

// asStripeTells asks Stripe, unless nothing can change any more.
func (t *till) asStripeTells(ctx context.Context, a *account) (Intent, error) {
	if a.payment.Value.Status.ended() {
		return Intent{}, nil
	}
	return t.stripe.Look(ctx, a.payment.Value.StripeID)
}

// asNeeded asks Stripe only if the order does not say what is to be done anyway.
func (t *till) asNeeded(ctx context.Context, a *account) (Intent, error) {
	if a.order.Value.Due(a.payment.Value.Status) != Nothing || !a.payment.Value.Status.open() {
		return Intent{}, nil
	}
	return t.stripe.Look(ctx, a.payment.Value.StripeID)
}

// asLongSilent asks Stripe about a payment of which nothing was heard for long, unless the order says what is to be
// done anyway.
func (t *till) asLongSilent(ctx context.Context, a *account) (Intent, error) {
	if a.order.Value.Due(a.payment.Value.Status) != Nothing {
		return Intent{}, nil
	}
	return t.asStripeTells(ctx, a)
}

// finish may add to the change that settle is about to commit, and to the payment; write says that it did the
// latter. It is called again if the change conflicted.
type finish func(ctx context.Context, change *state.Change, p *Payment, told Intent) (write bool, err error)

func nothingMore(context.Context, *state.Change, *Payment, Intent) (bool, error) { return false, nil }

// mostActions bounds what one call of settle does: at most "it was not authorized but captured, so refund it".
const mostActions = 3

// notTaken is why money that is authorized could not be taken yet. All else was done and written down.
type notTaken struct{ error }

func (n notTaken) Unwrap() error { return n.error }

// settle brings an order's payment to where it should be: it takes what Stripe says, does what the order's state
// asks for, and writes the outcome down with its events. It may be called at any time and any number of times;
// an order without a payment is settled. It returns a notTaken if the money must be taken later.
func (t *till) settle(ctx context.Context, orderID string, look look, finish finish) error {
	return state.Retry(ctx, func(ctx context.Context) error {
		a, err := t.account(ctx, orderID)
		if err != nil || !a.begun() {
			return err
		}
		payment, order := &a.payment.Value, &a.order.Value
		told, err := look(ctx, &a)
		if err != nil {
			return err
		}
		var change state.Change
		var late error
		write := false
		for n := 0; late == nil; n++ {
			event, changed := payment.Observe(told, now())
			if event != nil {
				change.Emit(ctx, event)
			}
			write = write || changed
			due := order.Due(payment.Status)
			if due == Nothing {
				break
			}
			if n == mostActions {
				return fmt.Errorf("payment %s is %s, its order is %s, and Stripe does not change that", payment.ID, payment.Status, order.Status)
			}
			outcome, err := t.do(ctx, due, payment)
			switch {
			case err == nil:
				told = outcome
			case due == Capture && problem.KindOf(err) == problem.Unavailable:
				late = notTaken{err}
			default:
				return err
			}
		}
		more, err := finish(ctx, &change, payment, told)
		if err != nil {
			return err
		}
		if write || more {
			a.write(&change)
		}
		if err := t.store.Commit(ctx, &change); err != nil {
			return err
		}
		return late
	})
}

func (t *till) do(ctx context.Context, action Action, p *Payment) (Intent, error) {
	switch action {
	case Capture:
		return t.stripe.Capture(ctx, p)
	case Void:
		return t.stripe.Void(ctx, p)
	case Refund:
		return t.stripe.Refund(ctx, p)
	}
	return Intent{}, fmt.Errorf("no such action: %d", action)
}

// Receipt is what became of a wish to pay. Intent is as Stripe told it, if it was asked. Fresh says that the
// payment is as it is by this very wish.
type Receipt struct {
	Payment Payment
	Intent  Intent
	Fresh   bool
}

// keepAnswer adds the answer to a request to the change that it tells of.
type keepAnswer func(ctx context.Context, change *state.Change, receipt Receipt) error

// Pay authorizes the order's amount on the buyer's card. It returns a problem.Declined if the bank refuses; the
// order stays live then, and Pay may be called again. keep is called if the payment is paid or waits for the
// buyer's bank, for it may have been called for before.
func (t *till) Pay(ctx context.Context, orderID, buyer string, method Method, keep keepAnswer) (Receipt, error) {
	plan, attempt, err := t.begin(ctx, orderID, buyer, method)
	if err != nil {
		return Receipt{}, err
	}
	appointment := t.agenda.add(orderID, firstLook)
	receipt := Receipt{Fresh: plan == NewAttempt}
	made := false
	err = t.settle(ctx, orderID, func(ctx context.Context, a *account) (Intent, error) {
		switch {
		case made, plan == ShowAsItIs && a.payment.Value.Status == RequiresAction:
			return t.asStripeTells(ctx, a)
		case plan == ShowAsItIs, !a.payment.Value.Status.open(), a.order.Value.Status != OrderCreated:
			return Intent{}, nil // paid already; or not live any more, then it ends without an attempt
		}
		made = true
		return t.stripe.Confirm(ctx, &a.payment.Value, attempt, method)
	}, func(ctx context.Context, change *state.Change, p *Payment, told Intent) (bool, error) {
		concluded := plan != ShowAsItIs && p.Conclude(attempt)
		receipt = Receipt{Payment: *p, Intent: told, Fresh: receipt.Fresh || concluded}
		if receipt.refusal(method) != nil {
			return concluded, nil
		}
		return concluded, keep(ctx, change, receipt)
	})
	if _, late := errors.AsType[notTaken](err); late {
		// The buyer has paid, and need not wait until the money is taken.
		t.agenda.add(orderID, firstRetry)
	} else if err != nil {
		return Receipt{}, err
	} else if receipt.Payment.Status != RequiresAction && receipt.Payment.Status != Pending {
		t.agenda.cancel(orderID, appointment)
	}
	return receipt, receipt.refusal(method)
}

// refusal is why the wish to pay was not granted, or nil.
func (r Receipt) refusal(method Method) error {
	switch r.Payment.Status {
	case Authorized, Captured, RequiresAction:
		return nil
	case Voided, Refunded:
		return errCancelled
	case Failed:
		message := r.Intent.DeclineMessage
		if message == "" {
			message = "The card was declined."
		}
		return problem.New(problem.Declined, "%s", message).WithField(method.field()).WithCode(r.Payment.DeclineCode)
	}
	return unreachable(fmt.Errorf("payment intent %s is still being processed", r.Payment.StripeID))
}

// begin finds or makes the order's payment, and writes down the attempt that is to be made, if one is.
func (t *till) begin(ctx context.Context, orderID, buyer string, method Method) (plan Plan, attempt int, err error) {
	// The order may be so new that its event is still on the way.
	if _, err := state.GetReplica[Order](ctx, t.store, orderKey(orderID), orderID); err != nil && !errors.Is(err, state.ErrNotFound) {
		return plan, 0, err
	}
	err = state.Retry(ctx, func(ctx context.Context) error {
		a, err := t.account(ctx, orderID)
		if err != nil {
			return err
		}
		order, payment := &a.order.Value, &a.payment.Value
		if order.UserID != buyer {
			return errNotYours
		}
		if a.begun() && payment.Status.ended() {
			return errCancelled
		}
		if !a.begun() || payment.Status.open() {
			if err := order.Payable(now()); err != nil {
				return err
			}
		}
		if !a.begun() {
			plan, attempt = NewAttempt, 1
			return t.open(ctx, a.order, method)
		}
		plan = payment.Try(method.digest())
		attempt = payment.Attempt.Number
		var change state.Change
		if plan == NewAttempt {
			a.write(&change)
		}
		return t.store.Commit(ctx, &change)
	})
	return plan, attempt, err
}

// open makes the order's intent and its payment with the first attempt.
func (t *till) open(ctx context.Context, order state.Doc[Order], method Method) error {
	intent, err := t.stripe.Create(ctx, &order.Value)
	if err != nil {
		return err
	}
	payment := Begin(uuid.Must(uuid.NewV7()).String(), &order.Value, intent.ID, method.digest(), now())
	var change state.Change
	change.Update(order.Key, order.ETag, order.Value)
	change.Create(paymentKey(payment.ID), payment)
	change.Create(intentKey(intent.ID), intentRecord{Schema: 1, OrderID: order.Value.ID})
	change.Append(unsettled, order.Value.ID)
	return t.store.Commit(ctx, &change)
}

// Payment reads a payment of the buyer's. While it is open, Stripe is asked how it stands, so that a buyer who
// looks again sees what the bank said even if no webhook comes; if Stripe cannot be asked, what is known is
// shown.
func (t *till) Payment(ctx context.Context, id, buyer string) (Receipt, error) {
	doc, err := state.Get[Payment](ctx, t.store, paymentKey(id))
	if errors.Is(err, state.ErrNotFound) {
		return Receipt{}, errNoPayment
	}
	if err != nil {
		return Receipt{}, err
	}
	if doc.Value.UserID != buyer {
		return Receipt{}, errNotYourPayment
	}
	receipt := Receipt{Payment: doc.Value}
	if !doc.Value.Status.open() {
		return receipt, nil
	}
	err = t.settle(ctx, doc.Value.OrderID, t.asStripeTells, func(_ context.Context, _ *state.Change, p *Payment, told Intent) (bool, error) {
		receipt = Receipt{Payment: *p, Intent: told}
		return false, nil
	})
	if err != nil && problem.KindOf(err) != problem.Unavailable {
		return Receipt{}, err
	}
	return receipt, nil
}

// HearIntent settles the payment of a PaymentIntent of which Stripe told something. What it told is not looked
// at: Stripe is asked how things stand now, so late and repeated webhooks do no harm. known is false for an
// intent that is not ours.
func (t *till) HearIntent(ctx context.Context, stripeID string) (known bool, err error) {
	record, err := state.Get[intentRecord](ctx, t.store, intentKey(stripeID))
	if errors.Is(err, state.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, t.settle(ctx, record.Value.OrderID, t.asStripeTells, nothingMore)
}

// HearOrder brings the replica of an order up to what the orders service tells. If the order has ended, its payment
// follows by the agenda.
func (t *till) HearOrder(ctx context.Context, told events.Order) error {
	ended := false
	err := state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[Order](ctx, t.store, orderKey(told.ID))
		missing := errors.Is(err, state.ErrNotFound)
		if err != nil && !missing {
			return err
		}
		order := &doc.Value
		changed := order.Hear(told)
		ended = order.PaymentID != "" && order.Status != OrderCreated
		if !changed {
			return nil
		}
		var change state.Change
		if missing {
			change.Create(doc.Key, *order)
		} else {
			change.Update(doc.Key, doc.ETag, *order)
		}
		if ended {
			change.Append(unsettled, order.ID)
		}
		return t.store.Commit(ctx, &change)
	})
	if err != nil {
		return fmt.Errorf("hear order %s: %w", told.ID, err)
	}
	if ended {
		t.agenda.add(told.ID, 0)
	}
	return nil
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
