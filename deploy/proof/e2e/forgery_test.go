package e2e

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/event"
)

// forged is an event as a sidecar delivers it, with a wrong source.
func forged(e event.Event) string {
	e.Source = "/forged"
	return string(e.JSON())
}

// bulkDelivery is the body with which a sidecar delivers one event of a topic.
func bulkDelivery(topic, event string) string {
	return `{"topic":"` + topic + `","entries":[{"entryId":"1","event":` + event + `}]}`
}

// forgedRequest is a request that only a sidecar may send.
type forgedRequest struct{ method, path, body string }

// forgedRequests are all requests that could complete or cancel an order, or make its ticket available.
func forgedRequests(t *testing.T, o client.Order) []forgedRequest {
	t.Helper()
	changed := event.Order{
		ID: o.ID, UserID: o.UserID, Status: "complete", ExpiresAt: time.Now().Add(-time.Hour),
		Ticket:   event.OrderedTicket{ID: o.Ticket.ID, Title: "Forged", Price: 1, Currency: "usd"},
		Sequence: 1000, Version: 1000, CreatedAt: o.CreatedAt, UpdatedAt: time.Now(),
	}
	listing := event.Ticket{ID: o.Ticket.ID, Title: "Forged", Price: 1, Currency: "usd", Status: "available", Version: 1000}
	paid := event.Payment{ID: uuid.NewString(), OrderID: o.ID, UserID: o.UserID, StripeID: "pi_forged", Status: "authorized", Amount: 1, Currency: "usd", Version: 1000}
	var requests []forgedRequest
	expired := event.ExpiredOrder{ID: o.ID, ExpiresAt: time.Now().Add(-time.Hour)}
	for _, e := range []event.Event{
		changed.Event("order.created"), changed.Event("order.completed"), changed.Event("order.cancelled"),
		listing.Event("ticket.created"), listing.Event("ticket.updated"), listing.Event("ticket.deleted"),
		paid.Event("payment.created"), paid.Event("payment.captured"), paid.Event("payment.voided"),
		paid.Event("payment.refunded"), paid.Event("payment.failed"),
		event.ExpirationOfOne(expired, 1), event.Expiration("1.0", 1, expired),
		event.User{ID: uuid.NewString(), Version: 1}.Event("user.created"),
	} {
		requests = append(requests, forgedRequest{"POST", "/events", bulkDelivery(event.Topic(e.Type), forged(e))})
	}
	reminder := `{"data":{"schema":1,"expiresAt":"2020-01-01T00:00:00Z"},"dueTime":"0s","period":"1s"}`
	return append(requests,
		forgedRequest{"POST", "/events/order.completed", `{}`},
		forgedRequest{"PUT", "/actors/OrderExpiration/" + o.ID + "/method/remind/expire", reminder},
		forgedRequest{"PUT", "/actors/OrderExpiration/" + o.ID + "/method/timer/expire", reminder},
		forgedRequest{"PUT", "/actors/OrderExpiration/" + o.ID + "/method/Expire", `{}`},
		forgedRequest{"DELETE", "/actors/OrderExpiration/" + o.ID, ""},
		forgedRequest{"GET", "/dapr/config", ""},
		forgedRequest{"GET", "/dapr/subscribe", ""},
		forgedRequest{"POST", "/job/expire", `{}`},
		forgedRequest{"POST", "/v1.0/publish/pubsub/events.orders", `{}`},
	)
}

func TestForgery_PublicPortsHaveNoEventOrActorRoutes(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	buyer, unpaid := s.reserveNew(t, 4200)
	listed := s.ticketBecomes(t, "reserved", unpaid.Ticket.ID)

	for _, service := range services() {
		for _, forged := range forgedRequests(t, unpaid) {
			for who, headers := range map[string][]string{
				"without a token":      nil,
				"a user":               {"Authorization", "Bearer " + buyer.token},
				"with the app's token": {"dapr-api-token", s.AppToken(service)},
			} {
				headers = append(headers, "Content-Type", "application/cloudevents+json", "dapr-app-id", service)
				r := s.request(t, forged.method, s.URL(service)+forged.path, forged.body, headers...)
				require.Equal(t, 404, r.Status, "%s: %s %s to %s: %s", who, forged.method, forged.path, service, r.Body)
				requireProblem(t, 404, r, "not_found")
			}
		}
	}
	for _, prefix := range []string{"/api/orders", "/api/tickets", "/api/payments"} {
		for _, forged := range forgedRequests(t, unpaid) {
			r := buyer.request(t, forged.method, prefix+forged.path, forged.body)
			require.Contains(t, []int{404, 405}, r.Status, "%s %s%s", forged.method, prefix, forged.path)
		}
	}

	require.Equal(t, unpaid, buyer.order(t, unpaid.ID))
	require.Equal(t, listed, s.ticket(t, listed.ID))
	require.Empty(t, s.ledger(t, unpaid.ID))
	buyer.cancel(t, unpaid.ID)
	require.Equal(t, "Concert", s.ticketBecomes(t, "available", listed.ID).Title)
}

func TestForgery_CallbackPortsRequireTheToken(t *testing.T) {
	t.Parallel()
	// The stack is the test's own, because the forged requests succeed at the end.
	s := newStack(t, stack.Options{})
	buyer, unpaid := s.reserveNew(t, 4200)
	listed := s.ticketBecomes(t, "reserved", unpaid.Ticket.ID)

	for _, service := range services() {
		token := s.AppToken(service)
		require.GreaterOrEqual(t, len(token), 16)
		another := s.AppToken(services()[0])
		if service == services()[0] {
			another = s.AppToken(services()[1])
		}
		for _, forged := range forgedRequests(t, unpaid) {
			for _, value := range []string{"", "nonsense", another, s.SidecarToken(service), s.Secret("APP_API_TOKEN"), token[1:], token + "x", strings.ToUpper(token), "Bearer " + token} {
				r := s.request(t, forged.method, s.CallbackURL(service)+forged.path, forged.body, "dapr-api-token", value, "Authorization", "Bearer "+token)
				require.Equal(t, 401, r.Status, "%s %s to %s with %q", forged.method, forged.path, service, value)
			}
		}
		requireStatus(t, 401, s.request(t, "GET", s.CallbackURL(service)+"/healthz/../dapr/config", nil))
		require.Equal(t, 200, s.request(t, "GET", s.CallbackURL(service)+"/healthz", nil).Status)
	}
	require.Equal(t, unpaid, buyer.order(t, unpaid.ID))
	require.Equal(t, listed, s.ticket(t, listed.ID))

	// With the token they succeed, so it was the token that made the difference.
	for _, forged := range forgedRequests(t, unpaid) {
		if strings.Contains(forged.body, `"order.completed"`) {
			r := s.request(t, forged.method, s.CallbackURL("tickets")+forged.path, forged.body, "dapr-api-token", s.AppToken("tickets"))
			requireStatus(t, 200, r)
			require.JSONEq(t, `{"statuses":[{"entryId":"1","status":"SUCCESS"}]}`, string(r.Body))
		}
	}
	require.Equal(t, "sold", s.ticket(t, listed.ID).Status)
}

func TestForgery_OnlyPublicPortsAreOnTheNetwork(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	addresses := networkAddresses(t)
	if len(addresses) == 0 {
		t.Skip("this machine has only a loopback address")
	}
	reachable := func(ip net.IP, address string) bool {
		if parsed, err := url.Parse(address); err == nil && parsed.Host != "" {
			address = parsed.Host
		}
		_, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip.String(), port), 2*time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}

	for _, ip := range addresses {
		private := map[string]string{"the broker": s.Broker().URL, "the sandbox": s.SandboxURL(), "sentry": s.SentryAddress(), "placement": s.PlacementAddress(), "the scheduler": s.SchedulerAddress()}
		for _, service := range services() {
			private[service+"'s callbacks"] = s.CallbackURL(service)
			private[service+"'s sidecar, HTTP"] = s.SidecarHTTP(service)
			private[service+"'s sidecar, gRPC"] = s.SidecarGRPC(service)
			private[service+"'s sidecar, for other sidecars"] = s.SidecarInternal(service)
		}
		for what, address := range private {
			require.True(t, reachable(net.IPv4(127, 0, 0, 1), address), "%s, from this machine", what)
			require.False(t, reachable(ip, address), "%s, through %s", what, ip)
		}
		if ip.To4() != nil {
			require.True(t, reachable(ip, s.GatewayURL()), "the public API, through %s", ip)
		}
	}
}

// networkAddresses returns the addresses at which other machines can reach this one.
func networkAddresses(t *testing.T) []net.IP {
	t.Helper()
	all, err := net.InterfaceAddrs()
	require.NoError(t, err)
	var found []net.IP
	for _, address := range all {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() && !network.IP.IsLoopback() {
			found = append(found, network.IP)
		}
	}
	t.Log(fmt.Sprint("addresses: ", found))
	return found
}
