package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/stripe/sandbox"
)

// callBothReplicas sends the same request with the same idempotency key to both replicas of a service at the same moment. It requires that the
// responses are the same, and returns one.
func (u *testUser) callBothReplicas(t *testing.T, service, key string, r client.Request) client.Response {
	t.Helper()
	var responses [2]client.Response
	replicas := []string{service, service + "-2"}
	atOnce(len(replicas), func(i int) {
		responses[i] = u.call(t, r.WithKey(key).At(u.stack.URL(replicas[i])))
	})
	for _, response := range responses {
		requireStatus(t, 201, response)
		require.Equal(t, responses[0].Header.Get("Location"), response.Header.Get("Location"))
		require.JSONEq(t, string(responses[0].Body), string(response.Body))
	}
	return responses[0]
}

func TestReplicas_SameKeyAtBothMakesOneOrderAndOneCharge(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Replicas: 2})
	seller := s.signUp(t)
	const rounds = 20
	for round := range rounds {
		buyer := s.signUp(t)
		listed := seller.list(t, "Ordered twice", 1000)
		projectTicket(t, buyer, listed)
		key := fmt.Sprintf("round-%d", round)
		order := decode[client.Order](t, buyer.callBothReplicas(t, "orders", key, client.Reserve(listed.ID)))
		require.Equal(t, listed.ID, order.Ticket.ID)

		card := []string{goodCard, secureCard}[round%2]
		paid := decode[client.Payment](t, buyer.callBothReplicas(t, "payments", key, client.Pay(order.ID, card)))
		if paid.Status == "requires_action" {
			require.NotEmpty(t, paid.ClientSecret)
			s.authenticate(t, paid.StripeID, "succeed")
		}
		buyer.orderBecomes(t, "complete", order.ID)
		s.requireMoney(t, order.ID, money{charges: 1, kept: 1000})
		all := buyer.ownOrders(t)
		require.Len(t, all, 2, "this one, and the cancelled one of projectTicket")
		require.Equal(t, order.ID, all[0].ID)
		require.Equal(t, "cancelled", all[1].Status)

		again := buyer.call(t, client.Pay(order.ID, declinedCard).WithKey(key).At(s.URL("payments-2")))
		requireProblem(t, 409, again, "idempotency_key_reused")
	}

	// The processes that were to make a capture die while the scheduler is down. New processes know of it from the store only. Each of the two
	// tries once when it starts, so all further tries are by the scheduler's job.
	t.Run("the scheduler's job makes the captures of dead processes", func(t *testing.T) {
		buyer, o := s.reserveNew(t, 4200)
		always := 1.0
		busy := s.addFault(t, o.ID, sandbox.Rule{Operation: "capture", Fault: sandbox.RateLimited, Rate: &always})
		paid := buyer.payUntilAccepted(t, o.ID, goodCard)
		buyer.orderBecomes(t, "complete", o.ID)
		eventually(t, "the capture is tried", func() bool { return s.faultHits(t, busy) > 0 })
		s.kill(t, stack.Scheduler, "payments", "payments-2")
		before := s.faultHits(t, busy)
		for _, replica := range []string{"payments", "payments-2"} {
			s.start(t, replica)
			s.waitReady(t, replica) // which does not need the scheduler
		}
		s.start(t, stack.Scheduler)
		eventually(t, "the job fires", func() bool { return s.faultHits(t, busy) >= before+4 })

		s.removeFault(t, busy)
		buyer.paymentBecomes(t, "captured", paid.ID)
		s.requireMoney(t, o.ID, money{charges: 1, kept: 4200})
	})
}
