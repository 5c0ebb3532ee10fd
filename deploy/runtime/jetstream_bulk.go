package main

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dapr/components-contrib/pubsub"
)

// A bulk is delivered as soon as there is a message and no other bulk of its topic is being handled: under little load a
// message is delivered alone and at once. Under more load the next bulk fills meanwhile. It is delivered at the same time as
// the other only when it is half full, because a bulk of many events costs a service little more than one of few.

const (
	// bulksAtOnce is how many bulks of a topic are handled at the same time, slow ones not counted. Few, so that they fill.
	bulksAtOnce = 2
	// slowBulk is after how long a bulk counts as slow, for example because a message in it is retried. From then
	// on it does not hold back others: handlersAtOnce bounds the total.
	slowBulk = 250 * time.Millisecond
	// A bulk that the app must take as one request does not grow without end.
	maxBulkBytes    = 1 << 20
	defaultBulkSize = 64
)

// BulkSubscribe calls handler with the topic's messages, in bulks, until ctx ends.
func (j *jetStream) BulkSubscribe(ctx context.Context, req pubsub.SubscribeRequest, handler pubsub.BulkHandler) error {
	size := req.BulkSubscribeConfig.MaxMessagesCount
	if size <= 0 {
		size = defaultBulkSize
	}
	j.subscribe(ctx, req.Topic, func(ctx context.Context, consumer jetstream.Consumer) error {
		return j.consumeInBulk(ctx, consumer, req.Topic, size, handler)
	})
	return nil
}

// consumeInBulk handles messages until ctx ends or the consumer is gone. It returns when the last of them is handled.
func (j *jetStream) consumeInBulk(ctx context.Context, consumer jetstream.Consumer, topic string, size int, handler pubsub.BulkHandler) error {
	messages, err := consumer.Messages(jetstream.PullMaxMessages(size), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return err
	}
	var handling sync.WaitGroup
	defer handling.Wait()
	defer context.AfterFunc(ctx, messages.Stop)()

	waiting := make(chan jetstream.Msg, size)
	ended := make(chan error, 1)
	handling.Go(func() {
		defer close(waiting)
		for {
			msg, err := messages.Next()
			switch {
			case errors.Is(err, jetstream.ErrNoHeartbeat): // see consume
			case err != nil:
				ended <- err
				return
			default:
				waiting <- msg
			}
		}
	})

	// A place is taken before a bulk is formed, so that the bulk fills as long as it waits; a limit of errgroup would take it after.
	places := make(chan struct{}, j.settings.HandlersAtOnce)
	next := filling{waiting: waiting, size: size, ended: make(chan struct{}, j.settings.HandlersAtOnce)}
	for {
		places <- struct{}{}
		bulk := next.bulk()
		if len(bulk) == 0 {
			return <-ended
		}
		handling.Go(func() {
			end := sync.OnceFunc(func() { next.ended <- struct{}{} })
			defer time.AfterFunc(slowBulk, end).Stop()
			defer end()
			defer func() { <-places }()
			j.handleBulk(ctx, bulk, topic, handler)
		})
	}
}

// filling makes bulks of the messages that wait.
type filling struct {
	waiting <-chan jetstream.Msg
	size    int           // of a bulk, at most
	ended   chan struct{} // a bulk was handled, or is slow
	handled int           // bulks that are being handled and are not slow
}

// bulk waits until a bulk can be delivered, and returns it. It returns none when there will be no more messages.
func (f *filling) bulk() (bulk []jetstream.Msg) {
	bytes := 0
	for {
		waiting := f.waiting
		if len(bulk) >= f.size || bytes >= maxBulkBytes {
			waiting = nil
		}
		ready := f.handled == 0 && len(bulk) > 0 || f.handled < bulksAtOnce && (waiting == nil || 2*len(bulk) >= f.size)
		if ready && (waiting == nil || len(waiting) == 0) {
			f.handled++
			return bulk
		}
		select {
		case msg, more := <-waiting:
			if !more {
				f.handled++
				return bulk
			}
			bulk = append(bulk, msg)
			bytes += len(msg.Data())
		case <-f.ended:
			f.handled--
		}
	}
}

// handleBulk acknowledges messages after the handler's response, each by its own entry.
func (j *jetStream) handleBulk(ctx context.Context, bulk []jetstream.Msg, topic string, handler pubsub.BulkHandler) {
	defer j.inProgress(bulk...)()
	entries := make([]pubsub.BulkMessageEntry, len(bulk))
	for i, msg := range bulk {
		entries[i] = pubsub.BulkMessageEntry{EntryId: strconv.Itoa(i), Event: msg.Data(), Metadata: map[string]string{"Topic": msg.Subject()}}
	}
	responses, err := handler(ctx, &pubsub.BulkMessage{Topic: topic, Entries: entries, Metadata: map[string]string{}})
	failures := bulkFailures(len(bulk), responses, err)
	for i, msg := range bulk {
		j.acknowledge(ctx, topic, msg, failures[i])
	}
}

// bulkFailures returns the error of each of a bulk's messages, nil if it was handled. Their entry ids are their places in the bulk.
func bulkFailures(size int, responses []pubsub.BulkSubscribeResponseEntry, err error) []error {
	failures := make([]error, size)
	if err == nil {
		return failures // without an error all messages were handled
	}
	for i := range failures {
		failures[i] = err
	}
	for _, response := range responses {
		if i, wrong := strconv.Atoi(response.EntryId); wrong == nil && i >= 0 && i < size {
			failures[i] = response.Error
		}
	}
	return failures
}
