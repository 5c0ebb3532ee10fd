package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
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

// requireUpgrade makes a failure of what is skipped without the release before.
const requireUpgrade = "CI_REQUIRE_UPGRADE"

// releaseBefore is the folder of the release before, with its sources, components and programs, Dapr's runtime included.
// The Makefile names its commit, and builds it from the history (make build-before).
func earlierRelease(t *testing.T) string {
	t.Helper()
	stacktest.SkipIfShort(t)
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	folder := filepath.Join(filepath.Dir(runFile), ".build", "release-before")
	if _, err := os.Stat(filepath.Join(folder, "commit")); err != nil {
		require.Empty(t, os.Getenv(requireUpgrade), "%s is set, and the release before is not built: %v", requireUpgrade, err)
		t.Skip("the release before is not built; `make build-before` does it, in a clone that has its commit in the history")
	}
	grantPublishing(t, folder)
	return folder
}

// letItPublish gives the broker's users the rights that the launcher of the release before gave them all. That of this
// release derives them from scopes, which the release before did not have.
func grantPublishing(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, "components", "nats", "pubsub.yaml")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	if strings.Contains(string(text), "publishingScopes") {
		return
	}
	const before = "    - name: durableName\n"
	require.Equal(t, 1, strings.Count(string(text), before))
	var scopes []string
	for _, id := range []string{"auth", "tickets", "orders", "payments", "expiration", "gateway"} {
		scopes = append(scopes, id+"=events,events.dead,$JS.API.STREAM.INFO.*,$JS.API.CONSUMER.>,$JS.ACK.>")
	}
	text = []byte(strings.Replace(string(text), before, "    - name: publishingScopes\n      value: \""+strings.Join(scopes, ";")+"\"\n"+before, 1))
	require.NoError(t, os.WriteFile(path, text, 0o600))
}

// shown is what REST answers for a document.
type savedDocument struct {
	who  *testUser // nil: anybody
	path string
	body string
}

// legacy is what the release before leaves in a folder.
type earlierData struct {
	folder                string
	seller, buyer, late   *testUser
	listed                []string // tickets in the order of the list, newest first
	withdrawn             client.Ticket
	same                  []savedDocument   // answers that must stay as they are
	lists                 map[string]string // where a list goes on that the release before has begun, and what is there
	sold                  client.Payment
	unpaid, toCancel      client.Order // created, nothing paid
	declined              client.Order
	waiting, silent       client.Order // their buyer's bank was asked for; silent's has agreed, and nobody heard of it
	byHand                client.Order // as waiting, of the buyer
	began, beganSilent    client.Payment
	beganByHand           client.Payment
	due                   client.Payment // authorized, its order complete, not captured
	key                   string         // an Idempotency-Key, with its request and its answer
	keyed                 client.NewOrder
	keyedAnswer           client.Response
	letterID, freshLetter string        // the events of dead letters: one taken in, one still on its topic
	pending, unheard      client.Order  // they end soon; the second's event has reached tickets alone
	dark                  client.Ticket // listed while the broker was away
	darkPaid              client.Payment
	darkCancelled         client.Order
	unpublished           []string // events
}

// leave lets the release before do a bit of everything, and ends it as badly as possible.
func (l *earlierData) create(t *testing.T, before string) {
	t.Helper()
	runFile := filepath.Join(before, "dapr.yaml")
	s := newStack(t, stack.Options{Folder: l.folder, RunFile: runFile})
	l.seller, l.buyer, l.late = s.signUp(t), s.signUp(t), s.signUp(t)
	other := s.signUp(t)
	var all []client.Ticket
	for range 15 {
		all = append(all, l.seller.list(t, "Listed before", 4200))
	}
	requireStatus(t, 200, l.seller.call(t, client.EditTicket(all[0].ID, client.Offer{Title: "Edited before", Price: 4300, Version: 1})))
	l.withdrawn = all[1]
	requireStatus(t, 204, l.seller.call(t, client.DeleteTicket(l.withdrawn.ID)))

	l.sold = s.sell(t, l.buyer)
	l.buyer.paymentBecomes(t, "captured", l.sold.ID)
	cancelled := l.buyer.reserve(t, all[2].ID)
	l.buyer.cancel(t, cancelled.ID)
	l.unpaid, l.toCancel = l.buyer.reserve(t, all[3].ID), l.buyer.reserve(t, all[4].ID)
	l.declined = l.buyer.reserve(t, all[5].ID)
	requireStatus(t, 402, l.buyer.call(t, client.Pay(l.declined.ID, declinedCard)))
	l.waiting, l.began = other.beginSecurePayment(t, all[6].ID)
	l.byHand, l.beganByHand = l.buyer.beginSecurePayment(t, all[13].ID)
	l.silent = l.buyer.reserve(t, all[7].ID)
	l.beganSilent, _ = s.authorizeUnnoticed(t, l.buyer, l.silent.ID)

	due := l.buyer.reserve(t, all[8].ID)
	always := 1.0
	away := s.addFault(t, due.ID, sandbox.Rule{Operation: "capture", Fault: sandbox.Unavailable, Rate: &always})
	l.due = l.buyer.pay(t, due.ID, goodCard)
	l.buyer.orderBecomes(t, "complete", due.ID)
	eventually(t, "the capture was tried", func() bool { return s.faultHits(t, away) > 0 })

	l.key, l.keyed = uuid.NewString(), client.NewOrder{TicketID: all[9].ID}
	l.keyedAnswer = l.buyer.request(t, "POST", "/api/orders", l.keyed, "Idempotency-Key", l.key)
	require.Equal(t, 201, l.keyedAnswer.Status, "%s", l.keyedAnswer.Body)
	darkOrder := l.buyer.reserve(t, all[10].ID)
	for _, o := range []client.Order{l.unpaid, l.toCancel, l.declined, l.waiting, l.byHand, l.silent, darkOrder} {
		s.ticketBecomes(t, "reserved", o.Ticket.ID)
	}
	s.ticketBecomes(t, "sold", due.Ticket.ID)
	s.ticketBecomes(t, "reserved", l.keyed.TicketID)
	s.ticketBecomes(t, "available", cancelled.Ticket.ID)

	events := s.stream(t)
	poison := func() string {
		id := uuid.NewString()
		events.publishOn(t, "events", orderOfUnknownTicket(id))
		return "order.created:" + id + ":1"
	}
	l.letterID = poison()
	eventually(t, "the release before has taken a dead letter in", func() bool {
		return strings.Contains(deadLettersOfEarlierRelease(t, s, before), l.letterID)
	})
	l.freshLetter = poison()

	for _, listed := range s.allTickets(t, 5) {
		l.listed = append(l.listed, listed.ID)
	}
	for _, path := range []string{
		"/api/tickets/" + all[0].ID, "/api/tickets/" + all[2].ID, "/api/tickets/" + all[14].ID, "/api/tickets/" + l.withdrawn.ID,
	} {
		l.same = append(l.same, savedDocument{nil, path, string(s.request(t, "GET", path, nil).Body)})
	}
	for _, path := range []string{
		"/api/users/currentuser", "/api/payments/" + l.sold.ID, "/api/orders/" + l.sold.OrderID, "/api/orders/" + cancelled.ID,
		"/api/orders/" + l.unpaid.ID, "/api/orders/" + l.declined.ID, "/api/orders/" + due.ID,
	} {
		l.same = append(l.same, savedDocument{l.buyer, path, string(l.buyer.request(t, "GET", path, nil).Body)})
	}
	l.lists = map[string]string{}
	for path, u := range map[string]*testUser{"/api/tickets?limit=9": l.buyer, "/api/orders?limit=4": l.buyer} {
		link := nextLink.FindStringSubmatch(u.request(t, "GET", path, nil).Header.Get("Link"))
		require.NotNil(t, link)
		l.lists[link[1]] = idsOf(t, u.request(t, "GET", link[1], nil))
	}
	require.NoError(t, s.Stop())

	// Again, with a short window, and then one after the other dies.
	s = newStack(t, stack.Options{Folder: l.folder, RunFile: runFile, Env: map[string]string{"RESERVATION_WINDOW": "25s"}})
	l.seller.stack, l.buyer.stack, l.late.stack = s, s, s
	l.pending = l.late.reserve(t, all[11].ID)
	s.ticketBecomes(t, "reserved", l.pending.Ticket.ID)
	for _, service := range []string{"expiration", "payments"} {
		s.kill(t, service)
	}
	l.unheard = l.late.reserve(t, all[12].ID)
	s.ticketBecomes(t, "reserved", l.unheard.Ticket.ID)
	s.kill(t, s.BrokerName())
	s.start(t, "payments")
	s.waitReady(t, "payments")

	l.dark = l.seller.list(t, "Listed in the dark", 5100)
	l.listed = append([]string{l.dark.ID}, l.listed...)
	l.darkCancelled = l.toCancel
	l.buyer.cancel(t, l.darkCancelled.ID)
	l.darkPaid = l.buyer.pay(t, darkOrder.ID, goodCard)
	late := s.signUp(t)
	l.unpublished = []string{
		"user.created:" + late.ID + ":1", "ticket.created:" + l.dark.ID + ":1", "order.cancelled:" + l.darkCancelled.ID + ":2",
		"payment.created:" + l.darkPaid.ID,
	}
	for _, service := range []string{"auth", "tickets", "orders", "payments", "gateway"} {
		s.kill(t, service)
	}
	require.NoError(t, s.Stop())
}

// deadLettersBefore takes dead letters in, and lists them, by the program of the release before.
func deadLettersOfEarlierRelease(t *testing.T, s *testStack, before string) string {
	t.Helper()
	command := exec.Command(filepath.Join(before, ".build", "gateway"), "dead-letters", "-json", "list")
	address := s.SidecarGRPC("gateway")
	command.Env = append(os.Environ(), "DAPR_GRPC_PORT="+address[strings.LastIndex(address, ":")+1:], "DAPR_API_TOKEN="+s.APIToken("gateway"))
	said, err := command.Output()
	require.NoError(t, err)
	return string(said)
}

// idsOf are the ids in a list, in order.
func idsOf(t *testing.T, r client.Response) string {
	t.Helper()
	requireStatus(t, 200, r)
	var ids []string
	for _, one := range decode[[]struct{ ID string }](t, r) {
		ids = append(ids, one.ID)
	}
	return strings.Join(ids, " ")
}

// Programs of the release before write, and those of this release go on with what they find.
func TestUpgrade_FromTheEarlierRelease(t *testing.T) {
	t.Parallel()
	if os.Getenv("INFRA") == stack.SetRedis {
		t.Skip("documents are the same on the set nats, and what Redis' old topic holds is another test's")
	}
	before := earlierRelease(t)
	l := &earlierData{folder: t.TempDir()}
	l.create(t, before)

	s := newStack(t, stack.Options{Folder: l.folder})
	l.seller.stack, l.buyer.stack, l.late.stack = s, s, s
	events := s.stream(t)

	t.Run("documents are served as before", func(t *testing.T) {
		for _, doc := range l.same {
			r := client.Response{}
			if doc.who == nil {
				r = s.request(t, "GET", doc.path, nil)
			} else {
				r = doc.who.request(t, "GET", doc.path, nil)
			}
			if doc.path == "/api/tickets/"+l.withdrawn.ID {
				requireStatus(t, 404, r)
				continue
			}
			require.JSONEq(t, doc.body, string(r.Body), doc.path)
		}
		r := s.call(t, client.SignIn(l.buyer.Email, l.buyer.password))
		requireStatus(t, 200, r)
		requireStatus(t, 409, s.call(t, client.SignUp(l.buyer.Email, "another horse")))
	})
	t.Run("what is answered under an Idempotency-Key is answered again", func(t *testing.T) {
		r := l.buyer.request(t, "POST", "/api/orders", l.keyed, "Idempotency-Key", l.key)
		requireStatus(t, 201, r)
		require.Equal(t, "true", r.Header.Get("Idempotent-Replayed"))
		require.Equal(t, string(l.keyedAnswer.Body), string(r.Body))
	})
	t.Run("lists are in order, with old and new entries, and old cursors lead on", func(t *testing.T) {
		for path, want := range l.lists {
			require.Equal(t, want, idsOf(t, l.buyer.request(t, "GET", path, nil)), path)
		}
		listed := append([]string{}, l.listed...)
		for range 7 {
			listed = append([]string{l.seller.list(t, "Listed after", 900).ID}, listed...)
		}
		for _, limit := range []int{1, 6, 200} {
			var found []string
			for _, one := range s.allTickets(t, limit) {
				found = append(found, one.ID)
			}
			require.Equal(t, listed, found, "limit %d", limit)
		}
	})
	t.Run("the journals of dead processes are published, and what was not handled is", func(t *testing.T) {
		for _, event := range l.unpublished {
			eventuallyWithin(t, time.Minute, "the stream holds "+event, func() bool {
				for _, one := range events.read() {
					if strings.HasPrefix(one.ID, event) {
						return true
					}
				}
				return false
			})
		}
		projectTicket(t, l.late, l.dark)
		s.ticketBecomes(t, "available", l.darkCancelled.Ticket.ID)
		l.buyer.orderBecomes(t, "complete", l.darkPaid.OrderID)
		l.buyer.paymentBecomes(t, "captured", l.darkPaid.ID)
		s.requireMoney(t, l.darkPaid.OrderID, money{charges: 1, kept: 4200})
	})
	t.Run("a capture that was due is made", func(t *testing.T) {
		l.buyer.paymentBecomes(t, "captured", l.due.ID)
		s.requireMoney(t, l.due.OrderID, money{charges: 1, kept: 4200})
	})
	t.Run("orders go on: paid, paid after a refusal, authenticated, cancelled", func(t *testing.T) {
		for _, o := range []client.Order{l.unpaid, l.declined} {
			paid := l.buyer.payUntilAccepted(t, o.ID, goodCard)
			l.buyer.orderBecomes(t, "complete", o.ID)
			l.buyer.paymentBecomes(t, "captured", paid.ID)
			s.requireMoney(t, o.ID, money{charges: 1, kept: 4200})
		}
		s.authenticate(t, l.began.StripeID, "succeed")
		s.ticketBecomes(t, "sold", l.waiting.Ticket.ID)
		s.requireMoney(t, l.waiting.ID, money{charges: 1, kept: 4200})
		made := decode[client.Order](t, l.keyedAnswer)
		l.buyer.cancel(t, made.ID)
		s.ticketBecomes(t, "available", made.Ticket.ID)
	})
	t.Run("money that was taken by hand for an order that is cancelled is paid back", func(t *testing.T) {
		always := 1.0
		silent := s.addFault(t, l.byHand.ID, sandbox.Rule{Operation: "*", Fault: sandbox.WebhookDrop, Rate: &always})
		away := s.addFault(t, l.byHand.ID, sandbox.Rule{Operation: "retrieve", Fault: sandbox.Unavailable, Rate: &always})
		s.authenticate(t, l.beganByHand.StripeID, "succeed")
		r := s.request(t, "POST", s.SandboxURL()+"/v1/payment_intents/"+l.beganByHand.StripeID+"/capture", "", "Authorization", "Bearer sk_test_by_hand")
		requireStatus(t, 200, r)
		l.buyer.cancel(t, l.byHand.ID)
		s.removeFault(t, away)
		s.removeFault(t, silent)
		l.buyer.paymentBecomes(t, "refunded", l.beganByHand.ID)
		s.ticketBecomes(t, "available", l.byHand.Ticket.ID)
	})
	t.Run("funds that are held without anybody's knowledge are found", func(t *testing.T) {
		l.buyer.orderBecomes(t, "complete", l.silent.ID)
		l.buyer.paymentBecomes(t, "captured", l.beganSilent.ID)
	})
	t.Run("dead letters are listed and sent again", func(t *testing.T) {
		// What the gateway of the release before has taken in stays in its store.
		for _, event := range []string{l.freshLetter} {
			its := s.waitDeadLetter(t, "tickets", event)
			_, problems, status := s.runDeadLetters(t, "send", its.ID)
			require.Zero(t, status, problems)
			require.Equal(t, "refused", s.waitDeadLetter(t, "tickets", event+"/again-1@tickets").Code, "there still is no such ticket")
		}
	})
	t.Run("reservations end at their time", func(t *testing.T) {
		for _, o := range []client.Order{l.pending, l.unheard} {
			eventuallyWithin(t, time.Minute, "its time is over", func() bool { return time.Now().After(o.ExpiresAt) })
			require.Equal(t, "expired", l.late.orderBecomes(t, "cancelled", o.ID).Reason)
			s.ticketBecomes(t, "available", o.Ticket.ID)
		}
	})
	t.Run("every promise is kept", func(t *testing.T) {
		report, err := check.Check(t.Context(), check.Of(s.Stack), check.Options{Patience: 3 * time.Second, Quiet: true})
		require.NoError(t, err)
		var broken []string
		for _, v := range report.Violations {
			byTest := strings.Contains(v.What, l.letterID) || strings.Contains(v.What, l.freshLetter) ||
				v.What == "1 are among the dead letters" || v.Promise == 3 && v.Aggregate == "order "+l.byHand.ID
			if !byTest {
				broken = append(broken, v.String())
			}
		}
		require.Empty(t, broken)
	})
}
