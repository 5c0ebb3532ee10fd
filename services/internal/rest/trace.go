package rest

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"

	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// tracing is what is done with the W3C trace context of requests.
type tracing struct {
	// edge says that anybody can call: then the trace's id is kept, for correlation, but whether the trace is recorded is
	// decided here. sampled is the share of requests that are.
	edge    bool
	sampled float64
}

// traced returns a context that carries the request's trace, for events and, as gRPC metadata, for the sidecar; and the
// trace's id. A request without one begins a trace, which is not marked as sampled. Tracestate and baggage are for others'
// systems: nobody here reads them, and they are not passed on.
func (t tracing) traced(c *fiber.Ctx) (context.Context, string) {
	sent := propagation.MapCarrier{"traceparent": c.Get("traceparent")}
	span := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), sent))
	if !span.IsValid() {
		span = newTrace()
	}
	if t.edge {
		flags := trace.TraceFlags(0).WithSampled(t.sampled > 0 && mathrand.Float64() < t.sampled)
		span = trace.NewSpanContext(trace.SpanContextConfig{TraceID: span.TraceID(), SpanID: span.SpanID(), TraceFlags: flags})
	}
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), span)
	carried := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carried)
	return metadata.AppendToOutgoingContext(ctx, "traceparent", carried["traceparent"]), span.TraceID().String()
}

func newTrace() trace.SpanContext {
	var config trace.SpanContextConfig
	_, _ = rand.Read(config.TraceID[:]) // never fails, says crypto/rand
	_, _ = rand.Read(config.SpanID[:])
	return trace.NewSpanContext(config)
}
