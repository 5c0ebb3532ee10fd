package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	rediscomponent "github.com/dapr/components-contrib/common/component/redis"
	contribmeta "github.com/dapr/components-contrib/metadata"
	"github.com/dapr/components-contrib/pubsub"
	"github.com/dapr/kit/logger"
	kitmeta "github.com/dapr/kit/metadata"
)

// pubsub.redis as it is in components-contrib v1.18.0 can stop to deliver bulks, and can lose
// events:
//
//   - It has no bulks. Dapr then collects them itself, and delivers one bulk after the other: an event that is retried
//     blocks all others of its service.
//   - When its app is unhealthy for a moment, the subscription ends. A worker that then adds a waiting message to the ended
//     bulk waits for ever. When all workers wait, all subscriptions of the sidecar stand still until it is restarted.
//   - A delivery that fails for good is acknowledged as if it had succeeded.
//   - A delivery that takes longer than processingTimeout is repeated while the first is still running.
//   - It ignores a redeliverInterval that is a duration (1s); it understands a number of milliseconds alone.
//
// This is the same component, under the same name, with the same settings and the same groups and entries in Redis. It
// acknowledges only what a handler has handled, reports progress to Redis until then, and delivers all waiting messages in
// bulks. Its own setting is handlersAtOnce. It needs Redis 7 or later.

// redisSettings are those that Dapr's component does not have.
type redisSettings struct {
	// HandlersAtOnce bounds the events, or bulks of events, that are handled at the same time.
	HandlersAtOnce int `mapstructure:"handlersAtOnce"`
}

const (
	// redisBlock is how long a request for new events waits in Redis for an answer.
	redisBlock = time.Second
	// redisAnswer bounds the wait for any other answer.
	redisAnswer = 3 * time.Second
)

type redisStreams struct {
	log            logger.Logger
	client         rediscomponent.RedisClient
	settings       *rediscomponent.Settings
	handlersAtOnce int

	closing chan struct{}
	once    sync.Once
	working sync.WaitGroup
}

func newRedisStreams(log logger.Logger) pubsub.PubSub {
	return &redisStreams{log: log, closing: make(chan struct{})}
}

// Init reads the settings. It succeeds without a server; each use waits for the server itself.
func (r *redisStreams) Init(ctx context.Context, meta pubsub.Metadata) error {
	own := redisSettings{HandlersAtOnce: 16}
	err := kitmeta.DecodeMetadata(meta.Properties, &own)
	if err != nil {
		return err
	}
	r.handlersAtOnce = own.HandlersAtOnce
	if r.client, r.settings, err = rediscomponent.ParseClientFromProperties(meta.Properties, contribmeta.PubSubType, ctx, &r.log); err != nil {
		return err
	}
	if err := r.readRedeliverInterval(meta); err != nil {
		return err
	}
	switch s := r.settings; {
	case s.Host == "":
		return errors.New("redisHost is missing")
	case s.ConsumerID == "":
		return errors.New("consumerID is missing")
	case r.handlersAtOnce < 1:
		return errors.New("handlersAtOnce must be at least 1")
	case s.ProcessingTimeout <= 0, s.RedeliverInterval <= 0:
		return errors.New("processingTimeout and redeliverInterval must be more than 0: without them, what a sidecar had when it died is not delivered again")
	}
	return nil
}

// readRedeliverInterval reads a duration. Dapr's component understands a number of milliseconds, and ignores a duration.
func (r *redisStreams) readRedeliverInterval(meta pubsub.Metadata) error {
	text, _ := meta.GetProperty("redeliverInterval")
	if _, err := strconv.ParseUint(text, 10, 64); err == nil || text == "" {
		return nil
	}
	interval, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("redeliverInterval: %w", err)
	}
	r.settings.RedeliverInterval = interval
	return nil
}

// Features implements pubsub.PubSub. Without this one Dapr would not call BulkPublish, and publish one by one.
func (*redisStreams) Features() []pubsub.Feature { return []pubsub.Feature{pubsub.FeatureBulkPublish} }

// Publish returns when Redis has the message; on disk, if it runs with appendfsync always.
func (r *redisStreams) Publish(ctx context.Context, req *pubsub.PublishRequest) error {
	return r.add(ctx, req.Topic, req.Data, req.Metadata)
}

func (r *redisStreams) add(ctx context.Context, topic string, data []byte, metadata map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, redisAnswer)
	defer cancel()
	values := map[string]any{"data": data}
	if len(metadata) > 0 {
		text, err := json.Marshal(metadata)
		if err != nil {
			return err
		}
		values["metadata"] = text
	}
	if _, err := r.client.XAdd(ctx, topic, r.settings.MaxLenApprox, r.settings.GetMinID(time.Now()), values); err != nil {
		return pubsub.NewRetriableError(err)
	}
	return nil
}

// BulkPublish sends several messages at the same time, so that Redis writes them to disk together.
func (r *redisStreams) BulkPublish(ctx context.Context, req *pubsub.BulkPublishRequest) (response pubsub.BulkPublishResponse, err error) {
	const atOnce = 16
	failures := make([]error, len(req.Entries))
	var sending errgroup.Group
	sending.SetLimit(atOnce)
	for i, entry := range req.Entries {
		sending.Go(func() error {
			failures[i] = r.add(ctx, req.Topic, entry.Event, entry.Metadata)
			return nil // the others are sent all the same
		})
	}
	_ = sending.Wait()
	for i, failure := range failures {
		if failure != nil {
			response.FailedEntries = append(response.FailedEntries, pubsub.BulkPublishResponseFailedEntry{EntryId: req.Entries[i].EntryId, Error: failure})
		}
	}
	return response, errors.Join(failures...)
}

// Subscribe calls handler with the topic's messages, one by one, until ctx ends. It returns at once.
func (r *redisStreams) Subscribe(ctx context.Context, req pubsub.SubscribeRequest, handler pubsub.Handler) error {
	r.subscribe(ctx, req.Topic, 1, r.handlersAtOnce, func(ctx context.Context, bulk []rediscomponent.RedisXMessage) []error {
		data, metadata := content(bulk[0])
		return []error{handler(ctx, &pubsub.NewMessage{Topic: req.Topic, Data: data, Metadata: metadata})}
	})
	return nil
}

// BulkSubscribe calls handler with the topic's messages, in bulks of all that wait, until ctx ends. It returns at once.
func (r *redisStreams) BulkSubscribe(ctx context.Context, req pubsub.SubscribeRequest, handler pubsub.BulkHandler) error {
	size := req.BulkSubscribeConfig.MaxMessagesCount
	if size <= 0 {
		size = defaultBulkSize
	}
	r.subscribe(ctx, req.Topic, size, bulksAtOnce, func(ctx context.Context, bulk []rediscomponent.RedisXMessage) []error {
		entries := make([]pubsub.BulkMessageEntry, len(bulk))
		for i, message := range bulk {
			data, metadata := content(message)
			entries[i] = pubsub.BulkMessageEntry{EntryId: strconv.Itoa(i), Event: data, Metadata: metadata}
		}
		responses, err := handler(ctx, &pubsub.BulkMessage{Topic: req.Topic, Entries: entries, Metadata: map[string]string{}})
		return bulkFailures(len(bulk), responses, err)
	})
	return nil
}

// content is what Dapr's component writes into an entry.
func content(message rediscomponent.RedisXMessage) (data []byte, metadata map[string]string) {
	text, _ := message.Values["data"].(string)
	about, _ := message.Values["metadata"].(string)
	if json.Unmarshal([]byte(about), &metadata) != nil || metadata == nil {
		metadata = map[string]string{}
	}
	return []byte(text), metadata
}

// subscription is that of one topic.
type subscription struct {
	*redisStreams
	topic  string
	size   int // of a bulk, at most
	handle func(context.Context, []rediscomponent.RedisXMessage) []error

	// As in jetstream_bulk.go: fast bounds the bulks that are not slow, places all of them. Both are taken before the read, so
	// that what waits, waits in Redis; a limit of errgroup would take them after.
	fast, places chan struct{}
	handling     sync.WaitGroup
}

func (r *redisStreams) subscribe(ctx context.Context, topic string, size, fast int, handle func(context.Context, []rediscomponent.RedisXMessage) []error) {
	ctx, cancel := context.WithCancel(ctx)
	r.working.Go(func() {
		defer cancel()
		select {
		case <-r.closing:
		case <-ctx.Done():
		}
	})
	s := &subscription{
		redisStreams: r, topic: topic, size: size, handle: handle,
		fast: make(chan struct{}, fast), places: make(chan struct{}, r.handlersAtOnce),
	}
	r.working.Go(func() {
		defer s.handling.Wait()
		var loops sync.WaitGroup
		loops.Go(func() { s.readNew(ctx) })
		loops.Go(func() { s.claimAbandoned(ctx) })
		loops.Wait()
	})
}

// readNew handles messages that no replica has read yet.
func (s *subscription) readNew(ctx context.Context) {
	group := s.settings.ConsumerID
	for pauses := newPauses(); ctx.Err() == nil; {
		place, ok := s.enter(ctx)
		if !ok {
			return
		}
		// It reads only with a place: messages wait in Redis, for any replica that has a place.
		reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisBlock+redisAnswer)
		streams, err := s.client.XReadGroupResult(reading, group, group, []string{s.topic, ">"}, int64(s.size), redisBlock)
		cancel()
		if err != nil {
			place.release()
			if s.client.IsNilValueError(err) {
				continue // nothing new
			}
			if strings.Contains(err.Error(), "NOGROUP") {
				err = s.makeGroup(ctx)
			}
			if err != nil && ctx.Err() == nil {
				s.log.Warnf("cannot read %s; trying again: %v", s.topic, err)
				wait(ctx, pauses.NextBackOff())
			}
			continue
		}
		pauses.Reset()
		var bulk []rediscomponent.RedisXMessage
		for _, stream := range streams {
			bulk = append(bulk, stream.Messages...)
		}
		s.send(ctx, bulk, place)
	}
}

func (s *subscription) makeGroup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisAnswer)
	defer cancel()
	err := s.client.XGroupCreateMkStream(ctx, s.topic, s.settings.ConsumerID, "0")
	if err != nil && strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return nil // another replica has made it
	}
	return err
}

// claimAbandoned handles messages that a replica has read and has not reported on for processingTimeout.
func (s *subscription) claimAbandoned(ctx context.Context) {
	ticker := time.NewTicker(s.settings.RedeliverInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := s.claimAll(ctx); err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "NOGROUP") {
			s.log.Warnf("cannot claim what dead replicas had of %s; trying again: %v", s.topic, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func (s *subscription) claimAll(ctx context.Context) error {
	group, from := s.settings.ConsumerID, "-"
	for {
		page, err := s.pending(ctx, from)
		if err != nil || len(page) == 0 {
			return err
		}
		var abandoned []string
		for _, message := range page {
			if message.Idle >= s.settings.ProcessingTimeout {
				abandoned = append(abandoned, message.ID)
			}
		}
		if len(abandoned) > 0 {
			place, ok := s.enter(ctx)
			if !ok {
				return nil
			}
			claiming, cancel := context.WithTimeout(ctx, redisAnswer)
			// Redis gives only what is still abandoned: another replica may have been first.
			bulk, err := s.client.XClaimResult(claiming, s.topic, group, group, s.settings.ProcessingTimeout, abandoned)
			cancel()
			if err != nil {
				place.release()
				return err
			}
			s.send(ctx, bulk, place)
		}
		from = "(" + page[len(page)-1].ID
	}
}

// pending are deliveries that were not acknowledged, a page of at most a bulk's size.
func (s *subscription) pending(ctx context.Context, from string) ([]rediscomponent.RedisXPendingExt, error) {
	ctx, cancel := context.WithTimeout(ctx, redisAnswer)
	defer cancel()
	page, err := s.client.XPendingExtResult(ctx, s.topic, s.settings.ConsumerID, from, "+", int64(s.size))
	if err != nil && s.client.IsNilValueError(err) {
		return nil, nil
	}
	return page, err
}

// place is the right to handle a bulk.
type place struct {
	slow    func() // the bulk is slow from now on: another fast one may begin
	release func()
}

// enter waits for a place. It fails when ctx ends.
func (s *subscription) enter(ctx context.Context) (p place, ok bool) {
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return p, false
	}
	select {
	case s.fast <- struct{}{}:
	case <-ctx.Done():
		<-s.places
		return p, false
	}
	p.slow = sync.OnceFunc(func() { <-s.fast })
	p.release = func() { p.slow(); <-s.places }
	return p, true
}

// send handles a bulk in a goroutine of its own, and then releases its place.
func (s *subscription) send(ctx context.Context, bulk []rediscomponent.RedisXMessage, p place) {
	if len(bulk) == 0 {
		p.release()
		return
	}
	s.handling.Go(func() {
		defer p.release()
		defer time.AfterFunc(slowBulk, p.slow).Stop()
		s.deliver(ctx, bulk)
	})
}

// deliver acknowledges what was handled. The rest comes again: at once and to any replica if this sidecar ends or its app is
// unhealthy, else after a second.
func (s *subscription) deliver(ctx context.Context, bulk []rediscomponent.RedisXMessage) {
	failures := make([]error, len(bulk))
	if ctx.Err() == nil {
		handled := s.inProgress(bulk)
		failures = s.handle(ctx, bulk)
		handled()
	} else {
		for i := range failures {
			failures[i] = ctx.Err()
		}
	}
	var again []string
	done := []any{"XACK", s.topic, s.settings.ConsumerID}
	for i, message := range bulk {
		if failures[i] == nil {
			done = append(done, message.ID)
			continue
		}
		again = append(again, message.ID)
		if ctx.Err() == nil {
			s.log.Warnf("a message of %s was not handled and will come again: %v", s.topic, failures[i])
		}
	}
	if len(again) < len(bulk) {
		s.report(done...)
	}
	if len(again) > 0 {
		idle := s.settings.ProcessingTimeout
		if ctx.Err() == nil {
			idle -= min(idle, time.Second)
		}
		s.touch(again, idle)
	}
}

// inProgress reports to Redis, until the returned function is called, that messages are being handled. So no replica claims
// them, except if this process dies: then one does after processingTimeout.
func (s *subscription) inProgress(bulk []rediscomponent.RedisXMessage) (handled func()) {
	ids := make([]string, len(bulk))
	for i, message := range bulk {
		ids[i] = message.ID
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		alive := time.NewTicker(s.settings.ProcessingTimeout / 3)
		defer alive.Stop()
		for {
			select {
			case <-alive.C:
				s.touch(ids, 0)
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// touch sets the time since the last report on these messages.
func (s *subscription) touch(ids []string, idle time.Duration) {
	args := []any{"XCLAIM", s.topic, s.settings.ConsumerID, s.settings.ConsumerID, "0"}
	for _, id := range ids {
		args = append(args, id)
	}
	s.report(append(args, "IDLE", idle.Milliseconds(), "JUSTID")...)
}

// report sends Redis a command about messages in hand, also when their subscription has ended.
func (s *subscription) report(command ...any) {
	ctx, cancel := context.WithTimeout(context.Background(), redisAnswer)
	defer cancel()
	if err := s.client.DoWrite(ctx, command...); err != nil && !s.client.IsNilValueError(err) {
		s.log.Warnf("could not report on messages of %s; they may come again: %v", s.topic, err)
	}
}

// Close ends subscriptions and connections.
func (r *redisStreams) Close() error {
	r.once.Do(func() { close(r.closing) })
	r.working.Wait()
	if r.client == nil {
		return nil
	}
	return r.client.Close()
}

// Ping returns an error if the server does not answer.
func (r *redisStreams) Ping(ctx context.Context) error {
	if _, err := r.client.PingResult(ctx); err != nil {
		return fmt.Errorf("redis at %s: %w", r.settings.Host, err)
	}
	return nil
}

// GetComponentMetadata implements pubsub.PubSub.
func (*redisStreams) GetComponentMetadata() (info contribmeta.MetadataMap) {
	_ = contribmeta.GetMetadataInfoFromStructType(reflect.TypeFor[rediscomponent.Settings](), &info, contribmeta.PubSubType)
	return info
}
