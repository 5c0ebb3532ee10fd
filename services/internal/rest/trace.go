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

// tracing has the rules for the W3C trace context of requests.
type tracing struct {
	// edge is true for an app that the internet can call. It keeps the trace's id, for correlation, and decides itself whether
	// the trace is recorded. sampled is the share of requests that are.
	edge    bool
	sampled float64
}

// traced returns a context with the request's trace, for events and, as gRPC metadata, for the sidecar, and the trace's id. A
// request without a trace begins one, which is not marked as sampled. Tracestate and baggage belong to other systems and are
// not passed on.
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
	_, _ = rand.Read(config.TraceID[:]) // never fails, by its documentation
	_, _ = rand.Read(config.SpanID[:])
	return trace.NewSpanContext(config)
}
