package e2e

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/stripe/sandbox"
)

// atBoth sends the same request with the same idempotency key to both replicas of a service at the same moment, and
// requires that both were answered alike. It returns that answer.
func (p *person) atBoth(t *testing.T, app, path, key string, body any) reply {
	t.Helper()
	var replies [2]reply
	var errs [2]error
	var ready, sent sync.WaitGroup
	ready.Add(2)
	for i, replica := range []string{app, app + "-2"} {
		sent.Go(func() {
			ready.Done()
			ready.Wait()
			replies[i], errs[i] = p.send("POST", p.house.URL(replica)+path, body, "Idempotency-Key", key)
		})
	}
	sent.Wait()
	for i := range replies {
		require.NoError(t, errs[i])
		require.Equal(t, 201, replies[i].status, "%s", replies[i].body)
		require.Equal(t, replies[0].header.Get("Location"), replies[i].header.Get("Location"))
		require.JSONEq(t, string(replies[0].body), string(replies[i].body))
	}
	return replies[0]
}

func TestReplicas_TheSameKeyAtBothIsOneOrderAndOneCharge(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Replicas: 2})
	seller := h.signUp(t)
	const rounds = 20
	for round := range rounds {
		buyer := h.signUp(t)
		seat := seller.list(t, "Wanted twice", 1000)
		known(t, buyer, seat)
		key := fmt.Sprintf("round-%d", round)
		given := as[order](t, buyer.atBoth(t, "orders", "/api/orders", key, wanted{seat.ID}))
		require.Equal(t, seat.ID, given.Ticket.ID)

		card := []string{goodCard, secureCard}[round%2]
		paid := as[payment](t, buyer.atBoth(t, "payments", "/api/payments", key, paying{OrderID: given.ID, PaymentMethod: card}))
		if paid.Status == "requires_action" {
			require.NotEmpty(t, paid.ClientSecret)
			h.authenticate(t, paid.StripeID, "succeed")
		}
		buyer.orderBecomes(t, "complete", given.ID)
		h.money(t, given.ID, 1, 0, 1000)
		var all []order
		require.NoError(t, json.Unmarshal(buyer.do(t, "GET", "/api/orders", nil).body, &all))
		require.Len(t, all, 2, "the one by which the ticket became known, which is cancelled, and this one")
		require.Equal(t, given.ID, all[0].ID)
		require.Equal(t, "cancelled", all[1].Status)

		again := buyer.do(t, "POST", h.URL("payments-2")+"/api/payments", paying{OrderID: given.ID, PaymentMethod: declinedCard}, "Idempotency-Key", key)
		refused(t, 409, again, "idempotency_key_reused")
	}

	// The processes that had the capture in mind die while the scheduler is away; those that come after them know
	// nothing of it. A 429 strikes once a look, and each of the two looks once when it starts: all further looks are
	// by the job.
	t.Run("and what dead processes had in mind is swept up by the scheduler's job", func(t *testing.T) {
		buyer, o := h.orderOf(t, 4200)
		always := 1.0
		busy := h.misbehaves(t, o.ID, sandbox.Rule{Operation: "capture", Fault: sandbox.RateLimited, Rate: &always})
		paid := buyer.paysAgain(t, o.ID, goodCard)
		buyer.orderBecomes(t, "complete", o.ID)
		eventually(t, "the capture was tried", func() bool { return h.struck(t, busy) > 0 })
		require.NoError(t, h.Process("scheduler").Kill())
		for _, replica := range []string{"payments", "payments-2"} {
			require.NoError(t, h.Process(replica).Kill())
		}
		before := h.struck(t, busy)
		for _, replica := range []string{"payments", "payments-2"} {
			require.NoError(t, h.Process(replica).Start())
			require.NoError(t, h.WaitReady(t.Context(), replica), "it starts without the scheduler")
		}
		require.NoError(t, h.Process("scheduler").Start())
		eventually(t, "the job fires", func() bool { return h.struck(t, busy) >= before+4 })

		h.behaves(t, busy)
		buyer.paymentBecomes(t, "captured", paid.ID)
		h.money(t, o.ID, 1, 0, 4200)
	})
}
