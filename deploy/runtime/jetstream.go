package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	contribmeta "github.com/dapr/components-contrib/metadata"
	"github.com/dapr/components-contrib/pubsub"
	"github.com/dapr/kit/logger"
	kitmeta "github.com/dapr/kit/metadata"
)

// pubsub.jetstream as it is in components-contrib v1.18.0 cannot do two things at once that the services here
// need: deliver each event at least once, and deliver many at the same time.
//
//   - With concurrency parallel it acknowledges each message when it arrives, before it is handled: its
//     subscription lacks nats.go's ManualAck. What a sidecar was delivering when it died is lost.
//   - With concurrency single one event that a handler refuses blocks all others of its service until its
//     retries end.
//   - After two minutes without a server it stops to reconnect (nats.go's default of 60 attempts); only a
//     restart of the sidecar helps.
//
// This is the same component, under the same name and with the same settings, on nats.go's newer client. It has pull
// consumers, which the replicas of a service share. It acknowledges after the handler's response, and reports progress to the
// server until then. It reconnects without end. It delivers all waiting messages in bulks. Its own setting is handlersAtOnce,
// which Dapr's component ignores, so one file serves both. Dapr's component has one durable consumer, with one subject, so it
// needs a component for each topic; this one makes a durable consumer for each topic that its app subscribes to.

// jetStreamSettings are the settings that the two have in common, and handlersAtOnce. What is left out here
// (startSequence, flowControl, …) belongs to push consumers, or to streams that are shared with others.
type jetStreamSettings struct {
	NatsURL       string        `mapstructure:"natsURL"`
	Name          string        `mapstructure:"name"`
	StreamName    string        `mapstructure:"streamName"`
	DurableName   string        `mapstructure:"durableName"`
	AckWait       time.Duration `mapstructure:"ackWait"`
	MaxAckPending int           `mapstructure:"maxAckPending"`

	Jwt           string `mapstructure:"jwt"`
	SeedKey       string `mapstructure:"seedKey"`
	Token         string `mapstructure:"token"`
	TLSClientCert string `mapstructure:"tls_client_cert"`
	TLSClientKey  string `mapstructure:"tls_client_key"`

	// HandlersAtOnce bounds the events, or bulks of events, that are handled at the same time.
	HandlersAtOnce int `mapstructure:"handlersAtOnce"`
}

// publishTime bounds the wait for the stream's acknowledgement of a publication. It never comes if the connection is lost.
const publishTime = 3 * time.Second

// aliveInterval is how often the client pings its server. After three pings without an answer it connects to another server.
// A server whose machine or network has failed closes no connection: with nats.go's default of two minutes its sidecars would
// keep the connection for six.
const aliveInterval = 5 * time.Second

// heartbeat is how often a server without messages confirms that it still has the request for some. After two missed
// heartbeats the client makes the request again. When a consumer's leader moves away from a frozen server, the client gets no
// notice: with nats.go's default of 15 seconds its service would get no events for half a minute.
const heartbeat = 2 * time.Second

type jetStream struct {
	log      logger.Logger
	settings jetStreamSettings
	idKey    []byte // see messageID
	conn     *nats.Conn
	js       jetstream.JetStream

	closing chan struct{}
	once    sync.Once
	working sync.WaitGroup
}

func newJetStream(log logger.Logger) pubsub.PubSub {
	return &jetStream{log: log, closing: make(chan struct{})}
}

// Init connects. If the server is not there yet, it returns, and the client connects in the background.
func (j *jetStream) Init(_ context.Context, meta pubsub.Metadata) error {
	j.settings = jetStreamSettings{Name: "dapr.io - pubsub.jetstream", AckWait: 30 * time.Second, HandlersAtOnce: 16}
	if err := kitmeta.DecodeMetadata(meta.Properties, &j.settings); err != nil {
		return err
	}
	s := &j.settings
	switch {
	case s.NatsURL == "":
		return errors.New("natsURL is missing")
	case s.HandlersAtOnce < 1:
		return errors.New("handlersAtOnce must be at least 1")
	case s.MaxAckPending == 0:
		s.MaxAckPending = max(256, 4*s.HandlersAtOnce)
	}
	j.idKey = s.idKey()
	options := []nats.Option{
		nats.Name(s.Name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.PingInterval(aliveInterval),
		nats.ReconnectBufSize(-1), // a publication without a server fails at once; the service retries it
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				j.log.Warnf("lost the connection to NATS: %v", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { j.log.Infof("connected again to NATS at %s", c.ConnectedUrlRedacted()) }),
	}
	switch {
	case s.Jwt != "":
		options = append(options, nats.UserJWTAndSeed(s.Jwt, s.SeedKey))
	case s.TLSClientCert != "":
		options = append(options, nats.ClientCert(s.TLSClientCert, s.TLSClientKey))
	case s.Token != "":
		options = append(options, nats.Token(s.Token))
	}
	conn, err := nats.Connect(s.NatsURL, options...)
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	j.conn = conn
	j.js, err = jetstream.New(conn, jetstream.WithPublishAsyncTimeout(publishTime))
	return err
}

// Features implements pubsub.PubSub. Without this one Dapr would not call BulkPublish, and publish one by one.
func (*jetStream) Features() []pubsub.Feature { return []pubsub.Feature{pubsub.FeatureBulkPublish} }

// message is data for a topic. The id of a CloudEvent, made into a message id, lets the server drop the event if the same user
// has published it on the same topic a short while ago.
func (j *jetStream) message(topic string, data []byte) *nats.Msg {
	msg := nats.NewMsg(topic)
	msg.Data = data
	if id := eventID(data); id != "" {
		msg.Header[nats.MsgIdHdr] = []string{messageID(j.idKey, topic, id)}
	}
	return msg
}

// messageID is the id by which the server drops repeats. The server compares ids in the whole stream, of all publishers and
// topics. The ids of events can be predicted. So another user could publish the id of a future event on a topic of its own, and
// the server would acknowledge the real event as a repeat, and drop it. Therefore the message id is an HMAC-SHA256, shortened to
// 128 bits, of topic and event id under a secret of the publishing user, the same in all its replicas. Without a secret it is
// topic and event id as they are. The topic is part of it because what two services could not handle goes into one stream.
func messageID(key []byte, topic, event string) string {
	plain := topic + "/" + event
	if len(key) == 0 {
		return plain
	}
	sum := hmac.New(sha256.New, key)
	_, _ = sum.Write([]byte(plain)) // never fails
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:16])
}

// idKey is the secret that only this user of the server knows: the password in natsURL, of which several servers have the same, or
// else the seed. It is empty without either; a token is not one user's alone.
func (s *jetStreamSettings) idKey() []byte {
	for address := range strings.SplitSeq(s.NatsURL, ",") {
		address = strings.TrimSpace(address)
		if !strings.Contains(address, "://") {
			address = "nats://" + address
		}
		parsed, err := url.Parse(address)
		if err != nil {
			continue // nats.Connect returns an error for it
		}
		if password, ok := parsed.User.Password(); ok && password != "" {
			return []byte(password)
		}
	}
	return []byte(s.SeedKey)
}

// Publish returns when the stream has the message.
func (j *jetStream) Publish(ctx context.Context, req *pubsub.PublishRequest) error {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	if _, err := j.js.PublishMsg(ctx, j.message(req.Topic, req.Data)); err != nil {
		return pubsub.NewRetriableError(err)
	}
	return nil
}

// BulkPublish sends all messages before it waits for the stream's acknowledgements.
func (j *jetStream) BulkPublish(ctx context.Context, req *pubsub.BulkPublishRequest) (pubsub.BulkPublishResponse, error) {
	var response pubsub.BulkPublishResponse
	var all []error
	failed := func(entry string, err error) {
		response.FailedEntries = append(response.FailedEntries, pubsub.BulkPublishResponseFailedEntry{EntryId: entry, Error: err})
		all = append(all, err)
	}
	acknowledgements := make([]jetstream.PubAckFuture, len(req.Entries))
	for i, entry := range req.Entries {
		acknowledgement, err := j.js.PublishMsgAsync(j.message(req.Topic, entry.Event))
		if err != nil {
			failed(entry.EntryId, err)
		}
		acknowledgements[i] = acknowledgement
	}
	for i, acknowledgement := range acknowledgements {
		if acknowledgement == nil {
			continue
		}
		select {
		case <-acknowledgement.Ok():
		case err := <-acknowledgement.Err():
			failed(req.Entries[i].EntryId, err)
		case <-ctx.Done():
			failed(req.Entries[i].EntryId, ctx.Err())
		}
	}
	return response, errors.Join(all...)
}

// Subscribe calls handler with the topic's messages until ctx ends. It returns at once, and waits in the background for a
// server, stream or consumer that is not there.
func (j *jetStream) Subscribe(ctx context.Context, req pubsub.SubscribeRequest, handler pubsub.Handler) error {
	j.subscribe(ctx, req.Topic, func(ctx context.Context, consumer jetstream.Consumer) error {
		return j.consume(ctx, consumer, req.Topic, handler)
	})
	return nil
}

// subscribe lets consume work on the topic's consumer until ctx ends, and again whenever it was interrupted.
func (j *jetStream) subscribe(ctx context.Context, topic string, consume func(context.Context, jetstream.Consumer) error) {
	ctx, cancel := context.WithCancel(ctx)
	j.working.Go(func() {
		defer cancel()
		select {
		case <-j.closing:
		case <-ctx.Done():
		}
	})
	j.working.Go(func() {
		pauses := newPauses()
		for ctx.Err() == nil {
			consumer, err := j.consumer(ctx, topic)
			if err == nil {
				pauses.Reset()
				err = consume(ctx, consumer)
			}
			if ctx.Err() != nil {
				return
			}
			j.log.Warnf("subscription to %s was interrupted; trying again: %v", topic, err)
			wait(ctx, pauses.NextBackOff())
		}
	})
}

// newPauses are the pauses before retries: from 50 ms to 2 s, without end.
func newPauses() *backoff.ExponentialBackOff {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 50*time.Millisecond, 2*time.Second
	return pauses
}

// wait returns after a pause, or when ctx ends.
func wait(ctx context.Context, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

// oldTopic carried all events until each aggregate had a topic of its own. Its consumers keep the names that they had, and
// so what they have handled; they are needed as long as services subscribe to it.
const oldTopic = "events"

// durable is the name of the consumer of a topic, for example "orders-events-tickets": names of consumers have no dots.
func (j *jetStream) durable(topic string) string {
	if topic == oldTopic {
		return j.settings.DurableName + "-pull"
	}
	return j.settings.DurableName + "-" + strings.ReplaceAll(topic, ".", "-")
}

// consumer makes or updates the durable consumer of a topic. Without a name it makes one for this connection.
func (j *jetStream) consumer(ctx context.Context, topic string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stream := j.settings.StreamName
	if stream == "" {
		var err error
		if stream, err = j.js.StreamNameBySubject(ctx, topic); err != nil {
			return nil, fmt.Errorf("find the stream of %s: %w", topic, err)
		}
	}
	config := jetstream.ConsumerConfig{
		FilterSubject: topic,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       j.settings.AckWait,
		MaxAckPending: j.settings.MaxAckPending,
	}
	if j.settings.DurableName != "" {
		config.Durable = j.durable(topic)
	}
	consumer, err := j.js.CreateOrUpdateConsumer(ctx, stream, config)
	if err != nil {
		return nil, fmt.Errorf("make consumer %q of stream %s: %w", config.Durable, stream, err)
	}
	return consumer, nil
}

// consume handles messages until ctx ends or the consumer is gone. It returns when the last of them is handled.
func (j *jetStream) consume(ctx context.Context, consumer jetstream.Consumer, topic string, handler pubsub.Handler) error {
	messages, err := consumer.Messages(jetstream.PullMaxMessages(j.settings.HandlersAtOnce), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return err
	}
	var handling errgroup.Group
	handling.SetLimit(j.settings.HandlersAtOnce)
	defer func() { _ = handling.Wait() }()
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		msg, err := messages.Next()
		switch {
		case errors.Is(err, jetstream.ErrNoHeartbeat): // Next requests again; without a server the connection reconnects
			continue
		case err != nil:
			return err
		}
		handling.Go(func() error {
			j.handle(ctx, msg, topic, handler)
			return nil
		})
	}
}

// handle acknowledges a message after the handler's response.
func (j *jetStream) handle(ctx context.Context, msg jetstream.Msg, topic string, handler pubsub.Handler) {
	defer j.inProgress(msg)()
	err := handler(ctx, &pubsub.NewMessage{
		Topic:    topic,
		Data:     msg.Data(),
		Metadata: map[string]string{"Topic": msg.Subject()},
	})
	j.acknowledge(ctx, topic, msg, err)
}

// inProgress reports to the server, until the returned function is called, that messages are being handled. So the server
// does not deliver them again, except if this process dies: then it does after ackWait.
func (j *jetStream) inProgress(messages ...jetstream.Msg) (handled func()) {
	done := make(chan struct{})
	go func() {
		alive := time.NewTicker(j.settings.AckWait / 3)
		defer alive.Stop()
		for {
			select {
			case <-alive.C:
				for _, msg := range messages {
					_ = msg.InProgress()
				}
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}

// acknowledge reports to the server whether a message was handled.
func (j *jetStream) acknowledge(ctx context.Context, topic string, msg jetstream.Msg, failure error) {
	var err error
	switch {
	case failure == nil:
		err = msg.Ack()
	case ctx.Err() != nil:
		err = msg.Nak() // this sidecar ends, or its app is unhealthy: another replica, or later
	default:
		j.log.Warnf("a message of %s was not handled and will come again: %v", topic, failure)
		err = msg.NakWithDelay(time.Second)
	}
	if err != nil {
		j.log.Warnf("could not acknowledge a message of %s; it will come again: %v", topic, err)
	}
}

// Close ends subscriptions and the connection.
func (j *jetStream) Close() error {
	j.once.Do(func() { close(j.closing) })
	j.working.Wait()
	if j.conn == nil {
		return nil
	}
	return j.conn.Drain()
}

// GetComponentMetadata implements pubsub.PubSub.
func (*jetStream) GetComponentMetadata() (info contribmeta.MetadataMap) {
	_ = contribmeta.GetMetadataInfoFromStructType(reflect.TypeFor[jetStreamSettings](), &info, contribmeta.PubSubType)
	return info
}
