package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"boxoffice/deploy/local/stack"
)

type natsBroker struct {
	conn *nats.Conn
	js   jetstream.JetStream
}

// The streams: "events" has the topics events.> and that of the previous release; the others have dead.> and retry.>.
const natsStream, natsDead, natsRetry = "events", "dead", "retry"

func openNATS(address stack.BrokerAddress) (Broker, error) {
	options := []nats.Option{nats.Timeout(answerTime), nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond)}
	if address.Authority != "" {
		options = append(options, nats.RootCAs(address.Authority))
	}
	conn, err := nats.Connect(address.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", address.Host(), err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &natsBroker{conn, js}, nil
}

func (b *natsBroker) Close() { b.conn.Close() }

// few messages are read one by one. For more the server creates a consumer and keeps it for some seconds.
const few = 100

func (b *natsBroker) Events(ctx context.Context, after string) ([]Message, error) {
	return b.after(ctx, natsStream, after)
}

func (b *natsBroker) DeadLetters(ctx context.Context) ([]Message, error) {
	return b.after(ctx, natsDead, "")
}

func (b *natsBroker) Retries(ctx context.Context) ([]Message, error) {
	return b.after(ctx, natsRetry, "")
}

// after reads the messages of a stream after a place in it.
func (b *natsBroker) after(ctx context.Context, name, after string) ([]Message, error) {
	var next uint64
	if after != "" {
		var err error
		if next, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, fmt.Errorf("%q is no place in the stream", after)
		}
	}
	stream, err := b.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	state := stream.CachedInfo().State
	next = max(next+1, state.FirstSeq)
	if next > state.LastSeq {
		return nil, nil
	}
	var all []Message
	if state.LastSeq-next < few {
		for ; next <= state.LastSeq; next++ {
			message, err := stream.GetMsg(ctx, next)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue // it was removed
			}
			if err != nil {
				return all, err
			}
			place := strconv.FormatUint(next, 10)
			all = append(all, Message{Topic: message.Subject, Place: place, Data: message.Data, id: place})
		}
		return all, nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: next, InactiveThreshold: answerTime,
	})
	if err != nil {
		return nil, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for next <= state.LastSeq {
		message, err := messages.Next()
		if err != nil {
			return all, errors.Join(err, ctx.Err())
		}
		meta, err := message.Metadata()
		if err != nil {
			return all, err
		}
		next = meta.Sequence.Stream + 1
		place := strconv.FormatUint(meta.Sequence.Stream, 10)
		all = append(all, Message{Topic: message.Subject(), Place: place, Data: message.Data(), id: place})
		if meta.NumPending == 0 {
			break // the last ones were removed
		}
	}
	return all, nil
}

func (b *natsBroker) State(ctx context.Context) (State, error) {
	var state State
	for _, name := range []string{natsStream, natsRetry} {
		stream, err := b.js.Stream(ctx, name)
		if err != nil {
			return State{}, err
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
		if err != nil {
			return State{}, err
		}
		if name == natsStream {
			state.Complete, state.Messages = info.State.FirstSeq <= 1, info.State.Msgs
			if info.State.LastSeq > 0 {
				state.Last = strconv.FormatUint(info.State.LastSeq, 10)
			}
		}
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() {
			topic := c.Config.FilterSubject
			if c.Config.Durable == "" || topic == oldDeadTopic {
				continue // a reader such as this, or the gateway of the previous release, which reads on request
			}
			state.Waiting += c.NumPending + uint64(c.NumAckPending)
			state.Delivered += c.Delivered.Consumer
			// Messages of the topic that are not pending were delivered at least once.
			if once := info.State.Subjects[topic] - min(c.NumPending, info.State.Subjects[topic]); c.Delivered.Consumer > once {
				state.Redelivered += c.Delivered.Consumer - once
			}
		}
		if err := consumers.Err(); err != nil {
			return State{}, err
		}
	}
	dead, err := b.js.Stream(ctx, natsDead)
	if err != nil {
		return State{}, err
	}
	state.Dead = dead.CachedInfo().State.Msgs
	return state, nil
}

func (b *natsBroker) Publish(ctx context.Context, topic string, event []byte) error {
	_, err := b.js.Publish(ctx, topic, event, jetstream.WithMsgID(uuid.NewString()))
	return err
}

func (b *natsBroker) Remove(ctx context.Context, event Message) error {
	sequence, err := strconv.ParseUint(event.id, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no place in the stream", event.id)
	}
	stream, err := b.js.Stream(ctx, natsStream)
	if err != nil {
		return err
	}
	return stream.DeleteMsg(ctx, sequence)
}
