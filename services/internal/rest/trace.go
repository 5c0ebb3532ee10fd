package rest

import (
	"context"
	"crypto/rand"

	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// traced returns a context that carries the request's W3C trace context, for events and, as gRPC metadata, for
// the sidecar; and the trace's id. A request without one begins a trace. It is not marked as sampled: whether
// to record it is for Dapr's configuration to say.
func traced(c *fiber.Ctx) (context.Context, string) {
	sent := propagation.MapCarrier{
		"traceparent": c.Get("traceparent"),
		"tracestate":  c.Get("tracestate"),
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), sent)
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		span = newTrace()
		ctx = trace.ContextWithRemoteSpanContext(context.Background(), span)
	}
	carried := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carried)
	pairs := make([]string, 0, 4)
	for key, value := range carried {
		pairs = append(pairs, key, value)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...), span.TraceID().String()
}

func newTrace() trace.SpanContext {
	var config trace.SpanContextConfig
	_, _ = rand.Read(config.TraceID[:]) // never fails, says crypto/rand
	_, _ = rand.Read(config.SpanID[:])
	return trace.NewSpanContext(config)
}
