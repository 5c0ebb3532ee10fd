package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/event"
)

// Something that the services need goes away for a while, under load, and comes back. What can go on goes on, the
// rest is told to come again later, health and readiness tell the truth, and afterwards nothing needs a hand.

// notReady is what a service that is asked whether it is ready lacks, by name; nothing if it is ready.
func (h *house) notReady(t testing.TB, service string) []string {
	t.Helper()
	res, err := h.client.Get(h.URL(service) + "/readyz")
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	var report struct {
		Status string
		Checks map[string]string
	}
	require.NoError(t, json.Unmarshal(body, &report), "%s", body)
	lacking := []string{}
	for check, result := range report.Checks {
		if result != "ok" {
			lacking = append(lacking, check)
		}
	}
	slices.Sort(lacking)
	assert.Equal(t, res.StatusCode == http.StatusOK, len(lacking) == 0, "%s", body)
	assert.Equal(t, res.StatusCode == http.StatusServiceUnavailable, len(lacking) > 0, "%s", body)
	return lacking
}

// withDatabase is a stack whose documents are in a database that can be killed. The default set has none; there it is
// that of the set "nats".
func withDatabase(t *testing.T) stack.Options {
	t.Helper()
	if set := os.Getenv("INFRA"); set != "" && set != stack.SetEmbedded {
		return stack.Options{}
	}
	if err := stack.Installed(stack.SetNATS); err != nil {
		require.NotEqual(t, "1", os.Getenv("CI_REQUIRE_POSTGRES"), "CI_REQUIRE_POSTGRES is set: %v", err)
		t.Skipf("with it, this test shows that an outage of the database heals by itself: %v", err)
	}
	return stack.Options{Set: stack.SetNATS}
}

func TestOutage_StoreGone_ChangesAreRefusedAndGoOnWhenItIsBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t, withDatabase(t))
	events := h.stream(t)
	seller := h.signUp(t)
	load := h.load(t, 4)
	load.goesOn(t)
	readers := h.read(t, 6)

	// Often, to meet it in the middle of an answer. It is told to end, which cuts off whoever is connected: of one that was
	// killed, the processes behind connections live on for a moment, and nothing can take its place before they are gone.
	for range 4 {
		before := readers.answered.Load()
		eventually(t, "orders are shown", func() bool { return readers.answered.Load() > before+50 })
		require.NoError(t, h.Process(h.StoreName()).Stop())
		require.NoError(t, h.Process(h.StoreName()).Start())
		require.NoError(t, h.WaitReady(t.Context(), h.StoreName()))
	}
	require.NoError(t, h.Process(h.StoreName()).Kill())
	h.lack(t, map[string][]string{"auth": {"store"}, "tickets": {"store"}, "orders": {"store"}, "payments": {"store"}, "expiration": {"store"}, "dead-letters": {"store"}})
	later(t, seller.do(t, "POST", "/api/tickets", offer{Title: "Nowhere to keep it", Price: 1000}))
	later(t, seller.do(t, "GET", "/api/orders", nil))
	before := load.toldLater()
	eventually(t, "people are told to come later", func() bool { return load.toldLater() > before+50 })

	require.NoError(t, h.Process(h.StoreName()).Start())
	h.lack(t, nil)
	readers.end()
	require.Empty(t, readers.wrong, "what is there was shown, or not for the moment")
	load.endsWell(t, events)
	require.Empty(t, h.letters(t))
}

// readers look at orders of theirs, one by one and as a list, until they are told to stop.
type readers struct {
	stop     atomic.Bool
	working  sync.WaitGroup
	answered atomic.Int64

	mu    sync.Mutex
	wrong []string // answers that are neither what is there nor "later"
}

// readPace is how long each waits between two looks: about as long as an answer takes, so that several are under way at
// any time, and the machine has time for the tests beside this one.
const readPace = 10 * time.Millisecond

func (h *house) read(t *testing.T, workers int) *readers {
	t.Helper()
	seller, buyer := h.signUp(t), h.signUp(t)
	mine := make([]string, 10)
	for i := range mine {
		mine[i] = buyer.reserved(t, seller.list(t, "Looked at all the time", 1000).ID).ID
	}
	r := &readers{}
	look := func(path string, right func(reply) bool) {
		switch answer, err := buyer.send("GET", path, nil); {
		case err != nil || answer.status == 503:
			time.Sleep(hurry) // what breaks off is met by those that are under way, not by many that are refused
		case answer.status == 200 && right(answer):
			r.answered.Add(1)
		default:
			r.mu.Lock()
			r.wrong = append(r.wrong, fmt.Sprintf("GET %s: %d %s", path, answer.status, answer.body))
			r.mu.Unlock()
		}
	}
	for worker := range workers {
		r.working.Go(func() {
			for n := worker; !r.stop.Load(); n++ {
				time.Sleep(readPace)
				look("/api/orders/"+mine[n%len(mine)], func(reply) bool { return true })
				look("/api/orders", func(answer reply) bool {
					var all []order
					return json.Unmarshal(answer.body, &all) == nil && len(all) == len(mine)
				})
			}
		})
	}
	t.Cleanup(r.end)
	return r
}

func (r *readers) end() {
	r.stop.Store(true)
	r.working.Wait()
}

// lack waits until these services, and no others, are not ready, for these reasons, and requires that all are alive.
// The gateway is not ready while a service behind it is not.
func (h *house) lack(t testing.TB, want map[string][]string) {
	t.Helper()
	want = maps.Clone(want)
	behind := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(service string) bool { return service == "dead-letters" })
	if len(behind) > 0 {
		want["gateway"] = behind
	}
	becomes(t, fmt.Sprint(want), "who is not ready", func() string {
		found := map[string][]string{}
		for _, service := range services() {
			if lacking := h.notReady(t, service); len(lacking) > 0 {
				found[service] = lacking
			}
		}
		return fmt.Sprint(found)
	})
	for _, service := range services() {
		r, err := h.send("GET", h.URL(service)+"/healthz", nil)
		require.NoError(t, err)
		require.Equal(t, 200, r.status, service)
	}
}

// later requires that the reply asks to come again later.
func later(t testing.TB, r reply) fault {
	t.Helper()
	f := refused(t, 503, r)
	seconds, err := strconv.Atoi(r.header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, seconds)
	return f
}

// listed is how many tickets the people have offered.
func (l *load) listed() (n int) {
	l.note(func() { n = len(l.tickets) })
	return n
}

// toldLater is how often the people were told to come again later.
func (l *load) toldLater() (n int) {
	l.note(func() { n = l.answers[503] })
	return n
}

// endsWell ends the load and requires that the outages have left no trace.
func (l *load) endsWell(t *testing.T, events *stream) {
	t.Helper()
	l.goesOn(t)
	l.end()
	require.NoError(t, l.house.WaitReady(t.Context()))
	events.settled(t)
	l.check(t, events)
	require.Zero(t, events.dead(t))
}

func TestOutage_BrokerGone_ChangesGoOnAndAreToldLater(t *testing.T) {
	t.Parallel()
	h := lentHouse(t, nil)
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	seats := make([]ticket, 10)
	for i := range seats {
		seats[i] = seller.list(t, "Reserved in the dark", 1000)
		known(t, buyer, seats[i])
	}
	load := h.load(t, 4)
	load.goesOn(t)

	h.without(t, h.BrokerName(), func() {
		before := load.listed()
		for _, seat := range seats {
			given := buyer.reserved(t, seat.ID)
			require.Equal(t, "created", buyer.order(t, given.ID).Status)
		}
		eventually(t, "tickets are offered", func() bool { return load.listed() > before+8 })
		require.Zero(t, load.toldLater())
		h.lack(t, nil)
	})
	for _, seat := range seats {
		h.ticketBecomes(t, "reserved", seat.ID)
	}
	load.endsWell(t, events)
	require.Zero(t, load.toldLater())
}

func TestOutage_BrokerGoneForLong_ChangesAreRefusedWhenTheJournalIsFull(t *testing.T) {
	t.Parallel()
	const slots = 8
	h := newHouse(t, stack.Options{Env: map[string]string{"JOURNAL_SLOTS": strconv.Itoa(slots)}})
	events := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	seat := seller.list(t, "Reserved in the dark", 1000)
	known(t, buyer, seat)
	events.settled(t)
	var offered []ticket

	h.without(t, h.BrokerName(), func() {
		for range slots {
			offered = append(offered, seller.list(t, "Offered in the dark", 1000))
		}
		f := later(t, seller.do(t, "POST", "/api/tickets", offer{Title: "One too many", Price: 1000}))
		require.Contains(t, f.Detail, "message broker")
		require.Len(t, seller.tickets(t), 1+len(offered), "nothing of it was written")

		// Others have room, and reading needs none.
		h.lack(t, map[string][]string{"tickets": {"journal"}})
		require.Equal(t, "available", h.ticket(t, seat.ID).Status)
		buyer.reserved(t, seat.ID)
	})
	h.lack(t, nil)
	seller.list(t, "After all", 1000)
	for _, listed := range offered {
		events.holds(t, "ticket.created:"+listed.ID+":1")
		known(t, buyer, listed)
	}
	h.ticketBecomes(t, "reserved", seat.ID)
	require.Zero(t, events.dead(t))
}

// fill publishes events that nobody reacts to until the stream refuses even a small one.
func (s *stream) fill(t *testing.T, topic string) {
	t.Helper()
	for _, size := range []int{10_000, 50} {
		filler := event.New("order.filler", "none", 1, strings.Repeat("x", size)).JSON()
		var err error
		for n := 0; err == nil; n++ {
			require.Less(t, n, 1000, "the stream is never full")
			err = s.broker.Publish(t.Context(), topic, filler)
		}
		require.ErrorContains(t, err, "maximum bytes exceeded")
	}
}

// A consumer that is away for long fills the stream. The broker then refuses what the services publish, and removes nothing that
// the consumer has yet to handle.
func TestOutage_StreamFull_ChangesAreRefusedUntilItsEventsAreHandled(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "the size of the streams is NATS's")
	const slots = 8
	h := newHouse(t, stack.Options{Env: map[string]string{"JOURNAL_SLOTS": strconv.Itoa(slots), "NATS_MAX_BYTES": "2MiB"}})
	stream := h.stream(t)
	seller, buyer := h.signUp(t), h.signUp(t)
	seat := seller.list(t, "Reserved while the stream is full", 1000)
	known(t, buyer, seat)
	stream.settled(t)
	var listed []ticket
	var reserved order

	h.without(t, "expiration", func() {
		stream.fill(t, "events.orders")
		eventuallyWithin(t, time.Minute, "what everybody had handled before makes room", func() bool {
			state, err := stream.broker.State(t.Context())
			return err == nil && !state.Complete
		})
		stream.fill(t, "events.orders") // now the oldest event is one that expiration has yet to handle

		// Each service takes changes until its journal is full.
		for range slots {
			listed = append(listed, seller.list(t, "Listed while the stream is full", 1000))
		}
		f := later(t, seller.do(t, "POST", "/api/tickets", offer{Title: "One too many", Price: 1000}))
		require.Contains(t, f.Detail, "message broker")
		becomes(t, "[journal]", "what tickets lacks", func() string { return fmt.Sprint(h.notReady(t, "tickets")) })
		reserved = buyer.reserved(t, seat.ID)

		require.Len(t, seller.tickets(t), 1+slots, "what is refused is not written, and reads go on")
		require.Equal(t, reserved, buyer.order(t, reserved.ID))
		for _, one := range listed {
			require.False(t, stream.has("ticket.created:"+one.ID+":1"), "the stream was not full")
		}
	})

	eventuallyWithin(t, time.Minute, "tickets are listed again", func() bool {
		return seller.do(t, "POST", "/api/tickets", offer{Title: "After all", Price: 1000}).status == 201
	})
	h.lack(t, nil)
	for _, one := range listed {
		stream.holds(t, "ticket.created:"+one.ID+":1")
		known(t, buyer, one)
	}
	h.ticketBecomes(t, "reserved", seat.ID)
	status, _ := buyer.pay(t, reserved.ID, goodCard)
	require.Equal(t, 201, status)
	buyer.orderBecomes(t, "complete", reserved.ID)
	h.ticketBecomes(t, "sold", seat.ID)
	stream.settled(t)
	require.Zero(t, stream.dead(t))
}

// Reservations are short, so that those of the outage, which nobody pays, have to end by themselves.
func TestOutage_SidecarsAndWhatTheyNeed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{Env: map[string]string{"RESERVATION_WINDOW": "5s", "REMINDER_PERIOD": "1s"}})
	events := h.stream(t)
	load := h.load(t, 3)
	seller := h.signUp(t)

	t.Run("sidecar of orders", func(t *testing.T) {
		load.goesOn(t)
		h.without(t, "orders-dapr", func() {
			h.lack(t, map[string][]string{"orders": {"sidecar", "store"}})
			later(t, seller.do(t, "POST", "/api/orders", wanted{seller.list(t, "Tickets go on", 1000).ID}))
			before := load.listed()
			eventually(t, "tickets are offered", func() bool { return load.listed() > before+5 })
		})
		h.lack(t, nil)
	})
	for _, needed := range []string{stack.Scheduler, stack.Placement} {
		t.Run(needed, func(t *testing.T) {
			load.goesOn(t)
			h.without(t, needed, func() {
				h.lack(t, map[string][]string{"expiration": {needed}})
				load.goesOn(t)
			})
			h.lack(t, nil)
		})
	}
	load.endsWell(t, events)
	for _, buyer := range load.people {
		eventually(t, "the orders of "+buyer.ID+" have come to an end", func() bool {
			return !slices.ContainsFunc(buyer.orders(t), func(o order) bool { return o.Status == "created" })
		})
	}
	events.settled(t)
	load.check(t, events)
}

// tickets are all tickets of a person.
func (p *person) tickets(t testing.TB) (mine []ticket) {
	t.Helper()
	r := p.do(t, "GET", "/api/tickets?limit=200", nil)
	require.Empty(t, r.header.Get("Link"), "more than a page")
	for _, listed := range asIf[[]ticket](t, r, 200) {
		if listed.UserID == p.ID {
			mine = append(mine, listed)
		}
	}
	return mine
}
