// Package stripetest is the sandbox for tests, with hooks in front of it where faults can be caused.
package stripetest

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/stripe/sandbox"
	"boxoffice/services/internal/id"
)

// Key is the sandbox's secret key.
const Key = "sk_test_sandbox"

// Server is a sandbox that runs until the test ends.
type Server struct {
	URL     string
	Sandbox *sandbox.Server
	// Before gets each request before the sandbox does; if it returns true, it has answered.
	Before atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	// After gets each response before the client does, and may replace it.
	After atomic.Pointer[func(*http.Request, *httptest.ResponseRecorder)]
	// Requests counts the requests to Stripe's API, and Writes those that may change something.
	Requests, Writes atomic.Int64
}

// New starts a sandbox.
func New(t *testing.T, opts sandbox.Options) *Server {
	t.Helper()
	opts.Log = slog.New(slog.DiscardHandler)
	server, err := sandbox.New(opts)
	require.NoError(t, err)
	s := &Server{Sandbox: server}
	web := httptest.NewServer(s)
	t.Cleanup(func() { web.Close(); _ = server.Close() })
	s.URL = web.URL
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		s.Requests.Add(1)
		if r.Method == http.MethodPost {
			s.Writes.Add(1)
		}
	}
	if before := s.Before.Load(); before != nil && (*before)(w, r) {
		return
	}
	after := s.After.Load()
	if after == nil {
		s.Sandbox.ServeHTTP(w, r)
		return
	}
	response := httptest.NewRecorder()
	s.Sandbox.ServeHTTP(response, r)
	(*after)(r, response)
	for name, values := range response.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(response.Code)
	_, _ = io.Copy(w, response.Body)
}

// SetAway begins or ends an outage, in which every request is answered 503 without doing anything.
func (s *Server) SetAway(away bool) {
	if !away {
		s.Before.Store(nil)
		return
	}
	refuse := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	s.Before.Store(&refuse)
}

// Ledger is the money of all intents.
func (s *Server) Ledger(t *testing.T) sandbox.Ledger { return s.ledger(t, "") }

// Money is what the ledger has of an order's intents.
func (s *Server) Money(t *testing.T, orderID id.Order) []sandbox.LedgerEntry {
	t.Helper()
	return s.ledger(t, "?orderId="+url.QueryEscape(string(orderID))).Intents
}

func (s *Server) ledger(t *testing.T, query string) (ledger sandbox.Ledger) {
	t.Helper()
	s.read(t, "/sandbox/ledger"+query, &ledger)
	return ledger
}

// Calls counts the requests that the sandbox has had.
func (s *Server) Calls(t *testing.T) (calls sandbox.Calls) {
	t.Helper()
	s.read(t, "/sandbox/calls", &calls)
	return calls
}

func (s *Server) read(t *testing.T, path string, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(s.request(t, "GET", path, "", 200), into))
}

// Intent is the JSON of an intent as it is now; nil if there is none.
func (s *Server) Intent(stripeID string) []byte {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/v1/payment_intents/"+stripeID, nil)
	r.Header.Set("Authorization", "Bearer "+Key)
	s.Sandbox.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return nil
	}
	return w.Body.Bytes()
}

// CreateByHand makes an intent as an operator or another system does, and confirms it if there is a card. The id is returned.
func (s *Server) CreateByHand(t *testing.T, orderID id.Order, metadata map[string]string, card string) (stripeID string) {
	t.Helper()
	form := url.Values{"amount": {"2500"}, "currency": {"usd"}, "capture_method": {"manual"}, "payment_method_types[0]": {"card"}, "metadata[orderId]": {string(orderID)}}
	for name, value := range metadata {
		form.Set("metadata["+name+"]", value)
	}
	if card != "" {
		form.Set("confirm", "true")
		form.Set("payment_method", card)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/v1/payment_intents", strings.NewReader(form.Encode()))
	r.Header.Set("Authorization", "Bearer "+Key)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.Sandbox.ServeHTTP(w, r)
	var made struct {
		ID    string `json:"id"`
		Error struct {
			Intent struct {
				ID string `json:"id"`
			} `json:"payment_intent"`
		} `json:"error"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &made), w.Body.String())
	if made.ID == "" {
		made.ID = made.Error.Intent.ID // declined
	}
	require.NotEmpty(t, made.ID, w.Body.String())
	return made.ID
}

// Authenticate does what the buyer does on the bank's page; outcome is succeed or fail.
func (s *Server) Authenticate(t *testing.T, stripeID, outcome string) {
	t.Helper()
	s.request(t, "POST", "/sandbox/payment_intents/"+stripeID+"/authenticate?outcome="+outcome, "", 200)
}

// Expire lets an authorization lapse.
func (s *Server) Expire(t *testing.T, stripeID string) {
	t.Helper()
	s.request(t, "POST", "/sandbox/payment_intents/"+stripeID+"/expire", "", 200)
}

// Inject adds a rule for a fault.
func (s *Server) Inject(t *testing.T, rule string) {
	t.Helper()
	s.request(t, "POST", "/sandbox/faults", rule, 201)
}

func (s *Server) request(t *testing.T, method, path, body string, status int) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	s.Sandbox.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	require.Equal(t, status, w.Code, w.Body.String())
	return w.Body.Bytes()
}
