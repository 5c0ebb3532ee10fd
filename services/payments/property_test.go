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

// The rules of payment.go under every interleaving that rapid can think of: processes that pay and settle as
// till does, each of which may be stopped for ever between any two of its steps; a store that holds an order and
// its payment under one condition; an intent at Stripe; and the owner of the order, whose events come in any
// order and any number of times. Steps are taken one at a time, so a failure shrinks to a short story.
// (store_test.go lets the real till do the same with the sandbox, in parallel.)

// intentAtStripe is a PaymentIntent with manual capture, as far as it matters here.
type intentAtStripe struct {
	status         Status       // Pending: it waits for a card
	charge         int          // the number of the latest attempt that reached the bank
	tried          map[int]bool // the idempotency keys of confirmations
	authorizations int
	captures       int
	refunds        int
}

func (i *intentAtStripe) look() Intent {
	to := Intent{ID: "pi_1", Status: i.status, ChargeID: fmt.Sprintf("ch_%d", i.charge)}
	if i.status == Failed {
		to.DeclineCode = "insufficient_funds"
	}
	return to
}

func (i *intentAtStripe) confirm(attempt int, outcome Status) Intent {
	if !i.tried[attempt] && i.status.open() {
		i.tried[attempt] = true
		i.reach(outcome)
	}
	return i.look()
}

// reach is the bank's answer to an attempt, at once or after it has seen the buyer.
func (i *intentAtStripe) reach(outcome Status) {
	i.charge++
	i.status = outcome
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
	case action == Refund && i.status == Captured:
		i.status = Refunded
		i.refunds++
	}
	return i.look()
}

// documents are the order and its payment as the store has them. Each write makes a new etag.
type documents struct {
	order   Order
	payment Payment
	etag    int
}

// town is all of it together.
type town struct {
	t       *rapid.T
	docs    documents
	stripe  intentAtStripe
	now     time.Time
	running []*process

	owner events.Order     // the order, where it is decided
	told  []events.Order   // what its owner told
	heard []events.Payload // what payments told
}

func newTown(t *rapid.T) *town {
	w := &town{t: t, now: noon}
	w.stripe = intentAtStripe{status: Pending, tried: map[int]bool{}}
	w.owner = events.Order{ID: "order-1", UserID: "buyer-1", Status: "created", ExpiresAt: noon.Add(15 * time.Minute), Version: 1,
		Ticket: events.OrderedTicket{ID: "ticket-1", Price: 2500, Currency: "usd"}}
	w.told = []events.Order{w.owner}
	if rapid.IntRange(0, 3).Draw(t, "the order is known") > 0 {
		w.hear(w.owner)
	}
	return w
}

// becomes changes the order where it is decided.
func (w *town) becomes(status OrderStatus) {
	w.owner.Status = string(status)
	w.owner.Version++
	w.told = append(w.told, w.owner)
}

// commit writes the documents if they are as they were read, and checks what may become of a payment.
func (w *town) commit(read, write documents, told []events.Payload) bool {
	if read.etag != w.docs.etag {
		return false
	}
	before, after := w.docs.payment, write.payment
	if before.ID != "" {
		require.Equal(w.t, before.ID, after.ID, "an order has one payment")
		require.Equal(w.t, before.Amount, after.Amount)
		require.GreaterOrEqual(w.t, after.Version, before.Version)
		require.Equal(w.t, before.Status == after.Status && before.ChargeID == after.ChargeID, before.Version == after.Version,
			"a new version is a new status or a new decline: %+v, %+v", before, after)
		require.False(w.t, before.Status.ended() && after.Status != before.Status, "what has ended stays so")
		require.Contains(w.t, []int{before.Attempt.Number, before.Attempt.Number + 1}, after.Attempt.Number)
		if after.Attempt.Number > before.Attempt.Number {
			require.True(w.t, after.Attempt.Open, "an attempt begins open")
			require.True(w.t, before.Status.open(), "no attempt is made once the money is held")
		}
	}
	for _, event := range told {
		_, version := event.Aggregate()
		for _, earlier := range w.heard {
			_, known := earlier.Aggregate()
			require.Greater(w.t, version, known, "each version is told once, in order")
		}
		w.heard = append(w.heard, event)
	}
	write.etag = read.etag + 1
	w.docs = write
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

func (w *town) hear(told events.Order) {
	docs := w.docs
	before := docs.order
	if docs.order.Hear(told) {
		require.Greater(w.t, docs.order.Version, before.Version)
		require.Equal(w.t, before.PaymentID, docs.order.PaymentID, "a payment is not forgotten")
		w.commit(w.docs, docs, nil)
		return
	}
	require.Equal(w.t, before, docs.order, "what is not newer changes nothing")
}

// pay is till.Pay: write an attempt down, make it, write its outcome down. card is what the bank will say.
func (w *town) pay(method string, card Status) func(pause func() bool) {
	return func(pause func() bool) {
		plan, attempt := ShowAsItIs, 0
		for committed := false; !committed; {
			read := w.docs
			write := read
			order, payment := &write.order, &write.payment
			if order.ID == "" || payment.ID != "" && payment.Status.ended() {
				return
			}
			if payment.ID == "" || payment.Status.open() {
				if order.Payable(w.now) != nil {
					return
				}
			}
			if !pause() {
				return
			}
			if payment.ID == "" {
				write.payment = Begin("payment-1", order, "pi_1", method, w.now)
				plan, attempt = NewAttempt, 1
			} else {
				plan = payment.Try(method)
				attempt = payment.Attempt.Number
			}
			if !pause() {
				return
			}
			committed = plan != NewAttempt || w.commit(read, write, nil)
		}
		made := false
		w.settle(pause, func(docs documents) Intent {
			switch {
			case made, plan == ShowAsItIs && docs.payment.Status == RequiresAction:
				return w.stripe.look()
			case plan == ShowAsItIs, docs.order.Status != OrderCreated:
				return Intent{}
			}
			made = true
			return w.stripe.confirm(attempt, card)
		}, func(p *Payment) bool { return plan != ShowAsItIs && p.Conclude(attempt) })
	}
}

func (w *town) asStripeTells(docs documents) Intent {
	if docs.payment.Status.ended() {
		return Intent{}
	}
	return w.stripe.look()
}

func (w *town) asNeeded(docs documents) Intent {
	if docs.order.Due(docs.payment.Status) != Nothing || !docs.payment.Status.open() {
		return Intent{}
	}
	return w.stripe.look()
}

// settle is till.settle.
func (w *town) settle(pause func() bool, look func(documents) Intent, finish func(*Payment) bool) {
	for {
		read := w.docs
		write := read
		order, payment := &write.order, &write.payment
		if payment.ID == "" || !pause() {
			return
		}
		told := look(read)
		if !pause() {
			return
		}
		var tell []events.Payload
		changed := false
		for n := 0; ; n++ {
			event, more := payment.Observe(told, w.now)
			if event != nil {
				tell = append(tell, event)
			}
			changed = changed || more
			due := order.Due(payment.Status)
			if due == Nothing {
				break
			}
			require.Less(w.t, n, mostActions, "payment %s, order %s, intent %s", payment.Status, order.Status, w.stripe.status)
			told = w.stripe.do(due)
			if !pause() {
				return
			}
		}
		if !finish(payment) && !changed || w.commit(read, write, tell) {
			return
		}
	}
}

func (w *town) settled() {
	w.settle(func() bool { return true }, w.asStripeTells, func(*Payment) bool { return false })
}

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
// answered by telling so again.
func (w *town) paidFor() {
	switch w.owner.Status {
	case string(OrderCreated):
		w.becomes(OrderComplete)
	case string(OrderCancelled):
		w.hear(w.owner)
	}
}

func (w *town) commands() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"somebody pays": func(t *rapid.T) {
			method := rapid.SampledFrom([]string{"visa", "amex"}).Draw(t, "method")
			card := rapid.SampledFrom([]Status{Authorized, RequiresAction, Failed}).Draw(t, "the bank says")
			w.start(w.pay(method, card))
		},
		"a webhook comes": func(*rapid.T) {
			w.start(func(pause func() bool) { w.settle(pause, w.asStripeTells, func(*Payment) bool { return false }) })
		},
		"the agenda calls": func(*rapid.T) {
			w.start(func(pause func() bool) { w.settle(pause, w.asNeeded, func(*Payment) bool { return false }) })
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
		"an order event arrives": func(t *rapid.T) { w.hear(rapid.SampledFrom(w.told).Draw(t, "told")) },
		"a payment event arrives": func(t *rapid.T) {
			if len(w.heard) > 0 {
				if _, ok := rapid.SampledFrom(w.heard).Draw(t, "told").(events.PaymentCreated); ok {
					w.paidFor()
				}
			}
		},
		"the buyer meets the bank": func(t *rapid.T) {
			if w.stripe.status == RequiresAction {
				w.stripe.reach(rapid.SampledFrom([]Status{Authorized, Failed}).Draw(t, "the bank says"))
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
			require.LessOrEqual(t, w.stripe.authorizations, 1, "charged twice")
			require.LessOrEqual(t, w.stripe.captures, 1)
			if w.stripe.captures > 0 {
				require.True(t, slices.ContainsFunc(w.told, func(o events.Order) bool { return o.Status == string(OrderComplete) }),
					"money was taken for an order that was never complete")
			}
		},
	}
}

// rest lets everything that is on its way arrive, and looks at Stripe once more, as the agenda does in the end.
func (w *town) rest() {
	for _, p := range w.running {
		p.stop()
	}
	for range 3 { // an answer to an answer to an answer
		for _, told := range slices.Clone(w.told) {
			w.hear(told)
		}
		w.settled()
		for _, told := range slices.Clone(w.heard) {
			if _, ok := told.(events.PaymentCreated); ok {
				w.paidFor()
			}
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

		order, payment, stripe := w.docs.order, w.docs.payment, w.stripe
		require.Equal(t, w.owner.Version, order.Version, "the replica is as the order is")
		require.Equal(t, w.owner.Status, string(order.Status))
		if payment.ID == "" {
			require.Zero(t, stripe.authorizations, "nobody is charged but by a payment that is written down")
			return
		}
		require.Equal(t, stripe.status, payment.Status, "the payment is as Stripe says")
		switch order.Status {
		case OrderComplete:
			require.Equal(t, Captured, payment.Status)
			require.Equal(t, []int{1, 1, 0}, []int{stripe.authorizations, stripe.captures, stripe.refunds})
		case OrderCancelled:
			require.True(t, payment.Status.ended(), "%s", payment.Status)
			require.Equal(t, stripe.captures, stripe.refunds, "what was taken was given back")
		default:
			require.True(t, payment.Status.open(), "an order whose funds are held becomes complete: %s", payment.Status)
			require.Zero(t, stripe.captures)
		}
	})
}

func TestHear_ConvergesWhateverIsDelivered(t *testing.T) {
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
		for n, told := range rapid.Permutation(append(slices.Clone(life), again...)).Draw(t, "delivered") {
			if n == 1 {
				order.PaymentID = "payment-1"
			}
			newer := told.Version > order.Version
			require.Equal(t, newer, order.Hear(told))
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
			require.Equal(t, "payment-1", order.PaymentID, "what was begun here is not the owner's to change")
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
				switch p.Try(method) {
				case NewAttempt:
					newest++
					require.Equal(t, Attempt{Number: newest, Method: method, Open: true}, p.Attempt)
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
				require.Equal(t, number == newest && before.Attempt.Open, p.Conclude(number))
				before.Attempt.Open = p.Attempt.Open
				require.Equal(t, before, p, "nothing else changes")
			},
			"observe": func(t *rapid.T) {
				before := p
				told := Intent{
					Status:      rapid.SampledFrom([]Status{"", Pending, RequiresAction, Authorized, Captured, Voided, Refunded, Failed}).Draw(t, "status"),
					ChargeID:    rapid.SampledFrom([]string{"", "ch_1", "ch_2"}).Draw(t, "charge"),
					DeclineCode: rapid.SampledFrom([]string{"", "generic_decline"}).Draw(t, "code"),
				}
				event, changed := p.Observe(told, noon)
				require.Equal(t, before.Attempt, p.Attempt)
				if !changed {
					require.Nil(t, event)
					require.Equal(t, before, p)
					return
				}
				require.Equal(t, before.Version+1, p.Version)
				require.Equal(t, told.Status, p.Status)
				require.Equal(t, p.Status != RequiresAction, event != nil)
				require.False(t, before.Status.ended())
				_, changed = p.Observe(told, noon)
				require.False(t, changed, "the same said again is nothing new")
			},
		})
	})
}
