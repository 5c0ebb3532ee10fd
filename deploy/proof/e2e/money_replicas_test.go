package e2e

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/stripe/sandbox"
)

// atBoth sends the same request with the same idempotency key to both replicas of a service at the same moment, and
// requires that both were answered alike. It returns that answer.
func (u *testUser) postToBothReplicas(t *testing.T, app, path, key string, body any) client.Response {
	t.Helper()
	var replies [2]client.Response
	var errs [2]error
	var ready, sent sync.WaitGroup
	ready.Add(2)
	for i, replica := range []string{app, app + "-2"} {
		sent.Go(func() {
			ready.Done()
			ready.Wait()
			replies[i], errs[i] = u.try(t.Context(), client.Request{Method: "POST", Path: u.stack.URL(replica) + path, Body: body}.WithKey(key))
		})
	}
	sent.Wait()
	for i := range replies {
		require.NoError(t, errs[i])
		require.Equal(t, 201, replies[i].Status, "%s", replies[i].Body)
		require.Equal(t, replies[0].Header.Get("Location"), replies[i].Header.Get("Location"))
		require.JSONEq(t, string(replies[0].Body), string(replies[i].Body))
	}
	return replies[0]
}

func TestReplicas_SameKeyAtBothMakesOneOrderAndOneCharge(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Replicas: 2})
	seller := s.signUp(t)
	const rounds = 20
	for round := range rounds {
		buyer := s.signUp(t)
		listing := seller.list(t, "Wanted twice", 1000)
		projectTicket(t, buyer, listing)
		key := fmt.Sprintf("round-%d", round)
		given := decode[client.Order](t, buyer.postToBothReplicas(t, "orders", "/api/orders", key, client.NewOrder{TicketID: listing.ID}))
		require.Equal(t, listing.ID, given.Ticket.ID)

		card := []string{goodCard, secureCard}[round%2]
		paid := decode[client.Payment](t, buyer.postToBothReplicas(t, "payments", "/api/payments", key, client.NewPayment{OrderID: given.ID, PaymentMethod: card}))
		if paid.Status == "requires_action" {
			require.NotEmpty(t, paid.ClientSecret)
			s.authenticate(t, paid.StripeID, "succeed")
		}
		buyer.orderBecomes(t, "complete", given.ID)
		s.requireMoney(t, given.ID, money{charges: 1, kept: 1000})
		var all []client.Order
		require.NoError(t, json.Unmarshal(buyer.call(t, client.ReadOrders()).Body, &all))
		require.Len(t, all, 2, "the one by which the ticket became known, which is cancelled, and this one")
		require.Equal(t, given.ID, all[0].ID)
		require.Equal(t, "cancelled", all[1].Status)

		again := buyer.request(t, "POST", s.URL("payments-2")+"/api/payments", client.NewPayment{OrderID: given.ID, PaymentMethod: declinedCard}, "Idempotency-Key", key)
		requireProblem(t, 409, again, "idempotency_key_reused")
	}

	// The processes that had the capture in mind die while the scheduler is away; those that come after them know
	// nothing of it. A 429 strikes once a look, and each of the two looks once when it starts: all further looks are
	// by the job.
	t.Run("and what dead processes had in mind is swept up by the scheduler's job", func(t *testing.T) {
		buyer, o := s.reserveNew(t, 4200)
		always := 1.0
		busy := s.addFault(t, o.ID, sandbox.Rule{Operation: "capture", Fault: sandbox.RateLimited, Rate: &always})
		paid := buyer.payUntilAccepted(t, o.ID, goodCard)
		buyer.orderBecomes(t, "complete", o.ID)
		eventually(t, "the capture was tried", func() bool { return s.faultHits(t, busy) > 0 })
		s.kill(t, "scheduler")
		for _, replica := range []string{"payments", "payments-2"} {
			s.kill(t, replica)
		}
		before := s.faultHits(t, busy)
		for _, replica := range []string{"payments", "payments-2"} {
			s.start(t, replica)
			require.NoError(t, s.WaitReady(t.Context(), replica), "it starts without the scheduler")
		}
		s.start(t, "scheduler")
		eventually(t, "the job fires", func() bool { return s.faultHits(t, busy) >= before+4 })

		s.removeFault(t, busy)
		buyer.paymentBecomes(t, "captured", paid.ID)
		s.requireMoney(t, o.ID, money{charges: 1, kept: 4200})
	})
}
