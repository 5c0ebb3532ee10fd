package domain

import (
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

// A model of the service, in which rapid chooses the interleaving:
//
//   - processes that pay, settle and apply events as the store does, with the rules of this package. Each may be stopped for
//     ever between any two of its steps, and its requests to Stripe may arrive long after that.
//   - the documents: an order with its payment under one condition, and its first attempt under another.
//   - Stripe, with its intents and idempotency keys.
//   - the orders service, whose events arrive in any order and any number of times.
//
// One step is taken at a time, so a failure shrinks to a short story. (store_test.go of the service runs the real store against
// the sandbox, in parallel.)

// modelIntent is a PaymentIntent with manual capture, as far as it matters here.
type modelIntent struct {
	id             string
	status         Status       // Pending: it waits for a card
	charge         int          // the number of the latest attempt that reached the bank
	tried          map[int]bool // the idempotency keys of confirmations
	declines       int          // of confirmations, at once
	failed         int          // charges, also of attempts with the client secret
	secretIsKnown  bool         // the buyer has the client secret
	authorizations int
	captures       int
	refunds        int // of this service

	refunded     int64 // by this service or in the dashboard
	refundFailed bool  // the last refund
	dispute      Dispute
}

// price is what the order costs.
const price = 2500

// givenBack is what the buyer has got back.
func (i *modelIntent) givenBack() int64 {
	if i.dispute.Lost() {
		return i.refunded + i.dispute.Amount
	}
	return i.refunded
}

func (i *modelIntent) get() Intent {
	to := Intent{ID: i.id, Status: i.status, ChargeID: fmt.Sprintf("ch_%d", i.charge), Complete: true}
	if i.status == Captured {
		to.Refunded, to.Dispute, to.Disputed = i.givenBack(), i.dispute, i.dispute.ID != ""
		if i.givenBack() >= price {
			to.Status = Refunded
		}
		to.RefundFailed = i.refundFailed && to.Status == Captured
	}
	if i.status.Open() {
		to.Declines = i.failed
	}
	if i.status == Failed {
		to.DeclineCode = "insufficient_funds"
	}
	return to
}

func (i *modelIntent) confirm(attempt int, outcome Status) Intent {
	if !i.tried[attempt] && i.status.Open() {
		i.tried[attempt] = true
		i.decide(outcome)
		if outcome == Failed {
			i.declines++
		}
		response := i.get()
		response.Declines = 0 // it is not in the response
		return response
	}
	return i.get()
}

// decide is the bank's answer to an attempt, at once or after it has authenticated the buyer.
func (i *modelIntent) decide(outcome Status) {
	i.charge++
	i.status = outcome
	i.secretIsKnown = i.secretIsKnown || outcome == RequiresAction
	if outcome == Failed {
		i.failed++
	}
	if outcome == Authorized {
		i.authorizations++
	}
}

func (i *modelIntent) do(step Step) Intent {
	switch {
	case step == Capture && i.status == Authorized:
		i.status = Captured
		i.captures++
	case step == Void && (i.status.Open() || i.status == Authorized):
		i.status = Voided
	case step == Refund && i.refunds > 0: // Stripe has seen its idempotency key, and answers with the state of that refund
		return i.get()
	case step == Refund && i.status == Captured && i.isRefundable():
		i.refunded, i.refundFailed = price, false
		i.refunds++
	case step == Refund && i.dispute.Lost():
		to := i.get()
		to.RefundFailed = to.Status == Captured
		return to
	}
	return i.get()
}

// isRefundable reports whether Stripe accepts a refund now.
func (i *modelIntent) isRefundable() bool {
	return i.status == Captured && !i.dispute.Undecided() && !i.dispute.Lost() && i.givenBack() < price
}

// modelRequest is a request that creates an intent under a key. method is "" if the intent stays empty.
type modelRequest struct {
	method string
	intent *modelIntent // nil if Stripe failed before it created one
}

// modelStripe is Stripe, as far as one order is concerned.
type modelStripe struct {
	intents []*modelIntent
	keys    map[int]modelRequest // by the number of the attempt
	sent    []Intent             // by webhooks
}

// serverError is the outcome of a request to which Stripe answers with a 500 for a day.
const serverError Status = "server error"

// create is the request that creates an attempt's intent, and confirms it if a method is given.
func (s *modelStripe) create(attempt int, method string, outcome Status) (made modelRequest, keyTaken bool) {
	made, used := s.keys[attempt]
	if used {
		return made, made.method != method
	}
	if outcome == serverError {
		s.keys[attempt] = modelRequest{method: method}
		return s.keys[attempt], false
	}
	intent := s.createEmpty()
	if method != "" {
		intent.confirm(attempt, outcome)
	}
	s.keys[attempt] = modelRequest{method, intent}
	return s.keys[attempt], false
}

func (s *modelStripe) createEmpty() *modelIntent {
	intent := &modelIntent{id: fmt.Sprintf("pi_%d", len(s.intents)+1), status: Pending, tried: map[int]bool{}}
	s.intents = append(s.intents, intent)
	return intent
}

func (s *modelStripe) at(id string) *modelIntent {
	for _, i := range s.intents {
		if i.id == id {
			return i
		}
	}
	return nil
}

// search is stripe.Client's.
func (s *modelStripe) search() Intent {
	var best *modelIntent
	rank := func(i *modelIntent) int {
		return slices.Index([]Status{Voided, Pending, Failed, RequiresAction, Authorized, Captured, Refunded}, i.status)
	}
	for _, i := range s.intents {
		if best == nil || rank(i) > rank(best) {
			best = i
		}
	}
	if best == nil {
		return Intent{}
	}
	for _, i := range s.intents {
		if i != best {
			s.release(i.id)
		}
	}
	return best.get()
}

// release is stripe.Client's.
func (s *modelStripe) release(id string) {
	i := s.at(id)
	i.do(Void)
	i.do(Refund)
}

// find is stripe.Client's.
func (s *modelStripe) find(attempt int) Intent {
	made, keyTaken := s.create(attempt, "", Pending)
	if keyTaken || made.intent == nil {
		return s.search()
	}
	return made.intent.get()
}

// sendWebhooks makes webhooks of what has changed.
func (s *modelStripe) sendWebhooks() {
	for _, intent := range s.intents {
		if now := intent.get(); !slices.Contains(s.sent, now) {
			s.sent = append(s.sent, now)
		}
	}
}

func (s *modelStripe) sum(count func(*modelIntent) int) (n int) {
	for _, i := range s.intents {
		n += count(i)
	}
	return n
}

// modelAttempt is the document of the first attempt.
type modelAttempt struct {
	Method string
	At     time.Time
}

// documents are the order with its payment, and its first attempt, as the store has them. Each commit of the order makes a
// new ETag.
type documents struct {
	order   Order
	attempt *modelAttempt
	etag    int
}

// read copies the documents, so that a process can change what it has read.
func (d documents) read() documents {
	d.order = d.order.Copy()
	return d
}

// readWithAttempt is the store's loadWithAttempt.
func (d documents) readWithAttempt() documents {
	d = d.read()
	if d.order.ID != "" && d.order.Payment == nil && d.attempt != nil {
		d.order.Begin(d.attempt.Method, d.attempt.At)
	}
	return d
}

// model is all of it together.
type model struct {
	t         *rapid.T
	docs      documents
	stripe    modelStripe
	underway  []func() // requests to Stripe that have not arrived
	now       time.Time
	running   []*process
	limit     int            // how many cards may be declined
	owner     events.Order   // the order, in the orders service
	orders    []events.Order // the events of the orders service
	backup    *documents
	restored  bool
	since     int              // how many events there were before a backup was restored: versions begin anew
	published []events.Payload // by payments
}

func newModel(t *rapid.T) *model {
	m := &model{t: t, now: noon, backup: &documents{}, limit: rapid.IntRange(1, 4).Draw(t, "limit")}
	m.stripe.keys = map[int]modelRequest{}
	m.owner = events.Order{ID: "order-1", UserID: "buyer-1", Status: "created", ExpiresAt: clock.Stamp(noon.Add(15 * time.Minute)), Version: 1,
		Ticket: events.OrderedTicket{ID: "ticket-1", Price: price, Currency: "usd"}}
	m.orders = []events.Order{m.owner}
	if rapid.IntRange(0, 3).Draw(t, "the order is known") > 0 {
		m.apply(m.owner, false)(always)
	}
	return m
}

// always is the pause of a process that runs to its end at once.
func always() bool { return true }

// setOwnerStatus changes the order in the orders service.
func (m *model) setOwnerStatus(status OrderStatus) {
	m.owner.Status = events.OrderStatus(status)
	m.owner.Version++
	m.orders = append(m.orders, m.owner)
}

func (m *model) ownerStatus() OrderStatus { return OrderStatus(m.owner.Status) }

// commit writes the order if it has not changed since it was read, and checks the change of the payment.
func (m *model) commit(write documents, publish []events.Payload) bool {
	if write.etag != m.docs.etag {
		return false
	}
	before, after := m.docs.order.Payment, write.order.Payment
	if before != nil {
		require.Equal(m.t, before.ID, after.ID, "an order has one payment")
		require.Equal(m.t, before.Amount, after.Amount)
		require.Contains(m.t, []string{"", after.StripeID}, before.StripeID, "and one intent")
		require.GreaterOrEqual(m.t, after.Version, before.Version)
		same := before.Status == after.Status && before.ChargeID == after.ChargeID && before.Refunded == after.Refunded &&
			before.RefundFailed == after.RefundFailed && before.Dispute == after.Dispute
		if same {
			require.Equal(m.t, before.Version, after.Version, "a new version is a new status, a new decline, or a change of refunds and disputes: %+v", after)
		}
		if before.Version == after.Version {
			require.True(m.t, same, "%+v, %+v", before, after)
		}
		require.False(m.t, before.Status == Voided && after.Status != Voided, "a voided payment stays so")
		if before.Status == Refunded {
			require.Contains(m.t, []Status{Refunded, Captured}, after.Status, "only a refund that fails changes it")
		}
		require.Contains(m.t, []int{before.Attempt.Number, before.Attempt.Number + 1}, after.Attempt.Number)
		if after.Attempt.Number > before.Attempt.Number {
			require.True(m.t, after.Attempt.Open, "an attempt begins open")
			require.True(m.t, before.Status.Open(), "no attempt is made when money is held")
			require.False(m.t, before.OutcomeUnknown(), "no attempt is made before the outcome of the last one is known")
		}
	}
	for _, event := range publish {
		_, version := event.Aggregate()
		for _, earlier := range m.published[m.since:] {
			_, known := earlier.Aggregate()
			require.Greater(m.t, version, known, "each version is published once, in order")
		}
		m.published = append(m.published, event)
	}
	m.docs.order = write.read().order
	if p := m.docs.order.Payment; p != nil && p.KnownDeclines() >= m.limit { // as the store's recordDeclines
		p.Exhausted = true
	}
	m.docs.etag++
	return true
}

// process is a request or a settling that is under way. It takes one step at a time.
type process struct {
	next func() (struct{}, bool)
	stop func()
}

func (m *model) start(run func(pause func() bool)) {
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		run(func() bool { return yield(struct{}{}) })
	})
	m.running = append(m.running, &process{next, stop})
}

// settlement is the result of settle.
type settlement struct {
	events    []events.Payload
	changed   bool
	attempted bool
	outcome   Intent
	keyTaken  bool
}

// settle is the store's settle; ok is false if the process was stopped. card is the bank's answer to an attempt with method.
func (m *model) settle(pause func() bool, order *Order, cause Cause, method string, card Status) (result settlement, ok bool) {
	for n := 0; ; n++ {
		step := order.Next(cause, n > 0)
		if step == Nothing {
			return result, true
		}
		require.Less(m.t, n, MaxSteps, "payment %s, order %s", order.Payment.Status, order.Status)
		intent, keyTaken, ok := m.do(pause, step, order, method, card)
		if !ok {
			return result, false
		}
		if keyTaken {
			result.keyTaken = true
			return result, true
		}
		switch step {
		case Authorize, Confirm:
			result.attempted, result.outcome = true, intent
		case FindIntent:
			result.changed = order.Payment.ConcludeFound(intent) || result.changed
		}
		event, changed := order.Observe(intent, m.now)
		if event != nil {
			result.events = append(result.events, event)
		}
		result.changed = result.changed || changed
	}
}

// do is the store's do.
func (m *model) do(pause func() bool, step Step, order *Order, method string, card Status) (intent Intent, keyTaken, ok bool) {
	p := order.Payment
	number := p.Attempt.Number
	switch step {
	case Authorize:
		intent, ok = m.send(pause, func() Intent {
			var made modelRequest
			if made, keyTaken = m.stripe.create(number, method, card); keyTaken {
				return Intent{}
			}
			if made.intent != nil {
				return made.intent.get()
			}
			intent := m.stripe.search()
			if intent.ID == "" {
				intent = m.stripe.createEmpty().get()
			}
			if intent.Status == Pending && card != serverError {
				intent = m.stripe.at(intent.ID).confirm(number, card)
			}
			return intent
		})
		return intent, keyTaken, ok
	case Confirm:
		stripeID := p.StripeID
		intent, ok = m.send(pause, func() Intent {
			if card == serverError {
				return m.stripe.at(stripeID).get()
			}
			return m.stripe.at(stripeID).confirm(number, card)
		})
		return intent, false, ok
	case FindIntent:
		intent, ok = m.send(pause, func() Intent { return m.stripe.find(number) })
		return intent, false, ok
	case GetIntent:
		return m.stripe.at(p.StripeID).get(), false, pause()
	}
	if p.StripeID == "" {
		return Intent{Status: Voided}, false, true
	}
	return m.stripe.at(p.StripeID).do(step), false, pause()
}

// send sends a request to Stripe. It may arrive after its process was stopped; ok is false then.
func (m *model) send(pause func() bool, request func() Intent) (response Intent, ok bool) {
	arrived := false
	arrive := func() {
		if !arrived {
			arrived, response = true, request()
		}
	}
	m.underway = append(m.underway, arrive)
	if !pause() {
		return Intent{}, false
	}
	arrive()
	return response, pause()
}

// settleOrder is the store's.
func (m *model) settleOrder(pause func() bool, cause Cause) {
	for {
		docs := m.docs.readWithAttempt()
		if docs.order.Payment == nil || !pause() {
			return
		}
		result, ok := m.settle(pause, &docs.order, cause, "", "")
		if !ok || !result.changed || !pause() || m.commit(docs, result.events) {
			return
		}
	}
}

// refresh settles the payment with the intent as it is now.
func (m *model) refresh() { m.settleOrder(always, Cause{Refresh: RefreshAlways}) }

// apply is the store's ApplyOrder. If Stripe is quick, the payment is settled in the same commit.
func (m *model) apply(event events.Order, quick bool) func(pause func() bool) {
	return func(pause func() bool) {
		for {
			docs := m.docs.read()
			before := docs.order.Copy()
			if !docs.order.Apply(event) {
				require.Equal(m.t, before, docs.order, "an event that is not newer changes nothing")
				return
			}
			require.Greater(m.t, docs.order.Version, before.Version)
			var result settlement
			if p := docs.order.Payment; p != nil {
				require.Equal(m.t, before.Payment.ID, p.ID, "a payment is not forgotten")
				if quick && !p.OutcomeUnknown() {
					ok := false
					if result, ok = m.settle(pause, &docs.order, Cause{}, "", ""); !ok {
						return
					}
				}
			}
			if !pause() || m.commit(docs, result.events) {
				return
			}
		}
	}
}

// pay is the store's Pay. card is the bank's answer, or a failure of Stripe.
func (m *model) pay(method string, card Status) func(pause func() bool) {
	return func(pause func() bool) {
		attempt, attemptExists := 0, false
		answered, outcome := false, Intent{}
		for {
			docs := m.docs.read()
			if attemptExists || attempt > 0 {
				docs = m.docs.readWithAttempt()
			}
			order := &docs.order
			if order.ID == "" || !pause() {
				return
			}
			if attempt == 0 {
				if order.CheckPayable(m.now) != nil {
					return
				}
				if payment := order.Payment; payment == nil {
					attemptExists = true
					if m.docs.attempt != nil {
						continue
					}
					m.docs.attempt = &modelAttempt{Method: method, At: m.now}
					attempt = order.Begin(method, m.now).Attempt.Number
				} else {
					declines := payment.Declines
					switch payment.PlanAttempt(method, m.now) {
					case ResumeAttempt:
						attempt = payment.Attempt.Number
					case ResolveEarlierAttempt:
						if !m.resolveEarlierAttempt(pause, docs) {
							return
						}
						continue
					case NewAttempt:
						if declines >= m.limit {
							return
						}
						if !m.commit(docs, nil) {
							continue
						}
						attempt = payment.Attempt.Number
						docs = m.docs.read()
						order = &docs.order
					}
				}
				if !pause() {
					return
				}
			}
			if answered && !order.Payment.NameIntent(outcome.ID) {
				m.stripe.release(outcome.ID)
			}
			var cause Cause
			switch {
			case answered:
				cause.Refresh = RefreshAlways
			case attempt > 0:
				cause.Attempt = attempt
			case order.Payment.Status == RequiresAction:
				cause.Refresh = RefreshForBuyer
			}
			result, ok := m.settle(pause, order, cause, method, card)
			if !ok {
				return
			}
			if result.keyTaken {
				attempt = 0
				if !m.resolveEarlierAttempt(pause, docs) {
					return
				}
				continue
			}
			if result.attempted {
				answered, outcome = true, result.outcome
			}
			concluded := attempt > 0 && order.Payment.Conclude(attempt, outcome.Status == Failed)
			if !pause() || !result.changed && !concluded || m.commit(docs, result.events) {
				return
			}
		}
	}
}

// resolveEarlierAttempt is payCommand.resolveEarlierAttempt. The request is decided again after it.
func (m *model) resolveEarlierAttempt(pause func() bool, docs documents) (ok bool) {
	result, ok := m.settle(pause, &docs.order, Cause{}, "", "")
	if ok {
		m.commit(docs, result.events)
	}
	return ok
}

// webhook is the store's HandleNotice, in a process that has nothing in its cache.
func (m *model) webhook(reported Intent) func(pause func() bool) {
	return func(pause func() bool) {
		order := m.docs.readWithAttempt().order
		switch p := order.Payment; {
		case order.ID == "":
		case !order.MayHaveIntent(reported):
			if !reported.Status.HoldsMoney() {
				return
			}
			if order.Payment == nil {
				m.recover(pause, m.stripe.at(reported.ID))
			} else {
				m.stripe.release(reported.ID)
			}
		case p.Reflects(reported), order.IsInProgress(reported, m.now):
		default:
			m.settleOrder(pause, Cause{Reported: reported})
		}
	}
}

// step lets one of the processes take steps.
func (m *model) step(t *rapid.T, steps int) {
	if len(m.running) == 0 {
		return
	}
	one := rapid.IntRange(0, len(m.running)-1).Draw(t, "which")
	for range steps {
		if _, more := m.running[one].next(); !more {
			m.running = slices.Delete(m.running, one, one+1)
			return
		}
	}
}

func (m *model) stopAll() {
	for _, p := range m.running {
		p.stop()
	}
	m.running = nil
}

// handleAuthorization is what the orders service does when money is held: it completes a live order, and publishes a cancelled
// one again.
func (m *model) handleAuthorization() {
	switch m.ownerStatus() {
	case OrderCreated:
		m.setOwnerStatus(OrderComplete)
	case OrderCancelled:
		m.apply(m.owner, true)(always)
	}
}

// handlePayment is what the orders service does with an event of the payment.
func (m *model) handlePayment(event events.Payload) {
	switch e := event.(type) {
	case events.PaymentCreated:
		m.handleAuthorization()
	case events.PaymentVoided:
		if m.ownerStatus() != OrderCancelled {
			m.setOwnerStatus(OrderCancelled)
		}
	case events.PaymentRefunded:
		if e.Refunded >= e.Amount && m.ownerStatus() == OrderComplete {
			m.setOwnerStatus(OrderCancelled)
		}
	}
}

// restore replaces the documents by those of the backup. No process runs on.
func (m *model) restore() {
	m.stopAll()
	etag := m.docs.etag
	m.docs = m.backup.read()
	m.docs.etag = etag + 1
	m.since, m.restored = len(m.published), true
}

// compare is the daily comparison with Stripe.
func (m *model) compare() {
	for _, intent := range m.stripe.intents {
		if order := m.docs.readWithAttempt().order; order.MayHaveIntent(Intent{ID: intent.id}) {
			m.refresh()
			continue
		}
		m.recover(always, intent)
	}
}

// recover is the store's recoverPayment.
func (m *model) recover(pause func() bool, intent *modelIntent) {
	for {
		docs, seen := m.docs.readWithAttempt(), intent.get()
		order := &docs.order
		isLost := order.ID == ""
		switch {
		case !isLost && order.MayHaveIntent(seen), seen.Status.Ended():
			return
		case !isLost && order.Payment != nil, isLost && seen.Status.Open():
			m.stripe.release(intent.id)
			return
		case isLost:
			*order = Recovered(m.owner.ID, m.owner.UserID, price, "usd")
		}
		payment := order.BeginWithIntent(seen, m.now)
		var publish []events.Payload
		if seen.Status == Captured {
			event, _ := payment.Observe(Intent{ID: seen.ID, Status: Authorized, ChargeID: seen.ChargeID}, m.now)
			publish = append(publish, event)
		}
		if event, _ := order.Observe(seen, m.now); event != nil {
			publish = append(publish, event)
		}
		result, ok := m.settle(pause, order, Cause{}, "", "")
		if !ok || !pause() || m.commit(docs, append(publish, result.events...)) {
			return
		}
	}
}

func (m *model) commands() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"a buyer pays": func(t *rapid.T) {
			method := rapid.SampledFrom([]string{"visa", "amex"}).Draw(t, "method")
			card := rapid.SampledFrom([]Status{Authorized, RequiresAction, Failed, serverError}).Draw(t, "the bank's answer")
			m.start(m.pay(method, card))
		},
		"a webhook comes": func(t *rapid.T) {
			if len(m.stripe.sent) > 0 {
				m.start(m.webhook(rapid.SampledFrom(m.stripe.sent).Draw(t, "webhook")))
			}
		},
		"the queue settles": func(*rapid.T) {
			m.start(func(pause func() bool) { m.settleOrder(pause, Cause{Refresh: RefreshOpen}) })
		},
		"the sweep settles": func(t *rapid.T) {
			refresh := rapid.SampledFrom([]Refresh{RefreshIdle, RefreshAlways}).Draw(t, "refresh")
			m.start(func(pause func() bool) { m.settleOrder(pause, Cause{Refresh: refresh}) })
		},
		"a lost request arrives": func(t *rapid.T) {
			if len(m.underway) > 0 {
				m.underway[rapid.IntRange(0, len(m.underway)-1).Draw(t, "which request")]()
			}
		},
		"a process continues":       func(t *rapid.T) { m.step(t, rapid.IntRange(1, 4).Draw(t, "steps")) },
		"another process continues": func(t *rapid.T) { m.step(t, rapid.IntRange(1, 4).Draw(t, "steps")) },
		"a process runs to its end": func(t *rapid.T) { m.step(t, 1000) },
		"a process dies": func(t *rapid.T) {
			if n := len(m.running); n > 0 && rapid.Bool().Draw(t, "really") {
				one := rapid.IntRange(0, n-1).Draw(t, "which")
				m.running[one].stop()
				m.running = slices.Delete(m.running, one, one+1)
			}
		},
		"an order event arrives": func(t *rapid.T) {
			m.start(m.apply(rapid.SampledFrom(m.orders).Draw(t, "event"), rapid.Bool().Draw(t, "Stripe is quick")))
		},
		"a payment event arrives": func(t *rapid.T) {
			if len(m.published) > 0 {
				m.handlePayment(rapid.SampledFrom(m.published).Draw(t, "event"))
			}
		},
		"the bank authenticates the buyer": func(t *rapid.T) {
			for _, intent := range m.stripe.intents {
				if intent.status == RequiresAction {
					intent.decide(rapid.SampledFrom([]Status{Authorized, Failed}).Draw(t, "the bank's answer"))
				}
			}
		},
		"a card is tried with the client secret": func(t *rapid.T) {
			for _, intent := range m.stripe.intents {
				if intent.secretIsKnown && intent.status.Open() {
					intent.decide(rapid.SampledFrom([]Status{Authorized, Failed, Failed, RequiresAction}).Draw(t, "the bank's answer"))
				}
			}
		},
		"a backup is made": func(*rapid.T) {
			docs := m.docs.read()
			m.backup = &docs
		},
		"a backup is restored": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "really, if 0") == 0 {
				m.restore()
			}
		},
		"payments are compared with Stripe": func(*rapid.T) { m.compare() },
		"an operator refunds in the dashboard": func(t *rapid.T) {
			for _, intent := range m.stripe.intents {
				if intent.isRefundable() {
					rest := price - intent.givenBack()
					intent.refunded += min(rapid.SampledFrom([]int64{1000, 2500}).Draw(t, "amount"), rest)
					intent.refundFailed = false
				}
			}
		},
		"a refund fails": func(t *rapid.T) {
			for _, intent := range m.stripe.intents {
				if intent.status == Captured && intent.refunded > 0 && rapid.Bool().Draw(t, "really") {
					intent.refunded, intent.refundFailed = 0, true
				}
			}
		},
		"a buyer disputes": func(t *rapid.T) {
			for _, intent := range m.stripe.intents {
				if intent.status == Captured && intent.dispute.ID == "" && intent.refunded == 0 {
					intent.dispute = Dispute{ID: "dp_1", Status: rapid.SampledFrom([]string{"needs_response", "warning_needs_response"}).Draw(t, "status"),
						Amount: rapid.SampledFrom([]int64{price, 700}).Draw(t, "amount")}
				}
			}
		},
		"a bank decides": func(t *rapid.T) {
			for _, intent := range m.stripe.intents {
				if intent.dispute.Undecided() {
					intent.dispute.Status = rapid.SampledFrom([]string{"won", "lost"}).Draw(t, "outcome")
				}
			}
		},
		"the order is cancelled": func(t *rapid.T) {
			if m.ownerStatus() == OrderCreated && rapid.Bool().Draw(t, "really") {
				m.setOwnerStatus(OrderCancelled)
			}
		},
		"the complete order is cancelled after all": func(t *rapid.T) {
			if m.ownerStatus() == OrderComplete && rapid.IntRange(0, 3).Draw(t, "really, if 0") == 0 {
				m.setOwnerStatus(OrderCancelled)
			}
		},
		"time passes": func(t *rapid.T) {
			m.now = m.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "seconds")) * time.Second)
		},
		"": func(t *rapid.T) {
			m.stripe.sendWebhooks()
			require.LessOrEqual(t, m.stripe.sum(func(i *modelIntent) int { return i.authorizations }), 1, "charged twice")
			require.LessOrEqual(t, m.stripe.sum(func(i *modelIntent) int { return i.captures }), 1)
			if !m.restored { // a backup lacks the attempts that are younger
				require.LessOrEqual(t, m.stripe.sum(func(i *modelIntent) int { return i.declines }), m.limit, "cards are tested")
			}
			if m.stripe.sum(func(i *modelIntent) int { return i.captures }) > 0 {
				require.True(t, slices.ContainsFunc(m.orders, func(o events.Order) bool { return OrderStatus(o.Status) == OrderComplete }),
					"money was taken for an order that was never complete")
			}
		},
	}
}

// finish delivers everything that is under way, and settles the payment once more, as the queue does in the end.
func (m *model) finish() {
	m.stopAll()
	for range 3 { // events that are caused by events that are caused by events
		m.compare()
		for _, event := range slices.Clone(m.orders) {
			m.apply(event, true)(always)
		}
		m.refresh()
		for _, event := range slices.Clone(m.published) {
			m.handlePayment(event)
		}
	}
}

func TestMoney_FollowsTheOrderWhateverTheInterleaving(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Cleanup(m.stopAll)
		for range 5 {
			t.Repeat(m.commands())
		}
		m.finish()

		for _, arrive := range m.underway { // after their processes have ended
			arrive()
		}
		m.stripe.sendWebhooks()
		for _, reported := range slices.Clone(m.stripe.sent) {
			m.webhook(reported)(always)
		}
		m.finish()
		order, payment := m.docs.order, m.docs.order.Payment
		require.Equal(t, m.owner.Version, order.Version, "the projection is as the order is")
		require.Equal(t, m.ownerStatus(), order.Status)
		authorized := m.stripe.sum(func(i *modelIntent) int { return i.authorizations })
		captured := m.stripe.sum(func(i *modelIntent) int { return i.captures })
		refunded := m.stripe.sum(func(i *modelIntent) int { return i.refunds })
		for _, intent := range m.stripe.intents { // without a payment: a restored backup may be older than an intent that has ended
			if payment == nil || intent.id != payment.StripeID {
				require.False(t, intent.get().Status.HoldsMoney(), "an intent that is not known here holds money")
			}
		}
		if payment == nil {
			return
		}
		var intent Intent
		if payment.StripeID == "" {
			require.Contains(t, []Status{Pending, Voided}, payment.Status)
		} else {
			intent = m.stripe.at(payment.StripeID).get()
			require.Equal(t, intent.Status, payment.Status, "the payment is as at Stripe")
			require.Equal(t, intent.Refunded, payment.Refunded)
			require.Equal(t, intent.Dispute, payment.Dispute)
		}
		if payment.Status.Open() {
			require.GreaterOrEqual(t, payment.Declines, intent.Declines, "each decline is counted, also of attempts with the client secret")
			require.Less(t, payment.KnownDeclines(), m.limit, "a client secret cannot be used when too many cards were declined")
		}
		for _, event := range m.published {
			if e, ok := event.(events.PaymentRefunded); ok && e.Refunded >= e.Amount {
				require.Equal(t, OrderCancelled, order.Status, "a buyer who has got the money back keeps no ticket")
			}
		}
		require.True(t, order.Status == OrderCreated || order.Settled())
		switch order.Status {
		case OrderComplete:
			require.Equal(t, Captured, payment.Status)
			require.Equal(t, []int{1, 1, 0}, []int{authorized, captured, refunded})
		case OrderCancelled:
			require.True(t, payment.Status.Ended() || payment.refundBlocked(), "what can be given back was: %+v", payment)
			require.LessOrEqual(t, refunded, 1, "and once")
		default:
			require.True(t, payment.Status.Open(), "an order whose money is held becomes complete: %s", payment.Status)
			require.Zero(t, captured)
		}
	})
}

func TestApply_ConvergesWhateverIsDelivered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var life []events.Order
		for version := range rapid.IntRange(1, 6).Draw(t, "versions") {
			life = append(life, events.Order{
				ID: "order-1", UserID: "buyer-1", Version: version + 1, ExpiresAt: clock.Stamp(noon),
				Status: rapid.SampledFrom([]events.OrderStatus{events.OrderStatusCreated, events.OrderStatusComplete, events.OrderStatusCancelled}).Draw(t, "status"),
				Ticket: events.OrderedTicket{ID: "ticket-1", Price: rapid.Int64().Draw(t, "price"), Currency: "usd"},
			})
		}
		again := rapid.SliceOfN(rapid.SampledFrom(life), 0, len(life)).Draw(t, "again")
		var order Order
		changes := 0
		for n, event := range rapid.Permutation(append(slices.Clone(life), again...)).Draw(t, "delivered") {
			if n == 1 {
				order.Begin("visa", noon)
			}
			newer := event.Version > order.Version
			require.Equal(t, newer, order.Apply(event))
			if newer {
				changes++
			}
		}
		last := life[len(life)-1]
		require.Equal(t, last.Version, order.Version)
		require.Equal(t, OrderStatus(last.Status), order.Status)
		require.Equal(t, last.Ticket.Price, order.Amount)
		require.LessOrEqual(t, changes, len(life))
		if len(life)+len(again) > 1 {
			require.Equal(t, id.Payment("order-1"), order.Payment.ID, "an event does not change the payment")
			require.Equal(t, last.Ticket.Price, order.Payment.Amount)
		}
	})
}

// Whatever attempts are made, and in whatever order their outcomes come, one at most is open, and it is the newest.
func TestTry_OneAttemptIsOpenAtATime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := begun()
		newest := 1
		t.Repeat(map[string]func(*rapid.T){
			"try": func(t *rapid.T) {
				before := p
				method := rapid.SampledFrom([]string{"visa", "amex", "tok"}).Draw(t, "method")
				switch p.PlanAttempt(method, noon) {
				case NewAttempt:
					newest++
					require.Equal(t, Attempt{Number: newest, Method: method, Open: true, At: noon}, p.Attempt)
					require.True(t, before.Status.Open())
				case ResumeAttempt:
					require.Equal(t, before, p)
					require.Equal(t, method, p.Attempt.Method)
					require.True(t, p.Attempt.Open)
				default:
					require.Equal(t, before, p)
				}
			},
			"conclude": func(t *rapid.T) {
				before := p
				number := rapid.IntRange(0, newest+1).Draw(t, "attempt")
				require.Equal(t, number == newest && before.Attempt.Open, p.Conclude(number, true))
				before.Attempt.Open = p.Attempt.Open
				require.Equal(t, before, p, "nothing else changes")
			},
			"observe": func(t *rapid.T) {
				before := p
				reported := Intent{
					Status:      rapid.SampledFrom([]Status{"", Pending, RequiresAction, Authorized, Captured, Voided, Refunded, Failed}).Draw(t, "status"),
					ChargeID:    rapid.SampledFrom([]string{"", "ch_1", "ch_2"}).Draw(t, "charge"),
					DeclineCode: rapid.SampledFrom([]string{"", "generic_decline"}).Draw(t, "code"),
				}
				event, changed := p.Observe(reported, noon)
				require.Equal(t, before.Attempt, p.Attempt)
				if !changed {
					require.Nil(t, event)
					require.Equal(t, before, p)
					return
				}
				require.Equal(t, before.Version+1, p.Version)
				require.Equal(t, reported.Status, p.Status)
				require.Equal(t, p.Status != RequiresAction, event != nil)
				require.False(t, before.Status.Ended())
				_, changed = p.Observe(reported, noon)
				require.False(t, changed, "to observe the same again changes nothing")
			},
		})
	})
}
