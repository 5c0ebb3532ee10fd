package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// unhealthy is how a sidecar says that it delivers nothing until its app is well again.
const unhealthy = "App entered un-healthy status"

// A sidecar whose app is not well for a while gives up its subscriptions, with events in hand, and takes them up again.
// (With Dapr's own pubsub.redis the service hears nothing after that.)
func TestOutage_ServiceGoneForLong_ItsEventsComeAfter(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, nil)
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)

	noticed := func() int { return strings.Count(strings.Join(h.Process("orders-dapr").Log(), "\n"), unhealthy) }
	before := noticed()
	require.NoError(t, h.Process("orders").Kill())
	var last ticket
	for range 300 { // more than a sidecar takes in hand
		last = seller.list(t, "Listed while orders could not hear of it", 1000)
	}
	eventually(t, "the sidecar has noticed", func() bool { return noticed() > before })
	require.NoError(t, h.Process("orders").Start())
	require.NoError(t, h.WaitReady(t.Context(), "orders"))

	events.settled(t)
	known(t, buyer, last)
	require.Zero(t, events.dead(t))
}
