package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76/webhook"

	"boxoffice/deploy/local/stack"
)

// orderOf is a new order over that price, and its buyer.
func (h *house) orderOf(t testing.TB, price int64) (*person, order) {
	t.Helper()
	buyer := h.signUp(t)
	return buyer, buyer.reserved(t, h.signUp(t).list(t, "Concert", price).ID)
}

// money requires what the bank holds and has kept of an order.
func (h *house) money(t testing.TB, orderID string, charges int, held, kept int64) {
	t.Helper()
	type account struct {
		charges    int
		held, kept int64
	}
	becomes(t, account{charges, held, kept}, "the money of order "+orderID, func() (sum account) {
		for _, entry := range h.ledger(t, orderID) {
			sum.charges += entry.Charges
			sum.held += entry.Held
			sum.kept += entry.Kept
		}
		return sum
	})
	require.LessOrEqual(t, len(h.ledger(t, orderID)), 1, "an order has one PaymentIntent")
}

func TestPayments_AreMadeShownAndMadeOnce(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer, bought := h.orderOf(t, 4200)

	r := buyer.do(t, "POST", "/api/payments", `{"orderId":"`+bought.ID+`","paymentMethod":"pm_card_visa","amount":1,"currency":"xxx","status":"captured"}`)
	require.Equal(t, 201, r.status, "%s", r.body)
	made := as[payment](t, r)
	require.Contains(t, []string{"authorized", "captured"}, made.Status)
	require.Equal(t, payment{
		ID: made.ID, OrderID: bought.ID, StripeID: made.StripeID, Status: made.Status, Amount: 4200, Currency: "usd",
		CreatedAt: made.CreatedAt, UpdatedAt: made.UpdatedAt,
	}, made, "the amount is the order's")
	require.Regexp(t, "^pi_", made.StripeID)
	require.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute)
	require.Equal(t, "/api/payments/"+made.ID, r.header.Get("Location"))
	require.NotContains(t, string(r.body), "clientSecret")

	buyer.orderBecomes(t, "complete", bought.ID)
	captured := buyer.paymentBecomes(t, "captured", made.ID)
	for _, card := range []string{goodCard, goodCard, "pm_card_mastercard", declinedCard} {
		status, again := buyer.pay(t, bought.ID, card)
		require.Equal(t, 200, status)
		require.Equal(t, captured, again)
	}
	h.money(t, bought.ID, 1, 0, 4200)
}

func TestPayments_TakeTokensToo(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer, bought := h.orderOf(t, 4200)

	refused(t, 402, buyer.do(t, "POST", "/api/payments", paying{OrderID: bought.ID, Token: "tok_chargeDeclined"}), "generic_decline")
	r := buyer.do(t, "POST", "/api/payments", paying{OrderID: bought.ID, Token: "tok_visa"})

	require.Equal(t, 201, r.status, "%s", r.body)
	buyer.orderBecomes(t, "complete", bought.ID)
}

func TestPayments_DeclinedOrderStaysLiveForAnotherCard(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer, bought := h.orderOf(t, 4200)

	for card, code := range map[string]string{declinedCard: "generic_decline", poorCard: "insufficient_funds", "pm_card_chargeDeclinedExpiredCard": "expired_card"} {
		f := refused(t, 402, buyer.do(t, "POST", "/api/payments", paying{OrderID: bought.ID, PaymentMethod: card}), code)
		require.Equal(t, "paymentMethod", f.Errors[0].Field)
	}
	require.Equal(t, "created", buyer.order(t, bought.ID).Status)
	refused(t, 409, h.signUp(t).do(t, "POST", "/api/orders", wanted{bought.Ticket.ID}), "ticket_reserved")
	h.money(t, bought.ID, 0, 0, 0)

	status, paid := buyer.pay(t, bought.ID, goodCard)
	require.Equal(t, 201, status)
	buyer.orderBecomes(t, "complete", bought.ID)
	require.Empty(t, buyer.paymentBecomes(t, "captured", paid.ID).DeclineCode)
	h.money(t, bought.ID, 1, 0, 4200)
}

func TestPayments_ThreeDSecure(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	begin := func(t *testing.T, card string) (*person, payment) {
		buyer, bought := h.orderOf(t, 4200)
		r := buyer.do(t, "POST", "/api/payments", paying{OrderID: bought.ID, PaymentMethod: card})
		require.Equal(t, 201, r.status, "%s", r.body)
		begun := as[payment](t, r)
		require.Equal(t, "requires_action", begun.Status)
		require.True(t, strings.HasPrefix(begun.ClientSecret, begun.StripeID+"_secret_"), "Stripe's frontend goes on with it")
		h.money(t, bought.ID, 0, 0, 0)
		return buyer, begun
	}

	t.Run("passed, the order completes by the webhook alone", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, secureCard)
		require.Equal(t, begun, buyer.payment(t, begun.ID))
		status, again := buyer.pay(t, begun.OrderID, secureCard)
		require.Equal(t, 200, status, "asked again before the buyer has acted")
		require.Equal(t, begun, again)

		h.authenticate(t, begun.StripeID, "succeed")

		buyer.orderBecomes(t, "complete", begun.OrderID)
		require.Empty(t, buyer.paymentBecomes(t, "captured", begun.ID).ClientSecret, "nothing is left to act on")
		h.money(t, begun.OrderID, 1, 0, 4200)
	})
	t.Run("failed, another card pays", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, secureCard)
		h.authenticate(t, begun.StripeID, "fail")
		failed := buyer.paymentBecomes(t, "failed", begun.ID)
		require.NotEmpty(t, failed.DeclineCode)
		require.Equal(t, "created", buyer.order(t, begun.OrderID).Status)

		status, paid := buyer.pay(t, begun.OrderID, goodCard)
		require.Equal(t, 201, status)
		require.Equal(t, begun.ID, paid.ID, "an order has one payment")
		buyer.orderBecomes(t, "complete", begun.OrderID)
		h.money(t, begun.OrderID, 1, 0, 4200)
	})
	t.Run("passed, and declined after", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, declineAfterAuth)
		h.authenticate(t, begun.StripeID, "succeed")
		require.Equal(t, "insufficient_funds", buyer.paymentBecomes(t, "failed", begun.ID).DeclineCode)
		h.money(t, begun.OrderID, 0, 0, 0)
	})
	t.Run("left alone, another card pays", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, secureCard)
		status, _ := buyer.pay(t, begun.OrderID, goodCard)
		require.Equal(t, 201, status)
		buyer.orderBecomes(t, "complete", begun.OrderID)
		h.money(t, begun.OrderID, 1, 0, 4200)
	})
	t.Run("cancelled, nothing can be authorized any more", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, secureCard)
		require.Equal(t, 204, buyer.cancel(t, begun.OrderID))
		buyer.paymentBecomes(t, "voided", begun.ID)
		r := h.do(t, "POST", h.SandboxURL()+"/sandbox/payment_intents/"+begun.StripeID+"/authenticate", map[string]string{})
		require.Equal(t, 409, r.status, "the bank asks nobody any more")
		h.money(t, begun.OrderID, 0, 0, 0)
	})
}

func TestPayments_OrdersThatCannotBePaid(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer, cancelled := h.orderOf(t, 4200)
	require.Equal(t, 204, buyer.cancel(t, cancelled.ID))
	// Until the payments service has heard of it, the payment is begun, and then given back.
	eventually(t, "the cancelled order is refused", func() bool {
		r := buyer.do(t, "POST", "/api/payments", paying{OrderID: cancelled.ID, PaymentMethod: goodCard})
		return r.status == 409
	})
	refused(t, 409, buyer.do(t, "POST", "/api/payments", paying{OrderID: cancelled.ID, PaymentMethod: goodCard}), "order_cancelled")
	require.Equal(t, "cancelled", buyer.order(t, cancelled.ID).Status)
	for _, entry := range h.ledger(t, cancelled.ID) {
		h.money(t, cancelled.ID, entry.Charges, 0, 0)
	}

	_, others := h.orderOf(t, 4200)
	f := refused(t, 403, buyer.do(t, "POST", "/api/payments", paying{OrderID: others.ID, PaymentMethod: goodCard}))
	require.Equal(t, "orderId", f.Errors[0].Field)
	for name, id := range map[string]string{"old": unknownID, "new": uuid.Must(uuid.NewV7()).String()} {
		f := refused(t, 404, buyer.do(t, "POST", "/api/payments", paying{OrderID: id, PaymentMethod: goodCard}), "order_not_found")
		require.Equal(t, "orderId", f.Errors[0].Field, name)
	}
	h.money(t, others.ID, 0, 0, 0)
}

func TestPayments_OrderWhoseTimeIsOverIsNotPaid(t *testing.T) {
	t.Parallel()
	h := hastyHouse(t)
	buyer, late := h.orderOf(t, 4200)
	eventually(t, "its time is over", func() bool { return time.Now().After(late.ExpiresAt) })

	f := refused(t, 409, buyer.do(t, "POST", "/api/payments", paying{OrderID: late.ID, PaymentMethod: goodCard}))

	require.Contains(t, []string{"order_expired", "order_cancelled"}, f.Errors[0].Code)
	require.Equal(t, "expired", buyer.orderBecomes(t, "cancelled", late.ID).Reason)
	refused(t, 409, buyer.do(t, "POST", "/api/payments", paying{OrderID: late.ID, PaymentMethod: goodCard}))
	require.Empty(t, h.ledger(t, late.ID), "the bank was not even asked")
}

func TestPayments_AreTheirBuyersAlone(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer, other := h.signUp(t), h.signUp(t)
	paid := h.sold(t, buyer)

	refused(t, 403, other.do(t, "GET", "/api/payments/"+paid.ID, nil))
	refused(t, 401, h.do(t, "GET", "/api/payments/"+paid.ID, nil), "not_signed_in")
	refused(t, 401, h.do(t, "POST", "/api/payments", paying{OrderID: paid.OrderID, PaymentMethod: goodCard}), "not_signed_in")
	_, unpaid := h.orderOf(t, 4200)
	for _, id := range append(strings.Fields(nonsenseIDs), unknownID, unpaid.ID, unpaid.Ticket.ID, paid.StripeID) {
		refused(t, 404, buyer.do(t, "GET", "/api/payments/"+id, nil))
	}
}

func TestPayments_RefuseWhatIsNotValid(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer, unpaid := h.orderOf(t, 4200)
	long := strings.Repeat("x", 256)

	for name, tt := range map[string]struct {
		body  any
		field string
	}{
		"no order":                  {paying{PaymentMethod: goodCard}, "orderId"},
		"an order that is no id":    {paying{OrderID: "nonsense", PaymentMethod: goodCard}, "orderId"},
		"an order that is a number": {`{"orderId":7,"paymentMethod":"pm_card_visa"}`, "orderId"},
		"no card":                   {paying{OrderID: unpaid.ID}, "paymentMethod"},
		"two cards":                 {paying{OrderID: unpaid.ID, PaymentMethod: goodCard, Token: "tok_visa"}, "token"},
		"a card too long":           {paying{OrderID: unpaid.ID, PaymentMethod: long}, "paymentMethod"},
		"a token too long":          {paying{OrderID: unpaid.ID, Token: long}, "token"},
		"a card that is a list":     {`{"orderId":"` + unpaid.ID + `","paymentMethod":["pm_card_visa"]}`, "paymentMethod"},
		"a card that is none":       {paying{OrderID: unpaid.ID, PaymentMethod: "pm_card_none"}, "paymentMethod"},
		"a token that is none":      {paying{OrderID: unpaid.ID, Token: "tok_none"}, "token"},
		"a path for a card":         {paying{OrderID: unpaid.ID, PaymentMethod: "../customers"}, "paymentMethod"},
	} {
		t.Run(name, func(t *testing.T) {
			f := refused(t, 400, buyer.do(t, "POST", "/api/payments", tt.body))
			require.Equal(t, tt.field, f.Errors[0].Field)
		})
	}
	h.money(t, unpaid.ID, 0, 0, 0)
	status, _ := buyer.pay(t, strings.ToUpper(unpaid.ID), goodCard)
	require.Equal(t, 201, status, "the order can be paid after all that")
}

func TestPayments_IdempotencyKey(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer, bought := h.orderOf(t, 4200)
	key := uuid.NewString()
	ask := func(card, key string) reply {
		return buyer.do(t, "POST", "/api/payments", paying{OrderID: bought.ID, PaymentMethod: card}, "Idempotency-Key", key)
	}

	refused(t, 402, ask(declinedCard, key))
	first := ask(goodCard, key)
	require.Equal(t, 201, first.status, "after a refusal the key can be used again: %s", first.body)
	buyer.paymentBecomes(t, "captured", as[payment](t, first).ID)

	again := ask(goodCard, key)
	require.Equal(t, 201, again.status, "answered as it was, whatever became of it")
	require.Equal(t, string(first.body), string(again.body))
	require.Equal(t, first.header.Get("Location"), again.header.Get("Location"))
	require.Equal(t, "true", again.header.Get("Idempotent-Replayed"))
	refused(t, 409, ask("pm_card_mastercard", key), "idempotency_key_reused")
	require.Equal(t, 200, ask(goodCard, uuid.NewString()).status, "with a new key the payment is found")
	h.money(t, bought.ID, 1, 0, 4200)
}

func TestPayments_IdempotencyKeyKeepsNoClientSecret(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer, bought := h.orderOf(t, 4200)
	ask := func() payment {
		r := buyer.do(t, "POST", "/api/payments", paying{OrderID: bought.ID, PaymentMethod: secureCard}, "Idempotency-Key", "one")
		require.Equal(t, 201, r.status, "%s", r.body)
		return as[payment](t, r)
	}
	first := ask()
	require.NotEmpty(t, first.ClientSecret)
	require.Equal(t, first, ask(), "but the buyer is given it again")
}

func TestPayments_CopiesOfARequestAtOnceMakeOne(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	for name, headers := range map[string][]string{"with a key": {"Idempotency-Key", "same"}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			buyer, bought := h.orderOf(t, 4200)
			const copies = 6
			replies := make([]reply, copies)
			var all sync.WaitGroup
			for i := range copies {
				all.Go(func() {
					replies[i] = buyer.do(t, "POST", "/api/payments", paying{OrderID: bought.ID, PaymentMethod: goodCard}, headers...)
				})
			}
			all.Wait()
			for _, r := range replies {
				require.Contains(t, []int{200, 201}, r.status, "%s", r.body)
				require.Equal(t, as[payment](t, replies[0]).ID, as[payment](t, r).ID)
			}
			buyer.orderBecomes(t, "complete", bought.ID)
			h.money(t, bought.ID, 1, 0, 4200)
		})
	}
}

// signed is the header with which Stripe signs a body.
func signed(body, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at}).Header
}

func TestWebhook_IsBelievedOnlyIfSigned(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	buyer, bought := h.orderOf(t, 4200)
	status, begun := buyer.pay(t, bought.ID, secureCard)
	require.Equal(t, 201, status)
	secret := h.Secret("STRIPE_WEBHOOK_SECRET")
	body := `{"id":"evt_forged","object":"event","type":"payment_intent.amount_capturable_updated",
		"data":{"object":{"id":"` + begun.StripeID + `","object":"payment_intent","status":"requires_capture","amount_capturable":4200,"metadata":{"orderId":"` + bought.ID + `"}}}}`
	tell := func(body, signature string) reply {
		return h.do(t, "POST", "/api/payments/webhook", body, "Stripe-Signature", signature)
	}

	for name, signature := range map[string]string{
		"none":                     "",
		"nonsense":                 "nonsense",
		"another secret's":         signed(body, "whsec_other", time.Now()),
		"an empty secret's":        signed(body, "", time.Now()),
		"another body's":           signed(body+" ", secret, time.Now()),
		"an old one":               signed(body, secret, time.Now().Add(-6*time.Minute)),
		"an old one, newly dated":  strings.Replace(signed(body, secret, time.Now().Add(-6*time.Minute)), "t=", "t=9", 1),
		"of another scheme":        strings.Replace(signed(body, secret, time.Now()), "v1=", "v0=", 1),
		"a time without signature": "t=1700000000",
	} {
		r := tell(body, signature)
		require.Equal(t, 400, r.status, name)
		refused(t, 400, r, "signature_invalid")
	}
	require.Equal(t, "requires_action", buyer.payment(t, begun.ID).Status)

	r := tell(body, signed(body, secret, time.Now()))
	require.Equal(t, 200, r.status, "%s", r.body)
	require.JSONEq(t, `{"received":true,"known":true}`, string(r.body))
	require.Equal(t, "requires_action", buyer.payment(t, begun.ID).Status, "what Stripe is said to say, Stripe is asked")

	unknown := strings.NewReplacer(begun.StripeID, "pi_unknown", bought.ID, "another shop's order").Replace(body)
	r = tell(unknown, signed(unknown, secret, time.Now()))
	require.Equal(t, 200, r.status, "another's intent is none of ours, and need not be told again")
	require.JSONEq(t, `{"received":true,"known":false}`, string(r.body))

	h.authenticate(t, begun.StripeID, "succeed")
	buyer.paymentBecomes(t, "captured", begun.ID)
	for range 3 {
		require.Equal(t, 200, tell(body, signed(body, secret, time.Now())).status, "late and repeated ones do no harm")
	}
	h.money(t, bought.ID, 1, 0, 4200)
}

func TestWebhook_WithoutASecretNothingIsBelievedAndAllWorks(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{AppEnv: map[string]map[string]string{"payments": {"STRIPE_WEBHOOK_SECRET": ""}}})
	buyer, bought := h.orderOf(t, 4200)
	status, begun := buyer.pay(t, bought.ID, secureCard)
	require.Equal(t, 201, status)
	body := `{"id":"evt_1","object":"event","type":"payment_intent.succeeded","data":{"object":{"id":"` + begun.StripeID + `","object":"payment_intent"}}}`

	for _, signature := range []string{"", signed(body, "", time.Now()), signed(body, h.Secret("STRIPE_WEBHOOK_SECRET"), time.Now())} {
		r := h.do(t, "POST", "/api/payments/webhook", body, "Stripe-Signature", signature)
		refused(t, 503, r, "webhooks_off")
		require.NotEmpty(t, r.header.Get("Retry-After"))
	}

	h.authenticate(t, begun.StripeID, "succeed")
	buyer.paymentBecomes(t, "captured", begun.ID) // looking is asking
	buyer.orderBecomes(t, "complete", bought.ID)
	h.money(t, bought.ID, 1, 0, 4200)
}
