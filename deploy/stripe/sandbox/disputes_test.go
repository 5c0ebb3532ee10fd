package sandbox

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	disputes "github.com/stripe/stripe-go/v76/dispute"
	eventlist "github.com/stripe/stripe-go/v76/event"
)

// paid makes an intent whose money was taken.
func (b *bench) paid(t *testing.T) string {
	t.Helper()
	id := b.create(t).ID
	_, err := b.confirm(id, "pm_card_visa")
	require.NoError(t, err)
	_, err = b.intents.Capture(id, nil)
	require.NoError(t, err)
	return id
}

// does calls what Stripe has not.
func (b *bench) does(t *testing.T, path, body string, status int) map[string]any {
	t.Helper()
	w := httptest.NewRecorder()
	b.server.ServeHTTP(w, httptest.NewRequest("POST", "/sandbox"+path, strings.NewReader(body)))
	require.Equal(t, status, w.Code, w.Body.String())
	var answer map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	return answer
}

func (b *bench) disputes() disputes.Client {
	return disputes.Client{B: b.intents.B, Key: b.intents.Key}
}
func (b *bench) events() eventlist.Client {
	return eventlist.Client{B: b.intents.B, Key: b.intents.Key}
}

func TestDispute_TakesTheMoneyUntilItIsWon(t *testing.T) {
	r, address := newReceiver(t, 0)
	b := newBench(t, Options{WebhookURL: address, WebhookSecret: r.secret})
	id := b.paid(t)
	made := b.does(t, "/payment_intents/"+id+"/dispute", `{"reason":"product_not_received"}`, http.StatusCreated)
	entry := b.ledger(t).Intents[0]
	require.Equal(t, []int64{entry.Captured, 0}, []int64{entry.Disputed, entry.Kept})

	list := b.disputes()
	found := list.List(&stripe.DisputeListParams{PaymentIntent: &id})
	require.True(t, found.Next())
	require.Equal(t, made["id"], found.Dispute().ID)
	require.Equal(t, stripe.DisputeStatusNeedsResponse, found.Dispute().Status)
	require.Equal(t, stripe.DisputeReasonProductNotReceived, found.Dispute().Reason)
	require.Equal(t, id, found.Dispute().PaymentIntent.ID)
	require.False(t, found.Next())

	params := &stripe.PaymentIntentParams{}
	params.AddExpand("latest_charge")
	intent, err := b.intents.Get(id, params)
	require.NoError(t, err)
	require.True(t, intent.LatestCharge.Disputed)
	_, err = b.refunds.New(&stripe.RefundParams{PaymentIntent: &id})
	require.Equal(t, stripe.ErrorCode("charge_disputed"), stripeError(t, err).Code)

	b.does(t, "/disputes/"+made["id"].(string)+"/close", `{"outcome":"won"}`, http.StatusOK)
	require.Equal(t, entry.Captured, b.ledger(t).Intents[0].Kept)
	b.does(t, "/disputes/"+made["id"].(string)+"/close", `{"outcome":"lost"}`, http.StatusConflict)
	_, err = b.refunds.New(&stripe.RefundParams{PaymentIntent: &id, Amount: stripe.Int64(1)})
	require.NoError(t, err, "what is won can be refunded")
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.ElementsMatch(c, []string{
			"payment_intent.amount_capturable_updated", "payment_intent.succeeded", "charge.dispute.created", "charge.dispute.funds_withdrawn",
			"charge.dispute.closed", "charge.dispute.funds_reinstated", "charge.refunded", "refund.created",
		}, r.types())
	}, 5*time.Second, 10*time.Millisecond)
}

func TestDispute_OneThatIsClosedWithoutEvidenceIsLost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stripe.ndjson")
	b := newBench(t, Options{File: file})
	id := b.paid(t)
	made := b.does(t, "/payment_intents/"+id+"/dispute", `{"amount":100}`, http.StatusCreated)
	list := b.disputes()
	closed, err := list.Close(made["id"].(string), nil)
	require.NoError(t, err)
	require.Equal(t, stripe.DisputeStatusLost, closed.Status)
	_, err = b.refunds.New(&stripe.RefundParams{PaymentIntent: &id})
	require.Equal(t, stripe.ErrorCode("charge_disputed"), stripeError(t, err).Code)

	require.NoError(t, b.server.Close())
	b = newBench(t, Options{File: file})
	require.EqualValues(t, 100, b.ledger(t).Intents[0].Disputed, "it outlives the process")
}

func TestDispute_AnInquiryTakesNothingAndARefundEndsIt(t *testing.T) {
	b := newBench(t, Options{})
	id := b.paid(t)
	made := b.does(t, "/payment_intents/"+id+"/dispute", `{"inquiry":true}`, http.StatusCreated)
	require.Zero(t, b.ledger(t).Intents[0].Disputed)
	_, err := b.refunds.New(&stripe.RefundParams{PaymentIntent: &id})
	require.NoError(t, err)
	list := b.disputes()
	now, err := list.Get(made["id"].(string), nil)
	require.NoError(t, err)
	require.Equal(t, stripe.DisputeStatusWarningClosed, now.Status)

	other := b.paid(t)
	made = b.does(t, "/payment_intents/"+other+"/dispute", `{"inquiry":true}`, http.StatusCreated)
	made = b.does(t, "/disputes/"+made["id"].(string)+"/close", `{"outcome":"lost"}`, http.StatusOK)
	require.Equal(t, "needs_response", made["status"], "it becomes a dispute")
}

func TestDispute_Refusals(t *testing.T) {
	b := newBench(t, Options{})
	b.does(t, "/payment_intents/pi_none/dispute", "", http.StatusNotFound)
	b.does(t, "/payment_intents/"+b.create(t).ID+"/dispute", "", http.StatusConflict)
	b.does(t, "/payment_intents/"+b.paid(t)+"/dispute", `{"amount":999999999}`, http.StatusBadRequest)
	b.does(t, "/payment_intents/"+b.paid(t)+"/dispute", `[`, http.StatusBadRequest)
	b.does(t, "/disputes/dp_none/close", `{"outcome":"won"}`, http.StatusNotFound)
	b.does(t, "/disputes/dp_none/close", `{"outcome":"drawn"}`, http.StatusBadRequest)
	b.does(t, "/refunds/re_none/fail", "", http.StatusNotFound)
}

func TestRefund_MayFailLater(t *testing.T) {
	b := newBench(t, Options{})
	id := b.paid(t)
	back, err := b.refunds.New(&stripe.RefundParams{PaymentIntent: &id})
	require.NoError(t, err)
	b.does(t, "/refunds/"+back.ID+"/fail", "", http.StatusOK)
	b.does(t, "/refunds/"+back.ID+"/fail", "", http.StatusConflict)
	back, err = b.refunds.Get(back.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.RefundStatusFailed, back.Status)
	require.Equal(t, stripe.RefundFailureReasonExpiredOrCanceledCard, back.FailureReason)
	entry := b.ledger(t).Intents[0]
	require.Equal(t, []int64{0, entry.Captured}, []int64{entry.Refunded, entry.Kept})
}

func TestEvents_AreListedWhetherTheWebhookArrivedOrNot(t *testing.T) {
	b := newBench(t, Options{})
	for range 3 {
		id := b.paid(t)
		_, err := b.refunds.New(&stripe.RefundParams{PaymentIntent: &id})
		require.NoError(t, err)
	}
	list := func(params stripe.EventListParams) (types []string) {
		events := b.events()
		for found := events.List(&params); found.Next(); {
			types = append(types, string(found.Event().Type))
		}
		return types
	}
	refunded := []string{"charge.refunded", "charge.refunded", "charge.refunded"}
	require.Equal(t, refunded, list(stripe.EventListParams{Types: stripe.StringSlice([]string{"charge.refunded", "charge.dispute.closed"}), ListParams: stripe.ListParams{Limit: stripe.Int64(2)}}))
	require.Equal(t, refunded, list(stripe.EventListParams{Type: stripe.String("charge.*")}))
	require.Len(t, list(stripe.EventListParams{}), 12)
	require.Empty(t, list(stripe.EventListParams{CreatedRange: &stripe.RangeQueryParams{LesserThan: time.Now().Add(-time.Minute).Unix()}}))
}

func TestList_ExpandsTheCharges(t *testing.T) {
	b := newBench(t, Options{})
	id := b.paid(t)
	params := &stripe.PaymentIntentListParams{}
	params.AddExpand("data.latest_charge")
	found := b.intents.List(params)
	require.True(t, found.Next())
	require.Equal(t, id, found.PaymentIntent().ID)
	require.True(t, found.PaymentIntent().LatestCharge.Captured)
}
