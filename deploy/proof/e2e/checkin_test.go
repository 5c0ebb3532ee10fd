package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// Check-in: the show's owner uses passes at the door.

func TestCheckIn_APassAdmitsOnce(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, buyer := s.signUp(t), s.signUp(t)
	show, other := owner.announce(t, newShow(inDays(30))), owner.announce(t, newShow(inDays(31)))
	order := s.buyPlace(t, owner, buyer, show, 1)
	code := buyer.pass(t, order.ID).Code

	requireProblem(t, 401, s.call(t, client.CheckIn(show.ID, code)), "not_signed_in")
	requireProblem(t, 403, buyer.call(t, client.CheckIn(show.ID, code)), "not_show_owner")
	requireProblem(t, 409, owner.call(t, client.CheckIn(other.ID, code)), "wrong_show")
	requireProblem(t, 400, owner.call(t, client.CheckIn(show.ID, code+"x")), "pass_invalid")
	requireProblem(t, 400, owner.call(t, client.CheckIn(show.ID, "")), "required")
	requireProblem(t, 404, owner.call(t, client.CheckIn("7", code)), "not_found")

	scan := client.CheckIn(show.ID, code).WithKey(uuid.NewString())
	r := owner.call(t, scan)
	requireStatus(t, 200, r)
	in := decode[client.CheckedIn](t, r)
	require.Equal(t, client.CheckedIn{OrderID: order.ID, TicketID: order.Ticket.ID, ShowID: show.ID, Title: order.Ticket.Title, Seat: row1(1), UsedAt: in.UsedAt}, in)
	require.WithinDuration(t, time.Now(), in.UsedAt, time.Minute)
	again := owner.call(t, scan)
	requireStatus(t, 200, again)
	require.Equal(t, in, decode[client.CheckedIn](t, again), "the same scan, whose response may have been lost")

	refused := owner.call(t, client.CheckIn(show.ID, code))
	requireProblem(t, 409, refused, "already_used")
	require.Equal(t, in.UsedAt, decode[struct{ UsedAt time.Time }](t, refused).UsedAt)
	pass := buyer.pass(t, order.ID)
	require.Equal(t, "used", pass.Status)
	require.Equal(t, in.UsedAt, pass.UsedAt)
	require.Equal(t, "complete", buyer.order(t, order.ID).Status)
}

// Many people at many doors scan the same pass at the same moment.
func TestCheckIn_OfManyAtOnceOneSucceeds(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner, buyer := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	order := s.buyPlace(t, owner, buyer, show, 1)
	code := buyer.pass(t, order.ID).Code
	var scans sync.WaitGroup
	responses := make([]client.Response, 60)
	for i := range responses {
		scans.Go(func() { responses[i] = owner.call(t, client.CheckIn(show.ID, code)) })
	}
	scans.Wait()
	in := 0
	for _, r := range responses {
		if r.Status == 200 {
			in++
			continue
		}
		requireProblem(t, 409, r, "already_used")
	}
	require.Equal(t, 1, in)
}

func TestCheckIn_ARefundVoidsThePass(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, buyer := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	listed := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 4000})
	order := buyer.reserve(t, listed.ID)
	paid := buyer.pay(t, order.ID, goodCard)
	buyer.orderBecomes(t, "complete", order.ID)
	code := buyer.pass(t, order.ID).Code
	buyer.paymentBecomes(t, "captured", paid.ID)
	s.refund(t, buyer.payment(t, paid.ID).StripeID, "")
	buyer.orderBecomes(t, "cancelled", order.ID)
	requireProblem(t, 409, buyer.call(t, client.ReadPass(order.ID)), "pass_void")
	requireProblem(t, 409, owner.call(t, client.CheckIn(show.ID, code)), "pass_void")
}

// A used pass stays used after a refund, and its place is not sold a second time.
func TestCheckIn_ARefundAfterwardsDoesNotFreeThePlace(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, buyer := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	listed := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 4000})
	order := buyer.reserve(t, listed.ID)
	paid := buyer.pay(t, order.ID, goodCard)
	buyer.orderBecomes(t, "complete", order.ID)
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, buyer.pass(t, order.ID).Code)))
	buyer.paymentBecomes(t, "captured", paid.ID)
	s.refund(t, buyer.payment(t, paid.ID).StripeID, "")
	buyer.orderBecomes(t, "cancelled", order.ID)
	require.False(t, buyer.order(t, order.ID).UsedAt.IsZero())
	requireProblem(t, 409, buyer.call(t, client.ReadPass(order.ID)), "pass_void")
	requireProblem(t, 409, s.signUp(t).call(t, client.Reserve(listed.ID)), "ticket_sold")
	s.ticketBecomes(t, "sold", listed.ID)
}

// One place is bought, offered again, reserved, not paid, bought, and given back: at each moment one pass admits at most.
func TestResale_APlaceHasOneValidPass(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, ann, bob := s.signUp(t), s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	order := s.buyPlace(t, owner, ann, show, 1)
	first := ann.pass(t, order.ID).Code
	offered := ann.resell(t, order.Ticket.ID, 3000)

	unpaid := bob.reserve(t, offered.ID)
	bob.cancel(t, unpaid.ID)
	require.Equal(t, "valid", ann.pass(t, order.ID).Status)

	carl := s.signUp(t)
	bought := carl.reserve(t, offered.ID)
	paid := carl.pay(t, bought.ID, goodCard)
	carl.orderBecomes(t, "complete", bought.ID)
	requireProblem(t, 409, ann.call(t, client.ReadPass(order.ID)), "pass_void")
	requireProblem(t, 409, owner.call(t, client.CheckIn(show.ID, first)), "pass_void")
	require.False(t, ann.order(t, order.ID).ResoldAt.IsZero())
	second := carl.pass(t, bought.ID)
	require.Equal(t, row1(1), second.Seat)
	require.Equal(t, show.StartsAt, second.StartsAt)
	s.ticketBecomes(t, "sold", offered.ID)

	carl.paymentBecomes(t, "captured", paid.ID)
	s.refund(t, carl.payment(t, paid.ID).StripeID, "")
	carl.orderBecomes(t, "cancelled", bought.ID)
	requireProblem(t, 409, owner.call(t, client.CheckIn(show.ID, second.Code)), "pass_void")
	require.Equal(t, "valid", ann.pass(t, order.ID).Status, "the sale was given back")
	require.True(t, ann.order(t, order.ID).ResoldAt.IsZero())
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, first)))
	refused := s.signUp(t).call(t, client.Reserve(offered.ID))
	require.Contains(t, []string{"ticket_withheld", "ticket_withdrawn", "ticket_not_found"}, refused.Code(), "it is withheld after the refund, until tickets deletes it")
}

// A pass that is for sale may be used. Then it cannot be bought any more.
func TestResale_TheUseOfThePassEndsIt(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, ann, bob := s.signUp(t), s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	order := s.buyPlace(t, owner, ann, show, 1)
	offered := ann.resell(t, order.Ticket.ID, 3000)
	projectTicket(t, bob, offered)
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, ann.pass(t, order.ID).Code)))
	r := s.signUp(t).call(t, client.Reserve(offered.ID))
	require.Contains(t, []int{404, 409}, r.Status, "%s", r.Body)
	if r.Status == 409 {
		requireProblem(t, 409, r, "ticket_withdrawn")
	}
	eventually(t, "the listing is withdrawn", func() bool { return s.call(t, client.ReadTicket(offered.ID)).Status == 404 })
}

// The buyers of a resale, and the door, all at the same moment, and nobody pays: the seller comes in once, and has sold nothing.
func TestResale_OfUnpaidBuyersAndTheDoorTheSellerComesIn(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner, ann := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	buyers := s.signUpMany(t, 12)
	order := s.buyPlace(t, owner, ann, show, 1)
	code := ann.pass(t, order.ID).Code
	offered := ann.resell(t, order.Ticket.ID, 3000)
	projectTicket(t, buyers[0], offered)
	var all sync.WaitGroup
	reserved := make([]client.Order, len(buyers))
	scans := make([]client.Response, len(buyers))
	for i, buyer := range buyers {
		all.Go(func() { _, reserved[i] = buyer.tryReserve(t, offered.ID) })
		all.Go(func() { scans[i] = owner.call(t, client.CheckIn(show.ID, code)) })
	}
	all.Wait()
	admitted := 0
	for i, buyer := range buyers {
		if unpaid := reserved[i].ID; unpaid != "" {
			require.Equal(t, "withdrawn", buyer.orderBecomes(t, "cancelled", unpaid).Reason)
		}
		if scans[i].Status == 200 {
			admitted++
			continue
		}
		requireProblem(t, 409, scans[i], "already_used")
	}
	require.Equal(t, 1, admitted)
}

// Bob has reserved the ticket that Ann offers again, and pays while Ann stands at two doors. Either Ann comes in and Bob pays nothing, or Bob has
// her place.
func TestCheckIn_OfTheSellerAndThePaymentOfTheBuyer(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Replicas: 2})
	owner, ann, bob := s.signUp(t), s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	outcomes := map[string]int{}
	for place := 1; place <= 8; place++ {
		order := s.buyPlace(t, owner, ann, show, place)
		code := ann.pass(t, order.ID).Code
		unpaid := bob.reserve(t, ann.resell(t, order.Ticket.ID, 3000).ID)
		var paid client.Response
		scans := make([]client.Response, 2)
		var all sync.WaitGroup
		pay := func() { paid = bob.call(t, client.Pay(unpaid.ID, goodCard)) }
		if place%2 == 0 {
			all.Go(pay)
		} else {
			pay() // what remains is the race with the event of the payment
		}
		for i, replica := range []string{"orders", "orders-2"} {
			all.Go(func() { scans[i] = owner.call(t, client.CheckIn(show.ID, code).At(s.URL(replica))) })
		}
		all.Wait()
		if (scans[0].Status == 200) == (scans[1].Status == 200) {
			requireProblem(t, 409, scans[0], "pass_void")
			requireProblem(t, 409, scans[1], "pass_void")
			bob.orderBecomes(t, "complete", unpaid.ID)
			require.Equal(t, "valid", bob.pass(t, unpaid.ID).Status)
			requireProblem(t, 409, ann.call(t, client.ReadPass(order.ID)), "pass_void")
			outcomes["bought"]++
			continue
		}
		outcomes[fmt.Sprint("admitted, and the payment was answered ", paid.Status)]++
		require.Equal(t, "withdrawn", bob.orderBecomes(t, "cancelled", unpaid.ID).Reason)
		require.Equal(t, "used", ann.pass(t, order.ID).Status)
		eventuallyEqual(t, 0, "Bob's money", func() int64 { m := s.moneyOf(t, unpaid.ID); return m.held + m.kept })
	}
	t.Log(outcomes)
}
