package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The life of a dispute, as Stripe documents it (https://docs.stripe.com/disputes/how-disputes-work):
//
//	needs_response ──evidence──▶ under_review ──▶ won    the money comes back
//	      │                           └─────────▶ lost   the buyer keeps it
//	      └──closed without evidence──▶ lost
//
// Its amount is withdrawn from the account when it is opened, and the charge cannot be refunded unless it is won. An
// inquiry (warning_needs_response) withdraws nothing, and a full refund ends it (warning_closed).
const (
	needsResponse        = "needs_response"
	underReview          = "under_review"
	disputeWon           = "won"
	disputeLost          = "lost"
	disputePrevented     = "prevented" // the buyer was given the money before the bank decided
	inquiryNeedsResponse = "warning_needs_response"
	inquiryClosed        = "warning_closed"
)

// dispute has the members of Stripe's object that stripe-go reads, under Stripe's names.
type dispute struct {
	ID                  string            `json:"id"`
	Object              string            `json:"object"`
	Amount              int64             `json:"amount"`
	BalanceTransactions []any             `json:"balance_transactions"`
	Charge              string            `json:"charge"`
	Created             int64             `json:"created"`
	Currency            string            `json:"currency"`
	Evidence            map[string]any    `json:"evidence"`
	EvidenceDetails     map[string]any    `json:"evidence_details"`
	IsChargeRefundable  bool              `json:"is_charge_refundable"`
	Livemode            bool              `json:"livemode"`
	Metadata            map[string]string `json:"metadata"`
	PaymentIntent       string            `json:"payment_intent"`
	Reason              string            `json:"reason"`
	Status              string            `json:"status"`
}

func (d *dispute) inquiry() bool { return strings.HasPrefix(d.Status, "warning_") }

func (d *dispute) open() bool {
	return slices.Contains([]string{needsResponse, underReview, inquiryNeedsResponse}, d.Status)
}

// withdrawn is what the dispute has taken from the account.
func (d *dispute) withdrawn() int64 {
	if d.inquiry() || d.Status == disputeWon {
		return 0
	}
	return d.Amount
}

// refundable reports whether a charge may be refunded in spite of its disputes.
func (s *Server) refundable(ch *charge) bool {
	for _, d := range s.store.disputesOf(ch.ID) {
		if d.withdrawn() > 0 {
			return false
		}
	}
	return true
}

// endInquiries closes the inquiries about a charge that was refunded.
func (s *Server) endInquiries(ch *charge, r *request) {
	for _, d := range s.store.disputesOf(ch.ID) {
		if d.open() && d.inquiry() {
			d.Status = inquiryClosed
			s.store.putDispute(d)
			s.webhooks.emit("charge.dispute.closed", d, r)
		}
	}
}

func (s *Server) retrieveDispute(r *request) (any, *apiError) {
	d := s.store.disputes[r.objectID]
	if d == nil {
		return nil, missing(404, "dispute", r.objectID, "id")
	}
	return d, nil
}

func (s *Server) listDisputes(r *request) (any, *apiError) {
	return listOfCharges(r, s.store.disputeIDs, s.store.disputes, func(d *dispute) (id, intent, charge string, created int64) {
		return d.ID, d.PaymentIntent, d.Charge, d.Created
	})
}

// closeDispute gives a dispute up: it is lost.
func (s *Server) closeDispute(r *request) (any, *apiError) {
	d := s.store.disputes[r.objectID]
	if d == nil {
		return nil, missing(404, "dispute", r.objectID, "id")
	}
	if !d.open() || d.inquiry() {
		return nil, invalid("", "", "This dispute is already closed.")
	}
	s.decide(d, disputeLost, r)
	return d, nil
}

// decide ends a dispute. The store is locked by the caller.
func (s *Server) decide(d *dispute, status string, r *request) {
	d.Status, d.IsChargeRefundable = status, status != disputeLost && status != disputePrevented
	s.store.putDispute(d)
	s.webhooks.emit("charge.dispute.closed", d, r)
	if status == disputeWon {
		s.webhooks.emit("charge.dispute.funds_reinstated", d, r)
	}
}

// openDispute does what a buyer does at the bank:
//
//	POST /sandbox/payment_intents/{id}/dispute   {"amount": 1000, "reason": "fraudulent", "inquiry": false}
//
// Without an amount all that was captured is disputed. It answers 201 with the dispute, or 409 if no money was taken.
func (s *Server) openDispute(w http.ResponseWriter, httpRequest *http.Request) {
	var wanted struct {
		Amount  int64  `json:"amount"`
		Reason  string `json:"reason"`
		Inquiry bool   `json:"inquiry"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, httpRequest.Body, maxBodyBytes)).Decode(&wanted); err != nil && !errors.Is(err, io.EOF) {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "the body is not JSON: " + err.Error()})
		return
	}
	r := sandboxRequest(httpRequest, opDispute)
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	intent, missing := s.intentOf(r)
	if missing != nil {
		writeJSON(w, missing.status, map[string]string{"error": missing.Message})
		return
	}
	r.orderID = intent.Metadata["orderId"]
	ch := s.chargeOf(intent)
	switch {
	case ch == nil || !ch.Captured:
		writeJSON(w, http.StatusConflict, map[string]string{"error": "no money was taken: the intent has a status of " + intent.Status})
		return
	case wanted.Amount < 0 || wanted.Amount > ch.AmountCaptured:
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "amount must be between 1 and what was captured"})
		return
	}
	d := &dispute{
		ID: newID("dp_"), Object: "dispute", Amount: wanted.Amount, BalanceTransactions: []any{}, Charge: ch.ID, Created: r.now.Unix(), Currency: ch.Currency,
		Evidence: map[string]any{}, EvidenceDetails: map[string]any{"has_evidence": false, "submission_count": 0, "past_due": false, "due_by": r.now.Add(7 * 24 * time.Hour).Unix()},
		Metadata: map[string]string{}, PaymentIntent: intent.ID, Reason: wanted.Reason, Status: needsResponse,
	}
	if d.Amount == 0 {
		d.Amount = ch.AmountCaptured
	}
	if d.Reason == "" {
		d.Reason = "fraudulent"
	}
	if wanted.Inquiry {
		d.Status, d.IsChargeRefundable = inquiryNeedsResponse, true
	}
	ch.Disputed = true
	s.store.putCharge(ch)
	s.store.putDispute(d)
	s.webhooks.emit("charge.dispute.created", d, r)
	if d.withdrawn() > 0 {
		s.webhooks.emit("charge.dispute.funds_withdrawn", d, r)
	}
	writeJSON(w, http.StatusCreated, d)
}

// endDispute does what the bank does in the end:
//
//	POST /sandbox/disputes/{id}/close   {"outcome": "won" | "lost" | "prevented"}
//
// An inquiry that is won is closed; one that is lost becomes a dispute. It answers with the dispute, or 409 if it is closed.
func (s *Server) endDispute(w http.ResponseWriter, httpRequest *http.Request) {
	var wanted struct {
		Outcome string `json:"outcome"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, httpRequest.Body, maxBodyBytes)).Decode(&wanted); err != nil || !slices.Contains([]string{disputeWon, disputeLost, disputePrevented}, wanted.Outcome) {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": `outcome must be "won", "lost" or "prevented"`})
		return
	}
	r := sandboxRequest(httpRequest, opDispute)
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	d := s.store.disputes[r.objectID]
	if d == nil {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "no such dispute: " + r.objectID})
		return
	}
	r.orderID = s.store.intents[d.PaymentIntent].Metadata["orderId"]
	switch {
	case !d.open():
		writeJSON(w, http.StatusConflict, map[string]string{"error": "the dispute is closed: " + d.Status})
		return
	case d.inquiry() && wanted.Outcome == disputeLost:
		d.Status, d.IsChargeRefundable = needsResponse, false
		s.store.putDispute(d)
		s.webhooks.emit("charge.dispute.updated", d, r)
		s.webhooks.emit("charge.dispute.funds_withdrawn", d, r)
	case d.inquiry() && wanted.Outcome == disputeWon:
		s.decide(d, inquiryClosed, r)
	default:
		s.decide(d, wanted.Outcome, r)
	}
	writeJSON(w, http.StatusOK, d)
}

// failRefund does what happens if the buyer's bank cannot take the money: some time after a refund has succeeded, Stripe
// reports that it failed, and the money is in the account again.
//
//	POST /sandbox/refunds/{id}/fail
//
// It answers with the refund, or 409 if it has failed already.
func (s *Server) failRefund(w http.ResponseWriter, httpRequest *http.Request) {
	r := sandboxRequest(httpRequest, opRefund)
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	back := s.store.refunds[r.objectID]
	switch {
	case back == nil:
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "no such refund: " + r.objectID})
		return
	case back.Status == "failed":
		writeJSON(w, http.StatusConflict, map[string]string{"error": "the refund has failed already"})
		return
	}
	reason := "expired_or_canceled_card"
	back.Status, back.FailureReason = "failed", &reason
	ch := s.store.charges[back.Charge]
	ch.AmountRefunded -= back.Amount
	ch.Refunded = false
	s.store.putCharge(ch)
	s.store.putRefund(back)
	r.orderID = s.store.intents[back.PaymentIntent].Metadata["orderId"]
	for _, eventType := range []string{"charge.refund.updated", "refund.updated", "refund.failed"} {
		s.webhooks.emit(eventType, back, r)
	}
	writeJSON(w, http.StatusOK, back)
}

// sandboxRequest is a request that Stripe has not.
func sandboxRequest(r *http.Request, operation string) *request {
	return &request{id: newID("req_"), method: r.Method, path: r.URL.Path, operation: operation, objectID: r.PathValue("id"), now: time.Now()}
}
