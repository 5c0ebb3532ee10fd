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

// Bulks are gathered as a bus gathers its passengers: one leaves as soon as there is a message and a place on the
// road, with everybody who waits. With little to do a message travels alone and at once; under load, while those
// before it are on their way, the next bulk fills.

const (
	// bulksOnTheRoad is how many bulks are handled side by side while all goes well. Few, so that they fill.
	bulksOnTheRoad = 2
	// slowBulk is after how long a bulk makes room for another, as one does in which a message is tried again and
	// again. All in all there are handlersAtOnce at most.
	slowBulk = 250 * time.Millisecond
	// A bulk that the app must take as one request does not grow without end.
	maxBulkBytes    = 1 << 20
	defaultBulkSize = 64
)

// BulkSubscribe hands the topic's messages to handler, in bulks, until ctx ends.
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

// consumeInBulk handles messages until ctx ends or the consumer is gone, and returns when those in hand are handled.
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

	road, places := make(chan struct{}, bulksOnTheRoad), make(chan struct{}, j.settings.HandlersAtOnce)
	for {
		places <- struct{}{}
		road <- struct{}{}
		bulk := gather(waiting, size)
		if len(bulk) == 0 {
			return <-ended
		}
		handling.Go(func() {
			leave := sync.OnceFunc(func() { <-road })
			defer time.AfterFunc(slowBulk, leave).Stop()
			defer leave()
			defer func() { <-places }()
			j.handleBulk(ctx, bulk, topic, handler)
		})
	}
}

// gather waits for a message and takes all others that wait. It returns none when there will be no more.
func gather(waiting <-chan jetstream.Msg, size int) []jetstream.Msg {
	msg, more := <-waiting
	if !more {
		return nil
	}
	bulk, bytes := []jetstream.Msg{msg}, len(msg.Data())
	for len(bulk) < size && bytes < maxBulkBytes {
		select {
		case msg, more := <-waiting:
			if !more {
				return bulk
			}
			bulk = append(bulk, msg)
			bytes += len(msg.Data())
		default:
			return bulk
		}
	}
	return bulk
}

// handleBulk acknowledges messages after the handler's answer, each as it deserves.
func (j *jetStream) handleBulk(ctx context.Context, bulk []jetstream.Msg, topic string, handler pubsub.BulkHandler) {
	defer j.inProgress(bulk...)()
	entries := make([]pubsub.BulkMessageEntry, len(bulk))
	for i, msg := range bulk {
		entries[i] = pubsub.BulkMessageEntry{EntryId: strconv.Itoa(i), Event: msg.Data(), Metadata: map[string]string{"Topic": msg.Subject()}}
	}
	answers, err := handler(ctx, &pubsub.BulkMessage{Topic: topic, Entries: entries, Metadata: map[string]string{}})
	failures := bulkFailures(len(bulk), answers, err)
	for i, msg := range bulk {
		j.answer(ctx, topic, msg, failures[i])
	}
}

// bulkFailures is what became of each of a bulk's messages, whose entry ids are their places in it.
func bulkFailures(size int, answers []pubsub.BulkSubscribeResponseEntry, err error) []error {
	failures := make([]error, size)
	if err == nil {
		return failures // all went well, whatever the answers say
	}
	for i := range failures {
		failures[i] = err
	}
	for _, answer := range answers {
		if i, wrong := strconv.Atoi(answer.EntryId); wrong == nil && i >= 0 && i < size {
			failures[i] = answer.Error
		}
	}
	return failures
}
