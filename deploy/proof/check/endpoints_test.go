package check

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEndpoints_AnEventThatDidNotArriveIsAViolation(t *testing.T) {
	f := sold()
	endpoints := NewEndpoints()
	endpoints.created["buyer"], endpoints.created["seller"] = time.Time{}, time.Time{}
	published := func(eventType string, version int) event {
		return event{
			ID: eventType + ":id:1", Type: eventType, Subject: "id", Time: time.Now(),
			Data: []byte(`{"id": "id", "version": 1, "userId": "buyer", "sellerId": "seller"}`), at: uint64(len(f.events) + version),
		}
	}
	f.events = []event{published("order.created", 1)}
	broken := func() []string {
		c := newChecker(f, Options{Endpoints: endpoints})
		c.endpointsGetTheirEvents()
		var found []string
		for _, v := range c.found {
			require.Equal(t, 9, v.Promise)
			found = append(found, v.Aggregate+": "+v.What)
		}
		return found
	}
	body := func(eventType, role string) []byte {
		return []byte(`{"type": "` + eventType + `", "role": "` + role + `", "data": {"id": "id", "version": 1}}`)
	}
	require.ElementsMatch(t, []string{
		"user buyer: the event order.created:id:1 did not arrive at the endpoint of the buyer",
		"user seller: the event order.created:id:1 did not arrive at the endpoint of the seller",
	}, broken())
	endpoints.Arrived("seller", body("order.created", "seller"))
	require.Len(t, broken(), 1)
	endpoints.Arrived("buyer", body("order.created", "buyer"))
	endpoints.Arrived("buyer", body("order.created", "buyer"))
	require.Empty(t, broken())
	number, different, all := endpoints.Messages()
	require.Equal(t, []int{2, 2, 3}, []int{number, different, all})

	// A message in another role, to another user, with the buyer's id for the seller, or about nothing.
	for _, wrong := range []struct{ user, body, what string }{
		{"buyer", string(body("order.created", "seller")), "the event order.created:id:1 arrived at the endpoint of a user who is not its seller"},
		{"other", string(body("order.created", "buyer")), "the event order.created:id:1 arrived at the endpoint of a user who is not its buyer"},
		{"seller", `{"type": "order.created", "role": "seller", "data": {"id": "id", "version": 1, "userId": "buyer"}}`, "the event order.created:id:1 shows the buyer to the seller"},
		{"buyer", string(body("order.cancelled", "buyer")), "a message about order.cancelled:id:1 arrived, which nobody published"},
	} {
		before, leaked := maps.Clone(endpoints.arrived), maps.Clone(endpoints.leaked)
		endpoints.Arrived(wrong.user, []byte(wrong.body))
		require.Equal(t, []string{"user " + wrong.user + ": " + wrong.what}, broken())
		endpoints.arrived, endpoints.leaked = before, leaked
	}

	// A message may take a minute from its event, or from the end of faults and load.
	endpoints.Quiet()
	require.Empty(t, broken())
	for _, each := range endpoints.arrived {
		each.first = endpoints.quiet.Add(ArrivalLimit + time.Second)
	}
	require.Len(t, broken(), 2)
	f.events[0].Time = endpoints.quiet.Add(2 * time.Second)
	require.Empty(t, broken())
	endpoints.quiet = time.Time{}

	// A ticket is its seller's, who is the user in its event.
	f.events = []event{published("ticket.updated", 1)}
	clear(endpoints.arrived)
	require.Equal(t, []string{"user buyer: the event ticket.updated:id:1 did not arrive at the endpoint of the seller"}, broken())

	// What was before the endpoint, and what a user without one misses, is no violation.
	endpoints.Created("buyer")
	f.events[0].Time = time.Now().Add(-time.Minute)
	require.Empty(t, broken())
	endpoints.Deleted("buyer")
	f.events[0].Time = time.Now().Add(time.Minute)
	require.Empty(t, broken())
	require.Empty(t, func() []Violation {
		c := newChecker(f, Options{})
		c.endpointsGetTheirEvents()
		return c.found
	}())
}
