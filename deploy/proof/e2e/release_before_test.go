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
	"boxoffice/deploy/stripe/sandbox"
)

// requireUpgrade makes a failure of what is skipped without the release before.
const requireUpgrade = "CI_REQUIRE_UPGRADE"

// releaseBefore is the folder of the release before, with its sources, components and programs, Dapr's runtime included.
// The Makefile names its commit, and builds it from the history (make build-before).
func releaseBefore(t *testing.T) string {
	t.Helper()
	stacktest.SkipIfShort(t)
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	folder := filepath.Join(filepath.Dir(runFile), ".build", "release-before")
	if _, err := os.Stat(filepath.Join(folder, "commit")); err != nil {
		require.Empty(t, os.Getenv(requireUpgrade), "%s is set, and the release before is not built: %v", requireUpgrade, err)
		t.Skip("the release before is not built; `make build-before` does it, in a clone that has its commit in the history")
	}
	letItPublish(t, folder)
	return folder
}

// letItPublish gives the broker's users the rights that the launcher of the release before gave them all. That of this
// release derives them from scopes, which the release before did not have.
func letItPublish(t *testing.T, folder string) {
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
type shown struct {
	who  *person // nil: anybody
	path string
	body string
}

// legacy is what the release before leaves in a folder.
type legacy struct {
	folder                string
	seller, buyer, late   *person
	listed                []string // tickets in the order of the list, newest first
	withdrawn             ticket
	same                  []shown           // answers that must stay as they are
	lists                 map[string]string // where a list goes on that the release before has begun, and what is there
	sold                  payment
	unpaid, toCancel      order // created, nothing paid
	declined              order
	waiting, silent       order // their buyer's bank was asked for; silent's has agreed, and nobody heard of it
	byHand                order // as waiting, of the buyer
	began, beganSilent    payment
	beganByHand           payment
	due                   payment // authorized, its order complete, not captured
	key                   string  // an Idempotency-Key, with its request and its answer
	keyed                 wanted
	keyedAnswer           reply
	letterID, freshLetter string // the events of dead letters: one taken in, one still on its topic
	pending, unheard      order  // they end soon; the second's event has reached tickets alone
	dark                  ticket // listed while the broker was away
	darkPaid              payment
	darkCancelled         order
	unpublished           []string // events
}

// leave lets the release before do a bit of everything, and ends it as badly as possible.
func (l *legacy) leave(t *testing.T, before string) {
	t.Helper()
	runFile := filepath.Join(before, "dapr.yaml")
	h := newHouse(t, stack.Options{Folder: l.folder, RunFile: runFile})
	l.seller, l.buyer, l.late = h.signUp(t), h.signUp(t), h.signUp(t)
	other := h.signUp(t)
	var all []ticket
	for range 15 {
		all = append(all, l.seller.list(t, "Listed before", 4200))
	}
	require.Equal(t, 200, l.seller.do(t, "PUT", "/api/tickets/"+all[0].ID, offer{Title: "Edited before", Price: 4300, Version: 1}).status)
	l.withdrawn = all[1]
	require.Equal(t, 204, l.seller.do(t, "DELETE", "/api/tickets/"+l.withdrawn.ID, nil).status)

	l.sold = h.sold(t, l.buyer)
	l.buyer.paymentBecomes(t, "captured", l.sold.ID)
	cancelled := l.buyer.reserved(t, all[2].ID)
	require.Equal(t, 204, l.buyer.cancel(t, cancelled.ID))
	l.unpaid, l.toCancel = l.buyer.reserved(t, all[3].ID), l.buyer.reserved(t, all[4].ID)
	l.declined = l.buyer.reserved(t, all[5].ID)
	status, _ := l.buyer.pay(t, l.declined.ID, declinedCard)
	require.Equal(t, 402, status)
	l.waiting, l.began = other.waiting(t, all[6].ID)
	l.byHand, l.beganByHand = l.buyer.waiting(t, all[13].ID)
	l.silent = l.buyer.reserved(t, all[7].ID)
	l.beganSilent, _ = h.behindTheBack(t, l.buyer, l.silent.ID)

	due := l.buyer.reserved(t, all[8].ID)
	always := 1.0
	away := h.misbehaves(t, due.ID, sandbox.Rule{Operation: "capture", Fault: sandbox.Unavailable, Rate: &always})
	status, l.due = l.buyer.pay(t, due.ID, goodCard)
	require.Equal(t, 201, status)
	l.buyer.orderBecomes(t, "complete", due.ID)
	eventually(t, "the capture was tried", func() bool { return h.struck(t, away) > 0 })

	l.key, l.keyed = uuid.NewString(), wanted{all[9].ID}
	l.keyedAnswer = l.buyer.do(t, "POST", "/api/orders", l.keyed, "Idempotency-Key", l.key)
	require.Equal(t, 201, l.keyedAnswer.status, "%s", l.keyedAnswer.body)
	darkOrder := l.buyer.reserved(t, all[10].ID)
	for _, o := range []order{l.unpaid, l.toCancel, l.declined, l.waiting, l.byHand, l.silent, darkOrder} {
		h.ticketBecomes(t, "reserved", o.Ticket.ID)
	}
	h.ticketBecomes(t, "sold", due.Ticket.ID)
	h.ticketBecomes(t, "reserved", l.keyed.TicketID)
	h.ticketBecomes(t, "available", cancelled.Ticket.ID)

	stream := h.stream(t)
	poison := func() string {
		id := uuid.NewString()
		stream.tellOn(t, "events", ordered(id))
		return "order.created:" + id + ":1"
	}
	l.letterID = poison()
	eventually(t, "the release before has taken a dead letter in", func() bool {
		return strings.Contains(deadLettersBefore(t, h, before), l.letterID)
	})
	l.freshLetter = poison()

	for _, listed := range h.allTickets(t, 5) {
		l.listed = append(l.listed, listed.ID)
	}
	for _, path := range []string{
		"/api/tickets/" + all[0].ID, "/api/tickets/" + all[2].ID, "/api/tickets/" + all[14].ID, "/api/tickets/" + l.withdrawn.ID,
	} {
		l.same = append(l.same, shown{nil, path, string(h.do(t, "GET", path, nil).body)})
	}
	for _, path := range []string{
		"/api/users/currentuser", "/api/payments/" + l.sold.ID, "/api/orders/" + l.sold.OrderID, "/api/orders/" + cancelled.ID,
		"/api/orders/" + l.unpaid.ID, "/api/orders/" + l.declined.ID, "/api/orders/" + due.ID,
	} {
		l.same = append(l.same, shown{l.buyer, path, string(l.buyer.do(t, "GET", path, nil).body)})
	}
	l.lists = map[string]string{}
	for path, p := range map[string]*person{"/api/tickets?limit=9": l.buyer, "/api/orders?limit=4": l.buyer} {
		link := nextLink.FindStringSubmatch(p.do(t, "GET", path, nil).header.Get("Link"))
		require.NotNil(t, link)
		l.lists[link[1]] = idsOf(t, p.do(t, "GET", link[1], nil))
	}
	require.NoError(t, h.Stop())

	// Again, with a short window, and then one after the other dies.
	h = newHouse(t, stack.Options{Folder: l.folder, RunFile: runFile, Env: map[string]string{"RESERVATION_WINDOW": "25s"}})
	l.seller.house, l.buyer.house, l.late.house = h, h, h
	l.pending = l.late.reserved(t, all[11].ID)
	h.ticketBecomes(t, "reserved", l.pending.Ticket.ID)
	for _, service := range []string{"expiration", "payments"} {
		require.NoError(t, h.Process(service).Kill())
	}
	l.unheard = l.late.reserved(t, all[12].ID)
	h.ticketBecomes(t, "reserved", l.unheard.Ticket.ID)
	require.NoError(t, h.Process(h.BrokerName()).Kill())
	require.NoError(t, h.Process("payments").Start())
	require.NoError(t, h.WaitReady(t.Context(), "payments"))

	l.dark = l.seller.list(t, "Listed in the dark", 5100)
	l.listed = append([]string{l.dark.ID}, l.listed...)
	l.darkCancelled = l.toCancel
	require.Equal(t, 204, l.buyer.cancel(t, l.darkCancelled.ID))
	status, l.darkPaid = l.buyer.pay(t, darkOrder.ID, goodCard)
	require.Equal(t, 201, status)
	late := h.signUp(t)
	l.unpublished = []string{
		"user.created:" + late.ID + ":1", "ticket.created:" + l.dark.ID + ":1", "order.cancelled:" + l.darkCancelled.ID + ":2",
		"payment.created:" + l.darkPaid.ID,
	}
	for _, service := range []string{"auth", "tickets", "orders", "payments", "gateway"} {
		require.NoError(t, h.Process(service).Kill())
	}
	require.NoError(t, h.Stop())
}

// deadLettersBefore takes dead letters in, and lists them, by the program of the release before.
func deadLettersBefore(t *testing.T, h *house, before string) string {
	t.Helper()
	command := exec.Command(filepath.Join(before, ".build", "gateway"), "dead-letters", "-json", "list")
	address := h.SidecarGRPC("gateway")
	command.Env = append(os.Environ(), "DAPR_GRPC_PORT="+address[strings.LastIndex(address, ":")+1:], "DAPR_API_TOKEN="+h.APIToken("gateway"))
	said, err := command.Output()
	require.NoError(t, err)
	return string(said)
}

// idsOf are the ids in a list, in order.
func idsOf(t *testing.T, r reply) string {
	t.Helper()
	require.Equal(t, 200, r.status, "%s", r.body)
	var ids []string
	for _, one := range as[[]struct{ ID string }](t, r) {
		ids = append(ids, one.ID)
	}
	return strings.Join(ids, " ")
}

// Programs of the release before write, and those of this release go on with what they find.
func TestUpgrade_FromTheReleaseBefore(t *testing.T) {
	t.Parallel()
	if os.Getenv("INFRA") == stack.SetRedis {
		t.Skip("documents are the same on the set nats, and what Redis' old topic holds is another test's")
	}
	before := releaseBefore(t)
	l := &legacy{folder: t.TempDir()}
	l.leave(t, before)

	h := newHouse(t, stack.Options{Folder: l.folder})
	l.seller.house, l.buyer.house, l.late.house = h, h, h
	stream := h.stream(t)

	t.Run("documents are served as before", func(t *testing.T) {
		for _, s := range l.same {
			r := reply{}
			if s.who == nil {
				r = h.do(t, "GET", s.path, nil)
			} else {
				r = s.who.do(t, "GET", s.path, nil)
			}
			if s.path == "/api/tickets/"+l.withdrawn.ID {
				require.Equal(t, 404, r.status)
				continue
			}
			require.JSONEq(t, s.body, string(r.body), s.path)
		}
		r := h.do(t, "POST", "/api/users/signin", credentials{l.buyer.Email, l.buyer.password})
		require.Equal(t, 200, r.status, "%s", r.body)
		require.Equal(t, 409, h.do(t, "POST", "/api/users/signup", credentials{l.buyer.Email, "another horse"}).status)
	})
	t.Run("what is answered under an Idempotency-Key is answered again", func(t *testing.T) {
		r := l.buyer.do(t, "POST", "/api/orders", l.keyed, "Idempotency-Key", l.key)
		require.Equal(t, 201, r.status, "%s", r.body)
		require.Equal(t, "true", r.header.Get("Idempotent-Replayed"))
		require.Equal(t, string(l.keyedAnswer.body), string(r.body))
	})
	t.Run("lists are in order, with old and new entries, and old cursors lead on", func(t *testing.T) {
		for path, want := range l.lists {
			require.Equal(t, want, idsOf(t, l.buyer.do(t, "GET", path, nil)), path)
		}
		listed := append([]string{}, l.listed...)
		for range 7 {
			listed = append([]string{l.seller.list(t, "Listed after", 900).ID}, listed...)
		}
		for _, limit := range []int{1, 6, 200} {
			var found []string
			for _, one := range h.allTickets(t, limit) {
				found = append(found, one.ID)
			}
			require.Equal(t, listed, found, "limit %d", limit)
		}
	})
	t.Run("the journals of dead processes are published, and what was not handled is", func(t *testing.T) {
		for _, event := range l.unpublished {
			eventuallyWithin(t, time.Minute, "the stream holds "+event, func() bool {
				for _, one := range stream.read() {
					if strings.HasPrefix(one.ID, event) {
						return true
					}
				}
				return false
			})
		}
		known(t, l.late, l.dark)
		h.ticketBecomes(t, "available", l.darkCancelled.Ticket.ID)
		l.buyer.orderBecomes(t, "complete", l.darkPaid.OrderID)
		l.buyer.paymentBecomes(t, "captured", l.darkPaid.ID)
		h.money(t, l.darkPaid.OrderID, 1, 0, 4200)
	})
	t.Run("a capture that was due is made", func(t *testing.T) {
		l.buyer.paymentBecomes(t, "captured", l.due.ID)
		h.money(t, l.due.OrderID, 1, 0, 4200)
	})
	t.Run("orders go on: paid, paid after a refusal, authenticated, cancelled", func(t *testing.T) {
		for _, o := range []order{l.unpaid, l.declined} {
			paid := l.buyer.paysAgain(t, o.ID, goodCard)
			l.buyer.orderBecomes(t, "complete", o.ID)
			l.buyer.paymentBecomes(t, "captured", paid.ID)
			h.money(t, o.ID, 1, 0, 4200)
		}
		h.authenticate(t, l.began.StripeID, "succeed")
		h.ticketBecomes(t, "sold", l.waiting.Ticket.ID)
		h.money(t, l.waiting.ID, 1, 0, 4200)
		made := as[order](t, l.keyedAnswer)
		require.Equal(t, 204, l.buyer.cancel(t, made.ID))
		h.ticketBecomes(t, "available", made.Ticket.ID)
	})
	t.Run("money that was taken by hand for an order that is cancelled is paid back", func(t *testing.T) {
		always := 1.0
		silent := h.misbehaves(t, l.byHand.ID, sandbox.Rule{Operation: "*", Fault: sandbox.WebhookDrop, Rate: &always})
		away := h.misbehaves(t, l.byHand.ID, sandbox.Rule{Operation: "retrieve", Fault: sandbox.Unavailable, Rate: &always})
		h.authenticate(t, l.beganByHand.StripeID, "succeed")
		r := h.do(t, "POST", h.SandboxURL()+"/v1/payment_intents/"+l.beganByHand.StripeID+"/capture", "", "Authorization", "Bearer sk_test_by_hand")
		require.Equal(t, 200, r.status, "%s", r.body)
		require.Equal(t, 204, l.buyer.cancel(t, l.byHand.ID))
		h.behaves(t, away)
		h.behaves(t, silent)
		l.buyer.paymentBecomes(t, "refunded", l.beganByHand.ID)
		h.ticketBecomes(t, "available", l.byHand.Ticket.ID)
	})
	t.Run("funds that are held without anybody's knowledge are found", func(t *testing.T) {
		l.buyer.orderBecomes(t, "complete", l.silent.ID)
		l.buyer.paymentBecomes(t, "captured", l.beganSilent.ID)
	})
	t.Run("dead letters are listed and sent again", func(t *testing.T) {
		// What the gateway of the release before has taken in stays in its store.
		for _, event := range []string{l.freshLetter} {
			its := h.letterOf(t, "tickets", event)
			_, problems, status := h.deadLetters(t, "send", its.ID)
			require.Zero(t, status, problems)
			require.Equal(t, "refused", h.letterOf(t, "tickets", event+"/again-1@tickets").Code, "there still is no such ticket")
		}
	})
	t.Run("reservations end at their time", func(t *testing.T) {
		for _, o := range []order{l.pending, l.unheard} {
			eventuallyWithin(t, time.Minute, "its time is over", func() bool { return time.Now().After(o.ExpiresAt) })
			require.Equal(t, "expired", l.late.orderBecomes(t, "cancelled", o.ID).Reason)
			h.ticketBecomes(t, "available", o.Ticket.ID)
		}
	})
	t.Run("every promise is kept", func(t *testing.T) {
		report, err := check.Check(t.Context(), check.TargetOf(h.Stack), check.Options{Settle: 3 * time.Second, AtRest: true})
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
