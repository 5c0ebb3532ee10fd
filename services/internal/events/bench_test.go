package events

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"boxoffice/services/internal/clock"
)

// A full bulk of orders, as the sidecar delivers it.
func BenchmarkRouter(b *testing.B) {
	r := newTestRouter()
	On(r, func(context.Context, OrderCreated) error { return nil })
	mux := chi.NewRouter()
	r.Mount(mux)
	order := OrderCreated{Order{
		ID: "01a21882-a555-7af2-a2e4-884e699063ad", UserID: "01a21882-a555-7af2-a2e4-884e699063ad", Status: "created", ExpiresAt: clock.Stamp(time.Now()),
		Ticket:   OrderedTicket{ID: "01a21882-a555-7af2-a2e4-884e699063ad", Title: "Row 3, seat 7", Price: 4200, Currency: "usd"},
		Sequence: 1, Version: 1, CreatedAt: clock.Stamp(time.Now()), UpdatedAt: clock.Stamp(time.Now()),
	}}
	event, _ := New(traced(), order)
	body, _ := json.Marshal(event)
	entry := `{"entryId":"1","event":"` + base64.StdEncoding.EncodeToString(body) + `","metadata":{"Topic":"events.orders"},"contentType":"application/octet-stream"}`
	text := `{"topic":"events.orders","entries":[` + strings.Repeat(entry+",", 63) + entry + `]}`
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(text)))
	}
}
