package stripe

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	stripego "github.com/stripe/stripe-go/v76"

	"boxoffice/services/internal/problem"
	"boxoffice/services/payments/domain"
)

func FuzzNoticeOf(f *testing.F) {
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
		notice := NoticeOf(object)
		if notice.Intent.ID == "" {
			return
		}
		known := []domain.Status{domain.Unknown, domain.Pending, domain.RequiresAction, domain.Authorized, domain.Captured, domain.Voided, domain.Refunded, domain.Failed}
		require.Contains(t, known, notice.Intent.Status)
		id, err := json.Marshal(notice.Intent.ID)
		require.NoError(t, err)
		order, err := json.Marshal(notice.OrderID)
		require.NoError(t, err)
		for _, again := range []string{
			`{"object":"payment_intent","id":` + string(id) + `,"metadata":{"orderId":` + string(order) + `}}`,
			`{"object":"charge","payment_intent":` + string(id) + `,"metadata":{"orderId":` + string(order) + `}}`,
		} {
			require.Equal(t, Notice{Intent: domain.Intent{ID: notice.Intent.ID, Status: domain.Unknown}, OrderID: notice.OrderID}, NoticeOf([]byte(again)))
		}
	})
}

// Any response of Stripe, or of a proxy, becomes an intent or an error in this service's terms, and no error contains a client
// secret.
func FuzzResponse(f *testing.F) {
	f.Add([]byte(`{"id":"pi_1","object":"payment_intent","status":"requires_capture","client_secret":"pi_1_secret_x","latest_charge":{"id":"ch_1"}}`), 200)
	f.Add([]byte(`{"id":"pi_1","status":"succeeded","latest_charge":{"id":"ch_1","amount_captured":100,"amount_refunded":100}}`), 200)
	f.Add([]byte(`{"id":"pi_1","status":"requires_payment_method","latest_charge":"ch_1","last_payment_error":{"type":"card_error","decline_code":"generic_decline","message":"No."}}`), 200)
	f.Add([]byte(`{"type":"card_error","code":"card_declined","message":"No.","payment_intent":{"id":"pi_1","status":"requires_payment_method","client_secret":"pi_1_secret_x"}}`), 402)
	f.Add([]byte(`{"type":"invalid_request_error","param":"payment_method","message":"No such.","payment_intent":{"client_secret":"pi_1_secret_x"}}`), 400)
	f.Add([]byte(`{"code":"amount_too_small","message":"Amount."}`), 400)
	f.Add([]byte(`{"type":"api_error"}`), 500)
	f.Add([]byte(`{"status":"something_new"}`), 200)
	f.Add([]byte(`{"type":"idempotency_error"}`), 409)
	statuses := []domain.Status{domain.Pending, domain.RequiresAction, domain.Authorized, domain.Captured, domain.Voided, domain.Refunded, domain.Failed}
	kinds := []problem.Kind{problem.Internal, problem.Invalid, problem.Unavailable, problem.Declined}
	const secret = "_secret_"
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		var intent stripego.PaymentIntent
		if json.Unmarshal(body, &intent) == nil {
			intent.LastResponse = &stripego.APIResponse{}
			mapped, _, err := result(&intent, nil)
			require.NoError(t, err)
			require.Contains(t, statuses, mapped.Status)
			require.Equal(t, intent.ID, mapped.ID)
			order := liveOrder()
			p := order.Begin("visa", noon)
			p.StripeID = "pi_1"
			p.Observe(mapped, noon)
			require.Contains(t, statuses, p.Status)
			if mapped.Status == domain.Captured || mapped.Status == domain.Refunded {
				require.Equal(t, stripego.PaymentIntentStatusSucceeded, intent.Status, "money is taken only if it is at Stripe")
			}
		}
		var failure stripego.Error
		if json.Unmarshal(body, &failure) != nil {
			return
		}
		failure.HTTPStatusCode = status
		failure.Msg = strings.ReplaceAll(failure.Msg, secret, "")
		mapped, _, err := result(nil, &failure)
		if err == nil {
			require.Contains(t, statuses, mapped.Status)
			return
		}
		hasSecret := failure.PaymentIntent != nil && strings.Contains(failure.PaymentIntent.ClientSecret, secret) && len(failure.PaymentIntent.ClientSecret) > len(secret)
		wanted := ""
		if hasSecret {
			wanted = failure.PaymentIntent.ClientSecret
		}
		err = problemOf(err, "try")
		require.Error(t, err)
		require.Contains(t, kinds, problem.KindOf(err))
		if hasSecret {
			require.NotContains(t, err.Error(), wanted)
		}
	})
}
