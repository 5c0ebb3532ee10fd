package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The sandbox can be set to fail as Stripe may fail: per request (the next three confirmations) or
// by rate (one in ten). A rule defines which fault occurs where:
//
//	POST   /sandbox/faults        {"operation": "confirm", "fault": "hang_after", "times": 1}   → 201, the rule with its id
//	GET    /sandbox/faults        the rules, and how often each struck
//	DELETE /sandbox/faults        no more faults
//	DELETE /sandbox/faults/{id}   no more of this one
//
// Rules are kept in memory only. What each fault does follows Stripe's pages "Advanced error handling" and
// "Idempotent requests" (https://docs.stripe.com/error-low-level, https://docs.stripe.com/api/idempotent_requests):
// a 500 is remembered under its idempotency key, whether the work was done or not, and is sent again to a client that asks
// again; a 429 or 503 was refused before the work began, and is not.

// Fault is one way to fail.
type Fault string

const (
	ErrorBefore      Fault = "error_before"      // 500, nothing was done
	ErrorAfter       Fault = "error_after"       // 500, though the work was done
	RateLimited      Fault = "rate_limited"      // 429, nothing was done
	Unavailable      Fault = "unavailable"       // 503, nothing was done
	HangBefore       Fault = "hang_before"       // no answer until the client gives up; nothing was done
	HangAfter        Fault = "hang_after"        // no answer until the client gives up, though the work was done
	DisconnectBefore Fault = "disconnect_before" // the connection is closed; nothing was done
	DisconnectAfter  Fault = "disconnect_after"  // the connection is closed, though the work was done
	Slow             Fault = "slow"              // the work takes Milliseconds

	WebhookDrop   Fault = "webhook_drop"   // the event is never sent
	WebhookDelay  Fault = "webhook_delay"  // the event is sent after Milliseconds
	WebhookDouble Fault = "webhook_double" // the event is sent twice, at the same moment
	WebhookFirst  Fault = "webhook_first"  // the event is sent, and answered, before the API call that caused it is
)

// moment is where on a request's way a fault strikes.
type moment int

const (
	onArrival moment = iota // before anything was done
	atWork                  // as part of the work, so not when an answer is repeated
	onAnswer                // in the place of the answer, also of one that is repeated
	onEvent
)

func (f Fault) moment() (m moment, known bool) {
	switch f {
	case RateLimited, Unavailable, HangBefore, DisconnectBefore:
		return onArrival, true
	case ErrorBefore, ErrorAfter, Slow:
		return atWork, true
	case HangAfter, DisconnectAfter:
		return onAnswer, true
	case WebhookDrop, WebhookDelay, WebhookDouble, WebhookFirst:
		return onEvent, true
	}
	return 0, false
}

// Operations that a rule may name. The last three are not Stripe's API but what happens at the bank; they cause events.
const (
	opCreate       = "create"
	opConfirm      = "confirm"
	opCapture      = "capture"
	opCancel       = "cancel"
	opRefund       = "refund"
	opRetrieve     = "retrieve"
	opMethod       = "method"
	opAuthenticate = "authenticate"
	opExpire       = "expire"
	opDispute      = "dispute"
	anyOperation   = "*"
)

func operations() []string {
	return []string{opCreate, opConfirm, opCapture, opCancel, opRefund, opRetrieve, opMethod, opAuthenticate, opExpire, opDispute, anyOperation}
}

// Rule defines which fault occurs, where, and how often.
type Rule struct {
	// ID is given by the sandbox.
	ID int `json:"id"`
	// Operation is create, confirm, capture, cancel or refund; retrieve (any GET), method (make a payment method),
	// or * for all. A request that creates an intent and confirms it is both. Of events it is what caused them, and may
	// also be authenticate, expire or dispute.
	Operation string `json:"operation"`
	Fault     Fault  `json:"fault"`
	// OrderID narrows the rule to what has this metadata.orderId, so that others are left in peace.
	OrderID string `json:"orderId,omitempty"`
	// Times bounds how often the rule strikes. Without it and without Rate it strikes once.
	Times int `json:"times,omitempty"`
	// Rate is how likely the rule is to strike, 0 to 1. Seed makes its dice roll the same in each run.
	Rate *float64 `json:"rate,omitempty"`
	Seed uint64   `json:"seed,omitempty"`
	// Milliseconds is how long slow and webhook_delay take.
	Milliseconds int `json:"milliseconds,omitempty"`

	// Struck counts how often the rule struck.
	Struck int `json:"struck"`

	dice *rand.Rand
}

func (r *Rule) wait() time.Duration { return time.Duration(r.Milliseconds) * time.Millisecond }

// check returns what is wrong with a rule.
func (r *Rule) check() error {
	when, known := r.Fault.moment()
	switch {
	case !known:
		return fmt.Errorf("there is no fault %q; deploy/stripe/README.md lists them", r.Fault)
	case !slices.Contains(operations(), r.Operation):
		return fmt.Errorf("there is no operation %q; it must be one of %s", r.Operation, strings.Join(operations(), ", "))
	case when != onEvent && (r.Operation == opAuthenticate || r.Operation == opExpire || r.Operation == opDispute):
		return fmt.Errorf("%s is not a call of Stripe's API: it can have only webhook faults", r.Operation)
	case r.Operation == opMethod && (r.OrderID != "" || when == onEvent):
		return errors.New("a payment method belongs to no order and causes no event: set no orderId, and use webhook faults for other operations")
	case r.Times < 0:
		return errors.New("times must not be negative")
	case r.Rate != nil && (*r.Rate < 0 || *r.Rate > 1):
		return errors.New("rate must be between 0 and 1")
	case (r.Fault == Slow || r.Fault == WebhookDelay) != (r.Milliseconds > 0):
		return fmt.Errorf("milliseconds belong to %s and %s, and must be more than 0", Slow, WebhookDelay)
	}
	return nil
}

// strikes reports whether the rule applies now, and counts.
func (r *Rule) strikes() bool {
	if r.Times > 0 && r.Struck >= r.Times {
		return false
	}
	if r.Rate != nil && r.dice.Float64() >= *r.Rate {
		return false
	}
	r.Struck++
	return true
}

// faults are the rules in force, in the order in which they were made: the first that strikes, counts.
type faults struct {
	mu    sync.Mutex
	last  int // the last rule's id
	rules []*Rule
}

func (f *faults) add(rule Rule) (Rule, error) {
	if rule.Operation == "" {
		rule.Operation = anyOperation
	}
	if err := rule.check(); err != nil {
		return Rule{}, err
	}
	if rule.Times == 0 && rule.Rate == nil {
		rule.Times = 1
	}
	rule.Struck = 0
	rule.dice = rand.New(rand.NewPCG(rule.Seed, 0))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	rule.ID = f.last
	f.rules = append(f.rules, &rule)
	return rule, nil
}

// strike finds the rule that applies at a moment of a request; nil if none does.
func (f *faults) strike(when moment, r *request) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rule := range f.rules {
		of, _ := rule.Fault.moment()
		if of == when && r.does(rule.Operation) && (rule.OrderID == "" || rule.OrderID == r.orderID) && rule.strikes() {
			struck := *rule
			return &struck
		}
	}
	return nil
}

// list copies the rules, as they stand.
func (f *faults) list() []Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []Rule{}
	for _, rule := range f.rules {
		all = append(all, *rule)
	}
	return all
}

// clear removes the rule of that id, or all of them if it is 0. It reports whether there was one.
func (f *faults) clear(id int) (found bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.rules)
	f.rules = slices.DeleteFunc(f.rules, func(rule *Rule) bool { return id == 0 || rule.ID == id })
	return len(f.rules) < before
}

// parseRules reads rules as a JSON array, for those in force from the start.
func parseRules(text string) ([]Rule, error) {
	if text == "" {
		return nil, nil
	}
	var rules []Rule
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&rules); err != nil {
		return nil, fmt.Errorf(`faults must be a JSON array of rules, such as [{"operation":"confirm","fault":"hang_after","rate":0.1}]: %w`, err)
	}
	return rules, nil
}

func (s *Server) addFault(w http.ResponseWriter, r *http.Request) {
	var rule Rule
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&rule); err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "the body is not a rule in JSON: " + err.Error()})
		return
	}
	rule, err := s.faults.add(rule)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	writeJSON(w, http.StatusCreated, rule)
}

func (s *Server) listFaults(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string][]Rule{"faults": s.faults.list()})
}

func (s *Server) clearFaults(w http.ResponseWriter, r *http.Request) {
	id := 0
	if given := r.PathValue("id"); given != "" {
		var err error
		if id, err = strconv.Atoi(given); err != nil || id < 1 || !s.faults.clear(id) {
			writeJSON(w, http.StatusNotFound, map[string]string{"error": "there is no fault " + given})
			return
		}
	} else {
		s.faults.clear(0)
	}
	w.WriteHeader(http.StatusNoContent)
}

// refuse answers a request with an error before anything is done, if a rule matches. It reports whether one did. If the client
// gets no answer, it does not return.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, req *request) bool {
	rule := s.faults.strike(onArrival, req)
	if rule == nil {
		return false
	}
	switch rule.Fault {
	case RateLimited:
		s.send(w, req, (&apiError{status: 429, errorObject: errorObject{Type: "invalid_request_error", Code: "rate_limit", Message: "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits."}}).answer())
	case Unavailable:
		s.send(w, req, (&apiError{status: 503, errorObject: errorObject{Type: "api_error", Message: "Stripe is temporarily unavailable. Please try again."}}).answer())
	case HangBefore:
		s.hang(r)
	default:
		panic(http.ErrAbortHandler)
	}
	return true
}

// misbehaving does the work with the fault of a rule, if one matches.
func (s *Server) misbehaving(op operation, req *request) outcome {
	rule := s.faults.strike(atWork, req)
	if rule == nil {
		return s.work(op, req)
	}
	broke := outcome{(&apiError{status: 500, errorObject: errorObject{Type: "api_error", Message: "An unknown error occurred."}}).answer(), true}
	switch rule.Fault {
	case ErrorBefore:
		return broke
	case ErrorAfter:
		s.work(op, req)
		return broke
	default: // slow; the work goes on if the client gives up meanwhile
		select {
		case <-time.After(rule.wait()):
		case <-s.running.Done():
		}
		return s.work(op, req)
	}
}

// deliver sends the answer, unless a fault loses it. It waits for events that must be sent first.
func (s *Server) deliver(w http.ResponseWriter, r *http.Request, req *request, a answer) {
	for _, tried := range req.first {
		select {
		case <-tried:
		case <-s.running.Done():
		}
	}
	rule := s.faults.strike(onAnswer, req)
	switch {
	case rule == nil:
		s.send(w, req, a)
	case rule.Fault == HangAfter:
		s.hang(r)
	default:
		panic(http.ErrAbortHandler)
	}
}

// hang gives no answer, until the client gives up.
func (s *Server) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.running.Done():
	}
	panic(http.ErrAbortHandler)
}

// orderOf is the order that a request is about, by the metadata of its intent; "" if it has none.
func (s *Server) orderOf(r *request) string {
	if id := r.params.Get("metadata[orderId]"); id != "" {
		return id
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	for _, id := range []string{r.objectID, r.params.Get("payment_intent")} {
		if intent := s.store.intents[id]; intent != nil {
			return intent.Metadata["orderId"]
		}
	}
	return ""
}
