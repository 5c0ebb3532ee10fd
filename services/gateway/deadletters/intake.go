package deadletters

import (
	"context"
	"fmt"
	"time"

	"github.com/dapr/go-sdk/client"

	"boxoffice/services/internal/events"
)

const (
	// quiet is how long nothing must come until everything is held to have come.
	quiet = 400 * time.Millisecond
	// leaveTime bounds the wait for the sidecar to take the last answers.
	leaveTime = time.Second
)

// intake takes what is new on the dead letter topic into the box, until nothing more comes for a moment, and says
// how many letters that were. A letter leaves the broker only when it is in the box.
func (b *box) intake(ctx context.Context, dapr client.Client) (fresh int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Raw: a message may be no event at all.
	subscription, err := dapr.Subscribe(ctx, client.SubscriptionOptions{
		PubsubName: events.PubSub, Topic: events.DeadLetterTopic, Metadata: map[string]string{"rawPayload": "true"},
	})
	if err != nil {
		return 0, fmt.Errorf("subscribe to %s: %w", events.DeadLetterTopic, err)
	}
	arrived := make(chan *client.SubscriptionMessage)
	ended := make(chan error, 1)
	go func() {
		for {
			message, err := subscription.Receive()
			if err != nil {
				ended <- err
				return
			}
			select {
			case arrived <- message:
			case <-ctx.Done():
				return
			}
		}
	}()

	type result struct {
		fresh bool
		err   error
	}
	taken := make(chan result)
	underWay := 0
	for nothing := time.NewTimer(quiet); err == nil; nothing.Reset(quiet) {
		select {
		case message := <-arrived:
			underWay++
			go func() {
				isNew, err := b.take(ctx, message)
				taken <- result{isNew, err}
			}()
			continue
		case one := <-taken:
			underWay--
			err = one.err
			if one.fresh {
				fresh++
			}
			continue
		case end := <-ended:
			err = fmt.Errorf("the sidecar ended the subscription to %s: %w", events.DeadLetterTopic, end)
			ended <- end
			continue
		case <-nothing.C:
			if underWay > 0 {
				continue
			}
		}
		break
	}
	for ; underWay > 0; underWay-- {
		<-taken
	}

	// What still comes is not answered for; it comes again to whoever asks next.
	_ = subscription.Close()
	leave := time.After(leaveTime)
	for {
		select {
		case <-arrived:
		case <-ended:
			return fresh, err
		case <-leave:
			return fresh, err
		}
	}
}

// take puts one message into the box and answers for it.
func (b *box) take(ctx context.Context, message *client.SubscriptionMessage) (fresh bool, err error) {
	if fresh, err = b.keep(ctx, newLetter(message.RawData, now())); err != nil {
		_ = message.Retry()
		return false, fmt.Errorf("keep a letter: %w", err)
	}
	return fresh, message.Success()
}
