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

// A bulk is delivered as soon as there is a message and no other bulk of its topic is being handled: with little to do a
// message is delivered alone and at once. Under load the next bulk fills meanwhile. It is delivered beside the other only
// when it is half full, for what many events change in one bulk costs little more than what few do.

const (
	// bulksAtOnce is how many bulks of a topic are handled side by side while all goes well. Few, so that they fill.
	bulksAtOnce = 2
	// slowBulk is after how long a bulk counts as slow, as one does in which a message is tried again and again. It does not
	// keep others back any more: all in all handlersAtOnce are handled at most.
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
