package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

func signature(body []byte, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	fmt.Fprintf(mac, "%d.", at.Unix())
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// A webhook is believed only if the secret signed exactly it, now; whatever it holds, the answer is 200 or 400.
func FuzzWebhook(f *testing.F) {
	for _, body := range []string{
		`{"id":"evt_1","object":"event","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","object":"payment_intent"}}}`,
		`{"id":"evt_2","object":"event","type":"charge.refunded","data":{"object":{"id":"ch_1","object":"charge","payment_intent":"pi_1"}}}`,
		`{"id":"evt_3","object":"event","data":{"object":{"object":"charge","payment_intent":{"id":"pi_1"}}}}`,
		`{"id":"evt_4","data":{"object":null}}`, `{"data":{"object":"pi_1"}}`, `{"data":[]}`, `{"data":{"object":{"object":"payment_intent","id":7}}}`, `{}`, `null`, ``, `[`, "\xff",
	} {
		f.Add([]byte(body), "", true)
		f.Add([]byte(body), fmt.Sprintf("t=%d,v1=%s", time.Now().Unix(), strings.Repeat("0", 64)), false)
	}
	f.Add([]byte(`{}`), "t=,v1=", false)
	f.Add([]byte(`{}`), "t=99999999999999999999,v1=00", false)
	f.Add([]byte(`{}`), "t=1,t=2,v1=zz,v0=00", false)
	documents, err := state.Open(context.Background(), &memory{documents: map[string]document{}}, state.Options{Service: "payments", Instance: "fuzz", Log: quiet})
	require.NoError(f, err)
	f.Cleanup(func() { _ = documents.Close(context.Background()) })
	app := rest.New(rest.Options{Name: "payments", Log: quiet})
	(&api{store: newStore(documents, newStripeClient(sandboxKey, "http://127.0.0.1:1", time.Second, quiet), quiet), webhookSecret: webhookSecret}).routes(app, nil)
	handle := app.Handler()
	f.Fuzz(func(t *testing.T, body []byte, header string, sign bool) {
		if sign {
			header = fmt.Sprintf("t=%d,v1=%s", time.Now().Unix(), signature(body, time.Now()))
		}
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.SetMethod("POST")
		ctx.Request.SetRequestURI("/api/payments/webhook")
		ctx.Request.Header.Set("Stripe-Signature", header)
		ctx.Request.SetBodyRaw(body)
		handle(&ctx)
		switch ctx.Response.StatusCode() {
		case 200:
			require.JSONEq(t, `{"received":true,"known":false}`, string(ctx.Response.Body()))
			require.True(t, json.Valid(body))
			require.True(t, isSigned(header, body), "believed though not signed: %q", header)
		case 400:
			require.Contains(t, string(ctx.Response.Body()), "signature_invalid")
			require.False(t, sign && json.Unmarshal(body, &stripe.Event{}) == nil, "signed, readable, and refused")
		default:
			require.Fail(t, "an answer for nobody", "%d: %s", ctx.Response.StatusCode(), ctx.Response.Body())
		}
	})
}

// isSigned refreshes for a right signature in a header; of its time only that the seconds are near.
func isSigned(header string, body []byte) bool {
	for _, part := range strings.Split(header, ",") {
		name, at, _ := strings.Cut(part, "=")
		seconds, err := strconv.ParseInt(at, 10, 64)
		if name != "t" || err != nil {
			continue
		}
		signed := time.Unix(seconds, 0)
		if time.Since(signed).Abs() < 10*time.Minute && strings.Contains(strings.ToLower(header), "v1="+signature(body, signed)) {
			return true
		}
	}
	return false
}

func FuzzNoticeIn(f *testing.F) {
	for _, object := range []string{
		`{"id":"pi_1","object":"payment_intent"}`, `{"object":"charge","payment_intent":"pi_1"}`, `{"object":"refund","payment_intent":{"id":"pi_1"}}`,
		`{"object":"charge","payment_intent":null}`, `{"id":1}`,
		`{"id":"pi_1","object":"payment_intent","status":"requires_capture","latest_charge":"ch_1","metadata":{"orderId":"order-1"}}`,
		`{"id":"ch_1","object":"charge","status":"succeeded","captured":true,"amount_captured":5,"amount_refunded":5,"payment_intent":"pi_1","metadata":{"orderId":"order-1"}}`,
		`{"id":"ch_1","object":"charge","status":"failed","failure_code":"card_declined","outcome":{"reason":"lost_card"},"payment_intent":"pi_1"}`,
		`{"id":"dp_1","object":"dispute","payment_intent":"pi_1","metadata":null}`,
		`null`, `[]`, ``, `{"object":"payment_intent"}`,
	} {
		f.Add([]byte(object))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		reported := noticeIn(object)
		if reported.intent.ID == "" {
			return
		}
		known := []Status{Unknown, Pending, RequiresAction, Authorized, Captured, Voided, Refunded, Failed}
		require.Contains(t, known, reported.intent.Status)
		id, err := json.Marshal(reported.intent.ID)
		require.NoError(t, err)
		order, err := json.Marshal(reported.orderID)
		require.NoError(t, err)
		for _, again := range []string{
			`{"object":"payment_intent","id":` + string(id) + `,"metadata":{"orderId":` + string(order) + `}}`,
			`{"object":"charge","payment_intent":` + string(id) + `,"metadata":{"orderId":` + string(order) + `}}`,
		} {
			require.Equal(t, notice{intent: Intent{ID: reported.intent.ID, Status: Unknown}, orderID: reported.orderID}, noticeIn([]byte(again)))
		}
	})
}

// Whatever Stripe, or somebody in between, answers: it becomes an intent in our terms or an error in our terms, and
// no error holds a client secret.
func FuzzStripeAnswer(f *testing.F) {
	f.Add([]byte(`{"id":"pi_1","object":"payment_intent","status":"requires_capture","client_secret":"pi_1_secret_x","latest_charge":{"id":"ch_1"}}`), 200)
	f.Add([]byte(`{"id":"pi_1","status":"succeeded","latest_charge":{"id":"ch_1","amount_captured":100,"amount_refunded":100}}`), 200)
	f.Add([]byte(`{"id":"pi_1","status":"requires_payment_method","latest_charge":"ch_1","last_payment_error":{"type":"card_error","decline_code":"generic_decline","message":"No."}}`), 200)
	f.Add([]byte(`{"type":"card_error","code":"card_declined","message":"No.","payment_intent":{"id":"pi_1","status":"requires_payment_method","client_secret":"pi_1_secret_x"}}`), 402)
	f.Add([]byte(`{"type":"invalid_request_error","param":"payment_method","message":"No such.","payment_intent":{"client_secret":"pi_1_secret_x"}}`), 400)
	f.Add([]byte(`{"code":"amount_too_small","message":"Amount."}`), 400)
	f.Add([]byte(`{"type":"api_error"}`), 500)
	f.Add([]byte(`{"status":"something_new"}`), 200)
	f.Add([]byte(`{"type":"idempotency_error"}`), 409)
	statuses := []Status{Pending, RequiresAction, Authorized, Captured, Voided, Refunded, Failed}
	kinds := []problem.Kind{problem.Internal, problem.Invalid, problem.Unavailable, problem.Declined}
	const secret = "_secret_"
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		var intent stripe.PaymentIntent
		if json.Unmarshal(body, &intent) == nil {
			intent.LastResponse = &stripe.APIResponse{}
			got, _, err := answered(&intent, nil)
			require.NoError(t, err)
			require.Contains(t, statuses, got.Status)
			require.Equal(t, intent.ID, got.ID)
			p := begun()
			p.Observe(got, noon)
			require.Contains(t, statuses, p.Status)
			if got.Status == Captured || got.Status == Refunded {
				require.Equal(t, stripe.PaymentIntentStatusSucceeded, intent.Status, "money is taken only if Stripe says so")
			}
		}
		var failure stripe.Error
		if json.Unmarshal(body, &failure) != nil {
			return
		}
		failure.HTTPStatusCode = status
		failure.Msg = strings.ReplaceAll(failure.Msg, secret, "")
		got, _, err := answered(nil, &failure)
		if err == nil {
			require.Contains(t, statuses, got.Status)
			return
		}
		hasSecret := failure.PaymentIntent != nil && strings.Contains(failure.PaymentIntent.ClientSecret, secret) && len(failure.PaymentIntent.ClientSecret) > len(secret)
		wanted := ""
		if hasSecret {
			wanted = failure.PaymentIntent.ClientSecret
		}
		err = understood(err, "try")
		require.Error(t, err)
		require.Contains(t, kinds, problem.KindOf(err))
		if hasSecret {
			require.NotContains(t, err.Error(), wanted)
		}
	})
}
