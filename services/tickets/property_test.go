package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

// reservation is an order's event, and the status that it gives its ticket.
type reservation struct {
	Status Status
	Order  events.Order
}

// anyReservations draws what orders may publish of one ticket: one order after the other, each reserved, then
// cancelled or sold, every change with the next sequence. A sale is the last change, unless its payment is lost or
// refunded.
func anyReservations(t *rapid.T) (life []reservation) {
	publish := func(status Status, order int) {
		life = append(life, reservation{status, orderEvent(id.Order(fmt.Sprintf("order-%d", order)), len(life)+1, status)})
	}
	for n := range rapid.IntRange(1, 6).Draw(t, "orders") {
		publish(Reserved, n)
		switch rapid.SampledFrom([]string{"cancelled", "sold", "still reserved"}).Draw(t, "end") {
		case "cancelled":
			publish(Available, n)
		case "sold":
			publish(Sold, n)
			if rapid.IntRange(0, 2).Draw(t, "the payment is lost, if 0") > 0 {
				return life
			}
			publish(rapid.SampledFrom([]Status{Available, Withheld}).Draw(t, "after the sale"), n)
		case "still reserved":
			return life
		}
	}
	return life
}

// anyDelivery is what a broker may make of events: each arrives, some more than once, in any order.
func anyDelivery[E any](t *rapid.T, published []E) []E {
	again := rapid.SliceOfN(rapid.SampledFrom(published), 0, len(published)).Draw(t, "again")
	return rapid.Permutation(append(slices.Clone(published), again...)).Draw(t, "delivered")
}

// market is a ticket that receives its seller's changes and late, repeated events of orders.
type market struct {
	ticket  Ticket
	now     time.Time
	coming  []reservation // not delivered yet
	offer   Offer         // the seller's last one that was not refused
	version int

	withdrawn bool // by the seller
	ending    bool // the seller's account was deleted while the ticket was reserved or sold
}

// deleted reports whether the ticket must be deleted: a sale is stronger than the seller's deletion.
func (m *market) deleted() bool { return m.withdrawn && m.ticket.Status != Sold }

// change calls act, and checks that the ticket has a new version if act changed anything, and is the same as before
// if it did not.
func (m *market) change(t *rapid.T, act func() (changed bool)) bool {
	m.now = m.now.Add(time.Second)
	before := m.ticket
	changed := act()
	if !changed {
		require.Equal(t, before, m.ticket, "a refusal or an old event changes nothing")
		return false
	}
	require.Equal(t, before.Version+1, m.ticket.Version)
	require.Equal(t, m.now, m.ticket.UpdatedAt)
	m.version++
	return true
}

func (m *market) deliver(t *rapid.T) {
	next := m.coming[0]
	m.coming = m.coming[1:]
	newer := next.Order.Sequence > m.ticket.Sequence
	changed := m.change(t, func() bool { return m.ticket.Apply(next.Order, m.now) })
	require.Equal(t, newer, changed)
	if !changed {
		return
	}
	require.Equal(t, next.Status, m.ticket.Status)
	if m.ending && next.Status != Reserved && next.Status != Sold {
		m.ending, m.withdrawn = false, true
		require.IsType(t, events.TicketDeleted{}, m.ticket.Event(), "that was not published yet")
		return
	}
	require.Nil(t, m.ticket.Event(), "an order's event is not published again")
}

// deleteAccount deletes the seller's account.
func (m *market) deleteAccount(t *rapid.T) {
	had := m.ticket.Status == Reserved || m.ticket.Status == Sold
	again := m.withdrawn || m.ending
	changed := m.change(t, func() bool { return m.ticket.DeleteWithAccount(m.now) })
	require.Equal(t, !again, changed, "once is enough")
	switch {
	case !changed:
	case had:
		m.ending = true
		require.Nil(t, m.ticket.Event())
	default:
		m.withdrawn = true
		require.IsType(t, events.TicketDeleted{}, m.ticket.Event())
	}
}

// updateOrDelete is by a user who may not be the seller, on a version that may be stale.
func (m *market) updateOrDelete(t *rapid.T) {
	expected := ExpectedVersion(rapid.SampledFrom([]int{0, m.ticket.Version, m.ticket.Version - 1, m.ticket.Version + 1}).Draw(t, "expected"))
	seller := rapid.SampledFrom([]id.User{"seller", "seller", "other"}).Draw(t, "who")
	may := seller == "seller" && !m.deleted() && (m.ticket.Status == Available || m.ticket.Status == Withheld) && (expected == 0 || int(expected) == m.ticket.Version)
	deletes := rapid.IntRange(0, 4).Draw(t, "delete, if 0") == 0
	offer := Offer{Title: rapid.StringN(1, 10, -1).Draw(t, "title"), Price: rapid.Int64Range(1, 1<<40).Draw(t, "price")}
	var err error
	changed := m.change(t, func() bool {
		if deletes {
			err = m.ticket.Delete(seller, expected, m.now)
		} else {
			err = m.ticket.Update(seller, expected, offer, Show{}, m.now)
		}
		return err == nil
	})
	require.Equal(t, may, changed, "%v", err)
	if changed {
		id, version := m.ticket.Event().Aggregate()
		require.Equal(t, "ticket-1", id)
		require.Equal(t, m.ticket.Version, version)
	}
	switch {
	case !changed:
	case deletes:
		m.withdrawn = true
	default:
		m.offer = offer
		require.Equal(t, Available, m.ticket.Status, "it is on sale again")
	}
}

func (m *market) check(t *rapid.T) {
	require.Equal(t, m.offer, Offer{Title: m.ticket.Title, Price: m.ticket.Price}, "no event changes the offer")
	require.Equal(t, m.deleted(), m.ticket.Deleted)
	require.Equal(t, m.ending, m.ticket.Ending)
	require.Equal(t, m.version, m.ticket.Version)
	require.Equal(t, m.ticket.Status == Reserved || m.ticket.Status == Sold, m.ticket.OrderID != "", "an order is named only while it has the ticket")
}

// In any order and number of deliveries, and with any changes of its seller in between, a ticket gets the status of
// its last order and keeps the seller's last offer.
func TestTicket_ConvergesWithAnyChangesOfTheSeller(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		life := anyReservations(t)
		m := &market{ticket: listed(), now: noon, offer: Offer{Title: "Front row", Price: 4500}, version: 1}
		m.coming = anyDelivery(t, life)
		for len(m.coming) > 0 {
			switch rapid.IntRange(0, 8).Draw(t, "the seller up to 2, the account's deletion if 3") {
			case 0, 1, 2:
				m.updateOrDelete(t)
			case 3:
				m.deleteAccount(t)
			default:
				m.deliver(t)
			}
			m.check(t)
		}
		last := life[len(life)-1]
		require.Equal(t, last.Order.Sequence, m.ticket.Sequence)
		if last.Status != Withheld || m.ticket.Status != Available { // its seller may have offered it again
			require.Equal(t, last.Status, m.ticket.Status)
		}
		if last.Status == Available || last.Status == Withheld {
			require.Empty(t, m.ticket.OrderID)
		} else {
			require.Equal(t, last.Order.ID, m.ticket.OrderID)
		}
		before := m.ticket
		for _, again := range life {
			require.False(t, m.ticket.Apply(again.Order, m.now))
		}
		require.Equal(t, before, m.ticket, "redeliveries change nothing")
	})
}

func TestApply_TwoReplicasAgreeInAnyDelivery(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		life := anyReservations(t)
		var replicas [2]Ticket
		for i := range replicas {
			replicas[i] = listed()
			for _, d := range anyDelivery(t, life) {
				replicas[i].Apply(d.Order, noon)
			}
			replicas[i].Version = 0 // counts the changes, which depend on the order
		}
		require.Equal(t, replicas[0], replicas[1])
	})
}
