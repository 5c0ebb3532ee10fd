package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The streams hold what the topics carry. Two of them, for an event that goes to the dead letters keeps its id, and a
// stream refuses an id that it has had within two minutes. Old events go after a while: every service has taken them
// long since.
func streams(replicas int) []jetstream.StreamConfig {
	events := jetstream.StreamConfig{
		Name: "events", Subjects: []string{"events"}, Description: "events between services", MaxAge: 7 * 24 * time.Hour,
	}
	dead := jetstream.StreamConfig{
		Name: "events-dead", Subjects: []string{"events.dead"}, Description: "events that could not be delivered", MaxAge: 30 * 24 * time.Hour,
	}
	all := []jetstream.StreamConfig{events, dead}
	for i := range all {
		all[i].Storage, all[i].Retention, all[i].Discard = jetstream.FileStorage, jetstream.LimitsPolicy, jetstream.DiscardOld
		all[i].Duplicates = 2 * time.Minute
		all[i].Replicas = replicas
	}
	return all
}

// runStreams makes the streams on a server, or brings them up to date, and waits for the server if it must.
func runStreams(args []string) error {
	flags := flag.NewFlagSet("nats-streams", flag.ExitOnError)
	url := flags.String("server", "nats://127.0.0.1:4222", "the server's `URL`; NATS_TOKEN is its token, if it asks for one")
	replicas := flags.Int("replicas", 1, "servers that hold each stream: 1, 3 or 5")
	wait := flags.Duration("wait", time.Minute, "how long to wait for the server")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *wait)
	defer cancel()
	for {
		err := ensureStreams(ctx, *url, *replicas)
		if err == nil {
			return nil
		}
		if refused := (*jetstream.APIError)(nil); errors.As(err, &refused) && refused.Code == 400 {
			return err // another try would be told the same
		}
		fmt.Fprintf(os.Stderr, "nats-streams: %v; trying again\n", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return err
		}
	}
}

func ensureStreams(ctx context.Context, url string, replicas int) error {
	options := []nats.Option{nats.Name("nats-streams"), nats.Timeout(3 * time.Second)}
	if token := os.Getenv("NATS_TOKEN"); token != "" {
		options = append(options, nats.Token(token))
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
	for _, config := range streams(replicas) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := js.CreateOrUpdateStream(ctx, config)
		cancel()
		if err != nil {
			return fmt.Errorf("stream %s: %w", config.Name, err)
		}
		fmt.Printf("stream %s is there, on %d servers\n", config.Name, replicas)
	}
	return nil
}
