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

// A client names its trace, and no more: it does not decide whether the trace is recorded, and what it sends for other systems
// reaches no event.
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
			for _, told := range events.read() {
				raw := string(told.raw)
				require.NotContains(t, raw, "spy", told.ID)
				require.NotContains(t, raw, "tracestate", told.ID)
				require.NotContains(t, raw, "baggage", told.ID)
				if told.ID == event {
					require.Equal(t, fmt.Sprintf("00-%s-b7ad6b7169203331-%s", id, flags), told.TraceParent)
				}
			}
		})
	}
}
