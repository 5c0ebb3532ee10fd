package sandbox

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever is sent to the sandbox as a form, it answers as Stripe does: with an object, or with an error that names
// whose fault it is; never that something broke.
func FuzzParams(f *testing.F) {
	for _, body := range []string{
		"amount=2500&currency=usd&capture_method=manual&payment_method_types[0]=card&metadata[orderId]=order-1",
		"amount=2500&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true",
		"amount=-1&currency=usd", "amount=99999999999999999999&currency=usd", "amount=2500&currency=", "amount=%zz", "metadata[=1&metadata]=2&metadata[][]=3",
		"expand[]=latest_charge&expand[0]=latest_charge", "payment_intent=pi_1&amount=1&reason=requested_by_customer", "type=card&card[token]=tok_visa",
		"limit=0", "limit=101", "created[gte]=x&starting_after=pi_1", "", "=", "&&", "a=1;b=2", "\xff=\x00",
	} {
		for path := range 5 {
			f.Add([]byte(body), uint8(path), "key-1")
		}
	}
	server, err := New(Options{File: filepath.Join(f.TempDir(), "sandbox.jsonl"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(f, err)
	f.Cleanup(func() { _ = server.Close() })
	do := func(t *testing.T, method, path, key string, body []byte) (int, map[string]any) {
		r := httptest.NewRequest(method, "/", bytes.NewReader(body))
		r.URL.Path = path
		if method == http.MethodGet {
			r.URL.RawQuery = string(body)
		}
		r.Header.Set("Authorization", "Bearer sk_test_sandbox")
		r.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		var answer map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), "%s", w.Body.String())
		return w.Code, answer
	}
	f.Fuzz(func(t *testing.T, body []byte, to uint8, key string) {
		calls := [][2]string{
			{"POST", "/v1/payment_intents"}, {"POST", "/v1/payment_methods"}, {"POST", "/v1/refunds"},
			{"GET", "/v1/payment_intents"}, {"GET", "/v1/refunds"},
		}
		call := calls[int(to)%len(calls)]
		status, answer := do(t, call[0], call[1], "", body)
		require.Less(t, status, 500, "%v", answer)
		if status != 200 {
			problem, ok := answer["error"].(map[string]any)
			require.True(t, ok, "%v", answer)
			require.NotEmpty(t, problem["type"])
			return
		}
		require.NotEmpty(t, answer["object"])
		if call[0] == "POST" && key != "" {
			_, first := do(t, call[0], call[1], key, body)
			_, second := do(t, call[0], call[1], key, body)
			require.Equal(t, first, second, "under one key the work is done once")
		}
	})
}
