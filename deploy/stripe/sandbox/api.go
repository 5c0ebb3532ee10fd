package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBodyBytes bounds a request; Stripe's parameters are short.
const maxBodyBytes = 1 << 20

// Server is the sandbox as an http.Handler. Make it with New, end it with Close.
type Server struct {
	opts     Options
	log      *slog.Logger
	mux      *http.ServeMux
	store    *store
	faults   *faults
	webhooks *webhooks
	calls    callCounter
	running  context.Context // ends with Close: nothing hangs or waits after that
	stop     context.CancelFunc
	expiring sync.WaitGroup
}

// New opens the state and makes a Server. It starts sending what webhooks an earlier run left.
func New(opts Options) (*Server, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.retryAfter == 0 {
		opts.retryAfter = 500 * time.Millisecond
	}
	store, err := openStore(opts.File)
	if err != nil {
		return nil, err
	}
	s := &Server{opts: opts, log: opts.Log, mux: http.NewServeMux(), store: store, faults: &faults{}}
	s.running, s.stop = context.WithCancel(context.Background())
	for _, rule := range opts.Faults {
		if _, err := s.faults.add(rule); err != nil {
			return nil, errors.Join(fmt.Errorf("fault at start: %w", err), store.close())
		}
	}
	s.webhooks = startWebhooks(opts, store, s.faults)
	s.expiring.Go(s.keepExpiring)
	s.routes()
	return s, nil
}

// Close stops sending webhooks and closes the state file. What was not accepted is sent after the next New.
func (s *Server) Close() error {
	s.stop()
	s.expiring.Wait()
	s.webhooks.stop()
	return s.store.close()
}

// What a publishable key may do, with the intent whose client secret the request has.
const (
	retrievePattern = "GET /v1/payment_intents/{id}"
	confirmPattern  = "POST /v1/payment_intents/{id}/confirm"
)

func (s *Server) routes() {
	for _, call := range []struct {
		pattern   string
		operation string
		do        operation
	}{
		{"POST /v1/payment_intents", opCreate, s.createIntent},
		{"GET /v1/payment_intents", opRetrieve, s.listIntents},
		{retrievePattern, opRetrieve, s.retrieveIntent},
		{confirmPattern, opConfirm, s.confirmIntent},
		{"POST /v1/payment_intents/{id}/capture", opCapture, s.captureIntent},
		{"POST /v1/payment_intents/{id}/cancel", opCancel, s.cancelIntent},
		{"POST /v1/payment_methods", opMethod, s.createMethod},
		{"GET /v1/payment_methods/{id}", opRetrieve, s.retrieveMethod},
		{"POST /v1/refunds", opRefund, s.createRefund},
		{"GET /v1/refunds", opRetrieve, s.listRefunds},
		{"GET /v1/refunds/{id}", opRetrieve, s.retrieveRefund},
		{"GET /v1/charges", opRetrieve, s.listCharges},
		{"GET /v1/charges/{id}", opRetrieve, s.retrieveCharge},
		{"GET /v1/disputes", opRetrieve, s.listDisputes},
		{"GET /v1/disputes/{id}", opRetrieve, s.retrieveDispute},
		{"POST /v1/disputes/{id}/close", opDispute, s.closeDispute},
		{"GET /v1/events", opRetrieve, s.listEvents},
		{"GET /v1/events/{id}", opRetrieve, s.retrieveEvent},
	} {
		s.mux.HandleFunc(call.pattern, s.serve(call.operation, call.do))
	}
	s.mux.HandleFunc("/v1/", s.serve("", func(r *request) (any, *apiError) {
		return nil, &apiError{status: 404, errorObject: errorObject{Type: "invalid_request_error",
			Message: "Unrecognized request URL (" + r.method + ": " + r.path + "). The sandbox knows only the calls that the box office makes."}}
	}))
	s.mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s.mux.HandleFunc("GET /3d_secure/{id}/{token}", s.showChallenge)
	s.mux.HandleFunc("POST /3d_secure/{id}/{token}", s.answerChallenge)
	s.mux.HandleFunc("POST /sandbox/payment_intents/{id}/authenticate", s.authenticate)
	s.mux.HandleFunc("POST /sandbox/payment_intents/{id}/expire", s.expire)
	s.mux.HandleFunc("POST /sandbox/payment_intents/{id}/dispute", s.openDispute)
	s.mux.HandleFunc("POST /sandbox/disputes/{id}/close", s.endDispute)
	s.mux.HandleFunc("POST /sandbox/refunds/{id}/fail", s.failRefund)
	s.mux.HandleFunc("GET /sandbox/ledger", s.showLedger)
	s.mux.HandleFunc("GET /sandbox/calls", s.calls.show)
	s.mux.HandleFunc("POST /sandbox/faults", s.addFault)
	s.mux.HandleFunc("GET /sandbox/faults", s.listFaults)
	s.mux.HandleFunc("DELETE /sandbox/faults", s.clearFaults)
	s.mux.HandleFunc("DELETE /sandbox/faults/{id}", s.clearFaults)
	s.mux.HandleFunc("GET /sandbox/healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.calls.count(r)
	s.mux.ServeHTTP(w, r)
}

// request is a call to the Stripe API after authentication and parsing.
type request struct {
	id             string
	method         string
	path           string
	operation      string // the name by which faults know the call
	objectID       string // the {id} of the path
	host           string // by which the client has called
	orderID        string // of the intent it is about; "" if there is none
	idempotencyKey string
	params         params
	publishable    bool // it comes with a publishable key, as from a buyer's browser
	now            time.Time
	// first are events that must have been sent before the answer goes out: each is closed after its first try.
	first []<-chan struct{}
}

// does reports whether the request is an operation; every request is anyOperation.
func (r *request) does(operation string) bool {
	return operation == anyOperation || operation == r.operation ||
		operation == opConfirm && r.operation == opCreate && r.params.Get("confirm") == "true"
}

// operation does one call. It runs with the store locked and answers with an object to be sent, or an error.
type operation func(*request) (any, *apiError)

// answer is what is sent, and what an idempotency key remembers.
type answer struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

// serve is the way of every Stripe call: authenticate, parse, check the idempotency key, do the work,
// remember the answer, send it. Work and sending are apart, so that something can go wrong between them; what does
// is in faults.go.
func (s *Server) serve(name string, op operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req := &request{
			id: newID("req_"), method: r.Method, path: r.URL.Path, operation: name, objectID: r.PathValue("id"), host: r.Host,
			idempotencyKey: r.Header.Get("Idempotency-Key"), now: time.Now(),
		}
		w.Header().Set("Request-Id", req.id)
		w.Header().Set("Stripe-Version", apiVersion)

		var err *apiError
		if req.publishable, err = s.authenticated(r); err == nil && req.publishable && r.Pattern != confirmPattern && r.Pattern != retrievePattern {
			err = &apiError{status: 403, errorObject: errorObject{Type: "invalid_request_error", Code: "secret_key_required",
				Message: "This API call cannot be made with a publishable API key. Please use a secret API key. You can find a list of your API keys at https://dashboard.stripe.com/account/apikeys."}}
		}
		if err != nil {
			s.send(w, req, err.answer())
			return
		}
		if req.params, err = parseParams(w, r); err != nil {
			s.send(w, req, err.answer())
			return
		}
		req.orderID = s.orderOf(req)
		if s.refuse(w, r, req) {
			return
		}
		if r.Method != http.MethodPost || req.idempotencyKey == "" {
			s.deliver(w, r, req, s.misbehaving(op, req).answer)
			return
		}

		w.Header().Set("Idempotency-Key", req.idempotencyKey)
		earlier, err := s.store.beginKey(req.idempotencyKey, req.fingerprint(), req.now)
		switch {
		case err != nil:
			s.send(w, req, err.answer())
		case earlier != nil:
			w.Header().Set("Idempotent-Replayed", "true")
			s.deliver(w, r, req, *earlier)
		default:
			done := s.misbehaving(op, req)
			s.store.endKey(req.idempotencyKey, done)
			s.deliver(w, r, req, done.answer)
		}
	}
}

// outcome is an answer and whether its idempotency key keeps it: Stripe forgets what it refused before it
// began to work.
type outcome struct {
	answer
	kept bool
}

func (s *Server) work(op operation, req *request) outcome {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	object, failure := op(req)
	if failure != nil {
		return outcome{failure.answer(), failure.saved}
	}
	body, err := json.Marshal(object)
	if err != nil {
		return outcome{internalError(err).answer(), true}
	}
	for _, path := range req.params.nested("expand") {
		switch path {
		case "latest_charge":
			body = s.store.expandCharge(body)
		case "data.latest_charge":
			body = s.store.expandCharges(body)
		}
	}
	return outcome{answer{http.StatusOK, body}, true}
}

func (s *Server) send(w http.ResponseWriter, req *request, a answer) {
	s.log.Debug("stripe sandbox", "method", req.method, "path", req.path, "status", a.Status, "request", req.id)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body)
}

// authenticated checks the API key: a Bearer token, or the user name of Basic authentication. Any pk_test_… is a
// publishable key.
func (s *Server) authenticated(r *http.Request) (publishable bool, failure *apiError) {
	header := r.Header.Get("Authorization")
	key, bearer := strings.CutPrefix(header, "Bearer ")
	if !bearer {
		if encoded, basic := strings.CutPrefix(header, "Basic "); basic {
			if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil {
				key, _, _ = strings.Cut(string(decoded), ":")
			}
		} else {
			key = ""
		}
	}
	key = strings.TrimSpace(key)
	if key == "" {
		return false, unauthorized("You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.")
	}
	if strings.HasPrefix(key, "pk_test_") {
		return true, nil
	}
	if s.opts.SecretKey != "" && key != s.opts.SecretKey || s.opts.SecretKey == "" && !strings.HasPrefix(key, "sk_test_") {
		return false, unauthorized("Invalid API Key provided: " + masked(key))
	}
	return false, nil
}

// masked shows enough of a key to recognize it.
func masked(key string) string {
	if len(key) <= 12 {
		return strings.Repeat("*", len(key))
	}
	return key[:8] + strings.Repeat("*", len(key)-12) + key[len(key)-4:]
}

// fingerprint is equal for two requests if the second repeats the first.
func (r *request) fingerprint() string {
	sum := sha256.Sum256([]byte(r.method + " " + r.path + "\n" + r.params.Encode()))
	return hex.EncodeToString(sum[:])
}

// params are a request's parameters in Stripe's form encoding: metadata[orderId]=…, payment_method_types[0]=….
type params struct{ url.Values }

func parseParams(w http.ResponseWriter, r *http.Request) (params, *apiError) {
	if r.Method == http.MethodGet {
		return params{r.URL.Query()}, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		return params{}, invalid("", "", "The request's body could not be read.")
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return params{}, invalid("", "", "Invalid request: the body is not form-encoded.")
	}
	return params{values}, nil
}

// only refuses parameters that are not among the known; names are those before the first bracket.
func (p params) only(known ...string) *apiError {
	for _, name := range slices.Sorted(maps.Keys(p.Values)) {
		top, _, _ := strings.Cut(name, "[")
		if top != "expand" && !slices.Contains(known, top) {
			return invalid(name, "parameter_unknown", "Received unknown parameter: "+name)
		}
	}
	return nil
}

func (p params) has(name string) bool { return p.Get(name) != "" }

// text gives a parameter, or nil if it is absent or empty.
func (p params) text(name string) *string {
	if value := p.Get(name); value != "" {
		return &value
	}
	return nil
}

// integer gives a parameter's number, or otherwise if it is absent.
func (p params) integer(name string, otherwise int64) (int64, *apiError) {
	if !p.has(name) {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(p.Get(name), 10, 64)
	if err != nil {
		return 0, invalid(name, "parameter_invalid_integer", "Invalid integer: "+p.Get(name))
	}
	return n, nil
}

// nested gives what stands in brackets after name: for metadata[a]=1 it is {a: 1}.
func (p params) nested(name string) map[string]string {
	inner := map[string]string{}
	for key, values := range p.Values {
		if rest, ok := strings.CutPrefix(key, name+"["); ok && len(values) > 0 {
			inner[strings.TrimSuffix(rest, "]")] = values[0]
		}
	}
	return inner
}

// apiError is Stripe's error envelope with its HTTP status. saved: an idempotency key remembers it, because
// work had begun.
type apiError struct {
	status int
	saved  bool
	errorObject
}

// errorObject is Stripe's error object, also kept as an intent's last_payment_error.
type errorObject struct {
	Type          string         `json:"type"`
	Code          string         `json:"code,omitempty"`
	DeclineCode   string         `json:"decline_code,omitempty"`
	Message       string         `json:"message"`
	Param         string         `json:"param,omitempty"`
	Charge        string         `json:"charge,omitempty"`
	DocURL        string         `json:"doc_url,omitempty"`
	PaymentIntent *paymentIntent `json:"payment_intent,omitempty"`
	PaymentMethod *paymentMethod `json:"payment_method,omitempty"`
}

func (e *apiError) answer() answer {
	object := e.errorObject
	if object.Code != "" && object.DocURL == "" {
		object.DocURL = "https://stripe.com/docs/error-codes/" + strings.ReplaceAll(object.Code, "_", "-")
	}
	body, err := json.Marshal(map[string]errorObject{"error": object})
	if err != nil {
		body = []byte(`{"error":{"type":"api_error","message":"the error could not be encoded"}}`)
	}
	return answer{e.status, body}
}

// invalid is a request that is not right in itself; nothing was begun.
func invalid(param, code, message string) *apiError {
	return &apiError{status: 400, errorObject: errorObject{Type: "invalid_request_error", Param: param, Code: code, Message: message}}
}

// missing is an object that does not exist: 404 where the path names it, else 400.
func missing(status int, what, id, param string) *apiError {
	return &apiError{status: status, errorObject: errorObject{
		Type: "invalid_request_error", Code: "resource_missing", Param: param, Message: "No such " + what + ": '" + id + "'",
	}}
}

func unauthorized(message string) *apiError {
	return &apiError{status: 401, errorObject: errorObject{Type: "invalid_request_error", Message: message}}
}

func internalError(err error) *apiError {
	return &apiError{status: 500, saved: true, errorObject: errorObject{Type: "api_error", Message: err.Error()}}
}

// list is a page of objects in Stripe's form.
type list struct {
	Object  string `json:"object"`
	Data    []any  `json:"data"`
	HasMore bool   `json:"has_more"`
	URL     string `json:"url"`
}

// page cuts a page out of all objects, which are newest first. The limits and cursors are Stripe's.
func page[T any](r *request, all []T, idOf func(T) string) (any, *apiError) {
	limit, err := r.params.integer("limit", 10)
	if err != nil {
		return nil, err
	}
	if limit < 1 || limit > 100 {
		return nil, invalid("limit", "", "This value must be between 1 and 100 (inclusive).")
	}
	position := func(param string) (int, *apiError) {
		at := slices.IndexFunc(all, func(v T) bool { return idOf(v) == r.params.Get(param) })
		if at < 0 {
			return 0, missing(400, "object", r.params.Get(param), param)
		}
		return at, nil
	}
	backwards := false
	if r.params.has("starting_after") {
		at, err := position("starting_after")
		if err != nil {
			return nil, err
		}
		all = all[at+1:]
	} else if r.params.has("ending_before") {
		at, err := position("ending_before")
		if err != nil {
			return nil, err
		}
		all, backwards = all[:at], true
	}
	more := len(all) > int(limit)
	if more && backwards {
		all = all[len(all)-int(limit):]
	} else if more {
		all = all[:limit]
	}
	out := list{Object: "list", Data: []any{}, HasMore: more, URL: r.path}
	for _, v := range all {
		out.Data = append(out.Data, v)
	}
	return out, nil
}

// createdWithin reads the created filter of a list: created=… or created[gt|gte|lt|lte]=…
func (p params) createdWithin() (func(created int64) bool, *apiError) {
	type bound struct {
		name string
		ok   func(created, limit int64) bool
	}
	var checks []func(int64) bool
	for _, b := range []bound{
		{"created", func(c, l int64) bool { return c == l }},
		{"created[gt]", func(c, l int64) bool { return c > l }},
		{"created[gte]", func(c, l int64) bool { return c >= l }},
		{"created[lt]", func(c, l int64) bool { return c < l }},
		{"created[lte]", func(c, l int64) bool { return c <= l }},
	} {
		if !p.has(b.name) {
			continue
		}
		limit, err := p.integer(b.name, 0)
		if err != nil {
			return nil, err
		}
		checks = append(checks, func(created int64) bool { return b.ok(created, limit) })
	}
	return func(created int64) bool {
		return !slices.ContainsFunc(checks, func(ok func(int64) bool) bool { return !ok(created) })
	}, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

// newID makes an id like Stripe's: a prefix for the kind, and 24 letters and digits.
func newID(prefix string) string {
	return prefix + rand.Text()[:24]
}
