package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76/webhook"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/signing"
	"boxoffice/services/internal/state/statetest"
	"boxoffice/services/payments/domain"
)

const webhookSecret = "whsec_test"

// testAPI is the service's REST API over a fixture.
type testAPI struct {
	*fixture
	app    *fiber.App
	issuer *identity.Issuer
}

func newTestAPI(t *testing.T, secret string) *testAPI {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	d := &testAPI{newFixture(t), rest.New(rest.Options{Name: "payments", Log: quiet, BodyLimit: 65536}), identity.NewIssuer(private, time.Hour)}
	keys := identity.NewVerifier(func(context.Context) (signing.KeySet, error) { return d.issuer.KeySet(), nil })
	(&api{store: d.store, webhookSecret: secret}).register(d.app, identity.RequireUser(keys))
	return d
}

// response is a response with its body.
type response struct {
	*http.Response
	text string
}

func (r response) payment(t *testing.T) paymentResponse {
	t.Helper()
	var p paymentResponse
	require.NoError(t, json.Unmarshal([]byte(r.text), &p), r.text)
	return p
}

// errors are the entries of a problem's body.
func (r response) errors(t *testing.T) []problem.Detail {
	t.Helper()
	require.Equal(t, "application/problem+json", r.Header.Get("Content-Type"), r.text)
	var body struct {
		Errors []problem.Detail `json:"errors"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.text), &body), r.text)
	require.NotEmpty(t, body.Errors)
	return body.Errors
}

func (d *testAPI) send(t *testing.T, user id.User, method, path, body string, header ...string) response {
	t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if user != "" {
		token, _, err := d.issuer.Issue(identity.Caller{ID: user, Email: string(user) + "@example.com"}, time.Now())
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := d.app.Test(req, -1)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return response{res, string(text)}
}

// paymentPath is the path of a payment.
func paymentPath(payment id.Payment) string { return "/api/payments/" + string(payment) }

func (d *testAPI) post(t *testing.T, orderID id.Order, card string, header ...string) response {
	t.Helper()
	return d.send(t, buyer, "POST", "/api/payments", fmt.Sprintf(`{"orderId":%q,"paymentMethod":%q}`, orderID, card), header...)
}

func TestAPI_PayAndShow(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	first := d.post(t, order.ID, "pm_card_visa")
	require.Equal(t, 201, first.StatusCode, first.text)
	paid := first.payment(t)
	require.Equal(t, paymentPath(paid.ID), first.Header.Get("Location"))
	require.Equal(t, order.ID, paid.OrderID)
	require.Equal(t, domain.Authorized, paid.Status)
	require.EqualValues(t, 2500, paid.Amount)
	require.Equal(t, "usd", paid.Currency)
	require.Contains(t, paid.StripeID, "pi_")
	require.Empty(t, paid.ClientSecret)

	again := d.post(t, order.ID, "pm_card_visa")
	require.Equal(t, 200, again.StatusCode, again.text)
	require.Equal(t, paid, again.payment(t))
	shown := d.send(t, buyer, "GET", paymentPath(paid.ID), "")
	require.Equal(t, 200, shown.StatusCode)
	require.Equal(t, paid, shown.payment(t))
}

func TestAPI_PayByToken_AndAnAmountFromTheClientIsIgnored(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	res := d.send(t, buyer, "POST", "/api/payments", fmt.Sprintf(`{"orderId":%q,"token":"tok_visa","amount":1}`, strings.ToUpper(string(order.ID))))
	require.Equal(t, 201, res.StatusCode, res.text)
	require.EqualValues(t, 2500, res.payment(t).Amount)
	d.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestAPI_TheClientSecretIsThereWhileTheBankWaits(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	const card = "pm_card_authenticationRequired"
	key := []string{idempotency.Header, "once"}
	first := d.post(t, order.ID, card, key...)
	require.Equal(t, 201, first.StatusCode, first.text)
	waiting := first.payment(t)
	require.Equal(t, domain.RequiresAction, waiting.Status)
	require.NotEmpty(t, waiting.ClientSecret)
	d.sidecar.requireNowhere(t, waiting.ClientSecret)

	replay := d.post(t, order.ID, card, key...)
	require.Equal(t, 201, replay.StatusCode)
	require.Equal(t, first.text, replay.text)
	again := d.post(t, order.ID, card)
	require.Equal(t, 200, again.StatusCode)
	require.Equal(t, waiting, again.payment(t))

	d.stripeServer.Authenticate(t, waiting.StripeID, "succeed")
	shown := d.send(t, buyer, "GET", paymentPath(waiting.ID), "").payment(t)
	require.Equal(t, domain.Authorized, shown.Status)
	require.Empty(t, shown.ClientSecret)
}

// payTo is POST /api/payments with a return URL.
func (d *testAPI) payTo(t *testing.T, order id.Order, card, returnURL string, header ...string) response {
	t.Helper()
	return d.send(t, buyer, "POST", "/api/payments", fmt.Sprintf(`{"orderId":%q,"paymentMethod":%q,"returnUrl":%q}`, order, card, returnURL), header...)
}

func TestAPI_WithAReturnURLTheBuyerAuthenticatesAtAPage(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	const card = "pm_card_authenticationRequired"
	key := []string{idempotency.Header, "once"}
	returnURL := "http://localhost:8080/orders/" + string(order.ID)
	first := d.payTo(t, order.ID, card, returnURL, key...)
	require.Equal(t, 201, first.StatusCode, first.text)
	waiting := first.payment(t)
	require.Equal(t, domain.RequiresAction, waiting.Status)
	require.Contains(t, waiting.RedirectURL, "/3d_secure/"+waiting.StripeID+"/")
	d.sidecar.requireNowhere(t, waiting.RedirectURL)

	require.Equal(t, first.text, d.payTo(t, order.ID, card, returnURL, key...).text, "the same request")
	again := d.payTo(t, order.ID, card, returnURL)
	require.Equal(t, 200, again.StatusCode)
	require.Equal(t, waiting, again.payment(t))
	require.Equal(t, waiting, d.send(t, buyer, "GET", paymentPath(waiting.ID), "").payment(t), "after a reload of the page")

	elsewhere := d.payTo(t, order.ID, card, "https://tickets.example/done")
	require.Equal(t, 201, elsewhere.StatusCode, elsewhere.text)
	require.Equal(t, waiting.StripeID, elsewhere.payment(t).StripeID)
	require.NotEqual(t, waiting.RedirectURL, elsewhere.payment(t).RedirectURL, "another attempt")

	d.stripeServer.Authenticate(t, waiting.StripeID, "succeed")
	shown := d.send(t, buyer, "GET", paymentPath(waiting.ID), "").payment(t)
	require.Equal(t, domain.Authorized, shown.Status)
	require.Empty(t, shown.RedirectURL)
	d.requireMoney(t, order.ID, 2500, 0, 0)
}

// TestAPI_TheRedirectURLIsThatOfTheLastAttempt: what was read shortly before the attempt is not used again.
func TestAPI_TheRedirectURLIsThatOfTheLastAttempt(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	d.refreshes.every = time.Hour
	order := d.newOrder(t)
	require.Equal(t, 402, d.payTo(t, order.ID, declinedByBank, "http://localhost:8080/").StatusCode)
	for _, returnURL := range []string{"http://localhost:8080/", "http://localhost:8080/again"} {
		require.Equal(t, 200, d.send(t, buyer, "GET", paymentPath(id.Payment(order.ID)), "").StatusCode)
		waiting := d.payTo(t, order.ID, "pm_card_authenticationRequired", returnURL).payment(t)
		shown := d.send(t, buyer, "GET", paymentPath(waiting.ID), "").payment(t)
		require.Equal(t, waiting.RedirectURL, shown.RedirectURL)
	}
}

func TestAPI_WithoutAReturnURLThereIsNoPage(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	waiting := d.post(t, order.ID, "pm_card_authenticationRequired").payment(t)
	require.Empty(t, waiting.RedirectURL)
	redirected := d.payTo(t, order.ID, "pm_card_authenticationRequired", "http://localhost:8080/").payment(t)
	require.NotEmpty(t, redirected.RedirectURL)
}

func TestAPI_ACardThatNeedsNoAuthenticationIgnoresTheReturnURL(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	paid := d.payTo(t, order.ID, "pm_card_visa", "http://localhost:8080/").payment(t)
	require.Equal(t, domain.Authorized, paid.Status)
	require.Empty(t, paid.RedirectURL)
}

func TestAPI_RefusesAReturnURLThatABrowserCannotGoTo(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	for returnURL, code := range map[string]string{
		"/orders/7": "invalid", "javascript:alert(1)": "invalid", "http://": "invalid", "ftp://tickets.example": "invalid", "HTTPS://tickets.example": "invalid",
		"https://tickets.example/" + strings.Repeat("a", 500): "max",
	} {
		res := d.payTo(t, order.ID, "pm_card_visa", returnURL)
		require.Equal(t, 400, res.StatusCode, res.text)
		require.Contains(t, res.text, `"field":"returnUrl"`)
		require.Contains(t, res.text, `"code":"`+code+`"`)
	}
	require.Equal(t, 201, d.payTo(t, order.ID, "pm_card_visa", "").StatusCode, "an empty one is none")
}

func TestAPI_Refusals(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	live := d.newOrder(t)
	cancelled := after(reserved(), "cancelled")
	require.NoError(t, d.applyAndSettle(t.Context(), cancelled))
	complete := after(reserved(), "complete")
	require.NoError(t, d.applyAndSettle(t.Context(), complete))
	expired := reserved()
	expired.ExpiresAt = clock.Stamp(clock.System())
	require.NoError(t, d.applyAndSettle(t.Context(), expired))
	cheap := reserved()
	cheap.Ticket.Price = 20
	require.NoError(t, d.applyAndSettle(t.Context(), cheap))
	const noOrder = "00000000-0000-7000-8000-000000000000"

	body := func(orderID id.Order, card string) string {
		return fmt.Sprintf(`{"orderId":%q,"paymentMethod":%q}`, orderID, card)
	}
	for _, c := range []struct {
		name        string
		user        id.User
		body        string
		status      int
		code, field string
	}{
		{"nobody signed in", "", body(live.ID, "pm_card_visa"), 401, "not_signed_in", ""},
		{"not JSON", buyer, "{", 400, "not_json", ""},
		{"no order", buyer, `{"paymentMethod":"pm_card_visa"}`, 400, "required", "orderId"},
		{"an order that is no id", buyer, body("17", "pm_card_visa"), 400, "uuid", "orderId"},
		{"an order of a wrong type", buyer, `{"orderId":17,"paymentMethod":"pm_card_visa"}`, 400, "wrong_type", "orderId"},
		{"no card", buyer, `{"orderId":"` + string(live.ID) + `"}`, 400, "required_without", "paymentMethod"},
		{"two cards", buyer, `{"orderId":"` + string(live.ID) + `","paymentMethod":"pm_card_visa","token":"tok_visa"}`, 400, "excluded_with", "token"},
		{"too long a card", buyer, body(live.ID, strings.Repeat("x", 256)), 400, "max", "paymentMethod"},
		{"a card that Stripe does not know", buyer, body(live.ID, "pm_nobody"), 400, "resource_missing", "paymentMethod"},
		{"a declined card", buyer, body(live.ID, "pm_card_chargeDeclined"), 402, "generic_decline", "paymentMethod"},
		{"somebody else's order", "buyer-2", body(live.ID, "pm_card_visa"), 403, "not_buyer", "orderId"},
		{"an order that does not exist", buyer, body(noOrder, "pm_card_visa"), 404, "order_not_found", "orderId"},
		{"an order that may be too new to be known", buyer, body(statetest.IDOfAge[id.Order](30*time.Second), "pm_card_visa"), 503, "not_yet_known", "orderId"},
		{"a cancelled order", buyer, body(cancelled.ID, "pm_card_visa"), 409, "order_cancelled", "orderId"},
		{"a complete order", buyer, body(complete.ID, "pm_card_visa"), 409, "order_complete", "orderId"},
		{"an order whose time is over", buyer, body(expired.ID, "pm_card_visa"), 409, "order_expired", "orderId"},
		{"a price below what Stripe takes", buyer, body(cheap.ID, "pm_card_visa"), 400, "amount_too_small", "orderId"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := d.send(t, c.user, "POST", "/api/payments", c.body)
			require.Equal(t, c.status, res.StatusCode, res.text)
			first := res.errors(t)[0]
			require.Equal(t, c.code, first.Code, res.text)
			require.Equal(t, c.field, first.Field, res.text)
			require.NotEmpty(t, first.Message)
		})
	}
	t.Run("not JSON by its content type", func(t *testing.T) {
		res := d.send(t, buyer, "POST", "/api/payments", body(live.ID, "pm_card_visa"), "Content-Type", "text/plain")
		require.Equal(t, 415, res.StatusCode, res.text)
	})
	t.Run("Stripe is away", func(t *testing.T) {
		d.stripeServer.SetAway(true)
		defer d.stripeServer.SetAway(false)
		res := d.post(t, live.ID, "pm_card_visa")
		require.Equal(t, 503, res.StatusCode, res.text)
		require.NotEmpty(t, res.Header.Get("Retry-After"))
	})
}

// The store's own problem promises that nothing was changed.
func TestAPI_TheStoreIsAwayAfterAnAttemptWasBegun(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	require.Equal(t, 402, d.post(t, order.ID, "pm_card_chargeDeclined").StatusCode)

	d.sidecar.away.Store(true)
	before := d.post(t, order.ID, "pm_card_visa")
	require.Equal(t, 503, before.StatusCode, before.text)
	require.Equal(t, "unavailable", before.errors(t)[0].Code)
	d.sidecar.away.Store(false)

	d.sidecar.committing = func() { d.sidecar.away.Store(true) }
	after := d.post(t, order.ID, "pm_card_visa")
	require.Equal(t, 503, after.StatusCode, after.text)
	require.Equal(t, "outcome_unknown", after.errors(t)[0].Code)
	require.NotEmpty(t, after.Header.Get("Retry-After"))

	d.sidecar.committing = nil
	d.sidecar.away.Store(false)
	require.Contains(t, []int{200, 201}, d.post(t, order.ID, "pm_card_visa").StatusCode)
	d.requireMoney(t, order.ID, 2500, 0, 0)
}

func TestAPI_ShowRefusals(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	paid := d.post(t, order.ID, "pm_card_visa").payment(t).ID
	for payment, want := range map[id.Payment]int{paid: 403, id.New[id.Payment](): 404, "17": 404} {
		require.Equal(t, want, d.send(t, "buyer-2", "GET", paymentPath(payment), "").StatusCode, payment)
	}
	require.Equal(t, 401, d.send(t, "", "GET", paymentPath(paid), "").StatusCode)
}

func TestAPI_ThePaymentOfAnOrder(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	find := func(user id.User, query string) response { return d.send(t, user, "GET", "/api/payments"+query, "") }
	of := func(order id.Order) string { return "?orderId=" + string(order) }

	none := find(buyer, of(order.ID))
	require.Equal(t, 200, none.StatusCode, none.text)
	require.Equal(t, "[]", none.text)

	require.Equal(t, 402, d.post(t, order.ID, "pm_card_chargeDeclined").StatusCode)
	require.Contains(t, find(buyer, of(order.ID)).text, `"status":"failed"`, "a declined attempt is a payment")
	paid := d.post(t, order.ID, "pm_card_visa")
	require.Equal(t, 201, paid.StatusCode, paid.text)
	found := find(buyer, of(id.Order(strings.ToUpper(string(order.ID)))))
	require.Equal(t, 200, found.StatusCode, found.text)
	require.JSONEq(t, "["+paid.text+"]", found.text)

	waiting := d.newOrder(t)
	action := d.post(t, waiting.ID, "pm_card_authenticationRequired")
	require.JSONEq(t, "["+action.text+"]", find(buyer, of(waiting.ID)).text, "with the client secret")

	for _, c := range []struct {
		name, query string
		user        id.User
		status      int
		code, field string
	}{
		{"no order", "", buyer, 400, "required", "orderId"},
		{"an empty order", "?orderId=", buyer, 400, "required", "orderId"},
		{"an order that is no id", "?orderId=17", buyer, 400, "uuid", "orderId"},
		{"somebody else's order with a payment", of(order.ID), "buyer-2", 403, "not_buyer", "orderId"},
		{"somebody else's order without one", of(d.newOrder(t).ID), "buyer-2", 403, "not_buyer", "orderId"},
		{"an order that does not exist", of("00000000-0000-7000-8000-000000000000"), buyer, 404, "order_not_found", "orderId"},
		{"an order that may be too new to be known", of(statetest.IDOfAge[id.Order](30 * time.Second)), buyer, 503, "not_yet_known", "orderId"},
		{"nobody signed in", of(order.ID), "", 401, "not_signed_in", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := find(c.user, c.query)
			require.Equal(t, c.status, res.StatusCode, res.text)
			first := res.errors(t)[0]
			require.Equal(t, c.code, first.Code, res.text)
			require.Equal(t, c.field, first.Field, res.text)
			require.Equal(t, c.status == 503, res.Header.Get("Retry-After") != "")
		})
	}
}

func TestAPI_IdempotencyKey(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order, other := d.newOrder(t), d.newOrder(t)
	key := []string{idempotency.Header, "key-1"}

	require.Equal(t, 402, d.post(t, order.ID, "pm_card_chargeDeclined", key...).StatusCode)
	first := d.post(t, order.ID, "pm_card_visa", key...)
	require.Equal(t, 201, first.StatusCode, "a refusal does not use the key up")
	require.NoError(t, d.applyAndSettle(t.Context(), after(order, "complete")))
	again := d.post(t, order.ID, "pm_card_visa", key...)
	require.Equal(t, 201, again.StatusCode)
	require.Equal(t, first.text, again.text, "as it was, though it is captured now")
	require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"))
	require.Equal(t, "true", again.Header.Get(idempotency.ReplayedHeader))

	changed := d.post(t, other.ID, "pm_card_visa", key...)
	require.Equal(t, 409, changed.StatusCode)
	require.Empty(t, d.stripeServer.Money(t, other.ID))
	require.Equal(t, 201, d.post(t, other.ID, "pm_card_visa", idempotency.Header, "key-2").StatusCode)

	require.Equal(t, 200, d.post(t, other.ID, "pm_card_visa", idempotency.Header, "key-3").StatusCode)
	require.Equal(t, 409, d.post(t, order.ID, "pm_card_visa", idempotency.Header, "key-3").StatusCode, "an answer that found the payment holds its key, too")
}

func TestAPI_TheSameRequestManyTimesAtOnceIsOnePayment(t *testing.T) {
	for name, header := range map[string][]string{"with a key": {idempotency.Header, "key-1"}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			d := newTestAPI(t, webhookSecret)
			order := d.newOrder(t)
			var mu sync.Mutex
			ids := map[id.Payment]bool{}
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					// The response may be that the service is busy: the client tries again.
					assert.EventuallyWithT(t, func(c *assert.CollectT) {
						res := d.post(t, order.ID, "pm_card_visa", header...)
						if assert.Contains(c, []int{200, 201}, res.StatusCode, res.text) {
							mu.Lock()
							ids[res.payment(t).ID] = true
							mu.Unlock()
						}
					}, 10*time.Second, 5*time.Millisecond)
				})
			}
			all.Wait()
			require.Len(t, ids, 1)
			d.requireMoney(t, order.ID, 2500, 0, 0)
			d.requireEvents(t, "payment.created")
		})
	}
}

func signed(body []byte, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret, Timestamp: at}).Header
}

// about is a webhook with a status of an order's intent.
func about(stripeID string, orderID id.Order, status string) []byte {
	return fmt.Appendf(nil, `{"id":"evt_1","object":"event","api_version":"2020-08-27","type":"payment_intent.amount_capturable_updated","data":{"object":{"id":%q,"object":"payment_intent","status":%q,"metadata":{"orderId":%q}}}}`, stripeID, status, orderID)
}

func TestWebhook_BelievesOnlyWhatIsSigned(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	waiting := d.post(t, order.ID, "pm_card_authenticationRequired").payment(t)
	d.stripeServer.Authenticate(t, waiting.StripeID, "succeed")
	body := about(waiting.StripeID, order.ID, "canceled")
	asked := d.stripeServer.Requests.Load()
	for name, header := range map[string]string{
		"not signed":              "",
		"signed by somebody else": signed(body, "whsec_other", time.Now()),
		"signed for another body": signed(about("pi_2", order.ID, "canceled"), webhookSecret, time.Now()),
		"signed long ago":         signed(body, webhookSecret, time.Now().Add(-6*time.Minute)),
		"signed with an old way":  strings.Replace(signed(body, webhookSecret, time.Now()), "v1=", "v0=", 1),
		"no signature":            "hello",
	} {
		t.Run(name, func(t *testing.T) {
			res := d.send(t, "", "POST", "/api/payments/webhook", string(body), "Stripe-Signature", header)
			require.Equal(t, 400, res.StatusCode, res.text)
			require.Equal(t, "signature_invalid", res.errors(t)[0].Code)
		})
	}
	require.Equal(t, asked, d.stripeServer.Requests.Load())
	d.requireEvents(t)

	for range 2 { // reported twice
		res := d.send(t, "", "POST", "/api/payments/webhook", string(body), "Stripe-Signature", signed(body, webhookSecret, time.Now()))
		require.Equal(t, 200, res.StatusCode, res.text)
		require.JSONEq(t, `{"received":true,"known":true}`, res.text)
		d.settleQueued(t)
	}
	d.requireEvents(t, "payment.created") // the intent as it is at Stripe counts, not the one in the webhook
}

func TestWebhook_WithoutASecretNothingIsTaken(t *testing.T) {
	d := newTestAPI(t, "")
	body := about("pi_1", "order-1", "canceled")
	res := d.send(t, "", "POST", "/api/payments/webhook", string(body), "Stripe-Signature", signed(body, "", time.Now()))
	require.Equal(t, 503, res.StatusCode, res.text)
	require.NotEmpty(t, res.Header.Get("Retry-After"))
}

func TestWebhook_OfOthersIsAcknowledged(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	for name, body := range map[string]string{
		"an intent of another system": string(about("pi_somebody", "somebodys-order", "requires_capture")),
		"a charge of such an intent":  `{"id":"evt_1","object":"event","type":"charge.refunded","data":{"object":{"id":"ch_1","object":"charge","payment_intent":"pi_somebody"}}}`,
		"a charge without an intent":  `{"id":"evt_1","object":"event","type":"charge.refunded","data":{"object":{"id":"ch_1","object":"charge","payment_intent":null}}}`,
		"something else altogether":   `{"id":"evt_1","object":"event","type":"customer.created","data":{"object":{"id":"cus_1","object":"customer"}}}`,
		"an event without an object":  `{"id":"evt_1","object":"event","type":"ping"}`,
	} {
		t.Run(name, func(t *testing.T) {
			res := d.send(t, "", "POST", "/api/payments/webhook", body, "Stripe-Signature", signed([]byte(body), webhookSecret, time.Now()))
			require.Equal(t, 200, res.StatusCode, res.text)
		})
	}
}

func TestWebhook_IsRefusedWhileStripeIsAwaySoThatItIsSentAgain(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	order := d.newOrder(t)
	waiting := d.post(t, order.ID, "pm_card_authenticationRequired").payment(t)
	d.stripeServer.SetAway(true)
	body := about(waiting.StripeID, order.ID, "requires_capture")
	res := d.send(t, "", "POST", "/api/payments/webhook", string(body), "Stripe-Signature", signed(body, webhookSecret, time.Now()))
	require.Equal(t, 503, res.StatusCode, res.text)
}

// TestWebhook_OfTheSandbox lets the sandbox send its own webhooks, over HTTP, to the service.
func TestWebhook_OfTheSandbox(t *testing.T) {
	d := newAPIWithWebhooks(t)
	p := d.stripeServer
	order := d.newOrder(t)
	waiting := d.post(t, order.ID, "pm_card_authenticationRequired").payment(t)
	p.Authenticate(t, waiting.StripeID, "succeed")
	d.requireEvents(t, "payment.created")
	require.NoError(t, d.applyAndSettle(t.Context(), after(order, "complete")))
	require.Eventually(t, func() bool { return p.Ledger(t).Undelivered == 0 }, 5*time.Second, 5*time.Millisecond)
	d.requireMoney(t, order.ID, 0, 2500, 0)
	d.requireEvents(t, "payment.created", "payment.captured")
}

func TestConfig_Processor(t *testing.T) {
	key, url, err := (&config{StripeKey: "sk_live_1", SandboxURL: "http://localhost:12112"}).processor()
	require.NoError(t, err)
	require.Equal(t, []string{"sk_live_1", ""}, []string{key, url}, "with a key, the real Stripe")
	key, url, err = (&config{SandboxURL: "http://localhost:12112"}).processor()
	require.NoError(t, err)
	require.Equal(t, []string{"sk_test_sandbox", "http://localhost:12112"}, []string{key, url})
	_, _, err = (&config{}).processor()
	require.ErrorContains(t, err, "STRIPE_SECRET_KEY")
}
