package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
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
)

// letter is a dead letter as `dead-letters -json` shows it.
type letter struct {
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

// deadLetterCommand prepares `dead-letters`, as a person runs it beside the service.
func (h *house) deadLetterCommand(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	address := h.SidecarGRPC("dead-letters")
	cmd := exec.Command(filepath.Join(filepath.Dir(runFile), ".build", "dead-letters"), args...)
	cmd.Env = append(os.Environ(), "DAPR_GRPC_PORT="+address[strings.LastIndex(address, ":")+1:], "DAPR_API_TOKEN="+h.APIToken("dead-letters"))
	return cmd
}

// deadLetters runs the command and returns what it printed and how it ended.
func (h *house) deadLetters(t testing.TB, args ...string) (out, problems string, status int) {
	t.Helper()
	cmd := h.deadLetterCommand(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// letters lists the dead letters.
func (h *house) letters(t testing.TB) (letters []letter) {
	t.Helper()
	out, problems, status := h.deadLetters(t, "-json", "list")
	require.Zero(t, status, problems)
	require.NoError(t, json.Unmarshal([]byte(out), &letters), out)
	return letters
}

// waitingLetters waits until the gauge says how many letters of each service wait.
func (h *house) waitingLetters(t testing.TB, want map[string]int) {
	t.Helper()
	eventually(t, fmt.Sprintf("so many letters are counted: %v", want), func() bool {
		r, err := h.send(http.MethodGet, h.AppMetrics("dead-letters"), nil)
		if err != nil {
			return false
		}
		said := string(r.body)
		for service, number := range want {
			if !strings.Contains(said, fmt.Sprintf("\nboxoffice_dead_letters{service=%q} %d\n", service, number)) {
				return false
			}
		}
		return true
	})
}

// letterOf waits for the letter of an event by a service, or by its sidecar.
func (h *house) letterOf(t testing.TB, service, event string) (found letter) {
	t.Helper()
	eventually(t, fmt.Sprintf("there is a letter of %s by %q", event, service), func() bool {
		letters := h.letters(t)
		at := slices.IndexFunc(letters, func(l letter) bool {
			return l.Service == service && (l.EventID == event || bytes.Contains(l.Raw, []byte(event)))
		})
		if at >= 0 {
			found = letters[at]
		}
		return at >= 0
	})
	return found
}

// putState writes a document of a service past the service, and dropState removes it.
func (h *house) putState(t testing.TB, service, key string, value any) {
	t.Helper()
	body, err := json.Marshal([]any{map[string]any{"key": key, "value": value}})
	require.NoError(t, err)
	h.stateCall(t, http.MethodPost, service, "", body)
}

func (h *house) dropState(t testing.TB, service, key string) {
	t.Helper()
	h.stateCall(t, http.MethodDelete, service, "/"+strings.ReplaceAll(key, "/", "%2F"), nil)
}

func (h *house) stateCall(t testing.TB, method, service, path string, body []byte) {
	t.Helper()
	req, err := http.NewRequest(method, h.SidecarHTTP(service)+"/v1.0/state/state"+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("dapr-api-token", h.APIToken(service))
	res, err := h.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, http.StatusNoContent, res.StatusCode)
}

// ordered is an event that tells of an order which the orders service does not know, for a ticket that nobody has.
func ordered(id string) []byte {
	event := map[string]any{
		"specversion": "1.0", "id": "order.created:" + id + ":1", "source": "/orders", "type": "order.created", "subject": id,
		"datacontenttype": "application/json", "dataschema": "urn:boxoffice:order.created:1",
		"data": map[string]any{
			"id": id, "userId": uuid.NewString(), "status": "created", "expiresAt": time.Now().Add(time.Hour),
			"ticket":   map[string]any{"id": uuid.NewString(), "title": "Nobody's", "price": 1000, "currency": "usd"},
			"sequence": 1, "version": 1, "createdAt": time.Now(), "updatedAt": time.Now(),
		},
	}
	body, _ := json.Marshal(event)
	return body
}

func TestDeadLetters_AreListedShownAndSentAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"MAX_DELIVERIES": "3"}})
	stream := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)

	out, problems, status := h.deadLetters(t, "list")
	require.Zero(t, status, problems)
	require.Equal(t, "No dead letters.\n", out)

	// The payments service cannot read what it keeps of this order; the tickets service knows no such ticket.
	id := uuid.NewString()
	event := "order.created:" + id + ":1"
	h.putState(t, "payments", "order/"+id, "not an order")
	stream.tell(t, ordered(id))
	stream.tell(t, []byte(`{"specversion":"1.0","id":"poison","source":"/orders","type":"order.created","data":"a text"}`))
	stream.tellOn(t, "events.orders", []byte(`neither JSON nor anything`))

	// While that is tried again and again, others go on.
	seat := seller.list(t, "Nothing to do with it", 1000)
	given := buyer.reserved(t, seat.ID)
	status, paid := buyer.pay(t, given.ID, goodCard)
	require.Equal(t, 201, status)
	buyer.paymentBecomes(t, "captured", paid.ID)
	h.ticketBecomes(t, "sold", seat.ID)

	failed := h.letterOf(t, "payments", event)
	require.Equal(t, "failed", failed.Code)
	require.Equal(t, 3, failed.Attempts)
	require.Contains(t, failed.Reason, "is not readable")
	require.NotEmpty(t, failed.Instance)
	require.Equal(t, "order.created", failed.EventType)
	require.True(t, failed.LastFailure.After(failed.FirstFailure))
	require.Equal(t, "waiting", failed.Status)

	refused := h.letterOf(t, "tickets", event)
	require.Equal(t, "refused", refused.Code)
	require.Contains(t, refused.Reason, "there is no ticket")
	for _, service := range []string{"tickets", "payments", "expiration"} {
		undecodable := h.letterOf(t, service, "poison")
		require.Equal(t, "undecodable", undecodable.Code)
		require.Contains(t, string(undecodable.Event), `"a text"`)
	}
	var bare letter
	for _, service := range []string{"tickets", "payments", "expiration"} {
		bare = h.letterOf(t, service, "neither JSON nor anything")
		require.Equal(t, "undecodable", bare.Code)
		require.Equal(t, "neither JSON nor anything", string(bare.Raw))
	}
	require.Len(t, h.letters(t), 8, "each once, however often the command runs")
	h.waitingLetters(t, map[string]int{"tickets": 3, "payments": 3, "expiration": 2, "orders": 0})

	// For people.
	out, problems, status = h.deadLetters(t, "list")
	require.Zero(t, status, problems)
	require.Regexp(t, failed.ID+` +waiting +.* payments +3 +failed +order.created +`, out)
	require.Contains(t, out, "8 waiting, 0 sent again.")
	out, problems, status = h.deadLetters(t, "show", failed.ID)
	require.Zero(t, status, problems)
	for _, told := range []string{event, "is not readable", failed.Instance, `"title": "Nobody's"`} {
		require.Contains(t, out, told)
	}
	_, problems, status = h.deadLetters(t, "show", "nosuchletter")
	require.Equal(t, 1, status)
	require.Contains(t, problems, "there is no such dead letter")
	_, problems, status = h.deadLetters(t, "burn", "them")
	require.Equal(t, 2, status)
	require.Contains(t, problems, "usage:")

	// Once the document is mended, the event can be handled.
	h.dropState(t, "payments", "order/"+id)
	out, problems, status = h.deadLetters(t, "send", failed.ID)
	require.Zero(t, status, problems)
	require.Contains(t, out, "sent again: "+failed.ID)
	stream.sentAgain(t, "payments", event+"/again-1")
	stream.settled(t)
	require.Equal(t, "sent", h.letterOf(t, "payments", event).Status)
	h.waitingLetters(t, map[string]int{"tickets": 3, "payments": 2, "expiration": 2, "orders": 0})
	for _, l := range h.letters(t) {
		require.NotContains(t, l.EventID, event+"/again-1", "payments handled it, and nobody else got it")
	}
	require.False(t, stream.has(event+"/again-1@payments"))

	// What is no event stays; the others go, and come back as they are no better than before.
	_, problems, status = h.deadLetters(t, "send-all")
	require.Equal(t, 1, status)
	require.Contains(t, problems, bare.ID+": it cannot be sent")
	for _, service := range []string{"tickets", "payments", "expiration"} {
		stream.sentAgain(t, service, "poison/again-1")
	}
	stream.sentAgain(t, "tickets", event+"/again-1")
	require.Equal(t, "refused", h.letterOf(t, "tickets", event+"/again-1@tickets").Code, "there still is no such ticket")
	require.Equal(t, "undecodable", h.letterOf(t, "payments", "poison/again-1@payments").Code)
	require.Equal(t, "sent", h.letterOf(t, "payments", "poison").Status)
	require.Equal(t, "waiting", h.letterOf(t, "tickets", "neither JSON nor anything").Status)
}

// What a sidecar puts aside, because it could not deliver it, is a bare event.
func TestDeadLetters_ThoseOfSidecarsAreKeptAndCounted(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{})
	h.waitingLetters(t, map[string]int{"tickets": 0, "orders": 0, "payments": 0, "expiration": 0})
	id := uuid.NewString()
	h.stream(t).tellOn(t, "dead.orders", ordered(id))
	h.waitingLetters(t, map[string]int{"orders": 1, "tickets": 0})
	require.Equal(t, "given up", h.letterOf(t, "orders", "order.created:"+id+":1").Code)
	require.NoError(t, h.Process("dead-letters").Stop())
	next := uuid.NewString()
	h.stream(t).tellOn(t, "dead.orders", ordered(next))
	h.letterOf(t, "orders", "order.created:"+id+":1") // the command needs the sidecar alone
	require.Equal(t, 200, h.do(t, "GET", h.GatewayURL()+"/readyz", nil).status, "nobody buys less without it")
	require.NoError(t, h.Process("dead-letters").Start())
	h.waitingLetters(t, map[string]int{"orders": 2})
}

// The gateway keeps nothing, publishes nothing and needs nothing to start.
func TestGateway_HasNeitherStoreNorBroker(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	r := h.do(t, "GET", h.SidecarHTTP("gateway")+"/v1.0/metadata", nil, "dapr-api-token", h.APIToken("gateway"))
	require.Equal(t, 200, r.status, "%s", r.body)
	for _, component := range as[struct{ Components []struct{ Name string } }](t, r).Components {
		require.NotContains(t, []string{"state", "pubsub"}, component.Name)
	}
}

func TestDeadLetters_ACommandThatIsKilledLosesNone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{})
	stream := h.stream(t)
	const many = 40
	for i := range many {
		stream.tell(t, fmt.Appendf(nil, `{"specversion":"1.0","id":"poison-%d","source":"/tickets","type":"ticket.created","data":"a text"}`, i))
	}
	eventually(t, "all of them are dead", func() bool { return stream.dead(t) == many })

	for _, word := range []string{"list", "send-all", "send-all"} {
		cmd := h.deadLetterCommand(t, word)
		require.NoError(t, cmd.Start())
		time.Sleep(150 * time.Millisecond) // somewhere in its work
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	letters := map[string]bool{}
	eventually(t, "all letters are in the box", func() bool {
		for _, l := range h.letters(t) {
			letters[l.EventID] = true
		}
		return len(letters) >= many
	})
	_, problems, status := h.deadLetters(t, "send-all")
	require.Zero(t, status, problems)
	for i := range many {
		require.True(t, letters[fmt.Sprintf("poison-%d", i)])
		stream.sentAgain(t, "orders", fmt.Sprintf("poison-%d/again-1", i))
	}
}
