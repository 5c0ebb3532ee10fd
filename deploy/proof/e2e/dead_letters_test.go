package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/event"
)

// deadLetter is a dead letter as `dead-letters -json` shows it.
type deadLetter struct {
	ID           string          `json:"id"`
	Status       string          `json:"status"`
	Service      string          `json:"service"`
	Instance     string          `json:"instance"`
	Code         string          `json:"code"`
	Reason       string          `json:"reason"`
	Attempts     int             `json:"attempts"`
	FirstFailure time.Time       `json:"firstFailure"`
	LastFailure  time.Time       `json:"lastFailure"`
	EventID      string          `json:"eventId"`
	EventType    string          `json:"eventType"`
	Event        json.RawMessage `json:"event"`
	Raw          []byte          `json:"raw"`
	SentAt       *time.Time      `json:"sentAt"`
}

// deadLetterCommand prepares the command `dead-letters`, with the environment that an operator gives it.
func (s *testStack) deadLetterCommand(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	address := s.SidecarGRPC("dead-letters")
	cmd := exec.Command(filepath.Join(root(t), ".build", "dead-letters"), args...)
	cmd.Env = append(os.Environ(), "DAPR_GRPC_PORT="+address[strings.LastIndex(address, ":")+1:], "DAPR_API_TOKEN="+s.SidecarToken("dead-letters"))
	return cmd
}

// runDeadLetters runs the command. It returns what the command printed, and its exit status.
func (s *testStack) runDeadLetters(t testing.TB, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := s.deadLetterCommand(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// requireDeadLettersCommand runs the command, which must succeed, and returns what it printed.
func (s *testStack) requireDeadLettersCommand(t testing.TB, args ...string) string {
	t.Helper()
	stdout, stderr, status := s.runDeadLetters(t, args...)
	require.Zero(t, status, stderr)
	return stdout
}

// deadLetters lists the dead letters.
func (s *testStack) deadLetters(t testing.TB) (all []deadLetter) {
	t.Helper()
	stdout := s.requireDeadLettersCommand(t, "-json", "list")
	require.NoError(t, json.Unmarshal([]byte(stdout), &all), stdout)
	return all
}

// waitDeadLetterCounts waits until the metric has these numbers of waiting dead letters, by service.
func (s *testStack) waitDeadLetterCounts(t testing.TB, want map[string]int) {
	t.Helper()
	eventually(t, fmt.Sprintf("the metric counts these dead letters: %v", want), func() bool {
		metrics := s.metrics(t, "dead-letters")
		for service, number := range want {
			if !strings.Contains(metrics, fmt.Sprintf("\nboxoffice_dead_letters{service=%q} %d\n", service, number)) {
				return false
			}
		}
		return true
	})
}

// waitDeadLetter waits for a service's dead letter of an event. event is the event's id, or a part of its text if it has no id.
func (s *testStack) waitDeadLetter(t testing.TB, service, event string) (found deadLetter) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q has a dead letter of %s", service, event), func() bool {
		all := s.deadLetters(t)
		at := slices.IndexFunc(all, func(d deadLetter) bool {
			inText := d.EventID == "" && (bytes.Contains(d.Event, []byte(event)) || bytes.Contains(d.Raw, []byte(event)))
			return d.Service == service && (d.EventID == event || inText)
		})
		if at >= 0 {
			found = all[at]
		}
		return at >= 0
	})
	return found
}

// orderOfUnknownTicket is an order.created of an order that the orders service does not have, for a ticket that does not exist.
func orderOfUnknownTicket(id string) []byte {
	order := event.Order{
		ID: id, UserID: uuid.NewString(), Status: "created", ExpiresAt: time.Now().Add(time.Hour),
		Ticket:   event.OrderedTicket{ID: uuid.NewString(), Title: "Unknown ticket", Price: 1000, Currency: "usd"},
		Sequence: 1, Version: 1, CreatedAt: time.Now(), UpdatedAt: time.Now(),
	}
	return order.Event("order.created").JSON()
}

func TestDeadLetters_CommandListsShowsAndSendsAgain(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"MAX_DELIVERIES": "3"}})
	events := s.stream(t)
	require.Equal(t, "No dead letters.\n", s.requireDeadLettersCommand(t, "list"))

	// Payments cannot read its document of this order, and tickets has no such ticket.
	id := uuid.NewString()
	eventID := "order.created:" + id + ":1"
	s.putState(t, "payments", "order/"+id, "not an order")
	events.publish(t, orderOfUnknownTicket(id))
	events.publish(t, []byte(`{"specversion":"1.0","id":"poison","source":"/orders","type":"order.created","data":"a text"}`))
	events.publishOn(t, "events.orders", []byte(`neither JSON nor anything`))

	// While that is retried, other events are handled.
	buyer := s.signUp(t)
	buyer.paymentBecomes(t, "captured", s.sell(t, buyer).ID)

	failed := s.waitDeadLetter(t, "payments", eventID)
	require.Equal(t, "failed", failed.Code)
	require.Equal(t, 3, failed.Attempts)
	require.Contains(t, failed.Reason, "is not readable")
	require.NotEmpty(t, failed.Instance)
	require.Equal(t, "order.created", failed.EventType)
	require.True(t, failed.LastFailure.After(failed.FirstFailure))
	require.Equal(t, "waiting", failed.Status)

	refused := s.waitDeadLetter(t, "tickets", eventID)
	require.Equal(t, "refused", refused.Code)
	require.Contains(t, refused.Reason, "there is no ticket")
	for _, service := range []string{"tickets", "payments", "expiration", "catalogue"} {
		undecodable := s.waitDeadLetter(t, service, "poison")
		require.Equal(t, "undecodable", undecodable.Code)
		require.Contains(t, string(undecodable.Event), `"a text"`)
	}
	var bare deadLetter
	for _, service := range []string{"tickets", "payments", "expiration", "catalogue"} {
		bare = s.waitDeadLetter(t, service, "neither JSON nor anything")
		require.Equal(t, "undecodable", bare.Code)
		require.Equal(t, "neither JSON nor anything", string(bare.Raw))
	}
	require.Len(t, s.deadLetters(t), 10, "each is listed once, however often the command runs")
	s.waitDeadLetterCounts(t, map[string]int{"tickets": 3, "payments": 3, "expiration": 2, "catalogue": 2, "orders": 0})

	t.Run("list and show", func(t *testing.T) {
		list := s.requireDeadLettersCommand(t, "list")
		require.Regexp(t, failed.ID+` +waiting +.* payments +3 +failed +order.created +`, list)
		require.Contains(t, list, "10 waiting, 0 sent again.")
		shown := s.requireDeadLettersCommand(t, "show", failed.ID)
		for _, text := range []string{eventID, "is not readable", failed.Instance, `"title": "Unknown ticket"`} {
			require.Contains(t, shown, text)
		}
		_, stderr, status := s.runDeadLetters(t, "show", "nosuchletter")
		require.Equal(t, 1, status)
		require.Contains(t, stderr, "there is no such dead letter")
		_, stderr, status = s.runDeadLetters(t, "nonsense")
		require.Equal(t, 2, status)
		require.Contains(t, stderr, "usage:")
	})

	// Without the unreadable document, the event can be handled.
	s.deleteState(t, "payments", "order/"+id)
	require.Contains(t, s.requireDeadLettersCommand(t, "send", failed.ID), "sent again: "+failed.ID)
	events.waitSentAgain(t, "payments", eventID+"/again-1")
	events.waitIdle(t)
	require.Equal(t, "sent", s.waitDeadLetter(t, "payments", eventID).Status)
	s.waitDeadLetterCounts(t, map[string]int{"tickets": 3, "payments": 2, "expiration": 2, "catalogue": 2, "orders": 0})
	for _, d := range s.deadLetters(t) {
		require.NotContains(t, d.EventID, eventID+"/again-1", "payments handled it, and no other service received it")
	}
	require.False(t, events.has(eventID+"/again-1@payments"))

	// What is not an event cannot be sent. The others are sent, and become dead letters again.
	_, stderr, status := s.runDeadLetters(t, "send-all")
	require.Equal(t, 1, status)
	require.Contains(t, stderr, bare.ID+": it cannot be sent")
	for _, service := range []string{"tickets", "payments", "expiration", "catalogue"} {
		events.waitSentAgain(t, service, "poison/again-1")
	}
	events.waitSentAgain(t, "tickets", eventID+"/again-1")
	require.Equal(t, "refused", s.waitDeadLetter(t, "tickets", eventID+"/again-1@tickets").Code, "there is still no such ticket")
	require.Equal(t, "undecodable", s.waitDeadLetter(t, "payments", "poison/again-1@payments").Code)
	require.Equal(t, "sent", s.waitDeadLetter(t, "payments", "poison").Status)
	require.Equal(t, "waiting", s.waitDeadLetter(t, "tickets", "neither JSON nor anything").Status)
}

// A sidecar that cannot deliver an event publishes the bare event as a dead letter.
func TestDeadLetters_SidecarsDeadLettersAreKeptAndCounted(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	events := s.stream(t)
	s.waitDeadLetterCounts(t, map[string]int{"tickets": 0, "orders": 0, "payments": 0, "expiration": 0})
	first, second := uuid.NewString(), uuid.NewString()
	events.publishOn(t, "dead.orders", orderOfUnknownTicket(first))
	s.waitDeadLetterCounts(t, map[string]int{"orders": 1, "tickets": 0})
	require.Equal(t, "given up", s.waitDeadLetter(t, "orders", "order.created:"+first+":1").Code)

	require.NoError(t, s.Process("dead-letters").Stop())
	events.publishOn(t, "dead.orders", orderOfUnknownTicket(second))
	s.waitDeadLetter(t, "orders", "order.created:"+first+":1") // the command needs only the sidecar
	eventuallyEqual(t, 200, "the readiness: sales do not depend on this service", func() int { return s.request(t, "GET", "/readyz", nil).Status })
	s.start(t, "dead-letters")
	s.waitDeadLetterCounts(t, map[string]int{"orders": 2})
}

func TestDeadLetters_KilledCommandLosesNone(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	events := s.stream(t)
	const many = 40
	for i := range many {
		events.publish(t, fmt.Appendf(nil, `{"specversion":"1.0","id":"poison-%d","source":"/tickets","type":"ticket.created","data":"a text"}`, i))
	}
	eventually(t, "all events are dead letters, of orders and of catalogue", func() bool { return events.deadLetterCount(t) == 2*many })

	for _, command := range []string{"list", "send-all", "send-all"} {
		cmd := s.deadLetterCommand(t, command)
		require.NoError(t, cmd.Start())
		time.Sleep(150 * time.Millisecond) // kills it in the middle of its work; there is no sign to wait for
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	listed := map[string]bool{}
	eventually(t, "all dead letters are listed", func() bool {
		for _, d := range s.deadLetters(t) {
			listed[d.EventID] = true
		}
		return len(listed) >= many
	})
	s.requireDeadLettersCommand(t, "send-all")
	for i := range many {
		require.True(t, listed[fmt.Sprintf("poison-%d", i)])
		events.waitSentAgain(t, "orders", fmt.Sprintf("poison-%d/again-1", i))
		events.waitSentAgain(t, "catalogue", fmt.Sprintf("poison-%d/again-1", i))
	}
}

func TestDeadLetters_UnreadableEventsDoNotBlockOthers(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	cases := []struct {
		name, raw string
		mark      string   // the event's id, or part of its text; "" if no service subscribes to it
		by        []string // the services with a dead letter of it
	}{
		{"not an event", `neither JSON nor anything`, `neither JSON`, []string{"tickets", "payments", "expiration", "catalogue"}},
		{"unreadable data", `{"specversion":"1.0","id":"poison-1","source":"/orders","type":"order.created","datacontenttype":"application/json","data":"a text"}`, "poison-1", []string{"tickets", "payments", "expiration", "catalogue"}},
		{"no aggregate", `{"specversion":"1.0","id":"poison-2","source":"/tickets","type":"ticket.updated","datacontenttype":"application/json","data":{"price":1}}`, "poison-2", []string{"orders", "catalogue"}},
		{"a newer schema", `{"specversion":"1.0","id":"poison-3","source":"/payments","type":"payment.created","dataschema":"urn:boxoffice:payment.created:99","datacontenttype":"application/json","data":{"id":"x","version":1}}`, "poison-3", []string{"orders"}},
		{"unknown type", `{"specversion":"1.0","id":"poison-4","source":"/orders","type":"order.forgotten","datacontenttype":"application/json","data":{}}`, "", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := events.deadLetterCount(t)
			if json.Valid([]byte(c.raw)) {
				events.publish(t, []byte(c.raw))
			} else {
				events.publishOn(t, "events.orders", []byte(c.raw))
			}

			// Later events are handled.
			order := buyer.reserve(t, seller.list(t, "After the unreadable event", 1000).ID)
			paid := buyer.pay(t, order.ID, goodCard)
			s.ticketBecomes(t, "sold", order.Ticket.ID)
			buyer.paymentBecomes(t, "captured", paid.ID)

			events.waitIdle(t)
			if c.mark == "" {
				require.Equal(t, before, events.deadLetterCount(t))
				return
			}
			require.Equal(t, before+uint64(len(c.by)), events.deadLetterCount(t))
			for _, service := range c.by {
				require.Equal(t, "undecodable", s.waitDeadLetter(t, service, c.mark).Code)
			}
		})
	}
}
