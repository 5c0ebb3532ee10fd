package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

// unhealthy is how a sidecar says that it delivers nothing until its app is well again.
const unhealthy = "App entered un-healthy status"

// A sidecar whose app is not well for a while gives up its subscriptions, with events in hand, and takes them up again.
// (With Dapr's own pubsub.redis the service hears nothing after that.)
func TestOutage_ServiceIsDown_ItsEventsAreDeliveredLater(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)

	noticed := func() int { return strings.Count(strings.Join(s.Process("orders-dapr").Log(), "\n"), unhealthy) }
	before := noticed()
	s.kill(t, "orders")
	var last client.Ticket
	for range 300 { // more than a sidecar takes in hand
		last = seller.list(t, "Listed while orders could not hear of it", 1000)
	}
	eventually(t, "the sidecar has noticed", func() bool { return noticed() > before })
	s.start(t, "orders")
	s.waitReady(t, "orders")

	events.waitIdle(t)
	projectTicket(t, buyer, last)
	require.Zero(t, events.deadLetterCount(t))
}
