package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// What Stripe has not: acting for the customer and the bank, and seeing all money at a glance. These paths ask for no key.

// Outcomes of a 3-D Secure challenge.
const (
	passChallenge = "succeed"
	failChallenge = "fail"
)

// authenticate does what the customer does on the bank's page:
//
//	POST /sandbox/payment_intents/{id}/authenticate   {"outcome": "succeed" | "fail"}   (default: succeed)
//
// It answers with the intent as it then is; also when the bank declines after the challenge was passed.
func (s *Server) authenticate(w http.ResponseWriter, httpRequest *http.Request) {
	outcome := httpRequest.FormValue("outcome")
	if strings.HasPrefix(httpRequest.Header.Get("Content-Type"), "application/json") {
		var body struct {
			Outcome string `json:"outcome"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, httpRequest.Body, maxBodyBytes)).Decode(&body); err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "the body is not JSON: " + err.Error()})
			return
		}
		outcome = body.Outcome
	}
	if outcome == "" {
		outcome = passChallenge
	}
	if outcome != passChallenge && outcome != failChallenge {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": `outcome must be "succeed" or "fail"`})
		return
	}

	r := &request{id: newID("req_"), method: httpRequest.Method, path: httpRequest.URL.Path, operation: opAuthenticate, objectID: httpRequest.PathValue("id"), now: time.Now()}
	r.orderID = s.orderOf(r)
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	intent, missing := s.intentOf(r)
	if missing != nil {
		writeJSON(w, missing.status, map[string]string{"error": missing.Message})
		return
	}
	if intent.Status != requiresAction {
		writeJSON(w, http.StatusConflict, map[string]string{"error": "nobody is asked to authenticate: the intent has a status of " + intent.Status})
		return
	}
	s.endChallenge(r, intent, outcome)
	writeJSON(w, http.StatusOK, intent)
}

// endChallenge does what follows when the customer has passed or failed 3-D Secure. The intent requires action.
func (s *Server) endChallenge(r *request, intent *paymentIntent, outcome string) {
	method := s.store.methods[*intent.PaymentMethod]
	if outcome == failChallenge {
		intent.refuse(errorObject{
			Type: "invalid_request_error", Code: "payment_intent_authentication_failure", PaymentMethod: method,
			Message: "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new PaymentMethod to attempt to fulfill this PaymentIntent again.",
		}, nil)
		s.store.putIntent(intent)
		s.webhooks.emit("payment_intent.payment_failed", intent, r)
	} else {
		_, _ = s.settle(r, intent, method, cardNumbered(s.store.numbers[method.ID])) // a decline shows in the intent
	}
}

// expire lets an authorization lapse now, as it does by itself after a week without a capture:
//
//	POST /sandbox/payment_intents/{id}/expire
//
// It answers with the intent as it then is, or with 409 if nothing is authorized.
func (s *Server) expire(w http.ResponseWriter, r *http.Request) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	intent := s.store.intents[r.PathValue("id")]
	switch {
	case intent == nil:
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "no such payment_intent: " + r.PathValue("id")})
	case intent.Status != requiresCapture:
		writeJSON(w, http.StatusConflict, map[string]string{"error": "nothing is authorized: the intent has a status of " + intent.Status})
	default:
		s.lapse(intent, time.Now())
		writeJSON(w, http.StatusOK, intent)
	}
}

// lapse ends an authorization. The store is locked by the caller.
func (s *Server) lapse(intent *paymentIntent, now time.Time) {
	r := &request{operation: opExpire, orderID: intent.Metadata["orderId"], now: now}
	ch := s.chargeOf(intent)
	_ = intent.cancel(ch, "automatic", now) // it can be: it is authorized
	s.store.putCharge(ch)
	s.store.putIntent(intent)
	s.webhooks.emit("payment_intent.canceled", intent, r)
	s.webhooks.emit("charge.expired", ch, r)
}

// expiryPause is the time between two searches for authorizations that have lapsed.
const expiryPause = time.Minute

// keepExpiring ends authorizations when their time is over, until the server ends.
func (s *Server) keepExpiring() {
	for {
		s.expireLapsed(time.Now())
		select {
		case <-time.After(expiryPause):
		case <-s.running.Done():
			return
		}
	}
}

func (s *Server) expireLapsed(now time.Time) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	for _, id := range s.store.intentIDs {
		if intent := s.store.intents[id]; intent.lapsed(s.chargeOf(intent), now) {
			s.lapse(intent, now)
		}
	}
}

// Ledger is all money of the sandbox, for checkers. Amounts are in the currency's minor unit.
type Ledger struct {
	Intents []LedgerEntry `json:"intents"`
	// Undelivered counts webhooks that the receiver has not accepted yet.
	Undelivered int `json:"undelivered"`
	// Fault is set if the sandbox could not write its state file.
	Fault string `json:"fault,omitempty"`
}

// LedgerEntry is the money of one PaymentIntent. At any time
//
//	authorized = held + captured + voided,   captured = kept + refunded + disputed
type LedgerEntry struct {
	ID       string            `json:"id"`
	Status   string            `json:"status"`
	Currency string            `json:"currency"`
	Amount   int64             `json:"amount"`
	Metadata map[string]string `json:"metadata"`
	// Charges counts the attempts that the bank agreed to, Declines those that it refused.
	Charges  int `json:"charges"`
	Declines int `json:"declines"`

	Authorized int64 `json:"authorized"`
	Held       int64 `json:"held"`
	Captured   int64 `json:"captured"`
	Voided     int64 `json:"voided"`
	Refunded   int64 `json:"refunded"`
	// Disputed is what disputes that are open or lost have taken.
	Disputed int64 `json:"disputed,omitempty"`
	Kept     int64 `json:"kept"`

	// CapturedAt is when the money was taken first; nil if none was.
	CapturedAt *time.Time `json:"capturedAt,omitempty"`
}

// showLedger answers GET /sandbox/ledger; ?orderId=… narrows it to intents with that metadata.
func (s *Server) showLedger(w http.ResponseWriter, r *http.Request) {
	s.store.mu.Lock()
	out := s.store.ledger(r.URL.Query().Get("orderId"))
	s.store.mu.Unlock()
	writeJSON(w, http.StatusOK, out)
}

func (s *store) ledger(orderID string) Ledger {
	out := Ledger{Intents: []LedgerEntry{}, Undelivered: len(s.events)}
	if s.failed != nil {
		out.Fault = s.failed.Error()
	}
	byIntent := map[string]*LedgerEntry{}
	for _, c := range s.charges {
		entry := byIntent[c.PaymentIntent]
		if entry == nil {
			entry = &LedgerEntry{}
			byIntent[c.PaymentIntent] = entry
		}
		entry.add(c)
		for _, d := range s.disputesOf(c.ID) {
			entry.Disputed += d.withdrawn()
			entry.Kept -= d.withdrawn()
		}
	}
	for _, id := range s.intentIDs {
		intent := s.intents[id]
		if orderID != "" && intent.Metadata["orderId"] != orderID {
			continue
		}
		var entry LedgerEntry
		if known := byIntent[id]; known != nil {
			entry = *known
		}
		entry.ID, entry.Status, entry.Currency, entry.Amount, entry.Metadata = id, intent.Status, intent.Currency, intent.Amount, intent.Metadata
		out.Intents = append(out.Intents, entry)
	}
	return out
}

// add books one charge.
func (e *LedgerEntry) add(c *charge) {
	if !c.Paid {
		e.Declines++
		return
	}
	e.Charges++
	e.Authorized += c.Amount
	switch {
	case c.Captured:
		if e.CapturedAt == nil || c.CapturedAt != nil && c.CapturedAt.Before(*e.CapturedAt) {
			e.CapturedAt = c.CapturedAt
		}
		e.Captured += c.AmountCaptured
		e.Voided += c.released()
		e.Refunded += c.AmountRefunded - c.released()
		e.Kept += c.AmountCaptured - (c.AmountRefunded - c.released())
	case c.Refunded:
		e.Voided += c.Amount
	default:
		e.Held += c.Amount
	}
}
