package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/events"
)

// market is one ticket with all orders that were ever made of it, as the documents would be: each command changes
// both, or refuses. Beside it stands what a reader of the rules would expect.
type market struct {
	ticket Ticket
	orders []Order
	now    time.Time

	listing  events.Ticket // the newest that was heard
	deleted  bool
	withheld bool                 // after a refund, until the seller has changed the listing in knowledge of it
	waits    map[string]time.Time // until when a buyer may not reserve again
	told     []events.Order       // every change, in the order in which it happened
}

func newMarket() *market {
	m := &market{now: noon, waits: map[string]time.Time{}}
	m.listing = events.Ticket{ID: "ticket-1", UserID: "seller", Title: "Front row", Price: 4500, Currency: "usd", Version: 1}
	m.ticket.Hear(m.listing, false)
	return m
}

// wait notes that a buyer's unpaid order has ended.
func (m *market) wait(o Order, reason Reason) {
	until := time.Time{}
	switch held := m.now.Sub(o.CreatedAt); {
	case reason == Expired || reason == ByUser && held >= window:
		until = o.ExpiresAt.Add(limited.Cooldown)
	case reason == ByUser:
		until = m.now.Add(held) // for the cooldown is as long as the window
	}
	if until.After(m.waits[o.UserID]) {
		m.waits[o.UserID] = until
	}
}

// live are the orders that are not cancelled.
func (m *market) live() (live []*Order) {
	for i := range m.orders {
		if m.orders[i].Status != Cancelled {
			live = append(live, &m.orders[i])
		}
	}
	return live
}

func (m *market) snapshot() (Ticket, []Order) { return copyOf(m.ticket), slices.Clone(m.orders) }

// copyOf copies a ticket as reading its document again would.
func copyOf(t Ticket) Ticket {
	if t.Reservation != nil {
		r := *t.Reservation
		t.Reservation = &r
	}
	t.Cooldowns = slices.Clone(t.Cooldowns)
	return t
}

func (m *market) tell(o Order) {
	switch told := o.Told().(type) {
	case events.OrderCreated:
		m.told = append(m.told, told.Order)
	case events.OrderCompleted:
		m.told = append(m.told, told.Order)
	case events.OrderCancelled:
		m.told = append(m.told, told.Order)
	}
}

// commands are everything that can happen to a ticket and its orders.
func (m *market) commands() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"time passes": func(t *rapid.T) {
			m.now = m.now.Add(time.Duration(rapid.IntRange(1, int(window/time.Second)).Draw(t, "seconds")) * time.Second)
		},
		"the reservation's time ends": func(*rapid.T) {
			if m.ticket.Reservation != nil && m.now.Before(m.ticket.Reservation.ExpiresAt) {
				m.now = m.ticket.Reservation.ExpiresAt
			}
		},
		"reserve":  m.reserve,
		"complete": m.complete,
		"cancel":   m.cancel,
		"act on an order as it was read long ago": m.stale,
		"hear of the listing":                     m.hear,
		"":                                        m.check,
	}
}

func (m *market) reserve(t *rapid.T) {
	ticket, orders := m.snapshot()
	buyer := rapid.SampledFrom([]string{"ann", "ann", "bob", "seller"}).Draw(t, "buyer")
	live := m.live()
	free := !m.deleted && !m.withheld && (len(live) == 0 || live[0].Status == Created && !m.now.Before(live[0].ExpiresAt))
	may := free && buyer != "seller" && !m.now.Before(m.waits[buyer])
	order, expired, err := m.ticket.Reserve(fmt.Sprintf("order-%d", len(m.orders)+1), buyer, m.now, limited)
	require.Equal(t, may, err == nil, "%v", err)
	if err != nil {
		m.requireUnchanged(t, ticket, orders)
		return
	}
	if len(live) == 0 {
		require.Empty(t, expired)
	} else {
		late := live[0]
		require.Equal(t, late.ID, expired)
		before := late.Version
		if err := late.GiveWay(&m.ticket, order, m.now, limited); err != nil {
			require.Equal(t, buyer, late.UserID, "%v", err)
			require.True(t, m.now.Before(late.ExpiresAt.Add(limited.Cooldown)))
			m.ticket = ticket // nothing of it is written
			require.Equal(t, orders, m.orders)
			return
		}
		m.wait(*late, Expired)
		require.False(t, m.now.Before(m.waits[buyer]))
		require.Equal(t, before+1, late.Version)
		require.Equal(t, Expired, late.Reason)
		m.tell(*late)
	}
	require.Equal(t, 1, order.Version)
	require.Equal(t, m.listing.Price, order.Ticket.Price, "the price is the listing's in that moment")
	m.orders = append(m.orders, order)
	m.tell(order)
}

// some draws one of the orders that were made; nil if there is none.
func (m *market) some(t *rapid.T) *Order {
	if len(m.orders) == 0 {
		return nil
	}
	return &m.orders[rapid.IntRange(0, len(m.orders)-1).Draw(t, "order")]
}

func (m *market) complete(t *rapid.T) {
	order := m.some(t)
	if order == nil {
		return
	}
	ticket, orders := m.snapshot()
	before := *order
	err := order.Complete(&m.ticket, "payment-1", m.now)
	require.Equal(t, before.Status == Created, err == nil, "%v", err)
	if err != nil {
		m.requireUnchanged(t, ticket, orders)
		return
	}
	require.Equal(t, Complete, order.Status)
	require.Equal(t, before.Version+1, order.Version)
	m.tell(*order)
}

func anyReason(t *rapid.T) Reason {
	return rapid.SampledFrom([]Reason{ByUser, Expired, Unpaid, Withdrawn, Refunded}).Draw(t, "reason")
}

func (m *market) cancel(t *rapid.T) {
	order := m.some(t)
	if order == nil {
		return
	}
	reason := anyReason(t)
	if reason == Expired && m.now.Before(order.ExpiresAt) {
		m.now = order.ExpiresAt // nobody cancels it before
	}
	ticket, orders := m.snapshot()
	before := *order
	changed, err := order.Cancel(&m.ticket, reason, m.now, limited)
	switch {
	case before.Status == Cancelled:
		require.NoError(t, err)
		require.False(t, changed, "cancelling twice is once")
	case before.Status == Complete && reason != Unpaid && reason != Refunded:
		require.ErrorIs(t, err, errComplete)
		require.False(t, changed)
	default:
		require.NoError(t, err)
		require.True(t, changed)
		require.Equal(t, before.Version+1, order.Version)
		require.Equal(t, reason, order.Reason)
		require.Nil(t, m.ticket.Reservation)
		m.withheld = m.withheld || reason == Refunded
		m.wait(before, reason)
		m.tell(*order)
		return
	}
	m.requireUnchanged(t, ticket, orders)
}

// stale tries to change an order whose copy does not know that another has its ticket by now. The store would
// refuse it by the ETag; the rules refuse it as well.
func (m *market) stale(t *rapid.T) {
	order := m.some(t)
	if order == nil || m.ticket.holds(order.ID) {
		return
	}
	ticket, orders := m.snapshot()
	old := *order
	old.Status, old.Reason = rapid.SampledFrom([]Status{Created, Complete}).Draw(t, "as it was"), ""
	var err error
	if rapid.Bool().Draw(t, "complete") {
		err = old.Complete(&m.ticket, "payment-1", m.now)
	} else {
		_, err = old.Cancel(&m.ticket, anyReason(t), m.now, terms)
	}
	require.Error(t, err)
	m.requireUnchanged(t, ticket, orders)
}

func (m *market) hear(t *rapid.T) {
	told := m.listing
	told.Version = rapid.IntRange(1, m.listing.Version+2).Draw(t, "version")
	told.Price = rapid.Int64Range(50, 1_000_000).Draw(t, "price")
	told.Sequence = rapid.IntRange(max(0, m.ticket.Sequence-2), m.ticket.Sequence).Draw(t, "the seller knew of")
	told.Status = rapid.SampledFrom([]string{"available", "withheld", "sold"}).Draw(t, "status")
	deleted := rapid.IntRange(0, 9).Draw(t, "deleted, if 0") == 0
	before := copyOf(m.ticket)
	newer := told.Version > m.listing.Version
	require.Equal(t, newer, m.ticket.Hear(told, deleted))
	require.Equal(t, before.Reservation, m.ticket.Reservation, "a listing's change never touches the reservation")
	require.Equal(t, before.Sequence, m.ticket.Sequence)
	if newer {
		m.listing, m.deleted = told, deleted
		m.withheld = m.withheld && (told.Status != "available" || told.Sequence < before.Withheld)
	} else {
		require.Equal(t, before, m.ticket)
	}
}

func (m *market) requireUnchanged(t *rapid.T, ticket Ticket, orders []Order) {
	require.Equal(t, ticket, m.ticket, "a refusal changes nothing")
	require.Equal(t, orders, m.orders, "a refusal changes nothing")
}

// check is what must hold after every command.
func (m *market) check(t *rapid.T) {
	live := m.live()
	require.LessOrEqual(t, len(live), 1, "a ticket has at most one live order")
	if len(live) == 0 {
		require.Nil(t, m.ticket.Reservation)
	} else {
		require.Equal(t, &Reservation{OrderID: live[0].ID, Status: live[0].Status, ExpiresAt: live[0].ExpiresAt}, m.ticket.Reservation)
	}
	for i, told := range m.told {
		require.Equal(t, i+1, told.Sequence, "each change of reservation has the next sequence")
	}
	require.Equal(t, len(m.told), m.ticket.Sequence)
	versions := map[string]int{}
	for _, told := range m.told {
		versions[told.ID]++
		require.Equal(t, versions[told.ID], told.Version, "each change of an order is told as the next version")
	}
	require.Equal(t, m.listing.Price, m.ticket.Price)
	require.Equal(t, m.deleted, m.ticket.Deleted)
	require.Equal(t, m.withheld, m.ticket.Withheld > 0)
	require.LessOrEqual(t, len(m.ticket.Cooldowns), maxCooldowns)
}

// Whatever a buyer reserves, pays and cancels, and whatever time passes: they have so many live unpaid reservations at most,
// and are refused only if they have.
func TestBuyer_NeverHoldsMoreThanTheyMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		terms := Terms{Window: window, PerUser: rapid.IntRange(1, 4).Draw(t, "limit")}
		var buyer Buyer
		orders := map[string]*Order{}
		now := noon
		live := func() (n int) {
			for _, o := range orders {
				if o.Status == Created && !o.IsOver(now) {
					n++
				}
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, int(window/time.Second)).Draw(t, "seconds")) * time.Second)
			},
			"reserve": func(t *rapid.T) {
				order := Order{ID: fmt.Sprint(len(orders)), Status: Created, CreatedAt: now, ExpiresAt: now.Add(window)}
				if buyer.Full(now, terms) {
					unpaid := map[string]bool{}
					for id, o := range orders {
						unpaid[id] = o.Status == Created
					}
					buyer.Keep(unpaid)
				}
				err := buyer.Hold(order, now, terms)
				require.Equal(t, live() < terms.PerUser, err == nil, "%v", err)
				if err == nil {
					orders[order.ID] = &order
				}
			},
			"pay or cancel": func(t *rapid.T) {
				if len(orders) > 0 {
					o := orders[fmt.Sprint(rapid.IntRange(0, len(orders)-1).Draw(t, "order"))]
					o.Status = rapid.SampledFrom([]Status{Complete, Cancelled}).Draw(t, "status")
				}
			},
			"": func(t *rapid.T) {
				require.LessOrEqual(t, live(), terms.PerUser)
				require.LessOrEqual(t, len(buyer.Unpaid), terms.PerUser, "its document does not grow")
			},
		})
	})
}

func TestOrders_AnySequenceOfCommandsKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { t.Repeat(newMarket().commands()) })
}

// Whoever takes the events of all orders of a ticket by their sequence alone, as the tickets service does, knows
// in the end who has it, whatever the order and number of deliveries.
func TestOrders_TheNewestSequenceTellsWhoHasTheTicket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMarket()
		t.Repeat(m.commands())
		var newest events.Order
		for _, told := range anyDelivery(t, m.told) {
			if told.Sequence > newest.Sequence {
				newest = told
			}
		}
		if m.ticket.Reservation == nil {
			require.Contains(t, []string{"", string(Cancelled)}, newest.Status)
			return
		}
		require.Equal(t, m.ticket.Reservation.OrderID, newest.ID)
		require.Equal(t, string(m.ticket.Reservation.Status), newest.Status)
	})
}

// anyDelivery is what a broker may make of events: each arrives, some more than once, in any order.
func anyDelivery[E any](t *rapid.T, published []E) []E {
	if len(published) == 0 {
		return nil
	}
	again := rapid.SliceOfN(rapid.SampledFrom(published), 0, len(published)).Draw(t, "again")
	return rapid.Permutation(append(slices.Clone(published), again...)).Draw(t, "delivered")
}

func TestHear_ConvergesWhateverIsDelivered(t *testing.T) {
	type told struct {
		Listing events.Ticket
		Deleted bool
	}
	rapid.Check(t, func(t *rapid.T) {
		var life []told
		for version := range rapid.IntRange(1, 12).Draw(t, "versions") {
			version++
			life = append(life, told{events.Ticket{
				ID: "ticket-1", Title: fmt.Sprintf("as of version %d", version), Price: rapid.Int64().Draw(t, "price"),
				Currency: rapid.SampledFrom([]string{"usd", "eur"}).Draw(t, "currency"), Version: version,
			}, rapid.Bool().Draw(t, "deleted")}) // a sale brings a deleted listing back, so it need not be the last
		}
		var ticket Ticket // of a document without a seller, so that a repeat changes nothing
		newest, changes := 0, 0
		for _, d := range anyDelivery(t, life) {
			if ticket.Hear(d.Listing, d.Deleted) {
				changes++
			}
			require.GreaterOrEqual(t, ticket.Version, newest, "a replica never goes back")
			newest = ticket.Version
		}
		last := life[len(life)-1]
		require.Equal(t, Ticket{Schema: 1, ID: "ticket-1", Title: last.Listing.Title, Price: last.Listing.Price,
			Currency: last.Listing.Currency, Version: last.Listing.Version, Deleted: last.Deleted}, ticket)
		require.LessOrEqual(t, changes, len(life), "a repeat changes nothing")
	})
}

// A reservation stands whatever is heard of the listing meanwhile, and its price with it.
func TestReserve_APriceThatIsChangedLaterIsNotTheBuyers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMarket()
		t.Repeat(m.commands())
		first := map[string]events.Order{}
		for _, told := range m.told {
			if _, known := first[told.ID]; !known {
				first[told.ID] = told
			}
			require.Equal(t, first[told.ID].Ticket, told.Ticket)
			require.Equal(t, first[told.ID].ExpiresAt, told.ExpiresAt)
		}
	})
}

func TestCancel_OfAnExpiredOrderAndGivingWayAreTheSameToOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := noon.Add(window + time.Duration(rapid.IntRange(0, 3600).Draw(t, "seconds late"))*time.Second)
		reserve := func() (Ticket, Order) {
			ticket := freeTicket()
			order, _, err := ticket.Reserve("order-1", "buyer", noon, limited)
			require.NoError(t, err)
			return ticket, order
		}
		byReminder, first := reserve()
		_, err := first.Cancel(&byReminder, Expired, at, limited)
		require.NoError(t, err)
		next, _, err := byReminder.Reserve("order-2", "other", at, limited)
		require.NoError(t, err)

		byNext, second := reserve()
		nextAtOnce, _, err := byNext.Reserve("order-2", "other", at, limited)
		require.NoError(t, err)
		require.NoError(t, second.GiveWay(&byNext, nextAtOnce, at, limited))

		require.Equal(t, first, second)
		require.Equal(t, next, nextAtOnce)
		require.Equal(t, byReminder, byNext)
	})
}
