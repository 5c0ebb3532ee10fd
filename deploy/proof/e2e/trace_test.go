package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// A client names its trace, and no more: it does not decide whether the trace is recorded, and what it sends for other systems
// reaches no event.
func TestTrace_ClientsNeitherForceSamplingNorWriteIntoEvents(t *testing.T) {
	t.Parallel()
	for sampling, flags := range map[string]string{"0": "00", "1": "01"} {
		t.Run("sampling "+sampling, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, stack.Options{Env: map[string]string{"TRACE_SAMPLING": sampling}})
			stream := h.stream(t)
			seller := h.signUp(t)
			id := strings.ReplaceAll(uuid.NewString(), "-", "")
			theirs := map[string]string{"00": "01", "01": "00"}[flags]
			r := seller.do(t, "POST", "/api/tickets", offer{Title: "Traced", Price: 1000},
				"traceparent", fmt.Sprintf("00-%s-b7ad6b7169203331-%s", id, theirs), "tracestate", "spy="+strings.Repeat("x", 8<<10), "baggage", "spy="+strings.Repeat("y", 4<<10))
			require.Equal(t, 201, r.status, "%s", r.body)
			event := "ticket.created:" + as[ticket](t, r).ID + ":1"
			stream.holds(t, event)
			for _, told := range stream.read() {
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
