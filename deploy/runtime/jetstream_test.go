package main

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dapr/components-contrib/pubsub"
	"github.com/dapr/kit/logger"
)

func TestMessageID_IsKnownToItsPublisherAlone(t *testing.T) {
	key := func(url, seed string) []byte {
		return (&jetStreamSettings{NatsURL: url, SeedKey: seed}).idKey()
	}
	id := func(key []byte) string { return messageID(key, "events.orders", "order.created:1:1") }
	const plain = "events.orders/order.created:1:1"
	one := id(key("nats://orders:one@127.0.0.1:4222", ""))

	same := map[string]string{
		"a replica on another server":    id(key("tls://orders:one@nats-1:4222", "")),
		"several servers":                id(key("nats://nats-0:4222, nats://orders:one@nats-1:4222,nats://orders:one@nats-2:4222", "")),
		"an address without a scheme":    id(key("orders:one@nats-1:4222", "")),
		"an escape sequence, read by it": id(key("nats://orders:%6Fne@nats-1:4222", "")),
	}
	for what, got := range same {
		if got != one {
			t.Errorf("%s: %s, not %s", what, got, one)
		}
	}
	others := map[string]string{
		"another password": id(key("nats://orders:two@127.0.0.1:4222", "")),
		"a seed":           id(key("nats://127.0.0.1:4222", "SUAONE")),
		"another topic":    messageID([]byte("one"), "events.users", "order.created:1:1"),
		"another event":    messageID([]byte("one"), "events.orders", "order.created:1:2"),
		"the plain id":     plain,
	}
	seen := map[string]string{one: "the first"}
	for what, got := range others {
		if other, repeated := seen[got]; repeated {
			t.Errorf("%s has the id of %s", what, other)
		}
		seen[got] = what
	}
	for _, address := range []string{"nats://127.0.0.1:4222", "nats://token@127.0.0.1:4222", "nats://orders:@127.0.0.1:4222"} {
		if got := id(key(address, "")); got != plain {
			t.Errorf("without a password, %s: %s, not %s", address, got, plain)
		}
	}
}

func TestPublish_AnotherUsersMessageIDSuppressesNoEvent(t *testing.T) {
	events := startNATS(t, "tickets", "expiration")
	const topic, id = "events.expirations", "expiration.complete:1:1"
	forger, err := nats.Connect(events.url("tickets"))
	if err != nil {
		t.Fatal(err)
	}
	defer forger.Close()
	forge := nats.NewMsg("events.tickets")
	forge.Header[nats.MsgIdHdr] = []string{topic + "/" + id}
	forge.Data = []byte("forged")
	if _, err := forger.RequestMsg(forge, 5*time.Second); err != nil {
		t.Fatal(err)
	}

	// Two replicas publish the event, one of them alone and one in bulk; and both once more.
	event := fmt.Appendf(nil, `{"id":%q}`, id)
	for range 2 {
		if err := events.component(t, "expiration").Publish(t.Context(), &pubsub.PublishRequest{Topic: topic, Data: event}); err != nil {
			t.Fatal(err)
		}
		bulk := &pubsub.BulkPublishRequest{Topic: topic, Entries: []pubsub.BulkMessageEntry{{EntryId: "1", Event: event}}}
		if _, err := events.component(t, "expiration").BulkPublish(t.Context(), bulk); err != nil {
			t.Fatal(err)
		}
	}

	stream, err := events.js.Stream(t.Context(), "events")
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("events.>"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.State.Subjects; got["events.tickets"] != 1 || got[topic] != 1 {
		t.Errorf("messages by topic: %v; the event is to be there once, beside the forged message", got)
	}
}

// natsOfUsers is a server with the streams, whose users have passwords of their own and may publish on one topic each.
type natsOfUsers struct {
	address string
	js      jetstream.JetStream
}

func startNATS(t *testing.T, users ...string) natsOfUsers {
	t.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true}
	opts.Users = []*server.User{{Username: "admin", Password: "of admin"}}
	topics := map[string]string{"tickets": "events.tickets", "expiration": "events.expirations"}
	for _, user := range users {
		opts.Users = append(opts.Users, &server.User{Username: user, Password: "of " + user, Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{topics[user]}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}})
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS has not started")
	}
	n := natsOfUsers{address: s.Addr().String()}
	conn, err := nats.Connect(n.url("admin"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if n.js, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
	for _, config := range streams(1, 0) {
		if _, err := n.js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// url is the server's, with a user and the password.
func (n natsOfUsers) url(user string) string {
	return (&url.URL{Scheme: "nats", User: url.UserPassword(user, "of "+user), Host: n.address}).String()
}

// component is pub/sub as a user's sidecar has it.
func (n natsOfUsers) component(t *testing.T, user string) *jetStream {
	t.Helper()
	j := &jetStream{log: logger.NewLogger("test"), closing: make(chan struct{})}
	var meta pubsub.Metadata
	meta.Properties = map[string]string{"natsURL": n.url(user)}
	if err := j.Init(t.Context(), meta); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}
