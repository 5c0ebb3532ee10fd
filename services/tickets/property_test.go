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

// told is an order event as it arrives here: what it makes of the ticket, and what it carries.
type told struct {
	Status Status
	Order  events.Order
}

// anyReservations draws what the orders service may ever tell of one ticket: orders after one another, each
// reserved, then given up or bought, every step with the next sequence. A sale ends it, unless its payment is lost or
// refunded. Whether somebody may reserve it after a refund does not matter here.
func anyReservations(t *rapid.T) (life []told) {
	tell := func(status Status, order int) {
		life = append(life, told{status, events.Order{
			ID: fmt.Sprintf("order-%d", order), Sequence: len(life) + 1, Ticket: events.OrderedTicket{ID: "ticket-1"},
		}})
	}
	for n := range rapid.IntRange(1, 6).Draw(t, "orders") {
		tell(Reserved, n)
		switch rapid.SampledFrom([]string{"given up", "bought", "goes on"}).Draw(t, "ends") {
		case "given up":
			tell(Available, n)
		case "bought":
			tell(Sold, n)
			if rapid.IntRange(0, 2).Draw(t, "the payment is lost, if 0") > 0 {
				return life
			}
			tell(rapid.SampledFrom([]Status{Available, Withheld}).Draw(t, "after the sale"), n)
		case "goes on":
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

// stall is a ticket at which a seller and late, repeated events of orders meet.
type stall struct {
	ticket  Ticket
	now     time.Time
	coming  []told // not delivered yet
	offer   Offer  // what the seller last said, and was not refused
	version int

	withdrawn bool // by the seller
	ending    bool // the seller's account is deleted, and somebody had the ticket then
}

// deleted says whether the listing is to be gone: a sale stands against the seller's word.
func (s *stall) deleted() bool { return s.withdrawn && s.ticket.Status != Sold }

// change does something to the ticket, and checks that it is a new version if it changed anything, and the same
// ticket as before if it did not.
func (s *stall) change(t *rapid.T, act func() (changed bool)) bool {
	s.now = s.now.Add(time.Second)
	before := s.ticket
	changed := act()
	if !changed {
		require.Equal(t, before, s.ticket, "a refusal, or an old event, changes nothing")
		return false
	}
	require.Equal(t, before.Version+1, s.ticket.Version)
	require.Equal(t, s.now, s.ticket.UpdatedAt)
	s.version++
	return true
}

func (s *stall) deliver(t *rapid.T) {
	next := s.coming[0]
	s.coming = s.coming[1:]
	newer := next.Order.Sequence > s.ticket.Sequence
	changed := s.change(t, func() bool { return s.ticket.Hear(next.Status, next.Order, s.now) })
	require.Equal(t, newer, changed)
	if !changed {
		return
	}
	require.Equal(t, next.Status, s.ticket.Status)
	if s.ending && next.Status != Reserved && next.Status != Sold {
		s.ending, s.withdrawn = false, true
		require.IsType(t, events.TicketDeleted{}, s.ticket.Event(), "that was not published yet")
		return
	}
	require.Nil(t, s.ticket.Event(), "what follows from an order's event is not published again")
}

// account lets the seller delete the account.
func (s *stall) account(t *rapid.T) {
	had := s.ticket.Status == Reserved || s.ticket.Status == Sold
	again := s.withdrawn || s.ending
	changed := s.change(t, func() bool { return s.ticket.Withdraw(s.now) })
	require.Equal(t, !again, changed, "once is enough")
	switch {
	case !changed:
	case had:
		s.ending = true
		require.Nil(t, s.ticket.Event())
	default:
		s.withdrawn = true
		require.IsType(t, events.TicketDeleted{}, s.ticket.Event())
	}
}

// seller lets the seller change or withdraw the listing, on a version that may be stale.
func (s *stall) seller(t *rapid.T) {
	expect := Expect(rapid.SampledFrom([]int{0, s.ticket.Version, s.ticket.Version - 1, s.ticket.Version + 1}).Draw(t, "expect"))
	seller := rapid.SampledFrom([]string{"seller", "seller", "other"}).Draw(t, "who")
	may := seller == "seller" && !s.deleted() && (s.ticket.Status == Available || s.ticket.Status == Withheld) && (expect == 0 || int(expect) == s.ticket.Version)
	withdraw := rapid.IntRange(0, 4).Draw(t, "withdraw, if 0") == 0
	offer := Offer{Title: rapid.StringN(1, 10, -1).Draw(t, "title"), Price: rapid.Int64Range(1, 1<<40).Draw(t, "price")}
	var err error
	changed := s.change(t, func() bool {
		if withdraw {
			err = s.ticket.Delete(seller, expect, s.now)
		} else {
			err = s.ticket.Change(seller, expect, offer, s.now)
		}
		return err == nil
	})
	require.Equal(t, may, changed, "%v", err)
	if changed {
		id, version := s.ticket.Event().Aggregate()
		require.Equal(t, "ticket-1", id)
		require.Equal(t, s.ticket.Version, version)
	}
	switch {
	case !changed:
	case withdraw:
		s.withdrawn = true
	default:
		s.offer = offer
		require.Equal(t, Available, s.ticket.Status, "it is on sale again")
	}
}

func (s *stall) check(t *rapid.T) {
	require.Equal(t, s.offer, Offer{Title: s.ticket.Title, Price: s.ticket.Price}, "no event touches what the seller said")
	require.Equal(t, s.deleted(), s.ticket.Deleted)
	require.Equal(t, s.ending, s.ticket.Ending)
	require.Equal(t, s.version, s.ticket.Version)
	require.Equal(t, s.ticket.Status == Reserved || s.ticket.Status == Sold, s.ticket.OrderID != "", "an order is named while it has the ticket")
}

// Whatever the seller does meanwhile, and in whatever order and how often the events of its orders arrive, a ticket
// ends as the orders service says, and what the seller said stands.
func TestTicket_ConvergesToTheReservationsBesideAnyChangesOfTheSeller(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		life := anyReservations(t)
		s := &stall{ticket: listed(), now: noon, offer: Offer{Title: "Front row", Price: 4500}, version: 1}
		s.coming = anyDelivery(t, life)
		for len(s.coming) > 0 {
			switch rapid.IntRange(0, 8).Draw(t, "the seller up to 2, the account's end if 3") {
			case 0, 1, 2:
				s.seller(t)
			case 3:
				s.account(t)
			default:
				s.deliver(t)
			}
			s.check(t)
		}
		last := life[len(life)-1]
		require.Equal(t, last.Order.Sequence, s.ticket.Sequence)
		if last.Status != Withheld || s.ticket.Status != Available { // its seller may have put it on sale again
			require.Equal(t, last.Status, s.ticket.Status)
		}
		if last.Status == Available || last.Status == Withheld {
			require.Empty(t, s.ticket.OrderID)
		} else {
			require.Equal(t, last.Order.ID, s.ticket.OrderID)
		}
		before := s.ticket
		for _, again := range life {
			require.False(t, s.ticket.Hear(again.Status, again.Order, s.now))
		}
		require.Equal(t, before, s.ticket, "all of it once more changes nothing")
	})
}

func TestHear_TwoReplicasThatHearTheSameAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		life := anyReservations(t)
		var replicas [2]Ticket
		for i := range replicas {
			replicas[i] = listed()
			for _, d := range anyDelivery(t, life) {
				replicas[i].Hear(d.Status, d.Order, noon)
			}
			replicas[i].Version = 0 // counts what was heard in its own order
		}
		require.Equal(t, replicas[0], replicas[1])
	})
}
