package e2e

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// Processes die, and the broker goes away. What was answered for is not lost by that, and what it causes happens
// when they are back.

// without runs something while a process is away. Without the broker, services commit but nobody hears of it.
func (h *house) without(t *testing.T, process string, run func()) {
	t.Helper()
	require.NoError(t, h.Process(process).Kill())
	run()
	require.NoError(t, h.Process(process).Start())
	require.NoError(t, h.WaitReady(t.Context(), process))
}

// change is something that a service has answered for: the ids of its events, and a look at what they cause.
type change struct {
	events []string
	caused func(t *testing.T)
}

// changes are one for each service that has a journal. What it needs is there when it is made, so that it can be
// done while the broker is away.
var changes = []struct {
	service string
	prepare func(t *testing.T, h *house) (make func(t *testing.T) change)
}{
	{"auth", func(t *testing.T, h *house) func(*testing.T) change {
		return func(t *testing.T) change {
			someone := h.signUp(t)
			return change{[]string{"user.created:" + someone.ID + ":1"}, func(t *testing.T) {
				r := h.do(t, "POST", "/api/users/signin", credentials{someone.Email, someone.password})
				require.Equal(t, 200, r.status, "%s", r.body)
			}}
		}
	}},
	{"tickets", func(t *testing.T, h *house) func(*testing.T) change {
		seller, buyer := h.signUp(t), h.signUp(t)
		return func(t *testing.T) change {
			listed := seller.list(t, "Listed in the dark", 1000)
			r := seller.do(t, "PUT", "/api/tickets/"+listed.ID, offer{Title: "And changed", Price: 2000})
			require.Equal(t, 200, r.status, "%s", r.body)
			return change{[]string{"ticket.created:" + listed.ID + ":1", "ticket.updated:" + listed.ID + ":2"}, func(t *testing.T) {
				eventually(t, "the ticket can be had at its last price", func() bool {
					status, given := buyer.reserve(t, listed.ID)
					if status != 201 || given.Ticket.Price == 2000 {
						return status == 201
					}
					require.Equal(t, 204, buyer.cancel(t, given.ID)) // only the first event was heard
					return false
				})
			}}
		}
	}},
	{"orders", func(t *testing.T, h *house) func(*testing.T) change {
		seller, buyer := h.signUp(t), h.signUp(t)
		kept, left := seller.list(t, "Reserved in the dark", 1000), seller.list(t, "Freed in the dark", 1000)
		held := buyer.reserved(t, left.ID)
		h.ticketBecomes(t, "reserved", left.ID)
		known(t, buyer, kept)
		return func(t *testing.T) change {
			given := buyer.reserved(t, kept.ID)
			require.Equal(t, 204, buyer.cancel(t, held.ID))
			return change{[]string{"order.created:" + given.ID + ":1", "order.cancelled:" + held.ID + ":2"}, func(t *testing.T) {
				require.Equal(t, given.ID, h.ticketBecomes(t, "reserved", kept.ID).OrderID)
				h.ticketBecomes(t, "available", left.ID)
			}}
		}
	}},
	{"payments", func(t *testing.T, h *house) func(*testing.T) change {
		seller, buyer := h.signUp(t), h.signUp(t)
		seat := seller.list(t, "Paid in the dark", 1000)
		given := buyer.reserved(t, seat.ID)
		status, _ := buyer.pay(t, given.ID, declinedCard) // the payments service has heard of the order
		require.Equal(t, 402, status)
		return func(t *testing.T) change {
			status, paid := buyer.pay(t, given.ID, goodCard)
			require.Equal(t, 201, status)
			return change{[]string{"payment.created:" + paid.ID + ":3"}, func(t *testing.T) {
				buyer.orderBecomes(t, "complete", given.ID)
				h.ticketBecomes(t, "sold", seat.ID)
				buyer.paymentBecomes(t, "captured", paid.ID)
				require.Equal(t, int64(1000), sum(t, h.ledger(t, given.ID)).Kept)
			}}
		}
	}},
}

// known waits until the orders service has heard of a ticket.
func known(t *testing.T, buyer *person, listed ticket) {
	t.Helper()
	require.Equal(t, 204, buyer.cancel(t, buyer.reserved(t, listed.ID).ID))
}

func TestCrash_ServiceBetweenCommitAndPublish(t *testing.T) {
	t.Parallel()
	crashBetweenCommitAndPublish(t, "")
}

func TestCrash_SidecarBetweenCommitAndPublish(t *testing.T) {
	t.Parallel()
	crashBetweenCommitAndPublish(t, "-dapr")
}

// crashBetweenCommitAndPublish lets each service answer for a change while the broker is away, so that its
// events are in the journal alone; then the process dies.
func crashBetweenCommitAndPublish(t *testing.T, suffix string) {
	h := lentHouse(t, nil)
	events := h.stream(t)
	for _, c := range changes {
		victim := c.service + suffix
		t.Run(victim, func(t *testing.T) {
			makeChange := c.prepare(t, h)
			events.settled(t)
			var made change

			h.without(t, h.BrokerName(), func() {
				made = makeChange(t)
				require.NoError(t, h.Process(victim).Kill())
			})
			require.NoError(t, h.Process(victim).Start())
			require.NoError(t, h.WaitReady(t.Context()))

			events.holds(t, made.events...)
			made.caused(t)
			require.Zero(t, events.dead(t))
		})
	}
}

// Slots whose time is over while the broker is away, and orders whose event has not arrived: both end.
func TestCrash_RemindersAreNotLost(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"RESERVATION_WINDOW": "2s", "REMINDER_PERIOD": "1s"}})
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	for _, victim := range []string{"expiration", "expiration-dapr"} {
		t.Run(victim, func(t *testing.T) {
			reminded, unheard := seller.list(t, "Its reminder fires in the dark", 1000), seller.list(t, "Reserved in the dark", 1000)
			known(t, buyer, unheard)
			first := buyer.reserved(t, reminded.ID)
			events.settled(t)
			var second order

			h.without(t, h.BrokerName(), func() {
				second = buyer.reserved(t, unheard.ID)
				isOver(t, first)
				isOver(t, second)
				require.NoError(t, h.Process(victim).Kill())
			})
			require.NoError(t, h.Process(victim).Start())
			require.NoError(t, h.WaitReady(t.Context()))

			for _, given := range []order{first, second} {
				require.Equal(t, "expired", buyer.orderBecomes(t, "cancelled", given.ID).Reason)
				h.ticketBecomes(t, "available", given.Ticket.ID)
			}
			require.Zero(t, events.dead(t))
		})
	}
}

func TestBrokerAway_ReservationsGoOn(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, nil)
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	away := map[string]struct{ begin, end func(*stack.Process) error }{
		"gone":  {(*stack.Process).Kill, (*stack.Process).Start},
		"hangs": {(*stack.Process).Pause, (*stack.Process).Resume},
	}
	for name, broker := range away {
		t.Run(name, func(t *testing.T) {
			seats := make([]ticket, 20)
			for i := range seats {
				seats[i] = seller.list(t, "Reserved in the dark", 1000)
				known(t, buyer, seats[i])
			}
			events.settled(t)

			require.NoError(t, broker.begin(h.Process(h.BrokerName())))
			given := make([]order, len(seats))
			for i, seat := range seats {
				given[i] = buyer.reserved(t, seat.ID)
				require.Equal(t, "created", buyer.order(t, given[i].ID).Status)
				require.Equal(t, 409, seller.do(t, "POST", "/api/orders", wanted{seat.ID}).status)
			}
			require.NoError(t, broker.end(h.Process(h.BrokerName())))

			for i, seat := range seats {
				require.Equal(t, given[i].ID, h.ticketBecomes(t, "reserved", seat.ID).OrderID)
			}
			status, paid := buyer.pay(t, given[0].ID, goodCard)
			require.Equal(t, 201, status)
			buyer.paymentBecomes(t, "captured", paid.ID)
			require.Zero(t, events.dead(t))
		})
	}
}

func TestBankAway_MoneyFollowsWhenItIsBackAndOthersGoOn(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, nil)
	seller, buyer := h.signUp(t), h.signUp(t)
	bought, freed := seller.list(t, "Paid just in time", 1000), seller.list(t, "Cancelled just in time", 1000)
	kept, left := buyer.reserved(t, bought.ID), buyer.reserved(t, freed.ID)
	status, begun := buyer.pay(t, left.ID, secureCard)
	require.Equal(t, 201, status)
	require.Equal(t, "requires_action", begun.Status)

	h.without(t, "sandbox", func() {
		r := buyer.do(t, "POST", "/api/payments", paying{OrderID: kept.ID, PaymentMethod: goodCard})
		refused(t, 503, r, "processor_unavailable")
		require.NotEmpty(t, r.header.Get("Retry-After"))
		for _, path := range []string{"/healthz", "/readyz"} {
			require.Equal(t, 200, h.do(t, "GET", h.URL("payments")+path, nil).status, "a bank that is away is no reason to start again or be left out: %s", path)
		}
	})
	var paid payment
	require.NoError(t, h.Process(h.BrokerName()).Kill())
	eventually(t, "the order can be paid", func() bool {
		status, paid = buyer.pay(t, kept.ID, goodCard)
		return status == 201
	})
	require.NoError(t, h.Process("sandbox").Kill())
	require.NoError(t, h.Process(h.BrokerName()).Start())

	// The order is complete, and another one is cancelled; the bank is to hear of both.
	buyer.orderBecomes(t, "complete", kept.ID)
	require.Equal(t, 204, buyer.cancel(t, left.ID))
	h.ticketBecomes(t, "sold", bought.ID)
	h.ticketBecomes(t, "available", freed.ID)
	other := seller.list(t, "Nothing to do with it", 1000)
	given := buyer.reserved(t, other.ID)
	require.Equal(t, 204, buyer.cancel(t, given.ID))
	eventually(t, "the payments service hears of other orders", func() bool {
		r := buyer.do(t, "POST", "/api/payments", paying{OrderID: given.ID, PaymentMethod: goodCard})
		return r.status == 409
	})
	require.Equal(t, "authorized", buyer.payment(t, paid.ID).Status)

	require.NoError(t, h.Process("payments").Kill())
	require.NoError(t, h.Process("payments").Start())
	require.NoError(t, h.WaitReady(t.Context(), "payments"))
	require.NoError(t, h.Process("sandbox").Start())

	buyer.paymentBecomes(t, "captured", paid.ID)
	buyer.paymentBecomes(t, "voided", begun.ID)
	require.Equal(t, int64(1000), sum(t, h.ledger(t, kept.ID)).Kept)
	require.Zero(t, sum(t, h.ledger(t, left.ID)).Kept)
}

func TestPoison_GoesToTheDeadLettersAndOthersGoOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{})
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	cases := []struct {
		name, raw string
		mark      string   // is the event's id, or in it; none: nobody handles the event, and it is no letter
		by        []string // who could not handle it
	}{
		{"no event", `neither JSON nor anything`, `neither JSON`, []string{"tickets", "payments", "expiration"}},
		{"unreadable data", `{"specversion":"1.0","id":"poison-1","source":"/orders","type":"order.created","datacontenttype":"application/json","data":"a text"}`, "poison-1", []string{"tickets", "payments", "expiration"}},
		{"no aggregate", `{"specversion":"1.0","id":"poison-2","source":"/tickets","type":"ticket.updated","datacontenttype":"application/json","data":{"price":1}}`, "poison-2", []string{"orders"}},
		{"a newer schema", `{"specversion":"1.0","id":"poison-3","source":"/payments","type":"payment.created","dataschema":"urn:boxoffice:payment.created:99","datacontenttype":"application/json","data":{"id":"x","version":1}}`, "poison-3", []string{"orders"}},
		{"unknown type", `{"specversion":"1.0","id":"poison-4","source":"/orders","type":"order.forgotten","datacontenttype":"application/json","data":{}}`, "", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := events.dead(t)
			if json.Valid([]byte(c.raw)) {
				events.tell(t, []byte(c.raw))
			} else {
				events.tellOn(t, "events.orders", []byte(c.raw))
			}

			// What comes after it is heard by all.
			seat := seller.list(t, "After the poison", 1000)
			given := buyer.reserved(t, seat.ID)
			status, paid := buyer.pay(t, given.ID, goodCard)
			require.Equal(t, 201, status)
			h.ticketBecomes(t, "sold", seat.ID)
			buyer.paymentBecomes(t, "captured", paid.ID)

			events.settled(t)
			if c.mark == "" {
				require.Equal(t, before, events.dead(t))
				return
			}
			require.Equal(t, before+uint64(len(c.by)), events.dead(t))
			for _, service := range c.by {
				require.Equal(t, "undecodable", h.letterOf(t, service, c.mark).Code)
			}
		})
	}
}
