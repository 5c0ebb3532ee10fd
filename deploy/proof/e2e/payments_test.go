package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76/webhook"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

func TestPayments_OrderIsPaidOnce(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, bought := s.reserveNew(t, 4200)

	r := buyer.callKnown(t, newRequest("POST", "/api/payments", `{"orderId":"`+bought.ID+`","paymentMethod":"pm_card_visa","amount":1,"currency":"xxx","status":"captured"}`))
	requireStatus(t, 201, r)
	made := decode[client.Payment](t, r)
	require.Contains(t, []string{"authorized", "captured"}, made.Status)
	require.Equal(t, client.Payment{
		ID: made.ID, OrderID: bought.ID, StripeID: made.StripeID, Status: made.Status, Amount: 4200, Currency: "usd",
		CreatedAt: made.CreatedAt, UpdatedAt: made.UpdatedAt,
	}, made, "the amount is that of the order")
	require.Regexp(t, "^pi_", made.StripeID)
	require.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute)
	require.Equal(t, "/api/payments/"+made.ID, r.Header.Get("Location"))
	require.NotContains(t, string(r.Body), "clientSecret")

	buyer.orderBecomes(t, "complete", bought.ID)
	captured := buyer.paymentBecomes(t, "captured", made.ID)
	for _, card := range []string{goodCard, goodCard, "pm_card_mastercard", declinedCard} {
		status, again := buyer.tryPay(t, bought.ID, card)
		require.Equal(t, 200, status)
		require.Equal(t, captured, again)
	}
	s.requireMoney(t, bought.ID, money{charges: 1, kept: 4200})
}

func TestPayments_TokenPays(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, bought := s.reserveNew(t, 4200)

	requireProblem(t, 402, buyer.callKnown(t, client.PayWithToken(bought.ID, "tok_chargeDeclined")), "generic_decline")
	r := buyer.callKnown(t, client.PayWithToken(bought.ID, "tok_visa"))

	requireStatus(t, 201, r)
	buyer.orderBecomes(t, "complete", bought.ID)
}

func TestPayments_DeclinedOrderCanBePaidWithAnotherCard(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, bought := s.reserveNew(t, 4200)

	for card, code := range map[string]string{declinedCard: "generic_decline", insufficientFundsCard: "insufficient_funds", "pm_card_chargeDeclinedExpiredCard": "expired_card"} {
		problem := requireProblem(t, 402, buyer.callKnown(t, client.Pay(bought.ID, card)), code)
		require.Equal(t, "paymentMethod", problem.Errors[0].Field)
	}
	require.Equal(t, "created", buyer.order(t, bought.ID).Status)
	requireProblem(t, 409, s.signUp(t).call(t, client.Reserve(bought.Ticket.ID)), "ticket_reserved")
	s.requireMoney(t, bought.ID, money{})

	paid := buyer.pay(t, bought.ID, goodCard)
	buyer.orderBecomes(t, "complete", bought.ID)
	require.Empty(t, buyer.paymentBecomes(t, "captured", paid.ID).DeclineCode)
	s.requireMoney(t, bought.ID, money{charges: 1, kept: 4200})
}

func TestPayments_ThreeDSecure(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	begin := func(t *testing.T, card string) (*testUser, client.Payment) {
		buyer, bought := s.reserveNew(t, 4200)
		r := buyer.callKnown(t, client.Pay(bought.ID, card))
		requireStatus(t, 201, r)
		begun := decode[client.Payment](t, r)
		require.Equal(t, "requires_action", begun.Status)
		require.True(t, strings.HasPrefix(begun.ClientSecret, begun.StripeID+"_secret_"), "Stripe's frontend needs it")
		s.requireMoney(t, bought.ID, money{})
		return buyer, begun
	}

	t.Run("passed: the order completes by the webhook", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, secureCard)
		require.Equal(t, begun, buyer.payment(t, begun.ID))
		status, again := buyer.tryPay(t, begun.OrderID, secureCard)
		require.Equal(t, 200, status, "a repeat before the buyer has authenticated")
		require.Equal(t, begun, again)

		s.authenticate(t, begun.StripeID, "succeed")

		buyer.orderBecomes(t, "complete", begun.OrderID)
		require.Empty(t, buyer.paymentBecomes(t, "captured", begun.ID).ClientSecret, "the buyer has nothing more to do")
		s.requireMoney(t, begun.OrderID, money{charges: 1, kept: 4200})
	})
	t.Run("failed: another card pays", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, secureCard)
		s.authenticate(t, begun.StripeID, "fail")
		failed := buyer.paymentBecomes(t, "failed", begun.ID)
		require.NotEmpty(t, failed.DeclineCode)
		require.Equal(t, "created", buyer.order(t, begun.OrderID).Status)

		paid := buyer.pay(t, begun.OrderID, goodCard)
		require.Equal(t, begun.ID, paid.ID, "an order has one payment")
		buyer.orderBecomes(t, "complete", begun.OrderID)
		s.requireMoney(t, begun.OrderID, money{charges: 1, kept: 4200})
	})
	t.Run("passed: the card is declined then", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, declineAfterAuth)
		s.authenticate(t, begun.StripeID, "succeed")
		require.Equal(t, "insufficient_funds", buyer.paymentBecomes(t, "failed", begun.ID).DeclineCode)
		s.requireMoney(t, begun.OrderID, money{})
	})
	t.Run("not tried: another card pays", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, secureCard)
		buyer.pay(t, begun.OrderID, goodCard)
		buyer.orderBecomes(t, "complete", begun.OrderID)
		s.requireMoney(t, begun.OrderID, money{charges: 1, kept: 4200})
	})
	t.Run("cancelled: nothing can be authorized", func(t *testing.T) {
		t.Parallel()
		buyer, begun := begin(t, secureCard)
		buyer.cancel(t, begun.OrderID)
		buyer.paymentBecomes(t, "voided", begun.ID)
		r := s.request(t, "POST", s.SandboxURL()+"/sandbox/payment_intents/"+begun.StripeID+"/authenticate", map[string]string{})
		require.Equal(t, 409, r.Status, "the intent is canceled")
		s.requireMoney(t, begun.OrderID, money{})
	})
}

func TestPayments_CancelledOrForeignOrdersAreRefused(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, cancelled := s.reserveNew(t, 4200)
	buyer.cancel(t, cancelled.ID)
	// Until payments has handled the cancellation, it makes a payment and refunds it.
	eventually(t, "the cancelled order is refused", func() bool {
		r := buyer.call(t, client.Pay(cancelled.ID, goodCard))
		return r.Status == 409
	})
	requireProblem(t, 409, buyer.call(t, client.Pay(cancelled.ID, goodCard)), "order_cancelled")
	require.Equal(t, "cancelled", buyer.order(t, cancelled.ID).Status)
	for _, entry := range s.ledger(t, cancelled.ID) {
		s.requireMoney(t, cancelled.ID, money{charges: entry.Charges})
	}

	_, foreign := s.reserveNew(t, 4200)
	problem := requireProblem(t, 403, buyer.callKnown(t, client.Pay(foreign.ID, goodCard)), "not_buyer")
	require.Equal(t, "orderId", problem.Errors[0].Field)
	for name, id := range map[string]string{"old": unknownID, "random": uuid.NewString()} {
		problem := requireProblem(t, 404, buyer.call(t, client.Pay(id, goodCard)), "order_not_found")
		require.Equal(t, "orderId", problem.Errors[0].Field, name)
	}
	young := requireProblem(t, 503, buyer.call(t, client.Pay(uuid.Must(uuid.NewV7()).String(), goodCard)), "not_yet_known")
	require.Equal(t, "orderId", young.Errors[0].Field)
	require.Positive(t, young.RetryAfter)
	s.requireMoney(t, foreign.ID, money{})
}

func TestPayments_ExpiredOrderIsRefused(t *testing.T) {
	t.Parallel()
	s := shortWindowStack(t)
	buyer, late := s.reserveNew(t, 4200)
	waitTime(late.ExpiresAt)

	problem := requireProblem(t, 409, buyer.callKnown(t, client.Pay(late.ID, goodCard)))

	require.Contains(t, []string{"order_expired", "order_cancelled"}, problem.Errors[0].Code)
	require.Equal(t, "expired", buyer.orderBecomes(t, "cancelled", late.ID).Reason)
	requireProblem(t, 409, buyer.call(t, client.Pay(late.ID, goodCard)))
	require.Empty(t, s.ledger(t, late.ID), "there was no request to Stripe")
}

func TestPayments_OnlyTheBuyerSeesThem(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, other := s.signUp(t), s.signUp(t)
	paid := s.sell(t, buyer)

	requireProblem(t, 403, other.call(t, client.ReadPayment(paid.ID)), "not_buyer")
	requireProblem(t, 401, s.call(t, client.ReadPayment(paid.ID)), "not_signed_in")
	requireProblem(t, 401, s.call(t, client.Pay(paid.OrderID, goodCard)), "not_signed_in")
	_, unpaid := s.reserveNew(t, 4200)
	for _, id := range append(strings.Fields(nonsenseIDs), unknownID, unpaid.ID, unpaid.Ticket.ID, paid.StripeID) {
		requireProblem(t, 404, buyer.call(t, client.ReadPayment(id)), "not_found")
	}
}

func TestPayments_AreFoundByTheirOrders(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, bought := s.reserveNew(t, 4200)
	of := func(orderID string) client.Response { return buyer.call(t, client.ReadPaymentsOf(orderID)) }

	none := buyer.callKnown(t, client.ReadPaymentsOf(bought.ID))
	requireStatus(t, 200, none)
	require.JSONEq(t, "[]", string(none.Body))
	paid := buyer.pay(t, bought.ID, goodCard)
	captured := buyer.paymentBecomes(t, "captured", paid.ID)
	require.Equal(t, []client.Payment{captured}, decode[[]client.Payment](t, of(bought.ID)))

	_, foreign := s.reserveNew(t, 4200)
	requireProblem(t, 403, buyer.callKnown(t, client.ReadPaymentsOf(foreign.ID)), "not_buyer")
	requireProblem(t, 404, of(unknownID), "order_not_found")
	requireProblem(t, 400, of("17"), "uuid")
	requireProblem(t, 400, of(""), "required")
	requireProblem(t, 503, of(uuid.Must(uuid.NewV7()).String()), "not_yet_known")
	requireProblem(t, 401, s.call(t, client.ReadPaymentsOf(bought.ID)), "not_signed_in")
}

func TestPayments_InvalidRequestsAreRefused(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, unpaid := s.reserveNew(t, 4200)
	long := strings.Repeat("x", 256)

	for name, tt := range map[string]struct {
		body  any
		field string
	}{
		"no order":                  {client.NewPayment{PaymentMethod: goodCard}, "orderId"},
		"an order that is no id":    {client.NewPayment{OrderID: "nonsense", PaymentMethod: goodCard}, "orderId"},
		"an order that is a number": {`{"orderId":7,"paymentMethod":"pm_card_visa"}`, "orderId"},
		"no card":                   {client.NewPayment{OrderID: unpaid.ID}, "paymentMethod"},
		"two cards":                 {client.NewPayment{OrderID: unpaid.ID, PaymentMethod: goodCard, Token: "tok_visa"}, "token"},
		"a card too long":           {client.NewPayment{OrderID: unpaid.ID, PaymentMethod: long}, "paymentMethod"},
		"a token too long":          {client.NewPayment{OrderID: unpaid.ID, Token: long}, "token"},
		"a card that is a list":     {`{"orderId":"` + unpaid.ID + `","paymentMethod":["pm_card_visa"]}`, "paymentMethod"},
		"a card that is none":       {client.NewPayment{OrderID: unpaid.ID, PaymentMethod: "pm_card_none"}, "paymentMethod"},
		"a token that is none":      {client.NewPayment{OrderID: unpaid.ID, Token: "tok_none"}, "token"},
		"a path for a card":         {client.NewPayment{OrderID: unpaid.ID, PaymentMethod: "../customers"}, "paymentMethod"},
	} {
		t.Run(name, func(t *testing.T) {
			problem := requireProblem(t, 400, buyer.request(t, "POST", "/api/payments", tt.body))
			require.Equal(t, tt.field, problem.Errors[0].Field)
		})
	}
	s.requireMoney(t, unpaid.ID, money{})
	buyer.pay(t, strings.ToUpper(unpaid.ID), goodCard)
}

func TestPayments_IdempotencyKeyRepeatsTheResponse(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, bought := s.reserveNew(t, 4200)
	key := uuid.NewString()
	pay := func(card, key string) client.Response {
		return buyer.callKnown(t, client.Pay(bought.ID, card).WithKey(key))
	}

	requireProblem(t, 402, pay(declinedCard, key))
	first := pay(goodCard, key)
	require.Equal(t, 201, first.Status, "after a refusal the key can be used again: %s", first.Body)
	buyer.paymentBecomes(t, "captured", decode[client.Payment](t, first).ID)

	again := pay(goodCard, key)
	require.Equal(t, 201, again.Status, "the response is the same as before the capture")
	require.Equal(t, string(first.Body), string(again.Body))
	require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"))
	require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
	requireProblem(t, 409, pay("pm_card_mastercard", key), "idempotency_key_reused")
	require.Equal(t, 200, pay(goodCard, uuid.NewString()).Status, "with a new key the existing payment is returned")
	s.requireMoney(t, bought.ID, money{charges: 1, kept: 4200})
}

// TestPayments_ThreeDSecureByRedirect follows the browser of a buyer to the page where the bank authenticates, and back.
func TestPayments_ThreeDSecureByRedirect(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	begin := func(t *testing.T) (buyer *testUser, begun client.Payment, returnURL string) {
		buyer, bought := s.reserveNew(t, 4200)
		returnURL = s.GatewayURL() + "/orders/" + bought.ID
		r := buyer.callKnown(t, client.PayAndReturn(bought.ID, secureCard, returnURL))
		requireStatus(t, 201, r)
		begun = decode[client.Payment](t, r)
		require.Equal(t, "requires_action", begun.Status)
		require.Contains(t, begun.RedirectURL, "/3d_secure/"+begun.StripeID+"/")
		return buyer, begun, returnURL
	}
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	choose := func(t *testing.T, page, outcome string) *url.URL {
		res, err := browser.Get(page)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, 200, res.StatusCode)
		require.Contains(t, res.Header.Get("Content-Type"), "text/html")
		res, err = browser.PostForm(page, url.Values{"outcome": {outcome}})
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, 303, res.StatusCode)
		back, err := res.Location()
		require.NoError(t, err)
		return back
	}

	t.Run("passed: the order completes", func(t *testing.T) {
		t.Parallel()
		buyer, begun, returnURL := begin(t)
		require.Equal(t, begun, buyer.payment(t, begun.ID), "a reload of the page")
		back := choose(t, begun.RedirectURL, "succeed")
		require.Equal(t, url.Values{"payment_intent": {begun.StripeID}, "payment_intent_client_secret": {begun.ClientSecret}}, back.Query())
		back.RawQuery = ""
		require.Equal(t, returnURL, back.String())
		buyer.orderBecomes(t, "complete", begun.OrderID)
		require.Empty(t, buyer.paymentBecomes(t, "captured", begun.ID).RedirectURL)
		s.requireMoney(t, begun.OrderID, money{charges: 1, kept: 4200})
	})
	t.Run("failed: another card pays", func(t *testing.T) {
		t.Parallel()
		buyer, begun, returnURL := begin(t)
		choose(t, begun.RedirectURL, "fail")
		require.Equal(t, "payment_intent_authentication_failure", buyer.paymentBecomes(t, "failed", begun.ID).DeclineCode)
		requireStatus(t, 201, buyer.call(t, client.PayAndReturn(begun.OrderID, goodCard, returnURL)))
		buyer.orderBecomes(t, "complete", begun.OrderID)
		s.requireMoney(t, begun.OrderID, money{charges: 1, kept: 4200})
	})
	t.Run("a return URL that a browser cannot go to", func(t *testing.T) {
		t.Parallel()
		buyer, bought := s.reserveNew(t, 4200)
		requireProblem(t, 400, buyer.callKnown(t, client.PayAndReturn(bought.ID, goodCard, "javascript:alert(1)")), "invalid")
	})
}

func TestPayments_RepeatedResponseHasTheClientSecret(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, bought := s.reserveNew(t, 4200)
	pay := func() client.Payment {
		r := buyer.callKnown(t, client.Pay(bought.ID, secureCard).WithKey("one"))
		requireStatus(t, 201, r)
		return decode[client.Payment](t, r)
	}
	first := pay()
	require.NotEmpty(t, first.ClientSecret)
	require.Equal(t, first, pay(), "the client secret is added to the repeated response")
}

func TestPayments_ConcurrentRepeatsMakeOnePayment(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	for name, key := range map[string]string{"with a key": "same", "without a key": ""} {
		t.Run(name, func(t *testing.T) {
			buyer, bought := s.reserveNew(t, 4200)
			responses := make([]client.Response, 6)
			atOnce(len(responses), func(i int) { responses[i] = buyer.call(t, client.Pay(bought.ID, goodCard).WithKey(key)) })
			for _, r := range responses {
				require.Contains(t, []int{200, 201}, r.Status, "%s", r.Body)
				require.Equal(t, decode[client.Payment](t, responses[0]).ID, decode[client.Payment](t, r).ID)
			}
			buyer.orderBecomes(t, "complete", bought.ID)
			s.requireMoney(t, bought.ID, money{charges: 1, kept: 4200})
		})
	}
}

// stripeSignature is the header with which Stripe signs a body.
func stripeSignature(body, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at}).Header
}

func TestWebhook_RequiresStripesSignature(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, bought := s.reserveNew(t, 4200)
	begun := buyer.pay(t, bought.ID, secureCard)
	secret := s.Secret("STRIPE_WEBHOOK_SECRET")
	body := `{"id":"evt_forged","object":"event","type":"payment_intent.amount_capturable_updated",
		"data":{"object":{"id":"` + begun.StripeID + `","object":"payment_intent","status":"requires_capture","amount_capturable":4200,"metadata":{"orderId":"` + bought.ID + `"}}}}`
	send := func(body, signature string) client.Response {
		return s.request(t, "POST", "/api/payments/webhook", body, "Stripe-Signature", signature)
	}

	for name, signature := range map[string]string{
		"none":                     "",
		"nonsense":                 "nonsense",
		"another secret's":         stripeSignature(body, "whsec_other", time.Now()),
		"an empty secret's":        stripeSignature(body, "", time.Now()),
		"another body's":           stripeSignature(body+" ", secret, time.Now()),
		"an old one":               stripeSignature(body, secret, time.Now().Add(-6*time.Minute)),
		"an old one, newly dated":  strings.Replace(stripeSignature(body, secret, time.Now().Add(-6*time.Minute)), "t=", "t=9", 1),
		"of another scheme":        strings.Replace(stripeSignature(body, secret, time.Now()), "v1=", "v0=", 1),
		"a time without signature": "t=1700000000",
	} {
		r := send(body, signature)
		require.Equal(t, 400, r.Status, name)
		requireProblem(t, 400, r, "signature_invalid")
	}
	require.Equal(t, "requires_action", buyer.payment(t, begun.ID).Status)

	r := send(body, stripeSignature(body, secret, time.Now()))
	requireStatus(t, 200, r)
	require.JSONEq(t, `{"received":true,"known":true}`, string(r.Body))
	require.Equal(t, "requires_action", buyer.payment(t, begun.ID).Status, "payments reads the intent from Stripe, and does not rely on the webhook")

	unknown := strings.NewReplacer(begun.StripeID, "pi_unknown", bought.ID, "an order of another system").Replace(body)
	r = send(unknown, stripeSignature(unknown, secret, time.Now()))
	require.Equal(t, 200, r.Status, "an unknown intent is accepted, so Stripe does not send it again")
	require.JSONEq(t, `{"received":true,"known":false}`, string(r.Body))

	s.authenticate(t, begun.StripeID, "succeed")
	buyer.paymentBecomes(t, "captured", begun.ID)
	for range 3 {
		require.Equal(t, 200, send(body, stripeSignature(body, secret, time.Now())).Status, "late and repeated webhooks change nothing")
	}
	s.requireMoney(t, bought.ID, money{charges: 1, kept: 4200})
}

func TestWebhook_WithoutASecretPaymentsStillComplete(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{AppEnv: map[string]map[string]string{"payments": {"STRIPE_WEBHOOK_SECRET": ""}}})
	buyer, bought := s.reserveNew(t, 4200)
	begun := buyer.pay(t, bought.ID, secureCard)
	body := `{"id":"evt_1","object":"event","type":"payment_intent.succeeded","data":{"object":{"id":"` + begun.StripeID + `","object":"payment_intent"}}}`

	for _, signature := range []string{"", stripeSignature(body, "", time.Now()), stripeSignature(body, s.Secret("STRIPE_WEBHOOK_SECRET"), time.Now())} {
		r := s.request(t, "POST", "/api/payments/webhook", body, "Stripe-Signature", signature)
		requireProblem(t, 503, r, "webhooks_off")
		require.NotEmpty(t, r.Header.Get("Retry-After"))
	}

	s.authenticate(t, begun.StripeID, "succeed")
	buyer.paymentBecomes(t, "captured", begun.ID) // a read makes payments ask Stripe
	buyer.orderBecomes(t, "complete", bought.ID)
	s.requireMoney(t, bought.ID, money{charges: 1, kept: 4200})
}
