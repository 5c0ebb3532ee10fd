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

// topics are those of all dead letters: a service's each, and that of the release before.
func topics() []string {
	all := []string{events.OldDeadLetterTopic}
	for _, service := range events.Subscribers {
		all = append(all, events.DeadLetterTopic(service))
	}
	return all
}

// arrival is a message, and the topic that it came on.
type arrival struct {
	topic string
	*client.SubscriptionMessage
}

// intake takes what is new on the topics of dead letters into the box, until nothing more comes for a moment, and says
// how many letters that were. A letter leaves the broker only when it is in the box.
func (b *box) intake(ctx context.Context, dapr client.Client) (fresh int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	arrived := make(chan arrival)
	ended := make(chan error, len(topics()))
	var subscriptions []*client.Subscription
	closeAll := func() {
		for _, subscription := range subscriptions {
			_ = subscription.Close()
		}
	}
	for _, topic := range topics() {
		// Raw: a message may be no event at all.
		subscription, err := dapr.Subscribe(ctx, client.SubscriptionOptions{
			PubsubName: events.PubSub, Topic: topic, Metadata: map[string]string{"rawPayload": "true"},
		})
		if err != nil {
			closeAll()
			return 0, fmt.Errorf("subscribe to %s: %w", topic, err)
		}
		subscriptions = append(subscriptions, subscription)
		go func() {
			for {
				message, err := subscription.Receive()
				if err != nil {
					ended <- fmt.Errorf("the sidecar ended the subscription to %s: %w", topic, err)
					return
				}
				select {
				case arrived <- arrival{topic, message}:
				case <-ctx.Done():
					return
				}
			}
		}()
	}

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
		case err = <-ended:
			ended <- err // for the wait below
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

	// What still comes is not acknowledged; it comes again to whoever asks next.
	closeAll()
	leave := time.After(leaveTime)
	for open := len(subscriptions); open > 0; {
		select {
		case <-arrived:
		case <-ended:
			open--
		case <-leave:
			return fresh, err
		}
	}
	return fresh, err
}

// take puts one message into the box and acknowledges it.
func (b *box) take(ctx context.Context, message arrival) (fresh bool, err error) {
	if fresh, err = b.keep(ctx, newLetter(message.topic, message.RawData, now())); err != nil {
		_ = message.Retry()
		return false, fmt.Errorf("keep a letter: %w", err)
	}
	return fresh, message.Success()
}
