package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func traced() context.Context {
	return propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": parent})
}

func someOrder() OrderCreated {
	return OrderCreated{Order{ID: "o1", UserID: "u1", Status: "created", Version: 1, Sequence: 3, ExpiresAt: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}}
}

func TestNew_IsACloudEventThatNamesItself(t *testing.T) {
	event, err := New(traced(), someOrder())
	require.NoError(t, err)
	require.Equal(t, "order.created:o1:1", event.ID)
	require.Equal(t, "1.0", event.SpecVersion)
	require.Equal(t, "order.created", event.Type)
	require.Equal(t, "o1", event.Subject)
	require.Equal(t, "urn:boxoffice:order.created:1", event.DataSchema)
	require.Equal(t, parent, event.TraceParent)

	again, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	require.Equal(t, event.ID, again.ID, "the same thing told twice is the same event")

	var data map[string]any
	require.NoError(t, json.Unmarshal(event.Data, &data))
	require.Equal(t, "o1", data["id"], "the payload is flat")
	require.EqualValues(t, 3, data["sequence"])
}

// deliver posts body to the router as the sidecar does and returns its answer.
func deliver(t *testing.T, r *Router, path, body string) string {
	t.Helper()
	mux := chi.NewRouter()
	r.Mount(mux)
	response := httptest.NewRecorder()
	mux.ServeHTTP(response, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	require.Equal(t, http.StatusOK, response.Code)
	var answer struct{ Status string }
	require.NoError(t, json.Unmarshal(response.Body.Bytes(), &answer))
	return answer.Status
}

func newTestRouter() *Router {
	return NewRouter(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

func encoded(t *testing.T, event Event) string {
	t.Helper()
	body, err := json.Marshal(event)
	require.NoError(t, err)
	return string(body)
}

func TestRouter_DecodesAndCallsWithTheTrace(t *testing.T) {
	r := newTestRouter()
	var heard OrderCreated
	var heardTrace string
	On(r, func(ctx context.Context, e OrderCreated) error {
		heard = e
		heardTrace = trace.SpanContextFromContext(ctx).TraceID().String()
		return nil
	})
	event, err := New(traced(), someOrder())
	require.NoError(t, err)
	require.Equal(t, "SUCCESS", deliver(t, r, "/events/order.created", encoded(t, event)))
	require.Equal(t, someOrder(), heard)
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", heardTrace)
}

func TestRouter_FailureAsksForAnotherDelivery(t *testing.T) {
	r := newTestRouter()
	On(r, func(context.Context, OrderCreated) error { return errors.New("store is away") })
	On(r, func(context.Context, OrderCancelled) error { panic("a bug") })
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	require.Equal(t, "RETRY", deliver(t, r, "/events/order.created", encoded(t, event)))
	cancelled, err := New(context.Background(), OrderCancelled(someOrder()))
	require.NoError(t, err)
	require.Equal(t, "RETRY", deliver(t, r, "/events/order.cancelled", encoded(t, cancelled)))
}

func TestRouter_RefusalGoesToTheDeadLetters(t *testing.T) {
	r := newTestRouter()
	On(r, func(context.Context, OrderCreated) error { return fmt.Errorf("%w: of something unknown", ErrRefused) })
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	require.Equal(t, "DROP", deliver(t, r, "/events/order.created", encoded(t, event)))
}

func TestRouter_WhatCannotBeDecodedIsDropped(t *testing.T) {
	r := newTestRouter()
	On(r, func(context.Context, OrderCreated) error { t.Error("called"); return nil })
	event, err := New(context.Background(), someOrder())
	require.NoError(t, err)
	change := func(edit func(*Event)) string {
		copied := event
		edit(&copied)
		return encoded(t, copied)
	}
	for name, body := range map[string]string{
		"no JSON":              `{"type":`,
		"no data":              change(func(e *Event) { e.Data = nil }),
		"data of another sort": change(func(e *Event) { e.Data = []byte(`"text"`) }),
		"wrong type of member": change(func(e *Event) { e.Data = []byte(`{"id":"o1","version":"one"}`) }),
		"no aggregate":         change(func(e *Event) { e.Data = []byte(`{"version":1}`) }),
		"no version":           change(func(e *Event) { e.Data = []byte(`{"id":"o1"}`) }),
		"of another type":      change(func(e *Event) { e.Type = "order.cancelled" }),
		"of a later schema":    change(func(e *Event) { e.DataSchema = "urn:boxoffice:order.created:2" }),
		"too long":             `{"pad":"` + strings.Repeat("x", maxEventBytes) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "DROP", deliver(t, r, "/events/order.created", body))
		})
	}
}

func TestRouter_AcceptsWhatNobodyWants(t *testing.T) {
	require.Equal(t, "SUCCESS", deliver(t, newTestRouter(), "/events/ignored", `{"type":"user.created"}`))
}
