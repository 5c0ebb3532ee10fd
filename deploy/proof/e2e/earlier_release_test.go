package e2e

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/stripe/sandbox"
)

// requireUpgrade is the variable that makes the upgrade tests fail, rather than skip, without the earlier release.
const requireUpgrade = "CI_REQUIRE_UPGRADE"

// earlierRelease returns the folder of the earlier release: its sources, components and programs with Dapr's runtime. The Makefile names its
// commit and builds it from the history (make build-before).
func earlierRelease(t *testing.T) string {
	t.Helper()
	stacktest.SkipIfShort(t)
	folder := filepath.Join(root(t), ".build", "release-before")
	if _, err := os.Stat(filepath.Join(folder, "commit")); err != nil {
		require.Empty(t, os.Getenv(requireUpgrade), "%s is set, and the earlier release is not built: %v", requireUpgrade, err)
		t.Skip("the earlier release is not built; `make build-before` builds it, in a clone that has its commit")
	}
	addPublishingScopes(t, folder)
	return folder
}

// addPublishingScopes adds scopes to the earlier release's pub/sub component. It had none, and this release's launcher derives the rights of
// the broker's users from them.
func addPublishingScopes(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, "components", "nats", "pubsub.yaml")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	if strings.Contains(string(text), "publishingScopes") {
		return
	}
	const next = "    - name: durableName\n"
	require.Equal(t, 1, strings.Count(string(text), next))
	var scopes []string
	for _, id := range []string{"auth", "tickets", "orders", "payments", "expiration", "gateway"} {
		scopes = append(scopes, id+"=events,events.dead,$JS.API.STREAM.INFO.*,$JS.API.CONSUMER.>,$JS.ACK.>")
	}
	text = []byte(strings.Replace(string(text), next, "    - name: publishingScopes\n      value: \""+strings.Join(scopes, ";")+"\"\n"+next, 1))
	require.NoError(t, os.WriteFile(path, text, 0o600))
}

// makeEarlierSecrets makes the file of secrets that the earlier release reads, and this release's launcher does not make any more.
func makeEarlierSecrets(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, stack.StateFolder, "secrets.json")
	if _, err := os.Stat(path); err == nil {
		return
	}
	key, err := stack.NewSigningKey()
	require.NoError(t, err)
	text, err := json.Marshal(map[string]string{stack.SigningKeys["auth"]: string(pem.EncodeToMemory(key))})
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, text, 0o600))
}

// earlierData is what the earlier release has stored in a folder.
type earlierData struct {
	release, folder     string
	seller, buyer, late *testUser

	tickets []client.Ticket // 15, in the order of their creation
	listed  []string        // ids of the tickets as the list has them, newest first
	deleted client.Ticket

	sold               client.Payment
	cancelled          client.Order
	unpaid, declined   client.Order
	cancelledUnhandled client.Order // whose order.cancelled is in the journal only

	secure, captured  securePayment  // not authenticated yet; captured will be captured by hand
	unnoticed         securePayment  // authenticated; payments does not know it
	due               client.Payment // authorized, its order complete, not captured
	unpublishedTicket client.Ticket  // whose ticket.created is in the journal only
	paidUnpublished   client.Payment // whose payment.created is in the journal only

	key           string // an Idempotency-Key, with its request and the response
	keyedRequest  client.Request
	keyedResponse client.Response

	expiring, expiringUnhandled client.Order // both expire soon; expiration has not handled the second
	unpublished                 []string     // prefixes of event ids
	storedDeadLetter            string       // the event of a dead letter in the gateway's store
	deadLetter                  string       // the event of a dead letter that is on its topic

	responses []savedResponse
	pages     map[string]string // ids on the second pages of lists, by path
}

// securePayment is an order that is paid with 3-D Secure.
type securePayment struct {
	order client.Order
	begun client.Payment
}

// savedResponse is a response that must stay the same.
type savedResponse struct {
	user *testUser // nil without a token
	path string
	body string
}

// republishTickets runs the command `tickets republish`, with the environment that an operator gives it, and returns what it printed.
func (s *testStack) republishTickets(t testing.TB) string {
	t.Helper()
	address := s.SidecarGRPC("tickets")
	cmd := exec.CommandContext(t.Context(), filepath.Join(root(t), ".build", "tickets"), "republish")
	cmd.Env = append(os.Environ(), "DAPR_GRPC_PORT="+address[strings.LastIndex(address, ":")+1:], "DAPR_API_TOKEN="+s.SidecarToken("tickets"))
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return string(output)
}

// availableTickets reads the tickets that are for sale from the catalogue, the newest first.
func (s *testStack) availableTickets(t testing.TB) (all []client.Ticket) {
	t.Helper()
	for _, page := range readPages(t, s.api, client.ReadAvailable()) {
		all = append(all, decode[[]client.Ticket](t, page)...)
	}
	return all
}

// start starts the earlier release's programs in the folder.
func (d *earlierData) start(t *testing.T, env map[string]string) *testStack {
	t.Helper()
	makeEarlierSecrets(t, d.folder)
	s := newStack(t, stack.Options{Folder: d.folder, RunFile: filepath.Join(d.release, "dapr.yaml"), Env: env})
	for _, u := range []*testUser{d.seller, d.buyer, d.late} {
		if u != nil {
			u.stack = s
		}
	}
	return s
}

// create lets the earlier release work, and ends it in the middle of its work.
func (d *earlierData) create(t *testing.T) {
	t.Helper()
	s := d.start(t, nil)
	d.createTickets(t, s)
	toPay := d.createOrders(t, s)
	d.createDeadLetters(t, s)
	d.saveResponses(t, s)
	require.NoError(t, s.Stop())
	d.breakOff(t, d.start(t, map[string]string{"RESERVATION_WINDOW": "25s"}), toPay)
}

func (d *earlierData) createTickets(t *testing.T, s *testStack) {
	d.seller, d.buyer, d.late = s.signUp(t), s.signUp(t), s.signUp(t)
	for range 15 {
		d.tickets = append(d.tickets, d.seller.list(t, "Listed before", 4200))
	}
	requireStatus(t, 200, d.seller.call(t, client.EditTicket(d.tickets[0].ID, client.Offer{Title: "Edited before", Price: 4300, Version: 1})))
	d.deleted = d.tickets[1]
	requireStatus(t, 204, d.seller.call(t, client.DeleteTicket(d.deleted.ID)))
}

// createOrders creates an order in each state. It returns one that is to be paid when the broker is down.
func (d *earlierData) createOrders(t *testing.T, s *testStack) (toPay client.Order) {
	d.sold = s.sell(t, d.buyer)
	d.buyer.paymentBecomes(t, "captured", d.sold.ID)
	d.cancelled = d.buyer.reserve(t, d.tickets[2].ID)
	d.buyer.cancel(t, d.cancelled.ID)
	d.unpaid, d.cancelledUnhandled = d.buyer.reserve(t, d.tickets[3].ID), d.buyer.reserve(t, d.tickets[4].ID)
	d.declined = d.buyer.reserve(t, d.tickets[5].ID)
	requireStatus(t, 402, d.buyer.call(t, client.Pay(d.declined.ID, declinedCard)))
	d.secure.order, d.secure.begun = s.signUp(t).beginSecurePayment(t, d.tickets[6].ID)
	d.captured.order, d.captured.begun = d.buyer.beginSecurePayment(t, d.tickets[13].ID)
	d.unnoticed.order = d.buyer.reserve(t, d.tickets[7].ID)
	d.unnoticed.begun, _ = s.authorizeUnnoticed(t, d.buyer, d.unnoticed.order.ID)

	due := d.buyer.reserve(t, d.tickets[8].ID)
	always := 1.0
	noCapture := s.addFault(t, due.ID, sandbox.Rule{Operation: "capture", Fault: sandbox.Unavailable, Rate: &always})
	d.due = d.buyer.pay(t, due.ID, goodCard)
	d.buyer.orderBecomes(t, "complete", due.ID)
	eventually(t, "the capture is tried", func() bool { return s.faultHits(t, noCapture) > 0 })

	d.key = uuid.NewString()
	d.keyedRequest = client.Reserve(d.tickets[9].ID).WithKey(d.key)
	d.keyedResponse = d.buyer.call(t, d.keyedRequest)
	requireStatus(t, 201, d.keyedResponse)
	toPay = d.buyer.reserve(t, d.tickets[10].ID)
	for _, o := range []client.Order{d.unpaid, d.cancelledUnhandled, d.declined, d.secure.order, d.captured.order, d.unnoticed.order, toPay} {
		s.ticketBecomes(t, "reserved", o.Ticket.ID)
	}
	s.ticketBecomes(t, "sold", due.Ticket.ID)
	s.ticketBecomes(t, "reserved", d.tickets[9].ID)
	s.ticketBecomes(t, "available", d.cancelled.Ticket.ID)
	return toPay
}

// createDeadLetters creates one dead letter in the gateway's store, where the earlier release kept them, and one on its topic.
func (d *earlierData) createDeadLetters(t *testing.T, s *testStack) {
	events := s.stream(t)
	publish := func() (eventID string) {
		id := uuid.NewString()
		events.publishOn(t, "events", orderOfUnknownTicket(id))
		return "order.created:" + id + ":1"
	}
	d.storedDeadLetter = publish()
	eventually(t, "the earlier release has stored a dead letter", func() bool {
		return strings.Contains(d.listDeadLetters(t, s), d.storedDeadLetter)
	})
	d.deadLetter = publish()
}

// listDeadLetters lets the earlier release's command store the dead letters and list them.
func (d *earlierData) listDeadLetters(t *testing.T, s *testStack) string {
	t.Helper()
	command := exec.Command(filepath.Join(d.release, ".build", "gateway"), "dead-letters", "-json", "list")
	address := s.SidecarGRPC("gateway")
	command.Env = append(os.Environ(), "DAPR_GRPC_PORT="+address[strings.LastIndex(address, ":")+1:], "DAPR_API_TOKEN="+s.SidecarToken("gateway"))
	output, err := command.Output()
	require.NoError(t, err)
	return string(output)
}

// saveResponses saves what the earlier release responds.
func (d *earlierData) saveResponses(t *testing.T, s *testStack) {
	d.listed = idsOf(s.allTickets(t, 5))
	for _, ticket := range []client.Ticket{d.tickets[0], d.tickets[2], d.tickets[14]} {
		path := client.ReadTicket(ticket.ID).Path
		d.responses = append(d.responses, savedResponse{nil, path, string(s.request(t, "GET", path, nil).Body)})
	}
	for _, path := range []string{
		"/api/users/currentuser", "/api/payments/" + d.sold.ID, "/api/orders/" + d.sold.OrderID, "/api/orders/" + d.cancelled.ID,
		"/api/orders/" + d.unpaid.ID, "/api/orders/" + d.declined.ID, "/api/orders/" + d.due.OrderID,
	} {
		d.responses = append(d.responses, savedResponse{d.buyer, path, string(d.buyer.request(t, "GET", path, nil).Body)})
	}
	d.pages = map[string]string{}
	for _, path := range []string{"/api/tickets?limit=9", "/api/orders?limit=4"} {
		next := d.buyer.request(t, "GET", path, nil).Next()
		require.NotEmpty(t, next)
		d.pages[next] = d.idsOn(t, next)
	}
}

// idsOn reads the ids on a page of a list.
func (d *earlierData) idsOn(t *testing.T, path string) string {
	t.Helper()
	r := d.buyer.request(t, "GET", path, nil)
	requireStatus(t, 200, r)
	var ids []string
	for _, one := range decode[[]struct{ ID string }](t, r) {
		ids = append(ids, one.ID)
	}
	return strings.Join(ids, " ")
}

func idsOf(tickets []client.Ticket) []string {
	var ids []string
	for _, ticket := range tickets {
		ids = append(ids, ticket.ID)
	}
	return ids
}

// breakOff kills one process after the other, so that events are not published and not handled.
func (d *earlierData) breakOff(t *testing.T, s *testStack, toPay client.Order) {
	d.expiring = d.late.reserve(t, d.tickets[11].ID)
	s.ticketBecomes(t, "reserved", d.expiring.Ticket.ID)
	s.kill(t, "expiration", "payments")
	d.expiringUnhandled = d.late.reserve(t, d.tickets[12].ID)
	s.ticketBecomes(t, "reserved", d.expiringUnhandled.Ticket.ID)
	s.kill(t, s.BrokerName())
	s.start(t, "payments")
	s.waitReady(t, "payments")

	d.unpublishedTicket = d.seller.list(t, "Listed while the broker is down", 5100)
	d.listed = append([]string{d.unpublishedTicket.ID}, d.listed...)
	d.buyer.cancel(t, d.cancelledUnhandled.ID)
	d.paidUnpublished = d.buyer.pay(t, toPay.ID, goodCard)
	d.unpublished = []string{
		"user.created:" + s.signUp(t).ID + ":1", "ticket.created:" + d.unpublishedTicket.ID + ":1",
		"order.cancelled:" + d.cancelledUnhandled.ID + ":2", "payment.created:" + d.paidUnpublished.ID,
	}
	s.kill(t, "auth", "tickets", "orders", "payments", "gateway")
	require.NoError(t, s.Stop())
}

var shortTime = regexp.MustCompile(`("\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{0,3}))?Z"`)

// withWholeTimes gives each time in a body of the earlier release three digits of a second.
func withWholeTimes(body string) string {
	return shortTime.ReplaceAllStringFunc(body, func(text string) string {
		part := shortTime.FindStringSubmatch(text)
		return part[1] + "." + (part[2] + "000")[:3] + `Z"`
	})
}

// The earlier release stops in the middle of its work, and this release continues with its documents and events.
func TestUpgrade_FromTheEarlierRelease(t *testing.T) {
	t.Parallel()
	if os.Getenv("INFRA") == stack.SetRedis {
		t.Skip("documents are the same on the set nats, and TestUpgrade_EventsOnLegacyTopicsAreHandled covers the topics on Redis")
	}
	d := &earlierData{release: earlierRelease(t), folder: t.TempDir()}
	d.create(t)

	s := newStack(t, stack.Options{Folder: d.folder})
	d.seller.stack, d.buyer.stack, d.late.stack = s, s, s
	events := s.stream(t)

	t.Run("responses are the same", func(t *testing.T) {
		for _, saved := range d.responses {
			r := client.Response{}
			if saved.user == nil {
				r = s.request(t, "GET", saved.path, nil)
			} else {
				r = saved.user.request(t, "GET", saved.path, nil)
			}
			require.JSONEq(t, withWholeTimes(saved.body), string(r.Body), saved.path)
		}
		requireStatus(t, 404, s.call(t, client.ReadTicket(d.deleted.ID)))
		requireStatus(t, 200, s.call(t, client.SignIn(d.buyer.Email, d.buyer.password)))
		requireStatus(t, 409, s.call(t, client.SignUp(d.buyer.Email, "another horse")))
	})
	t.Run("a response under an Idempotency-Key is repeated", func(t *testing.T) {
		// Not through the comparison with the document: the stored response has the earlier release's times.
		direct := client.New(s.GatewayURL(), client.Options{})
		defer direct.Close()
		r, err := direct.As(d.buyer.token).Do(t.Context(), d.keyedRequest)
		require.NoError(t, err)
		requireStatus(t, 201, r)
		require.Equal(t, "true", r.Header.Get("Idempotent-Replayed"))
		require.Equal(t, string(d.keyedResponse.Body), string(r.Body))
	})
	t.Run("lists have old and new entries in order, and old cursors work", func(t *testing.T) {
		for path, want := range d.pages {
			require.Equal(t, want, d.idsOn(t, path), path)
		}
		listed := slices.Clone(d.listed)
		for range 7 {
			listed = append([]string{d.seller.list(t, "Listed after", 900).ID}, listed...)
		}
		for _, limit := range []int{1, 6, 200} {
			require.Equal(t, listed, idsOf(s.allTickets(t, limit)), "limit %d", limit)
		}
	})
	t.Run("the journals of dead processes are published, and their events handled", func(t *testing.T) {
		for _, prefix := range d.unpublished {
			eventuallyWithin(t, time.Minute, prefix+" is published", func() bool {
				return slices.ContainsFunc(events.read(), func(e publishedEvent) bool { return strings.HasPrefix(e.ID, prefix) })
			})
		}
		projectTicket(t, d.late, d.unpublishedTicket)
		s.ticketBecomes(t, "available", d.cancelledUnhandled.Ticket.ID)
		d.buyer.orderBecomes(t, "complete", d.paidUnpublished.OrderID)
		d.buyer.paymentBecomes(t, "captured", d.paidUnpublished.ID)
		s.requireMoney(t, d.paidUnpublished.OrderID, money{charges: 1, kept: 4200})
	})
	t.Run("a capture that was due is made", func(t *testing.T) {
		d.buyer.paymentBecomes(t, "captured", d.due.ID)
		s.requireMoney(t, d.due.OrderID, money{charges: 1, kept: 4200})
	})
	t.Run("orders can be paid, paid after a decline, authenticated and cancelled", func(t *testing.T) {
		for _, o := range []client.Order{d.unpaid, d.declined} {
			paid := d.buyer.payUntilAccepted(t, o.ID, goodCard)
			d.buyer.orderBecomes(t, "complete", o.ID)
			d.buyer.paymentBecomes(t, "captured", paid.ID)
			s.requireMoney(t, o.ID, money{charges: 1, kept: 4200})
		}
		s.authenticate(t, d.secure.begun.StripeID, "succeed")
		s.ticketBecomes(t, "sold", d.secure.order.Ticket.ID)
		s.requireMoney(t, d.secure.order.ID, money{charges: 1, kept: 4200})
		keyed := decode[client.Order](t, d.keyedResponse)
		d.buyer.cancel(t, keyed.ID)
		s.ticketBecomes(t, "available", keyed.Ticket.ID)
	})
	t.Run("money that was captured by hand for a cancelled order is refunded", func(t *testing.T) {
		always := 1.0
		id, stripeID := d.captured.order.ID, d.captured.begun.StripeID
		noWebhooks := s.addFault(t, id, sandbox.Rule{Operation: "*", Fault: sandbox.WebhookDrop, Rate: &always})
		noReads := s.addFault(t, id, sandbox.Rule{Operation: "retrieve", Fault: sandbox.Unavailable, Rate: &always})
		s.authenticate(t, stripeID, "succeed")
		s.captureByHand(t, stripeID)
		d.buyer.cancel(t, id)
		s.removeFault(t, noReads)
		s.removeFault(t, noWebhooks)
		d.buyer.paymentBecomes(t, "refunded", d.captured.begun.ID)
		s.ticketBecomes(t, "available", d.captured.order.Ticket.ID)
	})
	t.Run("money that is held and that payments did not know of is found", func(t *testing.T) {
		d.buyer.orderBecomes(t, "complete", d.unnoticed.order.ID)
		d.buyer.paymentBecomes(t, "captured", d.unnoticed.begun.ID)
	})
	t.Run("a dead letter on its topic is listed and sent again", func(t *testing.T) {
		waiting := s.waitDeadLetter(t, "tickets", d.deadLetter)
		s.requireDeadLettersCommand(t, "send", waiting.ID)
		require.Equal(t, "refused", s.waitDeadLetter(t, "tickets", d.deadLetter+"/again-1@tickets").Code, "there is still no such ticket")
	})
	t.Run("orders expire", func(t *testing.T) {
		for _, o := range []client.Order{d.expiring, d.expiringUnhandled} {
			waitTime(o.ExpiresAt)
			require.Equal(t, "expired", d.late.orderBecomes(t, "cancelled", o.ID).Reason)
			s.ticketBecomes(t, "available", o.Ticket.ID)
		}
	})
	t.Run("the catalogue has all tickets that are for sale, once they are published again", func(t *testing.T) {
		require.Contains(t, s.republishTickets(t), "published the last events of ")
		want := idsOf(slices.DeleteFunc(s.allTickets(t, 200), func(t client.Ticket) bool { return t.Status != "available" }))
		require.NotEmpty(t, want)
		eventually(t, "the catalogue has these tickets", func() bool { return slices.Equal(want, idsOf(s.availableTickets(t))) })
	})
	t.Run("the checker finds no violations", func(t *testing.T) {
		report, err := check.Check(t.Context(), check.TargetOf(s.Stack), check.Options{Settle: 3 * time.Second, AtRest: true})
		require.NoError(t, err)
		// The test itself has made dead letters, and captured money by hand.
		unexpected := slices.DeleteFunc(report.Violations, func(v check.Violation) bool {
			return strings.Contains(v.String(), d.storedDeadLetter) || strings.Contains(v.String(), d.deadLetter) ||
				v.Promise == 3 && v.Aggregate == "order "+d.captured.order.ID
		})
		require.Empty(t, unexpected)
	})
}
