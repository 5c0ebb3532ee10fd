package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// A client chooses the trace id. It does not decide whether the trace is sampled, and its other trace headers reach no event.
func TestTrace_ClientsCannotForceSamplingOrAddToEvents(t *testing.T) {
	t.Parallel()
	for sampling, flags := range map[string]string{"0": "00", "1": "01"} {
		t.Run("sampling "+sampling, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, stack.Options{Env: map[string]string{"TRACE_SAMPLING": sampling}})
			events := s.stream(t)
			seller := s.signUp(t)
			id := strings.ReplaceAll(uuid.NewString(), "-", "")
			theirs := map[string]string{"00": "01", "01": "00"}[flags]
			r := seller.call(t, client.ListTicket("Traced", 1000).With("traceparent", fmt.Sprintf("00-%s-b7ad6b7169203331-%s", id, theirs)).With("tracestate", "spy="+strings.Repeat("x", 8<<10)).With("baggage", "spy="+strings.Repeat("y", 4<<10)))
			requireStatus(t, 201, r)
			event := "ticket.created:" + decode[client.Ticket](t, r).ID + ":1"
			events.waitFor(t, event)
			for _, e := range events.read() {
				raw := string(e.raw)
				require.NotContains(t, raw, "spy", e.ID)
				require.NotContains(t, raw, "tracestate", e.ID)
				require.NotContains(t, raw, "baggage", e.ID)
				if e.ID == event {
					require.Equal(t, fmt.Sprintf("00-%s-b7ad6b7169203331-%s", id, flags), e.TraceParent)
				}
			}
		})
	}
}
