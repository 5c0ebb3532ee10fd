package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/stripe/sandbox"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/payments/domain"
	"boxoffice/services/payments/stripe"
	"boxoffice/services/payments/stripe/stripetest"
)

// What banks, and operators in Stripe's dashboard, do at Stripe: each line of the table "What Stripe does by itself" in README.md
// has a test here.

// refundInDashboard makes a refund as an operator does in Stripe's dashboard. amount "" is all.
func (p fakeStripe) refundInDashboard(t *testing.T, stripeID, amount string) (refundID string) {
	t.Helper()
	form := url.Values{"payment_intent": {stripeID}}
	if amount != "" {
		form.Set("amount", amount)
	}
	r := httptest.NewRequest("POST", "/v1/refunds", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "Bearer "+sandboxKey)
	return p.id(t, r)
}

// captureInDashboard captures held money as an operator does in Stripe's dashboard.
func (p fakeStripe) captureInDashboard(t *testing.T, stripeID string) {
	t.Helper()
	r := httptest.NewRequest("POST", "/v1/payment_intents/"+stripeID+"/capture", nil)
	r.Header.Set("Authorization", "Bearer "+sandboxKey)
	p.id(t, r)
}

// simulate makes the sandbox do what a buyer or a bank does.
func (p fakeStripe) simulate(t *testing.T, path, body string) (id string) {
	t.Helper()
	return p.id(t, httptest.NewRequest("POST", "/sandbox"+path, strings.NewReader(body)))
}

func (p fakeStripe) id(t *testing.T, r *http.Request) string {
	t.Helper()
	w := httptest.NewRecorder()
	p.Sandbox.ServeHTTP(w, r)
	require.Less(t, w.Code, 300, w.Body.String())
	var answer struct {
		ID string `json:"id"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	return answer.ID
}

// newAPIWithWebhooks is newTestAPI; the sandbox sends its webhooks to it.
func newAPIWithWebhooks(t *testing.T) *testAPI {
	t.Helper()
	d := newTestAPI(t, webhookSecret)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		req := httptest.NewRequest("POST", "/api/payments/webhook", bytes.NewReader(body))
		req.Header = r.Header
		res, err := d.app.Test(req, -1)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		res.Body.Close()
		w.WriteHeader(res.StatusCode)
	}))
	t.Cleanup(receiver.Close)
	d.stripeServer = fakeStripe{stripetest.New(t, sandbox.Options{WebhookURL: receiver.URL, WebhookSecret: webhookSecret})}
	d.store.stripe = newClient(d.stripeServer.URL, clock.System)
	return d
}

// newCapturedOrder makes an order that is complete, and whose money was captured.
func (s *fixture) newCapturedOrder(t *testing.T) (complete events.Order, stripeID string) {
	t.Helper()
	order := s.newOrder(t)
	receipt, err := s.payWith(t.Context(), order.ID, "pm_card_visa")
	require.NoError(t, err)
	complete = after(order, "complete")
	require.NoError(t, s.applyAndSettle(t.Context(), complete))
	s.requireMoney(t, order.ID, 0, 2500, 0)
	return complete, receipt.Payment.StripeID
}

// requireShown waits until the API shows the payment like this.
func (d *testAPI) requireShown(t *testing.T, order id.Order, status domain.Status, refunded int64, failed bool, dispute string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		d.settleQueued(t)
		shown := d.send(t, buyer, "GET", paymentPath(id.Payment(order)), "").payment(t)
		assert.Equal(c, []any{status, refunded, failed, dispute}, []any{shown.Status, shown.Refunded, shown.RefundFailed, shown.Dispute.Status})
	}, 10*time.Second, 10*time.Millisecond)
}

// requireRefundedEvents waits until these amounts were published as refunded.
func (d *testAPI) requireRefundedEvents(t *testing.T, amounts ...int64) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		reported := []int64{}
		for _, event := range d.sidecar.Published() {
			if event.Type == "payment.refunded" {
				var e events.PaymentRefunded
				assert.NoError(c, json.Unmarshal(event.Data, &e))
				assert.EqualValues(c, 2500, e.Amount)
				reported = append(reported, e.Refunded)
			}
		}
		assert.Equal(c, append([]int64{}, amounts...), reported)
	}, 10*time.Second, 10*time.Millisecond)
}

func TestReversal_AFullRefundInTheDashboard(t *testing.T) {
	d := newAPIWithWebhooks(t)
	order, intent := d.newCapturedOrder(t)
	d.stripeServer.refundInDashboard(t, intent, "")
	d.requireShown(t, order.ID, domain.Refunded, 2500, false, "")
	d.requireRefundedEvents(t, 2500)

	cancelled := after(order, "cancelled") // the orders service handles the refund
	cancelled.Reason = "refunded"
	wrote := d.stripeServer.Writes.Load()
	require.NoError(t, d.applyAndSettle(t.Context(), cancelled))
	require.Equal(t, wrote, d.stripeServer.Writes.Load(), "there is nothing left to give back")
	d.requireMoney(t, order.ID, 0, 2500, 2500)
	d.requireRefundedEvents(t, 2500)
}

func TestReversal_RefundsInParts(t *testing.T) {
	d := newAPIWithWebhooks(t)
	order, intent := d.newCapturedOrder(t)
	d.stripeServer.refundInDashboard(t, intent, "1000")
	d.requireShown(t, order.ID, domain.Captured, 1000, false, "")
	d.requireRefundedEvents(t, 1000)
	d.stripeServer.refundInDashboard(t, intent, "1000")
	d.requireShown(t, order.ID, domain.Captured, 2000, false, "")
	d.stripeServer.refundInDashboard(t, intent, "500")
	d.requireShown(t, order.ID, domain.Refunded, 2500, false, "")
	d.requireRefundedEvents(t, 1000, 2000, 2500)
}

func TestReversal_AnOrderThatEndsAfterAPartialRefundGivesBackTheRest(t *testing.T) {
	d := newAPIWithWebhooks(t)
	order, intent := d.newCapturedOrder(t)
	d.stripeServer.refundInDashboard(t, intent, "1000")
	d.requireShown(t, order.ID, domain.Captured, 1000, false, "")
	require.NoError(t, d.applyAndSettle(t.Context(), after(order, "cancelled")))
	d.requireShown(t, order.ID, domain.Refunded, 2500, false, "")
	d.requireMoney(t, order.ID, 0, 2500, 2500)
}

func TestReversal_ARefundThatIsPendingIsARefund(t *testing.T) {
	d := newAPIWithWebhooks(t)
	var shown atomic.Bool
	pending := func(r *http.Request, w *httptest.ResponseRecorder) {
		if r.URL.Path == "/v1/refunds" {
			body := bytes.ReplaceAll(w.Body.Bytes(), []byte(`"succeeded"`), []byte(`"pending"`))
			if bytes.Contains(body, []byte(`"pending"`)) {
				shown.Store(true)
			}
			w.Body = bytes.NewBuffer(body)
			w.Header().Del("Content-Length")
		}
	}
	d.stripeServer.After.Store(&pending)
	order, intent := d.newCapturedOrder(t)
	d.stripeServer.refundInDashboard(t, intent, "1000")
	d.requireShown(t, order.ID, domain.Captured, 1000, false, "")
	d.requireRefundedEvents(t, 1000)
	require.NoError(t, d.applyAndSettle(t.Context(), after(order, "cancelled")))
	d.requireShown(t, order.ID, domain.Refunded, 2500, false, "")
	d.requireMoney(t, order.ID, 0, 2500, 2500)
	require.True(t, shown.Load(), "no refund was pending")
}

func TestReversal_ACaptureInTheDashboard(t *testing.T) {
	for end, kept := range map[string]bool{"complete": true, "cancelled": false} {
		t.Run(end, func(t *testing.T) {
			d := newAPIWithWebhooks(t)
			order := d.newOrder(t)
			receipt, err := d.payWith(t.Context(), order.ID, "pm_card_visa")
			require.NoError(t, err)
			d.stripeServer.captureInDashboard(t, receipt.Payment.StripeID)
			d.requireShown(t, order.ID, domain.Captured, 0, false, "")
			d.requireEvents(t, "payment.created", "payment.captured")

			require.NoError(t, d.applyAndSettle(t.Context(), after(order, events.OrderStatus(end))))
			if kept {
				d.requireMoney(t, order.ID, 0, 2500, 0)
				d.requireEvents(t, "payment.created", "payment.captured")
				return
			}
			d.requireShown(t, order.ID, domain.Refunded, 2500, false, "")
			d.requireMoney(t, order.ID, 0, 2500, 2500)
		})
	}
}

func TestReversal_WarningsReviewsAndPayoutsChangeNothing(t *testing.T) {
	for eventType, object := range map[string]string{
		"radar.early_fraud_warning.created": `{"id":"issfr_1","object":"radar.early_fraud_warning","actionable":true,"fraud_type":"misc","payment_intent":%q}`,
		"review.opened":                     `{"id":"prv_1","object":"review","open":true,"reason":"rule","payment_intent":%q}`,
		"review.closed":                     `{"id":"prv_1","object":"review","open":false,"reason":"approved","payment_intent":%q}`,
		"payout.paid":                       `{"id":"po_1","object":"payout","amount":2500,"status":"paid","description":%q}`,
	} {
		t.Run(eventType, func(t *testing.T) {
			d := newTestAPI(t, webhookSecret)
			order, intent := d.newCapturedOrder(t)
			before := d.send(t, buyer, "GET", paymentPath(id.Payment(order.ID)), "").payment(t)
			wrote := d.stripeServer.Writes.Load()
			body := fmt.Appendf(nil, `{"id":"evt_1","object":"event","type":%q,"data":{"object":`+object+`}}`, eventType, intent)
			res := d.send(t, "", "POST", "/api/payments/webhook", string(body), "Stripe-Signature", signed(body, webhookSecret, time.Now()))
			require.Equal(t, 200, res.StatusCode, res.text)
			d.settleQueued(t)
			require.Equal(t, before, d.send(t, buyer, "GET", paymentPath(id.Payment(order.ID)), "").payment(t))
			require.Equal(t, wrote, d.stripeServer.Writes.Load())
			d.requireEvents(t, "payment.created", "payment.captured")
		})
	}
}

func TestReversal_ARefundThatFailsIsShownAndNotTriedAgain(t *testing.T) {
	d := newAPIWithWebhooks(t)
	order, intent := d.newCapturedOrder(t)
	require.NoError(t, d.applyAndSettle(t.Context(), after(order, "cancelled")))
	d.requireShown(t, order.ID, domain.Refunded, 2500, false, "")
	refunds := d.stripeServer.refunds(t, intent)
	d.stripeServer.simulate(t, "/refunds/"+refunds[0]+"/fail", "")
	d.requireShown(t, order.ID, domain.Captured, 0, true, "")
	d.requireRefundedEvents(t, 2500, 0)

	wrote := d.stripeServer.Writes.Load()
	d.runSweep(t)
	d.settleQueued(t)
	require.Equal(t, wrote, d.stripeServer.Writes.Load(), "it would fail again")
	require.Empty(t, d.ahead(t), "nobody but people can do more")

	d.stripeServer.refundInDashboard(t, intent, "") // for example to another card of the buyer
	d.requireShown(t, order.ID, domain.Refunded, 2500, false, "")
	d.requireRefundedEvents(t, 2500, 0, 2500)
}

func TestReversal_ARefundThatFailsAtOnce(t *testing.T) {
	s := newFixture(t)
	order, intent := s.newCapturedOrder(t)
	fails := func(r *http.Request, w *httptest.ResponseRecorder) {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/refunds" && w.Header().Get("Idempotent-Replayed") == "" {
			var made struct {
				ID string `json:"id"`
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &made))
			s.stripeServer.simulate(t, "/refunds/"+made.ID+"/fail", "")
		}
	}
	s.stripeServer.After.Store(&fails)
	require.NoError(t, s.store.ApplyOrder(t.Context(), after(order, "cancelled")))
	_, _, err := s.settleOrder(t.Context(), order.ID, domain.Cause{Refresh: domain.RefreshAlways})
	require.NoError(t, err)
	a, err := s.load(t.Context(), order.ID)
	require.NoError(t, err)
	require.Equal(t, domain.Captured, a.order.Value.Payment.Status)
	require.True(t, a.order.Value.Payment.RefundFailed)
	require.Len(t, s.stripeServer.refunds(t, intent), 1)
}

func (p fakeStripe) refunds(t *testing.T, stripeID string) (ids []string) {
	t.Helper()
	r := httptest.NewRequest("GET", "/v1/refunds?payment_intent="+stripeID, nil)
	r.Header.Set("Authorization", "Bearer "+sandboxKey)
	w := httptest.NewRecorder()
	p.Sandbox.ServeHTTP(w, r)
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &list), w.Body.String())
	for _, one := range list.Data {
		ids = append(ids, one.ID)
	}
	return ids
}

func TestReversal_ADisputeIsShownAndWhenItIsLostIsARefund(t *testing.T) {
	for _, outcome := range []string{"lost", "prevented"} {
		t.Run(outcome, func(t *testing.T) {
			d := newAPIWithWebhooks(t)
			order, intent := d.newCapturedOrder(t)
			dispute := d.stripeServer.simulate(t, "/payment_intents/"+intent+"/dispute", `{"reason":"product_not_received"}`)
			d.requireShown(t, order.ID, domain.Captured, 0, false, "needs_response")
			shown := d.send(t, buyer, "GET", paymentPath(id.Payment(order.ID)), "").payment(t)
			require.Equal(t, disputeResponse{ID: dispute, Status: "needs_response", Reason: "product_not_received", Amount: 2500}, shown.Dispute)
			d.requireRefundedEvents(t)

			d.stripeServer.simulate(t, "/disputes/"+dispute+"/close", `{"outcome":"`+outcome+`"}`)
			d.requireShown(t, order.ID, domain.Refunded, 2500, false, outcome)
			d.requireRefundedEvents(t, 2500)
			wrote := d.stripeServer.Writes.Load()
			require.NoError(t, d.applyAndSettle(t.Context(), after(order, "cancelled")))
			require.Equal(t, wrote, d.stripeServer.Writes.Load(), "the buyer has it already")
		})
	}
}

func TestReversal_ADisputeThatIsWonChangesNothing(t *testing.T) {
	d := newAPIWithWebhooks(t)
	order, intent := d.newCapturedOrder(t)
	dispute := d.stripeServer.simulate(t, "/payment_intents/"+intent+"/dispute", "")
	d.requireShown(t, order.ID, domain.Captured, 0, false, "needs_response")
	d.stripeServer.simulate(t, "/disputes/"+dispute+"/close", `{"outcome":"won"}`)
	d.requireShown(t, order.ID, domain.Captured, 0, false, "won")
	d.requireRefundedEvents(t)
	d.requireEvents(t, "payment.created", "payment.captured")
}

func TestReversal_AnOrderThatEndsDuringADisputeWaitsForTheBank(t *testing.T) {
	for _, outcome := range []string{"won", "lost"} {
		t.Run(outcome, func(t *testing.T) {
			d := newAPIWithWebhooks(t)
			order, intent := d.newCapturedOrder(t)
			dispute := d.stripeServer.simulate(t, "/payment_intents/"+intent+"/dispute", "")
			d.requireShown(t, order.ID, domain.Captured, 0, false, "needs_response")
			wrote := d.stripeServer.Writes.Load()
			require.NoError(t, d.applyAndSettle(t.Context(), after(order, "cancelled")))
			d.runSweep(t)
			require.Equal(t, wrote, d.stripeServer.Writes.Load(), "Stripe allows no refund now")
			require.Empty(t, d.ahead(t))

			d.stripeServer.simulate(t, "/disputes/"+dispute+"/close", `{"outcome":"`+outcome+`"}`)
			d.requireShown(t, order.ID, domain.Refunded, 2500, false, outcome)
			d.requireRefundedEvents(t, 2500)
			entry := d.stripeServer.Money(t, order.ID)[0]
			require.Zero(t, entry.Kept, "%+v", entry)
		})
	}
}

func TestReversal_AnOrderThatEndsBeforeItsDisputeIsReported(t *testing.T) {
	s := newFixture(t) // no webhook arrives
	order, intent := s.newCapturedOrder(t)
	s.stripeServer.simulate(t, "/payment_intents/"+intent+"/dispute", "")
	require.NoError(t, s.applyAndSettle(t.Context(), after(order, "cancelled")), "that it is disputed is found out when it is to be refunded")
	a, err := s.load(t.Context(), order.ID)
	require.NoError(t, err)
	require.Equal(t, "needs_response", a.order.Value.Payment.Dispute.Status)
	require.True(t, a.order.Value.Settled())
}

func TestReversal_ADisputeOfAPart(t *testing.T) {
	d := newAPIWithWebhooks(t)
	order, intent := d.newCapturedOrder(t)
	dispute := d.stripeServer.simulate(t, "/payment_intents/"+intent+"/dispute", `{"amount":700}`)
	d.stripeServer.simulate(t, "/disputes/"+dispute+"/close", `{"outcome":"lost"}`)
	d.requireShown(t, order.ID, domain.Captured, 700, false, "lost")
	d.requireRefundedEvents(t, 700)

	require.NoError(t, d.applyAndSettle(t.Context(), after(order, "cancelled")))
	d.requireShown(t, order.ID, domain.Captured, 700, true, "lost") // Stripe refunds nothing of a charge whose dispute was lost
	d.runSweep(t)
	require.Empty(t, d.ahead(t))
}

func TestReversal_AnInquiryTakesNothing(t *testing.T) {
	d := newAPIWithWebhooks(t)
	order, intent := d.newCapturedOrder(t)
	d.stripeServer.simulate(t, "/payment_intents/"+intent+"/dispute", `{"inquiry":true}`)
	d.requireShown(t, order.ID, domain.Captured, 0, false, "warning_needs_response")
	require.NoError(t, d.applyAndSettle(t.Context(), after(order, "cancelled")))
	d.requireShown(t, order.ID, domain.Refunded, 2500, false, "warning_closed")
}

func TestReversal_WebhooksLateAndRepeatedChangeNothing(t *testing.T) {
	d := newAPIWithWebhooks(t)
	order, intent := d.newCapturedOrder(t)
	captured := d.notice(intent)
	d.stripeServer.refundInDashboard(t, intent, "1000")
	d.requireShown(t, order.ID, domain.Captured, 1000, false, "")
	partly := stripe.Notice{Intent: domain.Intent{ID: intent, Status: domain.Captured, Refunded: 1000}, OrderID: order.ID}
	d.stripeServer.refundInDashboard(t, intent, "")
	d.requireShown(t, order.ID, domain.Refunded, 2500, false, "")
	asked := d.stripeServer.Requests.Load()
	for _, reported := range []stripe.Notice{captured, partly, captured, partly} {
		known, err := d.store.HandleNotice(t.Context(), reported)
		require.NoError(t, err)
		require.True(t, known)
	}
	require.Equal(t, asked, d.stripeServer.Requests.Load())
	d.requireRefundedEvents(t, 1000, 2500)
}

// aboutObject is a webhook about a refund or dispute, which names its intent and nothing else.
func aboutObject(object, id, stripeID, status string) []byte {
	return fmt.Appendf(nil, `{"id":"evt_1","object":"event","type":"x","data":{"object":{"id":%q,"object":%q,"status":%q,"amount":2500,"payment_intent":%q,"metadata":{}}}}`, id, object, status, stripeID)
}

func TestReversal_OfAnotherSystemsIntentIsIgnored(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	for _, body := range [][]byte{aboutObject("refund", "re_1", "pi_nobody", "succeeded"), aboutObject("dispute", "dp_1", "pi_nobody", "lost")} {
		res := d.send(t, "", "POST", "/api/payments/webhook", string(body), "Stripe-Signature", signed(body, webhookSecret, time.Now()))
		require.Equal(t, 200, res.StatusCode, res.text)
		require.JSONEq(t, `{"received":true,"known":false}`, res.text)
	}
}

func TestWebhook_AStolenSecretMovesNoMoney(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	victim := d.newOrder(t)
	held := d.post(t, victim.ID, "pm_card_visa").payment(t)
	sold, taken := d.newCapturedOrder(t)
	attacker := d.newOrder(t)
	d.post(t, attacker.ID, "pm_card_chargeDeclined")
	forged := func(stripeID string, orderID id.Order) {
		for _, status := range []string{"requires_capture", "succeeded", "canceled", "requires_action"} {
			body := about(stripeID, orderID, status)
			res := d.send(t, "", "POST", "/api/payments/webhook", string(body), "Stripe-Signature", signed(body, webhookSecret, time.Now()))
			require.Equal(t, 200, res.StatusCode, res.text)
		}
		for _, body := range [][]byte{aboutObject("refund", "re_1", stripeID, "succeeded"), aboutObject("dispute", "dp_1", stripeID, "lost")} {
			res := d.send(t, "", "POST", "/api/payments/webhook", string(body), "Stripe-Signature", signed(body, webhookSecret, time.Now()))
			require.Equal(t, 200, res.StatusCode, res.text)
		}
		d.settleQueued(t)
	}
	forged(held.StripeID, attacker.ID) // "this intent belongs to another order": it would be ended
	forged(taken, attacker.ID)
	forged(held.StripeID, victim.ID)
	forged(taken, sold.ID)
	d.requireMoney(t, victim.ID, 2500, 0, 0)
	d.requireMoney(t, sold.ID, 0, 2500, 0)
}

func TestWebhook_ReplaysAndLargeBodies(t *testing.T) {
	d := newTestAPI(t, webhookSecret)
	body := about("pi_nobody", "", "canceled")
	for age, status := range map[time.Duration]int{4 * time.Minute: 200, 299 * time.Second: 200, 302 * time.Second: 400, time.Hour: 400} {
		res := d.send(t, "", "POST", "/api/payments/webhook", string(body), "Stripe-Signature", signed(body, webhookSecret, time.Now().Add(-age)))
		require.Equal(t, status, res.StatusCode, "signed %s ago: %s", age, res.text)
	}
	large := `{"id":"evt_1","object":"event","padding":"` + strings.Repeat("x", 70_000) + `"}`
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = d.app.Listener(listener) }()
	t.Cleanup(func() { _ = d.app.Shutdown() })
	req, err := http.NewRequest("POST", "http://"+listener.Addr().String()+"/api/payments/webhook", strings.NewReader(large))
	require.NoError(t, err)
	req.Header.Set("Stripe-Signature", signed([]byte(large), webhookSecret, time.Now()))
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, 413, res.StatusCode)
}
