package stack_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

func jetStreamOf(t *testing.T, s *stack.Stack) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(s.NATSURL())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

// subjects are those of all streams.
func subjects(t *testing.T, js jetstream.JetStream) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	streams := js.ListStreams(t.Context())
	for stream := range streams.Info() {
		all[stream.Config.Name] = stream.Config.Subjects
	}
	require.NoError(t, streams.Err())
	return all
}

var allStreams = map[string][]string{"events": {"events", "events.>"}, "dead": {"dead.>"}, "retry": {"retry.>"}}

func TestStreams_OfTheReleaseBeforeAreBroughtUpToDate(t *testing.T) {
	folder, none := t.TempDir(), []string{}
	first := stacktest.Start(t, stack.Options{Folder: folder, Apps: none, Infra: []string{stack.NATS}})
	js := jetStreamOf(t, first)
	require.Equal(t, allStreams, subjects(t, js))

	// As the release before left them: an event that orders has not handled, and three letters, of which one was taken in.
	for name := range allStreams {
		require.NoError(t, js.DeleteStream(t.Context(), name))
	}
	for name, subject := range map[string]string{"events": "events", "events-dead": "events.dead"} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}, MaxAge: 7 * 24 * time.Hour, Duplicates: 2 * time.Minute})
		require.NoError(t, err)
	}
	publish := func(subject, id string) {
		_, err := js.Publish(t.Context(), subject, []byte(id), jetstream.WithMsgID(id))
		require.NoError(t, err)
	}
	consumer := func(js jetstream.JetStream, stream, name, subject string) jetstream.Consumer {
		c, err := js.CreateOrUpdateConsumer(t.Context(), stream, jetstream.ConsumerConfig{Durable: name, FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 5 * time.Second})
		require.NoError(t, err)
		return c
	}
	take := func(c jetstream.Consumer) string {
		message, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
		require.NoError(t, err)
		require.NoError(t, message.DoubleAck(t.Context()))
		return string(message.Data())
	}
	publish("events", "handled")
	publish("events", "pending")
	require.Equal(t, "handled", take(consumer(js, "events", "orders-pull", "events")))
	for _, letter := range []string{"taken in", "letter", "pending"} { // the last is a bare event, with its event's id
		publish("events.dead", letter)
	}
	require.Equal(t, "taken in", take(consumer(js, "events-dead", "gateway-pull", "events.dead")))
	require.NoError(t, first.Stop())

	second := stacktest.Start(t, stack.Options{Folder: folder, Apps: none, Infra: []string{stack.NATS}})
	js = jetStreamOf(t, second)
	require.Equal(t, allStreams, subjects(t, js))
	require.Equal(t, "pending", take(consumer(js, "events", "orders-pull", "events")), "and what was handled does not come again")
	letters := consumer(js, "events", "gateway-events-dead", "events.dead")
	require.Equal(t, "letter", take(letters))
	require.Equal(t, "pending", take(letters))

	// An update that broke off before the letters were moved: once more moves all.
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "events-dead", Subjects: []string{"events-dead.left"}})
	require.NoError(t, err)
	publish("events-dead.left", "left")
	streamsProgram(t, second)
	require.Equal(t, "left", take(letters))
	require.Equal(t, allStreams, subjects(t, js))
}

func streamsProgram(t *testing.T, s *stack.Stack) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(filepath.Dir(house(t)), ".build", "runtime"), "nats-streams", "--server="+s.NATSURL()).CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestRuntime_IsTheProgramWhoseNameItIsCalledBy(t *testing.T) {
	runtime, err := filepath.Abs(filepath.Join(filepath.Dir(house(t)), ".build", "runtime"))
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), "nats-server")
	require.NoError(t, os.Symlink(runtime, link))
	out, err := exec.Command(link, "--version").CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(out), "nats-server: v2")
}
