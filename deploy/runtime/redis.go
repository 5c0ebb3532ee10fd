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

	rediscomponent "github.com/dapr/components-contrib/common/component/redis"
	contribmeta "github.com/dapr/components-contrib/metadata"
	"github.com/dapr/components-contrib/pubsub"
	"github.com/dapr/kit/logger"
	kitmeta "github.com/dapr/kit/metadata"
)

// pubsub.redis as it is in components-contrib v1.18.0 can neither keep events that come in bulk flowing nor keep all of
// them:
//
//   - It knows no bulks. Dapr then gathers them itself, and delivers one bulk after the other: an event that is tried
//     again and again holds up all others of its service.
//   - When its app is not well for a moment the subscription ends, and what still waits in the component's queue is
//     handed to a bulk that nobody gathers any more: a worker waits for that for ever. With the last of its workers all
//     subscriptions of the sidecar stand still until it is started anew.
//   - A delivery that fails for good is acknowledged as if it had succeeded.
//   - A delivery that takes longer than processingTimeout is made again beside the first, and again.
//
// This is the same component, under the same name, with the same settings and the same groups and entries in Redis: an
// acknowledgement after a handler that succeeded and never else, word to Redis while it is still at work, bulks of all
// that waits. Its own setting is handlersAtOnce. It needs Redis 7 or later.

// redisSettings are those that Dapr's component does not know.
type redisSettings struct {
	// HandlersAtOnce bounds the events, or bulks of events, that are handled side by side.
	HandlersAtOnce int `mapstructure:"handlersAtOnce"`
}

const (
	// redisBlock is how long a question for new events waits in Redis for an answer.
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

// Init reads the settings. A server that is not there yet is waited for where it is needed.
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
		return errors.New("processingTimeout and redeliverInterval must be more than 0: without them, what a dying sidecar had in hand is not delivered again")
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

// Features implements pubsub.PubSub. Without this one Dapr would leave BulkPublish alone, and publish one by one.
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

// BulkPublish sends messages side by side, so that Redis brings them to disk together.
func (r *redisStreams) BulkPublish(ctx context.Context, req *pubsub.BulkPublishRequest) (response pubsub.BulkPublishResponse, err error) {
	const atOnce = 16
	failures := make([]error, len(req.Entries))
	places := make(chan struct{}, atOnce)
	var sending sync.WaitGroup
	for i, entry := range req.Entries {
		places <- struct{}{}
		sending.Go(func() {
			defer func() { <-places }()
			failures[i] = r.add(ctx, req.Topic, entry.Event, entry.Metadata)
		})
	}
	sending.Wait()
	for i, failure := range failures {
		if failure != nil {
			response.FailedEntries = append(response.FailedEntries, pubsub.BulkPublishResponseFailedEntry{EntryId: req.Entries[i].EntryId, Error: failure})
		}
	}
	return response, errors.Join(failures...)
}

// Subscribe hands the topic's messages to handler, one by one, until ctx ends. It returns at once.
func (r *redisStreams) Subscribe(ctx context.Context, req pubsub.SubscribeRequest, handler pubsub.Handler) error {
	r.subscribe(ctx, req.Topic, 1, r.handlersAtOnce, func(ctx context.Context, bulk []rediscomponent.RedisXMessage) []error {
		data, metadata := content(bulk[0])
		return []error{handler(ctx, &pubsub.NewMessage{Topic: req.Topic, Data: data, Metadata: metadata})}
	})
	return nil
}

// BulkSubscribe hands the topic's messages to handler, in bulks of all that waits, until ctx ends. It returns at once.
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
		answers, err := handler(ctx, &pubsub.BulkMessage{Topic: req.Topic, Entries: entries, Metadata: map[string]string{}})
		return bulkFailures(len(bulk), answers, err)
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

// subscription is one topic's, from its begin to its end.
type subscription struct {
	*redisStreams
	topic  string
	size   int // of a bulk, at most
	handle func(context.Context, []rediscomponent.RedisXMessage) []error

	// As in jetstream_bulk.go: road bounds the bulks that are not slow, places all of them.
	road, places chan struct{}
	handling     sync.WaitGroup
}

func (r *redisStreams) subscribe(ctx context.Context, topic string, size, road int, handle func(context.Context, []rediscomponent.RedisXMessage) []error) {
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
		road: make(chan struct{}, road), places: make(chan struct{}, r.handlersAtOnce),
	}
	r.working.Go(func() {
		defer s.handling.Wait()
		var loops sync.WaitGroup
		loops.Go(func() { s.readNew(ctx) })
		loops.Go(func() { s.claimLeft(ctx) })
		loops.Wait()
	})
}

// readNew hands on what nobody has had yet.
func (s *subscription) readNew(ctx context.Context) {
	group := s.settings.ConsumerID
	for pause := 50 * time.Millisecond; ctx.Err() == nil; {
		place, ok := s.enter(ctx)
		if !ok {
			return
		}
		// It is asked with a place at hand: what waits, waits in Redis, for whichever replica has a place.
		reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisBlock+redisAnswer)
		streams, err := s.client.XReadGroupResult(reading, group, group, []string{s.topic, ">"}, int64(s.size), redisBlock)
		cancel()
		if err != nil {
			place.leave()
			if s.client.IsNilValueError(err) {
				continue // nothing new
			}
			if strings.Contains(err.Error(), "NOGROUP") {
				err = s.makeGroup(ctx)
			}
			if err != nil && ctx.Err() == nil {
				s.log.Warnf("cannot read %s; trying again: %v", s.topic, err)
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
				pause = min(2*pause, 2*time.Second)
			}
			continue
		}
		pause = 50 * time.Millisecond
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
		return nil // another replica was first
	}
	return err
}

// claimLeft hands on what somebody had in hand who has not been heard of for processingTimeout.
func (s *subscription) claimLeft(ctx context.Context) {
	look := time.NewTicker(s.settings.RedeliverInterval)
	defer look.Stop()
	for ctx.Err() == nil {
		if err := s.claimAll(ctx); err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "NOGROUP") {
			s.log.Warnf("cannot look for what was left of %s; trying again: %v", s.topic, err)
		}
		select {
		case <-look.C:
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
		var left []string
		for _, message := range page {
			if message.Idle >= s.settings.ProcessingTimeout {
				left = append(left, message.ID)
			}
		}
		if len(left) > 0 {
			place, ok := s.enter(ctx)
			if !ok {
				return nil
			}
			claiming, cancel := context.WithTimeout(ctx, redisAnswer)
			// Only what is still left: another replica may have been quicker.
			bulk, err := s.client.XClaimResult(claiming, s.topic, group, group, s.settings.ProcessingTimeout, left)
			cancel()
			if err != nil {
				place.leave()
				return err
			}
			s.send(ctx, bulk, place)
		}
		from = "(" + page[len(page)-1].ID
	}
}

// pending are deliveries that were not answered, a page of at most a bulk's size.
func (s *subscription) pending(ctx context.Context, from string) ([]rediscomponent.RedisXPendingExt, error) {
	ctx, cancel := context.WithTimeout(ctx, redisAnswer)
	defer cancel()
	page, err := s.client.XPendingExtResult(ctx, s.topic, s.settings.ConsumerID, from, "+", int64(s.size))
	if err != nil && s.client.IsNilValueError(err) {
		return nil, nil
	}
	return page, err
}

// place is a bulk's.
type place struct {
	makeRoom func() // for another one on the road
	leave    func()
}

// enter waits for a place. It fails when ctx ends.
func (s *subscription) enter(ctx context.Context) (p place, ok bool) {
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return p, false
	}
	select {
	case s.road <- struct{}{}:
	case <-ctx.Done():
		<-s.places
		return p, false
	}
	p.makeRoom = sync.OnceFunc(func() { <-s.road })
	p.leave = func() { p.makeRoom(); <-s.places }
	return p, true
}

// send handles a bulk on its own, and gives its place back.
func (s *subscription) send(ctx context.Context, bulk []rediscomponent.RedisXMessage, p place) {
	if len(bulk) == 0 {
		p.leave()
		return
	}
	s.handling.Go(func() {
		defer p.leave()
		defer time.AfterFunc(slowBulk, p.makeRoom).Stop()
		s.deliver(ctx, bulk)
	})
}

// deliver acknowledges what was handled. The rest comes again: at once and to anybody if this sidecar is going or its
// app is not well, else after a moment.
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
		s.answer(done...)
	}
	if len(again) > 0 {
		idle := s.settings.ProcessingTimeout
		if ctx.Err() == nil {
			idle -= min(idle, time.Second)
		}
		s.touch(again, idle)
	}
}

// inProgress tells Redis, until the returned function is called, that messages are being worked on, so that nobody
// claims them; should this process die, somebody does so after processingTimeout.
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

// touch sets for how long nobody has been heard of who works on these messages.
func (s *subscription) touch(ids []string, idle time.Duration) {
	args := []any{"XCLAIM", s.topic, s.settings.ConsumerID, s.settings.ConsumerID, "0"}
	for _, id := range ids {
		args = append(args, id)
	}
	s.answer(append(args, "IDLE", idle.Milliseconds(), "JUSTID")...)
}

// answer tells Redis something about messages in hand, also when their subscription has ended.
func (s *subscription) answer(command ...any) {
	ctx, cancel := context.WithTimeout(context.Background(), redisAnswer)
	defer cancel()
	if err := s.client.DoWrite(ctx, command...); err != nil && !s.client.IsNilValueError(err) {
		s.log.Warnf("could not answer for messages of %s; they may come again: %v", s.topic, err)
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

// Ping is whether the server answers.
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
