package stack_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
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

func TestStreams_OfAnEarlierReleaseAreUpdated(t *testing.T) {
	folder, none := t.TempDir(), []string{}
	first := stacktest.Start(t, stack.Options{Folder: folder, Apps: none, Infra: []string{stack.NATS}})
	js := jetStreamOf(t, first)
	require.Equal(t, allStreams, subjects(t, js))
	events, err := js.Stream(t.Context(), "events")
	require.NoError(t, err)
	require.Positive(t, events.CachedInfo().Config.MaxBytes, "the streams have a size by default")

	// As an earlier release had them: an event that orders has not handled, and three dead letters, of which one was stored.
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
	letters := consumer(js, "events", "dead-letters-events-dead", "events.dead")
	require.Equal(t, "letter", take(letters))
	require.Equal(t, "pending", take(letters))

	// An update that was interrupted before the dead letters were moved: the next one moves all.
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "events-dead", Subjects: []string{"events-dead.left"}})
	require.NoError(t, err)
	publish("events-dead.left", "left")
	streamsProgram(t, second)
	require.Equal(t, "left", take(letters))
	require.Equal(t, allStreams, subjects(t, js))
}

// A full stream refuses events, and never deletes an event that a consumer has not handled. Events that all consumers have handled make
// room.
func TestStreams_FullOfUnhandledEventsTheyRefuseAndLoseNone(t *testing.T) {
	metrics := fmt.Sprintf("127.0.0.1:%d", stacktest.FreePort(t))
	s := stacktest.Start(t, stack.Options{Apps: []string{}, Infra: []string{stack.NATS}, Env: map[string]string{"NATS_METRICS_ADDRESS": metrics, "NATS_MAX_BYTES": "64MiB"}})
	js := jetStreamOf(t, s)
	stream, err := js.Stream(t.Context(), "events")
	require.NoError(t, err)
	require.EqualValues(t, (64<<20)-2*((64<<20)/20), stream.CachedInfo().Config.MaxBytes, "nine tenths are for the events")
	streamsProgram(t, s, "--max-bytes=2MiB")

	var consumers []jetstream.Consumer
	for _, name := range []string{"orders-events-tickets", "catalogue-events-tickets"} {
		consumer, err := js.CreateConsumer(t.Context(), "events", jetstream.ConsumerConfig{Durable: name, FilterSubject: "events.tickets", AckPolicy: jetstream.AckExplicitPolicy})
		require.NoError(t, err)
		consumers = append(consumers, consumer)
	}
	event := bytes.Repeat([]byte("x"), 10_000)
	var refused error
	published := 0
	for ; refused == nil && published < 1000; published++ {
		_, refused = js.Publish(t.Context(), "events.tickets", event)
	}
	published--
	require.ErrorContains(t, refused, "maximum bytes exceeded")
	require.Greater(t, published, 150)
	full, err := stream.Info(t.Context())
	require.NoError(t, err)
	requireMetric(t, metrics, fmt.Sprintf(`boxoffice_stream_bytes\{stream="events"\} %d\n`, full.State.Bytes)) // the server has tried to make room
	_, refused = js.Publish(t.Context(), "events.orders", event)
	require.ErrorContains(t, refused, "maximum bytes exceeded")
	for _, consumer := range consumers {
		info, err := consumer.Info(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, published, info.NumPending, "no event is deleted that is not handled")
	}

	// One of the two handles all, the other all but the last.
	handle := func(consumer jetstream.Consumer, n int) {
		for n > 0 {
			batch, err := consumer.FetchNoWait(n)
			require.NoError(t, err)
			for message := range batch.Messages() {
				require.NoError(t, message.DoubleAck(t.Context()))
				n--
			}
		}
	}
	handle(consumers[0], published)
	handle(consumers[1], published-1)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := js.Publish(t.Context(), "events.orders", event)
		assert.NoError(c, err)
	}, 30*time.Second, 200*time.Millisecond, "events that all consumers have handled make room")
	last, err := stream.GetMsg(t.Context(), uint64(published))
	require.NoError(t, err)
	require.Equal(t, "events.tickets", last.Subject)
	handle(consumers[1], 1)

	for _, metric := range []string{
		`boxoffice_stream_max_bytes\{stream="events"\} 1887438`,
		`boxoffice_stream_pending_events\{stream="events",consumer="catalogue-events-tickets"\} 0`,
		`boxoffice_stream_bytes\{stream="events"\} [1-9]`,
	} {
		requireMetric(t, metrics, metric)
	}

	streamsProgram(t, s, "--max-bytes=0")
	stream, err = js.Stream(t.Context(), "events")
	require.NoError(t, err)
	require.EqualValues(t, -1, stream.CachedInfo().Config.MaxBytes, "0 turns the limit off")
}

// requireMetric waits until a server's metrics match a regular expression.
func requireMetric(t *testing.T, address, expression string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		response, err := http.Get("http://" + address + "/metrics")
		if !assert.NoError(c, err) {
			return
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		assert.NoError(c, err)
		assert.Regexp(c, expression, string(text))
	}, 30*time.Second, 200*time.Millisecond)
}

func streamsProgram(t *testing.T, s *stack.Stack, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(filepath.Dir(testFolder(t)), ".build", "runtime"), append([]string{"nats-streams", "--server=" + s.NATSURL()}, args...)...).CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestRuntime_IsTheProgramWhoseNameItIsCalledBy(t *testing.T) {
	runtime, err := filepath.Abs(filepath.Join(filepath.Dir(testFolder(t)), ".build", "runtime"))
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), "nats-server")
	require.NoError(t, os.Symlink(runtime, link))
	out, err := exec.Command(link, "--version").CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(out), "nats-server: v2")
}
