package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/client"
)

// The service webhooks sends to users' own servers what happens to their tickets and orders. The service is a program of Node: without
// Node these tests are skipped.

// arrivalLimit is how long an event may take to its endpoint after everything runs again.
const arrivalLimit = time.Minute

// withWebhooks is a stack with the service webhooks.
func withWebhooks(t *testing.T, opts stack.Options) *testStack {
	t.Helper()
	stacktest.SkipIfShort(t)
	stacktest.RequireNode(t)
	opts.Without = []string{}
	return newStack(t, opts)
}

// everyEvent are the types that an endpoint may ask for.
var everyEvent = []string{"ticket.created", "ticket.updated", "ticket.deleted", "order.created", "order.completed", "order.updated", "order.cancelled"}

// receiver is a user's own server. Each endpoint has a path of its own.
type receiver struct {
	*httptest.Server
	// respond chooses the status of a response; nil: 200. It may wait.
	respond func(m message) int

	mu       sync.Mutex
	messages map[string][]message // by path
}

// message is one request to an endpoint, as it came.
type message struct {
	id, timestamp, signature string
	attempt                  int // of this id, from 1
	header                   http.Header
	body                     []byte
	content                  struct {
		Type      string         `json:"type"`
		Timestamp time.Time      `json:"timestamp"`
		Role      string         `json:"role"`
		Data      map[string]any `json:"data"`
	}
}

func startReceiver(t *testing.T, respond func(m message) int) *receiver {
	t.Helper()
	r := &receiver{respond: respond, messages: map[string][]message{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // the sender has ended, and sends it again
	}
	m := message{
		id: request.Header.Get("webhook-id"), timestamp: request.Header.Get("webhook-timestamp"), signature: request.Header.Get("webhook-signature"),
		header: request.Header, body: body, attempt: 1,
	}
	_ = json.Unmarshal(body, &m.content) // the tests require its members
	r.mu.Lock()
	for _, earlier := range r.messages[request.URL.Path] {
		if earlier.id == m.id {
			m.attempt++
		}
	}
	r.messages[request.URL.Path] = append(r.messages[request.URL.Path], m)
	r.mu.Unlock()
	status := http.StatusOK
	if r.respond != nil {
		status = r.respond(m)
	}
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "attempt %d", m.attempt)
}

// of are the messages that came to a path.
func (r *receiver) of(path string) []message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages[path])
}

// endpoint is a webhook of a user at a receiver.
type endpoint struct {
	client.Webhook
	user     *testUser
	receiver *receiver
	path     string
}

// createEndpoint makes a webhook for these types, or for all.
func (u *testUser) createEndpoint(t testing.TB, r *receiver, types ...string) *endpoint {
	t.Helper()
	if len(types) == 0 {
		types = everyEvent
	}
	path := "/" + u.ID
	response := u.call(t, client.CreateWebhook(r.URL+path, types...))
	requireStatus(t, 201, response)
	e := &endpoint{decode[client.Webhook](t, response), u, r, path}
	require.Equal(t, "enabled", e.Status)
	require.True(t, strings.HasPrefix(e.Secret, "whsec_"), "a secret as Standard Webhooks writes it")
	return e
}

// messages are those that came to the endpoint. Each must be whole and signed.
func (e *endpoint) messages(t testing.TB) []message {
	t.Helper()
	all := e.receiver.of(e.path)
	for _, m := range all {
		require.True(t, signedWith(m, e.Secret), "the signature %q of %s", m.signature, m.id)
		require.Equal(t, "application/json", strings.TrimSpace(strings.Split(m.header.Get("Content-Type"), ";")[0]))
	}
	return all
}

// about are the types of the messages about an aggregate, each once, with the role.
func (e *endpoint) about(t testing.TB, id string) []string {
	t.Helper()
	found := map[string]bool{}
	for _, m := range e.messages(t) {
		if m.content.Data["id"] == id {
			found[m.content.Role+" "+m.content.Type] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// waitFor waits until all of these aggregates have caused a message of the type.
func (e *endpoint) waitFor(t testing.TB, eventType string, ids []string) {
	t.Helper()
	var missing []string
	arrived := waitUntil(arrivalLimit, func() bool {
		found := map[string]bool{}
		for _, m := range e.receiver.of(e.path) {
			if id, _ := m.content.Data["id"].(string); m.content.Type == eventType {
				found[id] = true
			}
		}
		missing = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return found[id] })
		return len(missing) == 0
	})
	require.True(t, arrived, "%d of %d did not arrive within %s: %v", len(missing), len(ids), arrivalLimit, missing[:min(3, len(missing))])
	e.messages(t)
}

// signedWith reports whether one of a message's signatures is of this secret, as Standard Webhooks defines it.
func signedWith(m message, secret string) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	seconds, err := strconv.ParseInt(m.timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", m.id, m.timestamp, m.body)
	for _, part := range strings.Fields(m.signature) {
		version, encoded, _ := strings.Cut(part, ",")
		if sum, err := base64.StdEncoding.DecodeString(encoded); version == "v1" && err == nil && hmac.Equal(sum, mac.Sum(nil)) {
			return true
		}
	}
	return false
}

func (e *endpoint) deliveries(t testing.TB) []client.Delivery {
	t.Helper()
	r := e.user.call(t, client.ReadDeliveries(e.ID))
	requireStatus(t, 200, r)
	return decode[[]client.Delivery](t, r)
}

// deliveryBecomes waits until a delivery has a status.
func (e *endpoint) deliveryBecomes(t testing.TB, status, id string) (last client.Delivery) {
	t.Helper()
	eventuallyEqual(t, status, "the status of the delivery "+id, func() string {
		for _, d := range e.deliveries(t) {
			if d.ID == id {
				last = d
			}
		}
		return last.Status
	})
	return last
}

func TestWebhooks_EachUserGetsWhatHappensToOwnTicketsAndOrders(t *testing.T) {
	t.Parallel()
	s := withWebhooks(t, stack.Options{})
	r := startReceiver(t, nil)
	sellerUser, buyerUser, strangerUser := s.signUp(t), s.signUp(t), s.signUp(t)
	seller, buyer, stranger := sellerUser.createEndpoint(t, r), buyerUser.createEndpoint(t, r), strangerUser.createEndpoint(t, r)
	someTypes := s.signUp(t)

	ticket := sellerUser.list(t, "Front row", 4500)
	order := buyerUser.reserve(t, ticket.ID)
	buyerUser.pay(t, order.ID, goodCard)
	buyerUser.orderBecomes(t, "complete", order.ID)
	withdrawn := sellerUser.list(t, "Last row", 1000)
	requireStatus(t, 204, sellerUser.call(t, client.DeleteTicket(withdrawn.ID)))
	released := buyerUser.reserve(t, sellerUser.list(t, "Released", 1000).ID)
	buyerUser.cancel(t, released.ID)
	show := sellerUser.announce(t, newShow(inDays(30)))
	pass := buyerUser.buyPass(t, sellerUser.listPlace(t, client.Offer{ShowID: show.ID, Price: 1000}).ID)
	requireStatus(t, 200, sellerUser.call(t, client.CheckIn(show.ID, pass.Code)))

	for _, e := range []*endpoint{seller, buyer} {
		role := map[*endpoint]string{seller: "seller", buyer: "buyer"}[e]
		eventually(t, role+": the order", func() bool {
			return slices.Equal(e.about(t, order.ID), []string{role + " order.completed", role + " order.created"}) &&
				slices.Equal(e.about(t, released.ID), []string{role + " order.cancelled", role + " order.created"}) &&
				slices.Equal(e.about(t, pass.OrderID), []string{role + " order.completed", role + " order.created", role + " order.updated"})
		})
	}
	eventually(t, "the seller's tickets", func() bool {
		return slices.Contains(seller.about(t, ticket.ID), "seller ticket.created") && slices.Contains(seller.about(t, withdrawn.ID), "seller ticket.deleted")
	})
	require.Empty(t, buyer.about(t, ticket.ID), "the ticket is the seller's")
	for _, m := range seller.messages(t) {
		if strings.HasPrefix(m.content.Type, "order.") {
			require.NotContains(t, m.content.Data, "userId", "a seller does not see who buys")
		}
		require.NotContains(t, string(m.body), buyerUser.ID)
		require.Regexp(t, `"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`, string(m.body))
	}
	for _, m := range seller.messages(t) {
		if m.content.Type == "order.updated" {
			require.NotEmpty(t, m.content.Data["usedAt"])
		}
	}
	for _, m := range buyer.messages(t) {
		require.Equal(t, buyerUser.ID, m.content.Data["userId"])
	}

	// What comes to the stranger is what the stranger did.
	own := strangerUser.list(t, "A stranger's", 1000)
	stranger.waitFor(t, "ticket.created", []string{own.ID})
	for _, m := range stranger.messages(t) {
		require.Equal(t, own.ID, m.content.Data["id"])
	}

	// An endpoint of one type gets that type alone.
	one := someTypes.createEndpoint(t, r, "ticket.deleted")
	theirs := someTypes.list(t, "Some types", 1000)
	requireStatus(t, 204, someTypes.call(t, client.DeleteTicket(theirs.ID)))
	one.waitFor(t, "ticket.deleted", []string{theirs.ID})
	require.Equal(t, []string{"seller ticket.deleted"}, one.about(t, theirs.ID))

	// Another user's endpoint does not exist for others.
	for _, request := range []client.Request{
		client.ReadWebhook(seller.ID), client.DeleteWebhook(seller.ID), client.RotateSecret(seller.ID), client.TestWebhook(seller.ID), client.ReadDeliveries(seller.ID),
		client.ChangeWebhook(seller.ID, client.NewWebhook{URL: r.URL, Events: everyEvent}),
	} {
		requireProblem(t, 404, strangerUser.call(t, request), "not_found")
	}
	require.Empty(t, s.deadLetters(t))
}

func TestWebhooks_AFailedAttemptIsRepeatedAndShown(t *testing.T) {
	t.Parallel()
	s := withWebhooks(t, stack.Options{})
	r := startReceiver(t, func(m message) int {
		if m.content.Type == "ticket.created" && m.attempt == 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	user := s.signUp(t)
	e := user.createEndpoint(t, r)

	ticket := user.list(t, "Twice", 1000)
	eventually(t, "the second attempt", func() bool { return len(r.of(e.path)) >= 2 })
	messages := e.messages(t)
	require.Equal(t, messages[0].id, messages[1].id, "repeats have one id")
	delivered := e.deliveryBecomes(t, "delivered", messages[0].id)
	require.Equal(t, "ticket.created", delivered.EventType)
	require.Contains(t, delivered.EventID, ticket.ID)
	require.Equal(t, 2, delivered.Attempts)
	require.Equal(t, 200, delivered.LastAttempt.Status)
	require.Equal(t, "attempt 2", delivered.LastAttempt.Body)

	for _, line := range s.Process("webhooks-dapr").Log() {
		require.NotContains(t, line, "failed to invoke schedule app job", "the job of the second attempt fires")
	}

	// The user may have it sent again, and may try the endpoint.
	requireStatus(t, 202, user.call(t, client.Redeliver(e.ID, delivered.ID)))
	eventually(t, "it is sent again", func() bool { return len(r.of(e.path)) == 3 })
	require.Equal(t, delivered.ID, e.messages(t)[2].id)
	response := user.call(t, client.TestWebhook(e.ID))
	requireStatus(t, 202, response)
	tried := decode[client.Delivery](t, response)
	require.Equal(t, "webhook.test", tried.EventType)
	e.deliveryBecomes(t, "delivered", tried.ID)
}

func TestWebhooks_AReplacedSecretSignsBesideTheNewOne(t *testing.T) {
	t.Parallel()
	s := withWebhooks(t, stack.Options{})
	r := startReceiver(t, nil)
	user := s.signUp(t)
	e := user.createEndpoint(t, r)

	response := user.call(t, client.RotateSecret(e.ID))
	requireStatus(t, 200, response)
	fresh := decode[client.Webhook](t, response).Secret
	require.NotEqual(t, e.Secret, fresh)
	ticket := user.list(t, "Signed twice", 1000)
	e.waitFor(t, "ticket.created", []string{ticket.ID})
	for _, m := range r.of(e.path) {
		require.True(t, signedWith(m, e.Secret) && signedWith(m, fresh), m.signature)
	}
	requireStatus(t, 200, user.call(t, client.ReadWebhook(e.ID)))
	require.NotContains(t, string(user.call(t, client.ReadWebhook(e.ID)).Body), "whsec_", "a secret is shown once")
}

func TestWebhooks_ADisabledOrDeletedEndpointGetsNothing(t *testing.T) {
	t.Parallel()
	s := withWebhooks(t, stack.Options{})
	r := startReceiver(t, nil)
	disabled, deleted, live := s.signUp(t), s.signUp(t), s.signUp(t)
	off, gone, on := disabled.createEndpoint(t, r), deleted.createEndpoint(t, r), live.createEndpoint(t, r)

	response := disabled.call(t, client.ChangeWebhook(off.ID, client.NewWebhook{URL: off.URL, Events: everyEvent, Status: "disabled"}))
	requireStatus(t, 200, response)
	require.Equal(t, "user", decode[client.Webhook](t, response).DisabledReason)
	requireProblem(t, 409, disabled.call(t, client.TestWebhook(off.ID)), "endpoint_disabled")
	requireStatus(t, 204, deleted.call(t, client.DeleteWebhook(gone.ID)))
	requireProblem(t, 404, deleted.call(t, client.ReadWebhook(gone.ID)), "not_found")

	disabled.list(t, "Nobody is notified", 1000)
	deleted.list(t, "Nobody is notified", 1000)
	last := live.list(t, "Somebody is notified", 1000)
	on.waitFor(t, "ticket.created", []string{last.ID}) // events of one topic are handled in turn
	require.Empty(t, r.of(off.path))
	require.Empty(t, r.of(gone.path))

	requireStatus(t, 200, disabled.call(t, client.ChangeWebhook(off.ID, client.NewWebhook{URL: off.URL, Events: everyEvent, Status: "enabled"})))
	again := disabled.list(t, "Enabled again", 1000)
	off.waitFor(t, "ticket.created", []string{again.ID})
}

// The process that remembers a user's endpoints must not send to the one that is gone.
func TestWebhooks_AnEndpointThatReplacesADeletedOneGetsEvents(t *testing.T) {
	t.Parallel()
	s := withWebhooks(t, stack.Options{})
	r := startReceiver(t, nil)
	user := s.signUp(t)

	for range 2 {
		e := user.createEndpoint(t, r)
		e.waitFor(t, "ticket.created", []string{user.list(t, "To each endpoint", 1000).ID})
		requireStatus(t, 204, user.call(t, client.DeleteWebhook(e.ID)))
		r = startReceiver(t, nil)
	}
}

// slowAnswer is how long a receiver takes whose deliveries are interrupted.
const slowAnswer = 200 * time.Millisecond

// interrupt lists tickets of a user with an endpoint, and calls fault at several times while they are delivered. Every event must arrive.
func interrupt(t *testing.T, s *testStack, fault func(round int)) {
	t.Helper()
	r := startReceiver(t, func(message) int { time.Sleep(slowAnswer); return http.StatusOK })
	users := s.signUpMany(t, 4)
	endpoints := make([]*endpoint, len(users))
	listed := make([][]string, len(users))
	for i, user := range users {
		endpoints[i] = user.createEndpoint(t, r)
	}
	for round := range 4 {
		for i, user := range users {
			for n := range 10 {
				listed[i] = append(listed[i], user.list(t, fmt.Sprintf("Ticket %d of round %d", n, round), 1000).ID)
			}
		}
		delivered := map[string]bool{} // each once, however often it was sent
		for _, m := range r.of(endpoints[len(users)-1].path) {
			delivered[m.id] = true
		}
		require.Less(t, len(delivered), len(listed[len(users)-1]), "the fault interrupts deliveries")
		fault(round)
	}
	s.waitReady(t)
	for i, e := range endpoints {
		e.waitFor(t, "ticket.created", listed[i])
	}
	require.Empty(t, s.deadLetters(t))
}

func TestWebhooks_EveryEventArrivesAlthoughProcessesAreKilled(t *testing.T) {
	t.Parallel()
	s := withWebhooks(t, stack.Options{})
	interrupt(t, s, func(round int) {
		killed := []string{"webhooks", "webhooks-dapr"}[round%2]
		s.kill(t, killed)
		s.start(t, killed)
	})
}

func TestWebhooks_OneOfTwoReplicasIsEnough(t *testing.T) {
	t.Parallel()
	s := withWebhooks(t, stack.Options{Replicas: 2})
	interrupt(t, s, func(round int) {
		switch round {
		case 0:
			s.kill(t, "webhooks-2", "webhooks-2-dapr")
		case 3:
			s.start(t, "webhooks-2", "webhooks-2-dapr")
		}
	})
}

// Sales need the broker and the store too, so the tickets are listed before they go down.
func TestWebhooks_EveryEventArrivesAfterAnOutage(t *testing.T) {
	t.Parallel()
	s := withWebhooks(t, withDatabase(t))
	interrupt(t, s, func(round int) {
		server := []string{s.BrokerName(), s.StoreName()}[round%2]
		s.kill(t, server)
		s.start(t, server)
		s.waitReady(t, server)
		eventually(t, "sales continue", func() bool {
			return s.call(t, client.ReadTickets()).Status == 200 && len(s.failedChecks(t, "tickets")) == 0 && len(s.failedChecks(t, "auth")) == 0
		})
	})
}
