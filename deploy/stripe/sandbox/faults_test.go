package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
)

// misbehaves makes a rule.
func (b *bench) misbehaves(t *testing.T, rule Rule) Rule {
	t.Helper()
	body, err := json.Marshal(rule)
	require.NoError(t, err)
	res, err := http.Post(b.url+"/sandbox/faults", "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusCreated, res.StatusCode)
	var made Rule
	require.NoError(t, json.NewDecoder(res.Body).Decode(&made))
	return made
}

// rules lists those in force.
func (b *bench) rules(t *testing.T) []Rule {
	t.Helper()
	res, err := http.Get(b.url + "/sandbox/faults")
	require.NoError(t, err)
	defer res.Body.Close()
	var out struct{ Faults []Rule }
	require.NoError(t, json.NewDecoder(res.Body).Decode(&out))
	return out.Faults
}

func (b *bench) behaves(t *testing.T, path string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodDelete, b.url+"/sandbox/faults"+path, nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	return res.StatusCode
}

// call is one request to the API under an idempotency key. The status is 0 if no answer came within a moment.
func (b *bench) call(t *testing.T, path, key string, form url.Values) (status int, replayed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+path, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer sk_test_sandbox")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Idempotency-Key", key)
	// Over a connection that was used before, Go's client would try again by itself.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, false
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header.Get("Idempotent-Replayed") == "true"
}

func TestFaults_ApplyOnceAndTheSameKeyHasTheAnswerOfStripe(t *testing.T) {
	for _, c := range []struct {
		fault      Fault
		first      int  // the status of the first try; 0 is none
		done       bool // whether the work was done by it
		again      int  // the status of the second try, under the same key
		remembered bool
	}{
		{ErrorBefore, 500, false, 500, true},
		{ErrorAfter, 500, true, 500, true},
		{RateLimited, 429, false, 200, false},
		{Unavailable, 503, false, 200, false},
		{HangBefore, 0, false, 200, false},
		{HangAfter, 0, true, 200, true},
		{DisconnectBefore, 0, false, 200, false},
		{DisconnectAfter, 0, true, 200, true},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			b := newBench(t, Options{})
			id := b.create(t).ID
			rule := b.misbehaves(t, Rule{Operation: "confirm", Fault: c.fault})
			require.Equal(t, 1, rule.Times, "without a number it is once")
			confirm := func() (int, bool) {
				return b.call(t, "/v1/payment_intents/"+id+"/confirm", "key-1", url.Values{"payment_method": {"pm_card_visa"}})
			}
			status, replayed := confirm()
			require.Equal(t, c.first, status)
			require.False(t, replayed)
			require.Equal(t, c.done, b.ledger(t).Intents[0].Held == 2500)

			status, replayed = confirm()
			require.Equal(t, c.again, status)
			require.Equal(t, c.remembered, replayed)
			require.LessOrEqual(t, b.ledger(t).Intents[0].Charges, 1)
			require.Equal(t, 1, b.rules(t)[0].Struck)
		})
	}
}

func TestFaults_SlowWorkIsDoneThoughTheClientGivesUp(t *testing.T) {
	b := newBench(t, Options{})
	b.misbehaves(t, Rule{Operation: "create", Fault: Slow, Milliseconds: 400})
	form := url.Values{"amount": {"2500"}, "currency": {"usd"}}
	status, _ := b.call(t, "/v1/payment_intents", "key-1", form)
	require.Zero(t, status, "it takes longer than the client waits")
	status, _ = b.call(t, "/v1/payment_intents", "key-1", form)
	require.Equal(t, http.StatusConflict, status, "the first is still under way")
	require.Eventually(t, func() bool { return len(b.ledger(t).Intents) == 1 }, 5*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		status, replayed := b.call(t, "/v1/payment_intents", "key-1", form)
		return status == http.StatusOK && replayed
	}, 5*time.Second, 5*time.Millisecond)
	require.Len(t, b.ledger(t).Intents, 1)
}

func TestFaults_StrikeOnlyWhatTheyName(t *testing.T) {
	b := newBench(t, Options{})
	mine := b.create(t).ID
	params := manual(700)
	params.Metadata["orderId"] = "order-2"
	other, err := b.intents.New(params)
	require.NoError(t, err)
	b.misbehaves(t, Rule{Operation: "confirm", Fault: Unavailable, OrderID: "order-1", Times: 2})
	b.misbehaves(t, Rule{Operation: "refund", Fault: Unavailable, OrderID: "order-1", Times: 100})
	b.misbehaves(t, Rule{Operation: "method", Fault: RateLimited})

	_, err = b.confirm(other.ID, "pm_card_visa")
	require.NoError(t, err)
	for range 2 {
		_, err = b.confirm(mine, "pm_card_visa")
		require.Equal(t, http.StatusServiceUnavailable, stripeError(t, err).HTTPStatusCode)
	}
	_, err = b.confirm(mine, "pm_card_visa")
	require.NoError(t, err, "twice and no more")
	_, err = b.intents.Capture(mine, nil)
	require.NoError(t, err)
	_, err = b.refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String(mine)})
	require.Error(t, err, "a refund is about its intent's order")
	card := &stripe.PaymentMethodParams{Type: stripe.String("card"), Card: &stripe.PaymentMethodCardParams{Token: stripe.String("tok_visa")}}
	_, err = b.methods.New(card)
	require.Equal(t, stripe.ErrorCodeRateLimit, stripeError(t, err).Code)
	_, err = b.methods.New(card)
	require.NoError(t, err)

	struck := map[string]int{}
	for _, rule := range b.rules(t) {
		struck[rule.Operation] = rule.Struck
	}
	require.Equal(t, map[string]int{"confirm": 2, "refund": 1, "method": 1}, struck)
}

func TestFaults_ByRateAreTheSameInEachRun(t *testing.T) {
	struck := func(seed uint64) (all []bool) {
		b := newBench(t, Options{Faults: []Rule{{Operation: "*", Fault: Unavailable, Rate: stripe.Float64(0.5), Seed: seed}}})
		for range 40 {
			_, err := b.intents.New(manual(2500))
			all = append(all, err != nil)
		}
		return all
	}
	first := struck(1)
	require.Equal(t, first, struck(1))
	require.NotEqual(t, first, struck(2))
	require.Contains(t, first, true)
	require.Contains(t, first, false)
}

func TestFaults_AreClearedOneByOneOrAll(t *testing.T) {
	b := newBench(t, Options{})
	first := b.misbehaves(t, Rule{Fault: Unavailable, Times: 100})
	require.Equal(t, "*", first.Operation)
	second := b.misbehaves(t, Rule{Fault: RateLimited, Times: 100})
	require.Equal(t, http.StatusNoContent, b.behaves(t, "/1"))
	require.Equal(t, http.StatusNotFound, b.behaves(t, "/1"))
	require.Equal(t, http.StatusNotFound, b.behaves(t, "/all"))
	require.Equal(t, []Rule{second}, b.rules(t))
	require.Equal(t, http.StatusNoContent, b.behaves(t, ""))
	require.Empty(t, b.rules(t))
	b.create(t)
}

func TestFaults_RefuseRulesThatMakeNoSense(t *testing.T) {
	b := newBench(t, Options{})
	for body, want := range map[string]string{
		`{"operation":"confirm","fault":"explode"}`:            `there is no fault \"explode\"`,
		`{"operation":"pay","fault":"slow","milliseconds":1}`:  `there is no operation \"pay\"`,
		`{"operation":"expire","fault":"hang_after"}`:          "only webhook faults",
		`{"operation":"method","fault":"slow","orderId":"o"}`:  "belongs to no order",
		`{"operation":"*","fault":"slow"}`:                     "milliseconds belong to",
		`{"operation":"*","fault":"error_after","rate":2}`:     "rate must be",
		`{"operation":"*","fault":"error_after","times":-1}`:   "times must not",
		`{"operation":"*","fault":"error_after","chance":0.5}`: "unknown field",
		`fault=error_after`: "not a rule in JSON",
	} {
		res, err := http.Post(b.url+"/sandbox/faults", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, errors.Join(err, res.Body.Close()))
		require.Equal(t, http.StatusBadRequest, res.StatusCode, body)
		require.Contains(t, string(text), want, body)
	}
	require.Empty(t, b.rules(t))
	_, err := New(Options{Faults: []Rule{{Operation: "confirm", Fault: "explode"}}})
	require.ErrorContains(t, err, "explode")
	require.ErrorContains(t, Command(t.Context(), []string{"-faults", `{"fault":"slow"}`}), "JSON array")
}

func TestFaults_OfWebhooks(t *testing.T) {
	authorized := []string{"payment_intent.amount_capturable_updated"}
	for _, c := range []struct {
		rule  Rule
		first []string // what has arrived when the answer is there
		last  []string // what arrives at all
	}{
		{Rule{Fault: WebhookDrop}, nil, nil},
		{Rule{Fault: WebhookDelay, Milliseconds: 100}, nil, authorized},
		{Rule{Fault: WebhookDouble}, nil, append(authorized, authorized...)},
		{Rule{Fault: WebhookFirst}, authorized, authorized},
	} {
		t.Run(string(c.rule.Fault), func(t *testing.T) {
			r, address := newReceiver(t, 0)
			b := newBench(t, Options{WebhookURL: address, WebhookSecret: r.secret})
			b.misbehaves(t, c.rule)
			id := b.create(t).ID
			_, err := b.confirm(id, "pm_card_visa")
			require.NoError(t, err)
			if c.first != nil || c.rule.Fault == WebhookDelay {
				require.Equal(t, c.first, r.types())
			}
			require.EventuallyWithT(t, func(col *assert.CollectT) {
				require.Equal(col, c.last, r.types())
				require.Zero(col, b.ledger(t).Undelivered)
			}, 5*time.Second, time.Millisecond)
			require.Equal(t, 1, b.rules(t)[0].Struck)
		})
	}
}

func (b *bench) expire(t *testing.T, id string) int {
	t.Helper()
	res, err := http.Post(b.url+"/sandbox/payment_intents/"+id+"/expire", "", nil)
	require.NoError(t, err)
	defer res.Body.Close()
	return res.StatusCode
}

func TestExpire_ReleasesWhatIsHeldAndSendsAnEvent(t *testing.T) {
	r, address := newReceiver(t, 0)
	b := newBench(t, Options{WebhookURL: address, WebhookSecret: r.secret})
	id := b.create(t).ID
	require.Equal(t, http.StatusConflict, b.expire(t, id), "nothing is held")
	require.Equal(t, http.StatusNotFound, b.expire(t, "pi_none"))
	_, err := b.confirm(id, "pm_card_visa")
	require.NoError(t, err)

	require.Equal(t, http.StatusOK, b.expire(t, id))
	intent, err := b.intents.Get(id, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.PaymentIntentStatusCanceled, intent.Status)
	require.Equal(t, stripe.PaymentIntentCancellationReasonAutomatic, intent.CancellationReason)
	_, err = b.intents.Capture(id, nil)
	require.Equal(t, stripe.ErrorCodePaymentIntentUnexpectedState, stripeError(t, err).Code)
	entry := b.ledger(t).Intents[0]
	require.EqualValues(t, 2500, entry.Voided)
	require.Zero(t, entry.Held)
	require.Eventually(t, func() bool { return len(r.types()) == 3 }, 5*time.Second, time.Millisecond)
	require.ElementsMatch(t, []string{"payment_intent.amount_capturable_updated", "payment_intent.canceled", "charge.expired"}, r.types())
}

func TestExpire_AuthorizationsLapseAfterAWeek(t *testing.T) {
	b := newBench(t, Options{})
	held, taken := b.create(t).ID, b.create(t).ID
	for _, id := range []string{held, taken} {
		_, err := b.confirm(id, "pm_card_visa")
		require.NoError(t, err)
	}
	_, err := b.intents.Capture(taken, nil)
	require.NoError(t, err)

	b.server.expireLapsed(time.Now().Add(authorizationLife - time.Hour))
	require.EqualValues(t, 2500, b.ledger(t).Intents[0].Held)
	b.server.expireLapsed(time.Now().Add(authorizationLife))
	require.EqualValues(t, 2500, b.ledger(t).Intents[0].Voided)
	require.EqualValues(t, 2500, b.ledger(t).Intents[1].Kept)
}
