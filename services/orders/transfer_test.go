package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
)

// hall is one place of a show with all tickets and orders of it, as the documents would be. A decision changes them as the store does:
// it gets copies, which replace the documents unless it is refused.
type hall struct {
	now     time.Time
	seats   map[id.Ticket]Seat
	orders  map[id.Order]Order
	tickets []id.Ticket
	made    []id.Order
	// published are the versions of each order, and the sequences of each ticket, whose events were published.
	published map[id.Order]int
	sequences map[id.Ticket]int
	// usedBy are the orders whose passes were used.
	usedBy []id.Order
}

const (
	first  = id.Ticket("ticket-1")
	second = id.Ticket("ticket-2")
)

// newHall has the first ticket, which the show's owner sells.
func newHall() *hall {
	h := &hall{now: noon, seats: map[id.Ticket]Seat{}, orders: map[id.Order]Order{}, published: map[id.Order]int{}, sequences: map[id.Ticket]int{}}
	listing := showListing(first, 1)
	listing.UserID, listing.ShowOwnerID = "owner", "owner"
	h.list(listing)
	return h
}

func (h *hall) list(listing events.Ticket) {
	var seat Seat
	seat.Apply(listing, false)
	h.seats[listing.ID] = seat
	h.tickets = append(h.tickets, listing.ID)
}

// resell lists a resale of an order's ticket. Whether that is allowed is for tickets to decide: orders must be safe in any case.
func (h *hall) resell(ticket id.Ticket, of id.Order) {
	o := h.orders[of]
	listing := showListing(ticket, 1)
	listing.UserID, listing.ShowOwnerID = o.UserID, "owner"
	listing.ResaleOf = &events.Resold{TicketID: o.Ticket.ID, OrderID: of}
	h.list(listing)
}

// reserve does what store.Reserve does.
func (h *hall) reserve(ticket id.Ticket, order id.Order, buyer id.User) error {
	seat := copyOf(h.seats[ticket])
	var late *Order
	if expired, found := seat.ExpiredOrder(h.now); found {
		o := h.orders[expired]
		if _, err := o.Cancel(&seat, Expired, h.now, terms); err != nil {
			return err
		}
		late = &o
	}
	o, err := seat.Reserve(order, buyer, h.now, terms)
	if err != nil {
		return err
	}
	var origin *Order
	if o.ResaleOf != nil {
		value := h.orders[o.ResaleOf.OrderID]
		origin = &value
		if t := origin.Transfer; t != nil && t.TicketID == ticket {
			origin.Transfer = nil
		}
		if err := origin.BeginTransfer(&o); err != nil {
			return err
		}
	}
	for _, changed := range []*Order{late, &o, origin} {
		if changed != nil {
			h.orders[changed.ID] = *changed
		}
	}
	h.seats[ticket] = seat
	h.made = append(h.made, order)
	return nil
}

// decide does what store.decision does.
func (h *hall) decide(order id.Order, transition func(*Chain) (bool, error)) (bool, error) {
	holding := func(order id.Order) *Holding {
		o := h.orders[order]
		seat := copyOf(h.seats[o.Ticket.ID])
		return &Holding{&o, &seat}
	}
	c := Chain{Holding: *holding(order)}
	if c.Order.ResaleOf != nil {
		c.Origin = holding(c.Order.ResaleOf.OrderID)
	}
	if c.Order.Transfer != nil {
		c.Buyer = holding(c.Order.Transfer.OrderID)
	}
	before := c.Order.Status
	changed, err := transition(&c)
	if err == nil && changed {
		err = c.Follow(before, h.now, terms)
	}
	if err != nil || !changed {
		return false, err
	}
	for _, one := range []*Holding{&c.Holding, c.Origin, c.Buyer} {
		if one == nil {
			continue
		}
		o := one.Order
		if o.Version > h.orders[o.ID].Version {
			h.seats[o.Ticket.ID] = *one.Seat
		}
		h.orders[o.ID] = *o
	}
	return true, nil
}

func (h *hall) complete(order id.Order) (bool, error) {
	return h.decide(order, func(c *Chain) (bool, error) { return c.Order.Complete(c.Seat, "payment-"+id.Payment(order), h.now) })
}

func (h *hall) cancel(order id.Order, reason Reason) (bool, error) {
	return h.decide(order, func(c *Chain) (bool, error) { return c.Order.Cancel(c.Seat, reason, h.now, terms) })
}

func (h *hall) use(order id.Order) error {
	used, err := h.decide(order, func(c *Chain) (bool, error) { return true, c.Use("owner", h.now, terms) })
	if used {
		h.usedBy = append(h.usedBy, order)
	}
	return err
}

func (h *hall) revoke(ticket id.Ticket) error {
	seat := copyOf(h.seats[ticket])
	listing := showListing(ticket, seat.Version+1)
	listing.ShowOwnerID, listing.UserID, listing.Revoked = seat.ShowOwnerID, seat.SellerID, true
	if seat.ResaleOf != nil {
		listing.ResaleOf = &events.Resold{TicketID: seat.ResaleOf.TicketID, OrderID: seat.ResaleOf.OrderID}
	}
	seat.Apply(listing, true)
	h.seats[ticket] = seat
	if seat.Reservation == nil {
		return nil
	}
	for order := seat.Reservation.OrderID; order != ""; order = h.orders[order].ResoldTo {
		if _, err := h.decide(order, func(c *Chain) (bool, error) { return c.Order.CancelRevoked(c.Seat, h.now, terms) }); err != nil {
			return err
		}
	}
	return nil
}

// valid are the orders whose pass lets somebody in.
func (h *hall) valid() (valid []id.Order) {
	for _, order := range h.made {
		o := h.orders[order]
		if o.CheckPass() == nil && !o.isUsed() {
			valid = append(valid, order)
		}
	}
	return valid
}

// check is what must hold after every command.
func (h *hall) check(t require.TestingT) {
	require.LessOrEqual(t, len(h.valid()), 1, "a place has one valid pass at most")
	require.LessOrEqual(t, len(h.usedBy), 1, "one person is let in for a place")
	if len(h.usedBy) > 0 {
		require.Empty(t, h.valid(), "the place of a used pass has no other")
	}
	for _, order := range h.made {
		o := h.orders[order]
		if o.Transfer != nil {
			to := h.orders[o.Transfer.OrderID]
			require.Equal(t, Created, to.Status, "who reserves a place is unpaid")
			require.Equal(t, Complete, o.Status)
			require.False(t, o.isSpent())
			require.Equal(t, o.ID, to.ResaleOf.OrderID)
		}
		if o.ResaleOf != nil && o.Status == Created {
			require.Equal(t, o.ID, h.orders[o.ResaleOf.OrderID].Transfer.OrderID, "an unpaid order of a resale has its place")
		}
		if o.ResaleOf != nil && o.Status == Complete {
			require.Equal(t, o.ID, h.orders[o.ResaleOf.OrderID].ResoldTo, "a complete order of a resale has its place")
		}
		if held := h.seats[o.Ticket.ID].Reservation; o.Status != Cancelled {
			require.Equal(t, &Reservation{OrderID: o.ID, UserID: o.UserID, Status: o.Status, ExpiresAt: o.ExpiresAt}, held)
		}
		require.GreaterOrEqual(t, o.Version, h.published[order])
		h.published[order] = o.Version
		require.Equal(t, o.Status == Complete && o.PassChanged, o.Event().EventType() == "order.updated")
	}
	for _, ticket := range h.tickets {
		require.GreaterOrEqual(t, h.seats[ticket].Sequence, h.sequences[ticket])
		h.sequences[ticket] = h.seats[ticket].Sequence
	}
}

// In any interleaving of reservations, payments, ends, refunds, check-ins, resales and revocations, a place has one valid pass at most,
// and lets one person in.
func TestTransfers_APlaceNeverHasTwoValidPassesNorTwoCheckIns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHall()
		// Most commands are about the newest orders and tickets, so that chains become long.
		some := func(t *rapid.T) id.Order {
			if len(h.made) == 0 {
				t.Skip("no order")
			}
			return rapid.SampledFrom(newest(h.made)).Draw(t, "order")
		}
		reserve := func(t *rapid.T) (id.Order, error) {
			order := id.Order(fmt.Sprintf("order-%d", len(h.made)+1))
			return order, h.reserve(rapid.SampledFrom(newest(h.tickets)).Draw(t, "ticket"), order, rapid.SampledFrom([]id.User{"ann", "bob", "eve"}).Draw(t, "buyer"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"time passes": func(t *rapid.T) {
				h.now = h.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "minutes")) * time.Minute)
			},
			"reserve": func(t *rapid.T) { _, _ = reserve(t) },
			"buy": func(t *rapid.T) {
				if order, err := reserve(t); err == nil {
					_, err = h.complete(order)
					require.NoError(t, err)
				}
			},
			"complete": func(t *rapid.T) {
				order := some(t)
				before := h.orders[order]
				changed, err := h.complete(order)
				require.NoError(t, err)
				require.Equal(t, before.Status == Created, changed)
			},
			"cancel": func(t *rapid.T) { _, _ = h.cancel(some(t), anyReason(t)) },
			"refund": func(t *rapid.T) { _, _ = h.cancel(some(t), Refunded) },
			"check in": func(t *rapid.T) {
				if rapid.IntRange(0, 2).Draw(t, "check in, if 0") > 0 {
					return // after it not much can happen
				}
				order := some(t)
				before := h.orders[order]
				err := h.use(order)
				can := before.CheckPass() == nil && !before.isUsed()
				require.Equal(t, can, err == nil, "%v", err)
			},
			"resell": func(t *rapid.T) {
				if order := some(t); len(h.tickets) < 8 && h.order(order).wasComplete() {
					h.resell(id.Ticket(fmt.Sprintf("ticket-%d", len(h.tickets)+1)), order)
				}
			},
			"offer a withheld ticket again": func(t *rapid.T) {
				ticket := rapid.SampledFrom(newest(h.tickets)).Draw(t, "ticket")
				seat := h.seats[ticket]
				seat.Withheld = 0
				h.seats[ticket] = seat
			},
			"revoke": func(t *rapid.T) {
				if rapid.IntRange(0, 29).Draw(t, "revoke, if 0") == 0 {
					require.NoError(t, h.revoke(rapid.SampledFrom(h.tickets).Draw(t, "ticket")))
				}
			},
			"": func(t *rapid.T) { h.check(t) },
		})
	})
}

// newest are the last four.
func newest[T any](all []T) []T { return all[max(0, len(all)-4):] }

// resold is a hall in which ann has bought the first ticket and resold it to bob.
func resold(t *testing.T) *hall {
	t.Helper()
	h := newHall()
	require.NoError(t, h.reserve(first, "o1", "ann"))
	h.mustComplete(t, "o1")
	h.resell(second, "o1")
	require.NoError(t, h.reserve(second, "o2", "bob"))
	h.mustComplete(t, "o2")
	require.Equal(t, []id.Order{"o2"}, h.valid())
	return h
}

func (h *hall) mustComplete(t *testing.T, order id.Order) {
	t.Helper()
	changed, err := h.complete(order)
	require.NoError(t, err)
	require.True(t, changed)
	h.check(t)
}

func (h *hall) mustCancel(t *testing.T, order id.Order, reason Reason) {
	t.Helper()
	changed, err := h.cancel(order, reason)
	require.NoError(t, err)
	require.True(t, changed)
	h.check(t)
}

func (h *hall) order(order id.Order) *Order { o := h.orders[order]; return &o }

func TestResale_TheOldPassIsVoidWhenTheNewOneIsValid(t *testing.T) {
	h := resold(t)
	seller := h.order("o1")
	require.ErrorIs(t, seller.CheckPass(), errPassVoid)
	require.Equal(t, id.Order("o2"), seller.ResoldTo)
	require.Nil(t, seller.Transfer)
	e, ok := seller.Event().(events.OrderUpdated)
	require.True(t, ok)
	require.Equal(t, clock.Stamp(h.now), e.ResoldAt)
	require.Equal(t, 3, e.Version)
	require.Equal(t, 3, e.Sequence, "of the first ticket")
	require.Equal(t, 3, h.seats[first].Sequence)
	require.IsType(t, events.OrderCompleted{}, h.order("o2").Event())
	require.ErrorIs(t, h.use("o1"), errPassVoid)
	require.NoError(t, h.use("o2"))
	require.ErrorIs(t, h.use("o2"), errUsed)
}

func TestResale_ThePassIsValidAgainWhenTheSaleIsGivenBack(t *testing.T) {
	for _, reason := range []Reason{Refunded, PaymentLost} {
		h := resold(t)
		h.mustCancel(t, "o2", reason)
		require.Equal(t, []id.Order{"o1"}, h.valid())
		e, ok := h.order("o1").Event().(events.OrderUpdated)
		require.True(t, ok)
		require.True(t, e.ResoldAt.IsZero())
		require.Equal(t, 4, e.Version)
		require.NoError(t, h.use("o1"))
	}
}

func TestResale_TheSellersPassStaysVoidIfTheBuyersWasUsed(t *testing.T) {
	h := resold(t)
	require.NoError(t, h.use("o2"))
	h.mustCancel(t, "o2", Refunded)
	require.Empty(t, h.valid())
	require.ErrorIs(t, h.use("o1"), errPassVoid)
	require.ErrorIs(t, h.use("o2"), errPassVoid)
	require.ErrorIs(t, h.reserve(second, "o3", "eve"), errSold, "the place is never sold a second time")
	require.ErrorIs(t, h.reserve(second, "o3", "bob"), errSold)
}

func TestResale_TheSellersPassStaysVoidIfTheBuyerHasResoldThePlace(t *testing.T) {
	h := resold(t)
	h.resell("ticket-3", "o2")
	require.NoError(t, h.reserve("ticket-3", "o3", "eve"))
	h.mustComplete(t, "o3")
	require.Equal(t, []id.Order{"o3"}, h.valid())
	h.mustCancel(t, "o2", Refunded)
	require.Equal(t, []id.Order{"o3"}, h.valid())
	h.mustCancel(t, "o3", Refunded)
	require.Empty(t, h.valid())
}

func TestResale_ARefundOfTheSellersOrderKeepsThePlaceWithTheBuyer(t *testing.T) {
	h := resold(t)
	h.mustCancel(t, "o1", Refunded)
	require.Equal(t, []id.Order{"o2"}, h.valid())
	seat := h.seats[first]
	require.Equal(t, &Reservation{OrderID: "o1", UserID: "ann", Status: Cancelled, ExpiresAt: noon.Add(window)}, seat.Reservation)
	_, expired := seat.ExpiredOrder(noon.Add(24 * time.Hour))
	require.False(t, expired)
	require.ErrorIs(t, h.reserve(first, "o3", "eve"), errSold)
	e, ok := h.order("o1").Event().(events.OrderCancelled)
	require.True(t, ok)
	require.False(t, e.ResoldAt.IsZero(), "so consumers know that the ticket stays sold")

	listing := showListing(first, 2)
	listing.Sequence, listing.Status = seat.Sequence, "sold"
	listing.OrderID = "o1"
	require.False(t, seat.CatchUp(listing), "tickets shows the same order")
}

// Strangers who reserve a resale again and again do not keep its seller out of the show.
func TestResale_TheCheckInOfItsSellerEndsAnUnpaidReservation(t *testing.T) {
	for when, waits := range map[string]time.Duration{"in its window": time.Minute, "after its window": window} {
		t.Run(when, func(t *testing.T) {
			h := newHall()
			require.NoError(t, h.reserve(first, "o1", "ann"))
			h.mustComplete(t, "o1")
			h.resell(second, "o1")
			require.NoError(t, h.reserve(second, "o2", "bob"))
			h.now = h.now.Add(waits)
			require.NoError(t, h.use("o1"))
			h.check(t)
			require.Equal(t, Withdrawn, h.order("o2").Reason)
			require.Nil(t, h.seats[second].Reservation)
			require.ErrorIs(t, h.reserve(second, "o3", "eve"), errTicketWithdrawn)
			changed, err := h.complete("o2")
			require.NoError(t, err)
			require.False(t, changed, "a late payment is given back")
		})
	}
}

func TestResale_TheNextBuyerTakesAnExpiredReservation(t *testing.T) {
	h := newHall()
	require.NoError(t, h.reserve(first, "o1", "ann"))
	h.mustComplete(t, "o1")
	h.resell(second, "o1")
	require.NoError(t, h.reserve(second, "o2", "bob"))
	h.now = h.now.Add(window)
	require.NoError(t, h.reserve(second, "o3", "eve"))
	h.check(t)
	require.Equal(t, id.Order("o3"), h.order("o1").Transfer.OrderID)
	require.Equal(t, Expired, h.order("o2").Reason)
	h.mustComplete(t, "o3")
}

func TestResale_AnUnpaidReservationEndsWithTheSellersOrder(t *testing.T) {
	h := newHall()
	require.NoError(t, h.reserve(first, "o1", "ann"))
	h.mustComplete(t, "o1")
	h.resell(second, "o1")
	require.NoError(t, h.reserve(second, "o2", "bob"))
	h.mustCancel(t, "o1", Refunded)
	require.Equal(t, Cancelled, h.order("o2").Status)
	require.Equal(t, Withdrawn, h.order("o2").Reason)
	require.Nil(t, h.order("o1").Transfer)
	changed, err := h.complete("o2")
	require.NoError(t, err)
	require.False(t, changed, "a late payment is given back")
}

func TestReserve_AResaleWithoutAValidPassIsWithdrawn(t *testing.T) {
	sold := func(t *testing.T) *hall {
		h := newHall()
		require.NoError(t, h.reserve(first, "o1", "ann"))
		h.mustComplete(t, "o1")
		h.resell(second, "o1")
		return h
	}
	for name, change := range map[string]func(*testing.T, *hall){
		"its pass was used":           func(t *testing.T, h *hall) { require.NoError(t, h.use("o1")) },
		"its order is refunded":       func(t *testing.T, h *hall) { h.mustCancel(t, "o1", Refunded) },
		"it is another's":             func(_ *testing.T, h *hall) { o := h.orders["o1"]; o.UserID = "eve"; h.orders["o1"] = o },
		"the order has no such place": func(_ *testing.T, h *hall) { o := h.orders["o1"]; o.Ticket.ID = "ticket-9"; h.orders["o1"] = o },
		"it is resold by another listing": func(t *testing.T, h *hall) {
			h.resell("ticket-3", "o1")
			require.NoError(t, h.reserve("ticket-3", "o3", "eve"))
			require.ErrorIs(t, h.reserve(second, "o2", "bob"), errReserved)
			h.mustComplete(t, "o3")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := sold(t)
			change(t, h)
			require.ErrorIs(t, h.reserve(second, "o2", "bob"), errTicketWithdrawn)
			require.NotContains(t, h.orders, id.Order("o2"))
		})
	}
	h := sold(t)
	require.ErrorIs(t, h.reserve(second, "o2", "ann"), errOwnTicket)
}

func TestRevoked_AWholeChainOfResalesEnds(t *testing.T) {
	h := resold(t)
	require.NoError(t, h.revoke(first))
	h.check(t)
	require.Empty(t, h.valid())
	require.Equal(t, Cancelled, h.order("o2").Status, "its place is void as well")

	h = resold(t) // the other order of events
	require.NoError(t, h.revoke(second))
	require.Equal(t, []id.Order{"o1"}, h.valid())
	require.NoError(t, h.revoke(first))
	require.Empty(t, h.valid())
}

// resaleStore is a store in which ann has bought the first ticket, and offers it with the second.
func resaleStore(t *testing.T, terms Terms) (*testStore, Order) {
	t.Helper()
	s := newTestStore(t, terms)
	listing := showListing(first, 1)
	listing.UserID, listing.ShowOwnerID, listing.SalesEndAt = "owner", "owner", clock.Stamp(clock.System().Add(time.Hour))
	require.NoError(t, s.listingChanged(t.Context(), listing))
	order, err := s.reserve(t, first, "ann")
	require.NoError(t, err)
	require.NoError(t, s.pay(t, order.ID))
	resale := listing
	resale.ID, resale.UserID, resale.ResaleOf = second, "ann", &events.Resold{TicketID: first, OrderID: order.ID}
	require.NoError(t, s.listingChanged(t.Context(), resale))
	return s, order
}

func (s *testStore) pay(t *testing.T, order id.Order) error {
	return s.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: events.Payment{ID: "payment-" + id.Payment(order), OrderID: order, Version: 1}})
}

func (s *testStore) refund(t *testing.T, order id.Order) error {
	return s.paymentRefunded(t.Context(), events.PaymentRefunded{Payment: events.Payment{ID: "payment-" + id.Payment(order), OrderID: order, Version: 2, Amount: 1, Refunded: 1}})
}

func TestExpire_ThePassOfAnUnpaidResaleIsFreeAgain(t *testing.T) {
	s, sold := resaleStore(t, Terms{Window: time.Millisecond})
	unpaid, err := s.reserve(t, second, "bob")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return unpaid.IsOver(clock.System()) }, time.Second, time.Millisecond)
	_, err = s.Expire(t.Context(), []events.ExpiredOrder{{ID: unpaid.ID, ExpiresAt: clock.Stamp(unpaid.ExpiresAt)}})
	require.NoError(t, err)
	s.requireStatus(t, Cancelled, unpaid)
	seller, err := s.anyOrder(t, sold.ID)
	require.NoError(t, err)
	require.Nil(t, seller.Transfer)
	require.Equal(t, 2, seller.Version, "a reservation of a resale is no event of the seller's order")
}

func TestComplete_TheSellersOrderIsPublishedWithTheBuyers(t *testing.T) {
	s, sold := resaleStore(t, limited)
	bought, err := s.reserve(t, second, "bob")
	require.NoError(t, err)
	before, _ := s.calls()
	require.NoError(t, s.pay(t, bought.ID))
	after, _ := s.calls()
	require.Equal(t, before+1, after, "in one transaction")
	require.NoError(t, s.pay(t, bought.ID), "a redelivery")
	s.requirePublished(t, "order.completed:"+string(bought.ID)+":2")
	s.requirePublished(t, "order.updated:"+string(sold.ID)+":3")
	require.NoError(t, s.refund(t, bought.ID))
	require.NoError(t, s.refund(t, bought.ID))
	s.requirePublished(t, "order.updated:"+string(sold.ID)+":4")
	require.NoError(t, s.RepublishLastEvent(t.Context(), sold.ID))
}

func TestListingDeleted_ARevocationEndsAWholeChain(t *testing.T) {
	s, sold := resaleStore(t, limited)
	bought, err := s.reserve(t, second, "bob")
	require.NoError(t, err)
	require.NoError(t, s.pay(t, bought.ID))
	listing := showListing(first, 2)
	listing.Revoked = true
	require.NoError(t, s.listingDeleted(t.Context(), events.TicketDeleted{Ticket: listing}))
	for _, order := range []id.Order{sold.ID, bought.ID} {
		o, err := s.anyOrder(t, order)
		require.NoError(t, err)
		require.Equal(t, Cancelled, o.Status)
	}
	require.NoError(t, s.listingDeleted(t.Context(), events.TicketDeleted{Ticket: listing}), "a redelivery")
}

// Tickets restores a sold listing that its seller has deleted, by the last event of its order.
func TestListingDeleted_ASpentTicketIsPublishedAgain(t *testing.T) {
	s, sold := resaleStore(t, limited)
	_, err := s.use(t, sold.PassClaims(), "owner")
	require.NoError(t, err)
	require.NoError(t, s.refund(t, sold.ID))
	cancelled := "order.cancelled:" + string(sold.ID) + ":4"
	s.requirePublished(t, cancelled)
	require.NoError(t, s.listingDeleted(t.Context(), events.TicketDeleted{Ticket: showListing(first, 2)}))
	require.Eventually(t, func() bool {
		n := 0
		for _, published := range s.sidecar.Published() {
			if published.ID == cancelled {
				n++
			}
		}
		return n == 2
	}, 5*time.Second, time.Millisecond)
}

// With documents and ETags, at the same time: one place, its resales, and buyers, refunds and check-ins from all sides.
func TestTransfers_AtTheSameTimeOnePersonIsLetIn(t *testing.T) {
	for range 20 {
		s, o1 := resaleStore(t, terms)
		var mu sync.Mutex
		made, used := []id.Order{o1.ID}, 0
		some := func() id.Order { mu.Lock(); defer mu.Unlock(); return made[rand.N(len(made))] }
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for range 12 {
					switch rand.N(6) {
					case 0, 1:
						if o, err := s.reserve(t, second, id.User(fmt.Sprint("buyer-", worker))); err == nil {
							mu.Lock()
							made = append(made, o.ID)
							mu.Unlock()
						}
					case 2, 3:
						_ = s.pay(t, some())
					case 4:
						if order := some(); order != o1.ID {
							_ = s.refund(t, order)
						}
					default:
						order, err := s.anyOrder(t, some())
						require.NoError(t, err)
						if _, err := s.use(t, order.PassClaims(), "owner"); err == nil {
							mu.Lock()
							used++
							mu.Unlock()
						}
					}
				}
			})
		}
		all.Wait()
		require.LessOrEqual(t, used, 1)
		valid := 0
		for _, order := range slices.Compact(slices.Sorted(slices.Values(made))) {
			o, err := s.anyOrder(t, order)
			require.NoError(t, err)
			if o.CheckPass() == nil && !o.isUsed() {
				valid++
			}
		}
		require.LessOrEqual(t, valid+used, 1)
	}
}

// anyOrder reads an order for a test.
func (s *testStore) anyOrder(t *testing.T, order id.Order) (Order, error) {
	doc, err := s.readOrder(t.Context(), order)
	return doc.Value, err
}

// use is UsePass as the API calls it.
func (s *testStore) use(t *testing.T, pass passClaims, owner id.User) (Order, error) {
	return state.Decide(t.Context(), s.documents, func(ctx context.Context) (*state.Change, Order, error) { return s.UsePass(ctx, pass, owner) })
}
