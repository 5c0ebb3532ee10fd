package main

import (
	"context"
	"errors"
	"slices"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
)

// Receipt is the result of a request to pay. Intent is what Stripe has answered, if it was asked. Fresh means that this request
// has caused the payment's state.
type Receipt struct {
	Payment domain.Payment
	Intent  domain.Intent
	Fresh   bool
}

// Pay authorizes the order's amount on the buyer's card. The error is a problem.Declined if the bank refuses; the order stays
// live then, and Pay may be called again. If the payment is paid or waits for the buyer's bank, the response is stored for
// request in the same commit. replayed is the response that was stored before; then the receipt is empty.
func (s *store) Pay(ctx context.Context, orderID id.Order, buyer id.User, card domain.Method, request idempotency.Request) (receipt Receipt, replayed *idempotency.Response, err error) {
	c := &payCommand{store: s, orderID: orderID, buyer: buyer, card: card, request: request}
	defer s.cache.begin(orderID)()
	err = state.Retry(ctx, c.try)
	if err == nil || isDelayed(err) || c.attempt > 0 {
		c.queueFollowUp(err)
	}
	if err != nil && !isDelayed(err) {
		return Receipt{}, nil, c.unknownIfBegun(err)
	}
	if c.replayed != nil {
		return Receipt{}, c.replayed, nil
	}
	return c.receipt, nil, c.receipt.refusal(card)
}

// payCommand is one request to pay an order. Its decision may need several tries.
type payCommand struct {
	store   *store
	orderID id.Order
	buyer   id.User
	card    domain.Method
	request idempotency.Request

	user          state.Doc[domain.UserAttempts] // read with the order
	attemptExists bool                           // another process has committed a first attempt
	attempt       int                            // the number of the attempt that this request makes; 0 if none
	begun         bool                           // this request has made one before, which is over
	answered      bool                           // Stripe has answered to it
	outcome       domain.Intent                  // this is the answer
	fresh         bool                           // the attempt was begun or concluded by this request
	concluded     bool                           // the attempt's outcome is committed
	receipt       Receipt
	replayed      *idempotency.Response
}

// queueFollowUp has the queue settle the payment later, if need be.
func (c *payCommand) queueFollowUp(err error) {
	switch status := c.receipt.Payment.Status; {
	case isDelayed(err): // the buyer has paid and does not wait for the capture
		c.store.queue.add(c.orderID, firstRetry)
	case err != nil && !c.concluded, err == nil && (status == domain.RequiresAction || status == domain.Pending):
		c.store.queue.add(c.orderID, firstRefresh)
	}
}

// try decides and commits once. It returns state.ErrConflict if it must be called again.
func (c *payCommand) try(ctx context.Context) (err error) {
	s := c.store
	if c.replayed, err = c.request.Find(ctx, s.documents); c.replayed != nil || err != nil {
		return err
	}
	stored, err := c.load(ctx)
	if err != nil {
		return err
	}
	order := &stored.order.Value
	if err := order.CheckBuyer(c.buyer); err != nil {
		return err
	}
	if c.attempt == 0 {
		if err := c.begin(ctx, &stored); err != nil {
			return err
		}
	}
	if c.answered && !order.Payment.NameIntent(c.outcome.ID) {
		if err := s.stripe.EndIntent(ctx, c.outcome.ID); err != nil {
			return err
		}
	}
	var change state.Change
	result, err := s.settle(ctx, order, c.cause(order.Payment), c.card, &change)
	if result.attempted {
		c.answered, c.outcome = true, result.outcome
	}
	if err != nil {
		if result.last == domain.Authorize || result.last == domain.Confirm {
			return c.handleRefusedAttempt(ctx, &stored, err)
		}
		return err
	}
	concluded := c.attempt > 0 && order.Payment.Conclude(c.attempt, c.outcome.Status == domain.Failed)
	c.receipt = Receipt{Payment: *order.Payment, Intent: result.intent, Fresh: c.fresh || concluded}
	if c.receipt.refusal(c.card) == nil {
		if err := c.request.Keep(&change, c.receipt.stored()); err != nil {
			return err
		}
	}
	if result.changed || concluded {
		err = s.commit(ctx, &stored, &change)
	} else {
		err = s.documents.Commit(ctx, &change)
	}
	if err != nil {
		return err
	}
	c.fresh, c.concluded = c.receipt.Fresh, true
	return result.delayed
}

// cause is why the payment is settled in this try.
func (c *payCommand) cause(p *domain.Payment) domain.Cause {
	switch {
	case c.answered: // in an earlier try, whose commit had a conflict
		return domain.Cause{Refresh: domain.RefreshAlways}
	case c.attempt > 0:
		return domain.Cause{Attempt: c.attempt}
	case p.Status == domain.RequiresAction:
		return domain.Cause{Refresh: domain.RefreshForBuyer}
	}
	return domain.Cause{}
}

// load reads the order, which may be so new that its event has not arrived yet.
func (c *payCommand) load(ctx context.Context) (storedOrder, error) {
	s := c.store
	c.user = state.Doc[domain.UserAttempts]{}
	switch {
	case c.attempt > 0:
		return s.loadWithAttempt(ctx, c.orderID)
	case s.limits.PerHour > 0 && s.usersWithAttempts.has(c.buyer, s.clock()):
		order, user, err := state.GetBoth[domain.Order, domain.UserAttempts](ctx, s.documents, orderKey(c.orderID), userKey(c.buyer))
		if err != nil {
			return storedOrder{}, err
		}
		c.user = user
		if order.ETag != "" {
			stored, err := s.withLegacy(ctx, order, nil)
			if err == nil && c.attemptExists {
				err = s.addAttempt(ctx, &stored)
			}
			return stored, err
		}
	case c.attemptExists:
		return s.loadWithAttempt(ctx, c.orderID)
	}
	return s.loadNew(ctx, c.orderID, c.buyer)
}

// begin commits the attempt that is to be made, if one is.
func (c *payCommand) begin(ctx context.Context, stored *storedOrder) error {
	s, order := c.store, &stored.order.Value
	if err := order.CheckPayable(s.clock()); err != nil {
		return s.countRefused(err)
	}
	if order.Payment == nil {
		return c.beginFirst(ctx, order)
	}
	payment := order.Payment
	declines, counted := payment.Declines, payment.CountedForUser()
	switch payment.PlanAttempt(c.card.Digest(), s.clock()) {
	case domain.ResumeAttempt:
		c.attempt = payment.Attempt.Number
	case domain.ResolveEarlierAttempt:
		return c.resolveEarlierAttempt(ctx, stored)
	case domain.NewAttempt:
		if err := s.limits.CheckOrder(declines); err != nil {
			return s.countRefused(err)
		}
		var change state.Change
		if err := s.admit(ctx, &change, c.user, order, counted); err != nil {
			return err
		}
		if err := s.commit(ctx, stored, &change); err != nil {
			return err
		}
		c.attempt, c.fresh = payment.Attempt.Number, true
		reread, err := s.load(ctx, c.orderID)
		*stored = reread
		return err
	}
	return nil
}

// beginFirst commits the order's first attempt. The order's document stays as it is.
func (c *payCommand) beginFirst(ctx context.Context, order *domain.Order) error {
	s, at := c.store, c.store.clock()
	var change state.Change
	if err := s.admit(ctx, &change, c.user, order, 0); err != nil {
		return err
	}
	change.CreateFor(attemptKey(order.ID), firstAttempt{Schema: 1, Method: c.card.Digest(), At: at}, attemptLife)
	change.Append(unsettled, string(order.ID))
	c.attemptExists = true // if this has a conflict
	if err := s.documents.Commit(ctx, &change); err != nil {
		return err
	}
	c.attempt, c.fresh = order.Begin(c.card.Digest(), at).Attempt.Number, true
	s.cache.put(*order)
	return nil
}

// resolveEarlierAttempt ends an attempt whose outcome is not known, and commits what it has led to. It returns
// state.ErrConflict, so that the request is decided again.
func (c *payCommand) resolveEarlierAttempt(ctx context.Context, stored *storedOrder) error {
	var change state.Change
	if _, err := c.store.settle(ctx, &stored.order.Value, domain.Cause{}, domain.Method{}, &change); err != nil {
		return err
	}
	if err := c.store.commit(ctx, stored, &change); err != nil {
		return err
	}
	return state.ErrConflict
}

// handleRefusedAttempt records that Stripe refused to make the attempt.
func (c *payCommand) handleRefusedAttempt(ctx context.Context, stored *storedOrder, err error) error {
	switch kind := problem.KindOf(err); {
	case errors.Is(err, stripe.ErrKeyTaken): // another process has ended it
		c.attempt, c.begun = 0, true
		return c.resolveEarlierAttempt(ctx, stored)
	case kind == problem.Invalid, kind == problem.Declined:
		// Commit that it is over, so that its intent is not searched. It does no harm if this fails.
		stored.order.Value.Payment.ConcludeRefused(c.attempt, kind == problem.Declined)
		c.concluded = c.store.commit(ctx, stored, &state.Change{}) == nil
	}
	return err
}

// unknownIfBegun replaces an error of the store, which promises that nothing was changed, if this request has begun an attempt
// before it.
func (c *payCommand) unknownIfBegun(err error) error {
	p, ok := errors.AsType[*problem.Error](err)
	if ok && (c.attempt > 0 || c.begun) && slices.Contains([]string{"unavailable", "conflict"}, p.Details[0].Code) {
		return domain.ErrOutcomeUnknown.Because(err)
	}
	return err
}

// refusal is why the payment is not made; nil if it is paid or waits for the buyer's bank.
func (r Receipt) refusal(card domain.Method) error {
	return r.Payment.Refusal(card, r.Intent.DeclineMessage)
}
