package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The streams hold what the topics carry. There are three, because a dead letter keeps the id of its event, and a
// stream refuses an id that it had a short time before. Old events are removed after days; every service has handled them long
// before.
//
// Together they have a size, of which nine tenths are for the events. A full stream refuses what is published, and the
// services' journals keep it: an event that a service has yet to handle is never removed to make room. Events that
// all services have handled are removed much earlier (streams_room.go).
//
// The stream "events" has the topics of the aggregates, and the topic that carried all events in the previous release: services
// still subscribe to it, and handle its remaining events. The release after this one removes it.
func streams(replicas int, maxBytes int64) []jetstream.StreamConfig {
	const day = 24 * time.Hour
	all := []jetstream.StreamConfig{
		{Name: "events", Subjects: []string{oldTopic, "events.>"}, Description: "events between services", MaxAge: 7 * day, Duplicates: 2 * time.Minute},
		// What several services could not handle, and what is sent to them again, is one event, with one id. So these two
		// keep repeats, which do no harm: a dead letter is identified by its service and its event.
		{Name: "dead", Subjects: []string{"dead.>"}, Description: "events that could not be handled", MaxAge: 30 * day, Duplicates: leastDuplicates},
		{Name: "retry", Subjects: []string{"retry.>"}, Description: "dead letters that were sent again", MaxAge: 30 * day, Duplicates: leastDuplicates},
	}
	for i := range all {
		all[i].Storage, all[i].Retention, all[i].Discard = jetstream.FileStorage, jetstream.LimitsPolicy, jetstream.DiscardNew
		all[i].Replicas, all[i].MaxBytes = replicas, -1 // no limit
		if maxBytes > 0 {
			all[i].MaxBytes = maxBytes / 20
			if all[i].Name == "events" {
				all[i].MaxBytes = maxBytes - 2*(maxBytes/20)
			}
		}
	}
	return all
}

// leastDuplicates is the shortest time in which JetStream can compare ids.
const leastDuplicates = 100 * time.Millisecond

// The stream of dead letters of the previous release, and its topic, which is one of the stream "events" now.
const (
	oldDeadStream = "events-dead"
	oldDeadTopic  = "events.dead"
)

// freeOldDeadTopic takes its topic from the stream of dead letters of the previous release: no two streams have one subject.
// What is in the stream stays there until moveOldDeadLetters. It returns nil if there is no such stream.
func freeOldDeadTopic(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, oldDeadStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	config := stream.CachedInfo().Config
	config.Subjects = []string{oldDeadStream + ".left"}
	return js.UpdateStream(ctx, config)
}

// moveOldDeadLetters publishes what is not kept yet of the stream of dead letters of the previous release, on the topic that
// dead-letters subscribes to, and deletes the stream. If it is interrupted, the next run moves everything again: a dead letter
// that comes twice is kept once.
func moveOldDeadLetters(ctx context.Context, js jetstream.JetStream, from jetstream.Stream) error {
	state := from.CachedInfo().State
	next := state.FirstSeq
	if consumer, err := from.Consumer(ctx, "gateway-pull"); err == nil {
		next = max(next, consumer.CachedInfo().AckFloor.Stream+1)
	} else if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	moved := 0
	for ; next <= state.LastSeq && state.Msgs > 0; next++ {
		message, err := from.GetMsg(ctx, next)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := js.Publish(ctx, oldDeadTopic, message.Data, jetstream.WithMsgID(fmt.Sprintf("%s:%d", oldDeadStream, next))); err != nil {
			return err
		}
		moved++
	}
	if err := js.DeleteStream(ctx, oldDeadStream); err != nil {
		return err
	}
	fmt.Printf("moved %d dead letters of the previous release to the topic %s\n", moved, oldDeadTopic)
	return nil
}

// deleteConsumersOfGateway removes the consumers by which the gateway read dead letters in the previous release. They are not
// used any more, and what they have not acknowledged would be kept for ever. The service dead-letters has consumers of its
// own, which begin with the oldest dead letter in the stream.
func deleteConsumersOfGateway(ctx context.Context, js jetstream.JetStream, name string) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	names := stream.ConsumerNames(ctx)
	for consumer := range names.Name() {
		if !strings.HasPrefix(consumer, "gateway-") {
			continue
		}
		if err := stream.DeleteConsumer(ctx, consumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
	}
	return names.Err()
}

// runStreams makes the streams on a server, or brings them up to date, and waits for the server if it must.
func runStreams(args []string) error {
	flags := flag.NewFlagSet("nats-streams", flag.ExitOnError)
	size := byteSize(1 << 30)
	flags.Var(&size, "max-bytes", "what all streams may hold together on each server, as `512MiB` or 8GiB: less than its volume and its max_file_store; 0 is no limit")
	url := flags.String("server", "nats://127.0.0.1:4222", "the server's `URL`; the user is in it, or in NATS_USER and NATS_PASSWORD")
	replicas := flags.Int("replicas", 1, "servers that hold each stream: 1, 3 or 5")
	limit := flags.Duration("wait", time.Minute, "how long to wait for the server")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	for {
		err := ensureStreams(ctx, *url, *replicas, int64(size))
		if err == nil {
			return nil
		}
		if refused := (*jetstream.APIError)(nil); errors.As(err, &refused) && refused.Code == 400 {
			return err // another try would fail as well
		}
		fmt.Fprintf(os.Stderr, "nats-streams: %v; trying again\n", err)
		if wait(ctx, time.Second); ctx.Err() != nil {
			return err
		}
	}
}

// byteSize is a flag that takes a number of bytes, or of KiB, MiB or GiB.
type byteSize int64

func (b *byteSize) String() string {
	if *b > 0 && *b%(1<<20) == 0 {
		return fmt.Sprintf("%dMiB", *b>>20)
	}
	return strconv.FormatInt(int64(*b), 10)
}

func (b *byteSize) Set(text string) error {
	number, unit := text, int64(1)
	for i, name := range []string{"KiB", "MiB", "GiB"} {
		if before, found := strings.CutSuffix(text, name); found {
			number, unit = before, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return errors.New("it is a number of bytes, or one with KiB, MiB or GiB, as 8GiB")
	}
	*b = byteSize(n * unit)
	return nil
}

// errNoStorage is JetStream's code for a stream that is to be larger than what the server has left.
const errNoStorage = 10047

func ensureStreams(ctx context.Context, url string, replicas int, maxBytes int64) error {
	options := []nats.Option{nats.Name("nats-streams"), nats.Timeout(3 * time.Second)}
	if user := os.Getenv("NATS_USER"); user != "" {
		options = append(options, nats.UserInfo(user, os.Getenv("NATS_PASSWORD")))
	}
	conn, err := nats.Connect(url, options...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", url, err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	// A cluster without a leader does not answer at all: the next try is to come soon.
	first, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	old, err := freeOldDeadTopic(first, js)
	if err != nil {
		return fmt.Errorf("stream %s: %w", oldDeadStream, err)
	}
	for _, config := range streams(replicas, maxBytes) {
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := js.CreateOrUpdateStream(asking, config)
		cancel()
		if refused := (*jetstream.APIError)(nil); errors.As(err, &refused) && refused.ErrorCode == errNoStorage {
			return fmt.Errorf("stream %s: the server has no room for %d bytes; give it more (max_file_store, a larger volume), or the streams less (--max-bytes): %w",
				config.Name, config.MaxBytes, err)
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", config.Name, err)
		}
		fmt.Printf("stream %s is there, on %d servers\n", config.Name, replicas)
		asking, cancel = context.WithTimeout(ctx, 10*time.Second)
		err = deleteConsumersOfGateway(asking, js, config.Name)
		cancel()
		if err != nil {
			return fmt.Errorf("consumers of stream %s: %w", config.Name, err)
		}
	}
	if old == nil {
		return nil
	}
	if err := moveOldDeadLetters(ctx, js, old); err != nil {
		return fmt.Errorf("move the rest of the stream %s: %w", oldDeadStream, err)
	}
	return nil
}
