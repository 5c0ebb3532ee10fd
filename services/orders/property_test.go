package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

// market is one seat with all its orders, as the documents would be: each command changes both, or is refused. The
// other members are what the rules make of the commands.
type market struct {
	seat   Seat
	orders []Order
	now    time.Time

	listing   events.Ticket // the newest that was applied
	deleted   bool
	revoked   bool                  // the ticket is void
	withheld  bool                  // after a refund, until the seller changes the listing after it
	cooldowns map[id.User]time.Time // until when a buyer may not reserve again
	published []events.Order        // every change, in the order in which it happened
}

// newMarket draws whether the ticket is for a show.
func newMarket(t *rapid.T) *market {
	m := &market{now: noon, cooldowns: map[id.User]time.Time{}}
	m.listing = events.Ticket{ID: "ticket-1", UserID: "seller", Title: "Front row", Price: 4500, Currency: "usd", Version: 1}
	if rapid.Bool().Draw(t, "for a show") {
		m.listing.ShowID, m.listing.SalesEndAt = "show-1", clock.Stamp(noon.Add(2*window))
	}
	m.seat.Apply(m.listing, false)
	return m
}

// noteCooldown notes the cooldown of a buyer whose unpaid order has ended.
func (m *market) noteCooldown(o Order, reason Reason) {
	until := time.Time{}
	switch held := m.now.Sub(o.CreatedAt); {
	case reason == Expired || reason == ByUser && held >= window:
		until = o.ExpiresAt.Add(limited.Cooldown)
	case reason == ByUser:
		until = m.now.Add(held) // because the cooldown is as long as the window
	}
	if until.After(m.cooldowns[o.UserID]) {
		m.cooldowns[o.UserID] = until
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

func (m *market) snapshot() (Seat, []Order) { return copyOf(m.seat), slices.Clone(m.orders) }

// copyOf copies a seat as reading its document again would.
func copyOf(s Seat) Seat {
	if s.Reservation != nil {
		r := *s.Reservation
		s.Reservation = &r
	}
	s.Cooldowns = slices.Clone(s.Cooldowns)
	return s
}

func (m *market) publish(o Order) {
	switch e := o.Event().(type) {
	case events.OrderCreated:
		m.published = append(m.published, e.Order)
	case events.OrderCompleted:
		m.published = append(m.published, e.Order)
	case events.OrderCancelled:
		m.published = append(m.published, e.Order)
	}
}

// commands are everything that can happen to a seat and its orders.
func (m *market) commands() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"time passes": func(t *rapid.T) {
			m.now = m.now.Add(time.Duration(rapid.IntRange(1, int(window/time.Second)).Draw(t, "seconds")) * time.Second)
		},
		"the reservation's time ends": func(*rapid.T) {
			if m.seat.Reservation != nil && m.now.Before(m.seat.Reservation.ExpiresAt) {
				m.now = m.seat.Reservation.ExpiresAt
			}
		},
		"reserve":                               m.reserve,
		"complete":                              m.complete,
		"cancel":                                m.cancel,
		"change an order as it was read before": m.stale,
		"change the listing":                    m.applyListing,
		"revoke the ticket":                     m.revoke,
		"":                                      m.check,
	}
}

// reserve does what store.Reserve does: an expired order is cancelled first, and nothing is committed after a refusal.
func (m *market) reserve(t *rapid.T) {
	buyer := rapid.SampledFrom([]id.User{"ann", "ann", "bob", "seller"}).Draw(t, "buyer")
	live := m.live()
	expired := len(live) > 0 && live[0].Status == Created && !m.now.Before(live[0].ExpiresAt)
	started := !m.listing.SalesEndAt.IsZero() && !m.now.Before(m.listing.SalesEndAt.Time)
	free := !m.deleted && !m.withheld && !started && (len(live) == 0 || expired)
	allowed := free && buyer != "seller" && !m.now.Before(m.cooldowns[buyer])

	seat, late := copyOf(m.seat), Order{}
	found, isExpired := seat.ExpiredOrder(m.now)
	require.Equal(t, expired, isExpired)
	if expired {
		require.Equal(t, live[0].ID, found)
		late = *live[0]
		if buyer == late.UserID && m.now.Before(late.ExpiresAt.Add(limited.Cooldown)) {
			allowed = false
		}
		unchanged := copyOf(seat)
		_, err := seat.Reserve("too-early", buyer, m.now, limited)
		require.Error(t, err, "a seat with a reservation is not reserved, even if that has expired")
		require.Equal(t, unchanged, seat)
		changed, err := late.Cancel(&seat, Expired, m.now, limited)
		require.NoError(t, err)
		require.True(t, changed)
		require.Equal(t, live[0].Version+1, late.Version)
		require.Equal(t, Expired, late.Reason)
	}
	unchanged := copyOf(seat)
	order, err := seat.Reserve(id.Order(fmt.Sprintf("order-%d", len(m.orders)+1)), buyer, m.now, limited)
	require.Equal(t, allowed, err == nil, "%v", err)
	own := len(live) > 0 && !expired && live[0].UserID == buyer && !m.deleted
	require.Equal(t, own, errors.Is(err, errOwnReservation), "%v", err)
	if err != nil {
		require.Equal(t, unchanged, seat, "a refusal changes nothing")
		return
	}
	require.Equal(t, 1, order.Version)
	require.Equal(t, m.listing.Price, order.Ticket.Price, "the price is the listing's at that moment")
	require.Equal(t, m.listing.ShowID, order.Ticket.ShowID)
	if expired {
		m.noteCooldown(late, Expired)
		require.False(t, m.now.Before(m.cooldowns[buyer]))
		*live[0] = late
		m.publish(late)
	}
	m.seat = seat
	m.orders = append(m.orders, order)
	m.publish(order)
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
	seat, orders := m.snapshot()
	before := *order
	changed, err := order.Complete(&m.seat, "payment-1", m.now)
	require.NoError(t, err)
	require.Equal(t, before.Status == Created, changed)
	if !changed {
		m.requireUnchanged(t, seat, orders)
		return
	}
	require.Equal(t, Complete, order.Status)
	require.Equal(t, before.Version+1, order.Version)
	m.publish(*order)
}

func anyReason(t *rapid.T) Reason {
	return rapid.SampledFrom([]Reason{ByUser, Expired, PaymentLost, Withdrawn, Refunded}).Draw(t, "reason")
}

func (m *market) cancel(t *rapid.T) {
	order := m.some(t)
	if order == nil {
		return
	}
	reason := anyReason(t)
	seat, orders := m.snapshot()
	before := *order
	changed, err := order.Cancel(&m.seat, reason, m.now, limited)
	switch {
	case before.Status == Cancelled:
		require.NoError(t, err)
		require.False(t, changed, "cancelling twice is once")
	case before.Status == Complete && reason != PaymentLost && reason != Refunded:
		require.ErrorIs(t, err, errComplete)
		require.False(t, changed)
	case reason == Expired && m.now.Before(before.ExpiresAt):
		require.ErrorIs(t, err, errNotOver)
		require.False(t, changed)
	default:
		require.NoError(t, err)
		require.True(t, changed)
		require.Equal(t, before.Version+1, order.Version)
		require.Equal(t, reason, order.Reason)
		require.Nil(t, m.seat.Reservation)
		m.withheld = m.withheld || reason == Refunded
		m.noteCooldown(before, reason)
		m.publish(*order)
		return
	}
	m.requireUnchanged(t, seat, orders)
}

// stale tries to change a copy of an order that was read before the order lost its seat. The store would refuse it by
// the ETag; the rules refuse it as well.
func (m *market) stale(t *rapid.T) {
	order := m.some(t)
	if order == nil || m.seat.isHeldBy(order.ID) {
		return
	}
	seat, orders := m.snapshot()
	old := *order
	old.Status, old.Reason = rapid.SampledFrom([]Status{Created, Complete}).Draw(t, "as it was"), ""
	var changed bool
	var err error
	if rapid.Bool().Draw(t, "complete") {
		changed, err = old.Complete(&m.seat, "payment-1", m.now)
		require.Equal(t, old.Status == Created, err != nil, "%v", err)
	} else {
		changed, err = old.Cancel(&m.seat, anyReason(t), m.now, terms)
		require.Error(t, err)
	}
	require.False(t, changed)
	m.requireUnchanged(t, seat, orders)
}

// revoke does what subscriptions does with the deletion of a revoked ticket. It is rare, because nothing can be sold afterwards.
func (m *market) revoke(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "revoke, if 0") > 0 {
		return
	}
	if !m.revoked {
		m.listing.Version++
		m.listing.Revoked = true
		m.seat.Apply(m.listing, true)
		m.deleted, m.revoked = true, true
	}
	for _, order := range m.live() {
		before := *order
		changed, err := order.CancelRevoked(&m.seat, m.now, limited)
		require.NoError(t, err)
		require.True(t, changed)
		require.Equal(t, Withdrawn, order.Reason)
		require.Equal(t, before.Version+1, order.Version)
		m.publish(*order)
	}
}

func (m *market) applyListing(t *rapid.T) {
	if m.revoked {
		return // it was the last event
	}
	listing := m.listing
	if listing.ShowID != "" && rapid.Bool().Draw(t, "its show is moved") {
		listing.SalesEndAt = clock.Stamp(m.now.Add(time.Duration(rapid.IntRange(-1, 200).Draw(t, "minutes until it starts")) * time.Minute))
	}
	listing.Version = rapid.IntRange(1, m.listing.Version+2).Draw(t, "version")
	listing.Price = rapid.Int64Range(50, 1_000_000).Draw(t, "price")
	listing.Sequence = rapid.IntRange(max(0, m.seat.Sequence-2), m.seat.Sequence).Draw(t, "applied by tickets")
	listing.Status = rapid.SampledFrom([]events.TicketStatus{events.TicketStatusAvailable, events.TicketStatusWithheld, events.TicketStatusSold}).Draw(t, "status")
	deleted := rapid.IntRange(0, 9).Draw(t, "deleted, if 0") == 0
	before := copyOf(m.seat)
	newer := listing.Version > m.listing.Version
	require.Equal(t, newer, m.seat.Apply(listing, deleted))
	require.Equal(t, before.Reservation, m.seat.Reservation, "a listing's change never touches the reservation")
	require.Equal(t, before.Sequence, m.seat.Sequence)
	if newer {
		m.listing, m.deleted = listing, deleted
		m.withheld = m.withheld && (listing.Status != "available" || listing.Sequence < before.Withheld)
	} else {
		require.Equal(t, before, m.seat)
	}
}

func (m *market) requireUnchanged(t *rapid.T, seat Seat, orders []Order) {
	require.Equal(t, seat, m.seat, "a refusal changes nothing")
	require.Equal(t, orders, m.orders, "a refusal changes nothing")
}

// check is what must hold after every command.
func (m *market) check(t *rapid.T) {
	live := m.live()
	require.LessOrEqual(t, len(live), 1, "a seat has at most one live order")
	if m.revoked {
		require.Empty(t, live, "a revoked ticket has none")
	}
	if len(live) == 0 {
		require.Nil(t, m.seat.Reservation)
	} else {
		require.Equal(t, &Reservation{OrderID: live[0].ID, UserID: live[0].UserID, Status: live[0].Status, ExpiresAt: live[0].ExpiresAt}, m.seat.Reservation)
	}
	for i, order := range m.published {
		require.Equal(t, i+1, order.Sequence, "each change of reservation has the next sequence")
	}
	require.Equal(t, len(m.published), m.seat.Sequence)
	versions := map[id.Order]int{}
	for _, order := range m.published {
		versions[order.ID]++
		require.Equal(t, versions[order.ID], order.Version, "each change of an order is published as the next version")
	}
	require.Equal(t, m.listing.Price, m.seat.Price)
	require.Equal(t, m.deleted, m.seat.Deleted)
	require.Equal(t, m.withheld, m.seat.Withheld > 0)
	require.LessOrEqual(t, len(m.seat.Cooldowns), maxCooldowns)
}

// In any sequence of reservations, payments, cancellations and pauses, a buyer never has more live unpaid orders than
// the terms allow, and is refused only at that limit.
func TestBuyer_NeverHasMoreUnpaidOrdersThanTheTermsAllow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		terms := Terms{Window: window, PerUser: rapid.IntRange(1, 4).Draw(t, "limit")}
		var buyer Buyer
		orders := map[id.Order]*Order{}
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
				order := Order{ID: id.Order(fmt.Sprint(len(orders))), Status: Created, CreatedAt: now, ExpiresAt: now.Add(window)}
				if buyer.AtLimit(now, terms) {
					unpaid := map[id.Order]bool{}
					for order, o := range orders {
						unpaid[order] = o.Status == Created
					}
					buyer.RetainUnpaid(unpaid)
				}
				err := buyer.AddOrder(order, now, terms)
				require.Equal(t, live() < terms.PerUser, err == nil, "%v", err)
				if err == nil {
					orders[order.ID] = &order
				}
			},
			"pay or cancel": func(t *rapid.T) {
				if len(orders) > 0 {
					o := orders[id.Order(fmt.Sprint(rapid.IntRange(0, len(orders)-1).Draw(t, "order")))]
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
	rapid.Check(t, func(t *rapid.T) { t.Repeat(newMarket(t).commands()) })
}

// In any order and number of deliveries, the event with the highest sequence is of the live order of the ticket. The
// tickets service applies events by this rule alone.
func TestOrders_TheNewestSequenceHasTheLiveOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMarket(t)
		t.Repeat(m.commands())
		var newest events.Order
		for _, order := range anyDelivery(t, m.published) {
			if order.Sequence > newest.Sequence {
				newest = order
			}
		}
		if m.seat.Reservation == nil {
			require.Contains(t, []events.OrderStatus{"", events.OrderStatusCancelled}, newest.Status)
			return
		}
		require.Equal(t, m.seat.Reservation.OrderID, newest.ID)
		require.Equal(t, events.OrderStatus(m.seat.Reservation.Status), newest.Status)
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

func TestApply_ConvergesInAnyDelivery(t *testing.T) {
	type publication struct {
		Listing events.Ticket
		Deleted bool
	}
	rapid.Check(t, func(t *rapid.T) {
		var life []publication
		for version := range rapid.IntRange(1, 12).Draw(t, "versions") {
			version++
			life = append(life, publication{events.Ticket{
				ID: "ticket-1", Title: fmt.Sprintf("as of version %d", version), Price: rapid.Int64().Draw(t, "price"),
				Currency: rapid.SampledFrom([]string{"usd", "eur"}).Draw(t, "currency"), Version: version,
			}, rapid.Bool().Draw(t, "deleted")}) // a sale brings a deleted listing back, so it need not be the last
		}
		var seat Seat // of a document without a seller, so that a repeat changes nothing
		newest, changes := 0, 0
		for _, d := range anyDelivery(t, life) {
			if seat.Apply(d.Listing, d.Deleted) {
				changes++
			}
			require.GreaterOrEqual(t, seat.Version, newest, "a projection never goes back")
			newest = seat.Version
		}
		last := life[len(life)-1]
		require.Equal(t, Seat{Schema: 1, ID: "ticket-1", Title: last.Listing.Title, Price: last.Listing.Price,
			Currency: last.Listing.Currency, Version: last.Listing.Version, Deleted: last.Deleted}, seat)
		require.LessOrEqual(t, changes, len(life), "a repeat changes nothing")
	})
}

// Later changes of the listing change neither an order's price nor its window.
func TestReserve_ThePriceAndTheWindowStayAsReserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMarket(t)
		t.Repeat(m.commands())
		first := map[id.Order]events.Order{}
		for _, order := range m.published {
			if _, known := first[order.ID]; !known {
				first[order.ID] = order
			}
			require.Equal(t, first[order.ID].Ticket, order.Ticket)
			require.Equal(t, first[order.ID].ExpiresAt, order.ExpiresAt)
		}
	})
}
