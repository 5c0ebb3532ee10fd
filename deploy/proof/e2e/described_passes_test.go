package e2e

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// buyPass buys a ticket of a show, and returns the pass.
func (u *testUser) buyPass(t testing.TB, ticketID string) client.Pass {
	t.Helper()
	order := u.reserve(t, ticketID)
	u.pay(t, order.ID, goodCard)
	u.orderBecomes(t, "complete", order.ID)
	return u.pass(t, order.ID)
}

func TestDescribed_RefusalsOfPasses(t *testing.T) {
	t.Parallel()
	s := sharedCompleteStack(t)
	owner, holder, other := s.signUp(t), s.signUp(t), s.signUp(t)
	show, otherShow := owner.announce(t, newShow(inDays(30))), owner.announce(t, newShow(inDays(30)))
	pass := holder.buyPass(t, owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 5000}).ID)

	requireProblem(t, 403, other.call(t, client.ReadPass(pass.OrderID)), "not_buyer")
	requireProblem(t, 409, holder.call(t, client.ReadPass(s.sell(t, holder).OrderID)), "no_pass") // of a ticket without a show
	r := holder.call(t, client.ReadPass(pass.OrderID).With("Accept", "text/html"))
	requireStatus(t, 303, r)
	require.Equal(t, "/orders/"+pass.OrderID+"/pass", r.Header.Get("Location"))
	r = holder.call(t, client.ReadPass(pass.OrderID).With("Accept", "image/svg+xml"))
	requireStatus(t, 200, r)
	require.Equal(t, "image/svg+xml", r.Header.Get("Content-Type"))

	key := uuid.NewString()
	requireProblem(t, 403, other.call(t, client.CheckIn(show.ID, pass.Code)), "not_show_owner")
	requireProblem(t, 409, owner.call(t, client.CheckIn(otherShow.ID, pass.Code)), "wrong_show")
	requireProblem(t, 400, owner.call(t, client.CheckIn(show.ID, owner.token)), "pass_invalid")
	checkedIn := owner.call(t, client.CheckIn(show.ID, pass.Code).WithKey(key))
	requireStatus(t, 200, checkedIn)
	requireProblem(t, 409, owner.call(t, client.CheckIn(show.ID, pass.Code)), "already_used")
	again := owner.call(t, client.CheckIn(show.ID, pass.Code).WithKey(key))
	require.Equal(t, checkedIn.Body, again.Body)
	require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
	other2 := holder.buyPass(t, owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(2), Price: 5000}).ID)
	requireProblem(t, 409, owner.call(t, client.CheckIn(show.ID, other2.Code).WithKey(key)), "idempotency_key_reused")
}

func TestDescribed_RefusalsOfResale(t *testing.T) {
	t.Parallel()
	s := sharedCompleteStack(t)
	owner, holder, buyer := s.signUp(t), s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	pass := holder.buyPass(t, owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 5000}).ID)
	withoutShow := s.sell(t, holder)

	s.ticketBecomes(t, "sold", pass.TicketID)
	requireProblem(t, 403, buyer.callKnown(t, client.Resell(pass.TicketID, 5000)), "not_pass_holder")
	requireProblem(t, 404, holder.call(t, client.Resell(unknownID, 5000)), "ticket_not_found")
	requireProblem(t, 409, holder.callKnown(t, client.Resell(holder.order(t, withoutShow.OrderID).Ticket.ID, 5000)), "no_pass")
	r := holder.request(t, "POST", "/api/tickets", map[string]any{"resaleOf": pass.TicketID, "price": 5000, "title": "Better"})
	requireProblem(t, 400, r, "resale_fixed")

	r = holder.callKnown(t, client.Resell(pass.TicketID, 5000))
	requireStatus(t, 201, r)
	again := decode[client.Ticket](t, r)
	require.Equal(t, pass.TicketID, again.ResaleOf)
	requireProblem(t, 409, holder.call(t, client.Resell(pass.TicketID, 5000)), "seat_listed")
	requireProblem(t, 400, holder.call(t, client.EditTicket(again.ID, client.Offer{Title: "Better", Price: 5100})), "resale_fixed")
	requireStatus(t, 200, holder.call(t, client.EditTicket(again.ID, client.Offer{Price: 5100})))

	order := buyer.reserve(t, again.ID)
	buyer.pay(t, order.ID, goodCard)
	buyer.orderBecomes(t, "complete", order.ID)
	requireProblem(t, 409, holder.call(t, client.ReadPass(pass.OrderID)), "pass_void")
	requireProblem(t, 409, owner.call(t, client.CheckIn(show.ID, pass.Code)), "pass_void")
	eventually(t, "the ticket cannot be sold again", func() bool { return holder.call(t, client.Resell(pass.TicketID, 5000)).Code() == "pass_void" })

	used := holder.buyPass(t, owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(2), Price: 5000}).ID)
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, used.Code)))
	eventually(t, "a ticket whose pass was used cannot be sold", func() bool { return holder.call(t, client.Resell(used.TicketID, 5000)).Code() == "pass_used" })
}

// While tickets does not run, a listing stays for sale whose seller has used the pass. Orders refuses it.
func TestDescribed_AListingWhosePassWasUsedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	owner, holder, buyer := s.signUp(t), s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	pass := holder.buyPass(t, owner.listPlace(t, client.Offer{ShowID: show.ID, Price: 5000}).ID)
	listed := holder.resell(t, pass.TicketID, 5000).ID
	projectTicket(t, buyer, client.Ticket{ID: listed})

	s.kill(t, "tickets")
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, pass.Code)))
	requireProblem(t, 409, s.signUp(t).callKnown(t, client.Reserve(listed)), "ticket_withdrawn")
	s.start(t, "tickets")
	s.waitReady(t, "tickets")
	eventuallyWithin(t, time.Minute, "the listing is withdrawn", func() bool { return s.call(t, client.ReadTicket(listed)).Status == 404 })
}
