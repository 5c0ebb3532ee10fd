package main

import (
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/events"
)

// The rules of payment.go under every interleaving that rapid can think of: processes that pay, settle and hear as store
// does, each of which may be stopped for ever between any two of its steps, and whose requests to Stripe may arrive long
// after that; a store that holds an order with its payment under one condition, and its first attempt under another;
// Stripe, with its intents and idempotency keys; and the owner of the order, whose events come in any order and any
// number of times. Steps are taken one at a time, so a failure shrinks to a short story.
// (store_test.go lets the real store do the same with the sandbox, in parallel.)

// intentAtStripe is a PaymentIntent with manual capture, as far as it matters here.
type intentAtStripe struct {
	id             string
	status         Status       // Pending: it waits for a card
	charge         int          // the number of the latest attempt that reached the bank
	tried          map[int]bool // the idempotency keys of confirmations
	declines       int          // of confirmations, at once
	failed         int          // charges, whoever has made the attempt
	secret         bool         // the buyer has got the client secret
	authorizations int
	captures       int
	refunds        int // of this service

	refunded int64 // by whom ever
	bounced  bool  // the last refund
	dispute  Dispute
}

// price is what the order costs.
const price = 2500

// given is what the buyer has back.
func (i *intentAtStripe) given() int64 {
	if i.dispute.lost() {
		return i.refunded + i.dispute.Amount
	}
	return i.refunded
}

func (i *intentAtStripe) get() Intent {
	to := Intent{ID: i.id, Status: i.status, ChargeID: fmt.Sprintf("ch_%d", i.charge), Whole: true}
	if i.status == Captured {
		to.Refunded, to.Dispute, to.Disputed = i.given(), i.dispute, i.dispute.ID != ""
		if i.given() >= price {
			to.Status = Refunded
		}
		to.RefundFailed = i.bounced && to.Status == Captured
	}
	if i.status.open() {
		to.Declines = i.failed
	}
	if i.status == Failed {
		to.DeclineCode = "insufficient_funds"
	}
	return to
}

func (i *intentAtStripe) confirm(attempt int, outcome Status) Intent {
	if !i.tried[attempt] && i.status.open() {
		i.tried[attempt] = true
		i.reach(outcome)
		if outcome == Failed {
			i.declines++
		}
		reported := i.get()
		reported.Declines = 0 // the answer does not say it
		return reported
	}
	return i.get()
}

// reach is the bank's answer to an attempt, at once or after it has seen the buyer.
func (i *intentAtStripe) reach(outcome Status) {
	i.charge++
	i.status = outcome
	i.secret = i.secret || outcome == RequiresAction
	if outcome == Failed {
		i.failed++
	}
	if outcome == Authorized {
		i.authorizations++
	}
}

func (i *intentAtStripe) do(action Action) Intent {
	switch {
	case action == Capture && i.status == Authorized:
		i.status = Captured
		i.captures++
	case action == Void && (i.status.open() || i.status == Authorized):
		i.status = Voided
	case action == Refund && i.status == Captured && i.refundable():
		i.refunded, i.bounced = price, false
		i.refunds++
	case action == Refund && i.dispute.lost():
		to := i.get()
		to.RefundFailed = to.Status == Captured
		return to
	}
	return i.get()
}

// refundable says whether Stripe takes a refund now.
func (i *intentAtStripe) refundable() bool {
	return i.status == Captured && !i.dispute.undecided() && !i.dispute.lost() && i.given() < price
}

// requestAtStripe is one that creates an intent under a key. method is "" if the intent stays empty.
type requestAtStripe struct {
	method string
	intent *intentAtStripe // nil if Stripe broke before it had made one
}

// stripeItself is Stripe, as far as one order is concerned.
type stripeItself struct {
	intents  []*intentAtStripe
	keys     map[int]requestAtStripe // by the number of the attempt
	reported []Intent                // by webhooks
}

// create is the request that makes an attempt's intent, and confirms it if a method is given.
func (s *stripeItself) create(attempt int, method string, outcome Status) (made requestAtStripe, taken bool) {
	made, used := s.keys[attempt]
	if used {
		return made, made.method != method
	}
	if outcome == broken {
		s.keys[attempt] = requestAtStripe{method: method}
		return s.keys[attempt], false
	}
	intent := &intentAtStripe{id: fmt.Sprintf("pi_%d", len(s.intents)+1), status: Pending, tried: map[int]bool{}}
	s.intents = append(s.intents, intent)
	if method != "" {
		intent.confirm(attempt, outcome)
	}
	s.keys[attempt] = requestAtStripe{method, intent}
	return s.keys[attempt], false
}

// broken is the outcome of a request that Stripe answers with a 500 for a day.
const broken Status = "broken"

func (s *stripeItself) at(id string) *intentAtStripe {
	for _, i := range s.intents {
		if i.id == id {
			return i
		}
	}
	return nil
}

// search is that of the Stripe client.
func (s *stripeItself) search() Intent {
	var best *intentAtStripe
	rank := func(i *intentAtStripe) int {
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

func (s *stripeItself) release(id string) {
	i := s.at(id)
	i.do(Void)
	i.do(Refund)
}

// find is that of the Stripe client.
func (s *stripeItself) find(attempt int) Intent {
	made, taken := s.create(attempt, "", Pending)
	if taken || made.intent == nil {
		return s.search()
	}
	return made.intent.get()
}

// tell makes webhooks of what has changed.
func (s *stripeItself) tell() {
	for _, intent := range s.intents {
		if now := intent.get(); !slices.Contains(s.reported, now) {
			s.reported = append(s.reported, now)
		}
	}
}

func (s *stripeItself) sum(count func(*intentAtStripe) int) (n int) {
	for _, i := range s.intents {
		n += count(i)
	}
	return n
}

// documents are the order with its payment, and its first attempt, as the store has them. Each write of the order makes a
// new etag.
type documents struct {
	order   Order
	attempt *firstAttempt
	etag    int
}

// read copies the documents, so that a process can change what it has read.
func (d documents) read() documents {
	if p := d.order.Payment; p != nil {
		payment := *p
		d.order.Payment = &payment
	}
	return d
}

// withAttempt is what loadWithAttempt returns.
func (d documents) withAttempt() documents {
	d = d.read()
	if d.order.ID != "" && d.order.Payment == nil && d.attempt != nil {
		d.order.Begin(d.attempt.Method, d.attempt.At)
	}
	return d
}

// town is all of it together.
type town struct {
	t       *rapid.T
	docs    documents
	stripe  stripeItself
	wire    []func() // requests to Stripe that have not arrived
	now     time.Time
	running []*process
	limit   int // how many cards may be declined

	owner    events.Order   // the order, where it is decided
	reported []events.Order // what its owner reported

	backup   *documents
	restored bool
	since    int              // how many events there were before a backup was restored: versions begin anew
	heard    []events.Payload // what payments reported
}

func newTown(t *rapid.T) *town {
	w := &town{t: t, now: noon, backup: &documents{}, limit: rapid.IntRange(1, 4).Draw(t, "limit")}
	w.stripe.keys = map[int]requestAtStripe{}
	w.owner = events.Order{ID: "order-1", UserID: "buyer-1", Status: "created", ExpiresAt: noon.Add(15 * time.Minute), Version: 1,
		Ticket: events.OrderedTicket{ID: "ticket-1", Price: 2500, Currency: "usd"}}
	w.reported = []events.Order{w.owner}
	if rapid.IntRange(0, 3).Draw(t, "the order is known") > 0 {
		w.hear(w.owner, false)(func() bool { return true })
	}
	return w
}

// becomes changes the order where it is decided.
func (w *town) becomes(status OrderStatus) {
	w.owner.Status = string(status)
	w.owner.Version++
	w.reported = append(w.reported, w.owner)
}

// commit writes the order if it is as it was read, and checks what may become of a payment.
func (w *town) commit(write documents, reported []events.Payload) bool {
	if write.etag != w.docs.etag {
		return false
	}
	before, after := w.docs.order.Payment, write.order.Payment
	if before != nil {
		require.Equal(w.t, before.ID, after.ID, "an order has one payment")
		require.Equal(w.t, before.Amount, after.Amount)
		require.Contains(w.t, []string{"", after.StripeID}, before.StripeID, "and one intent")
		require.GreaterOrEqual(w.t, after.Version, before.Version)
		same := before.Status == after.Status && before.ChargeID == after.ChargeID && before.Refunded == after.Refunded &&
			before.RefundFailed == after.RefundFailed && before.Dispute == after.Dispute
		if same {
			require.Equal(w.t, before.Version, after.Version, "a new version is a new status, a new decline, or something about refunds and disputes: %+v", after)
		}
		if before.Version == after.Version {
			require.True(w.t, same, "%+v, %+v", before, after)
		}
		require.False(w.t, before.Status == Voided && after.Status != Voided, "what has ended stays so")
		if before.Status == Refunded {
			require.Contains(w.t, []Status{Refunded, Captured}, after.Status, "only a refund that fails takes it back")
		}
		require.Contains(w.t, []int{before.Attempt.Number, before.Attempt.Number + 1}, after.Attempt.Number)
		if after.Attempt.Number > before.Attempt.Number {
			require.True(w.t, after.Attempt.Open, "an attempt begins open")
			require.True(w.t, before.Status.open(), "no attempt is made once the money is held")
			require.False(w.t, before.unresolved(), "no attempt is made before it is known what became of the last")
		}
	}
	for _, event := range reported {
		_, version := event.Aggregate()
		for _, earlier := range w.heard[w.since:] {
			_, known := earlier.Aggregate()
			require.Greater(w.t, version, known, "each version is reported once, in order")
		}
		w.heard = append(w.heard, event)
	}
	w.docs.order = write.read().order
	if p := w.docs.order.Payment; p != nil && p.declined() >= w.limit { // as store.record says
		p.Exhausted = true
	}
	w.docs.etag++
	return true
}

// process is a request or a settling under way. It takes one step at a time.
type process struct {
	next func() (struct{}, bool)
	stop func()
}

func (w *town) start(run func(pause func() bool)) {
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		run(func() bool { return yield(struct{}{}) })
	})
	w.running = append(w.running, &process{next, stop})
}

// hear is store.ApplyOrder. If Stripe is quick, what the order asks for is done in the same write.
func (w *town) hear(reported events.Order, quick bool) func(pause func() bool) {
	return func(pause func() bool) {
		for {
			docs := w.docs.read()
			before := docs.read().order
			if !docs.order.Apply(reported) {
				require.Equal(w.t, before, docs.order, "what is not newer changes nothing")
				return
			}
			require.Greater(w.t, docs.order.Version, before.Version)
			var tell []events.Payload
			if p := docs.order.Payment; p != nil {
				require.Equal(w.t, before.Payment.ID, p.ID, "a payment is not forgotten")
				if quick && !p.unresolved() {
					if _, tell = w.follow(pause, &docs.order, Intent{}); tell == nil && docs.order.Due(p.Status) != Nothing {
						return // stopped
					}
				}
			}
			if !pause() || w.commit(docs, tell) {
				return
			}
		}
	}
}

// send makes a request to Stripe. It may arrive after its process was stopped; ok is false then.
func (w *town) send(pause func() bool, request func() Intent) (reported Intent, ok bool) {
	arrived := false
	arrive := func() {
		if !arrived {
			arrived, reported = true, request()
		}
	}
	w.wire = append(w.wire, arrive)
	if !pause() {
		return Intent{}, false
	}
	arrive()
	return reported, pause()
}

// pay is store.Pay. card is what the bank will say, or that Stripe breaks.
func (w *town) pay(method string, card Status) func(pause func() bool) {
	return func(pause func() bool) {
		var made Attempt
		beaten, asked := false, Intent{}
		for {
			docs := w.docs.read()
			if beaten || made.Number > 0 {
				docs = w.docs.withAttempt()
			}
			order := &docs.order
			if order.ID == "" || !pause() {
				return
			}
			if made.Number == 0 {
				payment := order.Payment
				if payment != nil && payment.Status.ended() || (payment == nil || payment.Status.open()) && order.Payable(w.now) != nil {
					return
				}
				if payment == nil {
					beaten = true
					if w.docs.attempt != nil {
						continue
					}
					w.docs.attempt = &firstAttempt{Method: method, At: w.now}
					made = order.Begin(method, w.now).Attempt
				} else {
					declines := payment.Declines
					switch payment.Try(method, w.now) {
					case ResumeAttempt:
						made = payment.Attempt
					case ResolveFirst:
						if !w.resolveAndWrite(pause, docs) {
							return
						}
						continue
					case NewAttempt:
						if declines >= w.limit {
							return
						}
						if !w.commit(docs, nil) {
							continue
						}
						made = payment.Attempt
						docs = w.docs.read()
						order = &docs.order
					}
				}
				if !pause() {
					return
				}
			}
			payment := order.Payment
			reported, ok := Intent{}, true
			mine := made.Number > 0 && payment.Attempt.Number == made.Number && payment.Attempt.Open
			switch {
			case asked.ID != "":
				if payment.StripeID == "" {
					payment.StripeID = asked.ID
				}
				if payment.StripeID != asked.ID {
					w.stripe.release(asked.ID)
				}
				reported = w.get(*order)
			case made.Number == 0 && payment.Status == RequiresAction:
				reported = w.get(*order)
			case !mine, !payment.Status.open():
			case order.Status != OrderCreated:
				if payment.unresolved() {
					reported, ok = w.resolve(pause, payment)
				}
			case payment.StripeID == "":
				taken := false
				reported, ok = w.send(pause, func() Intent {
					request, other := w.stripe.create(made.Number, method, card)
					taken = other
					switch {
					case taken:
						return Intent{}
					case request.intent == nil:
						intent := w.stripe.search()
						if intent.ID == "" {
							intent = w.stripe.empty().get()
						}
						if intent.Status == Pending && card != broken {
							intent = w.stripe.at(intent.ID).confirm(made.Number, card)
						}
						return intent
					}
					return request.intent.get()
				})
				if taken {
					made = Attempt{}
					if !ok || !w.resolveAndWrite(pause, docs) {
						return
					}
					continue
				}
			default:
				reported, ok = w.send(pause, func() Intent {
					if card == broken {
						return w.stripe.at(payment.StripeID).get()
					}
					return w.stripe.at(payment.StripeID).confirm(made.Number, card)
				})
			}
			if !ok {
				return
			}
			if mine && reported.ID != "" {
				asked = reported
			}
			changed, tell := w.follow(pause, order, reported)
			concluded := made.Number > 0 && payment.Conclude(made.Number, asked.Status == Failed)
			if !pause() || !changed && !concluded || w.commit(docs, tell) {
				return
			}
		}
	}
}

func (s *stripeItself) empty() *intentAtStripe {
	intent := &intentAtStripe{id: fmt.Sprintf("pi_%d", len(s.intents)+1), status: Pending, tried: map[int]bool{}}
	s.intents = append(s.intents, intent)
	return intent
}

// resolve is store.resolve.
func (w *town) resolve(pause func() bool, p *Payment) (Intent, bool) {
	number := p.Attempt.Number
	reported, ok := w.send(pause, func() Intent { return w.stripe.find(number) })
	if ok && (reported.Status == Pending || reported.Status == Failed || reported.ID == "") {
		p.Conclude(number, reported.Status == Failed)
	}
	return reported, ok
}

// resolveAndWrite is wish.resolve; whoever called it refreshes again.
func (w *town) resolveAndWrite(pause func() bool, docs documents) (ok bool) {
	reported, ok := w.resolve(pause, docs.order.Payment)
	if ok {
		_, tell := w.follow(pause, &docs.order, reported)
		w.commit(docs, tell)
	}
	return ok
}

// look asks Stripe, unless nothing can change any more.
func (w *town) get(o Order) Intent {
	if o.Payment.Status == Voided || o.Payment.StripeID == "" {
		return Intent{}
	}
	return w.stripe.at(o.Payment.StripeID).get()
}

func (w *town) asNeeded(o Order) Intent {
	if o.Due(o.Payment.Status) != Nothing || !o.Payment.Status.open() || o.Payment.idle() {
		return Intent{}
	}
	return w.get(o)
}

// follow is store.follow.
func (w *town) follow(pause func() bool, order *Order, reported Intent) (changed bool, tell []events.Payload) {
	payment := order.Payment
	if payment.unresolved() && reported.ID == "" {
		return false, nil
	}
	if reported.Status == Authorized && order.Due(payment.Status) == Void {
		reported = Intent{ID: reported.ID}
	}
	for n := 0; ; n++ {
		event, more := payment.Observe(reported, w.now)
		if event != nil {
			tell = append(tell, event)
		}
		changed = changed || more
		due := order.Due(payment.Status)
		if due == Nothing {
			return changed, tell
		}
		require.Less(w.t, n, mostActions, "payment %s, order %s", payment.Status, order.Status)
		if payment.StripeID == "" {
			reported = Intent{Status: Voided}
		} else {
			reported = w.stripe.at(payment.StripeID).do(due)
		}
		pause()
	}
}

// settle is store.settle.
func (w *town) settle(pause func() bool, look func(Order) Intent) {
	for {
		docs := w.docs.withAttempt()
		order := &docs.order
		if order.Payment == nil || !pause() {
			return
		}
		reported, ok, open := Intent{}, true, order.Payment.Attempt.Open
		if order.Payment.unresolved() {
			reported, ok = w.resolve(pause, order.Payment)
		} else {
			reported = look(*order)
		}
		if !ok || !pause() {
			return
		}
		changed, tell := w.follow(pause, order, reported)
		if changed = changed || open != order.Payment.Attempt.Open; !changed || !pause() || w.commit(docs, tell) {
			return
		}
	}
}

// webhook is store.HandleNotice, for who remembers nothing.
func (w *town) webhook(reported Intent) func(pause func() bool) {
	return func(pause func() bool) {
		order := w.docs.withAttempt().order
		switch p := order.Payment; {
		case order.ID == "":
		case !order.has(reported):
			switch reported.Status {
			case RequiresAction, Authorized, Captured:
				if order.Payment == nil {
					w.adopt(pause, w.stripe.at(reported.ID))
				} else {
					w.stripe.release(reported.ID)
				}
			}
		case p.Knows(reported), p.inHand(&order, reported, w.now):
		default:
			w.settle(pause, func(o Order) Intent {
				if o.Payment.Knows(reported) {
					return Intent{}
				}
				return w.get(o)
			})
		}
	}
}

func (w *town) settled() { w.settle(func() bool { return true }, w.get) }

// goOn lets one of the processes take steps.
func (w *town) goOn(t *rapid.T, steps int) {
	if len(w.running) == 0 {
		return
	}
	one := rapid.IntRange(0, len(w.running)-1).Draw(t, "which")
	for range steps {
		if _, more := w.running[one].next(); !more {
			w.running = slices.Delete(w.running, one, one+1)
			return
		}
	}
}

// paidFor is the owner's part: funds that are authorized complete a live order; to one that is cancelled they are
// answered by reporting so again.
func (w *town) paidFor() {
	switch w.owner.Status {
	case string(OrderCreated):
		w.becomes(OrderComplete)
	case string(OrderCancelled):
		w.hear(w.owner, true)(func() bool { return true })
	}
}

// restore replaces the documents by those of the backup. Whoever was at work has ended.
func (w *town) restore() {
	for _, p := range w.running {
		p.stop()
	}
	w.running = nil
	etag := w.docs.etag
	w.docs = w.backup.read()
	w.docs.etag = etag + 1
	w.since, w.restored = len(w.heard), true
}

// compare is the daily comparison with Stripe.
func (w *town) compare() {
	for _, intent := range w.stripe.intents {
		if p := w.docs.withAttempt().order.Payment; p != nil && (p.StripeID == intent.id || p.unresolved()) {
			w.settled()
			continue
		}
		w.adopt(func() bool { return true }, intent)
	}
}

// adopt is store.adopt.
func (w *town) adopt(pause func() bool, intent *intentAtStripe) {
	for {
		docs, seen := w.docs.withAttempt(), intent.get()
		order := &docs.order
		lost := order.ID == ""
		switch {
		case !lost && order.Payment != nil && order.has(seen), seen.Status == Voided, seen.Status == Refunded:
			return
		case !lost && order.Payment != nil, lost && seen.Status.open():
			w.stripe.release(intent.id)
			return
		case lost:
			*order = Order{Schema: orderSchema, ID: w.owner.ID, UserID: w.owner.UserID, Status: OrderCreated, Amount: price, Currency: "usd"}
		}
		payment := order.Begin("", w.now)
		payment.Conclude(1, seen.Status == Failed)
		payment.StripeID = intent.id
		var tell []events.Payload
		if seen.Status == Captured {
			event, _ := payment.Observe(Intent{ID: seen.ID, Status: Authorized, ChargeID: seen.ChargeID}, w.now)
			tell = append(tell, event)
		}
		_, more := w.follow(pause, order, seen)
		if !pause() || w.commit(docs, append(tell, more...)) {
			return
		}
	}
}

// ownerHandles is what the owner makes of an event of the payment.
func (w *town) ownerHandles(event events.Payload) {
	switch e := event.(type) {
	case events.PaymentCreated:
		w.paidFor()
	case events.PaymentVoided:
		if w.owner.Status != string(OrderCancelled) {
			w.becomes(OrderCancelled)
		}
	case events.PaymentRefunded:
		if e.Refunded >= e.Amount && w.owner.Status == string(OrderComplete) {
			w.becomes(OrderCancelled)
		}
	}
}

func (w *town) commands() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"somebody pays": func(t *rapid.T) {
			method := rapid.SampledFrom([]string{"visa", "amex"}).Draw(t, "method")
			card := rapid.SampledFrom([]Status{Authorized, RequiresAction, Failed, broken}).Draw(t, "the bank says")
			w.start(w.pay(method, card))
		},
		"a webhook comes": func(t *rapid.T) {
			if len(w.stripe.reported) > 0 {
				w.start(w.webhook(rapid.SampledFrom(w.stripe.reported).Draw(t, "reported")))
			}
		},
		"the queue calls": func(*rapid.T) { w.start(func(pause func() bool) { w.settle(pause, w.asNeeded) }) },
		"the sweep comes": func(*rapid.T) { w.start(func(pause func() bool) { w.settle(pause, w.get) }) },
		"a lost request arrives": func(t *rapid.T) {
			if len(w.wire) > 0 {
				w.wire[rapid.IntRange(0, len(w.wire)-1).Draw(t, "which request")]()
			}
		},
		"a process goes on":         func(t *rapid.T) { w.goOn(t, rapid.IntRange(1, 4).Draw(t, "steps")) },
		"another process goes on":   func(t *rapid.T) { w.goOn(t, rapid.IntRange(1, 4).Draw(t, "steps")) },
		"a process goes to its end": func(t *rapid.T) { w.goOn(t, 1000) },
		"a process dies": func(t *rapid.T) {
			if n := len(w.running); n > 0 && rapid.Bool().Draw(t, "really") {
				one := rapid.IntRange(0, n-1).Draw(t, "which")
				w.running[one].stop()
				w.running = slices.Delete(w.running, one, one+1)
			}
		},
		"an order event arrives": func(t *rapid.T) {
			w.start(w.hear(rapid.SampledFrom(w.reported).Draw(t, "reported"), rapid.Bool().Draw(t, "Stripe is quick")))
		},
		"a payment event arrives": func(t *rapid.T) {
			if len(w.heard) > 0 {
				w.ownerHandles(rapid.SampledFrom(w.heard).Draw(t, "reported"))
			}
		},
		"the buyer meets the bank": func(t *rapid.T) {
			for _, intent := range w.stripe.intents {
				if intent.status == RequiresAction {
					intent.reach(rapid.SampledFrom([]Status{Authorized, Failed}).Draw(t, "the bank says"))
				}
			}
		},
		"a card is tried with the client secret": func(t *rapid.T) {
			for _, intent := range w.stripe.intents {
				if intent.secret && intent.status.open() {
					intent.reach(rapid.SampledFrom([]Status{Authorized, Failed, Failed, RequiresAction}).Draw(t, "the bank says"))
				}
			}
		},
		"a backup is made": func(*rapid.T) {
			docs := w.docs.read()
			w.backup = &docs
		},
		"a backup is restored": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "really, if 0") == 0 {
				w.restore()
			}
		},
		"payments are compared with Stripe": func(*rapid.T) { w.compare() },
		"somebody refunds in the dashboard": func(t *rapid.T) {
			for _, intent := range w.stripe.intents {
				if intent.refundable() {
					left := price - intent.given()
					intent.refunded += min(rapid.SampledFrom([]int64{1000, 2500}).Draw(t, "amount"), left)
					intent.bounced = false
				}
			}
		},
		"a refund fails": func(t *rapid.T) {
			for _, intent := range w.stripe.intents {
				if intent.status == Captured && intent.refunded > 0 && rapid.Bool().Draw(t, "really") {
					intent.refunded, intent.bounced = 0, true
				}
			}
		},
		"a buyer disputes": func(t *rapid.T) {
			for _, intent := range w.stripe.intents {
				if intent.status == Captured && intent.dispute.ID == "" && intent.refunded == 0 {
					intent.dispute = Dispute{ID: "dp_1", Status: rapid.SampledFrom([]string{"needs_response", "warning_needs_response"}).Draw(t, "status"),
						Amount: rapid.SampledFrom([]int64{price, 700}).Draw(t, "amount")}
				}
			}
		},
		"a bank decides": func(t *rapid.T) {
			for _, intent := range w.stripe.intents {
				if intent.dispute.undecided() {
					intent.dispute.Status = rapid.SampledFrom([]string{"won", "lost"}).Draw(t, "outcome")
				}
			}
		},
		"the order is cancelled": func(t *rapid.T) {
			if w.owner.Status == string(OrderCreated) && rapid.Bool().Draw(t, "really") {
				w.becomes(OrderCancelled)
			}
		},
		"the complete order is cancelled after all": func(t *rapid.T) {
			if w.owner.Status == string(OrderComplete) && rapid.IntRange(0, 3).Draw(t, "really, if 0") == 0 {
				w.becomes(OrderCancelled)
			}
		},
		"time passes": func(t *rapid.T) {
			w.now = w.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "seconds")) * time.Second)
		},
		"": func(t *rapid.T) {
			w.stripe.tell()
			require.LessOrEqual(t, w.stripe.sum(func(i *intentAtStripe) int { return i.authorizations }), 1, "charged twice")
			require.LessOrEqual(t, w.stripe.sum(func(i *intentAtStripe) int { return i.captures }), 1)
			if !w.restored { // a backup knows of no attempt that is younger
				require.LessOrEqual(t, w.stripe.sum(func(i *intentAtStripe) int { return i.declines }), w.limit, "cards are tested")
			}
			if w.stripe.sum(func(i *intentAtStripe) int { return i.captures }) > 0 {
				require.True(t, slices.ContainsFunc(w.reported, func(o events.Order) bool { return o.Status == string(OrderComplete) }),
					"money was taken for an order that was never complete")
			}
		},
	}
}

// rest lets everything that is on its way arrive, and refreshes at Stripe once more, as the queue does in the end.
func (w *town) rest() {
	for _, p := range w.running {
		p.stop()
	}
	w.running = nil
	for range 3 { // an answer to an answer to an answer
		w.compare()
		for _, reported := range slices.Clone(w.reported) {
			w.hear(reported, true)(func() bool { return true })
		}
		w.settled()
		for _, reported := range slices.Clone(w.heard) {
			w.ownerHandles(reported)
		}
	}
}

func TestMoney_FollowsTheOrderWhateverTheInterleaving(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTown(t)
		t.Cleanup(func() {
			for _, p := range w.running {
				p.stop()
			}
		})
		for range 5 {
			t.Repeat(w.commands())
		}
		w.rest()

		for _, arrive := range w.wire { // now that nobody waits for it any more
			arrive()
		}
		w.stripe.tell()
		for _, reported := range slices.Clone(w.stripe.reported) {
			w.webhook(reported)(func() bool { return true })
		}
		w.rest()
		order, payment := w.docs.order, w.docs.order.Payment
		require.Equal(t, w.owner.Version, order.Version, "the replica is as the order is")
		require.Equal(t, w.owner.Status, string(order.Status))
		money := func(count func(*intentAtStripe) int) int { return w.stripe.sum(count) }
		authorized := money(func(i *intentAtStripe) int { return i.authorizations })
		captured := money(func(i *intentAtStripe) int { return i.captures })
		refunded := money(func(i *intentAtStripe) int { return i.refunds })
		if payment == nil {
			for _, intent := range w.stripe.intents { // a restored backup may be older than what was ended
				require.NotContains(t, []Status{RequiresAction, Authorized, Captured}, intent.get().Status, "money is held that nobody knows of")
			}
			return
		}
		for _, intent := range w.stripe.intents {
			if intent.id != payment.StripeID {
				require.NotContains(t, []Status{RequiresAction, Authorized, Captured}, intent.get().Status, "money is held that nobody knows of")
			}
		}
		var stripes Intent
		if payment.StripeID == "" {
			require.Contains(t, []Status{Pending, Voided}, payment.Status)
		} else {
			stripes = w.stripe.at(payment.StripeID).get()
			require.Equal(t, stripes.Status, payment.Status, "the payment is as Stripe says")
			require.Equal(t, stripes.Refunded, payment.Refunded)
			require.Equal(t, stripes.Dispute, payment.Dispute)
		}
		if payment.Status.open() {
			require.GreaterOrEqual(t, payment.Declines, stripes.Declines, "each decline is counted, whoever made the attempt")
			require.Less(t, payment.declined(), w.limit, "a client secret is worth nothing when too many cards were declined")
		}
		for _, event := range w.heard {
			if e, ok := event.(events.PaymentRefunded); ok && e.Refunded >= e.Amount {
				require.Equal(t, OrderCancelled, order.Status, "whose money was given back keeps no ticket")
			}
		}
		require.True(t, order.Status == OrderCreated || order.Settled())
		switch order.Status {
		case OrderComplete:
			require.Equal(t, Captured, payment.Status)
			require.Equal(t, []int{1, 1, 0}, []int{authorized, captured, refunded})
		case OrderCancelled:
			require.True(t, payment.Status.ended() || payment.stuck(), "what can be given back was: %+v", payment)
			require.LessOrEqual(t, refunded, 1, "and once")
		default:
			require.True(t, payment.Status.open(), "an order whose funds are held becomes complete: %s", payment.Status)
			require.Zero(t, captured)
		}
	})
}

func TestApply_ConvergesWhateverIsDelivered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var life []events.Order
		for version := range rapid.IntRange(1, 6).Draw(t, "versions") {
			life = append(life, events.Order{
				ID: "order-1", UserID: "buyer-1", Version: version + 1, ExpiresAt: noon,
				Status: rapid.SampledFrom([]string{"created", "complete", "cancelled"}).Draw(t, "status"),
				Ticket: events.OrderedTicket{ID: "ticket-1", Price: rapid.Int64().Draw(t, "price"), Currency: "usd"},
			})
		}
		again := rapid.SliceOfN(rapid.SampledFrom(life), 0, len(life)).Draw(t, "again")
		var order Order
		changes := 0
		for n, reported := range rapid.Permutation(append(slices.Clone(life), again...)).Draw(t, "delivered") {
			if n == 1 {
				order.Begin("visa", noon)
			}
			newer := reported.Version > order.Version
			require.Equal(t, newer, order.Apply(reported))
			if newer {
				changes++
			}
		}
		last := life[len(life)-1]
		require.Equal(t, last.Version, order.Version)
		require.Equal(t, last.Status, string(order.Status))
		require.Equal(t, last.Ticket.Price, order.Amount)
		require.LessOrEqual(t, changes, len(life))
		if len(life)+len(again) > 1 {
			require.Equal(t, "order-1", order.Payment.ID, "what was begun here is not the owner's to change")
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
				switch p.Try(method, noon) {
				case NewAttempt:
					newest++
					require.Equal(t, Attempt{Number: newest, Method: method, Open: true, At: noon}, p.Attempt)
					require.True(t, before.Status.open())
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
				require.False(t, before.Status.ended())
				_, changed = p.Observe(reported, noon)
				require.False(t, changed, "the same said again is nothing new")
			},
		})
	})
}
