package e2e

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/event"
)

// createLegacyStreams creates the streams of an earlier release on NATS. On Redis, the first publication creates a stream.
func createLegacyStreams(t *testing.T, s *stack.Stack) {
	t.Helper()
	if s.BrokerName() != stack.NATS {
		return
	}
	address := s.Broker()
	var options []nats.Option
	if address.Authority != "" {
		options = append(options, nats.RootCAs(address.Authority))
	}
	conn, err := nats.Connect(address.URL, options...)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	for _, name := range []string{"events", "dead", "retry"} {
		require.NoError(t, js.DeleteStream(t.Context(), name))
	}
	for name, subject := range map[string]string{"events": "events", "events-dead": "events.dead"} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}, Duplicates: 2 * time.Minute})
		require.NoError(t, err)
	}
	for _, service := range []string{"tickets", "orders", "payments", "expiration"} {
		_, err := js.CreateConsumer(t.Context(), "events", jetstream.ConsumerConfig{
			Durable: service + "-pull", FilterSubject: "events", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 5 * time.Second, MaxAckPending: 4096,
		})
		require.NoError(t, err)
	}
}

// An earlier release had one topic for all events, and one for all dead letters. What it has published there is handled.
func TestUpgrade_EventsOnLegacyTopicsAreHandled(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	earlier := newTestStack(stacktest.Start(t, withTestSettings(stack.Options{Folder: folder, Apps: []string{}})))
	createLegacyStreams(t, earlier.Stack)
	events := earlier.stream(t)
	listing := event.Ticket{ID: uuid.NewString(), Title: "Listed before", Price: 1000, Currency: "usd", UserID: uuid.NewString(), Status: "available", Version: 1, CreatedAt: time.Now(), UpdatedAt: time.Now()}
	events.publishOn(t, "events", listing.Event("ticket.created").JSON())
	id := uuid.NewString()
	eventID := "order.created:" + id + ":1"
	events.publishOn(t, "events", orderOfUnknownTicket(id))
	events.publishOn(t, "events", event.User{ID: uuid.NewString(), Version: 1}.Event("user.created").JSON())

	bare := uuid.NewString()
	events.publishOn(t, "events.dead", orderOfUnknownTicket(bare))
	now := time.Now()
	other := orderOfUnknownTicket(uuid.NewString())
	otherEvent, err := event.Read(other)
	require.NoError(t, err)
	events.publishOn(t, "events.dead", event.New("event.dead", "tickets:"+otherEvent.ID, 1, deadLetter{
		Service: "tickets", Code: "refused", Reason: "there is no ticket", Attempts: 1, FirstFailure: now, LastFailure: now,
		EventID: otherEvent.ID, EventType: otherEvent.Type, Event: other,
	}).JSON())
	require.NoError(t, earlier.Stop())

	s := newStack(t, stack.Options{Folder: folder})
	events = s.stream(t)
	buyer := s.signUp(t)
	eventually(t, "the ticket of the old topic can be reserved", func() bool { // its id does not show that it is new, so orders does not wait for it
		status, _ := buyer.tryReserve(t, listing.ID)
		return status == 201
	})
	require.Equal(t, "refused", s.waitDeadLetter(t, "tickets", eventID).Code, "tickets has no such ticket")
	events.waitIdle(t)

	bareLetter := s.waitDeadLetter(t, "", "order.created:"+bare+":1")
	require.Equal(t, "given up", bareLetter.Code)
	s.requireDeadLettersCommand(t, "send", bareLetter.ID)
	require.Equal(t, "refused", s.waitDeadLetter(t, "tickets", bareLetter.EventID+"/again-1").Code, "it names no service, so all services receive it")

	ticketsLetter := s.waitDeadLetter(t, "tickets", otherEvent.ID)
	require.Equal(t, "there is no ticket", ticketsLetter.Reason)
	s.requireDeadLettersCommand(t, "send", ticketsLetter.ID)
	events.waitSentAgain(t, "tickets", ticketsLetter.EventID+"/again-1")
}
