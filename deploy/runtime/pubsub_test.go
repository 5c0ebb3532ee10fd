package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	rediscomponent "github.com/dapr/components-contrib/common/component/redis"
	contribmeta "github.com/dapr/components-contrib/metadata"
	"github.com/dapr/components-contrib/pubsub"
	"github.com/dapr/kit/logger"
)

// The two pub/sub components promise the same, so they have the same tests. Each test has a server of its own, a process that
// it can kill and freeze.

const (
	testTopic = "events.orders"
	testGroup = "tickets" // the service that subscribes
	// redeliverAfter is after what time a broker delivers again what a dead sidecar had.
	redeliverAfter = 2 * time.Second
	// soon bounds what takes no waiting; in a busy machine it may take a while nevertheless.
	soon = 15 * time.Second
)

// component is what the sidecar uses of a component.
type component interface {
	pubsub.PubSub
	pubsub.BulkPublisher
	pubsub.BulkSubscriber
}

// testBroker is a server and how to use it.
type testBroker struct {
	server *serverProcess
	// connect makes a component as the sidecar of a replica of testGroup has it.
	connect func(t *testing.T) component
	// unacknowledged counts the events of testTopic that testGroup has yet to acknowledge.
	unacknowledged func(ctx context.Context) (int, error)
	// takeOne takes an event as a replica that dies before it has handled it.
	takeOne func(ctx context.Context) error
}

// eachBroker runs a test against both servers.
func eachBroker(t *testing.T, test func(t *testing.T, b *testBroker)) {
	t.Helper()
	t.Parallel()
	t.Run("jetstream", func(t *testing.T) {
		t.Parallel()
		test(t, startTestNATS(t))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, startTestRedis(t))
	})
}

func startTestNATS(t *testing.T) *testBroker {
	t.Helper()
	port := freePort(t)
	address := fmt.Sprintf("nats://127.0.0.1:%d", port)
	store := t.TempDir()
	log := filepath.Join(store, "log")
	server := startServer(t, port, log, func() *exec.Cmd {
		return runtimeCommand("nats-server", "--addr", "127.0.0.1", "--port", fmt.Sprint(port), "--jetstream", "--store_dir", store, "--log", log)
	})
	if err := runStreams([]string{"--server", address, "--max-bytes", "64MiB"}); err != nil {
		t.Fatal(err)
	}
	// Made for each use: what it is asked for must not depend on how a connection outlives the server.
	use := func(ctx context.Context, do func(jetstream.Consumer) error) error {
		conn, err := nats.Connect(address, nats.Timeout(2*time.Second))
		if err != nil {
			return err
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			return err
		}
		consumer, err := js.Consumer(ctx, "events", testGroup+"-events-orders")
		if err != nil {
			return err
		}
		return do(consumer)
	}
	return &testBroker{
		server: server,
		connect: func(t *testing.T) component {
			return initialize(t, newJetStream(quietLogger()), map[string]string{
				"natsURL": address, "durableName": testGroup, "ackWait": redeliverAfter.String(),
			})
		},
		unacknowledged: func(ctx context.Context) (n int, err error) {
			err = use(ctx, func(consumer jetstream.Consumer) error {
				info := consumer.CachedInfo()
				n = int(info.NumPending) + info.NumAckPending
				return nil
			})
			return n, err
		},
		takeOne: func(ctx context.Context) error {
			return use(ctx, func(consumer jetstream.Consumer) error {
				_, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
				return err
			})
		},
	}
}

func startTestRedis(t *testing.T) *testBroker {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI_REQUIRE_REDIS") != "" {
			t.Fatal(err)
		}
		t.Skip("redis-server is not installed: the component for Redis is not tested")
	}
	port, folder := freePort(t), t.TempDir()
	log := filepath.Join(folder, "log")
	server := startServer(t, port, log, func() *exec.Cmd {
		return exec.Command(program, "--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--dir", folder,
			"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--logfile", log)
	})
	settings := map[string]string{
		"redisHost": fmt.Sprintf("127.0.0.1:%d", port), "consumerID": testGroup,
		"processingTimeout": redeliverAfter.String(), "redeliverInterval": "500ms",
	}
	use := func(ctx context.Context, do func(rediscomponent.RedisClient) error) error {
		quiet := quietLogger()
		client, _, err := rediscomponent.ParseClientFromProperties(maps.Clone(settings), contribmeta.PubSubType, ctx, &quiet)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }()
		return do(client)
	}
	return &testBroker{
		server:  server,
		connect: func(t *testing.T) component { return initialize(t, newRedisStreams(quietLogger()), settings) },
		unacknowledged: func(ctx context.Context) (n int, err error) {
			err = use(ctx, func(client rediscomponent.RedisClient) error {
				result, err := client.DoRead(ctx, "XINFO", "GROUPS", testTopic)
				if err != nil {
					return err
				}
				n, err = ofGroup(result)
				return err
			})
			return n, err
		},
		takeOne: func(ctx context.Context) error {
			return use(ctx, func(client rediscomponent.RedisClient) error {
				streams, err := client.XReadGroupResult(ctx, testGroup, "another", []string{testTopic, ">"}, 1, 5*time.Second)
				if err == nil && (len(streams) != 1 || len(streams[0].Messages) != 1) {
					err = fmt.Errorf("took %v", streams)
				}
				return err
			})
		},
	}
}

// ofGroup reads Redis' answer to XINFO GROUPS: pending, and lag, which is what the group has not read.
func ofGroup(result any) (int, error) {
	groups, _ := result.([]any)
	for _, group := range groups {
		fields := map[string]any{}
		switch group := group.(type) {
		case map[any]any:
			for key, value := range group {
				fields[fmt.Sprint(key)] = value
			}
		case []any:
			for i := 0; i+1 < len(group); i += 2 {
				fields[fmt.Sprint(group[i])] = group[i+1]
			}
		}
		if fields["name"] != testGroup {
			continue
		}
		pending, is1 := fields["pending"].(int64)
		lag, is2 := fields["lag"].(int64)
		if !is1 || !is2 {
			return 0, fmt.Errorf("the group is %v", fields)
		}
		return int(pending + lag), nil
	}
	return 0, fmt.Errorf("no group %s in %v", testGroup, result)
}

func initialize(t *testing.T, made pubsub.PubSub, settings map[string]string) component {
	t.Helper()
	var meta pubsub.Metadata
	meta.Properties = maps.Clone(settings)
	if err := made.Init(t.Context(), meta); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	return made.(component)
}

func quietLogger() logger.Logger {
	log := logger.NewLogger("test.pubsub")
	log.SetOutputLevel(logger.FatalLevel)
	return log
}

// serverProcess is a server that listens on one port, over restarts.
type serverProcess struct {
	port    int
	command func() *exec.Cmd
	cmd     *exec.Cmd
}

func startServer(t *testing.T, port int, log string, command func() *exec.Cmd) *serverProcess {
	t.Helper()
	s := &serverProcess{port: port, command: command}
	t.Cleanup(func() {
		s.kill()
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("the server's log:\n%s", text)
		}
	})
	s.start(t)
	return s
}

func (s *serverProcess) start(t *testing.T) {
	t.Helper()
	s.cmd = s.command()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "the server takes connections", func() bool {
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.port), time.Second)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// kill ends the process without notice, frozen or not.
func (s *serverProcess) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *serverProcess) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// freeze stops the process. Its connections stay open, and nothing answers.
func (s *serverProcess) freeze(t *testing.T) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	var status syscall.WaitStatus
	for !status.Stopped() { // the signal takes effect some time after it was sent
		if _, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			t.Fatal(err)
		}
	}
}

func (s *serverProcess) thaw(t *testing.T) { t.Helper(); s.signal(t, syscall.SIGCONT) }

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

func eventually(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after %v: %s", limit, what)
		}
	}
}

// deliveries records how often each event was delivered.
type deliveries struct {
	mu     sync.Mutex
	counts map[string]int
}

// add counts a delivery, and returns how many there are of that event.
func (d *deliveries) add(event []byte) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counts == nil {
		d.counts = map[string]int{}
	}
	id := eventID(event)
	d.counts[id]++
	return d.counts[id]
}

func (d *deliveries) of(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[id]
}

// has is whether each of the ids was delivered.
func (d *deliveries) has(ids ...string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return d.of(id) == 0 })
}

func testEvent(id string) []byte { return fmt.Appendf(nil, `{"id":%q,"type":"order.created"}`, id) }

func testIDs(prefix string, n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("%s-%d", prefix, i))
	}
	return ids
}

func publish(t *testing.T, from component, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := from.Publish(t.Context(), &pubsub.PublishRequest{Topic: testTopic, Data: testEvent(id)}); err != nil {
			t.Fatalf("publish %s: %v", id, err)
		}
	}
}

func publishInBulk(from component, ids ...string) (pubsub.BulkPublishResponse, error) {
	request := &pubsub.BulkPublishRequest{Topic: testTopic}
	for _, id := range ids {
		request.Entries = append(request.Entries, pubsub.BulkMessageEntry{EntryId: id, Event: testEvent(id)})
	}
	return from.BulkPublish(context.Background(), request)
}

// subscribe records deliveries, and responds what respond returns for an event and the number of its delivery. Replicas share d.
func subscribe(t *testing.T, ctx context.Context, c component, d *deliveries, respond func(id string, delivery int) error) {
	t.Helper()
	handler := func(_ context.Context, msg *pubsub.NewMessage) error {
		if msg.Topic != testTopic {
			t.Errorf("the topic is %q", msg.Topic)
		}
		return respond(eventID(msg.Data), d.add(msg.Data))
	}
	if err := c.Subscribe(ctx, pubsub.SubscribeRequest{Topic: testTopic}, handler); err != nil {
		t.Fatal(err)
	}
}

func subscribeInBulk(t *testing.T, ctx context.Context, c component, handler pubsub.BulkHandler) {
	t.Helper()
	request := pubsub.SubscribeRequest{Topic: testTopic, BulkSubscribeConfig: pubsub.BulkSubscribeConfig{MaxMessagesCount: 16}}
	if err := c.BulkSubscribe(ctx, request, handler); err != nil {
		t.Fatal(err)
	}
}

func accept(string, int) error { return nil }

var errNotNow = errors.New("not now")

// allAcknowledged waits until the broker has nothing left to deliver.
func (b *testBroker) allAcknowledged(t *testing.T) {
	t.Helper()
	eventually(t, soon, "all events are acknowledged", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		n, err := b.unacknowledged(ctx)
		return err == nil && n == 0
	})
}

func TestPubSub_DeliversEachEventOnce(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *testBroker) {
		single, bulk := testIDs("single", 20), testIDs("bulk", 100)
		publisher := b.connect(t)
		publish(t, publisher, single...) // before anybody subscribes
		var d deliveries
		for range 2 { // replicas share the events
			subscribe(t, t.Context(), b.connect(t), &d, accept)
		}
		if response, err := publishInBulk(publisher, bulk...); err != nil || len(response.FailedEntries) > 0 {
			t.Fatal(response, err)
		}
		all := slices.Concat(single, bulk)
		eventually(t, soon, "everything is delivered", func() bool { return d.has(all...) })
		b.allAcknowledged(t)
		for _, id := range all {
			if n := d.of(id); n != 1 {
				t.Errorf("%s was delivered %d times", id, n)
			}
		}
	})
}

func TestPubSub_AFailedEventComesAgainAndHoldsNoOtherUp(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *testBroker) {
		var d deliveries
		c := b.connect(t)
		others := testIDs("other", 50)
		subscribe(t, t.Context(), c, &d, func(id string, delivery int) error {
			// The first one fails until all others were delivered.
			if id == "failing" && (delivery < 3 || !d.has(others...)) {
				return errNotNow
			}
			return nil
		})
		publish(t, c, "failing")
		publish(t, c, others...)
		eventually(t, soon, "the event is delivered a third time", func() bool { return d.of("failing") >= 3 })
		b.allAcknowledged(t)
	})
}

func TestPubSub_OfABulkOnlyWhatFailedComesAgain(t *testing.T) {
	for name, failure := range map[string]struct {
		// respond is the answer to the first delivery of a bulk of which the event "failing" is one.
		respond func(bulk *pubsub.BulkMessage) ([]pubsub.BulkSubscribeResponseEntry, error)
		again   bool // all others come again as well
	}{
		"an entry of the response": {func(bulk *pubsub.BulkMessage) (entries []pubsub.BulkSubscribeResponseEntry, _ error) {
			for _, entry := range bulk.Entries {
				var err error
				if eventID(entry.Event) == "failing" {
					err = errNotNow
				}
				entries = append(entries, pubsub.BulkSubscribeResponseEntry{EntryId: entry.EntryId, Error: err})
			}
			return entries, errNotNow
		}, false},
		"the whole bulk": {func(*pubsub.BulkMessage) ([]pubsub.BulkSubscribeResponseEntry, error) { return nil, errNotNow }, true},
	} {
		t.Run(name, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b *testBroker) {
				c := b.connect(t)
				ids := append(testIDs("well", 7), "failing")
				if _, err := publishInBulk(c, ids...); err != nil {
					t.Fatal(err)
				}
				var d deliveries
				var once sync.Mutex
				first := map[string]bool{} // the events of the bulk that failed
				subscribeInBulk(t, t.Context(), c, func(_ context.Context, bulk *pubsub.BulkMessage) ([]pubsub.BulkSubscribeResponseEntry, error) {
					for _, entry := range bulk.Entries {
						d.add(entry.Event)
					}
					once.Lock()
					defer once.Unlock()
					if len(first) > 0 || !slices.ContainsFunc(bulk.Entries, func(e pubsub.BulkMessageEntry) bool { return eventID(e.Event) == "failing" }) {
						return nil, nil
					}
					for _, entry := range bulk.Entries {
						first[eventID(entry.Event)] = true
					}
					return failure.respond(bulk)
				})
				eventually(t, soon, "the event is delivered again", func() bool { return d.of("failing") == 2 && d.has(ids...) })
				b.allAcknowledged(t)
				once.Lock()
				defer once.Unlock()
				for _, id := range ids {
					want := 1
					if id == "failing" || failure.again && first[id] {
						want = 2
					}
					if n := d.of(id); n != want {
						t.Errorf("%s was delivered %d times, not %d", id, n, want)
					}
				}
			})
		})
	}
}

// While a bulk is handled the next one fills, so that many events need few requests.
func TestPubSub_ManyEventsComeInBulks(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *testBroker) {
		c := b.connect(t)
		ids := testIDs("event", 160)
		if _, err := publishInBulk(c, ids...); err != nil {
			t.Fatal(err)
		}
		var d deliveries
		var mu sync.Mutex
		bulks, atOnce, most := 0, 0, 0
		subscribeInBulk(t, t.Context(), c, func(_ context.Context, bulk *pubsub.BulkMessage) ([]pubsub.BulkSubscribeResponseEntry, error) {
			mu.Lock()
			bulks++
			atOnce++
			most = max(most, atOnce)
			mu.Unlock()
			if len(bulk.Entries) > 16 {
				t.Errorf("a bulk has %d events", len(bulk.Entries))
			}
			time.Sleep(20 * time.Millisecond) // the work
			for _, entry := range bulk.Entries {
				d.add(entry.Event)
			}
			mu.Lock()
			atOnce--
			mu.Unlock()
			return nil, nil
		})
		eventually(t, soon, "everything is delivered", func() bool { return d.has(ids...) })
		mu.Lock()
		defer mu.Unlock()
		if bulks > len(ids)/4 || most > bulksAtOnce {
			t.Errorf("%d bulks, %d at once", bulks, most)
		}
	})
}

func TestPubSub_WhatADeadReplicaHadComesAgain(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *testBroker) {
		ctx, cancel := context.WithCancel(t.Context())
		first := b.connect(t)
		var d deliveries
		subscribe(t, ctx, first, &d, accept) // makes the group
		publish(t, first, "before")
		eventually(t, soon, "an event is delivered", func() bool { return d.of("before") == 1 })
		b.allAcknowledged(t)
		cancel()
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}

		second := b.connect(t)
		publish(t, second, "taken")
		if err := b.takeOne(t.Context()); err != nil {
			t.Fatal(err)
		}
		taken := time.Now()
		subscribe(t, t.Context(), second, &d, accept)
		eventually(t, soon, "the event is delivered again", func() bool { return d.of("taken") == 1 })
		if after := time.Since(taken); after < redeliverAfter/2 {
			t.Errorf("delivered again after %v: its replica could have been at work", after)
		}
		b.allAcknowledged(t)
	})
}

func TestPubSub_ASlowHandlerIsNotCalledASecondTime(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *testBroker) {
		var d deliveries
		handled := make(chan struct{})
		for range 2 {
			subscribe(t, t.Context(), b.connect(t), &d, func(string, int) error {
				time.Sleep(3 * redeliverAfter)
				close(handled) // panics the second time
				return nil
			})
		}
		publish(t, b.connect(t), "slow")
		<-handled
		b.allAcknowledged(t)
		if n := d.of("slow"); n != 1 {
			t.Errorf("the event was delivered %d times", n)
		}
	})
}

// A sidecar that ends, or whose app is not well, gives back what it had not handled: another replica has it at once.
func TestPubSub_AnEndedSubscriptionGivesItsEventsBack(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *testBroker) {
		var d deliveries
		first, second := b.connect(t), b.connect(t)
		ctx, cancel := context.WithCancel(t.Context())
		entered := make(chan struct{}, 10)
		handler := func(ctx context.Context, msg *pubsub.NewMessage) error {
			entered <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		if err := first.Subscribe(ctx, pubsub.SubscribeRequest{Topic: testTopic}, handler); err != nil {
			t.Fatal(err)
		}
		publish(t, second, "given-back")
		select {
		case <-entered:
		case <-time.After(soon):
			t.Fatal("the event is not delivered")
		}
		subscribe(t, t.Context(), second, &d, accept)
		cancel()
		eventually(t, soon, "the other replica has the event", func() bool { return d.of("given-back") == 1 })
		b.allAcknowledged(t)
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		if len(entered) > 0 {
			t.Error("a handler was called after its subscription had ended")
		}
	})
}

func TestPubSub_ASubscriptionOutlivesTheServer(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *testBroker) {
		var d deliveries
		c := b.connect(t)
		subscribe(t, t.Context(), c, &d, accept)
		publish(t, c, "before")
		eventually(t, soon, "an event is delivered", func() bool { return d.has("before") })
		b.allAcknowledged(t)

		b.server.kill()
		began := time.Now()
		if err := c.Publish(t.Context(), &pubsub.PublishRequest{Topic: testTopic, Data: testEvent("lost")}); err == nil {
			t.Error("an event is published to nobody")
		}
		if response, err := publishInBulk(c, "lost", "lost-2"); err == nil || len(response.FailedEntries) != 2 {
			t.Errorf("a bulk is published to nobody: %v, %v", response, err)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("that took %v", took)
		}

		b.server.start(t)
		eventually(t, soon, "it publishes again", func() bool {
			return c.Publish(t.Context(), &pubsub.PublishRequest{Topic: testTopic, Data: testEvent("after")}) == nil
		})
		eventually(t, soon, "it subscribes again", func() bool { return d.has("after") })
		b.allAcknowledged(t)
	})
}

// A server that is not there yet is no reason for a sidecar to end.
func TestPubSub_WaitsForAServerThatStartsLater(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *testBroker) {
		b.server.kill()
		var d deliveries
		c := b.connect(t)
		subscribe(t, t.Context(), c, &d, accept)
		b.server.start(t)
		eventually(t, soon, "it publishes", func() bool {
			return c.Publish(t.Context(), &pubsub.PublishRequest{Topic: testTopic, Data: testEvent("first")}) == nil
		})
		eventually(t, soon, "it subscribes", func() bool { return d.has("first") })
	})
}

// A frozen server keeps its connections open and answers nothing. It may be frozen for a moment, or for longer than it takes
// to give a connection up.
func TestPubSub_AFrozenServerLosesNothing(t *testing.T) {
	for name, frozen := range map[string]time.Duration{"briefly": time.Second, "for long": 3*aliveInterval + 2*time.Second} {
		t.Run(name, func(t *testing.T) {
			eachBroker(t, func(t *testing.T, b *testBroker) {
				var d deliveries
				c := b.connect(t)
				began, handle := make(chan struct{}, 100), make(chan struct{})
				subscribe(t, t.Context(), c, &d, func(id string, _ int) error {
					if id == "in-hand" {
						began <- struct{}{}
						<-handle
					}
					return nil
				})
				publish(t, c, "in-hand")
				select {
				case <-began:
				case <-time.After(soon):
					t.Fatal("no event is delivered")
				}
				b.server.freeze(t)
				thaw := time.After(frozen)
				close(handle) // it is handled, and the server cannot learn of it

				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				err := c.Publish(ctx, &pubsub.PublishRequest{Topic: testTopic, Data: testEvent("unanswered")})
				cancel()
				if frozen > publishTime && err == nil {
					t.Error("an event is published to a frozen server")
				}
				<-thaw
				b.server.thaw(t)
				eventually(t, soon, "it publishes again", func() bool {
					return c.Publish(t.Context(), &pubsub.PublishRequest{Topic: testTopic, Data: testEvent("after")}) == nil
				})
				eventually(t, 2*soon, "it subscribes again", func() bool { return d.has("in-hand", "after") })
				b.allAcknowledged(t)
			})
		})
	}
}

func TestPubSub_RefusesSettingsThatLoseEvents(t *testing.T) {
	for name, test := range map[string]struct {
		made     pubsub.PubSub
		settings map[string]string
		want     string
	}{
		"NATS without an address":     {newJetStream(quietLogger()), map[string]string{}, "natsURL is missing"},
		"NATS without handlers":       {newJetStream(quietLogger()), map[string]string{"natsURL": "nats://x", "handlersAtOnce": "0"}, "handlersAtOnce"},
		"Redis without a group":       {newRedisStreams(quietLogger()), map[string]string{"redisHost": "127.0.0.1:1"}, "consumerID is missing"},
		"Redis without handlers":      {newRedisStreams(quietLogger()), map[string]string{"redisHost": "127.0.0.1:1", "consumerID": "x", "handlersAtOnce": "0"}, "handlersAtOnce"},
		"Redis with a wrong interval": {newRedisStreams(quietLogger()), map[string]string{"redisHost": "127.0.0.1:1", "consumerID": "x", "redeliverInterval": "often"}, "redeliverInterval"},
		"Redis that redelivers no":    {newRedisStreams(quietLogger()), map[string]string{"redisHost": "127.0.0.1:1", "consumerID": "x", "processingTimeout": "0s"}, "processingTimeout"},
	} {
		t.Run(name, func(t *testing.T) {
			var meta pubsub.Metadata
			meta.Properties = test.settings
			if err := test.made.Init(t.Context(), meta); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want %s", err, test.want)
			}
		})
	}
}
