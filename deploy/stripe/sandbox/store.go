package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// keyLifetime is how long an idempotency key keeps its answer; Stripe promises at least 24 hours.
const keyLifetime = 24 * time.Hour

// store holds everything in memory, and appends each changed object to a file, a line each; the last line of
// an object counts. Opening reads the file and writes it anew without what was overwritten.
//
// The maps may be read and changed only with mu held; the put methods expect it.
type store struct {
	mu        sync.Mutex
	intents   map[string]*paymentIntent
	intentIDs []string // in order of creation
	charges   map[string]*charge
	refunds   map[string]*refund
	refundIDs []string
	disputes  map[string]*dispute
	// disputeIDs are in order of creation.
	disputeIDs []string
	history    []*event // the last ones, accepted or not; in memory alone
	methods    map[string]*paymentMethod
	numbers    map[string]string // payment method id → the test card's number
	events     map[string]*event // those not accepted yet
	keys       map[string]*idempotencyKey
	inFlight   map[string]bool // idempotency keys whose request is under way

	file *os.File
	// failed is the first error of writing the file. It ends the process's claim to keep state, so it is
	// reported by close and in the ledger rather than hidden.
	failed error
}

// idempotencyKey is what a key remembers.
type idempotencyKey struct {
	Key         string    `json:"key"`
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created"`
	Answer      answer    `json:"answer"`
}

// line is one line of the file: exactly one of its members is set.
type line struct {
	Intent  *paymentIntent  `json:"paymentIntent,omitempty"`
	Charge  *charge         `json:"charge,omitempty"`
	Refund  *refund         `json:"refund,omitempty"`
	Dispute *dispute        `json:"dispute,omitempty"`
	Method  *paymentMethod  `json:"paymentMethod,omitempty"`
	Number  string          `json:"number,omitempty"` // with Method
	Event   *event          `json:"event,omitempty"`
	Done    string          `json:"accepted,omitempty"` // id of an event that was accepted
	Key     *idempotencyKey `json:"idempotencyKey,omitempty"`
}

func openStore(path string) (*store, error) {
	s := &store{
		intents: map[string]*paymentIntent{}, charges: map[string]*charge{}, refunds: map[string]*refund{}, disputes: map[string]*dispute{},
		methods: map[string]*paymentMethod{}, numbers: map[string]string{}, events: map[string]*event{},
		keys: map[string]*idempotencyKey{}, inFlight: map[string]bool{},
	}
	if path == "" {
		return s, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("sandbox state: %w", err)
	}
	if err := s.read(path); err != nil {
		return nil, fmt.Errorf("sandbox state %s: %w", path, err)
	}
	if err := s.rewrite(path); err != nil {
		return nil, fmt.Errorf("sandbox state %s: %w", path, err)
	}
	return s, nil
}

func (s *store) read(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	reader := bufio.NewReader(f)
	for n := 1; ; n++ {
		text, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // a last line without its end was being written when the process was killed
		}
		if err != nil {
			return err
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		s.take(l)
	}
}

// take puts one line's object into memory.
func (s *store) take(l line) {
	switch {
	case l.Intent != nil:
		if s.intents[l.Intent.ID] == nil {
			s.intentIDs = append(s.intentIDs, l.Intent.ID)
		}
		s.intents[l.Intent.ID] = l.Intent
	case l.Charge != nil:
		s.charges[l.Charge.ID] = l.Charge
	case l.Refund != nil:
		if s.refunds[l.Refund.ID] == nil {
			s.refundIDs = append(s.refundIDs, l.Refund.ID)
		}
		s.refunds[l.Refund.ID] = l.Refund
	case l.Dispute != nil:
		if s.disputes[l.Dispute.ID] == nil {
			s.disputeIDs = append(s.disputeIDs, l.Dispute.ID)
		}
		s.disputes[l.Dispute.ID] = l.Dispute
	case l.Method != nil:
		s.methods[l.Method.ID], s.numbers[l.Method.ID] = l.Method, l.Number
	case l.Event != nil:
		s.events[l.Event.ID] = l.Event
	case l.Done != "":
		delete(s.events, l.Done)
	case l.Key != nil:
		if time.Since(l.Key.Created) < keyLifetime {
			s.keys[l.Key.Key] = l.Key
		}
	}
}

// rewrite writes what is in memory to a new file and keeps that one open for appending.
func (s *store) rewrite(path string) error {
	fresh, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(fresh)
	encoder := json.NewEncoder(out)
	for _, l := range s.lines() {
		if err = encoder.Encode(l); err != nil {
			break
		}
	}
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		fresh.Close()
		os.Remove(fresh.Name())
		return err
	}
	s.file = fresh
	return nil
}

func (s *store) lines() []line {
	var all []line
	for _, m := range s.methods {
		all = append(all, line{Method: m, Number: s.numbers[m.ID]})
	}
	for _, id := range s.intentIDs {
		all = append(all, line{Intent: s.intents[id]})
	}
	for _, c := range s.charges {
		all = append(all, line{Charge: c})
	}
	for _, id := range s.refundIDs {
		all = append(all, line{Refund: s.refunds[id]})
	}
	for _, id := range s.disputeIDs {
		all = append(all, line{Dispute: s.disputes[id]})
	}
	for _, e := range s.pendingEvents() {
		all = append(all, line{Event: e})
	}
	for _, k := range s.keys {
		all = append(all, line{Key: k})
	}
	return all
}

func (s *store) pendingEvents() []*event {
	var all []*event
	for _, e := range s.events {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *event) int { return int(a.Created - b.Created) })
	return all
}

// put takes an object into memory and appends it to the file.
func (s *store) put(l line) {
	s.take(l)
	if s.file == nil || s.failed != nil {
		return
	}
	text, err := json.Marshal(l)
	if err == nil {
		_, err = s.file.Write(append(text, '\n'))
	}
	if err != nil {
		s.failed = fmt.Errorf("write the sandbox's state: %w", err)
	}
}

func (s *store) putIntent(p *paymentIntent) { s.put(line{Intent: p}) }
func (s *store) putCharge(c *charge)        { s.put(line{Charge: c}) }
func (s *store) putRefund(r *refund)        { s.put(line{Refund: r}) }
func (s *store) putDispute(d *dispute)      { s.put(line{Dispute: d}) }
func (s *store) putMethod(m *paymentMethod, number string) {
	s.put(line{Method: m, Number: number})
}
func (s *store) putEvent(e *event) { s.put(line{Event: e}) }

// eventAccepted forgets an event that the receiver has taken.
func (s *store) eventAccepted(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(line{Done: id})
}

// historyLength bounds how many events are listed. (Stripe lists those of 30 days.)
const historyLength = 5000

// remember adds an event to those that are listed.
func (s *store) remember(e *event) {
	if len(s.history) == historyLength {
		s.history = s.history[1:]
	}
	s.history = append(s.history, e)
}

// disputesOf are the disputes of a charge, oldest first.
func (s *store) disputesOf(chargeID string) (found []*dispute) {
	for _, id := range s.disputeIDs {
		if d := s.disputes[id]; d.Charge == chargeID {
			found = append(found, d)
		}
	}
	return found
}

// beginKey claims an idempotency key for a request. It returns the answer that the same request had before,
// with an error if the key belongs to another request or one that is still under way, or with neither: then
// the caller does the work and calls endKey.
func (s *store) beginKey(key, fingerprint string, now time.Time) (*answer, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight[key] {
		return nil, &apiError{status: 409, errorObject: errorObject{Type: "idempotency_error", Code: "idempotency_key_in_use",
			Message: "There is currently another in-progress request using this Idempotency-Key (that probably means you submitted twice, and the other request is still going through): " + key + ". Please try again later."}}
	}
	if known := s.keys[key]; known != nil && now.Sub(known.Created) < keyLifetime {
		if known.Fingerprint != fingerprint {
			return nil, &apiError{status: 400, errorObject: errorObject{Type: "idempotency_error",
				Message: "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '" + key + "' if you meant to execute a different request."}}
		}
		return &known.Answer, nil
	}
	s.inFlight[key] = true
	s.keys[key] = &idempotencyKey{Key: key, Fingerprint: fingerprint, Created: now}
	return nil, nil
}

// endKey remembers the answer of the request that claimed the key, or frees the key.
func (s *store) endKey(key string, done outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, key)
	if !done.kept {
		delete(s.keys, key)
		return
	}
	claimed := s.keys[key]
	claimed.Answer = done.answer
	s.put(line{Key: claimed})
}

// expandCharge puts the charge itself in the place of latest_charge's id.
func (s *store) expandCharge(body []byte) []byte {
	var object map[string]json.RawMessage
	var id string
	if json.Unmarshal(body, &object) != nil || json.Unmarshal(object["latest_charge"], &id) != nil {
		return body
	}
	whole, err := json.Marshal(s.charges[id])
	if err != nil || bytes.Equal(whole, []byte("null")) {
		return body
	}
	object["latest_charge"] = whole
	expanded, err := json.Marshal(object)
	if err != nil {
		return body
	}
	return expanded
}

// expandCharges is expandCharge for each object of a list.
func (s *store) expandCharges(body []byte) []byte {
	var page map[string]json.RawMessage
	var objects []json.RawMessage
	if json.Unmarshal(body, &page) != nil || json.Unmarshal(page["data"], &objects) != nil {
		return body
	}
	for i := range objects {
		objects[i] = s.expandCharge(objects[i])
	}
	var err error
	if page["data"], err = json.Marshal(objects); err != nil {
		return body
	}
	expanded, err := json.Marshal(page)
	if err != nil {
		return body
	}
	return expanded
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return s.failed
	}
	err := s.file.Close()
	s.file = nil
	return errors.Join(s.failed, err)
}
