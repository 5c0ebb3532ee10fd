package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	order/{id}         Order: the replica of an order and its payment; its ETag is the lock of both
//	attempt/{orderId}  firstAttempt: the first attempt to pay an order, until the order's document holds it
//	user/{id}          userAttempts: the attempts of a user in the last hour; see limits.go
//	index/unsettled    orders whose payment has begun, and again when one that was settled is not any more; see sweep
//	sweep/unsettled    watermark: how far that index is worked off
//	origin             originRecord: tells the intents of this service from those of others at the same Stripe account
//
// and those of releases up to schema 1 of an order:
//
//	payment/{id}       legacyPayment: a payment; or, once that is part of its order's document, where to find it
//	intent/{stripeId}  intentRecord: which order a PaymentIntent is for; an intent's metadata says so, too
//
// The first attempt has a document of its own so that a purchase reads once: to write it down leaves the order's
// document, and its ETag, as they were read.
func orderKey(id string) string        { return "order/" + id }
func attemptKey(orderID string) string { return "attempt/" + orderID }
func paymentKey(id string) string      { return "payment/" + id }
func intentKey(stripeID string) string { return "intent/" + stripeID }

const unsettled = "unsettled"

// firstAttempt is written before Stripe is asked. It counts for as long as the order's document has no payment, so it
// is never changed.
type firstAttempt struct {
	Schema int       `json:"schema"`
	Method string    `json:"method"` // the digest of the card
	At     time.Time `json:"at"`
}

// attemptLife is how long the store keeps it. What an attempt has authorized, if nobody ever resolved it, lapses within
// a week.
const attemptLife = 8 * 24 * time.Hour

type intentRecord struct {
	Schema  int    `json:"schema"`
	OrderID string `json:"orderId"`
}

// legacyPayment is a payment that had a document of its own. In schema 2 only OrderID is left of it.
type legacyPayment struct {
	Schema  int    `json:"schema"`
	OrderID string `json:"orderId"`
	Payment
}

// Newest implements state.Upgrader.
func (*legacyPayment) Newest() int { return 2 }

// Upgrade implements state.Upgrader.
func (*legacyPayment) Upgrade(int) error { return nil }

func (p *legacyPayment) moved() bool { return p.Schema > 1 }

// movedPayment is a legacyPayment that is part of its order's document now.
type movedPayment struct {
	Schema  int    `json:"schema"`
	ID      string `json:"id"`
	OrderID string `json:"orderId"`
}

// store takes the buyers' money: it keeps orders and payments, and brings Stripe's word and the orders' state
// together.
//
// Whatever Stripe is asked for a payment is asked after the order's document was read, and the outcome is written on
// the condition that it is unchanged. So what is written is never older than what it replaces, and an order that was
// cancelled meanwhile shows as a conflict: then everything is refreshed at again.
type store struct {
	documents         *state.Store
	stripe            *stripeClient
	queue             *queue
	cache             *cache
	budget            budget
	limits            limits
	usersWithAttempts usersWithAttempts
	refreshes         refreshes
	metrics           *metrics
	log               *slog.Logger
	minAge            time.Duration // see minIntentAge; tests shorten it
}

func newStore(documents *state.Store, stripe *stripeClient, log *slog.Logger) *store {
	t := &store{documents: documents, stripe: stripe, cache: newCache(), log: log, metrics: newMetrics(prometheus.NewRegistry()), minAge: minIntentAge, refreshes: refreshes{every: refreshInterval}}
	t.queue = newQueue(t, log)
	return t
}

// account is an order with its payment, as it was read.
type account struct {
	order  state.Doc[Order]
	legacy state.Doc[legacyPayment] // with an ETag if the payment is still in a document of its own
}

// load reads an order with its payment, and remembers it. It returns errNoOrder if the order is not known.
func (t *store) load(ctx context.Context, orderID string) (account, error) {
	order, err := state.Get[Order](ctx, t.documents, orderKey(orderID))
	return t.loaded(ctx, order, err)
}

// loadNew is load for an order that may be so new that its event is still on the way.
func (t *store) loadNew(ctx context.Context, orderID, buyer string) (account, error) {
	order, err := state.GetProjection[Order](ctx, t.documents, orderKey(orderID), orderID, id.User(buyer))
	return t.loaded(ctx, order, err)
}

func (t *store) loaded(ctx context.Context, order state.Doc[Order], err error) (account, error) {
	a := account{order: order}
	if errors.Is(err, state.ErrNotFound) {
		return a, errNoOrder
	}
	if err != nil {
		return a, err
	}
	if id := a.order.Value.PaymentID; id != "" {
		a.legacy, err = state.Get[legacyPayment](ctx, t.documents, paymentKey(id))
		if err != nil {
			return a, fmt.Errorf("payment %s of order %s: %w", id, order.Value.ID, err)
		}
		if a.legacy.Value.moved() { // a moment ago
			return t.load(ctx, order.Value.ID)
		}
		a.carryOver()
	}
	t.cache.put(a.order.Value)
	return a, nil
}

// carryOver makes the payment of a document of its own part of its order; write does so on disk.
func (a *account) carryOver() {
	order := &a.order.Value
	payment := a.legacy.Value.Payment
	order.Payment, order.PaymentID = &payment, ""
	order.share()
}

// loadWithAttempt is load for who must know of a first attempt whose outcome is not written down yet.
func (t *store) loadWithAttempt(ctx context.Context, orderID string) (account, error) {
	a, err := t.load(ctx, orderID)
	if err != nil {
		return a, err
	}
	return a, t.addAttempt(ctx, &a)
}

// addAttempt adds to an order without a payment the first attempt, if one was written down.
func (t *store) addAttempt(ctx context.Context, a *account) error {
	if a.order.Value.Payment != nil {
		return nil
	}
	attempt, err := state.Get[firstAttempt](ctx, t.documents, attemptKey(a.order.Value.ID))
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	a.order.Value.Begin(attempt.Value.Method, attempt.Value.At)
	return nil
}

// commit writes the account with the change, on the condition that it is as it was read.
func (t *store) commit(ctx context.Context, a *account, change *state.Change) error {
	order := &a.order.Value
	if err := t.record(ctx, change, order); err != nil {
		return err
	}
	if a.order.ETag == "" {
		change.Create(a.order.Key, order)
	} else {
		change.Update(a.order.Key, a.order.ETag, order)
	}
	if a.legacy.ETag != "" {
		change.Update(a.legacy.Key, a.legacy.ETag, movedPayment{Schema: 2, ID: order.Payment.ID, OrderID: order.ID})
	}
	if err := t.documents.Commit(ctx, change); err != nil {
		return err
	}
	t.cache.put(*order)
	if p := order.Payment; p != nil && p.Exhausted && order.Due(p.Status) == Void {
		t.queue.add(order.ID, 0)
	}
	return nil
}

// look is how settle learns what Stripe says of a payment whose intent is known. An Intent without a status says that
// Stripe was not asked.
type look func(ctx context.Context, o *Order) (Intent, error)

// always asks Stripe, unless nothing can change any more.
func (t *store) always(ctx context.Context, o *Order) (Intent, error) {
	if o.Payment.Status == Voided || o.Payment.StripeID == "" {
		return Intent{}, nil
	}
	return t.stripe.Get(ctx, o.Payment.StripeID)
}

// asAsked asks Stripe for a buyer who wants to know: once in a while, however often the buyer does. In between the result is
// the client secret alone.
func (t *store) asAsked(ctx context.Context, o *Order) (Intent, error) {
	if o.Payment.Status == Voided || o.Payment.StripeID == "" {
		return Intent{}, nil
	}
	return t.refreshes.get(ctx, t.stripe, o.Payment.StripeID)
}

// asNeeded asks Stripe only if the outcome of an attempt is open and the order does not say what is to be done anyway.
func (t *store) asNeeded(ctx context.Context, o *Order) (Intent, error) {
	p := o.Payment
	if o.Due(p.Status) != Nothing || !p.Status.open() || p.idle() {
		return Intent{}, nil
	}
	return t.always(ctx, o)
}

// asLongSilent asks Stripe about a payment of which nothing was heard for long, unless the order says what is to be
// done anyway.
func (t *store) asLongSilent(ctx context.Context, o *Order) (Intent, error) {
	if o.Due(o.Payment.Status) != Nothing {
		return Intent{}, nil
	}
	return t.always(ctx, o)
}

// unlessKnown asks Stripe if the payment does not know what a webhook reported of its intent.
func (t *store) unlessKnown(reported Intent, otherwise look) look {
	return func(ctx context.Context, o *Order) (Intent, error) {
		if o.Payment.Knows(reported) {
			return otherwise(ctx, o)
		}
		return t.always(ctx, o)
	}
}

func notAtAll(context.Context, *Order) (Intent, error) { return Intent{}, nil }

// notTaken is why money that is authorized could not be taken yet. All else was done and written down.
type notTaken struct{ error }

func (n notTaken) Unwrap() error { return n.error }

func isLate(err error) bool {
	_, is := errors.AsType[notTaken](err)
	return is
}

// settle brings an order's payment to where it should be: it takes what Stripe says, does what the order's state
// asks for, and writes the outcome down with its events. It may be called at any time and any number of times;
// an order without a payment is settled. It returns the order as it is then and what Stripe said, if it was asked; and
// a notTaken if the money must be taken later.
func (t *store) settle(ctx context.Context, orderID string, look look) (order Order, reported Intent, err error) {
	defer t.cache.work(orderID)()
	err = state.Retry(ctx, func(ctx context.Context) error {
		a, err := t.loadWithAttempt(ctx, orderID)
		order, reported = a.order.Value, Intent{}
		if err != nil || order.Payment == nil {
			return err
		}
		changed, settled, before := false, order.Settled(), *order.Payment
		if order.Payment.unresolved() {
			reported, changed, err = t.resolve(ctx, &a)
		} else {
			reported, err = look(ctx, &a.order.Value)
		}
		if err != nil {
			return err
		}
		var change state.Change
		more, failed := t.follow(ctx, &a.order.Value, &reported, &change)
		if failed != nil && !isLate(failed) {
			return failed
		}
		order = a.order.Value
		if settled && !order.Settled() {
			change.Append(unsettled, order.ID)
		}
		if changed || more {
			if err := t.commit(ctx, &a, &change); err != nil {
				return err
			}
			t.reversed(before, order)
		}
		return failed
	})
	return order, reported, err
}

// reversed counts, and says to operators, what has become known of refunds and disputes.
func (t *store) reversed(before Payment, order Order) {
	p := *order.Payment
	t.metrics.reversed(before, p)
	if p.RefundFailed && !before.RefundFailed {
		t.log.Error("a refund has failed; the money is at Stripe again, and nothing tries it again: somebody must find another way", "orderId", p.OrderID, "stripeId", p.StripeID)
	}
	if p.Dispute.Status != before.Dispute.Status {
		t.log.Warn("a payment is disputed", "orderId", p.OrderID, "stripeId", p.StripeID, "dispute", p.Dispute.ID, "status", p.Dispute.Status, "reason", p.Dispute.Reason)
	}
}

// resolve finds the intent of an attempt whose outcome was never written down. If that has come to nothing, or was
// declined, the buyer has to make another.
func (t *store) resolve(ctx context.Context, a *account) (reported Intent, changed bool, err error) {
	p := a.order.Value.Payment
	reported, err = t.stripe.Find(ctx, &a.order.Value, p.Attempt)
	if err != nil {
		return Intent{}, false, err
	}
	if reported.Status == Pending || reported.Status == Failed || reported.ID == "" {
		changed = p.Conclude(p.Attempt.Number, reported.Status == Failed)
	}
	return reported, changed, nil
}

// mostActions bounds what one call of follow does: at most "it was not authorized but captured, so refund it".
const mostActions = 3

// follow takes what Stripe said of an order's payment, if anything, and does what the order asks for. Its events are added to the
// change, reported becomes what Stripe said last, and changed says whether there is anything to write. It returns a notTaken
// if money that is due cannot be taken now; all else is done then.
func (t *store) follow(ctx context.Context, order *Order, reported *Intent, change *state.Change) (changed bool, err error) {
	payment := order.Payment
	if payment.unresolved() && reported.ID == "" {
		return false, nil
	}
	if reported.Status == Authorized && order.Due(payment.Status) == Void { // nobody needs to know of what is given up at once
		*reported = Intent{ID: reported.ID}
	}
	for n := 0; ; n++ {
		event, more := payment.Observe(*reported, now())
		if event != nil {
			change.Emit(ctx, event)
		}
		changed = changed || more
		due := order.Due(payment.Status)
		if due == Nothing {
			return changed, nil
		}
		if n == mostActions {
			return changed, fmt.Errorf("payment %s is %s, its order is %s, and Stripe does not change that", payment.ID, payment.Status, order.Status)
		}
		outcome, err := t.do(ctx, due, payment)
		if due == Capture && problem.KindOf(err) == problem.Unavailable {
			return changed, notTaken{err}
		}
		if err != nil {
			return changed, err
		}
		*reported = outcome
	}
}

func (t *store) do(ctx context.Context, action Action, p *Payment) (Intent, error) {
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

// Receipt is what became of a wish to pay. Intent is as Stripe reported it, if it was asked. Fresh says that the
// payment is as it is by this very wish.
type Receipt struct {
	Payment Payment
	Intent  Intent
	Fresh   bool
}

// keepResponse adds the answer to a request to the change that it tells of. again says that the change has conflicted
// before: a copy of the request may have been faster.
type keepResponse func(ctx context.Context, change *state.Change, receipt Receipt, again bool) error

// Pay authorizes the order's amount on the buyer's card. It returns a problem.Declined if the bank refuses; the
// order stays live then, and Pay may be called again. keep is called if the payment is paid or waits for the
// buyer's bank, for it may have been called for before.
func (t *store) Pay(ctx context.Context, orderID, buyer string, method Method, keep keepResponse) (Receipt, error) {
	w := &payCommand{store: t, orderID: orderID, buyer: buyer, method: method, keep: keep}
	defer t.cache.work(orderID)()
	err := state.Retry(ctx, w.grant)
	if err == nil || isLate(err) || w.attempt.Number > 0 {
		t.arrange(w, err)
	}
	if err != nil && !isLate(err) {
		return Receipt{}, err
	}
	return w.receipt, w.receipt.refusal(method)
}

// arrange has the queue look at the payment again, if need be.
func (t *store) arrange(w *payCommand, err error) {
	switch status := w.receipt.Payment.Status; {
	case isLate(err): // The buyer has paid, and need not wait until the money is taken.
		t.queue.add(w.orderID, firstRetry)
	case err != nil && !w.concluded, err == nil && (status == RequiresAction || status == Pending):
		t.queue.add(w.orderID, firstRefresh)
	}
}

// wish is a buyer's request to pay an order with a card, on its way through several tries.
type payCommand struct {
	store   *store
	orderID string
	buyer   string
	method  Method
	keep    keepResponse

	user state.Doc[userAttempts] // what the buyer has attempted, read with the order

	again     bool    // this is not the first try
	beaten    bool    // the order had a first attempt already
	attempt   Attempt // the one that is made for the wish; Number is 0 if none is
	asked     bool    // Stripe has answered to it
	reported  Intent  // what it answered
	fresh     bool    // the attempt was begun, or concluded, for this wish
	concluded bool    // and its outcome is written down
	receipt   Receipt
}

// grant tries to do what the buyer wishes. It returns state.ErrConflict if it must be tried again.
func (w *payCommand) grant(ctx context.Context) error {
	again := w.again
	w.again = true
	a, err := w.load(ctx)
	if err != nil {
		return err
	}
	order := &a.order.Value
	if order.UserID != w.buyer {
		return errNotYours
	}
	if w.attempt.Number == 0 {
		if err := w.begin(ctx, &a); err != nil {
			return err
		}
	}
	reported, err := w.ask(ctx, &a)
	if err != nil {
		return err
	}
	var change state.Change
	changed, failed := w.store.follow(ctx, order, &reported, &change)
	if failed != nil && !isLate(failed) {
		return failed
	}
	concluded := w.attempt.Number > 0 && order.Payment.Conclude(w.attempt.Number, w.reported.Status == Failed)
	w.receipt = Receipt{Payment: *order.Payment, Intent: reported, Fresh: w.fresh || concluded}
	if w.receipt.refusal(w.method) == nil {
		if err := w.keep(ctx, &change, w.receipt, again); err != nil {
			return err
		}
	}
	if changed || concluded {
		err = w.store.commit(ctx, &a, &change)
	} else {
		err = w.store.documents.Commit(ctx, &change)
	}
	if err != nil {
		return err
	}
	w.fresh, w.concluded = w.receipt.Fresh, true
	return failed
}

// load reads the order, which may be so new that its event is still on the way.
func (w *payCommand) load(ctx context.Context) (account, error) {
	w.user = state.Doc[userAttempts]{}
	switch {
	case w.attempt.Number > 0:
		return w.store.loadWithAttempt(ctx, w.orderID)
	case w.store.limits.perHour > 0 && w.store.usersWithAttempts.has(w.buyer, now()):
		order, user, err := state.GetBoth[Order, userAttempts](ctx, w.store.documents, orderKey(w.orderID), userKey(w.buyer))
		if err != nil {
			return account{}, err
		}
		w.user = user
		if order.ETag != "" {
			a, err := w.store.loaded(ctx, order, nil)
			if err == nil && w.beaten {
				err = w.store.addAttempt(ctx, &a)
			}
			return a, err
		}
	case w.beaten:
		return w.store.loadWithAttempt(ctx, w.orderID)
	}
	return w.store.loadNew(ctx, w.orderID, w.buyer)
}

// begin writes down the attempt that is to be made, if one is.
func (w *payCommand) begin(ctx context.Context, a *account) error {
	order := &a.order.Value
	payment := order.Payment
	if payment != nil && payment.Exhausted && (payment.Status.open() || payment.Status == Voided) {
		w.store.metrics.refused.WithLabelValues("order").Inc()
		return errOrderAttempts
	}
	if payment != nil && payment.Status.ended() {
		return errCancelled
	}
	if payment == nil || payment.Status.open() {
		if err := order.Payable(now()); err != nil {
			return err
		}
	}
	var change state.Change
	if payment == nil {
		at := now()
		if err := w.store.admit(ctx, &change, w.user, order, 0); err != nil {
			return err
		}
		change.CreateFor(attemptKey(order.ID), firstAttempt{Schema: 1, Method: w.method.digest(), At: at}, attemptLife)
		change.Append(unsettled, order.ID)
		w.beaten = true // if this conflicts
		if err := w.store.documents.Commit(ctx, &change); err != nil {
			return err
		}
		w.attempt, w.fresh = order.Begin(w.method.digest(), at).Attempt, true
		w.store.cache.put(*order)
		return nil
	}
	before, inHour := payment.Declines, payment.inHour()
	switch payment.Try(w.method.digest(), now()) {
	case ResumeAttempt:
		w.attempt = payment.Attempt
	case ResolveFirst:
		if err := w.resolve(ctx, a); err != nil {
			return err
		}
		return state.ErrConflict // with this one; now that its outcome is known, look again
	case NewAttempt:
		if most := w.store.limits.perOrder; most > 0 && before >= most {
			w.store.metrics.refused.WithLabelValues("order").Inc()
			return errOrderAttempts
		}
		if err := w.store.admit(ctx, &change, w.user, order, inHour); err != nil {
			return err
		}
		if err := w.store.commit(ctx, a, &change); err != nil {
			return err
		}
		w.attempt, w.fresh = payment.Attempt, true
		read, err := w.store.load(ctx, w.orderID)
		*a = read
		return err
	}
	return nil
}

// resolve writes down what became of an attempt whose outcome was not known.
func (w *payCommand) resolve(ctx context.Context, a *account) error {
	reported, _, err := w.store.resolve(ctx, a)
	if err != nil {
		return err
	}
	var change state.Change
	if _, failed := w.store.follow(ctx, &a.order.Value, &reported, &change); failed != nil && !isLate(failed) {
		return failed
	}
	return w.store.commit(ctx, a, &change)
}

// ask learns what Stripe says of the payment; it makes the attempt, if one is to be made and was not.
func (w *payCommand) ask(ctx context.Context, a *account) (reported Intent, err error) {
	t, order := w.store, &a.order.Value
	payment := order.Payment
	mine := w.attempt.Number > 0 && payment.Attempt.Number == w.attempt.Number && payment.Attempt.Open
	switch {
	case w.asked:
		if payment.StripeID == "" {
			payment.StripeID = w.reported.ID
		}
		if payment.StripeID != w.reported.ID {
			if err := t.stripe.Release(ctx, w.reported.ID); err != nil {
				return Intent{}, err
			}
		}
		return t.always(ctx, order)
	case w.attempt.Number == 0 && payment.Status == RequiresAction:
		return t.asAsked(ctx, order)
	case !mine, !payment.Status.open():
		return Intent{}, nil // paid already, or by another attempt meanwhile
	case order.Status != OrderCreated: // not live any more: it ends without an attempt
		if payment.unresolved() {
			reported, _, err = t.resolve(ctx, a)
		}
		return reported, err
	case payment.StripeID == "":
		reported, err = t.stripe.Authorize(ctx, order, payment.Attempt, w.method)
	default:
		reported, err = t.stripe.Confirm(ctx, payment, w.attempt.Number, w.method)
	}
	switch {
	case err == nil:
		w.asked, w.reported = true, reported
	case errors.Is(err, errKeyTaken):
		w.attempt = Attempt{}
		if err := w.resolve(ctx, a); err != nil {
			return Intent{}, err
		}
		return Intent{}, state.ErrConflict
	case problem.KindOf(err) == problem.Invalid, problem.KindOf(err) == problem.Declined:
		w.refused(ctx, a, problem.KindOf(err) == problem.Declined)
	}
	return reported, err
}

// refused writes down that Stripe would not make the attempt at all, so that nobody refreshes for its outcome. It is of no
// harm if this fails.
func (w *payCommand) refused(ctx context.Context, a *account, declined bool) {
	var change state.Change
	payment := a.order.Value.Payment
	if payment.Conclude(w.attempt.Number, declined) && !declined {
		payment.Fruitless++
	}
	w.concluded = w.store.commit(ctx, a, &change) == nil
}

// refusal is why the wish to pay was not granted, or nil.
func (r Receipt) refusal(method Method) error {
	switch r.Payment.Status {
	case Authorized, Captured, RequiresAction:
		return nil
	case Voided, Refunded:
		if r.Payment.Exhausted {
			return errOrderAttempts
		}
		return errCancelled
	case Failed:
		code := r.Payment.DeclineCode
		return declinedCard(code, r.Intent.DeclineMessage).WithField(method.field()).
			Because(fmt.Errorf("order %s: the bank's code is %s", r.Payment.OrderID, code))
	}
	return unreachable(fmt.Errorf("payment intent %s is still being processed", r.Payment.StripeID))
}

// declinedCard tells a buyer that the bank has refused, in Stripe's words unless they are not for the buyer.
func declinedCard(code, message string) *problem.Error {
	shown := shownDecline(code)
	if message == "" || shown != code {
		message = "Your card was declined."
	}
	return problem.New(problem.Declined, "%s", message).WithCode(shown)
}

// Payment reads a payment of the buyer's. While it is open, Stripe is asked every few seconds how it stands, so that a
// buyer who refreshes again sees what the bank said even if no webhook comes; if Stripe cannot be asked, what is known is
// shown.
func (t *store) Payment(ctx context.Context, id, buyer string) (Receipt, error) {
	a, err := t.load(ctx, id)
	if errors.Is(err, errNoOrder) || err == nil && (a.order.Value.Payment == nil || a.order.Value.Payment.ID != id) {
		a, err = t.legacyPayment(ctx, id)
	}
	if err != nil {
		return Receipt{}, err
	}
	order := a.order.Value
	if order.Payment.StripeID == "" { // nobody was reported of it
		return Receipt{}, errNoPayment
	}
	if order.UserID != buyer {
		return Receipt{}, errNotYourPayment
	}
	receipt := Receipt{Payment: *order.Payment}
	if !order.Payment.Status.open() {
		return receipt, nil
	}
	order, reported, err := t.settle(ctx, order.ID, t.asAsked)
	if err != nil && problem.KindOf(err) != problem.Unavailable {
		return Receipt{}, err
	}
	if err == nil {
		receipt = Receipt{Payment: *order.Payment, Intent: reported}
	}
	return receipt, nil
}

// legacyPayment finds the order of a payment that has an id of its own.
func (t *store) legacyPayment(ctx context.Context, id string) (account, error) {
	doc, err := state.Get[legacyPayment](ctx, t.documents, paymentKey(id))
	if errors.Is(err, state.ErrNotFound) {
		return account{}, errNoPayment
	}
	if err != nil {
		return account{}, err
	}
	a, err := t.load(ctx, doc.Value.OrderID)
	if errors.Is(err, errNoOrder) || err == nil && a.order.Value.Payment == nil {
		return a, errNoPayment
	}
	return a, err
}

// notice is what a webhook tells of: an intent as it was when the webhook was made, and whose it is.
type notice struct {
	intent  Intent
	orderID string // by its metadata; "" if it has none
	ask     bool   // whether it is worth a request to Stripe to learn whose it is: refunds and disputes have no metadata
}

const (
	// overtakenWait is how long it may take until what a webhook tells is written down by whoever has caused it.
	overtakenWait = 2 * time.Second
	// causedWithin is how long after its last change a payment may be in somebody's hands.
	causedWithin = 10 * time.Second
)

// HandleNotice takes note of what a webhook reported of an intent. Most tell what this service has done itself: what is
// known ends at once, and what another request, delivery or process is just writing down is refreshed at a moment later.
// Anything else is settled, and then Stripe is asked how things stand now; so late and repeated webhooks do no harm.
// known is false for an intent that is not ours.
func (t *store) HandleNotice(ctx context.Context, n notice) (known bool, err error) {
	orderID, err := t.orderOf(ctx, n)
	if orderID == "" || err != nil {
		return false, err
	}
	order, remembered := t.cache.get(orderID)
	if !remembered || !order.has(n.intent) {
		a, err := t.loadWithAttempt(ctx, orderID)
		if errors.Is(err, errNoOrder) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		order = a.order.Value
	}
	p := order.Payment
	switch {
	case !order.has(n.intent): // an order has one; if this may get money, that is given up
		if s := n.intent.Status; s == RequiresAction || s == Authorized || s == Captured {
			return true, t.notThePayments(ctx, n.intent.ID, &order)
		}
		return true, nil
	case p.Knows(n.intent):
		return true, nil
	case t.cache.working(orderID), p.inHand(&order, n.intent, now()):
		t.queue.hear(orderID, n.intent)
		return true, nil
	}
	_, _, err = t.settle(ctx, orderID, t.unlessKnown(n.intent, notAtAll))
	return true, err
}

// notThePayments gives up an intent that is not the payment of its order. An order without a payment gets it again: a
// backup is older than it. That it is the order's, Stripe must say: a webhook that was signed with a stolen secret names
// whatever it likes.
func (t *store) notThePayments(ctx context.Context, stripeID string, order *Order) error {
	made, err := t.stripe.Whose(ctx, stripeID)
	if err != nil || made.OrderID != order.ID {
		return err
	}
	if order.Payment == nil && made.Origin == t.stripe.origin {
		_, err = t.adopt(ctx, made)
		return err
	}
	return t.stripe.Release(ctx, stripeID)
}

// has says whether an intent is that of the order's payment, or may be.
func (o *Order) has(i Intent) bool {
	p := o.Payment
	return p != nil && (p.StripeID == i.ID || p.unresolved())
}

// inHand says whether what Stripe reported was most likely caused by a process of this service that is about to write it
// down. If it does not, the payment is among the unsettled, and will be refreshed at.
func (p *Payment) inHand(o *Order, reported Intent, now time.Time) bool {
	switch {
	case o.Settled():
		return false
	case p.Attempt.Open && p.Status.open():
		return now.Sub(p.Attempt.At) < firstRefresh
	}
	return reported.Status.progress() > Authorized.progress() && now.Sub(p.UpdatedAt) < causedWithin
}

// orderOf finds whose an intent is; "" if it is nobody's. Those of earlier releases have a document, too, and their
// charges may lack metadata.
func (t *store) orderOf(ctx context.Context, n notice) (string, error) {
	if n.orderID != "" {
		return n.orderID, nil
	}
	record, err := state.Get[intentRecord](ctx, t.documents, intentKey(n.intent.ID))
	switch {
	case errors.Is(err, state.ErrNotFound) && n.ask:
		made, err := t.stripe.Whose(ctx, n.intent.ID)
		return made.OrderID, err
	case errors.Is(err, state.ErrNotFound):
		return "", nil
	}
	return record.Value.OrderID, err
}

// ApplyOrder brings the replica of an order up to what the orders service published. If the order has ended, its payment
// follows in the same write; or, if Stripe does not answer soon, by the queue.
func (t *store) ApplyOrder(ctx context.Context, reported events.Order) error {
	if known, _ := t.cache.get(reported.ID); known.Version >= reported.Version {
		return nil
	}
	if reported.Version == 1 { // nothing can be known of it, unless this is a repeat
		err := t.create(ctx, reported)
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	defer t.cache.work(reported.ID)()
	left := never
	err := state.Retry(ctx, func(ctx context.Context) (err error) {
		left, err = t.apply(ctx, reported)
		return err
	})
	if err != nil {
		return fmt.Errorf("hear order %s: %w", reported.ID, err)
	}
	if left != never {
		t.queue.add(reported.ID, left)
	}
	return nil
}

// create writes an order that is new.
func (t *store) create(ctx context.Context, reported events.Order) error {
	var order Order
	order.Apply(reported)
	var change state.Change
	change.Create(orderKey(order.ID), order)
	if err := t.documents.Commit(ctx, &change); err != nil {
		return err
	}
	t.cache.put(order)
	return nil
}

// never is when the queue refreshes at what is settled.
const never = time.Duration(-1)

// apply is one try of ApplyOrder. left is after which time the queue must see to what could not be done.
func (t *store) apply(ctx context.Context, reported events.Order) (left time.Duration, err error) {
	a, err := t.load(ctx, reported.ID)
	if err != nil && !errors.Is(err, errNoOrder) {
		return never, err
	}
	order := &a.order.Value
	settled := order.Settled()
	if !order.Apply(reported) {
		return never, nil
	}
	var before Payment
	if order.Payment != nil {
		before = *order.Payment
	}
	var change state.Change
	left = never
	switch p := order.Payment; {
	case p == nil:
	case p.unresolved():
		left = 0
	case order.Due(p.Status) != Nothing && !t.budget.has():
		left = 0
	case order.Due(p.Status) != Nothing:
		asking, done := t.budget.spend(ctx)
		_, err := t.follow(asking, order, &Intent{}, &change)
		done()
		if err != nil { // whatever it is, it must not keep what the order has become from being written
			left = firstRetry
		}
	}
	if settled && !order.Settled() {
		change.Append(unsettled, order.ID)
	}
	err = t.commit(ctx, &a, &change)
	if err == nil && order.Payment != nil {
		t.reversed(before, *order)
	}
	return left, err
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
