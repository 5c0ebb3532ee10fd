package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
)

// The documents of this service:
//
//	order/{id}         domain.Order: the projection of an order, with its payment; its ETag guards both
//	attempt/{orderId}  firstAttempt: the first attempt to pay an order, until the order's document has it
//	user/{id}          domain.UserAttempts: a user's attempts within the last hour; see limits.go
//	index/unsettled    orders whose payment has begun, and again when a settled one is not settled any more; see sweep.go
//	sweep/unsettled    watermark: how far that index is processed
//	origin             originRecord: marks the intents of this service at a shared Stripe account; see compare.go
//
// and those of earlier releases; see legacy.go.
//
// The first attempt has a document of its own so that a purchase reads once: its commit does not change the order's document,
// so the ETag that was read stays valid.
func orderKey(orderID id.Order) string   { return "order/" + string(orderID) }
func attemptKey(orderID id.Order) string { return "attempt/" + string(orderID) }
func userKey(user id.User) string        { return "user/" + string(user) }

const unsettled = "unsettled"

// firstAttempt is committed before the request to Stripe. It counts as long as the order's document has no payment, and is
// never changed.
type firstAttempt struct {
	Schema int       `json:"schema"`
	Method string    `json:"method"` // the digest of the card
	At     time.Time `json:"at"`
}

// attemptLife is how long the store keeps it. An authorization that was never found lapses within a week.
const attemptLife = 8 * 24 * time.Hour

// store makes the decisions about payments. It keeps orders with their payments, and brings them in line with Stripe.
//
// A request to Stripe is sent after the order's document was read, and its outcome is committed on the condition that the
// document has not changed. So a commit never replaces something newer, and a simultaneous cancellation of the order is a
// conflict: then the decision is made again.
type store struct {
	documents *state.Store
	stripe    *stripe.Client
	clock     clock.Clock
	log       *slog.Logger
	limits    domain.Limits
	metrics   *metrics
	queue     *queue
	cache     *cache
	// deliveries bounds how long deliveries of events wait for Stripe.
	deliveries deliveryBudget
	// usersWithAttempts are users whose document exists.
	usersWithAttempts usersWithAttempts
	// refreshes bounds how often Stripe is asked for buyers.
	refreshes *refreshLimit
	// minAge is that of what is compared with Stripe; see minIntentAge.
	minAge time.Duration
}

func newStore(documents *state.Store, client *stripe.Client, limits domain.Limits, clock clock.Clock, log *slog.Logger) *store {
	s := &store{
		documents: documents, stripe: client, limits: limits, clock: clock, log: log, metrics: newMetrics(prometheus.NewRegistry()),
		cache: newCache(), usersWithAttempts: newUsersWithAttempts(), refreshes: newRefreshLimit(refreshInterval), minAge: minIntentAge,
	}
	s.queue = newQueue(s, log)
	return s
}

// storedOrder is an order with its payment, as it was read.
type storedOrder struct {
	order  state.Doc[domain.Order]
	legacy state.Doc[legacyPayment] // with an ETag if the payment still has a document of its own
}

// load reads an order with its payment. It returns domain.ErrNoOrder if there is no such order.
func (s *store) load(ctx context.Context, orderID id.Order) (storedOrder, error) {
	doc, err := state.Get[domain.Order](ctx, s.documents, orderKey(orderID))
	return s.withLegacy(ctx, doc, err)
}

// loadNew is load for a request of a client who may have made the order just now: it waits for the order's event. If that has
// not arrived, the error is domain.ErrNotYetKnown.
func (s *store) loadNew(ctx context.Context, orderID id.Order, buyer id.User) (storedOrder, error) {
	doc, err := state.GetProjection[domain.Order](ctx, s.documents, orderKey(orderID), orderID, buyer)
	stored, err := s.withLegacy(ctx, doc, err)
	if errors.Is(err, domain.ErrNoOrder) {
		err = domain.UnknownOrder(orderID, s.clock())
	}
	return stored, err
}

// withLegacy completes what was read of an order by a payment that has a document of its own.
func (s *store) withLegacy(ctx context.Context, order state.Doc[domain.Order], err error) (storedOrder, error) {
	stored := storedOrder{order: order}
	if errors.Is(err, state.ErrNotFound) {
		return stored, domain.ErrNoOrder
	}
	if err != nil {
		return stored, err
	}
	if payment := order.Value.PaymentID; payment != "" {
		stored.legacy, err = state.Get[legacyPayment](ctx, s.documents, legacyPaymentKey(payment))
		if err != nil {
			return stored, fmt.Errorf("payment %s of order %s: %w", payment, order.Value.ID, err)
		}
		if stored.legacy.Value.isMoved() { // since the order was read
			return s.load(ctx, order.Value.ID)
		}
		stored.order.Value.TakePayment(stored.legacy.Value.Payment)
	}
	s.cache.put(stored.order.Value)
	return stored, nil
}

// loadWithAttempt is load, with the first attempt if its outcome is not committed yet.
func (s *store) loadWithAttempt(ctx context.Context, orderID id.Order) (storedOrder, error) {
	stored, err := s.load(ctx, orderID)
	if err != nil {
		return stored, err
	}
	return stored, s.addAttempt(ctx, &stored)
}

// addAttempt adds the first attempt to an order without a payment, if there is one.
func (s *store) addAttempt(ctx context.Context, stored *storedOrder) error {
	order := &stored.order.Value
	if order.Payment != nil {
		return nil
	}
	attempt, err := state.Get[firstAttempt](ctx, s.documents, attemptKey(order.ID))
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	order.Begin(attempt.Value.Method, attempt.Value.At)
	return nil
}

// commit commits the order with the change, on the condition that it has not changed since it was read.
func (s *store) commit(ctx context.Context, stored *storedOrder, change *state.Change) error {
	order := &stored.order.Value
	if err := s.recordDeclines(ctx, change, order); err != nil {
		return err
	}
	change.Put(stored.order.Key, stored.order.ETag, order)
	if stored.legacy.ETag != "" {
		change.Update(stored.legacy.Key, stored.legacy.ETag, movedPayment{Schema: 2, ID: order.Payment.ID, OrderID: order.ID})
	}
	if err := s.documents.Commit(ctx, change); err != nil {
		return err
	}
	s.cache.put(*order)
	if p := order.Payment; p != nil && p.Exhausted && order.IsDue() {
		s.queue.add(order.ID, 0)
	}
	return nil
}

// settlement is the result of settling an order's payment, before it is committed.
type settlement struct {
	intent  domain.Intent // as Stripe has answered last; zero if it was not asked
	changed bool          // whether there is anything to commit
	last    domain.Step   // the last step; with an error, the one that has failed
	// delayed is why authorized money could not be captured yet. All else is done.
	delayed error
	// attempted means that Stripe has answered to the attempt, with this outcome.
	attempted bool
	outcome   domain.Intent
}

// settle brings an order's payment to the state that the order asks for: it does the next step at Stripe, applies the result,
// and adds events to the change, until nothing is left to do. The caller has read the order and commits it. card is that of
// the attempt, if the cause is one.
func (s *store) settle(ctx context.Context, order *domain.Order, cause domain.Cause, card domain.Method, change *state.Change) (settlement, error) {
	var result settlement
	for n := 0; ; n++ {
		step := order.Next(cause, n > 0)
		if step == domain.Nothing {
			return result, nil
		}
		result.last = step
		if n == domain.MaxSteps {
			return result, fmt.Errorf("payment %s is %s, its order is %s, and Stripe does not change that", order.Payment.ID, order.Payment.Status, order.Status)
		}
		intent, err := s.do(ctx, step, order, cause, card)
		if step == domain.Capture && problem.KindOf(err) == problem.Unavailable {
			result.delayed = captureDelayed{err}
			return result, nil
		}
		if err != nil {
			return result, err
		}
		result.intent = intent
		switch step {
		case domain.Authorize, domain.Confirm:
			result.attempted, result.outcome = true, intent
		case domain.FindIntent:
			result.changed = order.Payment.ConcludeFound(intent) || result.changed
		}
		event, changed := order.Observe(intent, s.clock())
		if event != nil {
			change.Emit(ctx, event)
		}
		result.changed = result.changed || changed
	}
}

// do does one step at Stripe.
func (s *store) do(ctx context.Context, step domain.Step, order *domain.Order, cause domain.Cause, card domain.Method) (domain.Intent, error) {
	p := order.Payment
	switch step {
	case domain.Authorize:
		return s.stripe.Authorize(ctx, order, p.Attempt, card)
	case domain.Confirm:
		defer s.refreshes.forget(p.StripeID)
		return s.stripe.Confirm(ctx, p, p.Attempt.Number, card)
	case domain.FindIntent:
		return s.stripe.Find(ctx, order, p.Attempt)
	case domain.GetIntent:
		if cause.Refresh == domain.RefreshForBuyer {
			return s.refreshes.get(ctx, s.stripe, p.StripeID)
		}
		return s.stripe.Get(ctx, p.StripeID)
	case domain.Capture:
		return s.stripe.Capture(ctx, p)
	case domain.Void:
		return s.stripe.Void(ctx, p)
	case domain.Refund:
		return s.stripe.Refund(ctx, p)
	}
	return domain.Intent{}, fmt.Errorf("no such step: %s", step)
}

// captureDelayed means that authorized money could not be captured yet. It is captured later.
type captureDelayed struct{ error }

func (d captureDelayed) Unwrap() error { return d.error }

func isDelayed(err error) bool {
	_, is := errors.AsType[captureDelayed](err)
	return is
}

// settleOrder reads an order, settles its payment, and commits the result. It may be called at any time and any number of
// times. It returns the order as it is then, and what Stripe has answered last, if it was asked. The error is a captureDelayed
// if only the capture is left.
func (s *store) settleOrder(ctx context.Context, orderID id.Order, cause domain.Cause) (order domain.Order, intent domain.Intent, err error) {
	defer s.cache.begin(orderID)()
	err = state.Retry(ctx, func(ctx context.Context) error {
		stored, err := s.loadWithAttempt(ctx, orderID)
		order, intent = stored.order.Value, domain.Intent{}
		if err != nil || order.Payment == nil {
			return err
		}
		wasSettled, before := order.Settled(), *order.Payment
		var change state.Change
		result, err := s.settle(ctx, &stored.order.Value, cause, domain.Method{}, &change)
		if err != nil {
			return err
		}
		order, intent = stored.order.Value, result.intent
		if wasSettled && !order.Settled() {
			change.Append(unsettled, string(order.ID))
		}
		if result.changed {
			if err := s.commit(ctx, &stored, &change); err != nil {
				return err
			}
			s.reportReversals(before, order)
		}
		return result.delayed
	})
	return order, intent, err
}

// reportReversals counts and logs changes of refunds and disputes, for operators.
func (s *store) reportReversals(before domain.Payment, order domain.Order) {
	p := *order.Payment
	s.metrics.countReversals(before, p)
	if p.RefundFailed && !before.RefundFailed {
		s.log.Error("a refund has failed: the money is at Stripe again and is not refunded again; an operator must find another way", "orderId", p.OrderID, "stripeId", p.StripeID)
	}
	if p.Dispute.Status != before.Dispute.Status {
		s.log.Warn("a payment is disputed", "orderId", p.OrderID, "stripeId", p.StripeID, "dispute", p.Dispute.ID, "status", p.Dispute.Status, "reason", p.Dispute.Reason)
	}
}

// Payment reads a payment for its buyer. While it is open, the intent is read from Stripe every few seconds, so that the buyer
// sees the bank's decision also if no webhook comes. If Stripe cannot be reached, the stored state is shown.
func (s *store) Payment(ctx context.Context, paymentID id.Payment, buyer id.User) (Receipt, error) {
	stored, err := s.load(ctx, id.Order(paymentID)) // a payment has its order's id
	if p := stored.order.Value.Payment; errors.Is(err, domain.ErrNoOrder) || err == nil && (p == nil || p.ID != paymentID) {
		stored, err = s.loadLegacy(ctx, paymentID)
	}
	if err != nil {
		return Receipt{}, err
	}
	payment, err := stored.order.Value.PaymentFor(buyer)
	if err != nil {
		return Receipt{}, err
	}
	return s.refreshIfOpen(ctx, payment)
}

// PaymentOf reads the payment of an order for its buyer, as Payment does. found is false if the order has none.
func (s *store) PaymentOf(ctx context.Context, orderID id.Order, buyer id.User) (receipt Receipt, found bool, err error) {
	stored, err := s.loadNew(ctx, orderID, buyer)
	if err != nil {
		return Receipt{}, false, err
	}
	order := &stored.order.Value
	if err := order.CheckBuyer(buyer); err != nil {
		return Receipt{}, false, err
	}
	payment, err := order.PaymentFor(buyer)
	if errors.Is(err, domain.ErrNoPayment) {
		return Receipt{}, false, nil
	}
	if err == nil {
		receipt, err = s.refreshIfOpen(ctx, payment)
	}
	return receipt, err == nil, err
}

func (s *store) refreshIfOpen(ctx context.Context, payment domain.Payment) (Receipt, error) {
	if !payment.Status.Open() {
		return Receipt{Payment: payment}, nil
	}
	order, intent, err := s.settleOrder(ctx, payment.OrderID, domain.Cause{Refresh: domain.RefreshForBuyer})
	switch {
	case err == nil:
		return Receipt{Payment: *order.Payment, Intent: intent}, nil
	case problem.KindOf(err) == problem.Unavailable:
		return Receipt{Payment: payment}, nil
	}
	return Receipt{}, err
}

// HandleNotice settles the payment of an intent that a webhook is about, if need be. Most webhooks report what this service
// has done itself: nothing is done if the payment reflects the report, and if another request or process is about to commit
// it, the queue checks that later. For any other webhook the intent is read from Stripe, so late and repeated webhooks do no
// harm. known is false for an intent that is not this service's.
func (s *store) HandleNotice(ctx context.Context, notice stripe.Notice) (known bool, err error) {
	orderID, err := s.orderOf(ctx, notice)
	if orderID == "" || err != nil {
		return false, err
	}
	order, cached := s.cache.get(orderID)
	if !cached || !order.MayHaveIntent(notice.Intent) {
		stored, err := s.loadWithAttempt(ctx, orderID)
		if errors.Is(err, domain.ErrNoOrder) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		order = stored.order.Value
	}
	switch {
	case !order.MayHaveIntent(notice.Intent):
		if notice.Intent.Status.HoldsMoney() {
			return true, s.handleForeignIntent(ctx, notice.Intent.ID, &order)
		}
		return true, nil
	case order.Payment.Reflects(notice.Intent):
		return true, nil
	case s.cache.isBusy(orderID), order.IsInProgress(notice.Intent, s.clock()):
		s.queue.addReport(orderID, notice.Intent)
		return true, nil
	}
	_, _, err = s.settleOrder(ctx, orderID, domain.Cause{Reported: notice.Intent})
	return true, err
}

// handleForeignIntent handles an intent that names the order and is not its payment's. The intent is ended; but if the order has no
// payment and the intent is this service's own, a backup was restored, and the intent becomes the payment's. Only Stripe's own
// metadata counts: a webhook that was signed with a stolen secret may name any order.
func (s *store) handleForeignIntent(ctx context.Context, stripeID string, order *domain.Order) error {
	listed, err := s.stripe.Lookup(ctx, stripeID)
	if err != nil || listed.OrderID != order.ID {
		return err
	}
	if order.Payment == nil && listed.Origin == s.stripe.Origin {
		_, err = s.recoverPayment(ctx, listed)
		return err
	}
	return s.stripe.EndIntent(ctx, stripeID)
}

// orderOf is the order of a notice's intent; "" if it has none. Intents of earlier releases have a document, and their charges
// may have no metadata.
func (s *store) orderOf(ctx context.Context, notice stripe.Notice) (id.Order, error) {
	if notice.OrderID != "" {
		return notice.OrderID, nil
	}
	intent, err := state.Get[legacyIntent](ctx, s.documents, legacyIntentKey(notice.Intent.ID))
	switch {
	case errors.Is(err, state.ErrNotFound) && notice.NoMetadata:
		listed, err := s.stripe.Lookup(ctx, notice.Intent.ID)
		return listed.OrderID, err
	case errors.Is(err, state.ErrNotFound):
		return "", nil
	}
	return intent.Value.OrderID, err
}

// ApplyOrder applies an event of the orders service. If the order has ended, its payment is settled in the same commit; or by
// the queue, if Stripe does not answer soon.
func (s *store) ApplyOrder(ctx context.Context, event events.Order) error {
	if cached, _ := s.cache.get(event.ID); cached.Version >= event.Version {
		return nil
	}
	if event.Version == 1 { // the order is new, unless this is a redelivery
		err := s.createOrder(ctx, event)
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	defer s.cache.begin(event.ID)()
	settleIn := never
	err := state.Retry(ctx, func(ctx context.Context) (err error) {
		settleIn, err = s.applyToStored(ctx, event)
		return err
	})
	if err != nil {
		return fmt.Errorf("apply an event of order %s: %w", event.ID, err)
	}
	if settleIn != never {
		s.queue.add(event.ID, settleIn)
	}
	return nil
}

// createOrder commits a new order.
func (s *store) createOrder(ctx context.Context, event events.Order) error {
	var order domain.Order
	order.Apply(event)
	var change state.Change
	change.Create(orderKey(order.ID), order)
	if err := s.documents.Commit(ctx, &change); err != nil {
		return err
	}
	s.cache.put(order)
	return nil
}

// never means that the queue has nothing to do.
const never = time.Duration(-1)

// applyToStored is one try of ApplyOrder. settleIn is after which time the queue must settle the payment.
func (s *store) applyToStored(ctx context.Context, event events.Order) (settleIn time.Duration, err error) {
	stored, err := s.load(ctx, event.ID)
	if err != nil && !errors.Is(err, domain.ErrNoOrder) {
		return never, err
	}
	order := &stored.order.Value
	wasSettled := order.Settled()
	if !order.Apply(event) {
		return never, nil
	}
	before := order.Copy().Payment
	var change state.Change
	settleIn = never
	switch p := order.Payment; {
	case p == nil:
	case p.OutcomeUnknown(), order.IsDue() && !s.deliveries.available():
		settleIn = 0
	case order.IsDue():
		limited, done := s.deliveries.start(ctx)
		result, err := s.settle(limited, order, domain.Cause{}, domain.Method{}, &change)
		done()
		if err != nil || result.delayed != nil { // an error at Stripe does not prevent the commit of the order's new state
			settleIn = firstRetry
		}
	}
	if wasSettled && !order.Settled() {
		change.Append(unsettled, string(order.ID))
	}
	err = s.commit(ctx, &stored, &change)
	if err == nil && before != nil {
		s.reportReversals(*before, *order)
	}
	return settleIn, err
}
