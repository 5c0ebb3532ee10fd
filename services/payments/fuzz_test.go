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
	stripego "github.com/stripe/stripe-go/v76"
	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
	"boxoffice/services/payments/domain"
)

func signature(body []byte, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	fmt.Fprintf(mac, "%d.", at.Unix())
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// A webhook is accepted only if it was signed with the secret, a short time ago. Whatever it contains, the response is 200 or 400.
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
	documents, err := state.Open(context.Background(), newMemory(), state.Options{Service: "payments", Instance: "fuzz", Log: quiet})
	require.NoError(f, err)
	f.Cleanup(func() { _ = documents.Close(context.Background()) })
	app := rest.New(rest.Options{Name: "payments", Log: quiet})
	(&api{store: newStore(documents, newClient("http://127.0.0.1:1", clock.System), domain.Limits{}, clock.System, quiet), webhookSecret: webhookSecret}).register(app, nil)
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
			require.True(t, isSigned(header, body), "accepted without a signature: %q", header)
		case 400:
			require.Contains(t, string(ctx.Response.Body()), "signature_invalid")
			require.False(t, sign && json.Unmarshal(body, &stripego.Event{}) == nil, "signed, readable, and refused")
		default:
			require.Fail(t, "a response that is neither 200 nor 400", "%d: %s", ctx.Response.StatusCode(), ctx.Response.Body())
		}
	})
}

// isSigned reports whether a header has a right signature; its time may differ by minutes.
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
