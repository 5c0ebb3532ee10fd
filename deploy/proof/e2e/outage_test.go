package e2e

import (
	"fmt"
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
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/event"
)

// A server or a sidecar goes down under load, and comes back. What does not need it continues, the rest is refused with 503. Health and
// readiness show the state, and afterwards everything works without help.

// failedChecks returns the names of the failed checks in a service's readiness, which are none if it is ready.
func (s *testStack) failedChecks(t testing.TB, service string) []string {
	t.Helper()
	r := s.request(t, "GET", s.URL(service)+"/readyz", nil)
	failed := []string{}
	for check, result := range decode[readiness](t, r).Checks {
		if result != "ok" {
			failed = append(failed, check)
		}
	}
	slices.Sort(failed)
	want := http.StatusOK
	if len(failed) > 0 {
		want = http.StatusServiceUnavailable
	}
	assert.Equal(t, want, r.Status, "%s", r.Body)
	return failed
}

// waitNotReady waits until these services are not ready, because of these checks, and all others are. All must be healthy. The gateway
// is not ready while a service behind it is not.
func (s *testStack) waitNotReady(t testing.TB, want map[string][]string) {
	t.Helper()
	want = maps.Clone(want)
	behind := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(service string) bool { return service == "dead-letters" })
	if len(behind) > 0 {
		want["gateway"] = behind
	}
	eventuallyEqual(t, fmt.Sprint(want), "the services that are not ready", func() string {
		found := map[string][]string{}
		for _, service := range services() {
			if failed := s.failedChecks(t, service); len(failed) > 0 {
				found[service] = failed
			}
		}
		return fmt.Sprint(found)
	})
	for _, service := range services() {
		require.Equal(t, 200, s.request(t, "GET", s.URL(service)+"/healthz", nil).Status, service)
	}
}

// requireRetryLater requires a 503 with the time to wait before the next request.
func requireRetryLater(t testing.TB, r client.Response) client.Problem {
	t.Helper()
	problem := requireProblem(t, 503, r)
	require.Positive(t, problem.RetryAfter)
	return problem
}

// withDatabase is a stack whose documents are in a database server. The default set has none, so the set "nats" takes its place.
func withDatabase(t *testing.T) stack.Options {
	t.Helper()
	if set := os.Getenv("INFRA"); set != "" && set != stack.SetEmbedded {
		return stack.Options{}
	}
	if err := stack.Installed(stack.SetNATS); err != nil {
		require.NotEqual(t, "1", os.Getenv("CI_REQUIRE_POSTGRES"), "CI_REQUIRE_POSTGRES is set: %v", err)
		t.Skipf("the outage of a database is not tested: %v", err)
	}
	return stack.Options{Set: stack.SetNATS}
}

func TestOutage_StoreIsDown_ChangesAreRefusedUntilItIsBack(t *testing.T) {
	t.Parallel()
	s := newStack(t, withDatabase(t))
	events := s.stream(t)
	seller := s.signUp(t)
	load := s.startLoad(t, 4)
	load.waitForReservations(t)
	readers := s.startReaders(t, 6)

	// Stop it several times, so that it ends in the middle of a response. Stop closes all connections at once. After a kill, the
	// processes behind the connections live for a moment, and a new server cannot start before they end.
	for range 4 {
		before := readers.correct.Load()
		eventually(t, "orders are read", func() bool { return readers.correct.Load() > before+50 })
		require.NoError(t, s.Process(s.StoreName()).Stop())
		s.start(t, s.StoreName())
		s.waitReady(t, s.StoreName())
	}
	s.kill(t, s.StoreName())
	s.waitNotReady(t, map[string][]string{"auth": {"store"}, "tickets": {"store"}, "orders": {"store"}, "payments": {"store"}, "expiration": {"store"}, "dead-letters": {"store"}, "catalogue": {"store"}})
	requireRetryLater(t, seller.call(t, client.ListTicket("Refused", 1000)))
	requireRetryLater(t, seller.call(t, client.ReadOrders()))
	before := load.refusedForNow()
	eventually(t, "requests are refused with 503", func() bool { return load.refusedForNow() > before+50 })

	s.start(t, s.StoreName())
	s.waitNotReady(t, nil)
	readers.end()
	require.Empty(t, readers.wrong, "a read returns what is there, or 503")
	load.finishAndCheck(t, events)
	require.Empty(t, s.deadLetters(t))
}

// readers read orders of one buyer, one by one and as a list, until they are stopped.
type readers struct {
	stop    atomic.Bool
	working sync.WaitGroup
	correct atomic.Int64 // responses that are as they should be

	mu    sync.Mutex
	wrong []string // responses that are neither correct nor 503
}

// readPause is the pause of a reader between two reads. It is about as long as a response takes, so that several reads are under way at
// any time.
const readPause = 10 * time.Millisecond

func (s *testStack) startReaders(t *testing.T, workers int) *readers {
	t.Helper()
	seller, buyer := s.signUp(t), s.signUp(t)
	ids := make([]string, 10)
	for i := range ids {
		ids[i] = buyer.reserve(t, seller.list(t, "Read all the time", 1000).ID).ID
	}
	r := &readers{}
	read := func(request client.Request, isCorrect func(client.Response) bool) {
		switch response, err := buyer.try(t.Context(), request); {
		case err != nil || response.Status == 503:
			time.Sleep(retryPause) // so that the next outage finds reads under way, not only refusals
		case response.Status == 200 && isCorrect(response):
			r.correct.Add(1)
		default:
			r.mu.Lock()
			r.wrong = append(r.wrong, fmt.Sprintf("GET %s: %d %s", request.Path, response.Status, response.Body))
			r.mu.Unlock()
		}
	}
	for worker := range workers {
		r.working.Go(func() {
			for n := worker; !r.stop.Load(); n++ {
				time.Sleep(readPause)
				read(client.ReadOrder(ids[n%len(ids)]), func(client.Response) bool { return true })
				read(client.ReadOrders(), func(response client.Response) bool {
					orders, err := client.Decode[[]client.Order](response, nil)
					return err == nil && len(orders) == len(ids)
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

func TestOutage_BrokerIsDown_ChangesAreCommittedAndPublishedLater(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	listings := make([]client.Ticket, 10)
	for i := range listings {
		listings[i] = seller.list(t, "Reserved while the broker is down", 1000)
		projectTicket(t, buyer, listings[i])
	}
	load := s.startLoad(t, 4)
	load.waitForReservations(t)
	var unknown client.Ticket
	var unpaid client.Order

	s.whileDown(t, s.BrokerName(), func() {
		before := load.listedCount()
		for _, listing := range listings {
			unpaid = buyer.reserve(t, listing.ID)
			require.Equal(t, "created", buyer.order(t, unpaid.ID).Status)
		}
		unknown = seller.list(t, "Listed while the broker is down", 1000)
		requests := []client.Request{client.Reserve(unknown.ID), client.Pay(unpaid.ID, goodCard), client.ReadPaymentsOf(unpaid.ID)}
		atOnce(len(requests), func(i int) {
			problem, err := buyer.call(t, requests[i]).Problem()
			assert.NoError(t, err)
			assert.Equal(t, []any{503, "not_yet_known"}, []any{problem.Status, problem.Code()})
			assert.Positive(t, problem.RetryAfter)
		})
		eventually(t, "tickets are listed", func() bool { return load.listedCount() > before+8 })
		require.Zero(t, load.refusedForNow())
		s.waitNotReady(t, nil)
	})
	for _, listing := range listings {
		s.ticketBecomes(t, "reserved", listing.ID)
	}
	eventually(t, "the new order is known", func() bool { return buyer.call(t, client.Pay(unpaid.ID, goodCard)).Granted() })
	s.signUp(t).reserve(t, unknown.ID)
	load.finishAndCheck(t, events)
	require.Zero(t, load.refusedForNow())
}

func TestOutage_BrokerIsDown_ChangesAreRefusedWhenTheJournalIsFull(t *testing.T) {
	t.Parallel()
	const slots = 8
	s := newStack(t, stack.Options{Env: map[string]string{"JOURNAL_SLOTS": strconv.Itoa(slots)}})
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	listing := seller.list(t, "Reserved while the broker is down", 1000)
	projectTicket(t, buyer, listing)
	events.waitIdle(t)
	var listed []client.Ticket

	s.whileDown(t, s.BrokerName(), func() {
		for range slots {
			listed = append(listed, seller.list(t, "Listed while the broker is down", 1000))
		}
		problem := requireRetryLater(t, seller.call(t, client.ListTicket("One too many", 1000)))
		require.Contains(t, problem.Detail, "message broker")
		require.Len(t, seller.ownTickets(t), 1+len(listed), "the refused ticket is not stored")

		// The journals of other services have room, and reads need none.
		s.waitNotReady(t, map[string][]string{"tickets": {"journal"}})
		require.Equal(t, "available", s.ticket(t, listing.ID).Status)
		buyer.reserve(t, listing.ID)
	})
	s.waitNotReady(t, nil)
	seller.list(t, "Listed after the outage", 1000)
	for _, ticket := range listed {
		events.waitFor(t, "ticket.created:"+ticket.ID+":1")
		projectTicket(t, buyer, ticket)
	}
	s.ticketBecomes(t, "reserved", listing.ID)
	require.Zero(t, events.deadLetterCount(t))
}

// fill publishes events of a type that no service subscribes to, until the broker refuses even a small one.
func (es *eventStream) fill(t *testing.T, topic string) {
	t.Helper()
	for _, size := range []int{10_000, 50} {
		filler := event.New("order.filler", "none", 1, strings.Repeat("x", size)).JSON()
		var err error
		for n := 0; err == nil; n++ {
			require.Less(t, n, 1000, "the stream does not become full")
			err = es.broker.Publish(t.Context(), topic, filler)
		}
		require.ErrorContains(t, err, "maximum bytes exceeded")
	}
}

// A service that is down for long lets the stream become full. The broker then refuses new events, and keeps all that the service has
// yet to handle.
func TestOutage_StreamIsFull_ChangesAreRefusedUntilItsEventsAreHandled(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "the size of the streams is NATS's")
	const slots = 8
	s := newStack(t, stack.Options{Env: map[string]string{"JOURNAL_SLOTS": strconv.Itoa(slots), "NATS_MAX_BYTES": "2MiB"}})
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	listing := seller.list(t, "Reserved while the stream is full", 1000)
	projectTicket(t, buyer, listing)
	events.waitIdle(t)
	var listed []client.Ticket
	var reserved client.Order

	s.whileDown(t, "expiration", func() {
		events.fill(t, "events.orders")
		eventuallyWithin(t, time.Minute, "events that all services have handled are removed", func() bool {
			state, err := events.broker.State(t.Context())
			return err == nil && !state.Complete
		})
		events.fill(t, "events.orders") // now the oldest event is one that expiration has not handled

		// Each service takes changes until its journal is full.
		for range slots {
			listed = append(listed, seller.list(t, "Listed while the stream is full", 1000))
		}
		problem := requireRetryLater(t, seller.call(t, client.ListTicket("One too many", 1000)))
		require.Contains(t, problem.Detail, "message broker")
		eventuallyEqual(t, "[journal]", "the failed checks of tickets", func() string { return fmt.Sprint(s.failedChecks(t, "tickets")) })
		reserved = buyer.reserve(t, listing.ID)

		require.Len(t, seller.ownTickets(t), 1+slots, "the refused ticket is not stored, and reads continue")
		require.Equal(t, reserved, buyer.order(t, reserved.ID))
		for _, one := range listed {
			require.False(t, events.has("ticket.created:"+one.ID+":1"), "the stream was not full")
		}
	})

	eventuallyWithin(t, time.Minute, "tickets are listed again", func() bool {
		return seller.call(t, client.ListTicket("Listed after the outage", 1000)).Status == 201
	})
	s.waitNotReady(t, nil)
	for _, one := range listed {
		events.waitFor(t, "ticket.created:"+one.ID+":1")
		projectTicket(t, buyer, one)
	}
	s.ticketBecomes(t, "reserved", listing.ID)
	buyer.pay(t, reserved.ID, goodCard)
	buyer.orderBecomes(t, "complete", reserved.ID)
	s.ticketBecomes(t, "sold", listing.ID)
	events.waitIdle(t)
	require.Zero(t, events.deadLetterCount(t))
}

// The reservation window is short, so that unpaid orders must expire.
func TestOutage_SidecarSchedulerOrPlacementIsDown_OthersContinue(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RESERVATION_WINDOW": "5s", "REMINDER_PERIOD": "1s"}})
	events := s.stream(t)
	load := s.startLoad(t, 3)
	seller := s.signUp(t)

	t.Run("sidecar of orders", func(t *testing.T) {
		load.waitForReservations(t)
		s.whileDown(t, "orders-dapr", func() {
			s.waitNotReady(t, map[string][]string{"orders": {"sidecar", "store"}})
			requireRetryLater(t, seller.call(t, client.Reserve(seller.list(t, "Tickets continues", 1000).ID)))
			before := load.listedCount()
			eventually(t, "tickets are listed", func() bool { return load.listedCount() > before+5 })
		})
		s.waitNotReady(t, nil)
	})
	for _, server := range []string{stack.Scheduler, stack.Placement} {
		t.Run(server, func(t *testing.T) {
			load.waitForReservations(t)
			s.whileDown(t, server, func() {
				s.waitNotReady(t, map[string][]string{"expiration": {server}})
				load.waitForReservations(t)
			})
			s.waitNotReady(t, nil)
		})
	}
	load.finishAndCheck(t, events)
	for _, buyer := range load.users {
		eventually(t, "no order of "+buyer.ID+" is unpaid", func() bool {
			return !slices.ContainsFunc(buyer.ownOrders(t), func(o client.Order) bool { return o.Status == "created" })
		})
	}
	events.waitIdle(t)
	load.check(t, events)
}

func TestOutage_BrokerIsDownOrHangs_ReservationsContinue(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)
	outages := map[string]struct{ begin, end func(*stack.Process) error }{
		"is down": {(*stack.Process).Kill, (*stack.Process).Start},
		"hangs":   {(*stack.Process).Pause, (*stack.Process).Resume},
	}
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			listings := make([]client.Ticket, 20)
			for i := range listings {
				listings[i] = seller.list(t, "Reserved during the outage", 1000)
				projectTicket(t, buyer, listings[i])
			}
			events.waitIdle(t)

			require.NoError(t, outage.begin(s.Process(s.BrokerName())))
			made := make([]client.Order, len(listings))
			for i, listing := range listings {
				made[i] = buyer.reserve(t, listing.ID)
				require.Equal(t, "created", buyer.order(t, made[i].ID).Status)
				requireStatus(t, 409, seller.call(t, client.Reserve(listing.ID)))
			}
			require.NoError(t, outage.end(s.Process(s.BrokerName())))

			for i, listing := range listings {
				require.Equal(t, made[i].ID, s.ticketBecomes(t, "reserved", listing.ID).OrderID)
			}
			paid := buyer.pay(t, made[0].ID, goodCard)
			buyer.paymentBecomes(t, "captured", paid.ID)
			require.Zero(t, events.deadLetterCount(t))
		})
	}
}

func TestOutage_StripeIsDown_PaymentsAreSettledLater(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	seller, buyer := s.signUp(t), s.signUp(t)
	bought := buyer.reserve(t, seller.list(t, "Bought", 1000).ID)
	cancelled, begun := buyer.beginSecurePayment(t, seller.list(t, "Cancelled", 1000).ID)

	s.whileDown(t, "sandbox", func() {
		r := buyer.call(t, client.Pay(bought.ID, goodCard))
		requireProblem(t, 503, r, "processor_unavailable")
		require.NotEmpty(t, r.Header.Get("Retry-After"))
		for _, path := range []string{"/healthz", "/readyz"} {
			require.Equal(t, 200, s.request(t, "GET", s.URL("payments")+path, nil).Status, "an outage of Stripe is no reason to restart the process or to send it no requests: %s", path)
		}
	})
	s.kill(t, s.BrokerName())
	paid := buyer.payUntilAccepted(t, bought.ID, goodCard)
	s.kill(t, "sandbox")
	s.start(t, s.BrokerName())

	// One order becomes complete, and the other is cancelled. Both need a request to Stripe.
	buyer.orderBecomes(t, "complete", bought.ID)
	buyer.cancel(t, cancelled.ID)
	s.ticketBecomes(t, "sold", bought.Ticket.ID)
	s.ticketBecomes(t, "available", cancelled.Ticket.ID)
	other := buyer.reserve(t, seller.list(t, "Another", 1000).ID)
	buyer.cancel(t, other.ID)
	eventually(t, "payments handles events of other orders", func() bool {
		return buyer.call(t, client.Pay(other.ID, goodCard)).Status == 409
	})
	require.Equal(t, "authorized", buyer.payment(t, paid.ID).Status)

	s.kill(t, "payments")
	s.start(t, "payments")
	s.waitReady(t, "payments")
	s.start(t, "sandbox")

	buyer.paymentBecomes(t, "captured", paid.ID)
	buyer.paymentBecomes(t, "voided", begun.ID)
	s.requireMoney(t, bought.ID, money{charges: 1, kept: 1000})
	s.requireMoney(t, cancelled.ID, money{})
}

// Without catalogue no shows are found, and a ticket whose id is known can be bought. What happened meanwhile is on the pages afterwards.
func TestOutage_CatalogueIsDown_SalesContinue(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	seller, buyer := s.signUp(t), s.signUp(t)
	first, second := seller.list(t, "Bought while catalogue is down", 4200), seller.list(t, "For sale", 4200)
	eventually(t, "both are for sale", func() bool { return slices.Equal(idsOf(s.availableTickets(t)), []string{second.ID, first.ID}) })

	s.kill(t, "catalogue")
	eventually(t, "the gateway notices it", func() bool { return slices.Equal(s.failedChecks(t, "gateway"), []string{"catalogue"}) })
	for _, request := range []client.Request{client.ReadShows(), client.SearchShows(), client.ReadAvailable()} {
		requireRetryLater(t, seller.call(t, request))
	}
	third := seller.list(t, "Listed while catalogue is down", 4200)
	paid := buyer.pay(t, buyer.reserve(t, first.ID).ID, goodCard)
	buyer.paymentBecomes(t, "captured", paid.ID)
	require.Len(t, s.allTickets(t, 200), 3)

	s.start(t, "catalogue")
	s.waitReady(t, "catalogue")
	eventually(t, "the pages are what tickets has", func() bool {
		r := s.call(t, client.ReadAvailable())
		return r.Status == 200 && slices.Equal(idsOf(decode[[]client.Ticket](t, r)), []string{third.ID, second.ID})
	})
}

// unhealthy is what a sidecar logs when it stops its subscriptions, because its service does not respond.
const unhealthy = "App entered un-healthy status"

// A sidecar whose service is down for long stops its subscriptions, with events that it has already received, and starts them again later.
// (With Dapr's own pubsub.redis, the service receives no events after that.)
func TestOutage_ServiceIsDown_ItsEventsAreDeliveredLater(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	events := s.stream(t)
	seller, buyer := s.signUp(t), s.signUp(t)

	stops := func() int { return strings.Count(strings.Join(s.Process("orders-dapr").Log(), "\n"), unhealthy) }
	before := stops()
	s.kill(t, "orders")
	var last client.Ticket
	for range 300 { // more than a sidecar receives at a time
		last = seller.list(t, "Listed while orders is down", 1000)
	}
	eventually(t, "the sidecar stops its subscriptions", func() bool { return stops() > before })
	s.start(t, "orders")
	s.waitReady(t, "orders")

	events.waitIdle(t)
	projectTicket(t, buyer, last)
	require.Zero(t, events.deadLetterCount(t))
}
